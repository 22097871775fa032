# Two commands: `make` builds Tereza and answers a query; `make test` installs what the tests need and runs them all.

TARGET := $(or $(CARGO_TARGET_DIR),target)
TEREZA := $(TARGET)/release/tereza
# Where scripts/test-setup.sh puts what the tests need.
TEST_HOME := $(or $(TEREZA_TEST_HOME),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tereza)

.PHONY: all build demo test lint fmt bench clean

all: build demo

build:
	cargo build --release --locked

# Queries over generated data and over a real file, with nothing else running.
demo: build
	@scripts/demo.sh $(TEREZA)

test:
	scripts/test-setup.sh
	@rm -f $(TARGET)/missing-components
	TEREZA_TEST_PYTHON=$(TEST_HOME)/venv/bin/python TEREZA_TEST_SPARK=$(TEST_HOME)/spark/bin/python \
		TEREZA_TEST_NODE_MODULES=$(TEST_HOME)/node/node_modules \
		TEREZA_TEST_RUST_REGISTRY_CLIENT=$(TEST_HOME)/bin/tereza-registry-rust-client \
		TEREZA_TEST_RUST_METASTORE_CLIENT=$(TEST_HOME)/bin/tereza-metastore-rust-client \
		cargo test --release --locked --workspace
	cargo test --locked --manifest-path registry/oracle/Cargo.toml
	@if [ -s $(TARGET)/missing-components ]; then echo; echo "NOT TESTED, because something is missing:"; sort -u $(TARGET)/missing-components; fi

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

fmt:
	cargo fmt --all

bench: build
	$(TEREZA) bench tpch --sf 1 --runs 5 --vs duckdb

clean:
	cargo clean
