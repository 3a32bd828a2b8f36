"""Tokens a second of VITA-Audio's four modes, against one token at a time, in the same run over the same network.

    python nbs/recipes/benchmark_vita.py                                                   # a scaled shape, on the CPU
    python nbs/recipes/benchmark_vita.py --shape 7b --device cuda --dtype bfloat16

Weights are random, so the speech is noise, but the times are real. No answer ends early: each gets `--tokens` tokens after a
prompt of a reference of `--seconds`. The prompt is read before the clock starts, by the main model and by the heads.
A head is one layer of the main model's kind; in the scaled shape the share of a head is that of the released one, 1 to 28.
"""
import pandas as pd
import torch
from benchmark import DTYPES, clock, make_parser, millions, random_weights, show_head, show_table

from voicelab.families.vita.checkpoint import build_vita_tokenizer
from voicelab.families.vita.decode import MODES, Cascade, plan_turns
from voicelab.families.vita.network import VitaNetwork, vita_config
from voicelab.families.vita.prompt import DISCRETE, Heard, render_vita, vita_messages

HEADS = 10
# hidden, main layers, heads of attention, of keys and values, feed-forward, vocabulary (None: the tokenizer's)
SHAPES = {"tiny": (64, 4, 4, 2, 128, None), "scaled": (256, 28, 4, 2, 1024, None), "7b": (3584, 28, 28, 4, 18_944, 168_072)}


def build(shape: str, tokenizer, device: str, dtype: torch.dtype) -> VitaNetwork:
    "A network with random weights."
    hidden, layers, heads, kv_heads, feed_forward, vocabulary = SHAPES[shape]
    config = vita_config(dict(
        model_type="qwen2_mtp", vocab_size=vocabulary or len(tokenizer), hidden_size=hidden, intermediate_size=feed_forward,
        num_hidden_layers=layers + HEADS, num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=8192,
        rms_norm_eps=1e-6, rope_theta=1e6, num_nextn_predict_layers=HEADS))
    with random_weights(device, dtype): return VitaNetwork(config).eval()


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
    while first < 40 and not (cascade.read[-1] and (not cascade.prediction_heads or min(cascade.read))): first += len(say(1))
    begun = clock(device)
    spoke = say(tokens)
    seconds = clock(device) - begun
    return {"mode": mode, "tokens/s": tokens / seconds, "main model's share": spoke.count("main") / tokens}


def main(argv: list[str] | None = None) -> pd.DataFrame:
    parser = make_parser(__doc__, SHAPES)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the reference (default: 10)")
    parser.add_argument("--tokens", type=int, default=140, help="to make (default: 140, ten rounds of the boost mode)")
    parser.add_argument("--repeats", type=int, default=3, help="of each mode; the median counts (default: 3)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    args = parser.parse_args(argv)
    if args.tokens < 14: parser.error(f"--tokens: must be at least 14, got {args.tokens}")
    if not 0.1 <= args.seconds <= 300: parser.error(f"--seconds: must be 0.1 to 300, got {args.seconds}")
    tokenizer = build_vita_tokenizer(DISCRETE)
    network = build(args.shape, tokenizer, args.device, getattr(torch, args.dtype))
    codes = torch.randint(0, 16_384, (1, round(args.seconds * 12.5)), generator=torch.Generator().manual_seed(0))
    prompt = render_vita(vita_messages("clone", text="The garden is open today.", reference=Heard(codes=codes)), tokenizer, DISCRETE)
    show_head(args, f"{millions(network):.0f} M parameters, {args.dtype}, {len(prompt.ids)} positions of prompt")
    rows = [time_mode(network, prompt, mode, args.tokens, args.device) for _ in range(args.repeats) for mode in MODES]
    table = pd.DataFrame(rows).groupby("mode", sort=False).median().reset_index()
    table["times vanilla"] = table["tokens/s"] / table["tokens/s"][0]
    return show_table(args, table)


if __name__ == "__main__": main()
