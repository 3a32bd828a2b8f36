"Runs: names, lines, bad folders, full disks, many writers, and death at every step."
import errno
import fcntl
import hashlib
import json
import os
import resource
import signal
import stat
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import voicelab
from voicelab import runs, store, watermark
from voicelab.audio import Audio, load_audio, read_info
from voicelab.budget import make_budget
from voicelab.control import Control, Sampling
from voicelab.errors import VoicelabError
from voicelab.files import safe_name
from voicelab.generation import Generation, ModelInfo
from voicelab.manifest import plain
from voicelab.pairs import RunError
from voicelab.reference import Reference
from voicelab.runs import Run
from voicelab.settings import SettingsError
from voicelab.watermark import WatermarkError, find_watermark, marks_of, watermarked

TEXT = "Seven grey geese fly."
KEYS = {"id", "status", "generated", "reference", "text", "transcript", "language", "speaker", "prompt_form", "settings",
        "seed", "stop_reason", "seconds", "frames", "rtf", "measures", "hashes", "model", "versions", "consent", "notice",
        "synthetic", "created", "chunks", "torch_threads", "speaks", "written", "warm_up", "watermark", "watermark_detail"}


def tone(pitch=150, seconds=0.6, rate=16_000):
    time = np.arange(int(seconds * rate)) / rate
    return Audio((0.3 * np.sin(2 * np.pi * pitch * time) * np.sin(9 * time) ** 2).astype(np.float32), rate)


def sample(text=TEXT, reference="given", seed=0, **changes):
    "A generation made by hand."
    reference = Reference(tone(200, 0.8), transcript="Two owls.", consent="synthetic", name="Anna", remarks=()) if reference == "given" else reference
    fields = dict(text=text, audio=tone(), codes=torch.zeros(8, 15, dtype=torch.long), reference=reference,
                  prompt=SimpleNamespace(form="assistant_ref"), budget=make_budget(TEXT), sampling=Sampling(seed=seed),
                  control=Control(), stop_reason="eos", trace=pd.DataFrame(), timings={"rtf": 0.5, "total": 0.3},
                  model=ModelInfo("hand", "demo", "1", "ab" * 32, "none", "Apache-2.0"))
    return Generation(**fields | changes)


@pytest.fixture(scope="module")
def measured():
    "A generation whose report is there already, so that forked children need no torch."
    generation = sample()
    generation.report()
    return generation


@pytest.fixture
def run(tmp_path): return Run(tmp_path / "run")


def strict_lines(run):
    "Every line of the manifest, as a strict reader sees it; the last may be torn by a death but no other."
    refuse = lambda constant: pytest.fail(f"{constant} is not JSON")
    data = run.manifest.read_bytes() if run.manifest.exists() else b""
    return [json.loads(line, parse_constant=refuse) for line in data.split(b"\n")[:-1]]


def check_whole(run):
    "Every line's files exist, load whole and have the hash of the line; ids are distinct."
    rows = strict_lines(run)
    for row in rows:
        for kind in ("generated", "reference"):
            path = run.folder / row[kind]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == row["hashes"][kind]
            assert load_audio(path, limit_seconds=None).seconds == (0.6 if kind == "generated" else 0.8)
    assert len({row["id"] for row in rows}) == len(rows)
    return rows


def check_clean(run):
    "Nothing but whole pairs, their lines and an empty stage."
    rows = check_whole(run)
    assert run.orphans == []
    files = {row[kind] for row in rows for kind in ("generated", "reference")}
    assert {path.name for path in run.folder.iterdir()} - files <= {"manifest.jsonl", "manifest.torn", ".lock", ".stage"}
    assert list((run.folder / ".stage").iterdir()) == []
    return rows


def recovered(folder):
    "The run in a folder after the next writer has come."
    run = Run(folder)
    run.check_room()
    return run


def forked(work):
    "Run `work` in a child process; returns its pid. The child's exit status is 0 when `work` returns."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)     # Python >= 3.12 warns of forking with threads
        pid = os.fork()
    if pid: return pid
    status = 1
    try:
        work()
        status = 0
    finally: os._exit(status)


def status_of(pid): return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# What is saved

def test_a_pair_has_the_contracts_names_and_sounds(run):
    pair = run.save(sample())
    assert [pair.row[kind] for kind in ("generated", "reference")] == ["english_generated_000_Anna.wav", "english_generated_000_Anna_ref.wav"]
    assert np.abs(pair.generated.samples - tone().samples).max() < 1e-4
    assert np.abs(pair.reference.samples - tone(200, 0.8).samples).max() < 1e-4
    assert run.save(sample(), speaker="Bo", language="arabic").row["generated"] == "arabic_generated_001_Bo.wav"
    assert run.save(sample("هذا نص قصير")).row["language"] == "arabic"
    check_clean(run)


@pytest.mark.parametrize("gain", [0.02, 1.0, 5.0], ids=["quiet", "usual", "over full scale"])
def test_the_saved_reference_is_the_reference_sample_for_sample(run, gain):
    samples = np.append(tone(200, 0.8).samples, np.float32([-0.0, 1e-40, 1 / 3])) * np.float32(gain)
    given = Reference(Audio(samples, 16_000), transcript="Two owls.", consent="synthetic")
    pair = run.save(sample(reference=given))
    again = Reference(pair.path("reference"))
    assert again.audio.samples.tobytes() == samples.tobytes() and again.sha256 == given.sha256 == pair.row["hashes"]["voice"]
    assert pair.reference.samples.tobytes() == samples.tobytes()
    assert soundfile.info(pair.path("generated")).subtype == "PCM_16" and soundfile.info(pair.path("reference")).subtype == "FLOAT"
    assert read_info(pair.path("reference"))["ICMT"].startswith("Reference recording")


def test_what_can_not_be_measured_is_saved_all_the_same(run, monkeypatch):
    def broken(self): raise SettingsError("settings.ini: [quality] max_silence_ratio:\nnot a number")
    monkeypatch.setattr(Generation, "report", broken)
    pair = run.save(sample())
    assert pair.row["measures"] == {"error": "SettingsError: settings.ini: [quality] max_silence_ratio: not a number"}
    assert pair.row["status"] == "ok" and pair.generated.seconds == 0.6
    assert run.table.loc[0, "error"].startswith("SettingsError") and "eos" in run._repr_html_()
    check_clean(run)


def test_a_bug_in_a_measure_leaves_its_traceback(run, monkeypatch, tmp_path):
    def broken(self): raise IndexError("of a frame")
    monkeypatch.setattr(Generation, "report", broken)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run.save(sample())
    report, = tmp_path.glob("voicelab-bug-*")
    assert run.rows[0]["measures"]["error"].startswith("IndexError: of a frame; a bug in voicelab") and str(report) in run.rows[0]["measures"]["error"]
    assert "in broken" in report.read_text()


def test_a_line_has_everything_to_repeat_the_sample(run):
    generation = sample(seed=7)
    run.save(generation)
    row, = strict_lines(run)
    assert set(row) == KEYS and next(iter(row)) == "id"
    assert row["text"] == TEXT and row["transcript"] == "Two owls." and row["seed"] == 7 and row["stop_reason"] == "eos"
    assert row["settings"]["sampling"] == asdict(generation.sampling) and row["settings"]["control"] == asdict(generation.control)
    assert row["settings"]["budget"]["frames"] == generation.budget.frames
    assert row["model"] == asdict(generation.model) and row["hashes"]["model"] == "ab" * 32
    assert row["hashes"]["voice"] == generation.reference.sha256
    assert row["measures"] == generation.report().to_dict()
    assert (row["seconds"], row["frames"], row["rtf"], row["synthetic"]) == (0.6, 15, 0.5, True)
    assert set(row["versions"]) == {"voicelab", "python", "torch", "transformers"}
    assert row["created"].endswith("+00:00")


def test_wav_files_say_what_they_are(run):
    pair = run.save(sample())
    generated, reference = (read_info(pair.path(kind)) for kind in ("generated", "reference"))
    assert generated == {"ISFT": f"voicelab {voicelab.__version__}", "ICOP": "Consent of the reference speaker: synthetic",
                         "ICMT": "AI-generated (synthetic) speech; model hand; run sample 0", "INAM": "AI-generated (synthetic) speech"}
    assert reference["ICMT"].startswith("Reference recording") and reference["ICOP"] == generated["ICOP"]
    assert pair.generated.synthetic and not pair.reference.synthetic


def test_a_pair_that_is_read_and_saved_again_says_the_same(run, tmp_path):
    pair = run.save(sample())
    for kind in ("generated", "reference"):
        for ending in ("wav", "flac", "ogg", "mp3"):
            assert read_info(getattr(pair, kind).save(tmp_path / f"again.{ending}")) == read_info(pair.path(kind))


def test_a_clone_of_a_clone_is_synthetic_on_both_sides(run):
    first = Reference(run.save(sample()).path("generated"), transcript=TEXT, consent="synthetic")
    pair = run.save(sample(reference=first))
    assert pair.generated.synthetic and pair.reference.synthetic and "AI-generated" in repr(first)
    assert read_info(pair.path("reference"))["ICMT"] == ("AI-generated (synthetic) speech; model hand; run sample 0; "
                                                         "Reference recording of a voice; the input of a generation")
    assert Reference(pair.path("reference"), consent="synthetic").sha256 == first.sha256


def test_consent_that_is_not_stated_shows_a_notice(run):
    with warnings.catch_warnings(record=True) as caught:                # when the reference is made, and never again
        warnings.simplefilter("always")
        generation = sample(reference=Reference(tone(200, 0.8), transcript="Two owls.", remarks=()))
    generation.report()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pair = run.save(generation)
        run.save(sample())
    assert [str(warning.message) for warning in caught] == [generation.reference.notice] and caught[0].filename == __file__
    assert pair.row["consent"] == "not stated" and pair.row["notice"]
    assert pair.row["notice"].split(":")[0].replace("'", "&#x27;") in run._repr_html_()


def test_without_a_reference_there_is_no_reference_file(run):
    pair = run.save(sample(reference=None))
    assert pair.row["reference"] is None and pair.reference is None and pair.row["consent"] is None
    assert pair.row["generated"] == "english_generated_000_no_reference.wav" and len(list(run.folder.glob("*.wav"))) == 1
    assert "ICOP" not in read_info(pair.path("generated"))
    assert pair.row["measures"]["similarity"]["status"] == "unavailable"


def test_a_generation_without_a_frame_has_a_row_and_no_file(run):
    empty = Audio(np.zeros(0, np.float32), 16_000)
    pair = run.save(sample(audio=empty, codes=torch.zeros(8, 0, dtype=torch.long), stop_reason="interrupted"))
    assert pair.row["generated"] is None and pair.row["status"] == "ok" and pair.row["seconds"] == 0
    assert pair.row["reference"] and "none" in pair._repr_html_() and "None" in repr(pair)


def test_chunks_keep_their_prompts_and_stop_reasons(run):
    given, budget = SimpleNamespace(text="<|begin_of_text|>A scene."), make_budget("One.")
    chunks = [SimpleNamespace(text="One.", prompt=given, budget=budget, codes=torch.zeros(8, 4), stop_reason="eos"),
              SimpleNamespace(text="Two.", prompt=given, budget=budget, codes=None, stop_reason=None)]
    assert run.save(sample(chunks=chunks)).row["chunks"] == [
        {"text": "One.", "prompt": given.text, "frames": 4, "stop_reason": "eos", "cap_frames": budget.frames},
        {"text": "Two.", "prompt": given.text, "frames": 0, "stop_reason": None, "cap_frames": budget.frames}]


@pytest.mark.parametrize("text", ["line\nbreaks\r\n", "\u2028 \u2029 \x85", '"quotes" \\ </td>', "مَرْحَبًا", "\ud800 alone", "x" * 100_000, "🦉"])
def test_any_text_survives(run, text):
    run.save(sample(text))
    run.save_failure(text, "no reason")
    assert [row["text"] for row in strict_lines(run)] == [text, text]
    assert "</td></td>" not in run._repr_html_()


def test_values_become_plain():
    found = plain({"a": np.float32(1.5), "b": np.int64(2), "c": np.bool_(True), "d": float("nan"), "e": (1, None), "f": errno, 3: Path("x")})
    assert found == {"a": 1.5, "b": 2, "c": True, "d": None, "e": [1, None], "f": str(errno), "3": "x"}
    assert plain(torch.arange(2)) == [0, 1] and plain(Sampling(seed=1))["seed"] == 1


# Names

NAMES = ["", " ", ".", "..", "/", "\0", "../../etc/passwd", "a/b", "a\\b", "C:\\x", "x\0y", "con\n", "\x1b[0m", "\u202eevil", "\ud800", ".hidden",
         "-rf", "~", "a_ref", "A" * 10_000, "声" * 300, "مريم", "a..b", "*?", "<b>", "_ref", "é" * 200]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_speaker_name_never_leaves_the_folder(run, name):
    pair = run.save(sample(), speaker=name, language=name)
    for kind in ("generated", "reference"):
        assert pair.path(kind).resolve().parent == run.folder.resolve() and pair.path(kind).exists()
        assert len(pair.row[kind].encode()) <= 255 and ".." not in pair.row[kind] and not pair.row[kind].startswith((".", "-"))
    assert pair.row["generated"].count("_ref.wav") == 0 and pair.row["reference"].endswith("_ref.wav")
    assert strict_lines(run)[0]["speaker"] == (name or "Anna")      # the row keeps the name as it was given
    check_clean(run)


@pytest.mark.parametrize("name", ["x_generated_999999_y", "english_generated_057_ada", "_generated_", "_generated_generated_77_"])
def test_a_name_like_a_file_name_makes_no_id_jump(run, name):
    for id in range(3): assert run.save_failure("x", "y").row["id"] == 2 * id and run.save(sample(), speaker=name, language=name).row["id"] == 2 * id + 1
    run.manifest.unlink()       # now the files alone must tell
    assert run.save(sample()).row["id"] == 6


def test_safe_names_are_short_plain_and_stable():
    for name in NAMES:
        assert 1 <= len(safe_name(name).encode()) <= 80 and safe_name(safe_name(name)) == safe_name(name)
    assert safe_name("Anna Maria") == "Anna_Maria" and safe_name("") == "speaker" and safe_name(12) == "12"


# Failures, reading

def test_a_failed_sample_is_a_row(run):
    pair = run.save_failure("", ValueError("text: empty\nor blank"), reference=sample().reference, seed=3, settings={"a": float("inf")})
    assert (pair.row["status"], pair.row["error"], pair.row["seed"]) == ("failed", "ValueError: text: empty or blank", 3)
    assert pair.generated is None and pair.row["settings"] == {"a": None} and pair.row["consent"] == "synthetic"
    run.save(sample())
    assert run.table.status.tolist() == ["failed", "ok"] and run.table.id.tolist() == [0, 1] and len(run) == 2
    assert "1 failed" in run._repr_html_()
    with pytest.raises(VoicelabError, match="context: error?|context: id"): run.save_failure("x", "y", id=3)
    assert run.save_failure(None, "no text at all").row["text"] is None


def test_the_table_has_the_settings_and_hides_nothing(run):
    run.save(sample(sampling=Sampling(temperature=0.4, top_k=None, seed=7), budget=make_budget(TEXT, rule="fixed")))
    run.save_failure("x", "busy", settings=dict(sampling="hot", budget=dict(rule=[1], margin=True)))
    first, second = run.table.to_dict("records")
    assert (first["rule"], first["temperature"], first["top_p"], first["ras_window"], first["seed"]) == ("fixed", 0.4, 0.95, 7, 7)
    assert all(map(pd.isna, (first["top_k"], second["rule"], second["temperature"])))
    shown = run.table._repr_html_()
    assert all(f"<th>{name}</th>" in shown for name in run.table.columns) and "<th>...</th>" not in shown and "..." not in repr(run.table[["id", "rule"]])
    assert type(run.table[["id"]]) is pd.DataFrame


def test_a_sample_is_saved_with_more_to_keep_but_not_in_place_of_its_own(run):
    assert run.save(sample(), knobs=dict(rule="fixed", most=300)).row["knobs"] == dict(rule="fixed", most=300)
    for clash in (dict(seed=3), dict(id=3), dict(measures={})):
        with pytest.raises(VoicelabError, match="context: (seed|id|measures) can't be set here"): run.save(sample(), **clash)
    assert len(run) == 1


def test_a_file_beside_the_samples_grows_from_what_it_has(run, tmp_path):
    for word in (b"a", b"b"): path = run.rewrite("notes", lambda before, word=word: before + word)
    assert path.read_bytes() == b"ab"
    (elsewhere := tmp_path / "elsewhere").write_bytes(b"mine")
    (run.folder / "link").symlink_to(elsewhere)
    assert run.rewrite("link", lambda before: before + b"c").read_bytes() == b"c" and elsewhere.read_bytes() == b"mine"
    def broken(before): raise ValueError("no")
    with pytest.raises(ValueError): run.rewrite("notes", broken)
    assert path.read_bytes() == b"ab" and run.save(sample()).row["id"] == 0


def test_table_has_measures_as_columns_and_is_there_when_empty(run):
    assert len(run.table) == 0 and {"id", "similarity"} - set(run.table.columns) == {"similarity"}
    run.save(sample())
    assert run.table.loc[0, "length"] == 0.6 and run.table.loc[0, "model"] == "hand"
    assert [pair.row["id"] for pair in run] == [0] and "1 sample)" in repr(run)
    with pytest.raises(RunError, match="id: 5 is not among the 1 samples"): run[5]


def test_html_escapes_and_a_missing_file_is_said(run):
    pair = run.save(sample("<script>alert(1)</script>"), speaker="<b>")
    assert "<script>" not in pair._repr_html_() and "<b>&lt;" not in pair._repr_html_()
    pair.path("generated").unlink()
    assert "No such file" in run._repr_html_()


def test_orphans_are_reported_kept_and_never_overwritten(run):
    run.save(sample())
    lost = run.folder / "english_generated_007_Anna.wav"
    tone().save(lost)
    tone().save(run.folder / "notes.wav")
    os.utime(run.folder)                                    # on some kernels two changes within a tick leave the same time
    assert Run(run.folder).orphans == [lost] and "1 sounds without a line" in run._repr_html_()
    assert run.save(sample()).row["id"] == 8 and lost.exists()


def test_a_line_that_is_not_json_is_a_row_that_says_so(run):
    run.save(sample())
    with open(run.manifest, "ab") as file: file.write(b"not json\n")
    assert [row["status"] for row in run.rows] == ["ok", "unreadable"] and "line 2 of manifest.jsonl is not JSON" in run.rows[1]["error"]
    assert run.save(sample()).row["id"] == 1 and len(Run(run.folder)) == 3       # saving goes on


def test_a_torn_last_line_is_set_aside(run):
    run.save(sample())
    with open(run.manifest, "ab") as file: file.write(b'{"id": 1, "te')
    assert len(run) == 1
    again = Run(run.folder)
    assert len(again) == 1 and not (run.folder / "manifest.torn").exists()      # reading leaves it alone
    assert again.save(sample()).row["id"] == 1
    assert (run.folder / "manifest.torn").read_bytes() == b'{"id": 1, "te\n'
    check_clean(run)


# Manifests from elsewhere

def test_blank_lines_and_compact_json_are_read_and_ids_go_on(run):
    for _ in range(2): run.save(sample())
    compact = [json.dumps(row, separators=(",", ":"), sort_keys=True) for row in run.rows]      # as `jq -cS .` writes
    run.manifest.write_text("\n" + "\n \r\n".join(compact) + "\n\n")
    assert [row["id"] for row in Run(run.folder).rows] == [0, 1]
    for path in run.folder.glob("*.wav"): path.unlink()     # the lines alone must tell
    assert run.save(sample()).row["id"] == 2 and len(run.table) == 3


def test_a_last_line_without_its_line_end_is_a_sample(run):
    run.save(sample())
    run.manifest.write_bytes(run.manifest.read_bytes()[:-1])
    assert len(Run(run.folder)) == 1 and not run.manifest.read_bytes().endswith(b"\n")
    assert run.save(sample()).row["id"] == 1 and not (run.folder / "manifest.torn").exists()
    assert len(check_clean(run)) == 2


@pytest.mark.parametrize("line, said", [("[1]", "is not a sample, but JSON of type list"), ("{", "is not JSON"), ("7", "of type int"),
                                        ('{"id": 4}', "is not a sample: it lacks status, generated"), ('{"status": []}', "lacks id"),
                                        ('{"id": Infinity}', "lacks status"), ('{"id": []}', "lacks status"),
                                        ('{"id": ' * 100_000, "nested too deeply"), ('{"id": 1' + "0" * 5000 + "}", "is not JSON")])
def test_a_foreign_line_is_a_row_that_says_so_and_all_others_are_usable(run, line, said):
    run.save(sample())
    with open(run.manifest, "a") as file: file.write(f"\n{line}\n")
    again = Run(run.folder)
    assert (len(again), [pair.row["id"] for pair in again], again[0].generated.seconds, again.orphans) == (2, [0, None], 0.6, [])
    assert again.table.status.tolist() == ["ok", "unreadable"] and "1 lines that can&#x27;t be read" in again._repr_html_().replace("'", "&#x27;")
    error = again.rows[1]["error"]
    assert error.startswith("line 3 of manifest.jsonl ") and said in error and len(error.splitlines()) == 1
    assert run.save(sample()).row["id"] == 1 and len(run) == 3
    with pytest.raises(RunError, match="id: must be a whole number, got None"): run[None]


WRONG = [dict(id=[0]), dict(id=True), dict(id=-1), dict(id=10**240), dict(id=0.5), dict(status=7), dict(text=["a"]), dict(seconds="1"), dict(seconds=None),
         dict(stop_reason={}), dict(measures=[1]), dict(model="tiny"), dict(hashes=None), dict(speaker=3), dict(notice=[]), dict(generated=5),
         dict(generated="../x.wav"), dict(reference="/etc/passwd"), dict(generated=".stage"), dict(consent=1), dict(chunks={}), dict(language=None)]


@pytest.mark.parametrize("changes", WRONG, ids=str)
def test_wrong_types_are_rows_that_say_so(run, changes):
    run.save(sample())
    row = run.rows[0] | {"id": 1} | changes
    with open(run.manifest, "ab") as file: file.write(json.dumps(row).encode() + b"\n")
    again = Run(run.folder)
    assert again.table.status.tolist() == ["ok", "unreadable"] and next(iter(changes)) in again.rows[1]["error"] or "bare name" in again.rows[1]["error"]
    assert again._repr_html_() and repr(list(again)) and again.save(sample()).row["id"] in (1, 2)


def test_measures_of_any_shape_make_a_table(run):
    run.save(sample())
    strange = {"similarity": {"no value": 1}, "wer": [1, 2], "id": {"value": 9}, "error": "broke", "level": {"value": {"deep": 1}}}
    row = run.rows[0] | {"id": 1, "measures": strange}
    with open(run.manifest, "ab") as file: file.write(json.dumps(row).encode() + b"\n")
    assert run.table.id.tolist() == [0, 1] and run.table.error.tolist()[1] == "broke" and run._repr_html_()


# Bad folders

def test_a_folder_that_is_a_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for folder, reason in ((file, "is a file, not a folder"), (file / "deeper", "lies under a file"), ("a\0b", "null byte"),
                           (tmp_path / ("n" * 300), "File name too long")):
        with pytest.raises(RunError, match=reason) as caught: Run(folder)
        assert len(str(caught.value).splitlines()) == 1
    assert file.read_text() == "mine"
    with pytest.raises(RunError, match="must not be empty"): Run("")


def test_a_change_of_folder_does_not_move_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run = Run("here")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    assert run.save(sample()).path("generated").exists() and run.folder == tmp_path / "here" and len(run) == 1
    assert Run("~/mine").folder == tmp_path / "home" / "mine" and list((tmp_path / "there").iterdir()) == []


def test_an_existing_run_is_read_without_writing(run, measured, monkeypatch):
    "Not even what a dead writer left changes that; on a folder that can be written to it is then recovered."
    run.save(measured)

    def work():
        disturb(monkeypatch, 1, lambda *_: os.kill(os.getpid(), signal.SIGKILL), ["rename"])
        run.save(measured)
    assert status_of(forked(work)) == -signal.SIGKILL
    listing = lambda: sorted((path.name, path.stat().st_mtime_ns) for path in run.folder.rglob("*"))
    before = listing()

    def read_only(path, mode="r", *args, **kwargs):
        if set(mode) & set("wax+"): raise OSError(errno.EROFS, "Read-only file system")
        return original(path, mode, *args, **kwargs)
    original = open
    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", read_only)
        for name in ("mkdir", "rename", "unlink"): patched.setattr(os, name, lambda *_, **__: pytest.fail("written"))
        again = Run(run.folder)
        assert (len(again), len(again.table), again[0].generated.seconds, len(list(again))) == (1, 1, 0.6, 1) and again._repr_html_()
    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", read_only)
        for write in (again.check_room, lambda: again.save(measured)):
            with pytest.raises(RunError, match="is on a read-only disk"): write()
    assert listing() == before
    assert len(Run(run.folder)) == 1 and listing() == before        # opening for reading recovers nothing
    assert len(check_clean(recovered(run.folder))) == 2


def test_opening_a_run_that_another_process_writes_to_does_not_wait(run, measured):
    run.save(measured)
    (run.folder / ".stage" / "generated.wav").write_bytes(b"being written")
    with open(run.folder / ".lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert len(Run(run.folder)) == 1 and (run.folder / ".stage" / "generated.wav").exists()


def test_waiting_for_a_lock_is_said_once(run, measured, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE_SECONDS", 0)     # however slow the machine, the lock is held when it is asked for
    other = open(run.folder / ".lock", "ab")
    fcntl.flock(other, fcntl.LOCK_EX)
    timer = threading.Timer(0.4, other.close)
    timer.start()
    with pytest.warns(UserWarning, match="is locked by another process") as caught: pair = run.save(measured)
    timer.join()
    assert pair.row["id"] == 0 and len(caught) == 1 and str(run.folder) in str(caught[0].message) and caught[0].filename == __file__


def test_missing_parents_are_made_and_files_are_readable_as_usual(tmp_path):
    pair = Run(tmp_path / "a" / "b ج").save(sample())
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(pair.path("generated").stat().st_mode) == 0o666 & ~mask


def test_a_private_run_is_for_its_owner_only(tmp_path):
    run = Run(tmp_path / "mine", private=True)
    run.save(sample())
    again = Run(run.folder)                 # a later writer keeps it so
    again.save(sample())
    with open(run.manifest, "ab") as file: file.write(b"torn")
    again.save_failure("x", "y")
    assert again.private and stat.S_IMODE(run.folder.stat().st_mode) == 0o700
    for path in run.folder.rglob("*"): assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert not Run(tmp_path / "usual").private


def test_a_read_only_folder_when_not_root():
    "The real thing: as an ordinary user, which a child of root becomes."
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)

    def work():
        try:
            if os.geteuid() == 0: os.setgid(65534), os.setuid(65534)
        except OSError: os._exit(77)
        with pytest.raises(RunError, match="is read-only for this user"): Run(folder)
        with pytest.raises(RunError, match="is read-only for this user"): Run(folder / "new")
    status, left = status_of(forked(work)), list(folder.iterdir())
    folder.rmdir()
    if status == 77: pytest.skip("root may not become another user here")
    assert status == 0 and left == []


@pytest.mark.parametrize("code,reason", [(errno.EROFS, "read-only disk"), (errno.EACCES, "read-only for this user"), (errno.EPERM, "read-only"),
                                         (errno.ENOSPC, "no space left"), (errno.EDQUOT, "quota"), (errno.EIO, "failed: ")])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "mkdir"])
def test_opening_says_what_the_system_says(tmp_path, monkeypatch, call, code, reason):
    def refuse(*_, **__): raise OSError(code, os.strerror(code))
    with monkeypatch.context() as patched:
        patched.setattr({"open": "tempfile.TemporaryFile", "mkdir": "pathlib.Path.mkdir"}.get(call, f"os.{call}"), refuse)
        with pytest.raises(RunError, match=reason) as caught: Run(tmp_path / "run")
    assert str(tmp_path) in str(caught.value) and len(str(caught.value).splitlines()) == 1


CALLS = ("write", "fsync", "rename", "replace", "truncate", "ftruncate")


def disturb(monkeypatch, at, act, calls=CALLS):
    "Call `act(original, *args)` in the place of the `at`-th of the system calls named; returns a counter."
    count = [0]

    def wrap(original):
        def called(*args, **kwargs):
            count[0] += 1
            return act(original, *args) if count[0] == at else original(*args, **kwargs)
        return called
    for name in calls: monkeypatch.setattr(os, name, wrap(getattr(os, name)))
    return count


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_an_error_at_any_step_of_saving_loses_nothing_and_leaves_nothing(run, measured, monkeypatch, code):
    run.save(measured)
    failures = 0
    for at in range(1, 40):
        before = run.manifest.read_bytes()

        def refuse(*_): raise OSError(code, os.strerror(code))
        with monkeypatch.context() as patched:
            count = disturb(patched, at, refuse)
            try: run.save(measured)
            except RunError as error: assert str(run.folder) in str(error)
            else: break
        failures += 1
        assert run.manifest.read_bytes() == before
        check_clean(run)
    assert failures >= 7 and count[0] < at
    assert run.save(measured).row["id"] == 2 and len(check_clean(run)) == 3


def test_a_short_write_then_a_full_disk_takes_the_line_back(run, measured, monkeypatch):
    run.save(measured)
    before, write = run.manifest.read_bytes(), os.write
    calls = []

    def half(fd, data):
        calls.append(len(data))
        if len(calls) == 1: return write(fd, data[:len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        with pytest.raises(RunError, match="no space left"): run.save(measured)
    assert len(calls) == 2 and run.manifest.read_bytes() == before
    check_clean(run)


def test_a_file_size_limit_is_one_clear_line(run, measured):
    run.save(measured)

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with pytest.raises(RunError, match="may not hold a file of this size; nothing was saved, but the generation is still in memory"):
            run.save(measured)
    assert status_of(forked(work)) == 0
    assert len(check_clean(run)) == 1


# Many writers, and death

def test_two_processes_lose_nothing(run, measured):
    def work():
        mine = Run(run.folder)
        for _ in range(50): mine.save(measured)
    children = [forked(work) for _ in range(2)]
    while any(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None for pid in children):
        for row in run.rows[-3:]: assert run[row["id"]].generated.seconds == 0.6      # reading at the same time
        time.sleep(0.02)
    assert [status_of(pid) for pid in children] == [0, 0]
    assert sorted(row["id"] for row in check_clean(run)) == list(range(100))


def test_death_before_any_step_leaves_whole_pairs_and_whole_lines(run, measured, monkeypatch):
    "The child dies before its 1st, 2nd, ... system call, until it gets through."
    run.save(measured)
    for at in range(1, 40):
        known = len(run)

        def work():
            disturb(monkeypatch, at, lambda *_: os.kill(os.getpid(), signal.SIGKILL), (*CALLS, "unlink"))
            run.save(measured)
        status = status_of(forked(work))
        check_whole(run)
        again = recovered(run.folder)
        assert len(check_clean(again)) in (known, known + 1)
        if status == 0: break
        assert again.save(measured).row["id"] == len(again) - 1
    assert status == 0 and at > 8


@pytest.mark.parametrize("dies, there", [("before its line is staged", 1), ("after its line is staged", 2), ("after its line is in the manifest", 2)])
def test_a_sample_whose_save_was_cut_off_is_there_twice_if_it_is_repeated_without_a_look(run, measured, monkeypatch, dies, there):
    "Once its line is staged a sample is saved, whether or not its writer lives to hear of it."
    die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    def work():
        name = {"before its line is staged": "_put_on_stage", "after its line is staged": "_publish",
                "after its line is in the manifest": "_note_next_id"}[dies]
        monkeypatch.setattr(Run, name, die)
        run.save(measured, speaker="Bo")
    assert status_of(forked(work)) == -signal.SIGKILL
    again = recovered(run.folder)
    assert ["Bo" for row in again.rows if row["speaker"] == "Bo"] == ["Bo"] * (there - 1)       # a writer that looks finds it
    again.save(measured, speaker="Bo")
    assert [row["speaker"] for row in check_clean(again)] == ["Bo"] * there


def test_death_while_a_failed_sample_is_taken_back(run, measured, monkeypatch):
    "The disk is full when the sounds are to be renamed; the child dies while it tidies up."
    run.save(measured)

    def work():
        def refuse(*_): raise OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr(os, "rename", refuse)
        disturb(monkeypatch, at, lambda *_: os.kill(os.getpid(), signal.SIGKILL), ["unlink"])
        with pytest.raises(RunError, match="no space left"): run.save(measured)
    for at in range(1, 20):
        status = status_of(forked(work))
        check_clean(recovered(run.folder))
        if status == 0: break
    assert status == 0 and at > 5


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_death_inside_a_write(run, measured, monkeypatch, share):
    "A kill can stop a write after some of its pages; the line is then torn, and published again from the stage."
    run.save(measured)
    appended = run.manifest.stat().st_ino

    def tear(original, fd, data):
        original(fd, data[:int(len(data) * share)])
        os.kill(os.getpid(), signal.SIGKILL)

    def work():
        write = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: tear(write, fd, data) if os.fstat(fd).st_ino == appended else write(fd, data))
        run.save(measured)
    assert status_of(forked(work)) == -signal.SIGKILL
    assert len(run) == 1
    assert len(check_clean(recovered(run.folder))) == 2


def test_a_child_forked_during_a_save_does_not_keep_the_lock(run, measured):
    "The lock ends with the save, though the child still has its file."
    children, put = [], Run._put_on_stage

    def fork_then_put(self, row, sounds):
        children.append(forked(lambda: time.sleep(600)))
        return put(self, row, sounds)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Run, "_put_on_stage", fork_then_put)
        run.save(measured)
    run.save(measured)
    asleep = [os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None for pid in children]
    assert asleep == [True] and len(check_clean(run)) == 2
    for pid in children: os.kill(pid, signal.SIGKILL), os.waitpid(pid, 0)


def test_saving_takes_as_long_in_a_long_run_as_in_a_short_one(tmp_path, measured, monkeypatch):
    "What is read of the manifest does not grow with it: a save after a save reads nothing but the end."
    run = Run(tmp_path / "long")
    run.save(measured)
    line = json.loads(run.manifest.read_bytes())
    with open(run.manifest, "ab") as file:
        for id in range(1, 5000): file.write(json.dumps(line | {"id": id, "generated": None, "reference": None}).encode() + b"\n")
    assert Run(run.folder).save(measured).row["id"] == 5000       # counted once, since somebody else had written
    counted = lambda self: pytest.fail("all lines were read again")
    with monkeypatch.context() as patched:
        patched.setattr(store.Lines, "refresh", counted)
        assert Run(run.folder).save(measured).row["id"] == 5001
    again = Run(run.folder)
    assert len(again) == 5002 and again[4999].row["id"] == 4999
    with monkeypatch.context() as patched:
        patched.setattr(store.Lines, "_read", counted)
        assert again[17].row["id"] == 17 and len(again) == 5002
    assert len(again._repr_html_()) < 3e5


def test_a_manifest_that_was_changed_by_hand_is_read_anew(run):
    for _ in range(3): run.save_failure("x", "y")
    assert len(run) == 3
    lines = run.manifest.read_bytes().splitlines(keepends=True)
    run.manifest.write_bytes(b"".join(lines[::2]))
    assert [row["id"] for row in run.rows] == [0, 2] and run[2].row["id"] == 2 and len(run) == 2
    assert run.save_failure("x", "y").row["id"] == 3
    run.manifest.unlink()
    assert len(run) == 0 and run.rows == [] and run.save_failure("x", "y").row["id"] == 0


# Watermarks

@pytest.fixture
def stand_in(monkeypatch):
    "A watermark that needs no package: a constant, found by the mean."
    for module in (watermark, runs): monkeypatch.setattr(module, "check_watermark", lambda: None)
    monkeypatch.setattr(watermark, "added_to", lambda audio: np.full(len(audio.samples), 0.01, dtype=np.float32))
    monkeypatch.setattr(watermark, "confidence_in", lambda audio: float(np.clip(100 * audio.samples.mean(), 0, 1)))
    monkeypatch.setattr(watermark, "watermark_maker", lambda: "stand-in")


@pytest.fixture
def no_perth(monkeypatch):
    "A machine without the extra."
    for name in ("perth", "perth.perth_net.perth_net_implicit.config"): monkeypatch.setitem(sys.modules, name, None)
    watermark.network.cache_clear()
    yield
    watermark.network.cache_clear()


def saved_with(run, made=None, **changes):
    "A sample saved in a run, and the warnings."
    made = made or sample(**changes)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pair = run.save(made)
    return pair, [line for line in map(str, (each.message for each in said)) if line.startswith("watermark: ")]      # imports may warn, too


def test_a_run_puts_in_a_watermark_and_says_that_it_found_it(tmp_path, stand_in):
    run = Run(tmp_path / "run", watermark=True)
    pair, said = saved_with(run)
    assert pair.row["watermark"] == "found" and pair.row["watermark_detail"].endswith("0.9 needed, by stand-in") and not said
    assert pair.generated.samples.mean() == pytest.approx(0.01, abs=1e-3) and abs(pair.reference.samples.mean()) < 1e-3
    assert pair.generated.synthetic and list(run.table["watermark"]) == ["found"] and len(check_clean(run)) == 1
    assert marks_of(pair.path("generated")).watermark.status == "found" and "AI-generated" in repr(marks_of(pair.path("generated")))


def test_a_watermark_is_not_put_in_twice(stand_in):
    plain = tone()
    once = watermarked(plain)
    assert once is not plain and watermarked(once) is once


def test_without_the_option_the_line_says_that_there_is_none(run):
    pair, said = saved_with(run)
    assert (pair.row["watermark"], pair.row["watermark_detail"], said) == ("none", "not asked for", [])


@pytest.mark.parametrize("changes, why", [(dict(audio=tone(seconds=0.4)), "too short: 0.40 s, 0.5 s needed"),
                                          (dict(audio=Audio(np.zeros(16_000, np.float32), 16_000)), "too quiet: the loudest 20 ms have -inf dBFS, -50 needed")])
def test_a_sound_that_can_have_no_watermark_is_saved_without_it_and_says_so(tmp_path, stand_in, changes, why):
    run = Run(tmp_path / "run", watermark=True)
    pair, said = saved_with(run, **changes)
    assert (pair.row["watermark"], pair.row["watermark_detail"]) == ("none", why) and pair.generated.seconds == changes["audio"].seconds
    assert said == [f"watermark: sample 0: none: {why}"]


def test_a_sample_without_sound_has_no_watermark(tmp_path, stand_in):
    pair, said = saved_with(Run(tmp_path / "run", watermark=True), audio=Audio(np.zeros(0, np.float32), 16_000))
    assert (pair.row["watermark"], pair.row["generated"], said) == ("none", None, [])


def test_a_watermark_that_is_lost_in_writing_is_told(tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr(watermark, "confidence_in", lambda audio: 0.4)
    pair, said = saved_with(Run(tmp_path / "run", watermark=True))
    assert (pair.row["watermark"], pair.generated.seconds) == ("not found", 0.6)
    assert said == ["watermark: sample 0: not found: confidence 0.40, 0.9 needed, by stand-in"]


def test_a_bug_in_the_watermark_loses_no_sample(tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))                     # for the traceback
    monkeypatch.setattr(watermark, "added_to", lambda audio: np.zeros(3) + np.zeros(4))
    pair, (said,) = saved_with(Run(tmp_path / "run", watermark=True))
    assert pair.row["watermark"] == "none" and "ValueError" in pair.row["watermark_detail"] and "bug in voicelab" in said and pair.generated.seconds == 0.6


def test_without_the_package_nothing_is_begun_and_nothing_is_lost(tmp_path, no_perth):
    with pytest.raises(WatermarkError, match=r"^watermark: Perth can't be imported \(.*: pip install resemble-perth"): Run(tmp_path / "new", watermark=True)
    assert not (tmp_path / "new").exists()
    Run(tmp_path / "old").save(sample())
    again = Run(tmp_path / "old", watermark=True)                             # is opened all the same
    with pytest.raises(WatermarkError, match="pip install"): again.check_room()
    pair, (said,) = saved_with(again)
    assert pair.row["watermark"] == "none" and "pip install" in pair.row["watermark_detail"] and said.startswith("watermark: sample 1: none: Perth can't be")
    assert find_watermark(tone()).status == "unknown" and "pip install" in str(marks_of(tone()))


def test_settings_decide_where_nothing_is_said(tmp_path, stand_in, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("settings.ini").write_text("[MARKS]\nwatermark = true\n")
    assert [saved_with(Run("run", watermark=asked))[0].row["watermark"] for asked in (None, False)] == ["found", "none"]
    made = sample()
    Path("settings.ini").write_text("[MARKS]\nwatermark = perhaps\n")
    pair, said = saved_with(Run("run"), made)
    assert pair.row["watermark"] == "none" and "watermark = 'perhaps': must be true or false" in pair.row["watermark_detail"] and len(said) == 1
    with pytest.raises(SettingsError, match="perhaps"): Run("other")
    with pytest.raises(RunError, match="^watermark: must be True or False, got 'yes'$"): Run("run", watermark="yes")


def test_a_bug_in_looking_loses_no_sample_either(tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    answers = iter([lambda: 0.0, lambda: np.zeros(3) + np.zeros(4)])            # before it is put in, and after
    monkeypatch.setattr(watermark, "confidence_in", lambda audio: next(answers)())
    pair, (said,) = saved_with(Run(tmp_path / "run", watermark=True))
    assert pair.row["watermark"] == "unknown" and "ValueError" in pair.row["watermark_detail"] and pair.generated.samples.mean() > 0.009


def test_a_folder_named_perth_is_not_the_package(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "perth"]: monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (tmp_path / "perth").mkdir()
    assert watermark.weights_file() is None


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_a_download_says_what_watermark_is_in_its_file(tmp_path, stand_in, monkeypatch, kind):
    from voicelab.widgets.deck import Download
    monkeypatch.chdir(tmp_path)
    download = Download()
    download.offer(tone(), "a try")
    said, (plain,) = download.answer(kind)
    assert said == dict(name=f"a_try.{kind}", note="watermark: none (not asked for)")
    Path("settings.ini").write_text("[MARKS]\nwatermark = true\n")
    said, (made,) = download.answer(kind)
    assert said == dict(name=f"a_try.{kind}", note="watermark: found") and made != plain and os.listdir() == ["settings.ini"]
    Path("made").write_bytes(made)
    assert load_audio("made").synthetic and marks_of("made").watermark.status == "found"
    download.offer(tone(seconds=0.3), "short")
    with pytest.warns(UserWarning, match="too short"): assert download.answer(kind)[0]["note"] == "watermark: none (too short: 0.30 s, 0.5 s needed)"


@pytest.fixture(scope="module")
def perth():
    "The voice of a person who is none, with and without the real watermark."
    pytest.importorskip("perth", reason="resemble-perth is not installed (extra watermark)")
    plain = load_audio(Path(voicelab.__file__).parent / "voices/ada.wav")
    return plain, watermarked(plain)


def test_perths_checkpoint_is_opened_without_running_its_code(perth, monkeypatch):
    asked, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda path, **how: asked.append((path, how.get("weights_only"))) or load(path, **how))
    watermark.network.cache_clear()
    assert find_watermark(perth[1]).status == "found" and asked == [(watermark.weights_file(), True)]


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_perth_is_found_in_every_kind_of_file(perth, tmp_path, ending):
    plain, made = (load_audio(each.save(tmp_path / f"{n}.{ending}")) for n, each in enumerate(perth))
    assert (find_watermark(plain).status, find_watermark(made).status) == ("not found", "found")


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 32_000, 44_100, 192_000])
def test_perth_is_found_at_every_rate_and_changes_no_length(perth, rate):
    plain = perth[0].resample(rate).slice(0.5, 1.7301)
    made = watermarked(plain)
    assert len(made.samples) == len(plain.samples) and made.rate == rate and find_watermark(made).status == "found"


@pytest.mark.parametrize("change", [lambda a: a.slice(0, a.seconds / 2), lambda a: a.slice(a.seconds / 2, a.seconds), lambda a: a.resample(16_000),
                                    lambda a: Audio(a.samples * 0.1, a.rate), lambda a: Audio(np.clip(a.samples * 2, -1, 1), a.rate)])
def test_perth_is_found_after_what_happens_to_files(perth, change):
    assert [find_watermark(change(each)).status for each in perth] == ["not found", "found"]


def test_perth_leaves_what_is_above_its_band(perth):
    plain, made = perth
    spectrum = np.abs(np.fft.rfft(made.samples - plain.samples))
    hertz = np.fft.rfftfreq(len(plain.samples), 1 / plain.rate)
    assert spectrum[hertz > 2100].max() < 0.01 * spectrum.max()


def test_perth_takes_a_long_sound_in_stretches(perth):
    long = Audio.join([perth[0], Audio(np.zeros(20 * perth[0].rate, np.float32), perth[0].rate)] * 2)
    made = watermarked(long)
    assert len(watermark.pieces(round(made.seconds * 32_000))) == 2 and len(made.samples) == len(long.samples) and find_watermark(made).status == "found"
    assert find_watermark(long).status == "not found" and not np.isnan(made.samples).any()
