"""Does it pay to let the codec decode in a second thread while the model continues? Both ways alternate in the same run.

    python nbs/recipes/benchmark_overlap.py                                       # the tiny model, on the CPU

A sample is made of `--columns` columns. Whenever a stream's next window of codes is complete, its sound is decoded: at once, as
voicelab does it, or by a second thread, whose sound is fetched before the next window begins. Each thread computes with
`--threads` threads of torch. The sound is the same. The ratio is that of the medians; above 1 the second thread is faster.
"""
import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import torch

import voicelab as vl
from voicelab.codec import StreamDecoder
from voicelab.control import Sampling
from voicelab.families.higgs.engine import decode
from voicelab.reference import shipped_voices
from voicelab.threads import using_threads

def columns_and_sound(model, prompt, columns: int, pool: ThreadPoolExecutor | None) -> float:
    "Seconds for the columns and the sound of their windows; pool: of the second thread."
    stream, waiting = StreamDecoder(model.codec), None
    begun = time.perf_counter()
    for step in decode(model.network, [prompt], [columns], Sampling(seed=0), [torch.Generator().manual_seed(0)]):
        window = stream.grow(step.rows[0].new)
        if window is None: continue
        stream.emitted = stream.end
        if waiting is not None: waiting.result()
        if pool is None: model.codec.decode(window)
        else: waiting = pool.submit(model.codec.decode, window)
    if waiting is not None: waiting.result()
    return time.perf_counter() - begun


def main(argv: list[str] | None = None) -> pd.DataFrame:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, default=100, help="of a sample (default: 100, 4 s)")
    parser.add_argument("--repeats", type=int, default=5, help="of each way (default: 5)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="of torch, for each of both (default: 1)")
    args = parser.parse_args(argv)
    if min(args.columns, args.repeats, *args.threads) < 1: parser.error("--columns, --repeats and --threads: must be at least 1")
    model, rows = vl.load("tiny"), []
    prompt = model.prompt("The garden is open today.", reference=shipped_voices()["ada"])
    for threads in args.threads:
        with using_threads(threads), ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
            columns_and_sound(model, prompt, 20, pool)                       # warm up
            taken = [[columns_and_sound(model, prompt, args.columns, way) for way in (None, pool)] for _ in range(args.repeats)]
        alone, beside = (statistics.median(each) for each in zip(*taken))
        rows.append({"threads of each": threads, "one after the other (s)": alone, "second thread (s)": beside, "ratio": alone / beside})
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="{:.3f}".format))
    return table


if __name__ == "__main__": main()
