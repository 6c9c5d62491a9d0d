# One word per thing a developer does; `make help` lists them. Everything runs from .venv, which `make setup` makes.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test check fmt lint types imports unit e2e bench docs lock engine images secrets up down gone clean

BIN := .venv/bin
WORKERS ?= 2
ARGS ?=
COMPOSE ?= $(shell command -v docker-compose || echo docker compose)
NAME ?=
PYTEST := $(BIN)/pytest
READY := .venv/.ready
SUITES := tests/integration tests/security tests/e2e tests/fault

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml uv.lock .ci/setup
	@.ci/setup
	@touch $@

setup: $(READY) ## make .venv as uv.lock pins it, and install what the machine lacks

demo: setup engine images ## the whole line on real input, from commit to deployment; SERVE=1 leaves the server running
	@$(BIN)/python -m orchestrator.demo $(if $(SERVE),--serve) $(ARGS)

test: check engine images ## everything that continuous integration runs
	@.ci/engine-tests $(WORKERS) $(wildcard $(SUITES)) -- $(ARGS)

check: setup ## format, lint, types, import rules and unit tests; needs no Docker engine
	@$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory lint types imports unit

fmt: setup ## format the code and sort its imports
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --select I --fix .

lint: setup ## ruff
	@$(BIN)/ruff check .

types: setup ## mypy --strict
	@$(BIN)/mypy

imports: setup ## the import directions of docs/architecture.md
	@$(BIN)/lint-imports

unit: setup ## unit tests alone
	@$(PYTEST) -n $(WORKERS) tests/unit $(ARGS)

e2e: setup engine images ## end-to-end tests alone
	@$(PYTEST) tests/e2e $(ARGS)

bench: setup engine images ## benchmarks, or NAME=dispatch alone; figures, no verdicts
	@$(BIN)/python -m tests.benchmarks $(NAME) $(ARGS)

docs: setup ## the documentation as pages, in site/
	@$(BIN)/zensical build --clean -f .mkdocs.yml

lock: setup ## uv.lock anew, from pyproject.toml, and the requirements of the images
	@$(BIN)/uv lock --upgrade --no-config --default-index https://pypi.org/simple
	@$(BIN)/python runner-images/lock.py $(BIN)/uv

engine: ## a Docker engine, started or installed where none answers
	@runner-images/engine

images: engine ## the base image of runs, pulled or made from Debian's packages
	@runner-images/base/make

secrets: ## secrets/postgres_password for docker-compose, made once
	@[ -s secrets/postgres_password ] || { umask 077; mkdir -p secrets; \
	  head -c 32 /dev/urandom | base64 | tr -d '\n' >secrets/postgres_password; echo "secrets: made secrets/postgres_password"; }

up: engine images secrets ## the server with PostgreSQL by docker-compose, on ./config; `make down` stops it
	@$(COMPOSE) up --build --detach
	@runner-images/server/await $(COMPOSE)

down: ## stop what `make up` started; data and runs stay
	@$(COMPOSE) down

gone: ## remove all that `make up` and its runs made, data included; YES=1 does not ask
	@[ "$(YES)" = 1 ] || { read -r -p "This removes the database, logs and artifacts for good. Type gone: " said; [ "$$said" = gone ]; }
	@$(COMPOSE) stop server
	@$(COMPOSE) run --rm server orchestrator hosts prune --all --yes
	@$(COMPOSE) --profile demo down --volumes --remove-orphans

clean: ## caches and built pages; .venv and var/ stay
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist site
