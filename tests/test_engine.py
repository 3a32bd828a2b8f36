"""The decode loop: transformers' `generate` and the original's numbers as oracles, ramps, batches, room."""
import copy
import gc
import math
import sys
import warnings
from itertools import islice
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from conftest import EDGE, GREEDY, endless, prompt_of, saying, seeded
from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration
from vectors import read_about, read_case

from voicelab.budget import columns_for_frames
from voicelab.chat import Prompt
from voicelab.codec import STREAM_BOS, STREAM_EOS, delay, undelay
from voicelab.control import Sampling
from voicelab.families.higgs import cache, engine
from voicelab.families.higgs.cache import CachedNetwork, PrefixStore, check_memory, free_bytes, row_bytes
from voicelab.families.higgs.engine import ColumnWriter, Row, decode
from voicelab.families.higgs.prompt import PROMPT_FORMS
from voicelab.families.higgs.tiny import build_config
from voicelab.generation import EngineError, check_room

FORMS = (*PROMPT_FORMS, None)


def columns_of(network, prompts, most, **options):
    "Columns [n_codebooks, n] and rows of greedy decoding without a budget, at most `most` of them."
    steps = decode(network, prompts, [most] * len(prompts), GREEDY, seeded(*[0] * len(prompts)), **options)
    *_, last = islice(steps, most)
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
        here = ends if len(logits) == len(ends) else [end for end in ends if at < end + 8]       # the others have left
        for row, end in enumerate(here): logits[row, 0, STREAM_EOS] += EDGE * (at == end)
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
    tensors, about = read_case("higgs")
    names = about["config"]
    ids = read_about("higgs_tokenizer")["added_tokens"]
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


@pytest.mark.parity
@pytest.mark.parametrize("form", read_about("higgs")["forms"])
def test_logits_equal_the_originals(original, form):
    prompt = original_prompt(original, form)
    cached, columns = CachedNetwork(original.network, [prompt], 1, PrefixStore(), [0]), prompt.audio_columns.T[None]
    with torch.inference_mode():
        hidden = original.network.model(input_ids=prompt.network_ids[None], audio_input_ids=columns,
                                        audio_input_ids_mask=torch.ones(columns.shape[:2], dtype=torch.bool)).last_hidden_state
        text, audio = original.network.text_lm_head(hidden), original.network.audio_lm_head(hidden)[0]
    at = original.tensors.get(f"{form}.text_positions", slice(None))
    assert torch.allclose(text[:, at], original.tensors[f"{form}.text_logits"], atol=1e-4, rtol=0)
    audio = audio.view(len(prompt.ids), original.network.config.num_codebooks, -1)
    if f"{form}.audio_logits" in original.tensors:                      # at the assistant's columns
        wanted = original.tensors[f"{form}.audio_logits"]
        at = original.tensors.get(f"{form}.audio_positions", slice(None))
        assert torch.allclose(audio[prompt.ids == original.ids["<|AUDIO_OUT|>"]][at], wanted, atol=1e-4, rtol=0)
    assert torch.allclose(cached.prefill()[0], audio[-1], atol=1e-4, rtol=0)


@pytest.mark.parity
@pytest.mark.parametrize("form", read_about("higgs")["forms"])
def test_greedy_codes_equal_the_originals(original, form):
    wanted = original.tensors[f"{form}.greedy_codes"]
    mine, _ = columns_of(original.network, [original_prompt(original, form)], wanted.shape[1])
    assert torch.equal(mine[0][:, :wanted.shape[1]], wanted)


@pytest.mark.parity
def test_a_batch_of_all_forms_equals_the_originals(original):
    wanted = [original.tensors[f"{form}.greedy_codes"] for form in original.forms]
    mine, _ = columns_of(original.network, [original_prompt(original, form) for form in original.forms],
                         max(each.shape[1] for each in wanted))
    for made, want in zip(mine, wanted, strict=True): assert torch.equal(made[:, :want.shape[1]], want)


# A row and its ramp

def row_of(drawn, most=100, row=None):
    "A row for which the network wishes `drawn(column)`, until it is done."
    empty = Prompt("", torch.zeros(0), torch.zeros(8, 0, dtype=torch.long), torch.zeros(0), None, "", [], 0)
    writer, row = ColumnWriter([empty], [most], GREEDY, [torch.Generator()], "cpu"), row or Row(8)
    while not row.done:
        wished = torch.nn.functional.one_hot(drawn(len(row.columns)), 1026)[None].float()
        if row.end is not None: writer.end_row(0, row.end)
        (column,), (book,) = writer.write(wished)
        row.append(column.tolist(), int(writer.end), int(book))
    assert torch.equal(row.codes, undelay(torch.stack(row.columns, 1)))
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
    row = Row(8)
    def drawn(at):
        if at == 12: row.request_end("silence"); row.request_end("repetition")
        return torch.full((8,), 5)
    row_of(drawn, row=row)
    assert (row.stop_reason, row.codes.shape[1]) == ("silence", 11)
    row.cut_off("timeout")
    assert row.stop_reason == "silence"


def test_an_end_requested_first_of_all_gives_no_frame():
    row = Row(8)
    row.request_end("silence")
    row_of(lambda at: torch.full((8,), 5), row=row)
    assert row.codes.shape == (8, 0) and len(row.columns) == 9


def test_a_ramp_lets_no_codebook_end_early(tiny_network, tiny_tokenizer):
    "While a row ends, the network may say EOS in any codebook; a budget still gives its frames."
    def wish(at, logits):
        logits[..., (STREAM_BOS, STREAM_EOS)] = -math.inf
        if at > 12: logits[:, 1:, STREAM_EOS] = EDGE
    with saying(tiny_network, wish):
        *_, last = decode(tiny_network, [prompt_of(tiny_tokenizer)], [11], GREEDY, [torch.Generator()])
    assert last.rows[0].codes.shape[1] == 11 and len(last.rows[0].columns) == 20


def test_the_window_of_repeats_reaches_back_into_the_reference(tiny_network, tiny_tokenizer, monkeypatch):
    prompts, seen = [prompt_of(tiny_tokenizer, frames=6), prompt_of(tiny_tokenizer, None)], []
    original = engine.sample_ids
    monkeypatch.setattr(engine, "sample_ids", lambda *args: (seen.append(args[3]), original(*args))[1])
    steps = decode(tiny_network, prompts, [40, 40], Sampling(ras_window=20, seed=0), seeded(0, 1))
    *_, last = islice(steps, 10)
    before = [prompts[0].audio_columns, torch.zeros(8, 0, dtype=torch.long)]
    for step, history in enumerate(seen):
        for row in range(2):
            own = [column[:, None] for column in last.rows[row].columns[:step]]
            past = torch.cat([torch.full((8, 20), STREAM_BOS), before[row], *own], 1)
            assert torch.equal(history[row], past[:, -20:])


def sampled(network, prompts, seeds, most=40, sampling=Sampling(temperature=1.5), **options):
    "Columns of each row, sampled."
    *_, last = decode(network, prompts, [most] * len(prompts), sampling, seeded(*seeds), **options)
    return [torch.stack(row.columns, 1) for row in last.rows]


# Batches

def test_sampled_rows_are_what_they_are_alone(tiny_network, tiny_tokenizer):
    prompts = [prompt_of(tiny_tokenizer, form, frames, seed=frames)
               for form, frames in (("assistant_ref", 20), (None, 1), ("system_ref", 31), ("user_ref", 5))]
    together = sampled(tiny_network, prompts, range(4))
    for seed, (prompt, made) in enumerate(zip(prompts, together)):
        assert torch.equal(sampled(tiny_network, [prompt], [seed])[0], made)
    backwards = sampled(tiny_network, prompts[::-1], [3, 2, 1, 0])
    for made, again in zip(together, backwards[::-1]): assert torch.equal(made, again)


def test_rows_leave_the_batch_and_the_others_go_on_as_they_were(tiny_network, tiny_tokenizer):
    prompts, sizes = [prompt_of(tiny_tokenizer, frames=5 + 9 * n, seed=n) for n in range(4)], []
    most = [30, 4, 17, 4]
    def wish(at, logits): endless(at, logits); sizes.append(len(logits))
    with saying(tiny_network, wish): steps = list(decode(tiny_network, prompts, most, GREEDY, seeded(0, 0, 0, 0)))
    assert sizes == [4] * 13 + [2] * 13 + [1] * 13 and steps[-1].active == [0]
    for prompt, frames, row in zip(prompts, most, steps[-1].rows):
        assert (row.stop_reason, row.codes.shape[1]) == ("budget", frames)
        with saying(tiny_network, endless): *_, alone = decode(tiny_network, [prompt], [frames], GREEDY, seeded(0))
        assert torch.equal(alone.rows[0].codes, row.codes)


def test_rows_can_be_ended_one_by_one_from_outside(tiny_network, tiny_tokenizer):
    with saying(tiny_network, endless):
        for step in decode(tiny_network, [prompt_of(tiny_tokenizer, seed=n) for n in range(3)], [40] * 3, GREEDY, seeded(0, 0, 0)):
            made = len(step.rows[1].columns)
            if made == 12: step.rows[1].request_end("silence")
            if made == 15: step.rows[0].cut_off("timeout")
    assert [row.stop_reason for row in step.rows] == ["timeout", "silence", "budget"]
    assert [(len(row.columns), row.codes.shape[1]) for row in step.rows] == [(15, 7), (20, 11), (49, 40)]


def test_a_larger_budget_does_not_change_how_a_sample_begins(tiny_network, tiny_tokenizer):
    with saying(tiny_network, endless): short, = sampled(tiny_network, [prompt_of(tiny_tokenizer)], [3], 10)
    with saying(tiny_network, endless): long, = sampled(tiny_network, [prompt_of(tiny_tokenizer)], [3], 60)
    assert torch.equal(short[:, :11], long[:, :11])


# The beginning that prompts share

def prefix_of(tokenizer, form, **options):
    "Positions that prompts of one form and reference begin with."
    one, other = (prompt_of(tokenizer, form, text=text, **options).ids for text in ("Yes.", "No."))
    return int((one[:min(len(one), len(other))] == other[:min(len(one), len(other))]).long().cumprod(0).sum())


@pytest.mark.parametrize("form", FORMS)
def test_a_known_beginning_changes_nothing(tiny_network, tiny_tokenizer, form):
    store, prefix_length = PrefixStore(), prefix_of(tiny_tokenizer, form)
    for text in ("Hi.", "A longer text to say.", "Hi."):
        prompt = prompt_of(tiny_tokenizer, form, text=text)
        known = columns_of(tiny_network, [prompt], 40, prefixes=store, prefix_lengths=[prefix_length])[0][0]
        assert torch.equal(known, columns_of(tiny_network, [prompt], 40)[0][0])
    assert store.read == 1 and prefix_length > 20


def test_rows_with_other_beginnings_share_a_batch(tiny_network, tiny_tokenizer):
    store, forms = PrefixStore(most=8), ("assistant_ref", None, "system_ref", "assistant_ref", None)
    prompts = [prompt_of(tiny_tokenizer, form, frames, text=text, seed=frames) for form, frames, text in
               zip(forms, (20, 1, 40, 20, 1), ("Hi.", "One two three.", "Four.", "Another text.", "Five."))]
    prefix_lengths = [prefix_of(tiny_tokenizer, form, frames=frames, seed=frames) for form, frames in zip(forms, (20, 1, 40, 20, 1))]
    mine, _ = columns_of(tiny_network, prompts, 40, prefixes=store, prefix_lengths=prefix_lengths)
    assert store.read == 3
    for made, wanted in zip(mine, generated(tiny_network, prompts, 40)):
        assert torch.equal(before_end(made), before_end(wanted))


def test_a_sample_does_not_depend_on_what_was_read_before(tiny_network, tiny_tokenizer):
    store, prompt, prefix_length = PrefixStore(), prompt_of(tiny_tokenizer), prefix_of(tiny_tokenizer, "assistant_ref")
    logits = [CachedNetwork(tiny_network, [prompt], 1, store, [prefix_length]).prefill() for _ in range(2)]
    assert torch.equal(*logits) and store.read == 1
    plain = CachedNetwork(tiny_network, [prompt], 1, PrefixStore(), [0]).prefill()
    assert torch.allclose(logits[0], plain, atol=1e-4)


def test_the_store_tells_references_apart_and_keeps_the_latest(tiny_network, tiny_tokenizer):
    store, prefix_length = PrefixStore(most=2), prefix_of(tiny_tokenizer, "assistant_ref")
    take = lambda seed: store.take(tiny_network, prompt_of(tiny_tokenizer, seed=seed), prefix_length)
    for seed in (0, 1, 0, 2, 0): take(seed)                  # the same text and length, other codes; 1 makes room for 2
    assert store.read == 3 and len(store.kept) == 2
    take(1)
    assert store.read == 4


def test_changed_weights_are_read_anew(tiny_tokenizer):
    "Whoever trains or edits a network in place gets no stale keys."
    torch.manual_seed(3)
    network = HiggsAudioV2ForConditionalGeneration(build_config(tiny_tokenizer, hidden_size=64, layers=2, intermediate_size=128)).eval()
    store, prompt, length = PrefixStore(), prompt_of(tiny_tokenizer), prefix_of(tiny_tokenizer, "assistant_ref")
    before = CachedNetwork(network, [prompt], 1, store, [length]).prefill()
    with torch.no_grad(): network.model.layers[0].self_attn.k_proj.weight.mul_(1.5)
    after = CachedNetwork(network, [prompt], 1, store, [length]).prefill()
    assert store.read == 2 and not torch.allclose(before, after, atol=1e-4)
    assert torch.allclose(after, CachedNetwork(network, [prompt], 1, PrefixStore(), [0]).prefill(), atol=1e-4)


# Room

@pytest.mark.parametrize("positions, reference, columns, says", [
    (300, 200, 3796, None),
    (300, 200, 3797, "reference: 200 columns and 3897 positions of text and budget exceed the context of 4096; at most 199 of its columns fit"),
    (5000, 4800, 300, "reference: 4800 columns and 500 positions of text and budget exceed the context of 4096; at most 3596 of its columns fit"),
    (5000, 0, 300, "prompt: 5000 positions and 300 columns exceed the context of 4096"),
    (500, 300, 9000, "prompt: 500 positions and 9000 columns exceed the context of 4096")])
def test_what_does_not_fit_the_context_is_named(positions, reference, columns, says):
    if says is None: return check_room(4096, positions, reference, columns)
    with pytest.raises(EngineError) as error: check_room(4096, positions, reference, columns)
    assert str(error.value).startswith(says) and "\n" not in str(error.value)


def test_a_batch_that_does_not_fit_is_refused_with_the_largest_that_does(tiny_network, monkeypatch):
    row = row_bytes(tiny_network, 200, 100)
    assert row > 300 * 2 * 2 * 64 * 4                        # two layers of keys and values, 64 wide, float32
    monkeypatch.setattr(cache, "free_bytes", lambda device: 7.5 * row)
    check_memory(tiny_network, 7, 200, 100)
    with pytest.raises(EngineError, match=r"^texts: a batch of 8 rows of 300 positions needs .* at most 7 rows fit$"):
        check_memory(tiny_network, 8, 200, 100)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is free in /proc/meminfo")
def test_free_memory_is_known_here(): assert 1e6 < free_bytes(torch.device("cpu")) < 1e15


def test_asking_for_free_memory_leaves_no_file_open():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        free_bytes(torch.device("cpu"))
        gc.collect()
    assert [each for each in caught if each.category is ResourceWarning] == []


def test_blocks_that_torch_keeps_on_a_gpu_are_free(monkeypatch):
    for name, given in (("mem_get_info", (5_000, 80_000)), ("memory_reserved", 3_000), ("memory_allocated", 1_000)):
        monkeypatch.setattr(torch.cuda, name, lambda device=None, given=given: given)
    assert free_bytes(torch.device("cuda")) == 5_000 + 3_000 - 1_000


# The step on a device

@pytest.mark.parametrize("released", (False, True))
def test_a_step_asks_the_device_nothing(tiny_tokenizer, released):
    "On the meta device there are no numbers, so whatever waits for one fails: only the poll of a column may."
    shape = dict(hidden_size=3072, layers=28, heads=24, intermediate_size=8192) if released else {}
    config = build_config(tiny_tokenizer, **shape)
    with torch.device("meta"): network = HiggsAudioV2ForConditionalGeneration(config).eval().bfloat16()
    prompts = [prompt_of(tiny_tokenizer, frames=n) for n in (9, 20)]
    cached = CachedNetwork(network, prompts, 30, PrefixStore(), [0, 0])
    writer = ColumnWriter(prompts, [20, 20], Sampling(), seeded(0, 1), torch.device("meta"))
    logits = torch.empty(2, 8, 1026, device="meta")
    for _ in range(3):
        ids, books = writer.write(logits)
        logits = cached.step(ids)
    assert logits.shape == (2, 8, 1026) and logits.dtype == torch.float32 and books.shape == (2,)


def test_bfloat16_decodes(tiny_network, tiny_tokenizer):
    network, prompts = copy.deepcopy(tiny_network).bfloat16(), [prompt_of(tiny_tokenizer, frames=n) for n in (9, 20)]
    with saying(network, endless): made = sampled(network, prompts, (0, 1), 20)
    assert [each.shape for each in made] == [(8, 29)] * 2 and not torch.equal(*made)
