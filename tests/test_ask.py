"""Studies from a terminal and from words: options, voices in files and in folders, the files of an answer, an interruption."""
import contextlib
import io
import json
import shutil
import warnings
from types import SimpleNamespace

import pytest

import voicelab as vl
from voicelab import studies
from voicelab.ask import own_options, read_options, read_value, save_answer, study_named, usual_options
from voicelab.cli import main
from voicelab.measured import Measured
from voicelab.study import STUDIES, Study, StudyError
from voicelab.sweep import Sweep

SHORT = ("--text", "The garden is open.", "--seeds", 0, "--set", "seconds=1", "--set", "windows=1")


@pytest.fixture
def study(tmp_path):
    "`voicelab study` in this process: its exit code, what it printed, and the object of its last line."
    def call(*words):
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.chdir(tmp_path), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            try: main(["study", *map(str, words), "--json"])
            except SystemExit as stop: code = stop.code or 0
        printed, last = out.getvalue(), out.getvalue().splitlines()[-1:]
        return SimpleNamespace(code=code, out=printed, err=err.getvalue(), last=json.loads(last[0]) if last else None)
    return call


@pytest.fixture
def folder(root, tmp_path):
    "A folder of two voices, name.wav and name.txt."
    (made := tmp_path / "voices").mkdir()
    for name in ("ada", "ben"):
        shutil.copy(root / f"data/voices/{name}.wav", made)
        (made / f"{name}.txt").write_text(f"{vl.reference.shipped_voices()[name].transcript}\n")
    return made


def test_every_study_of_the_registry_is_listed_with_its_options(study):
    listed = study().last["studies"]
    assert [each["name"] for each in listed] == [*STUDIES] == sorted(studies.__all__, key=[*STUDIES].index)
    assert all(each["question"] == STUDIES[each["name"]].question for each in listed)
    only = study("length", "--list")
    assert only.last["studies"] == [dict(name="length", question="How long must a reference be?", options=dict(seconds="0.5,1,1.5,2", windows="3"))]
    assert only.out.splitlines()[0].endswith("[seconds=0.5,1,1.5,2 windows=3]")


@pytest.mark.parametrize("name", [*STUDIES])
def test_the_usual_options_of_a_study_can_be_typed(name):
    ask = study_named(name)
    for option, typed in usual_options(ask).items():
        if typed in ("", "none"): continue
        usual = own_options(ask)[option].default
        assert read_value(option, typed, own_options(ask)[option]) == (tuple(usual) if isinstance(usual, list | tuple) else usual)


def test_an_answer_in_files_and_again_without_making_anything(study, folder, tmp_path, monkeypatch):
    words = ("length", *SHORT, "--reference", folder, "--consent", "the owners agree", "--out", "made")
    done = study(*words)
    assert done.code == 0 and done.err.count("No consent") == 0, done.err
    result, made = done.last, tmp_path / "made"
    assert (result["state"], result["folder"], result["stop_reason"]) == ("complete, 4 samples", str(made), "done")
    assert result["answer"] == ". ".join(result["answers"]) + "." and "similarity: can't tell from which length on nothing is gained" in result["answer"]
    assert {result[f"{name}_file"] for name in ("answer", "picture", "table")} == {str(made / name) for name in ("answer.md", "picture.png", "table.csv")}
    text = (made / "answer.md").read_text()
    assert text.startswith("# How long must a reference be?\n") and all(f"- {' '.join(each.split())}" in text for each in result["answers"])
    assert [line for line in text.splitlines() if line.startswith("- [")] and "(picture.png)" in text
    assert len((made / "table.csv").read_text().splitlines()) == 5 and (made / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert {voice.consent for cell in Sweep(made).grid.cells for voice in cell.voices} == {"the owners agree"}
    monkeypatch.setattr(type(vl.load("tiny")), "stream", None)                     # nothing may be generated
    assert study(*words).last["answers"] == result["answers"]


def test_recordings_beside_a_folder(study, folder, root, tmp_path):
    ada = root / "data/voices/cleo.wav"
    done = study("length", *SHORT, "--reference", ada, "--reference", folder, "--transcript", "We met.", "--consent", "one", "--consent", "two")
    voices = {voice.source.name: voice.source for cell in Sweep(tmp_path / "study-length").grid.cells for voice in cell.voices}
    assert done.code == 0 and {name: voice.consent for name, voice in voices.items()} == dict(cleo="one", ada="two", ben="two")
    assert voices["cleo"].transcript == "We met." and voices["ben"].transcript == vl.reference.shipped_voices()["ben"].transcript


@pytest.mark.parametrize("words, said", [
    (["beauty"], "NAME: must be one of "), (["--out", "x"], "--out: does nothing without the NAME of a study"),
    (["length", "--list", "--set", "windows=2"], "--set: does nothing with --list"), (["--list", "--seeds", "1"], "--seeds: does nothing with --list"),
    (["length", "--set", "windows"], "--set windows: must be name=value, got 'windows'"),
    (["length", "--set", "windows=x"], "--set windows: must be a whole number, got 'x'"),
    (["length", "--set", "seconds=1,x"], "--set seconds: must be a number, or several with commas between them, got '1,x'"),
    (["length", "--set", "seconds=0.1"], "--set seconds: must be at least 0.5, got [0.1]"),
    (["length", "--set", "colour=red"], "--set colour: is not an option of the study 'length'; its options are seconds, windows"),
    (["length", "--set", "seconds=1", "--set", "seconds=2"], "--set seconds: was given twice"),
    (["length", "--transcript", "Hi."], "--transcript: does nothing without --reference"), (["length", "--consent", "a"], "--consent: does nothing without"),
    (["length", "--reference", "no.wav"], "'no.wav' cannot be read: No such file"),
    (["length", "--reference", "VOICES", "--transcript", "Hi."], "--transcript: need one for each of 0 recordings, got 1"),
    (["length", "--reference", "VOICES", "--consent", "a", "--consent", "b"], "--consent: need one for all, or one for each of 1 references, got 2"),
    (["length", "--reference", "EMPTY"], "has no recordings"), (["length", "--seeds", "-1"], "--seeds: must be a whole number from 0"),
    (["length", "--seeds", "x"], "argument --seeds: invalid int value: 'x'"), (["length", "--text", ""], "--text: "),
    (["length", "--model", "giant"], "giant"), (["length", "--backend", "magic"], "--backend: must be one of inline"),
    (["length", "--workers", "0"], "--workers: must be a whole number from 1"), (["length", "--out", "/dev/null"], "/dev/null"),
    (["length", "--recogniser", "nobody"], "recogniser"), (["length", "more"], "unrecognized arguments: more")])
def test_bad_input_is_one_line(study, folder, tmp_path, words, said):
    (tmp_path / "empty").mkdir()
    done = study(*({"VOICES": folder, "EMPTY": tmp_path / "empty"}.get(word, word) for word in words))
    assert done.code == 2 and said in done.err and done.err.startswith("voicelab study: ") and done.err.count("\n") == 1, done.err


def test_a_voice_of_a_folder_that_can_not_be_used_is_named(study, folder):
    (folder / "cleo.wav").write_bytes(b"no sound")
    done = study("length", *SHORT, "--reference", folder, "--consent", "mine")
    assert done.code == 2 and done.err.startswith("voicelab study: --reference: ") and ": cleo: " in done.err and done.err.count("\n") == 1


def stop_after(monkeypatch, owner, name, calls):
    "Let a method raise KeyboardInterrupt after some calls."
    method, made = getattr(owner, name), []
    def stopped(*given, **options):
        if len(made) >= calls: raise KeyboardInterrupt
        made.append(1)
        return method(*given, **options)
    monkeypatch.setattr(owner, name, stopped)


@pytest.mark.parametrize("where, calls, state, judged", [
    (Sweep, 3, "unfinished, 3 of 4 samples", False), (Sweep, 5, "unfinished, 4 samples, 4 of them not measured yet", False),
    (Measured, 3, "unfinished, 4 samples, 1 of them not measured yet", True)], ids=["sweep", "other readings", "measures"])
def test_an_interrupted_study_shows_what_is_there_and_continues(study, folder, tmp_path, monkeypatch, where, calls, state, judged):
    words = ("length", *SHORT, "--reference", folder, "--consent", "mine", "--out", "made")
    with monkeypatch.context() as patched:
        stop_after(patched, where, "_keep" if where is Sweep else "add", calls)
        done = study(*words)
    assert done.code == 130 and (done.last["state"], done.last["stop_reason"]) == (state, "interrupted"), done
    assert "interrupted; run the same command again to continue" in done.out and (tmp_path / "made/answer.md").read_text().count(state) == 1
    assert (done.last["picture_file"] is not None) == judged and done.last["answer"].startswith(state.capitalize())
    again = study(*words)
    assert again.code == 0 and again.last["state"] == "complete, 4 samples" and again.last["picture_file"]


def test_a_study_without_any_value_has_no_picture(tmp_path, model):
    ada = vl.reference.shipped_voices()["ada"]
    made = STUDIES["length"](model, ada, ["Hi."], [0], tmp_path / "made", seconds=[1.0], windows=1)
    (made.sweep.folder / "picture.png").write_bytes(b"of another grid")
    paths = save_answer(made)
    assert paths["picture"] is None and not (made.sweep.folder / "picture.png").exists() and "picture" not in paths["answer"].read_text()


def test_values_of_options():
    def asked(*, share: float = 1, many=(1, 2), texts=("a", "b"), mixed=(0.5, "all"), flag=False, other=None, object=Study, **options): pass
    found = read_options(asked, ["share=2", "many=3", "texts=x, y", "mixed=1,all,true", "flag=TRUE", "other=none"])
    assert found == dict(share=2.0, many=(3,), texts=("x", "y"), mixed=(1, "all", True), flag=True, other=None) and isinstance(found["share"], float)
    assert [read_options(asked, [f"other={typed}"])["other"] for typed in ("a", "a,", "0, 1")] == ["a", ("a",), (0, 1)]
    assert "object" not in own_options(asked) and "object" in str(pytest.raises(StudyError, read_options, asked, ["object=1"]).value)
    for wrong in ("many=1.5", "flag=2", "share=inf", "many=,", "texts=", "other=,"):
        with pytest.raises(StudyError): read_options(asked, [wrong])
    with pytest.raises(StudyError, match="'none_of_it'; it has no options of its own"):
        def none_of_it(): pass
        read_options(none_of_it, ["a=1"])
