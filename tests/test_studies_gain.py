"The likelihood gain of made-up bits is what it must be; what was asked is never asked again; what can't be asked is said."
import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import whistling

import voicelab as vl
from voicelab.family import FAMILIES
from voicelab.forced import ForcedStudy, prompt_options
from voicelab.studies import gain
from voicelab.studies.gain import Gain, arms_of, smoothed
from voicelab.study import StudyError
from voicelab.testsets import TestSet

TEXTS = ["one two", "three four", "five six", "seven eight"]
BOOKS = np.array([[1.5], [0.5]])        # two codebooks, the first with three quarters of a gain
GAINS = {"right": 0.2, "wrong voice": -1.0, "reversed": 0.1, "shuffled": 0.0, "none": 0.0}


@pytest.fixture(autouse=True)
def whistler(monkeypatch):
    "The whistling family, with likelihoods; what it is asked."
    monkeypatch.setattr("voicelab.family.FAMILIES", FAMILIES)
    kept = dict(FAMILIES)
    whistling.register_whistler() if "whistling" not in FAMILIES else None
    FAMILIES["whistling"] = replace(FAMILIES["whistling"], code_bits=lambda *_: None)
    yield whistling.Whistler("whistler")
    FAMILIES.clear()
    FAMILIES.update(kept)


@pytest.fixture
def asked(monkeypatch):
    "Made-up bits of known truth: what the right reference saves it saves twice in the first half second. What was asked."
    said = []
    def ask(self, speaker, utterance, codes, reference, shaped):
        said.append((utterance.name, utterance.text, reference and reference.name, shaped))
        same = reference is not None and reference.source.sha256 == utterance.voice.source.sha256
        arm = "none" if reference is None else reference.change.get("arm") or ("right" if same else "wrong voice")
        frames = codes.shape[1]
        early = np.where((np.arange(frames) + 0.5) / 10 < 0.5, 2, 1) if arm == "right" else 1
        noise = np.random.default_rng(len(utterance.text)).normal(0, 0.01)
        return torch.from_numpy(5 - (GAINS[arm] + (noise if arm != "none" else 0)) * BOOKS * early * np.ones((2, frames)))
    monkeypatch.setattr(ForcedStudy, "ask_family", ask)
    return said


def four(voices): return [voices[name] for name in ("ada", "ben", "cleo", "dan")]


def test_the_answer_is_the_known_truth(whistler, voices, asked, tmp_path):
    study = gain(whistler, four(voices), TEXTS, [0], tmp_path / "g", smooth_seconds=0.2)
    assert study.state == "complete, 16 samples, 0 recordings" and len(asked) == 16 * 5
    found = study.compare().table.set_index("level")
    assert found.verdict.to_dict() == {"none": "baseline", "right": "higher", "wrong voice": "lower", "reversed": "higher", "shuffled": "can't tell"}
    assert found.difference["wrong voice"] == pytest.approx(-1, abs=0.02) and (found.speakers[1:] == 4).all() and (found.texts[1:] == 4).all()
    books = study.by_codebook().set_index(["arm", "codebook"])["mean"]
    assert books["wrong voice", 0] == pytest.approx(3 * books["wrong voice", 1], rel=0.02)
    along = study.along(edges=(0, 0.5, np.inf)).set_index(["arm", "begin"])["mean"]
    assert along["right", 0] == pytest.approx(2 * along["right", 0.5], rel=0.02)
    assert along["wrong voice", 0] == pytest.approx(along["wrong voice", 0.5], rel=0.02)
    text = study.answer
    assert float(re.search(r"it saves more there: ([0-9.]+) bits/code \(", text)[1]) == pytest.approx(0.2, abs=0.02)
    assert "the right reference saves bits in codebooks 0, 1 and costs bits in no codebook" in text
    assert "16 clones of 4 voices and 4 texts, which the model made from the right reference: that favours this reference" in text
    assert "clone: arm shuffled against none: can't tell" in text and "clone: arm wrong voice against right: likelihood_gain is lower (worse), -1" in text
    assert study.curve(0).shape == (study.saved[0][1]["right"].shape[1],) and study._repr_html_().count("<audio") == 4


def test_a_second_call_asks_nothing_and_needs_no_model(whistler, voices, asked, tmp_path, monkeypatch):
    first = gain(whistler, four(voices)[:2], TEXTS[:2], [0], tmp_path / "g")
    monkeypatch.setattr(Gain, "asker", None)
    monkeypatch.setattr(Gain, "loaded", None)
    again = gain(whistler, four(voices)[:2], TEXTS[:2], [0], tmp_path / "g")
    assert again.answers() == first.answers() and len(asked) == 4 * 5


def test_more_voices_ask_only_what_is_new(whistler, voices, asked, tmp_path):
    gain(whistler, four(voices)[:3], TEXTS[:1], [0], tmp_path / "g")
    before = len(asked)
    gain(whistler, four(voices)[:3], TEXTS[:2], [0], tmp_path / "g")
    assert len(asked) - before == 3 * 5 and {text for _, text, *_ in asked[before:]} == {TEXTS[1]}


def test_an_interrupted_study_shows_what_is_there_and_goes_on(whistler, voices, asked, tmp_path, monkeypatch):
    calls, ask = itertools.count(), ForcedStudy.ask_family
    def stop(*given):
        if next(calls) == 12: raise KeyboardInterrupt
        return ask(*given)
    monkeypatch.setattr(ForcedStudy, "ask_family", stop)
    with pytest.warns(UserWarning, match="stopped: unfinished, 16 samples, 12 of 80 questions asked; ask again to continue"):
        study = gain(whistler, four(voices), TEXTS, [0], tmp_path / "g")
    assert study.answer.startswith("Unfinished, 16 samples, 12 of 80 questions asked. ") and "clone: arm right against none" in study.answer
    assert "not asked:" not in study.answer and study.plot() is not None
    monkeypatch.setattr(ForcedStudy, "ask_family", ask)
    assert gain(whistler, four(voices), TEXTS, [0], tmp_path / "g").state.startswith("complete") and len(asked) == 80


def test_one_voice_has_no_wrong_one_and_one_text_says_so(whistler, voices, asked, tmp_path):
    study = gain(whistler, voices["ada"], TEXTS[0], [0, 1], tmp_path / "g")
    assert "wrong voice is not judged: the study has one voice; give several references" in study.answer
    assert "for these speakers and texts only" in study.answer and {*study.table.arm} == {"right", "reversed", "shuffled", "none"}


def test_an_altered_reference_is_no_other_voice(voices):
    halves = [voices["ada"].altered({"half": n}, audio=voices["ada"].audio.slice(n, n + 1)) for n in (0, 1)]
    assert "wrong voice" not in arms_of(halves[0], halves) and arms_of(halves[0], [*halves, voices["ben"]])["wrong voice"].name == "ben"


def test_a_family_without_likelihoods_and_two_models_are_refused_in_a_line(whistler, voices, tmp_path):
    FAMILIES["whistling"] = replace(FAMILIES["whistling"], code_bits=None)
    with pytest.raises(StudyError, match="^model: 'whistler' is of the family whistling, which has no likelihoods of a given "
                       "utterance; these have: [^\n]*higgs[^\n]*$"):
        gain(whistler, voices["ada"], TEXTS[0], [0], tmp_path / "g")
    FAMILIES["whistling"] = replace(FAMILIES["whistling"], code_bits=print)
    other = whistling.Whistler("other")
    other.info = replace(other.info, name="other", sha256="cd" * 32)
    with pytest.raises(StudyError, match="^model: 'gain' asks one model, got 2$"): gain([whistler, other], voices["ada"], TEXTS[0], [0], tmp_path / "h")


def test_recordings_are_asked_and_kept_apart(whistler, voices, asked, tmp_path):
    sound = voices["cleo"].audio
    study = gain(whistler, [voices["ada"], voices["ben"]], TEXTS[:2], [0], tmp_path / "g", utterances={("ada", "Something else."): sound})
    assert study.table.groupby("kind").text.nunique().to_dict() == {"clone": 2, "recording": 1} and study.state == "complete, 4 samples, 1 recording"
    assert "recording: arm right against none" in study.answer and "1 recording of 1 voice and 1 text" in study.answer
    assert study.plot(number=4).get_xlim()[1] == pytest.approx(sound.seconds)


@pytest.mark.parametrize(("given", "said"), [
    ("a", "must be a TestSet, or a table"), ({"ada": 1}, "must be a TestSet, or a table"), ({("ada", "x"): 1}, "must be a TestSet, or a table"),
    ({("zoe", "x"): "AUDIO"}, "must be of ada, got 'zoe'"), ({("ada", "x"): "OWN"}, "the recording of 'ada' is the reference itself"),
    ({("ada", " "): "AUDIO"}, "utterances")])
def test_recordings_that_are_none_are_refused(whistler, voices, tmp_path, given, said):
    sounds = {"AUDIO": voices["ben"].audio, "OWN": voices["ada"].audio}
    if isinstance(given, dict): given = {key: sounds.get(each, each) for key, each in given.items()}
    with pytest.raises(vl.VoicelabError, match=said): gain(whistler, voices["ada"], TEXTS[0], [0], tmp_path / "g", utterances=given)


def test_a_test_set_gives_its_true_recordings(whistler, voices, asked, tmp_path):
    lines = []
    for name, other in (("ada", "ben"), ("cleo", "dan")):
        for n, voice in enumerate((voices[name], voices[other])):
            voice.audio.save(tmp_path / f"{name}{n}.wav")
            lines.append(json.dumps(dict(audio_filepath=f"{name}{n}.wav", text=voice.transcript, duration=voice.audio.seconds, speaker=name)))
    (tmp_path / "list.jsonl").write_text("\n".join(lines) + "\n")
    given = TestSet(tmp_path / "list.jsonl", consent="synthetic").saying()
    references = [item.reference for item in given if item.entry.sound.endswith("0.wav")]
    study = gain(whistler, references, TEXTS[0], [0], tmp_path / "g", utterances=given)
    assert {(each.name, each.text) for each in study.recordings} == {("ada", voices["ben"].transcript), ("cleo", voices["dan"].transcript)}
    with pytest.raises(StudyError, match="utterances: 'list.jsonl' has no true recording of a text by one of noor"):
        gain(whistler, voices["noor"], TEXTS[0], [0], tmp_path / "h", utterances=given)


def test_what_cannot_be_asked_says_why(whistler, voices, asked, tmp_path):
    silence = vl.Audio(np.zeros(8000, np.float32), 16_000)
    study = gain(whistler, voices["ada"], TEXTS[0], [0], tmp_path / "g", utterances={("ada", "Nothing."): silence})
    assert "1 utterance not asked: no speech: the loudest 20 ms have" in study.answer and len(asked) == 4
    assert study.table.query("kind == 'recording'").gain.isna().all() and "recording, against none: likelihood_gain: no cell has a value" in study.answer


def test_a_sample_of_several_chunks_is_not_asked(whistler, voices, asked, tmp_path):
    study = gain(whistler, voices["ada"], " ".join(["Here is a sentence of some length, and more of it follows."] * 40), [0], tmp_path / "g")
    assert not asked and "chunks; only one has a single prompt" in study.answer


def test_lines_that_are_no_results_are_asked_again(whistler, voices, asked, tmp_path):
    study = gain(whistler, voices["ada"], TEXTS[0], [0], tmp_path / "g")
    file = tmp_path / "g" / "gain.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["bits"], rows[1]["bits"], rows[2]["rate"] = "many", [[float(1)], [1.0, 2.0]], None
    file.write_text("\n".join(map(json.dumps, rows)) + '\n[1]\n{"key": "half')
    assert study.state.startswith("unfinished, 1 samples, 1 of 4")
    again = gain(whistler, voices["ada"], TEXTS[0], [0], tmp_path / "g")
    assert again.state.startswith("complete") and len(asked) == 4 + 3 and all(json.loads(line) for line in file.read_text().splitlines())


def test_options_of_the_prompt_are_those_of_the_question(whistler, voices, asked, model, tmp_path):
    gain(whistler, voices["ada"], TEXTS[0], [0], tmp_path / "g", prompt_form="whistled", budget="reference_rate")
    assert {tuple(shaped.items()) for *_, shaped in asked} == {(("prompt_form", "whistled"),)}
    assert prompt_options(model, dict(scene="", budget="reference", system="Speak.")) == dict(scene="", system="Speak.")


@pytest.mark.parametrize("wrong", [dict(smooth_seconds=0), dict(early_seconds=-1), dict(smooth_seconds="long"), dict(early_seconds=11)])
def test_windows_out_of_reach_are_refused(voices, tmp_path, wrong):
    with pytest.raises(StudyError, match=f"^{[*wrong][0]}: must be over 0 and at most 10, got"):
        gain("tiny", voices["ada"], TEXTS[0], folder=tmp_path / "g", **wrong)


def test_nothing_known_is_said_and_not_drawn(whistler, voices, tmp_path):
    study = Gain(whistler, voices["ada"], TEXTS[:2], [0], tmp_path / "g")
    assert study.state == "unfinished, 0 of 2 samples, 0 of 0 questions asked" and "no utterance of the kind 'clone'" in study.answer
    with pytest.raises(StudyError, match="has nothing to show yet"): study.plot()
    assert "<audio" not in study._repr_html_()


def test_smoothing_keeps_a_constant_and_the_length():
    assert np.allclose(smoothed(np.ones(7), 3), 1) and len(smoothed(np.arange(4.0), 4)) == 4
    assert np.allclose(smoothed(np.arange(5.0), 3), [0.5, 1, 2, 3, 3.5]) and np.allclose(smoothed(np.arange(5.0), 1), np.arange(5))
