"""Encode speech files to codes with a trained codec, in float32.

    python encode.py CODEC.pt SPEECH... [--device cuda]      # writes SPEECH.codes.npy [8, frames] int16, in the order of SPEECH.json

In lower precision many entries of the last codebooks tie for nearest, and the first of them always wins: a language
model then learns codes that no decoder of the sound would see. A file whose codes tie is refused.
"""
import argparse
import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from train_codec import load_codec

STEP = 960
MOST_TIES = 0.01                # float32 has up to 0.002 at a codebook, bfloat16 0.05 to 0.7


def share_of_ties(net, samples) -> list[float]: # a codebook each
    "Share of the frames in which the nearest entry of a codebook is not the only one."
    rest, shares, quantizer = net.encoder(net.mel(samples).transpose(1, 2)), [], net.quantizer
    for project_in, project_out, book in zip(quantizer.project_in, quantizer.project_out, quantizer.codebooks):
        best = (F.normalize(project_in(rest), dim=-1) @ book.T).topk(2, -1)
        rest = rest - project_out(book[best.indices[..., 0]])
        shares.append((best.values[..., 0] == best.values[..., 1]).float().mean().item())
    return shares


@torch.no_grad()
def encode(net, name, device):
    speech = np.load(f"{name}.npy", mmap_mode="r")
    listing = sorted(json.load(open(f"{name}.json"))["utterances"], key=lambda row: row[3])   # similar lengths together
    codes = np.zeros((8, len(speech) // STEP), np.int16)
    for first in range(0, len(listing), 64):
        group = listing[first:first + 64]
        batch = np.zeros((len(group), group[-1][3]), np.int16)
        for row, (_, _, start, n) in zip(batch, group): row[:n] = speech[start:start + n]
        samples = torch.from_numpy(batch).to(device).float() / 32768
        if first == 0 and max(ties := share_of_ties(net, samples)) > MOST_TIES:
            raise SystemExit(f"{name}: at most {MOST_TIES} of the frames may have two nearest entries, found by codebook {ties}")
        made = net.encode(samples).cpu().numpy()
        for row, (_, _, start, n) in zip(made, group): codes[:, start // STEP:(start + n) // STEP] = row[:, :n // STEP]
    np.save(f"{name}.part.npy", codes)
    os.replace(f"{name}.part.npy", f"{name}.codes.npy")        # whole or not at all: a training may be waiting for it
    return len(listing), codes.shape[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec")
    parser.add_argument("speech", nargs="+")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False        # tf32 would tie, too
    net = load_codec(args.codec, args.device)
    for name in args.speech:
        utterances, frames = encode(net, name, args.device)
        print(name, utterances, "utterances", frames, "frames", flush=True)


if __name__ == "__main__": main()
