# Everything a developer or a first user needs. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := demo
resume = $(if $(wildcard $(DEMO)/runs/$(1)/config.yaml),--resume)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-unit test-integration test-slow test-gpu lint format clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

install: $(INSTALLED) ## Create .venv and install the tested set of packages (about 7 GB, 4 minutes)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else f"Python 3.11 or 3.12 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): PyTorch, Ray and the rest, several GB on the first run"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

demo: $(INSTALLED) ## Synthetic corpus, features, cross-validated TIM-Net on two workers beside the SVM, report
	@echo "1/4 a synthetic corpus in RAVDESS's layout"
	@$(BIN)/python -m ser_models.corpora.synthetic ravdess $(DEMO)/corpus --speakers 6 --utterances 60
	@echo "2/4 MFCC shards"
	@$(BIN)/python workflows/preprocess.py --corpus ravdess --root $(DEMO)/corpus --views mfcc --output $(DEMO)/shards
	@echo "3/4 TIM-Net, leave one speaker out, two workers"
	@$(BIN)/python workflows/train.py --config configs/debug/timnet.yaml $(call resume,timnet)
	@echo "4/4 functionals and a linear SVM on the same folds, and the comparison"
	@$(BIN)/python workflows/train.py --config configs/debug/svm.yaml $(call resume,svm)
	@$(BIN)/python workflows/evaluate.py $(DEMO)/runs/svm $(DEMO)/runs/timnet

test: test-unit test-integration ## Run the unit and the integration tier

test-unit: $(INSTALLED) ## Tests without Ray
	$(BIN)/python -m pytest tests/unit --doctest-modules ser_models -q

test-integration: $(INSTALLED) ## Tests with a real Ray, a real S3 server and real processes on this machine
	$(BIN)/python -m pytest tests/integration -m "not slow" -q

test-slow: $(INSTALLED) ## Kill, scale and quality studies
	$(BIN)/python -m pytest tests -m slow -q

test-gpu: $(INSTALLED) ## Tests that need a CUDA device
	$(BIN)/python -m pytest tests/gpu -q

lint: $(INSTALLED) ## Style and types, as CI runs them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## Rewrite files in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the demo and caches, not the environment
	rm -rf $(DEMO) .pytest_cache .mypy_cache .ruff_cache
