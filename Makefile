# On a machine with Python 3.11, pip and make:
#   make demo    train on the embedded data, print a table and the path of the report
#   make test    run every check, in about 25 minutes on two cores
#   make quick   run the fast checks, in about a minute
#   make reliability    kill, start twice, fill disks and damage files, in about a minute
#   make docs    build the documentation as a site that needs no network
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test quick reliability docs venv clean

demo: venv
	$(BIN)/softiou demo

test: venv
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check

quick: venv
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/quick

reliability: venv
	$(BIN)/python -m benchmarks.reliability --short

# The variable keeps the theme from announcing its successor.
docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open file://$(CURDIR)/build/site/index.html"

venv: $(VENV)/installed

# Made again only when what is to be installed has changed.
C_FILES := $(wildcard src/softiou/*.h src/softiou/*/*.c) scripts/build_native.py
$(VENV)/installed: pyproject.toml constraints.txt $(C_FILES)
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Python 3.11 or newer is needed, this is {sys.version}"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off \
		--constraint constraints.txt --editable '.[train,export,transformers,docs,dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
