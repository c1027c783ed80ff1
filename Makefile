# The verbs of Flair. `make run` and `make test` are all that a newcomer needs.

PORT ?= 8000
FLAIR_DATA_DIR ?= $(CURDIR)/.data
FLAIR_BIND ?= 127.0.0.1
USER ?= $(shell id -un)
export PORT FLAIR_DATA_DIR FLAIR_BIND USER

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help install run worker test test-services test-all cluster-test lint audit format lock messages \
        bench bench-train bench-classifier bench-api

help:  ## show the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

install: $(VENV)/.runtime  ## make the virtual environment and install what Flair runs on

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@

$(VENV)/.development: requirements-dev.txt $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	@touch $@

run: $(VENV)/.runtime  ## start web and worker on http://localhost:$(PORT); Ctrl-C stops both
	@mkdir -p "$(FLAIR_DATA_DIR)"
	@$(BIN)/python manage.py prepare --port $(PORT)
	@echo "  Flair: http://localhost:$(PORT)  (data in $(FLAIR_DATA_DIR); Ctrl-C stops)"
	@exec $(BIN)/supervisord --configuration supervisord.conf

worker: $(VENV)/.runtime  ## start one more worker (on another machine: with its DATABASE_URL, REDIS_URL, FLAIR_S3_…)
	@exec $(BIN)/celery --app shelter worker --loglevel INFO --without-gossip --without-mingle

# Two processes, each with a database, a Redis, folders and ports of its own; the tests of a file stay together.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.development  ## run the tests, those that need a browser left out
	@$(PYTEST) -m "not browser"

test-services: $(VENV)/.development  ## run the tests that need database, broker or browser (DATABASE_URL, REDIS_URL)
	@$(PYTEST) -m "not pure"

test-all: $(VENV)/.development  ## run all tests, those in Chromium too
	@$(PYTEST)

cluster-test: $(VENV)/.development  ## run compose.yaml on machines of its own, and cut some off (needs root, Debian)
	@.ci/cluster-test

lint: $(VENV)/.development  ## check style, types, missing migrations, the image and the composition
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict --no-error-summary clients/python/flair_client.py
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python manage.py makemigrations --check --dry-run
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml

audit: $(VENV)/.development  ## look for known vulnerabilities of the packages (asks the public database)
	@$(BIN)/python .ci/audit.py

format: $(VENV)/.development  ## rewrite the code in the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(VENV)/.development  ## compile the pinned requirements anew
	@$(BIN)/uv pip compile --universal --python-version 3.11 --no-header -q requirements.in -o requirements.txt
	@$(BIN)/uv pip compile --universal --python-version 3.11 --no-header -q requirements-dev.in -o requirements-dev.txt
	@$(BIN)/uv pip compile --universal --python-version 3.11 --no-header -q requirements-bench.in -o requirements-bench.txt

messages: $(VENV)/.development  ## collect and compile the French translation (needs gettext)
	@$(BIN)/python manage.py makemessages --locale fr --no-location --no-obsolete --ignore .venv
	@$(BIN)/python manage.py compilemessages --locale fr --ignore .venv

bench: $(VENV)/.development  ## time Flair as a whole, 20 minutes and more; with DATABASE_URL and REDIS_URL on those
	@$(BIN)/python -m benchmarks.pipeline
	@$(BIN)/python -m benchmarks.load
	@$(BIN)/python -m benchmarks.sizes

bench-train: $(VENV)/.runtime  ## time training against plain Keras: DATASET=… WEIGHTS=… ARGS="--photos 512"
	@$(BIN)/python -m benchmarks.train --dataset "$(DATASET)" --weights "$(WEIGHTS)" $(ARGS)

bench-classifier: $(VENV)/.benchmark  ## time the classifier beside other runtimes and decoders: ARGS="--dataset … --rounds 30"
	@$(BIN)/python -m benchmarks.classifier $(ARGS)

bench-api: $(VENV)/.benchmark $(VENV)/.development  ## time the API beside LitServe and Flask + model.predict: ARGS="--requests 300"
	@$(BIN)/python -m benchmarks.api $(ARGS)

$(VENV)/.benchmark: requirements-bench.txt $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --requirement requirements-bench.txt
	@touch $@
