"Variance, caps and sampling: made-up values of known truth, bad input, and what can't be told."
from itertools import product

import numpy as np
import pytest
from test_sweep import folder_of_whistler, whistler  # noqa: F401

from voicelab.compare import Seen
from voicelab.control import Sampling
from voicelab.crossed import clustered_share
from voicelab.errors import VoicelabError
from voicelab.studies.caps import Caps, Needed, budgets_of
from voicelab.studies.sampling import SamplingStudy, settings_of
from voicelab.studies.variance import Variance, deviation_range
from voicelab.study import TEXTS, StudyError

@pytest.fixture
def ask(whistler, voices, tmp_path):                # noqa: F811
    def ask(kind, names=("ada", "ben", "cleo"), **given):
        texts, seeds = given.pop("texts", list(TEXTS[:3])), given.pop("seeds", [0, 1])
        return kind(whistler, [voices[name] for name in names], texts, seeds, tmp_path / kind.__name__, **given)
    return ask


# ---- variance

def known(voices, texts, seeds, of_voice=0.0, of_text=0.0, of_seed=0.0):
    "Cells whose parts are known."
    rng = np.random.default_rng(0)
    voice, text = rng.normal(0, of_voice, voices), rng.normal(0, of_text, texts)
    return [Seen(dict(reference=str(v), text=str(t), seed=s), str(v), str(t), "eos", voice[v] + text[t] + rng.normal(0, of_seed), "m", "")
            for v in range(voices) for t in range(texts) for s in range(seeds)]


@pytest.mark.parametrize("largest", ["reference", "text", "seed"])
def test_the_source_of_the_spread_is_found(ask, monkeypatch, largest):
    made = ask(Variance)
    parts = dict(of_voice=0.1, of_text=0.1, of_seed=0.1) | {dict(reference="of_voice", text="of_text", seed="of_seed")[largest]: 1.0}
    monkeypatch.setattr(type(made.sweep), "_view", lambda self, metric: known(6, 6, 3, **parts))
    found = made.split("similarity")
    assert found.share.idxmax() == largest and found.share.sum() == pytest.approx(1)
    assert f"the largest part of the variance is {largest}" in made.answers()[0]
    assert (found.low <= found.deviation).loc[["reference", "text", "seed"]].all() and len(made.plot().patches) >= 4


@pytest.mark.parametrize("shape,said", [((1, 3, 2), "reference can't be judged: one voice"), ((3, 1, 2), "text can't be judged: one text"),
                                        ((3, 3, 1), "seed can't be told from rest")])
def test_what_cannot_be_split_is_refused_in_words(ask, monkeypatch, shape, said):
    made = ask(Variance)
    monkeypatch.setattr(type(made.sweep), "_view", lambda self, metric: known(*shape, of_voice=1, of_text=1, of_seed=1))
    assert said in made.answers()[0] and "largest part" not in made.answers()[0]
    with pytest.raises(StudyError, match="no measure whose parts can be told apart"): made.plot()


def test_a_range_of_a_deviation_is_that_of_chi_squared():
    low, high = deviation_range(1.0, 10)
    assert low == pytest.approx((10 / 20.483) ** 0.5, rel=0.02) and high == pytest.approx((10 / 3.247) ** 0.5, rel=0.02)
    assert np.isnan(deviation_range(1.0, 0)).all()


def test_a_study_of_whistles_splits_what_it_has(ask):
    made = ask(Variance)
    made.measures = ("speaking_rate", "wer")
    made.run()
    assert made.state == "complete, 18 samples" and "speaking_rate: the largest part of the variance" in made.answer
    assert "wer is not judged" in made.answer and len(made.telling()) == 3


# ---- caps

def test_caps_cut_what_needs_more(ask, monkeypatch, voices):
    made = ask(Caps, margins=[0.5, 1.0, 2.0])
    text = "We walked along the river until the sun went down, and then we went home."
    expected = budgets_of(made.margins, made.sweep.grid.settings)["reference_rate", 1.0](Needed(voices["ada"], text, 1.0, 25.0, "eos")).cap_seconds
    how = ((0.4, "eos"), (0.9, "eos"), (1.5, "eos"), (3.0, "budget"), (9.0, "repetition"))
    took = [Needed(voices["ada"], text, expected * share, 25.0, outcome) for share, outcome in how]
    monkeypatch.setattr(Caps, "needed", lambda self: took)
    table = made.table[made.table.rule == "reference_rate"].set_index("margin")
    assert table.cut.round(2).to_dict() == {0.5: 0.75, 1.0: 0.5, 2.0: 0.25} and (table.samples == 4).all()      # one was still cut under the largest
    said = " ".join(made.answers())
    assert "1 more samples did not end by themselves (1 by repetition)" in said and "the largest margin tried is 2" in said


def test_a_share_of_none_is_not_certain_and_seeds_are_no_evidence():
    few = clustered_share([0] * 4, "aabb", "xyxy")
    many = clustered_share([0] * 40, "aabb" * 10, "xyxy" * 10)
    assert few[:3] == many[:3] and few.high == pytest.approx(0.49, abs=0.01) and clustered_share([1] * 4, "aabb", "xyxy").low == pytest.approx(0.51, abs=0.01)
    assert np.isnan(clustered_share([], [], []).mean) and str(clustered_share([], [], [])) == "no value"


def test_one_voice_and_one_text_give_caps_too(ask):
    made = ask(Caps, names=["ada"], texts=TEXTS[0], seeds=[0])
    assert made.answers() == ["no sample has ended by itself yet, so no cap can be judged"] and made.state == "unfinished, 0 of 1 samples"
    with pytest.raises(StudyError, match="has no samples yet"): made.plot()
    made.run()
    assert made.state == "complete, 1 samples" and "of 1) would have been cut" in made.answer and "<img" in made._repr_html_() and made.telling()


@pytest.mark.parametrize("given,said", [
    (dict(margins=[]), "margins: need numbers"), (dict(margins=[-1]), "margins: need numbers"), (dict(budget=25), "budget: is set by this study")])
def test_caps_refuse(ask, given, said):
    with pytest.raises(StudyError, match=said): ask(Caps, **given)


# ---- sampling

def test_settings_are_temperatures_with_and_without_ras():
    made = settings_of([0.5, 1.0], Sampling(top_k=20))
    assert [(each.temperature, each.ras_window, each.top_k) for each in made] == [(0.5, 7, 20), (0.5, 0, 20), (1.0, 7, 20), (1.0, 0, 20)]
    assert len(settings_of([0.5, 1.0], Sampling(ras_window=0))) == 2


def test_a_study_of_whistles_counts_endings(ask):
    made = ask(SamplingStudy, temperatures=[0.5, 1.0], seeds=[0])
    made.measures = ("ended", "speaking_rate")
    made.run()
    assert made.state == "complete, 36 samples" and made.table.samples.tolist() == [9] * 4 and made.table.clean.nunique() == 1
    assert "temperature 0.5, no RAS: clean 89% (" in made.answer and "ended: the same share with every setting" in made.answer
    assert "ras_window 0 against 7" in made.answer and made.plot().get_ylabel() == "share of the samples"


def test_endings_that_differ_are_compared(ask, monkeypatch):
    made = ask(SamplingStudy, temperatures=[0.5, 1.0])
    made.measures = ("ended",)
    rng = np.random.default_rng(0)
    cells = []
    for v, t, s, heat, w in product("abcd", "wxyz", range(3), (0.5, 1.0), (7, 0)):
        clean, labels = heat == 0.5 or rng.random() < 0.3, dict(reference=v, text=t, seed=s, temperature=heat, ras_window=w)
        cells.append(Seen(labels, v, t, "eos" if clean else "budget", float(clean), "m", ""))
    monkeypatch.setattr(type(made.sweep), "_view", lambda self, metric: cells)
    assert made.table.clean.tolist()[:2] == [1, 1] and made.table.clipped.iloc[2] > 0.5
    assert any("temperature 0.5 against 1.0: ended is higher (better)" in each for each in made.answers())


@pytest.mark.parametrize("given,said", [
    (dict(temperatures=[]), "temperatures: need numbers"), (dict(temperatures=[0, 1]), "temperatures: need numbers"),
    (dict(sampling="greedy"), "sampling: is set by this study"), (dict(temperatures=[1], base="greedy"), "nothing to compare"),
    (dict(base="wild"), "sampling: must be one of"), (dict(base=3), "base: must be Sampling or a preset")])
def test_sampling_refuses(ask, given, said):
    with pytest.raises(VoicelabError, match=said): ask(SamplingStudy, **given)
