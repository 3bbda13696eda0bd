# Every target sets up what it needs: only Python 3.11+, make and git are assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# checkov pins an old boto3, so it lives apart.
CHECKOV := .venv-checkov
CHECKOV_READY := $(CHECKOV)/.ready
# An AWS server beside moto, by other people; it pins a botocore, so it lives apart too.
MINISTACK := .venv-ministack
MINISTACK_READY := $(MINISTACK)/.ready
BENCH_READY := $(VENV)/.ready-bench
BENCH_STEPS := end_to_end cold_start dollars charts report readme
# The extras that the image has. As in pyproject.toml: pip-compile would lose a marker.
OBSTORE := obstore>=0.12
SIMD := cykooz-resizer>=4.0; sys_platform != 'linux' or platform_machine == 'x86_64'
BROWSER_READY := $(VENV)/.browser-ready
# What is installed is what was locked, byte for byte: pip refuses a file whose hash is another. pip itself comes with Python.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
LOCK := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade --generate-hashes --unsafe-package pip --strip-extras --no-emit-index-url --no-emit-find-links
# Looks for known vulnerabilities, and writes the bill of materials; apart, as they look at other environments.
AUDIT := .venv-audit
AUDIT_READY := $(AUDIT)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test bench browser referee check worker bridge flower reference site lock pin-base sbom audit-dependencies clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-18s  %s\n", $$1, $$2}'

$(READY): requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is older. Try: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what requirements-dev.txt pins into $(VENV) ..."
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements-dev.txt
	@touch $@

$(CHECKOV_READY): requirements-checkov.txt
	@test -x $(CHECKOV)/bin/python || $(PYTHON) -m venv $(CHECKOV)
	@echo "Installing checkov, for a test of the templates, into $(CHECKOV) ..."
	@$(CHECKOV)/bin/python $(PIP_INSTALL) --require-hashes -r requirements-checkov.txt && touch $@ || \
		echo "checkov could not be installed; its test is skipped (and fails in CI)."

$(MINISTACK_READY): requirements-ministack.txt
	@test -x $(MINISTACK)/bin/python || $(PYTHON) -m venv $(MINISTACK)
	@echo "Installing ministack, the second AWS server of the tests, into $(MINISTACK) ..."
	@$(MINISTACK)/bin/python $(PIP_INSTALL) --require-hashes -r requirements-ministack.txt && touch $@ || \
		echo "ministack could not be installed; its tests are skipped (and fail in CI)."

$(BROWSER_READY): $(READY) requirements-browser.txt tests/support/axe/package-lock.json
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements-browser.txt
	@npm ci --prefix tests/support/axe --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# Without npm, or offline, the benchmarks say which rows are missing.
$(BENCH_READY): $(READY) pyproject.toml benchmarks/contenders/package.json
	@echo "Installing what only the benchmarks need ..."
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"], sep="\n")' > $(VENV)/bench.txt
	@# A constraint with hashes would ask for one of everything; the benchmarks' own extra is not pinned.
	@sed -n 's/^\([a-zA-Z0-9].*[^ \]\) *\\$$/\1/p' requirements-dev.txt > $(VENV)/pins.txt
	@$(BIN)/python $(PIP_INSTALL) --constraint $(VENV)/pins.txt -r $(VENV)/bench.txt
	@! command -v npm >/dev/null || npm install --prefix benchmarks/contenders --no-package-lock --no-audit --no-fund --silent || true
	@touch $@

demo: $(READY) ## Run the whole pipeline on the bundled photos, on an embedded AWS
	@$(BIN)/python -m pipeline local samples --out out || { test $$? -eq 1 && echo "(One failure is meant: samples/broken-upload.jpg shows what a failure looks like.)"; }

test: $(READY) $(CHECKOV_READY) $(MINISTACK_READY) ## Run the tests
	$(BIN)/python -m pytest -n 3 --dist worksteal

browser: $(BROWSER_READY) ## Try the pages in a headless Chromium (apt-get install chromium chromium-driver npm)
	$(BIN)/python -m pytest -m browser tests/acceptance

bench: $(BENCH_READY) ## Measure everything in docs/performance.md anew (ten to twenty minutes)
	@for step in $(BENCH_STEPS); do echo "== $$step"; $(BIN)/python -m benchmarks.$$step || exit 1; done

referee: $(READY) ## Compare what is rendered with libvips, Chromium and sharp, on public corpora (apt-get install chromium npm)
	@! command -v npm >/dev/null || npm install --prefix benchmarks/contenders --no-package-lock --no-audit --no-fund --silent || true
	@$(BIN)/python -m benchmarks.referee out/referee

check: $(READY) ## Lint, type-check, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/unit/test_layout.py

worker: $(READY) ## Start a worker (the AWS variables say against what)
	$(BIN)/celery -A pipeline worker --loglevel INFO

bridge: $(READY) ## Start the bridge from the events queue to the tasks queue
	$(BIN)/python -m bridge

flower: $(READY) ## Start Flower
	$(BIN)/celery -A pipeline flower

reference: $(READY) ## Renew the pages that are made from the code (docs/settings.md, commands.md, python-api.md, …)
	$(BIN)/python -m tests.docs.reference

site: $(READY) ## Build the pages as a site with search, out/site/index.html
	$(BIN)/python -m tests.docs.site out/site

lock: $(READY) ## Refresh the pins from the ranges in pyproject.toml
	printf '%s\n' "$(OBSTORE)" "$(SIMD)" | $(LOCK) --output-file requirements.txt pyproject.toml -
	printf '%s\n' "$(OBSTORE)" "$(SIMD)" | $(LOCK) --extra dev --constraint requirements.txt --output-file requirements-dev.txt pyproject.toml -
	echo "selenium>=4.40" | $(LOCK) --constraint requirements-dev.txt --output-file requirements-browser.txt -
	echo "checkov>=3.3" | $(LOCK) --output-file requirements-checkov.txt -
	echo "ministack>=1.5" | $(LOCK) --output-file requirements-ministack.txt -
	printf 'pip-audit>=2.10\ncyclonedx-bom>=7.5\n' | $(LOCK) --output-file requirements-audit.txt -

$(AUDIT_READY): requirements-audit.txt
	@test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python $(PIP_INSTALL) --require-hashes -r requirements-audit.txt
	@touch $@

pin-base: ## Pin the Dockerfile's base image to the digest that its tag has today (asks the registry, by docker)
	@tag=$$(sed -n 's/^ARG BASE=\([^@]*\).*/\1/p' Dockerfile) && \
	digest=$$(docker buildx imagetools inspect "$$tag" --format '{{json .Manifest.Digest}}' | tr -d '"') && \
	{ echo "$$digest" | grep -qE '^sha256:[0-9a-f]{64}$$' || { echo "no digest of $$tag: $$digest"; exit 1; }; } && \
	sed "s|^ARG BASE=.*|ARG BASE=$$tag@$$digest|" Dockerfile > Dockerfile.new && mv Dockerfile.new Dockerfile && \
	echo "$$tag is $$digest; commit the Dockerfile. Do it again for the base's own security updates."

sbom: $(AUDIT_READY) ## Write sbom.json, the bill of materials of the container's Python packages (CycloneDX)
	@PYTHONWARNINGS=ignore $(AUDIT)/bin/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible --of JSON --output-file sbom.json requirements.txt
	@echo "sbom.json: what requirements.txt pins, with hashes. The base image's own packages are not in it."

audit-dependencies: $(AUDIT_READY) ## Look for known vulnerabilities of what is pinned (asks PyPI's advisory service)
	@for file in requirements.txt requirements-dev.txt; do echo "== $$file"; $(AUDIT)/bin/pip-audit --strict --require-hashes --disable-pip --requirement $$file || exit 1; done

clean: ## Remove what the other targets made
	rm -rf $(VENV) $(CHECKOV) $(MINISTACK) $(AUDIT) sbom.json benchmarks/contenders/node_modules tests/support/axe/node_modules out .mypy_cache .pytest_cache .ruff_cache .hypothesis
