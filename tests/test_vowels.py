"Marks for bare Arabic: letters stay, writers' marks stay, other scripts stay, and no text is too odd or too long."
import time
import unicodedata

import pytest
import torch

from voicelab.text import normalise, strip_harakat
from voicelab.vowels import diacritizer, vocalise

BARE = "ذهب الولد إلى المدرسة في الصباح."


def test_bare_words_are_marked():
    assert vocalise(BARE) != BARE and strip_harakat(vocalise(BARE)) == BARE


@pytest.mark.parametrize("text", ["", "Hello, world.", "你好。", "5 + 5", "[SPEAKER0] Hi. <SE>[laughter]</SE>", "ـــ",
    "\u064e\u064f", "ذَهَبَ الْوَلَدُ.", "کتاب چای گرم", "كَتاپ", "كتـاب", "كتاب5"])
def test_what_is_not_bare_arabic_stays(text):
    assert vocalise(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("text", ["Say الكتاب twice, الكتاب.", "[SPEAKER1] ذهب <|eot_id|> الولد", "كتب،الولد؛البيت",
    "قال: الكتاب 5 الجديد", "ﷲ ﻻ الولد", "كتـاب جديد",
                                  "آمن ؤئأإ ى ة", "ٱلكتاب", "چای گرم", "ذهب  \n الولد", "\u064eكتب", "أ\u0654ب كتب", "مُدرس كبير"])
def test_only_marks_are_added_to_whole_bare_words(text):
    given, made = unicodedata.normalize("NFC", text), vocalise(text)
    assert strip_harakat(made) == strip_harakat(given)
    for before, after in zip(given.split(), made.split(), strict=True):
        if before != strip_harakat(before): assert before == after


def test_marks_are_composed_as_normalise_does_it():
    made = vocalise(BARE)
    assert made == unicodedata.normalize("NFC", made) == normalise(made)


def test_the_random_state_is_not_touched():
    diacritizer.cache_clear()
    before = torch.get_rng_state()
    first = vocalise(BARE)
    assert torch.equal(before, torch.get_rng_state()) and vocalise(BARE) == first


def test_a_long_text_takes_time_in_proportion():
    began = time.process_time()
    made = vocalise("ذهب الولد إلى المدرسة " * 100)
    assert strip_harakat(made).split() == ("ذهب الولد إلى المدرسة " * 100).split() and time.process_time() - began < 60


@pytest.mark.parametrize("text", ["ب" * 2000, "كتاب " + "ب" * 2000 + " الولد", "ٱلۡحَمۡدُ لِلَّهِ", "كتابۡ",
    "كتاب\u0610", "كت\u200cاب", "كت\u200dاب", "كت\u200bاب", "پرحمٰن"])
def test_what_is_no_whole_bare_word_stays(text):
    "An endless word would take gigabytes, and half a word would get the ending of a whole one."
    made = vocalise(text)
    assert strip_harakat(made) == strip_harakat(text)
    for before, after in zip(text.split(), made.split(), strict=True):
        if before not in ("كتاب", "الولد"): assert before == after


def test_long_words_are_read_in_shorter_stretches():
    text = " ".join(["فسيكفيكهمالله"] * 40)
    assert strip_harakat(vocalise(text)) == text and vocalise(text) != text


@pytest.mark.parametrize("text", ["قل هو الله أحد", "محمد قال", "كتب الولد"])
def test_no_word_gets_a_tanwin_before_its_end(text):
    for word in vocalise(text).split(): assert not {"\u064b", "\u064c", "\u064d"} & set(word.removesuffix("ا").removesuffix("ى")[:-1])
