# What a person does with this repository. `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up down logs psql image test verify fix bench soak

COMPOSE := docker compose --project-directory compose --file compose/compose.yaml

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: image ## start three members, etcd and HAProxy in Docker; builds what is missing
	@docker/up

down: ## stop and remove the cluster's containers; VOLUMES=1 removes its data and secrets too
	@$(COMPOSE) down $(if $(VOLUMES),--volumes)

logs: ## follow the cluster's logs; OF=tamada1 for one service
	@$(COMPOSE) logs --follow --tail 100 $(OF)

psql: ## psql on the write port, READ=1 for the read port
	@docker/psql $(if $(READ),read,write)

image: ## build the images; TAMADA_BINARY=PATH takes a compiled tamada instead of compiling
	@docker/image

test: ## everything: installs what it needs, checks, tests, images, the container test
	@tests/run

verify: ## the checks that need no server; writes nothing
	@tests/verify

fix: ## format, apply clippy's suggestions, write the generated documents anew
	@tests/fix

bench: ## medians of write gaps in the compose cluster; LAB=DIR also runs that lab
	@tests/bench $(LAB)

soak: ## 30 minutes of full load on the compose cluster: no false failover, nothing lost
	@tests/soak $(MINUTES)
