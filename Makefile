# Everything one types. Each target sources .ci/env, which installs what is missing and keeps builds in
# a cache outside the clone (CHANCERY_CACHE), so all of them work on a fresh clone.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo run test check bench soak fuzz build fmt clean

WITH := source .ci/env &&

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

demo: ## Sign through an HSM, crash, recover, archive, verify offline; evidence in target/demo
	@bash tests/demo/demo.sh

run: ## Start a development instance in target/dev and stay up
	@bash tests/demo/run.sh

test: ## Run every test
	@.ci/test

check: ## Run all that must hold: format, lints, dependency policy, secret scan, docs, tests
	@.ci/check

bench: ## Measure, beside the ceilings of the same run; prints a table, leaves JSON in target/bench.json
	@$(WITH) bash tests/bench.sh

soak: ## Kill the daemon 1,000 times under load; nothing acknowledged may be lost
	@$(WITH) cargo build --locked --workspace --bins --tests
	@$(WITH) CHANCERY_CRASH_ROUNDS=$${CHANCERY_CRASH_ROUNDS:-1000} cargo test --locked --workspace --test crash_recovery -- --nocapture

fuzz: ## Mutate every input format, seeded and bounded (CHANCERY_FUZZ_ROUNDS, CHANCERY_FUZZ_SEED)
	@$(WITH) cargo test --locked --workspace --test fuzz -- --nocapture

build: ## Build the release binaries and link them into target/release
	@$(WITH) .ci/release

fmt: ## Format all sources
	@cargo fmt --all

clean: ## Remove evidence and links below target; the cache stays
	@rm -rf target
