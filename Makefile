# Every target makes what it needs. VENV may name another folder than .venv.
VENV ?= .venv
PYTHON := $(VENV)/bin/python

.PHONY: help env check test demo lab

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 8

env: $(VENV)/ready  ## make .venv with the exact versions of requirements.lock

$(VENV)/ready: requirements.lock pyproject.toml
	@echo "env: installing requirements.lock into $(VENV) (a few minutes the first time)"
	@test -x $(PYTHON) || python3.11 -m venv $(VENV)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

check: env  ## lint and format check of modules, tests and notebooks
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

test: env  ## run the tests: no GPU, no network, no data needed
	$(PYTHON) -m pytest

demo: env  ## toy slides -> features -> training -> answers -> report; says where index.html is
	$(PYTHON) -m flows.demo

lab: env  ## open the notebooks in JupyterLab
	$(PYTHON) -m jupyterlab --notebook-dir=notebooks
