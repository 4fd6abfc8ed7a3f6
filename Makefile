# Every recipe here is short; the work is in scripts/setup.sh, cargo and xtask.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
export HOLDFAST_TOOLS ?= /opt/holdfast-tools

.PHONY: help setup build demo test soak bench fuzz lint clean aws-standin

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## install what building and testing need (quick when already there)
	@scripts/setup.sh all

build: ## the release binary, target/release/holdfast
	$(CARGO) build --release -p holdfast-cli

demo: ## a backup, a disaster and a restore, on throwaway servers
	@scripts/setup.sh pg
	$(CARGO) build --release -p holdfast-cli
	HOLDFAST_BIN="$(TARGET_DIR)/release/holdfast" $(CARGO) run --release -p xtask -- demo

test: ## every test, against real PostgreSQL 15, 17 and 18, an S3 emulator and the AWS stand-in
	@scripts/setup.sh all
	"$$HOLDFAST_TOOLS/venv/bin/python" -m unittest discover --quiet --start-directory tools/aws-standin/tests
	"$$HOLDFAST_TOOLS/venv/bin/python" -m unittest discover --quiet --start-directory tools/k8s-standin/tests
	$(CARGO) build -p holdfast-cli
	export HOLDFAST_BIN="$(TARGET_DIR)/debug/holdfast"; \
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  $(CARGO) nextest run --workspace --no-fail-fast; \
	else \
	  $(CARGO) test --workspace --lib --bins --tests --no-fail-fast; \
	fi
	$(CARGO) test --workspace --doc

soak: ## long random histories with crashes and faults (SOAK_MINUTES, HOLDFAST_SEED)
	@scripts/setup.sh all pg16 ceph garage
	$(CARGO) build --release -p holdfast-cli
	HOLDFAST_TEST_PG="$${HOLDFAST_TEST_PG:-15,16,17,18}" \
	  HOLDFAST_BIN="$(TARGET_DIR)/release/holdfast" $(CARGO) run --release -p xtask -- soak

bench: ## side by side with the peer, same machine, same data
	@scripts/setup.sh pg bench
	$(CARGO) build --release -p holdfast-cli
	HOLDFAST_BIN="$(TARGET_DIR)/release/holdfast" $(CARGO) run --release -p xtask -- bench

fuzz: ## the parsers against mutated and random bytes (FUZZ_SECONDS, HOLDFAST_SEED)
	$(CARGO) run --release -p xtask -- fuzz

lint: ## formatting and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

aws-standin: ## a strict stand-in for AWS (RDS, Aurora, DocumentDB, Backup) to try things on (PORT)
	@scripts/setup.sh aws
	@echo 'point a client at it:  export AWS_ENDPOINT_URL=http://127.0.0.1:$(or $(PORT),4590) AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=us-east-1'
	@PYTHONPATH=tools/aws-standin exec "$$HOLDFAST_TOOLS/venv/bin/python" -m aws_standin --port $(or $(PORT),4590)

clean: ## build products and cached test clusters (not the installed tools)
	$(CARGO) clean
	rm -rf "$${HOLDFAST_TEST_CACHE:-/tmp/holdfast-test-cache-$$(id -u)}"
