"""The parity vectors: a case, with the weights that are drawn anew instead of stored, and the names at full size."""
import json
import os
import re
from pathlib import Path

import torch
from safetensors.torch import load_file

SHIPPED = Path(__file__).parent / "parity"
PARITY = Path(os.environ.get("VOICELAB_PARITY") or SHIPPED)


def drawn(rows, seed=0):
    "Random weights as the reference's scripts drew them: each tensor from its place in the generator's stream."
    generator, here, tensors = torch.Generator().manual_seed(seed), 0, {}
    for place, name, law, first, second, *shape in rows:
        torch.rand(place - here, generator=generator)           # what was drawn in between
        tensors[name] = getattr(torch.empty(shape), law)(first, second, generator=generator)
        here = place + tensors[name].numel()
    return tensors


def read_about(name, folder=PARITY): return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def read_case(name, folder=PARITY):
    "Tensors of a case, and its configuration and strings."
    about = read_about(name, folder)
    return load_file(folder / f"{name}.safetensors") | drawn(about.get("drawn", [])), about


def full_size_names(name):
    "The rows of a list of tensors; {0-37} in a row stands for each of these numbers."
    for line in (PARITY / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        found = re.search(r"\{(\d+)-(\d+)\}", line)
        if found is None: yield line.split("\t")
        else: yield from (line.replace(found[0], str(n)).split("\t") for n in range(int(found[1]), int(found[2]) + 1))
