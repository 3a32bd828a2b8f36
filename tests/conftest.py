"""What several test modules share: the model and the voices that ship, a random network of the Higgs class, its tokenizer,
codecs; and no parity test is skipped."""
import ctypes
import gc
import os
import signal
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")            # no test needs the hub; those about the hub say so themselves
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:   # as in a script's `make test &`; what the tests start would ignore Ctrl-C, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
gc.disable()                                            # until all is imported: nothing of it is garbage, and looking takes seconds
import numpy as np
import pytest
import torch
import warm
from transformers import HiggsAudioV2ForConditionalGeneration

from voicelab.audio import Audio
from voicelab.control import Sampling
from voicelab.families.higgs.prompt import clone_messages, render
from voicelab.families.higgs.tiny import build_config, build_tokenizer
from voicelab.lab import load
from voicelab.models.tinycodec import TinyCodec, TinyCodecConfig, TinyCodecNet
from voicelab.reference import shipped_voices

GREEDY = Sampling.preset("greedy")
EDGE = 1e4                                              # a logit that decides


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    "What has been imported stays to the end: no collection of garbage looks through it again, for seconds in tests that ask for one."
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def memory_goes_back():
    "Memory that a module's tests have freed goes back to the system; glibc would keep it."
    yield
    gc.collect()
    with suppress(AttributeError): ctypes.CDLL(None).malloc_trim(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    "A parity test that is skipped has failed: the vectors ship, so nothing excuses it."
    report = yield
    if report.skipped and item.get_closest_marker("parity"):
        report.outcome, report.longrepr = "failed", f"{item.nodeid}: a parity test was skipped"
    return report


class ToneCodec:
    """Eight codebooks whose sound is known: a frame is a ramp, as loud as its codes say, mixed with its neighbours.
    A frame whose first code is below `silent_below` is digital silence."""
    name, sample_rate, frame_rate, n_codebooks, codebook_size = "tones", 8000, 25.0, 8, 1024

    def __init__(self, context_frames=2, silent_below=0):
        self.context_frames, self.silent_below, self.decoded = context_frames, silent_below, []

    def encode(self, audio):
        return torch.arange(len(audio.samples) // 320).remainder(1024).repeat(8, 1)

    def decode(self, codes):
        self.decoded.append(codes)
        assert codes.shape[0] == 8 and codes.shape[1] and 0 <= codes.min() and codes.max() < 1024
        loud = 0.1 + 0.4 * codes.float().mean(0) / 1024
        loud[codes[0] < self.silent_below] = 0
        reach = 2 * self.context_frames + 1
        mixed = torch.nn.functional.conv1d(loud[None, None], torch.full((1, 1, reach), 1 / reach),
                                           padding=self.context_frames)[0, 0]
        if self.silent_below: mixed = loud
        return Audio((mixed[:, None] * torch.linspace(0.5, 1, 320)).flatten().numpy(), self.sample_rate)


def random_codes(frames, n_codebooks=8, seed=0):
    return torch.randint(0, 1024, (n_codebooks, frames), generator=torch.Generator().manual_seed(seed))


def seeded(*seeds):
    "A generator for each row of a batch."
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def chat_of(form="assistant_ref", frames=20, text="Hello there.", seed=0):
    "A chat that asks for `text`; without a reference where `form` is None."
    if form is None: return clone_messages(text)
    return clone_messages(text, random_codes(frames, seed=seed), "Reference words.", form=form)


def prompt_of(tokenizer, *args, **options): return render(chat_of(*args, **options), tokenizer)


def joined(pieces):
    "The samples of pieces that may be none."
    return np.concatenate([np.zeros(0, np.float32), *(piece.samples for piece in pieces if piece is not None)])


def untouched(call):
    "What `call` returns; fails if a global random state has moved."
    import random
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    made = call()
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
    return made


@contextmanager
def saying(network, wish):
    "Within it `wish(column, logits)` may change the network's logits [batch, n_codebooks, vocabulary] of each column."
    columns = count()
    def hook(module, inputs, output):
        wish(next(columns), output[:, -1].view(len(output), network.config.num_codebooks, -1))
    handle = network.audio_lm_head.register_forward_hook(hook)
    try: yield
    finally: handle.remove()


def endless(at, logits):
    "A wish: never BOS, never EOS."
    logits[..., (1024, 1025)] = -float("inf")


@pytest.fixture(scope="session")
def tiny_tokenizer(): return build_tokenizer()


def random_network(tokenizer):
    "A random network of the shipped model's class in its smallest useful size."
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = build_config(tokenizer, hidden_size=64, layers=2, heads=4, intermediate_size=128)
        network = HiggsAudioV2ForConditionalGeneration(config).eval()
        for tensor in network.parameters():                 # so that what was read matters for what is said
            if tensor.ndim > 1: tensor.data.mul_(4)
        return network


@pytest.fixture(scope="session")
def tiny_network(tiny_tokenizer):
    "Hooks put on it must be taken off."
    return random_network(tiny_tokenizer)


@pytest.fixture(scope="session")
def small_codec():
    "A random codec of the shipped model's class."
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyCodec(TinyCodecNet(TinyCodecConfig(channels=32, vocoder_channels=48)), "small")


@pytest.fixture(scope="session")
def model():
    "The model that ships. What a test changes in it must be put back."
    return load("tiny")


@pytest.fixture(scope="session")
def voices():
    "The references that ship, by name."
    return shipped_voices()


@pytest.fixture(scope="session")
def reference(voices): return voices["ada"]


@pytest.fixture(params=["AMD's", "others'"])
def processor(request, monkeypatch):
    "Products of few rows go the way of these processors, whatever this machine's is."
    monkeypatch.setattr("voicelab.models.step.on_amd", lambda: request.param == "AMD's")


@pytest.fixture(scope="session")
def python():
    "The words of a command that does what Python does, and begins within a moment: see `warm`."
    with warm.python() as words: yield words


@pytest.fixture(scope="session")
def root():
    "The top of the checkout."
    return Path(__file__).parent.parent
