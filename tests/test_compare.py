"Comparisons: what pairs, what is refused, what is missing, what few samples can say; parts of a variance; calibration; the command."
import json
import shutil
from dataclasses import replace
from math import isnan, nan
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_sweep import TEXTS, folder_of_whistler, make, whistler  # noqa: F401
from whistling import Whistler, register_whistler

import voicelab as vl
from voicelab.budget import RULES
from voicelab.cli import main
from voicelab.crossed import Crossed, crossed_interval, numbered
from voicelab.family import FAMILIES
from voicelab.metrics import METRICS, Measure
from voicelab.settings import AudioGenerationConfig, Settings, read_settings

UNITS = {"similarity": "cosine", "wer": "errors per word", "level": "dBFS"}
HEATS = [vl.Sampling(temperature=each) for each in (0.3, 1.0)]
SHORT = Settings(audio_generation=AudioGenerationConfig(min_tokens=10, max_tokens=16))          # 14 letters of the whistler
TIGHT = dict(budget=["reference_rate", "fixed"], sampling=None, seeds=0, settings=SHORT)


@pytest.fixture(scope="module")
def usual(folder_of_whistler, tmp_path_factory, voices):        # noqa: F811
    "The folder of a sweep that was made."
    register_whistler()
    given = dict(references=[voices[name] for name in ("ada", "ben", "cleo")], texts=TEXTS, seeds=[0, 1], sampling=HEATS)
    made = vl.Sweep(tmp_path_factory.mktemp("usual") / "sweep", folder_of_whistler, **given).run()
    del FAMILIES["whistling"]
    return made.folder


@pytest.fixture
def grid(usual, make, voices, tmp_path):                        # noqa: F811
    "A sweep of three voices, three texts, two seeds and two temperatures, made; or another one."
    copies = iter(range(99))
    def made(**given):
        folder = tmp_path / f"sweep{next(copies)}"
        if not given: return vl.Sweep(shutil.copytree(usual, folder))
        return make(folder, **dict(references=[voices[name] for name in ("ada", "ben", "cleo")], sampling=HEATS) | given).run()
    return made


def give(sweep, value, name="similarity", model="by hand"):
    "Keep the measure `value(labels)` of each cell that was made; None is unavailable, a tuple is a value and its model."
    for cell in sweep.grid.cells:
        row = sweep._rows_now().get(cell.name)
        if row is None or row["status"] != "ok": continue
        found = value(cell.labels)
        found, made_by = found if isinstance(found, tuple) else (found, model)
        measure = (METRICS[name].unavailable("nobody listened") if found is None else
                   Measure(name, found, UNITS[name], made_by, "ok"))
        sweep.measured.add(row["hashes"]["generated"], [(METRICS[name], measure)])
    return sweep


def noisy(effect=0.0, scale=0.01, seed=0):
    "Values by labels: an effect of temperature 1.0, and noise that depends on the cell alone."
    def value(labels):
        noise = np.random.default_rng([seed, *str(labels).encode()]).normal(0, scale)
        return float(0.8 + effect * (labels.get("temperature") == 1.0) + noise)
    return value


def compare(sweep, by="temperature", measure="similarity", **given): return sweep.compare(by, measure, **dict(anchors=False) | given)


# What pairs

def test_an_effect_is_found_and_none_is_not(grid):
    found = compare(give(grid(), noisy(-0.2)))
    line = found.table.iloc[1]
    assert found.table.level.tolist() == [0.3, 1.0] and line.verdict == "lower" and line.low < -0.2 < line.high < 0
    assert (line.pairs, line.speakers, line.texts, line.missing) == (18, 3, 3, 0) and line.over == ("speakers", "texts")
    assert "temperature 1.0 against 0.3: similarity is lower (worse), -0.199" in str(found) and len(found.missing) == 0 and found.model == "by hand"
    none = compare(give(grid(), noisy(0.0, seed=1))).table.iloc[1]
    assert none.verdict == "can't tell" and none.low < 0 < none.high and none.detectable > 0


def test_the_baseline_may_be_any_level(grid):
    sweep = give(grid(), noisy(-0.2))
    for baseline in (1.0, "1.0"):
        found = compare(sweep, baseline=baseline)
        assert found.baseline == 1.0 and found.table.difference[1] == pytest.approx(0.2, abs=0.02)
        assert "0.3 against 1.0: similarity is higher (better), +0.199" in str(found)


def test_several_levels_have_wider_intervals(grid):
    value = noisy(-0.2)
    two, three = (compare(give(grid(sampling=[vl.Sampling(temperature=each) for each in heats], seeds=[0]), value)).table
                  for heats in ((0.3, 1.0), (0.3, 1.0, 2.0)))
    assert len(three) == 3 and three.difference[1] == two.difference[1]
    assert three.high[1] - three.low[1] > 1.1 * (two.high[1] - two.low[1])


def test_an_option_of_several_columns_is_one_axis(grid):
    sweep = give(grid(sampling=[vl.Sampling(temperature=0.3, top_k=50), vl.Sampling(temperature=1.0, top_k=20)], seeds=0), noisy(-0.2))
    found = compare(sweep, "sampling")
    assert found.baseline == "temperature=0.3, top_k=50" and found.table.pairs[1] == 9
    with pytest.raises(vl.VoicelabError, match="by: no two cells differ in temperature alone"): compare(sweep)


@pytest.mark.parametrize("by, other", [("references", "speakers"), ("text", "texts")])
def test_voices_and_texts_are_axes_too(grid, by, other):
    "The axis itself is not drawn again: its levels are what is compared."
    found = compare(give(grid(), noisy()), by)
    line = found.table.iloc[1]
    assert line.pairs == 12 and pd.isna(line[other]) and line.over == (("texts",) if other == "speakers" else ("speakers",))
    assert "; for these" in found.sentences[0]


def test_models_are_an_axis(grid, make, model, voices):     # noqa: F811
    "Cells of two models pair if they have the same options; an option that only one has keeps them apart."
    both = make(model=[make().grid.models[0].source.name, model], texts=TEXTS[0], seeds=0, references=[voices["ada"], voices["ben"]]).run()
    found = compare(give(both, noisy()), "models")
    assert found.table.level.tolist() == ["whistler", "tiny"] and found.table.pairs[1] == 2


def test_where_chooses_cells(grid):
    sweep = give(grid(), noisy(-0.2))
    for where, pairs in [({"seed": 0}, 9), ({"speaker": "ada"}, 6), ({"speaker": ["ada", "ben"], "seed": "1"}, 6), ({"language": "en"}, 18)]:
        assert compare(sweep, where=where).table.pairs[1] == pairs, where
    for where, said in [({"loud": 1}, "where: must be among speaker, language, model, reference, temperature, text, seed, got 'loud'"),
                        ({"seed": 7}, "where: no cell has seed 7; there are 0, 1"), (5, "where: must be a dict of column to value, or values, got 5"),
                       ({"temperature": 1.0}, "by: temperature has one level here, 1.0")]:
        with pytest.raises(vl.VoicelabError, match=said): compare(sweep, where=where)


# What is refused

@pytest.mark.parametrize("given, said", [
    (dict(by="heat"), "by: must be an axis of the sweep, model, reference, temperature, text, seed; got 'heat'"),
    (dict(by=7), "by: must be the name of an axis, got 7"), (dict(by=["seed"]), "by: must be the name of an axis"),
    (dict(baseline=True), "baseline: must be one of 0.3, 1.0; got True"),
    (dict(by="model"), "by: model has one level here, 'whistler'; nothing to compare"),
    (dict(baseline=2.0), "baseline: must be one of 0.3, 1.0; got 2.0"), (dict(measure="beauty"), "measure: must be among .*, got 'beauty'"),
    (dict(measure="level"), r"level: no cell has a value; 36 of 36: not measured; sweep.measure\('level'\) does it")])
def test_what_is_refused(grid, given, said):
    with pytest.raises(vl.VoicelabError, match=said) as refused: compare(give(grid(), noisy()), **given)
    assert "\n" not in str(refused.value)


def test_values_of_two_models_are_never_compared(grid):
    sweep = give(grid(), lambda labels: (0.5, "large" if labels["seed"] else "base"), "wer")
    with pytest.raises(vl.VoicelabError, match="wer: has values of 2 models that can't be compared, 'base' and 'large'; choose cells with where="):
        compare(sweep, measure="wer")
    assert compare(sweep, measure="wer", where=dict(seed=1)).model == "large"
    with pytest.raises(vl.VoicelabError, match="2 models"): sweep.variance("wer")


def test_values_of_an_older_maker_do_not_count(grid, monkeypatch):
    sweep = give(grid(), noisy())
    monkeypatch.setitem(METRICS, "similarity", replace(METRICS["similarity"], model="another-maker"))
    with pytest.raises(vl.VoicelabError, match="not measured"): compare(sweep)


def test_a_measure_that_is_unavailable_says_why(grid):
    with pytest.raises(vl.VoicelabError, match="similarity: no cell has a value; 36 of 36: nobody listened"): compare(give(grid(), lambda labels: None))


# What is missing

def test_what_is_missing_is_counted_with_its_reason(grid, make, monkeypatch, voices):   # noqa: F811
    real = Whistler.clone
    def clone(self, text, **options):
        if text == TEXTS[0] and options["sampling"].temperature == 1.0: raise vl.VoicelabError("reference: is too loud")
        return real(self, text, **options)
    monkeypatch.setattr(Whistler, "clone", clone)
    sweep = give(grid(seeds=[0, 1]), lambda labels: None if labels["text"] == TEXTS[1] and labels["seed"] else noisy(-0.01)(labels))
    found = compare(sweep)
    line = found.table.iloc[1]
    assert (line.pairs, line.missing) == (9, 9)                             # six failed, and three that nobody could measure
    assert found.missing.to_dict("list") == {"level": [0.3, 1.0, 1.0], "reason": ["nobody listened", "failed: reference: is too loud", "nobody listened"],
                                             "cells": [3, 6, 3]}
    assert found.summary.failed.tolist() == [0, 6] and found.summary.measured.tolist() == [15, 9]
    low, high = sweep.table.similarity.min(), sweep.table.similarity.max()
    rows = sweep.table.pivot_table("similarity", ["reference", "text", "seed"], "temperature", dropna=False)
    ends = [(rows[1.0].fillna(level) - rows[0.3].fillna(baseline)).mean() for level, baseline in ((low, high), (high, low))]
    assert (line.worst_low, line.worst_high) == pytest.approx(ends) and "9 pairs are missing: with the lowest or highest value" in str(found)


def test_cells_that_were_not_made_are_missing(make, voices):        # noqa: F811
    sweep = give(make(references=[voices["ada"], voices["ben"]], sampling=HEATS).run(most=20), noisy())
    found = compare(sweep)
    assert found.missing.reason.tolist() == ["not made yet"] and found.missing.cells.sum() == 4 and found.table.missing[1] == 4
    assert found.summary["missing"].sum() == 4


def test_the_worst_case_of_a_measure_that_has_no_better(grid):
    sweep = give(grid(), lambda labels: -20.0 - labels["temperature"] if labels["seed"] else None, "level")
    line = compare(sweep, measure="level").table.iloc[1]
    assert line.missing == 9 and (line.worst_low, line.worst_high) == pytest.approx((-0.7, 0.0))


# What few samples can say

@pytest.mark.parametrize("given, where, over, interval", [
    (dict(), dict(speaker="ada"), ("texts",), True), (dict(), dict(text=TEXTS[0]), ("speakers",), True),
    (dict(), dict(speaker=["ada", "ben"], text=TEXTS[:2]), ("seeds",), True), (dict(), dict(speaker="ada", text=TEXTS[0]), ("seeds",), True),
    (dict(), dict(speaker="ada", text=TEXTS[0], seed=0), (), False), (dict(), dict(speaker="ada", text=TEXTS[:2], seed=0), ("seeds",), False)])
def test_few_speakers_and_texts(grid, given, where, over, interval):
    found = compare(give(grid(**given), noisy(-0.2)), where=where)
    line = found.table.iloc[1]
    assert line.over == over and isnan(line.low) != interval and line.difference == pytest.approx(-0.2, abs=0.05)
    assert interval or line.verdict == "can't tell" and "no interval" in str(found)
    if over and interval: assert "only" in str(found)


def test_a_constant_measure(grid):
    line = compare(give(grid(), lambda labels: 0.5)).table.iloc[1]
    assert (line.difference, line.low, line.high, line.verdict) == (0, 0, 0, "can't tell")
    shifted = compare(give(grid(), lambda labels: 0.5 + (labels["temperature"] == 1.0))).table.iloc[1]
    assert (shifted.low, shifted.high, shifted.verdict) == (1, 1, "higher")


# Summaries

def test_error_rates_show_their_tail(grid):
    runaway = lambda labels: 4.0 if (labels["temperature"], labels["seed"], labels["text"], labels["reference"]) == (1.0, 0, TEXTS[0], "ada") else 0.1
    found = compare(give(grid(), runaway, "wer"), measure="wer").summary.set_index("level")
    hot, words = found.loc[1.0], [3, 4, 3]                                  # of the texts
    assert hot["mean"] == pytest.approx((17 * 0.1 + 4) / 18) and hot["median"] == 0.1 and hot.above_half == pytest.approx(1 / 18)
    assert hot.mean_without == pytest.approx(0.1) and hot.corpus_without == pytest.approx(0.1)
    assert hot.corpus == pytest.approx((0.1 * (6 * sum(words) - 3) + 4.0 * 3) / (6 * sum(words)))
    assert found.loc[0.3].above_half == 0 and found.loc[0.3].corpus == pytest.approx(0.1)


def test_how_samples_ended_is_in_every_summary(grid):
    sweep = give(grid(**TIGHT), noisy())
    found = compare(sweep, "budget").summary
    assert found.eos.tolist() == [9, 0] and found.budget.tolist() == [0, 9] and found.clip_rate.tolist() == [0, 1]
    assert found.clip_high[0] > 0.05 and found.clip_low[1] < 0.95


def test_it_shows_itself_and_is_plain(grid):
    found = compare(give(grid(), noisy(-0.2), model="<b>by hand</b>"))
    page = found._repr_html_()
    assert "&lt;b&gt;by hand" in page and "<b>by hand" not in page and "can&#x27;t tell" not in page
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["levels"][0]["pairs"] is None and plain["levels"][1]["pairs"] == 18 and plain["anchors"] == []


# Anchors

def test_anchors_are_measured_once_and_say_what_they_lack(grid, monkeypatch):
    sweep = grid()
    found = sweep.anchors("level")
    assert found.index.tolist() == ["the reference", "through the codec", "another speaker", "another sentence"] and found.voices.tolist() == [3] * 4
    monkeypatch.setattr(Whistler, "codec", None)
    assert sweep.anchors("level").equals(found) and compare(
        give(sweep, lambda labels: -20.0, "level", "voicelab-samples-1"), measure="level", anchors=True).anchors.equals(found)
    monkeypatch.undo()
    assert sweep.anchors("ended").lacks.tolist() == ["its stop reason is not known"] * 4


def test_anchors_are_of_the_values_maker_and_of_the_chosen_cells(grid, monkeypatch):
    "A recogniser that isn't given again makes no anchors, and loses no values; anchors of another recogniser are no company for them."
    heard = lambda name, words: SimpleNamespace(id=name, hear=lambda audio, code: words)
    first, second = heard("first", TEXTS[0]), heard("second", "Nothing.")
    sweep = grid().measure("wer", recogniser=first)
    told = sweep.table.wer.tolist()
    found = compare(sweep, measure="wer", anchors=True)
    assert found.model.startswith("first+") and {*found.anchors.lacks} >= {"not measured yet; give recogniser= again"} and sweep.table.wer.tolist() == told
    with pytest.raises(vl.VoicelabError, match="wer: no cell has a value; 36 of 36: not measured"): sweep.compare("temperature", "wer", recogniser=second)
    found = sweep.compare("temperature", "wer", recogniser=first, where=dict(speaker=["ada", "ben"]))
    assert found.anchors.voices.max() == 2 and {*found.anchors.model[found.anchors.voices > 0]} == {found.model}
    assert sweep.measure("wer", recogniser=second).table.wer.tolist() != told and sweep.measure("wer", recogniser=first).table.wer.tolist() == told
    assert vl.Sweep(sweep.folder).table.wer.tolist() == told


def test_an_unknown_recogniser_is_an_error_before_the_work(grid):
    with pytest.raises(vl.VoicelabError, match="^recogniser: .*'nope'"): grid().measure("wer", recogniser="nope")


def test_a_sweep_of_one_reference_or_none(make, tmp_path):     # noqa: F811
    one = make(texts=TEXTS[0]).run()
    assert one.anchors("level").lacks["another speaker"] == "the sweep has no other reference" and one.anchors("level").voices["another speaker"] == 0
    assert len(make(tmp_path / "none", references=None).anchors("level")) == 0


def test_a_model_that_is_gone_leaves_the_other_anchors(grid, monkeypatch):
    sweep = vl.Sweep(grid().folder)
    def gone(self): raise vl.VoicelabError("model: is gone")
    monkeypatch.setattr("voicelab.identity.ModelSource.load", gone)
    found = sweep.anchors("level")
    assert found.lacks["through the codec"] == "model: is gone" and found.voices.tolist() == [3, 0, 3, 3]


# Where a measure varies

def test_variance_finds_the_part_that_is_there(grid):
    by_voice = give(grid(), lambda labels: {"ada": 0.1, "ben": 0.5, "cleo": 0.9}[labels["reference"]] + 0.3 * (labels["temperature"] == 1.0))
    parts = by_voice.variance("similarity")
    assert parts.share["reference"] == pytest.approx(1) and parts.deviation["reference"] == pytest.approx(0.4) and parts.levels["reference"] == 3
    by_seed = give(by_voice, noisy()).variance("similarity")                # the latest values count
    assert by_seed.share["reference"] < 0.5 and isnan(by_seed.low["reference"])
    assert by_voice.variance("similarity", where=dict(temperature=0.3)).low["reference"] >= 0
    once = by_voice.variance("similarity", where=dict(seed=0))
    assert isnan(once.variance["seed"]) and not isnan(once.variance["rest"])
    constant = give(by_voice, lambda labels: 1.0).variance("similarity")
    assert (constant.variance.dropna() == 0).all() and constant.share.isna().all()


@pytest.mark.parametrize("values, speakers, texts", [
    ([], [], []), ([1.0], ["a"], ["x"]), ([1.0, 2.0], ["a", "a"], ["x", "x"]), ([1.0, 2.0, 4.0], ["a", "b", "c"], ["x", "y", "z"]),
    ([1.0, 2.0, 4.0, 5.0], ["a", "a", "b", "c"], ["x", "y", "z", "w"]), ([1.0, 2.0, 4.0, 5.0], ["a", "b", "c", "d"], ["x", "x", "y", "z"]),
    ([0.0] * 9, list("abc") * 3, list("aaabbbccc")), ([1e100, -1e100, 0.0], list("abc"), list("abc")),
    ([1.0, 2.0, 3.0, 4.0], [None, 1, "b", 2.5], [0, 0, 0, 0])])
def test_tables_of_any_shape(values, speakers, texts):
    found = crossed_interval(values, speakers, texts)
    assert found.count == len(values) and found.speakers == len({*speakers})
    assert isnan(found.low) or found.low <= found.mean <= found.high
    assert isnan(found.low) == isnan(found.high)


def test_a_table_is_the_same_in_any_order():
    rng = np.random.default_rng(0)
    values, speakers, texts = rng.normal(size=60), np.repeat(range(3), 20), np.tile(np.repeat(range(4), 5), 3)
    order = rng.permutation(60)
    one, other = (Crossed(*each) for each in ((values, speakers, texts), (values[order], speakers[order], texts[order])))
    assert one.parts == pytest.approx(other.parts) and one.spread[:2] == pytest.approx(other.spread[:2])
    shifted = Crossed(values + 1000, speakers, texts)
    assert shifted.parts == pytest.approx(one.parts, rel=1e-6) and numbered(["b", None, "b"]).tolist() == [0, 1, 0]


def test_bad_tables_are_refused():
    with pytest.raises(vl.VoicelabError, match="values: must be numbers, got NaN"): crossed_interval([nan, 1.0], [0, 1], [0, 1])
    with pytest.raises(vl.VoicelabError, match="values: need a speaker and a text each, got 2 values, 1 speakers"): crossed_interval([1.0, 2.0], [0], [0, 1])
    with pytest.raises(vl.VoicelabError, match="inside: must be between 0 and 1, got 95"): crossed_interval([1.0, 2.0], [0, 1], [0, 1], 95)


# Calibration

def test_calibration_compares_with_the_estimate(grid):
    found = grid().calibrate(clip_rate=0.1)
    assert found.table.voice.tolist() == ["ada", "ben", "cleo", "all"] and found.table.samples.tolist() == [12, 12, 12, 36]
    assert found.table.clipped.sum() == 0 and found.margin.low <= found.margin.value <= found.margin.high and "a margin of" in str(found)
    needed = np.sort([each.seconds / each.estimated for each in found.took])
    assert found.margin.value == pytest.approx(needed[int(np.ceil(0.9 * 36)) - 1]) and (needed > found.margin.value).mean() <= 0.1


def test_samples_that_were_cut_off_need_more_than_all_others(grid):
    found = grid(**TIGHT).calibrate()
    assert found.table.clipped.tolist() == [3, 3, 3, 9] and found.margin.value == np.inf and "make them with a larger one" in str(found)
    with pytest.raises(vl.VoicelabError, match="reference_margin: no margin of these samples has a clip rate of 0.05"): found.settings(Settings())


@pytest.mark.parametrize("clip_rate", [0, 1, -0.1, 0.6, nan, "few", None])
def test_bad_clip_rates(grid, clip_rate):
    with pytest.raises(vl.VoicelabError, match="clip_rate: must be from 0.001 to 0.5"): grid().calibrate(clip_rate)


def test_a_sweep_that_was_not_made_has_no_calibration(make):    # noqa: F811
    with pytest.raises(vl.VoicelabError, match="run the sweep first"): make().calibrate()


@pytest.mark.parametrize("before", [
    "", "[MEASURES]\nrecogniser = base", "[AUDIO_GENERATION_CONFIG]", "[AUDIO_GENERATION_CONFIG]\nmin_seconds = 2\n\n[MEASURES]\nrecogniser = base\n",
    "# [AUDIO_GENERATION_CONFIG]\n[AUDIO_GENERATION_CONFIG]   ; ours\n# reference_margin = 7\nReference_Margin : 2.5   # guessed\nmin_seconds = 2\n",
    "[QUALITY_THRESHOLDS]\n[AUDIO_GENERATION_CONFIG]\nreference_margin=9"])
def test_the_margin_is_written_and_nothing_else_changes(grid, tmp_path, before):
    file = tmp_path / "settings.ini"
    if before: file.write_text(before)
    wanted = read_settings(file) if before else Settings()
    margin = grid().calibrate().write(file)
    wanted = replace(wanted, audio_generation=replace(wanted.audio_generation, reference_margin=margin))
    assert read_settings(file) == wanted and read_settings(file).audio_generation.reference_margin == margin
    gone = [line for line in before.splitlines() if line not in file.read_text().splitlines()]
    assert len(gone) <= 1 and all("margin" in line.lower() for line in gone) and ("# guessed" in before) == ("# guessed" in file.read_text())


def test_settings_of_another_rule_are_left_alone(grid, tmp_path):
    found = grid().calibrate()
    (tmp_path / "settings.ini").write_text("[AUDIO_GENERATION_CONFIG]\nadaptive_max_tokens = false\n")
    with pytest.raises(vl.VoicelabError, match="reference_margin: the settings' rule is fixed"): found.write(tmp_path / "settings.ini")
    assert found.settings(Settings()).audio_generation == replace(AudioGenerationConfig(), reference_margin=np.ceil(found.margin.value * 100) / 100)


def test_a_rule_of_ones_own_may_read_the_margin(grid, monkeypatch):
    monkeypatch.setitem(RULES, "hasty", replace(RULES["reference_rate"], name="hasty"))
    ours = Settings(audio_generation=AudioGenerationConfig(rule="hasty", min_seconds=2))
    found = grid().calibrate()
    assert found.settings(ours).audio_generation == replace(ours.audio_generation, reference_margin=np.ceil(found.margin.value * 100) / 100)


# The command

def test_the_command(grid, capsys, tmp_path):
    sweep = give(grid(), noisy(-0.2))
    run = lambda *words: (main(["compare", str(sweep.folder), *words]), capsys.readouterr().out)[1]
    out = run("--by", "temperature", "--measure", "similarity", "--no-anchors")
    assert "1.0 against 0.3: similarity is lower (worse)" in out and "pairs" in out and "clip_rate" in out
    made = json.loads(run("--by", "temperature", "--measure", "similarity", "--baseline", "1.0", "--where", "speaker=ada", "--json").splitlines()[-1])
    assert made["baseline"] == 1.0 and made["levels"][1]["pairs"] == 6 and len(made["anchors"]) == 4
    for words, said in [(["--by", "heat"], "--by: must be an axis"), (["--by", "text", "--recogniser", "x"], "--recogniser: "),
                        (["--by", "temperature", "--no-anchors", "--recogniser", "x"], "--recogniser: "),
                        (["--by", "temperature", "--where", "en"], "--where: must be COLUMN=VALUE, got 'en'")]:
        with pytest.raises(SystemExit) as ended: run("--measure", "similarity", *words)
        assert ended.value.code == 2 and said in capsys.readouterr().err
    with pytest.raises(SystemExit): main(["compare", str(tmp_path / "none"), "--by", "text", "--measure", "wer"])
    assert "none' holds no sweep" in capsys.readouterr().err and not (tmp_path / "none").exists()
