#!/bin/sh
# Compiles the image's pieces of C, libraries that are preloaded, against Debian trixie's libc, with a compiler of
# its own: the image holds none, and the build host's libc may be newer than the image's.
# usage: preload.sh OUTPUT-DIRECTORY   (as root, in Debian; see plugin/lib.sh in_debian)
. "$(dirname "$0")/common.sh"

output=$1
sources=$(cd "$(dirname "$0")/../image" && pwd)
unpack "$output.compiler" base-files base-passwd libc-bin gcc libc6-dev
with_devices
rm -rf "$output"
mkdir -p "$output"
for name in trim space; do
    cp "$sources/$name.c" "$tree/tmp/$name.c"
    chroot "$tree" gcc -O2 -Wall -Wextra -Werror -shared -fPIC -o "/tmp/libopenebs-$name.so" "/tmp/$name.c"
    mv "$tree/tmp/libopenebs-$name.so" "$output/"
done
rm -rf "$tree"
