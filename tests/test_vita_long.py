"""Long texts of VITA-Audio: chunks at sentences, one sound, one trace, one stop reason, and what a stop leaves."""
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from conftest import joined, untouched

from voicelab.audio import Audio
from voicelab.control import Control
from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.model import VitaModel
from voicelab.families.vita.prompt import VARIANTS, safe
from voicelab.generation import EngineError
from voicelab.models.glm4voice import tiny_glm4voice
from voicelab.reference import Reference
from voicelab.settings import AudioGenerationConfig, Settings
from voicelab.text import TextError

NOISE = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.1
VOICE = Reference(Audio(NOISE, 16_000), consent="synthetic")
STORY = " ".join(f"This is sentence number {number}, and it takes a few seconds to say." for number in ("one", "two", "three", "four"))
QUIET = Control(silence_frames=100_000)                                       # nobody listens on the way
SHORT = Settings(audio_generation=AudioGenerationConfig(reference_margin=1.0))         # room for what is expected, no more
QUICK = dict(reference=VOICE, seed=1, option_steps=1, control=QUIET, settings=SHORT)


@pytest.fixture(scope="module")
def models(): return {kind: VitaModel(tiny_vita(kind), tiny_glm4voice()) for kind in VARIANTS}


@pytest.fixture(scope="module")
def model(models): return models["qwen2_mtp_sensevoice"]


@contextmanager
def saying(model, wish):
    "Within it `wish(chunk, step, logits)` may change the logits [vocabulary] of each token; every call that starts at place 0 is a chunk."
    at, network = [-1, 0], model.network
    main = network.main
    def counted(x, cache, begin):
        at[:] = (at[0] + 1, 0) if begin == 0 else (at[0], at[1] + 1)
        return main(x, cache, begin)
    handle = network.lm_head.register_forward_hook(lambda module, inputs, output: wish(*at, output))
    network.main = counted
    try: yield
    finally:
        handle.remove()
        del network.main


def ending(model, steps):
    "A wish: chunk k ends by itself at step `steps[k]`; None: never."
    stops = list(model.parts.tokens.stops)
    def wish(chunk, step, logits):
        logits[..., stops] = 1e4 if step == steps[chunk] else -1e4
    return wish


@pytest.mark.parametrize("kind", VARIANTS)
def test_chunks_become_one_answer(models, kind):
    model = models[kind]
    made = untouched(lambda: model.clone(STORY, **QUICK))
    assert made.text == STORY == " ".join(chunk.text for chunk in made.chunks) and len(made.chunks) == 2
    assert all(chunk.text.endswith(".") and chunk.text in chunk.prompt.text for chunk in made.chunks)
    assert [[part.name for part in chunk.prompt.heard] for chunk in made.chunks] == [["reference"]] * 2
    assert torch.equal(made.codes, torch.cat([chunk.codes for chunk in made.chunks], 1))
    alone = [model.voice.decode(chunk.codes, steps=1) for chunk in made.chunks]
    assert len(made.audio.samples) == sum(len(sound.samples) for sound in alone)
    for number, chunk in enumerate(made.chunks):
        rows = made.trace[made.trace.chunk == number]
        assert rows.step.tolist() == list(range(len(rows))) and len(rows) <= chunk.budget.columns
        assert rows.code.dropna().tolist() == chunk.codes[0].tolist() and chunk.codes.shape[1] <= chunk.budget.frames
    spoken = made.trace[made.trace.frame >= 0]
    assert spoken.frame.tolist() == list(range(made.codes.shape[1])) and spoken.code.tolist() == made.codes[0].tolist()
    assert "2 chunks" in made.allowed and "2 chunks" in made._repr_html_()
    assert made.voice_from.places.tolist()[-1] == made.codes.shape[1] and made.budget is made.chunks[0].budget


def test_a_seed_says_the_same_and_the_first_chunk_is_as_alone(model):
    made, again = (model.clone(STORY, **QUICK) for _ in range(2))
    assert torch.equal(made.codes, again.codes) and np.array_equal(made.audio.samples, again.audio.samples)
    alone = model.clone(made.chunks[0].text, **QUICK)
    assert torch.equal(alone.codes, made.chunks[0].codes) and len(alone.chunks) == 1
    assert np.array_equal(alone.audio.samples, made.audio.samples[:len(alone.audio.samples)])
    assert not torch.equal(made.chunks[1].codes, model.clone(made.chunks[1].text, **QUICK).codes)      # its draws go on


def test_a_stream_of_chunks_has_the_same_codes_and_length(model):
    live = model.stream(STORY, **QUICK)
    sound, made = joined(list(live)), model.clone(STORY, **QUICK)
    assert torch.equal(live.generation.codes, made.codes) and len(sound) == len(made.audio.samples) == len(live.generation.audio.samples)
    heard = ["silent_frames", "rms_dbfs", "block"]      # of the sound, which differs by the blocks and the noise of the vocoder
    assert live.generation.trace.drop(columns=heard).equals(made.trace.drop(columns=heard))
    with pytest.raises(EngineError, match="has been run"): live.run()


@pytest.mark.parametrize("steps, reasons, whole", [
    ((12, 30), ["eos", "eos"], "eos"), ((None, 12), ["budget", "eos"], "budget"), ((12, None), ["eos", "budget"], "budget"),
    ((0, 12), ["eos", "eos"], "eos"), ((0, 0), ["eos", "eos"], "eos")])
def test_the_whole_stops_by_the_first_reason_that_is_not_eos(model, steps, reasons, whole):
    with saying(model, ending(model, steps)): made = model.clone(STORY, **QUICK)
    assert [chunk.stop_reason for chunk in made.chunks] == reasons and made.stop_reason == whole
    counts = [int((made.trace.chunk == number).sum()) for number in (0, 1)]
    assert [count for count, step in zip(counts, steps) if step is not None] == [step + 1 for step in steps if step is not None]
    assert (made.audio.seconds == 0) == (made.codes.shape[1] == 0)


def test_circles_end_a_chunk_and_the_next_begins_anew(model):
    first = model.parts.tokens.first_code
    def same(chunk, step, logits): logits[..., first + 7] = 1e4
    with saying(model, same): made = model.clone(STORY, **QUICK | dict(control=Control(repetition_frames=10)))
    assert [chunk.stop_reason for chunk in made.chunks] == ["repetition"] * 2 and made.stop_reason == "repetition"
    assert [chunk.codes.shape[1] for chunk in made.chunks] == [11, 11]
    assert made.trace.groupby("chunk").repeated_frames.agg(["first", "max"]).values.tolist() == [[0, 10]] * 2


def test_a_timeout_ends_all(model):
    made = model.clone(STORY, **QUICK | dict(control=Control(timeout_seconds=0)))
    assert made.stop_reason == "timeout" and len(made.trace) == 1
    assert [chunk.stop_reason for chunk in made.chunks] == ["timeout", None] and made.chunks[1].codes is None


@pytest.mark.parametrize("live", (True, False))
def test_ctrl_c_in_a_later_chunk_keeps_what_there_is(model, live):
    def stopped(chunk, step, logits):
        logits[..., list(model.parts.tokens.stops)] = -1e4
        if (chunk, step) == (1, 20): raise KeyboardInterrupt
    with saying(model, stopped):
        session = model.stream(STORY, **QUICK)
        if live: list(session)
        else: session.run()
    made = session.generation
    assert [chunk.stop_reason for chunk in made.chunks] == ["budget", "interrupted"] and made.stop_reason == "interrupted"
    assert 0 < made.chunks[1].codes.shape[1] <= 20 and int((made.trace.chunk == 1).sum()) == 20


def test_ctrl_c_while_the_sound_is_made_keeps_all_that_was_said(model, monkeypatch):
    want, decode, calls = model.clone(STORY, **QUICK), model.voice.decode, []
    def interrupted(*args, **options):
        calls.append(args)
        if len(calls) == 2: raise KeyboardInterrupt
        return decode(*args, **options)
    monkeypatch.setattr(model.voice, "decode", interrupted)
    made = model.clone(STORY, **QUICK)
    assert torch.equal(made.codes, want.codes) and np.array_equal(made.audio.samples, want.audio.samples) and made.stop_reason == want.stop_reason


def test_steps_grow_in_the_first_chunk_alone(model, monkeypatch):
    session, asked = model.voice.session, []
    def noted(steps=10, *args, **options):
        asked.append(steps)
        return session(1, *args, **options)
    monkeypatch.setattr(model.voice, "session", noted)
    list(model.stream(STORY, **QUICK | dict(option_steps=(1, 2, 3))))
    assert asked == [(1, 2, 3), 3]
    model.clone(STORY, **QUICK | dict(option_steps=(1, 2, 3)))
    assert asked[2:] == [3, 3]


def test_stopping_a_stream_in_its_first_chunk(model):
    live = model.stream(STORY, **QUICK)
    for _ in live: live.stop()
    made = live.generation
    assert made.stop_reason == "interrupted" and [chunk.stop_reason for chunk in made.chunks] == ["interrupted", None]
    assert set(made.trace.chunk) == {0} and len(made.audio.samples) == len(model.voice.decode(made.codes, steps=1).samples)


def test_the_plan_is_known_before_anything_is_said(model, monkeypatch):
    monkeypatch.setattr(model.voice, "session", None)
    plan = untouched(lambda: model.plan(STORY, reference=VOICE))
    table, budgets = plan.table, model.budgets(STORY, VOICE)
    assert table.text.tolist() == [piece for piece, _ in budgets] == [chunk.text for chunk in plan.chunks]
    assert [chunk.budget for chunk in plan.chunks] == [made for _, made in budgets] and (table.expected_seconds <= 12).all()
    assert table["columns"].tolist() == [made.columns for _, made in budgets] and (table.turns == 0).all()
    assert (table.positions + table["columns"] + table.room_left == 8192).all() and "2 chunks" in repr(plan)
    assert all(made.frame_rate == model.voice.frame_rate and made.columns >= made.frames * 14 / 8 for _, made in budgets)


def test_the_rate_of_a_budget_is_the_voices(model, monkeypatch):
    usual = model.budgets(STORY, VOICE)
    monkeypatch.setattr(model.voice, "frame_rate", 25.0)
    budgets = model.budgets(STORY, VOICE)
    assert [made.frame_rate for _, made in budgets] == [25.0] * len(usual)
    assert all(abs(twice.frames - 2 * once.frames) <= 1 and twice.seconds == once.seconds for (_, once), (_, twice) in zip(usual, budgets))
    asked = model.session("text", text="Hello.", budget=140, control=QUIET).chunks[0].budget
    assert asked.frame_rate == 25.0 and asked.seconds == 0
    spoken = model.session("tts", text="Hello.", budget=140, control=QUIET).chunks[0].budget
    assert (spoken.frames, spoken.seconds) == (80, 3.2)


def test_the_longest_text_is_planned_soon(model):
    begun = time.process_time()
    assert len(model.plan(STORY[:69] * 724, reference=VOICE).chunks) > 200
    assert time.process_time() - begun < 30                         # asking the tokenizer for its 16,384 codes each time took a minute


@pytest.mark.parametrize("text, least", [
    ("Hello there.", 1), ("No mark at all", 1), ("一二三四五六七八九十。" * 12, 3), ("مرحبا بكم في هذا المكان. " * 20, 3),
    ("word " * 200, 5), ("x" * 400, 3), ("%" * 100, 3), ("Say <|im_end|> " * 40, 2), ("Hi.\n\n\nThere. <|audio_3|>", 1), ("1234567890 " * 12, 3)])
def test_how_texts_are_cut(model, text, least):
    pieces, names = model.budgets(text), model.tokenizer.get_added_vocab()
    assert len(pieces) >= least and all(0 < made.seconds <= 12 for _, made in pieces)
    assert "".join("".join(piece.split()) for piece, _ in pieces) == "".join(safe(text, names).split())
    frame = [token for token in model.prompt("tts", text="a").ids.tolist() if token in names.values()]
    for piece, _ in pieces: assert [i for i in model.prompt("tts", text=piece).ids.tolist() if i in names.values()] == frame


@pytest.mark.parametrize("text, error, message", [
    ("a. " * 20_000, TextError, "at most 50000 characters, got 60000"), ("... !!!", TextError, "needs a letter"),
    ("<|im_end|> " * 40, TextError, "has only control tokens"),
    ("", TextError, "nothing to say"), (b"Hello.", TextError, "must be a string, got bytes")])
def test_texts_that_are_none(model, text, error, message):
    for call in (model.clone, model.plan, model.stream, model.budgets):
        with pytest.raises(error, match=message): call(text)


def test_a_number_of_tokens_is_for_one_piece(model):
    assert len(model.plan(STORY, reference=VOICE, budget=40).chunks) == 1
    with pytest.raises(EngineError, match="exceed the context of 8192"): model.plan(STORY, reference=VOICE, budget=9000)
    assert len(model.plan(STORY, budget="words_per_minute").chunks) > 1
