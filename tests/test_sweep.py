"Sweeps: names of cells, bad grids, what survives what, tables, files; made here and by several processes."
import errno
import importlib
import json
import multiprocessing
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from whistling import LOUD, Whistler, WhistlingEngine, register_whistler

import voicelab as vl
from voicelab import backends, grid, identity, metrics, sweep
from voicelab.backends import BackendError, WorkerSetup
from voicelab.cli import main
from voicelab.control import STOP_RULES, StopRule
from voicelab.family import FAMILIES
from voicelab.listening import ListeningError, ListeningTest
from voicelab.measured import Sample
from voicelab.metrics import METRICS
from voicelab.runs import RunError
from voicelab.testsets import TestSet

TEXTS = ["Good evening, garden.", "The boat was blue.", "Eleven bells rang."]


@pytest.fixture(scope="module")
def folder_of_whistler(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whistler") / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(model_type="whistler")))
    return str(folder)


@pytest.fixture
def whistler(folder_of_whistler):
    register_whistler()
    yield folder_of_whistler
    del FAMILIES["whistling"]


@pytest.fixture
def make(whistler, tmp_path, reference):
    "A sweep of six cells, or with other arguments."
    def made(folder=None, **given):
        usual = dict(model=whistler, references=reference, texts=TEXTS, seeds=[0, 1])
        return vl.Sweep(folder or tmp_path / "sweep", **usual | given)
    return made


def names(made): return [cell.name for cell in made.grid.cells]
def statuses(made): return made.table.status.value_counts().to_dict()


def twice(made):
    "The cells that the manifest has as made more than once."
    cells = [row["cell"] for row in made.samples.rows if row["status"] == "ok"]
    return {cell for cell in cells if cells.count(cell) > 1}


# Names

def test_a_name_is_of_what_shapes_the_sound_and_of_nothing_else(make, reference, voices, monkeypatch, tmp_path):
    base = names(make())
    again = vl.Reference(reference.audio, reference.transcript, "somebody else agreed", "another name", noticed=True, remarks=())
    same = [dict(texts=TEXTS[::-1], seeds=[1, 0]), dict(references=[voices["ben"], again]), dict(prompt_form="whistled"),
            dict(sampling=LOUD), dict(control=vl.Control()), dict(budget="reference_rate"), dict(batch=4)]
    for n, each in enumerate(same): assert {*base} <= {*names(make(tmp_path / f"same{n}", **each))}, each
    changed = [dict(references=voices["ben"]), dict(references=replace(again, transcript="Other words.")), dict(references=None),
               dict(texts="Good evening, Garden."), dict(seeds=[2, 3]), dict(sampling="greedy"),
               dict(control=vl.Control(silence_frames=9)), dict(budget="fixed")]
    for n, each in enumerate(changed): assert not {*base} & {*names(make(tmp_path / f"x{n}", **each))}, each
    monkeypatch.setattr(Whistler, "info", replace(Whistler.info, sha256="cd" * 32))
    assert not {*base} & {*names(make(tmp_path / "other_weights"))}
    monkeypatch.undo()
    monkeypatch.setattr(grid, "MEANING", grid.MEANING + 1)
    assert not {*base} & {*names(make(tmp_path / "other_meaning"))}


def test_a_batch_is_in_the_name_where_it_may_change_the_codes(make, monkeypatch, tmp_path):
    assert names(make()) == names(make(tmp_path / "b", batch=4))
    monkeypatch.setattr(identity, "computes_on", lambda speaker: ("bfloat16", "cuda"))
    alone, four, eight = (names(make(tmp_path / f"gpu{n}", batch=n)) for n in (1, 4, 8))
    assert len({*alone, *four, *eight}) == 18


def test_a_name_is_the_same_for_ever():
    "If this fails, samples that people have made no longer count: raise MEANING only if they are other sounds."
    assert grid.hashed({"text": "One.", "seed": 0, "model": ["a", "ü"], "share": 0.5}) == "6578f82afe06b40ce0819b9289e26f27"


# Bad input

@dataclass(frozen=True)
class OtherBudget(vl.Budget):
    "As a family may have one."
    more: int = 0


@pytest.mark.parametrize("given, said", [
    (dict(texts=[]), "texts: is an empty axis"), (dict(seeds=[]), "seeds: is an empty axis"), (dict(references=[]), "references: is an empty axis"),
    (dict(text="One.", texts=["Two."]), "texts: the axis 'text' is given twice|text: the axis 'text' is given twice"),
    (dict(seed=0, seeds=[1]), "the axis 'seed' is given twice"),
    (dict(models="tiny"), "models: the axis 'model' is given twice"), (dict(texts=["One.", "Two.", "One."]), "text: values 0 and 2 are equal, 'One.'"),
    (dict(seeds=[3, 3]), "seed: values 0 and 1 are equal, 3"), (dict(sampling=["upstream", vl.Sampling()]), "sampling: values 0 and 1 are equal"),
    (dict(sampling=[None, LOUD]), "sampling: values 0 and 1 are equal"),
    (dict(budget=[None, "reference_rate"]), "budget: values 0 and 1 are equal"),
    (dict(temperature=[0.3, 1.0]), r"temperature: is not an option of a sweep over whistler; set it as sampling=vl.Sampling\(temperature=...\)"),
    (dict(scene=["", "a room"]), "scene: no such option; a sweep over whistler takes reference, seed"),
    (dict(promt_form="whistled"), "promt_form: no such option; did you mean prompt_form"),
    (dict(texts=["One.", " "]), "texts: nothing to say"),
    (dict(texts=["One.", 7]), "texts: must be a string, got int"),
    (dict(seeds=[0, -1]), "seeds: must be a whole number from 0 to 9223372036854775807, got -1"),
    (dict(seeds=[True]), "seeds: must be a whole number"),
    (dict(seeds=["a"]), "seeds: must be a whole number"),
    (dict(references=["nowhere.wav"]), "'nowhere.wav' cannot be read"),
    (dict(sampling=vl.Sampling(seed=3)), "sampling: has seed 3; here seeds are an axis"),
    (dict(sampling=["loud"]), "sampling: must be one of"),
    (dict(control=[object()]), "control: a level must be text"),
    (dict(budget=[OtherBudget("fixed", 1.0, 30, 37, None, "", "as asked")]), "budget: a level must be text, a number, .* a Budget; got OtherBudget"),
    (dict(seeds=range(10_000_000)), "seeds: at most 200000 values, got 10000000"),
    (dict(seeds=range(100_000)), r"cells: at most 200000, got 300000 \(1 model x 1 reference x 3 text x 100000 seed\)"),
    (dict(model=["tiny", "tiny"]), "models: 'tiny' and 'tiny' are the same model"),
    (dict(model=7), "model: must be a name, a folder, a hub id"),
    (dict(model=dict(name="tiny", bits=8)), "bits: no such option"),
    (dict(model=[]), "model: is an empty axis"),
    (dict(model="giant"), "model: must be one of tiny"),
    (dict(batch=0), "batch: must be a whole number from 1 to 1024, got 0"),
    (dict(settings="mine"), "settings: must be Settings"),
    (dict(pairs=[(None, "One.")]), "pairs: has the axis"),
    (dict(texts=None), "texts: must be a string, got NoneType")])
def test_what_is_refused_is_refused_in_one_line_and_leaves_no_sweep(make, tmp_path, given, said):
    with pytest.raises(vl.VoicelabError, match=said) as refused: make(**given)
    assert "\n" not in str(refused.value) and not (tmp_path / "sweep/sweep.toml").exists()


def test_a_reference_without_a_transcript_is_refused_where_the_form_needs_one(tmp_path, reference):
    bare = vl.Reference(reference.audio, consent="synthetic", name="bare", noticed=True, remarks=())
    given = dict(model="tiny", texts="One.", references=[reference, bare])
    with pytest.raises(vl.VoicelabError, match="reference 'bare': transcript: form 'assistant_ref' needs one"): vl.Sweep(tmp_path / "a", **given)
    with pytest.raises(vl.VoicelabError, match="reference 'bare'"): vl.Sweep(tmp_path / "a", **given, prompt_form=["system_ref", "assistant_ref"])
    with pytest.raises(vl.VoicelabError, match="reference 'bare'"): vl.Sweep(tmp_path / "a", model="tiny", pairs=[(reference, "One."), (bare, "Two.")])
    assert len(vl.Sweep(tmp_path / "b", **given, prompt_form="system_ref")) == 2


def test_options_belong_to_models(make, model, tmp_path):
    both = make(model=[make().grid.models[0].source.name, model], scene=["", "a room"], texts=TEXTS[0], seeds=0)
    assert [(cell.model, cell.options) for cell in both.grid.cells] == [("whistler", {}), ("tiny", {"scene": ""}), ("tiny", {"scene": "a room"})]
    assert both.table.scene.tolist()[1:] == ["", "a room"] and both.table.scene.isna()[0]
    forms = make(tmp_path / "forms", model=[both.grid.models[0].source.name, model], prompt_form=["whistled", "assistant_ref"], texts=TEXTS[0], seeds=0).run()
    assert statuses(forms) == {"ok": 3, "failed": 1} and "prompt_form: must be one of" in forms.table.error.dropna().item()


# Runs

def test_a_sweep_is_made_once_and_opened_alone(make, tmp_path, monkeypatch):
    made = make().run()
    table = made.table
    assert statuses(made) == {"ok": 6} and len(made.samples) == 6 and {*table.seed} == {0, 1} and (table.seconds > 0).all()
    assert table.columns[:6].tolist() == ["cell", "status", "model", "reference", "text", "seed"]
    assert [*map(len, (made.run().samples, make().run().samples))] == [6, 6]
    monkeypatch.setattr(identity, "load", None)
    alone = vl.Sweep(tmp_path / "sweep")
    assert alone.table.equals(table) and names(alone) == names(made) and "6 ok" in repr(alone)
    assert alone[0].generated.synthetic and alone[-1].reference.rate == made[0].reference.rate and alone[names(made)[2]].row["text"] == TEXTS[1]
    assert "6 cells, 6 made" in alone._repr_html_()


def test_rows_are_those_of_a_run_and_the_reference_is_kept_once(make, reference):
    made = make().run()
    run = vl.Run(made.folder)
    for pair, row in zip(run, run.rows):
        assert row["cell"] in names(made) and row["seed"] in (0, 1) and row["hashes"]["voice"] == reference.sha256 and row["work_seconds"] > 0
        assert pair.generated.seconds == pytest.approx(row["seconds"]) and pair.path("reference").name.endswith("_ref.wav")
        again = vl.Reference(pair.path("reference"), row["transcript"], noticed=True, remarks=())
        assert again.sha256 == reference.sha256
    assert len({os.stat(pair.path("reference")).st_ino for pair in run}) == 1 and not run.orphans and len(run.table) == 6


def test_a_changed_grid_keeps_the_cells_that_are_still_in_it(make, voices):
    make().run()
    changed = make(texts=[TEXTS[0], "A new one."], seeds=[0, 1, 2], references=[voices["ada"], voices["ben"]])
    assert statuses(changed) == {"missing": 10, "ok": 2} and statuses(changed.run()) == {"ok": 12} and len(changed.samples) == 16
    assert statuses(make()) == {"ok": 6}


def test_what_fails_is_a_row_and_is_made_again_on_request(make, monkeypatch):
    real = Whistler.clone
    def clone(self, text, **options):
        if text == TEXTS[0]: raise vl.VoicelabError("reference: is too\nloud")
        if text == TEXTS[1] and options["seed"]: raise RuntimeError("no such layer")
        return real(self, text, **options)
    monkeypatch.setattr(Whistler, "clone", clone)
    made = make().run()
    assert statuses(made) == {"ok": 3, "failed": 3}
    assert made.table.error.dropna().tolist() == ["reference: is too loud"] * 2 + ["RuntimeError: no such layer"]
    kept = [row for row in made.samples.rows if "traceback" in row]
    assert len(kept) == 1 and "in clone" in "".join(kept[0]["traceback"])
    monkeypatch.undo()
    assert statuses(made.run()) == {"ok": 3, "failed": 3} and "3 failed" in str(made.cost)
    assert statuses(made.run(retry=True)) == {"ok": 6} and not twice(made) and statuses(vl.Sweep(made.folder)) == {"ok": 6}


def test_ctrl_c_and_stop_keep_what_there_is(make, monkeypatch):
    real, left = Whistler.clone, iter([1, 1, 0])
    def clone(self, text, **options):
        if next(left, 1): return real(self, text, **options)
        raise KeyboardInterrupt
    monkeypatch.setattr(Whistler, "clone", clone)
    with pytest.warns(UserWarning, match="stopped: 6 cells, 2 made; 4 missing"): made = make().run()
    assert statuses(made) == {"ok": 2, "missing": 4} and made.stopped
    monkeypatch.setattr(Whistler, "clone", lambda self, *given, **options: made.stop() or real(self, *given, **options))
    with pytest.warns(UserWarning, match="stopped: 6 cells, 3 made"): made.run()
    monkeypatch.setattr(Whistler, "clone", lambda self, *given, **options: replace(real(self, *given, **options), stop_reason="interrupted"))
    with pytest.warns(UserWarning, match="3 made"): made.run()
    monkeypatch.undo()
    assert statuses(made.run(most=1)) == {"ok": 4, "missing": 2} and statuses(made.run()) == {"ok": 6} and not twice(made) and not made.stopped


@pytest.mark.parametrize("at", (0, 1, 3))
def test_ctrl_c_while_a_batch_is_saved_loses_none_of_it(make, monkeypatch, at):
    "The samples of a batch are saved one by one, and are made already."
    real, adds = vl.Run._add, count()
    def add(self, *given):
        if next(adds) == at: signal.raise_signal(signal.SIGINT)
        return real(self, *given)
    monkeypatch.setattr(vl.Run, "_add", add)
    with pytest.warns(UserWarning, match="stopped: 6 cells, 4 made; 2 missing"): made = make(batch=4).run()
    assert statuses(made) == {"ok": 4, "missing": 2} and made.stopped
    assert statuses(made.run()) == {"ok": 6} and not twice(made) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_a_worker_leaves_out_of_a_batch_is_given_out_again():
    cells, worker = tuple(SimpleNamespace(name=name) for name in "abc"), backends.Worker()
    pool = backends.Pool([], None, None, 1)
    pool.todo = deque()
    worker.held.append(backends.Job(cells))
    made = [SimpleNamespace(cell="a"), SimpleNamespace(cell="c")]
    assert [*pool.hear(worker, "made", made)] == made and [*pool.todo] == [backends.Job(cells[1:2])] and not worker.held


def test_what_a_batch_had_ended_before_ctrl_c_is_kept(make, monkeypatch):
    real = Whistler.clone_batch
    def clone_batch(self, *given, **options):
        return [replace(made, stop_reason="interrupted") if n % 2 else made for n, made in enumerate(real(self, *given, **options))]
    monkeypatch.setattr(Whistler, "clone_batch", clone_batch)
    with pytest.warns(UserWarning, match="stopped: 6 cells, 2 made; 4 missing"): made = make(batch=4).run()
    monkeypatch.undo()
    assert made.stopped and statuses(made.run()) == {"ok": 6} and not twice(made)


def test_a_full_disk_ends_the_run_and_no_more(make, monkeypatch):
    made, real, left = make(), os.write, iter([1, 1, 0])
    def write(fd, content):
        if next(left, 1): return real(fd, content)
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(RunError, match="has no space left on its disk"): made.run()
    monkeypatch.undo()
    assert len(made.samples) == 2 and statuses(vl.Sweep(made.folder).run()) == {"ok": 6} and not twice(made)


def run_here(folder):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    vl.Sweep(folder).run()


def test_it_survives_kill_9(make):
    "A driver is killed again and again, each time a little later; in the end every cell is there, whole, and none twice."
    made, fork = make(seeds=range(8)), multiprocessing.get_context("fork")
    for attempt in range(40):
        child = fork.Process(target=run_here, args=(made.folder,))
        child.start()
        begun = len(made.samples)
        until = time.monotonic() + 30
        while child.is_alive() and len(made.samples) < begun + 1 + attempt % 3 and time.monotonic() < until: time.sleep(0.003)
        child.kill()                                # nothing, if it has ended by itself
        child.join()
        if statuses(made) == {"ok": 24}: break
    made = vl.Sweep(made.folder).run()
    assert attempt > 1 and statuses(made) == {"ok": 24} and not twice(made) and not made.samples.orphans
    assert all(pair.generated.seconds == pytest.approx(pair.row["seconds"]) for pair in made.samples)


def test_most_is_of_cells_and_a_loop_is_over_those_that_are_there(make, monkeypatch):
    calls = []
    def clone_batch(self, texts, right=Whistler.clone_batch, **options):
        calls.append(len(texts))
        return right(self, texts, **options)
    monkeypatch.setattr(Whistler, "clone_batch", clone_batch)
    made = make(batch=4).run(most=1)
    assert statuses(made) == {"ok": 1, "missing": 5} and [pair.row["batch"] for pair in made] == [1]
    assert len([*made.run(most=5)]) == 6 and [pair.row["text"] for pair in made] == [cell.text for cell in made.grid.cells]
    assert calls == [4] and {pair.row["batch"] for pair in made} == {1}      # a whistler's rows share no steps


def test_what_a_stopped_batch_has_made_is_kept_and_workers_share_the_cells(make):
    made = make(batch=4)
    assert [[len(job.cells) for job in made.jobs(workers=n)] for n in (1, 2, 4)] == [[4, 2], [3, 3], [2, 2, 2]]
    made.run(say=lambda words: made.stop())
    assert statuses(made) == {"ok": 4, "missing": 2} and made.stopped


def test_a_batch_that_breaks_is_told(make, monkeypatch):
    "Each of its cells is made alone, and its row has the reason."
    def check(self, sessions):
        if len(sessions) > 1: raise RuntimeError("out of\nmemory")
    monkeypatch.setattr(WhistlingEngine, "shares_steps", True)
    monkeypatch.setattr(WhistlingEngine, "check", check)
    made = make(batch=6).run()
    assert statuses(made) == {"ok": 6}
    for pair in made:
        assert pair.row["batch"] == 1
        assert pair.row["warnings"][0].startswith("texts: a batch of 6 broke, and what was missing was made in halves: RuntimeError: out of memory")


def test_a_cell_that_a_batch_can_not_make_is_a_row(make, monkeypatch):
    def decoder(self, sessions, right=WhistlingEngine.decoder):
        if sessions[0].text == TEXTS[1]: raise vl.VoicelabError("text: is not for whistlers")
        return right(self, sessions)
    monkeypatch.setattr(WhistlingEngine, "decoder", decoder)
    made = make(batch=6, seeds=[0]).run()
    assert statuses(made) == {"ok": 2, "failed": 1} and "is not for whistlers" in made.table.error.dropna().item()


def test_a_family_whose_batch_fails_has_failed_rows(make, monkeypatch):
    def clone_batch(self, *given, **options): raise RuntimeError("out of\nmemory")
    monkeypatch.setattr(Whistler, "clone_batch", clone_batch)
    made = make(batch=6).run()
    assert statuses(made) == {"failed": 6} and "RuntimeError: out of memory" in made.table.error[0]


def test_a_model_that_was_changed_makes_no_cells_of_the_old_one(make, whistler, monkeypatch):
    speaker = vl.load(whistler)
    made = make(model=speaker)
    monkeypatch.setattr(speaker, "info", replace(Whistler.info, sha256="changed"), raising=False)
    with pytest.raises(BackendError, match="is whistling changed .*; load that one again, or use another folder for this one"): made.run()
    assert statuses(made) == {"missing": 6}


def test_a_loaded_model_keeps_its_codec(make, whistler, tmp_path):
    assert identity.read_source(vl.load(whistler))[0].codec is None
    source, _ = identity.read_source(vl.load(whistler, codec=tmp_path / "codec"))
    assert source.written() == {"name": whistler, "codec": str(tmp_path / "codec")}


def test_two_programs_do_not_run_one_sweep(make, monkeypatch):
    made = make()
    with made._alone(), pytest.raises(sweep.SweepError, match="is being run by another process"): vl.Sweep(made.folder).run()
    assert statuses(made.run()) == {"ok": 6}


@pytest.mark.parametrize("given, said", [
    (dict(backend="magic"), "backend: must be one of inline, process"), (dict(workers=0), "workers: must be a whole number from 1"),
    (dict(workers=2), "workers: the backend 'inline' has one, got 2"), (dict(most=0), "most: must be a whole number from 1")])
def test_a_run_that_can_not_be(make, given, said):
    with pytest.raises(vl.VoicelabError, match=said): make().run(**given)


# Folders

def test_folders_that_hold_something_else(make, whistler, tmp_path, reference):
    made = make().run()
    with pytest.raises(sweep.SweepError, match="holds another sweep: none of its 6 samples is a cell of this grid"): make(texts="Other words.")
    assert statuses(vl.Sweep(made.folder)) == {"ok": 6}                     # it was left as it was
    run = vl.Run(tmp_path / "run")
    run.save(vl.load(whistler).clone("One.", reference=reference, seed=0))
    with pytest.raises(sweep.SweepError, match="holds a run of 1 samples, not a sweep"): make(tmp_path / "run")
    with pytest.raises(sweep.SweepError, match="holds no sweep; give it texts"): vl.Sweep(tmp_path / "empty")
    (made.folder / "sweep.toml").write_text("format = 2\n")
    for again in (lambda: vl.Sweep(made.folder), make):
        with pytest.raises(vl.VoicelabError, match=r"is of a newer voicelab \(format 2, this one reads 1\)"): again()


def test_a_reference_that_was_changed_is_noticed(make, voices):
    made = make().run()
    file, = made.folder.glob("reference_*.wav")
    file.unlink()
    voices["ben"].audio.save(file, exact=True)
    with pytest.raises(vl.VoicelabError, match="has changed: its hash is"): vl.Sweep(made.folder)


@pytest.mark.parametrize("written", [b"", b"[1, 2]", b"{", b"[{}]", b'[{"source": "x", "facts": {"name": 1}}]', b"\xff\xfe", b"[" * 100_000])
def test_facts_that_are_no_facts_are_found_again(make, written):
    made = make().run(most=2)
    (made.folder / "models.json").write_bytes(written)
    with pytest.raises(sweep.SweepError, match="a folder alone loads no model; give the whole grid"): vl.Sweep(made.folder)
    assert statuses(make()) == {"ok": 2, "missing": 4} and names(vl.Sweep(made.folder)) == names(made)


def test_a_sound_that_was_deleted_is_made_again(make):
    made = make().run()
    codes = {row["cell"]: row["hashes"]["codes"] for row in made.samples.rows}
    for pair in [made[1], made[4]]: pair.path("generated").unlink()
    assert statuses(vl.Sweep(made.folder)) == {"ok": 4, "missing": 2} and statuses(vl.Sweep(made.folder).run()) == {"ok": 6}
    assert {row["cell"]: row["hashes"]["codes"] for row in made.samples.rows} == codes and all(len(pair.generated.samples) for pair in vl.Sweep(made.folder))


def test_a_folder_alone_is_changed_by_nothing(make, tmp_path):
    made = make(batch=2)
    with pytest.raises(sweep.SweepError, match="batch: '.*' keeps its own; to change it, give the whole grid"): vl.Sweep(made.folder, batch=8)
    with pytest.raises(sweep.SweepError, match="settings: '.*' keeps its own"): vl.Sweep(made.folder, settings=vl.read_settings())
    assert vl.Sweep(made.folder).grid.batch == 2 and make(batch=8).grid.batch == 8 and vl.Sweep(made.folder).grid.batch == 8


def test_a_file_has_what_it_changes_and_settings_ini_the_rest(make, whistler, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.ini").write_text("[GENERATION_PARAMS]\ntop_k = 7\n[MEASURES]\nrecogniser = mine\n[QUALITY_THRESHOLDS]\nmin_audio_length = 2\n")
    for made in (make(), vl.Sweep(tmp_path / "sweep")): assert (made.grid.settings.measures.recogniser, made.grid.settings.generation.top_k) == ("mine", 7)
    (tmp_path / "grid.toml").write_text(f"model = {json.dumps(whistler)}\ntexts = ['One.']\n[settings.GENERATION_PARAMS]\ntemperature = 0.9\n")
    settings = sweep.sweep_from(tmp_path / "grid.toml").grid.settings
    assert (settings.generation.temperature, settings.generation.top_k, settings.quality.min_audio_length) == (0.9, 7, 2)
    (tmp_path / "settings.ini").write_text("[REFERENCE_POLICY]\nrequire_consent = true\n")
    assert vl.Sweep(tmp_path / "grid").grid.settings.references.require_consent


def test_lines_of_strangers_do_not_matter(make):
    made = make().run(most=2)
    with open(made.folder / "manifest.jsonl", "ab") as file:
        rows = made.samples.rows
        for n, cell in enumerate([["a"], {"a": 1}, None, 7, "nobody"]): file.write(json.dumps(rows[0] | {"id": 50 + n, "cell": cell}).encode() + b"\n")
        file.write(b"no sample\n")
    assert statuses(vl.Sweep(made.folder)) == {"ok": 2, "missing": 4} and statuses(make().run()) == {"ok": 6}


# Cost, files, the command line

def test_the_cost_is_said_beforehand_and_measured(make):
    made = make()
    assert made.cost.missing == 6 and made.cost.work_seconds is None and 3 < made.cost.sound_seconds < 30 and "the first cell will tell" in str(made.cost)
    before = made.run(most=2).cost
    assert before.timed == 2 and before.missing == 4 and before.work_seconds > 0 and "of work for one worker" in str(before)
    def sizes():
        kept = [file for file in made.folder.glob("*_generated_*.wav") if "_ref" not in file.name]
        return sum(file.stat().st_size for file in [*kept, made.folder / "manifest.jsonl"])
    there = sizes()
    rest = made.run()
    ahead = sum(row["seconds"] for row in rest.samples.rows[2:])
    assert before.sound_seconds == pytest.approx(ahead, rel=0.5) and before.disk_bytes == pytest.approx(sizes() - there, rel=0.5)


def test_a_file_stands_for_a_sweep(make, whistler, tmp_path, root, capsys):
    (tmp_path / "grid.toml").write_text(f"""
        model = {json.dumps(whistler)}
        references = [
            {{file = {json.dumps(str(root / "data/voices/ada.wav"))}, transcript = "The old library opens at nine.", consent = "synthetic"}}, {{}}]
        texts = {json.dumps(TEXTS)}
        sampling = ["greedy", {{temperature = 0.5, top_k = {{}}}}]
        seeds = [0, 1]""")
    run = lambda *words: (main(["sweep", *map(str, words), "--json"]), json.loads(capsys.readouterr().out.splitlines()[-1]))[1]
    first = run(tmp_path / "grid.toml", "--trial")
    assert (first["cells"], first["made"], first["missing"], first["stop_reason"]) == (24, 1, 23, "done") and first["work_seconds"] > 0
    made = run(tmp_path / "grid.toml")
    assert made["made"] == 24 and made["folder"] == str(tmp_path / "grid") and run(tmp_path / "grid/sweep.toml")["made"] == 24
    again = run(tmp_path / "grid/sweep.toml", "--out", tmp_path / "again", "--trial")
    assert again["missing"] == 23 and names(vl.Sweep(tmp_path / "again")) == names(vl.Sweep(tmp_path / "grid"))
    assert vl.Sweep(tmp_path / "grid").table.temperature.tolist()[:2] == [0, 0]


@pytest.mark.parametrize("text, said", [
    ("texts = [", "is not TOML"),
    ("format = 9", "is of a newer voicelab"),
    ("format = 'a'", "format: must be 1, got 'a'"),
    ("", "texts: needs at least one text"),
    ("texts = 7", "texts: must be a string, got int"),
    ("texts = ['a']\nfolder = 3", "folder: must be text, got 3"),
    ("texts = ['a']\nreferences = [3]", "references: must be a path or a table"),
    ("texts = ['a']\nreferences = ['no.wav']", "no.wav' cannot be read"),
    ("texts = ['a']\nsampling = {temprature = 1}", "temprature: no such option"),
    ("texts = ['a']\nscene = {a = 1}", "scene: takes no table"),
    ("texts = ['a']\npairs = [3]", "pairs: must be tables with reference and text"),
    ("texts = ['a']\nmodel = 'tiny'\nmodels = ['tiny']", "models: the models are given twice"),
    ("texts = ['a']\nsettings = 3", "settings: must be tables"),
    ("texts = ['a']\n[settings.X]\na = 1", "settings: must be AUDIO_GENERATION_CONFIG or"),
    ("texts = ['a']\n[settings.GENERATION_PARAMS]\nheat = 1", "heat: no such option"),
    ("texts = ['a']\n[settings.GENERATION_PARAMS]\ntemperature = 99", "temperature = 99: must be"),
    ("texts = ['a']\nseeds = [1.5]", "seeds: must be a whole number"),
    ("texts = ['a']\nbatch = 'two'", "batch: must be a whole number"),
    ("texts = ['a']\nbudget = {frames = 3}", "budget: .*missing"),
    ("texts = " + "[" * 5000, "is not TOML")])
def test_files_that_are_refused(tmp_path, capsys, text, said):
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(SystemExit) as ended: main(["sweep", str(tmp_path / "grid.toml")])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and re.search(said, error), error


def test_names_in_a_sweeps_own_file_lead_nowhere(make, root):
    made = make()
    text = (made.folder / "sweep.toml").read_text()
    name = next(made.folder.glob("reference_*.wav")).name
    for bad in ("../ada.wav", str(root / "data/voices/ada.wav"), "nowhere.wav"):
        (made.folder / "sweep.toml").write_text(text.replace(name, bad))
        with pytest.raises(vl.VoicelabError, match="not the bare name|No such file"): vl.Sweep(made.folder)


def test_ctrl_c_in_a_trial_is_no_success(whistler, tmp_path, monkeypatch, capsys):
    (tmp_path / "grid.toml").write_text(f"model = {json.dumps(whistler)}\ntexts = {json.dumps(TEXTS)}")
    def interrupted(*given, **options): raise KeyboardInterrupt
    monkeypatch.setattr(Whistler, "clone", interrupted)
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        warnings.simplefilter("ignore")
        main(["sweep", str(tmp_path / "grid.toml"), "--trial", "--json"])
    assert ended.value.code == 130 and json.loads(capsys.readouterr().out.splitlines()[-1])["stop_reason"] == "interrupted"


# Backends

def test_the_pool_gives_every_job_once():
    "Workers that die at random, at any time: each cell comes once, or fails after two crashes."
    for seed in range(60):
        rng = random.Random(seed)
        cells = [SimpleNamespace(name=n, voices=(), text="x", seed=0) for n in range(30)]
        jobs = [backends.Job((cell,)) for cell in cells]
        class Mortal(backends.Worker):
            def give(self, job): assert len(self.held) <= 2
        def listen(workers):
            worker = rng.choice(workers)
            if not worker.ready: return [(worker, "ready", None)]
            if not worker.held: return []
            if rng.random() < 0.1: return [(worker, "lost", "was killed")]
            return [(worker, "made", [backends.Made(worker.held[0].cells[0].name, {"status": "ok"})])]
        made = [*backends.Pool(jobs, Mortal, listen, rng.choice([1, 2, 5])).run()]
        assert sorted(each.cell for each in made) == [*range(30)]
        assert all("workers crashed" in each.row["error"] for each in made if each.row["status"] == "failed")


def test_workers_that_can_not_begin_end_the_run():
    jobs = [backends.Job((type("Cell", (), dict(name="a"))(),))]
    lost = backends.Pool(jobs, backends.Worker, lambda workers: [(workers[0], "lost", "was ended by SIGKILL")], 2)
    with pytest.raises(BackendError, match="workers: 2 crashed while they loaded their model; the last was ended by SIGKILL"): [*lost.run()]
    refused = backends.Pool(jobs, backends.Worker, lambda workers: [(workers[0], "refused", "model: is other")], 2)
    with pytest.raises(BackendError, match="model: is other"): [*refused.run()]


def test_workers_lost_long_after_each_other_do_not_end_a_run():
    "One is lost while it loads; another gets ready; a third is lost while it loads."
    jobs = [backends.Job((SimpleNamespace(name=n, voices=(), text="x", seed=0),)) for n in range(3)]
    fates = iter(["lost", "ready", "lost"])
    def listen(workers):
        worker = workers[-1]
        if not worker.ready: return [(worker, next(fates, "ready"), "was killed")]
        worker.made = getattr(worker, "made", 0) + 1
        if worker.made == 2: return [(worker, "lost", "was killed")]
        return [(worker, "made", [backends.Made(worker.held[0].cells[0].name, {"status": "ok"})])]
    assert sorted(each.cell for each in backends.Pool(jobs, backends.Worker, listen, 1).run()) == [0, 1, 2]


def test_a_job_that_can_not_be_read_ends_the_run(make, monkeypatch):
    monkeypatch.setenv("WHISTLING", "1")
    made = make()
    worker = backends.ProcessWorker(backends.WorkerSetup.of(made.grid), made.grid.labels[0])
    try:
        worker.connection.send_bytes(b"no pickle")
        until, seen = time.monotonic() + 200, []
        while time.monotonic() < until and "refused" not in [event for _, event, _ in seen]: seen += backends.listen_to_processes([worker])
    finally: worker.close()
    assert [event for _, event, _ in seen] == ["ready", "refused"] and seen[1][2].startswith("worker: can't read a job: UnpicklingError")


def test_a_worker_that_ends_before_it_is_told_anything_is_lost_not_an_error(make, monkeypatch):
    real = subprocess.Popen
    def ended(command, **options):
        process = real([sys.executable, "-c", "raise SystemExit('no memory')"], **options)
        process.wait()
        return process
    monkeypatch.setattr(backends.subprocess, "Popen", ended)
    made = make()
    worker = backends.ProcessWorker(WorkerSetup.of(made.grid), made.grid.labels[0])
    try: ((_, event, why),) = backends.listen_to_processes([worker])
    finally: worker.close()
    assert event == "lost" and why.startswith("ended with exit code 1: no memory")


def is_alive(pid):
    "Whether a process is there, and not one that has ended and waits for its parent."
    with suppress(OSError): return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_driver_that_is_killed_takes_its_workers_with_it(make, root, monkeypatch):
    "What was made stays, the workers end, and a second run makes the rest, none twice."
    monkeypatch.setenv("WHISTLING", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), str(root / "tests")]))
    made = make(seeds=range(100))
    code = f"import whistling, voicelab as vl; vl.Sweep({str(made.folder)!r}).run('process', workers=2)"
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 200
    while len(made.samples) < 5 and driver.poll() is None and time.monotonic() < until: time.sleep(0.01)
    driver.kill()
    driver.wait()
    there = len(made.samples)
    host, workers = socket.gethostname(), {row["worker"] for row in made.samples.rows}
    assert 5 <= there < 300 and driver.pid not in workers
    pids = {int(each.removeprefix(f"{host}/")) for each in workers}
    until = time.monotonic() + 30
    while any(map(is_alive, pids)) and time.monotonic() < until: time.sleep(0.05)
    assert not any(map(is_alive, pids))
    assert statuses(made.run()) == {"ok": 300} and not twice(made) and not made.samples.orphans


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    "A folder with texts that kill whoever says them."
    (tmp_path / "deadly").mkdir()
    monkeypatch.setenv("WHISTLING", "1")
    monkeypatch.setenv("DEADLY", str(tmp_path / "deadly"))
    return tmp_path / "deadly"


def test_processes_die_and_the_sweep_goes_on(make, deadly):
    "One text kills a worker once, one kills all; everything else is made, with the codes that it has here."
    (deadly / "once.txt").write_text(TEXTS[0])
    (deadly / "always.txt").write_text("This kills whoever says it.")
    made = make(texts=[*TEXTS, "This kills whoever says it."], seeds=[0]).run("process", workers=2)
    assert statuses(made) == {"ok": 3, "failed": 1} and not twice(made) and not (deadly / "once.txt").exists()
    assert "2 workers crashed while they made it; the last was ended by SIGKILL" in made.table.error.dropna().item()
    (deadly / "always.txt").unlink()
    codes = {row["cell"]: row["hashes"]["codes"] for row in made.samples.rows if row["status"] == "ok"}
    here = make(made.folder.parent / "here", texts=TEXTS, seeds=[0]).run()
    assert {row["cell"]: row["hashes"]["codes"] for row in here.samples.rows} == codes


def test_codes_do_not_depend_on_who_makes_them(make, whistler, tmp_path, monkeypatch, reference):
    "Settings, forms and models, made here one by one, in batches, and in two processes."
    monkeypatch.setenv("WHISTLING", "1")
    given = dict(model=["tiny", whistler], texts=["Blue."], seeds=[0], sampling=["greedy", vl.Sampling(temperature=1.0)],
                 prompt_form=["assistant_ref", "system_ref"])
    ways = [dict(), dict(batch=2), dict(backend="process", workers=2)]
    found = []
    for n, way in enumerate(ways):
        made = make(tmp_path / str(n), **given, batch=way.pop("batch", 1)).run(**way)
        found.append({row["cell"]: row["hashes"]["codes"] if row["status"] == "ok" else row["error"] for row in made.samples.rows})
    assert found[0] == found[1] == found[2] and len(found[0]) == 8


# Measures

def test_measures_are_a_second_pass(make, monkeypatch, tmp_path):
    made = make().run()
    monkeypatch.setattr(Whistler, "clone", None)                            # nothing is generated
    table = made.measure("level", "ended").table
    assert table.level.notna().all() and (table.ended == 1).all()
    lines = (made.folder / "measures.jsonl").read_bytes()
    assert lines.count(b"\n") == 12 and (made.measure("level").folder / "measures.jsonl").read_bytes() == lines
    assert vl.Sweep(made.folder).measure("clipping", "level").table.clipping.notna().all()
    assert (made.folder / "measures.jsonl").read_bytes().count(b"\n") == 18
    monkeypatch.setitem(METRICS, "level", replace(METRICS["level"], model="another-maker"))
    assert "level" not in made.table and made.measure("level").table.level.notna().all()
    with pytest.raises(vl.VoicelabError, match="measures: must be among"): made.measure("beauty")


@pytest.mark.parametrize("line", [
    b"no JSON", b"[]", b'{"sound": "a"}', b"\xff", b"[" * 100_000, b'{"sound": 1, "metric": "level", "maker": "m", "value": 1, "status": "ok"}',
    b'{"sound": "a", "metric": "level", "maker": "m", "value": "1", "status": "ok"}'])
def test_measures_of_strangers_do_not_matter(make, line):
    made = make().run(most=1).measure("level")
    with open(made.folder / "measures.jsonl", "ab") as file: file.write(line + b"\n" + line)
    assert vl.Sweep(made.folder).measure("clipping").table.level.notna().sum() == 1


def test_rows_of_strangers_are_measured_as_far_as_they_can_be(make):
    "One has a stop reason that nobody knows, one no hashes, one a hash that is none."
    made = make().run(most=3)
    lines = [json.loads(line) for line in made.samples.manifest.read_text().splitlines()]
    lines[0]["stop_reason"] = "tired"
    del lines[1]["hashes"]
    lines[2]["hashes"]["generated"] = ["x"]
    made.samples.manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = vl.Sweep(made.folder).measure("level", "ended").table
    assert table.level.notna().tolist() == [True] + 5 * [False] and table.ended.isna().all()


def test_a_maker_is_asked_for_once(make, monkeypatch):
    asked = []
    monkeypatch.setitem(METRICS, "level", replace(METRICS["level"], model=lambda: asked.append(1) or "who-ever"))
    made = make().run()
    asked.clear()
    made.measured.complete([Sample(pair, "", ()) for pair in made], [METRICS["level"]], made.grid.settings)
    assert len(asked) == 1 and (made.folder / "measures.jsonl").read_bytes().count(b"who-ever") >= 6


def test_two_recognisers_are_not_mixed(make, monkeypatch):
    "What was measured without one is measured again, and each table has the values of one."
    heard = lambda name: SimpleNamespace(id=name, hear=lambda audio, code: TEXTS[0] if name == "first" else "Nothing.")
    made = make().run()
    assert made.measure("wer").table.wer.isna().all()
    first = made.measure("wer", recogniser=heard("first")).table.wer
    second = made.measure("wer", recogniser=heard("second")).table.wer
    makers = {key[2] for key in made.measured.values() if key[1] == "wer"}
    assert len(makers) == 3 and {"first", "second"} < makers and first.notna().all() and second.notna().all()
    assert first.tolist()[:2] == [0, 0] and (second > 0).all()


def test_a_distance_to_true_recordings_has_a_recording_for_each_sample(make, voices, tmp_path):
    "Of a test set by voice and text, of a table by text; other recordings are another maker, and some texts have none."
    ada, ben = voices["ada"], voices["ben"]
    said = "".join(json.dumps(dict(file_name=f"{voice.name}.wav", text=voice.transcript, speaker="one", consent="synthetic")) + "\n"
                   for voice in (ada, ben))
    for voice in (ada, ben): voice.audio.save(tmp_path / f"{voice.name}.wav")
    (tmp_path / "list.jsonl").write_text(said)
    tests = TestSet(tmp_path / "list.jsonl").saying()
    made = make(references=tests.references, texts=[ben.transcript, "Nobody says this."], seeds=0).run()
    first = made.measure("cepstral_distance", same_words=tests).table.cepstral_distance
    assert first.notna().tolist() == [True, False, False, False]            # ada has ben's words, and ben not his own
    second = made.measure("cepstral_distance", same_words={ben.transcript: ada.audio}).table.cepstral_distance
    assert second.notna().tolist() == [True, False, True, False] and second[0] != first[0]
    anchors = made.anchors("cepstral_distance", same_words=tests)
    assert anchors["mean"]["the reference"] == 0 < anchors["mean"]["another sentence"]
    for given, why in ((5, "must be a TestSet"), ({"x": ada.audio}, "any of the 2 texts")):
        with pytest.raises(vl.VoicelabError, match=f"same_words: .*{why}"): made.measure("cepstral_distance", same_words=given)


class Short(StopRule):
    "Ends a sample after a few frames."
    name, says, frames = "short", "a few frames are enough", 3

    def __init__(self, control): self.seen = 0

    def see(self, code):
        self.seen += 1
        return self.seen >= self.frames


def test_a_stop_rule_of_ones_own_is_in_the_names_and_needed_to_open_the_folder(make, monkeypatch):
    plain = make()
    monkeypatch.setitem(STOP_RULES, "short", Short)
    with pytest.raises(vl.VoicelabError, match="^own_rules: the sweep was made without the stop rule 'short'"): vl.Sweep(plain.folder)
    made = make(plain.folder.parent / "short")
    assert not set(names(plain)) & set(names(made)) and names(vl.Sweep(made.folder)) == names(made)
    monkeypatch.setattr(Short, "frames", 4)
    with pytest.raises(vl.VoicelabError, match="^own_rules: the stop rule 'short' has changed"): vl.Sweep(made.folder)
    assert not set(names(made)) & set(names(make(plain.folder.parent / "four")))
    monkeypatch.delitem(STOP_RULES, "short")
    with pytest.raises(vl.VoicelabError, match="^own_rules: the sweep was made with the stop rule 'short', which is not here"): vl.Sweep(made.folder)
    assert names(vl.Sweep(plain.folder)) == names(plain)


def test_workers_import_a_rule_of_ones_own_or_refuse_it(make, monkeypatch):
    monkeypatch.setitem(STOP_RULES, "short", Short)
    made = make()
    assert {"whistling", "test_sweep"} <= {*WorkerSetup.of(made.grid).modules}
    for method in (Short.see, Short.__init__): monkeypatch.setattr(method, "__module__", "__main__")
    monkeypatch.setattr(Short, "__module__", "__main__")
    with pytest.raises(BackendError, match="^backend: workers of 'process' can't get a family or rule that was defined in this"): made.run("process")
    assert made.run().table.frames.max() <= 3


def test_the_command_measures_what_asks_a_model_or_true_recordings(make, voices, tmp_path, capsys):
    made = make(texts=TEXTS[0], seeds=0).run()
    voices["ben"].audio.save(tmp_path / "ben.wav")
    (tmp_path / "list.jsonl").write_text(json.dumps(dict(file_name="ben.wav", text=TEXTS[0], consent="synthetic")) + "\n")
    main(["measure", str(made.folder), "--measures", "likelihood_gain", "--speaker", "tiny", "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["measures"]["likelihood_gain"]
    assert found["measured"] == 1 and "/tiny/" in found["maker"]
    with pytest.raises(SystemExit): main(["measure", str(made.folder), "--measures", "cepstral_distance", "--same-words", str(tmp_path / "none")])
    assert "none" in capsys.readouterr().err


def halves(voice): return [voice.altered({"half": n}, audio=voice.audio.slice(n * voice.audio.seconds / 2, (n + 1) * voice.audio.seconds / 2)) for n in (0, 1)]


def test_altered_references_are_columns_and_are_measured_against_the_original(make, voices):
    given = [half for name in ("ada", "ben") for half in halves(voices[name])]
    made = make(references=given).run().measure("similarity")
    table = made.table
    assert [*table.reference.unique()] == ["ada", "ben"] == [*table.speaker.unique()] and [*table.half.unique()] == [0, 1]
    whole = metrics.similarity(made[0].generated, voices["ada"]).value
    assert table.similarity[0] == pytest.approx(whole, abs=1e-6) != metrics.similarity(made[0].generated, given[0]).value
    found = made.compare("half", "similarity").table
    assert found.pairs[1] == 12 and found.speakers[1] == 2
    assert made.anchors("similarity").voices.max() == 2
    again = vl.Sweep(made.folder)
    sources = [[cell.voices[0].source.sha256 for cell in each.grid.cells] for each in (made, again)]
    assert again.table.equals(table) and sources[0] == sources[1]


@pytest.mark.parametrize("change, said", [({"text": 1}, "references: a change has the name 'text', which is another column"),
                                          ({"temperature": 1}, "references: a change has the name 'temperature'")])
def test_a_change_has_a_column_of_its_own(make, reference, change, said):
    with pytest.raises(vl.VoicelabError, match=f"^{said}"):
        make(references=reference.altered(change, audio=reference.audio), sampling=[LOUD, replace(LOUD, temperature=1.0)])


RULE_OF_A_MODULE = """
from voicelab.control import STOP_RULES, StopRule

@STOP_RULES.add
class Short(StopRule):
    name, says = "short", "three frames are enough"
    def __init__(self, control): self.seen = 0
    def see(self, code):
        self.seen += 1
        return self.seen >= 3
"""


def test_a_rule_in_a_module_ends_the_same_samples_in_workers(make, monkeypatch, tmp_path):
    (tmp_path / "rule_of_a_module.py").write_text(RULE_OF_A_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("WHISTLING", "1")
    importlib.import_module("rule_of_a_module")
    try:
        here = make().run()
        there = make(tmp_path / "there").run("process")
    finally:
        del STOP_RULES["short"]
        sys.modules.pop("rule_of_a_module", None)
    codes = [[row.row["hashes"]["codes"] for row in made] for made in (here, there)]
    assert codes[0] == codes[1] and {row.row["stop_reason"] for row in there} == {"short"} and there.table.frames.max() == 3


def test_progress_in_words(make):
    said = []
    make().run(most=2, say=said.append)
    assert [words.split(",")[0] for words in said] == ["0 of 2 cells", "1 of 2 cells", "2 of 2 cells"]
    made, again = make(), []
    made.run(say=again.append)
    assert again[0] == "2 of 6 cells" and statuses(made) == {"ok": 6}


def test_a_test_set_is_an_axis_of_pairs(make, voices):
    "Anything with `reference` and `text`, as the items of a test set; a pair is one level, so nothing is crossed."
    items = [SimpleNamespace(reference=voices["ada"], text=TEXTS[0]), SimpleNamespace(reference=voices["ben"], text=TEXTS[1]), (None, TEXTS[2])]
    source = make().grid.models[0].source
    made = vl.Sweep(make().folder.parent / "pairs", model=source, pairs=items, seeds=[0, 1]).run()
    assert statuses(made) == {"ok": 6} and made.table.reference.tolist() == ["ada", "ada", "ben", "ben", "none", "none"]
    again = vl.Sweep(made.folder)
    assert names(again) == names(made) and again.table.text.tolist() == made.table.text.tolist()


def test_a_large_grid_opens_quickly(make):
    begun = time.process_time()
    large = make(seeds=range(10_000))
    assert len(large) == 30_000 and large.cost.missing == 30_000 and len(large.table) == 30_000
    assert time.process_time() - begun < 20


def test_a_listening_test_pairs_cells_that_differ_in_one_axis_only(make):
    made = make(sampling=[LOUD, replace(LOUD, temperature=1.0)]).run()
    labels = {made[cell.name].row["id"]: cell.labels for cell in made.grid.cells}
    trials = ListeningTest(made, by="temperature").trials
    assert len(trials) == 6 and {len({str(labels[id]["temperature"]) for id in trial.ids}) for trial in trials} == {2}
    assert all(len({repr({**labels[id], "temperature": 0}) for id in trial.ids}) == 1 for trial in trials)
    assert {trial.conditions for trial in ListeningTest(made, "similarity", by="seed").trials} == {("0",), ("1",)}
    axes = "model, reference, temperature, text, seed"
    with pytest.raises(ListeningError, match=f"^by: must be the axis of the sweep to ask about, one of {axes}; got 'prompt_form'$"):
        ListeningTest(made, by="prompt_form")
    assert ListeningTest(made.folder, "similarity", listener="of a folder").by == "temperature"
    fewer = make(sampling=[LOUD, replace(LOUD, temperature=1.0)], texts=TEXTS[:1], seeds=[0])
    assert len(ListeningTest(fewer, by="temperature", listener="second").trials) == 1


def test_a_reference_is_read_once_by_the_network(voices, tmp_path):
    model = vl.load("tiny")
    made = vl.Sweep(tmp_path / "once", model=model, references=[voices["ada"], voices["ben"]], texts=["One.", "Two."], seeds=[70, 71]).run()
    assert statuses(made) == {"ok": 8} and model.prefixes.read == 2
