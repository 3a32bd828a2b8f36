"What is hidden from attention is not seen, by anybody after it; what is not hidden is as it was; and the network is never changed."
import hashlib
from dataclasses import replace
from threading import Thread

import pytest
import torch
from conftest import random_codes, untouched

from voicelab.alter import noise_like
from voicelab.attention import AttentionError
from voicelab.codec import delay
from voicelab.families.higgs.attention import forced_inputs
from voicelab.families.higgs.likelihood import higgs_codes_view
from voicelab.hiding import blocked, hidden_bits, random_positions

TEXT, CODES = "Open today.", random_codes(10)
NOTHING = torch.tensor([], dtype=torch.long)


@pytest.fixture(scope="module")
def short(reference): return reference.altered({"part": "start"}, audio=reference.audio.slice(0, 0.8), transcript="The old library")


@pytest.fixture(scope="module")
def view(model, short): return higgs_codes_view(model, TEXT, CODES, short)


def weights_of(model): return hashlib.sha256(b"".join(each.detach().numpy().tobytes() for each in model.network.parameters())).hexdigest()
def hooks_of(view): return [hook for each in view.layers for hook in each.self_attn._forward_pre_hooks]


def test_nothing_hidden_changes_nothing(view):
    for where in ({}, {"layers": [2]}, {"head": 1}, {"layers": [0, 5], "head": 3}):
        torch.testing.assert_close(hidden_bits(view, NOTHING, **where), view.bits(), atol=1e-4, rtol=0)


def test_hidden_from_all_layers_is_what_transformers_gives_for_the_same_mask(model, view, short):
    prompt, columns = model.prompt(TEXT, short), delay(CODES)
    inputs, count = forced_inputs(prompt, columns), len(prompt.ids) + columns.shape[1]
    allowed = torch.ones(count, count, dtype=torch.bool).tril()
    places = torch.arange(count)
    late, heard = places >= view.reference.stop, (places >= view.reference.start) & (places < view.reference.stop)
    allowed &= ~(late[:, None] & heard)
    with torch.inference_mode():
        logits = model.network(**inputs, attention_mask=allowed[None, None], use_cache=False).logits[0, len(prompt.ids) - 1:-1]
    bits = -logits.view(len(logits), 8, -1).log_softmax(-1) / torch.tensor(2.0).log()
    wanted = torch.stack([torch.stack([bits[1 + book + frame, book, CODES[book, frame]] for frame in range(10)]) for book in range(8)])
    torch.testing.assert_close(hidden_bits(view), wanted, atol=1e-3, rtol=0)
    assert (hidden_bits(view) - view.bits()).abs().max() > 0.1


def test_hidden_from_all_layers_no_other_sound_of_the_same_length_makes_a_difference(model, view, short):
    "That is what `it can't see the reference` means; its length and its transcript are still there."
    noise = higgs_codes_view(model, TEXT, CODES, short.altered({"part": "noise"}, audio=noise_like(short.audio)))
    assert (noise.bits() - view.bits()).abs().max() > 0.1
    torch.testing.assert_close(hidden_bits(noise), hidden_bits(view), atol=1e-4, rtol=0)
    assert (hidden_bits(noise, layers=[0]) - hidden_bits(view, layers=[0])).abs().max() > 1e-3      # other layers still see it


def test_a_layer_is_its_heads_together(model, view):
    one = [hidden_bits(view, layers=[0], head=head) for head in range(4)]
    assert all((bits - view.bits()).abs().max() > 1e-4 for bits in one)
    assert not torch.allclose(one[0], one[1], atol=1e-4)


def test_the_slow_kernel_gives_the_same(model, view):
    fast = [hidden_bits(view), hidden_bits(view, layers=[1], head=2), hidden_bits(view, NOTHING)]
    before = model.network.config._attn_implementation
    model.network.set_attn_implementation("eager")
    try: slow = [hidden_bits(view), hidden_bits(view, layers=[1], head=2), hidden_bits(view, NOTHING)]
    finally: model.network.set_attn_implementation(before)
    for one, other in zip(fast, slow): torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


def test_the_network_is_as_it_was(model, view):
    weights, plain = weights_of(model), view.bits()
    untouched(lambda: hidden_bits(view, random_positions(view, 60, 0), layers=[1, 3]))
    assert weights_of(model) == weights and torch.equal(view.bits(), plain) and not hooks_of(view)


def test_the_network_is_as_it_was_after_an_error(model, view):
    plain = view.bits()
    def broken(*_): raise KeyboardInterrupt
    handle = view.layers[3].self_attn.o_proj.register_forward_pre_hook(broken)
    try:
        with pytest.raises(KeyboardInterrupt): hidden_bits(view)
    finally: handle.remove()
    for wrong, said in (({"layers": [6]}, "layers: must be a whole number from 0 to 5, got 6"), ({"head": 9}, "head: must be a whole number from 0 to 3")):
        with pytest.raises(AttentionError, match=said): hidden_bits(view, **wrong)
    assert not hooks_of(view) and torch.equal(view.bits(), plain)


def test_another_thread_sees_all(view):
    plain, heard = view.bits(), []
    def beside():
        other = Thread(target=lambda: heard.append(view.bits()))
        other.start()
        other.join()
        return view.bits()
    hidden = hidden_bits(replace(view, bits=beside))
    assert torch.equal(heard[0], plain) and torch.equal(hidden, hidden_bits(view))


def test_kernels_that_read_no_mask_are_refused(view, monkeypatch):
    monkeypatch.setattr(view.layers[0].self_attn.config, "_attn_implementation_internal", "flash_attention_2")
    with pytest.raises(AttentionError, match="computed by 'flash_attention_2', and positions can be hidden only from sdpa and eager"): hidden_bits(view)


def test_layers_that_were_not_run_are_no_result(view):
    with pytest.raises(AttentionError, match="0 of 6 layers were run in the usual way"): hidden_bits(replace(view, bits=lambda: CODES))


def test_a_prompt_without_a_reference_has_nothing_to_hide(model):
    with pytest.raises(AttentionError, match="reference: the prompt has none"): hidden_bits(higgs_codes_view(model, TEXT, CODES))


def test_random_positions_are_as_many_as_the_reference_has(view):
    drawn = [random_positions(view, 90, seed) for seed in range(20)]
    assert {len({*each.tolist()}) for each in drawn} == {view.reference.stop - view.reference.start}
    assert {*torch.cat(drawn).tolist()} == {*range(90)} and torch.equal(drawn[3], random_positions(view, 90, 3))


def test_everybody_sees_himself():
    for hidden in ([], [0], [2, 3], [0, 1, 2, 3]):
        assert not blocked(4, torch.tensor(hidden, dtype=torch.long), 0).diagonal().any()
