# The verbs of this repository, one line each. `make run` is all a user needs, `make test` all a developer needs.
PARLEY_STUDIO_PORT ?= 2024
# Compiled modules are kept whatever the environment says: without them each process compiles all its libraries anew.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help run studio services services-stop services-programs studio-environment test check dev bench bench-knowledge bench-backends examples lock picture clean

help:            ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /make \1|/p' Makefile | awk -F'|' '{printf "%-22s%s\n", $$1, $$2}'

run:             ## install on first use, take in Parley's own documentation, serve on http://127.0.0.1:8080
	@./bootstrap.sh run && exec .venv/bin/parley serve --ingest README.md --ingest 'docs/*.md'

studio:          ## the chat graph in LangGraph Studio's server, on this machine alone (docs/studio.md)
	@./bootstrap.sh studio && LANGGRAPH_CLI_NO_ANALYTICS=1 LANGGRAPH_NO_VERSION_CHECK=1 exec .venv-studio/bin/langgraph dev --host 127.0.0.1 --port $(PARLEY_STUDIO_PORT) --no-browser --no-reload --n-jobs-per-worker 4

studio-environment: dev
	@./bootstrap.sh studio

services: dev    ## the real servers that Parley is tested with, ready; .services/env reaches them (docs/services.md)
	@.venv/bin/python -m tests.services start

services-stop: dev  ## stop them; their data stays in .services/
	@.venv/bin/python -m tests.services stop

services-programs: dev
	@.venv/bin/python -m tests.services obtain

# A test is run once more before it counts as failed: six servers and a shared machine are not always on time.
test: dev        ## every check, then every test with branch coverage, against the real servers
	@$(MAKE) --no-print-directory --jobs=3 check services-programs studio-environment
	@.venv/bin/python -m tests.services run .venv/bin/python -m pytest -q -n 5 --reruns 1 --cov --cov-report=term --ignore tests/test_architecture.py

check: dev       ## lint, format, types, layers, doors
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/lint-imports --no-cache && .venv/bin/pyright --threads && .venv/bin/python -m pytest -q tests/test_architecture.py

dev:             ## .venv with the tools for testing
	@./bootstrap.sh dev

bench: dev       ## speed of the server beside a bare passthrough
	@.venv/bin/python -m evals.bench.latency

bench-knowledge: dev  ## quality and speed of retrieval and of answers without a model
	@.venv/bin/python -m evals.bench.knowledge

bench-backends: services-programs  ## servers beside the embedded stores, three quarters of an hour; the tables go into docs/backends.md
	@.venv/bin/python -m evals.bench.backends --write

picture: dev     ## docs/picture.svg and docs/graph.svg, made anew
	@.venv/bin/python -m evals.picture && .venv/bin/python -m evals.graph_picture

examples: dev    ## the vectors beside the examples of agents/data/, after these or the embedder changed
	@.venv/bin/python -m evals.examples

lock:            ## the newest versions into the three locks (needs uv)
	@uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml -o requirements.lock
	@uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header -c requirements.lock pyproject.toml --group dev -o requirements-dev.lock
	@uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --group studio -o requirements-studio.lock

clean:           ## what was built; your data stays
	@rm -rf .venv .venv-studio .venv-uv build *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.*
