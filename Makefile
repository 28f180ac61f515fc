# The two commands of the README are `make sweep` and `make test`; both install into .venv first.
PYTHON ?= python3
VENV ?= .venv
# The tests that `make test` runs; all if empty.
TESTS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: sweep test test-cluster check docs stress clean

sweep: $(VENV)/installed
	$(BIN)/crnn-jax sweep experiments/demo.py --out runs/demo

test: $(VENV)/installed-test
	$(BIN)/pytest --numprocesses auto --dist loadfile $(TESTS)

# Several processes that are killed and restarted; real clusters of Ray and Beam.
test-cluster: $(VENV)/installed-cluster
	$(BIN)/pytest -m cluster

check: $(VENV)/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The documentation site, into site/: open site/index.html.
docs: $(VENV)/installed-docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "The site: site/index.html"

stress: $(VENV)/installed-test
	$(BIN)/pytest -m stress

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (about a minute) ..."
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[report]'
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/installed-cluster: $(VENV)/installed-test
	$(PIP) --editable '.[test,ray,beam]'
	@touch $@

clean:
	rm -rf $(VENV) build site *.egg-info
