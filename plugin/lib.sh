# Shared by the recipes in this folder. Sourced, never run. POSIX sh.
# shellcheck shell=sh disable=SC2034
set -eu
umask 022

top=$(cd "$(dirname "$0")/.." && pwd)
build=$top/build
cache=$build/cache
state_dir=/var/lib/openebs
run_dir=/run/openebs
# What `make up` has started, for `make down`. Gone with the boot, like what it speaks of.
up_dir=/run/openebs-up
# Where the docker command of every user finds its plugins.
cli_dir=${OPENEBS_CLI_DIR:-/usr/local/lib/docker/cli-plugins}
node_version=$(sed -n 's/^ *"node": "\([0-9.]*\)",*$/\1/p' "$top/package.json")

image_limit_mb=200
plugin_limit_mb=350

say() { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }

# die SENTENCE [WHAT TO DO NEXT]
die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'what to do: %s\n' "$2" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

# engine_answers: an engine is there at DOCKER_HOST or the default socket.
engine_answers() { docker version >/dev/null 2>&1; }

# node SCRIPT ARGS...: the pinned Node, whatever the system's is.
node() { "$top/node_modules/.bin/node" "$@"; }

# compose ARGS...: Compose as a plugin of the docker client, or the stand-alone one.
compose() {
    if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}
has_compose() { docker compose version >/dev/null 2>&1 || docker-compose version >/dev/null 2>&1; }

# hash_of FILE-OR-DIR...: one hash over the names and the contents, not over times or owners.
hash_of() {
    (
        cd "$top"
        find "$@" -type f | LC_ALL=C sort | while IFS= read -r file; do sha256sum "$file"; done
    ) | sha256sum | cut -c1-64
}

hash_text() { printf '%s\n' "$*" | sha256sum | cut -c1-64; }

size_mb() { echo $((($(du -skx "$1" | cut -f1) + 1023) / 1024)); }

# check_size NAME DIR LIMIT_MB
check_size() {
    mb=$(size_mb "$2")
    say "$1: $mb MB unpacked (limit $3 MB)"
    [ "$mb" -le "$3" ] || die "$1 is $mb MB unpacked, over its limit of $3 MB" \
        "see what is large with: du -xh --max-depth=4 ${2#"$top"/} | sort -rh | head -30; drop it in plugin/base/"
}

# Two builds at once would work on the same folders, so the second waits for the first.
lock_build() {
    mkdir -p "$cache"
    [ -z "${OPENEBS_BUILD_LOCKED:-}" ] || return 0
    have flock || return 0
    exec 9>"$build/.lock"
    flock -n 9 || { say 'another build is running: waiting for it'; flock 9; }
    OPENEBS_BUILD_LOCKED=1
    export OPENEBS_BUILD_LOCKED
}

# in_debian SCRIPT ARGS...: runs a recipe script as root on Debian: here if this is such a machine, otherwise
# in a container. Paths among the arguments are relative to the top of the repository.
in_debian() {
    if [ -z "${OPENEBS_RECIPE_IN_CONTAINER:-}" ] && is_root && have mmdebstrap &&
        [ -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
        (cd "$top" && sh "$@")
        return
    fi
    docker version >/dev/null 2>&1 || die 'the Debian packages can be unpacked neither here nor in a container' \
        'on Debian run as root with mmdebstrap installed (plugin/setup.sh installs it); elsewhere start Docker'
    say "running $1 in a container of debian:trixie-slim (what unshare and mount say there does no harm)"
    docker run --rm -v "$top:/src" -w /src -e DEBIAN_FRONTEND=noninteractive \
        -e "http_proxy=${http_proxy:-}" -e "https_proxy=${https_proxy:-}" --network "${DOCKER_BUILD_NETWORK:-bridge}" \
        debian:trixie-slim sh -c '
            set -e
            apt-get -qq update
            apt-get -qq install --yes --no-install-recommends mmdebstrap debian-archive-keyring >/dev/null
            exec sh "$@"' sh "$@"
}

# made_in_debian SCRIPT INPUT...: prints the path of what a recipe makes; runs it if the result is not in the
# cache. Only the files named count as inputs: a newer package of Debian comes with the next `make clean`.
made_in_debian() {
    name=base-$(basename "$1" .sh)
    result=$cache/$name-$(hash_of plugin/base/common.sh "$@" | cut -c1-12)
    if [ ! -e "$result" ]; then
        rm -rf "$cache/$name"-*
        say "unpacking Debian packages ($1)" >&2
        in_debian "$1" "${result#"$top"/}.new" >&2 || die "$1 failed" \
            'see the messages above; the packages come from deb.debian.org'
        mv "$result.new" "$result"
    fi
    printf '%s\n' "$result"
}
