# ocppgw: `make help` lists the targets. Everything is installed into .venv with the versions of constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
UNIT_TESTS = $(wildcard tests/test_*.py)
SOURCES := setup.cfg pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install install-dev install-bench install-services install-test-programs services run run-tls demo test check lint types imports \
        newsfragment format bench chaos build constraints clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \2/p' Makefile | awk '{ printf "  make %-12s ", $$2; $$1 = $$2 = ""; print substr($$0, 3) }'

install: .venv/.installed ## make .venv with the gateway and its tools

run: install ## start the gateway on this machine (ws 8080, operations HTTP 3001)
	@tools/next-steps
	@exec $(BIN)/twistd --nodaemon --pidfile= ocppgw -c etc/ocppgw.dev.toml

run-tls: install ## the same with TLS and client certificates, and a development PKI in var/pki (wss 8443)
	@test -d var/pki || $(BIN)/ocppgw pki init var/pki --name localhost --name 127.0.0.1 > /dev/null
	@exec $(BIN)/twistd --nodaemon --pidfile= ocppgw -c etc/ocppgw.tls-dev.toml

demo: install ## gateway, simulated stations and their events in one terminal; Ctrl-C ends all
	@tools/demo

services: install-services ## Redis and Kafka on this machine (6379, 9092), for trying things out; Ctrl-C stops both
	@tools/services

test: install-dev install-test-programs ## all tests: the unit tests under trial, integration and conformance under pytest
	$(BIN)/trial -j2 --reporter=text --temp-directory=_trial_temp $(UNIT_TESTS)
	$(BIN)/pytest tests/integration tests/conformance

check: lint types imports newsfragment ## lint, format, types, import rules, changelog fragment

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-dev
	$(BIN)/mypy

imports: install-dev
	$(BIN)/lint-imports --no-logo

newsfragment: install-dev
	@tools/check-newsfragment

format: install-dev ## let ruff put the source in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-bench ## measure throughput, handshakes and memory beside Autobahn, pyOpenSSL, Node and the PyPI `ocpp` server
	$(BIN)/python -m bench.run $(BENCH)

chaos: install-dev install-services ## break a fleet of nodes in every way, 20 times each, and audit: two to three hours
	$(BIN)/python -m tests.chaos $(CHAOS)

build: install-dev ## wheel and sdist in dist/
	$(BIN)/python -m build --no-isolation

constraints: .venv/.python ## resolve all dependencies anew, to their newest versions
	tools/resolve-constraints > constraints.new
	mv constraints.new constraints.txt

clean: ## remove what was built and cached; .venv, .services and var/ (your events) stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis _trial_temp* bench/out
	find ocppgw tests bench twisted -name __pycache__ -type d -prune -exec rm -rf {} +

install-services: .venv/.python
	@tools/install-services

install-test-programs: .venv/.python
	@tools/install-services systemd-analyze=systemd /bin/kill=procps openssl=openssl node=nodejs npm=npm
	@tools/install-npm

install-dev: .venv/.installed-dev
install-bench: .venv/.installed-bench

# --- .venv: made once, installed again when what is to be installed has changed

.venv/.python:
	@tools/check-python "$(PYTHON)"
	"$(PYTHON)" -m venv .venv
	@touch $@

.venv/.build-tools: .venv/.python constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --upgrade pip setuptools wheel
	@touch $@

.venv/.installed .venv/.installed-dev .venv/.installed-bench: .venv/.build-tools $(SOURCES)
	$(BIN)/python -m pip install --quiet --no-build-isolation -c constraints.txt -e '.$(EXTRAS)'
	@$(BIN)/twistd --help > .venv/twistd-plugins  # fills Twisted's plugin cache
	@touch $@

.venv/.installed-dev: EXTRAS = [dev]
.venv/.installed-bench: EXTRAS = [bench]
