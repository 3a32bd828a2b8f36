"Every path of tensors works beside a GPU: on a pretended one, which refuses to mix its tensors with those of the CPU."
import pytest
import torch
from second_device import SecondDevice

import voicelab as vl
from voicelab.ablation import ablate
from voicelab.attention import attention_of
from voicelab.codec import StreamDecoder, decode_batch
from voicelab.explore import exchange, resynthesise
from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.model import VitaModel
from voicelab.families.vita.prompt import VARIANTS
from voicelab.models.glm4voice import tiny_glm4voice

TEXT, LONG = "The garden is open today.", "First the rain came. Then the wind turned to the north, and all the windows were white. " * 2


@pytest.fixture(scope="module")
def device():
    with SecondDevice() as second: yield second


@pytest.fixture(scope="module")
def tiny(device): return vl.load("tiny", device="cuda", dtype="float32")


def kept_of(attention): return [*attention.shares.values(), attention.text_places, attention.map(), attention.map("text", 1, 0)]


@pytest.fixture
def clone(model, reference): return model.clone(TEXT, reference=reference, seed=1)


def test_the_device_refuses_what_a_gpu_refuses(device):
    here, there = torch.ones(3), torch.ones(3).to("cuda")
    assert (there + 1).device.type == "cuda" and (there[1:] * 2).cpu().device.type == "cpu" and there[torch.tensor([0])].is_cuda
    for mixed in (lambda: there + here, lambda: torch.cat([there, here]), lambda: here[torch.tensor([1], device="cuda")],
                  lambda: here.add_(there), lambda: torch.nn.functional.linear(here, there[None])):
        with pytest.raises(RuntimeError, match="same device"): mixed()
    with pytest.raises(TypeError, match="can't convert cuda:0"): there.numpy()
    assert torch.equal(there.cpu() + here, here + 1) and not here.is_cuda


def test_a_model_says_the_same_there(tiny, clone, reference):
    made = tiny.clone(TEXT, reference=reference, seed=1)
    assert next(tiny.network.parameters()).is_cuda and torch.equal(made.codes, clone.codes) and made.codes.device.type == "cpu"


def test_it_streams_batches_and_shows_turns_again(tiny, reference):
    streamed = tiny.stream(TEXT, reference=reference, seed=1)
    assert sum(len(piece.samples) for piece in streamed) == len(streamed.generation.audio.samples)
    both = tiny.clone_batch([TEXT, "Again."], references=[reference, None], seeds=[1, 2])
    assert [made.stop_reason for made in both] and tiny.clone(LONG, reference=reference, seed=1, turns=2).codes.shape[0] == 8


def test_what_follows_from_a_sample_works_there(tiny, reference):
    made = tiny.clone(TEXT, reference=reference, seed=1)
    assert made.report()["similarity"].status == "ok" and tiny.prompt(TEXT, reference).ids.device.type == "cpu"
    assert {each.device.type for each in kept_of(attention_of(tiny, made))} == {"cpu"}
    assert ablate(tiny, TEXT, reference, arms=["right", "none"], seeds=[0]).table.samples.tolist() == [1, 1]
    assert len(resynthesise(tiny.codec, reference).table) and len(exchange(tiny.codec, reference, reference, [0]).measures)
    sounds = decode_batch(tiny.codec, [made.codes, made.codes[:, :5]])
    assert len(sounds) == 2 and StreamDecoder(tiny.codec).push(made.codes) is not None


def test_bfloat16_is_the_default_there(device, reference):
    model = vl.load("tiny", device="cuda")
    assert model.network.dtype == torch.bfloat16 and model.clone(TEXT, reference=reference, seed=1).codes.shape[1]


@pytest.fixture(scope="module", params=VARIANTS)
def vita(device, request):
    parts, voice = tiny_vita(request.param), tiny_glm4voice()
    for network in (parts.network, voice.tokenizer, voice.flow, voice.hift): network.to("cuda")
    return VitaModel(parts, voice)


def test_vita_answers_there(vita, reference):
    made = vita.clone("Hello.", reference=reference, seed=1, mode="boost", option_steps=1)
    assert made.audio.seconds and {each.device.type for each in kept_of(attention_of(vita, made))} == {"cpu"}
    asked = vita.respond("spoken_qa", audio=reference.audio.slice(0, 1), reference=reference, seed=1, budget=30, option_steps=1)
    assert asked.codes.device.type == "cpu" and [*vita.stream("Hello.", reference=reference, seed=1, option_steps=1)]


def test_the_voice_needs_no_float64():
    "GLM-4-Voice's vocoder, on a device as Apple's."
    with SecondDevice(float64=False):
        voice = tiny_glm4voice()
        for network in (voice.tokenizer, voice.flow, voice.hift): network.to("cuda")
        with pytest.raises(TypeError, match="no float64"): torch.ones(2).to("cuda").double() + 1
        assert voice.decode(torch.arange(8)[None] % voice.codebook_size, steps=1).seconds > 0.3
