"The conversation widget, without a browser, on a tiny random VITA-Audio: tasks, both recordings, text beside sound, history, errors."
import threading

import ipywidgets as W
import numpy as np
import pytest
import soundfile
from conftest import joined
from test_vita_model import QUESTION, VOICE, Hum
from test_vita_stream import saying
from test_widgets import kept, parts, shown

import voicelab as vl
from voicelab.audio import Audio
from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.model import VitaModel
from voicelab.widgets.conversation import OWN, TASK_OWN, Question
from voicelab.widgets.voice import NONE
from voicelab.widgets.worker import lock_of

ANSWER = "Good <b>day</b>, and welcome."


@pytest.fixture(scope="module")
def vita(): return VitaModel(tiny_vita(n_codes=2048), Hum())


@pytest.fixture
def talk(vita):
    "A conversation with a question and a reference; closed in the end, with everything that it made."
    before = kept()
    made = vl.widgets.Conversation(vita, question=QUESTION, reference=VOICE, option_steps=1)
    made.most.value = 100
    yield made
    made.close()
    assert kept() == before


def ask(talk):
    talk.run()
    talk.worker.wait(60)


def visible(talk):
    return {name for name in ("voice", "form", "persona", "system", "text", "question", "remember") if getattr(talk, name).layout.display != "none"}


def test_a_question_is_answered_in_text_and_sound(vita, talk):
    pieces = []
    talk.stream.play = pieces.append
    with saying(vita, ANSWER): ask(talk)
    assert talk.status.text == "Done.", talk.status.text
    (made,), (turn,) = talk.answers, talk.turns
    assert made.task == "spoken_qa" and made.written == turn.so_far == ANSWER and made.sampling.seed == 1
    assert np.array_equal(joined(pieces), made.audio.samples) and np.array_equal(turn.clip.audio.samples, made.audio.samples)
    assert np.array_equal(turn.question.audio.samples, QUESTION.samples) and np.array_equal(talk.voice.clip.audio.samples, VOICE.audio.samples)
    assert [part.name for part in made.prompt.heard] == ["reference", "input audio"]
    assert "Good &lt;b&gt;day" in turn.answer.value and "<b>day" not in turn.answer.value
    assert "Stopped: eos" in turn.ended.value and turn.ended.value.index("reference →") < turn.ended.value.index("input audio →")


def test_an_answer_is_what_respond_gives(vita, talk):
    ask(talk)
    live = vita.session("spoken_qa", audio=QUESTION, reference=VOICE, seed=1, budget=100, option_steps=1)
    assert np.array_equal(joined(live), talk.answers[0].audio.samples) and talk.answers[0].written == live.generation.written


def test_words_appear_while_it_answers(vita, talk):
    seen = []
    talk.stream.play = lambda piece: seen.append(talk.turns[0].answer.value)
    with saying(vita, ANSWER): ask(talk)
    assert ">G</bdi>" in seen[0] and "welcome" in talk.turns[0].answer.value


@pytest.mark.parametrize("task, expected", [
    ("text", {"persona", "text", "remember"}), ("tts", {"voice", "form", "text"}), ("clone", {"voice", "form", "text"}), ("asr", {"question"}),
    ("spoken_qa", {"voice", "form", "text", "question", "remember"}), ("speech_to_speech", {"voice", "form", "text", "question", "remember"})])
def test_what_a_task_uses_is_shown_and_given(vita, talk, task, expected):
    talk.task.value, talk.text.value = task, "Hello."
    assert visible(talk) == expected and set(talk.task.options) == set(vita.tasks)
    ask(talk)
    assert talk.answers and talk.answers[0].task == task, talk.status.text
    assert bool(len(talk.answers[0].audio.samples)) == vita.tasks[task].speaks == (talk.turns[0].clip.layout.display == "")


def test_without_a_reference_a_persona_answers(talk):
    talk.voice.voice.value = NONE
    assert visible(talk) == {"voice", "persona", "text", "question", "remember"}
    for persona, said in ((TASK_OWN, "Your Name: Omni"), ("luke", "Your Name: Luke")):
        talk.persona.value = persona
        ask(talk)
        assert said in talk.answers[-1].prompt.text
    talk.persona.value, talk.system.value = OWN, "You are a gardener."
    assert "system" in visible(talk)
    ask(talk)
    assert talk.answers[-1].prompt.text.startswith("<|im_start|>system\nYou are a gardener.<|im_end|>")


def test_earlier_turns_are_told_unless_they_should_not(vita, talk):
    talk.text.value = "Listen:"
    with saying(vita, ANSWER): ask(talk)
    ask(talk)
    second = talk.answers[1].prompt
    assert [part.name for part in second.heard] == ["reference", "earlier audio", "input audio"] and ANSWER in second.text and second.text.count("Listen:") == 2
    talk.remember.value = False
    ask(talk)
    assert len(talk.answers[2].prompt.heard) == 2 and len(talk.turns) == len(talk.shown.children) == 3
    talk.remember.value = True
    before = len(kept())
    talk.again.click()
    assert talk.turns == [] and talk.shown.children == () and len(kept()) < before
    ask(talk)
    assert len(talk.answers[0].prompt.heard) == 2


def test_an_answer_without_words_is_told_by_its_codes(vita, talk):
    with saying(vita, " ", range(8)): ask(talk)
    assert talk.turns[0].so_far == "" and "(nothing was written)" in talk.turns[0].answer.value
    ask(talk)
    assert talk.answers[1].prompt.text.count("<|audio_7|>") >= 1 and talk.status.text.startswith("Ended early (budget): ")


def test_what_is_missing_is_one_line(talk):
    talk.question.put(None)
    ask(talk)
    assert talk.status.failed and talk.status.text == "question: the task spoken_qa needs one; record it, or upload a file"
    talk.task.value = "text"
    ask(talk)
    assert talk.status.failed and talk.status.text == "text: task 'text' needs one, got none"
    talk.task.value, talk.text.value, talk.voice.voice.value = "clone", "Hello.", NONE
    ask(talk)
    assert talk.status.failed and "reference: task 'clone' needs one" in talk.status.text and talk.turns == []
    assert not talk.ask.disabled and talk.stop.disabled


def test_an_option_that_the_model_has_not_is_one_line(vita):
    talk = vl.widgets.Conversation(vita, question=QUESTION, moode="boost")
    ask(talk)
    assert talk.status.failed and "moode: no such option" in talk.status.text
    talk.close()


def test_stop_keeps_what_there_is(talk):
    talk.most.value = 0
    talk.stream.play = lambda piece: talk.stop.click()
    ask(talk)
    assert talk.answers[0].stop_reason == "interrupted" and "Stopped: interrupted" in talk.turns[0].ended.value and len(talk.answers[0].audio.samples)


def test_an_error_half_way_leaves_the_model_free(vita, talk):
    def broken(piece): raise OSError("the page is gone")
    talk.stream.play = broken
    ask(talk)
    assert talk.status.text == "the page is gone" and talk.answers == [] and not lock_of(vita).locked()
    del talk.stream.play
    ask(talk)
    assert len(talk.answers) == 1 and len(talk.answers[0].prompt.heard) == 2             # a turn without an answer is not told


def test_closing_ends_what_is_at_work(vita):
    before, begun = kept(), threading.Event()
    talk = vl.widgets.Conversation(vita, question=QUESTION, reference=VOICE)
    talk.stream.play = lambda piece: begun.set()
    talk.run()
    assert begun.wait(60)
    talk.close()
    talk.worker.wait(30)
    assert not talk.worker.busy and talk.answers == [] and not lock_of(vita).locked() and kept() == before
    left = shown(talk)
    for part in parts(talk):
        if isinstance(part, W.Button): part.click()
    assert shown(talk) == left


def test_a_model_without_tasks_is_told_so(model):
    before = kept()
    talk = vl.widgets.Conversation(model)
    assert talk.status.text == "tiny has no tasks, it only speaks: use vl.widgets.Tuner." and not talk.status.failed
    ask(talk)
    assert talk.answers == [] and not talk.worker.busy
    talk.close()
    assert kept() == before


def upload(question, name, content):
    question.file.taken(name, content)


def test_a_question_is_uploaded_whole(tmp_path):
    question = Question()
    soundfile.write(tmp_path / "long.wav", np.tile(VOICE.audio.samples, 8), 16_000)          # 40 s: a reference would be cut
    upload(question, "long.wav", (tmp_path / "long.wav").read_bytes())
    assert question.audio.seconds == pytest.approx(40) and not question.status.failed and question.clip.audio is question.audio
    upload(question, "bad.wav", b"no sound")
    assert question.audio is None and question.status.failed and "'bad.wav'" in question.status.text and "/" not in question.status.text
    assert question.clip.layout.display == "none"
    question.close()


def test_a_question_is_recorded():
    question = Question()
    assert question.recorder.layout.display == "" and question.file.layout.display == "none"
    question.recorder.taken(VOICE.audio)
    assert question.audio is VOICE.audio
    question.recorder.taken(Audio(np.zeros(32_000, np.float32), 16_000))
    assert question.audio is None and question.status.failed and "recording: it is silent" in question.status.text
    question.close()


def test_a_question_may_be_a_file(vita, root):
    talk = vl.widgets.Conversation(vita, question=str(root / "data/voices/ben.wav"))
    assert talk.question.audio.seconds > 1 and talk.voice.reference.name == "ada"
    talk.close()
