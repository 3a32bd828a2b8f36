"""Let the language model of one codec begin to speak another's codes.

    python translate.py --old OLD --speech held_espeak espeak3 people1.0 --out start.safetensors

A codec that was trained on has other codes. Each new code gets the mean of the input vectors, and of the output vectors, of the
old codes that stand where it stands in the speech, so `train_lm.py --start` begins with words and voices that are known.
OLD is a checkpoint as export.py writes it; the names of SPEECH are encoded already by the new codec (encode.py).
"""
import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from voicelab.families.higgs.checkpoint import load_codec

STEP, FRAMES = 960, 500             # samples a frame; frames that are encoded at once
VECTORS = "model.embed_audio_tokens.embed_audio_tokens.weight", "audio_lm_head.weight"     # [codebooks * ids, hidden]


@torch.no_grad()
def met(old, name: str, most: int) -> torch.Tensor: # [codebooks, new codes, old codes]
    "How often each new code and each old code stand in the same place."
    new, speech = torch.from_numpy(np.load(f"{name}.codes.npy").astype(np.int64)), np.load(f"{name}.npy", mmap_mode="r")
    new, size, counts = new[:, :most], old.config.codebook_size, None
    for begin in range(0, new.shape[1], FRAMES):
        there = new[:, begin:begin + FRAMES]
        samples = torch.from_numpy(speech[begin * STEP:(begin + there.shape[1]) * STEP].astype(np.float32) / 32768)
        pairs = there * size + old.encode(samples[None])[0]
        found = torch.stack([torch.bincount(row, minlength=size * size) for row in pairs]).view(len(pairs), size, size)
        counts = found if counts is None else counts + found
    return counts


def translated(vectors: torch.Tensor, # [codebooks * ids, hidden]; the first ids of a codebook are its codes
               counts: torch.Tensor, # [codebooks, new codes, old codes]
              ) -> torch.Tensor: # as `vectors`
    "The vectors of the new codes; a code that was never met gets the mean of all."
    made = vectors.float().view(len(counts), -1, vectors.shape[1]).clone()
    known = made[:, :counts.shape[2]].clone()
    share = torch.where(counts.sum(-1, keepdim=True) > 0, counts.float(), torch.ones(()))
    made[:, :counts.shape[1]] = share / share.sum(-1, keepdim=True) @ known
    return made.view_as(vectors).to(vectors.dtype)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("old", "out"): parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--speech", nargs="+", required=True)
    parser.add_argument("--frames", type=int, default=150_000, help="most of each file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    codec, weights = load_codec(args.old / "codec"), load_file(args.old / "model.safetensors")
    counts = sum(met(codec.net, name, args.frames) for name in args.speech)
    print(f"new codes that were never met, in each codebook: {(counts.sum(-1) == 0).sum(-1).tolist()}")
    save_file(weights | {name: translated(weights[name], counts) for name in VECTORS}, args.out)


if __name__ == "__main__": main()
