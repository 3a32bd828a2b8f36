"""Find out which part limits the content of a tiny model's speech: the words it chooses, the voice around them, or random sampling.

    python limits.py [FOLDER] --voices 20

The same texts in each arm: the lab's defaults; always the likeliest code; a higher temperature; and the true codes of
codebook 0 (which carries the phonemes) given, so that the model only has to add the other seven.
"""
import argparse

import torch
from evaluate import Bench, Speaker, distances, sentence
from measures import mean_interval, scale_interval

import voicelab as vl
from voicelab.codec import STREAM_EOS
from voicelab.control import choose_sampling

def with_codebook_0(model, codes, clone):
    "What `clone()` makes while codebook 0 follows `codes` [8, frames] and ends after them."
    script, column = codes[0].tolist(), 0                               # column 0 is BOS, column 1 the first frame
    def follow(module, inputs, output):
        nonlocal column
        logits = output[:, -1].view(len(output), model.codec.n_codebooks, -1)
        said = script[column - 1] if column <= len(script) else STREAM_EOS
        if column: logits[:, 0] = torch.where(torch.arange(logits.shape[-1]) == said, 0, -1e4)
        if said != STREAM_EOS: logits[:, 1:, STREAM_EOS] = -1e4         # only codebook 0 ends the sample
        column += 1
    handle = model.network.audio_lm_head.register_forward_hook(follow)
    try: return clone()
    finally: handle.remove()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="tiny")
    parser.add_argument("--voices", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=71_000_000)
    args = parser.parse_args()
    model = vl.load(args.folder)
    bench = Bench(model, [Speaker(seed) for seed in range(args.first_seed, args.first_seed + args.voices)])
    texts = [sentence(speaker.rng, 2, 8) for speaker in bench.speakers]       # one chunk each
    true = [[speaker.true(text)] for speaker, text in zip(bench.speakers, texts)]
    codes = [model.codec.encode(row[0]) for row in true]
    ideal = [[model.codec.decode(part)] for part in codes]
    other = [[bench.through_codec(speaker.true(sentence(speaker.rng, 2, 8)))] for speaker in bench.speakers]
    default = choose_sampling(None, vl.read_settings())
    say = lambda i, sampling: model.clone(texts[i], reference=bench.speakers[i].reference, seed=0, sampling=sampling)
    arms = {
        "the lab's defaults": lambda i: say(i, None),
        "always the likeliest": lambda i: say(i, "greedy"),
        "temperature 1.0": lambda i: say(i, "upstream"),
        "true codebook 0": lambda i: with_codebook_0(model, codes[i], lambda: say(i, None)),
        "true codebook 0, the likeliest of the others": lambda i: with_codebook_0(model, codes[i], lambda: say(i, "greedy")),
    }
    far, near, best = distances(true, other), distances(true, ideal), bench.cosines(ideal)
    print(f"{default}\n| arm | content | voice | ended |\n|---|---|---|---|")
    for arm, make in arms.items():
        made = [make(i) for i in range(len(texts))]
        sounds = [[gen.audio] for gen in made]
        output = bench.cosines(sounds)
        cells = (scale_interval(distances(true, sounds), far, near), scale_interval(bench.own(output), bench.apart(output), bench.own(best)),
                 mean_interval([gen.stop_reason == "eos" for gen in made]))
        print(f"| {arm} | " + " | ".join(f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in cells) + " |", flush=True)


if __name__ == "__main__": main()
