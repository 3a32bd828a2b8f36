"Blind tests over a run: order, secrecy, answers on disk, interruption, results."
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
from test_runs import sample

from voicelab.audio import GENERATED, Audio, Mark
from voicelab.generation import ModelInfo
from voicelab.listening import ListeningError, ListeningTest, make_trials, one_level, read_results
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
    (dict(by="colour"), "by: must be a function or one of"), (dict(by="speaker"), "has no trial for 'preference'")])
def test_tests_that_cannot_be_made(run, options, said):
    with pytest.raises(ListeningError, match=said): ListeningTest(run, **options)
    assert not list(run.folder.glob("listening*"))


def test_an_empty_run(tmp_path):
    with pytest.raises(ListeningError, match="its 0 samples have 0 conditions"): ListeningTest(tmp_path / "none", "similarity")


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
    begun = time.process_time()
    trials = make_trials(SimpleNamespace(rows=rows, folder=tmp_path), "preference", "prompt_form")
    assert [trial.ids for trial in trials] == [(id, id + 5000) for id in range(5000)] and time.process_time() - begun < 3


def test_a_question_that_cannot_be_heard_takes_no_answer(run):
    page = Page(run, "similarity")
    following = page.test.trials[1].ids[0]
    run[following].path("generated").unlink()
    page.answer(3)
    assert page.status.failed and page.asking.layout.display == "none" and all(player.sound.audio is None for player in page.players.values())
    page.answer(5)
    assert page.test.answers == {0: 3}
    page.test.file.write_text("{}\n")
    page.show_results.click()
    assert page.status.failed and "names no listener" in page.status.text
