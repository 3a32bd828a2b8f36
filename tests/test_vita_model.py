"""VitaModel end to end with a vocoder that hums: tasks, streams, reasons to stop, loading, and what must be refused."""
import json
import math
import warnings

import numpy as np
import pytest
import soundfile
import torch
from conftest import joined, untouched

from voicelab import lab
from voicelab.audio import GENERATED, Audio, AudioError
from voicelab.budget import BudgetError
from voicelab.chat import FormError, Message
from voicelab.codec import CodecError
from voicelab.control import Control, ControlError
from voicelab.errors import VoicelabError
from voicelab.families.vita.checkpoint import VITA_LICENSE, save_vita, tiny_settings, tiny_vita
from voicelab.families.vita.engine import MISTAKES, speech_tokens
from voicelab.families.vita.model import VitaModel, ways
from voicelab.families.vita.prompt import DISCRETE, PERSONAS, Heard, Persona, render_vita, vita_messages
from voicelab.generation import EngineError
from voicelab.models.checkpoint import CheckpointError
from voicelab.models.glm4voice import tiny_glm4voice
from voicelab.reference import Reference
from voicelab.settings import ReferencePolicy, Settings, SettingsError
from voicelab.widgets.tuner import Tuner

class Hum:
    "The interface of Glm4Voice, with tones for codes; silent where a code is below `silent_below`."
    sample_rate, frame_rate, codebook_size, n_codebooks, context_frames, name = 22_050, 12.5, 16_384, 1, None, "hum"

    def __init__(self, silent_below=0): self.silent_below, self.decoded = silent_below, []

    def encode(self, audio): return torch.arange(math.ceil(round(audio.seconds * 12.5, 6)))[None] % 2048

    def decode(self, codes, steps=10, generator=None):
        assert codes.shape[0] == 1 and 0 <= codes.min() and codes.max() < self.codebook_size
        self.decoded.append((codes, steps))
        time = np.arange(1764) / self.sample_rate
        tones = [0.1 * np.sin(2 * np.pi * (200 + code % 64) * time) * (code >= self.silent_below) for code in codes[0].tolist()]
        return Audio(np.concatenate(tones).astype(np.float32), self.sample_rate)

    def session(self, steps=10, generator=None, blocks=()):
        self.blocks = blocks
        return HumSession(self, steps)


class HumSession:
    def __init__(self, hum, steps): self.hum, self.steps, self.codes = hum, steps, torch.zeros(1, 0).long()

    def push(self, codes):
        self.codes = torch.cat([self.codes, codes], 1)
        return self.flush() if self.codes.shape[1] >= 4 else None

    def flush(self):
        codes, self.codes = self.codes, self.codes[:, :0]
        return self.hum.decode(codes, self.steps if isinstance(self.steps, int) else self.steps[0]) if codes.shape[1] else None


NOISE = np.random.default_rng(0).standard_normal(80_000).astype(np.float32) * 0.1
VOICE, QUESTION = Reference(Audio(NOISE, 16_000), consent="synthetic"), Audio(NOISE[:32_000], 16_000)
KINDS = ("qwen2_mtp", "qwen2_mtp_sensevoice")


@pytest.fixture(scope="module")
def models(): return {kind: VitaModel(tiny_vita(kind, n_codes=2048), Hum()) for kind in KINDS}


@pytest.fixture(params=KINDS)
def model(models, request): return models[request.param]


def test_clone_is_what_other_models_give(model):
    made = untouched(lambda: model.clone("Hello there.", reference=VOICE, seed=1))
    assert made.text == "Hello there." and made.reference is VOICE and made.model.family == "vita-audio"
    assert made.codes.shape[0] == 1 and len(made.audio.samples) == made.codes.shape[1] * 1764
    assert made.stop_reason in ("eos", "budget") and len(made.trace) and made.budget.frame_rate == 12.5
    assert {"prefill", "decode", "codec", "first_audio", "total", "rtf"} <= made.timings.keys()
    assert made.voice_from["input"].tolist() == ["reference", "what the model said"]
    again = model.clone("Hello there.", reference=VOICE, seed=1)
    assert torch.equal(made.codes, again.codes) and np.array_equal(made.audio.samples, again.audio.samples)
    assert "reference" in made._repr_html_()


def test_stream_joins_to_the_answer(model):
    live = model.stream("Hello there.", reference=VOICE, seed=2, mode=(1, 10))
    pieces = list(live)
    assert len(pieces) > 1 and np.array_equal(joined(pieces), live.generation.audio.samples)
    offline = model.clone("Hello there.", reference=VOICE, seed=2, mode=(1, 10))
    assert torch.equal(live.generation.codes, offline.codes)
    assert {sound.mark for sound in (*pieces, live.generation.audio)} == {offline.audio.mark}
    assert offline.audio.mark.comment == f"{GENERATED}; model {model.info.name}" and VOICE.consent in offline.audio.mark.copyright
    assert 0 < live.generation.timings["first_audio"] <= live.generation.timings["total"]
    with pytest.raises(EngineError, match="has been run"): list(live)


def test_consent_is_required_where_the_settings_say_so(model):
    strict, silent = Settings(references=ReferencePolicy(require_consent=True)), Reference(VOICE.audio, noticed=True)
    with pytest.raises(AudioError, match="^consent: none is stated for the voice 'reference'"):
        model.session("clone", text="Hi.", reference=silent, settings=strict)
    assert model.session("clone", text="Hi.", reference=VOICE, settings=strict).reference is VOICE


def test_left_in_the_middle_keeps_what_there_is(model):
    live = model.stream("Hello there.", reference=VOICE, seed=2)
    for _ in live: break
    assert live.generation.stop_reason == "interrupted" and live.generation.codes.shape[1] >= 4


@pytest.mark.parametrize("way", ["left", "Ctrl-C"])
def test_an_unfinished_stream_has_the_sound_of_all_its_codes(monkeypatch, way):
    "The vocoder holds back the end of what it has got, to fade it into what follows."
    model, calls = VitaModel(tiny_vita(), tiny_glm4voice()), []
    live, main = model.stream("Hello there, how are you?", reference=VOICE, seed=2, option_steps=1), model.network.main
    def interrupted(*args):
        calls.append(1)
        if way == "Ctrl-C" and len(calls) == 30: raise KeyboardInterrupt
        return main(*args)
    monkeypatch.setattr(model.network, "main", interrupted)
    heard = []
    for piece in live:
        heard.append(piece)
        if way == "left": break
    made, heard = live.generation, joined(heard)
    assert made.stop_reason == "interrupted" and made.audio.seconds == model.voice.decode(made.codes, steps=1).seconds
    assert np.array_equal(made.audio.samples[:len(heard)], heard) and (len(heard) < len(made.audio.samples)) == (way == "left")


@pytest.mark.parametrize("options, told", [
    (dict(scene="A park."), "scene: no such option"), (dict(turns=2), "turns: no such option"),
    (dict(reference=None, persona=["luke"]), "persona: must be"), (dict(history=None), "history: must be a list"),
    (dict(history=Message("user", "Hi.")), "history: must be a list"), (dict(history=iter(())), "history: must be a list"),
    (dict(reproduce=5), "reproduce: must be"), (dict(reproduce=iter(["lose_tail"])), "reproduce: must be")])
def test_odd_options_are_refused_by_name(model, options, told):
    with pytest.raises(VoicelabError, match=told): model.clone("Hello.", **dict(reference=VOICE, budget=5) | options)


@pytest.mark.parametrize("control, reason", [(Control(timeout_seconds=0), "timeout"), (Control(), "budget")])
def test_timeout_and_budget(models, control, reason):
    made = models["qwen2_mtp"].clone("Hello.", reference=VOICE, seed=5, control=control, budget=20)
    assert made.stop_reason == reason and len(made.trace) <= 20


def test_what_the_user_says_is_heard_to_its_end(models, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.tile(NOISE, 7), 16_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [n for _, n in models["qwen2_mtp"].prompt("asr", audio=str(tmp_path / "long.wav")).places] == [438]
        assert models["qwen2_mtp_sensevoice"].counts(tmp_path / "long.wav").places.tolist() == [438, 583 + 4]


def test_silence_ends_an_answer_and_a_stream():
    model = VitaModel(tiny_vita(n_codes=2048), Hum(silent_below=2048))
    options = dict(reference=VOICE, seed=5, control=Control(silence_frames=4))
    assert model.clone("Hello there, how are you?", **options).stop_reason == "silence"
    live = model.stream("Hello there, how are you?", **options)
    list(live)
    assert live.generation.stop_reason == "silence"


def test_a_silent_answer_is_listened_to_with_one_step():
    model = VitaModel(tiny_vita(n_codes=2048), Hum())
    model.clone("Hello there.", reference=VOICE, seed=5, control=Control(silence_frames=4))
    assert {steps for _, steps in model.voice.decoded[:-1]} == {1} and model.voice.decoded[-1][1] == 10


def test_circles_end_an_answer(models):
    network = models["qwen2_mtp"].network
    first = models["qwen2_mtp"].parts.tokens.first_code
    def same(module, inputs, output): output[..., first + 7] = 1e4
    handle = network.lm_head.register_forward_hook(same)
    try: made = models["qwen2_mtp"].clone("Hello there.", reference=VOICE, seed=0, control=Control(repetition_frames=10))
    finally: handle.remove()
    assert made.stop_reason == "repetition" and set(made.codes[0].tolist()) == {7}


@pytest.mark.parametrize("task", ["text", "asr"])
def test_written_answers_have_no_sound(model, task):
    given = dict(text="Hello.") if task == "text" else dict(audio=QUESTION)
    made = model.respond(task, budget=10, **given)
    assert not len(made.audio.samples) and made.sampling.temperature == 0 and made.text == made.written
    assert list(model.session(task, budget=10, **given)) == []


def test_roles_decide(models):
    asked = dict(audio=QUESTION, reference=VOICE)
    codes, features = (models[kind].prompt("speech_to_speech", **asked) for kind in KINDS)
    assert [n for _, n in codes.places] == [63, 25] and not codes.features
    assert [n for _, n in features.places] == [len(f) + 4 for _, f in features.features] == [87, 37]
    for prompt in (codes, features):
        assert [each.name for each in prompt.heard] == ["reference", "input audio"]
        rows = prompt.segments[prompt.segments.kind == "audio"]
        assert rows.role.tolist() == ["system", "user"] and rows.seconds.tolist() == [5.0, 2.0]
        assert rows.feeds.str.startswith(("reference", "input audio")).all()
        assert prompt.segments.tokens.sum() == len(prompt.ids)
        assert prompt.audio_mask.sum() == sum(n for _, n in prompt.places)


def test_plus_keeps_an_answer_of_the_history_in_codes(models):
    plus = models["qwen2_mtp_sensevoice"]
    history = [Message("user", "Hello."), Message("assistant", Heard(codes=torch.tensor([[1, 2, 3]])))]
    prompt = plus.prompt("speech_to_speech", audio=QUESTION, history=history)
    assert [n for _, n in prompt.places] == [3, 37] and prompt.audio_columns.tolist() == [[1, 2, 3]]


def test_vectors_change_what_is_said(models):
    plus = models["qwen2_mtp_sensevoice"]
    other = Reference(Audio(NOISE[::-1].copy(), 16_000))
    codes = [plus.clone("Hello.", reference=reference, seed=3).codes.tolist() for reference in (VOICE, other)]
    assert codes[0] != codes[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_is_heard_once(models, kind):
    first, second = (models[kind].hear(VOICE, "reference", "user") for _ in range(2))
    assert (first.features is None) == (kind == "qwen2_mtp")
    assert first.features is second.features and first.codes is second.codes


def test_reproduced_mistakes(models):
    boost, plus = models.values()
    asked = dict(reference=VOICE, seed=5)
    right = boost.clone("Hello.", **asked)
    spoken = boost.clone("Hello.", reproduce=["speak_prompt"], **asked)
    assert len(spoken.audio.samples) - len(right.audio.samples) == 63 * 1764 and torch.equal(spoken.codes, right.codes)
    assert spoken.mistakes == {"speak_prompt"} and "speak_prompt" in spoken._repr_html_()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    boost.clone("Hello.", reproduce=["global_seed"], **asked)
    assert not torch.equal(torch.get_rng_state(), before)
    loud = list(boost.stream("Hello there.", reproduce=["peak_normalise"], **asked))
    assert all(piece.peak == pytest.approx(1) for piece in loud)
    assert not plus.prompt("clone", text="Hello.", reference=VOICE, reproduce="drop_by_role").heard
    assert boost.prompt("clone", text="Hello.", reference=VOICE, reproduce="drop_by_role").heard
    with pytest.raises(FormError, match="reproduce: must be one of swap_audios"): plus.clone("Hello.", reproduce=["all"])


def test_swapped_recordings_stand_in_each_others_places(models):
    asked = dict(audio=QUESTION, reference=VOICE)
    boost, plus = ([model.prompt("speech_to_speech", **asked, reproduce=names) for names in ((), "swap_audios")] for model in models.values())
    assert torch.equal(boost[0].ids, boost[1].ids)                      # codes are in the text, in its order
    right, wrong = plus
    assert wrong.features[0][1] is right.features[1][1] and wrong.features[1][1] is right.features[0][1]
    assert [count for _, count in right.places] == [87, 37] and [count for _, count in wrong.places] == [37, 87]
    (first, count), (second, more) = right.places
    voice, question = right.ids[first:first + count], right.ids[second:second + more]
    between, after = right.ids[first + count:second], right.ids[second + more:]
    assert torch.equal(wrong.ids, torch.cat([right.ids[:first], question, between, voice, after]))


@pytest.mark.parametrize("mistake, heard", [("peak_normalise", 30), ("lose_tail", 20)])
def test_a_stream_as_published_loses_its_tail(models, mistake, heard):
    "20 codes and an end mark, which is a piece; 10 codes and an end mark, which is none; the end."
    boost = models["qwen2_mtp"]
    tokens = boost.parts.tokens
    codes = [tokens.first_code + number for number in range(30)]
    said = iter([tokens.begin, *codes[:20], tokens.end, tokens.begin, *codes[20:], tokens.end, tokens.stops[0]])
    def say(module, inputs, output): output[..., next(said)] = 1e4
    handle = boost.network.lm_head.register_forward_hook(say)
    live = boost.stream("Hello.", reference=VOICE, seed=1, budget=100, reproduce=[mistake])
    try: pieces = list(live)
    finally: handle.remove()
    assert live.generation.stop_reason == "eos" and live.generation.codes.tolist() == [list(range(30))]
    assert len(joined(pieces)) == heard * 1764 and len(live.generation.audio.samples) == heard * 1764


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_runs_in_a_stream(models, mistake):
    live = models["qwen2_mtp_sensevoice"].stream("Hello.", reference=VOICE, seed=1, budget=30, reproduce=[mistake])
    list(live)
    assert live.generation.mistakes == {mistake}


def test_unused_ids_are_never_drawn(models):
    boost = models["qwen2_mtp"]
    last = boost.parts.tokens.last_code
    def unused(module, inputs, output): output[..., last + 1:] = 1e4
    handle = boost.network.lm_head.register_forward_hook(unused)
    try:
        right = boost.clone("Hello.", seed=0, budget=10)
        wrong = boost.clone("Hello.", seed=0, budget=10, reproduce=["unused_ids"])
    finally: handle.remove()
    assert right.trace.id.max() <= last < wrong.trace.id.min()


def test_a_mode_without_heads_falls_back_and_says_so():
    model = VitaModel(tiny_vita(prediction_heads=0, n_codes=64), Hum())
    assert model.mode == "vanilla"
    with pytest.warns(UserWarning, match="falls back to 'vanilla', one token at a time: this checkpoint has no prediction heads"):
        made = model.clone("Hello.", seed=0, budget=12, mode="boost")
    assert made.mode == "vanilla" and set(made.trace.speaker) == {"main"}
    assert torch.equal(made.codes, model.clone("Hello.", seed=0, budget=12).codes)


def test_budget_counts_the_interleaving(models):
    assert [speech_tokens(frames) for frames in (1, 8, 9, 80)] == [15, 15, 29, 141]
    made = models["qwen2_mtp"].session("clone", text="The garden is open today.", reference=VOICE)
    assert made.plan.chunks[0].budget.columns >= made.plan.chunks[0].budget.frames * 14 / 8
    heard = models["qwen2_mtp"].session("asr", audio=QUESTION).plan.chunks[0].budget
    assert heard.columns == 30 and "text" in str(heard)


@pytest.mark.parametrize("call, error, message", [
    (lambda m: m.respond("clone", text="Hello."), FormError, "reference: task 'clone' needs one"),
    (lambda m: m.respond("tts", text=None), FormError, "text: task 'tts' needs one"),
    (lambda m: m.respond("tts", text="  "), ValueError, "text: nothing to say"),
    (lambda m: m.respond("tts", text=7), ValueError, "text: must be a string"),
    (lambda m: m.respond("asr", audio="nowhere.wav"), ValueError, "nowhere.wav"),
    (lambda m: m.respond("asr", audio=Audio(np.zeros(10, np.float32), 16_000)), FormError, "audio: needs at least 0.1 s"),
    (lambda m: m.respond("asr", audio=7), ValueError, "audio: int given"),
    (lambda m: m.respond("asr", audio=QUESTION, reference=VOICE), FormError, "has no use for one"),
    (lambda m: m.respond("dance"), FormError, "task: must be one of"),
    (lambda m: m.respond("tts", text="Hi.", mode="fast"), EngineError, "mode: must be one of"),
    (lambda m: m.respond("tts", text="Hi.", mode=(0, 0)), EngineError, "not both 0"),
    (lambda m: m.respond("tts", text="Hi.", option_steps=(1, 0)), CodecError, "option_steps: must be a whole number from 1 to 1000, got 0"),
    (lambda m: m.respond("tts", text="Hi.", option_steps="10"), CodecError, "option_steps"),
    (lambda m: m.respond("tts", text="Hi.", budget=0), BudgetError, "a number of tokens from 1"),
    (lambda m: m.respond("asr", audio=QUESTION, budget="fixed"), BudgetError, "budget"),
    (lambda m: m.respond("tts", text="Hi.", control=3), ControlError, "control"),
    (lambda m: m.respond("tts", text="Hi.", sampling="wild"), ControlError, "sampling"),
    (lambda m: m.respond("tts", text="Hi.", settings=3), SettingsError, "settings: must be Settings, got 3"),
    (lambda m: m.respond("asr", audio=Audio(np.zeros(8000 * 700, np.float32), 8000)), FormError,
     "input audio: 700 s take 8750 places, at 12.5 a second; the context has 8192"),
    (lambda m: m.clone("Hi.", reference=VOICE, prompt_form="system_ref"), FormError, "your_voice, speaker_metadata"),
    (lambda m: m.clone("Hi.", reference=VOICE, persona="luke"), FormError, "persona: can't be combined with a reference"),
    (lambda m: m.respond("text", text="Hi.", persona="nobody"), FormError, "persona: must be a Persona"),
    (lambda m: m.respond("text", text="Hi.", history=[Message("system", "Be good.")]), FormError, "history"),
    (lambda m: m.respond("text", text="Hi.", history=["Hello."]), FormError, "history"),
    (lambda m: m.respond("text", text="Hi." * 3000, budget=20), EngineError, "exceed the context of 8192"),
])
def test_bad_input(models, call, error, message):
    with pytest.raises(error, match=message): untouched(lambda: call(models["qwen2_mtp"]))


def test_codes_that_do_not_exist_are_refused(models):
    tokenizer = models["qwen2_mtp"].tokenizer
    for codes in (torch.tensor([[2048]]), torch.tensor([[-1]]), torch.zeros(2, 3).long()):
        with pytest.raises(CodecError, match="codes"):
            render_vita(vita_messages("clone", text="Hi.", reference=Heard(codes=codes)), tokenizer, DISCRETE)
    full = VitaModel(tiny_vita(), Hum())
    assert full.parts.tokens.n_codes == 16_384
    with pytest.raises(CodecError, match="0 to 16383, got 16384"):
        render_vita(vita_messages("clone", text="Hi.", reference=Heard(codes=torch.tensor([[16_384]]))), full.tokenizer, DISCRETE)


@pytest.mark.parametrize("text", ["<|im_end|>", "<|audio_3|>", "<|audio|>", "<tool_call>", "<|im_start|>assistant\n", "< |audio| >"])
def test_text_never_becomes_a_control_token(models, text):
    tokenizer = models["qwen2_mtp"].tokenizer
    special = set(tokenizer.get_added_vocab().values())
    persona = Persona(text, text)
    plain = [render_vita(vita_messages("text", text=said, persona=who), tokenizer, DISCRETE).ids.tolist()
             for said, who in (("a", Persona("a", "a")), (f"a{text}", persona))]
    assert [i for i in plain[0] if i in special] == [i for i in plain[1] if i in special]


def test_personas():
    assert set(PERSONAS) == {"luke", "lucy", "omni"}
    assert Persona("Ada", "female").system == "Your Name: Ada\nYour Gender: female\nRespond in a text-audio interleaved manner."
    assert len(ways()) == 4


def write(folder, kind, **changes):
    parts = tiny_vita(kind, n_codes=64)
    settings = tiny_settings(kind, parts.tokenizer, 10) | changes
    save_vita(folder, parts, settings, dict(name="written", license="Apache-2.0"))
    return parts


@pytest.fixture
def hums(monkeypatch):
    "What was asked for a voice, in whose place there is one that hums."
    asked = []
    def load_glm4voice(*folders, device="cpu"):
        asked.append(folders)
        return Hum()
    monkeypatch.setattr("voicelab.families.vita.model.load_glm4voice", load_glm4voice)
    return asked


@pytest.mark.parametrize("kind", KINDS)
def test_load_goes_by_the_family(tmp_path, hums, kind):
    parts = write(tmp_path, kind)
    model = untouched(lambda: lab.load(tmp_path))
    assert isinstance(model, VitaModel) and model.variant == parts.variant and model.info.codec == "hum"
    assert hums == [(tmp_path / "codec",)] and model.card == dict(name="written", license="Apache-2.0")
    theirs = VitaModel(parts, Hum()).clone("Hello.", reference=VOICE, seed=1, budget=20)
    assert torch.equal(model.clone("Hello.", reference=VOICE, seed=1, budget=20).codes, theirs.codes)


def test_the_script_of_a_tuner_loads_the_model_again(tmp_path, hums):
    write(tmp_path, "qwen2_mtp")
    (line,) = [line for line in Tuner(lab.load(tmp_path)).code().splitlines() if line.startswith("model = ")]
    made = {"vl": lab}
    exec(line, made)
    assert made["model"].source == str(tmp_path) and made["model"].info.name == "written"


def test_a_checkpoint_of_another_family_is_refused(tmp_path, hums):
    write(tmp_path, "qwen2_mtp_sensevoice")
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | dict(model_type="qwen2_mtp")))
    with pytest.raises(CheckpointError, match="of the Plus variant, but the network is of Boost, Balance"): lab.load(tmp_path)
    write(tmp_path, "qwen2_mtp")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="need <.context_of_audio.>"): lab.load(tmp_path)


@pytest.mark.parametrize("file, message", [("am.mvn", "am.mvn: is missing"), ("tokenizer.json", "tokenizer.json: is missing"),
                                           ("model.safetensors", "holds no .safetensors")])
def test_missing_files_are_named(tmp_path, hums, file, message):
    write(tmp_path, "qwen2_mtp_sensevoice")
    (tmp_path / file).unlink()
    with pytest.raises(CheckpointError, match=message): lab.load(tmp_path)


@pytest.mark.parametrize("changes, message", [
    (dict(num_nextn_predict_layers=9), "tensors do not fit"), (dict(vocab_size=64), "vocab_size must be at least"),
    (dict(tie_word_embeddings=True), "tie_word_embeddings"), (dict(num_nextn_predict_layers=40), "num_nextn_predict_layers = 40: must be 0 to")])
def test_settings_that_do_not_fit(tmp_path, hums, changes, message):
    write(tmp_path, "qwen2_mtp", **changes)
    with pytest.raises(CheckpointError, match=message): lab.load(tmp_path)


@pytest.mark.parametrize("content", ["", "<AddShift> 560 560 [ 1 2 ]", "<AddShift> [ x ]", "\0\1"])
def test_damaged_am_mvn(tmp_path, hums, content):
    write(tmp_path, "qwen2_mtp_sensevoice")
    (tmp_path / "am.mvn").write_text(content)
    with pytest.raises(CheckpointError, match="am.mvn"): lab.load(tmp_path)


def test_the_licence_is_said_before_a_download(monkeypatch):
    said = []
    def no_hub(*_, **__):
        said.append("asked")
        raise OSError("no hub here")
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", no_hub)
    with warnings.catch_warnings(record=True) as caught, pytest.raises(lab.ModelError):
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: said.append(str(message))
        lab.load("vita-boost")
    assert len(said) == 2 and VITA_LICENSE in said[0] and said[1] == "asked", caught
