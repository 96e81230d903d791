# What one does with vnet from a checkout; `make help` tells the targets.
#
# Python >= 3.10 with pip and venv, cargo, make and git are all that must be there.  Everything is built and installed
# into .venv, which appears when it is missing; stamps in it keep what is up to date from being done again.

PYTHON ?= python3
CARGO  ?= cargo
OUT    ?= out/quickstart
FUZZ_SECONDS ?= 900
VENV   := .venv
# Where rustup puts cargo, for shells that do not know it.
export PATH := $(PATH):$(HOME)/.cargo/bin
BIN    := $(VENV)/bin

RUST_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(wildcard vnet/*.rs) \
	$(wildcard */Cargo.toml) $(shell find base bench bus drivers tables -name '*.rs' -path '*/src/*')
# maturin calls pip; both tell more than one wants to read.
export PIP_QUIET := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
MATURIN      := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --locked
PIP          := $(BIN)/python -m pip
# The models use a part of the crate only.
LOOM         := RUSTFLAGS="--cfg loom --allow dead_code" $(CARGO) test --locked --package vnet-base --package vnet-bus --package vnet-tables --release --test 'loom*' --target-dir target/loom

.DEFAULT_GOAL := help
.PHONY: help run build dev test check bench bench-stacks fuzz soak clean

help: ## tell the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

run: build ## build, and run topologies/quickstart.yaml
	@$(BIN)/vnet run quickstart --out $(OUT)
	@echo "look at it with: tshark -r $(OUT)/capture.pcapng   (or Wireshark); the report is $(OUT)/report.json"

build: $(VENV)/.built ## build vnet into .venv

dev: $(VENV)/.dev

test: dev ## build, and run every test: Rust, models, Python, labs, README and documentation
	@tools/system-packages --check
	$(CARGO) test --locked --workspace --quiet
	$(LOOM) --quiet
	@tools/fuzz --seconds 3 || { [ $$? = 3 ] && [ -z "$$CI" ]; } # without a C++ compiler only CI stops
	$(BIN)/python -m pytest

check: dev ## formatting, lints, types, and the stub against the built module
	@tools/toolchain --lints
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest vnet._native

bench: build ## measure the LAN beside bare references
	@$(BIN)/vnet bench

# The bare loop is the one of the peers that is built here.
bench-stacks: build ## measure Linux stacks on vnet beside other ways of joining them (STACKS: options)
	@$(CARGO) build --release --locked --quiet --package vnet-bench --bin tap_loop
	@$(BIN)/python -m bench.stacks $(STACKS)

fuzz: ## feed what takes bytes from guests with a fuzzer's inputs, FUZZ_SECONDS (900) for each target
	@tools/fuzz --seconds $(FUZZ_SECONDS)

soak: dev ## the long forms: 2,000 kills of guests, 2,000 of guests that share, 600 of labs, and properties with many examples
	$(BIN)/python -m tests.killing --kills 2000
	$(BIN)/python -m tests.killing.sharing --kills 2000
	$(BIN)/python -m tests.live.killing --kills 600
	PROPTEST_CASES=20000 $(CARGO) test --locked --workspace --release --quiet
	VNET_EXAMPLES=50 $(BIN)/python -m pytest --timeout=3600 $(shell grep -rl 'import.* examples' tests --include='test_*.py')

clean: ## remove what was built
	rm -rf $(VENV) target dist out vnet/_native.abi3.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment whose Python has gone is made anew.
$(VENV)/.pip: pyproject.toml tools/toolchain
	@tools/toolchain $(PYTHON) $(CARGO)
	@$(BIN)/python -c '' 2>/dev/null || { rm -rf $(VENV); echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@$(PIP) install $(shell sed -n 's/^requires = \["\(.*\)"\]/"\1"/p' pyproject.toml)
	@touch $@

$(VENV)/.built: $(VENV)/.pip $(RUST_SOURCES)
	@echo "building vnet into $(VENV) (a first build takes a minute or two)"
	@$(MATURIN)
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.built
	@echo "installing what tests and checks need"
	@$(MATURIN) --quiet --extras dev
	@touch $@
