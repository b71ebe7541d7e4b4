#!/bin/sh
# Compiles the image's one piece of C against Debian trixie's libc, with a compiler of its own: the image
# holds none, and the build host's libc may be newer than the image's.
# usage: trim.sh OUTPUT   (as root, in Debian; see plugin/lib.sh in_debian)
. "$(dirname "$0")/common.sh"

output=$1
unpack "$output.compiler" base-files base-passwd libc-bin gcc libc6-dev
with_devices
cp "$(dirname "$0")/../image/trim.c" "$tree/tmp/trim.c"
chroot "$tree" gcc -O2 -Wall -Wextra -Werror -shared -fPIC -o /tmp/libopenebs-trim.so /tmp/trim.c
mv "$tree/tmp/libopenebs-trim.so" "$output"
rm -rf "$tree"
