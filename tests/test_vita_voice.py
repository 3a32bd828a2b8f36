"""One slot for each recording of a VITA-Audio chat, and the experiment of telling the vocoder of a voice."""
import json

import numpy as np
import pytest
import torch
from conftest import joined, untouched

from voicelab.audio import Audio
from voicelab.chat import AudioContent, FormError, Message
from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.engine import NOT_USED
from voicelab.families.vita.model import VitaModel
from voicelab.families.vita.prompt import SLOT, VARIANTS, Fixed, Heard, render_vita
from voicelab.manifest import result_row
from voicelab.models.glm4voice import EXPERIMENT, tiny_glm4voice
from voicelab.reference import Reference

NOISE = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.1
VOICE, OTHER = (Reference(Audio(samples, 16_000), consent="synthetic") for samples in (NOISE, NOISE[::-1].copy()))
QUESTION = Audio(NOISE[:16_000], 16_000)
QUICK = dict(seed=5, budget=40, option_steps=2)


@pytest.fixture(scope="module")
def models(): return {kind: VitaModel(tiny_vita(kind), tiny_glm4voice()) for kind in VARIANTS}


@pytest.fixture(params=VARIANTS)
def model(models, request): return models[request.param]


# ---- recordings and slots

@pytest.mark.parametrize("given, message", [
    (dict(task="asr", audio=[QUESTION, QUESTION]), "audio: has one slot in the chat, got 2 recordings"),
    (dict(task="asr", audio=(QUESTION, QUESTION)), "audio: has one slot in the chat, got 2 recordings"),
    (dict(task="spoken_qa", audio=["a.wav", "b.wav", "c.wav"]), "audio: has one slot in the chat, got 3 recordings"),
    (dict(task="clone", text="Hi.", reference=[VOICE, OTHER]), "reference: has one slot in the chat, got 2 recordings"),
    (dict(task="speech_to_speech", audio=QUESTION, reference=(VOICE, OTHER)), "reference: has one slot in the chat, got 2 recordings"),
    (dict(task="asr", audio=[]), "audio: has one slot in the chat, got 0 recordings"),
    (dict(task="clone", text="Hi.", reference=VOICE, audio=QUESTION), "audio: task 'clone' has no use for one"),
    (dict(task="text", text="Hi.", audio=QUESTION), "audio: task 'text' has no use for one")])
def test_more_recordings_than_slots(model, given, message):
    for call in (model.prompt, model.session, model.respond):
        with pytest.raises(FormError, match=message): untouched(lambda: call(**given))


@pytest.mark.parametrize("slots", (1, 2))
def test_more_slots_than_recordings(model, slots):
    parts = [Fixed(SLOT * slots), "What is said?"]
    with pytest.raises(FormError, match=f"audio: 0 recordings for {slots} slots"):
        render_vita([Message("user", parts)], model.tokenizer, model.variant)
    audio = model.hear(QUESTION, "input audio", "user")
    given = int(audio.features is not None)
    with pytest.raises(FormError, match=f"audio: {given} recordings for {slots + given} slots"):
        render_vita([Message("user", [audio, *parts])], model.tokenizer, model.variant)


def test_a_slot_that_is_written_is_text(model):
    written, plain = (model.prompt("speech_to_speech", audio=QUESTION, reference=VOICE, text=text) for text in (f"Say {SLOT}.", "Say."))
    assert [each.name for each in written.heard] == [each.name for each in plain.heard] == ["reference", "input audio"]
    assert [count for _, count in written.places] == [count for _, count in plain.places]


def test_recordings_of_the_history_have_places_of_their_own(model):
    history = [Message("user", AudioContent(QUESTION)), Message("assistant", ["Yes.", AudioContent(codes=torch.tensor([[7, 8, 9]]))])]
    prompt = model.prompt("speech_to_speech", audio=QUESTION, reference=VOICE, history=history)
    each = [len(part.features) + 4 if part.features is not None else part.codes.shape[1] for part in prompt.heard]
    assert [count for _, count in prompt.places] == each and each[1] == each[3] and each[2] == 3 and len(each) == 4
    assert prompt.segments[prompt.segments.kind == "audio"].feeds.str.split(" →").str[0].tolist() == [
        "reference", "earlier audio", "audio", "input audio"]
    assert prompt.segments.tokens.sum() == len(prompt.ids)
    made = model.respond("speech_to_speech", audio=QUESTION, reference=VOICE, history=history, **QUICK)
    assert made.voice_from["input"].tolist() == ["reference", "earlier audio", "audio", "input audio", "what the model said"]


def test_features_where_codes_are_given(models):
    plus = models["qwen2_mtp_sensevoice"]
    with pytest.raises(FormError, match="Plus takes features in a user message, and this recording has none"):
        plus.prompt("text", text="And?", history=[Message("user", Heard(codes=torch.tensor([[1, 2]])))])
    heard = plus.prompt("text", text="And?", history=[Message("user", Heard(QUESTION, torch.tensor([[1, 2]])))])
    assert heard.places == plus.prompt("text", text="And?", history=[Message("user", Heard(QUESTION))]).places


# ---- a voice for the vocoder

def noise(seed=5): return torch.Generator().manual_seed(seed)


def test_it_is_off_unless_asked_for(model):
    made = model.clone("Hello there.", reference=VOICE, **QUICK)
    assert made.experiment == "" and set(made.voice_from.vocoder) == {NOT_USED, "all of its input"} and "experiment" not in made._repr_html_()
    assert np.array_equal(made.audio.samples, model.voice.decode(made.codes, 2, noise()).samples)


def test_the_vocoder_is_told_and_the_language_model_is_not(model):
    plain = model.clone("Hello there.", reference=VOICE, **QUICK)
    told = untouched(lambda: model.clone("Hello there.", reference=VOICE, decoder_voice=True, **QUICK))
    assert torch.equal(plain.codes, told.codes) and torch.equal(plain.prompt.ids, told.prompt.ids)
    own, others = (model.voice.decode(told.codes, 2, noise(), model.voice.voice(each.audio)).samples for each in (VOICE, OTHER))
    assert np.array_equal(told.audio.samples, own) and not np.array_equal(own, others)
    assert abs(len(told.audio.samples) - len(plain.audio.samples)) <= 256 and not np.array_equal(told.audio.samples[:9000], plain.audio.samples[:9000])
    assert told.experiment == EXPERIMENT and EXPERIMENT in told._repr_html_()
    assert told.voice_from.set_index("input").vocoder.to_dict() == {"reference": EXPERIMENT, "what the model said": "all of its input"}


def test_a_stream_is_told_too(model):
    plain, told = (model.stream("Hello there.", reference=VOICE, decoder_voice=voice, **QUICK) for voice in (False, True))
    sounds = [joined(list(live)) for live in (plain, told)]
    assert torch.equal(plain.generation.codes, told.generation.codes) and told.generation.experiment == EXPERIMENT
    assert len(sounds[1]) == len(model.clone("Hello there.", reference=VOICE, decoder_voice=True, **QUICK).audio.samples)
    assert not np.array_equal(sounds[0][:9000], sounds[1][:9000])


def test_the_question_is_no_voice(model):
    told = model.respond("speech_to_speech", audio=QUESTION, reference=VOICE, decoder_voice=True, **QUICK)
    assert told.voice_from.set_index("input").vocoder.to_dict() == {
        "reference": EXPERIMENT, "input audio": NOT_USED, "what the model said": "all of its input"}
    with pytest.raises(FormError, match="decoder_voice: needs a reference, got none"):
        model.respond("speech_to_speech", audio=QUESTION, decoder_voice=True)
    with pytest.raises(FormError, match="decoder_voice: needs a reference, got none"): model.stream("Hi.", decoder_voice=True)


def test_a_run_records_all_that_was_set(model):
    told = model.clone("Hello there.", reference=VOICE, decoder_voice=True, mode=(1, 4), repetition_penalty=1.1, reproduce="unused_ids", **QUICK)
    row = result_row(told)["settings"]
    assert {"budget", "sampling", "control"} < row.keys() and json.loads(json.dumps(row)) == row
    assert {name: row[name] for name in ("task", "mode", "option_steps", "mistakes", "repetition_penalty", "experiment")} == dict(
        task="clone", mode=[1, 4], option_steps=2, mistakes=["unused_ids"], repetition_penalty=1.1, experiment=EXPERIMENT)
