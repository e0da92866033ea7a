# prunefront: `make demo` shows it, `make test` tests it, `make check` holds the house together, `make bench` times it.

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
DEMO := build/demo
BENCH := build/bench

.PHONY: demo test check bench chaos docs clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prunefront needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# The main job on the bundled model and images: search a whole front, confirm it on unseen images, export, draw.
demo: $(VENV)/.installed
	rm -rf $(DEMO)
	mkdir -p $(DEMO)
	cd $(DEMO) && $(BIN)/prunefront search --study demo --model shapes_vit_small --data shapes \
		--budget 40%:90% --trials 140 --images 512 --confirm-images 1024 --expect-top1 90 --output highest.json
	cd $(DEMO) && $(BIN)/prunefront export demo --best --budget 60% --output best-under-60-percent.json
	cd $(DEMO) && $(BIN)/prunefront front demo --html front.html --csv front.csv > /dev/null
	@echo "Open $(DEMO)/front.html for the picture; ask on with: cd $(DEMO) && $(BIN)/prunefront show demo"

test: $(VENV)/.installed
	$(BIN)/pytest

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What is generated of docs/: the command line, and what is called from Python.
docs: $(VENV)/.installed
	$(BIN)/python -m docs.reference

# Ratios from interleaved runs, most a table with JSON beside it; some fifty minutes on two cores. paper_scale.py wants a GPU.
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.pruned_speed --output $(BENCH)/pruned_speed.json
	$(BIN)/python -m benchmarks.prefix_cache --output $(BENCH)/prefix_cache.json
	$(BIN)/python -m benchmarks.driver_overhead --samplers tpe --output $(BENCH)/driver_overhead.json
	$(BIN)/python -m benchmarks.driver_share
	$(BIN)/python -m benchmarks.scaling --output $(BENCH)/scaling.json
	$(BIN)/python -m benchmarks.memory --output $(BENCH)/memory.json
	$(BIN)/python -m benchmarks.search_speed --output $(BENCH)/search_speed.json
	$(BIN)/python -m benchmarks.methods_comparison --output $(BENCH)/methods_comparison.json
	$(BIN)/python -m benchmarks.packed_tokens --output $(BENCH)/packed_tokens.json
	mkdir -p $(BENCH) && rm -f $(BENCH)/saved.db
	$(BIN)/prunefront search --task segmentation --model shapes_seg_small --data shapes --budget 60%:100% --study saved \
		--trials 60 --images 256 --confirm-images 1000 --db sqlite:///$(BENCH)/saved.db --output $(BENCH)/saved_layout.json
	$(BIN)/python -m benchmarks.dtop_saved saved --db sqlite:///$(BENCH)/saved.db --output $(BENCH)/dtop_saved.json
	$(BIN)/python -m benchmarks.race --samplers tpe random --output $(BENCH)/race.json
	$(BIN)/python -m benchmarks.dashboard_size --output $(BENCH)/dashboard_size.json

# Thirty kills under one search, for each kind of database; at most an hour, and it stops by itself.
chaos: $(VENV)/.installed
	$(BIN)/python -m benchmarks.chaos --output $(BENCH)/chaos.json

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
