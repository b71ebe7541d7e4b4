#!/bin/sh
# The packages of the plugin's root file system: what its process runs, and what Node needs.
# usage: plugin.sh TREE   (as root, in Debian; see plugin/lib.sh in_debian)
. "$(dirname "$0")/common.sh"

unpack "$1" base-files base-passwd libc-bin dash coreutils sed grep util-linux mount e2fsprogs xfsprogs \
    btrfs-progs libstdc++6 ca-certificates

# fsck.ext4 and mkfs.ext4 are links to e2fsck and mke2fs; fsck.xfs is a script.
# shellcheck disable=SC2086
keep_only $basic_programs mkfs mkfs.ext4 mkfs.xfs mkfs.btrfs mke2fs fsck fsck.ext4 fsck.xfs fsck.btrfs e2fsck \
    tune2fs dumpe2fs resize2fs debugfs xfs_repair xfs_db xfs_io xfs_growfs xfs_admin xfs_info xfs_spaceman btrfs \
    btrfstune

certificates=$(mktemp)
find "$tree/usr/share/ca-certificates" -name '*.crt' | LC_ALL=C sort | xargs cat >"$certificates"
strip_texts
mkdir -p "$tree/etc/ssl/certs"
mv "$certificates" "$tree/etc/ssl/certs/ca-certificates.crt"
chmod 644 "$tree/etc/ssl/certs/ca-certificates.crt"
keep_modules
# Node's libraries; its binary is copied in later.
opened_by_glibc="$opened_by_glibc libstdc++.so libatomic.so libdl.so libpthread.so librt.so"
sweep_libraries

# What config.json and the engine mount into.
mkdir -p "$tree/run/docker/plugins" "$tree/mnt/openebs" "$tree/host/var/lib" "$tree/host/run" "$tree/host/dev"

with_devices
for program in mke2fs mkfs.xfs mkfs.btrfs e2fsck xfs_repair; do smoke $program -V; done
for program in btrfs mount umount losetup blkid findmnt; do smoke $program --version; done
without_devices
