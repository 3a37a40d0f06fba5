# The pinned environment, the book and the checks. `make` alone lists the targets.

PYTHON ?= $(shell for p in python3.11 python3 python; do \
            $$p -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))' 2>/dev/null && { echo $$p; break; }; done)
# How many notebooks, or test files, run at the same time. Each takes up to 3 GB of memory.
JOBS ?= 2
# The exact versions. Empty: the newest that the ranges in pyproject.toml allow.
CONSTRAINTS ?= -c constraints.txt
# Where `make assignments` puts the course. `make clean` removes _build, and grades with it.
COURSE ?= _build/assignments
# What `make release` releases, such as 0.2.0.
VERSION ?=
# How long `make gpu-run` may take: 12m, 90s, 1.5h.
BUDGET ?= 12m
# What `make publish-check` looks at: complete, student or both; and its options.
EDITION ?= both
ARGS ?=

BIN     := .venv/bin
READY   := .venv/.ready
THREADS  = $(shell $(BIN)/python -c 'import os; print(max(1, (os.cpu_count() or 1) // $(JOBS)))')

.DEFAULT_GOAL := help
.PHONY: help book student assignments test lint lab links release timings gpu-check gpu-run colab-check matrix publish-check slides takeaway clean distclean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

book: $(READY) ## execute the notebooks, build the site, and say where to open it
	$(BIN)/python -m tools.site.book --jobs $(JOBS)

student: $(READY) ## the edition for handing out: notebooks and site without the solutions
	$(BIN)/python -m tools.course.student --jobs $(JOBS)

assignments: $(READY) ## an nbgrader course: the exercises of each chapter, graded by their checks (COURSE=folder)
	$(BIN)/python -m tools.course.assignments --course $(COURSE)

test: lint book student ## every check: style, every notebook, the site with warnings as errors, all tests
	A3_SITE_REQUIRED=1 OMP_NUM_THREADS=$(THREADS) $(BIN)/pytest -n $(JOBS) --dist loadfile --durations=10

lint: $(READY) ## check the style of the code, notebooks included, and the spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

lab: $(READY) ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir notebooks

# without $(READY): to write an address nobody needs an environment; where there is one, the rest is written, too
links: ## write the repository's URL, the setup cell and the glossary's links to all the places that need them
	$(if $(wildcard $(READY)),$(BIN)/python -m tools.site.links,$(or $(PYTHON),python3) -m tools.site.address)

release: ## two commits and a tag: notebooks of the tag install the tag (VERSION=0.2.0); then push both
	$(or $(PYTHON),python3) -m tools.release $(VERSION)

timings: $(READY) ## measure how long each notebook takes, and write it into them
	$(BIN)/python -m tools.site.book --record
	$(BIN)/python -m tools.site.links

publish-check: $(READY) ## build what would be published, serve it under /REPO/ and check it (EDITION=student: without solutions)
	$(BIN)/python -m tools.site.publish_check --edition $(EDITION) --jobs $(JOBS) $(ARGS)

slides: $(READY) ## make the slides in _build/html/slides anew, from the notebooks that `make book` has executed
	$(BIN)/python -m tools.site.slides

takeaway: $(READY) ## the book as PDF and EPUB, and the site as a zip, in _build/downloads, after `make book`
	$(BIN)/python -m tools.site.takeaway

colab-check: $(READY) ## run every notebook with its setup cell where only Colab's packages are (long; ARGS=--hub: with a network)
	$(BIN)/python -m tools.environments.colab_check $(ARGS)

matrix: $(READY) ## all tests and notebooks with the oldest and the newest versions of what we need (very long)
	$(BIN)/python -m tools.environments.matrix $(ARGS)

gpu-check: $(READY) ## on a machine with a CUDA GPU: check and measure what needs one
	$(BIN)/python -m tools.environments.gpu_check

# without $(READY): a borrowed machine may have no network, and its own torch
gpu-run: ## spend a short time on a borrowed GPU well (BUDGET=12m; ARGS=--list: what is outstanding, --smoke: rehearse)
	$(if $(wildcard $(READY)),$(BIN)/python,$(PYTHON)) -m tools.environments.gpu_run --budget $(BUDGET) $(ARGS)

clean: ## remove what was built, and keep the environment
	rm -rf _build .book build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find a3mini notebooks tests tools \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

distclean: clean ## remove the environment too
	rm -rf .venv

$(READY): pyproject.toml constraints.txt requirements-nodeps.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11.5 or newer is needed. Install it, or say: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "Installing the pinned packages into .venv (some minutes the first time) ..."
	$(BIN)/pip install --quiet $(CONSTRAINTS) -e '.[notebooks,book,test,eval,grading]'
	$(BIN)/pip install --quiet --no-deps -r requirements-nodeps.txt
	@touch $@
