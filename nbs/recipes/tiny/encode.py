"""Encode speech files to codes with a trained codec.

    python encode.py CODEC.pt SPEECH...      # writes SPEECH.codes.npy [8, frames] int16 and SPEECH.codes.json
"""
import json
import sys

import numpy as np
import torch

from voicelab.models.tinycodec import TinyCodecNet

STEP = 960


def encode(net, name):
    speech = np.load(f"{name}.npy", mmap_mode="r")
    listing = sorted(json.load(open(f"{name}.json")), key=lambda row: row[3])      # similar lengths together
    codes, rows, start = [], [], 0
    for first in range(0, len(listing), 64):
        group = listing[first:first + 64]
        frames = [n // STEP for *_, n in group]
        batch = np.zeros((len(group), max(frames) * STEP), np.float32)
        for row, (_, _, at, n), count in zip(batch, group, frames):
            row[:count * STEP] = speech[at:at + count * STEP].astype(np.float32) / 32768
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16): made = net.encode(torch.tensor(batch)).numpy()
        for row, (voice, text, _, _), count in zip(made, group, frames):
            codes.append(row[:, :count].astype(np.int16))
            rows.append((voice, text, start, count))
            start += count
    np.save(f"{name}.codes.npy", np.concatenate(codes, 1))
    with open(f"{name}.codes.json", "w") as file: json.dump(rows, file)
    print(name, len(rows), "utterances", start, "frames", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    net = TinyCodecNet().eval()
    net.load_state_dict(torch.load(sys.argv[1], weights_only=True)["net"])
    for name in sys.argv[2:]: encode(net, name)
