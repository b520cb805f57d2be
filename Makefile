# The one command surface: people, the README and CI use these. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

CARGO ?= cargo
CARGO_TARGET_DIR ?= target
# Absolute: tests run in their own folders.
override CARGO_TARGET_DIR := $(abspath $(CARGO_TARGET_DIR))
export CARGO_TARGET_DIR
TARGET := wasm32-wasip2
COMPONENTS := $(sort $(notdir $(patsubst %/plugin.json,%,$(wildcard plugins/*/plugin.json))))
# Those without `std` are built apart: in one call cargo would give their libraries the features that the others need.
SMALL := $(sort $(notdir $(patsubst %/src/lib.rs,%,$(shell grep -l '^brokle_plugin::no_std!' plugins/*/src/lib.rs))))
# No path of this machine in them: they are the same wherever they are built.
ANYWHERE := --config 'target.$(TARGET).rustflags=["--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo","--remap-path-prefix=$(CURDIR)=/brokle"]'
# Where the host looks for components, and where a release takes them from.
export BROKLE_PLUGINS_DIR ?= $(abspath $(CARGO_TARGET_DIR))/$(TARGET)/guest
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

LICENSED := $(sort $(notdir $(patsubst %/,%,$(wildcard ee-plugins/*/))))
GUESTS := $(sort $(notdir $(patsubst %/,%,$(wildcard tests/guests/*/))))
# With LINT=build (as .ci/run has it) the linter, which is the compiler with more to say, compiles what tests are made of, components
# too: on a machine where nothing is built yet, checking first would take minutes for the dependencies alone. Named by a setting rather than in
# the environment, so that what tests build themselves is built as ever.
TESTED := --workspace $(addprefix --exclude ,$(GUESTS) $(SMALL))
ifeq ($(LINT),build)
LINTING := --config 'build.rustc-workspace-wrapper="clippy-driver"'
# As cargo clippy would hand over `-D warnings`.
lint test: export CLIPPY_ARGS := -Dwarnings__CLIPPY_HACKERY__
lint: plugins ee-plugins guests
endif

.PHONY: help doctor run build release plugins ee-plugins guests test dev-services lint bench bench-features bench-dialects bench-plugins bench-telemetry soak fuzz docs dist profile bench-decode

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

doctor: ## Say what this machine lacks, and how to get it
	@scripts/doctor.sh

run: plugins ## Build host and plugins, and start on SQLite with nothing else
	$(CARGO) run -p brokle -- serve --quickstart

build: plugins ## Build host and plugins
	$(CARGO) build -p brokle

plugins: ## Build every component
	$(CARGO) $(LINTING) $(ANYWHERE) build --profile guest --target $(TARGET) $(addprefix -p ,$(filter-out $(SMALL),$(COMPONENTS)))
	$(CARGO) $(LINTING) $(ANYWHERE) build --profile guest --target $(TARGET) $(addprefix -p ,$(SMALL))

guests: ## Build the components that the tests misbehave with
	$(CARGO) $(LINTING) $(ANYWHERE) build --profile guest-test --target $(TARGET) $(addprefix -p ,$(GUESTS))

ee-plugins: ## Build the licensed components, which no gateway takes for built-in
	$(CARGO) $(LINTING) $(ANYWHERE) build --profile guest-ee --target $(TARGET) $(addprefix -p ,$(LICENSED))

# What a release spends its time on (profile/README.md). Its name says its content: cargo sees a new one.
PROFILE := $(CARGO_TARGET_DIR)/profile-$(shell cksum < profile/brokle.profdata.gz | cut -d' ' -f1).profdata
# Named, so that the flags are for the host's own code and not for what builds it.
HOST := $(shell rustc -vV | sed -n 's/^host: //p')

$(PROFILE): profile/brokle.profdata.gz
	@mkdir -p $(@D)
	gunzip -c $< > $@

release: plugins $(PROFILE) ## Build one file with the components in it
	RUSTFLAGS="$(RUSTFLAGS) -Cprofile-use=$(PROFILE)" $(CARGO) build --release --target $(HOST) -p brokle --features embed-plugins
	@cksum < Cargo.lock | cmp -s - profile/made-for || echo "release: Cargo.lock isn't the one that the profile was made for: make profile" >&2
	@mkdir -p $(CARGO_TARGET_DIR)/release
	cp -f $(CARGO_TARGET_DIR)/$(HOST)/release/brokle $(CARGO_TARGET_DIR)/release/brokle

profile: plugins ## Make the profile that a release is built with anew
	scripts/profile.sh

# Tests wait for servers more than they compute.
test: export RUST_TEST_THREADS ?= $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN))
test: doctor plugins ee-plugins guests ## Run every test, those with real clients too
	scripts/guest_tools.sh
	scripts/clickhouse_dev.sh
	scripts/s3_dev.sh
	$(CARGO) $(LINTING) test $(TESTED)
	$(CARGO) $(LINTING) test --lib $(addprefix -p ,$(SMALL))
	@if [ -x tests/clients/run.sh ]; then tests/clients/run.sh; fi

dev-services: doctor ## Start PostgreSQL, Redis, ClickHouse and S3 to try things with; Ctrl-C ends them
	scripts/clickhouse_dev.sh
	scripts/s3_dev.sh
	$(CARGO) build -q -p brokle-clickhouse-dev -p brokle-test-services
	@$(CARGO_TARGET_DIR)/debug/dev-services

lint: ## Check format, lints, licences and sources
	$(CARGO) fmt --all --check
ifeq ($(LINT),build)
	$(CARGO) $(LINTING) test --no-run --all-targets $(TESTED)
	$(CARGO) $(LINTING) test --no-run --lib $(addprefix -p ,$(SMALL))
else
	$(CARGO) clippy --workspace --all-targets -- -D warnings
endif
	scripts/deny.sh
	scripts/wit_reference.py --check

bench-plugins: plugins ee-plugins guests ## Measure what a sandbox costs, and what bad neighbors do
	scripts/guest_tools.sh
	tools=$(CARGO_TARGET_DIR)/guest-tools; export PATH=$$tools/venv/bin:$$tools/js/node_modules/.bin:$$PATH; \
	for policy in python js; do $(CARGO) run -q -p brokle -- plugin build sdk/examples/policy-$$policy || exit 1; done
	$(CARGO) bench -p brokle-runtime --bench plugins
	$(CARGO) bench -p brokle-runtime --bench translation
	$(CARGO) bench -p brokle-runtime --bench neighbors

bench: release ## Measure the gateway against a bare proxy
	$(CARGO) build --release -p brokle-bench
	$(CARGO_TARGET_DIR)/release/bench run --floor $(CARGO_TARGET_DIR)/release/floor --brokle $(CARGO_TARGET_DIR)/release/brokle

bench-decode: ## Measure what reading spans takes, beside a bare Protobuf decode
	$(CARGO) bench -p brokle-telemetry --bench decode

bench-features: release ## Measure what each feature adds, alone and all together
	$(CARGO) build --release -p brokle-bench
	$(CARGO_TARGET_DIR)/release/bench features --floor $(CARGO_TARGET_DIR)/release/floor --brokle $(CARGO_TARGET_DIR)/release/brokle

bench-dialects: release ## Measure what translation and large bodies cost
	$(CARGO) build --release -p brokle-bench
	$(CARGO_TARGET_DIR)/release/bench dialects --floor $(CARGO_TARGET_DIR)/release/floor --brokle $(CARGO_TARGET_DIR)/release/brokle

TELEMETRY_ROWS ?= 10000000
# Or clickhouse: the development server beside Redis, or the server that CLICKHOUSE_URL names.
TELEMETRY_STORE ?= embedded
bench-telemetry: release ## Send spans as fast as they are taken, and ask over TELEMETRY_ROWS of them, in TELEMETRY_STORE
	$(CARGO) build --release -p brokle-bench -p brokle-clickhouse-dev
	if [ "$(TELEMETRY_STORE)" = clickhouse ] && [ -z "$$CLICKHOUSE_URL" ]; then scripts/clickhouse_dev.sh; fi
	$(CARGO_TARGET_DIR)/release/bench telemetry --brokle $(CARGO_TARGET_DIR)/release/brokle --rows $(TELEMETRY_ROWS) --store $(TELEMETRY_STORE)

SOAK_MINUTES ?= 60
soak: release ## Hold the gateway against load that isn't fair, and an hour of everyday (SOAK_MINUTES)
	$(CARGO) build --release -p brokle-bench
	$(CARGO_TARGET_DIR)/release/bench soak --floor $(CARGO_TARGET_DIR)/release/floor --brokle $(CARGO_TARGET_DIR)/release/brokle --minutes $(SOAK_MINUTES)

FUZZ_SECONDS ?= 60
fuzz: ## Fuzz every reader of foreign bytes, a minute each (needs cargo-fuzz and a nightly compiler)
	@cargo +nightly fuzz --version >/dev/null 2>&1 || { echo 'missing: cargo-fuzz or a nightly compiler: rustup toolchain install nightly && cargo install cargo-fuzz' >&2; exit 1; }
	cd fuzz && for target in $$(sed -n 's/^name = "\([a-z]*\)"$$/\1/p' Cargo.toml); do \
		cargo +nightly fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=65536 || exit 1; done

docs: plugins ## Write the generated documents anew
	$(CARGO) run -q -p brokle -- openapi > docs/openapi.json.new
	mv docs/openapi.json.new docs/openapi.json
	scripts/wit_reference.py
	BROKLE_BLESS=1 $(CARGO) test -q --workspace $(addprefix --exclude ,$(GUESTS) policy-priority provider-openai) --test providers_doc

dist: release ## Pack a release
	scripts/dist.sh $(VERSION)
