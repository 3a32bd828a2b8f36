"""Speech while it is made: stop reasons, streams, traces, long texts turn by turn, batches of sessions."""
import math
import os
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import EDGE, ToneCodec, chat_of, endless, joined, saying, untouched

import voicelab
from voicelab import control, session
from voicelab.audio import GENERATED, Audio, Mark
from voicelab.budget import Budget, columns_for_frames
from voicelab.codec import STREAM_BOS, STREAM_EOS, decode_batch
from voicelab.control import STOP_REASONS, Control, Sampling
from voicelab.families.higgs import cache
from voicelab.families.higgs.cache import PrefixStore
from voicelab.families.higgs.engine import HiggsEngine
from voicelab.families.higgs.prompt import render
from voicelab.generation import Chunk, EngineError, ModelInfo, Plan
from voicelab.reference import Reference
from voicelab.session import Session, run_together

INFO = ModelInfo("random", "higgs-audio-v2", "0", "0" * 64, "tones", "none")


def chunks_for(tokenizer, texts, frames, reference_frames=20):
    frames = frames if isinstance(frames, tuple) else (frames,) * len(texts)
    budgets = [Budget("fixed", 1.0, most, columns_for_frames(most), None, "", "") for most in frames]
    chats = [chat_of(text=text, frames=reference_frames) for text in texts]
    prefix_length = len(render(chats[0][:-1], tokenizer, add_generation_prompt=False).ids)
    return [Chunk(text, render(chat, tokenizer), budget, chat, prefix_length) for text, chat, budget in zip(texts, chats, budgets)]


def make(network, tokenizer, codec=None, *, texts=("Hello there.",), frames=40, sampling=Sampling(seed=0),
         control=Control(), turns=0, prefixes=None, reference_frames=20):
    chunks = chunks_for(tokenizer, texts, frames, reference_frames)
    return Session(HiggsEngine(network, codec or ToneCodec(), INFO, prefixes), chunks, text=" ".join(texts), reference=None,
                   sampling=sampling, control=control, turns=turns, render=lambda chat: render(chat, tokenizer))


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
    offline = decode_batch(codec, [made.codes])[0]
    hop = round(codec.sample_rate / codec.frame_rate)
    assert len(made.audio.samples) == hop * made.codes.shape[1]
    assert np.abs(made.audio.samples - offline.samples).max(initial=0) < 1e-4
    assert made.audio.synthetic                         # however it ended
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


def test_a_family_can_not_overwrite_what_the_session_counts(speak, monkeypatch):
    ticks, take = [], session.Session.take
    def taken(self, tick):
        ticks.append(replace(tick))
        tick.facts = tick.facts | dict(frame=70, step=70, seconds=70.0)
        take(self, tick)
    monkeypatch.setattr(session.Session, "take", taken)
    made, _ = speak(frames=8)
    assert made.trace.frame.tolist() == [-1] * 8 + list(range(8)) + [-1]
    assert made.trace.step.tolist() == list(range(17)) and made.trace.seconds.max() < 1
    assert [tick.frame for tick in ticks] == list(range(-8, 9))             # a column's frame is complete 8 columns later
    assert all(not {*tick.facts} & ({*session.TRACE} - {"eos_probability", "entropy"}) for tick in ticks)


def test_a_codec_without_a_finite_context_is_heard_at_the_end(speak):
    class Whole(ToneCodec):
        def decode(self, codes): return Audio(np.full(320 * codes.shape[1], codes.float().mean().item() / 2048, np.float32), 8000)
    made, pieces = speak(codec=Whole(None), frames=40)
    assert made.stop_reason == "budget" and len(made.audio.samples) == 40 * 320 and len(pieces) == 1
    assert np.array_equal(joined(pieces), made.audio.samples)


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
    clock = SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: now[0] / 4)
    for module in (session, control): monkeypatch.setattr(module, "time", clock)
    def wish(at, logits):
        endless(at, logits)
        now[0] = at + 0.5
    made, _ = speak(wish, control=Control(timeout_seconds=limit), texts=("One.", "Two."))
    assert made.stop_reason == "timeout" and made.codes.shape[1] == frames
    assert columns_by_chunk(made) == [limit + 1] and made.chunks[1].codes is None
    assert made.timings["total"] == limit + 0.5
    assert made.chunks[0].waited == made.timings["waiting"] == 0.75 * (limit + 0.5)
    assert made.why == f"the time limit was reached: {limit} s for a chunk; for {0.75 * (limit + 0.5):.1f} s the process did not compute"


def test_a_pause_is_no_waiting(speak, monkeypatch):
    made, _ = speak(frames=20)
    assert 0 <= made.timings["waiting"] <= made.timings["total"] and made.why == STOP_REASONS[made.stop_reason]
    now = [0.0]
    monkeypatch.setattr(control, "time", SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: 0.0))
    clock = control.Clock()
    now[0] = 3
    pause = control.Clock()
    now[0] = 10
    clock.leave_out(pause)
    assert clock.seconds() == clock.waiting() == 3


@pytest.mark.parametrize("device, known", [("cpu", True), ("cuda:0", False)])
def test_waiting_is_known_where_the_process_computes_itself(tiny_network, tiny_tokenizer, device, known):
    session = make(tiny_network, tiny_tokenizer)
    session.engine.network, session.begun = SimpleNamespace(device=device), control.Clock()
    assert math.isfinite(session.waiting()) == known


STOPPED = """
import os, signal
import voicelab as vl
from voicelab.control import Control
session = vl.load("tiny").session("The old library opens at nine in the morning.", seed=0, control=Control(timeout_seconds=2))
take = session.take
def stop_once(tick):
    session.take = take
    print(os.getpid(), flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    take(tick)
session.take = stop_once
made = session.run()
print(made.stop_reason, made.chunks[0].waited, made.timings["waiting"], flush=True)
"""


def test_a_stopped_process_says_that_it_waited(python):
    with subprocess.Popen([*python, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as process:
        stopped = int(process.stdout.readline())
        until = time.monotonic() + 60
        while Path(f"/proc/{stopped}/stat").read_text().rpartition(")")[2].split()[0] != "T" and time.monotonic() < until: time.sleep(0.01)
        time.sleep(3)
        os.kill(stopped, signal.SIGCONT)
        reason, waited, waiting = process.communicate(timeout=120)[0].split()
    assert reason == "timeout" and 2 < float(waited) <= float(waiting)


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


@pytest.mark.parametrize("rows", (1, 3))
def test_no_frame_is_decoded_twice_but_as_context(tiny_network, tiny_tokenizer, rows):
    codec = ToneCodec()
    sessions = [make(tiny_network, tiny_tokenizer, codec=codec, texts=("One.", "Two."), frames=60) for _ in range(rows)]
    with saying(tiny_network, endless): made = run_together(sessions)
    windows = [codes.shape[1] for codes in codec.decoded]
    assert sum(windows) < rows * (120 + len(windows) // rows * 2 * codec.context_frames + 1) and max(windows) < 60
    for each, spoken in zip(made, sessions): assert np.array_equal(each.audio.samples, joined(spoken.pieces))


def test_ctrl_c_while_it_finishes_loses_nothing(tiny_network, tiny_tokenizer):
    "In the last piece: all codes have been made by then, and are decoded once more."
    session = make(tiny_network, tiny_tokenizer, codec=Interrupted(3))
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
        if at == 20:
            button = threading.Thread(target=session.stop)
            button.start()
            button.join()
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
    assert session.generation.stop_reason == "interrupted" and session.generation.codes.shape[1] == 20


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

@pytest.mark.parametrize("frames", [(1,), (3,), (13,), (60,), (30, 1, 12)])
def test_a_stream_joins_to_the_offline_decode(speak, small_codec, frames):
    made, pieces = speak(codec=small_codec, frames=frames, texts=("One.", "Two.", "Three.")[:len(frames)])
    offline = small_codec.decode(made.codes).samples
    assert made.codes.shape[1] == sum(frames) and len(offline) == 960 * sum(frames)
    assert np.abs(joined(pieces) - offline).max() < 1e-4 and np.abs(made.audio.samples - offline).max() < 1e-4
    assert made.trace.rms_dbfs.notna().sum() == sum(frames)


def test_every_piece_and_the_whole_say_who_made_them(tiny_network, tiny_tokenizer):
    session = make(tiny_network, tiny_tokenizer, texts=("One.", "Two."), frames=13)
    session.reference = Reference(Audio(0.3 * np.sin(np.arange(16_000) / 10), 16_000), consent="مريم agreed")
    with saying(tiny_network, endless): pieces = list(session)
    expected = Mark(f"{GENERATED}; model random", "Consent of the reference speaker: مريم agreed", f"voicelab {voicelab.__version__}")
    assert len(pieces) > 1 and {sound.mark for sound in (*pieces, Audio.join(pieces), session.generation.audio)} == {expected}


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


# Long texts, turn by turn

def ending_at(*columns):
    "A wish: the chunks of a session end by themselves in these columns (of codebook 0)."
    ends = np.cumsum([0, *(column + 8 for column in columns[:-1])]) + np.array(columns)
    def wish(at, logits):
        endless(at, logits)
        if at in ends: logits[:, 0, STREAM_EOS] = EDGE
    return wish


TEXTS = ("One.", "Two, three.", "Four.", "Five, six, seven.")


@pytest.mark.parametrize("turns", (0, 1, 2, 9))
def test_the_last_turns_are_shown_again_as_codes(speak, turns):
    made, _ = speak(ending_at(11, 21, 31, 16), texts=TEXTS, turns=turns)
    assert [chunk.stop_reason for chunk in made.chunks] == ["eos"] * 4
    assert [chunk.codes.shape[1] for chunk in made.chunks] == [10, 20, 30, 15]
    for n, chunk in enumerate(made.chunks):
        shown = made.chunks[max(0, n - turns):n]
        assert len(chunk.prompt.codes) == 1 + len(shown) and chunk.turns == len(shown)
        for earlier, codes in zip(shown, chunk.prompt.codes[1:]): assert torch.equal(earlier.codes, codes)
        words = [text for text in chunk.prompt.segments[chunk.prompt.segments.kind == "text"]["text"]]
        assert words[-1 - len(shown):] == [*(earlier.text for earlier in shown), chunk.text]
        assert len(chunk.prompt.ids) <= chunk.positions


def test_what_is_shown_again_is_heard(speak):
    wish = ending_at(11, 21)
    with_turns, without = (speak(wish, texts=TEXTS[:2], turns=turns)[0] for turns in (1, 0))
    assert torch.equal(with_turns.chunks[0].codes, without.chunks[0].codes)
    assert not torch.equal(with_turns.chunks[1].codes, without.chunks[1].codes)


def test_a_turn_that_did_not_end_by_itself_is_not_shown_again(speak):
    made, _ = speak(ending_at(11, 400, 49), texts=TEXTS[:3], turns=2)       # the second uses its budget up: 49 columns
    assert [chunk.stop_reason for chunk in made.chunks][:2] == ["eos", "budget"]
    assert [len(chunk.prompt.codes) for chunk in made.chunks] == [1, 2, 2]
    assert torch.equal(made.chunks[2].prompt.codes[1], made.chunks[0].codes)


def test_an_empty_turn_is_not_shown_again(speak):
    made, _ = speak(ending_at(1, 21), texts=TEXTS[:2], turns=2)
    assert [chunk.codes.shape[1] for chunk in made.chunks] == [0, 20] and len(made.chunks[1].prompt.codes) == 1


def test_the_plan_is_never_exceeded_and_exact_where_budgets_are_used_up(tiny_tokenizer):
    chunks = chunks_for(tiny_tokenizer, TEXTS, (40, 10, 60, 30))
    plan = Plan.make(chunks, 4096, 2)
    for chunk in chunks: chunk.codes, chunk.stop_reason = torch.zeros(8, chunk.budget.frames, dtype=torch.long), "eos"
    for n, chunk in enumerate(chunks):
        turns = [turn for earlier in chunks[max(0, n - 2):n] for turn in earlier.shown()]
        assert len(render([*chunk.chat[:-1], *turns, chunk.chat[-1]], tiny_tokenizer).ids) == chunk.positions
    assert plan.table.turns.tolist() == [0, 1, 2, 2] and (plan.table.room_left > 0).all()
    assert (plan.table.positions + plan.table["columns"] + plan.table.room_left == 4096).all()
    assert "4 chunks" in repr(plan) and "Five, six, seven." in plan._repr_html_()


def test_a_long_text_does_not_grow_past_the_context(tiny_tokenizer):
    chunks = chunks_for(tiny_tokenizer, TEXTS * 5, 60)
    alone = max(len(chunk.prompt.ids) + chunk.budget.columns for chunk in chunks)
    for context in (alone, alone + 100, alone + 300):
        plan = Plan.make(chunks, context, 50)
        assert all(chunk.positions + chunk.budget.columns <= context for chunk in chunks)
    assert max(chunk.turns for chunk in plan.chunks) in (2, 3)
    with pytest.raises(EngineError, match="exceed the context"): Plan.make(chunks, alone - 1, 0)


def test_a_reference_longer_than_the_context_is_named_before_any_work(tiny_network, tiny_tokenizer):
    with pytest.raises(EngineError, match=r"^reference: 4209 columns and .* exceed the context of 4096; at most \d+ of its columns fit$"):
        make(tiny_network, tiny_tokenizer, reference_frames=4200)


def test_a_budget_longer_than_the_context_is_refused_before_any_work(tiny_network, tiny_tokenizer):
    with pytest.raises(EngineError, match=r"^prompt: \d+ positions and 5009 columns exceed the context of 4096$"):
        make(tiny_network, tiny_tokenizer, texts=("Fine.", "Too long."), frames=(20, 5000))


# Batches of sessions

def some(network, tokenizer, **options):
    "Sessions of several lengths, chunks and seeds."
    texts = [("One.",), ("Two three.", "Four.", "Five."), ("Six seven eight nine.",), ("Ten.", "Eleven twelve.")]
    frames = [(12,), (20, 3, 9), (40,), (5, 30)]
    return [make(network, tokenizer, texts=text, frames=most, sampling=Sampling(seed=seed), **options)
            for seed, (text, most) in enumerate(zip(texts, frames))]


def test_a_batch_of_sessions_is_what_each_is_alone(tiny_network, tiny_tokenizer):
    store = PrefixStore()
    together = run_together(some(tiny_network, tiny_tokenizer, turns=1, prefixes=store))
    alone = [each.run() for each in some(tiny_network, tiny_tokenizer, turns=1)]
    assert store.read == 1 and [made.timings["rows"] for made in together] == [4] * 4
    for made, single in zip(together, alone):
        assert torch.equal(made.codes, single.codes) and made.stop_reason == single.stop_reason
        assert np.array_equal(made.audio.samples, single.audio.samples)
        for each, other in zip(made.chunks, single.chunks): assert torch.equal(each.prompt.ids, other.prompt.ids)
        columns = ["chunk", "column", "frame", "ramp", "eos_codebook", "silent_frames", "repeated_frames"]
        pd.testing.assert_frame_equal(made.trace[columns], single.trace[columns])


def test_pieces_of_a_batch_say_whose_they_are_and_join(tiny_network, tiny_tokenizer):
    sessions, pieces = some(tiny_network, tiny_tokenizer), {}
    with saying(tiny_network, endless):
        for owner, piece in session.speak(sessions):
            pieces.setdefault(id(owner), []).append(piece)
    for each in sessions:
        check(each)
        assert np.abs(joined(pieces[id(each)]) - each.generation.audio.samples).max() < 1e-4


def test_a_session_is_finished_as_soon_as_it_has_said_all(tiny_network, tiny_tokenizer):
    sessions, finished = some(tiny_network, tiny_tokenizer), []
    def wish(at, logits):
        endless(at, logits)
        finished.append([each.generation is not None for each in sessions])
    with saying(tiny_network, wish): run_together(sessions)
    assert finished[20] == [False] * 4 and finished[22] == [True, False, False, False]
    assert finished[49] == [True, False, True, False]       # the second round


def test_rows_stop_for_their_own_reasons(tiny_network, tiny_tokenizer):
    def wish(at, logits):
        endless(at, logits)
        if at == 20: logits[0, 3, STREAM_EOS] = EDGE
        if at > 10 and len(logits) == 3: logits[2, :, 100 + at % 3] += EDGE
        if at > 10 and len(logits) == 2: logits[1, :, 100 + at % 3] += EDGE
    sampling = [Sampling(ras_window=0, seed=seed) for seed in range(3)]
    sessions = [make(tiny_network, tiny_tokenizer, frames=60, sampling=each, control=Control(repetition_frames=20)) for each in sampling]
    with saying(tiny_network, wish): made = run_together(sessions)
    for each in sessions: check(each)
    assert [each.stop_reason for each in made] == ["eos", "budget", "repetition"]
    assert made[0].trace.eos_codebook.dropna().unique().tolist() == [3] and made[0].codes.shape[1] == 16


@pytest.mark.parametrize("column", (3, 15, 25))
def test_ctrl_c_keeps_what_every_row_has(tiny_network, tiny_tokenizer, column):
    sessions = [make(tiny_network, tiny_tokenizer, frames=most, sampling=Sampling(seed=most)) for most in (40, 5, 60)]
    with saying(tiny_network, interrupt_at(column)): made = run_together(sessions)
    for each in sessions: check(each)
    whole = max(0, column - 8)
    assert [each.codes.shape[1] for each in made] == [whole, min(whole, 5), whole]
    assert [each.stop_reason for each in made] == ["interrupted", "budget" if column > 13 else "interrupted", "interrupted"]


def test_one_session_can_be_stopped(tiny_network, tiny_tokenizer):
    sessions = [make(tiny_network, tiny_tokenizer, frames=40, texts=("One.", "Two.")) for _ in range(2)]
    def wish(at, logits):
        endless(at, logits)
        if at == 20: sessions[0].stop()
    with saying(tiny_network, wish): made = run_together(sessions)
    assert [each.stop_reason for each in made] == ["interrupted", "budget"]
    assert [each.codes.shape[1] for each in made] == [13, 80]


def test_a_chunk_at_its_budget_does_not_hide_that_the_rest_was_interrupted(tiny_network, tiny_tokenizer):
    session = make(tiny_network, tiny_tokenizer, frames=20, texts=("One.", "Two.", "Three."))
    def wish(at, logits):
        endless(at, logits)
        if at == 45: session.stop()
    with saying(tiny_network, wish): made = session.run()
    assert [chunk.stop_reason for chunk in made.chunks][:2] == ["budget", "interrupted"] and made.stop_reason == "interrupted"


def test_running_out_of_memory_is_one_line_and_keeps_what_was_made(tiny_network, tiny_tokenizer):
    sessions = [make(tiny_network, tiny_tokenizer, frames=most) for most in (40, 5, 60)]
    def wish(at, logits):
        endless(at, logits)
        if at == 20: raise torch.OutOfMemoryError("CUDA out of memory")
    with saying(tiny_network, wish), pytest.raises(EngineError, match=r"^texts: a batch of 3 rows ran out of memory on cpu; try 1; ") as error:
        run_together(sessions)
    assert [made.codes.shape[1] for made in error.value.generations] == [12, 5, 12]
    assert [made.stop_reason for made in error.value.generations] == ["interrupted", "budget", "interrupted"]


@pytest.mark.parametrize("streams", [False, True])
def test_one_text_that_runs_out_of_memory_is_told_so(tiny_network, tiny_tokenizer, streams):
    "As a sample and as a stream, which keeps what was made, too."
    session = make(tiny_network, tiny_tokenizer, frames=40)
    def wish(at, logits):
        endless(at, logits)
        if at == 20: raise torch.OutOfMemoryError("CUDA out of memory")
    said = r"^text: chunk 1 of 1, of \d+ characters after a prompt of \d+ positions, ran out of memory on cpu; try shorter chunks or a shorter reference; "
    with saying(tiny_network, wish), pytest.raises(EngineError, match=said) as error: [*session] if streams else session.run()
    made, = error.value.generations
    assert made is session.generation and made.codes.shape[1] == 12 and made.stop_reason == "interrupted"


def test_a_batch_that_does_not_fit_is_refused_before_any_work(tiny_network, tiny_tokenizer, monkeypatch):
    sessions = some(tiny_network, tiny_tokenizer)
    monkeypatch.setattr(cache, "free_bytes", lambda device: 2.5 * cache.row_bytes(tiny_network, max(
        len(chunk.prompt.ids) for each in sessions for chunk in each.chunks), 49))
    with pytest.raises(EngineError, match=r"^texts: a batch of 4 rows .* at most 2 rows fit$"): run_together(sessions)
    assert all(each.begun is None for each in sessions)
    assert [made.codes.shape[1] > 0 for made in run_together(sessions[:2])] == [True, True]


def test_sessions_that_can_not_share_a_step_are_refused(tiny_network, tiny_tokenizer):
    hot, cold = (make(tiny_network, tiny_tokenizer, sampling=Sampling(temperature=heat, seed=0)) for heat in (1.0, 0.3))
    with pytest.raises(EngineError, match="^sampling: must be the same in a batch except for the seed, got 2 kinds$"): run_together([hot, cold])
    with pytest.raises(EngineError, match="^sessions: each can run once, got one twice$"): run_together([hot, hot])
    with pytest.raises(EngineError, match="^sessions: need at least one, got none$"): run_together([])
    assert hot.begun is None


def test_timings_say_how_fast_it_was(speak):
    made, _ = speak(frames=60)
    times = made.timings
    assert 0 < times["first_audio"] < times["total"] and times["rows"] == 1
    assert times["columns_per_second"] == pytest.approx(len(made.trace) / (times["prefill"] + times["decode"]))
    assert times["rtf"] == pytest.approx(times["total"] / made.audio.seconds)
