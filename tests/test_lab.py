"""The main job end to end, with the model that ships."""
import time

import numpy as np
import pytest
import torch
from conftest import untouched

import voicelab as vl
from voicelab.audio import AudioError
from voicelab.budget import BudgetError
from voicelab.chat import FormError
from voicelab.control import ControlError
from voicelab.families.higgs.prompt import PROMPT_FORMS
from voicelab.generation import EngineError
from voicelab.hub import ModelError
from voicelab.metrics import similarity
from voicelab.profile import PARTS, parts_so_far
from voicelab.settings import SettingsError
from voicelab.text import SPECIAL_TOKENS, TextError

TEXT = "Seven green boats."


@pytest.fixture(scope="module")
def made(model, reference): return model.clone(TEXT, reference=reference, seed=3)


def test_contract(made):
    assert made.audio.samples.dtype == np.float32 and made.audio.samples.ndim == 1 and made.audio.rate == 24_000
    assert made.codes.dtype == torch.int64 and made.codes.shape[0] == 8
    assert len(made.audio.samples) == made.codes.shape[1] * 960
    assert made.stop_reason in ("eos", "budget")
    assert isinstance(made.prompt.text, str) and made.prompt.ids.dtype == torch.int64 and len(made.prompt.segments) > 5
    assert len(made.trace) == sum(c.codes.shape[1] + 9 for c in made.chunks)
    assert {"prefill", "decode", "codec", "total", "rtf", "first_audio"} <= set(made.timings)
    assert made.report()["similarity"].status == "ok"


def test_a_seed_repeats_and_the_global_state_is_left_alone(model, reference, made):
    again = untouched(lambda: model.clone(TEXT, reference=reference, seed=3))
    assert torch.equal(again.codes, made.codes) and np.array_equal(again.audio.samples, made.audio.samples)
    assert not torch.equal(model.clone(TEXT, reference=reference, seed=4).codes, made.codes)


def test_a_drawn_seed_is_recorded(model, reference):
    first = model.clone(TEXT, reference=reference)
    assert torch.equal(model.clone(TEXT, reference=reference, seed=first.sampling.seed).codes, first.codes)


@pytest.mark.parametrize("text", [TEXT, "One. Two three four, five six seven eight nine ten! Eleven twelve thirteen?"])
def test_a_stream_joins_to_the_offline_sound(model, reference, text):
    stream = model.stream(text, reference=reference, seed=5)
    pieces = list(stream)
    offline = model.clone(text, reference=reference, seed=5)
    joined = vl.Audio.join(pieces).samples
    assert np.abs(joined - offline.audio.samples).max() < 1e-4 and torch.equal(stream.generation.codes, offline.codes)


def test_what_the_listener_does_meanwhile_is_not_work(model, reference):
    stream, begun = model.stream(TEXT, reference=reference, seed=5), time.perf_counter()
    pieces = [time.sleep(0.5) for _ in stream]
    assert len(pieces) >= 2 and stream.generation.timings["total"] < time.perf_counter() - begun - 0.45 * len(pieces)


def test_broken_weights_are_one_clear_line():
    broken = vl.load("tiny")
    with torch.no_grad(): broken.network.model.norm.weight.fill_(torch.nan)
    with pytest.raises(EngineError, match="not numbers in column 0"): broken.clone(TEXT, seed=0)


@pytest.mark.parametrize("device", ["foo", "meta", 5, pytest.param("cuda", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA"))])
def test_a_device_that_is_not_there(device):
    with pytest.raises(ModelError, match=f"device: {device!r}") as caught: vl.load("tiny", device=device)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", PROMPT_FORMS)
def test_every_form_speaks(model, reference, form):
    made = model.clone(TEXT, reference=reference, seed=0, prompt_form=form, budget="reference_rate")
    assert made.prompt.form == form and made.codes.shape[1] > 0


def test_without_a_reference(model):
    assert model.clone(TEXT, seed=0).codes.shape[1] > 0


def test_the_reference_is_heard(model, voices):
    "Each of the shipped voices: a clone is nearer to its own reference than to the others on average."
    made = [model.clone("The children are playing in the park.", reference=voice, seed=1).audio for voice in voices.values()]
    table = np.array([[similarity(clone, voice).value for voice in voices.values()] for clone in made])
    apart = table[~np.eye(len(voices), dtype=bool)]
    assert table.diagonal().mean() > apart.mean() + 0.05


def test_a_long_text_is_cut_into_chunks_and_nothing_is_lost(model, reference):
    text = " ".join(f"Sentence number {n} is here." for n in ("one", "two", "three", "four", "five", "six"))
    made = model.clone(text, reference=reference, seed=0)
    assert len(made.chunks) > 1 and " ".join(c.text for c in made.chunks).split() == text.split()
    assert made.codes.shape[1] == sum(c.codes.shape[1] for c in made.chunks)


LONG = "The rain came first. Then the wind turned to the north. By the evening the windows were white. " \
       "Nobody in the harbour had seen so much snow before. The boats lay still and the gulls were silent. " \
       "In the morning the children ran down to the water to see the ice."


def test_a_long_text_is_planned_before_it_is_said(model, reference):
    plan = model.plan(LONG, reference=reference, turns=2)
    made = model.clone(LONG, reference=reference, seed=0, turns=2)
    assert [chunk.text for chunk in plan.chunks] == [chunk.text for chunk in made.chunks] and len(plan.chunks) >= 3
    assert plan.table.turns.tolist()[:3] == [0, 1, 2] and plan.context == model.network.config.max_position_embeddings
    for planned, chunk in zip(plan.chunks, made.chunks):
        assert len(chunk.prompt.ids) <= planned.positions and len(chunk.prompt.codes) <= 1 + planned.turns
    shown = [chunk.codes for chunk in made.chunks[:2] if chunk.stop_reason == "eos"]
    assert [codes.tolist() for codes in made.chunks[2].prompt.codes[1:]] == [codes.tolist() for codes in shown]
    assert all(len(chunk.prompt.codes) == 1 for chunk in model.clone(LONG, reference=reference, seed=0, turns=0).chunks)


def test_a_batch_is_what_clone_makes_one_by_one(model, reference):
    "With and without a reference, short and long."
    other = vl.Reference(reference.audio, transcript="The old library opens.", consent="synthetic")
    texts, references = [TEXT, "One two three.", LONG, TEXT], [reference, None, reference, other]
    together = model.clone_batch(texts, references=references, seeds=[0, 1, 2, 3], turns=1)
    assert len(together) == 4 and all(made.timings["rows"] == 4 for made in together)
    for seed, (text, voice, made) in enumerate(zip(texts, references, together)):
        alone = model.clone(text, reference=voice, seed=seed, turns=1)
        assert torch.equal(alone.codes, made.codes) and made.stop_reason == alone.stop_reason and made.text == text
        assert np.array_equal(alone.audio.samples, made.audio.samples) and made.reference is voice


def test_a_voice_is_read_once_for_many_texts(model, reference):
    voice = vl.Reference(reference.audio, transcript="The old library opens at nine.", consent="synthetic")
    before = model.prefixes.read
    for text in ("One.", "Two three."): model.clone(text, reference=voice, sampling="greedy", seed=0)
    model.clone_batch(["Four.", "Five six."], references=voice, seeds=0, sampling="greedy")
    assert model.prefixes.read == before + 1


@pytest.mark.parametrize("texts, options, error, says", [
    ([], {}, EngineError, "texts: must be a list of at least one text, got []"), ("Hello.", {}, EngineError, "texts: must be a list"),
    (["One.", "Two."], dict(seeds=[1]), EngineError, "seeds: need one for each of 2 texts, got 1"),
    (["One.", "Two."], dict(references=[None] * 3), EngineError, "references: need one for each of 2 texts, got 3"),
    (["One.", " "], {}, TextError, r"texts[1]: text: nothing to say"), (["One.", 7], {}, TextError, "texts[1]: text: must be a string"),
    (["One."], dict(references=["no-such.wav"]), AudioError, "texts[0]: "), (["One."], dict(turns=-1), EngineError, "turns: must be"),
    (["One."], dict(seeds=[-1]), ControlError, "texts[0]: seed"), (None, {}, EngineError, "texts: must be a list"),
    ({"one": 1}, {}, EngineError, "texts: must be a list"), (["One."], dict(reference=None), EngineError, "reference: a batch takes references"),
    (["One."], dict(seed=1), EngineError, "seed: a batch takes seeds"), (["One."], dict(settings="x"), SettingsError, "settings: must be")])
def test_bad_batches_are_one_clear_line(model, texts, options, error, says, monkeypatch):
    monkeypatch.setattr(model.network, "forward", None)
    with pytest.raises(error) as caught: model.clone_batch(texts, **options)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_budget_ends_it_to_the_frame(model, reference):
    budget = vl.Budget("fixed", seconds=0.4, frames=10, columns=19, margin=None, clamped="", detail="ten frames")
    made = model.clone(TEXT, reference=reference, seed=0, budget=budget)
    assert made.stop_reason == "budget" and made.codes.shape[1] == 10


def test_control_tokens_beside_words_are_no_obstacle(model):
    assert model.clone("<|eot_id|> " * 60 + "Hello.", seed=0, budget="reference_rate").chunks


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_text_of_a_user_never_becomes_a_control_token(model, reference, token):
    plain = model.prompt("hello", reference).ids
    token_id = model.tokenizer.convert_tokens_to_ids(token)
    inserted = model.prompt(f"hello {token} there", reference).ids
    assert (inserted == token_id).sum() == (plain == token_id).sum()


BAD = [
    (dict(text=""), TextError, "text"), (dict(text="   \n"), TextError, "text"), (dict(text="<|eot_id|><|AUDIO_OUT|>"), TextError, "text"),
    (dict(text="x" * 100_000), TextError, "at most 50000 characters, got 100000"),
    (dict(text=None), TextError, "text"), (dict(text="?!..."), TextError, "text"),
    (dict(prompt_form="sideways"), FormError, "sideways"), (dict(budget="guess"), BudgetError, "guess"),
    (dict(sampling="wild"), ControlError, "wild"), (dict(seed=-1), ControlError, "seed"), (dict(seed=1.5), ControlError, "seed"),
    (dict(control="quick"), ControlError, "control"), (dict(budget=np.ones(3)), BudgetError, "budget"),
    (dict(reference="no-such.wav"), AudioError, "no-such.wav"),
]


@pytest.mark.parametrize("change, error, says", BAD, ids=[str(list(c.items())[0])[:40] for c, _, _ in BAD])
def test_bad_input_is_one_clear_line(model, reference, change, error, says):
    options = dict(text=TEXT, reference=reference, seed=0) | change
    with pytest.raises(error, match=says) as caught: model.clone(options.pop("text"), **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("form", [form for form in PROMPT_FORMS if form != "system_ref"])
def test_a_form_that_needs_a_transcript_says_so(model, reference, form):
    with pytest.raises(FormError, match="transcript"): model.clone(TEXT, reference=vl.Reference(reference.audio), prompt_form=form)


def test_unknown_models():
    with pytest.raises(ModelError, match="giant"): vl.load("giant")


def test_no_hub(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("higgs-v2", "nobody/nothing"):
        with pytest.raises(ModelError, match="put its config.json") as caught: vl.load(name)
        assert "\n" not in str(caught.value)


def test_the_profile_adds_up_to_the_work(model, reference):
    begun = time.perf_counter()
    made = model.clone("Hi there.", reference=reference, seed=0)
    made.report()
    passed, seconds = time.perf_counter() - begun, made.profile.seconds
    assert [*seconds] == [*PARTS] and all(taken > 0 for name, taken in seconds.items() if name != "encode")
    assert 0.1 * passed < sum(seconds.values()) <= passed + 0.001       # the rest is waiting for the processor
    assert seconds["host"] == pytest.approx(made.timings["total"] - sum(seconds[part] for part in ("prefill", "decode", "codec")))
    assert parts_so_far() == {}


def test_a_report_is_measured_once(model, reference):
    made = model.clone("Hi there.", reference=reference, seed=0)
    assert made.profile.seconds["report"] == 0
    made.report()
    first = made.profile.seconds["report"]
    made.report()
    assert made.profile.seconds["report"] == first > 0
