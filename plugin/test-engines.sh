#!/bin/sh
# `make test-engines`: the end-to-end tests on each engine that is supported, with and without live-restore. The last
# lines are a table (engine x test file) and a verdict.
# usage: test-engines.sh [--report] [TEST-FILE...]   ENGINES='28.5 20.10+live-restore' narrows it; --report runs nothing
#
# The engines are Debian's packages of three releases, unpacked into the cache. On a release with live-restore
# run the files whose subject is a start or an end: of the engine, the plugin, the host or the data plane.
. "$(dirname "$0")/lib.sh"

reports=$build/reports-engines
engines=${ENGINES:-20.10 20.10+live-restore 26.1 26.1+live-restore 28.5 28.5+live-restore}
cd "$top"
if [ "${1:-}" = --report ]; then
    exec "$top/node_modules/.bin/node" test/engines.ts "$reports"
fi

suite_of() {
    case $1 in
    20.10) echo bookworm ;;
    26.1) echo trixie ;;
    28.5) echo forky ;;
    *) die "no engine $1 is known" 'known: 20.10 26.1 28.5, each also with +live-restore' ;;
    esac
}

# engine_folder VERSION: prints the folder with its packages; unpacks them the first time.
engine_folder() {
    suite=$(suite_of "$1")
    folder=$cache/engine$1
    if [ ! -d "$folder" ]; then
        say "unpacking engine $1 of Debian $suite" >&2
        rm -rf "$folder.new"
        in_debian plugin/base/engine.sh "${folder#"$top"/}.new" "$suite" >&2 ||
            die "engine $1 was not unpacked" 'see the messages above; the packages come from deb.debian.org'
        mv "$folder.new" "$folder"
    fi
    printf '%s\n' "$folder"
}

# Where it does not matter to a file whether containers outlive the engine, one run of it is enough.
matters_to_live_restore() {
    grep -qE 'stopEngine|reboot\(|liveRestore|killPlugin|plugin.*(disable|upgrade)' "$1"
}

"$top/plugin/setup.sh" test
"$top/plugin/build-registrator.sh"
[ $# -gt 0 ] || { set -- test/e2e/*.test.ts && [ -n "${ENGINES:-}" ] || rm -rf "$reports"; }
mkdir -p "$reports"
for engine in $engines; do
    LAB_ENGINE=$(engine_folder "${engine%+*}")
    LAB_ENGINE_ARGS=
    case $engine in *+live-restore) LAB_ENGINE_ARGS=--live-restore ;; esac
    export LAB_ENGINE LAB_ENGINE_ARGS
    files=
    for file in "$@"; do
        [ -z "$LAB_ENGINE_ARGS" ] || matters_to_live_restore "$file" || continue
        files="$files $file"
    done
    [ -n "$files" ] || continue
    step "engine $engine"
    code=0
    # shellcheck disable=SC2086 # one word per file, none has a blank
    node node_modules/vitest/vitest.mjs run --config test/vitest.config.ts --project e2e --reporter=default \
        --reporter=json --outputFile.json="$reports/$engine.json" $files || code=$?
    printf '%s\n' "$code" >"$reports/$engine.code"
done
node test/engines.ts "$reports"
