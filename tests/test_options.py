"Options of a session, in every family: names, types and ranges, the caller's settings of torch, and batches with a bad item."
import contextlib
import copy
import tempfile
import warnings

import numpy as np
import pytest
import torch
from hostile_cases import BUDGET, HALF
from test_vita_model import KINDS, VOICE, Hum

import voicelab as vl
from voicelab.budget import Budget, BudgetError
from voicelab.control import Control, ControlError, Sampling
from voicelab.errors import ArgumentError, VoicelabError
from voicelab.families.higgs.cache import PrefixStore
from voicelab.families.higgs.engine import HiggsEngine
from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.engine import TokenBudget, VitaEngine
from voicelab.families.vita.model import VitaModel
from voicelab.generation import EngineError, Failure, shielded
from voicelab.registry import Latest
from voicelab.text import TextError

@pytest.fixture(scope="module")
def vita(): return VitaModel(tiny_vita(KINDS[0], n_codes=2048), Hum())


@pytest.fixture(params=["higgs", "vita"])
def either(request, model, vita): return model if request.param == "higgs" else vita


def outcome(call):
    "What became of a call: None, or its refusal; anything else than a refusal is raised."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try: call()
        except VoicelabError as error: return error


# ---- names

CALLS = {"clone": lambda m, **o: m.clone("Hi.", **o), "stream": lambda m, **o: m.stream("Hi.", **o), "plan": lambda m, **o: m.plan("Hi.", **o),
         "clone_batch": lambda m, **o: m.clone_batch(["Hi."], **o), "clone_batch, row": lambda m, **o: m.clone_batch(["Hi."], on_error="row", **o),
         "session": lambda m, **o: m.session("tts" if isinstance(m, VitaModel) else "Hi.", **o),
         "prompt": lambda m, **o: m.prompt("tts" if isinstance(m, VitaModel) else "Hi.", **o), "clone_prompt": lambda m, **o: m.clone_prompt("Hi.", **o)}


@pytest.mark.parametrize("call", CALLS)
def test_an_unknown_option_is_refused_before_anything_is_done(either, call, monkeypatch):
    monkeypatch.setattr(type(either), "hear" if isinstance(either, VitaModel) else "encode", lambda *_: pytest.fail("heard"))
    with pytest.raises(ArgumentError, match=rf"^prompt_from: no such option; did you mean prompt_form\?; {type(either).__name__}\.\w+ takes .*prompt_form"):
        CALLS[call](either, prompt_from="x")


@pytest.mark.parametrize("name, said", [
    ("temperature", r"^temperature: is not an option of .*; set it as sampling=vl.Sampling\(temperature=...\)$"),
    ("top_k", r"sampling=vl.Sampling\(top_k=...\)$"), ("ras_window", "sampling=vl.Sampling"), ("silence_frames", r"control=vl.Control\(silence_frames=...\)$"),
    ("temprature", r"^temprature: no such option; did you mean sampling=vl.Sampling\(temperature=...\)\?; "), ("sede", r"did you mean seed\?"),
    ("zzz", r"^zzz: no such option; \w+\.\w+ takes ")])
def test_where_an_option_belongs(either, name, said):
    with pytest.raises(ArgumentError, match=said): either.clone("Hi.", **{name: 1})


def test_a_batch_names_no_text_for_an_unknown_option(either):
    assert str(outcome(lambda: either.clone_batch(["Hi.", "Ho."], temprature=1))).startswith("temprature: no such option")
    assert "a batch takes seeds" in str(outcome(lambda: either.clone_batch(["Hi."], seed=1)))
    assert "on_error: must be one of raise, row, got 'rows'" in str(outcome(lambda: either.clone_batch(["Hi."], on_error="rows")))


def test_respond_refuses_too(vita):
    with pytest.raises(ArgumentError, match="scene: no such option; VitaModel.session takes task, text"): vita.respond("tts", text="Hi.", scene="quiet")
    with pytest.raises(ArgumentError, match="task: no such option"): vita.clone("Hi.", task="asr")


# ---- types and ranges

@pytest.mark.parametrize("options, kind, said", [
    (dict(scene=HALF), TextError, "scene: half a character (a lone surrogate) at position 8"), (dict(system=HALF), TextError, "system: half a character"),
    (dict(voice=HALF), TextError, "voice: half a character"), (dict(voice=[[]]), VoicelabError, "voice: must be a string, got list"),
    (dict(prompt_form=np.zeros(3)), VoicelabError, "prompt_form: must be one of assistant_ref"), (dict(prompt_form=["a"]), VoicelabError, "prompt_form: must"),
    (dict(spelling=torch.zeros(2)), VoicelabError, "spelling: must be one of original, transformers, got tensor([0., 0.])"),
    (dict(vowels=np.zeros(3)), ArgumentError, "vowels: must be True or False, got array([0., 0., 0.])"), (dict(vowels=1), ArgumentError, "vowels: must be"),
    (dict(turns=True), VoicelabError, "turns: must be a whole number from 0, got True"), (dict(system=np.zeros(2)), TextError, "system: must be a string"),
    (dict(seed=np.arange(3), sampling=Sampling(seed=1)), ControlError, "seed: must be a whole number")])
def test_what_higgs_takes(model, options, kind, said):
    refused = outcome(lambda: model.plan("Hi.", **options))
    assert isinstance(refused, kind) and said in str(refused)


@pytest.mark.parametrize("options, said", [
    (dict(persona=np.zeros(2)), "persona: must be a Persona or one of"), (dict(persona=""), "persona: must be"),
    (dict(reproduce=[[]]), "reproduce: must be one of"),
    (dict(decoder_voice=np.zeros(2)), "decoder_voice: must be True or False"), (dict(budget=10**400), "budget: must be a TokenBudget"),
    (dict(prompt_form=np.zeros(2)), "prompt_form: must be one of your_voice"),
    (dict(mode=np.zeros(2)), "mode: turns must be pairs"), (dict(sampling=[1]), "sampling: must be")])
def test_what_vita_takes(vita, options, said): assert said in str(outcome(lambda: vita.plan("Hi.", **options)))


def test_a_task_is_a_word(vita):
    for task in ([], np.zeros(2), None): assert "task: must be one of text, tts" in str(outcome(lambda: vita.respond(task, text="Hi.")))


@pytest.mark.parametrize("field", ["transcript", "consent", "name"])
def test_half_a_character_about_a_reference(field):
    with pytest.raises(TextError, match=f"^{field}: half a character"): vl.Reference(VOICE.audio, **{field: HALF})


@pytest.mark.parametrize("field, value", [(name, value) for name in ("seconds", "frame_rate", "margin")
                                          for value in (-1, float("nan"), float("inf"), True, "2", np.zeros(2))]
                         + [("reading_seconds", -1), ("reading_seconds", float("nan")), ("frame_rate", 0),
                            ("margin", 0), ("rule", 3), ("detail", None), ("clamped", []), ("frames", 0),
                            ("frames", True), ("frames", 2.0), ("columns", 49), ("columns", 10**12)])
def test_a_budget_that_can_not_be(field, value):
    with pytest.raises(BudgetError, match=f"^{field}: (a number|must be a whole number|text)"): Budget(**BUDGET | {field: value})


def test_a_budget_that_can_be_is_shown():
    for more in ({}, dict(seconds=0), dict(seconds=np.float32(0.5)), dict(margin=1.3), dict(reading_seconds=0), dict(frame_rate=12.5)):
        made = Budget(**BUDGET | more)
        assert repr(made) and str(made) and made._repr_html_() and made.cap_seconds > 0
    assert "tokens of text" in str(TokenBudget(**BUDGET | dict(seconds=0.0), speaks=False))


@pytest.mark.parametrize("limits", [5, [], None, {1: 2}, {"pace": 3}, np.zeros(2)])
def test_limits_that_can_not_be(limits):
    with pytest.raises(ControlError, match="^limits: must"): Control(limits=limits)


# ---- the caller's settings of torch

@pytest.fixture(params=["autocast", "float64", "device", "inference_mode", "no_grad"])
def changed(request):
    "A context in which torch is set up for something else."
    @contextlib.contextmanager
    def float64():
        torch.set_default_dtype(torch.float64)
        try: yield
        finally: torch.set_default_dtype(torch.float32)
    return dict(autocast=lambda: torch.autocast("cpu", torch.bfloat16), float64=float64, device=lambda: torch.device("meta"),
                inference_mode=torch.inference_mode, no_grad=torch.no_grad)[request.param]


def fresh(model):
    "The model with nothing remembered of its references."
    if isinstance(model, VitaModel): return VitaModel(model.parts, model.voice)
    made = copy.copy(model)
    made._encoded, made.prefixes = Latest(8), PrefixStore()
    return made


def test_the_latest_recordings_are_kept_and_no_more(either, reference):
    made, asked = fresh(either), reference.audio
    made._encoded = Latest(2)
    parts = [vl.Reference(vl.Audio(asked.samples[n:], asked.rate), transcript=reference.transcript, consent="synthetic", noticed=True) for n in range(3)]
    for part in (*parts, parts[1], parts[0]):
        made.plan("Hi.", reference=part)
        assert len(made._encoded) <= 2
    before = list(made._encoded)
    made.plan("Hi.", reference=parts[1])
    assert len(before) == 2 and list(made._encoded) == before[::-1]


@pytest.mark.parametrize("way", ["clone", "stream", "clone_batch"])
def test_the_callers_settings_of_torch_change_nothing(either, changed, way, reference):
    say = dict(clone=lambda m: [m.clone("Oh, hi.", reference=reference, seed=5)], stream=lambda m: [m.stream("Oh, hi.", reference=reference, seed=5)],
               clone_batch=lambda m: m.clone_batch(["Oh, hi.", "Hi."], references=reference, seeds=5))[way]
    def made(model):
        samples = say(model)
        for each in samples if way == "stream" else []: list(each)
        return [each.generation if way == "stream" else each for each in samples]
    right, other = made(fresh(either)), fresh(either)
    with changed():
        before = torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), torch.get_default_device(), torch.is_inference_mode_enabled()
        here = made(other)
        assert (torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), torch.get_default_device(), torch.is_inference_mode_enabled()) == before
    for one, two in zip(right, here):
        assert torch.equal(one.codes, two.codes) and np.array_equal(one.audio.samples, two.audio.samples) and len(one.trace) == len(two.trace)
    assert torch.equal(made(other)[0].codes, right[0].codes)            # what was kept is of use outside, too


def test_the_consumer_of_a_stream_keeps_its_settings(either, reference):
    torch.set_default_dtype(torch.float64)
    try:
        for _ in either.stream("Oh, hi.", reference=reference, seed=5): assert torch.zeros(1).dtype == torch.float64
    finally: torch.set_default_dtype(torch.float32)


def test_the_default_dtype_comes_back_when_the_last_thread_has_left():
    first, second = shielded(), shielded()
    torch.set_default_dtype(torch.float64)
    try:
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.get_default_dtype() == torch.float32
        second.__exit__(None, None, None)
        assert torch.get_default_dtype() == torch.float64
    finally: torch.set_default_dtype(torch.float32)


# ---- a batch with a bad item

TEXTS = ["Oh, hi.", "", "Ho.", "Breaks.", "Hi."]


@pytest.fixture
def breaking(monkeypatch):
    "Sessions of the text `Breaks.` break at their third step."
    for engine in (HiggsEngine, VitaEngine):
        def push(self, made, right=engine.push):
            if any(session.text == "Breaks." and len(session.trace) == 3 for session, _ in made): raise EngineError("model: its logits are not numbers")
            return right(self, made)
        monkeypatch.setattr(engine, "push", push)


def test_a_batch_with_bad_items(either, reference, breaking, tmp_path):
    with pytest.raises(VoicelabError, match=r"^texts\[1\]: text: nothing to say"): either.clone_batch(TEXTS, references=reference, seeds=[1, 2, 3, 4, 5])
    with pytest.raises(EngineError, match="logits"): either.clone_batch(TEXTS[2:], references=reference, seeds=[3, 4, 5])
    made = either.clone_batch(TEXTS, references=reference, seeds=[1, 2, 3, 4, 5], on_error="row")
    assert [type(each) is Failure for each in made] == [False, True, False, True, False]
    for number in (0, 2, 4):
        assert torch.equal(made[number].codes, either.clone(TEXTS[number], reference=reference, seed=number + 1).codes), number
        assert made[number].stop_reason != "interrupted"
    assert (made[1].text, made[1].seed, made[1].reference) == ("", 2, reference) and "nothing to say" in str(made[1].error)
    assert (made[3].text, made[3].seed) == ("Breaks.", 4) and "logits" in str(made[3].error) and "EngineError" in repr(made[3])
    run = vl.Run(tmp_path / "run")
    for each in made: run.save(each)
    assert [row["status"] for row in run.rows] == ["ok", "failed", "ok", "failed", "ok"]
    assert run.rows[3]["error"] == "EngineError: model: its logits are not numbers" and run.rows[3]["seed"] == 4 and run.rows[3]["text"] == "Breaks."
    assert [pair.row["text"] for pair in run] == TEXTS


def test_an_item_keeps_the_seed_that_was_drawn(either, breaking):
    made = either.clone_batch(["Oh, hi.", "Breaks."], on_error="row")
    assert torch.equal(either.clone("Oh, hi.", seed=made[0].sampling.seed).codes, made[0].codes) and made[1].seed is not None


def test_a_bug_in_a_batch_leaves_its_traceback(either, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    engine = VitaEngine if isinstance(either, VitaModel) else HiggsEngine
    def push(self, made, right=engine.push):
        if any(session.text == "Breaks." for session, _ in made): raise KeyError("frames")
        return right(self, made)
    monkeypatch.setattr(engine, "push", push)
    made = either.clone_batch(["Hi.", "Breaks.", ""], seeds=1, on_error="row")
    reports = [*tmp_path.glob("voicelab-bug-*")]
    assert len(reports) == 1 + engine.shares_steps      # of the item, and of its batch
    report, = (each for each in reports if str(each) in repr(made[1]))
    assert "in push" in report.read_text() and "KeyError: 'frames'" in report.read_text() and made[0].codes.shape[1]
    run = vl.Run(tmp_path / "run")
    for each in made: run.save(each)
    for said in (repr(made[1]), run.rows[1]["error"]):
        assert f"KeyError: 'frames'; a bug in voicelab (KeyError: 'frames'); the traceback is in {report}: " in said
    assert "nothing to say" in run.rows[2]["error"] and "traceback" not in run.rows[2]["error"] and len([*tmp_path.glob("voicelab-bug-*")]) == len(reports)


def test_a_reference_that_can_not_be_read_is_one_row(either, reference):
    made = either.clone_batch(["Hi.", "Ho."], references=[reference, "no/such/file.wav"], seeds=1, on_error="row")
    assert made[0].codes.shape[1] and isinstance(made[1], Failure) and "no/such/file.wav" in str(made[1].error) and made[1].reference == "no/such/file.wav"


def test_all_items_bad(either):
    assert [type(each) for each in either.clone_batch(["", " "], on_error="row")] == [Failure, Failure]


def test_a_batch_that_does_not_fit_into_memory_is_made_in_parts(model, reference, monkeypatch):
    right, sizes = model.clone_batch(["Hi.", "Ho.", "Oh, hi."], references=reference, seeds=1), []
    def check(self, sessions):
        sizes.append(len(sessions))
        if len(sessions) > 1: raise EngineError("texts: a batch of so many rows does not fit")
    monkeypatch.setattr(HiggsEngine, "check", check)
    with pytest.warns(UserWarning, match="^texts: a batch of [23] broke, .* in halves: EngineError: texts: a batch of so many rows does not fit$"):
        made = model.clone_batch(["Hi.", "Ho.", "Oh, hi."], references=reference, seeds=1, on_error="row")
    assert all(torch.equal(one.codes, two.codes) for one, two in zip(right, made)) and sizes == [3, 2, 1, 1, 1]


def test_an_interrupted_batch_makes_nothing_more(either, monkeypatch):
    engine = VitaEngine if isinstance(either, VitaModel) else HiggsEngine
    right = engine.push
    def push(self, made):
        if len(made[0][0].trace) == 2: raise KeyboardInterrupt
        return right(self, made)
    monkeypatch.setattr(engine, "push", push)
    made = either.clone_batch(["Oh, hi.", "", "Hi."], seeds=1, on_error="row")
    assert [getattr(each, "stop_reason", "failed") for each in made] == ["interrupted", "failed", "interrupted"]


def test_ctrl_c_in_one_half_of_a_broken_batch_is_for_both(model, reference, monkeypatch):
    def check(self, sessions):
        if len(sessions) > 1: raise EngineError("texts: a batch of so many rows does not fit")
    def push(self, made, right=HiggsEngine.push):
        if len(made[0][0].trace) == 2: raise KeyboardInterrupt
        return right(self, made)
    monkeypatch.setattr(HiggsEngine, "check", check)
    monkeypatch.setattr(HiggsEngine, "push", push)
    made = model.clone_batch(["Hi.", "Ho.", "Oh, hi.", "Ha."], references=reference, seeds=1, on_error="row")
    assert [each.stop_reason for each in made] == ["interrupted"] * 4 and [len(each.trace) > 0 for each in made] == [True, False, False, False]


def test_vita_refuses_a_blend_in_words(vita, reference):
    with pytest.raises(ArgumentError, match="^blend: no such option; VitaModel.[a-z]+ takes "): vita.clone("Hi.", reference=[reference, reference], blend=0.5)
