"""Train the tiny model's codec in two stages, each seeded and resumable.

    python train_codec.py codes --speech 'espeak*' 'people*' --minutes 15 --checkpoint codes.pt     # encoder, quantiser, mel
    python train_codec.py sound --speech 'espeak*' 'people*' --minutes 25 --checkpoint sound.pt --codes codes.pt

Stage one learns to predict the log-mel spectrum from codes, and to tell from the first codebook alone which phoneme is
said. After it the encoder and the codebooks stay as they are, so a language model can already be trained on them. Stage
two learns the waveform from the same codes: from spectra alone, then also from discriminators (judges) that tell generated sound from true.

Every pattern of `--speech` gives an equal share of each batch; files that appear during training are included.
"""
import argparse
import json
import math
import os
import time
from glob import glob

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from voicelab.models.tinycodec import Convolution, LogMel, TinyCodecConfig, TinyCodecNet

STEP = 960                                          # samples a code frame
REFRESH = 8                                         # seconds between looks for new files
FILES = 4                                           # files of a pattern that a batch is drawn from


class QuantizerTrainer:
    "Moving-average codebooks with dead codes refilled from the batch (van den Oord 2017, Zeghidour 2021), in float32."
    def __init__(self, quantizer, decay=0.99, dead=0.02):
        self.quantizer, self.decay, self.dead = quantizer, decay, dead
        self.begin(2 * dead)

    def begin(self, count: float):
        "Take the codebooks as they are for the mean of `count` vectors an entry."
        self.count = torch.full(self.quantizer.codebooks.shape[:2], count, device=self.quantizer.codebooks.device)
        self.total = self.quantizer.codebooks * count

    def __call__(self, hidden):
        """Straight-through quantised hidden, the part of codebook 0 in it, codes, commitment loss; half of the rows drop
        their last codebooks."""
        q, n = self.quantizer, len(self.quantizer.codebooks)
        keep = torch.randint(1, n + 1, (len(hidden),), device=hidden.device)
        keep = torch.where(torch.rand(len(hidden), device=hidden.device) < 0.5, n, keep)
        rest, parts, codes, loss = hidden.float(), [], [], 0
        for i in range(n):
            near = F.normalize(q.project_in[i](rest), dim=-1)
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
        ones = torch.zeros(size, device=flat.device).index_add_(0, code, torch.ones(len(code), device=flat.device))
        self.count[i].mul_(self.decay).add_(ones, alpha=1 - self.decay)
        self.total[i].mul_(self.decay).add_(torch.zeros_like(self.total[i]).index_add_(0, code, flat), alpha=1 - self.decay)
        dead = self.count[i] < self.dead
        fresh = flat[torch.randint(len(flat), (size,), device=flat.device)] * 5 * self.dead
        self.total[i] = torch.where(dead[:, None], fresh, self.total[i])
        self.count[i] = torch.where(dead, 5 * self.dead, self.count[i])
        self.quantizer.codebooks[i] = F.normalize(self.total[i], dim=-1)


class Crops:
    "Random crops of speech files at random gain, with the phoneme of every frame; all speech lies on the device."
    def __init__(self, patterns, frames, seed, device):
        self.patterns, self.frames, self.device = patterns, frames, device
        self.random, self.chance = torch.Generator(device).manual_seed(seed), np.random.default_rng(seed)
        self.numbers, self.taken, self.looked = {}, set(), 0.0
        self.files = [[] for _ in patterns]             # (samples, labels, frames at which a crop may begin) of each file

    def refresh(self):
        "Include the files that have appeared; the names of phonemes get their numbers in the order of their first file."
        self.looked = time.time()
        for i, pattern in enumerate(self.patterns):
            for listed in sorted(set(glob(f"{pattern}.json")) - self.taken):
                name, listing = listed.removesuffix(".json"), json.load(open(listed))
                number = torch.tensor([self.numbers.setdefault(p, len(self.numbers)) for p in listing["phonemes"]])
                samples, labels = torch.from_numpy(np.load(f"{name}.npy")), number[torch.from_numpy(np.load(f"{name}.phonemes.npy")).long()]
                # a crop begins between two frames, so it needs one more than it is long
                starts = [np.arange(s // STEP, (s + n) // STEP - self.frames - 1) for _, _, s, n in listing["utterances"]]
                starts = torch.from_numpy(np.concatenate(starts))
                if len(starts): self.files[i].append([part.to(self.device) for part in (samples, labels, starts)])
                self.taken.add(listed)

    def batch(self, size):
        "Samples [size, frames * STEP], phonemes [size, frames]."
        if time.time() - self.looked > REFRESH: self.refresh()
        groups = [files for files in self.files if files]
        if not groups: raise SystemExit(f"--speech: no speech in {' '.join(self.patterns)}")
        samples, labels = [], []
        def draw(high, *shape): return torch.randint(high, shape, generator=self.random, device=self.device)
        for files in groups:
            chosen = self.chance.choice(len(files), FILES, p=np.array([len(file[2]) for file in files]) / sum(len(file[2]) for file in files))
            for k in chosen:                            # a batch comes from a few files, by their length
                speech, phonemes, starts = files[k]
                rows = -(-size // (len(groups) * FILES))
                at, within = starts[draw(len(starts), rows, 1)], draw(STEP, rows, 1)
                gain = 10 ** (torch.rand(rows, 1, generator=self.random, device=self.device) * 0.5 - 0.3) / 32768
                span = torch.arange(self.frames * STEP, device=self.device)
                samples.append(speech[at * STEP + within + span].float() * gain)
                labels.append(phonemes[at + (within > STEP // 2) + span[:self.frames]])
        return torch.cat(samples), torch.cat(labels)


def transform(samples, size):
    return torch.stft(F.pad(samples, (size // 2, size // 2)), size, size // 4, window=torch.hann_window(size, device=samples.device),
                      center=False, return_complex=True)


def sound_loss(made, true, mels):
    "Multi-resolution STFT loss (Yamamoto 2020) and log-mel distance at three scales."
    loss = 0
    for size in (2048, 1024, 512, 256):
        a, b = transform(true, size).abs(), transform(made, size).abs()
        loss = loss + (a - b).norm() / a.norm() + (torch.log(a + 1e-3) - torch.log(b + 1e-3)).abs().mean()
    mel = sum((m(true) - m(made)).abs().mean() for m in mels) * 3 / len(mels)
    return loss / 4 + mel, mel


class Judge(nn.Module):
    "A discriminator of generated and true sound by complex spectra (Jang 2021, Defossez 2022): each layer's features; the last is its verdict."
    def __init__(self, size, channels=32):
        super().__init__()
        self.size = size
        shapes = [(2, 1), (channels, 2), (channels, 2), (channels, 2), (channels, 1)]
        self.layers = nn.ModuleList(nn.Conv2d(c, channels, (3, 9), (1, stride), (1, 4)) for c, stride in shapes)
        self.verdict = nn.Conv2d(channels, 1, (3, 3), padding=1)

    def forward(self, samples):
        x, features = torch.view_as_real(transform(samples, self.size)).permute(0, 3, 2, 1), []
        x = x / (x.abs() + 0.01).sqrt()                                 # a spectrum's range is too large for a judge
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            features.append(x)
        return [*features, self.verdict(x)]


def judged(judges, made, true):
    "Generator loss: be taken for true, and give the judges the same features as the true sound."
    loss = 0
    for judge in judges:
        with torch.no_grad(): wanted = judge(true)
        seen = judge(made)
        loss = loss + F.relu(1 - seen[-1].float()).mean()
        loss = loss + 2 * sum((a.float() - b.float()).abs().mean() for a, b in zip(seen[:-1], wanted[:-1])) / len(seen[:-1])
    return loss / len(judges)


def judges_loss(judges, made, true):
    return sum(F.relu(1 - judge(true)[-1].float()).mean() + F.relu(1 + judge(made)[-1].float()).mean() for judge in judges) / len(judges)


def load_codec(path, device="cpu"):
    "The codec of a checkpoint of this script."
    saved = torch.load(path, weights_only=True, map_location=device)
    net = TinyCodecNet(TinyCodecConfig(**saved["config"] | dict(vocoder_dilations=tuple(saved["config"]["vocoder_dilations"])))).to(device)
    net.load_state_dict(saved["net"])
    return net.eval().arrange()


def begin_with(net, values: dict, option: str, part=lambda name: True):
    "Load the values whose names are of a part into the network; refuse in one line what does not fit."
    own, values = net.state_dict(), {name: value for name, value in values.items() if part(name)}
    for name in sorted(values.keys() | filter(part, own)):
        found, wanted = (list(state[name].shape) if name in state else "missing" for state in (values, own))
        if found != wanted: raise SystemExit(f"{option}: does not fit: {name} is {found} in the file and {wanted} here")
    net.load_state_dict(own | {name: value.float() for name, value in values.items()})


def vocoders(name: str) -> bool: return name.startswith("vocoder.")
def others(name: str) -> bool: return not vocoders(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["codes", "sound"])
    parser.add_argument("--speech", nargs="+", required=True, help="patterns of names of speech files, each an equal share of a batch")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="of training; the learning rate follows the clock")
    length.add_argument("--steps", type=int, help="of training; the learning rate follows them: for a machine with other work to do")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--codes", help="checkpoint of stage one")
    parser.add_argument("--start", help="stage one: begin with the encoder, codebooks and trunk of this codec's model.safetensors")
    parser.add_argument("--vocoder", help="stage two: begin with the vocoder of this codec's model.safetensors")
    parser.add_argument("--judges", type=float, default=0.4, help="stage two: share of the time after which judges come in")
    parser.add_argument("--judged", type=int, help="stage two: crops a step that the judges hear, most of the work (default all)")
    parser.add_argument("--batch", type=int, help="crops a step (24 in stage one, 16 in stage two)")
    parser.add_argument("--channels", type=int, default=320)
    parser.add_argument("--vocoder-channels", type=int, default=384)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3)
    args = parser.parse_args()
    for name in ("steps", "judged"):
        if (given := getattr(args, name)) is not None and given < 1: parser.error(f"--{name}: must be at least 1, got {given}")
    if args.stage == "sound" and not args.codes: parser.error("--codes: stage two needs the checkpoint of stage one")
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    device, size = args.device, args.batch or (24 if args.stage == "codes" else 16)
    config = TinyCodecConfig(channels=args.channels, vocoder_channels=args.vocoder_channels)
    net = TinyCodecNet(config).to(device).arrange()
    crops = Crops(args.speech, 32 if args.stage == "codes" else 20, 0, device)
    to_mel, to_phoneme = Convolution(config.channels, config.n_mels, 1).to(device), nn.Linear(config.channels, 128).to(device)
    trainer = QuantizerTrainer(net.quantizer)
    judges = nn.ModuleList(map(Judge, (2048, 1024, 512))).to(device)
    learn = [*net.encoder.parameters(), *net.quantizer.parameters(), *net.trunk.parameters(), *to_mel.parameters(),
             *to_phoneme.parameters()]
    if args.start and args.stage == "sound": raise SystemExit("--start: is of stage one; stage two takes --codes and --vocoder")
    if args.start:
        begin_with(net, load_file(args.start), "--start", others)
        trainer.begin(size * crops.frames / net.quantizer.codebooks.shape[1])
    if args.stage == "sound":
        learned = torch.load(args.codes, weights_only=True, map_location=device)["net"]
        begin_with(net, learned, "--codes", others)
        if args.vocoder: begin_with(net, load_file(args.vocoder), "--vocoder", vocoders)
        learn = [*net.trunk.parameters(), *net.vocoder.parameters()]
    optimiser = torch.optim.AdamW(learn, args.rate, betas=(0.8, 0.99), weight_decay=0.01)
    judging = torch.optim.AdamW(judges.parameters(), 3e-4, betas=(0.8, 0.99), weight_decay=0.01)
    done, step = 0.0, 0
    if os.path.exists(args.checkpoint):
        saved = torch.load(args.checkpoint, weights_only=True, map_location=device)
        if (stage := saved.get("stage", args.stage)) != args.stage: raise SystemExit(f"--checkpoint: {args.checkpoint} is of the stage {stage}")
        begin_with(net, saved["net"], "--checkpoint")
        parts = dict(optimiser=optimiser, to_mel=to_mel, to_phoneme=to_phoneme, judges=judges, judging=judging)
        for name, part in parts.items(): part.load_state_dict(saved[name])
        trainer.count, trainer.total, done, step = saved["count"], saved["total"], saved["seconds"], saved["step"]
        crops.numbers = saved["phonemes"]
        crops.random.manual_seed(step)
        crops.chance = np.random.default_rng(step)
    mels = nn.ModuleList(LogMel(TinyCodecConfig(window=w, hop=w // 4, n_mels=n)) for w, n in ((2048, 128), (960, 100), (512, 64))).to(device)
    begun, last, log, named_log = time.time() - done, time.time(), [], []

    def save():
        state = dict(net=net.state_dict(), to_mel=to_mel.state_dict(), to_phoneme=to_phoneme.state_dict(), optimiser=optimiser.state_dict(),
                     judges=judges.state_dict(), judging=judging.state_dict(), phonemes=crops.numbers, count=trainer.count, total=trainer.total,
                     config=vars(config), stage=args.stage, seconds=time.time() - begun, step=step)
        torch.save(state, args.checkpoint + ".part"); os.replace(args.checkpoint + ".part", args.checkpoint)

    while (progress := step / args.steps if args.steps else (time.time() - begun) / (args.minutes * 60)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = args.rate * min(1, (step + 1) / 200) * max(0.02, 0.5 * (1 + math.cos(math.pi * progress)))
        true, phonemes = crops.batch(size)
        if args.stage == "codes":
            target = net.mel(true).transpose(1, 2)
            with torch.autocast(device, torch.bfloat16): hidden = net.encoder(target)
            quantized, first, _, commit = trainer(hidden)
            with torch.autocast(device, torch.bfloat16): drawn = to_mel(net.trunk(quantized))
            drawn = drawn.float()
            shown = (drawn - target).abs().mean()
            phoneme_loss = F.cross_entropy(to_phoneme(first).flatten(0, 1), phonemes.flatten())
            loss = shown + 0.5 * F.mse_loss(drawn, target) + 0.05 * commit + 0.25 * phoneme_loss
            named_log.append(phoneme_loss.detach())
        else:
            with torch.no_grad(): codes = net.encode(true)
            with torch.autocast(device, torch.bfloat16): hidden = net.trunk(net.quantizer.decode(codes))
            with torch.autocast(device, torch.bfloat16): made = net.vocoder(hidden).float()
            loss, shown = sound_loss(made, true, mels)
            if progress > args.judges:
                if args.judged:
                    heard = torch.randperm(len(true), device=device)[:args.judged]
                    made, true = made[heard], true[heard]
                with torch.autocast(device, torch.bfloat16): verdict = judges_loss(judges, made.detach(), true)
                judging.zero_grad()
                verdict.backward()
                judging.step()
                judges.requires_grad_(False)
                with torch.autocast(device, torch.bfloat16): loss = loss + 0.1 * judged(judges, made, true)
                judges.requires_grad_(True)
        optimiser.zero_grad()
        loss.backward()
        if torch.isfinite(nn.utils.clip_grad_norm_(learn, 1.0 if args.stage == "codes" else 5.0)): optimiser.step()
        step += 1
        log.append(shown.detach())
        if step % 100 == 0:
            line = f"{step} {time.time() - begun:.0f} s, mel distance {torch.stack(log).mean():.4f}"
            if args.stage == "codes": line += f", phoneme loss {torch.stack(named_log).mean():.2f}, codes used {(trainer.count > 0.1).sum(1).tolist()}"
            elif progress > args.judges: line += f", judges {verdict:.2f}"
            print(line, flush=True)
            log, named_log = [], []
        if time.time() - last > 60: save(); last = time.time()
    save()


if __name__ == "__main__": main()
