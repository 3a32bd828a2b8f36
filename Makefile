# make demo    set up, then clone a voice with the model that ships
# make test    set up, then all checks and tests
# make lab     set up, then JupyterLab with a copy of the lessons
# make wheel   set up, then dist/*.whl
# make export  set up, then write the modules from the notebooks, and clean and shrink the notebooks
# make campaign                    set up, then some 16,000 hostile cases; goes on after Ctrl-C (tests/campaign.py)
# make campaign ARGS="files:123"   one case alone
# make screenshots   set up, then pictures of all widgets and of the studio in screenshots/ (or FOLDER=...), and the README's in nbs/images
# make docs    set up, then README and notebooks as pages that open from disk: _docs/README.html
# make wheel-check PYTHON=3.12 TORCH=2.6.0 TORCHAUDIO=2.6.0 TRANSFORMERS=5.4.0
#              set up, then install the wheel beside these versions (each is optional) and clone a voice

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RECOGNISERS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/voicelab/recognisers
SUM = cat $$(git ls-files -co --exclude-standard -- $(1) ':!voicelab/voices' ':!voicelab/testset' ':!voicelab/lessons' ':!voicelab/images' ':!voicelab/example' | sort) | sha256sum

# Install Chromium if that is allowed. Without it the browser tests are skipped, or fail if VOICELAB_BROWSER=required.
BROWSER = if command -v chromium; then :; elif [ "$$(id -u)" != 0 ]; then echo "no Chromium, and only root may install it"; \
	elif ! command -v apt-get >/dev/null; then echo "no Chromium, and no apt-get to install it"; \
	else apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium >/dev/null || echo "Chromium could not be installed"; fi

# Git compares and merges notebooks cell by cell, in this checkout only. (nbdev-install-hooks would also write to the home folder.)
HOOKS = if [ -e .git ]; then \
	git config --local diff.jupyternotebook.command '"$(CURDIR)/$(BIN)/nbdev-diff-driver"' && \
	git config --local merge.jupyternotebook.name "merge notebooks cell by cell" && \
	git config --local merge.jupyternotebook.driver '"$(CURDIR)/$(BIN)/nbdev-merge" %O %A %B %P'; fi

export HF_HUB_OFFLINE = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
unexport PYTHONDONTWRITEBYTECODE    # where it is set, each process would compile torch and transformers anew, for ten seconds

.PHONY: setup demo test lab wheel wheel-check screenshots export docs campaign clean
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): pyproject.toml constraints.txt packages/webrtcvad/pyproject.toml
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "voicelab needs python3 3.11 or later"; exit 1; }
	python3 -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt \
		./packages/webrtcvad --editable '.[dev,similarity]'
	@$(HOOKS)
	@touch $@

demo: $(READY)
	$(BIN)/voicelab clone --out demo --seed 1 --reference data/voices/ada.wav \
		--transcript "The old library opens at nine in the morning." \
		--consent "synthetic voice, made with espeak-ng for voicelab" --text "The garden is open today." \
		$(if $(wildcard $(RECOGNISERS)/whisper-base/model.bin),--recogniser whisper-base)

lab: $(READY)
	$(BIN)/voicelab lab

wheel: $(READY)
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist

wheel-check: $(READY)
	$(BIN)/python tests/wheel_check.py $(if $(PYTHON),--python $(PYTHON)) $(if $(TORCH),--torch $(TORCH)) \
		$(if $(TORCHAUDIO),--torchaudio $(TORCHAUDIO)) $(if $(TRANSFORMERS),--transformers $(TRANSFORMERS))

docs: $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[docs]'
	rm -rf _docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --builder html --conf-dir docs . _docs
	rm -rf jupyter_execute
	@echo "open _docs/README.html"

screenshots: $(READY)
	$(BIN)/python nbs/recipes/make_pictures.py nbs/images
	$(BIN)/python nbs/recipes/make_pictures.py $(or $(FOLDER),screenshots) --all

export: $(READY)
	$(BIN)/nbdev-export
	$(BIN)/nbdev-clean
	$(BIN)/python nbs/recipes/shrink_outputs.py nbs

# Each check runs what a developer would run. Export and clean fail if they change a file.
test: $(READY)
	@echo "== the installed packages fit together"
	@$(BIN)/python -m pip check
	@echo "== the notebooks export exactly this package"
	@before="$$($(call SUM,voicelab))"; $(BIN)/nbdev-export; test "$$before" = "$$($(call SUM,voicelab))"
	@echo "== the notebooks are clean"
	@before="$$($(call SUM,nbs))"; $(BIN)/nbdev-clean; test "$$before" = "$$($(call SUM,nbs))"
	@echo "== ruff"
	@$(BIN)/ruff check voicelab tests nbs/recipes
	@$(BIN)/ruff check --select F nbs
	@echo "== a recogniser for the tests of word error rates"
	@$(BIN)/python tests/recogniser.py
	@echo "== a browser for the tests of the widgets"
	@$(BROWSER)
	@echo "== pytest, which also runs the notebooks and the lessons"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

campaign: $(READY)
	$(BIN)/python tests/campaign.py $(ARGS)

clean:
	rm -rf $(VENV) build dist demo _docs packages/*/build
