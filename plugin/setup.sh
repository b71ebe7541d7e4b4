#!/bin/sh
# Installs what is missing on this machine, and only that: Debian packages and the npm packages.
# usage: setup.sh npm | build | up | test     each needs what the ones before it need
# It never starts, stops or restarts an engine or another service.
. "$(dirname "$0")/lib.sh"

kind=${1:-test}
missing=

# want TEST-OF-PRESENCE PACKAGE WHY
want() {
    eval "$1" >/dev/null 2>&1 && return 0
    missing="$missing $2"
    say "missing: $2 ($3)"
}
in_archive() { refresh_lists && apt-cache show "$1" >/dev/null 2>&1; }

# Another repository of this machine may be out of order; what matters is whether the install works.
refreshed=
refresh_lists() {
    [ -z "$refreshed" ] && is_root || return 0
    refreshed=1
    mkdir -p "$build"
    apt-get -q update >"$build/setup.log" 2>&1 </dev/null ||
        say 'apt-get update has complaints (build/setup.log); going on'
}

want_build() {
    # Elsewhere the recipe runs in a container.
    have apt-get || return 0
    want 'have mmdebstrap' mmdebstrap 'unpacks the packages of the image and of the plugin'
    want 'test -e /usr/share/keyrings/debian-archive-keyring.gpg' debian-archive-keyring "checks the packages' signatures"
}

want_up() {
    if ! engine_answers; then
        want 'have dockerd' docker.io 'the engine'
        want 'have iptables' iptables 'the engine makes its networks with it'
    fi
    # docker.io holds the client too, up to Debian 12; later it is a package of its own.
    if ! have docker; then
        if have apt-get && in_archive docker-cli; then want false docker-cli "the engine's client"; else
            want false docker.io "the engine's client"
        fi
    fi
    want has_compose docker-compose 'runs the Compose part of the demonstration'
    want 'have curl' curl 'asks the plugin for its records'
    want 'have losetup' mount 'loop devices and mounts'
}

want_test() {
    want 'have dockerd' docker.io 'end-to-end tests start engines of their own'
    want 'have iptables' iptables 'engines make their networks with it'
    want 'have etcd' etcd-server 'the state adapter is tested on a real etcd'
    want 'have docker-registry' docker-registry 'the plugin is installed from a registry of the tests'
    want 'have fio' fio 'verified loads and the bench'
    want 'have strace' strace 'shows that a flush reaches the file'
    want 'have iscsi-ls' libiscsi-bin 'a foreign initiator'
    want 'have qemu-img' qemu-utils "the bench's yardstick"
    want 'ls /usr/lib/*/qemu/block-iscsi.so' qemu-block-extra "the bench's yardstick speaks iSCSI"
    want 'have mkfs.ext4 && have e2fsck' e2fsprogs 'file systems'
    want 'have mkfs.xfs' xfsprogs 'file systems'
    want 'have mkfs.btrfs' btrfs-progs 'file systems'
    want 'have ip && have ss' iproute2 "the lab hosts' networks"
    want 'have nsenter && have unshare && have setpriv' util-linux "the lab hosts' namespaces"
    want 'have ps' procps 'finds processes that are left'
    want 'ls /usr/lib/*/faketime/libfaketime.so.1' libfaketime 'a clock that is wrong'
}

# Debian starts a service when its package is installed, unless this file says no.
policy=/usr/sbin/policy-rc.d
keep_services_down() {
    trap let_services_start EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    [ ! -e $policy ] || mv $policy $policy.before-openebs
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
}
let_services_start() {
    rm -f $policy
    [ ! -e $policy.before-openebs ] || mv $policy.before-openebs $policy
}

install_missing() {
    [ -n "$missing" ] || return 0
    have apt-get || die "missing here:$missing; and this is not Debian, so they are not installed for you" \
        'install the programs named above with the package manager of this system, then run the same again'
    is_root || die "missing here:$missing; installing them needs root" \
        "run the same as root, or: apt-get install --no-install-recommends$missing"
    say "installing:$missing"
    export DEBIAN_FRONTEND=noninteractive
    refresh_lists
    log=$build/setup.log
    keep_services_down
    # shellcheck disable=SC2086
    apt-get -q -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends $missing >>"$log" 2>&1 </dev/null || {
        tail -n 15 "$log" >&2
        die "the Debian packages were not installed" \
            "mend what apt-get says above, try by hand: apt-get install --no-install-recommends$missing"
    }
    let_services_start
    trap - EXIT INT TERM
    # On a systemd host the packages for tests would start with the next boot.
    for unit in etcd docker-registry; do
        case " $missing " in *" $unit"*) ! [ -d /run/systemd/system ] || systemctl -q disable "$unit" || true ;; esac
    done
}

install_npm() {
    have npm || die 'npm is missing' 'install Node 20, 22 or 24 with npm, then run the same again'
    stamp=$top/node_modules/.openebs-lock
    lock=$(hash_of package-lock.json)
    [ "$(cat "$stamp" 2>/dev/null)" != "$lock" ] || [ ! -x "$top/node_modules/.bin/node" ] || return 0
    if [ ! -x "$top/node_modules/.bin/node" ] ||
        [ -n "$(find "$top/package-lock.json" -newer "$top/node_modules/.package-lock.json")" ]; then
        say 'installing the npm packages (npm ci)'
        (cd "$top" && npm ci --no-audit --no-fund </dev/null) || die 'npm ci failed' \
            'the packages come from the npm registry: see the messages above'
        [ -x "$top/node_modules/.bin/node" ] || die "npm ci has not installed Node $node_version" \
            "npm must be allowed to run install scripts: npm config set ignore-scripts false"
    fi
    printf '%s\n' "$lock" >"$stamp"
}

# Debian has none any more. Where it cannot be fetched, the tests on a real agent are skipped, and say so.
fetch_consul() {
    consul=$cache/consul1.8.7
    [ ! -x "$consul/usr/bin/consul" ] || return 0
    say 'unpacking a Consul agent for the tests (an old release of Debian has one)'
    mkdir -p "$cache"
    new=$consul.new.$$
    if (in_debian plugin/base/consul.sh "${new#"$top"/}") >"$build/consul.log" 2>&1; then
        rm -rf "$consul"
        mv "$new" "$consul"
        return 0
    fi
    rm -rf "$new"
    tail -n 3 "$build/consul.log" >&2
    say 'no Consul agent (build/consul.log): the tests on it will be skipped'
}

case $kind in
npm) ;;
build) want_build ;;
up) want_build; want_up ;;
test) want_build; want_up; want_test ;;
*) die "setup.sh knows no '$kind'" 'usage: setup.sh npm | build | up | test' ;;
esac
# A package may be wanted for two reasons.
# shellcheck disable=SC2086
missing=$(printf '%s\n' $missing | sort -u | sed 's/^/ /' | tr -d '\n')
case $missing in ' ') missing= ;; esac
install_missing
install_npm
[ "$kind" != test ] || fetch_consul
