#!/bin/sh
# `make down`: removes what runs: the demonstration, the plugin, the data-plane containers and images, and the
# engine if `make up` started it. Volumes and records stay on disk and come back with the next `make up`.
# With PURGE=1 all volumes and everything below /var/lib/openebs go too.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/engine.sh"

purge=${PURGE:-}

containers() { docker ps --all --quiet --filter "$@"; }
volumes() { docker volume ls --quiet --filter driver=openebs:latest; }

# Without the plugin a container loses its volume under its hands, so whoever still uses one is not surprised.
stop_users() {
    users=$(volume_users)
    [ -n "$users" ] || return 0
    [ -n "$purge" ] || die "these containers use openebs volumes: $users" "stop them first: docker stop $users"
    say "stopping the containers that use openebs volumes: $users"
    # shellcheck disable=SC2086
    docker stop $users >/dev/null
}

remove_volumes() {
    for name in $(volumes); do
        for id in $(containers "volume=$name"); do
            say "removing the stopped container $(docker inspect --format '{{.Name}}' "$id" | sed 's,^/,,'), which refers to volume $name"
            docker rm --force "$id" >/dev/null
        done
        say "removing volume $name"
        docker volume rm --force "$name" >/dev/null || say "volume $name was not removed by the plugin; its files go below"
    done
}

# device_of INITIATOR: the loop device that it publishes, by its own word.
device_of() {
    docker exec "$1" perl -MIO::Socket::UNIX -e '
        alarm 5;
        my $role = IO::Socket::UNIX->new(Peer => "/spec/ctl") or exit 1;
        print $role "status\n";
        print <$role>;' 2>/dev/null | sed -n 's,.*"device":"\(/dev/loop[0-9]*\)".*,\1,p'
}

# Initiators first: stopped, each gives back its loop device when nobody uses it any more. Then the targets they
# are logged in to, then etcd.
remove_data_plane() {
    devices=
    for role in initiator target etcd; do
        ids=$(containers "label=openebs.role=$role")
        [ -n "$ids" ] || continue
        say "removing the $role containers"
        # shellcheck disable=SC2086
        [ "$role" != initiator ] || for id in $ids; do devices="$devices $(device_of "$id" || true)"; done
        # shellcheck disable=SC2086
        docker stop --time 20 $ids >/dev/null 2>&1 || true
        # shellcheck disable=SC2086
        docker rm --force --volumes $ids >/dev/null
    done
    ids=$(containers label=openebs.role)
    # shellcheck disable=SC2086
    [ -z "$ids" ] || docker rm --force --volumes $ids >/dev/null
}

# A loop device whose initiator was killed stays behind. Its file no longer opens, so nobody can use it.
detach_left_devices() {
    is_root && have losetup || return 0
    for device in $devices; do
        ! is_export "$device" || losetup --detach "$device" 2>/dev/null || true
    done
}

# What is mounted at or below the state directory and is no volume of ours is the user's: the disk of a pool, say.
unmount_left() {
    is_root || return 0
    sed 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .* - [^ ]* \([^ ]*\) .*/\2 \1/' /proc/self/mountinfo | sort -r |
        while read -r source mount; do
            case $mount in
            "$run_dir" | "$run_dir"/*) ;;
            "$state_dir"/*) is_export "$source" || continue ;;
            *) continue ;;
            esac
            umount --lazy "$mount" || true
        done
}

# Whether this is a loop device on an initiator's export.
is_export() {
    case $1 in /dev/loop*) ;; *) return 1 ;; esac
    case $(cat "/sys/block/${1#/dev/}/loop/backing_file" 2>/dev/null) in
    */run/lun*) return 0 ;;
    esac
    return 1
}

remove_images() {
    images=$(
        docker images --format '{{.Repository}}:{{.Tag}}' | grep '^openebs/' | grep -v ':<none>$'
        docker images --quiet --filter label=openebs.image --filter dangling=true
    ) || true
    # shellcheck disable=SC2086
    [ -z "$images" ] || docker rmi --force $images >/dev/null
}

devices=
# Data goes only together with the containers that would come back for it, which an engine must remove.
if [ -n "$purge" ] && [ -e "$state_dir" ] && have dockerd; then ensure_engine; fi
if engine_answers; then
    remove_demo
    stop_users
    [ -z "$purge" ] || remove_volumes
    remove_plugin
    remove_data_plane
    remove_images
else
    say 'no engine answers: nothing runs; containers and plugins, if it has any, stay in it'
fi
detach_left_devices
unmount_left
is_root || { [ ! -e "$run_dir" ] && [ ! -e "$state_dir" ]; } || say "not root: $run_dir stays"
! is_root || rm -rf "$run_dir"
if [ -n "$purge" ] && [ -e "$state_dir" ]; then
    is_root || die "removing $state_dir needs root" 'run the same as root'
    say "removing $state_dir"
    # Never across a file system boundary: a disk of the user's keeps what is on it beside the volumes.
    rm -rf --one-file-system "$state_dir" 2>/dev/null || say "left: $(find "$state_dir" -maxdepth 3 2>/dev/null | tr '\n' ' ')"
fi
! is_root || rm -f "$cli_dir/docker-openebs"
stop_engine
rm -rf "$up_dir"
if [ -z "$purge" ] && [ -e "$state_dir" ]; then
    say "down. Volumes and records are kept in $state_dir; make down PURGE=1 removes them"
else
    say 'down.'
fi
