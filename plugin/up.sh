#!/bin/sh
# `make up`: sets up what is missing, builds and installs the plugin, then does the main job before your eyes.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/engine.sh"

demo=$top/plugin/demo/compose.yml
project=openebs-demo
volume=openebs-demo
# Plugin id and build of what was installed from here: the engine keeps no trace of a build itself.
installed=$build/installed

# try WHAT-TO-DO-NEXT COMMAND...: shows the command, runs it.
try() {
    advice=$1
    shift
    say "\$ $*"
    "$@" || die "this failed: $*" "$advice"
}
engine_log='see why in Status of `docker volume inspect`, or in the log of the engine (/var/log/dockerd.log or journalctl -u docker)'

check_kernel() {
    [ "$(uname -s)" = Linux ] || return 0
    for module in fuse:/dev/fuse loop:/dev/loop-control; do
        [ -e "${module#*:}" ] || { have modprobe && modprobe "${module%%:*}" 2>/dev/null; } ||
            say "warning: this host has no ${module#*:}; volumes need it: load the kernel module ${module%%:*}"
    done
}

plugin_field() { docker plugin inspect openebs --format "$1" 2>/dev/null; }

install_plugin() {
    wanted=$(cat "$build/plugin.hash")
    if id=$(plugin_field '{{.Id}}'); then
        if grep -qsxF "$id $wanted" "$installed"; then
            say 'the plugin of this build is installed'
        else
            replace_plugin
        fi
    fi
    if ! plugin_field '{{.Id}}' >/dev/null; then
        say 'creating the plugin (half a minute: the engine compresses it)'
        try "see the engine's message above" docker plugin create openebs "$build/plugin"
        echo "$(plugin_field '{{.Id}}') $wanted" >"$installed"
    fi
    if [ "$(plugin_field '{{.Enabled}}')" != true ]; then
        try 'the reason is in the log of the engine (/var/log/dockerd.log or journalctl -u docker), lines with plugin=' \
            docker plugin enable openebs
    fi
}

# Removing a plugin removes the mounts below it, so another build takes its place only while no container uses a
# volume. Volumes, records and the data plane stay; the new build takes them over.
replace_plugin() {
    say 'another build of the plugin is installed: replacing it'
    remove_demo
    users=$(volume_users)
    [ -z "$users" ] || die "these containers use openebs volumes: $users" "stop them first: docker stop $users"
    remove_plugin
}

# The docker command starts it with the paths of root's own shell, not with those of this one.
host_has_node() {
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        env node -e 'process.exit(parseInt(process.versions.node, 10) >= 18 ? 0 : 1)' >/dev/null 2>&1
}

install_cli() {
    if host_has_node; then built=docker-openebs kind=script; else built=docker-openebs-static kind=static; fi
    "$top/plugin/build-cli.sh" "$kind"
    if ! is_root; then
        say "not root: docker openebs is not installed; it is build/$built, for $cli_dir/docker-openebs"
        return 0
    fi
    mkdir -p "$cli_dir"
    # In one step: somebody may be running the former one.
    cp "$build/$built" "$cli_dir/.docker-openebs.new"
    mv "$cli_dir/.docker-openebs.new" "$cli_dir/docker-openebs"
    say "docker openebs: $cli_dir/docker-openebs"
}

# There is no registry to pull from: the demonstration's containers run the shell of the data-plane image.
make_demo_image() {
    reference=$(sed -n 's/.*"reference":"\([^"]*\)".*/\1/p' "$build/image.json")
    docker tag "$reference" openebs/demo 2>/dev/null || docker image inspect openebs/demo >/dev/null 2>&1 || {
        say 'importing a small image for the demonstration'
        docker import --change "LABEL openebs.image=demo" "$build/image.tar.gz" openebs/demo >/dev/null
    }
}

# The image may be the data plane's own, whose entry point is a role.
in_demo() { docker run --rm --network none --volume "$volume:/data" --entrypoint /bin/sh openebs/demo -c "$1"; }

show_volume() {
    step 'Main job: a volume, written by one container and read by another'
    try "$engine_log" docker volume create --driver openebs --opt size=1G "$volume"
    say "\$ docker run ... sh -c 'echo hello > /data/greeting'"
    in_demo 'echo "hello from a container" > /data/greeting' || die 'the first container could not write' "$engine_log"
    say "\$ docker run ... cat /data/greeting"
    [ "$(in_demo 'cat /data/greeting')" = 'hello from a container' ] ||
        die 'the second container did not read what the first one wrote' "$engine_log"
    say 'hello from a container'
    try "$engine_log" docker volume inspect "$volume"
}

show_compose() {
    step 'A compose project: two services on one openebs volume'
    say '$ docker compose --file plugin/demo/compose.yml up --detach'
    compose --file "$demo" --project-name "$project" up --detach || die 'the compose project did not start' \
        "see the message above and: docker compose -f plugin/demo/compose.yml -p $project logs"
    waited=0
    until compose --file "$demo" --project-name "$project" logs --no-color reader 2>/dev/null | grep -q 'read [A-Z]'; do
        [ "$waited" -lt 60 ] || die 'the reader has read nothing in a minute' \
            "docker compose -f plugin/demo/compose.yml -p $project logs"
        sleep 1
        waited=$((waited + 1))
    done
    compose --file "$demo" --project-name "$project" logs --no-color --tail=2 reader
}

show_state() {
    step 'The data plane in docker ps'
    docker ps --filter label=openebs.role --format 'table {{.Names}}\t{{.Status}}\t{{.Label "openebs.role"}}'
    step 'The records in etcd (secrets are not shown)'
    records=$(curl --silent --show-error --fail --unix-socket "$run_dir/admin.sock" http://localhost/v1/records) ||
        die 'the plugin does not answer on its admin socket' "see the plugin's log in the engine's log"
    printf '%s' "$records" | node -e '
        const { entries } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
        const below = (prefix) => entries.filter(({ key }) => key.startsWith(prefix));
        const [events, claims] = [below("/openebs/events/"), below("/openebs/registry/")];
        const many = new Set([...events, ...claims]);
        for (const { key, value } of entries.filter((entry) => !many.has(entry)))
          console.log(key + "\n    " + JSON.stringify(value));
        console.log(`and ${claims.length} claims of what the registrator has written`);
        console.log(`and ${events.length} Docker events, the last: ${events.at(-1)?.key ?? "none"}`);'
}

show_status() {
    is_root || return 0
    step 'The cluster at a glance'
    say '$ docker openebs cluster status'
    # What is wrong it says itself; it is no reason to end here.
    "$cli_dir/docker-openebs" cluster status || true
}

step 'Set-up'
"$top/plugin/setup.sh" up
check_kernel
ensure_engine
step 'Build'
"$top/plugin/build-plugin.sh"
step 'Install'
install_plugin
install_cli
make_demo_image
show_volume
show_compose
show_state
show_status
step 'Done'
say "The volume driver openebs is ready: docker volume create --driver openebs --opt size=10G NAME
All options: docker volume create --driver openebs --opt help x
make down removes what this made; make down PURGE=1 also removes volumes and data."
