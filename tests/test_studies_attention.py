"Shares add up to one, losses are those of hidden positions, and made-up values give the answer that is true of them."
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import whistling

from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.model import VitaModel
from voicelab.families.vita.prompt import VARIANTS
from voicelab.family import FAMILIES
from voicelab.hiding import hidden_bits
from voicelab.models.glm4voice import tiny_glm4voice
from voicelab.studies import attention
from voicelab.studies.attention import SOURCES, Listening, in_parts, rank_correlation
from voicelab.study import StudyError

TEXTS = ["one two", "three four", "five six", "seven eight"]


def test_a_small_study_of_the_real_thing(model, voices, tmp_path, monkeypatch):
    asked = dict(folder=tmp_path / "a", layers=[0, 5], heads=True, draws=1)
    study = attention(model, voices["ada"], "Come home.", [0], **asked)
    assert study.state == "complete, 1 samples, 0 recordings"
    shares = study.shares.groupby(["layer", "part"]).share.sum()
    assert len(shares) == 60 and np.allclose(shares, 1, atol=1e-4) and {*study.shares.source} == {*SOURCES} and study.shares.share.between(0, 1).all()
    utterance, = study.utterances
    view = study.ask_family(model, utterance, model.codec.encode(utterance.audio), voices["ada"], {})
    lost, plain = study.table.set_index("place").lost, view.bits().mean()
    by_layer = study.shares.query("source == 'reference'").groupby("layer").share.mean()
    assert study.table.set_index("place").share["5"] == pytest.approx(by_layer[5], abs=0.02)
    assert [*lost.index] == ["all", "0", "5", *(f"{layer}.{head}" for layer in (0, 5) for head in range(4))]
    for place, where in {"all": {}, "5": {"layers": [5]}, "0.2": {"layers": [0], "head": 2}}.items():
        assert lost[place] == pytest.approx(float(hidden_bits(view, **where).mean() - plain), abs=1e-3)
    assert study.table.lost_none.notna().tolist() == [True] * 3 + [False] * 8
    assert "the reference costs" in study.answer and "bits/code (no interval)" in study.answer
    assert "can't tell whether they go together" in study.answer and "hidden from one head" in study.answer
    monkeypatch.setattr(Listening, "asker", None)
    assert attention(model, voices["ada"], "Come home.", [0], **asked).answers() == study.answers()
    study.plot()
    assert study._repr_html_().count("<audio") == 2


# ---- made-up values

@pytest.fixture
def whistler():
    kept = dict(FAMILIES)
    if "whistling" not in FAMILIES: whistling.register_whistler()
    FAMILIES["whistling"] = replace(FAMILIES["whistling"], read_codes=lambda *_: None)
    yield whistling.Whistler("whistler")
    FAMILIES.clear()
    FAMILIES.update(kept)


SHARE, LOST, RANDOM = [0.5, 0.3, 0.1, 0.05], [0.0, 0.1, 0.2, 0.4], [0.0, 0.3, 0.1, 0.4]       # by layer: the opposite of each other


def made_up(self, speaker, utterance, codes, shaped):
    "Layer 0 has most attention and needs none; layer 3 has least, and needs it most. The share falls to a half."
    noise = np.random.default_rng([len(utterance.name), len(utterance.text)]).normal(0, 0.005, 20)
    def ask(place):
        if place == "shares":
            reference = np.outer(SHARE, np.linspace(1, 0.5, 10))
            rest = {name: np.full((4, 10), 0.05) for name in ("transcript", "text", "own past")}
            return {"shares": {name: each.tolist() for name, each in {"reference": reference, **rest, "rest": 0.85 - reference}.items()},
                    "by_head": (0.75 * np.outer(SHARE, [1.5, 0.5])).tolist()}
        side = lambda lost, shift: {str(n): [5 + each + noise[n + shift], 6 + each + noise[n + shift]] for n, each in enumerate(lost)}
        return {"plain": [5.0, 6.0], "none": [5.5, 6.5], "reference": {"all": [5.7, 6.7]} | side(LOST, 0), "random": {"all": [6.0, 7.0]} | side(RANDOM, 5)}
    return ask


def four(voices): return [voices[name] for name in ("ada", "ben", "cleo", "dan")]


@pytest.fixture
def known(whistler, voices, tmp_path, monkeypatch):
    monkeypatch.setattr(Listening, "asker", made_up)
    return attention(whistler, four(voices), TEXTS, [0], tmp_path / "a")


def test_the_answer_is_the_known_truth(known):
    table = known.compared()
    assert table.verdict.to_dict() == {"0": "can't tell", "1": "less", "2": "more", "3": "can't tell"}
    assert table.lost_mean.tolist() == pytest.approx(LOST, abs=0.01)
    assert known.agreement().mean == pytest.approx(-1, abs=0.05)
    answer = known.answer
    for words in ("the reference gets most in layer 0, 37.5 %", "and least in layer 3, 3.75 %",
                  "from the first tenth of the utterance to the last, the reference gets less: from 24% to 12%, difference -11.9 points",
                  "hidden from all layers, the reference costs 0.7 bits/code", "as many random positions cost 1 bits/code",
                  "a prompt without a reference costs 0.5 bits/code",
                  "the reference costs bits in layers 1, 2, 3 and saves bits in no layer",
                  "more than as many random positions cost in layer 2, and less in layer 1",
                  "go against each other (rank correlation -1",
                  "attention alone is no evidence of use", "4 voices and 4 texts"):
        assert words in answer
    assert "(-1 to -1" in answer or "(-1 to -0.9" in answer


def test_an_interrupted_study_shows_what_is_there(whistler, voices, tmp_path, monkeypatch):
    calls = []
    def stop(self, *given):
        calls.append(given)
        if len(calls) == 7: raise KeyboardInterrupt
        return made_up(self, *given)
    monkeypatch.setattr(Listening, "asker", stop)
    with pytest.warns(UserWarning, match="stopped: unfinished, 16 samples, 12 of 32 questions asked"):
        study = attention(whistler, four(voices), TEXTS, [0], tmp_path / "a")
    assert study.answer.startswith("Unfinished, 16 samples, 12 of 32 questions asked. ") and "hidden from one layer" in study.answer
    study.plot()


def test_nothing_known_is_said_and_not_drawn(whistler, voices, tmp_path):
    study = Listening(whistler, voices["ada"], TEXTS[0], [0], tmp_path / "a")
    assert study.answers() == [] and study.telling() == {}
    for wrong in (study.plot, study.compared):
        with pytest.raises(StudyError): wrong()


def test_families_that_cannot_be_read_are_refused_in_a_line(voices, whistler, tmp_path):
    FAMILIES["whistling"] = replace(FAMILIES["whistling"], read_codes=None)
    with pytest.raises(StudyError, match="^model: 'whistler' is of the family whistling, which has no attention weights of a given utterance; these have: "
                       "[^\n]+$"):
        attention(whistler, voices["ada"], TEXTS[0], [0], tmp_path / "a")


@pytest.mark.parametrize("kind", VARIANTS)
def test_the_other_family_is_asked_as_well(kind, voices, tmp_path):
    vita = VitaModel(tiny_vita(kind), tiny_glm4voice())
    study = attention(vita, voices["ada"], "Yes.", [0], tmp_path / "a", draws=1, budget=40, option_steps=1)
    assert study.state == "complete, 1 samples, 0 recordings" and not study.lacking and len(study.table) == 1 + vita.network.config.main_layers
    shares = study.shares.groupby(["layer", "part"]).share.sum()
    assert np.allclose(shares, 1, atol=1e-3) and study.table.lost.abs().max() > 1e-3


@pytest.mark.parametrize(("wrong", "said"), [(dict(draws=0), "draws: must be a whole number from 1 to 1000, got 0"),
                                             (dict(layers=[]), "layers: needs at least one layer"),
                                             (dict(layers=[-1]), "layers: must be a whole number from 0"), (dict(heads="all"), "heads: must be")])
def test_options_out_of_reach_are_refused(voices, tmp_path, wrong, said):
    with pytest.raises(StudyError, match=said): attention("tiny", voices["ada"], TEXTS[0], folder=tmp_path / "a", **wrong)


def test_a_layer_that_the_network_lacks_is_said(model, voices, tmp_path):
    study = attention(model, voices["ada"], "Yes.", [0], tmp_path / "a", layers=[9], draws=1)
    assert "1 utterance not asked: layers: must be a whole number from 0 to 5, got 9" in study.answer and "attention, mean of layers and heads" in study.answer


def test_parts_of_any_length_have_every_frame():
    for frames in (1, 3, 10, 11, 57):
        parts = in_parts(np.ones((2, 3, frames)))
        assert parts.shape == (2, 10) and np.allclose(parts, 1)
    assert np.isnan(rank_correlation(pd.Series([1, 2]), pd.Series([1, 2])))
