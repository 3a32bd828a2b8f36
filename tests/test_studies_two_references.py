"""The study of two references: a truth that is known, bad input, an interruption, one text, a model that can't blend, a measure that can't be had.
A whistler that takes two references and a weight makes the samples, so they cost nothing."""
from dataclasses import replace
from inspect import signature

import numpy as np
import pandas as pd
import pytest
from test_sweep import folder_of_whistler, whistler  # noqa: F401
from whistling import Letters, Whistler, register_whistler

import voicelab as vl
from voicelab.ask import save_answer
from voicelab.audio import Audio
from voicelab.backends import BACKENDS
from voicelab.errors import VoicelabError
from voicelab.families.higgs.model import Voices
from voicelab.family import FAMILIES
from voicelab.metrics import METRICS, Measure
from voicelab.studies import two_references
from voicelab.studies.two_references import (
    ALONE,
    BLEND,
    BOTH,
    MORPH,
    TwoReferences,
    locked_share,
    morphed,
    place_of,
    step_of,
    steps_of,
    track_of,
)
from voicelab.study import StudyError

TEXTS = ["The boat.", "Bells rang.", "Come home."]
POINTS = TwoReferences.points


@pytest.fixture
def ask(folder_of_whistler, voices, tmp_path, monkeypatch):      # noqa: F811
    "The study with a whistler that can blend, two voices and three texts; `can` says what else it takes."
    usual, begin = Whistler.stream, Letters.__init__
    def follow(self, session):                          # another sound for each reference and weight
        begin(self, session)
        self.pitch = (int(session.reference.sha256[:4], 16) + round(20 * session.blend)) % 60
    def make(can=("blend", "both"), names=("ada", "ben"), **given):
        def stream(self, text, *, blend=None, **options):
            if isinstance(options.get("reference"), list) and {"blend", "both"} & {*can}:
                options["reference"] = Voices(options["reference"])
            made = usual(self, text, **options)
            made.blend = blend or 0.0
            return made
        more = [each for each in signature(usual).parameters.values()]
        if "blend" in can: more.append(more[-1].replace(name="blend", default=None))
        stream.__signature__ = signature(usual).replace(parameters=more)
        stream.options = tuple(each.name for each in more[1:])
        monkeypatch.setattr(Whistler, "stream", stream)
        monkeypatch.setattr(Letters, "__init__", follow)
        if "whistling" not in FAMILIES: register_whistler()
        usual_options = dict(references=[voices[name] for name in names], texts=TEXTS, seeds=[0, 1], folder=tmp_path / "study")
        return TwoReferences(folder_of_whistler, **usual_options | given)
    yield make
    FAMILIES.pop("whistling", None)


def pretend(study, place, monkeypatch, noise=0.02):
    "Let a sample's similarity to the second voice be 0.6 + 0.2 place and that to the first 0.8 - 0.2 place; place: of way, weight and chance."
    rng, made = np.random.default_rng(0), POINTS.fget(study)
    where = [float(weight) if way == ALONE else place(way, weight, rng.random()) for way, weight in zip(made.way, made.weight)]
    made["to_first"], made["to_second"] = (base + step * np.array(where) + rng.normal(0, noise, len(made)) for base, step in ((0.8, -0.2), (0.6, 0.2)))
    monkeypatch.setattr(TwoReferences, "points", property(lambda self: made.assign(toward=made.to_second - made.to_first)))
    return study


# ---- a known truth

def test_what_follows_what_turns_back_and_what_locks_is_told_apart(ask, monkeypatch):
    back = {0.25: 0.6, 0.5: 0.3, 0.75: 0.5}
    places = {MORPH: lambda weight, chance: weight, BLEND: lambda weight, chance: float(chance < weight), BOTH: lambda weight, chance: back[weight]}
    study = pretend(ask(seeds=range(30)), lambda way, weight, chance: places[way](weight, chance), monkeypatch)
    said = " ".join(study.judged())
    assert "morph: monotone: each of 4 steps moves toward the second voice" in said
    assert "morph: does not lock onto one voice: at weight 0.5" in said and "blend: locks onto one voice: at weight 0.5" in said
    assert "both: not monotone: the sound moves back from weight 0.25 to 0.5, -0.1" in said
    assert "; for these speakers only" not in said and "1 pair, 3 texts; for these pairs only" in said


def test_the_two_numbers_have_the_values_that_they_should(ask, monkeypatch):
    study = pretend(ask(seeds=range(60)), lambda way, weight, chance: float(chance < 0.5) if way == BLEND else 0.2, monkeypatch)
    half_way, at_a_fifth = (locked_share(track_of(study.points, way), 0.5) for way in (BLEND, MORPH))
    assert half_way[0].mean == pytest.approx(1, abs=0.1) and half_way[1] == pytest.approx(0.5, abs=0.1)
    assert at_a_fifth[0].mean == pytest.approx(0.6**2, abs=0.1) and at_a_fifth[1] == pytest.approx(0.2, abs=0.05)
    step = step_of(track_of(study.points, MORPH), 0.0, 0.25)
    assert step.verdict == "higher" and step.found.mean == pytest.approx(0.08, abs=0.02)
    assert abs(step_of(track_of(study.points, MORPH), 0.25, 0.5).found.mean) < 0.02


def test_noise_alone_is_no_lock_and_few_samples_can_not_tell(ask, monkeypatch):
    loud = pretend(ask(seeds=range(60)), lambda way, weight, chance: weight, monkeypatch, noise=0.2)
    share, _ = locked_share(track_of(loud.points, MORPH), 0.5)
    assert share.low < 0.3 and share.high > -0.3                                    # as far from the middle as the ends are, all by noise
    few = pretend(ask(seeds=[0], texts=TEXTS[:1]), lambda way, weight, chance: weight, monkeypatch)
    (said,) = few.judged()
    assert said.startswith("can't tell: by similarity") and "(no interval; 1 sample, 1 pair, 1 text)" in said


def test_voices_that_can_not_be_told_apart_end_the_matter(ask, monkeypatch):
    study = ask()
    made = study.points.assign(to_first=0.7, to_second=0.7, toward=np.random.default_rng(0).normal(0, 0.1, len(study.points)))
    monkeypatch.setattr(TwoReferences, "points", property(lambda self: made))
    (said,) = study.judged()
    assert said.startswith("can't tell: by similarity, the clones of the two references can't be told apart")


# ---- the references

def test_a_morph_goes_from_one_recording_to_the_other(voices):
    ada, dan = voices["ada"].audio, voices["dan"].audio
    levels = lambda audio: np.log(np.abs(np.fft.rfft(audio.samples))[50:2000] + 1e-4)
    near = lambda made, audio: np.corrcoef(levels(made), levels(audio))[0, 1]
    made = [morphed(ada, dan, share) for share in (0, 0.25, 0.5)]
    assert np.allclose(made[0].samples, ada.samples, atol=1e-3)
    assert near(made[0], ada) > near(made[1], ada) > near(made[2], ada)
    for each in made: assert (each.rate, len(each.samples)) == (ada.rate, len(ada.samples)) and each.rms_db == pytest.approx(ada.rms_db, abs=0.1)
    other_rate = morphed(ada, dan.resample(16_000), 0.5)
    assert len(other_rate.samples) == len(ada.samples) and np.isfinite(other_rate.samples).all()


def test_each_way_has_its_references(ask, voices):
    study = ask(names=("ada", "ben", "cleo", "dan"), weights=[0.5, 0.25])
    assert study.weights == (0.25, 0.5) and [sweep.folder.name for sweep in study.sweeps] == ["study", "blend", "both"]
    counted = study.points.groupby(["pair", "way"], sort=False).size().to_dict()
    assert counted == {(pair, way): 6 * 2 for pair in ("ada+ben", "cleo+dan") for way in (ALONE, MORPH, BLEND, BOTH)}
    cells = [(place_of(cell), cell) for sweep in study.sweeps for cell in sweep.grid.cells]
    of = lambda way: {(place["weight"], tuple(each.source.name for each in cell.voices))
                      for place, cell in cells if (place["pair"], place["way"]) == ("ada+ben", way)}
    assert of(ALONE) == {(0.0, ("ada",)), (1.0, ("ben",))} and of(MORPH) == {(0.25, ("ada",)), (0.5, ("ada",))}
    assert of(BLEND) == of(BOTH) == {(weight, ("ada", "ben")) for weight in (0.25, 0.5)}
    shares = {cell.voices[0].change["weight"]: [each.audio.seconds for each in cell.voices] for cell in study.sweeps[2].grid.cells if cell.speaker == "ada+ben"}
    assert shares[0.25] == pytest.approx([0.75 * 2.44, 0.25 * 2.44], abs=0.01) and sum(shares[0.5]) == pytest.approx(2.44, abs=0.01)
    assert study.cost.cells == len(study.points) == 96


# ---- running

def test_it_runs_goes_on_after_an_interruption_and_answers_from_what_is_there(ask, monkeypatch):
    run, made = BACKENDS["inline"].run, []
    def broken(jobs, *given):
        for each in run(jobs, *given):
            made.append(each)
            if len(made) == 34: raise KeyboardInterrupt
            yield each
    with monkeypatch.context() as patch:
        patch.setitem(BACKENDS, "inline", replace(BACKENDS["inline"], run=broken))
        with pytest.warns(UserWarning, match="stopped"): first = ask().run()
    assert first.state == "unfinished, 33 of 66 samples" and first.answer.startswith("Unfinished, 33 of 66 samples")
    first._repr_html_()
    again = ask()
    assert again.state == first.state and again.cost.missing == 33
    again.run()
    assert again.state == "complete, 66 samples" and not again.cost.missing
    assert {pair.row["id"] for sweep in again.sweeps[:1] for pair in sweep} == {*range(30)}           # none was made twice
    table = pd.read_csv(save_answer(again)["table"])
    assert len(table) == 66 and {"pair", "way", "weight", "to_first", "to_second", "text", "seed"} <= {*table} and table.cell.is_unique
    assert table.groupby("way").size().to_dict() == {ALONE: 12, MORPH: 18, BLEND: 18, BOTH: 18}


def test_a_comparison_that_was_interrupted_is_unfinished(ask, monkeypatch):
    study = ask(seeds=[0])
    for sweep in study.sweeps: sweep.run()
    assert study.state == "unfinished, 33 samples, 33 of them not measured yet"
    with pytest.raises(StudyError, match="has no measured samples yet"): study.plot()
    metric, calls = METRICS["similarity"], []
    def find(audio, reference, thresholds=None):
        calls.append(reference)
        if len(calls) == 21: raise KeyboardInterrupt
        return Measure("similarity", 0.8 - 0.2 * (reference.name == "ben"), metric.unit, metric.model(), "ok")
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="stopped: unfinished, 33 samples, 23 of them not measured yet"):
        patch.setitem(METRICS, "similarity", replace(metric, find=find))
        study.measure()
    assert study.points.toward.notna().sum() == 10


def test_a_measure_that_can_not_be_had_is_said(ask, monkeypatch):
    metric = METRICS["similarity"]
    find = lambda audio, reference, thresholds=None: metric.unavailable("resemblyzer can't be imported")
    monkeypatch.setitem(METRICS, "similarity", replace(metric, find=find))
    study = ask(seeds=[0]).run()
    assert study.state == "complete, 33 samples" and study.answers()[0] == "similarity is not judged: no sample has a value; resemblyzer can't be imported"
    assert any(each.startswith("wer is not judged: wer: no cell has a value") for each in study.answers())
    assert any("way morph against alone: ended is the same in every pair" in each for each in study.answers())
    assert [*study.telling()][1:3] == ["ada+ben, morph, weight 0.5", "ada+ben, blend, weight 0.5"] and study._repr_html_().count("<audio") == 5


def test_a_model_that_can_not_do_a_way_runs_the_others_and_says_why(ask, monkeypatch):
    study = ask(can=(), seeds=[0])
    assert len(study.sweeps) == 1 and study.lacking[BLEND] == "'whistler' has no option blend" and "must be one Reference or None here" in study.lacking[BOTH]
    pretend(study, lambda way, weight, chance: weight, monkeypatch)
    said = study.judged()
    assert "blend is not judged: 'whistler' has no option blend" in said
    assert [each for each in said if each.startswith("both is not judged: ") and "must be one Reference or None here" in each]
    assert study.plot().figure is not None and study.run().state == "complete, 15 samples"


def test_the_picture_and_the_telling_samples(ask, monkeypatch):
    study = ask(names=("ada", "ben", "cleo", "dan")).run()
    pretend(study, lambda way, weight, chance: weight, monkeypatch)
    axes = study.plot().figure.axes
    assert [ax.get_title() for ax in axes] == [MORPH, BLEND, BOTH, ""] and axes[-1].get_xlabel() == "weight of the second reference"
    told = study.telling()
    assert [words.split(", ")[1] for words in told] == [ALONE, MORPH, BLEND, BOTH, ALONE] and all(pair.generated for pair in told.values())
    assert study._repr_html_().count("<audio") == 5


# ---- bad input

@pytest.mark.parametrize("given, words", [
    (dict(names=["ada"]), "references: 'two_references' takes voices in pairs, the first with the second and so on, got 1"),
    (dict(names=["ada", "ben", "dan"]), "references: 'two_references' takes voices in pairs, the first with the second and so on, got 3"),
    (dict(weights=[]), "weights: needs at least one"), (dict(weights=[0, 0.5]), "weights: must be over 0 and under 1, got 0"),
    (dict(weights=[0.5, 0.5]), "weights: needs at least one, and no two equal ones"), (dict(weights="half"), "weights: must be over 0"),
    (dict(weights=[float("nan")]), "weights: must be over 0"), (dict(weights=[True]), "weights: must be over 0"),
    (dict(weights=[0.1]), "weights: 0.1 leaves 0.24 s of 2.44 s to one of 'ada' and 'ben', but a reference needs 0.5 s"),
    (dict(blend=0.5), "blend: is what this study varies; give weights= instead"), (dict(loud=True), "loud: no such option")])
def test_bad_input_is_one_line(ask, given, words):
    with pytest.raises(VoicelabError) as caught: ask(**given)
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)


def test_one_text_and_further_options_are_kept_apart(ask):
    study = ask(texts=TEXTS[0], seeds=[0], sampling=[vl.Sampling(temperature=t) for t in (0.5, 1.0)]).run()
    assert study.state == "complete, 22 samples" and {*study.points.options} == {"temperature=0.5", "temperature=1.0"}
    assert len(track_of(study.points, MORPH)) == 2 and len(steps_of(track_of(study.points, MORPH))) == 4


def test_a_sample_without_sound_is_no_row_that_counts(ask, monkeypatch):
    monkeypatch.setattr("whistling.Whistle.decode", lambda self, codes: Audio(np.zeros(0, np.float32), 16_000))
    study = ask(seeds=[0]).run()
    assert study.answers()[0].startswith("similarity is not judged: no sample has a value")


def test_the_function_asks_it(model, voices, tmp_path):
    study = two_references(model, [voices["cleo"], voices["dan"]], ["The boat was blue."], [0], tmp_path / "two", weights=[0.5], batch=3)
    assert study.state == "complete, 5 samples" and study.lacking == {} and study.points.toward.notna().all()
    assert len({cell.name for sweep in study.sweeps for cell in sweep.grid.cells}) == 5 and vl.Sweep(study.folder / "blend").grid.cells
