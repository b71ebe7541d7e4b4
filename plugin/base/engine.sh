#!/bin/sh
# A Docker engine of a Debian release, with containerd, runc and the libraries they link to, for tests.
# usage: engine.sh TREE SUITE   (as root, in Debian; see plugin/lib.sh in_debian)
#
# A lab host lays TREE/usr over the machine's /usr: what is the same in both comes from here, all else stays. That
# works while the libraries here are not older than the programs there: an older libc is left out.
set -eu
tree=$1
suite=$2

# A release in the making may be old when it comes from a mirror's snapshot.
mmdebstrap --quiet --variant=extract --mode=root --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Retries "3"' --aptopt='Acquire::Check-Valid-Until "false"' --include=docker.io,iptables \
    "$suite" "$tree" "deb http://deb.debian.org/debian $suite main"
rm -rf "${tree:?}/dev" "${tree:?}/var" "${tree:?}/usr/share"

version_of() { "$1" --version | sed -n '1s/^.* \([0-9.]*[0-9]\)\.*$/\1/p'; }
# A release whose libraries are not below /usr brings none along.
loader=$(cd "$tree" && ls usr/lib64/ld-*.so* usr/lib/ld-*.so* 2>/dev/null | head -n 1)
[ -n "$loader" ] || exit 0
oldest=$(printf '%s\n' "$(version_of "/$loader")" "$(version_of "$tree/$loader")" | sort -V | head -n 1)
if [ "$oldest" != "$(version_of "/$loader")" ]; then
    for library in libc libm libpthread libdl librt libresolv libnss_files libnss_dns libutil libanl ld-linux-x86-64 \
        ld-linux-aarch64 libmvec libthread_db libBrokenLocale; do
        find "$tree/usr" -name "$library.so.*" -delete
    done
fi
