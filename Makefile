# `make demo` shows street scenes being segmented; `make test` runs every check, `make check` those that take a minute.
# All make their own virtual environment in .venv from a plain Python 3.11-3.13. `make demo` installs the runtime only (no torch), `make test`
# adds to the same environment. Another interpreter: `make demo PYTHON=/path/to/python3.12`.

VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
JOBS ?= 2
MATRIX ?= 3.11 3.12 3.13
# Containers often set it. What Python and pytest compile is kept all the same: it is half of what collecting tests takes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check matrix lint types pytest docs format clean
.DELETE_ON_ERROR:

demo: $(VENV)/.base
	$(VENV)/bin/python -m rtseg.apps.demo

# ruff first: it takes no time. mypy, which keeps one core busy, runs beside the tests.
test: lint
	$(MAKE) -j2 types pytest

# The daily one: all of `make test` but the tests that are marked slow.
check: lint
	$(MAKE) -j2 types pytest ARGS="-m 'not slow and not network' $(ARGS)"

# `make check` under every Python of MATRIX that is installed, each in its own .venv-VERSION (several GB each).
matrix:
	@ran= failed=; for version in $(MATRIX); do \
	  if ! python$$version -c "" 2>/dev/null; then echo "python$$version is not installed: left out"; continue; fi; \
	  ran="$$ran $$version"; \
	  $(MAKE) check VENV=.venv-$$version PYTHON=python$$version || failed="$$failed $$version"; \
	done; \
	test -n "$$ran" || { echo "error: none of Python $(MATRIX) is installed" >&2; exit 1; }; \
	test -z "$$failed" || { echo "error: make check fails under Python$$failed" >&2; exit 1; }; \
	echo "make check passes under Python$$ran"

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

types: $(VENV)/.dev
	$(VENV)/bin/mypy

# One OpenMP thread per worker: the workers share the cores. A file's tests stay in one worker, with their fixtures;
# tests/conftest.py puts the longest files first.
pytest: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

# The documentation as a site: build/docs/index.html. A broken link or name ends it.
docs: $(VENV)/.dev
	$(VENV)/bin/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "build/docs/index.html"

format: $(VENV)/.dev
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache demo.mp4 demo.png
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found ($$(python3 -V 2>&1 || true)):" \
	  "install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and \
	  f"error: $(PYTHON) is Python {v[0]}.{v[1]}; rtseg needs 3.11, 3.12 or 3.13")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) cannot make virtual environments:" \
	  "install its venv package (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.base: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing the runtime into $(VENV) (about 250 MB to download; no torch)"
	$(PIP) install -c constraints.txt -e .
	@touch $@

# albumentations asks for opencv-python-headless, whose files overwrite those of opencv-python: cv2.imshow would be
# gone. pip cannot leave a dependency out, so the headless one goes again and the real one's files are put back.
$(VENV)/.dev: $(VENV)/.base
	@echo "Installing the training and test tools into $(VENV) (torch: several GB)"
	$(PIP) install -c constraints.txt -e '.[train,dev]'
	$(PIP) uninstall -y opencv-python-headless
	$(PIP) install -c constraints.txt --force-reinstall --no-deps opencv-python
	@touch $@
