# `make demo` and `make test` do everything on a fresh machine: they make .venv, install into it and run.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test quick check format proto simulate fuzz mutants coverage bench micro ratios soak clean

demo: $(VENV)/.installed
	$(BIN)/limpet demo

# Most of the time of a test is waiting: six run at a time. WORKERS=0: one after the other, as a debugger wants it.
WORKERS ?= 6
# Python keeps the compiled tests: without that each worker compiles them anew, for four seconds.
unexport PYTHONDONTWRITEBYTECODE
test: $(VENV)/.tested
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

# The minute before a commit: formatting, lint, types, the core's tests and one adapter's contract.
quick: $(VENV)/.checked
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -k "not test_contract or asyncio] and not anyio and not tls" \
		tests/core tests/adapters/test_contract.py

# Formatting, lint, types and the import contracts.
check: $(VENV)/.checked
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes limpet_core --ignoreexternal
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes limpet --ignoreexternal

format: $(VENV)/.checked
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The Python code of the protobuf messages, from their schema. The compiler has an environment of its own, since it needs
# an older protobuf than a client may have.
PROTO := limpet_core/protocol/protobuf
proto: $(VENV)/proto/.installed
	cd core && PATH="$(CURDIR)/$(VENV)/proto/bin:$$PATH" python -m grpc_tools.protoc \
		-I $(PROTO)/_wire=$(PROTO) --python_out=. --mypy_out=quiet:. $(PROTO)/_wire/webpubsub.proto

# Many sessions and the service over a network that fails, in virtual time; see simulation/.
SEEDS ?= 10000
simulate: $(VENV)/.tested
	$(BIN)/python -m simulation --seeds $(SEEDS)

# Every target for so many seconds; a crash is written to fuzz/corpus/<target>/ and fails.
SECONDS ?= 60
fuzz: $(VENV)/.fuzzed
	$(BIN)/python -m fuzz.run --seconds $(SECONDS)

# Change the heart of the core a little, again and again, and see that a test notices; see tests/mutants/.
JOBS ?= $(shell nproc)
mutants: $(VENV)/.mutating
	$(BIN)/python -m tests.mutants --jobs $(JOBS)

# The core, line by line and branch by branch.
coverage: $(VENV)/.tested
	$(BIN)/coverage run --source=limpet_core -m pytest -q tests/core tests/adapters/service
	$(BIN)/coverage report --include="core/*" --show-missing --skip-covered --fail-under=100

# Ours beside the official clients, in one run against one server; writes tables and chart into docs/performance.md.
# BENCH="--quick" is a look of a few minutes that writes nothing (see benchmarks/README.md).
bench: $(VENV)/.benched
	@if command -v npm >/dev/null; then npm install --silent --prefix benchmarks; fi
	$(BIN)/python benchmarks/bench.py $(BENCH)

# The core alone, to compare commits: make micro ARGS="-o before.json", later ARGS="-o after.json", then
# .venv/bin/python -m pyperf compare_to before.json after.json
micro: $(VENV)/.benched
	$(BIN)/python benchmarks/micro.py $(ARGS)

# Ratios within one run that must hold on any machine; a few seconds.
ratios: $(VENV)/.tested
	$(BIN)/python benchmarks/ratios.py

# Every client, ours and the official ones, through the same faults (see benchmarks/soak/README.md).
SEED ?= 1
soak: $(VENV)/.benched
	@if command -v npm >/dev/null; then npm install --silent --prefix benchmarks; fi
	$(BIN)/python -m benchmarks.soak --seconds $(SECONDS) --seed $(SEED)

$(VENV)/.installed: pyproject.toml
	@echo "installing into $(VENV) (about 20 s) ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[all]"
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group test
	touch $@

$(VENV)/.checked: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group check
	touch $@

$(VENV)/.benched: $(VENV)/.tested pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench
	touch $@

$(VENV)/.fuzzed: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group fuzz
	touch $@

$(VENV)/.mutating: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group mutants
	touch $@

$(VENV)/proto/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)/proto
	$(VENV)/proto/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(VENV)/proto/bin/python -m pip install --quiet --disable-pip-version-check --group proto
	touch $@

clean:
	rm -rf $(VENV) .mutants build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
