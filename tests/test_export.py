"What others open: pages, tables and folders made of a sweep; the makers of its measures."
import base64
import hashlib
import importlib.util
import json
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
from whistling import register_whistler

import voicelab as vl
from voicelab import export, page
from voicelab.audio import GENERATED, load_audio
from voicelab.cli import main
from voicelab.export import EXPORTS, ExportError
from voicelab.family import FAMILIES
from voicelab.page import PageError, content_of
from voicelab.store import StoreError

NASTY = "</script><img src=x onerror=alert(1)> | \u2028 bells\nrang"


@pytest.fixture
def whistler(tmp_path):
    register_whistler()
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(model_type="whistler")))
    yield str(folder)
    del FAMILIES["whistling"]


@pytest.fixture
def made(whistler, tmp_path, reference):
    "A sweep of six cells: four made, one of them cut, one failed, one missing."
    sweep = vl.Sweep(tmp_path / "grid", model=whistler, references=[reference], texts=[NASTY, "The boat.", "Bells."], seeds=[0, 1])
    sweep.run(most=5).measure("level", "ended")
    lines = sweep.samples.manifest.read_text().strip("\n").split("\n")
    last = json.loads(lines[-1]) | dict(status="failed", error="ValueError: <b>no</b>", generated=None, reference=None, hashes={})
    sweep.samples.manifest.write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n")
    return vl.Sweep(sweep.folder)


def sound_blocks(html): return dict(re.findall('<script type="text/plain" id="vl-sound-([a-z0-9]+)">([A-Za-z0-9+/=]*)</script>', html))


def content_in(html): return json.loads(re.search('<script type="application/json" id="vl-data">(.*?)</script>', html)[1])


def test_a_page_is_one_file_that_asks_for_nothing(made, tmp_path, capsys):
    assert made.table.status.value_counts().to_dict() == {"ok": 4, "failed": 1, "missing": 1}
    html = made.export("html").read_text("utf8")
    assert re.search(r"grid.html: about 0.\d MB, 5 sounds", capsys.readouterr().out)
    assert "alert(1)>" not in html.replace("\\u003cimg src=x onerror=alert(1)>", "") and GENERATED in html
    assert not re.search(r"(src|href)=[\"'h]|@import|url\(|https?://(?!www.w3.org/2000/svg)", html.replace("\\u003cimg src=x", ""))
    (policy,) = re.findall('<meta http-equiv="Content-Security-Policy" content="([^"]+)">', html)
    for tag, part in (("script", "script-src"), ("style", "style-src")):
        (own,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert f"{part} 'sha256-{base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    content, blocks = content_in(html), sound_blocks(html)
    assert [point["status"] for point in content["points"]] == ["ok"] * 4 + ["failed", "missing"] and len(blocks) == 5
    assert content["points"][4]["why"] == "ValueError: <b>no</b>" and "sound" not in content["points"][4]
    assert {axis["name"]: axis["levels"] for axis in content["axes"]}["text"] == [NASTY, "The boat.", "Bells."]
    assert [each["name"] for each in content["measures"]] == ["seconds", "rtf", "level", "ended"]
    for key, sound in blocks.items():
        (tmp_path / "a.mp3").write_bytes(base64.b64decode(sound))
        assert load_audio(tmp_path / "a.mp3").synthetic == (key[0] == "g")


def test_a_page_has_every_file_of_its_folder(made, root):
    html, folder = made.export("html").read_text("utf8"), root / "voicelab/web"
    parts = [*(f"{name}.js" for name in page.SCRIPTS), "stored.js", "file.js", "page.css"]
    assert all((folder / name).read_text("utf8") in html for name in parts)
    others = {"listening.js", "listening_file.js", "listening.css", "ask.js", "capbar.js", "deck.js", "deck.css", "download.js", "map.js", "panel.css",
              "panel.js"}
    assert {path.name for path in folder.iterdir() if not path.name.startswith("wavesurfer-")} == {*parts} | others


def test_a_page_has_a_size_and_a_limit(made, tmp_path, monkeypatch):
    with pytest.raises(ExportError, match=r"^most_megabytes: the page would take about 0\.\d MB \(5 sounds\), at most 0.01 are allowed"):
        made.export("html", tmp_path / "a.html", most_megabytes=0.01)
    for bad in (0, -1, True, "1", float("nan"), 1e9):
        with pytest.raises(ExportError, match="^most_megabytes: must be above 0 and at most 2000, got"): made.export("html", most_megabytes=bad)
    monkeypatch.setattr(page, "MOST_POINTS", 5)
    with pytest.raises(PageError, match="^sweep: a page has at most 5 cells, got 6"): made.export("html", tmp_path / "a.html")
    assert not list(tmp_path.glob("*.html")) and not list(tmp_path.glob(".export*"))


def test_a_sound_that_is_lost_is_a_point_that_says_why(made, tmp_path):
    gone, damaged, link = (made[n].path("generated") for n in range(3))
    gone.unlink()
    damaged.write_bytes(b"RIFF")
    link.unlink()
    link.symlink_to("/etc/hostname")
    points = content_in(made.export("html").read_text("utf8"))["points"]
    assert ["sound" in point for point in points] == [False] * 3 + [True] + [False] * 2
    assert "No such file" in points[0]["why"] and "is a link" in points[2]["why"] and "damaged" in points[1]["why"]
    assert not any(str(tmp_path) in point["why"] for point in points)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        folder = made.export("seed-tts")
    assert "seed-tts: 5 of 6 lines have no sound" in str(said[0].message) and len(list((folder / "wavs").iterdir())) == 1


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_name_the_makers(made, kind):
    path = made.export(kind)
    table = pd.read_csv(path) if kind == "csv" else pd.read_parquet(path)
    assert table.status.tolist() == made.table.status.tolist() and table.text.tolist() == made.table.text.tolist()
    assert table["maker.level"].dropna().unique().tolist() == ["voicelab-samples-1"] and table.level.notna().sum() == 4


def test_a_parquet_column_has_one_type(made, monkeypatch):
    mixed = made.table.assign(option=[None, 1, "a", True, (1, 2), 0.5])
    monkeypatch.setattr(export, "shared_table", lambda sweep: mixed)
    first, *others = pd.read_parquet(made.export("parquet")).option
    assert pd.isna(first) and others == ["1", "a", "True", "(1, 2)", "0.5"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match="^kind: parquet needs pyarrow, which is not installed: pip install pyarrow$"): made.export("parquet")


def test_a_public_scorer_finds_its_layout(made, tmp_path):
    with pytest.warns(UserWarning, match="seed-tts: 2 of 6 lines have no sound, and seed-tts-eval leaves them out"):
        folder = made.export("seed-tts", tmp_path / "scored")
    lines = [line.split("|") for line in (folder / "meta.lst").read_text("utf8").strip("\n").split("\n")]
    assert [len(line) for line in lines] == [4] * 6 and lines[0][3] == "</script><img src=x onerror=alert(1)> bells rang"
    assert all((folder / prompt).is_file() for _, _, prompt, _ in lines)
    assert [(folder / "wavs" / f"{utterance}.wav").is_file() for utterance, *_ in lines] == [True] * 4 + [False] * 2
    assert len(vl.TestSet(folder)) == 6


def test_a_folder_for_hugging_face(made):
    sound = made[1].path("generated")
    samples, rate = soundfile.read(sound)
    soundfile.write(sound, samples, rate)                   # its mark is lost
    assert not load_audio(sound).synthetic
    folder = made.export("hf")
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf8").strip("\n").split("\n")]
    assert [row["text"] for row in rows] == [NASTY, NASTY, "The boat.", "The boat."] and all(row["synthetic"] for row in rows)
    assert all(load_audio(folder / row["file_name"]).synthetic and (folder / row["reference_file_name"]).is_file() for row in rows)
    assert [each["reason"] for each in json.loads((folder / "not_made.json").read_text())] == ["ValueError: <b>no</b>", "missing: `run` makes it"]
    card = (folder / "README.md").read_text("utf8")
    assert "synthetic" in card and made.grid.cells[0].voices[0].consent in card and "level by voicelab-samples-1" in card
    assert "Watermark in the sound: none (4)." in card
    assert len(vl.TestSet(folder)) == 4


def test_an_export_is_whole_or_not_there(made, tmp_path, monkeypatch):
    with pytest.raises(ExportError, match="^kind: must be one of html, csv, parquet, seed-tts, hf, got 'pdf'$"): made.export("pdf")
    with pytest.raises(ExportError, match="^path: there is no folder"): made.export("csv", tmp_path / "no/a.csv")
    with pytest.raises(ExportError, match="is a folder; give the name of a file"): made.export("csv", tmp_path)
    with pytest.raises(ExportError, match="exists and is not an empty folder"): made.export("hf", tmp_path)
    (tmp_path / "a.csv").write_text("before")
    def breaks(*_, **__): raise OSError(28, "No space left on device")
    monkeypatch.setattr(pd.DataFrame, "to_csv", breaks)
    with pytest.raises(ExportError, match="a.csv' can't be written: No space left"): made.export("csv", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "before" and not list(tmp_path.glob(".export*"))


@pytest.mark.parametrize("kind", EXPORTS)
@pytest.mark.filterwarnings("ignore:seed-tts")
def test_what_is_private_stays_private(made, kind):
    made.samples.private = True
    path = made.export(kind)
    assert {oct(each.stat().st_mode & 0o077) for each in [path, *path.rglob("*")]} == {"0o0"}


def test_a_reference_out_of_the_folder_is_no_way_out(made):
    voice = next(made.folder.glob("reference_*.wav"))
    voice.unlink()
    voice.symlink_to("/etc/hostname")
    with pytest.raises((ExportError, StoreError), match="link"): made.export("hf")


def told(name): return SimpleNamespace(id=name, hear=lambda audio, code: "the boat")


def test_who_measured_is_part_of_a_measure(made):
    assert "wer" not in made.measure("wer").table or made.table.wer.isna().all()
    table = made.measure("wer", recogniser=told("one")).table
    assert made.makers["wer"] == "one" and table.wer.notna().sum() == 4
    assert vl.Sweep(made.folder).makers["wer"] == "one" and vl.Sweep(made.folder).table.wer.notna().sum() == 4
    assert made.measure("wer", recogniser=told("two")).makers["wer"] == "two"
    with pytest.raises(vl.VoicelabError, match="^recogniser: none of the requested metrics takes it$"): made.measure("level", recogniser="base")


def test_measure_and_export_from_a_terminal(made, tmp_path, capsys):
    main(["measure", str(made.folder), "--measures", "clipping", "wer", "--json"])
    *lines, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)["measures"]
    assert found["clipping"]["measured"] == 4 and found["wer"]["unavailable"] == 4 and "no recogniser" in found["wer"]["reason"]
    assert lines[0] == "clipping: 4 measured by voicelab-samples-1" and lines[1].startswith("wer: 0 measured by")
    main(["export", str(made.folder), "--as", "csv", "--out", str(tmp_path / "a.csv"), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["bytes"] == (tmp_path / "a.csv").stat().st_size
    for words, said in ((["export", str(tmp_path)], "holds no sweep.toml"), (["export", str(made.folder), "--as", "pdf"], "--as: must be one of"),
                        (["export", str(made.folder), "--as", "csv", "--most", "9"], "--most: does nothing with --as csv"),
                        (["measure", str(made.folder), "--measures", "level", "--recogniser", "base"], "--recogniser: "),
                        (["measure", str(made.folder), "--measures", "beauty"], "--measures: must be among")):
        with pytest.raises(SystemExit) as left: main(words)
        assert left.value.code == 2 and said in (line := capsys.readouterr().err) and line.count("\n") == 1


def test_a_page_of_many_cells_has_each_voice_once(made):
    content, sounds = content_of(made)
    voices = {point["voice"] for point in content["points"] if "voice" in point}
    assert voices == {"r0"} and sorted(sounds) == ["g0", "g1", "g2", "g3", "r0"]
    assert np.isfinite([value for point in content["points"][:4] for value in point["values"]]).all()
