#!/bin/sh
# A Consul agent for tests: Debian's package of the last release that had one, unpacked and not installed.
# usage: consul.sh TREE   (as root, in Debian; see plugin/lib.sh in_debian)
#
# apt works in folders of its own here: this machine's lists and sources stay as they are, and its proxies count. It
# checks the release's signature; the sum below says that the package is the very one that the tests were written for.
set -eu
tree=$1
version=1.8.7+dfsg1-2+b3
case $(dpkg --print-architecture) in
amd64) sum=e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9 ;;
arm64) sum=7318cfa77a7ba6f71dd096e44353279de246ffc6561216ace42353685dcf8255 ;;
*) echo "error: no sum is known of consul for $(dpkg --print-architecture)" >&2; exit 1 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# apt downloads as a user of its own.
chmod 755 "$work"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
: >"$work/status"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] http://deb.debian.org/debian bullseye main" >"$work/sources.list"

own_apt() {
    apt-get -q -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$work/lists" -o Dir::State::Status="$work/status" -o Dir::Cache="$work/cache" \
        -o Acquire::Languages=none -o Acquire::Retries=3 -o Acquire::Check-Valid-Until=false \
        -o Acquire::http::Timeout=20 \
        -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any "$@"
}
own_apt update
(cd "$work" && own_apt download "consul=$version")
package=$(ls "$work"/consul_*.deb)
echo "$sum  $package" | sha256sum --check --quiet
rm -rf "$tree"
mkdir -p "$tree"
dpkg-deb --extract "$package" "$tree"
rm -rf "${tree:?}/etc" "${tree:?}/lib" "${tree:?}/usr/share" "${tree:?}/var"
"$tree/usr/bin/consul" version
