"""The loop that is a column ahead: the engine's own as the oracle, on this CPU and by capture and replay on a pretended GPU."""
import copy
import threading
import warnings

import pandas as pd
import pytest
import torch
from conftest import GREEDY, prompt_of, seeded
from second_device import REFUSED, SecondDevice
from transformers import HiggsAudioV2ForConditionalGeneration

import voicelab as vl
from voicelab.codec import STREAM_BOS, STREAM_EOS
from voicelab.control import Control, Sampling, draw_chances, sample_ids
from voicelab.families.higgs import buffers, cache, engine, graph
from voicelab.families.higgs.buffers import BucketStep, Buffers, bucket_of, draw, settings_of, settings_tensors
from voicelab.families.higgs.cache import PrefixStore
from voicelab.families.higgs.engine import NEVER, decode
from voicelab.families.higgs.graph import Graphs, cache_bytes, captured, graph_obstacle
from voicelab.families.higgs.prompt import PROMPT_FORMS
from voicelab.families.higgs.tiny import build_config
from voicelab.generation import EngineError

FORMS = (*PROMPT_FORMS, None)
LIVELY, RAS = Sampling(temperature=1.5), Sampling(0.7, ras_repeats=1)
LONG = "The rain came. Then the wind turned."


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch): monkeypatch.setattr(buffers, "LEAST", 16)       # so that short samples cross several


@pytest.fixture(scope="module")
def ending(tiny_network):
    "A network of its own that says EOS now and then, in any codebook."
    network, drawn = copy.deepcopy(tiny_network), torch.Generator().manual_seed(3)
    end = torch.arange(8) * 1026 + STREAM_EOS
    network.audio_lm_head.weight.data[end] *= 1 + torch.rand(8, 1, generator=drawn)
    return network


@pytest.fixture(scope="module")
def endless(tiny_network):
    "A network of its own whose likeliest id is never BOS or EOS."
    network = copy.deepcopy(tiny_network)
    network.audio_lm_head.weight.data.view(8, 1026, -1)[:, (STREAM_BOS, STREAM_EOS)] = 0
    return network


def prompts_for(tokenizer, batch, form="assistant_ref"):
    return [prompt_of(tokenizer, form, 5 + 7 * n % 31, text="word " * (1 + n % 5), seed=n) for n in range(batch)]


def told(loop, network, prompts, most, sampling, seeds=None, strike=None, **options):
    "Rows, and of each step the active rows and the facts of the trace."
    facts = []
    for step in loop(network, prompts, most, sampling, seeded(*(seeds or range(len(prompts)))), **options):
        facts.append((list(step.active), torch.tensor([step.eos_probability, step.entropy])))
        if strike: strike(step.rows)
    return step.rows, facts


def assert_same(mine, wanted, atol=1e-4):
    (rows, facts), (others, expected) = mine, wanted
    for row, other in zip(rows, others, strict=True):
        assert (row.stop_reason, row.eos_codebook, row.end, row.cut) == (other.stop_reason, other.eos_codebook, other.end, other.cut)
        assert torch.equal(torch.stack(row.columns, 1), torch.stack(other.columns, 1)) and torch.equal(row.codes, other.codes)
    assert [active for active, _ in facts] == [active for active, _ in expected]
    for (_, values), (_, others) in zip(facts, expected): assert torch.allclose(values, others, atol=atol)


def assert_loops_agree(network, prompts, most, sampling, graphs=None, atol=1e-4, **options):
    graphs = graphs or Graphs()
    mine = told(graphs.decode, network, prompts, most, sampling, **options)
    assert_same(mine, told(decode, network, prompts, most, sampling, **options), atol)
    return mine[0]


class Counting(Graphs):
    "Keeps what it was asked for."
    def __init__(self): super().__init__(); self.asked = []
    def advance(self, buffers, *key): self.asked.append(key); super().advance(buffers, *key)


# The parts

def test_buckets_hold_what_they_should(monkeypatch):
    monkeypatch.setattr(buffers, "LEAST", 256)
    sizes = [bucket_of(n) for n in range(1, 9000)]
    assert sorted({*sizes}) == [256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288]
    assert all(size >= n and size <= max(256, 1.5 * n) for n, size in enumerate(sizes, 1))


@pytest.mark.parametrize("temperature", (0, 0.3, 1.0, 10))
@pytest.mark.parametrize("top_k", (None, 1, 50, 5000))
@pytest.mark.parametrize("top_p", (None, 1e-6, 0.5, 0.95, 1.0))
def test_draws_are_those_of_the_engine(temperature, top_k, top_p):
    "Whatever the settings; with ids that can't be drawn, and with ties, as bfloat16 has them."
    drawn = torch.Generator().manual_seed(1)
    scores, chances = 4 * torch.randn(16, 8, 1026, generator=drawn), draw_chances(16, 8, drawn)
    scores[4:8] = scores[4:8].bfloat16().float()
    scores[:, :, STREAM_EOS] = -torch.inf
    sampling, settings = Sampling(temperature, top_k, top_p, ras_window=0), settings_tensors("cpu")
    for name, value in settings_of(sampling, 1026).items(): settings[name].fill_(value)
    first, again = draw(scores, chances, settings)
    assert torch.equal(first, sample_ids(scores, sampling, chances, torch.zeros(16, 8, 1)))
    plain = Sampling(1.0, None, None, ras_window=0)
    assert torch.equal(again, sample_ids(scores, plain, chances.flip(1), torch.zeros(16, 8, 1)))


def test_a_step_asks_the_device_for_no_number(ending, tiny_tokenizer):
    "On the pretended device an operation that needs one is an error while it records, and this one is seen to be."
    with SecondDevice() as second:
        x = torch.ones(3).to("cuda")
        for work in (lambda: x.sum().item(), lambda: x.tolist(), lambda: bool(x[0]), lambda: x.cpu(), lambda: x.nonzero(),
                     lambda: torch.tensor([1], device="cuda"), lambda: x.copy_(torch.ones(3))):
            with pytest.raises(RuntimeError, match=REFUSED), second.capture(torch.cuda.CUDAGraph()): work()
        with second.capture(recorded := torch.cuda.CUDAGraph()):
            y = x[:2] * 2
            x.add_(y.sum())
        assert x.cpu().tolist() == [1, 1, 1]                     # recording computes nothing
        recorded.replay()
        recorded.replay()
        assert x.cpu().tolist() == [25, 25, 25] and y.cpu().tolist() == [10, 10]
        network = copy.deepcopy(ending).to("cuda")
        made = Buffers(network, 2, 64, 8)
        made.go_back(1, [NEVER] * 2)
        for greedy in (False, True): assert captured(made, 2, 32, greedy).calls


def test_the_released_shape(tiny_tokenizer):
    "On the meta device: shapes without numbers, so whatever waits for one fails."
    config = build_config(tiny_tokenizer, hidden_size=3072, layers=28, heads=24, intermediate_size=8192)
    with torch.device("meta"): network = HiggsAudioV2ForConditionalGeneration(config).eval().bfloat16()
    made = Buffers(network, 4, 1024, 64)
    for rows, bucket, greedy in ((4, 1024, False), (1, 512, True)): made.step(rows, bucket, greedy)
    assert made.cache.shape == (28, 2, 4, network.config.num_key_value_heads, 1024, 128)


# The engine's loop as the oracle

class Reading(engine.CachedNetwork):
    "Reads whole buckets, as a graph does. Sums of other lengths differ in the last bit; in bfloat16, or where all ids are likely, a chance may fall between."
    def room(self, shape):
        self.whole = super().room((*shape[:4], bucket_of(shape[4]), shape[5]))
        return self.whole[..., :shape[4], :]

    def keep(self, places):
        super().keep(places)
        self.whole = self.whole[:, :, places]

    @torch.inference_mode()
    def step(self, columns):
        place, places = torch.tensor([self.seen]), torch.arange(bucket_of(self.seen + 1))
        hidden = (places < torch.tensor(self.padding)[:, None]) | (places > place)
        mask = torch.zeros(hidden.shape, dtype=self.whole.dtype).masked_fill(hidden, self._closed)[:, None, None]
        turns, kept = self.turns[self.positions[:, 0]], self.whole[..., :len(places), :]
        self.positions, self.seen = self.positions + 1, self.seen + 1
        return BucketStep(self.network)(columns, kept, turns, 0, place, mask)


@pytest.fixture
def same_sums(monkeypatch): monkeypatch.setattr(engine, "CachedNetwork", Reading)

@pytest.mark.parametrize("form", FORMS)
def test_prompt_forms(ending, tiny_tokenizer, form):
    for sampling in (GREEDY, LIVELY): assert_loops_agree(ending, prompts_for(tiny_tokenizer, 2, form), [30, 20], sampling)


def mosts(batch): return [4 + 5 * n % 17 for n in range(batch)]


@pytest.mark.parametrize("sampling", (GREEDY, LIVELY, RAS))
@pytest.mark.parametrize("batch", (1, 4, 16))
def test_batches_whose_rows_leave(ending, tiny_tokenizer, batch, sampling):
    rows = assert_loops_agree(ending, prompts_for(tiny_tokenizer, batch), mosts(batch), sampling)
    assert batch < 16 or len({len(row.columns) for row in rows}) > 5


@pytest.mark.parametrize("sampling", (Sampling(0, None, None), Sampling(2.0, None, None, 40, 1), Sampling(1.0, 3, None, 0)))
@pytest.mark.parametrize("batch", (1, 16))
def test_other_settings(ending, tiny_tokenizer, same_sums, batch, sampling):
    assert_loops_agree(ending, prompts_for(tiny_tokenizer, batch), mosts(batch), sampling, atol=0)


@pytest.mark.parametrize("seed", range(6))
def test_rows_that_end_by_themselves(ending, tiny_tokenizer, seed):
    seeds = [10 * seed + n for n in range(4)]
    rows = assert_loops_agree(ending, prompts_for(tiny_tokenizer, 4), [60] * 4, LIVELY, seeds=seeds)
    assert any(row.stop_reason == "eos" for row in rows)


@pytest.mark.parametrize("batch, seed", [(1, 0), (1, 1), (4, 2), (4, 3), (16, 4)])
def test_bfloat16(ending, tiny_tokenizer, same_sums, batch, seed):
    network, prompts = copy.deepcopy(ending).bfloat16(), prompts_for(tiny_tokenizer, batch)
    for sampling in (GREEDY, RAS):
        assert_loops_agree(network, prompts, mosts(batch), sampling, seeds=range(seed, seed + batch), atol=0)


@pytest.mark.parametrize("batch", (1, 4, 16))
def test_logits_in_bfloat16_are_as_near_as_its_digits_allow(ending, tiny_tokenizer, batch):
    network, prompts, seen = copy.deepcopy(ending).bfloat16(), prompts_for(tiny_tokenizer, batch), {}
    for kind in (engine.CachedNetwork, Reading):
        cached = kind(network, prompts, 30, PrefixStore(), [0] * batch)
        cached.prefill()
        drawn = torch.Generator().manual_seed(1)
        seen[kind] = torch.stack([cached.step(torch.randint(0, 1024, (batch, 8), generator=drawn)) for _ in range(20)])
    one, other = seen.values()
    assert (one - other).abs().max() < 0.05 * one.abs().max()


@pytest.mark.parametrize("reason, column", [("silence", 1), ("silence", 12), ("repetition", 9), ("timeout", 1), ("interrupted", 14)])
@pytest.mark.parametrize("sampling", (GREEDY, LIVELY))
def test_ends_that_the_host_asks_for(endless, tiny_tokenizer, reason, column, sampling):
    "The column in flight was made for the wrong rows, or without the ramp."
    def strike(rows):
        if len(rows[1].columns) != column: return
        rows[1].cut_off(reason) if reason in ("timeout", "interrupted") else rows[1].request_end(reason)
    for batch in (2, 5):
        rows = assert_loops_agree(endless, prompts_for(tiny_tokenizer, batch), [20] * batch, sampling, strike=strike)
        assert rows[1].stop_reason == reason


def test_a_rule_and_a_row_that_leaves_at_once(endless, tiny_tokenizer):
    def strike(rows):
        if len(rows[0].columns) == 13: rows[0].request_end("silence"); rows[2].request_end("repetition"); rows[1].cut_off("timeout")
    assert_loops_agree(endless, prompts_for(tiny_tokenizer, 5), [30, 30, 30, 4, 5], LIVELY, strike=strike)


def test_known_prefixes(ending, tiny_tokenizer):
    prompts = [prompt_of(tiny_tokenizer, text=text) for text in ("One.", "Two and three.", "Four.")]
    alike = torch.stack([each.ids[:60] for each in prompts])
    length = int((alike == alike[0]).all(0).long().cumprod(0).sum())
    store = PrefixStore()
    for _ in range(2): assert_loops_agree(ending, prompts, [20, 9, 30], LIVELY, prefixes=store, prefix_lengths=[length] * 3)
    assert store.read == 1


def test_a_sample_that_nobody_judges_makes_no_column_twice(endless, tiny_tokenizer):
    "A budget's end is foreseen: so many steps as columns, but for the first, which follows from the prompt."
    graphs = Counting()
    rows, _ = told(graphs.decode, endless, prompts_for(tiny_tokenizer, 2), [60, 4], LIVELY)
    assert len(graphs.asked) == 68 and [key[0] for key in graphs.asked] == [2] * 12 + [1] * 56
    assert [len(row.columns) for row in rows] == [69, 13] and len({key[1] for key in graphs.asked}) > 1


def test_the_next_column_is_asked_for_before_one_is_seen(endless, tiny_tokenizer):
    graphs = Counting()
    for number, _ in enumerate(graphs.decode(endless, prompts_for(tiny_tokenizer, 1), [4], GREEDY, seeded(0)), 1):
        assert len(graphs.asked) == min(number, 12)


def test_a_column_that_was_thrown_away_is_the_only_one(endless, tiny_tokenizer):
    graphs = Counting()
    def strike(rows):
        if len(rows[0].columns) == 6: rows[0].request_end("silence")
    rows, _ = told(graphs.decode, endless, prompts_for(tiny_tokenizer, 1), [40], GREEDY, strike=strike)
    assert len(rows[0].columns) == 14 and len(graphs.asked) == 14


# Buffers that are used again

def test_one_set_serves_samples_after_each_other(ending, tiny_tokenizer, same_sums):
    graphs = Graphs()
    for batch, sampling in ((4, LIVELY), (1, GREEDY), (2, RAS), (4, Sampling(2.0, None, None)), (1, LIVELY)):
        assert_loops_agree(ending, prompts_for(tiny_tokenizer, batch), [20] * batch, sampling, graphs, atol=0)
    assert len(graphs.kept) == 1 and graphs.kept[0].rows == 4


def test_what_a_broken_sample_left_is_not_heard(endless, tiny_tokenizer):
    network, graphs, prompts = copy.deepcopy(endless), Graphs(), prompts_for(tiny_tokenizer, 2)
    weight = network.model.layers[1].self_attn.v_proj.weight
    kept, steps = weight.data.clone(), graphs.decode(network, prompts, [40, 40], GREEDY, seeded(0, 0))
    for _ in range(3): next(steps)
    weight.data[1] = float("nan")
    with pytest.raises(EngineError, match="its logits are not numbers in column 4: weights or dtype are broken"):
        for _ in range(3): next(steps)
    weight.data[:] = kept
    assert_loops_agree(network, prompts, [9, 20], GREEDY, graphs)
    assert len(graphs.kept) == 1


def test_weights_count_where_they_are(endless, tiny_tokenizer):
    network, graphs, prompts = copy.deepcopy(endless), Graphs(), prompts_for(tiny_tokenizer, 1)
    before = assert_loops_agree(network, prompts, [12], GREEDY, graphs)
    used = graphs.kept[0]
    with torch.no_grad(): network.model.layers[0].audio_mlp.up_proj.weight.mul_(1.5)
    after = assert_loops_agree(network, prompts, [12], GREEDY, graphs)
    assert graphs.kept == [used] and not torch.equal(before[0].codes, after[0].codes)
    network.double().float()                                            # moved: the buffers know the old place
    assert_loops_agree(network, prompts, [12], GREEDY, graphs)
    assert used not in graphs.kept and len(graphs.kept) == 1
    network.audio_lm_head.weight.data = network.audio_lm_head.weight.data * 2         # the head alone
    assert_loops_agree(network, prompts, [12], Sampling(seed=0), graphs)


def test_a_stream_that_is_left_gives_its_buffers_back(endless, tiny_tokenizer):
    graphs, prompts = Graphs(), prompts_for(tiny_tokenizer, 1)
    steps = graphs.decode(endless, prompts, [40], GREEDY, seeded(0))
    next(steps)
    assert not graphs.kept
    steps.close()
    assert len(graphs.kept) == 1 and graphs.kept[0].ring.sent == graphs.kept[0].ring.read


def test_two_samples_at_once_have_two_sets(ending, tiny_tokenizer):
    graphs, prompts, made, ready = Graphs(), prompts_for(tiny_tokenizer, 3), {}, threading.Barrier(3)
    def work(n):
        ready.wait()
        made[n] = [told(graphs.decode, ending, prompts[n:n + 1], [30], LIVELY, seeds=[n]) for _ in range(2)]
    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for each in threads: each.start()
    for each in threads: each.join()
    for n in range(3):
        for mine in made[n]: assert_same(mine, told(decode, ending, prompts[n:n + 1], [30], LIVELY, seeds=[n]))
    assert 1 <= len(graphs.kept) <= 2


def test_no_room(endless, tiny_tokenizer, monkeypatch):
    prompts, graphs = prompts_for(tiny_tokenizer, 2), Graphs()
    most = bucket_of(max(len(each.ids) for each in prompts) + 29)
    monkeypatch.setattr(graph, "free_bytes", lambda device: cache_bytes(endless, 2, most) - 1)
    smaller = max(size for size in map(bucket_of, range(1, most)) if size < most)
    with pytest.warns(UserWarning, match=rf"^graph: 2 rows of {most} positions need .* GB are free on cpu; the largest that fits has {smaller}; "
                                         "the columns are made without a graph$"):
        assert_loops_agree(endless, prompts, [20, 20], GREEDY, graphs)
    assert not graphs.kept
    monkeypatch.setattr(graph, "free_bytes", lambda device: 10)
    with pytest.warns(UserWarning, match="; none fits; "): told(graphs.decode, endless, prompts, [20, 20], GREEDY)


def test_kept_buffers_give_way(endless, monkeypatch):
    graphs = Graphs()
    graphs.give_back(graphs.take(endless, 1, 100, 8))
    room = iter((10, 10**9, 10**9))
    monkeypatch.setattr(graph, "free_bytes", lambda device: next(room))
    assert graphs.take(endless, 4, 300, 8).rows == 4 and not graphs.kept


@pytest.mark.parametrize("meddle, says", [
    (lambda network: network.train(), "it is in training mode"),
    (lambda network: setattr(network, "audio_lm_head", torch.nn.Sequential(network.audio_lm_head)), "its head is of another kind"),
    (lambda network: network.audio_lm_head.register_forward_hook(lambda *args: None), "its head has hooks")])
def test_what_a_graph_cannot_hold_is_left_to_the_engine(endless, tiny_tokenizer, meddle, says):
    network, graphs = copy.deepcopy(endless), Counting()
    meddle(network)
    assert graph_obstacle(network) == says
    assert_loops_agree(network, prompts_for(tiny_tokenizer, 1), [9], GREEDY, graphs)
    assert not graphs.asked and not graphs.kept


# Sessions

@pytest.fixture(scope="module")
def ahead(): return vl.load("tiny", graph=True)


def assert_clones_alike(one, other):
    assert one.stop_reason == other.stop_reason and torch.equal(one.codes, other.codes)
    assert (one.audio.samples == other.audio.samples).all() and [c.stop_reason for c in one.chunks] == [c.stop_reason for c in other.chunks]
    pd.testing.assert_frame_equal(one.trace, other.trace, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("control, reason", [
    (Control(), "eos"), (Control(silence_frames=1, silence_db=0), "silence"), (Control(repetition_frames=2), None),
    (Control(timeout_seconds=0), "timeout")])
def test_clones(model, ahead, reference, control, reason):
    one, other = (each.clone("The garden is open today.", reference=reference, seed=4, control=control) for each in (ahead, model))
    assert_clones_alike(one, other)
    assert reason in (None, one.stop_reason) and len(ahead.graphs.kept)


def test_long_texts_streams_and_batches(model, ahead, reference):
    one, other = (each.clone(LONG, reference=reference, seed=1, turns=1, chunking=1.0) for each in (ahead, model))
    assert_clones_alike(one, other)
    assert len(one.chunks) > 1
    streamed = ahead.stream(LONG, reference=reference, seed=1)
    assert sum(len(piece.samples) for piece in streamed) == len(streamed.generation.audio.samples)
    batches = [each.clone_batch(["A garden.", LONG, "Yes."], references=[reference, None, reference], seeds=[1, 2, 3]) for each in (ahead, model)]
    for one, other in zip(*batches): assert torch.equal(one.codes, other.codes) and one.stop_reason == other.stop_reason


def test_a_sample_that_is_stopped_by_hand(model, ahead, reference):
    for each in (ahead, model):
        session = each.stream(LONG, reference=reference, seed=1)
        for n, _ in enumerate(session):
            if n == 1: session.stop()
        assert session.generation.stop_reason == "interrupted" and session.generation.audio.seconds > 0


def test_it_is_asked_for_by_name(model, ahead):
    assert type(model.engine).__name__ == "HiggsEngine" and type(ahead.engine).__name__ == "GraphEngine"
    with pytest.raises(vl.VoicelabError, match="^graph: must be True or False, got 1$"): vl.load("tiny", graph=1)


def test_memory_that_only_kept_buffers_take_is_free(ahead, reference, monkeypatch):
    ahead.clone("Yes.", reference=reference, seed=1)
    assert ahead.graphs.kept
    monkeypatch.setattr(cache, "free_bytes", lambda device: 1 if ahead.graphs.kept else 10**12)
    assert ahead.clone("Yes.", reference=reference, seed=1).codes.shape[1]


# Capture and replay, on the pretended device

@pytest.fixture
def second():
    with SecondDevice() as device: yield device


def test_replays_give_what_the_cpu_gives(ending, tiny_tokenizer, second):
    there, graphs = copy.deepcopy(ending).to("cuda"), Graphs()
    for batch, sampling in ((1, GREEDY), (3, LIVELY), (1, LIVELY)):
        prompts, most = prompts_for(tiny_tokenizer, batch), [20 - 6 * n for n in range(batch)]
        assert_same(told(graphs.decode, there, prompts, most, sampling), told(decode, ending, prompts, most, sampling))
    made = {key for each in graphs.kept for key in each.graphs}
    assert graphs.failed is None and {rows for rows, *_ in made} == {1, 2, 3} and {greedy for *_, greedy in made} == {True, False}


def test_settings_need_no_new_graph(endless, tiny_tokenizer, second):
    there, graphs, prompts = copy.deepcopy(endless).to("cuda"), Graphs(), prompts_for(tiny_tokenizer, 2)
    told(graphs.decode, there, prompts, [9, 9], LIVELY)
    made = len(second.graphs)
    for sampling in (RAS, Sampling(0.2, 3, 0.5), Sampling(0, None, None), Sampling(3.0, None, None, 0)):
        mine = told(graphs.decode, there, prompts, [9, 9], sampling, seeds=[5, 6])
        assert_same(mine, told(decode, endless, prompts, [9, 9], sampling, seeds=[5, 6]))
    assert len(second.graphs) == made and sum(each.replays for each in second.graphs) == 5 * 17


def test_a_capture_that_fails_is_said_once(endless, tiny_tokenizer, second, monkeypatch):
    there, graphs, prompts = copy.deepcopy(endless).to("cuda"), Graphs(), prompts_for(tiny_tokenizer, 2)
    def broken(*args): raise RuntimeError("CUDA error: out of luck\nand more")
    monkeypatch.setattr(torch.cuda, "graph", broken)
    with pytest.warns(UserWarning, match="^graph: capture failed: RuntimeError: CUDA error: out of luck and more; the columns are made without a graph$"):
        mine = told(graphs.decode, there, prompts, [20, 9], LIVELY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = told(graphs.decode, there, prompts, [20, 9], LIVELY)
    wanted = told(decode, endless, prompts, [20, 9], LIVELY)
    assert_same(mine, wanted)
    assert_same(again, wanted)
    assert "out of luck" in repr(graphs)


def test_ctrl_c_during_capture(endless, tiny_tokenizer, second, monkeypatch):
    there, graphs, prompts, original = copy.deepcopy(endless).to("cuda"), Graphs(), prompts_for(tiny_tokenizer, 1), torch.cuda.graph
    def interrupted(*args): raise KeyboardInterrupt
    monkeypatch.setattr(torch.cuda, "graph", interrupted)
    with pytest.raises(KeyboardInterrupt): told(graphs.decode, there, prompts, [9], LIVELY)
    monkeypatch.setattr(torch.cuda, "graph", original)
    assert_same(told(graphs.decode, there, prompts, [9], LIVELY), told(decode, endless, prompts, [9], LIVELY))
    assert graphs.failed is None and graphs.kept[0].graphs


def test_two_models_on_one_device(endless, ending, tiny_tokenizer, second):
    prompts = prompts_for(tiny_tokenizer, 1)
    pairs = [(network, copy.deepcopy(network).to("cuda"), Graphs()) for network in (endless, ending)]
    loops = [graphs.decode(there, prompts, [20], LIVELY, seeded(7)) for _, there, graphs in pairs]
    turns = [list(loops[0].__next__() for _ in range(5)), list(loops[1]), list(loops[0])]
    for (network, *_), step in zip(pairs, (turns[2][-1], turns[1][-1])):
        rows, _ = told(decode, network, prompts, [20], LIVELY, seeds=[7])
        assert torch.equal(step.rows[0].codes, rows[0].codes)
