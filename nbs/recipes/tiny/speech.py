"""Make training speech: espeak-ng over a continuous space of voices, with the phoneme of every frame.

A voice is drawn, not chosen: espeak-ng variant x pitch x speed x formant scale x spectral tilt x one resonance. One
seed is one voice, so a held-out voice is a held-out seed. Needs the Debian package espeak-ng and, from the index,
wordfreq, scipy and soxr.

    python speech.py OUT --first-seed 1000000 --voices 9000 --each 4 --words 1 3

writes OUT.npy (int16 samples at 24 kHz, every utterance whole frames of 40 ms, joined), OUT.phonemes.npy (int16, one a
frame: what espeak-ng says there) and OUT.json (names of the phonemes; one [voice, text, start, samples] an utterance).
"""
import argparse
import ctypes
import json
from functools import cache
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import soxr
from scipy.signal import lfilter
from wordfreq import top_n_list

RATE = 24_000
STEP = 960                      # samples a code frame
ESPEAK_RATE = 22_050
LEVEL = 0.08                    # root mean square of every utterance, full scale 1
UNVOICED = {"whisper", "whisperf", "croak", "Half-LifeAnnouncementSystem", "UniversalRobot", "zac", "Demonic", "Alien",
            "Mr", "anikaRobot", "pedro", *(f"robosoft{n}" for n in ("", *range(2, 9)))}   # noise, robots: no voice to take
ACCENTS = {"en": (["en-us", "en", "en-gb-scotland", "en-029"], [.7, .1, .1, .1]), "ar": (["ar"], [1.0])}
WHOLE = {"a^ɪ": "I", "a^ʊ": "W", "e^ɪ": "A", "ɔ^ɪ": "Y", "o^ʊ": "O", "ə^ʊ": "Q", "t^ʃ": "ʧ", "d^ʒ": "ʤ", "ɚ": "əɹ", "r": "ɹ", "ɐ": "ə"}
SILENCE = "_"
COMMA = {"en": ",", "ar": "،"}
END_MARKS = {"en": [".", "?", "!"], "ar": [".", "؟", "!"]}


class EspeakEvent(ctypes.Structure):
    "espeak_EVENT of espeak-ng/speak_lib.h."
    _fields_ = [("type", ctypes.c_int), ("identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
                ("length", ctypes.c_int), ("milliseconds", ctypes.c_int), ("sample", ctypes.c_int),
                ("user_data", ctypes.c_void_p), ("name", ctypes.c_char * 8)]


class EspeakVoice(ctypes.Structure):
    "The head of espeak_VOICE of espeak-ng/speak_lib.h."
    _fields_ = [("name", ctypes.c_char_p), ("languages", ctypes.c_char_p), ("identifier", ctypes.c_char_p)]


class Espeak:
    "espeak-ng as a library: ten times as fast as its command, and it reports when it says which phoneme."
    LAST, PHONEME = 0, 7                    # espeak_EVENT_TYPE
    SYNCHRONOUS, PHONEME_EVENTS = 2, 1 | 2  # espeak_AUDIO_OUTPUT, espeakINITIALIZE_PHONEME_EVENTS | _PHONEME_IPA
    TIED_IPA = 2 | 1 << 7 | ord("^") << 8   # phonememode of espeak_TextToPhonemes: "^" between the letters of one sound
    SPEED, PITCH, UTF8 = 1, 3, 1            # espeak_PARAMETER, espeakCHARS_UTF8
    Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(EspeakEvent))

    def __init__(self):
        try: self.library = ctypes.CDLL("libespeak-ng.so.1")
        except OSError as error: raise SystemExit(f"espeak-ng: needs the library libespeak-ng.so.1 (Debian package espeak-ng), got: {error}") from None
        self.pieces, self.phonemes = [], []
        if self.library.espeak_Initialize(self.SYNCHRONOUS, 0, None, self.PHONEME_EVENTS) != ESPEAK_RATE:
            raise OSError("espeak-ng did not start")
        self.heard = self.Callback(self._hear)              # kept here, or it would be freed while the library uses it
        self.library.espeak_SetSynthCallback(self.heard)

    def _hear(self, samples, count, events):
        if count: self.pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type != self.LAST:
            if events[i].type == self.PHONEME: self.phonemes.append((events[i].sample, events[i].name.decode()))
            i += 1
        return 0

    def variants(self) -> list[str]:
        "Names of the voice variants that have a voice, in the order of espeak-ng's own list."
        self.library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(EspeakVoice))
        found, listed, i = self.library.espeak_ListVoices(ctypes.byref(EspeakVoice(languages=b"variant"))), [], 0
        while found[i]:
            variant = found[i].contents
            listed.append((variant.languages[0], variant.name, variant.identifier.decode().split("/")[-1]))
            i += 1
        return [name for _, _, name in sorted(listed) if name not in UNVOICED]      # by priority, then by title

    def say(self, voice: str, pitch: int, speed: int, text: str) -> tuple[np.ndarray, list[tuple[int, str]]]:
        "int16 samples at 22,050 Hz, and the first sample and name of each phoneme."
        self.pieces, self.phonemes = [], []
        if self.library.espeak_SetVoiceByName(voice.encode()): raise ValueError(f"espeak-ng has no voice {voice}")
        self.library.espeak_SetParameter(self.SPEED, speed, 0)
        self.library.espeak_SetParameter(self.PITCH, pitch, 0)
        data = text.encode() + b"\0"
        self.library.espeak_Synth(data, len(data), 0, 1, 0, self.UTF8, None, None)
        return np.concatenate(self.pieces) if self.pieces else np.zeros(0, np.int16), self.phonemes

    def spell(self, voice: str, text: str) -> str:
        "`text` in the International Phonetic Alphabet, \"^\" between letters that are one sound."
        if self.library.espeak_SetVoiceByName(voice.encode()): raise ValueError(f"espeak-ng has no voice {voice}")
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        data, spelled = text.encode(), []                   # espeak-ng moves a pointer along it
        rest = ctypes.c_char_p(data)
        while rest.value: spelled.append(self.library.espeak_TextToPhonemes(ctypes.byref(rest), self.UTF8, self.TIED_IPA).decode())
        return " ".join(spelled)


def whole_sounds(spelled: str) -> str:
    "Phonetic spelling with one letter for a diphthong or an affricate, as Kokoro was trained on; \"^\" is gone."
    for many, one in WHOLE.items(): spelled = spelled.replace(many, one)
    return spelled.replace("^", "")


def sound_class(phoneme: str) -> str:
    "The letter that stands for a phoneme of espeak-ng or of Kokoro when frames are told apart by it."
    for many, one in WHOLE.items(): phoneme = phoneme.replace(many.replace("^", ""), one)
    return next((letter for letter in phoneme if letter not in "ˈˌːʲ-~ \u0303\u0329^" and not letter.isdigit()), SILENCE)


@cache
def espeak() -> Espeak: return Espeak()


@cache
def variants() -> list[str]: return espeak().variants()


@cache
def vocabulary(language: str, size: int = 6000) -> tuple[list[str], np.ndarray]:
    "Frequent words with the probability that each is drawn: flatter than their frequency. Arabic ones are vocalised."
    if language == "ar": words = (Path(__file__).parent / "arabic_words.txt").read_text(encoding="utf-8").split()
    else: words = [w for w in top_n_list(language, size) if w.isascii() and w.isalpha() and (len(w) > 1 or w in "ai")]
    weight = 1 / (np.arange(len(words)) + 20) ** 0.6
    return words, weight / weight.sum()


def draw_voice(rng: np.random.Generator, language: str = "en") -> dict:
    "One point of the voice space."
    accents, share = ACCENTS[language]
    return dict(variant=str(rng.choice(variants())), accent=str(rng.choice(accents, p=share)),
                pitch=int(rng.integers(15, 85)), speed=int(rng.integers(140, 200)),
                formants=float(np.exp(rng.uniform(np.log(.82), np.log(1.2)))), tilt=float(rng.uniform(-.5, .5)),
                resonance=[float(rng.uniform(800, 4000)), float(rng.uniform(.85, .97)), float(rng.uniform(-.6, .8))])


def draw_text(rng: np.random.Generator, fewest: int, most: int, language: str = "en") -> str:
    "Random words: no grammar, so that every word has to be read."
    words, share = vocabulary(language)
    return " ".join(rng.choice(words, size=rng.integers(fewest, most + 1), p=share))


def draw_number(rng: np.random.Generator) -> str:
    "A number as texts have them: small, or a year, or up to a thousand."
    return str(rng.integers(*[(0, 32), (0, 32), (1900, 2030), (0, 1000)][rng.integers(4)]))


def dress(text: str, rng: np.random.Generator, language: str = "en", numbers: float = 0.03, commas: float = 0.06) -> str:
    "Write words as people do: a capital, an end mark, here and there a comma or a number."
    words = [draw_number(rng) if rng.random() < numbers else word for word in text.split()]
    words = [word + COMMA[language] * (rng.random() < commas) for word in words[:-1]] + words[-1:]
    text = " ".join(words)
    if rng.random() < 0.1: return text
    return text[0].upper() + text[1:] + str(rng.choice(END_MARKS[language], p=[.8, .1, .1]))


def say(voice: dict, text: str, accent: str | None = None) -> tuple[np.ndarray, list[str]] | None:
    """int16 samples at 24 kHz of `text` in `voice`, from 25 ms before the first sound to 75 ms after the last, extended to
    whole frames, and the phoneme in the middle of every frame; None if silent."""
    scale = voice["formants"]                       # playing faster raises the formants; speaking slower pays for it
    sound, phonemes = espeak().say(f"{accent or voice['accent']}+{voice['variant']}", voice["pitch"],
                                   int(voice["speed"] / scale), text)
    if len(sound) < ESPEAK_RATE // 10: return None
    made = shape(sound.astype(np.float32) / 32768, ESPEAK_RATE, voice)
    if made is None: return None
    sound, middles = made
    begins = np.searchsorted([at for at, _ in phonemes], middles, side="right") - 1
    return sound, [sound_class(phonemes[i][1]) if i >= 0 else SILENCE for i in begins]


def shape(sound: np.ndarray, rate: int, voice: dict) -> tuple[np.ndarray, np.ndarray] | None:
    """int16 samples at 24 kHz of float `sound` with a voice's formant scale, tilt and resonance, from 25 ms before the first
    sound to 75 ms after the last, extended to whole frames, and the sample of `sound` in the middle of every frame; None if silent."""
    scale = voice["formants"]
    sound = soxr.resample(sound, rate * scale, RATE)
    sound = lfilter([1, -voice["tilt"]], [1], sound)
    frequency, radius, gain = voice["resonance"]
    angle = 2 * np.pi * frequency / RATE
    sound = sound + gain * lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], sound)
    sound *= LEVEL / (np.sqrt(np.mean(sound**2)) + 1e-6)
    loud = np.flatnonzero(np.abs(sound) > 0.004)
    if not len(loud): return None
    start = max(0, loud[0] - RATE // 40)
    sound = sound[start:loud[-1] + RATE * 3 // 40]
    sound = np.pad(sound, (0, -len(sound) % STEP))
    middles = (start + STEP // 2 + np.arange(len(sound) // STEP) * STEP) / RATE * rate * scale
    return (np.clip(sound, -1, 1) * 32767).astype(np.int16), middles


def utterances(job: tuple) -> list[tuple[str, np.ndarray, list[str]]]:
    "All utterances of the voice of one seed."
    seed, each, fewest, most, arabic = job
    rng = np.random.default_rng(seed)
    voice, made = draw_voice(rng), []
    for _ in range(each):
        language = "ar" if rng.random() < arabic else "en"
        text = dress(draw_text(rng, fewest, most, language), rng, language)
        spoken = say(voice, text, "ar" if language == "ar" else None)
        if spoken and 0.35 * RATE < len(spoken[0]) < (1.2 + 0.75 * most) * RATE: made.append((text, *spoken))
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--first-seed", type=int, required=True)
    parser.add_argument("--voices", type=int, required=True)
    parser.add_argument("--each", type=int, default=4, help="utterances a voice")
    parser.add_argument("--words", type=int, nargs=2, default=(1, 3), metavar=("FEWEST", "MOST"))
    parser.add_argument("--arabic", type=float, default=0.0, help="share of utterances that are Arabic")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    jobs = [(args.first_seed + i, args.each, *args.words, args.arabic) for i in range(args.voices)]
    names, listing, pieces, labels, start = {}, [], [], [], 0
    with Pool(args.processes) as pool:
        for voice, made in enumerate(pool.imap(utterances, jobs, chunksize=8)):
            for text, sound, phonemes in made:
                listing.append((voice, text, start, len(sound)))
                pieces.append(sound)
                labels.append(np.array([names.setdefault(name, len(names)) for name in phonemes], np.int16))
                start += len(sound)
    np.save(f"{args.out}.npy", np.concatenate(pieces))
    np.save(f"{args.out}.phonemes.npy", np.concatenate(labels))
    with open(f"{args.out}.json", "w") as file: json.dump(dict(phonemes=list(names), utterances=listing), file)
    print(f"{args.out}: {len(listing)} utterances, {start / RATE / 3600:.2f} h, {len(names)} phonemes")


if __name__ == "__main__": main()
