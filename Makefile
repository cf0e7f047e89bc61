# make demo    see novel views of the built-in scene     make test    run every check
# Both work as the first command in a fresh clone: they make .venv and install what they need there.
.DELETE_ON_ERROR:
.PHONY: demo test lint format env clean

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PACKAGES := python3-venv=python:ensurepip libegl1=libEGL.so.1 libgl1=libGL.so.1 libgomp1=libgomp.so.1 \
	libudev1=libudev.so.1 libusb-1.0-0=libusb-1.0.so.0 libx11-6=libX11.so.6

demo: $(STAMP)
	$(BIN)/recon3d demo --out demo

test: $(STAMP)
	@scripts/system_packages.sh chromium=chromium xvfb=Xvfb xdotool=xdotool mesa-vulkan-drivers=libvulkan.so.1 \
		|| echo "Without these the tests that open a page in a browser, or a window, are skipped."
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

env: $(STAMP)

$(STAMP): pyproject.toml constraints.txt scripts/system_packages.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; name one: make PYTHON=python3.11")'
	@PYTHON=$(PYTHON) scripts/system_packages.sh $(PACKAGES)
	@echo 'Installing into .venv (a few minutes the first time).'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --progress-bar off -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
