# make demo    set up, then clone a voice with the model that ships
# make test    set up, then all gates and tests
# make lab     set up, then JupyterLab at the lessons
# make wheel   set up, then dist/*.whl

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SUM = cat $$(git ls-files -co --exclude-standard -- $(1) | sort) | sha256sum

export HF_HUB_OFFLINE = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: setup demo test chromium lab wheel export clean
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): pyproject.toml constraints.txt overrides.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "voicelab needs python3 3.11 or later"; exit 1; }
	python3 -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --override overrides.txt \
		--editable '.[dev,similarity]'
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
	@echo "== the package is what the notebooks export"
	@before="$$($(call SUM,voicelab))"; $(BIN)/nbdev-export; test "$$before" = "$$($(call SUM,voicelab))"
	@echo "== the notebooks are clean"
	@before="$$($(call SUM,nbs))"; $(BIN)/nbdev-clean; test "$$before" = "$$($(call SUM,nbs))"
	@echo "== ruff"
	@$(BIN)/ruff check voicelab tests nbs/recipes
	@echo "== notebook tests (the lessons are run by pytest)"
	@cd nbs && ../$(BIN)/nbdev-test --n-workers 2 --skip-folder-re lessons
	@echo "== pytest"
	@$(MAKE) --no-print-directory chromium
	@$(BIN)/python -m pytest

# The browser tests need Debian's Chromium; where it can't be installed they are skipped, with the reason.
chromium:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
		|| echo "no Chromium, and no right to install it: the browser tests are skipped"

clean:
	rm -rf $(VENV) build dist demo
