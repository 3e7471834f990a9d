# Everything here does its own set-up; it needs cargo, a C compiler, python3 with pip, and make.
SHELL := /bin/sh
PYTHON ?= python3
ONNXRUNTIME := target/onnxruntime/lib/libonnxruntime.so.1.31.1
TEST_VENV := target/test-venv
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := target/tools/bin/cargo-deny

.PHONY: help run test lint bench clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

run: $(ONNXRUNTIME)  ## Serve the signed demo models on https://127.0.0.1:8443, with throw-away keys
	cargo build --release --locked
	target/release/vitalgate dev

test: $(ONNXRUNTIME) $(TEST_VENV)/ready  ## Run all tests
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --locked --workspace --all-targets && cargo test --locked --doc; \
	else \
		cargo test --locked --workspace; \
	fi

lint: $(CARGO_DENY)  ## Check format, lints, licences and dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO_DENY) --locked check bans licenses sources
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items

bench: $(ONNXRUNTIME)  ## Measure
	cargo bench --locked

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
	$(TEST_VENV)/bin/pip install --disable-pip-version-check --quiet -r tests/requirements.txt
	@touch $@

$(CARGO_DENY):
	cargo install --locked --version $(CARGO_DENY_VERSION) --root target/tools cargo-deny
