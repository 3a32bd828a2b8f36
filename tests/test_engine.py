"""The decode loop: transformers' `generate` and the original's numbers as oracles, stop reasons, streams, traces."""
import json
import math
import os
import threading
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ToneCodec, endless, joined, random_codes, saying, untouched
from safetensors.torch import load_file
from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

from voicelab import engine
from voicelab.audio import Audio
from voicelab.budget import Budget, columns_for_frames
from voicelab.chatml import PROMPT_FORMS, Prompt, clone_messages, render
from voicelab.codec import STREAM_BOS, STREAM_EOS, delay
from voicelab.control import STOP_REASONS, Control, Sampling
from voicelab.engine import CachedNetwork, Chunk, EngineError, ModelInfo, Row, Session, decode, decode_codes
from voicelab.models.tinycodec import TinyCodec, TinyCodecConfig, TinyCodecNet

PARITY = Path(os.environ.get("VOICELAB_PARITY") or Path(__file__).parents[1] / "../shared/parity")
needs_parity = pytest.mark.skipif(
    not (PARITY / "higgs.safetensors").is_file(),
    reason=f"no parity vectors: {PARITY}/higgs.safetensors is absent (set VOICELAB_PARITY)")
GREEDY, FORMS = Sampling.preset("greedy"), (*PROMPT_FORMS, None)
EDGE = 1e4                                      # a logit that decides


def prompt_of(tokenizer, form="assistant_ref", frames=20, text="Hello there.", seed=0):
    if form is None: return render(clone_messages(text), tokenizer)
    return render(clone_messages(text, random_codes(frames, seed=seed), "Reference words.", form=form), tokenizer)


def columns_of(network, prompts, most):
    "Columns [n_codebooks, n] and rows of greedy decoding without a budget, at most `most` of them."
    *_, last = islice(decode(network, prompts, [most] * len(prompts), GREEDY, torch.Generator()), most)
    return [torch.stack(row.columns, 1) for row in last.rows], last.rows


def generated(network, prompts, most):
    "What transformers' generate makes of them greedily: [batch, n_codebooks, columns]."
    longest = max(len(prompt.ids) for prompt in prompts)
    audio = max(prompt.audio_columns.shape[1] for prompt in prompts)
    ids = torch.full((len(prompts), longest), network.config.pad_token_id)
    mask, audio_ids = torch.zeros_like(ids), torch.full((len(prompts), audio, network.config.num_codebooks), STREAM_EOS)
    audio_mask = torch.zeros(len(prompts), audio, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        start, n = longest - len(prompt.ids), prompt.audio_columns.shape[1]
        ids[row, start:], mask[row, start:] = prompt.network_ids, 1
        audio_ids[row, :n], audio_mask[row, :n] = prompt.audio_columns.T, True
    sound = dict(audio_input_ids=audio_ids, audio_input_ids_mask=audio_mask) if audio else {}
    made = network.generate(input_ids=ids, attention_mask=mask, **sound, max_new_tokens=most, do_sample=False)
    return made[:, audio:].transpose(1, 2)


def before_end(columns):
    "Columns up to the one before the first stream EOS."
    ended = (columns == STREAM_EOS).any(0).nonzero()
    return columns[:, :int(ended[0]) if len(ended) else columns.shape[1]]


def assert_equal_to_generate(network, prompts, most=40):
    mine, rows = columns_of(network, prompts, most)
    for row, (made, wanted) in enumerate(zip(mine, generated(network, prompts, most), strict=True)):
        wanted = before_end(wanted)
        assert torch.equal(made[:, :wanted.shape[1]], wanted), row
        assert torch.equal(before_end(made), wanted)
    return mine, rows


# transformers' generate

@pytest.mark.parametrize("form", FORMS)
def test_greedy_equals_generate(tiny_network, tiny_tokenizer, form):
    assert_equal_to_generate(tiny_network, [prompt_of(tiny_tokenizer, form)])


@pytest.mark.parametrize("forms", [["assistant_ref"] * 4, PROMPT_FORMS[1:], ["user_ref", None, "assistant_ref", None],
                                   [None] * 4])
def test_a_batch_equals_generate_and_its_rows_alone(tiny_network, tiny_tokenizer, forms):
    texts = ("Hi.", "A text that is longer than the others, by far.", "One, two.", "And now?")
    prompts = [prompt_of(tiny_tokenizer, *each) for each in zip(forms, (20, 5, 31, 1), texts, range(4))]
    assert len({len(prompt.ids) for prompt in prompts}) == 4
    mine, _ = assert_equal_to_generate(tiny_network, prompts)
    for prompt, made in zip(prompts, mine): assert torch.equal(columns_of(tiny_network, [prompt], 40)[0][0], made)
    assert len({tuple(made.flatten().tolist()) for made in mine}) == 4          # the prompts are heard


@pytest.mark.parametrize("book", (0, 3, 7))
@pytest.mark.parametrize("column", (8, 21))
def test_an_end_of_stream_equals_generate_up_to_it(tiny_network, tiny_tokenizer, book, column):
    def wish(at, logits): logits[:, book, STREAM_EOS] += EDGE * (at == column)
    prompt = prompt_of(tiny_tokenizer)
    with saying(tiny_network, wish): wanted = before_end(generated(tiny_network, [prompt], 40)[0])
    with saying(tiny_network, wish): mine, (row,) = columns_of(tiny_network, [prompt], 40)
    assert wanted.shape[1] == column and torch.equal(before_end(mine[0]), wanted)
    assert row.stop_reason == "eos" and row.eos_codebook == book


def test_rows_of_a_batch_end_on_their_own(tiny_network, tiny_tokenizer):
    prompts, ends = [prompt_of(tiny_tokenizer, seed=seed, frames=9 + seed) for seed in range(4)], (9, 15, 35, 22)
    def wish(at, logits):
        for row, end in enumerate(ends[:len(logits)]): logits[row, 0, STREAM_EOS] += EDGE * (at == end)
    with saying(tiny_network, wish): wanted = generated(tiny_network, prompts, 40)
    with saying(tiny_network, wish): mine, rows = columns_of(tiny_network, prompts, 60)
    for made, want, row, end in zip(mine, wanted, rows, ends):
        assert torch.equal(before_end(made), before_end(want)) and before_end(made).shape[1] == end
        assert row.stop_reason == "eos" and made.shape[1] == end + 8 and row.codes.shape[1] == end - 1


@pytest.mark.parametrize("seed", range(3))
def test_networks_that_end_by_themselves_equal_generate(tiny_network, tiny_tokenizer, seed):
    end = torch.arange(8) * 1026 + STREAM_EOS
    weight, drawn = tiny_network.audio_lm_head.weight.data, torch.Generator().manual_seed(seed)
    kept = weight[end].clone()
    weight[end] = kept * (1 + torch.rand(8, 1, generator=drawn))
    prompts = [prompt_of(tiny_tokenizer, seed=seed + n) for n in range(4)]
    try: _, rows = assert_equal_to_generate(tiny_network, prompts, 60)
    finally: weight[end] = kept
    assert any(row.stop_reason == "eos" for row in rows)


# The original implementation's numbers

@pytest.fixture(scope="module")
def original():
    "Network, tensors and forms of the parity vectors."
    tensors, about = load_file(PARITY / "higgs.safetensors"), json.loads((PARITY / "higgs.json").read_text())
    names = about["config"]
    ids = json.loads((PARITY / "higgs_tokenizer.json").read_text())["added_tokens"]
    ids = {token["content"]: token["id"] for token in ids}
    rename = {"audio_codebook_embeddings.": "model.embed_audio_tokens.embed_audio_tokens.", "audio_decoder_proj.": "",
              "embed_tokens.": "model.embed_tokens.", "layers.": "model.layers.", "norm.": "model.norm."}
    state = {}
    for name, tensor in tensors.items():
        if not name.startswith("state_dict."): continue
        old = name.removeprefix("state_dict.")
        if "rotary" in old or old.startswith("audio_codebook_weights"): continue        # not learnt
        prefix = next(prefix for prefix in rename if old.startswith(prefix))
        state[rename[prefix] + old.removeprefix(prefix)] = tensor
    same = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
            "head_dim", "num_codebooks", "audio_stream_bos_id", "audio_stream_eos_id")
    config = HiggsAudioV2Config(
        vocab_size=len(state["model.embed_tokens.weight"]), codebook_size=names["codec_codebook_size"] + 2,
        audio_token_id=ids["<|AUDIO_OUT|>"], audio_bos_token_id=ids["<|audio_out_bos|>"],
        audio_delay_token_id=ids["<|reserved_special_token_6|>"], bos_token_id=ids["<|begin_of_text|>"],
        eos_token_id=ids["<|eot_id|>"], pad_token_id=ids["<|end_of_text|>"], **{name: names[name] for name in same})
    config.rope_parameters["rope_theta"] = names["rope_theta"]
    network = HiggsAudioV2ForConditionalGeneration(config, use_text_head=True).eval()
    network.load_state_dict(state)
    return SimpleNamespace(network=network, tensors=tensors, forms=about["forms"], ids=ids)


def original_prompt(original, form) -> Prompt:
    "The prompt as its expanded ids have it; slots beyond the references hold the empty audio."
    ids, mask = (original.tensors[f"{form}.{name}"][0] for name in ("expanded_input_ids", "audio_mask"))
    codes = [original.tensors[f"reference_codes.{name}"] for name in original.forms[form]["references"]]
    begins = (mask & ~mask.roll(1)).nonzero()[:, 0].tolist()
    codes += [codes[0][:, :0]] * (len(begins) - len(codes))
    columns = [delay(each) for each in codes]
    for begin, each in zip(begins, columns, strict=True): assert mask[begin:begin + each.shape[1]].all()
    assert sum(each.shape[1] for each in columns) == mask.sum()
    return Prompt(original.forms[form]["prompt_text"], ids, torch.cat(columns, 1), mask, pd.DataFrame(), form, codes,
                  original.ids["<|AUDIO_OUT|>"])


def original_forms():
    file = PARITY / "higgs.json"
    return list(json.loads(file.read_text())["forms"]) if file.is_file() else ["assistant_ref"]


@needs_parity
@pytest.mark.parametrize("form", original_forms())
def test_logits_equal_the_originals(original, form):
    prompt = original_prompt(original, form)
    cached = CachedNetwork(original.network, [prompt], 1)
    with torch.inference_mode():
        hidden = original.network.model(input_ids=cached.ids, audio_input_ids=cached.audio,
                                        audio_input_ids_mask=cached.audio_mask).last_hidden_state
        text, audio = original.network.text_lm_head(hidden), original.network.audio_lm_head(hidden)[0]
    assert torch.allclose(text, original.tensors[f"{form}.text_logits"], atol=1e-4, rtol=0)
    audio = audio.view(len(prompt.ids), original.network.config.num_codebooks, -1)
    if f"{form}.audio_logits" in original.tensors:                      # at the assistant's columns
        wanted = original.tensors[f"{form}.audio_logits"]
        assert torch.allclose(audio[prompt.ids == original.ids["<|AUDIO_OUT|>"]], wanted, atol=1e-4, rtol=0)
    assert torch.allclose(cached.prefill()[0], audio[-1], atol=1e-4, rtol=0)


@needs_parity
@pytest.mark.parametrize("form", original_forms())
def test_greedy_codes_equal_the_originals(original, form):
    wanted = original.tensors[f"{form}.greedy_codes"]
    mine, _ = columns_of(original.network, [original_prompt(original, form)], wanted.shape[1])
    assert torch.equal(mine[0][:, :wanted.shape[1]], wanted)


@needs_parity
def test_a_batch_of_all_forms_equals_the_originals(original):
    wanted = [original.tensors[f"{form}.greedy_codes"] for form in original.forms]
    mine, _ = columns_of(original.network, [original_prompt(original, form) for form in original.forms],
                         max(each.shape[1] for each in wanted))
    for made, want in zip(mine, wanted, strict=True): assert torch.equal(made[:, :want.shape[1]], want)


# A row and its ramp

def row_of(drawn, most=100, books=8):
    "A row fed with `drawn(column)` until it is done."
    row = Row(books, most)
    while not row.done: row.append(drawn(len(row.columns)))
    return row, torch.stack(row.columns, 1)


@pytest.mark.parametrize("column", (8, 9, 20))
@pytest.mark.parametrize("book", range(8))
def test_any_codebook_can_end_the_stream(column, book):
    def drawn(at):
        ids = torch.arange(8) * 100 + at
        if at == column: ids[book] = STREAM_EOS
        return ids
    row, columns = row_of(drawn)
    frames = column - book - 1
    assert (row.stop_reason, row.eos_codebook, row.codes.shape) == ("eos", book, (8, frames))
    assert columns.shape[1] == columns_for_frames(frames)
    whole = torch.stack([torch.arange(8) * 100 + f + 1 + torch.arange(8) for f in range(frames + 1)], 1)[:, :frames]
    assert torch.equal(row.codes, whole)
    for k in range(8):                                       # a codebook before `book` had said more by then
        assert (columns[k, :k + 1] == STREAM_BOS).all()
        assert (columns[k, max(column, frames + 1 + k):] == STREAM_EOS).all()


def test_several_codebooks_ending_at_once_are_one_end_and_no_end_is_heard():
    row, columns = row_of(lambda at: torch.where((torch.arange(8) >= 2) & (at == 12), STREAM_EOS, 5))
    assert (row.eos_codebook, columns.shape[1]) == (2, 18)
    assert row.codes.shape[1] == 4                           # frames 4 to 8 hold the ends of codebooks 7 to 3


@pytest.mark.parametrize("most", (1, 2, 7, 8, 30))
def test_a_budget_of_frames_is_kept_exactly(most):
    row, columns = row_of(lambda at: torch.full((8,), 5), most)
    assert (row.stop_reason, row.codes.shape[1], columns.shape[1], row.eos_codebook) == ("budget", most, most + 9, None)
    assert torch.equal(columns, delay(torch.full((8, most), 5)))


def test_a_row_that_is_ending_keeps_its_reason():
    row = Row(8, 100)
    for _ in range(12): row.append(torch.full((8,), 5))
    row.request_end("silence")
    row.request_end("repetition")
    while not row.done: row.append(torch.full((8,), 5))
    assert (row.stop_reason, row.codes.shape[1]) == ("silence", 11)
    row.cut_off("timeout")
    assert row.stop_reason == "silence"


def test_an_end_requested_first_of_all_gives_no_frame():
    row = Row(8, 100)
    row.request_end("silence")
    while not row.done: row.append(torch.full((8,), 5))
    assert row.codes.shape == (8, 0) and len(row.columns) == 9


def test_a_ramp_lets_no_codebook_end_early(tiny_network, tiny_tokenizer):
    "While a row ends, the network may say EOS in any codebook; a budget still gives its frames."
    def wish(at, logits):
        logits[..., (STREAM_BOS, STREAM_EOS)] = -math.inf
        if at > 12: logits[:, 1:, STREAM_EOS] = EDGE
    with saying(tiny_network, wish):
        *_, last = decode(tiny_network, [prompt_of(tiny_tokenizer)], [11], GREEDY, torch.Generator())
    assert last.rows[0].codes.shape[1] == 11 and len(last.rows[0].columns) == 20


def test_the_window_of_repeats_reaches_back_into_the_reference(tiny_network, tiny_tokenizer, monkeypatch):
    prompts, seen = [prompt_of(tiny_tokenizer, frames=6), prompt_of(tiny_tokenizer, None)], []
    original = engine.sample_ids
    monkeypatch.setattr(engine, "sample_ids", lambda *args: (seen.append(args[3]), original(*args))[1])
    steps = decode(tiny_network, prompts, [40, 40], Sampling(ras_window=20, seed=0), torch.Generator().manual_seed(0))
    *_, last = islice(steps, 10)
    before = [prompts[0].audio_columns, torch.zeros(8, 0, dtype=torch.long)]
    for step, history in enumerate(seen):
        for row in range(2):
            own = [column[:, None] for column in last.rows[row].columns[:step]]
            past = torch.cat([torch.full((8, 20), STREAM_BOS), before[row], *own], 1)
            assert torch.equal(history[row], past[:, -20:])


def test_a_prompt_longer_than_the_context_is_refused_before_any_work(tiny_network, tiny_tokenizer):
    with pytest.raises(EngineError, match=r"^prompt: \d+ positions and 5009 columns exceed the context of 4096$"):
        make(tiny_network, tiny_tokenizer, texts=("Fine.", "Too long."), frames=(20, 5000))


# Sessions

INFO = ModelInfo("random", "higgs-audio-v2", "0", "0" * 64, "tones", "none")


def make(network, tokenizer, codec=None, *, texts=("Hello there.",), frames=40, sampling=Sampling(seed=0),
         control=Control()):
    frames = frames if isinstance(frames, tuple) else (frames,) * len(texts)
    budgets = [Budget("fixed", 1.0, most, columns_for_frames(most), None, "", "") for most in frames]
    chunks = [Chunk(text, prompt_of(tokenizer, text=text), budget) for text, budget in zip(texts, budgets)]
    return Session(network, codec or ToneCodec(), chunks, text=" ".join(texts), reference=None, sampling=sampling,
                   control=control, model=INFO)


@pytest.fixture
def speak(tiny_network, tiny_tokenizer):
    "Run a session over a network that follows a wish; the session comes back with the pieces it gave."
    def run(wish=endless, **options):
        session = make(tiny_network, tiny_tokenizer, **options)
        with saying(tiny_network, wish): pieces = list(session)
        check(session)
        return session.generation, pieces
    return run


def check(session, whole_stream=True):
    "What holds for every generation, however it ended."
    made, codec = session.generation, session.codec
    assert made.stop_reason in STOP_REASONS
    assert made.codes.dtype == torch.long and made.codes.shape[0] == 8
    assert not made.codes.numel() or 0 <= made.codes.min() and made.codes.max() < 1024
    offline = decode_codes(codec, made.codes)
    hop = round(codec.sample_rate / codec.frame_rate)
    assert len(made.audio.samples) == hop * made.codes.shape[1]
    assert np.abs(made.audio.samples - offline.samples).max(initial=0) < 1e-4
    check_trace(made, hop)
    assert set(made.timings) >= {"prefill", "decode", "codec", "total", "rtf", "first_audio"}
    assert repr(made) and made._repr_html_()
    spoken = [chunk.codes for chunk in made.chunks if chunk.codes is not None]
    assert torch.equal(torch.cat(spoken, 1) if spoken else made.codes, made.codes)


def check_trace(made, hop):
    trace = made.trace
    promised = {"chunk", "column", "frame", "eos_probability", "rms_dbfs", "silent_frames", "repeated_frames", "ramp",
                "eos_codebook"}
    assert set(trace.columns) >= promised | {f"entropy_{k}" for k in range(8)}
    for number, chunk in trace.groupby("chunk"): assert chunk.column.tolist() == list(range(len(chunk)))
    assert trace.eos_probability.between(0, 1).all()
    assert (trace[[f"entropy_{k}" for k in range(8)]].astype(float) >= 0).all(axis=None)
    framed = trace[trace.frame >= 0]
    assert framed.frame.is_monotonic_increasing and framed.frame.is_unique
    assert framed.frame.between(0, made.codes.shape[1] - 1).all()
    levels = np.square(made.audio.samples.astype(float)).reshape(-1, hop).mean(1)
    for row in framed.itertuples(): assert 10 ** (row.rms_dbfs / 10) == pytest.approx(levels[row.frame], abs=1e-9)
    assert trace.rms_dbfs.notna().equals(trace.frame >= 0) and trace.silent_frames.dtype == trace.frame.dtype == int


def columns_by_chunk(made): return made.trace.groupby("chunk").size().tolist()


# Why it stopped

@pytest.mark.parametrize("book", range(8))
def test_eos_by_any_codebook(speak, book):
    def wish(at, logits):
        endless(at, logits)
        if at == 25: logits[:, book, STREAM_EOS] = EDGE
    made, _ = speak(wish)
    assert made.stop_reason == "eos" and made.codes.shape[1] == 24 - book
    assert columns_by_chunk(made) == [columns_for_frames(24 - book)]
    assert made.trace.ramp.sum() == 8 - book and made.trace.eos_codebook.dropna().unique().tolist() == [book]
    assert made.trace.eos_probability[25] == pytest.approx(1) and made.trace.frame.max() == 23 - book


@pytest.mark.parametrize("frames", (1, 8, 40))
def test_the_budget_is_used_to_the_frame(speak, frames):
    made, _ = speak(frames=frames)
    assert made.stop_reason == "budget" and made.codes.shape[1] == frames
    assert columns_by_chunk(made) == [frames + 9]
    assert made.trace.frame.tolist() == [-1] * 8 + list(range(frames)) + [-1]


@pytest.mark.parametrize("silent_frames", (3, 30))
@pytest.mark.parametrize("context", (0, 2, 9))
def test_silence_is_heard_and_ends_by_the_ramp(speak, silent_frames, context):
    "From frame 30 the sound is silent, though the ids go on changing."
    def wish(at, logits):
        endless(at, logits)
        logits[:, 0, :512] += EDGE * (1 if at > 30 else -1)
    codec = ToneCodec(0, silent_below=512)
    codec.context_frames = context
    control = Control(silence_frames=silent_frames, repetition_frames=300)
    made, pieces = speak(wish, codec=codec, frames=300, control=control)
    silent = (made.codes[0] < 512).tolist()
    frames = made.codes.shape[1]
    assert made.stop_reason == "silence" and silent == [False] * 30 + [True] * (frames - 30)
    late = 25 + context + 8                                 # sound comes in blocks, with context, and after the delay
    assert 30 + silent_frames <= frames <= 30 + silent_frames + late
    assert columns_by_chunk(made) == [frames + 9] and made.trace.ramp.sum() == 8
    assert len(set(made.codes[0, 30:].tolist())) > 3
    assert made.trace.silent_frames.max() >= silent_frames
    assert all(codes.max() < 1024 for codes in codec.decoded)                           # no end of stream was decoded


def test_a_pause_does_not_end_it(speak):
    def wish(at, logits):
        endless(at, logits)
        logits[:, 0, :512] += EDGE * (1 if 20 < at < 40 else -1)
    made, _ = speak(wish, codec=ToneCodec(0, silent_below=512), frames=80, control=Control(silence_frames=25))
    assert made.stop_reason == "budget" and made.trace.silent_frames.max() == 19


def test_silence_at_the_end_of_a_chunk_is_not_held_against_the_next(speak):
    "Sound comes late: the end of a chunk is heard while the next is made."
    def wish(at, logits):
        endless(at, logits)
        column = at % 69                                    # of the chunk: 60 frames in 69 columns
        logits[:, 0, :512] += EDGE * (1 if at < 69 and column > 40 or at >= 69 and column < 15 else -1)
    codec = ToneCodec(0, silent_below=512)
    codec.context_frames = 9                                # the last 25 frames of the first chunk are heard 9 later
    made, _ = speak(wish, codec=codec, texts=("One.", "Two."), frames=60, control=Control(silence_frames=22))
    assert [chunk.stop_reason for chunk in made.chunks] == ["budget", "budget"]


def test_a_circle_of_ids_ends_it(speak):
    def wish(at, logits):
        endless(at, logits)
        if at > 20: logits[:, :, 100 + at % 3] += EDGE
    made, _ = speak(wish, frames=300, control=Control(repetition_frames=12), sampling=Sampling(ras_window=0, seed=0))
    assert made.stop_reason == "repetition"
    assert made.codes.shape[1] == 20 + 3 + 12 + 7           # its first round, the circle, and the delay
    assert columns_by_chunk(made) == [made.codes.shape[1] + 9]


@pytest.mark.parametrize("limit, frames", [(0, 0), (5, 0), (20, 13), (30, 23)])
def test_a_timeout_keeps_the_whole_frames(speak, monkeypatch, limit, frames):
    now = [0.0]
    monkeypatch.setattr(engine, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    def wish(at, logits):
        endless(at, logits)
        now[0] = at + 0.5
    made, _ = speak(wish, control=Control(timeout_seconds=limit), texts=("One.", "Two."))
    assert made.stop_reason == "timeout" and made.codes.shape[1] == frames
    assert columns_by_chunk(made) == [limit + 1] and made.chunks[1].codes is None
    assert made.timings["total"] == limit + 0.5


def interrupt_at(column):
    def wish(at, logits):
        endless(at, logits)
        if at == column: raise KeyboardInterrupt
    return wish


@pytest.mark.parametrize("column, frames", [(0, 0), (5, 0), (9, 1), (30, 22)])
def test_ctrl_c_in_the_network_keeps_what_was_made(speak, tiny_network, tiny_tokenizer, column, frames):
    made, pieces = speak(interrupt_at(column))
    assert made.stop_reason == "interrupted" and made.codes.shape[1] == frames and len(made.trace) == column
    assert len(joined(pieces)) == 320 * frames              # the stream gives the rest and ends
    session = make(tiny_network, tiny_tokenizer)
    with saying(tiny_network, interrupt_at(column)): ran = session.run()
    assert torch.equal(ran.codes, made.codes) and ran.stop_reason == "interrupted"


class Interrupted(ToneCodec):
    "Ctrl-C in the nth call of decode."
    def __init__(self, call): super().__init__(); self.call = call
    def decode(self, codes):
        if len(self.decoded) == self.call: self.call = -1; raise KeyboardInterrupt
        return super().decode(codes)


@pytest.mark.parametrize("call", (0, 1, 2))
def test_ctrl_c_in_the_codec_keeps_what_was_made(tiny_network, tiny_tokenizer, call):
    session = make(tiny_network, tiny_tokenizer, codec=Interrupted(call))
    with saying(tiny_network, endless): pieces = list(session)
    check(session)
    assert session.generation.stop_reason == "interrupted" and 0 < session.generation.codes.shape[1] < 40
    assert np.abs(joined(pieces) - session.generation.audio.samples).max() < 1e-4


@pytest.mark.parametrize("call", (3, 4))
def test_ctrl_c_while_it_finishes_loses_nothing(tiny_network, tiny_tokenizer, call):
    "The last pieces and the decode of all codes: everything has been made by then."
    session = make(tiny_network, tiny_tokenizer, codec=Interrupted(call))
    with saying(tiny_network, endless): made = session.run()
    check(session)
    assert made.codes.shape[1] == 40 and made.stop_reason == "budget"


@pytest.mark.parametrize("taken", (1, 2))
def test_a_consumer_that_walks_away_keeps_what_was_made(tiny_network, tiny_tokenizer, taken):
    session = make(tiny_network, tiny_tokenizer, texts=("One.", "Two."), frames=60)
    with saying(tiny_network, endless):
        pieces = []
        for piece in session:
            pieces.append(piece)
            if len(pieces) == taken: break
    check(session)
    made = session.generation
    assert made.stop_reason == "interrupted" and made.chunks[1].codes is None
    heard = joined(pieces)
    assert np.abs(made.audio.samples[:len(heard)] - heard).max() < 1e-4


def test_ctrl_c_in_the_consumer_keeps_what_was_made(tiny_network, tiny_tokenizer):
    session = make(tiny_network, tiny_tokenizer)
    with saying(tiny_network, endless), pytest.raises(KeyboardInterrupt):
        for _ in session: raise KeyboardInterrupt
    check(session)
    assert session.generation.stop_reason == "interrupted" and session.generation.codes.shape[1] >= 5


@pytest.mark.parametrize("chunks", (1, 2))
def test_stop_ends_after_the_column(tiny_network, tiny_tokenizer, chunks):
    session = make(tiny_network, tiny_tokenizer, texts=("One.", "Two.")[:chunks])
    def wish(at, logits):
        endless(at, logits)
        if at == 20: threading.Thread(target=session.stop).run()
    with saying(tiny_network, wish): pieces = list(session)
    check(session)
    assert session.generation.stop_reason == "interrupted" and session.generation.codes.shape[1] == 21 - 8
    assert columns_by_chunk(session.generation) == [21] and len(joined(pieces)) == 320 * 13


def test_a_stop_during_the_last_column_of_a_chunk_starts_no_other(tiny_network, tiny_tokenizer):
    session = make(tiny_network, tiny_tokenizer, texts=("One.", "Two."), frames=20)
    def wish(at, logits):
        endless(at, logits)
        if at == 28: session.stop()
    with saying(tiny_network, wish): list(session)
    assert [chunk.stop_reason for chunk in session.generation.chunks] == ["budget", None]
    assert session.generation.stop_reason == "budget" and session.generation.codes.shape[1] == 20


def test_a_failure_is_not_swallowed(tiny_network, tiny_tokenizer):
    session = make(tiny_network, tiny_tokenizer)
    def wish(at, logits):
        if at == 20: raise RuntimeError("out of memory")
    with saying(tiny_network, wish), pytest.raises(RuntimeError, match="out of memory"): session.run()
    assert session.generation.codes.shape[1] == 12


def test_a_session_runs_once(tiny_network, tiny_tokenizer):
    session = make(tiny_network, tiny_tokenizer, frames=3)
    made = session.run()
    with pytest.raises(EngineError, match="^session: "): session.run()
    assert session.generation is made


# Seeds

def test_a_seed_repeats_a_sample_and_leaves_the_global_state(speak):
    run = lambda seed: untouched(lambda: speak(sampling=Sampling(seed=seed)))[0]
    first, again, other = run(3), run(3), run(4)
    assert torch.equal(first.codes, again.codes) and np.array_equal(first.audio.samples, again.audio.samples)
    pd.testing.assert_frame_equal(first.trace, again.trace)
    assert not torch.equal(first.codes, other.codes)


def test_the_global_seed_has_no_say(speak):
    with torch.random.fork_rng():
        torch.manual_seed(1); np.random.seed(1)
        first = speak()[0].codes
        torch.manual_seed(2); np.random.seed(2)
        assert torch.equal(speak()[0].codes, first)


def test_chunks_differ_though_the_text_is_the_same(speak):
    made, _ = speak(texts=("Again.", "Again."), frames=20)
    assert not torch.equal(made.chunks[0].codes, made.chunks[1].codes)


# Streams

@pytest.fixture(scope="module")
def tiny_codec():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyCodec(TinyCodecNet(TinyCodecConfig(channels=32, vocoder_channels=48)), "small")


@pytest.mark.parametrize("frames", [(1,), (3,), (13,), (60,), (30, 1, 12)])
def test_a_stream_joins_to_the_offline_decode(speak, tiny_codec, frames):
    made, pieces = speak(codec=tiny_codec, frames=frames, texts=("One.", "Two.", "Three.")[:len(frames)])
    offline = tiny_codec.decode(made.codes).samples
    assert made.codes.shape[1] == sum(frames) and len(offline) == 960 * sum(frames)
    assert np.abs(joined(pieces) - offline).max() < 1e-4 and np.abs(made.audio.samples - offline).max() < 1e-4
    assert made.trace.rms_dbfs.notna().sum() == sum(frames)


def test_a_sample_without_a_frame_is_a_sample(speak):
    def wish(at, logits):
        endless(at, logits)
        if at == 1: logits[:, 0, STREAM_EOS] = EDGE
    made, pieces = speak(wish)
    assert (made.stop_reason, made.codes.shape, made.audio.seconds, pieces) == ("eos", (8, 0), 0, [])
    assert made.timings["rtf"] == math.inf and columns_by_chunk(made) == [9]


def test_an_empty_chunk_among_others(speak):
    def wish(at, logits):
        endless(at, logits)
        if at == 30: logits[:, 0, STREAM_EOS] = EDGE         # the first column but one of the second chunk
    made, pieces = speak(wish, texts=("One.", "Two.", "Three."), frames=20)
    assert [chunk.codes.shape[1] for chunk in made.chunks] == [20, 0, 20] and made.stop_reason == "budget"
    assert np.abs(joined(pieces) - made.audio.samples).max() < 1e-4


def test_sound_comes_while_it_is_made(tiny_network, tiny_tokenizer):
    session, made = make(tiny_network, tiny_tokenizer, frames=100), []
    with saying(tiny_network, endless):
        for piece in session: made.append(len(session.trace))
    assert made[0] == 8 + 5 + 2 and made == sorted(made) and made[-1] == 109
    assert 0 < session.generation.timings["first_audio"] < session.generation.timings["total"]


def test_stray_stream_begins_are_held_back_or_clipped(speak):
    def wish(at, logits):
        endless(at, logits)
        if at == 20: logits[:, 0, STREAM_BOS] = EDGE         # frame 19, codebook 0
    made, _ = speak(wish)
    assert made.codes.shape[1] == 40 and made.codes[0, 19] == 1023
    made, _ = speak(wish, frames=20)                         # the last frame: it is not heard
    assert made.codes.shape[1] == 19 and columns_by_chunk(made) == [29]


def test_a_generation_carries_what_it_was_made_of(speak):
    control, sampling = Control(silence_frames=77), Sampling(temperature=0.5, seed=9)
    made, _ = speak(texts=("One.", "Two."), frames=(10, 20), control=control, sampling=sampling)
    assert (made.text, made.control, made.sampling, made.model) == ("One. Two.", control, sampling, INFO)
    assert made.prompt is made.chunks[0].prompt and made.budget is made.chunks[0].budget
    assert made.audio.rate == 8000 and isinstance(made.audio, Audio)
    assert [chunk.text for chunk in made.chunks] == ["One.", "Two."] and columns_by_chunk(made) == [19, 29]
    assert made.stop_reason == "budget" and made.timings["rtf"] > 0
    total = made.timings["total"]
    assert sum(made.timings[part] for part in ("prefill", "decode", "codec")) <= total


def test_the_reason_of_several_chunks_is_the_first_that_is_not_eos(speak):
    def wish(at, logits):
        endless(at, logits)
        if at in (10, 18 + 29 + 10): logits[:, 0, STREAM_EOS] = EDGE
    made, _ = speak(wish, texts=("One.", "Two.", "Three."), frames=20)
    assert [chunk.stop_reason for chunk in made.chunks] == ["eos", "budget", "eos"] and made.stop_reason == "budget"
