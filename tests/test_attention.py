"Attention that is read by hooks is what the network's own slow kernel gives, and reading leaves no trace."
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import prompt_of, random_codes, untouched

from voicelab.attention import (
    AttentionError,
    forced_inputs,
    layer_weights,
    listen,
    read_attention,
    recording_span,
    segment_spans,
    text_span,
)
from voicelab.chatml import PROMPT_FORMS
from voicelab.codec import delay

def test_the_weights_are_those_of_the_slow_kernel(tiny_network, tiny_tokenizer):
    prompt, codes = prompt_of(tiny_tokenizer), random_codes(12)
    inputs, rows = forced_inputs(prompt, delay(codes)), slice(len(prompt.ids), len(prompt.ids) + 12)
    read = untouched(lambda: read_attention(tiny_network.model, inputs, rows))
    before = tiny_network.config._attn_implementation
    tiny_network.set_attn_implementation("eager")
    try:
        with torch.inference_mode(): full = tiny_network.model(**inputs, output_attentions=True, use_cache=False).attentions
    finally: tiny_network.set_attn_implementation(before)
    torch.testing.assert_close(read, torch.stack(full)[:, 0, :, rows], atol=1e-5, rtol=1e-4)


def test_grouped_heads_share_their_keys():
    width, layer = 32, SimpleNamespace(head_dim=8, scaling=8 ** -0.5)
    torch.manual_seed(0)
    layer.q_proj, layer.k_proj = torch.nn.Linear(width, 32), torch.nn.Linear(width, 16)       # four heads over two
    hidden, (cos, sin) = torch.randn(1, 6, width), torch.randn(2, 1, 6, 8)
    weights = layer_weights(layer, hidden, (cos, sin), slice(2, 6))
    assert weights.shape == (4, 4, 6) and torch.allclose(weights.sum(-1), torch.ones(4, 4)) and weights[:, 0, 3:].max() == 0


def test_an_error_inside_leaves_no_hook(tiny_network, tiny_tokenizer):
    inputs = forced_inputs(prompt_of(tiny_tokenizer), delay(random_codes(3)))
    def broken(*_): raise RuntimeError("half way")
    handle = tiny_network.model.layers[-1].self_attn.o_proj.register_forward_pre_hook(broken)
    try:
        with pytest.raises(RuntimeError, match="half way"): read_attention(tiny_network.model, inputs, slice(0, 1))
    finally: handle.remove()
    assert not any(layer.self_attn._forward_pre_hooks for layer in tiny_network.model.layers)


def test_reading_changes_no_later_sample(model, reference):
    first = model.clone("Yes, today.", reference=reference, seed=5)
    listen(model, first)
    assert torch.equal(model.clone("Yes, today.", reference=reference, seed=5).codes, first.codes)


@pytest.mark.parametrize("form", PROMPT_FORMS)
def test_text_and_recording_are_found_in_every_prompt_form(tiny_tokenizer, form):
    prompt = prompt_of(tiny_tokenizer, form, frames=20, text="Hello there.")
    assert segment_spans(prompt)[-1][2].stop == len(prompt.ids)
    assert tiny_tokenizer.decode(prompt.ids[text_span(prompt)]).strip().endswith("Hello there.")
    span = recording_span(prompt)
    assert span.stop - span.start == 29 and bool(prompt.audio_mask[span].all())


def test_what_is_generated_depends_on_nothing_behind_it(tiny_network, tiny_tokenizer):
    prompt, codes = prompt_of(tiny_tokenizer), random_codes(12)
    rows = slice(len(prompt.ids), len(prompt.ids) + 4)
    short, long = (read_attention(tiny_network.model, forced_inputs(prompt, delay(codes[:, :n])), rows) for n in (4, 12))
    torch.testing.assert_close(short[..., :rows.stop - 8], long[..., :rows.stop - 8], atol=1e-5, rtol=1e-4)


def test_chunks_of_a_long_text_are_read_one_by_one(model, reference):
    text = " ".join(["The garden is open today and tomorrow.", "My sister bought a small red boat."] * 2)
    made = model.clone(text, reference=reference, seed=1)
    assert len(made.chunks) > 1
    for number, chunk in enumerate(made.chunks):
        attention = listen(model, made, number)
        assert attention.n_frames == chunk.codes.shape[1] and "".join(attention.letters) in text
        assert attention.generated.seconds == pytest.approx(attention.n_frames / 25)
    with pytest.raises(AttentionError, match="chunk: must be 0 to"): listen(model, made, len(made.chunks))


def test_both_times_of_a_place(model, reference):
    attention = listen(model, model.clone("The garden is open today.", reference=reference, seed=0))
    columns = attention.recording.stop - attention.recording.start
    seconds = [attention.reference_seconds(column) for column in range(columns)]
    assert seconds == sorted(seconds) and seconds[-1] < reference.audio.seconds and len(set(seconds)) == columns - 9
    assert attention.frame_at(0) == 0 and attention.frame_at(attention.generated.seconds) == attention.n_frames - 1
    place, letter = attention.strongest(0.6, *attention.reader)
    assert place in seconds and 0 <= letter < len(attention.letters)
    assert attention.map("text", layer=1).shape == (attention.n_frames, len(attention.letters))


@pytest.mark.parametrize("over", ["recording", "text"])
def test_a_map_is_drawn_on_the_axes_it_is_given(model, reference, over):
    from matplotlib.figure import Figure
    ax = Figure(figsize=(9, 4.5)).subplots()
    attention = listen(model, model.clone("Open today.", reference=reference, seed=0))
    assert attention.plot(over, ax=ax) is ax and ax.get_xlabel() == "time in the sample (s)"


def test_what_cannot_be_read_is_refused_in_a_line(model, reference):
    made = model.clone("Yes.", reference=reference, seed=0)
    other = SimpleNamespace(info=SimpleNamespace(name="x", family="higgs-audio-v2", sha256="0"))
    with pytest.raises(AttentionError, match="was made by 'tiny' with other weights than those of 'x'"): listen(other, made)
    attention = listen(model, made)
    for wrong in (-1, 6, 1.5, "a"):
        with pytest.raises(AttentionError, match="layer: must be 0 to 5"): attention.map(layer=wrong)
    with pytest.raises(AttentionError, match="over: must be"): attention.map("audio")
    for wrong in (-0.1, np.nan, 99):
        with pytest.raises(AttentionError, match="seconds: must be 0 to"): attention.frame_at(wrong)
