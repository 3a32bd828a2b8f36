"""How often does a clone end abruptly? The level of its last 20 ms, relative to its loudest 20 ms.

An end above -6 dB is abrupt: the sound stops while it is loud, which is heard as a cut. Clones of eight texts in the voices
that ship with voicelab; the interval is Wilson's. Needs nothing but voicelab.

    python ends.py MODEL [--seeds 3]
"""
import argparse

import numpy as np
from digits import references

import voicelab as vl
from voicelab.intervals import share_interval
from voicelab.metrics import ABRUPT_DB, end_level

TEXTS = ["The yellow house is very old.", "My sister sings in the morning.", "The train was late again today.",
         "Please find the flower in the garden.", "We will go there tomorrow.", "He bought a new car.",
         "Where is the key?", "They walked along the river and came home."]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    model, voices = vl.load(args.model), references()
    levels, reasons = np.zeros((len(voices), len(TEXTS), args.seeds)), []
    for v, reference in enumerate(voices):
        for seed in range(args.seeds):
            for t, made in enumerate(model.clone_batch(TEXTS, references=reference, seeds=seed)):
                levels[v, t, seed] = end_level(made.audio).value
                reasons.append(made.stop_reason)
                if levels[v, t, seed] > ABRUPT_DB:
                    print(f"{reference.name}, seed {seed}, {made.stop_reason}, {levels[v, t, seed]:.1f} dB: {TEXTS[t]}", flush=True)
    abrupt = int((levels > ABRUPT_DB).sum())
    print(f"\n{model.info.name} {model.info.version}: {abrupt} of {levels.size} clones end abruptly, "
          f"{share_interval(abrupt, levels.size)}; {reasons.count('eos')} ended by themselves; median end {np.median(levels):.1f} dB")


if __name__ == "__main__": main()
