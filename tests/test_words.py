"""Words with their times: every way in which what was heard can differ from the text, in several scripts."""
import numpy as np
import pytest

from voicelab.asr import Recogniser, normaliser_of
from voicelab.audio import Audio
from voicelab.errors import ArgumentError
from voicelab.words import HeardWord, aligned, chosen_recogniser, word_timeline

class Fake(Recogniser):
    "Hears the words that it was made with, a quarter of a second each."
    id = "fake"

    def __init__(self, words): self.words = words

    def hear_words(self, audio, code):
        return [HeardWord(word, n / 4, n / 4 + 0.2, 0.5) for n, word in enumerate(self.words.split())]


SOUND = Audio(np.sin(np.arange(24_000) / 9).astype(np.float32), 24_000)


@pytest.mark.parametrize(("text", "heard", "signs"), [
    ("come home soon", "come home soon", "==="),
    ("come home soon", "Come, HOME soon!", "==="),
    ("come home soon", "come soon", "=-="),
    ("come home soon", "come right home soon", "=+=="),
    ("come home soon", "come comb soon", "=x="),
    ("come home soon", "", "---"),
    ("come", "and so we went on", "x++++"),
    ("Don't wake Mr. Bell", "do not wake mister bell", "====="),
    ("do not go", "don't go", "=="),
    ("we have 2 - cups", "we have 2 cups", "===="),
    ("ذَهَبْنَا إِلَى الْحَدِيقَةِ", "ذهبنا إلى الحديقة", "==="),
    ("ذَهَبْنَا إِلَى الْحَدِيقَةِ", "ذهبنا الحديقة", "=-="),
])
def test_each_word_has_its_outcome(text, heard, signs):
    found = word_timeline(SOUND, text, Fake(heard)).words
    marks = {"same": "=", "missing": "-", "added": "+", "exchanged": "x"}
    got = "".join(marks[each.status] for each in found)
    assert sorted(got) == sorted(signs) and (got == signs or "+" in signs)     # which of several is the added one is jiwer's choice
    assert [each.heard for each in found if each.heard] == heard.split()
    assert [each.begin for each in found] == sorted(each.begin for each in found)
    assert all(np.isnan(each.probability) == (each.status == "missing") for each in found)


def test_a_language_without_spaces_is_laid_out_by_character():
    found = aligned([*"今天天气好"], [HeardWord("今天", 0, 0.4, 1), HeardWord("天汽", 0.4, 0.8, 1), HeardWord("好", 0.8, 1, 1)], normaliser_of("zh"))
    assert [(each.wanted, each.status) for each in found] == [("今 天", "same"), ("天 气", "exchanged"), ("好", "same")]


def test_silence_and_no_sound_have_only_missing_words():
    for audio in (Audio(np.zeros(24_000, np.float32), 24_000), Audio(np.zeros(0, np.float32), 24_000)):
        line = word_timeline(audio, "come home", Fake("never asked"))
        assert [each.status for each in line.words] == ["missing"] * 2 and "2 missing" in repr(line) and "<svg" in line._repr_html_()


def test_what_was_heard_is_text_on_the_page():
    html = word_timeline(SOUND, "<b>'x'</b>", Fake("<script>alert(1)</script> \"onmouseover=x"))._repr_html_()
    assert "<script" not in html and "<b>" not in html and "title='" in html and "' onmouseover" not in html


@pytest.mark.parametrize(("bad", "said"), [
    (dict(audio=3), "audio: must be an Audio"), (dict(text=3), "text: must be a text"),
    (dict(language="!!"), "language: must be a name or a code"), (dict(recogniser="/none/there"), "recogniser: ")])
def test_bad_input_is_one_line(bad, said):
    with pytest.raises(ValueError, match=f"^{said}") as caught: word_timeline(**dict(audio=SOUND, text="come", recogniser=Fake("")) | bad)
    assert "\n" not in str(caught.value)


def test_no_recogniser_is_said():
    with pytest.raises(ArgumentError, match="^recogniser: is not set: give recogniser="): chosen_recogniser()
