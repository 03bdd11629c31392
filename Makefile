# `make run`: environment, then the whole pipeline.  `make test`: the same environment, then every check.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
# stages call `python`; the environment's own comes first
export PATH := $(CURDIR)/$(BIN):$(PATH)
PYTEST_ARGS ?=
# pip compiles one file after the other, each package's own tests among them: 81 s for requirements.txt, 37 s like this
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x /tests/ $(VENV)/lib || true

.PHONY: run setup setup-dev test test-tools test-slow test-ray lint format bench bench-quick bench-long peers seeds ablation cache-stats browser clean pin download serve

run: setup
	python -m lib.base.params params.yaml
	dvc repro
	@cat artifacts/scoreboard/scoreboard.txt

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make run PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(VENV)/bin/python
	$(INSTALL) -r requirements.txt
	@$(COMPILE)
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt requirements.txt | $(VENV)/bin/python
	$(INSTALL) -r requirements-dev.txt
	@$(COMPILE)
	@touch $@ $(VENV)/.installed

# for embed.engine: ray
$(VENV)/.installed-ray: requirements-ray.txt requirements.txt | $(VENV)/bin/python
	$(INSTALL) -r requirements-ray.txt -c requirements.txt
	@$(COMPILE)
	@touch $@

# which data set of the Hugging Face Hub a raw catalogue is:  make pin HUB=hf://owner/name OUT=data/raw/name
pin: setup
	$(if $(and $(HUB),$(OUT)),,$(error make pin HUB=hf://owner/name OUT=data/raw/name))
	python -m stages.pin_hub --hub '$(HUB)' --out '$(OUT)'

# photos that the catalogue names by address: make download SAMPLE=100
download: setup
	python -m stages.download_images $(if $(SAMPLE),--sample $(SAMPLE))

# pages are tested in Debian's chromium; without it, and without root to install it, those tests are skipped
browser:
	@command -v chromium >/dev/null || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] \
		&& { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; }; } \
		|| echo "no chromium here: browser tests will be skipped"

# installed side by side: the one waits for the network while the other unpacks
test-tools:
	@$(MAKE) --no-print-directory -j 2 setup-dev browser

# two processes: most tests wait for commands that use one core
test: test-tools lint
	python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder $(PYTEST_ARGS)

test-slow: setup-dev browser
	python -m pytest -q -m slow $(PYTEST_ARGS)

test-ray: setup-dev $(VENV)/.installed-ray
	python -m pytest -q -m ray $(PYTEST_ARGS)

lint: setup-dev
	ruff check lib stages tests benchmarks
	ruff format --check lib stages tests benchmarks
	mypy

format: setup-dev
	ruff format lib stages tests benchmarks
	ruff check --fix lib stages tests benchmarks

# the machine's limits, this project beside its peers, training, evaluation, index
bench: setup-dev run peers
	python -m benchmarks --write
	python -m benchmarks.sizing --write

# the same at small sizes, three minutes; writes nothing
bench-quick: setup-dev run peers
	python -m benchmarks --quick

# what takes longer: growth to a million rows, the server under load, the pipeline from nothing; about two hours
bench-long: setup-dev run
	python -m benchmarks.fixed_dims --write
	python -m benchmarks.compatibility --write
	python -m benchmarks.two_tower --write
	python -m benchmarks.server --write
	python -m benchmarks.growth --write
	python -m benchmarks.scale --write
	python -m benchmarks.pipeline --write

# the environment of the peers that benchmarks are compared with; one that cannot be installed is missing in the table
peers: $(PEERS)/.installed

$(PEERS)/.installed: benchmarks/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	-$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/requirements.txt \
		&& touch $@

# the scoreboard under three seeds of everything that is trained, in a private copy under .cache/seeds
seeds: setup
	python -m benchmarks.seeds --write

# what each part of the recipe brings, on validation, in a private copy under .cache/ablation; goes on where it was stopped
# make ablation PARAMS=my.yaml DATA=/path/to/raw ONLY="head-mlp no-hard"
ablation: setup
	python -m benchmarks.ablation $(if $(PARAMS),--params $(PARAMS)) $(if $(DATA),--data $(DATA)) $(if $(ONLY),--only $(ONLY))

# the search server with its page on http://127.0.0.1:8000; make serve PORT=8080
serve: setup
	python -m lib.serving serve $(if $(PORT),--port $(PORT)) $(if $(HOST),--host $(HOST))

# what the embedding cache holds; make cache-stats MAX_GB=5 first deletes the longest unused beyond that
cache-stats: setup
	python -m lib.encoding.embedding_cache $(if $(MAX_GB),--max-gb $(MAX_GB))

clean:
	rm -rf .cache .mypy_cache .pytest_cache .ruff_cache dvc_plots
