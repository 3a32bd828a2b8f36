"""Make training speech: espeak-ng over a continuous space of voices.

A voice is drawn, not chosen: espeak-ng variant x pitch x speed x formant scale x spectral tilt x one resonance. One
seed is one voice, so a held-out voice is a held-out seed. Needs the Debian package espeak-ng and, from the index,
wordfreq, scipy and soxr.

    python speech.py OUT --first-seed 1000000 --voices 9000 --each 4 --words 1 3

writes OUT.npy (int16 samples at 24 kHz, joined) and OUT.json (one [voice, text, start, samples] an utterance).
"""
import argparse
import json
import subprocess
from multiprocessing import Pool

import numpy as np
import soxr
from scipy.signal import lfilter
from wordfreq import top_n_list

RATE = 24_000
ESPEAK_RATE = 22_050
LEVEL = 0.08                    # root mean square of every utterance, full scale 1
UNVOICED = {"whisper", "whisperf", "croak", "Half-LifeAnnouncementSystem", "UniversalRobot", "zac", "Demonic", "Alien",
            "Mr", "anikaRobot", "pedro", *(f"robosoft{n}" for n in ("", *range(2, 9)))}   # noise, robots: no voice to take
ACCENTS = {"en": (["en-us", "en-gb", "en-gb-scotland", "en-029"], [.7, .1, .1, .1]), "ar": (["ar"], [1.0])}


def variants() -> list[str]:
    "Names of espeak-ng's voice variants that have a voice."
    listing = subprocess.run(["espeak-ng", "--voices=variant"], capture_output=True, text=True, check=True).stdout
    names = [line.split()[-1].split("/")[-1] for line in listing.splitlines()[1:]]
    return [name for name in names if name not in UNVOICED]


def vocabulary(language: str, size: int = 6000) -> tuple[list[str], np.ndarray]:
    "The `size` most frequent words with the probability that each is drawn: flatter than their frequency."
    words = [w for w in top_n_list(language, size) if w.isalpha() and (w.isascii() or language != "en")
             and (len(w) > 1 or w in "ai")]
    weight = 1 / (np.arange(len(words)) + 20) ** 0.6
    return words, weight / weight.sum()


VARIANTS = variants()
WORDS = {language: vocabulary(language) for language in ACCENTS}


def draw_voice(rng: np.random.Generator, language: str = "en") -> dict:
    "One point of the voice space."
    accents, share = ACCENTS[language]
    return dict(variant=str(rng.choice(VARIANTS)), accent=str(rng.choice(accents, p=share)),
                pitch=int(rng.integers(15, 85)), speed=int(rng.integers(140, 200)),
                formants=float(np.exp(rng.uniform(np.log(.82), np.log(1.2)))), tilt=float(rng.uniform(-.5, .5)),
                resonance=[float(rng.uniform(800, 4000)), float(rng.uniform(.85, .97)), float(rng.uniform(-.6, .8))])


def draw_text(rng: np.random.Generator, fewest: int, most: int, language: str = "en") -> str:
    "Random words: no grammar, so that every word has to be read."
    words, share = WORDS[language]
    return " ".join(rng.choice(words, size=rng.integers(fewest, most + 1), p=share))


def say(voice: dict, text: str) -> np.ndarray | None:
    "int16 samples [n] at 24 kHz of `text` in `voice`, trimmed to 25 ms before and 75 ms after; None if silent."
    scale = voice["formants"]                       # playing faster raises the formants; speaking slower pays for it
    out = subprocess.run(["espeak-ng", "-v", f"{voice['accent']}+{voice['variant']}", "-p", str(voice["pitch"]),
                          "-s", str(int(voice["speed"] / scale)), "--stdout", text], capture_output=True).stdout
    sound = np.frombuffer(out[44:], dtype=np.int16).astype(np.float32) / 32768
    if len(sound) < ESPEAK_RATE // 10: return None
    sound = soxr.resample(sound, ESPEAK_RATE * scale, RATE)
    sound = lfilter([1, -voice["tilt"]], [1], sound)
    frequency, radius, gain = voice["resonance"]
    angle = 2 * np.pi * frequency / RATE
    sound = sound + gain * lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], sound)
    sound *= LEVEL / (np.sqrt(np.mean(sound**2)) + 1e-6)
    loud = np.flatnonzero(np.abs(sound) > 0.004)
    if not len(loud): return None
    sound = sound[max(0, loud[0] - RATE // 40):loud[-1] + RATE * 3 // 40]
    return (np.clip(sound, -1, 1) * 32767).astype(np.int16)


def utterances(job: tuple) -> list[tuple[str, np.ndarray]]:
    "All utterances of the voice of one seed."
    seed, each, fewest, most, arabic = job
    rng = np.random.default_rng(seed)
    language = "ar" if rng.random() < arabic else "en"
    voice = draw_voice(rng, language)
    made = []
    for _ in range(each):
        text = draw_text(rng, fewest, most, language)
        sound = say(voice, text)
        if sound is not None and 0.35 * RATE < len(sound) < (0.8 + 0.75 * most) * RATE: made.append((text, sound))
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--first-seed", type=int, required=True)
    parser.add_argument("--voices", type=int, required=True)
    parser.add_argument("--each", type=int, default=4, help="utterances a voice")
    parser.add_argument("--words", type=int, nargs=2, default=(1, 3), metavar=("FEWEST", "MOST"))
    parser.add_argument("--arabic", type=float, default=0.0, help="share of voices that speak Arabic")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    jobs = [(args.first_seed + i, args.each, *args.words, args.arabic) for i in range(args.voices)]
    listing, pieces, start = [], [], 0
    with Pool(args.processes) as pool:
        for voice, made in enumerate(pool.imap(utterances, jobs, chunksize=8)):
            for text, sound in made:
                listing.append((voice, text, start, len(sound)))
                pieces.append(sound)
                start += len(sound)
    np.save(f"{args.out}.npy", np.concatenate(pieces))
    with open(f"{args.out}.json", "w") as file: json.dump(listing, file)
    print(f"{args.out}: {len(listing)} utterances, {start / RATE / 3600:.2f} h")


if __name__ == "__main__": main()
