#!/bin/sh
# Pushes the plugin to a registry, where `docker plugin install` finds it.
# usage: push.sh HOST/NAME:TAG   (make push PLUGIN=HOST/NAME:TAG)
. "$(dirname "$0")/lib.sh"

plugin=${1:-}
case $plugin in
*/*:*) ;;
*) die "'$plugin' does not name a plugin in a registry" 'say: make push PLUGIN=host/name:tag' ;;
esac
engine_answers || die 'no engine answers, and pushing goes through one' 'start Docker, or set DOCKER_HOST'
# The local copy under the pushed name is a means to an end: it goes afterwards, but only if it is ours.
! docker plugin inspect "$plugin" >/dev/null 2>&1 ||
    die "a plugin $plugin is installed on this engine" "docker plugin rm $plugin, or push under another name"

"$top/plugin/build-plugin.sh"
trap 'docker plugin rm -f "$plugin" >/dev/null 2>&1 || true' EXIT
say "creating $plugin (half a minute: the engine compresses it)"
docker plugin create "$plugin" "$build/plugin" >/dev/null
docker plugin push "$plugin" || die "$plugin was not pushed" 'docker login to that registry, or see its message above'
say "pushed. Install it anywhere with: docker plugin install --alias openebs --grant-all-permissions $plugin"
