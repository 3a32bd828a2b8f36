"""What a sweep costs beyond generating, and what a batch and a second worker gain, in the same run.

    python nbs/recipes/benchmark_sweep.py                       # the tiny model on the CPU
    python nbs/recipes/benchmark_sweep.py --cells 96 --workers 4 --model FOLDER

The overhead of a cell is the time that a run of the backend `inline` takes, without the seconds in which the model worked, over the
number of cells. It consists of writing the sample (sound, line, and waiting until the disk has them) and of bookkeeping. It should be at
most 15 ms.
For the gain of a batch, the same cells are made eight at a time. For that of a worker, they are made by one worker process and by several.
The clock starts when every worker has made a sample, because a model is loaded only once. Two workers
on two cores should make at least 1.7 times as many cells a second.
Read the ratio, not the times: the runs follow each other, and other work on the machine affects both. The load is printed.
"""
import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

import pandas as pd
from benchmark import show_table, where

import voicelab as vl
from voicelab.reference import shipped_voices

BATCH = 8
TEXTS = ("The garden is open today.", "The boat was blue.", "Eleven bells rang.", "The morning train was late again.")


def grid(folder: Path, model: str, cells: int, batch: int = 1) -> vl.Sweep:
    "A sweep of the shipped English voices over the texts, with as many seeds as it needs; nothing is made yet."
    voices = [voice for name, voice in shipped_voices().items() if name != "noor"]
    per_seed = len(voices) * len(TEXTS)
    return vl.Sweep(folder, model=model, references=voices, texts=[*TEXTS], seeds=range(-(-cells // per_seed)), batch=batch)


def overhead(folder: Path, model: str, cells: int, batch: int = 1) -> tuple[float, float, int]:
    "Milliseconds of a cell beyond generating, seconds of a cell's work, cells made."
    sweep = grid(folder, model, cells, batch)
    sweep.run(most=1)                                   # the model's first sample is slower than others
    begun = time.perf_counter()
    sweep.run(most=cells)
    whole = time.perf_counter() - begun
    work = [row["work_seconds"] for row in sweep.samples.rows[1:]]
    return 1000 * (whole - sum(work)) / len(work), sum(work) / len(work), len(work)


def rate(folder: Path, model: str, cells: int, workers: int) -> float:
    "Cells a second that worker processes make, from the moment when each has made one."
    sweep, times, seen = grid(folder, model, cells), [], set()
    keep = sweep._keep
    def timed(made, known):
        keep(made, known)
        seen.add(made.row["worker"])
        if len(seen) == workers: times.append(time.perf_counter())
    sweep._keep = timed
    sweep.run("process", workers=workers, most=cells)
    return (len(times) - 1) / (times[-1] - times[0])


def main(argv: list[str] | None = None) -> pd.DataFrame:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(device="cpu")
    parser.add_argument("--json", metavar="FILE", help="write the table there as well")
    parser.add_argument("--model", default="tiny", help="as for vl.load (default: tiny)")
    parser.add_argument("--cells", type=int, default=48, help="cells of each run (default: 48)")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    print(f"{args.model}: {args.cells} cells, {where(args.device)}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        extra, work, made = overhead(Path(folder, "inline"), args.model, args.cells)
        _, together, _ = overhead(Path(folder, "batch"), args.model, args.cells, BATCH)
        one, many = (rate(Path(folder, str(n)), args.model, args.cells, n) for n in (1, args.workers))
    rows = [{"model": args.model, "cells": made, "work s/cell": work, "overhead ms/cell": extra, f"gain of {BATCH} together": work / together,
             "1 worker cells/s": one, f"{args.workers} workers cells/s": many, "gain": many / one}]
    return show_table(args, pd.DataFrame(rows))


if __name__ == "__main__": main()
