# Two commands on a fresh machine: `make bench` and `make test`. Each makes .venv and installs the
# tested set into it when needed, and says in one line what it lacks.

PYTHON ?= python3
TEST_ARGS ?= -n 2 --dist worksteal
MACHINE ?=
SCALE ?= quick

VENV := .venv
PY := $(VENV)/bin/python
MINIMUM := import sys; sys.exit(sys.version_info < (3, 11))
MACHINE_NAME := from tiebreak.bench.machine import fingerprint; print(fingerprint.folder_name())
GPU_SUITES := fasttd3 population gymnax-ppo
HEADERS := import sysconfig, os; h = sysconfig.get_paths()["include"]; exit(not os.path.exists(h + "/Python.h"))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help bench gpu-bench gpu-suites test test-all tables docs picture lint format verify release compiler clean-venv

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 20

bench: $(VENV)/.tiebreak-quick compiler  ## install what it races, race the frameworks here, print the answer and the report
	@$(VENV)/bin/tiebreak run quick

gpu-bench:  ## run the suites that want a GPU on this machine's, into results/MACHINE/; without one, say so
	@if nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then $(MAKE) --no-print-directory gpu-suites; \
	else echo "gpu-bench: skipped: nvidia-smi is missing, or finds no GPU (make bench races on the CPU)"; fi

# One suite that fails leaves the others their turn; a second `make gpu-bench` goes on where this one ended.
gpu-suites: $(VENV)/.tiebreak-all compiler
	@machine='$(MACHINE)'; machine="$${machine:-$$($(PY) -c '$(MACHINE_NAME)')}"; failed=0; \
	for suite in $(GPU_SUITES); do \
	  out="results/$$machine/$$suite"; again=; [ ! -e "$$out/suite.json" ] || again=--resume; \
	  echo "gpu-bench: $$suite into $$out"; \
	  $(VENV)/bin/tiebreak run "$$suite" --device gpu --scale $(SCALE) --out "$$out" $$again || failed=1; \
	done; exit $$failed

test: $(VENV)/.tiebreak-dev compiler  ## install, run the tests (slow ones: a sample drawn by a printed seed)
	@$(PY) -m pytest -q $(TEST_ARGS)

test-all: $(VENV)/.tiebreak-dev compiler  ## install, run every test, also every slow one (more than an hour)
	@$(PY) -m pytest -q $(TEST_ARGS) --slow-all

tables: $(VENV)/.tiebreak-dev  ## make the tables of README.md and results/ anew from the records
	@$(PY) -m tiebreak.report.documents README.md docs/choosing.md docs/devices.md docs/findings.md docs/metrics.md $(wildcard results/README.md results/*/README.md)

docs: $(VENV)/.tiebreak-docs  ## install, build the documentation as a site into build/docs/site; dead links fail
	@cd docs && ../$(PY) -m website

picture: $(VENV)/.tiebreak-docs  ## take the picture of a report in docs/ anew, with Chromium
	@cd docs && ../$(PY) -m website.picture

verify: $(VENV)/.tiebreak-all compiler  ## install, prove that the frameworks compute the same numbers
	@$(VENV)/bin/tiebreak verify

# Nothing is uploaded. The check installs the wheel alone into an environment of its own, outside the checkout.
release: $(VENV)/.tiebreak-dev  ## build wheel and source archive into dist/, and check them; nothing is uploaded
	@$(PY) -m pip install --quiet --disable-pip-version-check -e '.[release]' -c constraints.txt
	@rm -rf dist && $(PY) -m build --outdir dist && $(PY) -m twine check --strict dist/*
	@folder=$$(mktemp -d) && wheel=$$(ls "$$PWD"/dist/*.whl) && $(PY) -m venv "$$folder/venv" && \
	  "$$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$$wheel" && \
	  cd "$$folder" && venv/bin/tiebreak list && venv/bin/tiebreak run quick --dry-run && rm -rf "$$folder"
	@ls -l dist

lint: $(VENV)/.tiebreak-dev  ## check style and types; changes nothing
	@$(PY) -m ruff check && $(PY) -m ruff format --check && $(PY) -m pyright

format: $(VENV)/.tiebreak-dev  ## put the code into the one format
	@$(PY) -m ruff check --fix --quiet; $(PY) -m ruff format

clean-venv:  ## remove .venv; the next command makes it anew
	@rm -rf $(VENV)

compiler: $(PY)
	@set -- $${CXX:-g++}; command -v "$$1" >/dev/null 2>&1 || \
	  echo "note: no C++ compiler ($${CXX:-g++}) here: torch's mode compile cannot run, its mode eager can"
	@$(PY) -c '$(HEADERS)' || \
	  echo "note: no Python.h here (package python3-dev): torch's mode compile cannot run, its mode eager can"

$(VENV)/.tiebreak-quick: pyproject.toml constraints.txt | $(PY)
	$(call install,quick,3.5 GB)

$(VENV)/.tiebreak-all: pyproject.toml constraints.txt | $(PY)
	$(call install,all,5 GB)
	@touch $(VENV)/.tiebreak-quick

$(VENV)/.tiebreak-dev: pyproject.toml constraints.txt | $(PY)
	$(call install,all$(comma)dev,5 GB)
	@$(PY) -m pip install --quiet --no-input --disable-pip-version-check --no-deps craftax -c constraints.txt || \
	  echo "note: craftax cannot be installed: its tests are skipped"
	@touch $(VENV)/.tiebreak-quick $(VENV)/.tiebreak-all

$(VENV)/.tiebreak-docs: pyproject.toml constraints.txt | $(PY)
	$(call install,docs,0.3 GB)

$(PY):
	@command -v "$(PYTHON)" >/dev/null || \
	  { echo "$(PYTHON) not found: install Python 3.11 or newer, or name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@"$(PYTHON)" -c '$(MINIMUM)' || \
	  { echo "$(PYTHON) is $$("$(PYTHON)" -V 2>&1); tiebreak needs 3.11 or newer: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "making $(VENV) with $$("$(PYTHON)" -V)"
	@"$(PYTHON)" -m venv $(VENV) || \
	  { echo "cannot make $(VENV): Python's venv module is incomplete (Debian, Ubuntu: package python3-venv)" >&2; exit 1; }

comma := ,
# $(call install,EXTRAS,SIZE): into .venv, whoever made it; exactly the tested versions.
define install
	@$(PY) -c '$(MINIMUM)' || \
	  { echo "$(VENV) is $$($(PY) -V 2>&1); tiebreak needs 3.11 or newer: make clean-venv, then again" >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null 2>&1 || \
	  { echo "$(VENV) has no pip and cannot get it (Debian, Ubuntu: package python3-venv)" >&2; exit 1; }
	@echo "installing tiebreak[$(1)] into $(VENV): $(2), one to a few minutes, only when versions change"
	@$(PY) -m pip install --quiet --no-input --disable-pip-version-check \
	  -e '.[$(1)]' -c constraints.txt || \
	  { echo "the installation failed: see pip's message above" >&2; exit 1; }
	@touch $@
endef
