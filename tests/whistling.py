"""A family of some fifty lines: a whistler that says a tone for each letter of a text, ten a second, as high as the reference is loud. It
registers itself where WHISTLING is set, as in the worker processes of a sweep."""
import os
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import voicelab as vl
from voicelab.budget import plan
from voicelab.chat import Prompt
from voicelab.control import Control, Sampling, choose_sampling
from voicelab.engine import Engine, Tick
from voicelab.family import BaseSpeaker, Family, register
from voicelab.generation import Chunk, Fact, ModelInfo
from voicelab.session import Session
from voicelab.settings import read_settings

LOUD = Sampling(temperature=0.7, top_k=None, top_p=None, ras_window=5, ras_repeats=3)


class Whistle:
    name, sample_rate, frame_rate, n_codebooks, codebook_size, context_frames = "whistle", 16_000, 10.0, 1, 128, 0

    def encode(self, audio): return torch.from_numpy((audio.resample(16_000).levels()[None, ::5] * 127).round().clip(0, 127).astype(int))

    def decode(self, codes):
        time = np.arange(1600) / 16_000
        tones = [0.2 * np.sin(2 * np.pi * (200 + 8 * code) * time) for code in codes[0].tolist()]
        return vl.Audio(np.concatenate([np.zeros(0), *tones]).astype(np.float32), 16_000)


class WhistlingEngine(Engine):
    step, facts, context = "letter", {"letter": Fact("letter <of the text>", end="The last letter was {}.")}, 10_000

    def __init__(self, whistler): self.info, self.codec, self.network = whistler.info, whistler.codec, whistler
    def decoder(self, sessions): return Letters(sessions[0])


class Letters:
    def __init__(self, session): self.chunk, self.pitch, self.chance = session.chunk, 20 * (session.reference is not None), session.generator
    def end(self, row, reason, at_once): return True

    def steps(self):
        text, most = str(self.chunk.text), self.chunk.budget.frames
        for n, letter in enumerate(text[:most], 1):
            code = torch.tensor([[(ord(letter) + self.pitch + int(torch.randint(3, (1,), generator=self.chance))) % 128]])
            ended = "eos" if n == len(text) else "budget" if n == most else None
            yield [Tick(0, code, code[:, 0], dict(eos_probability=float(n == len(text)), entropy=1.5, letter=letter), ended)]


class Whistler(BaseSpeaker):
    prompt_forms, card, codec = ("whistled",), {}, Whistle()
    info = ModelInfo("whistler", "whistling", "1", "ab" * 32, "whistle", "Apache-2.0")

    def __init__(self, source): self.source = str(source)

    def clone_prompt(self, text, reference=None, prompt_form="whistled"):
        table = pd.DataFrame([("user", "text", text, len(text), np.nan, "letters")], columns=["role", "kind", "text", "tokens", "seconds", "feeds"])
        return Prompt(text, torch.arange(len(text)), torch.zeros(1, 0), torch.zeros(len(text), dtype=torch.bool), table, prompt_form, [], 0)

    def usual_sampling(self, settings=None): return LOUD

    def budgets(self, text, reference=None, rule=None, settings=None):
        return plan(text, reference, rule=rule, settings=settings, frame_rate=10.0, n_codebooks=1)

    def stream(self, text, *, reference=None, seed=None, budget=None, sampling=None, control=None, prompt_form="whistled", settings=None):
        chunks = [Chunk(piece, self.clone_prompt(str(piece), reference, prompt_form), made) for piece, made in self.budgets(text, reference, budget, settings)]
        return Session(WhistlingEngine(self), chunks, text=text, reference=reference, control=control or Control(),
                       sampling=choose_sampling(self.usual_sampling() if sampling is None else sampling, settings or read_settings(), seed))

    def clone(self, text, **options): return die_of(text) or super().clone(text, **options)


def die_of(text):
    "Die as a process that is killed if the folder DEADLY has a file of this name; `once.txt` is then gone."
    folder = os.environ.get("DEADLY")
    for file in Path(folder).iterdir() if folder else ():
        with suppress(FileNotFoundError):           # another process has just taken it
            if file.read_text() != text: continue
            if file.name == "once.txt": file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def register_whistler(): register(Family("whistling", ("whistler",), load_whistler))
def load_whistler(name, folder, codec, dtype, device): return Whistler(name)


if os.environ.get("WHISTLING"): register_whistler()
