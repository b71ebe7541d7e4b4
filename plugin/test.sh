#!/bin/sh
# `make test`: from a bare machine to a verdict. Every kind of test runs even when one before it failed; the
# last line is "N passed, N failed".
. "$(dirname "$0")/lib.sh"

cd "$top"
reports=$build/reports
rm -rf "$reports"
mkdir -p "$reports"
summary() { node test/summary.ts "$reports"; }

# part NAME COMMAND...: its exit code is what the summary counts where no report tells more.
part() {
    name=$1
    shift
    step "$name"
    code=0
    "$@" || code=$?
    printf '%s\n' "$code" >"$reports/$name.code"
    return "$code"
}

run_tests() {
    node node_modules/vitest/vitest.mjs run --config test/vitest.config.ts --project "$1" \
        --reporter=default --reporter=json --outputFile.json="$reports/$1.json"
}

"$top/plugin/setup.sh" test
PATH=$top/node_modules/.bin:$PATH
part check plugin/check.sh || true
part cli plugin/build-cli.sh || true
if part build plugin/build-registrator.sh; then kinds='unit contract integration e2e'; else kinds='unit contract integration'; fi
for kind in $kinds; do part "$kind" run_tests "$kind" || true; done
step summary
summary
