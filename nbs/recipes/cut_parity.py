"""Cut the full parity vectors (30 MB) down to what ships in tests/parity (under 3 MB); its README.md says what is cut.

    python cut_parity.py FOLDER ../../tests/parity        # FOLDER holds the full vectors

Most of the full vectors are random weights. The reference's scripts drew them from torch's generator under seed 0, so a
tensor can be found in the generator's stream. Its position and its distribution are stored instead, and the tests draw
it again.
"""
import json
import math
import re
import shutil
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

SEED, STREAM = 0, 8_000_000
WHOLE = ("higgs_tokenizer.json", "vita_prompts.json", "vita_whispervq.json", "vita_whispervq.safetensors")
SMALL = 256                                      # fewer numbers than this are stored as they are
UNUSED = re.compile(r"noise\.|hift_wav$|drawn")  # no test reads them
CASCADE, POSITIONS, TEXT_EVERY = 20, 100, 8      # ids for the heads, rows of positions, columns of text logits


def laws(tensor):
    "How a tensor may have been drawn: the method of torch.Tensor and its two arguments."
    fan = tensor[0].numel() if tensor.ndim > 1 else 1
    for mean, deviation in ((0.0, 0.08), (0.0, 0.2), (0.0, 0.1), (1.0, 0.1), (0.0, math.sqrt(2 / fan))):
        yield "normal_", mean, deviation
    for low, high in ((-1 / math.sqrt(fan), 1 / math.sqrt(fan)), (0.5, 1.5)): yield "uniform_", low, high


def uniforms(numbers, law, first, second):
    "The sixteen uniform draws from which sixteen numbers were made: normal ones come from eight radii and eight angles."
    if law == "uniform_": return (numbers - first) / (second - first)
    numbers = (numbers - first) / second
    left, right = numbers[:8], numbers[8:]
    return np.concatenate([1 - np.exp(-(left ** 2 + right ** 2) / 2), np.arctan2(right, left) / (2 * np.pi) % 1])


class Stream:
    "What torch's generator draws under the seed, and where in it a tensor comes from."
    def __init__(self):
        self.draws = torch.rand(STREAM, generator=torch.Generator().manual_seed(SEED)).numpy()
        self.order = np.argsort(self.draws)
        self.sorted = self.draws[self.order]

    def find(self, name, tensor):
        "The row [place, name, law, its two arguments, shape] that draws the tensor again bit for bit, or None."
        for law in laws(tensor):
            wanted = uniforms(tensor.flatten()[:16].double().numpy(), *law)
            low, high = np.searchsorted(self.sorted, [wanted[0] - 1e-5, wanted[0] + 1e-5])
            for place in self.order[low:high]:
                here = self.draws[place:place + 16]
                if len(here) < 16 or np.abs(here - wanted).max() > 1e-4: continue
                generator = torch.Generator().manual_seed(SEED)
                torch.rand(int(place), generator=generator)
                if torch.equal(getattr(torch.empty(tensor.shape), law[0])(*law[1:], generator=generator), tensor):
                    return [int(place), name, *law, *tensor.shape]


def cut_higgs(tensors):
    "Text logits of every eighth column and the last, audio logits of the first, the middle and the last."
    for name in [name for name in tensors if name.endswith("_logits")]:
        dimension = 1 if name.endswith("text_logits") else 0
        last = tensors[name].shape[dimension] - 1
        places = {*range(0, last, TEXT_EVERY), last} if dimension else {0, (last + 1) // 2, last}
        tensors[name.replace("logits", "positions")] = kept = torch.tensor(sorted(places))
        tensors[name] = tensors[name].index_select(dimension, kept)


def cut_mtp(tensors):
    "The heads on fewer ids: each position sees only those before it."
    before = tensors["cascade_ids"].shape[1] - CASCADE
    for name in [name for name in tensors if name.startswith("cascade_")]: tensors[name] = tensors[name][:, :-before]


def cut_sensevoice(tensors): tensors["pe_bf16"] = tensors["pe_bf16"][:, :POSITIONS]


def cut_flow_hift(tensors):
    "The waveform in float16: at most 0.06, so it is right to 2e-5, and is compared to 1e-3."
    tensors["hift_wav_from_source"] = tensors["hift_wav_from_source"].half()


CASES = dict(higgs=cut_higgs, vita_mtp=cut_mtp, vita_sensevoice=cut_sensevoice, vita_flow_hift=cut_flow_hift)


def write_case(name, source, target, stream):
    "A case with its outputs cut, and with rows in its JSON file for the weights that can be drawn."
    about = json.loads((source / f"{name}.json").read_text(encoding="utf-8"))
    stored = load_file(source / f"{name}.safetensors")
    tensors = {key: tensor for key, tensor in stored.items() if not UNUSED.match(key)}
    CASES[name](tensors)
    networks = [key for key in tensors if key.startswith(("state_dict.", "flow.", "hift."))]
    weights = [key for key in networks if tensors[key].numel() >= SMALL]
    rows = sorted(row for key in weights if (row := stream.find(key, tensors[key])))
    tensors["drawn_last"] = torch.stack([tensors.pop(row[1]).flatten()[-1] for row in rows])
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, target / f"{name}.safetensors")
    table = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    about = json.dumps(about, indent=1).removesuffix("\n}") + f',\n "drawn": [\n{table}\n ]\n}}\n'
    (target / f"{name}.json").write_text(about, encoding="utf-8")


def fold(lines):
    "One line for tensors that differ only in the first number of their names: layers.{0-37}.norm.weight."
    parts = [re.split(r"\.(\d+)\.", line, maxsplit=1) for line in lines]
    parts = sorted((head, rest[1:], [int(number) for number in rest[:1]]) for head, *rest in parts)
    for (head, tail), group in groupby(parts, lambda part: part[:2]):
        numbers = [number for *_, found in group for number in found]
        if not tail: yield head
        elif numbers == list(range(numbers[0], numbers[-1] + 1)):
            yield f"{head}.{{{numbers[0]}-{numbers[-1]}}}.{tail[0]}"
        else: yield from (f"{head}.{number}.{tail[0]}" for number in numbers)


def main(source, target):
    target.mkdir(parents=True, exist_ok=True)
    for name in WHOLE: shutil.copyfile(source / name, target / name)
    for name in ("vita_lm_keys.txt", "vita_decoder_keys.txt"):
        lines = (source / name).read_text(encoding="utf-8").splitlines()
        (target / name).write_text("".join(f"{line}\n" for line in fold(lines)), encoding="utf-8")
    stream = Stream()
    for name in CASES: write_case(name, source, target, stream)


if __name__ == "__main__": main(*map(Path, sys.argv[1:]))
