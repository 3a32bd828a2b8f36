"Test sets: every format gives the same rows, nothing is dropped, names lead nowhere, sizes are bounded."
import gzip
import json
import os
import sys
import warnings

import numpy as np
import pytest

import voicelab as vl
from voicelab import formats, testsets
from voicelab.audio import Audio, load_audio
from voicelab.formats import TestSetError, read_list
from voicelab.reference import SHIPPED, VOICE_FOLDER
from voicelab.settings import ReferencePolicy, Settings
from voicelab.testsets import TestSet

ADA, BEN = "The old library opens at nine in the morning.", "We walked along the river until the sun went down."
SAY = "Café, naïve: say this."          # letters that are not ASCII
LIBRI = "61-70968-0000", "61-70968-0001"


def rows_of(path, **options): return TestSet(path, consent=SHIPPED, **options)


def lines(*rows): return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@pytest.fixture
def sounds(tmp_path):
    "A folder with two recordings, at the places where the formats want them."
    for name in ("ada", "ben"):
        for place in (f"{name}.wav", f"wavs/{name}.wav"):
            (tmp_path / place).parent.mkdir(exist_ok=True)
            (tmp_path / place).write_bytes((VOICE_FOLDER / f"{name}.wav").read_bytes())
    (tmp_path / "61/70968").mkdir(parents=True)
    for id, name in zip(LIBRI, ("ada", "ben")): load_audio(tmp_path / f"{name}.wav").save(tmp_path / f"61/70968/{id}.flac")
    return tmp_path


CUT = {"id": "u1", "start": 0, "duration": 2.4, "type": "MonoCut", "supervisions": [{"id": "s", "text": ADA, "speaker": "ada"}],
       "recording": {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "ada.wav"}]}}
FILES = {       # name of the list, its content, whether it has a text to say
    "seed-tts": ("meta.lst", f"u1|{ADA}|ada.wav|{SAY}\n".encode(), True),
    "seed-tts with truth": ("meta.lst", f"u1|{ADA}|ada.wav|{SAY}|ben.wav\n".encode(), True),
    "librispeech-pc": ("list.lst", f"{LIBRI[0]}\t2.4\t{ADA}\t{LIBRI[1]}\t2.8\t{SAY}\n".encode(), True),
    "omnivoice": ("test.jsonl", lines(dict(id="u1", text=SAY, ref_audio="ada.wav", ref_text=ADA, language_id="en", duration=3.0, speed=1)), True),
    "huggingface": ("metadata.jsonl", lines(dict(file_name="ada.wav", transcription=ADA)), False),
    "huggingface table": ("metadata.csv", f'file_name,transcription,speaker\nada.wav,"{ADA}",ada\n'.encode(), False),
    "huggingface tabs": ("metadata.tsv", f"file_name\ttext\nada.wav\t{ADA}\n".encode(), False),
    "ljspeech": ("metadata.csv", f"ada|The old library opens at 9.|{ADA}\n".encode(), False),
    "ljspeech, two columns": ("metadata.csv", f"ada|{ADA}\n".encode(), False),
    "nemo": ("manifest.json", lines(dict(audio_filepath="ada.wav", duration=2.44, text=ADA)), False),
    "lhotse": ("cuts.jsonl", lines(CUT), False),
    "lhotse, packed": ("cuts.jsonl.gz", gzip.compress(lines(CUT)), False),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("written", ["plain", "marked", "windows", "utf-16"])
def test_every_format_gives_the_same_row(sounds, kind, written):
    name, content, says = FILES[kind]
    if not name.endswith(".gz"):
        content = {"plain": content, "marked": b"\xef\xbb\xbf" + content, "windows": b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"),
                   "utf-16": content.decode().encode("utf-16")}[written]
    (sounds / name).write_bytes(content)
    made = rows_of(sounds / name)
    assert made.form.split("-table")[0] in kind and len(made) == 1
    item, = made
    assert (item.status, item.problems) == ("ok", ())
    assert item.entry.transcript == ADA and item.text == (SAY if says else None)
    assert item.reference.transcript == ADA and item.reference.consent == SHIPPED and item.seconds == pytest.approx(2.44, abs=0.05)
    if kind in ("seed-tts with truth", "librispeech-pc"): assert item.truth.seconds == pytest.approx(2.76, abs=0.01)
    else: assert item.truth is None


def test_a_folder_of_recordings(sounds):
    (sounds / "ada.txt").write_bytes(b"\xef\xbb\xbf" + ADA.encode() + b"\r\n")
    (sounds / ".hidden.wav").write_bytes(b"x")
    made = rows_of(sounds)
    assert list(made.table.status) == ["ok", "doubtful"] and made[1].problems == ("has no transcript",)
    assert made[0].reference.name == "ada" and made.form == "folder"
    with pytest.raises(TestSetError, match="has recordings and no texts to say: see `saying`"): made.pairs
    asked = made.saying([SAY, "And that."])
    assert [item.id for item in asked.pairs] == ["ada-1", "ada-2", "ben-1", "ben-2"] and asked.texts == [SAY, "And that."]
    assert len(asked.references) == 2 and len(made) == 2
    for texts in ([], "Say this.", 3):
        with pytest.raises(TestSetError, match="texts: must be a list"): made.saying(texts)
    with pytest.raises(ValueError, match="texts: nothing to say"): made.saying([" "])


def test_the_first_segment_of_a_recording_is_a_segment(sounds):
    row = dict(audio_filepath="ada.wav", duration=1.5, text=ADA)
    (sounds / "m.json").write_bytes(lines(row | dict(offset=0.0), row))
    assert [entry.seconds for entry in read_list(sounds / "m.json", "nemo")[0]] == [1.5, None]


def test_nobodys_recordings_are_not_one_speakers(sounds):
    (sounds / "m.jsonl").write_bytes(lines(dict(file_name="ada.wav", text=ADA), dict(file_name="ben.wav", text=BEN)))
    assert [item.text for item in rows_of(sounds / "m.jsonl").saying()] == [None, None]


def test_what_the_speaker_says_next(sounds):
    (sounds / "m.jsonl").write_bytes(lines(dict(file_name="ada.wav", text=ADA, speaker="s"), dict(file_name="ben.wav", text=BEN, speaker="s"),
                                           dict(file_name="wavs/ada.wav", text=ADA, speaker="t")))
    made = rows_of(sounds / "m.jsonl").saying()
    assert [item.text for item in made] == [BEN, ADA, None] and len(made.pairs) == 2
    assert made[0].truth.seconds == pytest.approx(2.76, abs=0.01) and made[0].reference.transcript == ADA


def test_parquet(sounds):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: parquet is an extra")
    from pyarrow import parquet
    content = (sounds / "ada.wav").read_bytes()
    sound = [dict(bytes=content, path="ada.wav"), dict(bytes=None, path="ben.wav"), dict(bytes=b"no sound", path="x.wav"),
        dict(bytes=None, path="../x.wav"),
             dict(bytes=None, path=None), None, *[dict(bytes=content, path=f"{place}.wav") for place in range(70)]]
    parquet.write_table(pa.table(dict(audio=sound, text=[ADA, BEN, *[ADA] * 74], other=list(range(76)))), sounds / "test.parquet")
    made = rows_of(sounds / "test.parquet")
    assert [item.status for item in made][:6] == ["ok", "ok"] + ["broken"] * 4 and [item.entry.number for item in made] == list(range(1, 77))
    assert made[0].reference.audio.seconds == pytest.approx(2.44, abs=0.01) and made[0].id == "ada"
    assert "'recording' is not a WAV" in made[2].problems[0] and "leads out" in made[3].problems[0] and "has no recording" in made[4].problems[0]
    (sounds / "bad.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(TestSetError, match="'bad.parquet' can't be read as parquet"): rows_of(sounds / "bad.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "MOST_SOUND_BYTES", 1000)
        with pytest.raises(TestSetError, match="unpacks to .* bytes; at most 1000 are read"): rows_of(sounds / "test.parquet")


def test_without_pyarrow_one_line_says_so(sounds, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (sounds / "test.parquet").write_bytes(b"PAR1")
    with pytest.raises(TestSetError,
        match=r"^path: parquet needs pyarrow, which is not installed: pip install pyarrow$"): rows_of(sounds / "test.parquet")


# Rows that are wrong

BAD = {     # a line of a list in the format, and what is said about it
    "seed-tts": [("u2|too few", "has 2 columns"), ("u2|a|b|c|d|e", "has 6 columns"), (f"u2|{ADA}||{SAY}", "has no recording"),
        (f"u2|{ADA}|none.wav|{SAY}", "No such file"),
                 (f"u2|{ADA}|ada.wav|", "nothing to say"), (f"u2|{ADA}|ada.wav|...", "not spoken"),
                 (f"u2|...|ada.wav|{SAY}", "transcript: needs a letter"),
                 (f"u2|{ADA}|ada.wav|{'x' * 60_000}", "at most 50000 characters"), (f"u2|{ADA}|ada\0.wav|{SAY}", "not the name of a file"),
                 (f"u2|a\0b|ada.wav|{SAY}", "transcript"), (f"u2|{ADA}|wavs|{SAY}", "is a folder"),
                 (f"u2|{ADA}|{'x' * 5000}.wav|{SAY}", "not the name of a file"),
                 (f"u2|{ADA}|{'x' * 300}.wav|{SAY}", "File name too long")],
    "omnivoice": [("{", "not a JSON object"), ("[]", "not a JSON object"), ("[" * 20_000, "not a JSON object"),
        ('{"id": 1' + "0" * 5000 + "}", "not a JSON object"), ("{}", "nothing to say"),
                  (json.dumps(dict(id="u2", text=5.5, ref_audio="ada.wav", ref_text=ADA)), "text: must be a text, got float"),
                  (json.dumps(dict(id="u2", text=SAY, ref_audio=["ada.wav"])), "ref_audio: must be a text, got list"),
                  (json.dumps(dict(id="u2", text="\ud800", ref_audio="ada.wav")), "bytes that are not UTF-8"),
                  (json.dumps(dict(id="u2", text=SAY, ref_audio="\ud800")), "bytes that are not UTF-8")],
    "nemo": [(json.dumps(dict(audio_filepath="ada.wav", text=ADA, duration=duration)), "duration: must be a number of seconds") for duration in (-1,
        "2", True, 1e300, [])]
    + [(json.dumps(dict(audio_filepath="ada.wav", text=ADA, offset=offset, duration=1)), said) for offset,
        said in ((7_500, "at most 7200 s"), (100, "not within the clip of 2.440 s"))],
    "lhotse": [(json.dumps(CUT | change), said) for change, said in (
        (dict(recording=None), "recording: must be an object"), (dict(recording={"sources": []}), "sources: must be a list"),
            (dict(recording={"sources": ["x"]}), "sources: must be"),
        (dict(recording={"sources": [dict(type="command", source="touch /tmp/x")]}), "only files are read, got 'command'"),
        (dict(recording={"sources": [dict(type="url", source="https://example.com/x.wav")]}), "only files are read, got 'url'"),
        (dict(supervisions=[]), "supervisions: must be a list"), (dict(supervisions=[{"text": ADA}] * 2), "supervisions: one is read, got 2"))],
    "librispeech-pc": [("../../x\t1\ta\t61-1-0001\t1\tb", "not an utterance id like 61-70968-0000"), (f"{LIBRI[0]}\t1\ta\tb", "has 4 columns"),
        ("99-1-0001\t1\ta b\t99-1-0002\t1\tb", "No such file")],
}


@pytest.mark.parametrize("kind,bad,said", [(kind, *case) for kind, cases in BAD.items() for case in cases])
def test_a_bad_row_is_listed_with_its_reason_and_spoils_no_other(sounds, kind, bad, said):
    name, good, _ = FILES[kind]
    (sounds / name).write_bytes(good + bad.encode("utf-8", "surrogatepass") + b"\n" + good)
    made = rows_of(sounds / name)
    assert [item.status for item in made] == ["doubtful", "broken", "doubtful"], made.table.problems.tolist()      # the good ones have one id
    assert said in made[1].problems[0] and "\n" not in made[1].problems[0] and made.broken.row.tolist() == [made[1].entry.number]
    assert len(made.references) == 1 and "row" in made._repr_html_()


def test_a_byte_that_is_no_utf8_spoils_its_row_only(sounds):
    (sounds / "meta.lst").write_bytes(
        f"u1|{ADA}|ada.wav|{SAY}\n".encode() + f"u2|{ADA}|ada.wav|caf\xe9\n".encode("latin-1") + f"u3|{ADA}|ada.wav|{SAY}".encode())
    assert [(item.status, item.problems) for item in rows_of(sounds)] == [("ok", ()), ("broken", ("has bytes that are not UTF-8",)),
        ("ok", ())]


def test_a_bad_row_of_a_table(sounds):
    (sounds / "metadata.csv").write_text(f'file_name,text\nada.wav,"{ADA}"\nben.wav\nben.wav,"{"x" * 200_000}"\nben.wav,"{BEN}"\n\n')
    made = rows_of(sounds)
    assert [item.status for item in made] == ["ok", "broken", "broken", "ok"]
    assert made[1].problems == ("has 1 columns, and should have 2",) and "field larger than" in made[2].problems[0]


@pytest.mark.parametrize("name", ["../outside.wav", "/etc/passwd", "wavs/../../outside.wav", "link.wav", "folder/outside.wav", "pipe.wav",
    "~/x.wav", "", ".", "wavs", "/dev/zero", "-"])
@pytest.mark.parametrize("kind", ["seed-tts", "omnivoice", "huggingface", "nemo", "lhotse"])
def test_a_name_leads_nowhere(tmp_path, kind, name):
    place = tmp_path / "set"
    (place / "wavs").mkdir(parents=True)
    (tmp_path / "outside.wav").write_bytes((VOICE_FOLDER / "ada.wav").read_bytes())
    (place / "link.wav").symlink_to(tmp_path / "outside.wav")
    (place / "folder").symlink_to(tmp_path)
    os.mkfifo(place / "pipe.wav")
    cut = CUT | {"recording": {"sources": [{"type": "file", "source": name}]}}
    content = {"seed-tts": f"u1|{ADA}|{name}|{SAY}".encode(), "omnivoice": lines(dict(id="u1", text=SAY, ref_audio=name, ref_text=ADA)),
        "lhotse": lines(cut),
               "huggingface": lines(dict(file_name=name, text=ADA)), "nemo": lines(dict(audio_filepath=name, text=ADA))}[kind]
    (place / FILES[kind][0]).write_bytes(content)
    made = rows_of(place / FILES[kind][0])
    assert made[0].status == "broken" and made[0].seconds is None
    with pytest.raises(ValueError): made[0].reference


def test_a_true_recording_leads_nowhere_either(sounds):
    (sounds / "set").mkdir()
    (sounds / "set/ada.wav").write_bytes((sounds / "ada.wav").read_bytes())
    (sounds / "set/meta.lst").write_text(f"u1|{ADA}|ada.wav|{SAY}|../ben.wav\nu2|{ADA}|ada.wav|{SAY}|none.wav\n")
    made = rows_of(sounds / "set")
    assert [item.status for item in made] == ["doubtful", "doubtful"] and [item.truth for item in made] == [None, None]
    assert all(item.problems[0].startswith("its true recording") for item in made)


def test_a_whole_path_is_fine_if_it_is_in_the_folder(sounds):
    (sounds / "lists").mkdir()
    (sounds / "lists/meta.lst").write_text(f"u1|{ADA}|{sounds}/ada.wav|{SAY}\nu2|{ADA}|ada.wav|{SAY}\n")
    assert [item.status for item in rows_of(sounds / "lists")] == ["broken", "broken"]
    assert [item.status for item in rows_of(sounds / "lists", sounds=sounds)] == ["ok", "ok"]
    with pytest.raises(TestSetError, match="sounds: .* is not a folder"): rows_of(sounds / "lists", sounds=sounds / "none")


def test_a_part_of_a_recording(sounds):
    (sounds / "m.jsonl").write_bytes(lines(dict(audio_filepath="ben.wav", text="along the river", offset=0.5, duration=1.25)))
    item = rows_of(sounds / "m.jsonl")[0]
    assert item.usable and item.reference.audio.seconds == pytest.approx(1.25, abs=0.01) and item.reference.name == "ben"


# The list itself

def test_lists_that_are_none(sounds, monkeypatch):
    for content, said in ((b"", "none of the known formats"), (b"Hello.", "none of the known formats"),
        (b"\x00\xff" * 50, "none of the known formats")):
        (sounds / "a.txt").write_bytes(content)
        with pytest.raises(TestSetError, match=said): rows_of(sounds / "a.txt")
    (sounds / "a.jsonl").write_text('{"surprise": 1}\n')
    with pytest.raises(TestSetError, match="none of the known formats"): rows_of(sounds / "a.jsonl")
    (sounds / "a.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(TestSetError, match="can't be read: Not a gzipped file"): rows_of(sounds / "a.jsonl.gz")
    packed = bytearray(gzip.compress(b'{"text": "some"}\n' * 99, mtime=0))
    packed[20] ^= 255
    (sounds / "b.jsonl.gz").write_bytes(packed)
    with pytest.raises(TestSetError, match="b.jsonl.gz' can't be read"): rows_of(sounds / "b.jsonl.gz")
    (sounds / "b.jsonl.gz").unlink()
    for path, said in ((sounds / "none", "does not exist"), (sounds / "61", "has no recordings")):
        with pytest.raises(TestSetError, match=said): rows_of(path)
    with pytest.raises(TestSetError, match="several lists: a.jsonl, a.jsonl.gz; give one"): rows_of(sounds)
    (sounds / "link.lst").symlink_to(sounds / "a.txt")
    with pytest.raises(TestSetError, match="is a link"): rows_of(sounds / "link.lst")
    (sounds / "meta.lst").write_text(f"u1|{ADA}|ada.wav|{SAY}\n" * 3)
    with pytest.raises(TestSetError, match="form: must be one of seed-tts, .*got 'kaldi'"): rows_of(sounds / "meta.lst", form="kaldi")
    assert [entry.problem for entry in read_list(sounds / "meta.lst", "nemo")[0]] == ["is not a JSON object"] * 3
    monkeypatch.setattr(formats, "MOST_ROWS", 2)
    with pytest.raises(TestSetError, match="more than 2 rows"): rows_of(sounds / "meta.lst")
    monkeypatch.setattr(formats, "MOST_LIST_BYTES", 20)
    with pytest.raises(TestSetError, match="'meta.lst' has more than 20 bytes"): rows_of(sounds / "meta.lst")
    (sounds / "b.jsonl.gz").write_bytes(gzip.compress(b" " * 10_000_000))
    with pytest.raises(TestSetError, match="has more than 20 bytes"): rows_of(sounds / "b.jsonl.gz")


# What is checked in a row

def test_the_sound_is_listened_to(sounds):
    Audio(np.random.default_rng(0).normal(0, 0.1, 48_000), 24_000).save(sounds / "noise.wav")
    Audio(np.zeros(48_000), 24_000).save(sounds / "silence.wav")
    (sounds / "broken.wav").write_bytes((sounds / "ada.wav").read_bytes()[:5000])
    Audio.join([load_audio(sounds / "ada.wav")] * 14).save(sounds / "long.wav")
    rows = [f"{name}|{transcript}|{name}.wav|{SAY}" for name,
        transcript in (("noise", ADA), ("silence", ADA), ("broken", ADA), ("long", " ".join([ADA] * 12)), ("ada", ADA * 8), ("ben", ""))]
    (sounds / "meta.lst").write_text("\n".join([*rows, rows[-1]]))
    made = rows_of(sounds)
    assert [item.status for item in made] == ["doubtful", "broken", "broken", "doubtful", "doubtful", "doubtful", "doubtful"]
    for item, said in zip(made, ("sounds like noise", "loudest", "truncated", "30 s", "letters a second, people speak 7 to 28",
        "has no transcript", "is another row's")):
        assert any(said in problem for problem in item.problems), item


def test_consent(sounds, monkeypatch):
    (sounds / "m.jsonl").write_bytes(lines(dict(file_name="ada.wav", text=ADA, consent="hers"), dict(file_name="ben.wav", text=BEN)))
    with pytest.warns(UserWarning, match=r"consent: not stated for 1 of 2 rows of 'm.jsonl'") as told: made = TestSet(sounds / "m.jsonl")
    assert len(told) == 1 and told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [item.reference.consent for item in made] == ["hers", "not stated"] and len(made.broken) == 0
    monkeypatch.setattr(testsets, "read_settings", lambda: Settings(references=ReferencePolicy(require_consent=True)))
    with pytest.warns(UserWarning): made = TestSet(sounds / "m.jsonl")
    assert [item.status for item in made] == ["ok", "broken"] and "require_consent" in made[1].problems[0]
    assert [item.status for item in rows_of(sounds / "m.jsonl")] == ["ok", "ok"]


def test_what_is_shown_is_escaped_and_short(sounds):
    (sounds / "meta.lst").write_text("\n".join(f"<script>{place}|{ADA}|ada.wav|<b>{'long ' * 1000}" for place in range(50)))
    page = rows_of(sounds)._repr_html_()
    assert "<script>" not in page and "<b>" not in page and len(page) < 30_000 and "and 30 more" in page


def test_the_one_that_ships(voices):
    made = vl.TestSet()
    assert (len(made), len(made.references), len(made.texts)) == (120, 5, 24) and set(made.table.status) == {"ok"}
    kinds = made.only(speaker="noor").table.kind.value_counts()
    assert kinds.to_dict() == {"short cross-lingual": 5, "medium cross-lingual": 4, "digits cross-lingual": 3, "short vocalised": 3,
        "short bare": 3, "medium vocalised": 2,
                               "medium bare": 2, "digits vocalised": 1, "digits bare": 1}
    assert {item.language for item in made} == {"english", "arabic"} and made[0].reference.sha256 == voices["ada"].sha256
    assert all(len(item.text.split()) > 20 for item in made.only(kind="medium")) and all(any(map(str.isdigit,
        item.text)) for item in made.only(kind="digits"))
    assert not set(made.texts) & {voice.transcript for voice in voices.values()}
    assert testsets.TEXT_FILE.read_text("utf-8").count("\n") == 25
