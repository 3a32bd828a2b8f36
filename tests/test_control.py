"""Sampling against transformers' warpers, repetition-aware sampling against its rule, and the stop rules."""
import math

import numpy as np
import pytest
import torch
from conftest import untouched
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from voicelab import control
from voicelab.codec import STREAM_BOS, STREAM_EOS
from voicelab.control import (
    PRESETS,
    STOP_REASONS,
    Control,
    ControlError,
    Sampling,
    StopRules,
    draw_chances,
    draw_filtered,
    draw_ids,
    entropy_bits,
    filter_logits,
    sample_ids,
)
from voicelab.settings import Settings

def chances(batch, n_codebooks=8, seed=0):
    "Numbers for one column of a batch."
    return draw_chances(batch, n_codebooks, torch.Generator().manual_seed(seed))


def refusal(call, *args, **options):
    with pytest.raises(ControlError) as error: call(*args, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name, value, limit", [
    ("temperature", -0.1, "0 to 10"), ("temperature", 11, "0 to 10"), ("temperature", math.nan, "0 to 10"),
    ("temperature", "1", "0 to 10"), ("temperature", True, "0 to 10"), ("temperature", None, "0 to 10"),
    ("top_k", 0, "1 to 1000000"), ("top_k", 5.0, "whole"), ("top_p", 0, "1e-06 to 1"), ("top_p", 1.01, "1e-06 to 1"),
    ("ras_window", -1, "0 to 1000"), ("ras_window", 1.5, "whole"), ("ras_repeats", 0, "1 to 1000"),
    ("seed", -1, "0 to"), ("seed", 2**63, "0 to"), ("seed", 0.5, "whole"), ("seed", "7", "whole")])
def test_sampling_names_argument_limit_and_value(name, value, limit):
    message = refusal(Sampling, **{name: value})
    assert message.startswith(f"{name}: ") and limit in message and repr(value) in message


@pytest.mark.parametrize("name, value, limit", [
    ("silence_frames", 0, "1 to 100000"), ("silence_frames", 2.5, "whole"), ("silence_db", 1, "-200 to 0"),
    ("silence_floor_dbfs", -201, "-200 to 0"), ("repetition_frames", 1, "2 to 100000"), ("timeout_seconds", -1, "0 to"),
    ("timeout_seconds", math.nan, "0 to")])
def test_control_names_argument_limit_and_value(name, value, limit):
    message = refusal(Control, **{name: value})
    assert message.startswith(f"{name}: ") and limit in message and repr(value) in message


def test_presets_and_settings():
    assert PRESETS["upstream"] == Sampling(1.0, 50, 0.95, 7, 2) and PRESETS["design"].temperature == 0.3
    assert PRESETS["greedy"].temperature == PRESETS["greedy"].ras_window == 0
    assert Sampling.preset("design", 3) == Sampling(temperature=0.3, seed=3)
    assert "upstream, design, greedy" in refusal(Sampling.preset, "wild")
    with pytest.warns(FutureWarning, match="'brief' is now 'design'; version 0.2 removes the old name") as warned:
        assert Sampling.preset("brief", 3) == Sampling.preset("design", 3)
    assert warned[0].filename == __file__
    settings = Settings()
    sampling = Sampling.from_settings(settings, 4)
    wanted = settings.generation
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (wanted.temperature, wanted.top_k, wanted.top_p)
    assert sampling.ras_window == 7 and sampling.seed == 4       # the design document has no RAS; the lab always has
    assert Control.from_settings(settings).silence_frames == settings.audio_generation.max_silence_tokens


def test_a_seed_of_numpys_is_a_seed():
    seed = Sampling(seed=np.int64(7)).seed
    assert seed == 7 and type(seed) is int


def test_a_fresh_seed_is_chosen_without_the_global_random_state():
    seeds = {untouched(Sampling().seeded).seed for _ in range(20)}
    assert len(seeds) == 20 and all(0 <= seed < 2**32 for seed in seeds)
    assert Sampling(seed=0).seeded().seed == 0


# Temperature, top-k, top-p

@pytest.mark.parametrize("temperature", (0.05, 0.3, 1.0, 2.5))
@pytest.mark.parametrize("top_k", (None, 1, 2, 50, 1026, 5000))
@pytest.mark.parametrize("top_p", (None, 1e-6, 0.3, 0.95, 1.0))
def test_filter_equals_transformers_warpers(temperature, top_k, top_p):
    logits = 3 * torch.randn(4, 8, 1026, generator=torch.Generator().manual_seed(0))
    scores = logits.flatten(0, 1)
    if temperature != 1: scores = TemperatureLogitsWarper(temperature)(None, scores)
    if top_k: scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p and top_p < 1: scores = TopPLogitsWarper(top_p)(None, scores)
    mine = filter_logits(logits, Sampling(temperature, top_k, top_p)).flatten(0, 1)
    assert torch.equal(mine.isinf(), scores.isinf())
    assert torch.allclose(mine[mine.isfinite()], scores[scores.isfinite()])
    assert (mine.argmax(-1) == logits.flatten(0, 1).argmax(-1)).all()       # the likeliest id is never filtered out


def test_filter_leaves_its_input_alone():
    logits = torch.randn(2, 8, 30)
    before = logits.clone()
    filter_logits(logits, Sampling(0.5, 3, 0.5))
    assert torch.equal(logits, before)


def test_ties_at_the_edge_all_stay():
    kept = filter_logits(torch.tensor([1.0, 1, 1, 0]), Sampling(top_k=2, top_p=None))
    assert kept.isfinite().tolist() == [True] * 3 + [False]


def test_greedy_takes_the_likeliest_whatever_the_chances():
    logits, history = torch.randn(3, 8, 1026), torch.zeros(3, 8, 1, dtype=torch.long)
    for seed in range(3):
        assert torch.equal(sample_ids(logits, Sampling.preset("greedy"), chances(3, seed=seed), history), logits.argmax(-1))


def test_draws_follow_the_filtered_distribution():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0]).expand(4000, 1, 4)
    sampling = Sampling(temperature=0.7, top_k=3, top_p=None, ras_window=0)
    ids = sample_ids(logits, sampling, chances(4000, 1), torch.zeros(4000, 1, 1, dtype=torch.long))
    shares = torch.bincount(ids.flatten(), minlength=4) / 4000
    assert (shares - filter_logits(logits[0, 0], sampling).softmax(-1)).abs().max() < 0.03


# Repetition-aware sampling

FLAT = torch.zeros(1, 8, 1026)                  # one id is a little ahead; an id drawn again is nearly surely another
FLAT[..., 7] = 1e-3


def redrawn(history, logits=FLAT, **knobs):
    "Which codebooks were drawn again, when greedy wants id 7."
    ids = sample_ids(logits, Sampling(0, None, None, **knobs), chances(1), history[None])
    return (ids[0] != logits[0].argmax(-1)).tolist()


@pytest.mark.parametrize("window", (1, 2, 7, 20))
@pytest.mark.parametrize("repeats", (1, 2, 3))
def test_an_id_is_drawn_again_when_the_window_holds_it_often_enough(window, repeats):
    history = torch.randint(5, 9, (8, 30), generator=torch.Generator().manual_seed(window))
    wanted = [(row[-window:] == 7).sum().item() >= repeats for row in history]
    assert redrawn(history, ras_window=window, ras_repeats=repeats) == wanted


def test_the_window_ends_where_it_says():
    history = torch.full((8, 8), 3)
    history[:, 0] = history[:, 4] = 7
    assert redrawn(history, ras_window=7) == [False] * 8         # the first 7 is eight columns back
    assert redrawn(history, ras_window=8) == [True] * 8


@pytest.mark.parametrize("stream", (STREAM_BOS, STREAM_EOS))
def test_stream_ids_do_not_count(stream):
    logits = torch.zeros(1, 8, 1026)
    logits[..., stream] = 1e-3
    assert redrawn(torch.full((8, 7), stream), logits, ras_window=7) == [False] * 8


def test_window_0_switches_it_off(): assert redrawn(torch.full((8, 7), 7), ras_window=0) == [False] * 8


def test_a_short_history_is_enough(): assert redrawn(torch.full((8, 2), 7), ras_window=7) == [True] * 8


def test_the_second_draw_is_from_the_raw_distribution():
    logits = torch.zeros(3000, 1, 1026)
    logits[..., 7] = 3.0
    sampling = Sampling(temperature=0.01, top_k=1, top_p=1e-6)
    ids = sample_ids(logits, sampling, chances(3000, 1), torch.full((3000, 1, 7), 7))
    assert len(ids.unique()) > 500                               # top-k 1 would leave one
    assert abs((ids == 7).float().mean().item() - logits[0, 0].softmax(-1)[7].item()) < 0.01


def test_rows_and_codebooks_repeat_on_their_own():
    logits, history = FLAT.repeat(2, 1, 1), torch.full((2, 8, 7), 3)
    history[1, 4] = 7
    ids = sample_ids(logits, Sampling(0, None, None), chances(2), history)
    assert (ids != 7).nonzero().tolist() == [[1, 4]]


def test_draws_repeat_with_the_seed_and_leave_the_global_state():
    logits, history = torch.randn(2, 8, 1026), torch.full((2, 8, 7), 3)
    draw = lambda seed: untouched(lambda: sample_ids(logits, Sampling(), chances(2, seed=seed), history))
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


# Draws

def test_draws_follow_the_distribution():
    share = torch.tensor([0.05, 0.4, 0.0, 0.25, 0.3])
    ids = draw_ids(share.log().expand(20_000, 5), torch.rand(20_000, generator=torch.Generator().manual_seed(0)))
    assert (torch.bincount(ids, minlength=5) / 20_000 - share).abs().max() < 0.015


@pytest.mark.parametrize("chance", (0.0, 0.5, 1 - 2**-24))
@pytest.mark.parametrize("ids", (1, 2, 700))
def test_what_has_no_probability_is_never_drawn(chance, ids):
    "Not even by the largest number that a generator gives."
    logits = torch.full((200, 1026), -math.inf)
    allowed = torch.stack([torch.randperm(1026, generator=torch.Generator().manual_seed(row))[:ids] for row in range(200)])
    logits.scatter_(1, allowed, torch.randn(200, ids, generator=torch.Generator().manual_seed(1)))
    drawn = draw_ids(logits, torch.full((200,), chance))
    assert (allowed == drawn[:, None]).any(1).all()


def filtered_by_sorting_all(logits, sampling):
    "The filter as it was before only the likeliest were sorted."
    scores = logits / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scores.shape[-1]:
        scores = scores.masked_fill(scores < scores.topk(sampling.top_k).values[..., -1:], -math.inf)
    if sampling.top_p is not None and sampling.top_p < 1:
        ordered, order = scores.sort(descending=True, stable=True)
        share = ordered.softmax(-1)
        beyond = share.cumsum(-1) - share >= sampling.top_p
        scores = scores.masked_fill(beyond.scatter(-1, order, beyond), -math.inf)
    return scores


def drawn_by_sorting_all(logits, chances):
    "The draw as it was then."
    share, order = logits.softmax(-1).sort(descending=True, stable=True)
    reached = share.cumsum(-1)
    rank = (reached <= chances[..., None] * reached[..., -1:]).sum(-1, keepdim=True)
    last = (share > 0).sum(-1, keepdim=True).clamp(min=1) - 1
    return order.gather(-1, rank.minimum(last))[..., 0]


@pytest.mark.parametrize("kind", ("smooth", "ties", "bfloat16", "flat", "masked", "peaked"))
@pytest.mark.parametrize("knobs", (dict(top_k=50, top_p=0.95), dict(top_k=1), dict(top_k=5, top_p=None), dict(top_k=None, top_p=0.3),
                                   dict(top_k=200, top_p=0.999), dict(top_k=None, top_p=None), dict(top_k=64, top_p=1e-6)))
def test_sorting_the_likeliest_gives_what_sorting_all_gave(kind, knobs):
    "To the bit, ties included."
    generator = torch.Generator().manual_seed(len(kind))
    logits = 3 * torch.randn(40, 8, 1026, generator=generator)
    if kind == "ties": logits = logits.round()
    if kind == "bfloat16": logits = logits.bfloat16().float()
    if kind == "flat": logits = torch.zeros_like(logits)
    if kind == "masked": logits = logits.masked_fill(torch.rand(logits.shape, generator=generator) < 0.99, -math.inf)
    if kind == "peaked": logits = logits * 30
    chances = torch.rand(40, 8, generator=generator)
    for temperature in (1.0, 0.3, 1.7):
        sampling = Sampling(temperature, **knobs)
        scores, wanted = filter_logits(logits, sampling), filtered_by_sorting_all(logits, sampling)
        assert torch.equal(scores, wanted)
        assert torch.equal(draw_ids(scores, chances), drawn_by_sorting_all(wanted, chances))
        assert torch.equal(draw_filtered(logits, chances, sampling), drawn_by_sorting_all(wanted, chances))
    assert torch.equal(draw_filtered(logits, chances), drawn_by_sorting_all(logits, chances))


@pytest.mark.parametrize("back", (0, 1e-9, 1e-6, 1e-4))
def test_a_chance_beside_a_border_draws_what_sorting_all_draws(back):
    "Where rounding could decide, the quick way must not."
    logits = 2 * torch.randn(300, 1026, generator=torch.Generator().manual_seed(7))
    for sampling in (Sampling(), Sampling(0.7, 50, None), Sampling(1.3, 200, 0.8)):
        scores = filtered_by_sorting_all(logits, sampling)
        reached = scores.softmax(-1).sort(descending=True).values.cumsum(-1)
        for rank in (0, 3, 11):
            beside = (reached[:, rank] - back).clamp(0, 1 - 2**-24)
            assert torch.equal(draw_filtered(logits, beside, sampling), drawn_by_sorting_all(scores, beside))


def test_a_row_that_is_not_sure_costs_the_others_nothing(monkeypatch):
    logits = torch.randn(20, 1026, generator=torch.Generator().manual_seed(1))
    chances, slow = torch.full((20,), 0.5), []
    logits[3, :30] = 9.0
    original = control.filter_logits
    monkeypatch.setattr(control, "filter_logits", lambda logits, sampling: (slow.append(len(logits)), original(logits, sampling))[1])
    drawn = draw_filtered(logits, chances, Sampling())
    assert sum(slow) <= 3 and torch.equal(drawn, drawn_by_sorting_all(filtered_by_sorting_all(logits, Sampling()), chances))


def test_a_row_draws_the_same_in_any_company():
    logits, history = torch.randn(5, 8, 1026), torch.full((5, 8, 7), 3)
    together = sample_ids(logits, Sampling(), chances(5), history)
    for row in range(5):
        assert torch.equal(sample_ids(logits[row, None], Sampling(), chances(5)[row, None], history[row, None])[0], together[row])


def test_logits_that_are_no_numbers_draw_some_id():
    "The engine says what is wrong with them; an index beyond the vocabulary would come first, and end a CUDA process."
    assert 0 <= draw_ids(torch.full((1, 10), math.nan), torch.tensor([0.5])) < 10


@pytest.mark.parametrize("columns", (1, 7, 100, 3000))
def test_a_larger_budget_does_not_change_how_a_sample_begins(columns):
    assert torch.equal(chances(columns), chances(4000)[:columns])


# Stop rules

def heard(levels, **limits):
    rules = StopRules(Control(**limits))
    for level in levels: rules.hear(level)
    return rules


def seen(codes, **limits):
    rules = StopRules(Control(**limits))
    for code in codes: rules.see(code)
    return rules


@pytest.mark.parametrize("levels, silent, reason", [
    ([-20] * 9, 0, None),
    ([-20, -59, -59], 0, None),                      # 39 dB below
    ([-20, -61, -61], 2, None), ([-20, -61, -61, -61], 3, "silence"),
    ([-70, -70, -70], 3, "silence"),                 # below the floor though nothing was louder
    ([-55, -55, -55, -96], 1, None),                 # quiet speech is no silence
    ([-20, -61, -61, -20, -61], 1, None),            # a pause is survived
    ([-20, -200, -200, -200], 3, "silence")])
def test_silence_counts_frames_in_a_row(levels, silent, reason):
    rules = heard(levels, silence_frames=3)
    assert (rules.silent_frames, rules.reason) == (silent, reason)


def test_silence_within_a_block_of_sound_is_not_forgotten():
    assert heard([-20, -70, -70, -70, -20], silence_frames=3).reason == "silence"


@pytest.mark.parametrize("period", (1, 2, 3, 16))
def test_loops_up_to_the_longest_are_found(period):
    codes = [900, 901, *(list(range(period)) * 60)]
    assert seen(codes[:2 + period + 19], repetition_frames=20).reason is None
    assert seen(codes[:2 + period + 20], repetition_frames=20).reason == "repetition"


def test_longer_loops_and_other_ids_are_no_loop():
    assert seen(list(range(17)) * 8, repetition_frames=20).repeated_frames == 0
    assert seen(np.random.default_rng(0).integers(0, 1024, 500).tolist(), repetition_frames=20).reason is None


def test_a_broken_loop_starts_again():
    assert seen([5] * 15 + [6] + [5] * 15, repetition_frames=20).reason is None


def test_the_first_rule_to_strike_is_the_reason():
    rules = StopRules(Control(silence_frames=2, repetition_frames=2))
    for level in (-80, -80): rules.hear(level)
    for code in (1, 1, 1, 1): rules.see(code)
    assert rules.reason == "silence" and rules.reason in STOP_REASONS


def test_six_reasons_have_a_sentence():
    assert set(STOP_REASONS) == {"eos", "budget", "silence", "repetition", "timeout", "interrupted"}


def test_entropy_is_in_bits():
    logits = torch.full((2, 1024), -math.inf)
    logits[0, 5], logits[1, :8] = 3.0, 0.0
    assert entropy_bits(logits).tolist() == pytest.approx([0, 3], abs=1e-5)
