# `make demo` and `make test` need Python >= 3.11, a C++ compiler (for torch.compile) and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One per core of the smallest machine that is to run the tests.
WORKERS ?= 2

.PHONY: demo test native-test check clean

demo: $(VENV)/.installed
	$(BIN)/convgate demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --durations 15

# The kernels and the native runtime under AddressSanitizer and UndefinedBehaviorSanitizer; SANITIZE=thread for the threads.
SANITIZE ?= address;undefined
NATIVE_BUILD ?= build/native-$(subst ;,-,$(SANITIZE))

native-test: $(VENV)/.installed
	test -x $(BIN)/cmake -a -x $(BIN)/ninja || $(BIN)/python -m pip install --quiet --disable-pip-version-check cmake ninja
	$(BIN)/cmake -S . -B "$(NATIVE_BUILD)" -G Ninja -DCMAKE_MAKE_PROGRAM="$(abspath $(BIN)/ninja)" \
		-DCONVGATE_NATIVE_TESTS=ON "-DCONVGATE_SANITIZE=$(SANITIZE)"
	$(BIN)/cmake --build "$(NATIVE_BUILD)"
	"$(NATIVE_BUILD)/native/tests/native_tests"

check: $(VENV)/.installed
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

# Installed anew when the dependencies change; the package itself is installed in place.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "convgate needs Python >= 3.11; name one as: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
