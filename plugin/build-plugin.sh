#!/bin/sh
# Builds the managed plugin: build/plugin/{rootfs/,config.json}, what `docker plugin create` takes.
# Does nothing when its inputs have not changed; a change of src/ alone takes seconds.
. "$(dirname "$0")/lib.sh"

lock_build
"$top/plugin/build-image.sh"

rootfs=$build/plugin/rootfs
npm_node=$top/node_modules/node/bin/node

[ -e "$top/config.json" ] || die 'config.json, the description of the plugin, is missing' 'restore it: git checkout config.json'
[ -e "$top/node_modules/.package-lock.json" ] || die 'the npm packages are not installed' 'run: npm ci'

# The command `docker openebs` is in src/ as well, and no part of the plugin.
plugin_sources=$(cd "$top" && find src -mindepth 1 -maxdepth 1 ! -name cli | LC_ALL=C sort)
# shellcheck disable=SC2086
plugin_hash=$(hash_text "$(cat "$build/image.hash") $node_version $(hash_of $plugin_sources config.json package.json package-lock.json \
    tsconfig.json plugin/base/common.sh plugin/base/plugin.sh plugin/build-plugin.sh)")

if [ "$(cat "$build/plugin.hash" 2>/dev/null)" = "$plugin_hash" ] && [ -d "$rootfs" ]; then
    say 'plugin: build/plugin is up to date'
    check_size plugin "$rootfs" "$plugin_limit_mb"
    exit 0
fi

# linux_node: prints the path of the Linux build of Node. On Linux npm has installed it; elsewhere it is fetched.
linux_node() {
    if [ "$(uname -s)" = Linux ] && [ -x "$npm_node" ]; then
        printf '%s\n' "$npm_node"
        return
    fi
    case $(docker version --format '{{.Server.Arch}}') in arm64) arch=arm64 ;; *) arch=x64 ;; esac
    dir=$cache/node-$node_version-$arch
    if [ ! -d "$dir" ]; then
        mkdir -p "$dir.new"
        (cd "$dir.new" && npm pack --silent "node-linux-$arch@$node_version" >/dev/null && tar -xzf ./*.tgz && rm ./*.tgz)
        mv "$dir.new" "$dir"
    fi
    printf '%s\n' "$dir/package/bin/node"
}

# production_modules: prints the folder with the npm packages that the plugin runs on, made from the lock file.
production_modules() {
    dir=$cache/modules-$(hash_of package.json package-lock.json plugin/build-plugin.sh | cut -c1-12)
    if [ ! -d "$dir" ]; then
        rm -rf "$cache"/modules-*
        say 'plugin: installing the npm packages for production' >&2
        mkdir -p "$dir.new"
        cp "$top/package.json" "$top/package-lock.json" "$dir.new/"
        (cd "$dir.new" && npm ci --omit=dev --ignore-scripts --no-audit --no-fund --silent >&2) ||
            die 'npm ci for production failed' 'the packages come from the npm registry: see the messages above'
        prune_modules "$dir.new/node_modules" >&2
        mv "$dir.new" "$dir"
    fi
    printf '%s\n' "$dir/node_modules"
}

# Nothing here is read at run time. cpu-features and the crypto binding are optional native parts of ssh2, which
# talks to remote engines; this plugin talks to its own host's.
prune_modules() {
    find "$1" -type f \( -name '*.map' -o -name '*.ts' -o -name '*.mts' -o -name '*.cts' -o -name '*.md' \
        -o -name '*.markdown' -o -name '*.c' -o -name '*.cc' -o -name '*.h' -o -name '*.gyp' -o -name '.eslintrc*' \) -delete
    rm -rf "$1/cpu-features" "$1/nan" "$1/buildcheck" "$1/.bin"
    # Only beside a package.json: deeper, a folder of such a name may be code.
    find "$1" -name package.json -type f | while IFS= read -r file; do
        for name in test tests __tests__ docs doc example examples benchmark benchmarks bench .github coverage; do
            rm -rf "${file%/*}/${name:?}"
        done
    done
    find "$1" -type d -empty -delete
}

base=$(made_in_debian plugin/base/plugin.sh)
modules=$(production_modules)
node=$(linux_node)

say 'plugin: compiling src/'
rm -rf "$build/plugin.new" "$build/plugin.hash"
mkdir -p "$build/plugin.new"
cp "$top/config.json" "$build/plugin.new/config.json"
cp -a "$base" "$build/plugin.new/rootfs"
app=$build/plugin.new/rootfs/app
mkdir -p "$app"
(cd "$top" && node_modules/.bin/node node_modules/typescript/bin/tsc -p tsconfig.json --sourceMap false --outDir "$app/dist") ||
    die 'src/ does not compile' 'see the messages above, or run: make check'
rm -rf "$app/dist/cli"
[ -e "$app/dist/main.js" ] || die 'src/main.ts, the entry point of the plugin, is missing'

cp "$node" "$build/plugin.new/rootfs/usr/bin/node"
chmod 755 "$build/plugin.new/rootfs/usr/bin/node"
cp "$top/package.json" "$app/package.json"
cp -a "$modules" "$app/node_modules"
cp "$build/image.tar.gz" "$build/image.json" "$app/"

if is_root && [ "$(uname -s)" = Linux ]; then
    new=$build/plugin.new/rootfs
    mknod -m 666 "$new/dev/null" c 1 3
    mknod -m 666 "$new/dev/urandom" c 1 9
    # The composition root imports everything and does nothing by itself.
    chroot "$new" /usr/bin/node -e 'import("/app/dist/app.js").catch((error) => { console.error(error); process.exit(1); })' ||
        die 'the plugin does not load in its root file system' \
            'if a package is missing, prune_modules in plugin/build-plugin.sh has removed too much'
    rm "$new/dev/null" "$new/dev/urandom"
fi

rm -rf "$build/plugin"
mv "$build/plugin.new" "$build/plugin"
check_size plugin "$rootfs" "$plugin_limit_mb"
printf '%s\n' "$plugin_hash" >"$build/plugin.hash"
say "plugin: build/plugin is ready (build $(printf %.12s "$plugin_hash"))"
