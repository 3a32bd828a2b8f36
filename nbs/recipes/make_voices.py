"""Make the reference voices that ship in data/voices: drawn from the recipe's voice space, with seeds of their own.

    python make_voices.py ../../data/voices        # writes NAME.wav and transcripts.tsv; needs espeak-ng
"""
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "tiny"))
from speech import RATE, draw_voice, say

from voicelab.audio import Audio

CONSENT = "synthetic voice, made with espeak-ng for voicelab"
VOICES = {                      # name: seed of the voice, its language, what it says
    "ada": (90_000_001, "en", "The old library opens at nine in the morning."),
    "ben": (90_000_002, "en", "We walked along the river until the sun went down."),
    "cleo": (90_000_003, "en", "Please bring two cups of coffee to the garden."),
    "dan": (90_000_004, "en", "My brother plays the guitar in a small band."),
    "noor": (90_000_005, "ar", "ذَهَبْنَا إِلَى الْحَدِيقَةِ فِي الصَّبَاحِ."),
}


def main(folder):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "transcripts.tsv"), "w", encoding="utf-8") as transcripts:
        for name, (seed, language, words) in VOICES.items():
            sound = say(draw_voice(np.random.default_rng(seed), language), words)[0].astype(np.float32) / 32768
            Audio(sound, RATE).save(os.path.join(folder, f"{name}.wav"),
                                    info={"ISFT": "espeak-ng, voicelab nbs/recipes/make_voices.py",
                                          "ICMT": f"synthetic speech; voice seed {seed}", "ICOP": CONSENT})
            transcripts.write(f"{name}\t{words}\n")


if __name__ == "__main__": main(sys.argv[1])
