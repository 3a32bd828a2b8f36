# make demo    set up, then clone a voice with the model that ships
# make test    set up, then all gates and tests
# make lab     set up, then JupyterLab at the lessons
# make wheel   set up, then dist/*.whl

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SUM = cat $$(git ls-files -co --exclude-standard -- $(1) | sort) | sha256sum

# Chromium is installed where that is allowed; else the browser tests are skipped, or fail if VOICELAB_BROWSER=required.
BROWSER = if command -v chromium; then :; elif [ "$$(id -u)" != 0 ]; then echo "no Chromium, and only root may install it"; \
	elif ! command -v apt-get >/dev/null; then echo "no Chromium, and no apt-get to install it"; \
	else apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium >/dev/null || echo "Chromium could not be installed"; fi

export HF_HUB_OFFLINE = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: setup demo test lab wheel export clean
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): pyproject.toml constraints.txt packages/webrtcvad/pyproject.toml
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "voicelab needs python3 3.11 or later"; exit 1; }
	python3 -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt \
		./packages/webrtcvad --editable '.[dev,similarity]'
	@touch $@

demo: $(READY)
	$(BIN)/voicelab clone --out demo --seed 1 --reference data/voices/ada.wav \
		--transcript "The old library opens at nine in the morning." \
		--consent "synthetic voice, made with espeak-ng for voicelab" --text "The garden is open today."

lab: $(READY)
	$(BIN)/voicelab lab

wheel: $(READY)
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist

export: $(READY)
	$(BIN)/nbdev-export
	$(BIN)/nbdev-clean

# Each gate runs what a developer would run, and fails if that changes a file.
test: $(READY)
	@echo "== what is installed fits together"
	@$(BIN)/python -m pip check
	@echo "== the package is what the notebooks export"
	@before="$$($(call SUM,voicelab))"; $(BIN)/nbdev-export; test "$$before" = "$$($(call SUM,voicelab))"
	@echo "== the notebooks are clean"
	@before="$$($(call SUM,nbs))"; $(BIN)/nbdev-clean; test "$$before" = "$$($(call SUM,nbs))"
	@echo "== ruff"
	@$(BIN)/ruff check voicelab tests nbs/recipes
	@echo "== notebook tests (pytest runs the lessons)"
	@cd nbs && ../$(BIN)/nbdev-test --n-workers 2 --skip-folder-re '^[_.]|^lessons$$'
	@echo "== a browser for the widgets' tests"
	@$(BROWSER)
	@echo "== pytest"
	@$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) build dist demo packages/*/build
