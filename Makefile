# Verbs only; the logic is in scripts/ and in the binary. `make help` lists them.
# Every cargo command selects the whole workspace: see "One selection" in CONTRIBUTING.md.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help bootstrap build up check test model fmt drill torture differ big compat bench fleet profile deb deb-test browser fresh
MAKEFLAGS += --no-print-directory

ENV := . scripts/env &&

# Arguments for the binary, and its folder: make up DIR=/tmp/haproxy ARGS='--balancer haproxy'
ARGS ?=
DIR ?= $(CURDIR)/target/local

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

bootstrap: ## install what is missing (Debian 12), check the rest
	@scripts/bootstrap

build: bootstrap ## build the binary
	@$(ENV) scripts/cargo build --release --locked --workspace --bin holdfast

up: build ## run a cluster behind load balancers here; Ctrl-C ends it
	@$(ENV) exec "$$HOLDFAST_BIN" up --dir "$(DIR)" $(ARGS)

check: bootstrap ## format, lint, unit tests, rules of the tree; writes nothing
	@$(ENV) cargo fmt --all --check
	@$(ENV) scripts/cargo clippy --release --locked --workspace --all-targets -- -D warnings
	@$(ENV) scripts/cargo test --release --locked --workspace --lib --bins --test tidy --quiet

test: bootstrap ## unit tests, transcripts, clusters, client libraries
	@scripts/test

model: bootstrap ## search the models of failovers and of slot moves within larger bounds than `make test` does
	@$(ENV) scripts/cargo test --release --locked --workspace --test failover_model --test moves_model -- --ignored --nocapture --test-threads=1

fmt: ## format the code
	@cargo fmt --all

drill: build ## kill, stop, cut off and switch over under load and time the outages: ARGS='--runs 3 --only kill,link-down,leader-kill'; much at once: ARGS='--only move' BALLAST_MB=10000 RATE= P99_MS= OUT=
	@$(ENV) scripts/cargo build --release --locked --workspace --bin network-drill --bin control-drill --bin reshard-drill
	@scripts/drill $(ARGS)

torture: build ## faults from a seed against real clusters: RUNS= SEED= MODE= BALANCER= SHAPE= FAULTS= KEYS= CLIENTS= LEASE= MISSES= SECONDS= MOVES= CONTROLLERS=3 STORE=etcd
	@$(ENV) scripts/cargo build --release --locked --workspace --bin torture
	@$(ENV) exec "$$CARGO_TARGET_DIR/release/torture" \
		$(foreach name,RUNS SEED MODE BALANCER SHAPE FAULTS KEYS CLIENTS LEASE MISSES SECONDS MOVES CONTROLLERS STORE KEEP,$(if $($(name)),$(name)=$($(name))))

differ: build ## random commands in both versions of RESP, beside redis-server, until Ctrl-C: SEED= RUNS=
	@$(ENV) scripts/cargo build --release --locked --workspace --bin differ
	@$(ENV) exec "$$CARGO_TARGET_DIR/release/differ" $(foreach name,SEED RUNS,$(if $($(name)),$(name)=$($(name))))

compat: build ## write COMPAT.md: every command of Kvrocks and Redis 7.2, and what becomes of it here
	@$(ENV) HOLDFAST_UPDATE=1 scripts/cargo test --release --locked --workspace --test compat

big: build ## ten million elements in one key of each type: memory, and what other clients wait: ELEMENTS= TYPES= WORST=
	@$(ENV) scripts/cargo build --release --locked --workspace --bin big
	@$(ENV) exec "$$CARGO_TARGET_DIR/release/big" $(foreach name,ELEMENTS TYPES WORST,$(if $($(name)),$(name)=$($(name))))

bench: build ## figures beside redis-server in bench/results, below 3 min: AXIS=quick (or base, more, workers, 1k, 10k, 64k, 64, 1000, ttl, cold, replica, batches, compacting, insync, open, publish, handover, balancer, bytes, minutes, all) ROUNDS= OUT= MINUTES= KEYS=
	@$(ENV) scripts/cargo build --release --locked --workspace --bin bench
	@$(ENV) exec "$$CARGO_TARGET_DIR/release/bench" $(foreach name,AXIS ROUNDS OUT GUARD MINUTES KEYS,$(if $($(name)),$(name)=$($(name))))

fleet: bootstrap ## what thousands of nodes cost a controller, and hundreds of masters lost at once: CLUSTERS= SHARDS= NODES= LOST=1,100 SECONDS= ROUNDS= STORE=etcd CONTROLLERS=3
	@$(ENV) $(foreach name,CLUSTERS SHARDS NODES LOST SECONDS ROUNDS STORE CONTROLLERS,$(if $($(name)),$(name)=$($(name)))) \
		scripts/cargo test --release --locked --workspace --test fleet -- --ignored --nocapture

profile: build ## where a command spends its time, µs by stage: ARGS='SET GET HSET'; perf
	@$(ENV) scripts/profile $(ARGS)

deb: bootstrap ## the Debian package, a list of what it is made of, and checksums; PROFILE=dist: half an hour slower to build, a few percent faster to run
	@$(ENV) scripts/cargo build --profile $(or $(PROFILE),release) --locked --workspace --bin holdfast
	@$(ENV) scripts/deb "$$CARGO_TARGET_DIR/$(or $(PROFILE),release)/holdfast"

deb-test: build ## the package: lintian, install, upgrade and purge in a bare Debian 12, units under systemd; root
	@$(ENV) scripts/deb-test

browser: build ## in a real browser: pages of somebody else ask a cluster's ports for changes, all are refused; the controller's own page shows and does what it should; installs Chromium where it is missing
	@$(ENV) scripts/browser

fresh: ## clone, build, up and test in a bare Debian 12 with nothing but Rust; half an hour or more; root
	@scripts/fresh $(ARGS)
