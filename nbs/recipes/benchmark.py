"""What the benchmarks share: common options, a clock, networks with random weights, and a table that is printed and saved."""
import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import torch
from torch import nn

DTYPES = ("float32", "bfloat16", "float16")


def make_parser(about: str, shapes: dict, part: str = "network", # that has one of `shapes`
                shape: str = "scaled", device: str = "cpu") -> argparse.ArgumentParser:
    "A command line with the options that all benchmarks have."
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=shapes, default=shape, help=f"of the {part} (default: {shape})")
    parser.add_argument("--device", default=device, help=f"of torch (default: {device})")
    parser.add_argument("--json", metavar="FILE", help="write the table there as well")
    return parser


@contextmanager
def random_weights(device: str, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    "Networks made inside this block are on the device, have the dtype, and are the same every time."
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device): yield
    finally: torch.set_default_dtype(before)


def clock(device: str, own: bool = False) -> float:
    "Seconds, after the device has finished its work; with `own`, on the CPU, the CPU time of this process."
    if device.startswith("cuda"): torch.cuda.synchronize()
    return time.process_time() if own and device == "cpu" else time.perf_counter()


def millions(network: nn.Module) -> float:
    "Millions of parameters."
    return sum(tensor.numel() for tensor in network.parameters()) / 1e6


def where(device: str) -> str:
    "The device in words."
    return torch.cuda.get_device_name() if device.startswith("cuda") else f"{device}, threads: {torch.get_num_threads()}"


def show_head(args, words: str): # args: those of `make_parser`
    "One line about what will be measured, and where."
    print(f"{args.shape}: {words}, {where(args.device)}, torch {torch.__version__}")


def show_table(args, table: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
    "Print the table, and write it with the options to the file of `--json`."
    print(table.to_string(index=False, float_format=f"{{:.{digits}f}}".format))
    if args.json:
        with open(args.json, "w") as file: json.dump(dict(where=where(args.device), **vars(args), rows=table.to_dict("records")), file, indent=1)
    return table
