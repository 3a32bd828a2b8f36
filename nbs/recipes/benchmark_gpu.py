"""Columns a second on a GPU, in one run: with voicelab's graphs, with its synchronous loop, and with transformers' `generate`, eager and compiled.

    python nbs/recipes/benchmark_gpu.py                                           # the 3B shape in bfloat16, 1, 4 and 16 rows
    python nbs/recipes/benchmark_gpu.py --shape tiny --device cpu --dtype float32 --positions 120 --columns 12      # only to see that it runs

Weights are random, prompts and counts are as in benchmark_engine.py. Each way runs once to warm up (graphs are captured, `generate` with a static
cache is compiled) and once on the clock. The limit is what the weights of the audio path and all keys and values allow, at the `--bandwidth` of the
device, or else at the speed of a large copy on it. A way that fails is a row that says why.
"""
import math

import pandas as pd
import torch
from benchmark import DTYPES, clock, make_parser, millions, show_head, show_table
from benchmark_engine import SHAPES, STEPS_A_SECOND, build, make_prompts, step_bytes, time_generate, time_voicelab

from voicelab.control import Sampling
from voicelab.errors import one_line
from voicelab.families.higgs.graph import Graphs

def copy_speed(device: str, megabytes: int) -> float:
    "GB a second that a copy reads and writes, the best of five."
    source = torch.ones(megabytes << 18, device=device)
    target, best = torch.empty_like(source), math.inf
    for _ in range(5):
        begun = clock(device)
        target.copy_(source)
        best = min(best, clock(device) - begun)
    return 2 * source.nbytes / best / 1e9


def ways_of(network, prompts, args, graphs: Graphs) -> dict:
    "Each way by name: a call that gives steps a second and columns, as `time_voicelab`."
    given = network, prompts, args.columns, args.device
    return {"generate": lambda: time_generate(*given, "dynamic"),
            "generate, static cache, compiled on CUDA": lambda: time_generate(*given, "static"),
            "voicelab, waiting": lambda: time_voicelab(*given),
            "voicelab, graphs": lambda: time_voicelab(*given, graphs.decode),
            "voicelab, graphs, sampled": lambda: time_voicelab(*given, graphs.decode, Sampling(seed=0))}


def measure(network, batch: int, args, bandwidth: float) -> list[dict]:
    "The rows of the table for one batch size."
    limit, graphs = bandwidth * 1e9 / step_bytes(network, batch, args.positions + args.columns / 2), Graphs()
    rows, base, wanted = [], math.nan, None
    for name, run in ways_of(network, make_prompts(batch, args.positions), args, graphs).items():
        row = dict(batch=batch, way=name)
        rows.append(row)
        try: speed, columns = (run(), run())[1]
        except Exception as error:          # a benchmark of four ways goes on with the other three
            row["note"] = one_line(error)
            continue
        if name == "generate": base, wanted = speed, columns
        row |= {"columns/s": speed, "ms a column": 1000 / speed, "x real time": speed / STEPS_A_SECOND, "x generate": speed / base,
                "share of limit": speed / limit, "note": ""}
        if wanted is not None and "sampled" not in name:
            row["same columns"] = f"{int((columns == wanted).all(1).sum())}/{batch * args.columns}"
    print(f"batch {batch}: at most {limit:.0f} columns a second; {graphs}")
    return rows


def main(argv: list[str] | None = None) -> pd.DataFrame:
    parser = make_parser(__doc__, SHAPES, shape="3b", device="cuda")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16], help="batch sizes (default: 1 4 16)")
    parser.add_argument("--positions", type=int, default=1000, help="of each prompt (default: 1000)")
    parser.add_argument("--columns", type=int, default=101, help="to make (default: 101)")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--bandwidth", type=float, help="of the device's memory as its maker states it, GB/s")
    args = parser.parse_args(argv)
    if args.columns < 9: parser.error(f"--columns: must be at least 9, got {args.columns}")
    if args.device.startswith("cuda") and not torch.cuda.is_available(): parser.error("--device: torch sees no CUDA device here")
    bandwidth = args.bandwidth or copy_speed(args.device, 1024 if args.device.startswith("cuda") else 64)
    network = build(args.shape, args.device, getattr(torch, args.dtype))
    show_head(args, f"{millions(network):.0f} M parameters, {args.dtype}, {args.positions} cached positions, "
                    f"{bandwidth:.0f} GB/s {'as stated' if args.bandwidth else 'by a copy'}")
    return show_table(args, pd.DataFrame([row for batch in args.batch for row in measure(network, batch, args, bandwidth)]))


if __name__ == "__main__": main()
