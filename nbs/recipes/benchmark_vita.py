"""Tokens a second of VITA-Audio's four modes, against one token at a time, in the same run over the same network.

    python nbs/recipes/benchmark_vita.py                                                   # a scaled shape, on the CPU
    python nbs/recipes/benchmark_vita.py --shape 7b --device cuda --dtype bfloat16

Weights are random: what is said is noise, how long it takes is not. Nobody ends: every answer gets `--tokens` tokens after a
prompt of a reference of `--seconds`. The prompt is read before the clock starts, by the main model and by the heads.
A head is one layer of the main model's kind; in the scaled shape the share of a head is that of the released one, 1 to 28.
"""
import argparse
import json
import time

import pandas as pd
import torch

from voicelab.models.vita import VitaNetwork, vita_config
from voicelab.models.vita_checkpoint import build_vita_tokenizer
from voicelab.vita_engine import MODES, Cascade, plan_turns
from voicelab.vita_prompt import DISCRETE, Heard, render_vita, vita_messages

HEADS = 10
# hidden, main layers, heads of attention, of keys and values, feed-forward, vocabulary (None: the tokenizer's)
SHAPES = {"tiny": (64, 4, 4, 2, 128, None), "scaled": (256, 28, 4, 2, 1024, None), "7b": (3584, 28, 28, 4, 18_944, 168_072)}


def build(shape: str, tokenizer, device: str, dtype: torch.dtype) -> VitaNetwork:
    "A network of random weights."
    hidden, layers, heads, kv_heads, feed_forward, vocabulary = SHAPES[shape]
    config = vita_config(dict(
        model_type="qwen2_mtp", vocab_size=vocabulary or len(tokenizer), hidden_size=hidden, intermediate_size=feed_forward,
        num_hidden_layers=layers + HEADS, num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=8192,
        rms_norm_eps=1e-6, rope_theta=1e6, num_nextn_predict_layers=HEADS))
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device): return VitaNetwork(config).eval()
    finally: torch.set_default_dtype(before)


def clock(device: str) -> float:
    "Seconds, once the device has done what it was asked."
    if device.startswith("cuda"): torch.cuda.synchronize()
    return time.perf_counter()


def time_mode(network: VitaNetwork, prompt, mode: str, tokens: int, device: str) -> dict:
    "Tokens a second after the first round of main model and heads, which reads the prompt."
    cascade, turns = Cascade(network, prompt, HEADS if any(MODES[mode][1::2]) else 0), plan_turns(mode)
    def say(count):
        spoke = []
        for main, _ in zip(turns, range(count)):
            logits, speaker = cascade.logits(main)
            cascade.append(logits.argmax()[None, None])
            spoke.append(speaker)
        return spoke
    first = 0
    while first < 40 and not (cascade.read[-1] and (not cascade.heads or min(cascade.read))): first += len(say(1))
    begun = clock(device)
    spoke = say(tokens)
    seconds = clock(device) - begun
    return {"mode": mode, "tokens/s": tokens / seconds, "main model's share": spoke.count("main") / tokens}


def main(argv: list[str] | None = None) -> pd.DataFrame:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="scaled", help="of the network (default: scaled)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the reference (default: 10)")
    parser.add_argument("--tokens", type=int, default=140, help="to make (default: 140, ten rounds of the boost mode)")
    parser.add_argument("--repeats", type=int, default=3, help="of each mode; the median counts (default: 3)")
    parser.add_argument("--device", default="cpu", help="of torch (default: cpu)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--json", metavar="FILE", help="write the table there as well")
    args = parser.parse_args(argv)
    if args.tokens < 14: parser.error(f"--tokens: must be at least 14, got {args.tokens}")
    if not 0.1 <= args.seconds <= 300: parser.error(f"--seconds: must be 0.1 to 300, got {args.seconds}")
    tokenizer = build_vita_tokenizer(DISCRETE)
    network = build(args.shape, tokenizer, args.device, getattr(torch, args.dtype))
    codes = torch.randint(0, 16_384, (1, round(args.seconds * 12.5)), generator=torch.Generator().manual_seed(0))
    prompt = render_vita(vita_messages("clone", text="The garden is open today.", reference=Heard(codes=codes)), tokenizer, DISCRETE)
    rows = [time_mode(network, prompt, mode, args.tokens, args.device) for _ in range(args.repeats) for mode in MODES]
    table = pd.DataFrame(rows).groupby("mode", sort=False).median().reset_index()
    table["times vanilla"] = table["tokens/s"] / table["tokens/s"][0]
    where = torch.cuda.get_device_name() if args.device.startswith("cuda") else f"{args.device}, {torch.get_num_threads()} threads"
    count = sum(tensor.numel() for tensor in network.parameters())
    print(f"{args.shape}: {count / 1e6:.0f} M parameters, {args.dtype}, {where}, {len(prompt.ids)} positions of prompt, torch {torch.__version__}")
    print(table.to_string(index=False, float_format="{:.2f}".format))
    if args.json:
        with open(args.json, "w") as file: json.dump(dict(where=where, **vars(args), rows=table.to_dict("records")), file, indent=1)
    return table


if __name__ == "__main__": main()
