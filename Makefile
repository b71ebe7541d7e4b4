# `make` lists the targets. What a target does beyond one command is a script in plugin/.
SHELL := /bin/sh
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

VITEST = node_modules/.bin/node node_modules/vitest/vitest.mjs run --config test/vitest.config.ts --project

.DEFAULT_GOAL := help
.PHONY: help up down test test-engines check unit integration contract e2e crash cluster-faults bench soak registrator-kills image plugin registrator cli push clean

help: ## list the targets
	@echo 'usage: make TARGET'
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s%s\n", $$1, $$2 }'

up: ## set up what is missing, install the plugin and show the main job on this machine
	@plugin/up.sh

down: ## remove what up has made; PURGE=1 also removes volumes and data
	@plugin/down.sh

test: ## everything: set-up, check, build, unit, contract, integration and e2e tests
	@plugin/test.sh

test-engines: ## the e2e tests on Docker 20.10, 26.1 and 28.5, with and without live-restore; long
	@plugin/test-engines.sh

check: ## types, lint and format
	@plugin/setup.sh npm
	@plugin/check.sh

unit: ## unit tests
	@plugin/setup.sh npm
	@$(VITEST) unit

contract: ## one suite per seam, on the fake and on the real thing
	@plugin/setup.sh test
	@$(VITEST) contract

integration: ## the app on real sockets with a fake engine and a real etcd
	@plugin/setup.sh test
	@$(VITEST) integration

e2e: ## the real plugin on real engines of the tests' own
	@plugin/setup.sh test
	@plugin/build-plugin.sh
	@plugin/build-registrator.sh
	@plugin/build-cli.sh
	@$(VITEST) e2e

crash: ## the plugin killed at every hit of every named point; long
	@plugin/setup.sh test
	@plugin/build-plugin.sh
	@CRASH_POINTS=all $(VITEST) e2e test/e2e/crash-points.test.ts --disable-console-intercept

cluster-faults: ## hosts of a cluster cut off, killed and crashed at every step of a change; long
	@plugin/setup.sh test
	@plugin/build-plugin.sh
	@plugin/build-cli.sh
	@$(VITEST) cluster-faults --disable-console-intercept

bench: ## measure, print each row beside its bar, write build/bench.json
	@plugin/setup.sh test
	@plugin/build-plugin.sh
	@plugin/build-cli.sh
	@$(VITEST) bench

soak: ## a database and verified writers under random faults: make soak MINUTES=20 SEED=1
	@plugin/setup.sh test
	@plugin/build-plugin.sh
	@MINUTES='$(or $(MINUTES),20)' $(if $(SEED),SEED='$(SEED)') $(VITEST) soak --disable-console-intercept

registrator-kills: ## kill the registrator at random while containers change: make registrator-kills KILLS=200 SEED=7
	@plugin/setup.sh test
	@REGISTRATOR_KILLS='$(or $(KILLS),200)' $(if $(SEED),REGISTRATOR_SEED='$(SEED)') $(VITEST) e2e \
		test/e2e/registrator-faults.test.ts -t 'is killed'

image: ## build the data-plane image (build/image.tar.gz)
	@plugin/setup.sh build
	@plugin/build-image.sh

plugin: ## build the plugin (build/plugin) with the image inside
	@plugin/setup.sh build
	@plugin/build-plugin.sh

registrator: ## build the image of the stand-alone registrator; IMPORT=1 imports it as openebs/registrator
	@plugin/setup.sh build
	@plugin/build-registrator.sh $(if $(IMPORT),--import)

cli: ## build the command `docker openebs`: build/docker-openebs, and build/docker-openebs-static with Node inside
	@plugin/setup.sh npm
	@plugin/build-cli.sh

push: ## push the plugin to a registry: make push PLUGIN=host/name:tag
	@plugin/setup.sh build
	@plugin/push.sh "$(PLUGIN)"

clean: ## remove what was built; node_modules stays
	@rm -rf build dist
