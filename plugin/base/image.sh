#!/bin/sh
# The packages of the data-plane image: one image for the roles target, initiator and etcd.
# usage: image.sh TREE   (as root, in Debian; see plugin/lib.sh in_debian)
. "$(dirname "$0")/common.sh"

# The FUSE export of older versions corrupts data under parallel direct writes.
qemu_minimum=10.0.13

unpack "$1" base-files base-passwd libc-bin dash coreutils sed grep perl-base util-linux mount fuse3 \
    tgt qemu-utils qemu-block-extra etcd-server

# util-linux's umount is what libfuse runs to unmount an export.
# shellcheck disable=SC2086
keep_only $basic_programs perl fusermount3 tgtd tgtadm tgtimg qemu-storage-daemon qemu-img etcd

strip_texts
keep_modules qemu perl-base
find "$tree/$libs/qemu" -type f ! -name 'block-iscsi.so' -delete
sweep_libraries

with_devices
smoke perl -MIO::Socket::UNIX -MIO::Socket::INET -MSocket -MPOSIX -MFcntl -e 1
smoke tgtd --version
smoke etcd --version
smoke losetup --version
smoke blkid --version
smoke qemu-img --version
# Modules load on first use: the iSCSI driver is asked for with an address that nobody serves.
out=$(chroot "$tree" qemu-storage-daemon --blockdev driver=iscsi,node-name=n,transport=tcp,portal=127.0.0.1:9,target=iqn.x,lun=0 2>&1) || true
case "$out" in *'iSCSI: Failed to connect'*) ;; *) echo "error: the iSCSI driver does not load: $out" >&2; exit 1 ;; esac
out=$(chroot "$tree" qemu-storage-daemon --help)
case "$out" in *type=\]fuse,*) ;; *) echo 'error: qemu-storage-daemon has no FUSE export' >&2; exit 1 ;; esac
version=$(chroot "$tree" qemu-storage-daemon --version | sed -n 's/^.* version \([0-9.]*[0-9]\).*$/\1/p')
[ "$(printf '%s\n%s\n' "$qemu_minimum" "$version" | sort -V | head -n 1)" = "$qemu_minimum" ] || {
    echo "error: qemu-storage-daemon is $version; older than $qemu_minimum its FUSE export corrupts data" >&2
    exit 1
}
without_devices
