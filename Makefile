# What a newcomer types: `make demo`, then `make test`. What CI runs: `.ci/run`, which calls the targets below.
# Everything is installed into .venv; stamp files there keep a second `make` from installing again.

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints/ci.txt
# Installing again is needed only when what is to be installed has changed.
WANTED := pyproject.toml constraints/ci.txt
ORACLES := constraints/oracles.txt

.PHONY: demo test lint types docs bench format clean

demo: $(STAMPS)/headless  ## segment a large composed image with the built-in model and compare with the known labels
	$(BIN)/python -m napari_sam.workflows.samples.demo --out demo-output

test: $(STAMPS)/dev $(STAMPS)/system-libraries  ## everything, the GUI included, under a virtual screen
	bash .ci/pytest $(BIN)/python $(PYTEST_ARGS)

lint: $(STAMPS)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMPS)/dev
	$(BIN)/mypy

docs: $(STAMPS)/dev  ## run the examples of README, docs and docstrings; resolve the links
	bash .ci/pytest $(BIN)/python tests/test_docs_examples.py

bench: $(STAMPS)/dev  ## measure every piece beside the plain way or the public reference; minutes (docs/speed.md)
	$(BIN)/python -m benchmarks --markdown benchmarks.md --json benchmarks.json

format: $(STAMPS)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo-output

$(STAMPS)/venv: .ci/venv
	bash .ci/venv $(VENV)
	mkdir -p $(STAMPS)
	touch $@

$(STAMPS)/headless: $(STAMPS)/venv $(WANTED)
	$(INSTALL) --editable .
	touch $@

$(STAMPS)/dev: $(STAMPS)/venv $(WANTED) $(ORACLES)
	$(INSTALL) --editable '.[dev]'
	$(INSTALL) --no-deps --requirement $(ORACLES)
	touch $(STAMPS)/headless $@

# Never fails: without these libraries the GUI tests are left out, loudly (.ci/pytest), and the rest still runs.
$(STAMPS)/system-libraries: $(STAMPS)/venv .ci/system-libraries
	bash .ci/system-libraries && touch $@ || true
