#!/bin/sh
# Builds `docker openebs`, a plugin of the docker command: build/docker-openebs, a script for hosts with Node 18 or newer, and
# build/docker-openebs-static, the same with Node inside. Does nothing when its inputs have not changed.
# usage: build-cli.sh [script | static]     without a word both
. "$(dirname "$0")/lib.sh"

kind=${1:-both}
lock_build
mkdir -p "$build"
script=$build/docker-openebs
static=$build/docker-openebs-static
work=$build/cli

[ -e "$top/node_modules/esbuild" ] || die 'the npm packages are not installed' 'run: npm ci'
hash=$(hash_text "$node_version $(hash_of src/cli src/lib package.json package-lock.json plugin/build-cli.sh)")
version=$(sed -n 's/^ *"version": "\([^"]*\)",*$/\1/p' "$top/package.json")

is_built() { [ -x "$1" ] && [ "$(cat "$work/$(basename "$1").hash" 2>/dev/null)" = "$hash" ]; }

# CommonJS: Node takes a file without a suffix for that, wherever it lies, and an executable with Node inside knows nothing
# else. Below a package.json that says otherwise it would not, so build/ has one that says so.
build_script() {
    say 'cli: bundling src/cli'
    mkdir -p "$work"
    printf '{ "type": "commonjs" }\n' >"$build/package.json"
    # The program of esbuild is the compiled one, or a script where npm has run no install scripts. What is loaded late stays
    # in the one file, and in an executable with Node inside there is no import().
    PATH=$top/node_modules/.bin:$PATH esbuild "$top/src/cli/main.ts" --bundle --platform=node --target=node18 --format=cjs \
        --supported:dynamic-import=false --minify-syntax --legal-comments=none --log-level=warning \
        --banner:js='#!/usr/bin/env node' "--define:OPENEBS_VERSION=\"$version\"" "--outfile=$work/docker-openebs" ||
        die 'src/cli was not bundled' 'see the messages above'
    chmod 755 "$work/docker-openebs"
    mv "$work/docker-openebs" "$script"
    printf '%s\n' "$hash" >"$work/docker-openebs.hash"
}

# Node's way: the script becomes a section of a copy of the program, which runs it instead of what it is told.
build_static() {
    say 'cli: putting it into a copy of Node'
    sed 1d "$script" >"$work/main.js"
    cat >"$work/sea.json" <<END
{ "main": "$work/main.js", "output": "$work/main.blob", "disableExperimentalSEAWarning": true, "useCodeCache": true }
END
    node --experimental-sea-config "$work/sea.json" >"$work/sea.log" 2>&1 || {
        cat "$work/sea.log" >&2
        die 'Node did not take the script for an executable of its own' 'see the messages above'
    }
    cp "$top/node_modules/node/bin/node" "$work/docker-openebs-static"
    chmod 755 "$work/docker-openebs-static"
    node "$top/node_modules/postject/dist/cli.js" "$work/docker-openebs-static" NODE_SEA_BLOB "$work/main.blob" \
        --sentinel-fuse NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2 >"$work/sea.log" 2>&1 || {
        cat "$work/sea.log" >&2
        die 'the script was not put into the copy of Node' 'see the messages above'
    }
    "$work/docker-openebs-static" docker-cli-plugin-metadata >/dev/null || die 'the executable does not run'
    mv "$work/docker-openebs-static" "$static"
    printf '%s\n' "$hash" >"$work/docker-openebs-static.hash"
}

is_built "$script" || build_script
case $kind in
script) ;;
both | static) is_built "$static" || build_static ;;
*) die "build-cli.sh knows no '$kind'" 'usage: build-cli.sh [script | static]' ;;
esac
say "cli: ready in build/ (version $version)"
