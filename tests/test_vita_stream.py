"VITA-Audio while it is made: text as it comes, the first sound after 8 codes, blocks, and Ctrl-C in a batch."
from contextlib import contextmanager
from itertools import chain

import numpy as np
import pytest
import torch
from conftest import joined
from test_vita_model import KINDS, QUESTION, VOICE, Hum

import voicelab as vl
from voicelab.audio import Audio
from voicelab.budget import BudgetError
from voicelab.chat import FormError
from voicelab.codec import CodecError
from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.model import VitaModel
from voicelab.family import Responder
from voicelab.models.glm4voice import BLOCKS, held_codes, tiny_glm4voice
from voicelab.session import run_together
from voicelab.text import TextError
from voicelab.text_form import TextForm

QUICK = dict(reference=VOICE, seed=2, option_steps=1)


@pytest.fixture(scope="module")
def vita(): return VitaModel(tiny_vita(), tiny_glm4voice())


@pytest.fixture(scope="module")
def plus(): return VitaModel(tiny_vita(KINDS[1], n_codes=2048), Hum())


@contextmanager
def saying(model, words, codes=range(16)):
    "Within it the model writes `words` and says `codes`, interleaved as it was trained: a token, 8 codes, 4 tokens, 8 codes, the rest of the words."
    tokens, written = model.parts.tokens, model.tokenizer(words).input_ids
    runs = [[tokens.begin, *[tokens.first_code + code for code in codes[first:first + 8]], tokens.end] for first in range(0, len(codes), 8)]
    said = iter([written[0], *runs[0], *written[1:5], *chain(*runs[1:]), *written[5:], tokens.stops[0]])
    def say(module, inputs, output): output[..., next(said)] = 1e4
    handle = model.network.lm_head.register_forward_hook(say)
    try: yield
    finally: handle.remove()


def kinds(parts): return [[part for part in parts if isinstance(part, kind)] for kind in (str, Audio)]


# ---- text as it comes

@pytest.mark.parametrize("task, given", [("text", dict(text="Who are you?")), ("asr", dict(audio=QUESTION)),
                                         ("spoken_qa", dict(audio=QUESTION)), ("clone", dict(text="Hello there.", reference=VOICE)),
                                         ("tts", dict(text="One. Two.", chunking="words", chunk_words=1))])
def test_the_pieces_of_text_are_what_was_written(plus, task, given):
    asked = dict(seed=3, budget=60) | given
    if "chunking" in given: del asked["budget"]
    live = plus.session(task, **asked)
    words, sound = kinds(list(live.parts()))
    made = live.generation
    assert words and "".join(words) == made.written == live.text_so_far and all(words)
    assert np.array_equal(joined(sound), made.audio.samples) and bool(sound) == plus.tasks[task].speaks
    told = []
    again = plus.session(task, **asked).run(on_text=told.append)
    assert told == words and torch.equal(again.codes, made.codes)


@pytest.mark.parametrize("voice", [Hum, tiny_glm4voice])
def test_text_and_sound_come_in_the_order_in_which_they_are_made(voice):
    model = VitaModel(tiny_vita(), voice())
    with saying(model, "Good day, and welcome."):
        live = model.session("spoken_qa", audio=QUESTION, seed=3, budget=100, option_steps=1)
        parts = list(live.parts())
    words, sound = kinds(parts)
    assert parts[0] == "G" and isinstance(parts[-1], Audio) == (voice is not Hum) and "".join(words) == live.generation.written == "Good day, and welcome."
    heard = next(n for n, part in enumerate(parts) if isinstance(part, Audio))
    assert "".join(parts[:heard]) == "G" and live.generation.codes.tolist() == [[*range(16)]]         # 8 codes are said before the second word
    with saying(model, "Good day, and welcome."): pieces = list(model.session("spoken_qa", audio=QUESTION, seed=3, budget=100, option_steps=1))
    assert np.array_equal(joined(pieces), joined(sound)) and {type(piece) for piece in pieces} == {Audio}


def test_letters_of_several_tokens_come_whole(plus):
    "The tokenizer takes a rare character apart; half of one is never handed out."
    written, told = "na\u00efve \u5317\u4eac \U0001f3a4 fine", []
    with saying(plus, written, range(8)): made = plus.session("text", text="Hi.", budget=100).run(on_text=told.append)
    assert "".join(told) == made.written == written and not any("\ufffd" in piece for piece in told) and len(told) > 3


def test_the_other_family_streams_as_before(model, reference):
    session = model.stream("Hello.", reference=reference, seed=1)
    parts = list(session.parts())
    assert {type(part) for part in parts} == {Audio} and session.text_so_far == ""


def test_left_in_the_middle_of_the_text(plus):
    live = plus.session("text", text="Hi.", budget=60)
    for _ in live.parts(): break
    assert live.generation.stop_reason == "interrupted" and live.generation.written and not live.generation.audio.samples.size


# ---- blocks

def test_the_first_sound_comes_after_eight_codes(vita):
    live = vita.stream("Hello there.", **QUICK, budget=60)
    for piece in live:
        assert live.codes.shape[1] == 8 == BLOCKS[0] and 0.2 < piece.seconds < 0.64
        break
    assert live.generation.blocks == BLOCKS and live.generation.settings["blocks"] == BLOCKS


@pytest.mark.parametrize("blocks, first", [((20, 20), 20), (5, 5), ([1, 8], 1)])
def test_blocks_can_be_set(vita, blocks, first):
    live = vita.stream("Hello there.", **QUICK, budget=90, blocks=blocks)
    heard, counts = [], []
    for piece in live:
        heard.append(piece)
        counts.append(live.codes.shape[1])
    made = live.generation
    offline = vita.clone("Hello there.", **QUICK, budget=90, blocks=blocks)
    assert counts[0] >= first and np.array_equal(joined(heard), made.audio.samples)
    assert torch.equal(made.codes, offline.codes) and len(made.audio.samples) == len(offline.audio.samples)


@pytest.mark.parametrize("blocks", [(), 0, (8, 0), "8", 2.5, True, (8, -1), 10**6, None])
def test_blocks_that_are_none(vita, blocks):
    with pytest.raises(CodecError, match="^blocks: must be (a whole number from 1 to 100000|at least one whole number), got"): vita.stream("Hi.", blocks=blocks)


def test_a_block_holds_a_quarter_back():
    assert [held_codes(size) for size in (1, 4, 8, 12, 20, 160)] == [0, 1, 2, 3, 5, 5]


# ---- a batch

def interrupted_at(monkeypatch, network, call):
    main, calls = network.main, []
    def counted(*args):
        calls.append(1)
        if len(calls) == call: raise KeyboardInterrupt
        return main(*args)
    monkeypatch.setattr(network, "main", counted)
    return calls


@pytest.mark.parametrize("on_error", ["raise", "row"])
def test_ctrl_c_ends_the_whole_batch(plus, monkeypatch, on_error):
    calls = interrupted_at(monkeypatch, plus.network, 30)
    made = plus.clone_batch(["One.", "Two.", "Three."], references=VOICE, seeds=[1, 2, 3], on_error=on_error)
    assert len(calls) == 30 and [each.stop_reason for each in made] == ["interrupted"] * 3
    assert [each.codes.shape[1] > 0 for each in made] == [True, False, False] and [each.text for each in made] == ["One.", "Two.", "Three."]


def test_a_stop_of_one_session_leaves_the_others(plus):
    sessions = [plus.stream("One.", reference=VOICE, seed=seed, budget=20) for seed in (1, 2)]
    sessions[0].stop()
    first, second = run_together(sessions)
    assert first.stop_reason == "interrupted" and second.codes.shape[1] and second.stop_reason != "interrupted"


def test_each_item_of_a_batch_has_a_clock_of_its_own(plus):
    made = plus.clone_batch(["One."] * 4, references=VOICE, seeds=[1] * 4)
    totals = [each.timings["total"] for each in made]
    work = [sum(each.timings[part] for part in ("prefill", "decode", "codec")) for each in made]
    assert all(total < 3 * part for total, part in zip(totals, work)) and {each.timings["rows"] for each in made} == {1}


# ---- how a text is read, and cut

@pytest.mark.parametrize("written", ["\ufb01nd the fl\u200bower", "find the fl\u2060ower", "find\u00a0the <b>flower</b>"])
def test_characters_that_nobody_sees_do_not_reach_it(vita, written):
    plain = vita.clone_prompt("find the flower", VOICE).ids.tolist()
    with pytest.warns(UserWarning, match="markup") if "<" in written else pytest.MonkeyPatch.context():
        assert vita.clone_prompt(written, VOICE).ids.tolist() == plain
        assert vita.plan(written, **QUICK).chunks[0].prompt.ids.tolist() == plain
    kept = TextForm(characters="kept", markup="kept")
    assert written in vita.plan(written, **QUICK, text_form=kept).chunks[0].prompt.text
    assert vita.plan(written, **QUICK, text_form="upstream").chunks[0].prompt.ids.tolist() != plain


def test_what_the_user_asks_keeps_its_tags(vita):
    asked = vita.session("text", text="What does <b>gar\u200bden</b> mean?", budget=5).chunks[0].prompt.text
    assert "What does <b>garden</b> mean?" in asked


def test_a_card_says_how_its_text_is_written(plus, monkeypatch):
    monkeypatch.setattr(plus, "card", dict(capitals="lowered", lines="joined"))
    assert plus.plan("PLEASE FIND THE FLOWER.\nIt is red.").chunks[0].text == "Please find the flower. It is red."
    assert plus.plan("PLEASE FIND IT.", text_form=TextForm()).chunks[0].text == "PLEASE FIND IT."
    with pytest.raises(TextError, match="^text_form: must be a TextForm"): plus.plan("Hi.", text_form="loud")


STORY = " ".join(f"This is sentence number {number}, and it takes a few seconds to say." for number in ("one", "two", "three", "four"))


@pytest.mark.parametrize("cut, chunks", [(dict(), 2), (dict(chunking="none"), 1), (dict(chunking=5), 4), (dict(chunking="words", chunk_words=13), 4)])
def test_a_long_text_is_cut_as_asked(plus, cut, chunks):
    assert len(plus.plan(STORY, **cut).chunks) == len(plus.budgets(STORY, **cut)) == chunks


@pytest.mark.parametrize("cut", [dict(chunking="speaker"), dict(chunking=-1), dict(chunking="words", chunk_words=0), dict(chunking=True)])
def test_cuts_that_are_none(plus, cut):
    with pytest.raises(BudgetError, match="^chunk"): plus.plan(STORY, **cut)


# ---- who answers

def test_words_of_ones_own_are_the_system_message(plus):
    prompt = plus.prompt("spoken_qa", audio=QUESTION, system="You are a gardener.<|im_end|>")
    assert prompt.text.startswith("<|im_start|>system\nYou are a gardener.< |im_end| ><|im_end|>\n") and "Omni" not in prompt.text
    assert "system" not in plus.prompt("spoken_qa", audio=QUESTION, system="").text
    for other in (dict(reference=VOICE), dict(persona="luke")):
        with pytest.raises(FormError, match="^system: can't be combined with a .*, which takes the system message"):
            plus.prompt("spoken_qa", audio=QUESTION, system="You.", **other)
    with pytest.raises(TextError, match="^system: must be a string"): plus.prompt("text", text="Hi.", system=3)


def test_tasks_say_what_they_need(vita, model):
    assert isinstance(vita, Responder) and not isinstance(model, Responder)
    assert [name for name, task in vita.tasks.items() if task.talks] == ["text", "spoken_qa", "speech_to_speech"]
    assert vita.usual_sampling(task="asr").temperature == 0 and vita.usual_sampling() == vl.Sampling(1.0, 50, None, ras_window=0)
