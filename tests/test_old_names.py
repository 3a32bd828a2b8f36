"What was renamed is found under its old name, with a warning; what never was is an error as ever."
import importlib
import subprocess

import pytest

import voicelab as vl
from voicelab import ablation, attention, files, lab, old_names, runs, session, widgets

@pytest.mark.parametrize("module", old_names.MODULES)
def test_an_old_module_leads_to_its_names(module):
    "Each public name of the modules that took an old one's place."
    old = importlib.import_module(f"voicelab.{module}")
    for place in old_names.MODULES[module]:
        new = importlib.import_module(f"voicelab.{place}")
        for name in new.__all__:
            if name in vars(old): continue                      # a module that still exists
            with pytest.warns(FutureWarning, match=f"voicelab.{module}.{name} is now voicelab"): found = getattr(old, name)
            assert found in [vars(importlib.import_module(f"voicelab.{each}")).get(name) for each in old_names.MODULES[module]]


@pytest.mark.parametrize("where, name, now", [
    (vl, "VoiceModel", "families.higgs.model.HiggsModel"), (lab, "VoiceModel", "families.higgs.model.HiggsModel"),
    (widgets, "Listening", "widgets.AttentionMap"), (attention, "listen", "attention.attention_of"),
    (ablation, "Trial", "ablation.Attempt"), (widgets.attention, "Listening", "widgets.AttentionMap"),
    (attention, "higgs_view", "families.higgs.attention.higgs_view"), (session, "mark_of", "generation.mark_of"),
    (session, "run_batch", "batch.run_batch"), (files, "read_sound", "recordings.read_sound"), (runs, "sound_errors", "pairs.sound_errors"),
    (lab, "RELEASED_CODEC", "families.higgs.model.RELEASED_CODEC")])
def test_an_old_name_says_what_it_is_called_now(where, name, now):
    with pytest.warns(FutureWarning, match=f"{name} is now voicelab.{now}; version 0.2 removes the old name") as warned: found = getattr(where, name)
    home, _, today = now.rpartition(".")
    assert found is getattr(importlib.import_module(f"voicelab.{home}"), today) and warned[0].filename == __file__


@pytest.mark.parametrize("where", [vl, lab, session, widgets, attention])
def test_a_name_that_never_was_is_an_attribute_error(where):
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"): where.Nothing
    assert not hasattr(where, "__nothing__")


def test_the_registry_of_families_was_never_that_of_vita():
    "`FAMILIES` is old in one module only; elsewhere the word means `voicelab.family.FAMILIES`."
    with pytest.warns(FutureWarning, match="FAMILIES is now voicelab.families.vita.prompt.VARIANTS"): importlib.import_module("voicelab.vita_prompt").FAMILIES
    with pytest.raises(AttributeError): vl.FAMILIES


def test_an_import_that_never_was_is_an_import_error():
    with pytest.raises(ModuleNotFoundError): importlib.import_module("voicelab.nothing")
    with pytest.raises(ImportError): exec("from voicelab.chatml import Nothing")


def test_todays_names_warn_of_nothing(python):
    code = "import warnings; warnings.simplefilter('error', FutureWarning)\n"
    code += "import voicelab as vl; from voicelab.lab import load; vl.widgets; vl.Speaker; [getattr(vl, name) for name in vl.__all__]"
    done = subprocess.run([*python, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_everything_is_imported_from_an_old_module():
    found = {}
    with pytest.warns(FutureWarning): exec("from voicelab.chatml import *\nfrom voicelab.chatml import Piece", found)
    assert {"Message", "clone_messages", "Piece"} <= {*found} and found["Piece"].__name__ == "Segment"
