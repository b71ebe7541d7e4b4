#!/bin/sh
# Types, lint and format, all of them even when one fails: they run side by side.
. "$(dirname "$0")/lib.sh"

cd "$top"
PATH=$top/node_modules/.bin:$PATH
mkdir -p "$build"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

check() {
    name=$1
    shift
    if "$@" >"$out/$name" 2>&1; then say "ok      $name"; else
        say "FAILED  $name"
        cat "$out/$name"
        touch "$out/failed"
    fi
}

check_scripts() {
    for script in plugin/*.sh plugin/base/*.sh .ci/run; do sh -n "$script" || return 1; done
    ! have shellcheck || shellcheck -x -S warning plugin/*.sh plugin/base/*.sh
}

(check types tsc -p tsconfig.json --noEmit && check test-types tsc -p test/tsconfig.json) &
types=$!
check format prettier --check --log-level warn .
check scripts check_scripts
check lint eslint .
wait "$types"
[ ! -e "$out/failed" ]
