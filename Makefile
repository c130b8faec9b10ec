# Every target works on a fresh machine with Python >= 3.11: the first one makes .venv and installs into it.

PYTHON ?= python3
WORKERS ?= 2

BIN := .venv/bin
INSTALLED := .venv/.installed
PYTEST := OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=2 MPLBACKEND=Agg $(BIN)/pytest

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all check fuzz docs bench bench-sindy-rl format clean

help:
	@echo "make demo      run a short demonstration"
	@echo "make test      run the tests that need neither minutes nor a GPU"
	@echo "make test-all  run all tests that need no GPU"
	@echo "make check     format, lint, types, layers, spelling, and the tests of the core"
	@echo "make fuzz      100,000 bad inputs, counted"
	@echo "make docs      record the physics gates and rewrite the generated pages"
	@echo "make bench     measure speed and memory, beside other solvers, in .venv-bench"
	@echo "make bench-sindy-rl  train everything that the tables of SINDy-RL show"
	@echo "make format    format the code and apply safe fixes"
	@echo "make clean     remove what tools left behind (not .venv, not runs)"

$(BIN)/python:
	$(PYTHON) -m venv .venv

# The stamp is written last, so that an interrupted installation is taken up again. Tests beside
# simglucose need none of the old packages it is pinned to, and are skipped where it is not to be had.
$(INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	-$(BIN)/python -m pip install --quiet --no-deps simglucose==0.2.11
	@touch $@

install: $(INSTALLED)

demo: install
	$(BIN)/separatrix demo

# One torch thread a worker: two workers then share two cores without fighting for them.
test: install
	$(PYTEST) -n $(WORKERS) -m "not slow and not gpu"

test-all: install
	$(PYTEST) -n $(WORKERS) -m "not gpu"

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(PYTEST) -x -q -n $(WORKERS) -m "not slow and not gpu" tests/core

fuzz: install
	$(PYTEST) -q -n $(WORKERS) --hypothesis-profile=thorough tests/fuzz

# The gates are recorded in one process, slow ones included, and only if all of them pass.
docs: install
	$(PYTEST) -q --record-gates docs/results/validation.json -m "not gpu" tests/physics tests/steppers/test_integrators.py
	$(BIN)/python docs/controllers_table.py
	MPLBACKEND=Agg $(BIN)/python docs/generate.py

bench:
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet -e . -r benchmarks/requirements.txt
	.venv-bench/bin/python benchmarks/ode_steppers.py --threads 1 --output docs/results/ode_steppers.json
	.venv-bench/bin/python benchmarks/environments.py --output docs/results/environments.json
	.venv-bench/bin/python benchmarks/planners.py swing-up throughput --output docs/results/planners.json
	.venv-bench/bin/python benchmarks/learned_planning.py --output docs/results/learned_planning.json
	.venv-bench/bin/python benchmarks/sparse_regression.py --output docs/results/sparse_regression.json
	.venv-bench/bin/python benchmarks/surrogate_speed.py --output docs/results/surrogate_speed.json
	.venv-bench/bin/python benchmarks/dm_control_check.py --output docs/results/dm_control.json

# Whole training runs: about two hours on two cores.
bench-sindy-rl: install
	$(BIN)/python benchmarks/sindy_rl.py cart-pole --output docs/results/sindy_rl_cart_pole.json
	$(BIN)/python benchmarks/sindy_rl.py distillation --run "$$(ls -d runs/benchmark/cart_pole/SINDy-RL/1/*/*/*)" --output docs/results/sindy_rl_distillation.json
	$(BIN)/python benchmarks/sindy_rl.py ablation --output docs/results/sindy_rl_ablation.json
	$(BIN)/python benchmarks/sindy_rl.py swimmer --output docs/results/sindy_rl_swimmer.json
	$(BIN)/python benchmarks/sindy_rl_systems.py --output docs/results/sindy_rl_systems.json

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
