# Everything starts here, on a bare machine too: `make demo`, `make test`, `make check`.

CACHE ?= $(or $(LORAFINETUNE_CACHE),$(HOME)/.cache/lorafinetune)
UV ?= $(or $(shell command -v uv),.uv/bin/uv)
BIN := .venv/bin
STORE := lorafinetune-store
SAMPLE := samples/smollm2-emollm.yaml

# Where nothing keeps what Python compiled, each start of a stage compiles torch and the rest anew: 15 s.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check static unit trainings e2e gpu serving faults fuzz chaos soak reliability generate sbom audit pictures images site release pinned push version cluster-up cluster-samples cluster-down servers clean
.DEFAULT_GOAL := help

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/ready ## fine-tune a real model on real data, and compare it with its base
	@$(BIN)/python samples/smollm2.py $(STORE)/samples/SmolLM2-135M-Instruct
	@mkdir -p $(STORE)/samples/emollm && cp -u samples/data/emollm/* $(STORE)/samples/emollm/
	@$(BIN)/lorafinetune run $(SAMPLE) --store $(STORE)
	@$(BIN)/python samples/side_by_side.py lorafinetune-runs/default/smollm2-emollm/resource.yaml --store $(STORE)

test: check servers ## run every test: servers, trainings, and a real Kubernetes
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not model and not e2e" --ignore tests/unit
	$(MAKE) -j 2 trainings e2e

trainings: .venv/ready ## the tests that train or load the real small model; they give way to others
	OMP_NUM_THREADS=1 nice -n 10 $(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "model and not serving and not gpu" --ignore tests/unit

check: .venv/ready ## the fast loop: format, lint, types, import contracts, unit tests, generated files
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	@$(MAKE) -s -j 2 static unit

unit: .venv/ready
	$(BIN)/python -m pytest -q -n 2 tests/unit

static: .venv/ready
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > .venv/lint-imports.log || (cat .venv/lint-imports.log; exit 1)
	$(MAKE) -s generate OUT=.venv/generated
	@diff -r .venv/generated/crds crds && diff .venv/generated/docs/reference/api.md docs/reference/api.md \
	  && diff .venv/generated/docs/reference/cli.md docs/reference/cli.md \
	  && diff .venv/generated/docs/reference/extra-args.md docs/reference/extra-args.md \
	  && diff -r .venv/generated/$(CHART_FILES) $(CHART_FILES) \
	  && for lock in $(LOCKS); do diff .venv/generated/$$lock $$lock || exit 1; done \
	  || (echo "generated files are out of date: run 'make generate'"; exit 1)

OUT ?= .
CHART_FILES := charts/lorafinetune/files
IMAGES ?= operator download train
LOCKS := images/uv.txt $(IMAGES:%=images/%/requirements.txt)
LOCK := export --frozen --quiet --no-header --no-annotate --no-emit-project --no-default-groups
generate: .venv/ready ## write what follows from the typed models and from uv.lock
	@mkdir -p $(OUT)/crds $(OUT)/docs/reference $(OUT)/$(CHART_FILES)
	@$(BIN)/lorafinetune crd > $(OUT)/crds/lorafinetunes.yaml
	@cp $(OUT)/crds/lorafinetunes.yaml $(OUT)/$(CHART_FILES)/
	@$(BIN)/python -m lorafinetune.api.reference > $(OUT)/docs/reference/api.md
	@$(BIN)/python -m lorafinetune.cli.reference > $(OUT)/docs/reference/cli.md
	@$(BIN)/python -m lorafinetune.contract.reference > $(OUT)/docs/reference/extra-args.md
	@mkdir -p $(IMAGES:%=$(OUT)/images/%)
	@$(UV) $(LOCK) --only-group images > $(OUT)/images/uv.txt
	@for image in $(IMAGES); do $(UV) $(LOCK) --extra $$image > $(OUT)/images/$$image/requirements.txt; done

sbom: .venv/ready ## write what each image holds as CycloneDX, to dist/
	@mkdir -p $(OUT)/dist
	@for image in $(IMAGES); do \
	  $(UV) $(LOCK) --extra $$image --format cyclonedx1.5 > $(OUT)/dist/$$image.cdx.json; done

AUDITED := . tests/chart/checkov tests/hubs/mlflow tests/local/readers/kserve tests/local/readers/vllm
OSV ?= https://api.osv.dev
audit: .venv/ready ## ask osv.dev what is known against all that is locked; fails where it can't be asked
	@for project in $(AUDITED); do \
	  $(BIN)/uv audit --frozen --preview-features audit-command --service-url $(OSV) --project $$project \
	    || failed=yes; \
	done; test -z "$$failed"

pictures: .venv/ready ## take the pictures anew: README.md's of a real run of the sample, the report's of one that is made up
	PYTHONPATH=tests $(BIN)/python -m pictures docs/pictures

SITE := .site
PAGES := README.md CHANGELOG.md CONTRIBUTING.md LICENSE docs samples charts/lorafinetune/monitoring
site: .venv/ready ## build the documentation's site, to .site/html; fails on a link that leads nowhere
	@rm -rf $(OUT)/$(SITE) && mkdir -p $(OUT)/$(SITE)/pages && cp mkdocs.yml $(OUT)/$(SITE)/
	@tar c --exclude=__pycache__ $(PAGES) | tar x -C $(OUT)/$(SITE)/pages
	@$(BIN)/zensical build --strict --config-file $(OUT)/$(SITE)/mkdocs.yml

BUILDER ?= $(notdir $(firstword $(foreach tool,buildah podman docker,$(shell command -v $(tool)))))
BUILD_OPTIONS ?=
REGISTRY ?=
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
SOURCE ?= $(shell git config remote.origin.url | sed 's|//[^/@]*@|//|')
ABOUT = $(foreach fact,VERSION=$(VERSION) REVISION=$(shell git rev-parse HEAD) SOURCE=$(SOURCE),--build-arg=$(fact))
DIGESTS ?=
images: ## build the container images, and push them if there is a REGISTRY: make images REGISTRY=host/prefix
	@for image in $(IMAGES); do \
	  name=$(or $(REGISTRY),localhost/lorafinetune)/$$image:$(VERSION); \
	  $(BUILDER) build $(ABOUT) $(BUILD_OPTIONS) --tag=$$name --file=images/$$image/Dockerfile . || exit 1; \
	  $(if $(REGISTRY),$(BUILDER) push $(DIGESTS:%=--digestfile=%/$$image.digest) $$name || exit 1;) \
	done

CHARTS := charts/lorafinetune charts/lorafinetune-tenant
COMMITTED = $(shell git log -1 --format=%ct)
HELM ?= $(shell PYTHONPATH=tests $(BIN)/python -c 'from cluster.build import binary; print(binary("helm"))')
RELEASED := $(OUT)/dist
NO_REGISTRY := no REGISTRY: no image is built, and the charts name images by their version
release: .venv/ready ## make of the tag vVERSION, in dist/: wheel, charts, bills of materials, checksums; REGISTRY= adds the images, and pushes
	@$(BIN)/python release/check_tag.py $(VERSION)
	@rm -rf $(RELEASED) && mkdir -p $(RELEASED)
	@SOURCE_DATE_EPOCH=$(COMMITTED) $(BIN)/python -m hatchling build --target wheel --directory $(RELEASED)
	@$(MAKE) -s sbom UV=$(BIN)/uv
	@sed -n '/^## $(VERSION)$$/,/^## /{/^## /!p}' CHANGELOG.md > $(RELEASED)/NOTES.md
	@cp -r charts $(RELEASED)/charts
	@$(if $(REGISTRY),$(MAKE) -s pinned,echo "$(NO_REGISTRY)")
	@$(HELM) package $(CHARTS:%=$(RELEASED)/%) --destination $(RELEASED)
	@rm -r $(RELEASED)/charts
	@$(BIN)/python release/repeatable.py $(RELEASED) $(COMMITTED)
	@$(if $(REGISTRY),$(MAKE) -s push)

pinned: # the images in REGISTRY, and their digests in the chart of the release
	@$(MAKE) -s images DIGESTS=$(RELEASED) BUILD_OPTIONS="--timestamp=$(COMMITTED) $(BUILD_OPTIONS)"
	@$(BIN)/python release/pin.py $(RELEASED)/charts/lorafinetune/values.yaml $(REGISTRY) $(IMAGES:%=$(RELEASED)/%.digest)

push: # the charts that a release has left in dist/, to REGISTRY
	@for chart in $(notdir $(CHARTS)); do \
	  $(HELM) push $(RELEASED)/$$chart-$(VERSION).tgz oci://$(REGISTRY)/charts $(PUSH_OPTIONS) || exit 1; \
	done

version: ## say which version this is
	@echo $(VERSION)

cluster-up: .venv/ready ## start a real Kubernetes on this machine, and print how to reach it
	@PYTHONPATH=tests $(BIN)/python -m cluster.up

cluster-down: .venv/ready ## end it, and leave nothing behind
	@PYTHONPATH=tests $(BIN)/python -m cluster.down

cluster-samples: .venv/ready ## put our images, an S3 service and the sample's model and data into it
	@PYTHONPATH=tests $(BIN)/python -m cluster.samples

e2e: .venv/ready ## the tests on a real Kubernetes: the one that KUBECONFIG names, or our own
	$(BIN)/pytest -q -m e2e -rs --timeout=1800 tests/e2e

gpu: .venv/ready ## what only a real card shows: memory that does not do, and a GPU that fails
	$(BIN)/pytest -q -m gpu tests/gpu

serving: .venv/ready ## Ollama itself, built from its source once (8 min), serves what the demo has trained
	PYTHONPATH=tests $(BIN)/python -m cluster.build ollama
	$(BIN)/pytest -q -m serving --timeout=1200 tests/local

faults: servers ## every fault at every write and event, and every attack; PARTS= some of the matrices; see chaos, soak, reliability
	PYTHONPATH=tests $(BIN)/python -m faults $(PARTS)

fuzz: .venv/ready ## what tests try of drawn data, with other data each time and 20 times as much of it: minutes
	$(BIN)/pytest -q -n 2 -m hypothesis --timeout=3600 --hypothesis-profile=searching tests/unit tests/faults/data \
	  tests/stages/test_prepare_tokens.py tests/stages/test_store_s3.py

chaos: .venv/ready ## real runs on our own cluster, disturbed at random; SEED=, RUNS= and MODEL=
	PYTHONPATH=tests $(BIN)/python -m chaos $(SEED:%=--seed %) $(RUNS:%=--runs %) $(MODEL:%=--model %)

soak: servers ## thousands of short runs under one operator, which must not grow, and killed writers; LIVES=
	PYTHONPATH=tests $(BIN)/python -m soak $(LIVES:%=--lives %)
	PYTHONPATH=tests $(BIN)/python -m soak.uploads

reliability: ## faults, soak and chaos whole, one after the other, and their tables into docs/reliability.md: hours
	$(MAKE) faults
	$(MAKE) soak
	$(MAKE) chaos SEED=7 RUNS=50
	$(MAKE) chaos SEED=7 RUNS=50 MODEL=smollm2
	PYTHONPATH=tests $(BIN)/python -m bench.reliability

servers: .venv/ready ## build the servers that tests start (cached by content)
	@PYTHONPATH=tests $(BIN)/python -m cluster.build

clean: ## remove the environment and everything that runs leave behind
	rm -rf .venv .uv $(STORE) lorafinetune-runs $(SITE) dist

NO_PYTHON := no Python from 3.11 to 3.14 is here, for which our dependencies are locked: install one of them
.venv/ready: pyproject.toml uv.lock | $(UV)
	@UV_PYTHON_DOWNLOADS=never $(UV) python find > /dev/null 2>&1 || (echo "$(NO_PYTHON)"; exit 1)
	@echo "making the environment in .venv, once (5.6 GB) …"
	@UV_PYTHON_DOWNLOADS=never $(UV) sync --frozen --all-extras --all-groups
	@touch $@

.uv/bin/uv:
	@python3 -m venv .uv > /dev/null 2>&1 || \
	  (rm -rf .uv; apt-get update -q && apt-get install -y -q python3-venv && python3 -m venv .uv) || \
	  (rm -rf .uv; echo "python3-venv is missing: sudo apt-get install python3-venv"; exit 1)
	@.uv/bin/pip install --quiet uv==0.13.9
