"""Train the tiny language model on conversations in one voice; seeded and resumable.

    python train_lm.py --speech short --held held --minutes 50 --checkpoint lm.pt
    python train_lm.py --speech short long --held held --minutes 90 --frames 350 --checkpoint lm.pt    # goes on from there

A training example is a conversation of two to four turns in one voice, in the frame of `assistant_ref`: the first turn
is a sample without a reference, every later one a clone of those before it. Some have the first sound in the system
message. The loss is on the columns of all sounds: codebook 0 and two others drawn each step. Short texts first, longer
ones later: the words come in several times faster.
"""
import argparse
import json
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import HiggsAudioV2ForConditionalGeneration

from voicelab.codec import delay
from voicelab.models.tiny import build_config, build_tokenizer

K, BOS, EOS = 8, 1024, 1025
SYSTEM = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nGenerate audio following instruction.\n\n<|scene_desc_start|>\n"
SCENE = "Audio is recorded from a quiet room.\n<|scene_desc_end|><|eot_id|>"
USER = "<|start_header_id|>user<|end_header_id|>\n\n"
ASSISTANT = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<|audio_out_bos|>"
DONE = "<|audio_eos|><|eot_id|>"


def dress(text, rng):
    "Write a text as people do: mostly with a capital and an end mark."
    if rng.random() < 0.25: return text
    return text[0].upper() + text[1:] + rng.choice([".", ".", ".", "?", "!"])


class Voices:
    "Utterances by voice; draws conversations: a list of (text, codes [8, frames]), all in one voice."
    def __init__(self, names, seed):
        self.rng, self.voices = np.random.default_rng(seed), []
        for name in names:
            codes, voices = np.load(f"{name}.codes.npy"), {}
            for voice, text, start, n in json.load(open(f"{name}.codes.json")):
                voices.setdefault(voice, []).append((text, codes[:, start:start + n]))
            self.voices += [spoken for spoken in voices.values() if len(spoken) > 1]

    def draw(self, size, most_turns, most_frames):
        talks = []
        while len(talks) < size:
            spoken = self.voices[self.rng.integers(len(self.voices))]
            order = self.rng.permutation(len(spoken))[:self.rng.integers(2, most_turns + 1)]
            talk = [spoken[i] for i in order]
            if len(talk) > 2 and self.rng.random() < 0.25:               # two utterances as one: a longer reference
                talk[:2] = [(f"{talk[0][0]} {talk[1][0]}", np.concatenate([talk[0][1], talk[1][1]], 1))]
            if sum(codes.shape[1] for _, codes in talk) > most_frames: continue
            talks.append([(dress(text, self.rng), codes) for text, codes in talk])
        return talks


class Packer:
    "Conversations to padded batches, in the prompt's own words."
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.slot = tokenizer.convert_tokens_to_ids("<|AUDIO_OUT|>")
        self.frame = {}

    def ids(self, text):
        if text not in self.frame: self.frame[text] = self.tokenizer(text, add_special_tokens=False).input_ids
        return self.frame[text]

    def sequence(self, talk, system_ref):
        "ids [n], columns [columns, 8], columns of the last turn."
        ids, columns = list(self.ids(SYSTEM)), []
        for turn, (text, codes) in enumerate(talk):
            columns.append(delay(torch.tensor(codes.astype(np.int64))).T)
            audio = [self.slot] * len(columns[-1])
            words = self.tokenizer(text, add_special_tokens=False).input_ids
            if turn == 0 and system_ref:
                ids += self.ids("SPEAKER0: <|audio_bos|>") + audio + self.ids("<|audio_eos|>\n<|scene_desc_end|><|eot_id|>")
                continue
            if turn == 0: ids += self.ids(SCENE)
            elif not (turn == 1 and system_ref): ids += self.ids(DONE)
            ids += self.ids(USER) + words + self.ids(ASSISTANT) + audio
        return ids, torch.cat(columns), len(columns[-1])

    def batch(self, talks, system_ref=0.0, rng=None):
        made = [self.sequence(talk, system_ref and rng.random() < system_ref) for talk in talks]
        longest = max(len(ids) for ids, _, _ in made)
        ids = torch.full((len(made), longest), self.tokenizer.pad_token_id)
        columns, target = torch.zeros(len(made), longest, K, dtype=torch.long), torch.zeros(len(made), longest, dtype=torch.bool)
        for b, (row, audio, last) in enumerate(made):
            ids[b, :len(row)] = torch.tensor(row)
            where = (ids[b] == self.slot).nonzero()[:, 0]
            columns[b, where] = audio
            target[b, where[-last:]] = True
        return ids, columns, target


def column_loss(model, batch, books, only_target=False, drop=0.0):
    "Cross entropy [len(books)] of the next column, forced ids (BOS staircase, EOS after the first) left out."
    ids, columns, target = batch
    audio = ids == model.config.audio_token_id
    hidden = model.model(input_ids=ids, audio_input_ids=columns, audio_input_ids_mask=audio, use_cache=False).last_hidden_state
    counted = audio[:, 1:] & audio[:, :-1] & (target[:, 1:] if only_target else True)
    hidden, true, before = hidden[:, :-1][counted], columns[:, 1:][counted], columns[:, :-1][counted]
    heads = model.audio_lm_head.weight.view(K, -1, hidden.shape[-1])
    losses = []
    for k in books:
        free = (true[:, k] != BOS) & ~((true[:, k] == EOS) & (before[:, k] == EOS))
        losses.append(F.cross_entropy(F.linear(hidden[free], heads[k]).float(), true[free, k]))
    return torch.stack(losses)


@torch.no_grad()
def held_out(model, packer, pairs):
    "Loss of every codebook on unseen voices: right reference, wrong reference, wrong text."
    shift = pairs[7:] + pairs[:7]
    arms = {"right": pairs, "wrong reference": [(other[0], pair[1]) for pair, other in zip(pairs, shift)],
            "wrong text": [(pair[0], (other[1][0], pair[1][1])) for pair, other in zip(pairs, shift)]}
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        result = {name: column_loss(model, packer.batch(arm), range(K), only_target=True).tolist()
                  for name, arm in arms.items()}
    model.train()
    return result


def optimisers(model, rate):
    "Muon (Jordan 2024) for the matrices inside the layers, AdamW for embeddings, head and norms."
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.01)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", nargs="+", required=True, help="names of encoded speech")
    parser.add_argument("--held", required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--turns", type=int, default=4, help="most utterances a conversation")
    parser.add_argument("--frames", type=int, default=200, help="most code frames a conversation")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    tokenizer = build_tokenizer()
    packer = Packer(tokenizer)
    model = HiggsAudioV2ForConditionalGeneration(build_config(tokenizer)).train()
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters", flush=True)
    optims = optimisers(model, args.rate)
    done, step = 0.0, 0
    if os.path.exists(args.checkpoint):
        saved = torch.load(args.checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        for optim, state in zip(optims, saved["optimisers"]): optim.load_state_dict(state)
        done, step = saved["seconds"], saved["step"]
    voices = Voices(args.speech, seed=step)
    test_pairs = Voices([args.held], seed=0).draw(96, 2, args.frames)
    begun, last, log = time.time() - done, time.time(), []

    def save():
        state = dict(model=model.state_dict(), optimisers=[o.state_dict() for o in optims], seconds=time.time() - begun, step=step)
        torch.save(state, args.checkpoint + ".part"); os.replace(args.checkpoint + ".part", args.checkpoint)

    while (spent := time.time() - begun) < args.minutes * 60:
        progress = spent / (args.minutes * 60)
        for optim in optims:
            for group in optim.param_groups: group["lr"] = args.rate * min(1, (step + 1) / 100) * min(1, max(0.02, (1 - progress) / 0.6))
        talks = voices.draw(4 * args.batch, args.turns, args.frames)
        talks.sort(key=lambda talk: sum(codes.shape[1] for _, codes in talk))
        for group in np.random.default_rng(step).permutation(4):
            rng = np.random.default_rng(4 * step + group)
            books = [0, *rng.choice(np.arange(1, K), 2, replace=False)]
            batch = packer.batch(talks[group * args.batch:(group + 1) * args.batch], 0.06, rng)
            with torch.autocast("cpu", torch.bfloat16): losses = column_loss(model, batch, books)
            for optim in optims: optim.zero_grad()
            (losses * torch.tensor([1.5, 1, 1])).sum().div(3.5).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optim in optims: optim.step()
            step += 1
            log.append(losses[0].item())
            if step % 50 == 0: print(f"{step} {time.time() - begun:.0f} s, codebook 0 loss {np.mean(log[-50:]):.3f}", flush=True)
            if step % 200 == 0:
                for name, values in held_out(model, packer, test_pairs).items():
                    print(f"   held out, {name}: " + " ".join(f"{v:.2f}" for v in values), flush=True)
        if time.time() - last > 180: save(); last = time.time()
    save()


if __name__ == "__main__": main()
