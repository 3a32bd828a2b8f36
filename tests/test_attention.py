"Attention that is read by hooks is what the network's own slow kernel gives, and reading leaves no trace."
from contextlib import contextmanager
from dataclasses import replace
from itertools import count, product
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import prompt_of, random_codes, untouched
from transformers import DynamicCache

from voicelab.attention import (
    KEPT_MAPS,
    OVER,
    AttentionError,
    attention_of,
    layer_weights,
    parts_by_step,
    read_attention,
)
from voicelab.audio import Audio
from voicelab.chat import segment_spans, text_span
from voicelab.codec import CodecError, delay
from voicelab.control import Control
from voicelab.families.higgs.attention import clip_spans, forced_inputs, transcript_span
from voicelab.families.higgs.prompt import PROMPT_FORMS
from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.decode import MODES, place_embeddings
from voicelab.families.vita.likelihood import alternation, interleaved, saying, vita_bits, vita_codes_view
from voicelab.families.vita.model import VitaModel
from voicelab.families.vita.prompt import VARIANTS
from voicelab.family import FAMILIES, View
from voicelab.generation import EngineError
from voicelab.hiding import hidden_bits, what_is_lost
from voicelab.models.glm4voice import tiny_glm4voice
from voicelab.reference import Reference
from voicelab.settings import AudioGenerationConfig, Settings

def all_weights(view):
    "All weights of a view, [layers, heads, frames, positions]."
    read = []
    read_attention(view, lambda _, weights: read.append(weights))
    return torch.stack(read)


def read(network, inputs, rows):
    "The weights of some positions of a sequence of Higgs Audio v2."
    return all_weights(View(network.model.layers, lambda: network.model(**inputs, use_cache=False), rows, None, None, 25.0))


def check_sums(attention, begin):
    "What is kept of the weights is what all weights give; begin: of the model's own sound. All weights."
    weights, view = all_weights(attention.view), attention.view
    table, close = attention.heads, lambda one, two: torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)
    assert view.begin == begin
    sound = torch.arange(begin, weights.shape[-1])
    if view.written is not None: sound = sound[~torch.isin(sound, view.written)]
    for name, span in dict(text=view.text, recording=view.recording, transcript=view.transcript, written=view.written, own_sound=sound).items():
        close(attention.shares[name], weights.new_zeros(weights.shape[:3]) if span is None else weights[..., span].sum(-1))
        close(torch.from_numpy(table[name].to_numpy()).view(weights.shape[:2]), attention.shares[name].mean(-1))
    if view.text:
        inside = weights[..., view.text].double()
        close(attention.text_places.double(), (inside * torch.arange(inside.shape[-1])).sum(-1) / inside.sum(-1).clamp(min=1e-12))
    layers, heads = weights.shape[:2]
    for layer, head in ((None, None), (0, None), (None, 1), (1, 1), *product(range(layers), range(1))):
        some = weights[slice(None) if layer is None else [layer]][:, slice(None) if head is None else [head]]
        for over in OVER:
            if (span := getattr(view, over)) is not None: close(attention.map(over, layer, head), some[..., span].mean((0, 1)))
        parts = attention.parts(layer, head)
        assert np.allclose(parts.sum(axis=1), 1, atol=1e-5) and parts.columns[-1] == "rest of the prompt"
        close(torch.from_numpy(parts["own sound"].to_numpy()).float(), some[..., sound].sum(-1).mean((0, 1)))
    assert attention.positions == weights.shape[-1] and len(attention.maps) <= KEPT_MAPS and (None, None) in attention.maps
    return weights


def test_the_weights_are_those_of_the_slow_kernel(tiny_network, tiny_tokenizer):
    prompt, codes = prompt_of(tiny_tokenizer), random_codes(12)
    inputs, rows = forced_inputs(prompt, delay(codes)), len(prompt.ids) + torch.arange(12)
    weights = untouched(lambda: read(tiny_network, inputs, rows))
    before = tiny_network.config._attn_implementation
    tiny_network.set_attn_implementation("eager")
    try:
        with torch.inference_mode(): full = tiny_network.model(**inputs, output_attentions=True, use_cache=False).attentions
    finally: tiny_network.set_attn_implementation(before)
    torch.testing.assert_close(weights, torch.stack(full)[:, 0, :, rows], atol=1e-5, rtol=1e-4)


def test_grouped_heads_share_their_keys():
    width, layer = 32, SimpleNamespace(head_dim=8, scaling=8 ** -0.5)
    torch.manual_seed(0)
    layer.q_proj, layer.k_proj = torch.nn.Linear(width, 32), torch.nn.Linear(width, 16)       # four heads over two
    hidden, (cos, sin) = torch.randn(1, 6, width), torch.randn(2, 1, 6, 8)
    weights = layer_weights(layer, hidden, (cos, sin), torch.arange(2, 6))
    assert weights.shape == (4, 4, 6) and torch.allclose(weights.sum(-1), torch.ones(4, 4)) and weights[:, 0, 3:].max() == 0


def test_an_error_inside_leaves_no_hook(tiny_network, tiny_tokenizer):
    inputs = forced_inputs(prompt_of(tiny_tokenizer), delay(random_codes(3)))
    def broken(*_): raise RuntimeError("half way")
    handle = tiny_network.model.layers[-1].self_attn.o_proj.register_forward_pre_hook(broken)
    try:
        with pytest.raises(RuntimeError, match="half way"): read(tiny_network, inputs, torch.tensor([0]))
    finally: handle.remove()
    assert not any(layer.self_attn._forward_pre_hooks for layer in tiny_network.model.layers)


def test_what_is_kept_is_what_all_weights_give(model, reference):
    made = model.clone("My sister bought a small red boat.", reference=reference, seed=0)
    attention = attention_of(model, made)
    weights = check_sums(attention, len(made.prompt.ids))
    kept = [*attention.shares.values(), attention.text_places, *attention.maps[None, None].values()]
    assert sum(each.nbytes for each in kept) < weights.nbytes / 8
    check_sums(attention_of(model, model.clone("Open today.", seed=0)), len(model.prompt("Open today.").ids))


def test_what_is_kept_grows_with_the_frames_and_not_with_frames_times_positions(model, reference):
    "A prompt twice as long makes the weights larger, and what is kept only by the map of all heads."
    made = model.clone("My sister bought a small red boat.", reference=reference, seed=0)
    sizes = []
    for audio in (reference.audio.slice(0, 1), reference.audio):
        prompt = model.clone_prompt(made.text, Reference(audio, transcript="What is said.", consent="synthetic"))
        attention = attention_of(model, replace(made, chunks=[replace(made.chunks[0], prompt=prompt)]))
        sizes.append((sum(each.nbytes for each in attention.shares.values()), attention.maps[None, None]["recording"].nbytes, attention.positions))
    (shares, short, few), (same, long, many) = sizes
    assert shares == same == 5 * 4 * attention.text_places[..., 0].numel() * attention.n_frames and long > 1.5 * short and many > few


def test_a_map_after_the_weights_were_changed_is_refused(model, reference, monkeypatch):
    attention = attention_of(model, model.clone("Yes.", reference=reference, seed=0))
    kept = attention.map()
    monkeypatch.setattr(type(model), "info", replace(model.info, sha256="changed"))
    assert attention.map() is kept
    with pytest.raises(AttentionError, match="^model: 'tiny' has other weights than when the attention was read; read it again$"): attention.map(layer=1)


def test_what_another_thread_says_meanwhile_is_not_read(model, reference):
    attention = attention_of(model, model.clone("Yes.", reference=reference, seed=0))
    right, run = attention.map(layer=1, head=1), attention.view.run
    def run_beside():
        other = Thread(target=lambda: model.clone("Something else.", seed=1))
        other.start()
        other.join()
        run()
    beside = replace(attention, view=replace(attention.view, run=run_beside), maps={})
    assert torch.equal(beside.map(layer=1, head=1), right)


def test_reading_changes_no_later_sample(model, reference):
    first = model.clone("Yes, today.", reference=reference, seed=5)
    attention_of(model, first)
    assert torch.equal(model.clone("Yes, today.", reference=reference, seed=5).codes, first.codes)


@pytest.mark.parametrize("form", PROMPT_FORMS)
def test_text_and_recording_are_found_in_every_prompt_form(tiny_tokenizer, form):
    prompt = prompt_of(tiny_tokenizer, form, frames=20, text="Hello there.")
    assert segment_spans(prompt)[-1][2].stop == len(prompt.ids)
    assert tiny_tokenizer.decode(prompt.ids[text_span(prompt)]).strip().endswith("Hello there.")
    _, span = clip_spans(prompt)
    assert bool(prompt.audio_mask[span].all())
    said = transcript_span(prompt)
    if form == "system_ref": assert said is None
    else: assert tiny_tokenizer.decode(prompt.ids[said]).strip() == "Reference words." and said.stop <= span.start
    begin = int(prompt.audio_mask[:span.start].sum())                       # columns before it
    assert torch.equal(prompt.audio_columns[0, begin:begin + span.stop - span.start], random_codes(20)[0])


def test_what_is_generated_depends_on_nothing_behind_it(tiny_network, tiny_tokenizer):
    prompt, codes = prompt_of(tiny_tokenizer), random_codes(12)
    rows, known = len(prompt.ids) + torch.arange(4), len(prompt.ids) - 4
    short, long = (read(tiny_network, forced_inputs(prompt, delay(codes[:, :n])), rows) for n in (4, 12))
    torch.testing.assert_close(short[..., :known], long[..., :known], atol=1e-5, rtol=1e-4)


def test_chunks_of_a_long_text_are_read_one_by_one(model, reference):
    text = " ".join(["The garden is open today and tomorrow.", "My sister bought a small red boat."] * 2)
    made = model.clone(text, reference=reference, seed=1)
    assert len(made.chunks) > 1
    for number, chunk in enumerate(made.chunks):
        attention = attention_of(model, made, number)
        assert attention.n_frames == chunk.codes.shape[1] and "".join(attention.tokens) in text
        assert attention.generated.seconds == pytest.approx(attention.n_frames / 25)
    with pytest.raises(AttentionError, match="chunk: must be a whole number from 0 to"): attention_of(model, made, len(made.chunks))


def test_both_times_of_a_place(model, reference):
    attention = attention_of(model, model.clone("The garden is open today.", reference=reference, seed=0))
    seconds = [attention.reference_seconds(place) for place in range(attention.recording.stop - attention.recording.start)]
    assert seconds[:2] == [0, 0.04] and reference.audio.seconds - 0.05 < seconds[-1] < reference.audio.seconds
    assert attention.frame_at(0) == 0 and attention.frame_at(attention.generated.seconds) == attention.n_frames - 1
    place, letter = attention.strongest(0.6, *attention.reader)
    assert place in seconds and 0 <= letter < len(attention.tokens)
    assert attention.map("text", layer=1).shape == (attention.n_frames, len(attention.tokens))


@pytest.mark.parametrize("over", ["recording", "text"])
def test_a_map_is_drawn_on_the_axes_it_is_given(model, reference, over):
    from matplotlib.figure import Figure
    ax = Figure(figsize=(9, 4.5)).subplots()
    attention = attention_of(model, model.clone("Open today.", reference=reference, seed=0))
    assert attention.plot(over, ax=ax) is ax and ax.get_xlabel() == "time in the sample (s)"


def test_what_cannot_be_read_is_refused_in_a_line(model, reference):
    made = model.clone("Yes.", reference=reference, seed=0)
    other = SimpleNamespace(info=SimpleNamespace(name="x", family="higgs-audio-v2", sha256="0"))
    with pytest.raises(AttentionError, match="was made by 'tiny' with other weights than those of 'x'"): attention_of(other, made)
    attention = attention_of(model, made)
    for wrong in (-1, 6, 1.5, "a"):
        with pytest.raises(AttentionError, match="layer: must be 0 to 5"): attention.map(layer=wrong)
    with pytest.raises(AttentionError, match="over: must be"): attention.map("audio")
    for wrong in (-0.1, np.nan, 99):
        with pytest.raises(AttentionError, match="seconds: must be 0 to"): attention.frame_at(wrong)


# ---- VITA-Audio

NOISE = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.1
VOICE = Reference(Audio(NOISE, 16_000), consent="synthetic")
QUICK = dict(seed=5, budget=40, option_steps=1)


@pytest.fixture(scope="module")
def vitas(): return {kind: VitaModel(tiny_vita(kind), tiny_glm4voice()) for kind in VARIANTS}


@pytest.fixture(params=VARIANTS)
def vita(vitas, request): return vitas[request.param]


@contextmanager
def writing(model, when):
    "Within it the model writes a letter in each step for which `when(step)` holds."
    steps = count()
    def hook(module, inputs, output):
        if when(next(steps)): output[..., 256:] = -1e4
    handle = model.network.lm_head.register_forward_hook(hook)
    try: yield
    finally: handle.remove()


def slow_weights(network, x):
    "What transformers' own slow kernel gives for the main layers while `x` runs through them."
    given, layers, config = [], network.model.layers[:network.config.main_layers], network.config.qwen
    hooks = [layer.self_attn.register_forward_pre_hook(lambda _, __, options: given.append(options), with_kwargs=True) for layer in layers]
    network.main(x, DynamicCache(), 0)
    for hook in hooks: hook.remove()
    before, config._attn_implementation = config._attn_implementation, "eager"
    mask = torch.full((x.shape[1],) * 2, -torch.inf).triu(1)[None, None]
    try:
        return torch.stack([layer.self_attn(options["hidden_states"], position_embeddings=options["position_embeddings"],
                                            attention_mask=mask)[1][0] for layer, options in zip(layers, given)])
    finally: config._attn_implementation = before


@pytest.mark.parametrize("mode", ["vanilla", "boost"])
def test_what_vita_looks_with_is_the_place_before_each_code(vita, mode):
    with writing(vita, lambda step: step % 4 == 1): answer = vita.clone("Hi there.", reference=VOICE, mode=mode, **QUICK)
    attention = untouched(lambda: attention_of(vita, answer))
    network, prompt, trace = vita.network, answer.prompt, answer.trace
    ids = torch.cat([prompt.ids, torch.tensor(trace.id.tolist())])
    places = [n for n in range(len(prompt.ids), len(ids)) if vita.parts.tokens.code(int(ids[n])) is not None]
    assert len(places) == attention.n_frames == answer.codes.shape[1] < len(trace)
    with torch.inference_mode():
        x = place_embeddings(network, ids[None], prompt.features)
        weights = check_sums(attention, len(prompt.ids))
        torch.testing.assert_close(weights, slow_weights(network, x)[:, :, [n - 1 for n in places]], atol=1e-5, rtol=1e-4)
        logits = network.logits(network.main(x, DynamicCache(), 0)[0])[..., :vita.parts.tokens.last_code + 1]
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
    assert not any(weights[:, :, row, place:].any() for row, place in enumerate(places))
    main = trace[(trace.speaker == "main") & (trace.kind == "audio")]       # what was run is what it had before its eyes
    chances = logits.softmax(-1)[len(prompt.ids) - 1 + torch.tensor(main.step.tolist()), main.id.tolist()]
    np.testing.assert_allclose(chances, main.probability, atol=1e-4)
    assert set(trace.speaker.str[:4]) == ({"main"} if mode == "vanilla" else {"main", "head"})
    assert not any(layer.self_attn._forward_pre_hooks for layer in network.model.layers)


def test_vita_text_recording_and_sound_of_each_chunk(vita):
    settings = Settings(audio_generation=AudioGenerationConfig(reference_margin=1.0))
    text = " ".join(f"This is sentence number {number}, and it takes a few seconds to say." for number in ("one", "two", "three", "four"))
    answer = vita.clone(text, reference=VOICE, seed=1, option_steps=1, control=Control(silence_frames=100_000), settings=settings)
    assert len(answer.chunks) > 1
    looks = [attention_of(vita, answer, number) for number in range(len(answer.chunks))]
    assert np.array_equal(np.concatenate([look.generated.samples for look in looks]), answer.audio.samples)
    tokens, heard = vita.parts.tokens, vita.hear(VOICE, "reference", "system")
    for look, chunk in zip(looks, answer.chunks):
        assert look.n_frames == chunk.codes.shape[1] and look.generated.seconds == pytest.approx(look.n_frames / 12.5, abs=0.02)
        assert "".join(look.tokens) == str(chunk.text)
        ids, places = chunk.prompt.ids, look.recording
        queries = 0 if heard.features is None else 4
        assert ids[places.start - queries - 1] == tokens.begin and ids[places.stop] == tokens.end
        if queries: assert (ids[places] == tokens.context).all() and places.stop - places.start == len(heard.features)
        else: assert torch.equal(ids[places] - tokens.first_code, heard.codes[0])
        last = look.reference_seconds(places.stop - places.start - 1)
        assert VOICE.audio.seconds - 0.1 < last < VOICE.audio.seconds
        assert look.strongest(1.0)[0] <= last


def test_a_spoken_question_has_no_text_to_look_at(vita):
    answer = vita.respond("spoken_qa", audio=VOICE.audio.slice(0, 1), text="Be brief.", reference=VOICE, **QUICK)
    attention = attention_of(vita, answer)
    assert attention.text is None and attention.tokens == [] and attention.heads.reading.isna().all() and not attention.heads.text.any()
    place, token = attention.strongest(0, *attention.listener)
    assert 0 <= place < 3 and token is None
    for wrong in (lambda: attention.map("text"), lambda: attention.reader, lambda: attention.plot("text")):
        with pytest.raises(AttentionError, match="over: the sample has no text to say in its prompt"): wrong()


def test_without_a_reference_vita_looks_at_the_text_alone(vita):
    attention = attention_of(vita, vita.clone("Hi there.", **QUICK))
    assert attention.recording is None and "".join(attention.tokens) == "Hi there." and not attention.heads.recording.any()
    with pytest.raises(AttentionError, match="no reference recording"): attention.listener


def test_what_cannot_be_read_of_vita_is_refused_in_a_line(vita):
    question = VOICE.audio.slice(0, 1)
    with pytest.raises(AttentionError, match="neither a reference nor a text"): attention_of(vita, vita.respond("spoken_qa", audio=question, **QUICK))
    spoken = vita.clone("Hi.", reference=VOICE, reproduce=("drop_by_role",), **QUICK)
    assert (attention_of(vita, spoken).recording is None) == vita.variant.hears_features
    live = vita.stream("Hi.", reference=VOICE, seed=5, budget=80, option_steps=1)
    for _ in live: break                                    # what is left in the middle has the sound of its codes
    assert attention_of(vita, live.generation).n_frames == live.generation.codes.shape[1]
    untimely = []
    if not vita.variant.hears_features: untimely.append(vita.clone("Hi.", reference=VOICE, reproduce=("speak_prompt",), **QUICK))
    for made in untimely:
        with pytest.raises(AttentionError, match="s of sound for .* s of codes, so times are unknown"): attention_of(vita, made)
    with writing(vita, lambda step: True): silent = vita.clone("Hi.", reference=VOICE, **QUICK)
    with pytest.raises(AttentionError, match="has no frames, so nothing was looked at"): attention_of(vita, silent)


def test_a_map_of_vita_is_as_high_as_the_recording(vita):
    from matplotlib.figure import Figure
    attention = attention_of(vita, vita.clone("Hi there.", reference=VOICE, **QUICK))
    ax = attention.plot(ax=Figure(figsize=(9, 4.5)).subplots())
    assert ax.get_ylim()[0] == pytest.approx(VOICE.audio.seconds, abs=0.08)


# ---- VITA-Audio's own steps, and what hiding costs

SAID = dict(seed=5, option_steps=1)


@pytest.mark.parametrize("mode", ["vanilla", "boost", "balance"])
def test_text_and_sound_are_steps_alike(vita, mode):
    with saying(vita, "It opens at nine.", range(20)): answer = vita.clone("It opens at nine.", reference=VOICE, mode=mode, **SAID)
    trace, runs = answer.trace, answer.parts
    assert answer.stop_reason == "eos" and answer.written == "It opens at nine." and answer.codes[0].tolist() == [*range(20)]
    steps = parts_by_step(vita, answer)
    assert len(steps) == len(trace) and np.allclose(steps.sum(axis=1), 1, atol=1e-5) and "own words" in steps
    assert not steps["own words"][:1].any() and not steps["own sound"][:1].any() and (steps["own words"][2:] > 0).all()
    attention = attention_of(vita, answer)
    assert np.allclose(steps[trace.kind == "audio"], attention.parts(), atol=1e-5)
    own = attention.map("written")
    before = trace[trace.kind == "text"].step.to_numpy() < trace[trace.kind == "audio"].step.to_numpy()[:, None]
    assert "".join(attention.letters("written")) == answer.written and not own.numpy()[~before].any() and (own.numpy()[before] > 0).all()
    sound = runs[runs.kind == "sound"]
    assert sound.steps.tolist() == [8, 8, 4] and sound.begin.tolist() == pytest.approx([0, 0.64, 1.28]) and sound.seconds.sum() == pytest.approx(1.6)
    assert all(trace.kind[run.step] == {"text": "text", "sound": "audio"}[run.kind] for run in runs.itertuples())
    assert set(trace.speaker) <= {*answer.facts["speaker"].lanes} and set(trace.kind) <= {*answer.facts["kind"].lanes}
    assert ("head 9" in answer.facts["speaker"].lanes) == (mode != "vanilla")


def test_the_bits_of_what_the_main_model_drew_are_those_of_the_trace(vita):
    answer = vita.clone("Hi there.", reference=VOICE, mode="boost", **QUICK)
    trace = answer.trace[answer.trace.kind == "audio"]
    bits, main = attention_of(vita, answer).view.bits()[0].numpy(), (trace.speaker == "main").to_numpy()
    assert main.any() and not main.all() and len(bits) == len(trace)
    np.testing.assert_allclose(bits[main], -np.log2(trace.probability[main]), atol=1e-2)


def test_hidden_from_vita_no_other_reference_makes_a_difference(vita):
    codes = torch.arange(0, 160, 5)[None]
    noise = Reference(Audio(NOISE[::-1].copy(), 16_000), consent="synthetic")
    one, other = (vita_codes_view(vita, "It opens at nine.", codes, each) for each in (VOICE, noise))
    plain = one.bits()
    assert plain.shape == codes.shape and (plain - other.bits()).abs().max() > 0.05
    torch.testing.assert_close(untouched(lambda: hidden_bits(one)), hidden_bits(other), atol=1e-3, rtol=0)
    torch.testing.assert_close(hidden_bits(one, torch.tensor([]).long()), plain, atol=1e-3, rtol=0)
    assert (hidden_bits(one, layers=[0]) - hidden_bits(other, layers=[0])).abs().max() > 1e-3           # the other layers still see it
    assert torch.equal(one.bits(), plain) and not any(layer.self_attn._forward_pre_hooks for layer in one.layers)
    queries = 4 * vita.variant.hears_features
    assert one.reference.start + queries == one.recording.start and one.reference.stop == one.recording.stop


def test_what_is_lost_is_what_hiding_costs(vita):
    with saying(vita, "It opens.", range(12)): answer = vita.clone("It opens.", reference=VOICE, **SAID)
    view = attention_of(vita, answer).view
    lost = what_is_lost(view, [("recording", {}), ("text", {}), ("written", {}), ("written", dict(layers=[0], head=1))])
    assert lost.over.tolist() == ["recording", "text", "written", "written"] and lost.lost_random.notna().all()
    assert lost.positions.tolist() == [view.reference.stop - view.reference.start, 9, 9, 9]
    plain = float(view.bits().mean())
    assert lost.lost[0] == pytest.approx(float(hidden_bits(view).mean()) - plain, abs=1e-4) and set(lost.plain) == {plain}
    with pytest.raises(AttentionError, match="^model: its family doesn't give the bits of a sample$"): what_is_lost(replace(view, bits=None), [("text", {})])
    alone = attention_of(vita, vita.clone("Hi there.", **QUICK)).view
    assert what_is_lost(alone, [("text", {})]).lost.notna().all()           # without a reference the text can be hidden


@pytest.mark.parametrize("mode, runs", [("boost", [1, 8, 4, 8, 4, 4]), ("balance", [1, 2, 3, 6, 4, 8, 1, 4]), ("turbo", [1, 8, 1, 8, 1, 4])])
def test_an_utterance_is_put_in_turns(vita, mode, runs):
    tokens = vita.parts.tokens
    made = interleaved([*range(9)], [tokens.first_code + n for n in range(20)], tokens, alternation(mode))
    marks = {tokens.begin, tokens.end}
    assert [each for each in made if each < 9] == [*range(9)] and [tokens.code(each) for each in made if tokens.code(each) is not None] == [*range(20)]
    kinds, counts = [("mark" if each in marks else "text" if each < 9 else "code") for each in made], []
    for before, kind in zip(["", *kinds], kinds):
        if kind != before: counts.append([kind, 0])
        counts[-1][1] += 1
    assert [count for kind, count in counts if kind != "mark"][:len(runs)] == runs


def test_codes_that_vita_does_not_have_are_refused(vita):
    assert FAMILIES["vita-audio"].code_bits is vita_bits and alternation("vanilla") == alternation((1, 2)) == MODES["boost"]
    with pytest.raises(CodecError, match="codes: "): vita_bits(vita, "Hi.", torch.tensor([[20_000]]), VOICE)
    with pytest.raises(CodecError, match="codes: "): vita_bits(vita, "Hi.", torch.zeros(8, 3).long(), VOICE)
    context = vita.network.config.qwen.max_position_embeddings
    with pytest.raises(EngineError, match="exceed the context"): vita_bits(vita, "Hi.", torch.zeros(1, context).long())
