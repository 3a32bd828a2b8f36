"""Train the tiny language model on conversations in one voice; seeded and resumable.

    python train_lm.py --speech 'espeak*' 'people*' --held held_espeak held_people --minutes 90 --checkpoint lm.pt

A training example is a conversation of two to four turns in one voice, in the frame of `assistant_ref`: the first turn
is a sample without a reference, every later one a clone of those before it. Some have the first sound in the system
message. The loss is on the columns of all sounds, and on the phoneme of the frame, predicted from the same hidden state by a
head that is discarded after training. Each pattern of `--speech` has a share of the conversations that goes from the
one in `--shares` to the one in `--last-shares`; files that appear during training are included.
"""
import argparse
import json
import os
import time
from glob import glob
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from train_codec import begin_with
from transformers import HiggsAudioV2ForConditionalGeneration

from voicelab.codec import delay
from voicelab.families.higgs.tiny import build_config, build_tokenizer
from voicelab.text import strip_harakat

K, BOS, EOS, STEP, NOT_COUNTED = 8, 1024, 1025, 960, -100
REFRESH = 8                                         # seconds between looks for new files
SYSTEM = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nGenerate audio following instruction.\n\n<|scene_desc_start|>\n"
SCENE = "Audio is recorded from a quiet room.\n<|scene_desc_end|><|eot_id|>"
USER = "<|start_header_id|>user<|end_header_id|>\n\n"
ASSISTANT = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<|audio_out_bos|>"
DONE = "<|audio_eos|><|eot_id|>"


class Voices:
    """Utterances by voice; draws conversations: a list of (text, codes [8, frames], phonemes [frames]), all in one voice.

    `phonemes` names the phonemes that are told apart; others, and all where it is empty, are not counted."""
    def __init__(self, patterns, seed, phonemes=()):
        self.patterns, self.rng, self.number = patterns, np.random.default_rng(seed), {name: i for i, name in enumerate(phonemes)}
        self.voices, self.taken = [[] for _ in patterns], set()
        self.refresh()

    def refresh(self):
        "Include the encoded files that have appeared."
        self.looked = time.time()
        for voices, pattern in zip(self.voices, self.patterns):
            for path in sorted(set(glob(f"{pattern}.codes.npy")) - self.taken):
                self.taken.add(path)
                name, found = path.removesuffix(".codes.npy"), {}
                codes, listing = np.load(path, mmap_mode="r"), json.load(open(f"{name}.json"))
                table = np.array([self.number.get(phoneme, NOT_COUNTED) for phoneme in listing["phonemes"]])
                labels = table[np.load(f"{name}.phonemes.npy")]
                for voice, text, start, n in listing["utterances"]:
                    span = slice(start // STEP, (start + n) // STEP)
                    found.setdefault(voice, []).append((text, codes[:, span], labels[span]))
                voices += [spoken for spoken in found.values() if len(spoken) > 1]

    def draw(self, size, most_turns, most_frames, bare=0.5, shares=None):
        if time.time() - self.looked > REFRESH: self.refresh()
        chances = np.array([bool(voices) * share for voices, share in zip(self.voices, shares or [1] * len(self.voices))])
        if not chances.any(): raise SystemExit(f"--speech: no encoded speech in {' '.join(self.patterns)}")
        talks = []
        while len(talks) < size:
            voices = self.voices[self.rng.choice(len(chances), p=chances / chances.sum())]
            spoken = voices[self.rng.integers(len(voices))]
            order = self.rng.permutation(len(spoken))[:self.rng.integers(2, most_turns + 1)]
            talk = [spoken[i] for i in order]
            if len(talk) > 2 and self.rng.random() < 0.25:               # two utterances as one: a longer reference
                talk[:2] = [(f"{talk[0][0]} {talk[1][0]}", *(np.concatenate(pair, -1) for pair in zip(talk[0][1:], talk[1][1:])))]
            if sum(codes.shape[1] for _, codes, _ in talk) > most_frames: continue
            talks.append([(strip_harakat(text) if self.rng.random() < bare else text, codes, labels) for text, codes, labels in talk])
        return talks


class Packer:
    "Conversations to padded batches, in the form of the prompt."
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.slot = tokenizer.convert_tokens_to_ids("<|AUDIO_OUT|>")
        self.frame = {}

    def ids(self, text):
        if text not in self.frame: self.frame[text] = self.tokenizer(text, add_special_tokens=False).input_ids
        return self.frame[text]

    def sequence(self, talk, system_ref):
        "ids [n], columns [columns, 8], phoneme of the frame that follows each column [columns], columns of the last turn."
        ids, columns, phonemes = list(self.ids(SYSTEM)), [], []
        for turn, (text, codes, labels) in enumerate(talk):
            columns.append(delay(torch.tensor(codes.astype(np.int64))).T)
            phonemes.append(F.pad(torch.tensor(labels), (0, len(columns[-1]) - len(labels)), value=NOT_COUNTED))
            audio = [self.slot] * len(columns[-1])
            words = self.tokenizer(text, add_special_tokens=False).input_ids
            if turn == 0 and system_ref:
                ids += self.ids("SPEAKER0: <|audio_bos|>") + audio + self.ids("<|audio_eos|>\n<|scene_desc_end|><|eot_id|>")
                continue
            if turn == 0: ids += self.ids(SCENE)
            elif not (turn == 1 and system_ref): ids += self.ids(DONE)
            ids += self.ids(USER) + words + self.ids(ASSISTANT) + audio
        return ids, torch.cat(columns), torch.cat(phonemes), len(columns[-1])

    def batch(self, talks, system_ref=0.0, rng=None):
        "ids [b, n], columns [b, n, 8], phonemes [b, n], whether a place is in the last turn's sound [b, n]."
        made = [self.sequence(talk, system_ref and rng.random() < system_ref) for talk in talks]
        shape = len(made), max(len(ids) for ids, *_ in made)
        ids, columns = torch.full(shape, self.tokenizer.pad_token_id), torch.zeros(*shape, K, dtype=torch.long)
        phonemes, target = torch.full(shape, NOT_COUNTED), torch.zeros(shape, dtype=torch.bool)
        for b, (row, audio, labels, last) in enumerate(made):
            ids[b, :len(row)] = torch.tensor(row)
            where = (ids[b] == self.slot).nonzero()[:, 0]
            columns[b, where], phonemes[b, where] = audio, labels
            target[b, where[-last:]] = True
        return ids, columns, phonemes, target

    def laid_out(self, talks, system_ref=0.0, rng=None, only_target=False):
        "The same as a `Layout`."
        return lay_out(*self.batch(talks, system_ref, rng), self.slot, self.tokenizer.pad_token_id, only_target)


class Layout(NamedTuple):
    """A batch laid out for `hidden_states`: text and sound, which have MLPs of their own, are separate, without padding."""
    shape: tuple                        # batch, places
    text: torch.Tensor                  # [text places] ids
    sound: torch.Tensor                 # [sound places, 8] ids
    order: torch.Tensor                 # the places in the batch of text and sound
    followed: torch.Tensor              # the sounds whose next column is predicted
    true: torch.Tensor                  # [followed, 8], NOT_COUNTED where it is forced
    phonemes: torch.Tensor              # [followed]

    def to(self, device): return Layout(self.shape, *(part.to(device, non_blocking=True) for part in self[1:]))


def lay_out(ids, columns, phonemes, target, slot, pad, only_target=False) -> Layout:
    "The layout of a batch of `Packer`; forced ids (BOS staircase, EOS after the first) are not counted."
    flat, real = (ids == slot).flatten(), (ids != pad).flatten()
    audio = ids == slot
    order = torch.cat([(real & ~flat).nonzero()[:, 0], flat.nonzero()[:, 0]])
    pairs = audio[:, 1:] & audio[:, :-1] & (target[:, 1:] if only_target else True)
    true, before = columns[:, 1:][pairs], columns[:, :-1][pairs]
    forced = (true == BOS) | ((true == EOS) & (before == EOS))
    return Layout(tuple(ids.shape), ids.flatten()[order[:len(order) - int(flat.sum())]], columns[audio], order,
                  F.pad(pairs, (0, 1))[audio].nonzero()[:, 0], torch.where(forced, NOT_COUNTED, true), phonemes[:, :-1][pairs])


def padded(x, batch: Layout): # [text and sound places, size] to [batch * places, size]
    "Each place where it is in the batch. Reading by index would train slowly on a GPU, where gradients of one index wait for each other."
    return x.new_zeros(batch.shape[0] * batch.shape[1], x.shape[1]).index_copy(0, batch.order, x)


def hidden_states(model, batch: Layout):
    """The network's last hidden states at the places of sound, [places, hidden]; equal to its own forward, but faster to
    train: text and sound meet in attention only."""
    body, config, (rows, n) = model.model, model.config, batch.shape
    text, sound = body.embed_tokens(batch.text), body.embed_audio_tokens(batch.sound)
    cos, sin = (x[:, None] for x in body.rotary_emb(text, torch.arange(n, device=text.device)[None]))
    def turned(x):
        low, high = x.chunk(2, -1)
        return x * cos + torch.cat([-high, low], -1) * sin
    for layer in body.layers:
        attention = layer.self_attn
        both = torch.cat([layer.input_layernorm(text), layer.audio_input_layernorm(sound)])
        q, k, v = (padded(project(both), batch) for project in (attention.q_proj, attention.k_proj, attention.v_proj))
        q, k, v = (x.view(rows, n, -1, config.head_dim).transpose(1, 2) for x in (q, k, v))
        seen = F.scaled_dot_product_attention(turned(q).to(v.dtype), turned(k).to(v.dtype), v, is_causal=True)     # padding is behind all
        seen = attention.o_proj(seen.transpose(1, 2).reshape(rows * n, -1).index_select(0, batch.order))
        text, sound = text + seen[:len(text)], sound + seen[len(text):]
        text = text + layer.mlp(layer.post_attention_layernorm(text))
        sound = sound + layer.audio_mlp(layer.audio_post_attention_layernorm(sound))
    return body.norm(sound)


def column_loss(model, batch: Layout, to_phoneme):
    "Cross entropy [9] of the next column's eight ids and of the phoneme of the frame that follows."
    hidden = hidden_states(model, batch).index_select(0, batch.followed)
    logits = model.audio_lm_head(hidden).view(len(hidden), K, -1)
    books = F.cross_entropy(logits.flatten(0, 1).float(), batch.true.flatten(), ignore_index=NOT_COUNTED, reduction="none").view(-1, K).sum(0)
    phonemes = F.cross_entropy(to_phoneme(hidden).float(), batch.phonemes, ignore_index=NOT_COUNTED)
    return torch.cat([books / (batch.true != NOT_COUNTED).sum(0), phonemes[None]])


class Conversations(IterableDataset):
    "Endless batches for `DataLoader`: similar lengths together, four batches from one draw."
    def __init__(self, args, packer, phonemes, step):
        self.args, self.packer, self.phonemes, self.step = args, packer, phonemes, step
        self.progress = torch.zeros(1).share_memory_()              # of the training, 0 to 1

    def shares(self):
        progress = float(self.progress)
        first, last = (shares or [1] * len(self.args.speech) for shares in (self.args.shares, self.args.last_shares))
        return [(1 - progress) * a + progress * b for a, b in zip(first, last)]

    def __iter__(self):
        torch.set_num_threads(1)
        worker = get_worker_info()
        seed = [self.step, worker.id if worker else 0]
        args, voices, rng = self.args, Voices(self.args.speech, seed, self.phonemes), np.random.default_rng([*seed, 1])
        while True:
            talks = voices.draw(4 * args.batch, args.turns, args.frames, args.bare, self.shares())
            talks.sort(key=lambda talk: sum(codes.shape[1] for _, codes, _ in talk))
            for group in rng.permutation(4):
                yield self.packer.laid_out(talks[group * args.batch:(group + 1) * args.batch], args.system, rng)


@torch.no_grad()
def held_out(model, packer, pairs, to_phoneme, device):
    "Loss of every codebook, then of the phonemes, on unseen voices: right reference, wrong reference, wrong text."
    shift = pairs[7:] + pairs[:7]
    arms = {"right": pairs, "wrong reference": [(other[0], pair[1]) for pair, other in zip(pairs, shift)],
            "wrong text": [(pair[0], (other[1][0], *pair[1][1:])) for pair, other in zip(pairs, shift)]}
    with torch.autocast(device, torch.bfloat16):
        return {name: column_loss(model, packer.laid_out(arm, only_target=True).to(device), to_phoneme).tolist() for name, arm in arms.items()}


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal (Jordan 2024) for matrices, those of one shape at a time; a step is as large as one of AdamW
    at the same rate."""
    def __init__(self, matrices, lr, weight_decay=0.05, momentum=0.95):
        super().__init__(matrices, dict(lr=lr, weight_decay=weight_decay, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for matrix in group["params"]:                                      # the last layer's text is read by nobody
                if matrix.grad is not None: shapes.setdefault(tuple(matrix.shape), []).append(matrix)
            for shape, matrices in shapes.items():
                slope, state = torch.stack([matrix.grad for matrix in matrices]), self.state[matrices[0]]
                mean = state.setdefault("mean", torch.zeros_like(slope))
                mean.lerp_(slope, 1 - group["momentum"])
                update = orthogonal(slope.lerp(mean, group["momentum"])).to(slope.dtype) * (-0.2 * group["lr"] * max(shape) ** 0.5)
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, list(update))


def orthogonal(stack, rounds=5): # [matrices, rows, columns]
    "Each matrix with all its singular values near 1 (Newton and Schulz's iteration)."
    x = stack.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall: x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(rounds):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


def optimisers(model, to_phoneme, rate, device):
    "Muon for the matrices inside the layers, AdamW for embeddings, heads and norms."
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in [*model.parameters(), *to_phoneme.parameters()] if id(p) not in chosen]
    return [Muon(matrices, rate), torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.01, fused=device != "cpu")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", nargs="+", required=True, help="patterns of names of encoded speech")
    parser.add_argument("--shares", type=float, nargs="+", help="share of each pattern at the beginning")
    parser.add_argument("--last-shares", type=float, nargs="+", help="and at the end")
    parser.add_argument("--held", nargs="+", required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="of training; the learning rate follows the clock")
    length.add_argument("--steps", type=int, help="of training; the learning rate follows them: for a machine with other work to do")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--start", help="a new checkpoint begins with the network of this model.safetensors")
    parser.add_argument("--turns", type=int, default=4, help="most utterances a conversation")
    parser.add_argument("--frames", type=int, default=450, help="most code frames a conversation")
    parser.add_argument("--bare", type=float, default=0.7, help="share of Arabic texts shown without vowel marks")
    parser.add_argument("--system", type=float, default=0.1, help="share of conversations whose first sound is in the system message")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=100, help="steps until the rate is reached")
    parser.add_argument("--hidden", type=int, default=320)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--loaders", type=int, default=0, help="processes that put batches together")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="compile the loss and its gradient: needs a C++ compiler, and a minute or two at the first step")
    args = parser.parse_args()
    if args.steps is not None and args.steps < 1: parser.error(f"--steps: must be at least 1, got {args.steps}")
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    tokenizer, device = build_tokenizer(), args.device
    packer = Packer(tokenizer)
    shape = dict(hidden_size=args.hidden, layers=args.layers, heads=args.hidden // 64, intermediate_size=3 * args.hidden)
    model = HiggsAudioV2ForConditionalGeneration(build_config(tokenizer, **shape)).to(device)
    if args.start: begin_with(model, load_file(args.start), "--start")
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters", flush=True)
    saved = torch.load(args.checkpoint, weights_only=True, map_location=device) if os.path.exists(args.checkpoint) else None
    phonemes = saved["phonemes"] if saved else sorted({name for pattern in args.speech for path in glob(f"{pattern}.json")
                                                       for name in json.load(open(path))["phonemes"]})
    to_phoneme = nn.Linear(model.config.hidden_size, len(phonemes)).to(device)
    optims = optimisers(model, to_phoneme, args.rate, device)
    done, step = 0.0, 0
    if saved:
        begin_with(model, saved["model"], "--checkpoint"); to_phoneme.load_state_dict(saved["to_phoneme"])
        for optim, state in zip(optims, saved["optimisers"]): optim.load_state_dict(state)
        done, step = saved["seconds"], saved["step"]
    pairs = {name: Voices([name], 0, phonemes).draw(96, 2, args.frames) for name in args.held}
    losses_of = torch.compile(column_loss, dynamic=True) if args.compile else column_loss
    begun, last, log = time.time() - done, time.time(), []
    conversations = Conversations(args, packer, phonemes, step)
    if args.steps: conversations.progress.fill_(step / args.steps)      # loaders begin at once
    batches = iter(DataLoader(conversations, batch_size=None, num_workers=args.loaders,
                              pin_memory=device != "cpu", prefetch_factor=4 if args.loaders else None))

    def save():
        state = dict(model=model.state_dict(), shape=shape, to_phoneme=to_phoneme.state_dict(), phonemes=phonemes, step=step,
                     optimisers=[o.state_dict() for o in optims], seconds=time.time() - begun)
        torch.save(state, args.checkpoint + ".part"); os.replace(args.checkpoint + ".part", args.checkpoint)

    weights = torch.tensor([1.5, *[0.6] * (K - 1), 0.5], device=device) / 4
    while (progress := step / args.steps if args.steps else (time.time() - begun) / (args.minutes * 60)) < 1:
        conversations.progress.fill_(progress)
        for optim in optims:
            for group in optim.param_groups: group["lr"] = args.rate * min(1, (step + 1) / args.warmup) * min(1, max(0.02, (1 - progress) / 0.6))
        batch = next(batches).to(device)
        with torch.autocast(device, torch.bfloat16): losses = losses_of(model, batch, to_phoneme)
        for optim in optims: optim.zero_grad()
        (losses * weights).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims: optim.step()
        step += 1
        log.append(losses.detach()[[0, -1]])
        if step % 50 == 0:
            heard, named = torch.stack(log).mean(0).tolist()
            log = []
            print(f"{step} {time.time() - begun:.0f} s, codebook 0 loss {heard:.3f}, phoneme loss {named:.3f}", flush=True)
        if step % 400 == 0:
            for name, held in pairs.items():
                for arm, values in held_out(model, packer, held, to_phoneme, device).items():
                    print(f"   held out, {os.path.basename(name)}, {arm}: " + " ".join(f"{v:.2f}" for v in values), flush=True)
        if time.time() - last > 60: save(); last = time.time()
    save()


if __name__ == "__main__": main()
