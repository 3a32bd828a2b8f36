"""Our forward pass of one column: transformers' as the oracle, weights that are moved but not copied, networks that it does not know."""
import copy
import gc
import platform
import subprocess
import sys
import threading

import pytest
import torch
from conftest import GREEDY, endless, prompt_of, saying, seeded
from safetensors.torch import load, save
from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

from voicelab.control import Sampling
from voicelab.families.higgs import cache
from voicelab.families.higgs.cache import CachedNetwork, PrefixStore
from voicelab.families.higgs.checkpoint import HiggsParts
from voicelab.families.higgs.engine import decode
from voicelab.families.higgs.model import HiggsModel
from voicelab.families.higgs.prompt import PROMPT_FORMS
from voicelab.families.higgs.step import ColumnStep, obstacle
from voicelab.families.higgs.tiny import build_config
from voicelab.generation import EngineError, ModelInfo, weights_version
from voicelab.lab import load as load_model
from voicelab.models.step import Halves, _halved, can_halve, halved, packed, product, rms_norm, side_by_side

FORMS = (*PROMPT_FORMS, None)
LLAMA3 = dict(rope_type="llama3", rope_theta=500_000.0, factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)


def network_of(tokenizer, seed=5, **changes):
    "A random network of its own, which a test may change."
    base = build_config(tokenizer, hidden_size=64, layers=2, heads=4, intermediate_size=128).to_dict()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = HiggsAudioV2ForConditionalGeneration(HiggsAudioV2Config(**base | changes)).eval()
        for tensor in network.parameters():
            if tensor.ndim > 1: tensor.data.mul_(4)
            else: tensor.data.uniform_(0.5, 1.5)                # norms and biases that matter
    return network


def both(network, prompts, columns=12, prefix_lengths=None, store=None):
    "The batch twice: by our step, and by transformers' forward."
    made = [CachedNetwork(network, prompts, columns, store or PrefixStore(), prefix_lengths or [0] * len(prompts)) for _ in range(2)]
    assert isinstance(made[0].column_step, ColumnStep)
    made[1].column_step = None
    return made


def columns_for(batch, seed): return torch.randint(0, 1026, (batch, 8), generator=torch.Generator().manual_seed(seed))


def assert_alike(mine, theirs, steps, atol=1e-5, leave=None):
    "Equal logits through `steps` columns, relative to the largest; the rows that `leave` names leave on the way."
    assert torch.equal(mine.prefill(), theirs.prefill())
    for turn in range(steps):
        if leave and turn in leave:
            for each in (mine, theirs): each.keep(torch.tensor(leave[turn]))
        columns = columns_for(len(mine.mask), turn)
        ours, wanted = mine.step(columns), theirs.step(columns)
        assert ours.shape == wanted.shape and ours.dtype == torch.float32
        assert (ours - wanted).abs().max() <= atol * max(1, wanted.abs().max())
    for one, other in zip(mine.cache.layers, theirs.cache.layers):
        assert one.cumulative_length == other.cumulative_length == mine.seen
        assert torch.allclose(one.keys.float(), other.keys.float(), atol=100 * atol) and one.keys.shape == other.keys.shape


def prompts_for(tokenizer, batch, form="assistant_ref", even=False):
    return [prompt_of(tokenizer, form, 9 if even else 5 + 7 * n % 31, text="Hi." if even else "word " * (1 + n % 5), seed=n) for n in range(batch)]


# The oracle

@pytest.mark.parametrize("batch", (1, 4, 16))
@pytest.mark.parametrize("form", FORMS)
def test_logits_equal_transformers(tiny_network, tiny_tokenizer, processor, form, batch):
    assert_alike(*both(tiny_network, prompts_for(tiny_tokenizer, batch, form)), 10)


def test_even_prompts_need_no_mask(tiny_network, tiny_tokenizer):
    prompts, masks = prompts_for(tiny_tokenizer, 4, even=True), []
    mine, theirs = both(tiny_network, prompts)
    step = mine.column_step
    mine.column_step = lambda *args: (masks.append(args[-1]), step(*args))[1]
    assert_alike(mine, theirs, 5)
    assert masks == [None] * 5


def test_rows_leave_until_one_is_left(tiny_network, tiny_tokenizer):
    mine, theirs = both(tiny_network, prompts_for(tiny_tokenizer, 6))
    assert_alike(mine, theirs, 12, leave={2: [0, 2, 3, 5], 5: [3, 1], 9: [1]})
    assert len(mine.padding) == 1 and mine.kept.shape[2] == 1


def test_known_prefixes_change_nothing(tiny_network, tiny_tokenizer):
    prompts, store = [prompt_of(tiny_tokenizer, text=text) for text in ("One.", "Two and three.", "Four.")], PrefixStore()
    alike = torch.stack([each.ids[:60] for each in prompts])
    length = int((alike == alike[0]).all(0).long().cumprod(0).sum())
    assert length > 20
    assert_alike(*both(tiny_network, prompts, prefix_lengths=[length] * 3, store=store), 10)
    assert store.read == 1


@pytest.mark.parametrize("batch", (1, 4, 16))
def test_bfloat16_is_as_near_as_its_digits_allow(tiny_network, tiny_tokenizer, batch):
    "bfloat16 keeps 8 bits; both ways differ from float32 by as much as from each other."
    network = copy.deepcopy(tiny_network).bfloat16()
    assert_alike(*both(network, prompts_for(tiny_tokenizer, batch)), 8, atol=0.05)


@pytest.mark.parametrize("changes", (
    dict(num_key_value_heads=2), dict(num_key_value_heads=1), dict(head_dim=32), dict(rope_parameters=LLAMA3), dict(rms_norm_eps=0.1),
    dict(num_hidden_layers=1, num_attention_heads=8, num_key_value_heads=4, head_dim=8)))
def test_other_shapes(tiny_tokenizer, changes):
    network = network_of(tiny_tokenizer, **changes)
    assert obstacle(network) is None
    assert_alike(*both(network, prompts_for(tiny_tokenizer, 3)), 8)


@pytest.mark.parametrize("sampling", (GREEDY, Sampling(temperature=1.5), Sampling(0.7, ras_repeats=1)))
@pytest.mark.parametrize("batch", (1, 4, 16))
def test_the_same_columns_are_drawn(tiny_network, tiny_tokenizer, monkeypatch, batch, sampling):
    prompts, most = prompts_for(tiny_tokenizer, batch), [4 + 5 * n % 17 for n in range(batch)]
    def run():
        *_, last = decode(tiny_network, prompts, most, sampling, seeded(*range(batch)))
        return [(torch.stack(row.columns, 1), row.stop_reason) for row in last.rows]
    mine = run()
    monkeypatch.setattr(cache, "obstacle", lambda network: "a test")
    for (columns, reason), (wanted, said) in zip(mine, run(), strict=True): assert torch.equal(columns, wanted) and reason == said


def test_the_released_tiny_model_says_the_same(model, reference, monkeypatch):
    mine = model.clone("A garden.", reference=reference, seed=3)
    monkeypatch.setattr(cache, "obstacle", lambda network: "a test")
    assert torch.equal(mine.codes, model.clone("A garden.", reference=reference, seed=3).codes)


# Weights

def storages(network): return {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in network.parameters()}


def used(network, tokenizer): return both(network, prompts_for(tokenizer, 2))[0]


def test_there_is_no_second_copy(tiny_tokenizer):
    network = network_of(tiny_tokenizer)
    before, version, names = copy.deepcopy(network.state_dict()), weights_version(network), [*dict(network.named_parameters())]
    parameters, size = {*network.parameters()}, sum(storages(network).values())
    used(network, tiny_tokenizer)
    assert {*network.parameters()} == parameters and [*dict(network.named_parameters())] == names and weights_version(network) == version
    assert sum(storages(network).values()) == size and len(storages(network)) == len(parameters) - 2 * 3
    for name, tensor in network.state_dict().items(): assert torch.equal(tensor, before[name])


PACKING = """import sys
from pathlib import Path
import torch
from transformers import HiggsAudioV2ForConditionalGeneration
from voicelab.families.higgs.step import ColumnStep
from voicelab.families.higgs.tiny import build_config, build_tokenizer
from voicelab.models.checkpoint import give_memory
from voicelab.models.step import can_halve

def memory(name): return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

with torch.device("meta"):
    network = HiggsAudioV2ForConditionalGeneration(build_config(build_tokenizer(), layers=int(sys.argv[1]), intermediate_size=1024)).eval()
give_memory(network, "cpu")
for each in network.parameters(): each.data.fill_(1)
can_halve()
weights = sum(each.nbytes for each in network.parameters())
Path("/proc/self/clear_refs").write_text("5")               # the most so far is forgotten
before = memory("VmRSS")
ColumnStep(network)
print(weights, memory("VmHWM") - before)"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory a process has used at most")
@pytest.mark.parametrize("layers, most", [(20, 1.15), (12, 2)])
def test_packing_needs_little_memory_while_it_lasts(python, layers, most):
    """In a process of its own, as at loading: what is free in that of the tests depends on the tests before. A small network
    gets a copy of its matrices, which FBGEMM fills up to 512 columns."""
    done = subprocess.run([*python, "-c", PACKING, str(layers)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    weights, more = map(int, done.stdout.split())
    assert weights > 100e6 and (weights + more) / weights < most, (weights, more)


def test_weights_changed_in_place_count_at_once(tiny_tokenizer):
    network = network_of(tiny_tokenizer)
    mine, theirs = both(network, prompts_for(tiny_tokenizer, 2))
    assert_alike(mine, theirs, 2)
    before = mine.step(columns_for(2, 0))
    theirs.step(columns_for(2, 0))
    with torch.no_grad():
        for layer in network.model.layers:
            for linear in (layer.self_attn.k_proj, layer.audio_mlp.up_proj, layer.self_attn.o_proj): linear.weight.mul_(1.5)
    after, wanted = mine.step(columns_for(2, 0)), theirs.step(columns_for(2, 0))
    assert not torch.allclose(after, before, atol=1e-2) and (after - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_packed_weights_can_be_trained(tiny_tokenizer):
    network = network_of(tiny_tokenizer)
    used(network, tiny_tokenizer)
    attention, version = network.model.layers[0].self_attn, weights_version(network)
    optimizer, before = torch.optim.SGD(network.parameters(), 1.0), attention.v_proj.weight.detach().clone()
    network(audio_input_ids=columns_for(3, 0)[None]).logits.sum().backward()
    optimizer.step()
    assert weights_version(network) > version and not torch.equal(attention.v_proj.weight, before)
    assert_alike(*both(network, prompts_for(tiny_tokenizer, 2)), 3)


@pytest.mark.parametrize("move", (
    copy.deepcopy, lambda network: network.double().float(), lambda network: network.to(torch.bfloat16).float(),
    lambda network: network.load_state_dict(load(save(network.state_dict()))) and network))
def test_a_network_that_was_moved_is_packed_anew(tiny_tokenizer, move):
    network = network_of(tiny_tokenizer)
    used(network, tiny_tokenizer)
    moved = move(network)
    assert_alike(*both(moved, prompts_for(tiny_tokenizer, 2)), 4)
    attention = moved.model.layers[0].self_attn
    assert side_by_side([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])


def test_a_packed_network_is_saved_as_any_other(tiny_tokenizer, tmp_path):
    network = network_of(tiny_tokenizer)
    used(network, tiny_tokenizer)
    network.save_pretrained(tmp_path)
    again = HiggsAudioV2ForConditionalGeneration.from_pretrained(tmp_path)
    for name, tensor in again.state_dict().items(): assert torch.equal(tensor, network.state_dict()[name])
    assert_alike(*both(again.eval(), prompts_for(tiny_tokenizer, 2)), 3)


def test_a_network_of_inference_tensors_works(tiny_tokenizer):
    with torch.inference_mode(): network = network_of(tiny_tokenizer)
    assert_alike(*both(network, prompts_for(tiny_tokenizer, 2)), 3)


def test_packing_by_two_threads_at_once(tiny_tokenizer):
    for _ in range(5):
        network, ready, made = network_of(tiny_tokenizer), threading.Barrier(4), []
        wanted = copy.deepcopy(network.state_dict())
        def work(network=network, ready=ready, made=made):
            ready.wait()
            made.append(ColumnStep(network))
        threads = [threading.Thread(target=work) for _ in range(4)]
        for each in threads: each.start()
        for each in threads: each.join()
        assert len({step.layers[1].gate_up.data_ptr() for step in made}) == 1 and len(made) == 4
        for name, tensor in network.state_dict().items(): assert torch.equal(tensor, wanted[name])


# Half precision

@pytest.fixture(params=[False, True], ids=["float32 weights", "halves"])
def half_exact(request, tiny_tokenizer, monkeypatch):
    "A network whose weights half precision holds, without and with products that make use of it."
    if not request.param: monkeypatch.setattr("voicelab.models.step.can_halve", lambda: False)
    network = network_of(tiny_tokenizer)
    for each in network.parameters(): each.data.copy_(each.data.half())
    return network, Halves if request.param and can_halve() else torch.Tensor


def kinds(step): return {type(part) for layer in step.layers for name, part in vars(layer).items() if "norm" not in name} | {type(step.head_matrix)}


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="FBGEMM is for x86 processors")
def test_torch_multiplies_by_halves_here(): assert can_halve()


@pytest.mark.parametrize("batch", (1, 4, 16, 20))
def test_halves_give_the_logits_of_transformers(half_exact, tiny_tokenizer, batch):
    network, kind = half_exact
    mine, theirs = both(network, prompts_for(tiny_tokenizer, batch))
    assert kinds(mine.column_step) == {kind}
    assert_alike(mine, theirs, 10)


@pytest.mark.skipif(not can_halve(), reason="torch has no FBGEMM here")
def test_with_halves_a_row_is_the_same_alone():
    weight, x = torch.randn(500, 700).half().float(), torch.randn(40, 700)
    whole = product(x, Halves(weight))
    assert torch.allclose(whole, torch.nn.functional.linear(x, weight), atol=1e-4)
    for rows in (1, 2, 7, 16, 17): assert torch.equal(product(x[:rows], Halves(weight)), whole[:rows])


@pytest.mark.parametrize("change", (
    lambda weight: weight.mul_(2), lambda weight: weight.data.mul_(2), lambda weight: weight.data[:3].zero_(),
    lambda weight: weight.data.copy_(weight.data.flip(0)), lambda weight: weight.data.add_(1e-5),
    lambda weight: setattr(weight, "data", weight.data * 2), lambda weight: weight.data[0].fill_(70_000)))
def test_changed_weights_count_from_the_next_sample_on(half_exact, tiny_tokenizer, change):
    network, kind = half_exact
    prompts = prompts_for(tiny_tokenizer, 2)
    assert_alike(*both(network, prompts), 2)
    for linear in (network.model.layers[0].self_attn.o_proj, network.model.layers[1].audio_mlp.up_proj, network.audio_lm_head):
        with torch.no_grad(): change(linear.weight)
    assert_alike(*both(network, prompts), 3)


def test_an_edit_that_keeps_all_sums_is_noticed_where_torch_counts_it():
    linear = torch.nn.Linear(8, 4, bias=False).requires_grad_(False)
    linear.weight.fill_(0.5)
    before = halved([linear])
    linear.weight[:2, :2] += torch.tensor([[1, -1], [-1, 1]]) / 64
    if can_halve(): assert halved([linear]) is not before
    assert torch.allclose(product(torch.eye(8), halved([linear])), linear.weight.T)


def test_inside_a_chunk_changed_matrices_of_halves_do_not_count(half_exact, tiny_tokenizer):
    network, kind = half_exact
    steps = [both(network, prompts_for(tiny_tokenizer, 1))[0] for _ in range(2)]
    for each in steps: each.prefill()
    before = steps[0].step(columns_for(1, 0))
    with torch.no_grad(): network.audio_lm_head.weight.mul_(2)
    assert torch.allclose(steps[1].step(columns_for(1, 0)), before * (1 if kind is Halves else 2), atol=1e-5)


def test_copies_go_when_a_network_is_moved(half_exact):
    network, kind = half_exact
    ColumnStep(network)
    assert (network.audio_lm_head in _halved) == (kind is Halves)
    ColumnStep(network.bfloat16())
    assert network.audio_lm_head not in _halved


@pytest.mark.parametrize("value", (float("inf"), float("nan"), 70_000.0, 1e-8, 1 / 3))
def test_a_matrix_that_half_precision_does_not_hold_stays(value):
    linear = torch.nn.Linear(8, 4, bias=False)
    linear.weight.data.fill_(0.5)
    assert type(halved([linear])) is (Halves if can_halve() else torch.Tensor)
    linear.weight.data[1, 2] = value
    assert type(halved([linear])) is torch.Tensor and halved([linear]).data_ptr() == linear.weight.data_ptr()


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16, torch.float64))
def test_other_numbers_are_not_halved(dtype):
    linear = torch.nn.Linear(8, 4, bias=False, dtype=dtype)
    linear.weight.data.fill_(0.5)
    assert type(halved([linear])) is torch.Tensor


def test_large_networks_are_not_halved(half_exact, monkeypatch):
    network, kind = half_exact
    assert kinds(ColumnStep(network)) == {kind}
    monkeypatch.setattr("voicelab.models.step.MOST_HALVED", sum(each.numel() for each in network.parameters()) - 1)
    assert kinds(ColumnStep(network)) == {torch.Tensor}


def test_halves_go_with_their_network(tiny_tokenizer):
    gc.collect()
    before, network = len(_halved), network_of(tiny_tokenizer)
    ColumnStep(network)
    assert len(_halved) > before or not can_halve()
    del network
    gc.collect()
    assert len(_halved) <= before


def test_a_model_is_packed_and_halved_when_it_is_loaded():
    model = load_model("tiny")
    assert side_by_side([getattr(model.network.model.layers[0].self_attn, f"{name}_proj").weight for name in "qkv"])
    assert (model.network.audio_lm_head in _halved) == can_halve()
    one, other = ColumnStep(model.network), ColumnStep(model.network)
    assert kinds(one) == {Halves if can_halve() else torch.Tensor}
    if can_halve(): assert one.head_matrix is other.head_matrix is _halved[model.network.audio_lm_head][-1]


# Parts

def test_weights_in_another_order_are_not_side_by_side():
    rows = torch.randn(12, 4).split(4)
    assert side_by_side([*rows]) and not side_by_side([rows[0], rows[2]]) and not side_by_side([rows[1], rows[0]])
    assert not side_by_side([torch.randn(4, 4), torch.randn(4, 4)]) and not side_by_side([torch.randn(4, 4).T])
    linears = [torch.nn.Linear(4, rows) for rows in (3, 5)]
    wanted = torch.cat([each.weight.data for each in linears])
    assert torch.equal(packed(linears), wanted) and torch.equal(packed(linears[1:]), wanted[3:])


@pytest.mark.parametrize("rows", (1, 2, 8, 16, 17, 40))
@pytest.mark.parametrize("dtype, atol", [(torch.float32, 1e-6), (torch.bfloat16, 0.02), (torch.float64, 1e-12)])
def test_norms_and_products_are_torchs(processor, rows, dtype, atol):
    x, weight = torch.randn(rows, 96, dtype=dtype), torch.randn(96, dtype=dtype)
    matrix = torch.randn(200, 96, dtype=dtype) / 10
    for size in (1e-3, 1, 1e3):
        assert torch.allclose(rms_norm(size * x, weight, 1e-5), torch.nn.functional.rms_norm(size * x, (96,), weight, 1e-5), atol=3 * atol, rtol=3 * atol)
    assert torch.allclose(product(x, matrix), torch.nn.functional.linear(x, matrix), atol=10 * atol, rtol=10 * atol)
    assert rms_norm(0 * x, weight, 1e-5).eq(0).all()


@pytest.mark.parametrize("name", ("self_attn.v_proj", "audio_mlp.gate_proj", "audio_input_layernorm"))
def test_weights_that_are_no_numbers_are_an_error(tiny_tokenizer, name):
    network = network_of(tiny_tokenizer)
    steps = decode(network, prompts_for(tiny_tokenizer, 2), [20, 20], GREEDY, seeded(0, 0))
    with saying(network, endless):
        for _ in range(3): next(steps)
        with torch.no_grad(): network.model.layers[1].get_submodule(name).weight[1] = float("nan")
        with pytest.raises(EngineError, match="its logits are not numbers in column 3: weights or dtype are broken"): next(steps)


# Networks that it does not know

class Adapter(torch.nn.Module):
    def __init__(self, inner): super().__init__(); self.inner = inner
    def forward(self, x): return self.inner(x) + 1


def adapted(network): network.model.layers[1].self_attn.q_proj = Adapter(network.model.layers[1].self_attn.q_proj)
def hooked(network): network.model.layers[0].audio_mlp.register_forward_hook(lambda module, inputs, output: output + 1)
def patched(network):
    part = network.model.layers[0].audio_mlp
    part.forward = lambda x, forward=part.forward: forward(x) + 1
def mixed(network): network.model.layers[0].double()


@pytest.mark.parametrize("changes, meddle, says", [
    (dict(attention_bias=True), None, "its layers have biases"), (dict(mlp_bias=True), None, "its layers have biases"),
    (dict(hidden_act="gelu"), None, "a part of another kind, GELUActivation"),
    ({}, adapted, "a part of another kind, Adapter"), ({}, hooked, "its layers have hooks"), ({}, patched, "its layers have hooks"),
    ({}, lambda network: network.train(), "it is in training mode"),
    (dict(rope_parameters=dict(rope_type="linear", rope_theta=10_000.0, factor=2.0)), None, "its rope_type is linear")])
def test_transformers_serves_what_the_step_does_not_know(tiny_tokenizer, changes, meddle, says):
    network, prompts = network_of(tiny_tokenizer, **changes), prompts_for(tiny_tokenizer, 2)
    if meddle: meddle(network)
    assert says in obstacle(network)
    cached = CachedNetwork(network, prompts, 12, PrefixStore(), [0, 0])
    assert cached.column_step is None
    with saying(network, endless): *_, last = decode(network, prompts, [6, 3], GREEDY, seeded(0, 0))
    for row, prompt, most in zip(last.rows, prompts, (6, 3)):
        assert row.codes.shape[1] == most
        assert row.columns[0].eq(1024).all()                    # BOS, forced; the network speaks from the next column on
        columns = torch.cat([prompt.audio_columns, row.columns[0][:, None]], 1)
        inputs = dict(input_ids=torch.cat([prompt.network_ids, torch.tensor([prompt.audio_token_id])])[None],
                      audio_input_ids=columns.T[None], audio_input_ids_mask=torch.ones(1, columns.shape[1], dtype=torch.bool))
        with saying(network, endless), torch.inference_mode(): second = network(**inputs).logits[0, -1].view(8, -1)
        assert second[0].argmax() == row.columns[1][0]


def test_weights_of_two_dtypes_are_an_obstacle(tiny_tokenizer):
    network = network_of(tiny_tokenizer)
    mixed(network)
    assert obstacle(network) == "its weights differ in kind, device or dtype"


def test_hooks_of_transformers_that_sleep_are_none(tiny_tokenizer):
    network = network_of(tiny_tokenizer)
    network(audio_input_ids=columns_for(3, 0)[None], output_hidden_states=True)
    assert any(module._forward_hooks for module in network.modules()) and obstacle(network) is None


def test_a_model_says_so_once_and_whenever_it_is_shown(tiny_tokenizer, small_codec):
    info = ModelInfo("odd", "higgs-audio-v2", "0", "0" * 64, "small", "none")
    with pytest.warns(UserWarning, match=r"^model: .* its layers have biases") as caught:
        odd = HiggsModel(HiggsParts(network_of(tiny_tokenizer, mlp_bias=True), tiny_tokenizer, small_codec, info, {}))
    assert len(caught) == 1 and "columns by transformers' forward: its layers have biases" in repr(odd)


def test_a_usual_model_says_nothing(model):
    assert "transformers" not in repr(model)
