"Runs and answers that somebody else has made: nothing outside is read or written, nothing hangs, nothing is lost."
import json
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from test_runs import sample, tone

from voicelab.audio import Audio
from voicelab.cli import main
from voicelab.listening import ListeningError, ListeningTest, read_results
from voicelab.runs import Run, RunError
from voicelab.store import MOST_LINE_BYTES, Lines, hold, inside, open_own

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
    begun, run = time.monotonic(), Run(theirs.folder)
    html = run._repr_html_()
    assert run[0].generated.seconds == 0.6 and len(run.table) == len(run) == len(run.rows) and SECRET not in html and "<script>" not in html
    for pair in run:
        for kind in ("generated", "reference"):
            try: getattr(pair, kind)
            except ValueError as error: assert len(str(error).splitlines()) == 1
    assert run.save_failure("x", "y").row["id"] in (1, 2) and len(html) < 2e6 and time.monotonic() - begun < 2


def test_evaluating_hostile_lines(theirs, outside, capsys):
    lines = [json.loads(line) for line in (HOSTILE / "lines.jsonl").read_text().splitlines()]
    with open(theirs.manifest, "ab") as file:
        for line in lines[::7]: file.write(line.replace("\n", " ").encode("utf-8", "surrogatepass") + b"\n")
    shown = look_at(theirs.folder, capsys)
    assert SECRET not in shown and "sample" in shown


def test_sounds_are_regular_files_of_a_sane_size(theirs, outside):
    path = theirs.folder / "english_generated_000_Anna.wav"
    for replace, said in ((lambda: path.symlink_to(outside), "is a link"), (lambda: os.mkfifo(path), "is a device or a pipe"), (path.mkdir, "Is a directory"),
                          (lambda: open(path, "wb").truncate(2**40), "has 1099511627776 bytes; at most")):
        path.rmdir() if path.is_dir() else path.unlink()
        replace()
        assert said in theirs._repr_html_() and SECRET not in theirs._repr_html_()
        with pytest.raises(RunError, match=said): theirs[0].generated
    path.unlink()
    with pytest.raises(ValueError, match="No such file"): theirs[0].generated
    assert "the file is missing" in theirs._repr_html_()


def test_a_long_sound_is_not_put_into_a_page(theirs):
    Audio(np.zeros(17_000_000, np.float32), 16_000).save(theirs[0].path("generated"))
    assert "bytes; at most" in theirs._repr_html_() and len(theirs._repr_html_()) < 1e6 and theirs[0].generated.seconds > 1000


def test_an_endless_line_does_not_hide_the_others(theirs):
    with open(theirs.manifest, "ab") as file:
        file.write(b"x" * (2 * MOST_LINE_BYTES + 5) + b"\n")
    assert theirs.save(sample()).row["id"] == 1 and [row["status"] for row in theirs.rows] == ["ok", "unreadable", "ok"]


# Where names lead

def test_names_stay_inside(tmp_path, outside):
    for name in ("../outside/outside.wav", str(outside), "..", ".wav", "a/b.wav", "a\\b.wav", 7, None, b"x.wav"):
        with pytest.raises(ValueError, match="is not the bare name"): inside(tmp_path, name)
    for make in (lambda path: path.symlink_to(outside), os.mkfifo, os.mkdir):
        make(tmp_path / "x.wav")
        with pytest.raises(OSError): inside(tmp_path, "x.wav")
        with pytest.raises(OSError): open_own(tmp_path / "x.wav", "ab")
        (tmp_path / "x.wav").rmdir() if (tmp_path / "x.wav").is_dir() else (tmp_path / "x.wav").unlink()


def test_lines_of_a_file_that_was_replaced_shrunk_or_changed_in_place(tmp_path):
    path = tmp_path / "lines"
    lines = Lines(path, note=bytes.strip)
    notes = lambda: [note for *_, note in lines.refresh()]
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
    assert said.count(None) == 1 and sum("has an answer already" in str(each) for each in said) == 7
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
    begun = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with hold(tmp_path / ".lock"): pass
    os.close(kept)
    assert time.monotonic() - begun < 1
