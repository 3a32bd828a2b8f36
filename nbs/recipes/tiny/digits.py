"""Does a model read digits? Compare clones of texts with digits and clones of the same texts with the numbers in words.

For each pair and voice there are three mel-cepstral distances to a clone of the words: of the words with another seed
(0 on the scale), of the digits (the question), and of another sentence (1). So 0 says that digits are read like words,
and 1 that they are another sentence. Needs nothing but voicelab.

    python digits.py MODEL [--seeds 3]
"""
import argparse
from pathlib import Path

import numpy as np

import voicelab as vl
from voicelab.content import cepstral_distance

PAIRS = {
    "small numbers": [("The train leaves at 10.", "The train leaves at ten."),
                      ("She has 3 cats and 12 dogs.", "She has three cats and twelve dogs."),
                      ("Write 4 letters to 7 friends.", "Write four letters to seven friends."),
                      ("Room 25 is closed.", "Room twenty-five is closed.")],
    "hundreds and years": [("We met in 1975.", "We met in nineteen seventy-five."),
                           ("It costs 140 dollars.", "It costs one hundred and forty dollars."),
                           ("There are 365 days in a year.", "There are three hundred and sixty-five days in a year.")],
    "prices, times, shares": [("The ticket was $12.50.", "The ticket was twelve dollars and fifty cents."),
                              ("Come at 10:30 today.", "Come at ten thirty today."),
                              ("About 45% agree.", "About forty-five per cent agree."),
                              ("Read page 3.14 again.", "Read page three point one four again.")],
    "Arabic": [("عِنْدِي 5 كُتُبٍ.", "عِنْدِي خَمْسَةُ كُتُبٍ."),
               ("الغُرْفَةُ 25 مُغْلَقَةٌ.", "الغُرْفَةُ خَمْسَةٌ وَعِشْرُونَ مُغْلَقَةٌ."),
               ("عِنْدَهَا ٣ قِطَطٍ.", "عِنْدَهَا ثَلَاثُ قِطَطٍ.")],
}


VOICES = Path(__file__).resolve().parents[3] / "data/voices"


def references() -> list[vl.Reference]:
    "The voices that ship with voicelab."
    rows = [line.split("\t") for line in (VOICES / "transcripts.tsv").read_text("utf-8").splitlines()]
    return [vl.Reference(VOICES / f"{name}.wav", transcript=said, consent="synthetic") for name, said in rows]


def measured(model, pairs: list[tuple[str, str]], reference: vl.Reference, seeds: int) -> np.ndarray: # [pairs, 3], dB
    "Mean distances to a clone of the words: of the words with the next seed, of the digits, of the next pair's words."
    texts = [text for pair in pairs for text in pair]
    made = [[gen.audio for gen in model.clone_batch(texts, references=reference, seeds=seed)]
            for seed in range(seeds)]
    found = np.zeros((len(pairs), 3))
    for seed in range(seeds):
        digits, words = made[seed][::2], made[seed][1::2]
        again = made[(seed + 1) % seeds][1::2]
        for i, target in enumerate(again):
            sides = words[i], digits[i], words[(i + 1) % len(pairs)]
            found[i] += [cepstral_distance(side, target).value / seeds for side in sides]
    return found


def scaled(found: np.ndarray) -> float: # found: [..., 3]
    "Where digits are between the same words and another sentence."
    words, digits, other = found.reshape(-1, 3).mean(0)
    return (digits - words) / (other - words)


def interval(found: np.ndarray, draws: int = 2000) -> np.ndarray: # found: [voices, pairs, 3]
    "95 % bootstrap interval of `scaled`, over voices and texts."
    rng, (voices, pairs, _) = np.random.default_rng(0), found.shape
    drawn = [scaled(found[rng.integers(voices, size=voices)][:, rng.integers(pairs, size=pairs)]) for _ in range(draws)]
    return np.quantile(drawn, [0.025, 0.975])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    model, speakers = vl.load(args.model), references()
    print(f"{model.info.name} {model.info.version}, {len(speakers)} voices, {args.seeds} seeds: `python digits.py`\n\n"
          "| texts | digits: 0 read like words, 1 another sentence | 95 % interval | dB: words, digits, other sentence |\n|---|---|---|---|")
    for kind, pairs in PAIRS.items():
        found = np.stack([measured(model, pairs, reference, args.seeds) for reference in speakers])
        low, high = interval(found)
        levels = ", ".join(f"{level:.2f}" for level in found.reshape(-1, 3).mean(0))
        print(f"| {kind} | {scaled(found):.2f} | {low:.2f} to {high:.2f} | {levels} |", flush=True)


if __name__ == "__main__": main()
