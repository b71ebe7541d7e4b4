#!/bin/sh
# Builds the data-plane image: build/image.tar.gz (a root file system for `docker import`) and build/image.json
# (reference, sha256 of the tar, entry point). Does nothing when its inputs have not changed.
. "$(dirname "$0")/lib.sh"

lock_build

# The tar's own making is an input too: this file.
image_hash=$(hash_of plugin/base/common.sh plugin/base/image.sh plugin/base/preload.sh plugin/build-image.sh plugin/image)
reference=openebs/dataplane:$(printf %.12s "$image_hash")
entry_point=/usr/local/lib/openebs/openebs-role
tree=$build/image

if [ "$(cat "$build/image.hash" 2>/dev/null)" = "$image_hash" ] && [ -e "$build/image.tar.gz" ]; then
    say "image: $reference is up to date"
    check_size image "$tree" "$image_limit_mb"
    exit 0
fi

[ -e "$top/plugin/image/openebs-role" ] || die 'plugin/image/openebs-role, the entry point of the image, is missing'
base=$(made_in_debian plugin/base/image.sh)
libraries=$(made_in_debian plugin/base/preload.sh plugin/image/trim.c plugin/image/space.c)
say "image: building $reference"
rm -rf "$build/image.hash" "$tree.new"
cp -a "$base" "$tree.new"
scripts=$tree.new/usr/local/lib/openebs
mkdir -p "$scripts"
for file in "$top"/plugin/image/*; do
    case $file in *.c) ;; *) cp "$file" "$scripts/" ;; esac
done
cp "$libraries"/*.so "$scripts/"
chmod 755 "$scripts"/*

# try_role_files: each script compiles with the image's Perl, and each library finds what it wraps in its program.
try_role_files() {
    mknod -m 666 "$tree.new/dev/null" c 1 3
    for script in "$scripts"/*.pm "$scripts/openebs-role"; do
        name=/usr/local/lib/openebs/${script##*/}
        out=$(chroot "$tree.new" perl -I/usr/local/lib/openebs -c "$name" 2>&1) ||
            die "$name does not compile in the image: $out"
    done
    for pair in trim:qemu-storage-daemon space:tgtd; do
        library=libopenebs-${pair%:*}.so
        out=$(chroot "$tree.new" env LD_PRELOAD="/usr/local/lib/openebs/$library" "${pair#*:}" --version 2>&1) ||
            die "$library does not fit the image's ${pair#*:}: $out"
        case $out in *'cannot be preloaded'*) die "$library does not load: $out" ;; esac
    done
    rm "$tree.new/dev/null"
}

if is_root; then try_role_files; else say 'image: the role scripts are not tried, which needs root'; fi

rm -rf "$tree"
mv "$tree.new" "$tree"
check_size image "$tree" "$image_limit_mb"
# Same inputs, same bytes: no times, no names, a fixed order.
tar -C "$tree" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=posix \
    --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime -cf - . | gzip -n -6 >"$build/image.tar.gz"
sha256=$(sha256sum "$build/image.tar.gz" | cut -c1-64)
printf '{"reference":"%s","sha256":"%s","entrypoint":["%s"]}\n' "$reference" "$sha256" "$entry_point" >"$build/image.json"
printf '%s\n' "$image_hash" >"$build/image.hash"
say "image: build/image.tar.gz, $(du -m "$build/image.tar.gz" | cut -f1) MB packed"
