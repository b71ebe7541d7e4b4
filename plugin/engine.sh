# Starts an engine for `make up` where none answers, and stops it again. Sourced after lib.sh. POSIX sh.
# shellcheck shell=sh disable=SC2154

# volume_users: names of the running containers that use an openebs volume.
volume_users() {
    for name in $(docker volume ls --quiet --filter driver=openebs:latest); do
        docker ps --filter "volume=$name" --format '{{.Names}}'
    done | sort -u | tr '\n' ' '
}

# remove_plugin: the engine deletes everything below a plugin it removes, and a volume that is still mounted
# there would lose its files. So no mount may be left when it does.
remove_plugin() {
    id=$(docker plugin inspect openebs --format '{{.Id}}' 2>/dev/null) || return 0
    say 'removing the plugin'
    docker plugin disable --force openebs >/dev/null 2>&1 || true
    mounts_of_plugin "$id" | while IFS= read -r mount; do umount --lazy "$mount" || true; done
    [ -z "$(mounts_of_plugin "$id")" ] || die "below the plugin something is still mounted: $(mounts_of_plugin "$id" | head -n 1)" \
        'unmount it (umount), then run the same again'
    docker plugin rm --force openebs >/dev/null || die 'the plugin was not removed' 'see the message above, then run the same again'
    rm -f "$build/installed"
}

mounts_of_plugin() { awk -v id="/plugins/$1/" 'index($5, id) { print $5 }' /proc/self/mountinfo 2>/dev/null | sort -r; }

# remove_demo: what the demonstration runs; its volumes stay. By label, as Compose may not be installed any more.
remove_demo() {
    ids=$(docker ps --all --quiet --filter label=com.docker.compose.project=openebs-demo)
    # shellcheck disable=SC2086
    [ -z "$ids" ] || docker rm --force $ids >/dev/null
}

has_systemd() { [ -d /run/systemd/system ]; }

# ensure_engine: an engine that answers is used as it is.
ensure_engine() {
    if engine_answers; then
        say "using the engine that is running, Docker $(docker version --format '{{.Server.Version}}')"
        return 0
    fi
    [ -z "${DOCKER_HOST:-}" ] || die "no engine answers at DOCKER_HOST=$DOCKER_HOST" 'start that engine, or unset DOCKER_HOST'
    is_root || die 'no engine answers, and starting one needs root' \
        'run the same as root; or, if an engine runs, add this user to the group docker'
    have dockerd || die 'no engine answers and none is installed' 'install Docker Engine 20.10 or newer'
    mkdir -p "$up_dir"
    if has_systemd; then
        say 'starting the engine (systemctl start docker)'
        systemctl start docker || die 'systemd did not start the engine' 'see: journalctl -u docker -n 50'
        echo systemd >"$up_dir/engine"
    else
        start_dockerd
    fi
    say "the engine answers, Docker $(docker version --format '{{.Server.Version}}')"
}

start_dockerd() {
    log=/var/log/dockerd.log
    say "starting dockerd (its log: $log)"
    # An engine that has just been stopped may still hold its containerd for a few seconds: hence three tries.
    for _ in 1 2 3; do
        setsid dockerd >>"$log" 2>&1 </dev/null 9>&- &
        pid=$!
        waited=0
        while [ "$waited" -lt 60 ] && kill -0 "$pid" 2>/dev/null; do
            if engine_answers; then
                echo "$pid $(started_at "$pid")" >"$up_dir/engine"
                return 0
            fi
            sleep 1
            waited=$((waited + 1))
        done
        ! kill -0 "$pid" 2>/dev/null || break
        sleep 5
    done
    ! kill -0 "$pid" 2>/dev/null || kill "$pid"
    tail -n 10 "$log" >&2
    die 'dockerd does not answer' "mend what the end of $log says (above), then run the same again"
}

# A process id is used again some day: the start time tells whether it is still the same process.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# stop_engine: only the one that ensure_engine has started.
stop_engine() {
    [ -e "$up_dir/engine" ] || return 0
    read -r pid started <"$up_dir/engine" || true
    if [ "$pid" = systemd ]; then
        say 'stopping the engine that make up had started (systemctl stop docker)'
        systemctl stop docker.socket docker 2>/dev/null || systemctl stop docker || true
    elif [ "$(started_at "$pid")" = "$started" ]; then
        say 'stopping the engine that make up had started'
        kill "$pid"
        waited=0
        while [ "$(started_at "$pid")" = "$started" ]; do
            [ "$waited" -lt 120 ] || die "dockerd (process $pid) does not end" 'see /var/log/dockerd.log'
            sleep 1
            waited=$((waited + 1))
        done
    fi
    rm -f "$up_dir/engine"
}
