"The README's table of upstream's commands: each counterpart runs, on tiny models, and each option that it names exists."
import json
import re
import shlex
import shutil
import warnings

import pytest
import torch
from test_vita_model import KINDS, Hum

import voicelab as vl
from voicelab.cli import main
from voicelab.cli import parser as command_line
from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.model import VitaModel
from voicelab.runs import Run

SECTION = "## Coming from upstream's programs"
DIALOGUE = "[SPEAKER0] Good morning.\n[SPEAKER1] Oh, hello.\n"
# of examples/generation.py at boson-ai/higgs-audio
OPTIONS = """model_path audio_tokenizer max_new_tokens transcript scene_prompt temperature top_k top_p ras_win_len ras_win_max_num_repeat ref_audio
ref_audio_in_system_message chunk_method chunk_max_word_num chunk_max_num_turns generation_chunk_buffer_size seed device_id out_path
use_static_kv_cache device""".split()


def rows(root):
    "The rows of the section's tables: upstream's side and ours."
    section = (root / "README.md").read_text().split(SECTION)[1].split("\n## ")[0]
    found = re.findall(r"^\| (.+?) \| (.+) \|$", section, re.M)
    return [row for row in found if row[1] != "here"]


def codes(cell): return re.findall(r"`([^`]+)`", cell)


@pytest.fixture
def there(root, tmp_path, monkeypatch):
    "A folder with the files of the table, in which `vita` is a tiny VITA-Audio."
    monkeypatch.chdir(tmp_path)
    for name, voice in (("belinda", "ada"), ("broom_salesman", "ben"), ("question", "ada")):
        shutil.copy(root / f"data/voices/{voice}.wav", tmp_path / f"{name}.wav")
    (tmp_path / "en_argument.txt").write_text(DIALOGUE)
    vita, load = VitaModel(tiny_vita(KINDS[0], n_codes=2048), Hum()), vl.load
    monkeypatch.setattr(vl, "load", lambda name, **options: vita if name == "vita" else load(name, **options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sample = {"messages": [{"role": "user", "content": "The sun rises."}]}
        yield dict(vl=vl, vita=vita, model=load("tiny"), writer=with_text_head(load("tiny")), sample=sample)


def with_text_head(model):
    "The tiny model with a random text head, as `load(..., text_head=True)` gives it where there is one."
    config = model.network.config
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.network.text_lm_head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
    return model


def test_every_command_of_the_table_runs(root, there, tmp_path, capsys):
    commands = [code for _, ours in rows(root) for code in codes(ours) if code.startswith("voicelab ") and code != "voicelab studio"]
    assert len(commands) == 11
    for number, command in enumerate(commands):
        words = shlex.split(command)[1:]
        if "--out" not in words: words += ["--out", str(tmp_path / f"made{number}")]
        main([*words, *([] if "--seed" in words else ["--seed", "1"])])
        (row,) = Run(words[words.index("--out") + 1]).rows
        assert row["status"] == "ok" and (row["generated"] or words[1] in ("text", "asr")), command
    assert "stopped" in capsys.readouterr().out


def test_what_a_model_writes_is_printed_as_it_comes(there, tmp_path, capsys, monkeypatch):
    pieces = []
    monkeypatch.setattr("voicelab.cli_clone.show_text", lambda words: (pieces.append(words), print(words, end="")))
    words = ["respond", "asr", "--model", "vita", "--audio", "question.wav", "--max-tokens", "60", "--out", str(tmp_path / "out")]
    main(words)
    written = "".join(pieces)
    assert len(pieces) > 1 and capsys.readouterr().out.startswith(f"{written}\n") and Run(tmp_path / "out").rows[0]["text"] == written
    main([*words, "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["written"] == written and "".join(pieces) == written


def test_an_answer_in_writing_is_no_failure(there, tmp_path, capsys):
    out = str(tmp_path / "out")
    main(["respond", "text", "--model", "vita", "--text", "Who are you?", "--max-tokens", "12", "--out", out, "--seed", "1"])
    run, answer = Run(out), there["writer"].generate(there["sample"], mode="text", text_tokens=5, seed=1)
    run.save(answer)
    run.save(there["model"].clone("Hello.", seed=1))
    silent = there["model"].stream("Hello.", seed=1)
    silent.stop()
    run.save(silent.run())
    assert [row["speaks"] for row in run.rows] == [False, False, True, True] and run.rows[1]["written"] == answer.written
    assert "written: " in run[0].html_row() and "0.00 s" not in run[0].html_row()
    capsys.readouterr()
    main(["evaluate", out, "--json"])
    *shown, last = capsys.readouterr().out.splitlines()
    told = json.loads(last)
    assert [row["status"] for row in told["rows"]] == ["ok", "ok", "ok", "failed"] and (told["failed"], told["written"]) == (1, 2)
    assert told["rows"][0]["written"] == run.rows[0]["text"] == run.rows[0]["written"] and "no sound was made" in told["rows"][3]["detail"]
    assert shown[0].startswith("0 ok a written answer, without sound: ") and shown[-1] == "4 samples, 1 failed, 2 answered in writing"


@pytest.mark.parametrize("most, said", [("0", "must be 1 to 1000000000, got 0"), ("-3", "must be 1 to 1000000000, got -3"),
                                        ("1000000001", "must be 1 to 1000000000, got 1000000001"), ("x", "invalid int value: 'x'")])
def test_the_most_tokens_are_named_as_they_are_typed(there, tmp_path, capsys, most, said):
    for words in (["respond", "tts"], ["clone"]):
        with pytest.raises(SystemExit) as ended: main([*words, "--model", "vita", "--text", "Hi.", "--max-tokens", most, "--out", str(tmp_path / "out")])
        line = capsys.readouterr().err
        assert ended.value.code == 2 and line.count("\n") == 1 and "--max-tokens: " in line and said in line and not (tmp_path / "out").exists()


def test_a_reference_without_consent_is_told_of_by_every_command_that_speaks(there, tmp_path, capsys):
    for number, words in enumerate((["clone", "--text", "Hi."], ["respond", "clone", "--model", "vita", "--text", "Hello.", "--max-tokens", "12"])):
        with warnings.catch_warnings(action="always"):
            main([*words, "--reference", "belinda.wav", "--transcript", "What she says in it.", "--out", str(tmp_path / str(number)), "--seed", "1"])
        assert capsys.readouterr().err.count("No consent is stated for the voice 'belinda'") == 1


def test_every_line_of_python_in_the_table_runs(root, there):
    lines = [code for _, ours in rows(root) for code in codes(ours) if re.match(r"model\.|writer\.|list\(vita|session = ", code)]
    assert len(lines) == 7
    for line in lines: exec(line, there)
    assert there["session"].generation.task == "speech_to_speech" and there["session"].generation.timings["first_audio"] > 0


def test_every_option_of_generation_py_has_a_row(root):
    table = {name: ours for theirs, ours in rows(root) for name in re.findall(r"`--(\w+)`", theirs)}
    assert {*OPTIONS} <= {*table}
    known = next(action for action in command_line()._actions if action.dest == "command").choices["clone"]._option_string_actions
    ours = {name for cell in table.values() for name in re.findall(r"`(--[a-z-]+)", cell)}
    assert len(ours) >= 15 and ours <= {*known}
