# Every target makes what it needs. VENV may name another folder than .venv, PYTHON another interpreter to make it with
# (3.11 to 3.13): make env PYTHON=python3.13
VENV ?= .venv
PYTHON ?= python3.11
RUN := $(VENV)/bin/python

.PHONY: help env check test demo lab docs

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 8

env: $(VENV)/ready  ## make .venv with the exact versions of requirements.lock

$(VENV)/ready: requirements.lock pyproject.toml
	@echo "env: installing requirements.lock into $(VENV) (a few minutes the first time)"
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

check: env  ## lint and format check of modules, tests and notebooks
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

test: env  ## run the tests: no GPU, no network, no data needed
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

demo: env  ## toy slides -> features -> training -> answers -> report; says where index.html is
	$(RUN) -m flows.demo

lab: env  ## open the notebooks in JupyterLab
	$(RUN) -m jupyterlab --notebook-dir=notebooks

docs: env  ## make what in docs/ is made: pictures, rows of tables, options
	$(RUN) -m docs.make
