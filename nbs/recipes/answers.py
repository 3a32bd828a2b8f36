"""The larger studies behind "What we found": makes one, and writes the rows from which its answer is computed.

    python nbs/recipes/answers.py window                    # continues after an interruption
    python nbs/recipes/answers.py window --model higgs-v2 --out found

Word error rates need a recogniser; see `python tests/recogniser.py`. Sizes are for the tiny model on two cores: some minutes each."""
import argparse
from pathlib import Path

import pandas as pd

import voicelab as vl
from voicelab.metrics import METRICS

TEXTS = ["The boat was blue.", "Eleven bells rang.", "Come home soon.", "We sold seven red hats.", "The garden is open today.",
         "My brother walks along the river."]
MEASURES = ["similarity", "wer", "cepstral_distance", "speaking_rate"]
SIZES = {       # options of each study beside those of all; the columns that tell its samples apart
    "window": (dict(texts=TEXTS, seeds=[0]), ["reference", "clips", "place", "text"]),
    "transcript": (dict(texts=TEXTS, seeds=[0]), ["reference", "transcript", "text"]),
    "corruption": (dict(texts=TEXTS[:3]), ["reference", "corruption", "text"]),
    "generations": ({}, ["reference", "generation", "text", "line"]),
    "variance": (dict(texts=TEXTS), ["reference", "text", "seed"]),
    "caps": (dict(seeds=range(6)), ["reference", "text", "seed", "frames"]),
    "sampling": (dict(seeds=[0]), ["temperature", "ras_window", "reference", "text", "seed"]),
}


def rows_of(study) -> pd.DataFrame:
    "A row for each sample: its labels, how it ended, its measures."
    labels, measures = SIZES[study.name][1], [name for name in study.measures if name != "ended"]
    if study.name != "generations": return study.sweep.table[[*labels, "stop_reason", *measures]]
    views = {name: study.seen(METRICS[name]) for name in measures}
    rows = [each.labels | {"stop_reason": each.outcome} for each in views["similarity"]]
    made = pd.DataFrame(rows).assign(**{name: [each.value for each in view] for name, view in views.items()})
    return pd.concat([made, pd.DataFrame([dict(reference="another speaker", similarity=study.stranger())])])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SIZES)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--recogniser", default="whisper-base", help="a folder, a name or a hub id (default: whisper-base, of the tests)")
    parser.add_argument("--out", type=Path, default=Path("found"), help="folder of the studies and of the rows (default: found)")
    given = parser.parse_args()
    study = getattr(vl.studies, given.name)(given.model, folder=given.out / given.name, batch=8, recogniser=given.recogniser, **SIZES[given.name][0])
    for each in study.answers(): print("-", each)
    rows_of(study).astype({"frames": "Int64"} if given.name == "caps" else {}).round(4).to_csv(given.out / f"{given.name}.csv", index=False)


if __name__ == "__main__": main()
