"""Join trained networks into a checkpoint that `voicelab.load` reads.

    python export.py --lm lm.pt --codec sound.pt --version 1 --out ../../../voicelab/checkpoints/tiny
"""
import argparse

import torch
from train_codec import load_codec
from transformers import HiggsAudioV2ForConditionalGeneration

from voicelab.families.higgs.tiny import build_config, build_tokenizer, save_checkpoint

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("lm", "codec", "version", "out"): parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--chunk-seconds", type=float, default=6.0, help="longest speech that the model was trained on")
    parser.add_argument("--limits", default="", help="one line that the command line shows under every clone")
    args = parser.parse_args()
    tokenizer, codec, trained = build_tokenizer(), load_codec(args.codec), torch.load(args.lm, weights_only=True, map_location="cpu")
    network = HiggsAudioV2ForConditionalGeneration(build_config(tokenizer, **trained["shape"]))
    network.load_state_dict(trained["model"])
    save_checkpoint(args.out, network, tokenizer, codec,
                    dict(name="tiny", version=args.version, license="Apache-2.0", languages=["english", "arabic"], chunk_seconds=args.chunk_seconds,
                         vowel_marks=True, capitals="lowered", emoji="dropped", numbers="words", limits=args.limits))


if __name__ == "__main__": main()
