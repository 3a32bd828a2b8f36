"Runs and answers that somebody else has made: nothing outside is read or written, nothing hangs, nothing is lost."
import gc
import json
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_runs import sample, tone

from voicelab import identity, pairs, runs
from voicelab.audio import Audio
from voicelab.cli import main
from voicelab.errors import VoicelabError
from voicelab.listening import ListeningError, ListeningTest, read_results
from voicelab.pairs import RunError, path_within
from voicelab.runs import Run
from voicelab.store import MOST_LINE_BYTES, Lines, hold, open_own, sound_path
from voicelab.sweep import Sweep, SweepError

HOSTILE = Path(__file__).with_name("hostile")
SECRET = "the secret of the machine"


@pytest.fixture
def outside(tmp_path):
    "A file outside every run, which must stay as it is and be shown nowhere."
    path = tmp_path / "outside" / "profile"
    path.parent.mkdir()
    path.write_text(SECRET)
    (path.parent / "outside.wav").write_bytes(tone().wav_bytes())
    return path


@pytest.fixture
def theirs(tmp_path):
    "A run with one sample."
    run = Run(tmp_path / "theirs")
    run.save(sample())
    return run


def listing(folder):
    "All that is in a folder, with contents."
    return {path: (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None) for path in sorted(folder.rglob("*"))}


def look_at(run_folder, capsys):
    "All the ways of looking at a run; what they show."
    run = Run(run_folder)
    shown = [repr(run), run._repr_html_(), run.table.to_html(), str(run.rows), str(run.orphans)]
    for pair in run:
        shown.append(pair._repr_html_())
        for kind in ("generated", "reference"):
            try: getattr(pair, kind)
            except ValueError as error: shown.append(str(error))
    main(["evaluate", str(run_folder)])
    return "".join(shown) + capsys.readouterr().out


def staged(run, **changes):
    "What a writer that died would have left, with changes."
    row = run.rows[0] | {"id": 1, "generated": "english_generated_001_Anna.wav", "reference": "english_generated_001_Anna_ref.wav"} | changes
    (run.folder / ".stage" / "line.json").write_text(json.dumps(row))
    for kind in ("generated", "reference"): (run.folder / ".stage" / f"{kind}.wav").write_bytes(tone().wav_bytes())
    return row


def add_line(run, row):
    "Add a line as another program would."
    with open(run.manifest, "ab") as file: file.write(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n")


# Opening

@pytest.mark.parametrize("name", ["{outside}", "../outside/profile", "../outside/new", "manifest.jsonl", ".lock", "english_generated_000_Anna.wav",
                                  "english_generated_002_Anna.wav", "sub/x.wav", "x.wav", "", "\0", ".."])
def test_opening_publishes_nothing_and_a_writer_publishes_only_its_own_names(theirs, outside, capsys, name):
    staged(theirs, generated=name.format(outside=outside))
    before = listing(theirs.folder.parent)
    look_at(theirs.folder, capsys)
    with pytest.raises(ListeningError): ListeningTest(theirs.folder)
    assert listing(theirs.folder.parent) == before
    with pytest.warns(UserWarning, match="set aside"): pair = theirs.save(sample())
    assert pair.row["id"] == 1 and [row["status"] for row in theirs.rows] == ["ok", "ok"]
    assert outside.read_text() == SECRET and not outside.with_name("new").exists() and theirs[0].generated.seconds == 0.6
    refused, = theirs.folder.glob(".refused-*")
    assert (refused / "generated.wav").exists()            # set aside, not deleted


def test_a_sample_that_was_staged_by_a_run_is_published_by_the_next_writer(theirs):
    staged(theirs)
    assert len(Run(theirs.folder)) == 1
    theirs.check_room()
    assert (len(theirs), theirs[1].generated.seconds, theirs.save(sample()).row["id"]) == (2, 0.6, 2)


@pytest.mark.parametrize("what", ["link to folder", "file", "pipe", "folder inside", "link inside", "pipe inside", "bad line", "deep line"])
def test_a_stage_that_no_run_has_made_is_set_aside(theirs, outside, what):
    stage = theirs.folder / ".stage"
    if what in ("link to folder", "file", "pipe"): stage.rmdir()
    {"link to folder": lambda: stage.symlink_to(outside.parent), "file": lambda: stage.write_text("x"), "pipe": lambda: os.mkfifo(stage),
     "folder inside": lambda: (stage / "generated.wav").mkdir(), "link inside": lambda: (stage / "line.json").symlink_to(outside),
     "pipe inside": lambda: os.mkfifo(stage / "line.json"), "bad line": lambda: (stage / "line.json").write_text("{"),
     "deep line": lambda: (stage / "line.json").write_text("[" * 100_000)}[what]()
    with pytest.warns(UserWarning, match="set aside as '.refused-"): pair = theirs.save(sample())
    assert pair.row["id"] == 1 and outside.read_text() == SECRET and len(list(outside.parent.iterdir())) == 2


@pytest.mark.parametrize("name", ["manifest.jsonl", ".lock", "manifest.torn"])
@pytest.mark.parametrize("what", ["link", "pipe", "dangling link"])
def test_links_and_pipes_in_the_place_of_a_runs_files_are_refused(theirs, outside, name, what):
    path = theirs.folder / name
    lines = theirs.manifest.read_bytes()
    path.unlink(missing_ok=True)
    if what == "pipe": os.mkfifo(path)
    else: path.symlink_to(outside if what == "link" else outside.with_name("new"))
    if name == "manifest.torn": theirs.manifest.write_bytes(lines + b"torn")
    with pytest.raises(RunError) as caught: Run(theirs.folder).save(sample())
    assert len(str(caught.value).splitlines()) == 1 and ("is a link" in str(caught.value)) == (what != "pipe")
    assert outside.read_text() == SECRET and not outside.with_name("new").exists()
    if name == "manifest.jsonl" and what == "link":
        with pytest.raises(RunError, match="is a link"): Run(theirs.folder)._repr_html_()


def test_a_name_that_is_taken_is_not_written_over(theirs):
    "A foreign file with the very name of the next sample that appears without a change that can be seen is counted in, not replaced."
    target = theirs.folder / "english_generated_001_Anna.wav"
    target.write_bytes(b"mine")
    assert theirs.save(sample()).row["id"] == 2 and target.read_bytes() == b"mine"
    row = staged(theirs, id=3, generated="english_generated_003_Anna.wav", reference=None)
    (theirs.folder / row["generated"]).write_bytes(b"mine")
    with pytest.warns(UserWarning, match="set aside"): theirs.check_room()
    assert (theirs.folder / row["generated"]).read_bytes() == b"mine"


# Showing

@pytest.mark.parametrize("line", [json.loads(line) for line in (HOSTILE / "lines.jsonl").read_text().splitlines()], ids=lambda line: f"{line[:20]!r}")
def test_hostile_lines(theirs, outside, line):
    (theirs.folder / "link.wav").symlink_to(outside)
    os.mkfifo(theirs.folder / "pipe.wav")
    (theirs.folder / "zero.wav").symlink_to("/dev/zero")
    with open(theirs.manifest, "ab") as file: file.write(line.encode("utf-8", "surrogatepass") + b"\n")
    begun, run = time.process_time(), Run(theirs.folder)
    html = run._repr_html_()
    assert run[0].generated.seconds == 0.6 and len(run.table) == len(run) == len(run.rows) and SECRET not in html and "<script>" not in html
    for pair in run:
        for kind in ("generated", "reference"):
            try: getattr(pair, kind)
            except ValueError as error: assert len(str(error).splitlines()) == 1
    assert run.save_failure("x", "y").row["id"] in (1, 2) and len(html) < 2e6 and time.process_time() - begun < 20


def test_evaluating_hostile_lines(theirs, outside, capsys):
    lines = [json.loads(line) for line in (HOSTILE / "lines.jsonl").read_text().splitlines()]
    with open(theirs.manifest, "ab") as file:
        for line in lines[::7]: file.write(line.replace("\n", " ").encode("utf-8", "surrogatepass") + b"\n")
    shown = look_at(theirs.folder, capsys)
    assert SECRET not in shown and "sample" in shown


def test_evaluate_shows_a_terminal_nothing_that_it_obeys(theirs, capsys):
    add_line(theirs, theirs.rows[0] | {"id": 1, "status": "failed", "error": "\x1b]0;pwn\x07\x1b[2Jline\n99 ok similarity 0.99 \u202e" + "x" * 10_000})
    add_line(theirs, theirs.rows[0] | {"id": 2, "generated": "a\nb\x1b[31m.wav"})
    main(["evaluate", str(theirs.folder)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all(line.isprintable() for line in lines) and lines[1].startswith("1 failed ]0;pwn [2Jline 99 ok") and len(lines[1]) < 220


def test_sounds_are_regular_files_of_a_sane_size(theirs, outside):
    path = theirs.folder / "english_generated_000_Anna.wav"
    for replace, said in ((lambda: path.symlink_to(outside), "is a link"), (lambda: os.mkfifo(path), "is a device or a pipe"), (path.mkdir, "is a folder"),
                          (lambda: open(path, "wb").truncate(2**40), "has 1099511627776 bytes; at most")):
        path.rmdir() if path.is_dir() else path.unlink()
        replace()
        assert said in theirs._repr_html_() and SECRET not in theirs._repr_html_()
        with pytest.raises(RunError, match=said): theirs[0].generated
    path.unlink()
    with pytest.raises(ValueError, match="No such file"): theirs[0].generated
    assert "No such file" in theirs._repr_html_()


def test_a_long_sound_is_not_put_into_a_page(theirs):
    Audio(np.zeros(17_000_000, np.float32), 16_000).save(theirs[0].path("generated"))
    assert "bytes; at most" in theirs._repr_html_() and len(theirs._repr_html_()) < 1e6 and theirs[0].generated.seconds > 1000


def test_an_endless_line_does_not_hide_the_others(theirs):
    with open(theirs.manifest, "ab") as file:
        file.write(b"x" * (2 * MOST_LINE_BYTES + 5) + b"\n")
    assert theirs.save(sample()).row["id"] == 1 and [row["status"] for row in theirs.rows] == ["ok", "unreadable", "ok"]


# Saving

@pytest.mark.parametrize("key", ["id", "seconds"])
@pytest.mark.parametrize("value", [10**400, -10**400, -1, 1e300])
def test_a_number_beyond_any_float_is_one_bad_line(theirs, key, value):
    add_line(theirs, theirs.rows[0] | {"id": 1} | {key: value})
    assert [row["status"] for row in theirs.rows] == ["ok", "unreadable"] and f"its {key} " in theirs.rows[1]["error"]
    assert len(theirs.rows[1]["error"]) < 200 and "unreadable" in theirs.table.to_html() and theirs[0].row["id"] == 0
    assert theirs.save_failure("x", "y").row["id"] in (1, 2)


@pytest.mark.parametrize("ending", ["", "\n", " \n\n"])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_staged_row_becomes_one_line(theirs, ending, indent):
    line = theirs.folder / ".stage" / "line.json"
    staged(theirs)
    line.write_text(json.dumps(json.loads(line.read_text()), indent=indent) + ending)
    assert theirs.save(sample()).row["id"] == 2
    assert [(row["id"], row["status"]) for row in theirs.rows] == [(0, "ok"), (1, "ok"), (2, "ok")] and theirs.manifest.read_bytes().count(b"\n") == 3


def test_a_staged_line_without_end_is_set_aside(theirs):
    row = staged(theirs)
    with open(theirs.folder / ".stage" / "line.json", "wb") as file:
        file.write(json.dumps(row).encode() + b" " * MOST_LINE_BYTES)
        file.truncate(2**42)
    with pytest.warns(UserWarning, match="set aside") as caught: assert theirs.save(sample()).row["id"] == 1
    assert caught[0].filename == __file__
    assert len(theirs) == 2


def test_a_staged_row_with_the_id_of_another_is_set_aside(theirs):
    add_line(theirs, b'{"id": 1, "status": "ok", "generated": null, "reference": null, garbage\n')
    staged(theirs)
    with pytest.warns(UserWarning, match="set aside"): theirs.check_room()
    assert [row["status"] for row in theirs.rows] == ["ok", "unreadable"] and not list(theirs.folder.glob("*_001_*"))


def lie(run, id):
    "Leave a note in the lock that another id is the next."
    with open(run.folder / ".lock", "r+b") as lock: lock.write(json.dumps([id, *run._look()]).encode().ljust(200))


def test_a_note_that_lies_overwrites_nothing(theirs, monkeypatch):
    before = theirs[0].path("generated").read_bytes()
    lie(theirs, 0)
    assert theirs.save(sample("Other words.", audio=tone(300))).row["id"] == 1
    lie(theirs, 0)

    def full(*_): raise OSError(28, "No space left on device")
    with monkeypatch.context() as patched:
        patched.setattr(runs, "write_whole", full)
        with pytest.raises(RunError): theirs.save(sample())
    assert theirs[0].path("generated").read_bytes() == before and theirs[1].generated.seconds == 0.6


def test_a_sound_that_comes_between_counting_and_publishing_is_left_alone(theirs, monkeypatch):
    target, put = theirs.folder / "english_generated_001_Anna.wav", Run._put_on_stage

    def put_and_meet(self, row, sounds):
        target.write_bytes(b"mine")
        return put(self, row, sounds)
    with monkeypatch.context() as patched:
        patched.setattr(Run, "_put_on_stage", put_and_meet)
        with pytest.raises(RunError, match="already exists; nothing was saved"): theirs.save(sample())
    assert target.read_bytes() == b"mine" and not list(theirs.folder.glob("*_001_*_ref.wav")) and len(theirs) == 1
    assert theirs.save(sample()).row["id"] == 2


@pytest.mark.parametrize("size", [MOST_LINE_BYTES - 1, MOST_LINE_BYTES, 5 * MOST_LINE_BYTES // 2])
def test_an_endless_last_line_takes_no_sample_with_it(theirs, size):
    add_line(theirs, b"x" * size)
    saved = theirs.save_failure("x", "y").row["id"]
    assert [row["id"] for row in Run(theirs.folder).rows if row["id"] is not None] == [0, saved] == [0, 1]
    assert [row["id"] for row in theirs.rows if row["id"] is not None] == [0, 1]


# Reading

def test_a_file_that_was_changed_in_the_middle_and_grew_by_that(theirs):
    theirs.save(sample("Second."))
    assert len(theirs) == 2
    first, second, _ = theirs.manifest.read_bytes().split(b"\n")
    with open(theirs.manifest, "r+b") as file: file.write(first.replace(b"Seven", b"Seventeen") + b"\n" + second + b"\n")
    assert [row["text"] for row in theirs.rows] == ["Seventeen grey geese fly.", "Second."] and theirs[1].row["text"] == "Second."


def test_a_line_whose_beginning_promises_more_than_it_holds(theirs):
    add_line(theirs, b'{"id": 7, "status": "ok", "generated": null, "reference": null, garbage\n')
    with pytest.raises(RunError, match="id: 7 can't be read: line 2 of manifest.jsonl is not JSON"): theirs[7]
    row = json.dumps({key: theirs.rows[0][key] for key in ("id", "status", "generated", "reference")} | theirs.rows[0] | {"id": 8})
    add_line(theirs, row[:-1].encode() + b', "id": 0}\n')
    with pytest.raises(RunError, match="id: 8 can't be read: line 3 .* a key occurs twice"): theirs[8]
    assert theirs[0].row["id"] == 0


def test_an_id_of_two_samples_leads_to_neither(theirs):
    add_line(theirs, theirs.rows[0] | {"text": "Somebody else's"})
    with pytest.raises(RunError, match="id: 0 is the id of 2 samples"): theirs[0]
    with pytest.raises(ListeningError, match="0 is the id of 2 samples"): ListeningTest(theirs, "similarity")
    assert len(theirs) == len(theirs.table) == 2


def test_looking_up_an_id_takes_no_longer_in_a_long_run(theirs):
    for id in range(1, 3000): add_line(theirs, theirs.rows[0] | {"id": id} if id == 1 else b'{"id": %d}\n' % id)
    theirs[0]
    places = theirs._lines.places
    assert theirs[1].row["id"] == 1 and theirs._lines.places is places


def test_opening_leaves_a_folder_with_a_dangling_manifest_alone(theirs, outside, capsys):
    theirs.manifest.unlink()
    theirs.manifest.symlink_to(outside.with_name("new"))
    before, empty = theirs.folder.stat().st_mtime_ns, theirs.folder.with_name("empty")
    with pytest.raises(RunError, match="is a link"): len(Run(theirs.folder))
    with pytest.raises(SystemExit): main(["evaluate", str(theirs.folder)])
    assert theirs.folder.stat().st_mtime_ns == before and "is a link" in capsys.readouterr().err
    empty.mkdir()
    before = empty.stat().st_mtime_ns
    with pytest.raises(SystemExit): main(["evaluate", str(empty)])
    assert empty.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["manifest.jsonl", ".lock", "manifest.torn"])
def test_a_folder_in_the_place_of_a_file_is_named(theirs, name):
    if name == "manifest.torn": add_line(theirs, b"torn")
    (theirs.folder / name).unlink(missing_ok=True)
    (theirs.folder / name).mkdir()
    with pytest.raises(RunError, match=f"{name}' is a folder, not a file"): theirs.save(sample())


@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
def test_reading_leaves_no_file_open(theirs):
    theirs.save_failure("x", "y")
    next(iter(theirs))
    assert len(theirs.rows) == 2 and theirs[1].row["id"] == 1
    gc.collect()


def test_a_page_has_an_end_whatever_the_rows_hold(theirs, monkeypatch):
    row = theirs.rows[0] | {"reference": None}
    for id, changes in enumerate((dict(notice="N" * 10**6), dict(generated="N" * 10**6 + ".wav"), dict(speaker="S" * 10**6),
                                  dict(status="failed", error="E" * 10**6)), 1):
        add_line(theirs, row | {"id": id} | changes)
    assert len(theirs._repr_html_()) < 2e5
    add_line(theirs, row | {"id": 9, "measures": {f"m{number}": {"value": number} for number in range(10_000)}})
    assert theirs.table.shape[1] < 200
    Audio(np.zeros(16_000 * 30, np.float32), 16_000).save(theirs[0].path("generated"))
    for id in range(10, 14): add_line(theirs, row | {"id": id})
    monkeypatch.setattr(runs, "MOST_PAGE", 2_600_000)
    assert theirs._repr_html_().count("<audio") == 2 and len(theirs._repr_html_()) < 2_700_000


def test_a_sound_of_a_run_is_minutes(theirs, monkeypatch):
    monkeypatch.setattr(pairs, "MAX_SECONDS", 0.25)
    with pytest.warns(UserWarning, match="longer than the limit of 0.25 s"): assert theirs[0].generated.seconds <= 0.25


# Privacy

def modes(folder): return {path.name: path.stat().st_mode & 0o077 for path in folder.rglob("*")}


def test_a_private_run_shows_nothing_while_it_saves(tmp_path, monkeypatch):
    folder, seen, write = tmp_path / "mine", [], runs.write_whole
    folder.mkdir(mode=0o755)
    (folder / ".stage").mkdir(mode=0o755)
    monkeypatch.setattr(runs, "write_whole", lambda path, content: seen.append(path.parent.stat().st_mode & 0o077) or write(path, content))
    run = Run(folder, private=True)
    assert Run(folder).private                              # before its first sample, too
    run.save(sample())
    run.write("history.csv", b"a,b\n")
    ListeningTest(run, "similarity").answer(0, 3)
    assert seen == [0, 0] and set(modes(folder).values()) == {0} and (folder / "history.csv").read_bytes() == b"a,b\n"
    assert {"listening-similarity.jsonl", "history.csv", "manifest.jsonl"} <= set(modes(folder))


def test_a_run_that_others_may_read_is_not_called_private(theirs):
    with pytest.raises(RunError, match="private: .* is a run that others may read"): Run(theirs.folder, private=True)
    assert not Run(theirs.folder).private


# Where names lead

def test_names_stay_inside(tmp_path, outside):
    for name in ("../outside/outside.wav", str(outside), "..", ".wav", "a/b.wav", "a\\b.wav", 7, None, b"x.wav"):
        with pytest.raises(ValueError, match="is not the bare name"): sound_path(tmp_path, name)
    for make in (lambda path: path.symlink_to(outside), os.mkfifo, os.mkdir):
        make(tmp_path / "x.wav")
        with pytest.raises(OSError): sound_path(tmp_path, "x.wav")
        with pytest.raises(OSError): open_own(tmp_path / "x.wav", "ab")
        (tmp_path / "x.wav").rmdir() if (tmp_path / "x.wav").is_dir() else (tmp_path / "x.wav").unlink()


def test_a_folder_with_a_null_byte_is_refused_in_one_line(tmp_path):
    with pytest.raises(RunError, match="folder: must not contain a null byte"): path_within("a\0b", tmp_path)


def test_a_last_line_that_becomes_another_is_found_by_its_new_id(theirs):
    row = theirs.rows[0]
    add_line(theirs, json.dumps(row | {"id": 1}).encode())
    assert theirs[1].row["id"] == 1 and theirs.rows[1]["status"] == "ok"
    add_line(theirs, b"garbage\n")
    assert theirs.rows[1]["status"] == "unreadable" and len(theirs) == 2
    with pytest.raises(RunError, match="can't be read"): theirs[1]


def test_lines_of_a_file_that_was_replaced_shrunk_or_changed_in_place(tmp_path):
    path = tmp_path / "lines"
    lines = Lines(path, note=lambda line: SimpleNamespace(id=line.strip()), is_whole=lambda line: False)
    notes = lambda: [line.note.id for line in lines.refresh()]
    assert notes() == []
    for content in (b"a\nb\n", b"a\nb\nc\n", b"a\n", b"z\n", b"", b"\n\nq\n"):
        os.utime(path.parent)
        path.write_bytes(content)
        os.utime(path, ns=(time.time_ns(), time.time_ns()))
        assert notes() == content.split() and [line for _, line in lines] == [b"%s\n" % word for word in content.split()]
    path.unlink()
    assert notes() == [] == list(lines)


# Answers of listeners

def answer_many(folder, listener):
    "All answers of a listener, each taken up anew."
    for number in range(12): ListeningTest(folder, "similarity", listener=listener).answer(number, 1 + number % 5)


def test_two_listeners_lose_no_answer(tmp_path):
    run = Run(tmp_path / "run")
    for number in range(12): run.save(sample(f"Text {number}."))
    test = ListeningTest(run, "similarity", listener="first")
    context = get_context("fork")
    people = [context.Process(target=answer_many, args=(run.folder, f"listener {n}")) for n in range(4)]
    for person in people: person.start()
    for person in people: person.join()
    assert [person.exitcode for person in people] == [0] * 4
    lines = [json.loads(line) for line in test.file.read_bytes().splitlines()]
    assert sum("answer" in line for line in lines) == 48 and sum("trials" in line for line in lines) == 5


def test_two_pages_of_one_listener_answer_once(tmp_path):
    run = Run(tmp_path / "run")
    run.save(sample())
    pages = [ListeningTest(run, "similarity") for _ in range(8)]

    def answer(page):
        try: page.answer(0, 3)
        except ListeningError as error: return str(error)
    with ThreadPoolExecutor(8) as pool: said = list(pool.map(answer, pages))
    assert said.count(None) == 1 and sum("already has an answer" in str(each) for each in said) == 7
    assert len(read_results(pages[0].file)) == 1 and pages[0].results.answers.tolist() == [1]


@pytest.mark.parametrize("line", [{"listener": 5}, {"listener": "a"}, {"listener": "a", "trials": {}, "kind": "similarity"},
                                  {"listener": "a", "trials": [{"ids": [], "conditions": ["x"]}], "kind": "similarity"},
                                  {"listener": "a", "trials": [[1]], "kind": "similarity"}, {"listener": "a", "trials": [], "kind": ["similarity"]},
                                  {"listener": "a", "trial": "0", "answer": 1}, {"listener": "a", "trial": 0, "answer": [1]},
                                  {"listener": "a", "trial": 0, "answer": 1}, {"listener": "a", "trial": -1, "answer": 1}], ids=str)
def test_answers_of_any_shape_are_refused_in_one_line(tmp_path, line):
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(ListeningError) as caught: read_results(path)
    assert len(str(caught.value).splitlines()) == 1
    path.write_text("[" * 100_000 + "\n")
    with pytest.raises(ListeningError, match="is not JSON"): read_results(path)


def test_answers_are_not_written_through_a_link(tmp_path, outside):
    run = Run(tmp_path / "run")
    run.save(sample())
    (run.folder / "listening-similarity.jsonl").symlink_to(outside)
    with pytest.raises(ListeningError, match="is a link"): ListeningTest(run, "similarity")
    assert outside.read_text() == SECRET


def test_a_lock_is_given_back_by_name(tmp_path):
    with hold(tmp_path / ".lock") as lock: kept = os.dup(lock.fileno())      # as a forked child has it
    with warnings.catch_warnings():
        warnings.simplefilter("error")                                       # which waiting for it would be
        with hold(tmp_path / ".lock"): pass
    os.close(kept)


# Sweeps

@pytest.fixture
def their_sweep(tmp_path, reference):
    "A sweep of somebody else, without a sample."
    return Sweep(tmp_path / "theirs", model="tiny", references=reference, texts="One.")


def change(sweep, old, new):
    "Change the file of a sweep as its sender could have."
    path = sweep.folder / "sweep.toml"
    assert old in (text := path.read_text())
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("facts", [None, b"[]", b"no JSON", "of another"])
def test_opening_a_sweep_loads_no_model(their_sweep, monkeypatch, facts):
    "Whatever its file names, and whatever has become of what was known of it."
    def load(*given, **options): raise AssertionError("loaded")
    monkeypatch.setattr(identity, "load", load)
    assert len(Sweep(their_sweep.folder)) == 1
    known = their_sweep.folder / "models.json"
    if facts == "of another": change(their_sweep, 'models = ["tiny"]', 'models = ["somebody/their-model"]')
    elif facts is None: known.unlink()
    else: known.write_bytes(facts)
    before = listing(their_sweep.folder)
    with pytest.raises(SweepError, match="a folder alone loads no model; give the whole grid"): Sweep(their_sweep.folder)
    assert listing(their_sweep.folder) == before


@pytest.mark.parametrize("name", ["../outside/outside.wav", "{outside}/outside.wav", "link.wav", "device.wav", "folder.wav", "sweep.toml", "nowhere.wav"])
def test_names_in_a_sweep_lead_to_files_below_it(their_sweep, outside, name):
    folder, home = their_sweep.folder, outside.parent
    (folder / "link.wav").symlink_to(home / "outside.wav")
    (folder / "folder.wav").mkdir()
    os.mkfifo(folder / "device.wav")
    change(their_sweep, next(folder.glob("reference_*.wav")).name, name.format(outside=home))
    with pytest.raises(VoicelabError, match="not the bare name|is a link|is a folder|is a device|No such file") as refused: Sweep(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("file", ["sweep.toml", "models.json"])
def test_files_of_a_sweep_are_files_and_not_endless(their_sweep, outside, file):
    path = their_sweep.folder / file
    kept = path.read_bytes()
    path.write_bytes(kept + b"#" * MOST_LINE_BYTES)
    with pytest.raises(VoicelabError, match="has more than|does not fit"): Sweep(their_sweep.folder)
    path.unlink()
    (outside.parent / file).write_bytes(kept)
    path.symlink_to(outside.parent / file)
    with pytest.raises(VoicelabError, match="is a link|does not fit"): Sweep(their_sweep.folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(VoicelabError, match="is a device or a pipe|does not fit"): Sweep(their_sweep.folder)


@pytest.mark.parametrize("part, value", [("name", 7), ("options", [[]]), ("defaults", []), ("sha256", None), ("sampling", "hot")])
def test_facts_of_a_sweep_of_any_shape_are_none(their_sweep, part, value):
    path = their_sweep.folder / "models.json"
    rows = json.loads(path.read_text())
    rows[0]["facts"][part] = value
    path.write_text(json.dumps(rows))
    with pytest.raises(SweepError, match="does not fit its sweep.toml"): Sweep(their_sweep.folder)
