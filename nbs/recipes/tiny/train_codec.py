"""Train the tiny model's codec in two stages, each seeded and resumable.

    python train_codec.py codes   --speech codec --minutes 15 --checkpoint codes.pt    # encoder, quantiser, mel
    python train_codec.py sound   --speech codec --minutes 25 --checkpoint sound.pt --codes codes.pt

Stage one learns to draw the log-mel spectrum from codes, and to tell from the first codebook alone which phoneme is
said; after it the encoder and the codebooks stay as they are, so a language model can already be trained on them. Stage
two learns the waveform from the same codes.
"""
import argparse
import json
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from voicelab.models.tinycodec import LogMel, TinyCodecConfig, TinyCodecNet

STEP = 960                                          # samples a code frame


class QuantizerTrainer:
    "Moving-average codebooks with dead codes refilled from the batch (van den Oord 2017, Zeghidour 2021)."
    def __init__(self, quantizer, decay=0.99, dead=0.02):
        self.quantizer, self.decay, self.dead = quantizer, decay, dead
        n, size, _ = quantizer.codebooks.shape
        self.count = torch.full((n, size), 2 * dead)
        self.total = quantizer.codebooks * 2 * dead

    def __call__(self, hidden):
        """Straight-through quantised hidden, the part of codebook 0 in it, codes, commitment loss; half of the rows drop
        their last codebooks."""
        q, n = self.quantizer, len(self.quantizer.codebooks)
        keep = torch.randint(1, n + 1, (len(hidden),))
        keep[torch.rand(len(hidden)) < 0.5] = n
        rest, parts, codes, loss = hidden, [], [], 0
        for i in range(n):
            near = F.normalize(q.project_in[i](rest).float(), dim=-1)
            flat = near.detach().reshape(-1, near.shape[-1])
            code = (flat @ q.codebooks[i].T).argmax(-1)
            self.update(i, flat, code)
            chosen = q.codebooks[i][code].view_as(near)
            loss = loss + F.mse_loss(near, chosen) * near.shape[-1]
            part = q.project_out[i](near + (chosen - near).detach())
            parts.append(part * (keep > i).to(part).view(-1, 1, 1))
            rest = rest - parts[-1].detach()
            codes.append(code.view(near.shape[:2]))
        return sum(parts), parts[0], torch.stack(codes, 1), loss

    @torch.no_grad()
    def update(self, i, flat, code):
        size = self.count.shape[1]
        self.count[i].mul_(self.decay).add_(torch.bincount(code, minlength=size), alpha=1 - self.decay)
        self.total[i].mul_(self.decay).add_(torch.zeros_like(self.total[i]).index_add_(0, code, flat), alpha=1 - self.decay)
        dead = self.count[i] < self.dead
        if dead.any():
            self.total[i][dead] = flat[torch.randint(len(flat), (int(dead.sum()),))] * 5 * self.dead
            self.count[i][dead] = 5 * self.dead
        self.quantizer.codebooks[i] = F.normalize(self.total[i], dim=-1)


class Crops:
    "Random crops of a speech file at random gain, with the phoneme of every frame."
    def __init__(self, name, frames, seed):
        self.speech, self.frames, self.rng = np.load(f"{name}.npy", mmap_mode="r"), frames, np.random.default_rng(seed)
        self.labels = np.load(f"{name}.phonemes.npy").astype(np.int64)
        listing = json.load(open(f"{name}.json"))
        self.phonemes = listing["phonemes"]
        self.starts = [(s, n) for _, _, s, n in listing["utterances"] if n > (frames + 1) * STEP]

    def batch(self, size):
        "Samples [size, frames * STEP], phonemes [size, frames]."
        rows, labels = [], []
        for k in self.rng.integers(len(self.starts), size=size):
            start, n = self.starts[k]
            at = start + self.rng.integers(n - (self.frames + 1) * STEP)
            rows.append(self.speech[at:at + self.frames * STEP].astype(np.float32) / 32768 * 10 ** self.rng.uniform(-.3, .2))
            nearest = (at + STEP // 2) // STEP
            labels.append(self.labels[nearest:nearest + self.frames])
        return torch.tensor(np.stack(rows)), torch.tensor(np.stack(labels))


def magnitudes(samples, size):
    return torch.stft(F.pad(samples, (size // 2, size // 2)), size, size // 4, window=torch.hann_window(size),
                      center=False, return_complex=True).abs()


def sound_loss(made, true, mels):
    "Multi-resolution STFT loss (Yamamoto 2020) and log-mel distance at three scales."
    loss = 0
    for size in (2048, 1024, 512, 256):
        a, b = magnitudes(true, size), magnitudes(made, size)
        loss = loss + (a - b).norm() / a.norm() + (torch.log(a + 1e-3) - torch.log(b + 1e-3)).abs().mean()
    mel = sum((m(true) - m(made)).abs().mean() for m in mels) * 3 / len(mels)
    return loss / 4 + mel, mel


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["codes", "sound"])
    parser.add_argument("--speech", required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--codes", help="checkpoint of stage one")
    parser.add_argument("--vocoder", help="stage two: begin with the vocoder of this codec's model.safetensors")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    net, config = TinyCodecNet(), TinyCodecConfig()
    frames = 32 if args.stage == "codes" else 20
    crops = Crops(args.speech, frames, seed=0)
    to_mel, to_phoneme = nn.Conv1d(config.channels, config.n_mels, 1), nn.Linear(config.channels, len(crops.phonemes))
    trainer = QuantizerTrainer(net.quantizer)
    learn = [*net.encoder.parameters(), *net.quantizer.parameters(), *net.trunk.parameters(), *to_mel.parameters(),
             *to_phoneme.parameters()]
    if args.stage == "sound":
        learned = torch.load(args.codes, weights_only=True)["net"]
        net.load_state_dict({k: v for k, v in learned.items() if not k.startswith("vocoder.")}, strict=False)
        if args.vocoder:
            net.load_state_dict({k: v.float() for k, v in load_file(args.vocoder).items() if k.startswith("vocoder.")}, strict=False)
        learn = [*net.trunk.parameters(), *net.vocoder.parameters()]
    optimiser = torch.optim.AdamW(learn, args.rate, betas=(0.8, 0.99), weight_decay=0.01)
    done, step = 0.0, 0
    if os.path.exists(args.checkpoint):
        saved = torch.load(args.checkpoint, weights_only=True)
        net.load_state_dict(saved["net"]); optimiser.load_state_dict(saved["optimiser"])
        to_mel.load_state_dict(saved["to_mel"]); to_phoneme.load_state_dict(saved["to_phoneme"])
        trainer.count, trainer.total, done, step = saved["count"], saved["total"], saved["seconds"], saved["step"]
        crops.rng = np.random.default_rng(step)
    mels = nn.ModuleList(LogMel(TinyCodecConfig(window=w, hop=w // 4, n_mels=n)) for w, n in ((2048, 128), (960, 100), (512, 64)))
    begun, last, log = time.time() - done, time.time(), []

    def save():
        state = dict(net=net.state_dict(), to_mel=to_mel.state_dict(), to_phoneme=to_phoneme.state_dict(), optimiser=optimiser.state_dict(),
                     count=trainer.count, total=trainer.total, seconds=time.time() - begun, step=step)
        torch.save(state, args.checkpoint + ".part"); os.replace(args.checkpoint + ".part", args.checkpoint)

    while (spent := time.time() - begun) < args.minutes * 60:
        progress = spent / (args.minutes * 60)
        for group in optimiser.param_groups:
            group["lr"] = args.rate * min(1, (step + 1) / 200) * max(0.02, 0.5 * (1 + math.cos(math.pi * progress)))
        true, phonemes = crops.batch(24 if args.stage == "codes" else 16)
        if args.stage == "codes":
            target = net.mel(true)
            with torch.autocast("cpu", torch.bfloat16):
                quantized, first, codes, commit = trainer(net.encoder(target).transpose(1, 2))
                drawn = to_mel(net.trunk(quantized.transpose(1, 2))).float()
                named = to_phoneme(first).float()
            shown = (drawn - target).abs().mean()
            phoneme_loss = F.cross_entropy(named.flatten(0, 1), phonemes.flatten())
            loss = shown + 0.5 * F.mse_loss(drawn, target) + 0.05 * commit + 0.25 * phoneme_loss
        else:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16): codes = net.encode(true)
            with torch.autocast("cpu", torch.bfloat16): made = net.decode(codes).float()
            loss, shown = sound_loss(made, true, mels)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learn, 1.0 if args.stage == "codes" else 5.0)
        optimiser.step()
        step += 1
        log.append(shown.item())
        if step % 100 == 0:
            line = f"{step} {spent:.0f} s, mel distance {np.mean(log[-100:]):.4f}"
            if args.stage == "codes": line += f", phoneme loss {phoneme_loss:.2f}, codes used {(trainer.count > 0.1).sum(1).tolist()}"
            print(line, flush=True)
        if time.time() - last > 120: save(); last = time.time()
    save()


if __name__ == "__main__": main()
