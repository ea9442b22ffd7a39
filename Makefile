# The project's commands. `make install` needs Python 3.11 or later, pip and make, and nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo tools slurm test test-long test-slurm quick lint docs audit bench faults mutants clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "theseus-bench needs Python 3.11 or later; name one: make PYTHON=python3.12 install")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

# One preloaded process serves all the short runs of the demo: see theseus-bench with-preload --help.
DEMO = PATH="$(CURDIR)/$(BIN):$$PATH" theseus-bench with-preload snakemake --cores all

demo: install
	$(DEMO) --configfile config/demo.yaml
	@echo "The report is at $(CURDIR)/results/demo/report/index.html"

# An experiment that the demo leaves out, by its name, as demo-transfer; demo-all: all of them, and the report on all.
demo-%: install
	$(DEMO) $* --configfile config/demo.yaml config/demo-more.yaml

# What the tests of the report's page, its PDF and the LaTeX tables run in, from Debian's packages; without them these tests are skipped.
tools:
	apt-get update --quiet
	apt-get install --yes --quiet --no-install-recommends chromium poppler-utils texlive-latex-base texlive-latex-recommended

# Two files of tests side by side, since many of them wait for processes that they have started; in the order of conftest.py.
PYTEST = PATH="$(CURDIR)/$(BIN):$$PATH" pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: install
	$(PYTEST)

# What takes minutes by itself: the demo as a user builds it, and the paper's whole grid.
test-long: install
	$(PYTEST) -m long

# Slurm, from Debian's packages; nothing of it is started or configured but by the tests, in a folder of their own.
slurm:
	apt-get update --quiet
	apt-get install --yes --quiet --no-install-recommends slurm-wlm munge

# A small suite through a Slurm of three nodes on this machine, started and stopped by the tests; skipped where it is not
# installed. Minutes, most of them waiting.
test-slurm: install
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,cluster]'
	PATH="$(CURDIR)/$(BIN):$$PATH" pytest tests/slurm tests/workflow/test_cluster_profile.py -m "slurm or slow" --durations=0

# For the time of an edit: no training, no other programs.
quick: install
	$(PYTEST) -m "not slow and not tools"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow/rules
	@# One environment serves every rule (make install), so the advice to give each its own is set aside.
	! PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --lint 2>&1 | grep '^    \*' | grep -v 'Specify a conda environment'

# The pages of docs/ as a site, in site/; before that, whatever they take from the code.
docs: install
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Whether a vulnerability of a package in constraints.txt is known, by what PyPI tells of each. It needs the network, and
# fails where PyPI does not answer.
audit: install
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[audit]'
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

# Two hours or more, on a machine with nothing else to do; benchmarks/precision.py needs real data and is run by hand.
bench: install
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/gpu.py
	for action in prepare batches teacher; do $(BIN)/python benchmarks/data.py $$action || exit; done
	for action in parse first jobs preload grid; do $(BIN)/python benchmarks/workflow.py $$action || exit; done
	for action in training aggregation; do $(BIN)/python benchmarks/memory.py $$action || exit; done
	for shape in base minilm; do $(BIN)/python benchmarks/speed.py $$shape || exit; done
	for action in time size; do $(BIN)/python benchmarks/significance.py $$action || exit; done

# A thousand faults and more: in files, processes and disks. Ten minutes or more; the table is in docs/reliability.md.
faults: install
	PATH="$(CURDIR)/$(BIN):$$PATH" python tests/faults/inject.py

# How many slips in the code between predictions and report the tests notice, of 80 drawn in each of four areas. About
# half an hour of a processor, so CI does not run it. It leaves nothing behind.
mutants: install
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[mutants]'
	$(BIN)/python benchmarks/mutants.py

# Also the checkpoints of runs that have not ended.
clean:
	rm -rf results/demo .cache .snakemake site
