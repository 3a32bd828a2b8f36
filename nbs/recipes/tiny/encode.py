"""Encode speech files to codes with a trained codec.

    python encode.py CODEC.pt SPEECH...      # writes SPEECH.codes.npy [8, frames] int16, in the order of SPEECH.json
"""
import json
import sys

import numpy as np
import torch

from voicelab.models.tinycodec import TinyCodecNet

STEP = 960


def encode(net, name):
    speech = np.load(f"{name}.npy", mmap_mode="r")
    listing = sorted(json.load(open(f"{name}.json"))["utterances"], key=lambda row: row[3])   # similar lengths together
    codes = np.zeros((8, len(speech) // STEP), np.int16)
    for first in range(0, len(listing), 64):
        group = listing[first:first + 64]
        batch = np.zeros((len(group), group[-1][3]), np.float32)
        for row, (_, _, start, n) in zip(batch, group): row[:n] = speech[start:start + n].astype(np.float32) / 32768
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16): made = net.encode(torch.tensor(batch)).numpy()
        for row, (_, _, start, n) in zip(made, group): codes[:, start // STEP:(start + n) // STEP] = row[:, :n // STEP]
    np.save(f"{name}.codes.npy", codes)
    print(name, len(listing), "utterances", codes.shape[1], "frames", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    net = TinyCodecNet().eval()
    net.load_state_dict(torch.load(sys.argv[1], weights_only=True)["net"])
    for name in sys.argv[2:]: encode(net, name)
