# make setup   create .venv with all dependencies (PYTHON=, STACK=classic|modern
#              choose another Python or stack)
# make demo    digits: teacher, baseline, KD and TCal student, table, picture
# make notebooks
#              docs/notebooks from the first cell to the last, minutes
# make test    the whole test suite (TESTS=, MARKS= choose a part)
# make test-lite
#              tests of the half without torch, in an environment with only the
#              packages of `pip install`, for each Python of PYTHONS
# make test-zoo
#              tests on every kind of detector that mmdet packages, minutes
# make lint    code style and prose
# make typecheck
#              types of the evaluation and of the losses
# make release-check
#              source distribution and wheel in empty environments of
#              RELEASE_PYTHONS
# make docs    documentation site in build/docs/html, its code, its links
# make mutate  mutation score of the tests (docs/contribute/mutation.md):
#              FOLDER=functional|losses|calibrators|distillers
#              NUMBER=100|all SEED=0
VENV ?= .venv
# Empty: the first Python found of 3.11, 3.10, 3.9, 3.8 (classic) and 3.12
# (modern).
PYTHON ?=
STACK ?=
FOLDER ?= functional
NUMBER ?= 100
SEED ?= 0
MARKS ?= not zoo
TESTS ?= tests
RUN = $(VENV)/bin/python
STAMP = $(VENV)/.complete
DOCS_STAMP = $(VENV)/.docs-complete

# Pythons of `make test-lite`: the oldest and the newest that are installed.
PYTHONS ?= $(shell bash requirements/find_pythons.sh 8 13)

# Each Python from 3.8 to 3.13 that is found.
RELEASE_PYTHONS ?= $(foreach minor,8 9 10 11 12 13,$(shell bash requirements/find_pythons.sh $(minor) $(minor)))

.PHONY: setup demo notebooks test test-lite test-zoo lint typecheck \
	release-check docs mutate

setup: $(STAMP)

$(STAMP): requirements/install.sh $(wildcard requirements/*.txt) setup.py pyproject.toml
	bash requirements/install.sh '$(VENV)' '$(PYTHON)' '$(STACK)'
	touch $@

$(DOCS_STAMP): $(STAMP) requirements/docs.txt
	$(RUN) -m pip install --quiet -r requirements/docs.txt
	touch $@

demo: setup
	PATH="$(abspath $(VENV))/bin:$$PATH" bash tools/demo.sh

# The outputs are not stored.
notebooks: $(DOCS_STAMP)
	OMP_NUM_THREADS=1 $(RUN) -m pytest --nbmake --nbmake-timeout=1800 docs/notebooks --durations=2

test: setup
	$(RUN) -m pytest --doctest-modules tcal_det
	OMP_NUM_THREADS=1 $(RUN) -m pytest $(TESTS) -m '$(MARKS)' -n auto --dist worksteal --durations=20

LITE_TESTS = tests/test_numpy_half.py tests/test_packaging.py \
	tests/test_checks.py tests/test_cli tests/test_recalibration \
	tests/test_report tests/test_visualization \
	$(addprefix tests/test_evaluation/test_, functional formats bootstrap.py \
	slices.py plausibility.py json_reading.py)

test-lite:
	for python in $(PYTHONS); do \
	    bash requirements/test_lite.sh "$$python" $(LITE_TESTS) || exit 1; \
	done

# `make test` runs a sample of these tests. The second command prints how many
# detectors are supported.
test-zoo: setup
	OMP_NUM_THREADS=1 $(RUN) -m pytest tests/test_zoo.py -m 'zoo or not zoo' -k kind_ -n auto --dist worksteal
	OMP_NUM_THREADS=1 $(RUN) -m pytest tests/test_zoo.py -m zoo -k every_packaged -s

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m isort --check-only --diff .
	$(RUN) -m yapf --diff --recursive tcal_det tools tests benchmarks configs docs setup.py
	$(RUN) tests/check_prose.py

typecheck: setup
	$(RUN) -m mypy

release-check: setup
	$(RUN) tests/release_check.py $(RELEASE_PYTHONS)

# Warnings are errors, among them links without a target. The first build reads
# all pages, the second runs their code.
SPHINX = OMP_NUM_THREADS=1 $(RUN) -m sphinx -q -n -W --keep-going -d build/docs/doctrees
docs: $(DOCS_STAMP)
	$(SPHINX) -b html docs build/docs/html
	$(SPHINX) -b doctest docs build/docs/doctest
	$(RUN) -m pytest tests/test_docs.py

# Not part of the continuous integration: takes minutes to hours.
mutate: setup
	$(RUN) -m pip install --quiet -r requirements/mutate.txt
	OMP_NUM_THREADS=1 $(RUN) tests/mutation_score.py '$(FOLDER)' --number '$(NUMBER)' --seed '$(SEED)'
