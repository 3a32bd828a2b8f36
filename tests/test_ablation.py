"Reference ablation with a model that is known: what each arm gets, what is kept, what is refused."
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ToneCodec
from matplotlib.figure import Figure

from voicelab.ablation import ARMS, Ablation, AblationError, ablate, first_half, make_arm
from voicelab.audio import GENERATED, Audio, Mark
from voicelab.content import cepstra, cepstral_distance, warp
from voicelab.errors import VoicelabError
from voicelab.generation import Failure, Generation
from voicelab.intervals import mean_interval, share_interval
from voicelab.metrics import METRICS, Measure, Metric
from voicelab.reference import Reference

def buzz(pitch, seconds=1.5, rate=16_000, seed=0):
    "A harmonic sound with vowels picked by `seed`; above 200 Hz from a throat a quarter shorter."
    time = np.arange(int(seconds * rate)) / rate
    formants = np.random.default_rng(seed).choice([300, 600, 900, 1600, 2300], (int(seconds * 5) + 1, 2))[(time * 5).astype(int)] * (1.25 if pitch > 200 else 1)
    wave = sum((1 / (1 + ((k * pitch - formants) / 90) ** 2)).sum(-1) * np.sin(2 * np.pi * k * pitch * time) for k in range(1, int(4000 / pitch)))
    return Audio((0.2 * wave / np.abs(wave).max()).astype(np.float32), rate)


class Parrot:
    "Says buzzes at 120 Hz if it hears the right samples, else at 210 Hz; refuses a text by name."
    codec = ToneCodec()

    def __init__(self, right): self.right, self.asked = right, []

    def clone(self, text, reference=None, seed=None, **options):
        self.asked.append((text, reference, seed, options))
        if text == "No.": raise VoicelabError("text: is\nrefused")
        knows = reference is not None and reference.sha256 == self.right.sha256
        return SimpleNamespace(audio=buzz(120 if knows else 210, seed=len(text)), stop_reason="interrupted" if text == "Stop." else "eos")

    def clone_batch(self, texts, references, seeds, on_error, **options):
        assert on_error == "row"
        def one(text, reference, seed):
            try: return self.clone(text, reference=reference, seed=seed, **options)
            except VoicelabError as error: return Failure(text, error, reference, seed)
        return [*map(one, texts, references, seeds)]


@pytest.fixture
def right(): return Reference(buzz(120, seed=9), transcript="one two three four", consent="mine", name="kim")


@pytest.fixture
def other(): return Reference(buzz(210, seed=8), transcript="five six", consent="theirs", name="lee")


def test_every_arm_breaks_one_thing(right, other):
    arms = {arm: make_arm(arm, right, other) for arm in ARMS}
    assert arms["none"] is None and arms["right"] is right and arms["other_speaker"] is other
    assert arms["wrong_transcript"].transcript == "four three two one" and arms["wrong_transcript"].sha256 == right.sha256
    assert np.array_equal(arms["reversed"].audio.samples, right.audio.samples[::-1]) and arms["reversed"].transcript == right.transcript
    assert len(arms["noise"].audio.samples) == len(right.audio.samples) and arms["noise"].audio.rms_db == pytest.approx(right.audio.rms_db, abs=0.3)
    assert arms["half_length"].transcript in ("one two", "one two three") and 0.5 < arms["half_length"].audio.seconds < 1.1
    assert all(reference.consent == "mine" for arm, reference in arms.items() if arm not in ("none", "other_speaker"))


def test_arms_keep_the_mark_and_give_no_notice_of_their_own(right, other):
    silent = Reference(replace(right.audio, mark=Mark(f"{GENERATED}; model tiny")), right.transcript, noticed=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        arms = {arm: make_arm(arm, silent, other) for arm in ARMS}
    assert [arm for arm, made in arms.items() if made and made.audio.synthetic] == ["right", "wrong_transcript", "reversed", "half_length"]
    assert all(made.notice for arm, made in arms.items() if arm not in ("none", "other_speaker"))


def test_half_of_a_recording_without_transcript_is_its_middle(right):
    half = first_half(Reference(right.audio, consent="mine"))
    assert half.transcript is None and half.audio.seconds == pytest.approx(0.75, abs=0.2)


@pytest.mark.parametrize("arms, transcript, said", [
    (["other_speaker"], "one two", "other: the arm 'other_speaker' needs another person's Reference, got None"),
    (["backwards"], "one two", "arms: must be among none, right,"),
    (["wrong_transcript"], "one", "needs a transcript of at least two words, got 'one'"),
    (["wrong_transcript"], None, "needs a transcript of at least two words, got None"),
    (["half_length"], "one", "has a transcript of one word")])
def test_arms_that_cannot_be_made_are_refused_before_anything_is_said(right, arms, transcript, said):
    model = Parrot(right)
    with pytest.raises(AblationError, match=said): Ablation(model, "Hm.", Reference(right.audio, transcript=transcript), arms=arms)
    assert not model.asked


def test_the_other_speaker_is_another(right):
    again = Reference(right.audio, transcript="one two", name="kim again")
    with pytest.raises(AblationError, match="other: must be another person's Reference, got the right one, 'kim again'"):
        Ablation(Parrot(right), "Hm.", right, other=again)


@pytest.mark.parametrize("options, said", [
    (dict(texts=[]), "texts: need different texts"), (dict(texts=["a", "a"]), "texts: need different texts"), (dict(texts=""), "text"),
    (dict(seeds=[]), "seeds: need different"), (dict(seeds=[1, 1]), "seeds: need different"),
    (dict(seeds=["x"]), "seeds: must be a whole number"), (dict(seeds=None), "seeds: must be a whole number"),
    (dict(reference="kim.wav"), "reference: must be a Reference"), (dict(seed=1), "seed: is set by the ablation"),
    (dict(truth=[None, None]), "truth: need one for each of 1 texts, got 2")])
def test_requests_that_make_no_sense(right, options, said):
    with pytest.raises(ValueError, match=said): Ablation(Parrot(right), **dict(texts="Hm.", reference=right) | options)


def test_options_go_to_every_arm_and_the_other_speaker_is_left_out_unless_given(right):
    made = ablate(model := Parrot(right), ["Yes."], right, seeds=4, prompt_form="user_ref")
    assert list(made.arms) == [arm for arm in ARMS if arm != "other_speaker"] and len(model.asked) == 6
    assert all(seed == 4 and options == {"prompt_form": "user_ref"} for _, _, seed, options in model.asked)


def test_the_right_voice_is_nearer_and_the_difference_is_sure(right, other):
    made = ablate(Parrot(right), ["Yes.", "Maybe so."], right, other=other, seeds=[1, 2, 3])
    assert (made.differences.loc[["none", "other_speaker", "noise"], "similarity_high"] < 0).all()
    assert (made.table.ended == 6).all() and made.table.loc["right", "cepstral_distance"] == 0      # the parrot has no chance in it
    assert "right" not in made.differences.index
    shown = made._repr_html_()
    assert shown.count("<audio") == 7 and "nan" not in shown.replace("data:", "").lower().split("base64")[0]


def test_a_failed_sample_is_a_row(right):
    made = ablate(Parrot(right), ["No.", "Yes."], right, arms=["none"], seeds=[1])
    assert list(made.rows.stop_reason) == ["failed", "failed", "eos", "eos"] and made.rows.lacks[0] == "text: is refused"
    assert list(made.table.failed) == [1, 1] and made.differences.pairs["none"] == 1


def test_an_interrupted_one_keeps_what_there_is_and_goes_on(right):
    made = Ablation(model := Parrot(right), ["Yes.", "Stop."], right, arms=["none"], seeds=[1])
    assert len(made.run().attempts) == 2 and len(model.asked) == 4
    assert len(made.run().attempts) == 2 and len(model.asked) == 6            # what was made is not made again


def test_steps_can_be_left(right):
    made = Ablation(Parrot(right), "Yes.", right, seeds=[1, 2])
    steps = made.steps()
    next(steps)
    steps.close()
    assert len(made.attempts) == 6 and len(made.rows) == 6 and len(made.run().attempts) == 12 and len(made.rows) == 12


def test_a_bug_is_told_with_its_kind_and_what_the_ablation_sets_is_no_option(right):
    parrot = Parrot(right)
    parrot.clone_batch = lambda texts, references, seeds, on_error: [Failure(text, KeyError("x"), None, 1) for text in texts]
    made = ablate(parrot, "Yes.", right, arms=["none"], seeds=1)
    assert set(made.rows.lacks) == {"KeyError: 'x'"}
    for name in ("references", "on_error", "text"):
        with pytest.raises(AblationError, match=f"{name}: is set by the ablation"): Ablation(parrot, "Yes.", right, **{name: None})


def test_ctrl_c_in_a_batch_ends_it_with_a_word(right):
    parrot = Parrot(right)
    def clone_batch(*given, **options): raise KeyboardInterrupt
    parrot.clone_batch = clone_batch
    with pytest.warns(UserWarning, match="stopped: 0 of 2 samples; run again to continue"): ablate(parrot, "Yes.", right, arms=["none"], seeds=1)


def test_an_empty_ablation_says_so(right):
    empty = Ablation(Parrot(right), "Yes.", right)
    with pytest.raises(AblationError, match="has no samples yet"): empty.table
    assert "0 of 18 samples" in empty._repr_html_()


def test_true_recordings_take_the_right_arms_place(right):
    truth = buzz(120, seed=len("Yes."))
    made = ablate(Parrot(right), "Yes.", right, arms=["none"], seeds=3, truth=truth)
    assert made.table.cepstral_distance["right"] == pytest.approx(0) and made.table.cepstral_distance["none"] > 1


def test_warping_finds_the_cheapest_path():
    cost = np.random.default_rng(0).random((5, 6))
    def paths(i, j):
        if (i, j) == (0, 0): yield [(0, 0)]
        for a, b in ((i - 1, j - 1), (i - 1, j), (i, j - 1)):
            if a >= 0 and b >= 0: yield from ([*path, (i, j)] for path in paths(a, b))
    total, path = min((sum(cost[cell] for cell in path), path) for path in paths(4, 5))
    assert warp(cost) == (pytest.approx(total), len(path))


def test_the_distance_is_symmetric_and_knows_neither_level_nor_rate():
    a, b = buzz(120, seed=1), buzz(120, seed=2)
    there = cepstral_distance(a, b).value
    assert there == pytest.approx(cepstral_distance(b, a).value, rel=0.02) and there > 2
    assert cepstral_distance(Audio(a.samples / 9, a.rate), a).value == pytest.approx(0, abs=1e-3)
    assert cepstral_distance(a.resample(24_000), a).value < 0.3
    assert cepstra(Audio(a.samples[::-1].copy()[::2], 8000)).shape[0] == 13


@pytest.mark.parametrize("audio", [Audio(np.zeros(0, np.float32), 24_000), Audio(np.zeros(4000, np.float32), 24_000)])
def test_no_sound_has_no_distance(audio):
    assert cepstral_distance(audio, buzz(120)).status == "unavailable" == cepstral_distance(buzz(120), audio).status


def test_intervals_of_little():
    assert mean_interval([]).count == 0 and np.isnan(mean_interval([]).mean)
    assert mean_interval([2.0])[:1] == (2.0,) and np.isnan(mean_interval([2.0]).low)
    assert mean_interval([1, 1, 1])[:3] == (1, 1, 1)
    assert share_interval(0, 4).low == 0 and share_interval(0, 4).high > 0.4 and np.isnan(share_interval(0, 0).mean)


@pytest.mark.parametrize("seeds, words", [(1, "No intervals: they need 5 samples of an arm, and there are 1."), (4, "and there are 4."),
                                          (5, "In brackets: 95 % bootstrap intervals")])
def test_there_is_no_interval_of_fewer_than_five_samples(right, seeds, words):
    found = ablate(Parrot(right), "One.", right, arms=["none", "right"], seeds=range(seeds))
    known = found.table[["similarity_low", "similarity_high"]].notna().all(axis=None)
    assert words in found._repr_html_() and known == (seeds == 5) and found.table.similarity.notna().all()
    assert any(" to " in cell for cells in found.cells().values() for cell in cells) == (seeds == 5)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    draws = np.random.default_rng(3).normal(size=(200, 30))
    held = np.mean([found.low < 0 < found.high for found in map(mean_interval, draws)])
    assert 0.88 < held < 0.99


def test_any_metric_of_the_registry_is_measured_too(right, other, monkeypatch):
    def louder(audio, reference): return Measure("loudness", audio.rms_db - reference.audio.rms_db, "dB", "test", "ok")
    loud = Metric("loudness", louder, "dB", "test", None, "words")
    monkeypatch.setitem(METRICS, "loudness", loud)
    parrot = Parrot(right)
    def clone(text, **options):
        made = object.__new__(Generation)
        vars(made).update(text=text, reference=options["reference"], **vars(Parrot(right).clone(text, **options)))
        return made
    parrot.clone = clone
    found = ablate(parrot, ["One.", "Two two."], right, arms=["none", "right"], seeds=[0, 1], also=["loudness", "similarity"])
    made = found.generations("none")[0]
    assert found.measures == ("similarity", "cepstral_distance", "loudness")       # each once
    assert found.rows.loudness.notna().all() and found.rows.loudness.iloc[0] == pytest.approx(made.audio.rms_db - right.audio.rms_db)
    assert {"loudness", "loudness_low", "loudness_high"} <= {*found.table.columns} & {*found.differences.columns}
    assert "loudness (dB)" in found._repr_html_() and found.plot("loudness", Figure().subplots()).get_xlabel() == "loudness (dB)"
    with pytest.raises(AblationError, match="measure: must be one of similarity, cepstral_distance, loudness"): found.plot("beauty")
