"""How long a clone takes when several are made at once, each in its own process, and alongside other work.

    python benchmark_load.py                        # one clone, two at once, one alongside three busy processes
    python benchmark_load.py --all-threads          # the same, with as many threads as torch has, for comparison

`ratio` is the real-time factor relative to that of one clone alone. On two cores it should be at most 2.3 for two clones at once, and about 2 for
one clone alongside three busy processes with a fair scheduler (more on a busy machine): the processor is shared, and nothing waits for a thread
that was suspended.
"""
import argparse
import json
import multiprocessing
import queue
import time
from pathlib import Path

import pandas as pd

VOICE, SAID = Path(__file__).parents[2] / "data/voices/ada.wav", "The old library opens at nine in the morning."
TEXT = "The garden is open today."


def clone_for(seconds: float, all_threads: bool, begin, results):
    "Clone repeatedly; put the seconds of work for a second of sound, the median over clones."
    import voicelab as vl
    from voicelab import threads
    if all_threads: threads.NARROW = 0
    model, reference = vl.load("tiny"), vl.Reference(VOICE, transcript=SAID, consent="synthetic")
    model.clone(TEXT, reference=reference, seed=0)
    begin.wait()
    took, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until or len(took) < 3:
        begun = time.perf_counter()
        made = model.clone(TEXT, reference=reference, seed=len(took))
        took.append((time.perf_counter() - begun) / made.audio.seconds)
    results.put(sorted(took)[len(took) // 2])


def be_busy(begin, over):
    "Other work: a process that computes until it is told to stop."
    begin.wait()
    while not over.is_set(): sum(range(10_000))


def result_of(results, processes) -> float:
    "The next result; an error if a process has died, because it would never send one."
    while True:
        try: return results.get(timeout=1)
        except queue.Empty:
            if any(process.exitcode for process in processes): raise RuntimeError("a process has ended early") from None


def measure(clones: int, busy: int, seconds: float, all_threads: bool) -> float:
    "Seconds of work for a second of sound, mean over the processes that clone."
    context = multiprocessing.get_context("spawn")
    begin, over, results = context.Barrier(clones + busy), context.Event(), context.Queue()
    workers = [context.Process(target=clone_for, args=(seconds, all_threads, begin, results), daemon=True) for _ in range(clones)]
    others = [context.Process(target=be_busy, args=(begin, over), daemon=True) for _ in range(busy)]
    for process in (*workers, *others): process.start()
    found = [result_of(results, (*workers, *others)) for _ in workers]
    over.set()
    for process in (*workers, *others): process.join()
    return sum(found) / len(found)


def main(argv=None) -> pd.DataFrame:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="that each process clones (default: 10)")
    parser.add_argument("--clones", type=int, nargs="+", default=[1, 2, 1], help="processes that clone, a row each (default: 1 2 1)")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 0, 3], help="busy processes beside them (default: 0 0 3)")
    parser.add_argument("--all-threads", action="store_true", help="let the tiny model use all of torch's threads")
    parser.add_argument("--json", metavar="FILE", help="write the table there as well")
    args = parser.parse_args(argv)
    rows = [dict(clones=clones, busy=busy, real_time_factor=measure(clones, busy, args.seconds, args.all_threads))
            for clones, busy in zip(args.clones, args.busy)]
    table = pd.DataFrame(rows).assign(ratio=lambda t: t.real_time_factor / t.real_time_factor[0])
    print(table.to_string(index=False, float_format="{:.2f}".format))
    if args.json: Path(args.json).write_text(json.dumps(table.to_dict("records"), indent=1))
    return table


if __name__ == "__main__": main()
