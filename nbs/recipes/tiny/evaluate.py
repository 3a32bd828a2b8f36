"""Measure a tiny model on voices and texts that it was never trained on.

    python evaluate.py [FOLDER] --voices 40 --out figures.json

Voices are drawn from the recipe's voice space with seeds that no training step uses; each says a reference text, and the
model says another text in its voice, through the same `clone` that users call. Printed as a table with 95 % bootstrap
intervals over voices:

- nearest: share of outputs whose nearest reference, by resemblyzer, is their own
- similarity: cosine of output and reference; beside it those of other voices (floor), of the codec's own resynthesis
  of the reference, and of the true utterance of the text (anchors)
- ended: share of samples that end by themselves
- length: frames over those of the true utterance
- rise of the loss of codebook 0 on the true utterance, under a wrong reference and under a wrong text
"""
import argparse
import json
import platform
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from speech import RATE, draw_text, draw_voice, say

import voicelab as vl
from voicelab.codec import STREAM_BOS, STREAM_EOS, delay
from voicelab.control import choose_sampling
from voicelab.lab import VoiceModel
from voicelab.metrics import embed_voice, voiced

FIRST_SEED = 70_000_000


def sound(voice, text): return vl.Audio(say(voice, text).astype(np.float32) / 32768, RATE)


def sentence(rng, fewest, most):
    "Random words, written as a sentence."
    text = draw_text(rng, fewest, most)
    return text[0].upper() + text[1:] + "."


def spoken(count: int, first_seed: int, words: tuple[int, int]) -> list[dict]:
    "Held-out voices with a reference, a text, and the true utterance of it."
    rows = []
    for seed in range(first_seed, first_seed + count):
        rng = np.random.default_rng(seed)
        voice, said, text = draw_voice(rng), sentence(rng, 4, 7), sentence(rng, *words)
        reference = vl.Reference(sound(voice, said), transcript=said, consent="synthetic", name=f"voice{seed}")
        rows.append(dict(reference=reference, text=text, true=sound(voice, text)))
    return rows


@torch.inference_mode()
def loss(model: VoiceModel, text: str, reference: vl.Reference, codes: torch.Tensor) -> float:
    "Mean cross entropy of codebook 0 of the true `codes` (and its end) after the prompt."
    prompt, columns = model.prompt(text, reference), delay(codes)
    ids = torch.cat([prompt.network_ids, torch.full((columns.shape[1],), prompt.audio_token_id)])
    audio = torch.cat([prompt.audio_columns, columns], 1).T
    out = model.network(input_ids=ids[None], audio_input_ids=audio[None], audio_input_ids_mask=torch.ones(1, len(audio), dtype=torch.bool))
    logits = out.logits[0, -columns.shape[1]:].view(columns.shape[1], len(columns), -1)[:-1, 0]
    true = columns[0, 1:]
    counted = (true != STREAM_BOS) & ~((true == STREAM_EOS) & (columns[0, :-1] == STREAM_EOS))
    return F.cross_entropy(logits[counted].float(), true[counted]).item()


def interval(values, draws=2000) -> tuple[float, float, float]:
    "Mean and 95 % bootstrap interval."
    values = np.asarray(values, float)
    means = np.random.default_rng(0).choice(values, (draws, len(values))).mean(1)
    return values.mean(), *np.quantile(means, [0.025, 0.975])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="tiny")
    parser.add_argument("--voices", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--words", type=int, nargs=2, default=(3, 6))
    parser.add_argument("--temperature", type=float, help="default: as settings.ini says")
    parser.add_argument("--out", help="write the figures as JSON")
    parser.add_argument("--save", help="folder for the pairs")
    args = parser.parse_args()
    model, rows = vl.load(args.folder), spoken(args.voices, args.first_seed, args.words)
    sampling = choose_sampling(None, vl.read_settings())
    if args.temperature is not None: sampling = replace(sampling, temperature=args.temperature)
    run = vl.Run(args.save) if args.save else None
    embed, codec = lambda audio: embed_voice(voiced(audio)), model.codec
    for seed, row in enumerate(rows):
        row["codes"] = codec.encode(row["true"])
        row["made"] = model.clone(row["text"], reference=row["reference"], seed=seed, sampling=replace(sampling, seed=None))
        if run: run.save(row["made"])
    references = np.stack([embed(row["reference"].audio) for row in rows])
    cosines = lambda sounds: np.stack([embed(s) for s in sounds]) @ references.T
    output = cosines([row["made"].audio for row in rows])
    resynthesis = cosines([codec.decode(codec.encode(row["reference"].audio)) for row in rows])
    truth, truth_codec = cosines([row["true"] for row in rows]), cosines([codec.decode(row["codes"]) for row in rows])
    right = [loss(model, row["text"], row["reference"], row["codes"]) for row in rows]
    others = rows[7:] + rows[:7]
    wrong_reference = [loss(model, row["text"], other["reference"], row["codes"]) for row, other in zip(rows, others)]
    wrong_text = [loss(model, other["text"], row["reference"], row["codes"]) for row, other in zip(rows, others)]
    own, apart = np.arange(len(rows)), ~np.eye(len(rows), dtype=bool)
    nearest = lambda table: table.argmax(1) == own
    figures = {
        "nearest voice is the reference's": nearest(output),
        "  true utterance": nearest(truth),
        "  true utterance through the codec": nearest(truth_codec),
        "similarity to the reference": output[own, own],
        "  to another voice (floor)": (output * apart).sum(1) / (len(rows) - 1),
        "  of the true utterance": truth[own, own],
        "  of the true utterance through the codec": truth_codec[own, own],
        "  of the reference through the codec": resynthesis[own, own],
        "ended by itself": [row["made"].stop_reason == "eos" for row in rows],
        "length over the true one": [row["made"].codes.shape[1] / row["codes"].shape[1] for row in rows],
        "loss of codebook 0": right,
        "  rise with a wrong reference": np.subtract(wrong_reference, right),
        "  rise with a wrong text": np.subtract(wrong_text, right),
        "real-time factor": [row["made"].timings["rtf"] for row in rows],
    }
    print(f"model {model.info.name} {model.info.version}, {args.voices} voices from seed {args.first_seed}, texts of "
          f"{args.words[0]} to {args.words[1]} words, {rows[0]['made'].sampling}; {platform.machine()}, {torch.get_num_threads()} threads\n")
    table = {name: interval(values) for name, values in figures.items()}
    for name, (mean, low, high) in table.items(): print(f"| {name:<45} | {mean:.3f} | {low:.3f} to {high:.3f} |")
    if args.out:
        with open(args.out, "w") as file: json.dump(table, file, indent=1)


if __name__ == "__main__": main()
