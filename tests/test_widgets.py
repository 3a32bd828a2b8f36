"""What the widgets do, without a browser: estimates, tries, scripts, errors, turns."""
import base64
import copy
import errno
import gc
import html
import io
import json
import os
import re
import shutil
import threading
import time
import warnings
import weakref
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import ipywidgets as W
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from ipywidgets.widgets.widget import _instances as living

import voicelab as vl
from voicelab.asr import Recogniser
from voicelab.attention import AttentionError
from voicelab.audio import Audio, load_audio
from voicelab.codec import Codec
from voicelab.errors import VoicelabError
from voicelab.family import FAMILIES
from voicelab.pairs import RunError
from voicelab.reference import shipped_voices
from voicelab.session import TRACE
from voicelab.study import STUDIES
from voicelab.voice_checks import Finding
from voicelab.widgets.ablation import RIGHT
from voicelab.widgets.attention import AttentionMap, study_line
from voicelab.widgets.base import Panel
from voicelab.widgets.capbar import WIDEST_BAR, bar_seconds
from voicelab.widgets.delay import DelayPattern
from voicelab.widgets.history import History, added_lines
from voicelab.widgets.knobs import Knobs
from voicelab.widgets.presets import EXAMPLES, MOST_PRESETS, read_presets, save_preset
from voicelab.widgets.prompt import PromptAnatomy
from voicelab.widgets.result import Result, ending, estimate_html, stop_html
from voicelab.widgets.sound import Clip, StreamPlayer, sound_key
from voicelab.widgets.still import still_html
from voicelab.widgets.style import BAD, GOOD, INK, NIGHT
from voicelab.widgets.tuner import Tuner, script
from voicelab.widgets.voice import FOLDER, NONE, OF_ANOTHER, PROPOSED, UPLOAD, VoiceChooser
from voicelab.widgets.worker import Closed, Status, Worker, lock_of, overheard
from voicelab.words import HeardWord

TEXT = "Good evening."
WIDGETS = [getattr(vl.widgets, name) for name in vl.widgets.__all__ if name not in ("ListeningTest", "Microphone", "Pivot", "WordTimeline")]
WIDGETS += [lambda model: vl.widgets.Microphone()]          # a listening test is made of a run, a pivot of a sweep


@pytest.fixture(autouse=True)
def nothing_left():
    "ipywidgets keeps what is not closed, with its pictures and sounds."
    before = {*living}
    yield
    parts = [part for key, part in [*living.items()] if key not in before]
    workers = [each for part in parts for each in vars(part).values() if isinstance(each, Worker)]
    for part in parts: part.close()
    for worker in workers: worker.wait(60)                  # what an upload began is of no other test


@pytest.fixture(scope="module")
def tuner(model):
    "A tuner with one try."
    tuner = Tuner(model, TEXT)
    finish(tuner)
    assert tuner.status.text == "Done.", tuner.status.text
    return tuner


def finish(widget):
    widget.run()
    widget.worker.wait(60)


def parts(widget):
    yield widget
    for child in getattr(widget, "children", ()): yield from parts(child)


@pytest.mark.parametrize("make", WIDGETS)
def test_no_name_of_ours_hides_one_of_ipywidgets(model, make):
    for part in (part for part in parts(make(model)) if type(part).__module__.startswith("voicelab")):
        theirs = next(kind for kind in type(part).__mro__ if kind.__module__.startswith(("ipywidgets", "anywidget")))
        ours = {name for kind in type(part).__mro__ if kind.__module__.startswith("voicelab") for name in vars(kind)} | set(vars(part))
        meant = {*vars(W.VBox()), *vars(W.VBox), "_esm", "_anywidget_id", "close",        # ours goes on to theirs
                 "_holding_sync"}                                # set by their own hold_sync
        hidden = {name for name in ours & set(dir(theirs)) if not name.startswith("__")} - meant
        assert not hidden, (type(part), hidden)


@pytest.mark.parametrize("make", WIDGETS)
def test_nothing_captures_output(model, make): assert not [part for part in parts(make(model)) if isinstance(part, W.Output)]


NOT_A_MODEL = ("tiny", None, 5, vl.load, [])
MADE_OF = {         # of each widget: arguments beside the model, and what is wrong with them
    "Tuner": [(dict(text=5), "text: must be a text, got 5"), (dict(reference="ada.wav"), "reference: must be a Reference or None, got 'ada.wav'"),
              (dict(recorder=5), "recorder: must be a widget with a reference, got 5"), (dict(within=5), "within: must be a folder or None, got 5"),
              (dict(run=5), "run: must be a Run, a folder or None, got 5")],
    "DelayPattern": [(dict(text=None), "text: must be a text, got None"), (dict(reference=5), "reference: must be"),
                     (dict(seed="x"), "seed: must be a whole number")],
    "Ablation": [(dict(text=[]), "text: must be"), (dict(other="ben"), "other: must be a Reference or None, got 'ben'"),
                 (dict(also="wer"), "also: must be a list of names, got 'wer'"), (dict(also=["charm"]), "also: must be among duration_ratio")],
    "CodecExplorer": [(dict(a=5), "a: must be a Reference or None, got 5"), (dict(b="ben"), "b: must be a Reference or None, got 'ben'")],
    "AttentionMap": [(dict(reference=5), "reference: must be"), (dict(generation=5), "generation: must be a Generation or None, got 5"),
                     (dict(seed=-1), "seed: must be a whole number")],
    "PromptAnatomy": [(dict(text=5), "text: must be"), (dict(reference={}), "reference: must be a Reference or None, got {}")],
    "Conversation": [(dict(text=5), "text: must be"), (dict(question=5), "question: must be an Audio or a file, got 5"),
                     (dict(reference=5), "reference: must be")],
    "ListeningTest": [(dict(kind=[]), "kind: must be one of preference, similarity, naturalness, got []"),
                      (dict(by=5), "by: must be a function or a text, got 5"),
                      (dict(file=5), "file: must be a path or None, got 5")],
    "Study": [(dict(study="beauty"), "study: must be one of "), (dict(references="ada"), "references: must be a list of References or None, got 'ada'"),
              (dict(references=[]), "references: must be a list of References"), (dict(texts="Hi."), "texts: must be a list of texts or None, got 'Hi.'"),
              (dict(folder=5), "folder: must be a folder or None, got 5")],
    "SweepBoard": [(dict(folder=5), "folder: must be a folder or None, got 5"), (dict(folder=""), "folder: needs a name")],
    "WordTimeline": [(dict(text="Hi."), "sample: must be a Generation or an Audio, got ")],
    "Pivot": [], "Microphone": []}


def test_every_widget_says_what_it_is_made_of(): assert set(MADE_OF) == set(vl.widgets.__all__)


@pytest.mark.parametrize("name", [name for name in MADE_OF if name not in ("ListeningTest", "Microphone", "Pivot", "SweepBoard", "WordTimeline")])
def test_a_name_in_place_of_a_model_is_refused_in_one_line(name):
    before = kept()
    for wrong in NOT_A_MODEL:
        with pytest.raises(VoicelabError, match=r"^model: must be a loaded model, as vl\.load gives it, got "): getattr(vl.widgets, name)(wrong)
    assert kept() == before


@pytest.mark.parametrize("name, wrong, said", [(name, *each) for name, tries in MADE_OF.items() for each in tries])
def test_what_a_widget_can_not_be_made_of_is_refused_in_one_line(model, tmp_path, name, wrong, said):
    before, first = kept(), vl.Run(tmp_path / "run") if name == "ListeningTest" else model
    with pytest.raises(VoicelabError) as error: getattr(vl.widgets, name)(first, **wrong)
    assert str(error.value).startswith(said) and kept() == before


@pytest.mark.parametrize("wrong", [5, []])
def test_what_is_no_run_and_no_sweep(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VoicelabError, match="^kind: must be one of "): vl.widgets.ListeningTest(kind="x")
    assert not [*tmp_path.iterdir()]                            # no example for a test that can't be
    with pytest.raises(VoicelabError, match="^run: must be a Run, a Sweep or a folder, got "): vl.widgets.ListeningTest(wrong)
    with pytest.raises(VoicelabError, match="^sweep: must be a Sweep or its folder, got "): vl.widgets.Pivot(wrong)
    with pytest.raises(VoicelabError, match="^folder: must be a path, got "): vl.Sweep(wrong)


def test_a_widget_shows_itself(tuner): assert len(repr(tuner)) < 100 and tuner._repr_mimebundle_()


# ---- the estimate

@pytest.mark.parametrize("text", ["a", TEXT, "The garden is open today. " * 40])
def test_the_estimate_follows_typing(model, text):
    tuner, took = Tuner(model, "x"), []
    for number in range(5):
        begun = time.thread_time()
        tuner.text.value = text + str(number)
        took.append(time.thread_time() - begun)
    assert min(took) < 0.25, took              # of processor time; some 10 ms where this was written
    assert "expected" in tuner.estimate.value


def test_the_estimate_follows_a_transcript(model):
    tuner, took = Tuner(model, TEXT), []
    for number in range(5):
        begun = time.thread_time()
        tuner.voice.transcript.value = f"What is said in it, and more {number}."
        took.append(time.thread_time() - begun)
    assert min(took) < 0.25, took              # of processor time; some 10 ms where this was written


def test_the_estimate_generates_nothing(model, monkeypatch):
    def never(*args, **options): raise AssertionError("the model was asked")
    tuner = Tuner(model, TEXT)
    for name in ("forward", "__call__"): monkeypatch.setattr(type(model.network), name, never)
    monkeypatch.setattr(model, "encode", never)
    before = tuner.estimate.value
    tuner.text.value = TEXT * 5
    assert tuner.estimate.value != before


@pytest.mark.parametrize("rule", ["reference_rate", "words_per_minute", "fixed"])
def test_the_cap_falls_where_the_generation_says(model, rule):
    tuner = Tuner(model, TEXT)
    tuner.knobs.set(dict(rule=rule, most=90, least=30, buffer=1.0, rate=20, margin=1.5))
    session = model.stream(TEXT, reference=tuner.voice.reference, **tuner.knobs.options())
    budgets = [chunk.budget for chunk in session.chunks]
    assert tuner.budgets() == budgets and f"{sum(b.cap_seconds for b in budgets):.1f} s" in tuner.estimate.value


def test_a_cap_that_cuts_says_so(model):
    tuner = Tuner(model, "The garden is open today. " * 5)
    tuner.knobs.set(dict(rule="words_per_minute", buffer=0.1, least=10))
    assert "cut off" in tuner.estimate.value or "leaves no room" in tuner.estimate.value


@pytest.mark.parametrize("text", ["", "   ", "\n", "x" * 60_000])
def test_a_text_that_cannot_be_said_shows_one_line(model, text):
    tuner = Tuner(model, TEXT)
    tuner.text.value = text
    assert "alert" in tuner.estimate.value
    finish(tuner)
    assert tuner.status.failed and "\n" not in tuner.status.text and not tuner.generate.disabled
    tuner.text.value = TEXT
    assert "expected" in tuner.estimate.value


def test_knobs_that_the_rule_does_not_use_are_grey():
    knobs = Knobs(("assistant_ref",), vl.read_settings())
    assert not knobs.margin.disabled and knobs.buffer.disabled
    knobs.rule.value = "words_per_minute"
    assert knobs.margin.disabled and not knobs.buffer.disabled


LONG = "The garden is open today. We walk along the river until the bridge. Goodbye."


@pytest.mark.parametrize("kind, size, options", [(None, 3, {}), ("none", 3, dict(chunking="none")), ("seconds", 2.5, dict(chunking=2.5)),
                                                 ("words", 4, dict(chunking="words", chunk_words=4)),
                                                 ("speaker", 0.2, dict(chunking="speaker", chunk_turns=1))])
def test_the_estimate_is_of_the_chunks_that_are_made(model, kind, size, options):
    tuner = Tuner(model, LONG)
    tuner.knobs.set(dict(chunking=kind, chunk_size=size))
    asked = tuner.asked()
    assert tuner.knobs.chunk_options() == options == {name: value for name, value in asked.options.items() if name.startswith("chunk")}
    assert tuner.budgets() == [chunk.budget for chunk in model.plan(LONG, reference=tuner.voice.reference, seed=1, budget=asked.options["budget"],
                                                                    settings=asked.options["settings"], **options).chunks]
    assert tuner.knobs.chunk_size.disabled == (kind in (None, "none"))
    assert all(f"{name}={value!r}" in script(asked, "tiny") for name, value in options.items())


def test_a_model_that_cuts_by_itself_has_no_knob_for_it():
    shown = Knobs(("a",), vl.read_settings()).sampling_box.children, Knobs(("a",), vl.read_settings(), options=("chunking",)).sampling_box.children
    assert len(shown[0]) == len(shown[1]) - 2


@pytest.mark.parametrize("option, more", [("chunk_words", set()), ("chunk_turns", {"speaker"})])
def test_a_model_without_turns_is_not_offered_them(option, more):
    knobs = Knobs(("a",), vl.read_settings(), options=("chunking", option))
    assert {way for _, way in knobs.chunking.options} == {None, "seconds", "none", "words"} | more


@pytest.mark.parametrize("rule, state", [("fixed", dict(most=40)), ("reference_rate", dict(least=900)), ("fixed", dict(least=900, most=100))])
def test_a_grey_slider_contradicts_nothing(model, rule, state):
    tuner = Tuner(model, TEXT)
    tuner.knobs.set(dict(rule=rule) | state)
    assert "expected" in tuner.estimate.value
    tuner.knobs.set(dict(rule="words_per_minute", least=900, most=100))         # there both are used
    assert "min_tokens = 900" in tuner.estimate.value


# ---- a try

def test_the_tuner_begins_with_the_sampling_that_clone_uses(model, vita):
    for each in (model, vita):
        asked, usual = Tuner(each, TEXT).knobs.options(), each.usual_sampling()
        assert replace(asked["sampling"], top_p=usual.top_p) == usual and (asked["sampling"].top_p in (1.0, usual.top_p))
        assert each.stream(TEXT, seed=1).sampling == replace(usual, seed=1)


def test_one_text_and_seed_have_the_same_codes_in_tuner_and_api(tuner, vita):
    other = Tuner(vita, TEXT)
    finish(other)
    for each in (tuner, other):
        assert torch.equal(each.model.clone(TEXT, reference=each.voice.reference, seed=1).codes, each.generation.codes)


def test_a_try_is_what_clone_makes(model, tuner):
    made = model.clone(TEXT, reference=tuner.voice.reference, seed=1, **{k: v for k, v in tuner.shown.options.items() if k != "seed"})
    assert torch.equal(made.codes, tuner.generation.codes)


def test_the_script_repeats_what_is_shown_whatever_is_set_now(tuner, root, monkeypatch):
    monkeypatch.chdir(root)
    tuner.text.value, tuner.knobs.temperature.value = "Something else.", 1.5
    code, space = tuner.code(), {}
    exec(code, space)
    assert torch.equal(space["made"].codes, tuner.generation.codes)
    assert code.count("data/voices/ada.wav") == 1 and str(root) not in code


def test_the_script_of_a_changed_transcript_and_changed_settings(model, root, monkeypatch):
    monkeypatch.chdir(root)
    tuner = Tuner(model, "It's \"here\".\n")
    tuner.voice.transcript.value = "Quite another \"thing\"."
    tuner.knobs.set(dict(rule="words_per_minute", most=80, least=40, buffer=2.0, rate=30, silence=20, temperature=0.0, ras=False, seed=7,
                         form="system_ref"))
    finish(tuner)
    space = {}
    exec(tuner.code(), space)
    assert torch.equal(space["made"].codes, tuner.generation.codes) and space["made"].budget == tuner.generation.budget


def test_the_script_without_a_reference(model):
    tuner = Tuner(model, TEXT)
    tuner.voice.voice.value = NONE
    assert "reference = None" in tuner.code()
    compile(tuner.code(), "script", "exec")


def test_history_sorts_replays_compares_and_saves(model, tmp_path):
    tuner = Tuner(model, TEXT)
    for seed, temperature in ((1, 0.3), (2, 1.0)):
        tuner.knobs.set(dict(seed=seed, temperature=temperature))
        finish(tuner)
    history = tuner.history
    assert history.frame.seed.tolist() == [1, 2] and history.frame.seconds.gt(0).all()
    history.sort.value = "temperature"
    assert history.table.value.index("0.30") < history.table.value.index("1.00")
    first, second = (tried.made for tried in history.tries)
    tuner.text.value, tuner.voice.voice.value, history.chosen.value = "Changed.", NONE, 0
    history.replay.click()
    assert tuner.generation is first and tuner.text.value == TEXT and tuner.knobs.seed.value == 1
    assert tuner.voice.reference.sha256 == first.reference.sha256 and tuner.voice.voice.value == "ada"
    history.other.value = 1
    history.against.click()
    assert "seed: 1 against 2" in history.versus.value and "temperature: 0.30 against 1.00" in history.versus.value
    history.folder.value = str(tmp_path / "run")
    history.save.click()
    assert not history.status.failed and len(vl.Run(tmp_path / "run")) == 2
    assert (tmp_path / "run/history.csv").read_text().count("\n") == 3
    assert len(history.export(str(tmp_path / "run"))) == 2                     # again: nothing twice
    history.folder.value = "/dev/null/no"
    history.save.click()
    assert history.status.failed


def test_tries_that_no_ruler_compares_are_still_heard_side_by_side(model):
    tuner = Tuner(model, TEXT)
    finish(tuner)
    tuner.voice.voice.value = NONE
    finish(tuner)
    history = tuner.history
    history.other.value = 0
    history.against.click()
    assert "voice: no reference against ada" in history.versus.value and "be compared" in history.versus.value
    assert [clip.name for clip in history.deck.clips] == ['try 1', 'try 0'] and all(len(clip.audio.samples) for clip in history.deck.clips)


def test_a_history_without_tries_has_nothing_to_save(model, tmp_path):
    with pytest.raises(RunError, match="history"): Tuner(model).history.export(str(tmp_path))


@pytest.fixture
def walled(model, tuner, tmp_path):
    "A history with one try that may save in `home` only, beside which lies what is not its own."
    home, beside = tmp_path / "home", tmp_path / "beside"
    for folder in (home, beside): folder.mkdir()
    (home / "link").symlink_to(beside)
    history = Tuner(model, TEXT, within=home).history
    history.add(replace(tuner.history.tries[0], saved=""))
    return history, home, beside


@pytest.mark.parametrize("folder", ["../beside", "{beside}", "deep/../../beside", "link", "link/deeper", "~/../..", "/"])
def test_a_tuner_within_a_folder_saves_nowhere_else(walled, folder):
    history, home, beside = walled
    history.folder.value = folder.format(beside=beside)
    history.save.click()
    assert history.status.failed and str(home) in history.status.text and "\n" not in history.status.text
    assert not any(beside.iterdir()) and not history.tries[0].saved


@pytest.mark.parametrize("folder", ["voicelab-out", "a/../b/c", "{home}/d", "."])
def test_a_tuner_within_a_folder_saves_there_and_below(walled, monkeypatch, folder):
    history, home, beside = walled
    monkeypatch.chdir(beside)                               # its own folder counts, not that of the process
    history.folder.value = folder.format(home=home)
    history.save.click()
    assert not history.status.failed and not any(beside.iterdir()) and len([*home.rglob("history.csv")]) == 1


def test_the_table_takes_the_place_of_a_link(walled):
    history, home, beside = walled
    (home / "run").mkdir()
    (beside / "precious").write_text("mine")
    (home / "run/history.csv").symlink_to(beside / "precious")
    history.export("run")
    assert (beside / "precious").read_text() == "mine" and (home / "run/history.csv").read_text().startswith("id,")


@pytest.mark.parametrize("folder", ["", "a\0b"])
def test_a_folder_that_can_be_none(walled, folder):
    history, home, _ = walled
    with pytest.raises(ValueError): history.export(folder)
    assert [path.name for path in home.iterdir()] == ["link"]


def test_stop_keeps_what_there_is(model):
    tuner = Tuner(model, "The garden is open today and the old library opens at nine in the morning.")
    heard = threading.Event()
    tuner.stream.play = lambda piece: (heard.set(), tuner.stop.click())
    finish(tuner)
    assert heard.is_set() and tuner.generation.stop_reason == "interrupted" and tuner.generation.audio.seconds > 0
    assert tuner.stop.disabled and not tuner.generate.disabled
    assert "interrupted" in tuner.result.words.value


def test_a_try_without_sound_is_shown(model, monkeypatch):
    tuner, stream = Tuner(model, TEXT), model.stream
    def stopped(*args, **options):
        session = stream(*args, **options)
        session.stop()
        return session
    monkeypatch.setattr(model, "stream", stopped, raising=False)
    finish(tuner)
    assert tuner.worker.error is None, tuner.worker.error
    assert len(tuner.generation.audio.samples) == 0 and len(tuner.history.frame) == 1
    assert "inf" not in tuner.history.table.value + tuner.result.words.value


def test_a_long_text_that_was_stopped_has_a_short_result(model):
    tuner = Tuner(model, "The garden is open. " * 200)
    tuner.stream.play = lambda piece: tuner.stop.click()
    finish(tuner)
    assert tuner.generation.stop_reason == "interrupted" and "never begun (" in tuner.result.words.value
    assert "None" not in tuner.result.words.value and "characters)" in tuner.result.words.value and len(tuner.result.words.value) < 1500


# ---- yesterday's work

def try_it(tuner, **knobs):
    tuner.knobs.set(knobs)
    finish(tuner)
    return tuner.history.tries[-1]


@pytest.fixture(scope="module")
def yesterday(model, tmp_path_factory):
    "A run with two samples of a tuner, one of somebody else and one that failed; nobody may change it."
    folder = tmp_path_factory.mktemp("yesterday") / "run"
    tuner = Tuner(model, "Good night.")
    tuner.voice.transcript.value = "Quite another sentence."
    try_it(tuner, rule="words_per_minute", most=200, seed=5, temperature=0.9, ras=False)
    try_it(tuner, rule="fixed", most=100, seed=6, top_k=0)
    tuner.history.export(str(folder))
    tuner.close()
    run = vl.Run(folder)
    run.save(model.clone(TEXT, seed=2**31 + 5, sampling="greedy"))
    run.save_failure("x", "busy")
    return folder


@pytest.fixture
def copied(yesterday, tmp_path): return Path(shutil.copytree(yesterday, tmp_path / "copy"))


def test_a_tuner_goes_on_from_yesterday(model, copied):
    tuner = Tuner(model, "Something.", run=copied)
    history = tuner.history
    assert [each.number for each in history.tries] == [0, 1, 2] and history.folder.value == str(copied) and "1 more" in history.status.text
    assert tuner.generation is history.tries[2].made and tuner.text.value == TEXT and tuner.voice.voice.value == NONE
    assert tuner.knobs.temperature.value == 0 and tuner.knobs.seed.value == 2**31 + 5 and tuner.result.clip.audio.seconds > 0
    assert "tokens are not kept" in tuner.status.text and not tuner.result.tokens.value and "similarity" in tuner.result.measures.value
    history.pick(0)
    assert (tuner.text.value, tuner.knobs.rule.value, tuner.knobs.most.value, tuner.knobs.ras.value) == ("Good night.", "words_per_minute", 200, False)
    assert tuner.voice.reference.transcript == "Quite another sentence." and tuner.voice.voice.value == "ada"
    finish(tuner)
    made, first = history.tries[-1], history.tries[0].made
    assert made.number == 3 and np.allclose(made.made.audio.samples, first.audio.samples, atol=1e-4)
    history.save.click()
    assert history.tries[-1].number == 4 == vl.Run(copied).rows[-1]["id"] and [each.number for each in history.tries] == [0, 1, 2, 4]
    assert pd.read_csv(copied / "history.csv").id.tolist() == [0, 1, 2, 4]


def test_the_script_of_an_earlier_try_makes_its_sound(model, yesterday, root, monkeypatch):
    monkeypatch.chdir(root)
    tuner = Tuner(model, run=yesterday)
    for each in tuner.history.tries:
        tuner.history.pick(tuner.history.tries.index(each))
        exec(tuner.code(), space := {})
        assert np.allclose(space["made"].audio.samples, each.made.audio.samples, atol=1e-4), each.number


def test_opening_keeps_what_is_not_saved_yet_and_saves_it_behind(model, copied):
    tuner = Tuner(model, TEXT)
    new = try_it(tuner, seed=9)
    tuner.history.folder.value = str(copied)
    tuner.history.opener.click()
    assert [each.number for each in tuner.history.tries] == [0, 1, 2, 3] and tuner.history.tries[-1] is new
    assert tuner.shown is tuner.history.tries[2] and tuner.history.chosen.value == 2
    assert len(tuner.history.export(str(copied))) == 5 and new.number == 4
    assert len(tuner.history.export(str(copied))) == 5                                          # again: nothing twice


def test_a_second_day_is_added_to_the_first(model, copied):
    lines = (copied / "history.csv").read_text().splitlines()
    (copied / "history.csv").write_text("\n".join([f"{lines[0]},note", *(f"{line},\"dull, I think\"" for line in lines[1:])]) + "\n")
    tuner = Tuner(model, TEXT)
    try_it(tuner, seed=9)
    tuner.history.export(str(copied))
    table = pd.read_csv(copied / "history.csv")
    assert table.id.tolist() == [0, 1, 4] and table.note.tolist()[:2] == ["dull, I think"] * 2 and table.seed.tolist() == [5, 6, 9]
    assert table.rule.tolist() == ["words_per_minute", "fixed", "reference_rate"] and tuner.history.tries[0].number == 4


@pytest.mark.parametrize("before, said", [(b"id,text\n0,\"a\n", None), (b"\xef\xbb\xbfid;text\n0;a\n", None), (b"", None), (b"\0\0\n1", None),
                                          (b"id\n0,1,2\n", "more cells"), (b"number,text\n1,a\n", None), (b"\xff\xfe", None)])
def test_a_table_of_somebody_else_is_not_lost(before, said):
    new = pd.DataFrame(dict(id=[0, 7], text=["x", "Good, \"evening\"\n."]))
    if said:
        with pytest.raises(RunError, match=said): added_lines(before, new)
        return
    after = added_lines(before, new).decode()
    table = pd.read_csv(io.StringIO(after), dtype=str, keep_default_na=False)
    assert table.iloc[-1].id == "7" and table.iloc[-1].text == "Good, \"evening\"\n."
    kept = before.decode("utf-8-sig", "replace").replace("\0", "").strip('" \n')
    assert all(word in after.replace("\0", "") for word in kept.replace(",", " ").replace('"', "").split())


@pytest.mark.parametrize("folder", ["", "nowhere", "a\0b", "/dev/null/no"])
def test_a_folder_without_a_run_opens_nothing_and_is_not_made(model, tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    history = Tuner(model, TEXT).history
    history.folder.value = folder
    history.opener.click()
    assert history.status.failed and "\n" not in history.status.text and not [*tmp_path.iterdir()] and not history.tries


def test_a_run_that_is_not_there_yet_is_begun(model, tmp_path):
    tuner = Tuner(model, TEXT, run=tmp_path / "new")
    assert tuner.history.folder.value == str(tmp_path / "new") and not tuner.history.tries and not [*tmp_path.iterdir()]
    try_it(tuner)
    tuner.history.save.click()
    assert len(vl.Run(tmp_path / "new")) == 1 and Tuner(model, TEXT, run=vl.Run(tmp_path / "new")).shown.number == 0


def test_a_tuner_says_that_its_folder_has_samples(model, copied, monkeypatch):
    monkeypatch.chdir(copied.parent)
    copied.rename(copied.parent / "voicelab-out")
    assert "voicelab-out has samples: Open lists them" in Tuner(model, TEXT).history.status.text


@pytest.mark.parametrize("folder", ["../beside", "link", "/"])
def test_a_tuner_within_a_folder_opens_nothing_else(model, yesterday, tmp_path, folder):
    home, beside = tmp_path / "home", shutil.copytree(yesterday, tmp_path / "beside")
    home.mkdir()
    (home / "link").symlink_to(beside)
    history = Tuner(model, TEXT, within=home).history
    history.folder.value = folder
    history.opener.click()
    assert history.status.failed and "must be in" in history.status.text and not history.tries
    with pytest.raises(RunError, match="must be in"): Tuner(model, TEXT, within=home, run=folder)


def test_what_was_deleted_is_saved_again(model, tmp_path):
    tuner = Tuner(model, TEXT)
    finish(tuner)
    assert len(tuner.history.export(str(tmp_path / "run"))) == 1
    shutil.rmtree(tmp_path / "run")
    assert len(tuner.history.export(str(tmp_path / "run"))) == 1 and len(tuner.history.tries) == 1
    assert len(tuner.history.export(str(tmp_path / "run"))) == 1                              # and not twice


def test_tries_of_another_run_stay_in_it(model, copied, tmp_path):
    tuner = Tuner(model, run=copied)
    with pytest.raises(RunError, match=f"history: has no new try; its samples are in {copied}"): tuner.history.export(str(tmp_path / "b"))
    assert not (tmp_path / "b").exists()
    new = try_it(tuner, seed=3)
    tuner.history.folder.value, there = str(tmp_path / "b"), len(tuner.history.tries) - 1
    tuner.history.save.click()
    assert tuner.history.status.text == f"1 sample in {tmp_path / 'b'}; {there} sample{'s' * (there > 1)} of {copied} left this list, and stay there."
    assert tuner.history.tries == [new] and new.number == 0
    with pytest.raises(VoicelabError, match="^run: .* is a file, not a folder"): Tuner(model, TEXT, run=copied / "manifest.jsonl")


ROW_CHANGES = [dict(settings={}), dict(settings=dict(budget=[], sampling={}, control={})), dict(stop_reason="tired"), dict(generated="../x.wav"),
               dict(generated="gone_generated_000_x.wav"), dict(text=None), dict(reference="gone.wav", hashes={})]
ROW_ODDITIES = [dict(measures=dict(similarity=dict(value="high", status="ok"), wer=5, length=dict(value=None, status="pass"))), dict(chunks=[5, {}]),
                dict(chunks=[dict(cap_frames="x", stop_reason=[], text=7)]), dict(knobs=dict(rule="charm", seed="x", most=None, value=3, no=1)), dict(rtf="x"),
                dict(knobs=5), dict(model={}), dict(prompt_form=7), dict(hashes={}), dict(knobs=dict(rule="words_per_minute", least=900, most=20))]


@pytest.mark.parametrize("changes", ROW_CHANGES + ROW_ODDITIES, ids=str)
def test_a_row_that_somebody_changed_is_left_out_or_shown(model, copied, changes):
    manifest = copied / "manifest.jsonl"
    first, second, *rest = manifest.read_text().splitlines()
    manifest.write_text("\n".join([first, json.dumps(json.loads(second) | changes), *rest]) + "\n")
    history = Tuner(model, run=copied).history
    left_out = changes in ROW_CHANGES or changes == ROW_ODDITIES[-1]
    assert [each.number for each in history.tries] == ([0, 2] if left_out else [0, 1, 2])
    for place in range(len(history.tries)): history.pick(place)
    assert "<script" not in history.table.value and history.frame.shape[0] == len(history.tries)


# ---- the table of the tries

@pytest.mark.parametrize("knobs, shown", [
    ([dict(rule="fixed"), dict(rule="reference_rate"), dict(rule="words_per_minute")], ["words_per_minute", "cap (s)", "duration buffer factor"]),
    ([dict(ras=True), dict(ras=False)], ["<td>yes</td>", "<td>no</td>"]), ([dict(top_k=5), dict(top_k=7)], ["top k"]),
    ([dict(margin=2.0), dict(margin=2.5)], ["reference margin", "2.50"]), ([dict(silence=40), dict(silence=50)], ["silence tokens"]),
    ([dict(seed=1), dict(seed=2)], [])])
def test_tries_that_differ_do_not_look_alike(tuner, knobs, shown):
    history = History(lambda tried: True, lambda: None)
    for each in knobs:
        tuner.knobs.set(dict(rule="reference_rate", margin=2.0, ras=True, top_k=50, silence=50, seed=1) | each)
        asked = tuner.asked()
        budget = tuner.budgets()[0]
        made = replace(tuner.generation, budget=budget, sampling=replace(asked.options["sampling"], seed=asked.options["seed"]),
                       control=asked.options["control"], chunks=[replace(tuner.generation.chunks[0], budget=budget)])
        history.add(replace(asked, made=made))
    rows = re.findall("<tr data-key.*?</tr>", history.table.value)
    assert len({re.sub("<td>[0-9]+</td>", "", row, count=1) for row in rows}) == len(knobs)     # apart from the number
    assert all(words in history.table.value for words in shown)
    assert ("top k" in history.table.value) == ("top k" in shown) and "rule" in history.table.value and "RAS" in history.table.value


def test_a_row_is_shown_again_with_all_of_it(model):
    tuner = Tuner(model, TEXT)
    first, second = try_it(tuner, seed=1), try_it(tuner, seed=2, rule="fixed")
    tuner.history.table._hear(None, dict(kind="choose", key=0), [])
    assert tuner.shown is first and tuner.knobs.rule.value == "reference_rate" and "reference_rate expects" in tuner.result.words.value
    assert sound_key(first.made.audio) in tuner.result.clip.player.value and tuner.history.chosen.value == 0
    assert "data-key='0' aria-current=true" in tuner.history.table.value
    for wrong in (dict(kind="choose", key=9), dict(kind="choose", key=-1), dict(kind="choose", key="1"), {}): tuner.history.table._hear(None, wrong, [])
    assert tuner.shown is first
    sent = []
    tuner.history.table.send = sent.append
    tuner.history.chosen.value = 1
    tuner.history.replay.click()
    assert tuner.shown is second and sent == [dict(kind="play", name="result", sound=sound_key(second.made.audio))]


def test_compared_numbers_are_rounded_and_have_units(model):
    tuner = Tuner(model, "The garden is open today, and the old library opens at nine in the morning.")
    try_it(tuner, rule="fixed", most=100)
    try_it(tuner, rule="words_per_minute", most=833)
    tuner.history.other.value = 0
    tuner.history.against.click()
    versus = tuner.history.versus.value
    assert not re.search(r"[0-9]\\.[0-9]{5}", versus) and "_" not in re.sub("words_per_minute|reference_rate", "", versus)
    assert "cap (s): " in versus and "<th>try 1</th><th>try 0</th>" in versus and "<td>length (s)</td>" in versus


def test_no_row_is_shown_while_a_sample_is_made(model):
    tuner, hold, going = Tuner(model, TEXT), threading.Event(), threading.Event()
    first = try_it(tuner, seed=1)
    tuner.stream.play = lambda piece: (going.set(), hold.wait(30))
    tuner.knobs.seed.value = 2
    tuner.run()
    assert going.wait(60) and "voicelab-earlier" in tuner.result._dom_classes               # the old one does not pass for the new one
    tuner.text.value = "Not lost."
    tuner.history.pick(0)
    assert "A sample is being made" in tuner.history.status.text and tuner.text.value == "Not lost." and tuner.shown is first
    hold.set()
    tuner.worker.wait(60)
    assert tuner.shown is not first and "voicelab-earlier" not in tuner.result._dom_classes


def test_after_an_error_the_old_result_is_marked_until_it_is_asked_for(model):
    tuner = Tuner(model, TEXT)
    try_it(tuner)
    tuner.text.value = ""
    finish(tuner)
    assert tuner.status.failed and "voicelab-earlier" in tuner.result._dom_classes
    tuner.history.pick(0)
    assert "voicelab-earlier" not in tuner.result._dom_classes and not tuner.status.failed


@pytest.mark.parametrize("stop_reason, words", [("eos", "Done."), ("interrupted", "Stopped: what had been made is kept."),
                                                ("budget", "Ended early (budget): "), ("repetition", "Ended early (repetition): ")])
def test_the_status_says_how_it_ended(tuner, stop_reason, words): assert ending(replace(tuner.generation, stop_reason=stop_reason)).startswith(words)


def test_under_a_far_cap_speech_is_still_seen(model):
    tuner = Tuner(model, TEXT)
    tuner.knobs.set(dict(rule="fixed", most=1000))
    assert tuner.bar.cap > tuner.bar.widest == WIDEST_BAR * tuner.bar.expected > 0
    finish(tuner)
    assert tuner.progress.value == 1
    tuner.knobs.set(dict(rule="reference_rate"))
    tuner.text.value = "The garden is open today, and the old library opens at nine in the morning."
    assert 0 < tuner.bar.cap < tuner.bar.widest


@pytest.mark.parametrize("expected, cap, seconds", [(1, 2, 2), (1, 40, 5), (2, 1, 2), (0, 40, 40)])
def test_a_bar_covers_the_speech(expected, cap, seconds): assert bar_seconds(expected, cap) == seconds


# ---- what stays without a kernel

@pytest.mark.parametrize("make", WIDGETS)
def test_every_widget_leaves_plain_html(model, make):
    widget = make(model)
    left = widget.still()
    assert "Without its kernel" in left and not re.search("<(button|script|select|textarea)", left) and len(left) < 20_000


def test_a_result_stays_with_its_sounds_within_limits(tuner, monkeypatch):
    left = tuner.still()
    assert left.count("<audio controls") == 2 and "Stopped: eos" in left and "data:audio/mpeg" in left and "data:audio/wav" not in left
    assert "similarity" in left and "<tr data-key=" in left and len(left) < 400_000
    monkeypatch.setattr("voicelab.widgets.still.MOST_STILL", 50_000)
    assert "too long to be kept in a notebook" in tuner.still() and "Stopped: eos" in tuner.still()


def test_outside_of_a_notebook_nothing_is_displayed(tuner, capsys):
    tuner._ipython_display_()
    assert capsys.readouterr().out == "Tuner()\n" and not tuner.still_name


# ---- errors

@pytest.mark.parametrize("error, line", [(vl.VoicelabError("top_k: must be\nat least 1"), "top_k: must be at least 1"),
                                         (RuntimeError("out of memory"), "RuntimeError: out of memory"), (KeyError(), "KeyError:")])
def test_an_error_in_the_work_is_one_line_and_the_widget_goes_on(model, monkeypatch, tmp_path, error, line):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tuner = Tuner(model, TEXT)
    def broken(*args, **options): raise error
    with monkeypatch.context() as patch:
        patch.setattr(model, "stream", broken, raising=False)
        finish(tuner)
    said = tuner.status.text.strip()
    if isinstance(error, vl.VoicelabError): assert said == line and not list(tmp_path.iterdir())
    else: assert said.startswith(f"a bug in voicelab ({line})") and len(said.splitlines()) == 1 and str(next(tmp_path.iterdir())) in said
    assert tuner.worker.error is error and not tuner.generate.disabled
    finish(tuner)
    assert tuner.status.text == "Done."


def test_an_error_half_way_leaves_the_model_free(model, tuner):
    other = Tuner(model, TEXT)
    def broken(piece): raise OSError("the page is gone")
    other.stream.play = broken
    finish(other)
    assert other.status.text == "the page is gone" and not lock_of(model).locked()


# ---- the background

class Watched:
    "A session with pieces of ours."
    def __init__(self, session, speak): self.session, self.speak = session, speak
    def __iter__(self): return self.speak()
    def __getattr__(self, name): return getattr(self.session, name)


def test_two_widgets_on_one_model_take_turns(model):
    one, two, working, overlaps = Tuner(model, TEXT), DelayPattern(model, TEXT), [0], []
    stream = model.stream
    def watched(*args, **options):
        working[0] += 1
        overlaps.append(working[0])
        session = stream(*args, **options)
        def speak():
            yield from session
            working[0] -= 1
        return Watched(session, speak)
    model.stream = watched
    try:
        one.run()
        two.run()
        for widget in (one, two): widget.worker.wait(60)
    finally: del model.stream
    assert overlaps == [1, 1] and one.generation is not None and two.generation is not None


def hold_turn(worker, until):
    "Give a worker its model's turn until an event; back when it has it."
    has = threading.Event()
    worker.start(lambda: (has.set(), until.wait(60)))
    assert has.wait(60)


def test_who_waits_can_be_stopped():
    class Model: pass
    model, status, stop, hold = Model(), Status(), W.Button(), threading.Event()
    first, second = Worker(model, Status()), Worker(model, status, stop=stop)
    hold_turn(first, hold)
    second.start(lambda: pytest.fail("must not run"))
    ends = time.monotonic() + 60
    while not status.text.startswith("Waiting") and time.monotonic() < ends: time.sleep(0.01)
    assert status.text.startswith("Waiting")
    stop.click()
    second.wait(60)
    hold.set()
    first.wait(60)
    assert status.text == "Stopped while waiting." and not second.busy


def test_a_second_start_is_ignored_while_at_work():
    class Model: pass
    hold, ran = threading.Event(), []
    worker = Worker(Model(), Status())
    worker.start(hold.wait)
    worker.start(lambda: ran.append(1))
    hold.set()
    worker.wait(60)
    assert not ran


def test_warnings_are_heard_one_thread_at_a_time():
    import warnings
    before, heard = warnings.filters[:], []
    def work(name):
        for _ in range(50):
            with overheard() as said: warnings.warn(name)
            heard.append([str(each.message) for each in said] == [name])
    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert all(heard) and warnings.filters == before


# ---- references

@pytest.mark.parametrize("make", [Tuner, DelayPattern])
def test_nobody_speaks_in_the_place_of_a_recording_that_is_not_there(model, make):
    widget = make(model, TEXT)
    widget.voice.voice.value = UPLOAD
    finish(widget)
    assert widget.generation is None and widget.status.text.startswith("voice: upload is chosen, but there is no recording yet")
    widget.voice.voice.value = NONE
    finish(widget)
    assert widget.generation.reference is None


def test_an_upload_is_checked_and_used(root):
    chooser, told = VoiceChooser(), []
    chooser.on_change(lambda: told.append(chooser.reference))
    upload(chooser, "../../evil name.wav", b"not a recording")
    assert chooser.status.failed and "evil name.wav" in chooser.status.text and "/tmp" not in chooser.status.text
    upload(chooser, "../../my voice.wav", (root / "data/voices/ben.wav").read_bytes())
    assert chooser.voice.value == UPLOAD and "/" not in chooser.reference.name and chooser.reference.transcript is None
    assert "consent" in chooser.status.text
    chooser.consent.value, chooser.transcript.value = "my own voice", "We walked along the river."
    assert chooser.reference.consent == "my own voice" and told[-1].transcript == "We walked along the river."


def upload(chooser, name, content, piece=2**19):
    "As the page sends a file: in pieces."
    hear = chooser.file._hear
    hear(None, dict(kind="begin", name=name, size=len(content)), [])
    for number, start in enumerate(range(0, len(content), piece)): hear(None, dict(kind="piece", number=number), [memoryview(content)[start:start + piece]])
    hear(None, dict(kind="end"), [])


def test_an_upload_shows_the_notice_and_gives_it_nowhere_else(root):
    chooser = VoiceChooser()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        upload(chooser, "ben.wav", (root / "data/voices/ben.wav").read_bytes())
        chooser.transcript.value = "We walked along the river."
    assert chooser.status.text == chooser.reference.notice != ""


def wav(samples, rate=16_000, **options):
    "A WAV file in memory."
    soundfile.write(file := io.BytesIO(), samples, rate, format="WAV", **options)
    return file.getvalue()


def test_after_a_refused_upload_nothing_earlier_speaks(model, root):
    tuner, good = Tuner(model, TEXT), (root / "data/voices/ben.wav").read_bytes()
    upload(tuner.voice, "ben.wav", good)
    assert tuner.voice.reference is not None
    for content, said in ((b"no sound", "'memo.m4a' is not a WAV"), (wav(np.zeros(16_000)), "is silent"), (wav(np.ones(100)), "0.01 s long"),
                          (b"\0\0\0 ftypM4A " + bytes(99), "'memo.m4a' is MP4 or M4A (AAC): the formats read are")):
        upload(tuner.voice, "memo.m4a", content)
        assert tuner.voice.reference is tuner.voice.base is None and tuner.voice.status.failed and tuner.voice.clip.layout.display == "none"
        assert said in tuner.voice.status.text and "/tmp" not in tuner.voice.status.text
        finish(tuner)
        assert tuner.generation is None and tuner.status.failed and tuner.status.text == f"voice: the upload was refused: {tuner.voice.status.text}"
    tuner.voice.voice.value = "ada"
    assert tuner.voice.reference.name == "ada" and not tuner.voice.status.failed
    tuner.voice.voice.value = UPLOAD
    assert tuner.voice.reference is None and tuner.voice.status.failed and tuner.voice.back.layout.display == ""
    tuner.voice.back.click()
    assert tuner.voice.reference.name == "ben" and not tuner.voice.status.failed and tuner.voice.back.layout.display == "none"
    upload(tuner.voice, "ben.wav", good)
    assert tuner.voice.reference.name == "ben" and not tuner.voice.status.failed and "refused" not in tuner.voice.status.text


@pytest.mark.parametrize("change, said", [
    (lambda x: np.tile(x, 20), "'a b.wav' is 55.2 s long, longer than the limit of 30 s: cut at 30.00 s"),
    (lambda x: np.clip(x * 4, -1, 1), "of it is at full scale: it is clipped"),
    (lambda x: x * 0.02, "it is very quiet: its loudest 20 ms reach -"),
    (lambda x: np.concatenate([np.zeros(96_000), x]), "silence around the speech, 4.0 s before"),
    (lambda x: np.stack([x, -x], axis=1), "'a b.wav': its channels cancel each other"),
    (lambda x: np.random.default_rng(0).normal(0, 0.1, len(x)), "it sounds like noise"),
    (lambda x: x, ""),
], ids=["long", "clipped", "quiet", "padded", "inverted", "noise", "good"])
def test_what_is_wrong_with_an_upload_is_said_on_the_page(root, change, said):
    samples, rate = soundfile.read(root / "data/voices/ben.wav")
    chooser = VoiceChooser()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        upload(chooser, "a b.wav", wav(change(samples), rate))
        chooser.consent.value = "mine"
    assert said in chooser.status.text and "/tmp" not in chooser.status.text and bool(said) == bool(chooser.status.text)
    assert chooser.reference.consent == "mine" and chooser.reference.remarks == tuple(filter(None, [chooser.status.text]))


def test_what_becomes_of_a_text_is_said_on_the_page(model):
    tuner, anatomy = Tuner(model, TEXT), PromptAnatomy(model, TEXT)
    assert "text: " not in tuner.estimate.value + anatomy.status.text
    tuner.text.value = anatomy.text.value = "Find the FLOWER in <b>room</b> 5 of the BBC."
    lines = ("text: removed markup, which would be read aloud: <b>, </b>", "text: capitals lowered: FLOWER; capitals kept, as in an acronym: BBC")
    for line in lines: assert html.escape(line) in tuner.estimate.value and anatomy.status.text.count(line) == 1
    tuner.text.value = anatomy.text.value = "Room 5."
    assert "are said in &#x27;en&#x27;: &#x27;Room five.&#x27;" in tuner.estimate.value and "are said in 'en': 'Room five.'" in anatomy.status.text
    tuner.text.value = "Find the FLOWER."
    finish(tuner)
    assert tuner.status.text == "Done. text: capitals lowered: FLOWER"


def test_opus_is_offered_and_read(root):
    samples, rate = soundfile.read(root / "data/voices/ben.wav")
    soundfile.write(file := io.BytesIO(), samples, rate, format="OGG", subtype="OPUS")
    chooser = VoiceChooser()
    upload(chooser, "memo.opus", file.getvalue())
    assert ".opus" in chooser.file.accept and chooser.reference.name == "memo"


def test_an_upload_without_consent_is_no_reference_where_the_settings_require_one(model, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.ini").write_text("[REFERENCE_POLICY]\nrequire_consent = true\n")
    tuner = Tuner(model, TEXT)
    upload(tuner.voice, "ben.wav", (root / "data/voices/ben.wav").read_bytes())
    assert tuner.voice.reference is None and tuner.voice.status.text.startswith("consent: none is stated for the voice 'ben'")
    finish(tuner)
    assert tuner.generation is None and tuner.status.failed and tuner.status.text == tuner.voice.status.text
    tuner.voice.consent.value = "my own voice"
    assert tuner.voice.reference.consent == "my own voice" and tuner.voice.status.text == ""


def test_a_generated_sound_that_is_uploaded_stays_marked(tuner, tmp_path):
    chooser = VoiceChooser()
    upload(chooser, "clone.flac", tuner.generation.audio.save(tmp_path / "clone.flac").read_bytes())
    chooser.consent.value = "synthetic"
    assert chooser.reference.audio.mark == tuner.generation.audio.mark


def played(shown, path):
    "The sound that a player of the page holds, read from its bytes."
    path.write_bytes(base64.b64decode(shown.value.split("base64,")[1].split("'")[0]))
    return load_audio(path)


def test_what_a_player_offers_for_download_is_marked(model, tuner, tmp_path):
    assert played(tuner.result.clip.player, tmp_path / "a.wav").mark == tuner.generation.audio.mark
    walk = DelayPattern(model, TEXT)
    finish(walk)
    walk.hear.click()
    walk.worker.wait(60)
    assert played(walk.clip.player, tmp_path / "b.wav").mark == walk.generation.audio.mark


def test_a_stretch_is_a_reference_of_its_own(model):
    tuner = Tuner(model, TEXT)
    voice, full = tuner.voice, shipped_voices()["ada"]
    with voice.stretch.wave.hold_trait_notifications(): voice.stretch.wave.start, voice.stretch.wave.end = 0.5, 2.0        # a drag
    part = voice.reference
    assert (part.name, part.consent, part.audio.samples.tolist()) == ("ada, 0.50 to 2.00 s", full.consent, full.audio.slice(0.5, 2.0).samples.tolist())
    assert voice.doubt == OF_ANOTHER and voice.confirm.layout.display == "" and "of another stretch" in voice.note.text
    finish(tuner)
    assert "transcript: it was of another stretch, and is not confirmed" in tuner.status.text and tuner.generation.reference.sha256 == part.sha256
    assert "data/voices/ada.wav" not in tuner.code() and "save it first" in tuner.code()
    voice.transcript.value = "library opens at"
    assert voice.doubt == "" and voice.confirm.layout.display == "none" and voice.reference.transcript == "library opens at"
    voice.stretch.whole.click()
    assert voice.reference.sha256 == full.sha256 and voice.transcript.value == full.transcript
    voice.stretch.start.value, voice.stretch.end.value = 0.5, 2.0                                                            # by the keyboard
    assert voice.reference.sha256 == part.sha256 and voice.transcript.value == "library opens at"                              # what the user wrote for it
    voice.stretch.end.value = 0.6
    assert voice.reference.sha256 == part.sha256 and "0.5 to 30 s" in voice.stretch.status.text and voice.stretch.end.value == 2.0


def test_a_long_recording_offers_its_stretches_and_no_more_than_five_minutes(root):
    samples, rate = soundfile.read(root / "data/voices/ben.wav")
    chooser = VoiceChooser()
    upload(chooser, "talk.wav", wav(np.tile(samples, 150), rate))                             # 414 s, 20 MB
    assert chooser.stretch.audio.seconds == 300 and chooser.reference.audio.seconds <= 30 and chooser.stretch.span == (0, chooser.reference.audio.seconds)
    assert "'talk.wav' is 6:54 long: 5:00 from 0:00 are shown" in chooser.status.text and chooser.later.layout.display == ""
    chooser.stretch._take(120.0, 125.0)
    assert chooser.reference.audio.seconds == pytest.approx(5) and chooser.reference.name == "talk, 120.00 to 125.00 s"
    chooser.stretch._take(0, 300)
    assert "this one would have 300.00 s" in chooser.stretch.status.text and chooser.reference.audio.seconds == pytest.approx(5)
    chooser.consent.value, chooser.later.value = "mine", "6:00"
    assert chooser.stretch.audio.seconds == pytest.approx(54) and chooser.reference.consent == "mine"
    chooser.stretch._take(10.0, 15.0)
    kept = chooser.reference
    assert kept.name == "talk, 370.00 to 375.00 s" and np.array_equal(kept.audio.samples, chooser.stretch.audio.slice(10.0, 15.0).samples)
    for wrong, said in (("7:00", "from: 'talk.wav' is 6:54 long, got 7:00"), ("soon", "from: must be a time such as")):
        chooser.later.value = wrong
        assert said in chooser.stretch.status.text and chooser.reference is kept
    upload(chooser, "ben.wav", wav(samples, rate))
    assert chooser.later.layout.display == "none" and chooser.reference.name == "ben"


@pytest.mark.parametrize("messages, said", [
    ([dict(kind="begin", name="../film.wav", size=2 * 2**30)], "upload: '../film.wav' has 2.0 GB, at most 100.0 MB are taken: cut it first, with: ffmpeg"),
    ([dict(kind="begin", name="a.wav", size=-1)], "upload: 'a.wav' is empty"), ([dict(kind="begin", name="a.wav", size="9")], "upload: 'a.wav' is empty"),
    ([dict(kind="begin", name="a.wav", size=9), dict(kind="piece", number=1)], "upload: a piece of 'a.wav' was lost"),
    ([dict(kind="begin", name="a.wav", size=9), dict(kind="end")], "upload: 'a.wav' was cut on the way"),
    ([dict(kind="error", name="a.wav", text="gone")], "upload: 'a.wav' could not be read in the page: gone")])
def test_an_upload_that_can_not_be_is_one_line(messages, said):
    chooser = VoiceChooser()
    upload(chooser, "ben.wav", (shipped_voices()["ben"].audio).wav_bytes())
    sent = []
    chooser.file.send = lambda content, *_: sent.append(content["kind"])
    for message in messages: chooser.file._hear(None, message, [b"12345"])
    assert chooser.status.failed and chooser.status.text.startswith(said) and chooser.reference is None and sent[-1] == "stop"
    chooser.file._hear(None, dict(kind="piece", number=0), [b"12345"])                        # what is still under way
    assert chooser.file.pieces == []


def test_a_folder_of_ones_own_is_offered_and_never_called_synthetic(model, tmp_path, monkeypatch):
    (folder := tmp_path / "mine").mkdir()
    voices = shipped_voices()
    voices["ben"].audio.save(folder / "uncle.wav")
    (folder / "uncle.txt").write_text("We walked along the river.")
    (folder / "broken.wav").write_text("no sound")
    tuner = Tuner(model, TEXT, voices=vl.TestSet(folder, consent="my uncle agrees"))
    tuner.voice.voice.value = "uncle (mine)"
    assert (tuner.voice.reference.consent, tuner.voice.reference.transcript) == ("my uncle agrees", "We walked along the river.")
    assert "broken" in tuner.voice.opened.text and "synthetic" not in tuner.voice.consent.value
    for make in (DelayPattern, PromptAnatomy, AttentionMap, vl.widgets.Ablation, vl.widgets.CodecExplorer, vl.widgets.Study):
        widget = make(model, voices=str(folder))
        choosers = [each for each in vars(widget).values() if isinstance(each, VoiceChooser)]
        assert choosers and all("uncle (mine)" in chooser.voice.options for chooser in choosers)
        assert "uncle (mine)" in getattr(widget, "others", ["uncle (mine)"])
    chooser = VoiceChooser(within=tmp_path)
    chooser.voice.value = FOLDER
    assert chooser.status.text == "Name a folder." and chooser.folders.layout.display == ""
    for path, consent, said in (("", "", "folder: name one"), ("mine", "", "consent: state who agreed"), ("..", "mine", "folder: must be in"),
                                ("no", "mine", "folder: "), (str(folder / "uncle.txt"), "mine", "folder: ")):
        chooser.folder.value, chooser.owners.value = path, consent
        chooser.opener.click()
        assert chooser.opened.failed and chooser.opened.text.startswith(said) and chooser.reference is None, chooser.opened.text
    chooser.folder.value, chooser.owners.value = "mine", "my uncle agrees"
    chooser.opener.click()
    assert chooser.voice.value == "uncle (mine)" and chooser.reference.consent == "my uncle agrees" and not chooser.opened.failed
    assert chooser.opened.text.startswith("Voices added to the list: 1. Not usable: broken")
    chooser.voice.value = "ada"
    assert chooser.opened.text == ""                                                            # it was about the folder


def test_two_recordings_of_one_name_are_two_voices_and_a_cut_one_says_so(tmp_path):
    voices, chooser = shipped_voices(), VoiceChooser(within=tmp_path)
    for place, name in (("one/mine", "ben"), ("two/mine", "cleo")):
        (tmp_path / place).mkdir(parents=True)
        long = replace(voices[name].audio, samples=np.tile(voices[name].audio.samples, 15))
        long.save(tmp_path / place / "uncle.wav")
        (tmp_path / place / "uncle.txt").write_text("We walked along the river.")
    for place in ("one/mine", "two/mine", "one/mine"):
        chooser.folder.value, chooser.owners.value = place, "my uncle agrees"
        chooser.opener.click()
    mine = [label for label in chooser.voice.options if "(mine" in label]
    assert mine == ["uncle (mine)", "uncle (mine, 2)"] and len({chooser.voices[label].sha256 for label in mine}) == 2
    assert chooser.voice.value == "uncle (mine)" and "longer than the limit of 30 s: cut at 30.00 s" in chooser.status.text


def test_a_voice_of_ones_own_in_the_shipped_folder_gets_no_statement_of_ours(tmp_path, monkeypatch, root):
    import shutil
    shutil.copytree(root / "data/voices", tmp_path / "voices")
    samples, rate = soundfile.read(root / "data/voices/ben.wav")
    soundfile.write(tmp_path / "voices/ada.wav", samples * 0.5, rate)                          # another in the place of one
    shutil.copy(tmp_path / "voices/ada.wav", tmp_path / "voices/me.wav")
    with open(tmp_path / "voices/transcripts.tsv", "a") as file: file.write("me\tWe walked.\n")
    monkeypatch.setattr("voicelab.reference.VOICE_FOLDER", tmp_path / "voices")
    stated = {name: voice.consent for name, voice in shipped_voices().items()}
    assert stated["ada"] == stated["me"] == "not stated" and all("synthetic" in stated[name] for name in ("ben", "cleo", "dan", "noor"))


class Ears:
    "A recogniser that hears what it is told to."
    id = "ears"
    def __init__(self): self.words, self.heard, self.wait = "What was heard.", [], threading.Event()
    def hear(self, audio, code):
        self.heard.append((round(audio.seconds, 2), code))
        self.wait.wait(30)
        return self.words


@pytest.fixture
def ears(monkeypatch):
    ears = Ears()
    monkeypatch.setattr("voicelab.widgets.voice.known_recogniser", lambda: (ears, ""))
    monkeypatch.setattr("voicelab.widgets.voice.of_speakers", lambda audio: Finding("speakers", "one voice", True))
    ears.wait.set()
    return ears


def test_the_recogniser_proposes_the_words_of_ones_own_recording(model, root, ears, tmp_path):
    tuner, content = Tuner(model, TEXT), (root / "data/voices/ben.wav").read_bytes()
    voice = tuner.voice
    assert not ears.heard                                                                     # the shipped voices have theirs
    upload(voice, "ben.wav", content)
    voice.ears.wait(30)
    assert (voice.transcript.value, voice.doubt, ears.heard) == ("What was heard.", PROPOSED, [(2.76, None)]) and "one voice" in voice.checks.value
    assert voice.reference.transcript == "What was heard." and "not confirmed" in voice.note.text and voice.confirm.layout.display == ""
    finish(tuner)
    assert "transcript: proposed by the recogniser, not confirmed" in tuner.status.text
    assert "# its transcript: proposed by the recogniser, not confirmed" in tuner.code()
    assert tuner.history.export(str(tmp_path / "run"))[0].row["transcript_doubt"] == PROPOSED
    voice.keeper.start(voice._keep)
    voice.keeper.wait(30)
    assert voice.keeping.failed and voice.keeping.text.startswith("transcript: confirm it first") and not voice.link.value
    voice.confirm.click()
    assert voice.doubt == "" and voice.confirm.layout.display == "none" and voice.note.text == ""
    ears.words = "Was heard."
    voice.stretch._take(0.5, 2.0)                                                             # other words: it listens again
    voice.ears.wait(30)
    assert (voice.transcript.value, voice.doubt, ears.heard[-1]) == ("Was heard.", PROPOSED, (1.5, None))
    voice.transcript.value = "was heard"
    assert voice.doubt == "" and voice.reference.transcript == "was heard"
    voice.stretch.whole.click()
    voice.ears.wait(30)
    assert voice.transcript.value == "What was heard." and voice.doubt == ""                  # confirmed before


def test_what_the_user_writes_meanwhile_stays(root, ears):
    chooser = VoiceChooser()
    ears.wait.clear()
    upload(chooser, "ben.wav", (root / "data/voices/ben.wav").read_bytes())
    assert soon(lambda: ears.heard) and "listens" in chooser.note.text
    chooser.transcript.value = "We walked."
    ears.wait.set()
    chooser.ears.wait(30)
    assert (chooser.transcript.value, chooser.doubt, chooser.reference.transcript) == ("We walked.", "", "We walked.")


def soon(true, seconds=30):
    ends = time.monotonic() + seconds
    while not true() and time.monotonic() < ends: time.sleep(0.01)
    return true()


def test_a_missing_transcript_is_told_beside_its_box(root):
    chooser = VoiceChooser()
    assert chooser.note.text == ""
    upload(chooser, "ben.wav", (root / "data/voices/ben.wav").read_bytes())
    chooser.ears.wait(60)
    assert chooser.note.text.startswith("No transcript: ") and not chooser.doubt


def test_a_voice_is_saved_and_comes_back(model, ears):
    chooser = VoiceChooser(model=model)
    chooser.consent.value = "<b>mine</b>"
    chooser.keep.click()
    chooser.keeper.wait(30)
    assert "download='ada.safetensors'" in chooser.link.value and not chooser.keeping.failed
    content = base64.b64decode(chooser.link.value.split("base64,")[1].split("'")[0])
    chooser.consent.value = "another"
    assert chooser.link.value == ""                                                           # it was of another statement
    other = VoiceChooser()
    upload(other, "from a colleague.safetensors", content)
    assert other.reference.sha256 == shipped_voices()["ada"].sha256 and other.reference.consent == other.consent.value == "<b>mine</b>"
    assert other.transcript.value == shipped_voices()["ada"].transcript and "61 frames of codes by tiny-codec" in other.status.text
    upload(other, "broken.safetensors", content[:-7])
    assert other.status.failed and "'broken.safetensors' is damaged" in other.status.text and other.reference is None


def test_the_estimate_counts_all_chunks_and_warns_of_a_language(model):
    tuner = Tuner(model, "The garden is open today and the old library opens at nine in the morning. " * 4)
    assert " chunks" in tuner.estimate.value
    letters = [float(found) for found in re.findall(r"reference_rate: (\d+) letters", tuner.estimate.value)]
    assert letters == [pytest.approx(sum(float(budget.detail.split()[0]) for budget in tuner.budgets()), abs=5)]
    assert "it seems to be" not in tuner.estimate.value
    tuner.text.value = "今天天气很好。"
    assert "it seems to be Chinese, and the model was trained on Arabic and English" in tuner.estimate.value
    finish(tuner)
    assert tuner.status.text.count("it seems to be Chinese") == 1


def test_an_empty_text_is_told_once(model):
    tuner = Tuner(model, "")
    assert "nothing to say" in tuner.estimate.value
    finish(tuner)
    assert tuner.status.failed and "nothing to say" in tuner.status.text and tuner.estimate.value == ""
    tuner.text.value = "Good evening."
    assert " expected, cap at " in tuner.estimate.value


def test_a_microphone_can_be_plugged_in(root):
    import traitlets
    class Recorder(W.Label):
        reference = traitlets.Any(None, allow_none=True)
    recorder = Recorder()
    chooser = VoiceChooser(recorder=recorder)
    chooser.voice.value = "microphone"
    assert chooser.reference is None and chooser.status.text == "Record something first."
    recorder.reference = vl.Reference(root / "data/voices/ben.wav", transcript="What I said.", consent="my own voice")
    assert chooser.reference.transcript == "What I said." and chooser.clip.audio is recorder.reference.audio


def test_the_tuner_offers_the_microphone(model):
    tuner = Tuner(model, TEXT)
    tuner.voice.voice.value = "microphone"
    assert tuner.voice.own.layout.display == "" and tuner.voice.status.text == "Record something first."
    finish(tuner)
    assert tuner.generation is None and tuner.status.failed
    say(tuner.voice.own, shipped_voices()["ben"].audio)
    assert tuner.voice.reference is None and tuner.voice.status.text.startswith("consent: state who speaks") and tuner.voice.clip.audio is not None
    tuner.voice.consent.value, tuner.voice.transcript.value = "my own voice", "We walked."
    finish(tuner)
    assert (tuner.generation.reference.name, tuner.generation.reference.consent) == ("microphone", "my own voice")


def say(recorder, audio):
    "As the page sends a recording."
    for content, buffers in ((dict(kind="begin", rate=audio.rate), []), (dict(kind="piece", number=0), [audio.samples.tobytes()]), (dict(kind="end"), [])):
        recorder._hear(None, content, buffers)


@pytest.mark.parametrize("content, said", [
    (dict(kind="error", text="the browser refused it: allow the microphone for this page, or upload a recording"), "microphone: the browser refused it"),
    (None, "recording: it is silent; is the microphone muted")], ids=["refused", "silent"])
def test_a_microphone_that_gives_nothing_is_told_and_leaves_no_earlier_voice(model, content, said):
    tuner = Tuner(model, TEXT)
    say(tuner.voice.own, shipped_voices()["ben"].audio)
    if content: tuner.voice.own._hear(None, content, [])
    else: say(tuner.voice.own, Audio(np.zeros(32_000, np.float32), 16_000))
    assert tuner.voice.status.failed and tuner.voice.status.text.startswith(said) and tuner.voice.reference is tuner.voice.base is None
    finish(tuner)
    assert tuner.generation is None and tuner.status.text == f"voice: the recording was refused: {tuner.voice.status.text}"
    tuner.voice.back.click()
    assert tuner.voice.base.name == "microphone" and not tuner.voice.status.failed


def test_no_reference_needs_no_words():
    chooser = VoiceChooser()
    chooser.voice.value = NONE
    assert chooser.reference is None and chooser.transcript.disabled and chooser.clip.layout.display == "none"


def test_levels_are_kept(tmp_path):
    quiet = Audio((0.01 * np.sin(np.arange(8000) / 5)).astype(np.float32), 16_000)
    clip = Clip("quiet")
    clip.show(quiet)
    (tmp_path / "played.wav").write_bytes(base64.b64decode(clip.player.value.split("base64,")[1].split("'")[0]))
    assert abs(load_audio(tmp_path / "played.wav").samples).max() == pytest.approx(0.01, abs=1e-4)


def test_names_are_words_not_html(model):
    clip = Clip("<b>'x'")
    clip.show(Audio(np.zeros(800, np.float32), 8000), "<script>alert(1)</script>")
    assert "<script>" not in clip.caption.value and "<b>'x'" not in clip.player.value + clip.image.value
    tuner = Tuner(model, "<img src=x>")
    assert "<img src=x>" not in tuner.estimate.value


# ---- the stream

def test_pieces_wait_for_the_page():
    player = StreamPlayer()
    sent = []
    player.send = lambda content, buffers=None: sent.append(content["kind"])
    player.begin(8000)
    player.play(Audio(np.zeros(80, np.float32), 8000))
    assert not sent
    player._hear(player, dict(kind="ready"), [])
    player.play(Audio(np.zeros(80, np.float32), 8000))
    assert sent == ["begin", "piece", "piece"]
    player.muted = True
    player.play(Audio(np.zeros(80, np.float32), 8000))
    assert len(sent) == 3


# ---- closing

def kept(): return {*living}        # the ids of `get_manager_state`, which reads all pictures and sounds for them


def shown(widget): return [part.value for part in parts(widget) if isinstance(part, W.HTML)]


def tried(model, tmp_path):
    tuner = Tuner(model, TEXT)
    for _ in range(2): finish(tuner)
    tuner.history.other.value = 0
    for button in (tuner.write, tuner.history.against, tuner.history.replay): button.click()
    assert len(tuner.history.tries) == 2 and tuner.history.versus.value and tuner.script.value == ""
    return tuner


def walked(model, tmp_path):
    walk = DelayPattern(model, TEXT)
    finish(walk)
    walk.hear.click()
    walk.worker.wait(30)
    assert walk.clip.audio
    return walk


def ablated(model, tmp_path):
    bench = vl.widgets.Ablation(model, TEXT)
    for arm, tick in bench.ticks.items(): tick.value = arm in (RIGHT, "no_reference")
    bench.seeds.value = 1
    finish(bench)
    bench.heard.value = bench.heard.options[1][1]
    assert bench.clip.audio
    return bench


def explored(model, tmp_path):
    explorer = vl.widgets.CodecExplorer(model)
    finish(explorer)
    explorer.blend.click()
    explorer.mixer.wait(30)
    assert explorer.mix.audio and explorer.ladder.audio
    return explorer


def listened(model, tmp_path):
    look = AttentionMap(model, TEXT)
    finish(look)
    look.map.place = [0.2, 0.5]
    assert look.attention is not None
    return look


def test_a_head_that_is_chosen_while_the_worker_ends_is_drawn(model):
    look, hold = AttentionMap(model, TEXT), threading.Event()
    finish(look)
    look.worker.start(lambda: hold.wait(60))                # work that draws nothing
    for _, head in look.head.options[1:3]: look.head.value = head
    assert look.note.text.startswith("Reading this head") and look.head.value not in look.attention.maps
    hold.set()
    assert soon(lambda: look.note.text.startswith("Click a place"))
    assert look.head.value in look.attention.maps and not look.worker.busy


def test_stop_also_ends_what_was_to_follow(model):
    look = AttentionMap(model, TEXT)
    finish(look)
    with lock_of(model):                                    # somebody else has the model
        look.worker.start(lambda: pytest.fail("it was stopped"))
        for _, head in look.head.options[1:3]: look.head.value = head
        assert soon(lambda: look.status.text.startswith("Waiting"))
        look.stop.click()
        look.worker.wait(60)
        assert look.status.text == "Stopped while waiting." and not look.worker.busy and look.head.value not in look.attention.maps
    for _, head in look.head.options[3:5]: look.head.value = head
    look.worker.wait(60)
    assert look.head.value in look.attention.maps and look.note.text.startswith("Click a place")


def test_what_is_said_of_a_place_is_not_overwritten_by_the_hint(model):
    look = AttentionMap(model, TEXT)
    finish(look)
    def show(*shown):
        type(look.map).show(look.map, *shown)
        look.map.place = [0.2, 0.5]                         # clicked as soon as it is there
    look.map.show = show
    look._draw()
    assert look.note.text.startswith("At 0.20 s of the sample")


def asked(model, tmp_path):
    run = vl.Run(tmp_path / "run")
    for seed in (0, 1): run.save(model.clone(TEXT, reference=shipped_voices()["ada"], seed=seed))
    ask = vl.widgets.ListeningTest(run, kind="similarity")
    for message in (dict(agree=True), dict(headphones=[]), dict(trial=0, answer=4, heard=[1, 1])): ask.page.answer(message)
    ask.opener.value = True
    for button in (ask.writer, ask.show_results): button.click()
    ask.worker.wait()
    assert len(ask.test.answers) == 1 and ask.results.value
    return ask


def recorded(model, tmp_path):
    microphone, voice = vl.widgets.Microphone(), shipped_voices()["ada"].audio
    microphone.consent.value = "my own voice"
    for content, buffers in ((dict(kind="begin", rate=voice.rate), []), (dict(kind="piece", number=0), [voice.samples.tobytes()]), (dict(kind="end"), [])):
        microphone.recorder._hear(None, content, buffers)
    assert microphone.reference
    return microphone


def read(model, tmp_path):
    anatomy = PromptAnatomy(model, TEXT)
    anatomy.form.value = model.prompt_forms[-1]
    return anatomy


def talked(model, tmp_path):
    from voicelab.families.vita.checkpoint import tiny_vita
    from voicelab.families.vita.model import VitaModel
    from voicelab.models.glm4voice import tiny_glm4voice
    talk = vl.widgets.Conversation(VitaModel(tiny_vita(), tiny_glm4voice()), question=shipped_voices()["ben"].audio, option_steps=1)
    talk.most.value = 30
    for _ in range(2): finish(talk)
    assert len(talk.answers) == 2, talk.status.text
    return talk


def shown_result(model, tmp_path):
    result = Result()
    result.show(model.clone(TEXT, reference=shipped_voices()["ada"], seed=1))
    return result


def looked_at(model, tmp_path):
    pivot = vl.widgets.Pivot(vl.Sweep(tmp_path / "sweep", model=model, references=shipped_voices()["ada"], texts=[TEXT], seeds=[1]).run())
    pivot.again.click()
    return pivot


def stopped_at(widget, words: str) -> list[str]:
    "Press Stop once, when the status line begins with `words`; what the line says until then."
    said, say = [], widget.status.say
    def heard(line):
        said.append(line)
        say(line)
        if line.startswith(words):
            widget.status.say = say
            widget.stop.click()
    widget.status.say = heard
    return said


def test_the_pivot_makes_what_is_missing_and_stops_when_asked(model, tmp_path):
    sweep = vl.Sweep(tmp_path / "sweep", model=model, references=shipped_voices()["ada"], texts=[TEXT], seeds=[1, 2, 3])
    pivot = vl.widgets.Pivot(sweep)
    said = stopped_at(pivot, "1 of 3")
    pivot.go.click()
    pivot.worker.wait()
    assert pivot.status.text.startswith("Stopped: 3 cells, 1 made; 2 missing"), said
    assert [point["status"] for point in pivot.page.content["points"]] == ["ok", "missing", "missing"]
    assert pivot.stop.disabled and not pivot.go.disabled and said[0] == "0 of 3 cells"
    pivot.go.click()
    pivot.worker.wait()
    assert pivot.status.text == "3 cells, 3 made" and {point["status"] for point in pivot.page.content["points"]} == {"ok"}
    with vl.Sweep(sweep.folder)._alone():
        pivot.go.click()
        pivot.worker.wait()
    assert pivot.status.failed and "is being run by another process" in pivot.status.text


def of_board(model, tmp_path, **options):
    "A board of two cells."
    board = vl.widgets.SweepBoard(model, tmp_path / "board")
    board.axes.texts.value, board.axes.ticks["ben"].value = TEXT, False
    board.axes.add_option("sampling.temperature", [0.3, 1.0])
    return board


def pressed(board, *buttons):
    "The status of a board after its buttons were pressed, one after the other."
    for button in buttons:
        button.click()
        board.worker.wait(60)
    assert board.worker.error is None, board.worker.error
    return board.status.text


def boarded(model, tmp_path):
    board = of_board(model, tmp_path)
    board.names.value = ("length", "ended")
    said = pressed(board, board.go, board.measurer, board.comparer, board.writer, board.again)
    assert board.comparison is not None and board.listing.value and board.bar.value == 2, said
    return board


def test_a_board_has_everything_of_a_sweep(model, tmp_path):
    board = of_board(model, tmp_path)
    assert "2 cells, 0 made; 2 missing, about" in board.estimate.value and not (tmp_path / "board").exists()
    assert pressed(board, board.try_one).startswith("2 cells, 1 made; 1 missing, about") and "estimated from 1 cell" in board.estimate.value
    assert pressed(board, board.go) == "2 cells, 2 made" and {point["status"] for point in board.page.content["points"]} == {"ok"}
    board.names.value = ("length", "wer")
    board.recogniser.value = "no-such-recogniser"
    pressed(board, board.measurer)
    assert next(field for field in board.fields if field.takes("recogniser")).error.failed and not board.status.failed
    board.recogniser.value, board.names.value = "", ("length",)
    assert pressed(board, board.measurer) == "Measured."
    board.by.value, board.measure_name.value, board.anchors.value = "temperature", "length", False
    assert pressed(board, board.comparer) == "Compared." and board.comparison._repr_html_() in board.found.value
    assert board.comparison.table.level.tolist() == [0.3, 1.0]
    board.base.value = 1.0
    pressed(board, board.comparer)
    assert board.comparison.baseline == 1.0
    for kind, end in (("csv", ".csv"), ("html", ".html"), ("hf", "-hf")):
        board.kind.value = kind
        assert pressed(board, board.exporter) == f"Written: {tmp_path / 'board'}{end}"
    board.kind.value, board.path.value = "csv", str(tmp_path / "no" / "file.csv")
    pressed(board, board.exporter)
    assert next(field for field in board.fields if field.takes("path")).error.text.startswith("path: there is no folder")


def test_the_code_of_a_board_makes_the_same_cells(model, tmp_path):
    own = vl.Reference(shipped_voices()["cleo"].audio, transcript="We 'met'.", consent="mine", name="cleo two")
    noisy = own.altered(dict(cut_seconds=1.5), audio=own.audio.slice(0, 1.5))
    sweep = vl.Sweep(tmp_path / "sweep", model, references=[own, noisy, None, (own, shipped_voices()["ada"])], texts=[TEXT, "Two\n\"lines\"."], seeds=[3, 4, 9],
                     sampling=[vl.Sampling(temperature=t, top_k=k) for t in (0.3, 1.0) for k in (5, None)], budget=[None, "fixed"], batch=2,
                     settings=replace(vl.read_settings(), audio_generation=replace(vl.read_settings().audio_generation, reference_margin=1.25)))
    board, names = vl.widgets.SweepBoard(folder=sweep.folder), [cell.name for cell in sweep.grid.cells]
    assert [(row.name.value, row.levels.value) for row in board.axes.rows] == [
        ("sampling.temperature", "0.3\n1.0"), ("sampling.top_k", "5\nnone"), ("budget", "none\nfixed")]
    assert board.axes.seeds.value == "3-4, 9" and board.batch.value == 2 and "192 cells, 0 made" in board.estimate.value
    space = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(board.code().replace("sweep.run()\n", ""), space)
    assert [cell.name for cell in space["sweep"].grid.cells] == names == [cell.name for cell in board.sweep.grid.cells]
    board.folder.value = str(tmp_path / "elsewhere")
    assert [cell.name for cell in board.made().grid.cells] == names               # the controls alone make them, too
    exec(board.code().replace("sweep.run()\n", ""), space)
    assert [cell.name for cell in space["sweep"].grid.cells] == names and space["sweep"].folder == tmp_path / "elsewhere"


def test_a_board_opens_pairs_and_levels_that_are_not_crossed(model, tmp_path):
    ada = shipped_voices()["ada"]
    levels = [vl.Sampling(temperature=0.3, top_k=5), vl.Sampling(temperature=1.0)]
    sweep = vl.Sweep(tmp_path / "sweep", model, pairs=[(ada, "One."), (None, "Two.")], sampling=levels, seeds=[1])
    board = vl.widgets.SweepBoard(model, sweep.folder)
    assert [row.name.value for row in board.axes.rows] == ["sampling"] and board.axes.fields[0].layout.display == "none"
    assert [cell.name for cell in board.made().grid.cells] == [cell.name for cell in sweep.grid.cells]


@pytest.mark.parametrize("change, place, said", [
    (lambda board: setattr(board.axes.texts, "value", " \n"), "texts", "texts: needs at least one"),
    (lambda board: setattr(board.axes.ticks["ada"], "value", False), "voices", "voices: tick at least one"),
    (lambda board: setattr(board.axes.seeds, "value", "1, -x"), "seeds", "seeds: must be numbers"),
    (lambda board: setattr(board.axes.seeds, "value", "0-9999999999"), "seeds", "seeds: at most 10000"),
    (lambda board: setattr(board.axes.rows[0].levels, "value", "-1"), "temperature", "temperature: must be 0 to 10"),
    (lambda board: setattr(board.axes.rows[0].levels, "value", ""), "temperature", "sampling.temperature: needs at least one level"),
    (lambda board: setattr(board.axes.rows[0].levels, "value", "0.3, 0.3"), "sampling", "sampling: values 0 and 1 are equal"),
    (lambda board: board.axes.add_option("sampling.temperature", [1]), "temperature", "sampling.temperature: has two rows"),
    (lambda board: board.axes.add_option("prompt_form", ["<b>"]), "prompt_form", "prompt_form: must be one of"),
    (lambda board: board.axes.add_option("budget", [[1]]), "budget", "budget: "),
    (lambda board: setattr(board.folder, "value", " "), "folder", "folder: needs a name"),
    (lambda board: setattr(board.folder, "value", "/dev/null"), "folder", "folder: "),
    (lambda board: setattr(board.models, "value", "no-such-model"), "", "'no-such-model'")])
def test_what_a_board_can_not_run_is_one_line_beside_its_field(model, tmp_path, monkeypatch, change, place, said):
    monkeypatch.chdir(tmp_path)
    board = of_board(model, tmp_path)
    change(board)
    pressed(board, board.go)
    wrong = [field.error for field in (*board.fields, *board.axes.rows) if field.error.failed] or [board.status]
    assert len(wrong) == 1 and wrong[0].failed and said in wrong[0].text and "\n" not in wrong[0].text and "<b>" not in wrong[0].value, wrong[0].text
    if place: assert wrong[0] in [each.error for each in (*board.axes.rows, *board.fields) if each.takes(place)] and not board.status.failed
    assert not (tmp_path / "board").exists() and not board.go.disabled


def test_a_board_stops_and_goes_on(model, tmp_path):
    board = of_board(model, tmp_path)
    said = stopped_at(board, "1 of 2")
    assert pressed(board, board.go).startswith("Stopped: 2 cells, 1 made; 1 missing"), said
    assert pressed(board, board.go) == "2 cells, 2 made" and board.stop.disabled and not board.go.disabled


def test_two_boards_on_a_folder_know_of_each_other(model, tmp_path):
    board = of_board(model, tmp_path)
    pressed(board, board.go)
    other = vl.widgets.SweepBoard(folder=tmp_path / "board")
    assert "Another board" in other.notice.value and "2 cells, 2 made" in other.estimate.value
    with other.sweep._alone(): pressed(board, board.go)
    assert next(field for field in board.fields if field.takes("folder")).error.text.endswith("is being run by another process")
    board.close()
    other.folder.value = str(tmp_path / "third")
    assert not other.notice.value


def test_a_sweep_that_is_deleted_while_it_is_shown(model, tmp_path):
    board = of_board(model, tmp_path)
    pressed(board, board.go)
    shutil.rmtree(tmp_path / "board")
    sent, sounds = board.page.answer("g0")                  # still shown
    assert "problem" in sent and not sounds
    for button in (board.again, board.measurer, board.comparer, board.exporter):
        pressed(board, button)
        assert next(field for field in board.fields if field.takes("folder")).error.failed and not (tmp_path / "board").exists()
    assert board.page is None and board.listening.children == (board.nothing,)
    assert pressed(board, board.go) == "2 cells, 2 made" and board.page is not None


def test_a_full_disk_is_one_line_and_loses_nothing(model, tmp_path, monkeypatch):
    board = of_board(model, tmp_path)
    pressed(board, board.try_one)
    def full(*_, **__): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch:
        patch.setattr("voicelab.runs.Run._publish", full)
        pressed(board, board.go)
    wrong = [field.error for field in board.fields if field.error.failed] + [board.status] * board.status.failed
    assert len(wrong) == 1 and "has no space left on its disk" in wrong[0].text and board.bar.value == 1 and not board.go.disabled
    assert pressed(board, board.go) == "2 cells, 2 made"


def test_a_model_that_is_gone_makes_failed_cells_and_the_board_stays(model, tmp_path, monkeypatch):
    board = of_board(model, tmp_path)
    pressed(board, board.writer)
    with monkeypatch.context() as patch:
        patch.setattr("voicelab.family.BaseSpeaker.clone", lambda *_, **__: (_ for _ in ()).throw(VoicelabError("model: was unloaded")))
        patch.setattr(type(model), "stream", lambda *_, **__: (_ for _ in ()).throw(VoicelabError("model: was unloaded")))
        pressed(board, board.go)
    assert "2 failed" in board.status.text and "model: was unloaded" in board.sweep.table.error[0]
    board.retry.value = True
    assert pressed(board, board.go) == "2 cells, 2 made"


@pytest.mark.parametrize("wrong, said", [(5, "model: must be a name"), ([], "model: must be a name"), ("no-such-model", "no-such-model")])
def test_a_board_of_no_model(tmp_path, wrong, said):
    before = kept()
    with pytest.raises(VoicelabError, match=said): vl.widgets.SweepBoard(wrong, tmp_path / "board")
    assert kept() == before and not (tmp_path / "board").exists()


def of_study(model, tmp_path, **given):
    "A study of four cells."
    voices = [shipped_voices()[name] for name in ("ada", "ben")]
    study = vl.widgets.Study(model, "length", voices, [TEXT], tmp_path / "study", **given)
    study.seeds.value, study.options.value = 1, "seconds=1\nwindows=1\n"
    return study


def studied(model, tmp_path):
    study = of_study(model, tmp_path)
    finish(study)
    study.heard.value = study.heard.options[1][1]
    for _ in range(2): study.opener.click()
    study.writer.click()
    assert study.status.text == "complete, 4 samples." and study.clip.audio is not None and study.pivot.page.content["points"], study.status.text
    return study


@pytest.mark.parametrize("when, shared, then", [("1 of 4 cells", True, "Stopped: unfinished, 1 of 4 samples."),
                                                ("1 of 2 cells", True, "Stopped: unfinished, 4 samples, 4 of them"),
                                                ("4 of 4 cells", False, "Stopped: unfinished, 4 samples, 4 of them"),
                                                ("2 of 4 samples", False, "Stopped: unfinished, 4 samples, 2 of them not measured yet.")])
def test_a_study_stops_wherever_it_is_and_goes_on(model, tmp_path, when, shared, then):
    study = of_study(model, tmp_path, within=tmp_path if shared else None)      # a shared studio's makes one cell at a time
    say, said = study.status.say, []
    def heard(words):
        said.append(words)
        say(words)
        if words.startswith(when): study.stop.click()
    study.status.say = heard
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        finish(study)
    assert study.status.text.startswith(then) and study.stop.disabled and not study.go.disabled and study.worker.error is None, said
    assert "unfinished" in study.said.value
    study.status.say = say
    finish(study)
    assert study.status.text == "complete, 4 samples." and study.image.png and len(study.heard.options) == 3


def test_what_another_page_deleted_and_saved_is_not_taken_for_ones_own(model, tmp_path):
    one, two = (Tuner(model, "Hi.") for _ in range(2))
    for each in (one, two): each.history.folder.value = folder = str(tmp_path / "mine")
    finish(one)
    one.history.export(folder)
    two.history.opener.click()
    shutil.rmtree(folder)                                   # by either page
    two.text.value = "Bee."
    finish(two)
    two.history.save.click()
    assert two.history.status.text == f"1 sample in {folder}; 1 sample had been deleted."
    assert list(pd.read_csv(f"{folder}/history.csv").text) == [tried.text for tried in two.history.tries] == ["Bee."]
    one.history.opener.click()                              # its own, which is saved nowhere, stays
    assert one.history.status.text == f"1 sample of {folder}." and [tried.text for tried in one.history.tries] == ["Bee.", "Hi."]
    assert len(one.history.export(folder)) == 2 and list(pd.read_csv(f"{folder}/history.csv").text) == ["Bee.", "Hi."]
    shutil.rmtree(folder)
    two.history.opener.click()
    assert "has no sample to go on from" in two.history.status.text
    assert len(two.history.export(folder)) == 1             # once more


def test_what_is_deleted_is_gone_though_another_page_writes_there(tmp_path):
    from voicelab.studio_page import Kept
    own = tmp_path / "studio/visitor_1"
    own.mkdir(parents=True)
    for n in range(400): (own / f"{n}.wav").write_text("old")
    def write():                                            # files come, move and go until the folder is no more
        with suppress(FileNotFoundError):
            for n in count():
                (own / "part").write_text("x")
                (own / "part").rename(own / f"{n % 400}.wav")
    kept = Kept(SimpleNamespace(folder=own, made={}, visitor="one", deleted=lambda: None))
    other = threading.Thread(target=write)
    other.start()
    for _ in range(20): kept.show()
    kept.sure.value = True
    kept.delete.click()
    other.join(60)
    assert kept.status.text == "It is deleted." and not [*(tmp_path / "studio").iterdir()] and "Nothing of yours" in kept.words.value


def test_what_arrives_while_a_folder_is_deleted_goes_too(tmp_path, monkeypatch):
    from voicelab import studio_page
    late, delete = iter(["a", "b/c"]), shutil.rmtree
    def meanwhile(folder):                                  # a call that began before the folder had another name ends after it was listed
        delete(folder)
        for name in late:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("late")
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(folder))
    (tmp_path / "own/sub").mkdir(parents=True)
    monkeypatch.setattr(studio_page, "rmtree", meanwhile)
    studio_page.delete_folder(tmp_path / "own")
    studio_page.delete_folder(tmp_path / "never")           # nothing is there, nothing is to do
    assert not [*tmp_path.iterdir()]
    (tmp_path / "own").mkdir()
    def refused(folder): raise OSError(errno.ENOTEMPTY, "Directory not empty", str(folder))
    monkeypatch.setattr(studio_page, "rmtree", refused)
    with pytest.raises(OSError, match="not empty"): studio_page.delete_folder(tmp_path / "own")     # not for ever


def test_a_study_says_what_it_costs_and_generates_nothing(model, tmp_path, monkeypatch):
    def never(*given, **options): raise AssertionError("something was generated")
    study = of_study(model, tmp_path)
    for name in ("clone", "clone_batch"): monkeypatch.setattr(type(model), name, never)
    study.price.click()
    study.worker.wait()
    assert study.status.text.startswith("4 cells, 0 made; 4 missing, about ")
    assert not study.image.png and study.heard.options == (("–", None),) and not [*tmp_path.iterdir()]       # nothing is written, either
    study.study.value = "generations"
    study.price.click()
    study.worker.wait()
    assert study.status.text.startswith("Generation 1 of 10: ") and "9 more generations follow, each with as many cells." in study.status.text


def test_the_code_of_a_study_with_a_voice_of_ones_own(model, tmp_path):
    own = vl.Reference(shipped_voices()["cleo"].audio, transcript="We 'met'.", consent="mine", name="cleo two")
    study = vl.widgets.Study(model, references=[own], texts=[TEXT], folder=tmp_path / "study")
    study.seeds.value, study.study.value = 1, "length"
    study.options.value = "seconds=1\nwindows=1"
    finish(study)
    space = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(study.code(), space)
    assert space["study"].state == "complete, 2 samples" and space["study"].answers() == study.result.answers()
    assert space["voices"][0].consent == "mine" and space["voices"][0].sha256 == own.sha256


def setting(part, value): return lambda study: setattr(getattr(study, part), "value", value)


@pytest.mark.parametrize("change, said", [
    (lambda study: [setattr(tick, "value", False) for tick in study.ticks.values()], "voices: tick at least one"),
    (setting("texts", " \n"), "texts: "), (setting("options", "colour=red"), "colour: is not an option of"), (setting("folder", "/dev/null"), "folder: "),
    (setting("options", "windows"), "windows: must be name=value"),
    (lambda study: setattr(study.other.voice, "value", UPLOAD), "voice: upload is chosen, but there is no recording yet")])
def test_what_a_study_can_not_ask_is_one_line(model, tmp_path, change, said):
    study = of_study(model, tmp_path)
    change(study)
    for button in (study.go, study.price, study.writer):
        study.status.say("")
        button.click()
        study.worker.wait()
        assert study.status.failed and study.status.text.startswith(said) and "\n" not in study.status.text, study.status.text
    study.opener.click()
    assert study.status.text.startswith("study: there is no sweep to open yet") and not study.go.disabled


@pytest.mark.parametrize("name", [*STUDIES])
def test_the_widget_knows_each_study_of_the_registry(model, name):
    study = vl.widgets.Study(model, name)
    assert html.unescape(study.question.value).count(STUDIES[name].question) == 1 and study.folder.value == f"study-{name}"
    study.folder.value = "elsewhere"
    study.study.value = [*STUDIES][-1]
    assert study.folder.value == "elsewhere"
    study.close()


def of_one_codebook(model):
    made = copy.copy(model)
    made._codec = SimpleNamespace(n_codebooks=1, name="one")
    return made


class Hearer(Recogniser):
    "Hears the words of TEXT in everything."
    id = "a fake"
    def __init__(self): pass
    def hear_words(self, audio, code): return [HeardWord(word, n / 8, n / 8 + 0.1, 0.9) for n, word in enumerate(TEXT.split())]


def heard_words(model, tmp_path):
    "A timeline of a sample in which a recogniser heard its own text."
    widget = vl.widgets.WordTimeline(model.clone(TEXT, reference=shipped_voices()["ada"], seed=1), recogniser=Hearer())
    widget.worker.wait(60)
    assert widget.status.text.startswith("Words against the text: 2 same; heard by a fake.") and widget.words.html.count("data-begin") == 2
    return widget


USED = dict(Tuner=tried, DelayPattern=walked, Ablation=ablated, CodecExplorer=explored, AttentionMap=listened, ListeningTest=asked,
            Microphone=recorded, PromptAnatomy=read, Conversation=talked, Result=shown_result, Pivot=looked_at, Study=studied, SweepBoard=boarded,
            WordTimeline=heard_words)
FRESH = {"Tuner": lambda model, _: Tuner(model), "VoiceChooser": lambda *_: VoiceChooser(), "History": lambda *_: History(print, None),
         "Knobs": lambda model, _: Knobs(model.prompt_forms, vl.read_settings()), "Clip": lambda *_: Clip("a clip"),
         "explorer of one codebook": lambda model, _: vl.widgets.CodecExplorer(of_one_codebook(model))}


def test_every_widget_is_closed_after_use(): assert set(vl.widgets.__all__) <= set(USED)


@pytest.mark.parametrize("make", [*USED.values(), *FRESH.values()], ids=[*(f"{name}, used" for name in USED), *FRESH])
def test_a_closed_widget_leaves_nothing_and_does_nothing(model, tmp_path, make):
    before = kept()
    widget = make(model, tmp_path)
    assert len(kept() - before) > 10
    for _ in range(2): widget.close()
    assert kept() == before
    left = shown(widget)
    for part in parts(widget):
        if isinstance(part, W.Button): part.click()
    if hasattr(widget, "run"): widget.run()
    assert not any(worker.busy for worker in vars(widget).values() if isinstance(worker, Worker)) and shown(widget) == left
    gone = weakref.ref(widget)
    del widget, part
    gc.collect()
    assert gone() is None


def test_what_came_of_a_closed_tuner_can_be_had(model, tmp_path):
    tuner = tried(model, tmp_path)
    tuner.close()
    before = tuner.estimate.value
    tuner.text.value = "Something longer than it was."
    assert tuner.estimate.value == before                                      # nobody observes it any more
    assert tuner.generation.audio.seconds and "vl.load" in tuner.code()
    assert len(tuner.history.export(str(tmp_path / "run"))) == len(tuner.history.frame) == 2


def test_closing_ends_what_is_at_work(model):
    before, tuner, begun = kept(), Tuner(model, "The garden is open today and the old library opens at nine in the morning. " * 5), threading.Event()
    tuner.stream.play = lambda piece: begun.set()
    tuner.run()
    assert begun.wait(30)
    tuner.close()
    tuner.worker.wait(60)
    assert not tuner.worker.busy and isinstance(tuner.worker.error, Closed) and not lock_of(model).locked()
    assert tuner.worker.session.generation.stop_reason == "interrupted" and tuner.generation is None and not tuner.history.tries
    assert kept() == before


def test_closing_ends_an_ablation_after_the_sample_at_work(model):
    bench = vl.widgets.Ablation(model, TEXT)
    bench.seeds.value, say, begun = 5, bench.status.say, threading.Event()
    bench.status.say = lambda words: (say(words), begun.set())
    bench.run()
    assert begun.wait(30)
    bench.close()
    bench.worker.wait(30)
    assert not bench.worker.busy and len(bench.result.attempts) < len(bench.result) and not lock_of(model).locked()


def test_who_waits_for_a_model_can_be_closed():
    class Model: pass
    model, hold = Model(), threading.Event()
    first, second = Worker(model, Status()), Worker(model, Status())
    hold_turn(first, hold)
    second.start(lambda: pytest.fail("must not run"))
    second.close()
    second.wait(60)
    hold.set()
    first.wait(60)
    assert not second.busy and second.error is None


def test_a_recorder_that_was_lent_is_not_closed(model, root):
    recorder, before = vl.widgets.Microphone(), kept()
    one, two = Tuner(model, TEXT, recorder=recorder), Tuner(model, TEXT, recorder=recorder)
    for tuner in (one, two): tuner.voice.voice.value = "microphone"
    one.close()
    recorder.reference = vl.Reference(root / "data/voices/ben.wav", transcript="What I said.", consent="my own voice")
    assert recorder.comm is not None and one.voice.reference is None and two.voice.reference.transcript == "What I said."
    two.close()
    assert kept() == before
    recorder.close()
    assert recorder.recorder.comm is None


# ---- prompt and delay

def test_each_form_of_the_prompt_is_drawn(model):
    anatomy = PromptAnatomy(model, TEXT)
    seen = set()
    for form in model.prompt_forms:
        anatomy.form.value = form
        assert not anatomy.status.failed and anatomy.prompt.form == form
        seen.add(anatomy.shown.value)
    assert len(seen) == len(model.prompt_forms)


def test_walking_through_the_columns(model):
    walk = DelayPattern(model, TEXT)
    finish(walk)
    assert walk.worker.error is None and walk.at.value == walk.at.max == len(walk.generation.trace) - 1
    walk.forth.click()
    assert walk.at.value == walk.at.max
    walk.back.click()
    assert walk.at.value == walk.at.max - 1
    walk.at.value = 10
    walk.hear.click()
    walk.worker.wait(30)
    assert len(walk.clip.audio.samples) == 3 * 960                             # columns 8, 9, 10 complete frames 0, 1, 2
    walk.at.value = 0
    walk.hear.click()
    walk.worker.wait(30)
    assert "No frame" in walk.status.text


@pytest.mark.parametrize("make, made", [(DelayPattern, "generation"), (AttentionMap, "attention")])
def test_what_was_stopped_at_once_can_begin_again(model, make, made):
    widget = make(model, TEXT)
    stream = type(model).stream
    def stopped(*args, **options):
        session = stream(model, *args, **options)
        session.stop()
        return session
    model.stream = stopped
    try: finish(widget)
    finally: del model.stream
    assert widget.worker.error is None, widget.worker.error
    assert getattr(widget, made) is None and widget.status.text
    finish(widget)
    assert getattr(widget, made) is not None


@pytest.mark.parametrize("begun", (False, True))
def test_the_stop_button_stops_the_session_before_and_while_it_speaks(begun):
    class Model: pass
    class Speech:
        stopped = False
        def stop(self): self.stopped = True
        def __iter__(self):
            while not self.stopped: yield stop.click() if begun else pytest.fail("must not speak")
    stop, speech, heard = W.Button(), Speech(), []
    worker = Worker(Model(), Status(), stop=stop)
    def work():
        if not begun: stop.click()
        heard.extend(worker.pieces(speech))
    worker.start(work)
    worker.wait(60)
    assert worker.error is None and speech.stopped and len(heard) == begun


def test_results_of_several_chunks_count_all_of_the_budget(model):
    budgets = [budget for _, budget in model.budgets("The garden is open today. " * 12, None)]
    assert len(budgets) > 1
    assert f"in {len(budgets)} chunks" in estimate_html(budgets)


def test_a_result_can_be_shown_twice(tuner):
    result = Result()
    for _ in range(2): result.show(tuner.generation)
    assert result.layout.display == "" and isinstance(tuner, Panel)


@pytest.fixture(scope="module")
def vita():
    from voicelab.families.vita.checkpoint import tiny_vita
    from voicelab.families.vita.model import VitaModel
    from voicelab.models.glm4voice import tiny_glm4voice
    return VitaModel(tiny_vita(), tiny_glm4voice())


def test_the_other_family_needs_no_other_widgets(vita):
    tuner = Tuner(vita, "Hello there.")
    tuner.run()
    tuner.worker.wait(120)
    assert not tuner.status.failed and tuner.generation.codes.shape[0] == 1 and tuner.generation.audio.rate == 22_050
    anatomy = PromptAnatomy(vita, "Hello there.")
    before = anatomy.prompt.text
    anatomy.form.value = "speaker_metadata"
    assert "Your Voice" in before and "Speaker Metadata" in anatomy.prompt.text


def test_what_a_family_adds_to_the_trace_is_shown_as_it_says(model):
    walk = DelayPattern(model, TEXT)
    finish(walk)
    made = walk.generation
    cells = lambda: dict(re.findall("<td>(.*?)</td><td>(.*?)</td>", walk.counters.value))
    first = f"{made.trace.eos_codebook.iloc[-1]:.0f}"
    assert made.stop_reason == "eos" and cells()["end has begun"] == "yes" and cells()["codebook that ended first"] == first
    assert f"Codebook {first} ended first." in stop_html(made)
    assert "ended first" not in stop_html(replace(made, stop_reason="budget"))
    walk.at.value = 3
    row = made.trace.iloc[3]
    assert cells()["end has begun"] == "no" and cells()["codebook that ended first"] == "–"
    assert cells()["entropy by codebook / bits"] == " ".join(f"{row[f'entropy_{k}']:.1f}" for k in range(8))
    assert cells()["entropy / bits"] == f"{row.entropy:.1f}" and "column" not in cells()


def test_steps_that_are_no_frames_are_shown_over_the_seconds_of_their_sound(vita):
    "VITA-Audio writes some 14 tokens for 8 codes: a curve over tokens would be 1.75 times as long as the sound."
    walk = DelayPattern(vita, "Hello there.")
    finish(walk)
    made = walk.generation
    assert walk.columns.shape[0] == 1 and walk.columns.shape[1] == len(made.trace) > made.codes.shape[1]
    assert ((walk.columns[0] < vita.codec.codebook_size).numpy() == (made.trace.kind == "audio")).all()
    assert walk.modes.options[0] == ("vanilla", "vanilla") and "<b>In turns:</b>" in walk.runs.value and len(walk.looks) == len(made.trace)
    assert "nothing is delayed" in walk.counters.value and "Stopped" not in walk.status.text and "Steps" in walk.children[0].value
    assert "<td>kind of token</td><td>" in walk.counters.value and "main_turn" not in walk.counters.value and "codebook /" not in walk.counters.value
    assert made.trace.seconds.is_monotonic_increasing and made.trace.seconds.max() <= made.codes.shape[1] / vita.codec.frame_rate
    walk.at.value = int((made.trace.frame >= 0).idxmax())
    walk.hear.click()
    walk.worker.wait(60)
    assert walk.clip.audio.seconds == pytest.approx(1 / vita.codec.frame_rate, abs=0.05)


def test_both_families_have_codecs_batches_and_one_trace(model, vita):
    "What stands above a family needs no more than this."
    traces = []
    for each in (model, vita):
        assert isinstance(each.codec, Codec)
        made = each.clone_batch(["Good evening.", "Good night."], seeds=[1, 2])
        assert [one.text for one in made] == ["Good evening.", "Good night."] and [one.sampling.seed for one in made] == [1, 2]
        assert torch.equal(made[0].codes, each.clone("Good evening.", seed=1).codes)
        assert made[0].chunks[0].columns.shape == (each.codec.n_codebooks, len(made[0].trace))
        traces.append(made[0].trace)
    assert [list(trace.columns[:len(TRACE)]) for trace in traces] == [list(TRACE)] * 2


def test_where_the_other_family_listens(vita, reference):
    look = AttentionMap(vita, "Hello there.")
    finish(look)
    assert look.worker.error is None, look.worker.error
    codes = look.attention.recording.stop - look.attention.recording.start
    assert look.map.shape == [codes, look.attention.n_frames] and len(look.map.weights) == codes * look.attention.n_frames
    assert look.map.ends == [look.attention.n_frames / 12.5, codes / 12.5]
    look.map.place = [0.2, 0.5]
    assert "s of the recording" in look.note.text
    look.over.value = "text"
    look.worker.wait(60)                # a map that is not kept is read anew
    assert look.map.labels == list("Hello there.")
    answer = vita.respond("spoken_qa", audio=reference.audio, reference=reference, seed=1, budget=30, option_steps=1)
    asked = AttentionMap(vita, generation=answer)
    asked.worker.wait(60)
    assert asked.worker.error is None and asked.over.value == "recording" and "text" not in dict(asked.over.options), asked.worker.error
    asked.map.place = [0.2, 0.5]
    assert asked.map.recording and "s of the recording" in asked.note.text


def test_steps_of_a_model_that_writes_are_in_its_own_order(vita):
    from voicelab.families.vita.likelihood import saying
    walk = DelayPattern(vita, "It opens at nine.", mode="boost", option_steps=1)
    with saying(vita, "It opens at nine.", range(20)): finish(walk)
    assert walk.worker.error is None and walk.modes.value == walk.generation.mode == "boost", walk.worker.error
    cells = lambda: dict(re.findall("<td>(.*?)</td><td>(.*?)</td>", walk.counters.value))
    seen = []
    for at in (0, 1, 2, 9, 11):
        walk.at.value = at
        seen.append((cells()["kind of token"], cells()["drawn by"], cells()["block of the vocoder"], walk.runs.value.count("aria-current")))
    assert seen == [("text", "main", "–", 1), ("begin", "head 0", "–", 0), ("audio", "head 1", "0: codes 0 to 7", 1),
                    ("audio", "head 8", "0: codes 0 to 7", 1), ("text", "main", "–", 1)]
    assert re.fullmatch("recording [0-9]+%, text to say [0-9]+%, own words [0-9]+%, own sound [0-9]+%, rest of the prompt [0-9]+%", cells()["looks at"])
    wide = walk.image.png
    walk.page_part.pixels = 390
    assert walk.image.png != wide
    walk.modes.value, walk.text.value = "vanilla", "Yes."
    finish(walk)
    assert walk.generation.mode == "vanilla" and set(walk.generation.trace.speaker) == {"main"}


def test_what_a_model_looks_at_is_not_known_of_every_family(model, monkeypatch):
    monkeypatch.setitem(FAMILIES, model.info.family, replace(FAMILIES[model.info.family], read_chunk=None))
    walk = DelayPattern(model, TEXT)
    finish(walk)
    assert walk.worker.error is None and walk.looks is None and "<td>looks at</td><td>not known: model: " in walk.counters.value
    with pytest.raises(AttentionError, match="attention can be read for"): AttentionMap(model, TEXT)


def test_an_option_that_a_model_lacks_is_refused_in_a_line(model):
    for make in (DelayPattern, AttentionMap):
        widget = make(model, TEXT, mode="boost")
        finish(widget)
        assert widget.status.failed and "mode" in widget.status.text and "\n" not in widget.status.text


def test_the_map_says_what_it_does_not_show_and_asks_the_model(model, vita, reference):
    from voicelab.families.vita.likelihood import saying
    with saying(vita, "It opens at nine.", range(20)): answer = vita.clone("It opens at nine.", reference=reference, seed=1, option_steps=1)
    for each, made in ((model, model.clone(TEXT, reference=reference, seed=0)), (vita, answer)):
        with lock_of(each):                                                # until the map is read there is nothing to check
            look = AttentionMap(each, made.text, generation=made)
            assert look.check.disabled
        assert "What this does not show" in look.limits.value
        look.worker.wait(60)
        there = [over for _, over in look.over.options]
        assert there == ["recording", "text", *(["written"] if each is vita else []), "parts"] and not look.check.disabled
        assert html.escape(look.attention.view.note) in look.limits.value and "Over the whole sample" in look.average.value
        for over in there:
            look.over.value = over
            look.worker.wait(60)
            assert look.map.shape == [len(look.map.labels) or look.map.shape[0], look.attention.n_frames] and look.worker.error is None
        look.map.place = [0.2, 1.0]
        assert re.search("At 0.20 s of the sample the mean looks at recording [0-9]+%, ", look.note.text), look.note.text
        look.over.value = "text"
        look.worker.wait(60)
        look.check.click()
        look.worker.wait(60)
        layer, head = look.head.value
        assert look.losses.over.tolist() == [*there[:-1], "text"] and look.worker.error is None, look.worker.error
        assert f"layer {layer}, head {head}</td>" in look.found.value and "as many random positions" in look.found.value
        assert "One sample" in look.found.value and "vl.studies.attention(model, texts=[" in look.found.value
        finish(look)
        assert look.losses is None and not look.found.value            # they were of another sample


def test_what_can_not_be_checked_is_said_in_a_line(model, monkeypatch):
    look = AttentionMap(model, TEXT)
    look.check.disabled = False
    look.check.click()
    look.worker.wait(60)
    assert look.note.text == "Nothing to check yet: press Generate."
    family = FAMILIES[model.info.family]
    monkeypatch.setitem(FAMILIES, family.name, replace(family, read_codes=None, read_chunk=lambda *given: replace(family.read_chunk(*given), bits=None)))
    finish(look)
    look.check.click()
    look.worker.wait(60)
    assert look.status.failed and look.status.text == "model: its family doesn't give the bits of a sample"
    assert "it reads no given utterance" in study_line(model, TEXT)


# ---- the tuner's ways in and out: presets, examples, the cap, keys, decks, seeds, sweeps

@pytest.fixture
def config(tmp_path, monkeypatch):
    "The user's own folder, empty."
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config/voicelab/presets.json"


def test_a_preset_of_ones_own_is_there_after_a_restart_and_for_another_model(model, vita, config):
    tuner = Tuner(model, TEXT)
    tuner.knobs.set(dict(temperature=0.55, rule="fixed", most=77, form="system_ref", seed=9))
    tuner.presets.own_name.value = "../../my <b>own</b>"
    tuner.presets.save.click()
    assert [*config.parent.parent.rglob("*")] == [config.parent, config] and "<b>" not in tuner.presets.status.value
    later, other = Tuner(model, TEXT), Tuner(vita, TEXT)
    assert later.presets.chosen.value == "" and later.knobs.seed.value == 1
    for each in (later, other): each.presets.chosen.value = "../../my <b>own</b>"
    assert later.asked().options["sampling"].temperature == 0.55 and later.knobs.most.value == 77 and later.knobs.seed.value == 1
    assert later.knobs.form.value == "system_ref" and "form" in other.presets.status.text and other.knobs.most.value == 77
    later.knobs.temperature.value = 0.6
    assert later.presets.chosen.value == ""


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"a": 5}', b"\xff", b"[" * 100_000, b'"' + b"x" * 2_000_000 + b'"'])
def test_a_file_of_presets_that_is_none_is_one_line_and_stays(model, config, content):
    config.parent.mkdir(parents=True)
    config.write_bytes(content)
    tuner = Tuner(model, TEXT)
    assert tuner.presets.status.failed and tuner.presets.status.text.startswith("presets: ")
    tuner.presets.own_name.value = "mine"
    tuner.presets.save.click()
    assert tuner.presets.status.failed and config.read_bytes() == content
    tuner.presets.chosen.value = "greedy"
    assert tuner.knobs.temperature.value == 0


def test_no_preset_of_a_strange_file_breaks_the_knobs(model, config):
    save_preset("odd", {"temperature": "hot", "rule": ["fixed"], "top_k": 10**400, "__class__": 5, "named": {}, "top_p": 0.5})
    tuner = Tuner(model, TEXT)
    tuner.presets.chosen.value = "odd"
    assert tuner.knobs.top_p.value == 0.5 and "temperature, rule, " in tuner.presets.status.text and "expected" in tuner.estimate.value


def test_presets_have_a_limit_and_names_a_form(model, config):
    from voicelab.widgets.presets import PresetError, write_presets
    write_presets({str(n): {} for n in range(MOST_PRESETS)})
    with pytest.raises(PresetError, match="at most 200"): save_preset("one more", {})
    save_preset("7", {"temperature": 1.0})
    assert read_presets()["7"] == {"temperature": 1.0}
    for name in ("", " ", "a\nb", "x" * 61, "upstream", "\0"):
        with pytest.raises(PresetError, match="^name: "): save_preset(name, {})


def test_an_example_fills_voice_and_text(model):
    tuner = Tuner(model, TEXT)
    tuner.examples.buttons[-1].click()
    assert (tuner.voice.reference.name, tuner.text.value) == EXAMPLES[-1] and "expected" in tuner.estimate.value


@pytest.mark.parametrize("rule, knob", [("reference_rate", "margin"), ("words_per_minute", "buffer"), ("fixed", "most")])
def test_the_cap_is_dragged_and_the_setting_of_the_rule_follows(model, rule, knob):
    tuner = Tuner(model, "The old library opens at nine in the morning, and the garden behind it a little later.")
    tuner.knobs.set(dict(rule=rule, least=10))
    for times, asked in enumerate((10.0, 6.0, 7.5)):
        before = tuner.knobs.state()
        tuner.bar.asked = [asked, times]
        now = tuner.knobs.state()
        assert abs(tuner.bar.cap - asked) < 0.2 and f"{tuner.bar.cap:.1f} s" in tuner.estimate.value
        assert {name for name in now if now[name] != before[name]} == {knob}
    assert tuner.bar.knob == getattr(tuner.knobs, knob).description
    for odd in ([], ["x", 1], [None, 2], [float("nan"), 3], [-1, 4], [1e9, 5]): tuner.bar.asked = odd
    assert "expected" in tuner.estimate.value or "room" in tuner.estimate.value


def test_a_cap_that_a_limit_holds_stays(model):
    tuner = Tuner(model, TEXT)
    assert tuner.bar.cap == 3.0                              # min_seconds
    tuner.bar.asked = [1.0, 1]
    assert tuner.bar.cap == 3.0 and round(tuner.knobs.margin.value, 6) == 2.0


def test_ctrl_enter_brings_what_was_typed_last(model):
    tuner = Tuner(model, "Another.")
    tuner.page_part._handle_custom_msg(dict(text=TEXT), [])
    tuner.worker.wait(60)
    assert tuner.generation.text == TEXT
    tuner.page_part._handle_custom_msg(dict(text=None), [])
    tuner.worker.wait(60)
    assert [tried.text for tried in tuner.history.tries] == [TEXT, TEXT]


def test_the_words_stand_under_the_clone_where_there_is_a_recogniser(model, monkeypatch):
    tuner = Tuner(model, TEXT)
    finish(tuner)
    assert tuner.result.spoken.html == tuner.result.hearing.text == ""                        # the settings name none
    monkeypatch.setattr("voicelab.widgets.result.known_recogniser", lambda: (Hearer(), ""))
    finish(tuner)
    tuner.result.ears.wait(30)
    assert tuner.result.spoken.html.count("data-begin") == 2 and tuner.result.hearing.text.startswith("Words against the text: 2 same; heard by a fake.")
    assert tuner.still().count("data-begin") == 2                                             # also without its kernel
    tuner.result.ears.closed = True                                                           # the next sample is not listened to
    finish(tuner)
    assert tuner.result.spoken.html == ""


def test_what_stays_without_a_kernel_are_the_samples_of_a_deck_too(model):
    tuner = Tuner(model, TEXT)
    tuner.seeds.number.value = 2
    tuner.seeds.go.click()
    tuner.seeds.worker.wait(60)
    made = still_html(tuner.seeds.deck)
    assert made.count("<audio") == 2 and "1: seed 1, " in made


def test_the_pictures_use_the_width(tuner):
    wide = lambda: int.from_bytes(tuner.result.tokens.png[16:20])
    tuner.page_part.pixels = 1100
    before = wide()
    tuner.page_part.pixels = 1700
    assert 1.4 < wide() / before < 1.7
    tuner.page_part.pixels = 350
    assert wide() < before / 2.5


def test_a_row_of_seeds_is_stopped_and_keeps_what_there_is(model):
    tuner = Tuner(model, "The garden is open today and the old library opens at nine in the morning.")
    tuner.seeds.number.value, tuner.seeds.ruler.value = 2, "by ear"
    tuner.seeds.progress.observe(lambda _: tuner.seeds.stop.click(), "value")
    tuner.seeds.go.click()
    tuner.seeds.worker.wait(60)
    assert [tried.made.stop_reason for tried in tuner.seeds.tries] == ["interrupted"] * 2 and tuner.seeds.status.text.startswith("Stopped: ")
    assert all(clip["cut"] for clip in tuner.seeds.deck.content["clips"])
    tuner.seeds.deck._handle_custom_msg(dict(keep="1"), [])
    assert tuner.history.frame.seed.tolist() == [2] and tuner.knobs.seed.value == 2 and tuner.generation is tuner.seeds.tries[1].made
    assert "by ear" in tuner.seeds.status.text
    for odd in ({"keep": "9"}, {"keep": None}, {"key": {}}, {}): tuner.seeds.deck._handle_custom_msg(odd, [])
    assert len(tuner.history.tries) == 1
    tuner.seeds.worker.wait(60)
    assert "It was chosen by ear" in tuner.seeds.words.value and "chosen by ear" in tuner.seeds.status.text     # told after the choice
    tuner.seeds.ruler.value = "ended"                           # 0 for both
    tuner.seeds.worker.wait(60)
    assert "ended is 0 share for all 2: it can't choose" in tuner.seeds.words.value and not any(clip["best"] for clip in tuner.seeds.deck.content["clips"])
    tuner.seeds.ruler.value = "by ear"
    tuner.seeds.worker.wait(60)
    assert tuner.seeds.words.value == ""


def test_a_row_says_why_a_measure_is_not_there(model):
    tuner = Tuner(model, TEXT)
    tuner.voice.voice.value, tuner.seeds.number.value = NONE, 2
    tuner.seeds.go.click()
    tuner.seeds.worker.wait(60)
    assert "unavailable: no reference" in tuner.seeds.words.value and not any(clip["best"] for clip in tuner.seeds.deck.content["clips"])
    tuner.seeds.ruler.value = "ended"
    tuner.seeds.worker.wait(60)
    assert "ended is 1 share for all 2: it can't choose" in tuner.seeds.words.value
    tuner.seeds.ruler.value = "silence_ratio"
    tuner.seeds.worker.wait(60)
    differ = len({measure.value for measure in tuner.seeds.found}) > 1
    assert ("flatters" in tuner.seeds.words.value) == differ and sum(clip["best"] for clip in tuner.seeds.deck.content["clips"]) == differ


def test_two_tries_ask_for_a_sweep(model, tmp_path):
    tuner = Tuner(model, TEXT, within=tmp_path)
    for temperature in (0.3, 1.0):
        tuner.knobs.temperature.value = temperature
        finish(tuner)
    tuner.history.other.value = 0
    tuner.history.against.click()
    settling = tuner.settling
    assert "Is 1.0 better than 0.3 (temperature)?" in settling.words.value and "3 voices x 4 texts x 5 seeds x 2 = 120 cells" in settling.words.value
    assert re.search("about [0-9.]+ (seconds|minutes)", settling.words.value)
    settling.write.click()
    settling.worker.wait(60)
    compile(html.unescape(re.search("<pre>(.*)</pre>", settling.listing.value, re.DOTALL)[1]), "script", "exec")
    settling.folder.value = "../elsewhere"
    settling.go.click()
    settling.worker.wait(60)
    assert settling.status.failed and str(tmp_path) in settling.status.text and not (tmp_path.parent / "elsewhere").exists()


@pytest.mark.parametrize("change", [dict(form="system_ref"), dict(rule="fixed"), dict(silence=20), dict(chunking="none"), dict(temperature=0.4, top_k=3)])
def test_the_code_of_a_question_makes_the_cells_of_its_sweep(model, tmp_path, change):
    from voicelab.widgets.script import question
    tuner = Tuner(model, TEXT)
    first = tuner.asked()
    tuner.knobs.set(change)
    asked = question(first, tuner.asked())
    made, space = asked.sweep(tmp_path / "made", model), {}
    exec(asked.code(made).split("sweep.run()")[0], space)
    assert len(made) == 120 and [cell.name for cell in space["sweep"].grid.cells] == [cell.name for cell in made.grid.cells]
    assert asked.by in made.table.columns or asked.by in ("sampling", "control")


def test_the_code_of_a_question_has_voices_of_ones_own(model, tmp_path, monkeypatch):
    from voicelab.widgets.script import question
    monkeypatch.chdir(tmp_path)
    tuner, ada = Tuner(model, TEXT), shipped_voices()["ada"]
    mine = [replace(ada, audio=ada.audio.slice(0, seconds), name="me", transcript="The old library.") for seconds in (1.5, 2.0)]
    tries = []
    for voice in (*mine, replace(ada, transcript="Something else.")):
        tuner.voice.put(voice)
        tries.append(tuner.asked())
    for pair in (tries[:2], tries[1:]):
        asked = question(*pair)
        made, space = asked.sweep(tmp_path / f"sweep{tries.index(pair[0])}", model), {}
        exec(asked.code(made).split("sweep.run()")[0], space)
        assert [cell.name for cell in space["sweep"].grid.cells] == [cell.name for cell in made.grid.cells]
        assert [voice.transcript for voice in asked.voices] == [tried.reference.transcript for tried in pair]


def contrast(one, other):
    def light(colour):
        parts = [int(colour[n:n + 2], 16) / 255 for n in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue
    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_letters_are_legible_on_light_and_dark_pages():
    turned = lambda colour: "#" + "".join(f"{255 - int(colour[n:n + 2], 16):02x}" for n in (1, 3, 5))
    assert contrast(INK, "#ffffff") >= 4.5 and contrast(turned(INK), "#1f1f1f") >= 4.5        # in pictures; a dark page inverts them
    assert min(contrast(colour, "#ffffff") for colour in (INK, GOOD, BAD)) >= 4.5
    assert min(contrast(colour, "#1f1f1f") for colour in NIGHT.values()) >= 4.5
