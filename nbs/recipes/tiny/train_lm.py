"""Train the tiny language model on conversations in one voice; seeded and resumable.

    python train_lm.py --speech short --held held --minutes 40 --checkpoint lm.pt
    python train_lm.py --speech short long --held held --minutes 90 --frames 350 --checkpoint lm.pt    # goes on from there

A training example is a conversation of two to four turns in one voice, in the frame of `assistant_ref`: the first turn
is a sample without a reference, every later one a clone of those before it. Some have the first sound in the system
message. The loss is on the columns of all sounds: codebook 0, four others drawn each step, and the phoneme of the frame,
told from the same hidden state by a head that is thrown away after training. Short texts first, longer ones later.
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
from voicelab.text import strip_harakat

K, BOS, EOS, STEP, NOT_COUNTED = 8, 1024, 1025, 960, -100
SYSTEM = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nGenerate audio following instruction.\n\n<|scene_desc_start|>\n"
SCENE = "Audio is recorded from a quiet room.\n<|scene_desc_end|><|eot_id|>"
USER = "<|start_header_id|>user<|end_header_id|>\n\n"
ASSISTANT = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<|audio_out_bos|>"
DONE = "<|audio_eos|><|eot_id|>"


class Voices:
    """Utterances by voice; draws conversations: a list of (text, codes [8, frames], phonemes [frames]), all in one voice.

    `phonemes` names the phonemes that are told apart; others, and all where it is empty, are not counted."""
    def __init__(self, names, seed, phonemes=()):
        self.rng, self.voices, number = np.random.default_rng(seed), [], {name: i for i, name in enumerate(phonemes)}
        for name in names:
            codes, voices, listing = np.load(f"{name}.codes.npy"), {}, json.load(open(f"{name}.json"))
            table = np.array([number.get(phoneme, NOT_COUNTED) for phoneme in listing["phonemes"]])
            labels = table[np.load(f"{name}.phonemes.npy")]
            for voice, text, start, n in listing["utterances"]:
                span = slice(start // STEP, (start + n) // STEP)
                voices.setdefault(voice, []).append((text, codes[:, span], labels[span]))
            self.voices += [spoken for spoken in voices.values() if len(spoken) > 1]

    def draw(self, size, most_turns, most_frames, bare=0.5):
        talks = []
        while len(talks) < size:
            spoken = self.voices[self.rng.integers(len(self.voices))]
            order = self.rng.permutation(len(spoken))[:self.rng.integers(2, most_turns + 1)]
            talk = [spoken[i] for i in order]
            if len(talk) > 2 and self.rng.random() < 0.25:               # two utterances as one: a longer reference
                talk[:2] = [(f"{talk[0][0]} {talk[1][0]}", *(np.concatenate(pair, -1) for pair in zip(talk[0][1:], talk[1][1:])))]
            if sum(codes.shape[1] for _, codes, _ in talk) > most_frames: continue
            talks.append([(strip_harakat(text) if self.rng.random() < bare else text, codes, labels) for text, codes, labels in talk])
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


def causal_attention(q, k, v, rows=128):
    "Scaled dot product attention of [batch, heads, n, size], `rows` queries at a time: on a CPU twice as fast as torch's."
    seen, n = [], q.shape[2]
    for start in range(0, n, rows):
        end = min(n, start + rows)
        later = torch.full((end - start, end), -torch.inf, dtype=q.dtype).triu(start + 1)
        scores = torch.baddbmm(later.expand(q.shape[0] * q.shape[1], -1, -1), q[:, :, start:end].flatten(0, 1),
                               k[:, :, :end].flatten(0, 1).transpose(1, 2), alpha=q.shape[-1] ** -0.5)
        seen.append(torch.softmax(scores, -1, dtype=scores.dtype) @ v[:, :, :end].flatten(0, 1))
    return torch.cat(seen, 1).view(q.shape)


def hidden_states(model, ids, columns):
    """The network's last hidden states at the places of sound, [places, hidden]; equal to its own forward, but faster to
    train: text and sound, which have MLPs of their own, lie apart, without padding, and meet in attention only."""
    body, config, audio = model.model, model.config, ids == model.config.audio_token_id
    flat, real = audio.flatten(), (ids != config.pad_token_id).flatten()
    order = torch.cat([(real & ~flat).nonzero()[:, 0], flat.nonzero()[:, 0]])
    place = torch.zeros(ids.numel(), dtype=torch.long).index_copy(0, order, torch.arange(len(order)))
    text, sound = body.embed_tokens(ids.flatten()[order[:-flat.sum()]]), body.embed_audio_tokens(columns[audio])
    cos, sin = (x[:, None] for x in body.rotary_emb(text, torch.arange(ids.shape[1])[None]))
    def turned(x):
        low, high = x.chunk(2, -1)
        return x * cos + torch.cat([-high, low], -1) * sin
    for layer in body.layers:
        attention = layer.self_attn
        both = torch.cat([layer.input_layernorm(text), layer.audio_input_layernorm(sound)])
        q, k, v = (project(both)[place].view(*ids.shape, -1, config.head_dim).transpose(1, 2)
                   for project in (attention.q_proj, attention.k_proj, attention.v_proj))
        seen = causal_attention(turned(q).to(v.dtype), turned(k).to(v.dtype), v)       # padding is behind all, so no more mask
        seen = attention.o_proj(seen.transpose(1, 2).reshape(ids.numel(), -1)[order])
        text, sound = text + seen[:len(text)], sound + seen[len(text):]
        text = text + layer.mlp(layer.post_attention_layernorm(text))
        sound = sound + layer.audio_mlp(layer.audio_post_attention_layernorm(sound))
    return body.norm(sound)


def column_loss(model, batch, books, only_target=False, to_phoneme=None):
    """Cross entropy [len(books)] of the next column, forced ids (BOS staircase, EOS after the first) left out; with a
    `to_phoneme` head, that of the phonemes behind it."""
    ids, columns, phonemes, target = batch
    audio = ids == model.config.audio_token_id
    followed = audio[:, 1:] & audio[:, :-1] & (target[:, 1:] if only_target else True)
    hidden = hidden_states(model, ids, columns)[F.pad(followed, (0, 1))[audio]]
    true, before = columns[:, 1:][followed], columns[:, :-1][followed]
    heads = model.audio_lm_head.weight.view(K, -1, hidden.shape[-1])
    losses = []
    for k in books:
        free = (true[:, k] != BOS) & ~((true[:, k] == EOS) & (before[:, k] == EOS))
        losses.append(F.cross_entropy(F.linear(hidden[free], heads[k]).float(), true[free, k]))
    if to_phoneme: losses.append(F.cross_entropy(to_phoneme(hidden).float(), phonemes[:, :-1][followed], ignore_index=NOT_COUNTED))
    return torch.stack(losses)


@torch.no_grad()
def held_out(model, packer, pairs, to_phoneme):
    "Loss of every codebook, then of the phonemes, on unseen voices: right reference, wrong reference, wrong text."
    shift = pairs[7:] + pairs[:7]
    arms = {"right": pairs, "wrong reference": [(other[0], pair[1]) for pair, other in zip(pairs, shift)],
            "wrong text": [(pair[0], (other[1][0], *pair[1][1:])) for pair, other in zip(pairs, shift)]}
    with torch.autocast("cpu", torch.bfloat16):
        return {name: column_loss(model, packer.batch(arm), range(K), True, to_phoneme).tolist() for name, arm in arms.items()}


def optimisers(model, to_phoneme, rate):
    "Muon (Jordan 2024) for the matrices inside the layers, AdamW for embeddings, heads and norms."
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in [*model.parameters(), *to_phoneme.parameters()] if id(p) not in chosen]
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
    parser.add_argument("--bare", type=float, default=0.7, help="share of Arabic texts shown without vowel marks")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    tokenizer = build_tokenizer()
    packer = Packer(tokenizer)
    model = HiggsAudioV2ForConditionalGeneration(build_config(tokenizer))
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters", flush=True)
    saved = torch.load(args.checkpoint, weights_only=True) if os.path.exists(args.checkpoint) else None
    phonemes = saved["phonemes"] if saved else json.load(open(f"{args.speech[0]}.json"))["phonemes"]
    to_phoneme = nn.Linear(model.config.hidden_size, len(phonemes))
    optims = optimisers(model, to_phoneme, args.rate)
    done, step = 0.0, 0
    if saved:
        model.load_state_dict(saved["model"]); to_phoneme.load_state_dict(saved["to_phoneme"])
        for optim, state in zip(optims, saved["optimisers"]): optim.load_state_dict(state)
        done, step = saved["seconds"], saved["step"]
    voices = Voices(args.speech, step, phonemes)
    test_pairs = Voices([args.held], 0, phonemes).draw(96, 2, args.frames)
    begun, last, log = time.time() - done, time.time(), []

    def save():
        state = dict(model=model.state_dict(), to_phoneme=to_phoneme.state_dict(), phonemes=phonemes, step=step,
                     optimisers=[o.state_dict() for o in optims], seconds=time.time() - begun)
        torch.save(state, args.checkpoint + ".part"); os.replace(args.checkpoint + ".part", args.checkpoint)

    while (spent := time.time() - begun) < args.minutes * 60:
        progress = spent / (args.minutes * 60)
        for optim in optims:
            for group in optim.param_groups: group["lr"] = args.rate * min(1, (step + 1) / 100) * min(1, max(0.02, (1 - progress) / 0.6))
        talks = voices.draw(4 * args.batch, args.turns, args.frames, args.bare)
        talks.sort(key=lambda talk: sum(codes.shape[1] for _, codes, _ in talk))
        for group in np.random.default_rng(step).permutation(4):
            rng = np.random.default_rng(4 * step + group)
            books = [0, *rng.choice(np.arange(1, K), 4, replace=False)]
            batch = packer.batch(talks[group * args.batch:(group + 1) * args.batch], 0.06, rng)
            with torch.autocast("cpu", torch.bfloat16): losses = column_loss(model, batch, books, to_phoneme=to_phoneme)
            for optim in optims: optim.zero_grad()
            (losses * torch.tensor([1.5, 1, 1, 1, 1, 0.5])).sum().div(4).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optim in optims: optim.step()
            step += 1
            log.append((losses[0].item(), losses[-1].item()))
            if step % 50 == 0:
                heard, named = np.mean(log[-50:], 0)
                print(f"{step} {time.time() - begun:.0f} s, codebook 0 loss {heard:.3f}, phoneme loss {named:.3f}", flush=True)
            if step % 200 == 0:
                for name, values in held_out(model, packer, test_pairs, to_phoneme).items():
                    print(f"   held out, {name}: " + " ".join(f"{v:.2f}" for v in values), flush=True)
        if time.time() - last > 180: save(); last = time.time()
    save()


if __name__ == "__main__": main()
