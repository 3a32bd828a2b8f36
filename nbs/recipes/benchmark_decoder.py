"""What Euler steps cost: GLM-4-Voice's decoder at 1, 3 and 10 steps, offline and to the first sound of a stream.

    python nbs/recipes/benchmark_decoder.py                                       # a scaled shape, on the CPU
    python nbs/recipes/benchmark_decoder.py --shape released --device cuda --codes 125 250

Weights are random, so the speech is noise, but the times are real. The real-time factor is seconds of work for a second of sound;
below 1 it is faster than speech. `mel` is the flow alone, `all` the flow and the vocoder, `first` the seconds from the codes of a
stream's first block to its sound, with the same number of steps. Each is the median of `--repeats` runs after one that doesn't count.
On the CPU one thread works and its CPU time is measured, so other work on the machine has little effect.
"""
import statistics
from collections.abc import Callable

import pandas as pd
import torch
from benchmark import clock, make_parser, millions, random_weights, show_head, show_table

from voicelab.models.flow import FlowConfig, FlowNet, mel_noise
from voicelab.models.glm4voice import BLOCKS, Glm4Voice
from voicelab.models.hift import HiftConfig, HiftNet
from voicelab.models.whispervq import WhisperVQ, WhisperVQConfig

SHAPES = { # a quarter of the released widths, a third of its depth; and the released shape
    "scaled": (FlowConfig(code_width=128, width=128, heads=2, feed_forward=512, layers=2, channels=(64, 64), estimator_heads=2,
                          head_width=64, estimator_layers=2, mid_blocks=4), HiftConfig(channels=128, pitch_channels=128)),
    "released": (FlowConfig(), HiftConfig())}


def build(shape: str, device: str) -> Glm4Voice:
    "A codec with random weights; its tokenizer is minimal, because decoding doesn't use it."
    flow, hift = SHAPES[shape]
    with random_weights(device):
        nets = (WhisperVQ(WhisperVQConfig(width=16, heads=2, feed_forward=16, layers=1)), FlowNet(flow), HiftNet(hift))
    return Glm4Voice(*(net.requires_grad_(False) for net in nets), f"random {shape}")


def median_seconds(work: Callable[[], object], repeats: int, device: str) -> float:
    "The median of `repeats` runs, after one to warm up."
    taken = []
    for _ in range(repeats + 1):
        begun = clock(device, own=True)
        work()
        taken.append(clock(device, own=True) - begun)
    return statistics.median(taken[1:])


def measure(codec: Glm4Voice, count: int, steps: int, args) -> dict:
    "One row of the table."
    codes = torch.randint(0, codec.codebook_size, (1, count), generator=torch.Generator().manual_seed(count))
    noise = mel_noise(codec.flow.config.frames(count), torch.Generator().manual_seed(0)).to(args.device)
    seconds = noise.shape[2] * codec.flow.config.hop / codec.sample_rate
    with torch.inference_mode():
        mel = median_seconds(lambda: codec.flow(codes.to(args.device), noise, steps), args.repeats, args.device)
    whole = median_seconds(lambda: codec.decode(codes, steps), args.repeats, args.device)
    first = median_seconds(lambda: codec.session(steps).push(codes[:, :BLOCKS[0]]), args.repeats, args.device)
    return {"codes": count, "sound (s)": seconds, "steps": steps, "mel (s)": mel, "all (s)": whole, "mel RTF": mel / seconds,
            "all RTF": whole / seconds, "first (s)": first}


def main(argv: list[str] | None = None) -> pd.DataFrame:
    parser = make_parser(__doc__, SHAPES, "decoder")
    parser.add_argument("--codes", type=int, nargs="+", default=[125], help="how many to decode (default: 125, 10 s)")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 3, 10], help="of Euler's method (default: 1 3 10)")
    parser.add_argument("--repeats", type=int, default=3, help="runs that count (default: 3)")
    args = parser.parse_args(argv)
    if min(args.codes) < BLOCKS[0]: parser.error(f"--codes: must be at least {BLOCKS[0]}, got {min(args.codes)}")
    if min(*args.steps, args.repeats) < 1: parser.error("--steps and --repeats: must be at least 1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try: return run(build(args.shape, args.device), args)
    finally: torch.set_num_threads(threads)


def run(codec: Glm4Voice, args) -> pd.DataFrame:
    "Measure, show and write the table."
    show_head(args, f"flow {millions(codec.flow):.1f} M, vocoder {millions(codec.hift):.1f} M parameters")
    rows = [measure(codec, count, steps, args) for count in args.codes for steps in args.steps]
    return show_table(args, pd.DataFrame(rows), digits=3)


if __name__ == "__main__": main()
