# `make demo` and `make test` do everything on a fresh machine: they make .venv, install into it and run.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test test-all release quick check format proto simulate fuzz mutants coverage docs bench micro ratios soak clean

demo: $(VENV)/.installed
	@$(BIN)/limpet demo

# A test of sockets also waits: ten run at a time, and keep two cores busy. WORKERS=0: one after the other, as a debugger
# wants it. Each worker begins with files that take long (tests/helpers/order.py).
WORKERS ?= 10
# ENGINE=valkey-server: the cluster of the tests has another engine than redis-server.
ifdef ENGINE
export LIMPET_TEST_ENGINE := $(ENGINE)
endif
# Python keeps the compiled tests: without that each worker compiles them anew, for four seconds.
unexport PYTHONDONTWRITEBYTECODE
test: $(VENV)/.compiled
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

# The tests, or PART="tests/core", on each Python of this machine, or on PYTHONS="python3.13 /path/of/python3.14"; OTHERS=1
# leaves out that of `make test`. Environments of their own; a table at the end (see tests/pythons/).
test-all:
	$(PYTHON) -m tests.pythons --workers $(WORKERS) --pythons "$(PYTHONS)" $(if $(OTHERS),--others) $(PART) $(ARGS)

# Builds dist/, checks it, tries the wheel with each extra, and prints what to upload; DRAFT=1: at any time.
release: $(VENV)/.tested
	$(BIN)/python -m tests.release $(if $(DRAFT),--draft) $(ARGS)

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
	if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint examples/docker/Dockerfile; fi
	$(BIN)/compose-lint --quiet examples/docker/compose.yaml examples/docker/cluster.compose.yaml
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

# The documentation, into docs/_build/html; a warning is an error, such as a link or a name that leads nowhere.
docs: $(VENV)/.documented
	$(BIN)/python -m sphinx --quiet --nitpicky --fail-on-warning --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# Ours beside the official clients, in one run against one server; writes goals and chart into docs/explanation/
# performance.md, and the tables into docs/reference/measurements.md. BENCH="--quick" is a look of a few minutes that
# writes nothing (see benchmarks/README.md).
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
	@$(PYTHON) tools/install.py $(VENV) "Limpet with all extras, and what they need" --editable ".[all]"
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	@$(PYTHON) tools/install.py $(VENV) "what the tests need" --group test
	@touch $@

# In a fresh clone each worker would compile all tests, for eight seconds: two processes do it before, each some of them.
# An error in a test is told by the run that follows.
COLLECT := $(BIN)/python -m pytest --collect-only -qq
$(VENV)/.compiled: $(VENV)/.tested
	@$(COLLECT) tests/core tests/cli tests/docs tests/examples >/dev/null & \
		$(COLLECT) $(filter-out tests/__pycache__ tests/core tests/cli tests/docs tests/examples,$(patsubst %/,%,$(wildcard tests/*/))) \
		>/dev/null; wait; touch $@

$(VENV)/.checked: $(VENV)/.tested
	@$(PYTHON) tools/install.py $(VENV) "formatter, linter and type checkers" --group check
	@touch $@

$(VENV)/.documented: $(VENV)/.tested pyproject.toml
	@$(PYTHON) tools/install.py $(VENV) "what the documentation needs" --group docs
	@touch $@

$(VENV)/.benched: $(VENV)/.tested pyproject.toml
	@$(PYTHON) tools/install.py $(VENV) "what benchmarks need" --group bench
	@touch $@

$(VENV)/.fuzzed: $(VENV)/.tested
	@$(PYTHON) tools/install.py $(VENV) "what fuzzing needs" --group fuzz
	@touch $@

$(VENV)/.mutating: $(VENV)/.tested
	@$(PYTHON) tools/install.py $(VENV) "what mutation testing needs" --group mutants
	@touch $@

$(VENV)/proto/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)/proto
	$(VENV)/proto/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(VENV)/proto/bin/python -m pip install --quiet --disable-pip-version-check --group proto
	touch $@

clean:
	rm -rf $(VENV) .mutants docs/_build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
