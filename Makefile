# What a person does with this repository. `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up down logs psql image test verify fix bench soak e2e sim mutants

COMPOSE := docker compose --project-directory compose --file compose/compose.yaml

# $(call flag,NAME,WORD): WORD where `NAME=1` stands on the command line, nothing where NAME is not set. Whatever else there
# is, another program's exported variable for one, was not meant for this.
flag = $(if $(strip $($1)),$(if $(subst command line 1,,$(origin $1) $($1)),$(error $1=$($1) \
    ($(origin $1)): only $1=1, on the command line of make, is accepted),$2))

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: image ## start three members, etcd and HAProxy in Docker; builds what is missing
	@docker/up

down: ## stop and remove the cluster's containers; VOLUMES=1 removes its data and secrets too
	@$(COMPOSE) down $(call flag,VOLUMES,--volumes)

logs: ## follow the cluster's logs; OF=tamada1 for one service
	@$(COMPOSE) logs --follow --tail 100 $(OF)

psql: ## psql on the write port, READ=1 for the read port
	@docker/psql $(or $(call flag,READ,read),write)

image: ## build the images; TAMADA_BINARY=PATH takes a compiled tamada, REFRESH=1 a new Debian with its updates
	@docker/image $(call flag,REFRESH,refresh)

test: ## everything: installs what it needs, checks, tests, images, the container test
	@tests/run

verify: ## the checks that need no server; writes nothing
	@tests/verify

fix: ## format, apply clippy's suggestions, write the generated documents anew
	@tests/fix

e2e: ## what takes longer, or needs Patroni
	@tests/e2e

sim: ## simulate RUNS worlds (2000) on all cores, from seed FROM (0) on; OBSERVED=1: in a store in which nothing expires
	@RUNS=$(or $(RUNS),2000) FROM=$(or $(FROM),0) cargo test --quiet --profile sim --test sim many_worlds -- --nocapture

mutants: ## change the rules of src/core one by one, name each change that no test notices; IN="lease election": only there
	@tests/mutants $(IN)

bench: ## medians of write gaps in the compose cluster; LAB=DIR also runs that lab
	@tests/bench $(LAB)

soak: ## 30 minutes of full load on the compose cluster: no false failover, nothing lost
	@tests/soak $(MINUTES)
