#!/bin/sh
# The packages of the stand-alone registrator's root file system: a shell for people, and what Node needs.
# usage: registrator.sh TREE   (as root, in Debian; see plugin/lib.sh in_debian)
. "$(dirname "$0")/common.sh"

unpack "$1" base-files base-passwd libc-bin dash coreutils libstdc++6 libatomic1 ca-certificates

keep_only sh dash cat ls env id sleep true ldconfig

certificates=$(mktemp)
find "$tree/usr/share/ca-certificates" -name '*.crt' | LC_ALL=C sort | xargs cat >"$certificates"
strip_texts
mkdir -p "$tree/etc/ssl/certs" "$tree/etc/openebs/policies"
mv "$certificates" "$tree/etc/ssl/certs/ca-certificates.crt"
chmod 644 "$tree/etc/ssl/certs/ca-certificates.crt"
keep_modules
# Node's libraries; its binary is copied in later.
opened_by_glibc="$opened_by_glibc libstdc++.so libatomic.so libm.so libdl.so libpthread.so librt.so"
sweep_libraries
smoke sh -c true
