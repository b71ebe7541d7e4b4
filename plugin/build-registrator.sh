#!/bin/sh
# Builds the image of the stand-alone registrator: build/registrator.tar.gz, a root file system for `docker import`. With
# --import it becomes openebs/registrator on the engine that is here. Program and Node are those of the plugin.
. "$(dirname "$0")/lib.sh"

lock_build
"$top/plugin/build-plugin.sh"

tree=$build/registrator
hash=$(hash_text "$(cat "$build/plugin.hash") $(hash_of plugin/base/common.sh plugin/base/registrator.sh plugin/build-registrator.sh)")
version=$(sed -n 's/^ *"version": "\([^"]*\)",*$/\1/p' "$top/package.json")

if [ "$(cat "$build/registrator.hash" 2>/dev/null)" != "$hash" ] || [ ! -e "$build/registrator.tar.gz" ]; then
    base=$(made_in_debian plugin/base/registrator.sh)
    say 'registrator: building build/registrator.tar.gz'
    rm -rf "$build/registrator.hash" "$tree"
    cp -a "$base" "$tree"
    mkdir -p "$tree/app"
    cp "$build/plugin/rootfs/usr/bin/node" "$tree/usr/bin/node"
    for part in dist node_modules package.json; do cp -a "$build/plugin/rootfs/app/$part" "$tree/app/$part"; done
    if is_root && [ "$(uname -s)" = Linux ]; then
        mknod -m 666 "$tree/dev/null" c 1 3
        mknod -m 666 "$tree/dev/urandom" c 1 9
        chroot "$tree" /usr/bin/node /app/dist/standalone/main.js --version >/dev/null ||
            die 'the registrator does not load in its root file system' 'see plugin/base/registrator.sh'
        rm "$tree/dev/null" "$tree/dev/urandom"
    fi
    # Same inputs, same bytes: no times, no names, a fixed order.
    tar -C "$tree" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=posix \
        --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime -cf - . | gzip -n -6 >"$build/registrator.tar.gz"
    printf '%s\n' "$hash" >"$build/registrator.hash"
fi
check_size registrator "$tree" "$plugin_limit_mb"

if [ "${1:-}" = --import ]; then
    engine_answers || die 'no Docker engine answers here' 'import build/registrator.tar.gz where one does: see README.md'
    docker import \
        --change 'ENTRYPOINT ["/usr/bin/env","MALLOC_ARENA_MAX=2","/usr/bin/node","--max-semi-space-size=1","--max-old-space-size=512","/app/dist/standalone/main.js"]' \
        --change 'WORKDIR /' "$build/registrator.tar.gz" "openebs/registrator:$version" >/dev/null
    docker tag "openebs/registrator:$version" openebs/registrator:latest
    say "registrator: imported as openebs/registrator:$version"
fi
