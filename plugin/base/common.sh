# Makes a small root file system from Debian packages. Sourced by image.sh and plugin.sh. POSIX sh.
# shellcheck shell=sh disable=SC2034
#
# The packages are unpacked, not installed: no maintainer script runs and nothing is mounted. So the same
# recipe works as root on a Debian host and inside an ordinary container without any capability, and the
# result depends on the packages alone. What the scripts would have made and is needed (accounts, certificates,
# the linker's cache) is made here.
#
# Then everything goes that is not asked for: programs by a list of those to keep, libraries by what the
# programs that are left link to. A library that is only opened at run time (a module) must be named in
# keep_modules; smoke tests at the end of the recipe notice one that was forgotten.
set -eu
umask 022

[ "$(id -u)" = 0 ] || { echo 'error: unpacking a root file system needs root' >&2; exit 1; }

# What a shell script or a person in `docker exec` needs; small.
basic_programs='sh dash cat ls cp mv rm mkdir rmdir ln chmod chown touch truncate readlink realpath stat du df dd
    sync head tail sort uniq cut tr wc od seq sed grep tee env id uname date sleep timeout true false test [ echo
    printf basename dirname mktemp sha256sum md5sum cksum ldconfig mount umount mountpoint findmnt losetup blkid
    lsblk blockdev blkdiscard fstrim fallocate'

# unpack TREE PACKAGE...
unpack() {
    tree=$1
    shift
    rm -rf "$tree"
    mkdir -p "$(dirname "$tree")"
    packages=$(echo "$*" | tr -s ' \n' ',')
    mmdebstrap --quiet --variant=extract --mode=root --aptopt='APT::Install-Recommends "false"' \
        --aptopt='Acquire::Retries "3"' --include="$packages" trixie "$tree" \
        'deb http://deb.debian.org/debian trixie main' \
        'deb http://deb.debian.org/debian trixie-updates main' \
        'deb http://deb.debian.org/debian-security trixie-security main'
    libs=$(cd "$tree" && echo usr/lib/*-linux-gnu*)
    loader=/$(cd "$tree" && ls usr/lib64/ld-*.so* usr/lib/ld-*.so* 2>/dev/null | head -n 1)
    make_accounts
}

make_accounts() {
    cp "$tree/usr/share/base-passwd/passwd.master" "$tree/etc/passwd"
    cp "$tree/usr/share/base-passwd/group.master" "$tree/etc/group"
    printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$tree/etc/nsswitch.conf"
    # mmdebstrap copies the build host's.
    for file in resolv.conf hostname; do
        : >"$tree/etc/$file"
        chmod 644 "$tree/etc/$file"
    done
}

# keep_only PROGRAM...: everything else in bin, sbin and libexec goes, so that nothing set-uid is left either.
keep_only() {
    keep=" $(echo "$*" | tr -s ' \n' ' ') "
    for file in "$tree"/usr/bin/* "$tree"/usr/sbin/*; do
        case "$keep" in *" ${file##*/} "*) ;; *) rm -f "$file" ;; esac
    done
    rm -rf "$tree/usr/libexec"
    for program in $keep; do
        [ -e "$tree/usr/bin/$program" ] || [ -e "$tree/usr/sbin/$program" ] ||
            { echo "error: no unpacked package has the program $program" >&2; exit 1; }
    done
}

strip_texts() {
    for dir in boot dev home media mnt opt proc run srv sys tmp root var usr/games usr/include usr/src usr/local \
        usr/lib/systemd usr/lib/udev usr/lib/tmpfiles.d usr/lib/sysusers.d usr/lib/init usr/lib/lsb usr/lib/python3 \
        usr/lib/dpkg usr/lib/apt etc/apt etc/dpkg etc/systemd etc/init.d etc/cron.d etc/logrotate.d etc/pam.d \
        etc/security etc/perl; do
        rm -rf "${tree:?}/$dir"
    done
    rm -rf "$tree"/etc/rc?.d "$tree"/usr/lib/python3.*
    find "$tree/usr/share" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
    mkdir -p "$tree/dev" "$tree/proc" "$tree/run" "$tree/sys" "$tree/root" "$tree/mnt" "$tree/var/lib" "$tree/tmp"
    chmod 1777 "$tree/tmp"
    ln -s /run "$tree/var/run"
}

# keep_modules DIR...: folders of modules below the library folder that stay; all other folders there go.
keep_modules() {
    for dir in "$tree/$libs"/*/; do
        name=$(basename "$dir")
        case " $* " in *" $name "*) ;; *) rm -rf "$dir" ;; esac
    done
}

# Libraries that glibc opens by name.
opened_by_glibc='libgcc_s.so libnss_files.so libnss_dns.so libresolv.so'

sweep_libraries() {
    {
        find "$tree/usr/bin" "$tree/usr/sbin" -type f
        find "$tree/$libs" -mindepth 2 -type f -name '*.so*'
    } |
        while IFS= read -r file; do
            chroot "$tree" "$loader" --list "${file#"$tree"}" 2>/dev/null || true
        done | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | sed 's,.*/,,' | sort -u >"$tree/needed"
    for lib in $opened_by_glibc; do
        (cd "$tree/$libs" && ls -d "$lib"*) >>"$tree/needed"
    done
    while IFS= read -r lib; do
        link=$(readlink "$tree/$libs/$lib") && echo "${link##*/}"
    done <"$tree/needed" >"$tree/targets" || true
    for file in "$tree/$libs"/*; do
        [ -d "$file" ] && [ ! -L "$file" ] && continue
        grep -qxF "${file##*/}" "$tree/needed" "$tree/targets" || [ "/$libs/${file##*/}" = "$loader" ] ||
            case "${file##*/}" in ld-linux*) ;; *) rm -f "$file" ;; esac
    done
    rm "$tree/needed" "$tree/targets"
    chroot "$tree" /usr/sbin/ldconfig
}

# Programs that are tried want a few devices. The finished tree has none: the engine mounts /dev.
with_devices() {
    rm -rf "${tree:?}/dev"
    mkdir "$tree/dev"
    for device in null:3 zero:5 urandom:9; do mknod -m 666 "$tree/dev/${device%:*}" c 1 "${device#*:}"; done
}
without_devices() { rm -f "$tree"/dev/*; }

# smoke PROGRAM ARGS...: the program starts in the finished tree.
smoke() {
    out=$(chroot "$tree" "$@" 2>&1) || { echo "error: '$*' fails in the finished tree: $out" >&2; exit 1; }
}
