# Two commands for a fresh clone: `make quickstart` and `make test`. Both create .venv first.

PYTHON ?= python3
WORKDIR ?= runs/quickstart
STEPS ?=# training steps, for a shorter or longer quickstart; empty: as in the config
VENV := .venv
RUN := $(VENV)/bin/python

# Large memory pages: a training step on the CPU takes 15% less time (glibc reads this, nothing else does).
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: quickstart test test-all check site clean

quickstart: $(VENV)/installed  ## Trains on the procedural world, evaluates on unseen worlds, draws depth maps.
	$(RUN) -m robustdepth.train --config=configs/world_quickstart.py --workdir=$(WORKDIR) \
	  $(if $(STEPS),--config.optimizer.steps=$(STEPS))
	$(RUN) -m robustdepth.evaluate --workdir=$(WORKDIR) --protocols=world --output=$(WORKDIR)/eval --overwrite
	$(RUN) -m robustdepth.sample world --output=$(WORKDIR)/images
	$(RUN) -m robustdepth.predict --checkpoint=$(WORKDIR) $(WORKDIR)/images --camera=$(WORKDIR)/images \
	  --output=$(WORKDIR)/predictions --overwrite
	@echo
	@echo "The table above is in $(WORKDIR)/eval/report.md, with pictures; the numbers are in report.json beside it."
	@echo "Depth of unseen streets: $(WORKDIR)/predictions/*_color.png (near is bright), of the images in $(WORKDIR)/images."
	@echo "The training's curves: $(WORKDIR)/metrics.jsonl, or tensorboard --logdir=$(WORKDIR)"
	@echo "Next: your own video. README.md says how."

test: $(VENV)/installed-dev  ## Runs the tests.
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: export ROBUSTDEPTH_ALL_TESTS := 1
test-all: test  ## Runs also the few tests that take minutes each.

check: $(VENV)/installed-dev  ## Style and types.
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

site: $(VENV)/installed-dev  ## Builds the documents as pages, build/site; broken links are errors.
	rm -rf build/pages build/site && mkdir -p build/pages
	git ls-files '*.md' docs configs/base.py robustdepth/registry.py tests/test_extending.py | tar -cf - -T - | \
	  tar -xf - -C build/pages
	cp docs/zensical.toml build/zensical.toml
	cd build && ../$(VENV)/bin/zensical build --strict

clean:  ## Removes the environment; runs/ stays.
	rm -rf $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/installed

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "robustdepth needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $@
