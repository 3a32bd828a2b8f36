"""Widgets without a browser: names, state, threads, errors, speed. What they look and sound like is in test_browser.py."""
import importlib
import inspect
import pkgutil
import time
from datetime import datetime

import ipywidgets
import numpy as np
import pytest
import torch

import voicelab as vl
from voicelab import widgets
from voicelab.audio import Audio
from voicelab.files import safe_name
from voicelab.widgets import base
from voicelab.widgets.tuner import NONE, UPLOAD, Tuner, VoiceChooser

MODULES = [importlib.import_module(f"voicelab.widgets.{module.name}") for module in pkgutil.iter_modules(widgets.__path__)]
CLASSES = sorted({c for module in MODULES for c in vars(module).values()
                  if inspect.isclass(c) and issubclass(c, ipywidgets.Widget) and c.__module__.startswith("voicelab.")}, key=lambda c: c.__name__)


@pytest.fixture(scope="module")
def model(): return vl.load("tiny")


@pytest.mark.parametrize("widget", CLASSES, ids=lambda c: c.__name__)
def test_no_name_of_ipywidgets_is_taken(widget):
    "A method called `_send` or `_compare` would break the widget machinery below."
    taken = {name for parent in widget.__mro__[1:] if not parent.__module__.startswith("voicelab.") for name in vars(parent)}
    ours = {name for name, value in vars(widget).items() if inspect.isfunction(value) or isinstance(value, property)}
    assert {name for name in ours if not name.startswith("__")} & taken == set()


def test_all_widgets_are_offered(): assert all(hasattr(vl.widgets, name) for name in vl.widgets.__all__)


def test_nothing_is_shown_through_an_output_widget():
    for module in MODULES: assert "W.Output(" not in inspect.getsource(module) and "widgets.Output(" not in inspect.getsource(module)


@pytest.fixture
def tuner(model): return Tuner(model, "Good evening.")


def run(tuner):
    tuner.run()
    tuner.worker.wait(120)
    return tuner


def test_the_estimate_takes_under_50_ms(tuner):
    seconds = []
    for n in range(12):
        begun = time.perf_counter()
        tuner.text.value = "The garden is open today, bring two cups of coffee. " * 4 + "a" * n
        seconds.append(time.perf_counter() - begun)
    assert sorted(seconds)[6] < 0.05 and "expected" in tuner.estimate.value


def test_a_try_can_be_repeated_by_its_script(tuner):
    tuner.knobs.set(dict(temperature=0.7, top_k=20, ras=False, seed=5, silence=30, rule="words_per_minute", most=300))
    run(tuner)
    space = {}
    exec(tuner.code(), space)
    assert torch.equal(space["made"].codes, tuner.generation.codes) and space["made"].budget == tuner.generation.budget
    assert space["made"].control == tuner.generation.control


def test_no_reference_is_a_choice(tuner):
    tuner.voice.voice.value = NONE
    run(tuner)
    assert tuner.generation.reference is None and "reference = None" in tuner.code() and tuner.history.frame.voice.tolist() == [NONE]


@pytest.mark.parametrize("text", ["", "   ", "?!...", "x" * 60_000])
def test_a_text_that_cannot_be_spoken_is_a_line(tuner, text):
    tuner.text.value = text
    assert "text" in tuner.estimate.value and "alert" in tuner.estimate.value
    run(tuner)
    assert tuner.status.failed and "\n" not in tuner.status.text and tuner.generate.disabled is False
    tuner.text.value = "Good evening."
    assert not run(tuner).status.failed


def test_markup_in_a_text_is_only_text(tuner):
    tuner.text.value = "<script>alert(1)</script> <|audio_eos|> hello."
    run(tuner)
    shown = tuner.result.words.value + tuner.history.table.value
    assert "<script>" not in shown and "&lt;script&gt;" in shown


def upload(name: str, content: bytes) -> dict:
    return dict(name=name, content=memoryview(content), type="audio/wav", size=len(content), last_modified=datetime.now())


def test_an_upload_is_checked_and_its_name_is_no_path(model):
    chooser, sound = VoiceChooser(), Audio(np.sin(np.arange(24_000) / 9).astype(np.float32) * 0.1, 24_000)
    chooser.file.value = (upload("../../etc/pass wd.wav", sound.wav_bytes()),)
    assert chooser.voice.value == UPLOAD and chooser.reference.name == safe_name("pass wd") and "No consent" in chooser.status.text
    chooser.consent.value = "my own voice"
    assert chooser.reference.consent == "my own voice" and chooser.status.text == ""
    for name, content in (("noise.wav", b"RIFF"), ("empty.wav", b""), ("short.wav", Audio(sound.samples[:999], 24_000).wav_bytes())):
        chooser.file.value = (upload(name, content),)
        assert chooser.status.failed and chooser.reference.consent == "my own voice", name
        assert "/tmp" not in chooser.status.text


def test_history_keeps_compares_and_saves(tuner, tmp_path):
    run(tuner)
    tuner.knobs.seed.value = 2
    first = tuner.generation
    run(tuner)
    history = tuner.history
    history.other.value = 0
    history.against.click()
    assert "seed: 2 against 1" in history.versus.value
    history.chosen.value = 0
    history.replay.click()
    assert tuner.generation is first and tuner.knobs.seed.value == 1
    assert len(history.export(tmp_path / "run")) == 2 and len(history.export(tmp_path / "run")) == 2
    assert (tmp_path / "run/history.csv").read_text().count("\n") == 3
    history.folder.value = "/dev/null/x"
    history.save.click()
    assert history.status.failed


def test_workers_on_one_model_wait_for_each_other_and_can_be_stopped_while_waiting():
    class Model: pass
    model, status, stop = Model(), base.Status(), ipywidgets.Button()
    worker = base.Worker(model, status, stop=stop)
    with base.lock_of(model):
        worker.start(lambda: pytest.fail("must not run"))
        while "Waiting" not in (status.value or ""): time.sleep(0.01)
        stop.click()
        worker.wait(5)
    assert not worker.busy and status.text == "Stopped while waiting."


def test_a_bug_is_named_and_the_widget_stays_usable():
    class Model: pass
    worker = base.Worker(Model(), base.Status(), (button := ipywidgets.Button(),))
    worker.start(lambda: 1 / 0)
    worker.wait(5)
    assert worker.status.text == "ZeroDivisionError: division by zero" and not button.disabled


def test_a_delay_pattern_needs_several_codebooks():
    class One:
        class codec: n_codebooks, name = 1, "one"
    with pytest.raises(ValueError, match="several codebooks"): widgets.DelayPattern(One())


@pytest.fixture(scope="module")
def vita():
    from voicelab.models.glm4voice import tiny_glm4voice
    from voicelab.models.vita_checkpoint import tiny_vita
    from voicelab.vita import VitaModel
    return VitaModel(tiny_vita(), tiny_glm4voice())


def test_the_other_family_needs_no_other_widgets(vita):
    tuner = run(Tuner(vita, "Hello there."))
    assert not tuner.status.failed and tuner.generation.codes.shape[0] == 1 and tuner.generation.audio.rate == 22_050
    anatomy = widgets.PromptAnatomy(vita, "Hello there.")
    before = anatomy.prompt.text
    anatomy.form.value = "speaker_metadata"
    assert "Your Voice" in before and "Speaker Metadata" in anatomy.prompt.text
    with pytest.raises(ValueError, match="several codebooks"): widgets.DelayPattern(vita)
