"""Steps a second of voicelab's engine and of transformers' `generate`, over the same network, in the same run.

    python nbs/recipes/benchmark_engine.py                                        # a scaled shape, on the CPU
    python nbs/recipes/benchmark_engine.py --shape tiny --batch 1 8 --bandwidth 15

On a GPU use benchmark_gpu.py, which also measures the graphs.

Weights are random, so the speech is noise, but the times are real. They are rounded to half precision, which
checkpoints of small networks have. No row ends early: each gets `--columns` columns after a
prompt of `--positions` positions, most of them a reference. Prompts are read before the clock starts. A step reads
the weights of the audio path once and the keys and values of every row; with the `--bandwidth` of the device, this gives the
largest possible number of steps a second, and the share of it that was reached. Speech is 25 steps a second.
"""
from itertools import islice

import pandas as pd
import torch
from benchmark import DTYPES, clock, make_parser, millions, random_weights, show_head, show_table
from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

from voicelab.chat import Prompt
from voicelab.codec import STREAM_BOS, STREAM_EOS
from voicelab.control import Sampling
from voicelab.families.higgs.engine import decode
from voicelab.families.higgs.prompt import clone_messages, render
from voicelab.families.higgs.step import ColumnStep
from voicelab.families.higgs.tiny import build_config, build_tokenizer
from voicelab.models.step import Halves

STEPS_A_SECOND = 25
# hidden, layers, heads, heads of keys and values, width of a head, feed-forward; None: as in the tiny model
SHAPES = {"tiny": None, "scaled": (768, 7, 6, 2, 128, 2048), "3b": (3072, 28, 24, 8, 128, 8192)}
VOCABULARY = 128_256            # of the released tokenizer


def build(shape: str, device: str, dtype: torch.dtype) -> HiggsAudioV2ForConditionalGeneration:
    "A network with random weights that never draws BOS or EOS."
    tokenizer = build_tokenizer()
    config = build_config(tokenizer)
    if SHAPES[shape]:
        hidden, layers, heads, kv_heads, head_dim, feed_forward = SHAPES[shape]
        config = HiggsAudioV2Config(**{**config.to_dict(), **dict(
            hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
            head_dim=head_dim, intermediate_size=feed_forward, max_position_embeddings=8192,
            vocab_size=VOCABULARY if shape == "3b" else len(tokenizer))})
    with random_weights(device, dtype): network = HiggsAudioV2ForConditionalGeneration(config).eval()
    rows = network.audio_lm_head.weight.data.view(config.num_codebooks, -1, config.hidden_size)
    rows[:, (STREAM_BOS, STREAM_EOS)] = 0           # a logit of 0 is never the greatest of 1026
    for weight in network.parameters(): weight.data.copy_(weight.data.half())
    return network


def make_prompts(batch: int, positions: int) -> list[Prompt]:
    "Prompts of exactly `positions` positions, each with a reference of its own."
    tokenizer = build_tokenizer()
    def prompt(frames, seed):
        codes = torch.randint(0, 1024, (8, frames), generator=torch.Generator().manual_seed(seed))
        return render(clone_messages("A text to say.", codes, "What is said in it."), tokenizer)
    least = len(prompt(1, 0).ids)
    if positions < least: raise SystemExit(f"--positions: must be at least {least}, got {positions}")
    return [prompt(1 + positions - least, seed) for seed in range(batch)]


def time_voicelab(network, prompts: list[Prompt], columns: int, device: str, loop=decode, sampling: Sampling = Sampling.preset("greedy"),
                 ) -> tuple[float, torch.Tensor]:
    "Steps a second, not counting the first, and the columns [batch, n_codebooks, columns]."
    steps = loop(network, prompts, [columns] * len(prompts), sampling, [torch.Generator()] * len(prompts))
    next(steps)
    begun = clock(device)
    *_, last = islice(steps, columns - 1)
    return (columns - 1) / (clock(device) - begun), torch.stack([torch.stack(row.columns, 1) for row in last.rows])


def time_generate(network, prompts: list[Prompt], columns: int, device: str, cache: str) -> tuple[float, torch.Tensor]:
    "As `time_voicelab`; the time of one column is subtracted from the time of all."
    ids, audio = (torch.stack(parts).to(device) for parts in zip(*((p.network_ids, p.audio_columns.T) for p in prompts)))
    def run(new):
        begun = clock(device)
        made = network.generate(input_ids=ids, attention_mask=torch.ones_like(ids), audio_input_ids=audio, do_sample=False,
                                audio_input_ids_mask=torch.ones(audio.shape[:2], dtype=torch.bool, device=device),
                                max_new_tokens=new, cache_implementation=None if cache == "dynamic" else cache)
        return clock(device) - begun, made[:, audio.shape[1]:].transpose(1, 2).cpu()
    first, _ = run(1)
    seconds, made = run(columns)
    return (columns - 1) / (seconds - first), made


def step_bytes(network, batch: int, positions: float, halved: bool = False) -> int: # halved: with weights of 2 bytes
    "What one step has to read: the audio path of every layer, the audio head, keys and values."
    parts = [network.audio_lm_head, *(part for layer in network.model.layers for part in (
        layer.self_attn, layer.audio_mlp, layer.audio_input_layernorm, layer.audio_post_attention_layernorm))]
    config = network.config
    kept = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * positions * batch
    weights = sum(tensor.numel() for part in parts for tensor in part.parameters())
    size = network.dtype.itemsize
    return int(weights * (2 if halved else size) + kept * size)


def measure(network, batch: int, args) -> dict:
    "One row of the table."
    prompts = make_prompts(batch, args.positions)
    time_voicelab(network, prompts, 3, args.device)             # warm up
    time_generate(network, prompts, 3, args.device, args.cache)
    ours, columns = time_voicelab(network, prompts, args.columns, args.device)
    theirs, wanted = time_generate(network, prompts, args.columns, args.device, args.cache)
    row = {"batch": batch, "voicelab steps/s": ours, "generate steps/s": theirs, "ratio": ours / theirs,
           "voicelab tokens/s": batch * ours, "generate tokens/s": batch * theirs, "voicelab x real time": ours / STEPS_A_SECOND,
           "same columns": f"{int((columns == wanted).all(1).sum())}/{batch * args.columns}"}
    if args.bandwidth:
        halved, positions = isinstance(ColumnStep(network).head_matrix, Halves), args.positions + args.columns / 2
        most, plain = (args.bandwidth * 1e9 / step_bytes(network, batch, positions, each) for each in (halved, False))
        row |= {"limit steps/s": most, "voicelab share": ours / most, "generate share": theirs / plain}
    return row


def main(argv: list[str] | None = None) -> pd.DataFrame:
    parser = make_parser(__doc__, SHAPES)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="batch sizes (default: 1 4)")
    parser.add_argument("--positions", type=int, default=1000, help="of each prompt (default: 1000)")
    parser.add_argument("--columns", type=int, default=33, help="to make (default: 33)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--cache", choices=("dynamic", "static"), default="dynamic", help="of generate (default: dynamic)")
    parser.add_argument("--bandwidth", type=float, help="of the device's memory, GB/s, for the share of its limit")
    args = parser.parse_args(argv)
    if args.columns < 9: parser.error(f"--columns: must be at least 9, got {args.columns}")
    network = build(args.shape, args.device, getattr(torch, args.dtype))
    show_head(args, f"{millions(network):.0f} M parameters, {args.dtype}, {args.positions} cached positions")
    return show_table(args, pd.DataFrame([measure(network, batch, args) for batch in args.batch]))


if __name__ == "__main__": main()
