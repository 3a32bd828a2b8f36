"Blind tests over a run: order, secrecy, answers on disk, interruption, results."
import base64
import io
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from test_runs import sample

from voicelab import listening
from voicelab.answers import read_answers
from voicelab.audio import GENERATED, Audio, Mark
from voicelab.errors import VoicelabError
from voicelab.generation import ModelInfo
from voicelab.headphones import RATE, TONES, tone_file
from voicelab.headphones import tone as tone_samples
from voicelab.listening import ListeningError, ListeningTest, make_trials, one_level, read_results
from voicelab.listening_example import EXAMPLE, example_run
from voicelab.recordings import read_info
from voicelab.reference import Reference
from voicelab.runs import Run
from voicelab.widgets.listening import ListeningTest as Page

def tone(pitch, level=0.1, rate=16_000): return Audio((level * np.sin(2 * np.pi * pitch * np.arange(rate) / rate)).astype(np.float32), rate)


KIM = Reference(tone(100), consent="mine", name="kim")
SECRET = ModelInfo("secret-model", "demo", "1", "ab" * 32, "none", "Apache-2.0")


def made_with(text, form, audio, reference=KIM):
    return sample(text, reference, audio=audio, prompt=SimpleNamespace(form=form), model=SECRET)


@pytest.fixture
def run(tmp_path):
    "Two texts by three forms in one voice, a failed sample, one without a reference."
    made = Run(tmp_path / "run")
    for number, (text, form) in enumerate((text, form) for text in ("One.", "Two.") for form in ("left", "middle", "right")):
        made.save(made_with(text, form, tone(200 + 50 * number, 0.05 * (1 + number))))
    made.save(made_with("One.", "left", tone(500), None))
    made.save_failure("One.", "broke")
    return made


def test_trials_pair_what_differs_in_the_condition_only(run):
    trials = make_trials(run, "preference", "prompt_form")
    assert len(trials) == 6 and all(a != b for a, b in (trial.conditions for trial in trials))
    assert {frozenset(trial.ids) for trial in trials} == {frozenset(pair) for pair in ((0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5))}
    assert len(make_trials(run, "similarity", "prompt_form")) == 6
    assert len(make_trials(run, "preference", lambda row: row["prompt_form"] == "left")) == 4


def test_order_and_sides_come_from_seed_and_listener(run, tmp_path):
    def order(**options): return [t.ids for t in ListeningTest(run, file=tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl", **options).trials]
    assert order(seed=1) == order(seed=1) and order(seed=1) != order(seed=2) and order(seed=1) != order(seed=1, listener="else")
    sides = [ids[0] < ids[1] for seed in range(40) for ids in order(seed=seed)]
    assert 0.35 < np.mean(sides) < 0.65
    assert len(order(most=2)) == 2 and len(order(most=99)) == 6


def test_what_is_played_tells_nothing(run):
    test = ListeningTest(run)
    for number in range(len(test)):
        sounds = test.sounds(number)
        assert list(sounds) == ["reference", "A", "B"]
        levels = [sound.rms_db for sound in sounds.values()]
        assert max(levels) - min(levels) < 0.01
        for sound in sounds.values(): assert b"secret" not in sound.wav_bytes()
        assert [sound.mark for sound in sounds.values()] == [Mark(), Mark(GENERATED), Mark(GENERATED)]      # that it is synthetic, and no more
    assert "secret-model" in str(read_info(run[0].path("generated")))           # as the files do


def test_answers_survive_an_interruption_at_any_byte(run):
    test = ListeningTest(run)
    test.answer(0, "A")
    test.answer(1, "B")
    whole = test.file.read_bytes()
    test.file.write_bytes(whole[:-5])                       # the last answer was torn
    again = ListeningTest(run)
    assert again.answers == {0: "A"} and again.next == 1
    again.answer(1, "A")
    assert ListeningTest(run).answers == {0: "A", 1: "A"} and test.file.read_bytes().count(b"\n") == 3
    test.file.write_bytes(whole[:9])                        # torn in the plan: nothing had been asked
    assert ListeningTest(run).next == 0


def test_listeners_share_a_file_and_not_their_answers(run):
    one, two = (ListeningTest(run, listener=name) for name in ("../../one", "two\nlines"))
    one.answer(0, "A")
    two.answer(0, "B")
    one.answer(1, "A")
    assert ListeningTest(run, listener="../../one").answers == {0: "A", 1: "A"} and ListeningTest(run, listener="two\nlines").answers == {0: "B"}
    assert sorted(path.name for path in run.folder.glob("*.jsonl")) == ["listening-preference.jsonl", "manifest.jsonl"]
    assert read_results(one.file).answers.sum() == 3


@pytest.mark.parametrize("number, answer, said", [(0, "C", "answer: must be one of A, B, got 'C'"), (0, 1, "answer"), (6, "A", "trial: must be 0 to 5"),
                                                  (-1, "A", "trial: must be"), (None, "A", "trial: must be")])
def test_answers_that_are_none(run, number, answer, said):
    test = ListeningTest(run)
    with pytest.raises(ListeningError, match=said): test.answer(number, answer)
    assert test.answers == {} == ListeningTest(run).answers


@pytest.mark.parametrize("options, said", [
    (dict(kind="abx"), "kind: must be one of preference, similarity"), (dict(listener=" "), "listener: must be a name"), (dict(most=0), "most: must be"),
    (dict(by="colour"), "by: must be a function or one of"), (dict(by="speaker"), "has no trial for 'preference'"),
    (dict(statement=" "), "statement: must be a text")])
def test_tests_that_cannot_be_made(run, options, said):
    with pytest.raises(ListeningError, match=said): ListeningTest(run, **options)
    assert not list(run.folder.glob("listening*"))


def test_an_empty_run(tmp_path):
    with pytest.raises(ListeningError, match="its 0 samples have 0 conditions"): ListeningTest(Run(tmp_path / "none"), "similarity")


@pytest.mark.parametrize("where", ["none", "no\0where", "", "a file"])
def test_a_folder_that_is_not_there_is_not_made(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").write_text("x")
    with pytest.raises(ListeningError, match="^run: there is no folder "): ListeningTest(where)
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_an_option_can_be_the_condition(run, tmp_path):
    row = dict(prompt_form="left", model={"name": "tiny"}, settings=dict(sampling=dict(temperature=0.3, seed=1), control=dict(limits={}), budget=5))
    assert listening.condition_of(row, "temperature") == "0.3"
    with pytest.raises(ListeningError, match="^by: must be a function or one of "): listening.condition_of(row, "limits")
    assert listening.conditions_in(run) == ["prompt_form", "speaker"] and ListeningTest(run).by == "prompt_form"


def test_naturalness_needs_no_reference_and_one_level(run):
    test = ListeningTest(run, "naturalness")
    assert len(test) == 7 and {len(trial.ids) for trial in test.trials} == {1}
    levels = [sound.rms_db for number in range(len(test)) for name, sound in test.sounds(number).items() if name == "sample"]
    assert max(levels) - min(levels) < 0.01
    test.answer(0, 4)
    assert test.results.rating.tolist() == [4]


def test_practice_does_not_count_and_uses_what_is_left(run, tmp_path):
    few, all_of = ListeningTest(run, most=2, file=tmp_path / "few.jsonl"), ListeningTest(run, file=tmp_path / "all.jsonl")
    assert len(few.practice) == 2 and not {*few.practice} & {*few.trials} and all_of.practice == all_of.trials[:2]
    assert few.sounds(few.practice[0]) and few.answers == {}


def test_what_was_agreed_and_the_headphones_are_kept(run):
    test = ListeningTest(run, statement="I agree.")
    assert (test.agreed, test.check) == ("", None)
    for _ in range(2): test.agree()
    test.check_headphones([0] * 6)
    test.check_headphones([order.index(1) for order in test.orders])
    test.answer(0, "A", [1, 0.9, 0.8])
    again = ListeningTest(run)
    assert (again.agreed, again.check, again.answers) == ("I agree.", [6, 6], {0: "A"})
    assert again.listeners.to_dict("records") == [dict(listener="listener 1", agreed="I agree.", headphones=6, of=6, answers=1, trials=6, by_page=False)]
    assert read_results(test.file, headphones=True).answers.sum() == 1 and test.file.read_text().count('"agreed"') == 1
    for chosen in ([0] * 5, [3] * 6, [True] * 6, "012012", None):
        with pytest.raises(ListeningError, match="^headphones: must be 6 places"): test.check_headphones(chosen)
    test.check_headphones([])
    assert read_results(test.file, headphones=True).answers.sum() == 0


def test_old_answers_are_not_mixed_with_a_changed_run(run):
    ListeningTest(run, seed=1).answer(0, "A")
    with pytest.raises(ListeningError, match="to another plan"): ListeningTest(run, seed=2)
    run.save(made_with("One.", "fourth", tone(900)))
    with pytest.raises(ListeningError, match="to another plan"): ListeningTest(run, seed=1)


@pytest.mark.parametrize("content, said", [(b"{}\n", "line 1 of .* names no listener; remove that line"),
    (b"[1]\n", "names no listener"), (b"\xff\n", "line 1 of .* is not JSON"),
                                           (b"x\n{}\n", "line 1 of .* is not JSON")])
def test_files_that_hold_something_else_are_left_alone(run, tmp_path, content, said):
    file = tmp_path / "else.jsonl"
    file.write_bytes(content)
    with pytest.raises(ListeningError, match=said): ListeningTest(run, file=file)
    assert file.read_bytes() == content


def test_places_that_cannot_be_written(run, tmp_path):
    with pytest.raises(ListeningError, match="can't be written: No such file"): ListeningTest(run, file=tmp_path / "no" / "where.jsonl")
    with pytest.raises(ListeningError, match="can't be read: is a folder"): ListeningTest(run, file=tmp_path)


def test_results_count_what_was_chosen_whichever_side_it_was_on(run):
    test = ListeningTest(run)
    for number, trial in enumerate(test.trials):
        test.answer(number, "AB"[0 if trial.conditions[0] == "left" or "left" not in trial.conditions else 1])
    results = test.results.set_index(["condition", "against"])
    assert results.preferred["left", "middle"] == results.preferred["left", "right"] == 1 and results.low["left", "right"] < 0.5
    assert results.answers.sum() == 6 and (results.listeners == 1).all()


def test_ratings_have_means_and_intervals(run):
    test = ListeningTest(run, "similarity")
    with pytest.raises(ListeningError, match="answer: must be one of 1, 2, 3, 4, 5, got 6"): test.answer(0, 6)
    for number, trial in enumerate(test.trials): test.answer(number, 5 if trial.conditions == ("left",) else 1 + number % 2)
    results = test.results.set_index("condition")
    assert results.rating["left"] == 5 and results.rating["right"] < 3 and list(results.answers) == [2, 2, 2]


def test_results_of_nothing(run, tmp_path):
    with pytest.raises(ListeningError, match="has no plan"): read_results(tmp_path / "none.jsonl")
    assert len(ListeningTest(run).results) == 0
    lines = [json.loads(line) for line in ListeningTest(run).file.read_text().splitlines()]
    assert len(lines) == 1 and lines[0]["seed"] == 0


def test_levels_of_silence():
    quiet, loud, silent = tone(100, 0.01), tone(100, 0.9), Audio(np.zeros(100, np.float32), 16_000)
    made = one_level([loud, silent, quiet])
    assert made[0].rms_db == pytest.approx(quiet.rms_db, abs=0.01) and made[1] is silent
    assert one_level([silent]) == [silent]


# Answers that somebody else has written

def plan(kind, *conditions, **changes):
    return {"kind": kind, "listener": "a", "trials": [{"ids": list(range(len(conditions))), "conditions": list(conditions)}]} | changes


def given(answer, trial=0): return {"listener": "a", "trial": trial, "answer": answer}


@pytest.mark.parametrize("lines, said", [
    ([plan("preference", "x", "y"), given(1)], "line 2 of .* is not an answer to 'preference': '1'"),
    ([plan("similarity", "x"), given("A")], "is not an answer"),
    ([plan("similarity", "x"), given(True)], "is not an answer"), ([plan("similarity", "x"), given(1.0)], "is not an answer"),
    ([plan("similarity", "x"), given([1])], "is not an answer"), ([plan("similarity", "x"), given(10**400)], "is not an answer"),
    ([plan("preference", "x"), given("B")], "line 1 of .* trials don't fit 'preference'"), ([plan("preference", "x", "y", "z")], "trials don't fit"),
    ([plan("preference", "x", 1), given("B")], "trials don't fit"), ([plan("similarity", "x", "y")], "trials don't fit"),
    ([plan("similarity", "x", trials=[{"ids": [True], "conditions": ["x"]}])], "trials don't fit"),
    ([plan("similarity", "x", answer=3)], "neither a plan nor an answer, or both"), ([plan("similarity", "x", answer=3, trial=0)], "or both"),
    ([plan("similarity", "x") | {"kind": {}}], "of an unknown kind"), ([plan("similarity", "x"), plan("similarity", "y")], "line 2 of .* second plan"),
    ([plan("similarity", "x"), given(1, True)], "answers no trial"), ([plan("similarity", "x"), given(1, 10**400)], "answers no trial"),
    ([given(1), plan("similarity", "x")], "line 1 of .* answers no trial")], ids=range(18))
def test_lines_that_no_test_has_written_are_refused(tmp_path, lines, said):
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ListeningError, match=said) as caught: read_results(file)
    assert str(caught.value).endswith("remove that line to use the others") and len(str(caught.value)) < 400


def test_the_first_answer_counts(tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in (plan("similarity", "x"), plan("similarity", "x"), given(1), given(5))))
    assert read_results(file).to_dict("records")[0] | {"low": 0, "high": 0} == {
        "condition": "x", "rating": 1, "low": 0, "high": 0, "answers": 1, "listeners": 1}


def test_a_file_of_answers_has_an_end(tmp_path):
    file = tmp_path / "answers.jsonl"
    with open(file, "wb") as sparse: sparse.truncate(2**42)
    with pytest.raises(ListeningError, match="has more than 67108864 bytes"): read_results(file)


@pytest.mark.parametrize("answer", [True, 1.0, "1", None, [1]])
def test_an_answer_is_of_the_kind_that_was_asked_for(run, answer):
    test = ListeningTest(run, "similarity")
    with pytest.raises(ListeningError, match="answer: must be one of"): test.answer(0, answer)
    with pytest.raises(ListeningError, match="trial: must be"): test.answer(False, 1)
    assert ListeningTest(run, "similarity").answers == {}


def test_names_and_conditions_without_utf_8(run):
    test = ListeningTest(run, listener="\ud800", by=lambda row: f"{row['prompt_form']} \udfff")
    test.answer(0, "A")
    assert ListeningTest(run, listener="\ud800", by=lambda row: f"{row['prompt_form']} \udfff").answers == {0: "A"}
    assert test.results.answers.tolist() == [1]


def test_pairs_come_in_the_order_of_the_run_and_in_no_time(tmp_path, monkeypatch):
    row = {"status": "ok", "generated": "x.wav", "reference": "y.wav", "hashes": {"voice": ["of", "anybody"]}}
    rows = [row | {"id": id, "text": f"Text {id % 5000}.", "prompt_form": "left" if id < 5000 else "right"} for id in range(10_000)]
    begun = time.thread_time()
    trials = make_trials(SimpleNamespace(rows=rows, folder=tmp_path), "preference", "prompt_form")
    assert [trial.ids for trial in trials] == [(id, id + 5000) for id in range(5000)] and time.thread_time() - begun < 20


def test_a_question_that_cannot_be_heard_takes_no_answer(run):
    page = Page(run, "similarity")
    following = page.test.trials[1].ids[0]
    run[following].path("generated").unlink()
    said, sounds = page.page.answer(dict(key="q1-1", turn="5"))
    assert said["turn"] == "5" and said["problem"].startswith("generated: ") and not sounds
    page.test.file.write_text("{}\n")
    page.show_results.click()
    assert page.setup.fields[4].error.failed and "names no listener" in page.setup.fields[4].error.text


HEARD = [1, 0.8]


@pytest.mark.parametrize("message, said", [
    (dict(trial=0, answer=3, heard=HEARD), "agreed: the listener has not agreed"), (dict(headphones=[]), "agreed: "),
    (dict(practised=1), "agreed: "), (dict(agree=1), "agreed: "), (dict(key="q9-0"), "sound: there is none"), (dict(key=5), "sound: "),
    (dict(key="q0-2"), "sound: "), (dict(key="../x"), "sound: ")])
def test_what_a_page_may_not_do_before_its_listener_agrees(run, message, said):
    page = Page(run, "similarity").page
    answer, sounds = page.answer(message)
    assert answer["problem"].startswith(said) and not sounds and page.test.answers == {} and page.test.agreed == ""


@pytest.mark.parametrize("heard", [None, [], [1], [1, 0.7], [1, 1, 1], [1, "1"], [1, float("nan")], [1, 2], [True, True]])
def test_nothing_is_answered_that_was_not_heard(run, heard):
    page = Page(run, "similarity").page
    page.answer(dict(agree=True))
    answer, _ = page.answer(dict(trial=0, answer=3, heard=heard))
    assert answer["problem"] == "heard: play every sound of the question first" and page.test.answers == {}
    assert "problem" not in page.answer(dict(trial=0, answer=3, heard=HEARD))[0] and page.test.answers == {0: 3}
    assert "already has an answer" in page.answer(dict(trial=0, answer=4, heard=HEARD))[0]["problem"]


def test_two_pages_of_a_listener_know_of_each_other(run):
    one, two = (Page(run, "similarity").page for _ in range(2))
    one.answer(dict(agree=True))
    one.answer(dict(trial=0, answer=3, heard=HEARD))
    answer, _ = two.answer(dict(agree=True))
    assert answer["state"]["answered"] == [0] and two.done == answer["state"]


# The page that is sent, and what comes back

WHEN = "2026-11-27T10:00:00.000Z"


@pytest.fixture
def page(run):
    "A test, and a file that came back."
    test = ListeningTest(run, "similarity")
    html = test.write_page().read_text()
    plan = json.loads(re.search(r'id="vl-data">(.*?)</script>', html)[1])
    answers = [dict(trial=n, answer=1 + n % 5, heard=HEARD, answered=WHEN) for n in range(4)]
    return test, dict(format=1, page=plan["page"], sitting="5f", listener="Kim", agreed=WHEN, headphones=dict(chosen=[0] * 6, when=WHEN), answers=answers)


def test_a_page_tells_nothing_of_its_samples(run):
    html = ListeningTest(run).write_page().read_text()
    words = re.sub(r'id="vl-sound-[^<]*', "", re.sub("<style>.*?</style>", "", html.split("<script>")[0], flags=re.DOTALL))
    assert not re.search(r"left|middle|right\b|secret|kim|prompt_form|One\.|Two\.|\.wav", words) and "default-src 'none'" in words
    assert html == ListeningTest(run).write_page(run.folder / "again.html").read_text()         # the seed decides, and nothing else
    assert html != ListeningTest(run, seed=1, file=run.folder / "other.jsonl").write_page(run.folder / "other.html").read_text()
    for sound in re.findall(r'id="vl-sound-q[^>]*>([^<]*)', html): assert b"secret" not in base64.b64decode(sound)


def send(test, sent, **options): return test.read_answers(json.dumps(sent).encode(), **options)


def test_what_comes_back_is_counted_as_any_other(page):
    test, sent = page
    assert send(test, sent | dict(answers=sent["answers"][:2])) == 2
    assert send(test, sent) == 2 and send(test, sent) == 0
    assert send(test, sent | dict(sitting="60"), listener="Kim the second") == 4
    assert test.results.answers.sum() == 8 and test.results.listeners.max() == 2
    own = {number: trial.conditions[0] for number, trial in enumerate(test.page_plan()[1])}
    rated = {condition: np.mean([1 + n % 5 for n in range(4) if own[n] == condition]) for condition in {own[n] for n in range(4)}}
    assert test.results.set_index("condition").rating.to_dict() == pytest.approx(rated)
    kim = test.listeners.set_index("listener").loc["Kim"]
    assert kim.by_page and kim.of == 6 and kim.headphones == 2 and kim.agreed == test.statement
    for number in range(6): test.answer(number, 3)                          # the one who has the notebook answers, too
    assert test.results.answers.sum() == 14


def test_answers_come_back_to_the_run_as_it_has_become(page, run, tmp_path):
    test, sent = page
    run.save(made_with("One.", "fourth", tone(900)))
    later = ListeningTest(run, "similarity", listener="later")
    (file := tmp_path / "sent.json").write_text(json.dumps(sent))
    assert later.read_answers(file) == 4
    with pytest.raises(ListeningError, match="that is not in"): ListeningTest(run, "naturalness").read_answers(file)


def changed(**changes): return lambda sent: sent | changes
def answered(**changes): return lambda sent: sent | dict(answers=[sent["answers"][0] | changes])


@pytest.mark.parametrize("change, said", [
    (lambda _: b"{", "file: is not JSON"), (lambda _: b"[" * 100_000, "file: is not JSON"), (lambda _: b"\xff", "file: is not JSON"),
    (lambda _: [], "has no answers of"), (lambda _: b" " * 2**21, "file: has more than 1048576 bytes"), (lambda _: 5, "has no answers of"),
    (changed(format=2), "its format is 2, not 1"), (changed(format=True), "has no answers of"), (changed(page=[]), "that is not in"),
    (changed(page="0" * 64), "is of a page '00000000' that is not in"), (changed(listener=""), "listener: must be a name"),
    (changed(listener="x" * 101), "listener: must be a name"), (changed(listener=["Kim"]), "listener: must be a name"),
    (changed(sitting=None), "names no sitting"), (changed(agreed=""), "'Kim' did not agree"), (changed(agreed="yes"), "'yes' is no date"),
    (changed(headphones=5), "is no check"), (changed(headphones=dict(chosen=[7] * 6, when=WHEN)), "^headphones: must be"),
    (changed(headphones={}), "^headphones: must be"), (changed(answers={}), "has no answers"), (changed(answers=[5]), "answers no trial"),
    (answered(trial=6), "answers no trial of its page, but 6"), (answered(trial=True), "answers no trial"),
    (lambda sent: json.dumps(answered(trial=0)(sent)).replace('"trial": 0', '"trial": 1' + "0" * 4000).encode(), "answers no trial"),
    (answered(answer="A"), "is not an answer"), (answered(answer=True), "is not an answer"), (answered(answer=3.0), "is not an answer"),
    (answered(heard=[0, 1]), "trial 0: was answered before 75%"), (answered(heard=None), "was answered before"),
    (answered(answered="<script>"), "is no date"), (answered(answered=5), "is no date"), (lambda sent: sent | dict(answers=sent["answers"] * 2), "twice"),
    (lambda sent: sent | dict(answers=sent["answers"][:1] * 10**5), "has more than"),
    (lambda sent: json.dumps(answered(heard=[1, float("nan")])(sent)).encode(), "file: is not JSON")], ids=range(34))
def test_what_did_not_come_from_the_page_is_refused(page, change, said):
    test, sent = page
    before, made = test.file.read_bytes(), change(sent)
    with pytest.raises(ListeningError, match=said) as caught: test.read_answers(made if isinstance(made, bytes) else json.dumps(made).encode())
    assert test.file.read_bytes() == before and "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_second_person_of_a_name_and_a_changed_mind(page, tmp_path):
    test, sent = page
    send(test, sent)
    with pytest.raises(ListeningError, match="'Kim' has answers of another sitting here; give listener="): send(test, sent | dict(sitting="60"))
    with pytest.raises(ListeningError, match="trial 0 was answered 1 before by 'Kim', not 5"): send(test, answered(answer=5)(sent))
    with pytest.raises(ListeningError, match="has answers of another sitting"): send(test, sent | dict(listener="listener 1"))
    for file in (tmp_path, tmp_path / "none", 5, None, "\0"):
        with pytest.raises(ListeningError, match="^file: .* can't be read"): test.read_answers(file)


def test_pages_that_can_not_be_written(run, tmp_path):
    test = ListeningTest(run)
    with pytest.raises(ListeningError, match="^most_megabytes: the page has .* MB, at most 0.01"): test.write_page(most_megabytes=0.01)
    with pytest.raises(VoicelabError, match="^path: there is no folder"): test.write_page(tmp_path / "no" / "page.html")
    with pytest.raises(VoicelabError, match="is a folder"): test.write_page(tmp_path)
    assert not list(tmp_path.glob("*.html")) and not read_answers(test.file).pages
    test.write_page()
    test.write_page()
    assert len(read_answers(test.file).pages) == 1


def test_tones_vanish_in_a_room_and_not_in_headphones():
    tones = {kind: tone_samples(kind) for kind in TONES}
    power = lambda samples: 10 * np.log10((samples**2).mean())
    assert power(tones["plain"][:, 0]) - power(tones["quiet"][:, 0]) == pytest.approx(6, abs=0.01)
    assert power(tones["plain"][:, 0]) == pytest.approx(power(tones["antiphase"][:, 1])) and not tones["antiphase"].sum(1).any()
    for kind, samples in tones.items():
        read, rate = soundfile.read(io.BytesIO(tone_file(kind)))
        assert rate == RATE and read.shape == (RATE, 2) and np.abs(read - samples).max() < 1e-4


def test_the_example_that_ships_is_small_and_can_be_asked_about(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ask = Page()
    assert ask.test.by == "temperature" and len(ask.test) == 4 and ask.opener.value and [path.name for path in tmp_path.iterdir()] == ["listening-example"]
    assert sum(path.stat().st_size for path in EXAMPLE.iterdir()) < 300_000
    for number in range(len(ask.test)): assert list(ask.test.sounds(number)) == ["reference", "A", "B"]
    ask.close()


def test_a_test_is_made_written_and_read_without_code(run):
    ask = Page(run, "similarity")
    ask.setup.kind.value, ask.setup.most.value, ask.setup.listener.value, ask.setup.seed.value = "preference", 3, " kim ", 4
    ask.begin.click()
    assert (len(ask.test), ask.test.listener, ask.page.content["count"], ask.test.kind) == (3, "kim", 3, "preference") and not ask.status.failed
    ask.writer.click()
    ask.worker.wait(30)
    path = run.folder.with_name(f"{run.folder.name}-preference.html")
    plan = json.loads(re.search(r'id="vl-data">(.*?)</script>', path.read_text())[1])
    sent = dict(format=1, page=plan["page"], sitting="1", listener="Ann", agreed=WHEN, headphones=None,
                answers=[dict(trial=0, answer="A", heard=[1, 1, 1], answered=WHEN)])
    for name, content in (("a.json", json.dumps(sent).encode()), ("<b>.json", b"{")):
        for message, pieces in ((dict(kind="begin", name=name, size=len(content)), ()), (dict(kind="piece", number=0), (content,)), (dict(kind="end"), ())):
            ask.upload._hear(None, message, pieces)
    assert ask.status.failed and ask.status.text == "a.json: 1 new answer; <b>.json: file: is not JSON" and "<b>" not in ask.status.value
    ask.show_results.click()
    assert "Ann" in ask.results.value and "headphone check" in ask.results.value
    for box, value, place in ((ask.setup.folder, "nowhere", 0), (ask.setup.listener, " ", 4)):
        before, box.value = box.value, value
        ask.begin.click()
        assert ask.setup.fields[place].error.failed and not ask.status.failed and "\n" not in ask.setup.fields[place].error.text
        box.value = before
    ask.close()


def test_an_example_that_two_pages_begin_at_once_is_made_once(tmp_path):
    with ThreadPoolExecutor(2) as pages: made = [*pages.map(example_run, [tmp_path / "example"] * 2)]
    assert [len(Run(tmp_path / "example")), *map(len, made)] == [8, 8, 8]
