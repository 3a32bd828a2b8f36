"A slice of the campaign; and no fault can hide: a target that is broken, crashes, hangs or takes all memory is listed with what repeats it."
import os
import re
import signal
import time
from itertools import islice

import campaign
import hostile_cases
import pytest
from conftest import prompt_of
from hostile_cases import KINDS, controls_of, twice

from voicelab.runs import Run

SLICE = dict(kills=3, files=50, texts=10, options=150, checkpoints=4)


@pytest.fixture(scope="module", autouse=True)
def made_once(tmp_path_factory):
    "What the cases of a kind share is made once."
    kept, kinds = {}, dict(KINDS)
    def once(make):
        def made(folder):
            if make not in kept: kept[make] = make(tmp_path_factory.mktemp("ready"))
            return kept[make]
        return made
    KINDS.update({name: kind._replace(make=once(kind.make)) for name, kind in kinds.items()})
    yield
    KINDS.update(kinds)


@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_has_no_fault(kind, tmp_path):
    cases = list(campaign.run(kind, range(SLICE[kind]), seed=19, folder=tmp_path))
    assert [case.number for case in cases] == [*range(SLICE[kind])]
    assert not any(case.outcome == "fault" for case in cases), campaign.report(cases, 19)
    assert all(case.told for case in cases) and (kind == "checkpoints" or {case.outcome for case in cases} != {"refused"})


def test_a_case_depends_on_its_number_and_the_seed_alone(tmp_path):
    folders = [tmp_path / str(n) for n in range(3)]
    for folder in folders: folder.mkdir()
    told = lambda numbers, seed, folder: {case.number: (case.told, case.outcome, case.message) for case in campaign.run("files", numbers, seed, folder)}
    whole = told(range(12), 5, folders[0])
    assert told([7, 11], 5, folders[1]) == {n: whole[n] for n in (7, 11)} and told([7], 6, folders[2])[7] != whole[7]


def wrong(*_, **__): raise IndexError("list index\nout of range")


def crashing(*_, **__): os.kill(os.getpid(), signal.SIGSEGV)


def hungry(*_, **__): return bytearray(1 << 36)


BROKEN = {"breaks": (wrong, r"IndexError: list index\\nout of range \(test_campaign.py:\d+\)"), "crashes": (crashing, "its process ended with -11"),
          "hangs": (lambda *_, **__: time.sleep(60), r"Late: .*"), "takes all memory": (hungry, "MemoryError: .*")}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_target_is_a_fault_with_its_line_and_its_command(how, tmp_path, monkeypatch, capsys):
    target, said = BROKEN[how]
    with monkeypatch.context() as patched:
        patched.setitem(KINDS, "files", KINDS["files"]._replace(seconds=1 if how == "hangs" else 300))
        patched.setattr(hostile_cases, "load_audio", target)
        assert campaign.main(["files", "--count", "2", "--folder", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "| files | 2 | 2 |" in shown and re.search(rf"\nfiles:1 \(.*\)\n    {said}\n    python tests/campaign.py --seed 0 files:1(\n|$)", shown), shown
    assert campaign.main(["files", "--count", "3", "--folder", str(tmp_path)]) == 0         # it was mended: what failed is tried once more
    assert "| files | 3 | 0 |" in capsys.readouterr().out


@pytest.mark.parametrize("kind, place, name", [("kills", Run, "_recover"), ("texts", hostile_cases, "segment_spans"),
                                               ("options", hostile_cases.Budget, "__post_init__"),
                                               ("checkpoints", hostile_cases.hostile_checkpoints, "linked")])
def test_a_fault_of_each_kind_shows(kind, place, name, tmp_path, monkeypatch):
    monkeypatch.setattr(place, name, wrong)
    assert any(case.outcome == "fault" for case in campaign.run(kind, range(120 if kind == "options" else 4), 0, tmp_path))


def test_it_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    right = campaign.run
    def stopped(*given):
        yield from islice(right(*given), 2)
        raise KeyboardInterrupt
    with monkeypatch.context() as patched:
        patched.setattr(campaign, "run", stopped)
        assert campaign.main(["files", "--count", "5", "--folder", str(tmp_path)]) == 130
    assert "| files | 2 | 0 |" in capsys.readouterr().out
    assert campaign.main(["files", "--count", "5", "--folder", str(tmp_path)]) == 0
    numbers = [case.number for case in campaign.kept(tmp_path / "campaign-0.jsonl").values()]
    assert numbers == [0, 1, 2, 3, 4] and len((tmp_path / "campaign-0.jsonl").read_text().splitlines()) == 5


def test_one_case_alone(monkeypatch, capsys):
    assert campaign.main(["files:3"]) == 0 and " as ." in capsys.readouterr().out
    monkeypatch.setattr(hostile_cases, "load_audio", wrong)
    with pytest.raises(IndexError): campaign.main(["files:3"])
    with pytest.raises(SystemExit): campaign.main(["file:3"])


# ---- what a fault is

def rows_of(*names): return [dict(id=id, speaker=name) for id, name in enumerate(names)]


def test_a_sample_is_there_twice_only_if_its_first_save_was_cut_off(tmp_path):
    log = [["begun", "a"], ["done", "a", 0], ["begun", "b"], ["begun", "b"], ["done", "b", 2]]
    assert twice(rows_of("a", "b", "b"), [log]) == ["b"] and twice(rows_of("a", "c", "b"), [log, [["begun", "c"]]]) == []
    with pytest.raises(AssertionError, match="a is there 2 times and was begun 1 times"): twice(rows_of("a", "b", "b", "a"), [log])
    with pytest.raises(AssertionError, match="b was acknowledged as 2 and is lost"): twice(rows_of("a", "b"), [log])
    with pytest.raises(AssertionError, match="c is there 1 times and was begun 0 times"): twice(rows_of("a", "b", "b", "c"), [log])


def test_a_control_token_in_a_text_is_found(tiny_tokenizer):
    prompt = prompt_of(tiny_tokenizer)
    controls_of(prompt, tiny_tokenizer)
    role, kind, span = next(each for each in hostile_cases.segment_spans(prompt) if each[1] == "text")
    prompt.ids[span.start] = tiny_tokenizer.convert_tokens_to_ids("<|eot_id|>")
    with pytest.raises(AssertionError, match="control tokens in the text of the"): controls_of(prompt, tiny_tokenizer)
