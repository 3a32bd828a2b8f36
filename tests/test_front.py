"""The front door's arguments on a random network: references, voices, scenes, warnings, dtypes, the hub's cache."""
import copy
import json
import warnings

import pytest
import torch
from test_models import FIXED, voice

from voicelab import lab
from voicelab.audio import AudioError
from voicelab.chat import FormError
from voicelab.control import Sampling
from voicelab.families.higgs.checkpoint import HiggsParts
from voicelab.families.higgs.model import RELEASED_CODEC, HiggsModel, speakers_of, together
from voicelab.families.higgs.speakers import SPEAKERS_SYSTEM, VOICES
from voicelab.family import FAMILIES, Family
from voicelab.generation import ModelInfo
from voicelab.hub import ModelError, cached, check_dtype, find
from voicelab.reference import NOT_STATED, Reference
from voicelab.settings import ReferencePolicy, Settings

@pytest.fixture(scope="module")
def model(tiny_network, tiny_tokenizer, small_codec):
    network = copy.deepcopy(tiny_network)                   # its context is made longer, which is not for other tests
    network.config.max_position_embeddings = 8192
    return HiggsModel(HiggsParts(network, tiny_tokenizer, small_codec, ModelInfo("random", "", "", "", "", ""), {}))


def person(name, seconds=1.2, said="What is said.", consent="synthetic"): return Reference(voice(seconds), said, consent, name, remarks=())


def first_prompt(model, text, **options): return model.session(text, seed=0, budget=FIXED, **options).chunks[0].prompt


@pytest.mark.parametrize("form", ("assistant_ref", "system_ref"))
def test_two_references_are_two_speakers(model, form):
    anna, ben = person("anna"), person("ben", 1.6)
    session = model.session("[SPEAKER0] Hi.\n[SPEAKER1] Ho.", reference=[anna, ben], prompt_form=form, seed=0, budget=FIXED)
    prompt = session.chunks[0].prompt
    assert [codes.shape[1] for codes in prompt.codes] == [30, 40] and prompt.form == form
    assert "[SPEAKER0] Hi.\n[SPEAKER1] Ho." in prompt.text
    assert session.reference.name == "anna+ben" and session.reference.audio.seconds == pytest.approx(2.8)
    assert prompt.text == model.prompt("[SPEAKER0] Hi.\n[SPEAKER1] Ho.", [anna, ben], form).text


def test_several_references_may_be_a_list_or_a_tuple():
    anna, ben = person("anna"), person("ben")
    assert speakers_of((anna, ben)) == speakers_of([anna, ben]) == [anna, ben]
    (sound,) = speakers_of((anna.audio.samples, anna.audio.rate))
    assert sound.audio.seconds == anna.audio.seconds


def test_references_joined():
    assert together([]) is None and together([one := person("one")]) is one
    silent = person("two", said=None, consent=NOT_STATED)
    both = together([one, silent])
    assert both.transcript is None and both.consent == NOT_STATED and both.notice
    assert together([one, person("three", consent="asked")]).consent == "synthetic; asked"
    long = together([person(str(n), 20, "What is said. " * 20) for n in range(3)])
    assert long.audio.seconds == pytest.approx(60)


def test_words_reach_the_prompt(model):
    assert f"SPEAKER0: {VOICES['male_en']}" in first_prompt(model, "Hi.", voice="male_en").text
    assert "A cave.\n\nSPEAKER0: An elf." in first_prompt(model, "Hi.", voice="An elf.", scene="A cave.").text
    assert "Be brief." in first_prompt(model, "Hi.", system="Be brief.").text
    assert SPEAKERS_SYSTEM in first_prompt(model, "[SPEAKER0] Hi.\n[SPEAKER1] Ho.").text
    spelt = first_prompt(model, "Hi.", reference=person("anna"), prompt_form="system_ref", spelling="transformers")
    assert "SPEAKER0: <|audio_out_bos|><|AUDIO_OUT|>" in spelt.text


def test_a_speaker_goes_on_in_the_next_chunk(model):
    text = "[SPEAKER0] " + "A sentence that goes on for a while, as they do. " * 8 + "\n[SPEAKER1] Yes."
    chunks = model.session(text, seed=0).chunks
    spoken = [chunk.prompt.segments.query("role == 'user' and kind == 'text'")["text"].iloc[-1] for chunk in chunks]
    assert len(chunks) > 2 and all(said.startswith("[SPEAKER") for said in spoken)
    assert spoken[-1] == "[SPEAKER1] Yes." or "\n[SPEAKER1] Yes." in spoken[-1]
    assert all(SPEAKERS_SYSTEM in chunk.prompt.text and "SPEAKER1: masculine" in chunk.prompt.text for chunk in chunks)


@pytest.mark.parametrize("options", (dict(), dict(voice=["male_en", "An elf."])))
def test_who_speaks_is_the_same_in_every_chunk(model, options):
    text = "[SPEAKER0] " + "Is it raining over there today? " * 8 + "\n[SPEAKER1] " + "Not yet, but the clouds are low over the harbour. " * 12
    chunks = model.session(text, seed=0, turns=2, **options).chunks
    assert len(chunks) > 2 and any("SPEAKER0" not in str(chunk.text) for chunk in chunks)
    assert len({chunk.prompt.text[:chunk.prompt.text.index("<|eot_id|>")] for chunk in chunks}) == 1
    assert chunks[1].turns == 1


def test_a_chat_of_the_text_alone(model):
    plan = model.plan("Hi.", scene="", system="", seed=0)
    assert plan.chunks[0].prefix_length == 0 and "system" not in plan.chunks[0].prompt.text


@pytest.mark.parametrize("form", ("assistant_ref", "system_ref", "double_reference"))
def test_a_batch_of_one_and_two_speakers_and_none(model, form):
    "In one batch, with turns shown again where a text is long, all options of the front door beside them."
    anna, ben = person("anna"), person("ben", 1.6)
    texts = ["[SPEAKER0] Hi. [laugh]\n[SPEAKER1] Ho.", "It goes on and on, as they do. " * 8, "Hm."]
    options = dict(prompt_form=form, scene="A cave.", system="Be brief.", turns=1, sampling="greedy")
    batch = model.clone_batch(texts, references=[[anna, ben], anna, None], seeds=[0, 1, 2], **options)
    assert [made.reference and made.reference.name for made in batch] == ["anna+ben", "anna", None]
    for text, references, seed, made in zip(texts, [[anna, ben], anna, None], [0, 1, 2], batch):
        alone = model.clone(text, reference=references, seed=seed, **options)
        assert torch.equal(made.codes, alone.codes) and made.prompt.text == alone.prompt.text
        assert "Be brief." in made.prompt.text and "A cave." in made.prompt.text


def test_a_held_sound_warns_while_ras_is_on(model):
    with pytest.warns(UserWarning, match="ras_window=0"): model.session("[music] Hi.", seed=0, sampling="upstream")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.session("[music] Hi.", seed=0, sampling=Sampling(ras_window=0))


def test_a_rate_that_nobody_speaks_at_warns():
    said = "The old library opens at nine in the morning on every day."
    with pytest.warns(UserWarning, match=r"reference: 'fast' speaks .* people speak 7 to 28: is its sample rate \(24000 Hz\) right"):
        speakers_of(person("fast", 1.2, said))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        speakers_of([person("right", 4.0, said), person("silent", 1.2, None)])


def test_references_longer_than_the_context(model, monkeypatch):
    monkeypatch.setattr(model.network.config, "max_position_embeddings", 70)
    monkeypatch.setattr(model.codec, "encode", None)                # refused before any work
    for options in (dict(reference=[person("anna"), person("ben")]), dict(reference=person("anna"), prompt_form="double_reference")):
        with pytest.raises(FormError, match="reference: anna.* takes 78 positions, at 25 a second; the context has 70"):
            model.session("Hi.", seed=0, **options)


@pytest.mark.parametrize("dtype, wanted", [(None, torch.float32), ("bfloat16", torch.bfloat16), (torch.float16, torch.float16)])
def test_dtypes(dtype, wanted): assert check_dtype(dtype, "cpu") == wanted


@pytest.mark.parametrize("dtype", ("int8", torch.int8, 7, [], {}))
def test_dtypes_that_are_none(dtype):
    with pytest.raises(ModelError, match="dtype: must be one of float32, bfloat16, float16, got"): check_dtype(dtype, "cpu")


def test_off_the_cpu_bfloat16_is_the_default(): assert check_dtype(None, "cuda:0") == check_dtype(None, "mps") == torch.bfloat16


def test_half_a_download_is_not_here(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for hub_id, revision in ((lab.MODELS["higgs-v2"]["hub"], "main"), (RELEASED_CODEC, "main")):
        repo = tmp_path / f"models--{hub_id.replace('/', '--')}"
        folder = repo / "snapshots/abc"
        folder.mkdir(parents=True)
        (repo / "refs").mkdir()
        (repo / "refs" / revision).write_text("abc")
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors.index.json").write_text(json.dumps(dict(weight_map=dict(a="one.safetensors", b="two.safetensors"))))
        (folder / "one.safetensors").touch()
        assert cached(hub_id) is None
        (folder / "two.safetensors").touch()
        assert cached(hub_id) == folder
    table = lab.known_models().set_index("name")
    assert table.here.to_dict() == {name: name in ("tiny", "higgs-v2") for name in lab.MODELS}
    assert table.lacks["vita-boost"] == "the model, the voice"
    assert table.lacks["higgs-v2-original"] == "the model"
    with pytest.raises(ModelError, match="10840182.* is not on this machine"): lab.load("higgs-v2-original")


def test_a_part_at_a_revision_is_here(tmp_path, monkeypatch):
    "It needs the files that its family names, as at no revision."
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(FAMILIES, "parts", Family("parts", (), None, files={"some/part": ("part.bin",)}))
    folder = tmp_path / f"models--some--part/snapshots/{'ab' * 20}"
    folder.mkdir(parents=True)
    assert cached(f"some/part@{'ab' * 20}") is None
    (folder / "part.bin").touch()
    assert cached(f"some/part@{'ab' * 20}") == folder


def test_why_a_model_could_not_be_downloaded(tmp_path, monkeypatch):
    "A full disk is told; a bug is no such reason."
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    def refuse(error):
        def repo_info(self, *given, **options): raise error
        monkeypatch.setattr("huggingface_hub.HfApi.repo_info", repo_info)
    refuse(OSError(28, "No space left on device"))
    with pytest.raises(ModelError, match=r"could not be downloaded \(OSError: \[Errno 28\] No space left on device\); put its"): lab.load("someone/some-model")
    with pytest.raises(ModelError, match="some--one/model is not on this machine"): lab.load("some--one/model")
    refuse(KeyError("files"))
    with pytest.raises(KeyError): lab.load("someone/some-model")


@pytest.mark.parametrize("name", ("giant", 7))
def test_a_codec_that_is_not_there(name):
    with pytest.raises(ModelError, match="codec: must be"): find(name, "codec")


def test_consent_is_asked_for_once_and_required_where_the_settings_say_so(model):
    given = (person("anna").audio.samples, 24_000)
    strict = Settings(references=ReferencePolicy(require_consent=True))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        session = model.session("Hi.", reference=given, seed=0, budget=FIXED, prompt_form="system_ref")
    assert [str(warning.message) for warning in caught][-1] == session.reference.notice and {each.filename for each in caught} == {__file__}
    assert len(caught) == 1 + len(session.reference.remarks)
    for reference in (session.reference, [person("anna"), session.reference]):
        with pytest.raises(AudioError, match="^consent: none is stated for the voice '.*reference'.*require_consent"):
            model.session("[SPEAKER0] Hi. [SPEAKER1] Ho.", reference=reference, settings=strict)
    assert model.session("Hi.", reference=person("anna"), settings=strict).reference.name == "anna"


def test_a_model_whose_weights_were_changed_says_so(reference):
    model = lab.load("tiny")
    loaded = model.info.sha256
    with torch.no_grad(): next(model.network.parameters()).mul_(1.0)
    assert len(loaded) == 64 and model.info.sha256 == f"changed in place after loading; was {loaded}"
    assert model.clone("Hi.", reference=reference, seed=0).model.sha256 == model.info.sha256
