"""VITA-Audio's own forward pass of new tokens against transformers' layers, turns that are read at once, long answers in linear time."""
import copy
import math

import pytest
import torch
from conftest import seeded
from transformers import DynamicCache

from voicelab.control import Sampling
from voicelab.families.vita import decode, network
from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.decode import MODES, VITA_SAMPLING, decode_tokens, mode_turns, plan_turns
from voicelab.families.vita.prompt import Heard, render_vita, vita_messages
from voicelab.families.vita.step import Places, obstacle
from voicelab.generation import EngineError, weights_version
from voicelab.models.glm4voice import HEARD_CODES, tiny_glm4voice

GREEDY = Sampling.preset("greedy")


@pytest.fixture(scope="module")
def tiny(): return tiny_vita(n_codes=64)


@pytest.fixture(scope="module")
def calm():
    "One whose weights are not so large that ten heads after each other multiply every rounding by a thousand."
    parts = tiny_vita(n_codes=64)
    for weights in parts.network.parameters():
        if weights.ndim > 1: weights.data.mul_(0.4)
    return parts


def asked(tiny): return render_vita(vita_messages("clone", text="Hello.", reference=Heard(codes=torch.arange(30)[None])), tiny.tokenizer, tiny.variant)


def tokens_of(tiny, mode="boost", sampling=VITA_SAMPLING, tokens=60, seed=0, **options):
    return list(decode_tokens(tiny.network, asked(tiny), tiny.tokens, mode=mode, most_tokens=tokens, most_frames=options.pop("frames", tokens),
                              sampling=sampling, generator=torch.Generator().manual_seed(seed), **options))


# The oracle

def portions(net, cache, cuts, x):
    "Hidden states of the main model and of two heads, read in portions."
    ids, made = torch.arange(len(x[0]))[None], [[], [], []]
    for first, last in zip(cuts, cuts[1:]): made[0].append(net.main(x[:, first:last], cache, first))
    states = torch.cat(made[0], 1)
    for number in (0, 1):
        states = states[:, :-1]
        for first, last in zip(cuts, [*cuts[1:-1], states.shape[1]]):
            made[number + 1].append(net.head(number, ids[:, first + number + 1:last + number + 1], states[:, first:last], cache, first + number + 1))
        states = torch.cat(made[number + 1], 1)
    return [torch.cat(each, 1) for each in made]


@pytest.mark.parametrize("cuts", ([0, 30], [0, 5, 6, 7, 20, 30], [0, 1, 2, 3, 17, 18, 30]))
@torch.inference_mode()
def test_hidden_states_equal_transformers(tiny, processor, cuts):
    net = tiny.network
    x = torch.randn(1, 30, net.config.qwen.hidden_size, generator=torch.Generator().manual_seed(0))
    ours, theirs = (portions(net, cache, cuts, x) for cache in (Places(net.model, room=4), DynamicCache()))
    for mine, wanted in zip(ours, theirs):
        assert mine.shape == wanted.shape and (mine - wanted).abs().max() <= 1e-4 * max(1, wanted.abs().max())


@torch.inference_mode()
def test_bfloat16_is_as_near_to_float32_as_transformers_is(tiny):
    net, cuts = copy.deepcopy(tiny.network).bfloat16(), [0, 5, 6, 7, 20, 30]
    x = torch.randn(1, 30, net.config.qwen.hidden_size, generator=torch.Generator().manual_seed(0)).bfloat16()
    ours, theirs = (portions(net, cache, cuts, x) for cache in (Places(net.model), DynamicCache()))
    for mine, other, wanted in zip(ours, theirs, portions(copy.deepcopy(net).float(), DynamicCache(), cuts, x.float())):
        assert mine.dtype == torch.bfloat16 and (mine - wanted).abs().mean() < 1.5 * (other - wanted).abs().mean()


@pytest.mark.parametrize("mode", [*MODES, (1, 3), (2, 12, 1, 2)])
@pytest.mark.parametrize("sampling", (GREEDY, VITA_SAMPLING, Sampling(0.7, 20, 0.9, ras_window=5, ras_repeats=1)))
def test_the_same_tokens_are_drawn(calm, monkeypatch, mode, sampling):
    mine = tokens_of(calm, mode, sampling, repetition_penalty=1.05, tokens=45)
    monkeypatch.setattr(network, "obstacle", lambda backbone: "a test")
    theirs = tokens_of(calm, mode, sampling, repetition_penalty=1.05, tokens=45)
    assert [(each.id, each.speaker, each.stop_reason) for each in mine] == [(each.id, each.speaker, each.stop_reason) for each in theirs]
    for one, other in zip(mine, theirs): assert one.entropy_bits == pytest.approx(other.entropy_bits, abs=1e-3)


# Weights

def test_there_is_no_second_copy_and_changes_in_place_count():
    tiny = tiny_vita(n_codes=64)
    net, size = tiny.network, lambda net: sum({each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in net.parameters()}.values())
    before, version, weights = size(net), weights_version(net), copy.deepcopy(net.state_dict())
    first = [token.id for token in tokens_of(tiny)]
    assert size(net) == before and weights_version(net) == version
    for name, tensor in net.state_dict().items(): assert torch.equal(tensor, weights[name])
    with torch.no_grad():
        for layer in net.model.layers:
            for part in (layer.self_attn.k_proj.weight, layer.self_attn.q_proj.bias, layer.mlp.up_proj.weight): part.mul_(3).add_(0.1)
    changed = [token.id for token in tokens_of(tiny)]
    assert changed != first
    again = tiny_vita(n_codes=64)
    again.network.load_state_dict(net.state_dict())
    assert [token.id for token in tokens_of(again)] == changed


@pytest.mark.parametrize("meddle, says", [
    (lambda net: net.model.layers[1].mlp.register_forward_hook(lambda module, inputs, output: output + 1), "its layers have hooks"),
    (lambda net: net.train(), "it is in training mode"), (lambda net: net.model.layers[0].double(), "its weights differ in kind, device or dtype"),
    (lambda net: setattr(net.model.layers[2].mlp, "act_fn", torch.nn.GELU()), "it has a part of another kind, GELU")])
def test_transformers_serves_what_it_does_not_know(meddle, says):
    net = tiny_vita(n_codes=64).network
    assert obstacle(net.model) is None and isinstance(net.cache(), Places)
    meddle(net)
    assert obstacle(net.model) == says and isinstance(net.cache(), DynamicCache)


def test_a_hook_is_heard():
    tiny = tiny_vita(n_codes=64)
    plain, seen = [token.id for token in tokens_of(tiny)], []
    hook = tiny.network.model.layers[1].mlp.register_forward_hook(lambda module, inputs, output: seen.append(1) or 2 * output)
    assert [token.id for token in tokens_of(tiny)] != plain and seen
    hook.remove()
    assert [token.id for token in tokens_of(tiny)] == plain


# Turns

@pytest.mark.parametrize("mode", MODES)
def test_a_turn_is_read_once(tiny, monkeypatch, mode):
    read, original = [], decode.read_turn
    monkeypatch.setattr(decode, "read_turn", lambda turn, tokens: (read.append([main for _, _, main, _ in turn]), original(turn, tokens))[1])
    made = tokens_of(tiny, mode, tokens=40)
    plan = [main for main, _ in zip(plan_turns(mode), range(40))]
    assert len(made) <= sum(map(len, read)) and [main for turn in read for main in turn] == plan[:sum(map(len, read))]
    assert all(turn[0] and not any(turn[1:]) for turn in read)
    if mode != "vanilla": assert max(map(len, read)) == 1 + max(mode_turns(mode)[1::2])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("frames", (1, 3, 10, 17))
def test_a_budget_within_a_turn_ends_there(tiny, mode, frames):
    whole = tokens_of(tiny, mode, tokens=60)
    made = tokens_of(tiny, mode, tokens=60, frames=frames)
    codes = [each.code is not None for each in whole]
    want = next((n + 1 for n in range(len(codes)) if sum(codes[:n + 1]) == frames), len(codes))
    assert [each.id for each in made] == [each.id for each in whole][:want]
    assert made[-1].stop_reason == ("budget" if sum(codes) >= frames else whole[-1].stop_reason) and not any(each.stop_reason for each in made[:-1])
    assert [each.id for each in tokens_of(tiny, mode, tokens=frames)] == [each.id for each in whole][:frames]


def test_an_end_within_a_turn_drops_the_rest(tiny):
    stop = tiny.tokens.stops[0]
    at = [0]
    def wish(module, inputs, output):
        at[0] += 1
        output[..., stop] = 1e4 if at[0] == 7 else -1e4
    hook = tiny.network.lm_head.register_forward_hook(wish)
    try: made = tokens_of(tiny, "turbo")
    finally: hook.remove()
    assert len(made) == 7 and made[-1].stop_reason == "eos" and made[-1].speaker == "head 5" and at[0] == 11


def test_logits_that_are_no_numbers_name_their_step(tiny):
    at = [0]
    def wish(module, inputs, output):
        at[0] += 1
        if at[0] == 5: output.fill_(math.nan)
    hook = tiny.network.lm_head.register_forward_hook(wish)
    try:
        with pytest.raises(EngineError, match="not numbers in step 4"): tokens_of(tiny, "turbo")
    finally: hook.remove()


# Long answers

def flow_reads(codec, monkeypatch):
    "How many codes each call of the flow reads."
    reads, forward = [], codec.flow.forward
    monkeypatch.setattr(codec.flow, "forward", lambda codes, *args, **more: (reads.append(codes.shape[1]), forward(codes, *args, **more))[1])
    return reads


def codes_of(count): return torch.randint(0, 16_384, (1, count), generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("given", (0, 37))
def test_a_block_hears_no_more_than_its_share(monkeypatch, given):
    codec = tiny_glm4voice()
    voice = None
    if given: voice = codec.voice(codec.decode(codes_of(given + 2), 1))
    session, reads = codec.session(1, seeded(0)[0], voice, blocks=(8, 160)), flow_reads(codec, monkeypatch)
    codes, most, frames = codes_of(1500), 2 * HEARD_CODES + 160 + session.given, codec.flow.config.frames
    pieces = [piece for block in codes.split(13, 1) if (piece := session.push(block)) is not None] + [session.flush()]
    assert max(reads) < most and sum(len(piece.samples) for piece in pieces) == (frames(1500 + session.given) - frames(session.given)) * 256
    assert torch.equal(session.codes[:, session.given:], codes[:, -(session.codes.shape[1] - session.given):])


def test_what_is_forgotten_changes_nothing_before(monkeypatch):
    "Up to 640 codes a stream is what it was when every block heard everything; later frames go on from the same place."
    codec, codes = tiny_glm4voice(), codes_of(900)
    def stream():
        session = codec.session(1, seeded(3)[0], blocks=(160,))
        return torch.cat([torch.from_numpy(piece.samples) for block in codes.split(160, 1) if (piece := session.push(block)) is not None])
    mine = stream()
    monkeypatch.setattr("voicelab.models.glm4voice.forgotten", lambda config, codes: 0)
    whole = stream()
    hop = codec.flow.config.frames(64) * 256 // 64
    assert len(mine) == len(whole) and torch.equal(mine[:630 * hop], whole[:630 * hop]) and not torch.equal(mine, whole)


@pytest.mark.parametrize("count, blocks", [(640, [640]), (641, [320, 640, 321]), (1300, [320, 640, 640, 640, 340])])
def test_a_long_decode_goes_block_by_block(monkeypatch, count, blocks):
    codec = tiny_glm4voice()
    reads = flow_reads(codec, monkeypatch)
    sound = codec.decode(codes_of(count), 1)
    assert len(sound.samples) == codec.flow.config.frames(count) * 256 and reads == blocks
