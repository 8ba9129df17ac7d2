# `make demo` and `make test` need Python >= 3.11, a C++ compiler (for torch.compile) and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One per core of the smallest machine that is to run the tests.
WORKERS ?= 2

.PHONY: demo test native-test arm-test avx512-test costs guard wheel-test torch-test hardware-verify check docs clean

demo: $(VENV)/.installed
	$(BIN)/convgate demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --durations 15

# The kernels and the native runtime under AddressSanitizer and UndefinedBehaviorSanitizer; SANITIZE=thread for the threads,
# SANITIZE= for none; OPTIMISATION=-O0; CXX=clang++ for another compiler; NATIVE_TESTS for some of the tests.
SANITIZE ?= address;undefined
OPTIMISATION ?= -O3
NATIVE_BUILD ?= build/native-$(notdir $(CXX))-$(subst ;,-,$(SANITIZE))$(OPTIMISATION)
NATIVE_TESTS ?=
NATIVE_TARGETS ?= native_tests

# What builds the native tests.
.PHONY: builders
builders: $(VENV)/.installed
	test -x $(BIN)/cmake -a -x $(BIN)/ninja || $(BIN)/python -m pip install --quiet --disable-pip-version-check cmake ninja

native-test: builders
	CXX="$(CXX)" $(BIN)/cmake -S . -B "$(NATIVE_BUILD)" -G Ninja -DCMAKE_MAKE_PROGRAM="$(abspath $(BIN)/ninja)" \
		-DCONVGATE_NATIVE_TESTS=ON "-DCONVGATE_SANITIZE=$(SANITIZE)" "-DCONVGATE_OPTIMISATION=$(OPTIMISATION)"
	$(BIN)/cmake --build "$(NATIVE_BUILD)" --target $(NATIVE_TARGETS)
	"$(NATIVE_BUILD)/native/tests/native_tests" $(NATIVE_TESTS)

# The native tests for AArch64, by a cross-compiler under QEMU (Debian: g++-aarch64-linux-gnu, qemu-user-static): processors
# with each of the instructions that kernels ask for, and with none.
ARM_CXX ?= aarch64-linux-gnu-g++
ARM_RUN ?= qemu-aarch64-static
ARM_BUILD ?= build/native-aarch64
ARM_TESTS ?= --iterations 40 kernels bf16 bf16_winograd int8 int8_networks malformed networks bf16_networks pool
arm-test: builders
	$(BIN)/cmake -S . -B "$(ARM_BUILD)" -G Ninja -DCMAKE_MAKE_PROGRAM="$(abspath $(BIN)/ninja)" -DCONVGATE_NATIVE_TESTS=ON \
		-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER="$(ARM_CXX)" -DCMAKE_EXE_LINKER_FLAGS=-static
	$(BIN)/cmake --build "$(ARM_BUILD)" --target native_tests
	$(ARM_RUN) -cpu max "$(ARM_BUILD)/native/tests/native_tests" --require neoni8mm --require neonbf16 $(ARM_TESTS)
	$(ARM_RUN) -cpu neoverse-n1 "$(ARM_BUILD)/native/tests/native_tests" --require neondot $(ARM_TESTS)
	$(ARM_RUN) -cpu cortex-a57 "$(ARM_BUILD)/native/tests/native_tests" --require neon $(ARM_TESTS)

# The native tests with AVX-512 emulated (Debian: libsimde-dev), for processors without it; nothing is optimised.
AVX512_BUILD ?= build/native-avx512
AVX512_TESTS ?= --iterations 40 kernels bf16 bf16_winograd int8 int8_winograd int8_networks networks bf16_networks
avx512-test: builders
	CXX="$(CXX)" $(BIN)/cmake -S . -B "$(AVX512_BUILD)" -G Ninja -DCMAKE_MAKE_PROGRAM="$(abspath $(BIN)/ninja)" -DCONVGATE_NATIVE_TESTS=ON \
		-DCONVGATE_EMULATED=ON -DCONVGATE_OPTIMISATION=-O0
	$(BIN)/cmake --build "$(AVX512_BUILD)" --target $(NATIVE_TARGETS)
	"$(AVX512_BUILD)/native/tests/native_tests" --require avx512vnni --require avx512bf16 --require avx512 $(AVX512_TESTS)

# What work costs here, beside what the runtime takes it to cost; written to benchmarks/results.
COSTS_BUILD ?= build/native-costs
costs: builders
	CXX="$(CXX)" $(BIN)/cmake -S . -B "$(COSTS_BUILD)" -G Ninja -DCMAKE_MAKE_PROGRAM="$(abspath $(BIN)/ninja)" -DCONVGATE_NATIVE_TESTS=ON
	$(BIN)/cmake --build "$(COSTS_BUILD)" --target native_costs
	$(BIN)/python benchmarks/costs.py "$(COSTS_BUILD)/native/benchmarks/native_costs"

# Six layers' GMAC/s, as shares of what the machine reaches, against loose floors.
guard: $(VENV)/.installed
	$(BIN)/python benchmarks/guard.py

# A gated ResNet-20 in 8-bit integers on the 16x16 RTL, compared with the integers and the simulator; recorded in
# benchmarks/results. CIFAR=cifar10.npz for real images, NETWORK for a checkpoint of yours, WEIGHTS for its weights alone.
IMAGES ?= 4
hardware-verify: $(VENV)/.installed
	$(BIN)/python benchmarks/hardware_verify.py --images $(IMAGES) $(if $(CIFAR),--cifar "$(CIFAR)") \
		$(if $(NETWORK),--network "$(NETWORK)") $(if $(WEIGHTS),--weights "$(WEIGHTS)")

check: $(VENV)/.installed
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(MAKE) --no-print-directory docs

# The pages and the API reference, as a site in build/site.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# The built wheel in an environment of its own: NumPy, safetensors and nothing else.
wheel-test: $(VENV)/.installed
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --wheel --outdir build/wheel . > build/wheel/log.txt || { cat build/wheel/log.txt; exit 1; }
	$(BIN)/python tests/install/write_cgm.py build/wheel
	$(PYTHON) -m venv --clear build/wheel/venv
	build/wheel/venv/bin/pip install --quiet --disable-pip-version-check build/wheel/*.whl
	cd build/wheel && venv/bin/python ../../tests/install/run_cgm.py . && venv/bin/python ../../tests/install/every_isa.py

# Files written under the oldest torch that is supported load under the newest, and the other way round.
OLDEST_TORCH ?= torch==2.13.*
torch-test: $(VENV)/.installed
	test -f $(VENV)-oldest/.installed || { $(PYTHON) -m venv --clear $(VENV)-oldest && \
		$(VENV)-oldest/bin/pip install --quiet --disable-pip-version-check $(OLDEST_TORCH) numpy safetensors rich && \
		touch $(VENV)-oldest/.installed; }
	$(BIN)/python tests/install/exchange.py $(VENV)-oldest/bin/python

# Installed anew when the dependencies or the native module's sources change; the package itself is installed in place.
NATIVE := CMakeLists.txt $(shell find native -not -path 'native/tests*' -not -path 'native/benchmarks*' -type f)
$(VENV)/.installed: pyproject.toml $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "convgate needs Python >= 3.11; name one as: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
