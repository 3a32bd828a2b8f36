"A clone of a clone: chains, resuming, chains that end, drift and break of known truth."
import re
from dataclasses import replace
from inspect import signature

import numpy as np
import pandas as pd
import pytest
from test_sweep import folder_of_whistler, whistler  # noqa: F401
from whistling import Letters, Whistle, Whistler

from voicelab.ask import save_answer
from voicelab.audio import Audio
from voicelab.backends import BACKENDS
from voicelab.compare import Seen
from voicelab.errors import VoicelabError
from voicelab.studies.generations import SAME, Generations, drift_words
from voicelab.study import TEXTS, StudyError

@pytest.fixture
def follow(monkeypatch):
    "Whistles that depend on their reference."
    usual = Letters.__init__
    def follow(self, session):
        usual(self, session)
        self.pitch = int(session.reference.sha256[:4], 16) % 60
    monkeypatch.setattr(Letters, "__init__", follow)


@pytest.fixture
def ask(whistler, voices, tmp_path, follow):                # noqa: F811
    def ask(names=("ada", "ben"), **given):
        made = Generations(whistler, [voices[name] for name in names], given.pop("texts", TEXTS[:3]), given.pop("seeds", [0, 1]), tmp_path / "study", **given)
        made.measures = ("speaking_rate",)              # whistles have no voice, and nobody reads their words
        return made
    return ask


def test_each_generation_is_made_from_the_one_before(ask):
    made = ask(generations=3).run()
    assert made.state == "complete, 36 samples" and len(made.sweeps) == 3
    for before, after in zip(made.sweeps, made.sweeps[1:]):
        clones = {made.chain_of(cell): (cell, before[cell.name].generated) for cell in before.grid.cells}
        for cell in after.grid.cells:
            last, sound = clones[made.chain_of(cell)]
            reference = cell.voices[0]
            assert (reference.audio.samples == sound.samples).all() and reference.transcript == last.text != cell.text
            assert reference.audio.synthetic and reference.consent == last.voices[0].source.consent and not reference.source.audio.synthetic
    for sweep in made.sweeps: assert sorted(cell.text for cell in sweep.grid.cells) == sorted([*TEXTS[:3]] * 4)


def test_it_continues_where_it_was_interrupted(ask, monkeypatch):
    run, made = BACKENDS["inline"].run, []
    def broken(jobs, *given):
        for each in run(jobs, *given):
            made.append(each)
            if len(made) == 9: raise KeyboardInterrupt
            yield each
    with monkeypatch.context() as patch:
        patch.setitem(BACKENDS, "inline", replace(BACKENDS["inline"], run=broken))
        with pytest.warns(UserWarning, match="stopped"): first = ask(names=["ada"], generations=3).run()
    assert first.state == "unfinished, 8 samples, in generation 2 of 3"
    assert ask(names=["ada"], generations=3).state == first.state and first.answer.startswith("Unfinished, 8 samples")
    again = ask(names=["ada"], generations=3).run()
    assert again.state == "complete, 18 samples"
    assert {pair.row["id"] for pair in again.sweeps[1]} == {*range(6)}                   # none was made twice


def test_chains_that_a_model_cannot_tell_apart_go_on_as_one(ask, monkeypatch):
    monkeypatch.setattr(Letters, "__init__", lambda self, session: self.__dict__.update(chunk=session.chunk, pitch=0, chance=session.generator))
    made = ask(generations=3, seeds=[0]).run()
    assert [len(sweep) for sweep in made.sweeps] == [6, 3, 3] and f"3 of 6 chains ended in generation 1: {SAME}" in made.answer


def test_the_files_of_an_answer_have_all_generations(ask):
    made = ask(generations=2).run()
    paths = save_answer(made)
    table = pd.read_csv(paths["table"])
    assert len(table) == 24 and table.part.value_counts().to_dict() == {1: 12, 2: 12}
    linked = re.findall(r"\]\(([^)]*\.wav)\)", paths["answer"].read_text())
    assert linked and all((made.sweep.folder / name).is_file() for name in linked)


def test_more_generations_continue_a_study(ask):
    ask(generations=2).run()
    longer = ask(generations=3)
    assert longer.state == "unfinished, 24 samples, in generation 2 of 3" and longer.run().state == "complete, 36 samples"


def silent(self, codes): return Audio(np.zeros(1600 * codes.shape[1], np.float32), 16_000)


def test_a_generation_without_sound_ends_it_in_words(ask, monkeypatch):
    monkeypatch.setattr(Whistle, "decode", silent)
    made = ask(generations=4).run()
    assert len(made.sweeps) == 1 and made.state == "complete, 12 samples: no sample of generation 1 can be a reference"
    assert "12 of 12 chains ended in generation 1: audio: it is silent" in made.answer


def test_a_chain_that_ends_is_a_missing_pair(ask, monkeypatch):
    usual = Whistler.stream
    def stream(self, text, **options):
        if text == TEXTS[0] and options["reference"].change["generation"] == 2: raise VoicelabError("text: is not for whistlers")
        return usual(self, text, **options)
    stream.__signature__ = signature(usual)
    monkeypatch.setattr(Whistler, "stream", stream)
    made = ask(generations=3, seeds=[0]).run()
    assert [len(sweep) for sweep in made.sweeps] == [6, 6, 4] and "2 of 6 chains ended in generation 2" in made.answer
    table = made.compare("speaking_rate").table
    assert table.missing.tolist()[1:] == [2, 2] and table.pairs.tolist()[1:] == [4, 4]


def fake(made, values):
    "Similarities by generation, the same spread for all voices and texts."
    def seen(metric):
        return [Seen(dict(reference=voice, text=text, line=0, generation=n), voice, text, "eos", value + 0.01 * k + 0.003 * m * n, "m", "")
                for n, value in enumerate(values, 1) for k, voice in enumerate("abcd") for m, text in enumerate("xyz")]
    made.seen = seen
    return made.compare("similarity")


def test_drift_and_break_are_named(ask, monkeypatch):
    made = ask(names=["ada"])
    found = fake(made, [0.9, 0.899, 0.8, 0.7, 0.5])
    assert drift_words(found).startswith("lower from generation 3 on; generation 5 against the first: -0.388")
    monkeypatch.setattr(Generations, "stranger", lambda self: 0.6)
    assert made.break_words(found).startswith("the voice breaks in generation 5")
    monkeypatch.setattr(Generations, "stranger", lambda self: 0.3)
    assert "does not break" in made.break_words(found)
    monkeypatch.setattr(Generations, "stranger", lambda self: float("nan"))
    assert "no other speaker" in made.break_words(found)
    assert drift_words(fake(made, [0.9, 0.9, 0.9])).startswith(("no lasting drift", "higher"))


@pytest.mark.parametrize("given", [1, 0, 101, "two", True])
def test_too_few_or_too_many_generations_are_refused(ask, given):
    with pytest.raises(StudyError, match="generations: must be a whole number"): ask(generations=given)


def test_one_text_is_enough(ask):
    made = ask(names=["ada"], texts=TEXTS[0], generations=2, seeds=[0]).run()
    assert made.state == "complete, 2 samples" and len(made.telling()) == 2 and "<audio" in made._repr_html_()
