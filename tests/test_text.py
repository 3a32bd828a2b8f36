"""Bad texts, every control token against a real tokenizer, normalising, weighing and splitting."""
import random
import re
import time
import unicodedata
import warnings

import numpy as np
import pytest

from voicelab.families.higgs.tiny import build_tokenizer
from voicelab.split import CHARACTERS_PER_WEIGHT, sentence_ends, sentence_language, split_text, split_turns, split_words
from voicelab.text import (
    CHARACTERS,
    EMOJI,
    MAX_CHARACTERS,
    PUNCTUATION,
    SPECIAL_TOKENS,
    WEIGHTS,
    TextError,
    check_text,
    count_words,
    escape_control_tokens,
    fold_characters,
    has_speech,
    language_of,
    normalise,
    script_of,
    strip_harakat,
    weigh,
)
from voicelab.text_form import MARKUP, UPSTREAM, TextForm, form_from, lower_capitals

def knowing(*special_tokens):
    "The tiny model's tokenizer with more control tokens; it finds them as the released tokenizer finds its own."
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(special_tokens)})
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer(): return build_tokenizer()


def controls(tokenizer, text: str) -> list[str]:
    return [token for token in tokenizer.tokenize(text) if token in tokenizer.get_added_vocab()]


def squeeze(text: str) -> str: return "".join(text.split())


# Escaping

def test_special_tokens_are_the_released_ones(tokenizer):
    assert len(set(SPECIAL_TOKENS)) == len(SPECIAL_TOKENS) == 28
    first = len(tokenizer) - 28
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == list(range(first, first + 28))


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_every_token_is_escaped(tokenizer, token):
    half = len(token) // 2
    head, tail = token[:half], token[half:]
    tricks = [token, f"a{token}b", token * 3, f"{token}<|eot_id|>{token}", f"{head}{token}{tail}",
              f"{token[0]}{token}{token[1:]}", f"{token[:-1]}{token}{token[-1]}", f"<{token}>", f"<|{token}|>",
              f" {token}\n", f"{head}{head}{token}{tail}{tail}"]
    for trick in tricks:
        assert controls(tokenizer, trick), "the trick is none"
        escaped = escape_control_tokens(trick)
        assert controls(tokenizer, escaped) == []
        assert escape_control_tokens(escaped) == escaped
        assert squeeze(escaped) == squeeze(trick)
        assert tokenizer.decode(tokenizer.encode(escaped, add_special_tokens=False)) == escaped
    assert escape_control_tokens(token) == f"< {token[1:-1]} >"


def test_entities_make_no_token(tokenizer):
    for written in ("&lt;|eot_id|&gt;", "&#60;|eot_id|&#x3e;", "&amp;lt;|eot_id|&amp;gt;", "<|eot&#95;id|>"):
        with pytest.warns(UserWarning, match="removed markup"): assert controls(tokenizer, escape_control_tokens(FORM.read(f"Hi {written} there."))) == []


def test_random_pieces_of_tokens_never_make_one(tokenizer):
    draw = random.Random(0)
    parts = (slice(2), slice(-1), slice(1, None), slice(-2, None), slice(None))
    pieces = [token[part] for token in SPECIAL_TOKENS for part in parts] + [" ", "x"]
    for _ in range(2000):
        text = "".join(draw.choices(pieces, k=draw.randint(1, 12)))
        escaped = escape_control_tokens(text)
        assert controls(tokenizer, escaped) == []
        assert escape_control_tokens(escaped) == escaped


@pytest.mark.parametrize("token", ["<|reserved_special_token_100|>", "<|im_start|>", "<|audio_7|>", "<|x|>"])
def test_names_beyond_the_list_are_escaped(token):
    assert controls(knowing(token), escape_control_tokens(f"a{token}b")) == []


def test_other_spellings_on_request():
    tokens = (*SPECIAL_TOKENS, "<tool_call>", "[gMASK]", "[a]", "]b[")
    text = "x<tool_call>[gMASK][a]b[]b[a]"
    assert controls(knowing(*tokens), escape_control_tokens(text, tokens)) == []
    assert escape_control_tokens("[gMASK]") == "[gMASK]"


@pytest.mark.parametrize("token", ["", "x", "a b", "\n\n"])
def test_a_spelling_that_cannot_be_broken(token):
    with pytest.raises(TextError, match="special_tokens: "): escape_control_tokens("text", (token,))


@pytest.mark.parametrize("text", [
    "", "plain", "3 < 4 | 5 > 2", "<b>bold</b>", "a <| b |> c", "<||>", "<se>", "<|eot _id|>",
])
def test_other_text_is_left_alone(tokenizer, text):
    assert controls(tokenizer, text) == []
    assert escape_control_tokens(text) == text


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_normalised_then_escaped_is_safe(tokenizer, token):
    for hider in "\u0640\u200f\u202e\ufeff\u00ad\u0007":
        text = normalise(token[:3] + hider + token[3:] + " word")
        assert controls(tokenizer, text) == [token]
        assert controls(tokenizer, escape_control_tokens(text)) == []


def test_punctuation_never_becomes_part_of_a_control_token():
    assert not set("".join(PUNCTUATION.values())) & set("<>|")


# Bad texts

@pytest.mark.parametrize("text, says", [
    (None, "must be a string, got NoneType"), (3, "got int"), (b"hi", "got bytes"), (["hi"], "got list"),
    ("", "nothing to say"), (" \n\t\u3000", "nothing to say"),
    ("<|eot_id|>", "only control tokens"), ("<SE></SE> <|AUDIO_OUT|>!", "only control tokens"),
    ("".join(SPECIAL_TOKENS), "only control tokens"),
    ("<|reserved_special_token_9|>", "only control tokens"),
    ("...", "not spoken"), ("؟!，。", "not spoken"), ("🙂", "not spoken"), ("\u064e\u0640", "not spoken"),
    ("\u200b", "not spoken"), ("\x00", "not spoken"), ("half \ud83d here", "lone surrogate.* position 5"),
    ("a" * 100_000, f"at most {MAX_CHARACTERS} characters, got 100000"),
])
def test_bad_text_is_one_line(text, says):
    with pytest.raises(TextError, match=says) as error: check_text(text)
    assert str(error.value).startswith("text: ") and "\n" not in str(error.value) and len(str(error.value)) < 150
    assert isinstance(error.value, ValueError)


def test_the_argument_is_named():
    with pytest.raises(TextError, match="^transcript: "): check_text(" ", "transcript")


@pytest.mark.parametrize("text", [
    "a", "7", "٧", "%", "你", "مرحبا", "<|eot_id|> a", " padded ", "a" * MAX_CHARACTERS, "½", "e\u0301",
])
def test_good_text_comes_back_unchanged(text):
    assert check_text(text) == text


# Scripts and languages

@pytest.mark.parametrize("text, script", [
    ("aZéßﬁＡ", "latin"), ("жЯ", "cyrillic"), ("αΩ", "greek"), ("عپﻻ", "arabic"), ("א", "hebrew"), ("你々㐀", "han"),
    ("あアーｱ", "kana"), ("한ㄱ", "hangul"), ("क", "devanagari"), ("ก", "thai"), ("አ", "ethiopic"),
    ("Ա", "letter"), ("0٧७½Ⅳ", "digit"), ("%€+&", "symbol"),
    (".؟،。、…—«🙂|<", "punctuation"), (" \n\t\u3000\u00a0", "space"),
    ("\u064e\u0301\u093f\u0640\u200d\u200f\ufeff\x00", "silent"),
])
def test_script_of(text, script):
    assert [script_of(char) for char in text] == [script] * len(text)


@pytest.mark.parametrize("text, language", [
    ("Hello", "english"), ("Grüße", "english"), ("مرحبا بكم في Lab", "arabic"), ("我用 Python 写代码程序", "chinese"),
    ("日本語の本", "japanese"), ("안녕", "korean"), ("שלום", "hebrew"), ("привет", "russian"), ("γεια", "greek"),
    ("नमस्ते", "hindi"), ("สวัสดี", "thai"), ("ሰላም", "amharic"), ("தமிழ்", "tamil"), ("2026", "other"),
    ("", "other"), ("Ա", "other"),
])
def test_language_of(text, language):
    assert language_of(text) == language


def test_strip_harakat():
    assert strip_harakat("مُحَمَّدٌ") == "محمد"
    assert strip_harakat("الرَّحْمَٰنِ") == "الرحمن"
    assert strip_harakat("آمن أكل إلى مؤمن") == "آمن أكل إلى مؤمن"
    assert strip_harakat("e\u0301 नि") == "e\u0301 नि"


# Normalising

@pytest.mark.parametrize("before, after", [
    ("", ""), ("  \n ", ""), ("a\n\n b\tc", "a\nb c."), ("a\r\nb\u2028c", "a\nb\nc."), ("Hi.", "Hi."), ("Hi!", "Hi!"), ('Say "hi"', 'Say "hi"'),
    ("Hi;", "Hi;"), ("كيف؟", "كيف؟"), ("نعم،", "نعم،"), ("نعم", "نعم."), ("你好", "你好."), ("你好。", "你好."),
    ("“好”！", '"好"!'),
    ("（a）【b】《c》「d」『e』", 'a [b]"c""d""e"'), ("一、二；三：四", "一,二;三:四."), ("好，好", "好, 好."), ("约翰·史密斯", "约翰.史密斯."),
    ("等…", "等..."), ("a—b", "a-b."),
    ("f(x) is 3", "f x is 3."), ("20°C", "20 degrees Celsius."), ("68 °F!", "68 degrees Fahrenheit!"),
    ("今天25℃", "今天25摄氏度."),
    ("الحرارة ٢٥°C", "الحرارة ٢٥ درجة مئوية."), ("كـتـاب", "كتاب."), ("\u202babc\u202c", "abc."), ("e\u0301", "é."),
    ("Call 202-555-0147 at 17:30", "Call 202-555-0147 at 17:30."), ("٣٫١٤", "٣٫١٤."), ("a\x00b\x1bc", "abc."),
    ("می\u200cخواهم", "می\u200cخواهم."),
])
def test_normalise(before, after):
    assert normalise(before) == after
    assert normalise(after) == after


def test_normalise_keeps_harakat():
    text = "كَتَبَ الوَلَدُ."
    assert normalise(text) == unicodedata.normalize("NFC", text)
    assert len(PUNCTUATION) == 26       # the 24 Chinese marks and the two round brackets


# Characters

FORM = TextForm(transcripts="normalised")


@pytest.mark.parametrize("each", CHARACTERS, ids=lambda each: each.name)
def test_every_class_becomes_what_the_table_says(each):
    assert normalise(each.example) == FORM.write(FORM.read(each.example)) == FORM.transcript(each.example) == each.result
    assert normalise(each.result) == each.result
    if each.becomes == "kept": assert each.result.removesuffix(".") == each.example
    else: assert each.result.removesuffix(".") != each.example
    assert TextForm().transcript(each.example) == fold_characters(each.example).strip()


def test_a_page_of_markdown_is_words():
    page = "> Title\n> It is _not_ ~~red~~.\n```python\nx\n```\n![A map](map.png) <!-- old --> &amp; more"
    with pytest.warns(UserWarning, match="removed markup"): assert FORM.read(page).split() == "Title It is not red. x A map & more".split()


@pytest.mark.parametrize("each", MARKUP, ids=lambda each: each.name)
def test_every_kind_of_markup_is_taken_out_and_named(each):
    with pytest.warns(UserWarning, match="^text: removed markup"): assert FORM.write(FORM.read(each.example)) == each.result
    assert UPSTREAM.read(each.example) == each.example


@pytest.mark.parametrize("text", ["a < b > c", "<b and c>", "2 * 3 * 4", "2*3*4", "snake_case_name", "[laugh] [SPEAKER0] [note]", "<3 you",
                                  "a __ b", "[1](see below)", "5 > 3 and > 4", "A&B & C&D;", "5 ~ 6 ~ 7",
                                  "a # b", "#1 of 2", "a_b _ c", "the `", "5 < 6 and <i", "<SE>x</SE>", "<|eot_id|> x"])
def test_what_is_no_markup_stays(text, recwarn):
    assert FORM.read(text) == text and not recwarn.list


@pytest.mark.parametrize("hidden", [
    "\u200b", "\u200c", "\u200d", "\u2060", "\u2063", "\ufeff", "\u00ad", "\u034f", "\u180e", "\u3164", "\ufffc", "\ufffd", "\ufe0f", "\ufe0e",
    "\U000e0100", "\U000e0067", "\U000e007f", "\ue000", "\u200e", "\u202e", "\u2066", "\x00", "\x1b", "\x9f", "\u206a", "\u200d\u200d\u200c",
    "\U0001d173", "\U0001d17a", "\u17b4", "\u17b5", "\u180f", "\u2065", "\ufff0", "\ufff8", "\U0001bca0", "\U0001bca3", "\ufdd0", "\ufdef",
    "\ufffe", "\uffff", "\U0001fffe", "\U000dffff", "\U000effff", "\U0010ffff", "\U000e0080", "\U000e00ff", "\U000e01f0", "\U000e0fff"])
@pytest.mark.parametrize("plain", ["the garden", "كتاب جديد", "你好世界"])
def test_what_nobody_sees_changes_nothing(plain, hidden):
    inside, outside = plain[:2] + hidden + plain[2:], f"{hidden}{plain}{hidden}".replace(" ", f" {hidden}")
    if not (hidden == "\u200c" and plain[0] == "ك"): assert fold_characters(inside) == plain
    assert fold_characters(outside) == plain


@pytest.mark.parametrize("text", [
    "می\u200cخواهم", "क्\u200dष", "👩\u200d🔬", "❤\ufe0f\u200d🔥", "1\ufe0f\u20e3", "🏴\U000e0067\U000e0062\U000e007f", "m²", "½", "①", "ª", "«a»", "a–b",
    "این کتاب جدید است", "یہ کتاب ہے", "گربه", "＜｜eot_id｜＞"])
def test_what_the_writing_needs_stays(text): assert fold_characters(text) == text


def test_the_blank_of_braille_is_a_space():
    assert normalise("\u2800the\u2800\u2800garden\u2800") == "the garden." and fold_characters("⠓⠑") == "⠓⠑"
    with pytest.raises(TextError, match="^text: nothing to say"): FORM.read("\u2800\u2800")


@pytest.mark.parametrize("text, plain", [
    ("ᴾᴬᴿᴷ ₚₐᵣₖ", "PARK park"), ("2ⁿ and 10ⁱ", "2n and 10i"), ("1ˢᵗ", "1st"), ("ₜₕₑ gᵝᵞ", "the gβγ"), ("x²ⁿ, H₂O, 5⁻³", "x²n, H₂O, 5⁻³"),
    ("⒯⒣⒠ 🄖arden", "the Garden"), ("⒜ Milk", "a Milk"), ("№5, № 5", "No 5, No 5"), ("Garden™ and ™", "Garden TM and TM"), ("™\ufe0f", "TM"),
    ("Ⅳ ⅩⅣ ⅻ", "IV XIV xii"), ("ↀ ⑴ ㊀ ⅓", "ↀ ⑴ ㊀ ⅓")])
def test_letters_in_other_forms(text, plain): assert fold_characters(text) == plain == fold_characters(plain)


@pytest.mark.filterwarnings("ignore:.*left as they are")
def test_roman_numerals_are_said_before_they_become_letters():
    words = TextForm(numbers="words", language="en")
    for read in (words.read, words.transcript): assert read("Chapter Ⅳ and ⅩⅣ") == "Chapter four and XIV"
    for read in (FORM.read, TextForm().transcript): assert read("Chapter Ⅳ") == "Chapter IV"
    assert UPSTREAM.read("Chapter Ⅳ") == "Chapter Ⅳ"


@pytest.mark.parametrize("arabic", ["الكتاب الجديد في المدرسة.", "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.", "كَيْفَ حَالُكُمْ؟"])
def test_arabic_from_a_persian_keyboard(arabic):
    assert fold_characters(arabic.translate(str.maketrans("كيه", "کیہ"))) == arabic


@pytest.mark.filterwarnings("ignore:text. removed markup")
def test_folding_makes_no_token_that_is_not_escaped(tokenizer):
    for token in SPECIAL_TOKENS:
        for text in (token[:3] + "\u200b" + token[3:], token[:4] + "<b>" + token[4:], "".join(chr(ord(c) + 0xfee0) for c in token)):
            assert controls(tokenizer, escape_control_tokens(FORM.read(f"{text} word"))) == []


# Forms

@pytest.mark.parametrize("text, lowered", [
    ("PLEASE FIND THE FLOWER IN THE GARDEN.", "Please find the flower in the garden."), ("I SAID I KNOW.", "I said I know."),
    ("NASA flew. The BBC was there.", "NASA flew. The BBC was there."), ("Find the FLOWER now", "Find the flower now"),
    ("STOP!", "STOP!"), ("PLEASE!", "Please!"), ("FLOWERS are here.", "Flowers are here."), ("DON'T DO IT NOW.", "Don't do it now."),
    ("[SPEAKER0] PLEASE GO ON. [laugh] I go.", "[SPEAKER0] Please go on. [laugh] I go."), ("ПОЖАЛУЙСТА, ИДИ.", "Пожалуйста, иди."),
    ("I THINK I'M RIGHT.", "I think I'm right."), ("كتاب", "كتاب"), ("A B C", "A b c"), ("It is I", "It is I"), ("ÉCOLE", "École"), ("", "")])
@pytest.mark.filterwarnings("ignore:text. capitals")
def test_capitals(text, lowered): assert lower_capitals(text) == lowered


@pytest.mark.parametrize("text, told", [
    ("PLEASE FIND THE FLOWER.", "capitals lowered: PLEASE, FIND, THE, FLOWER"), ("Please FIND it.", "capitals kept, as in an acronym: FIND"),
    ("Find the FLOWER for NASA.", "capitals lowered: FLOWER; capitals kept, as in an acronym: NASA"),
    ("ONE TWO THREE FOUR FIVE SIX SEVEN.", "capitals lowered: ONE, TWO, THREE, FOUR, FIVE and 2 more"),
    ("NASA, NASA.", "capitals kept, as in an acronym: NASA"),
    ("A garden. I know. It is I.", ""), ("[SPEAKER0] [LAUGH] Hello.", ""), ("Hi. <SE>[Laughter]</SE> <|AUDIO|>", ""), ("كتاب", "")])
def test_capitals_are_told_in_one_line(text, told):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lower_capitals(text)
    assert [str(each.message) for each in caught] == [f"text: {told}"] * bool(told)


@pytest.mark.parametrize("text, joined", [
    ("Chapter one\n\nThe garden is open today\nChapter two", "Chapter one. The garden is open today. Chapter two."),
    ("A line that\ngoes on.\nNext:\nMilk", "A line that goes on. Next: Milk."), ("سطر\nسطر", "سطر. سطر.")])
def test_lines_joined(text, joined): assert TextForm(lines="joined").write(text) == joined


def test_emoji_dropped_leave_no_hole():
    form = TextForm(emoji="dropped")
    for text, left in {"Go 🙂.": "Go.", "Go🙂on": "Go on", "Go 👩\u200d🔬🏽 on!": "Go on!", "🙂 Go": " Go", "Press 1\ufe0f\u20e3 now": "Press now",
                       "© ® ™ 5 stay": "© ® TM 5 stay"}.items(): assert form.read(text) == left
    with pytest.raises(TextError, match="^text: needs a letter"): form.read("🙂")
    assert len(EMOJI) > 10


@pytest.mark.parametrize("make, says", [
    (lambda: TextForm(capitals="small"), "text_form: capitals must be one of kept, lowered, got 'small'"),
    (lambda: form_from("theirs", {}), "text_form: must be a TextForm, 'upstream' or None, got 'theirs'"), (lambda: form_from(3, {}), "got 3"),
    (lambda: form_from(np.zeros(3), {}), r"got array\(\[0\., 0\., 0\.\]\)")])
def test_forms_refused(make, says):
    with pytest.raises(TextError, match=says): make()


# Weights

@pytest.mark.parametrize("text, weight", [
    ("", 0), ("abc", 3), ("a b", 2.2), ("a, b", 2.5), ("a!!!", 1.5), ("a ... !", 1.2), ("!a", 1), ("你好", 7),
    ("كتب", 4.8), ("كَتَبَ", 4.8), ("كـتـب", 4.8), ("17:30", 18.5), ("5%", 9.5),
    ("🙂🙂", 0), ("a\u0301", 1), ("a\u200f,\u200f b", 2.5),
])
def test_weigh(text, weight):
    assert weigh(text) == pytest.approx(weight)


def test_weights_cover_every_script():
    assert {script_of(chr(code)) for code in range(0x30000)} <= set(WEIGHTS)


def test_count_words():
    assert [count_words(text) for text in ("", " a  b\n", "你好世界")] == [0, 2, 1]


# Splitting

TEXTS = {
    "english": "Dr. Smith (the elder) paid $3.14, i.e. too much, on 21/11/2026. \"Why?\" she asked; nobody knew... ",
    "arabic": "مَرْحَبًا بِكُمْ، كَيْفَ حَالُكُمْ؟ نحن بخير؛ والحمد لله! هل وصل د. محمد عند الساعة ١٧:٣٠، أم لا؟ ",
    "chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，他说：“你好！”并应以兄弟关系的精神相对待。",
    "normalised": "你好,世界.今天天气很好!价格是3.5元.再见.",
    "mixed": "Call 202-555-0147 now! 打电话。 اتصل الآن؟ - - - 🙂🙂 end",
    "thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "marks": "!!! ... ?!? — word — \u064e\u064e, \u200f! x",
    "hindi": "सभी मनुष्यों को गौरव। अधिकारों के मामले में।",
}


@pytest.mark.parametrize("limit", [6, 11.3, 40, 168, 1e6])
@pytest.mark.parametrize("name", TEXTS)
def test_nothing_is_lost_and_everything_fits(name, limit):
    text = TEXTS[name] * 3
    pieces = split_text(text, limit)
    assert squeeze("".join(pieces)) == squeeze(text)
    assert all(weigh(piece) <= limit + 1e-6 for piece in pieces)
    assert all(has_speech(piece) for piece in pieces)
    assert all(piece == piece.strip() for piece in pieces)
    assert not any(unicodedata.combining(piece[0]) for piece in pieces)


def test_words_stay_whole_where_they_fit():
    text = TEXTS["english"] * 20
    for limit in (40, 50, 100): assert " ".join(split_text(text, limit)).split() == text.split()


def test_random_texts():
    draw = random.Random(1)
    alphabet = "ab 你好كت\u064e\u0640.,!?。،؟\n\"(1%🙂\u200f\u0301अ"
    for _ in range(1500):
        text = "".join(draw.choices(alphabet, k=draw.randint(0, 60)))
        limit = draw.choice([6, 7.7, 15, 60])
        pieces = split_text(text, limit)
        assert squeeze("".join(pieces)) == squeeze(text)
        assert all(weigh(piece) <= limit + 1e-6 for piece in pieces), (text, limit)


@pytest.mark.parametrize("text, limit, pieces", [
    ("One two. Three four.", 12, ["One two.", "Three four."]),
    ("One two. Three four.", 30, ["One two. Three four."]),
    ("First line\nsecond line", 12, ["First line", "second line"]),
    ("أهلا بك؟ نعم. لا", 13, ["أهلا بك؟", "نعم. لا"]),
    ("你好。今天好！", 11, ["你好。", "今天好！"]),
    ("你好.今天好!", 11, ["你好.", "今天好!"]),
    ("one two, three four", 12, ["one two,", "three four"]),
    ("نعم، لا؛ ربما", 10, ["نعم، لا؛", "ربما"]),
    ("他来，我走，你看", 11, ["他来，", "我走，", "你看"]),
    ("1,000 a", 23.8, ["1,000 a"]),
    ("Oh no. Then we go", 12, ["Oh no.", "Then we go"]),
    ("aaaaaaaaaa", 6, ["aaaaaa", "aaaa"]),
    ("", 10, []), ("  ", 10, []), ("!!!", 10, ["!!!"]),
])
def test_where_it_is_cut(text, limit, pieces):
    assert split_text(text, limit) == pieces


@pytest.mark.parametrize("text", [
    "It is 3.14 now", "See e.g. Bach", "Ask Dr. Smith", "At example.com today", "The U.S. Army", "By J. S. Bach",
    "By d. h. vs. Man", "etc. and so on", "قال د. محمد", "Is a?b=c ok", "٣.١٤ متر", "No. 5 Street", "at 5 p.m. today",
])
def test_not_the_end_of_a_sentence(text):
    assert split_text(text + ". Then", weigh(text + ".")) == [text + ".", "Then"]
    assert len(split_text(f"{text}. Next {text}.", weigh(f"Next {text}."))) == 2


SENTENCES = {
    "en": ["Acme Co. Ltd. Tokyo is big.|Next.", "Sen. Smith spoke.|He left.", '"Stop!" he said.|Go.', "Wait... what?|Yes.", "1. First item.|2. Second item.",
           "At 5 a.m. |The garden opened.", "Come today.|Please wait.", "See www.Example.Com now.|Go!", "By J. S. Bach.|Next.", "She said no.|Then we go.",
           "No. 5 is it.|Yes!", "Write to A.Smith@Mail.Example.Com now.|Go!", "It is 3.14 now.|Yes.",
           "(It ended.)|He left.", "He left (it ended.) And then?|Yes.", '("It ended.")|"Why?"|He left.', "(Acme Inc. of Tokyo) is big.|Yes.",
           "He left.|(She had gone. It was late.)|Then it ended.", "Ask Dr. Who.|He left.", "See e.g. The Doctor vs. Who.|Yes.",
           "(1) The first.|(2) The second.", "(a) First item.|(b) Second item.", "Mr. Smith vs. the St. Louis team.|It won."],
    "ar": ["كيف حالك؟|نحن بخير.", "قال د. محمد نعم.|وصل!", "نعم، لا.|هل وصل؟|لا."],
    "zh": ["你好。|今天好！|好", "他说：“你好！”|然后走了。", "你好.|今天好!"],
    "ja": ["今日は。|いい天気！", "（終わりです。）|今日は。"],
    "hi": ["सभी आए।|फिर गए।"], "ru": ["В 2020 г. он ушел.|Да.", "А. С. Пушкин писал.|Да."], "ko": ["안녕하세요.|네."],
    "es": ["Hola Sr. Pérez.|¿Qué tal?|La casa es de la Sra. Gil.", "¡Hola!|El perro es de una vecina."],
    "de": ["Am 3. Mai kam Dr. Weiß.|Er sprach z. B. laut.|Und das war es.", "Ist das so?|Ja, das ist nicht schlecht."],
    "fr": ["M. Dupont est dans le jardin.|Oui.", "« Bien ! » dit-il dans le jardin.|Elle est là."],
}


@pytest.mark.parametrize("language, marked", [(language, text) for language, texts in SENTENCES.items() for text in texts])
def test_where_sentences_end(language, marked):
    text = marked.replace("|", "" if language in ("zh", "ja") or "today.|" in marked or "a.m. |" in marked else " ")
    assert sentence_language(text) == language
    assert [text[start:end].strip() for start, end in zip([0, *sentence_ends(text)], [*sentence_ends(text), len(text)])] == \
        [sentence.strip() for sentence in marked.split("|")]


@pytest.mark.parametrize("text, sentences", [
    ("Chapter one\n\nThe garden is open today\n\nChapter two", ["Chapter one", "The garden is open today", "Chapter two"]),
    ("Chapter one\nThe garden", ["Chapter one", "The garden"]), ("A line that\ngoes on.", ["A line that\ngoes on."]),
    ("1. Milk\n2. Two eggs", ["1. Milk", "2. Two eggs"]), ("A line\n\nnext", ["A line", "next"])])
def test_lines_and_sentences(text, sentences):
    cuts = [0, *sentence_ends(text), len(text)]
    assert [text[start:end].strip() for start, end in zip(cuts, cuts[1:])] == sentences


def test_a_long_quotation_is_cut_at_its_sentences():
    text = 'He said: "The garden is open today. Nobody was there this morning. Come with me."'
    assert [str(piece) for piece in split_text(text, 36)] == ['He said: "The garden is open today.', "Nobody was there this morning.", 'Come with me."']
    assert all(piece.ends_sentence for piece in split_text(text, 36))


TURN = re.compile(r"\[SPEAKER\d")


@pytest.mark.parametrize("text, most, pieces", [
    ("one two three four five", 2, ["one two", "three four", "five"]), ("One. Two three", 2, ["One. Two", "three"]),
    ("One two\nthree four", 2, ["One two\nthree", "four"]), ("one", 9, ["one"]),
    ("你好世界", 3, ["你好世", "界"]), ("我用 Python 写", 3, ["我用 Python", "写"]),
    ("[SPEAKER0] a b c\n[SPEAKER1] d e", 5, ["[SPEAKER0] a b c", "[SPEAKER1] d e"]),
    ("[SPEAKER0] a b c\n[SPEAKER1] d e", 7, ["[SPEAKER0] a b c\n[SPEAKER1] d e"]),
    ("[SPEAKER0] a b c\n[SPEAKER1] d e", 3, ["[SPEAKER0] a b", "c", "[SPEAKER1] d e"])])
def test_words_at_most(text, most, pieces): assert split_words(text, most, TURN) == pieces


@pytest.mark.parametrize("text, most, pieces", [
    ("[SPEAKER0] a\n[SPEAKER1] b\n[SPEAKER0] c", 1, ["[SPEAKER0] a", "[SPEAKER1] b", "[SPEAKER0] c"]),
    ("[SPEAKER0] a\n[SPEAKER1] b\n[SPEAKER0] c", 2, ["[SPEAKER0] a\n[SPEAKER1] b", "[SPEAKER0] c"]),
    ("Title\n[SPEAKER0] a\nb\n[SPEAKER1] c", 1, ["Title", "[SPEAKER0] a\nb", "[SPEAKER1] c"]), ("No one.\nNothing.", 1, ["No one.\nNothing."])])
def test_turns_at_most(text, most, pieces): assert split_turns(text, most, TURN) == pieces


def test_a_turn_is_cut_only_if_it_alone_is_too_long():
    text = "[SPEAKER0] Hi there. How are you?\n[SPEAKER1] Fine. And you? I hope that you are well today.\n[SPEAKER0] Yes."
    assert split_text(text, 44, turn=TURN) == ["[SPEAKER0] Hi there. How are you?", "[SPEAKER1] Fine. And you?",
                                               "I hope that you are well today.", "[SPEAKER0] Yes."]


def test_a_character_heavier_than_the_limit_stands_alone():
    assert split_text("ab 你5, c", 1) == ["a", "b", "你", "5,", "c"]


@pytest.mark.parametrize("text, limit, pieces", [
    ("A year takes it around the sun. Call 555 at 10:30. Bye.", 24,
     [("A year takes it around the", False), ("sun.", True), ("Call 555 at", False), ("10:30.", True), ("Bye.", True)]),
    ("Go. Come. A sentence that is long, very long. Sit. Stay", 20,
     [("Go. Come.", True), ("A sentence that is", False), ("long, very long.", True), ("Sit. Stay", True)]),
    ("First line\nSecond line, which is long", 15,
     [("First line", True), ("Second line,", False), ("which is long", True)]),
    ("你好。今天天气很好，我们走！好。", 25, [("你好。", True), ("今天天气很好，", False), ("我们走！", True), ("好。", True)]),
])
def test_whole_sentences_and_parts_of_one_are_not_packed_together(text, limit, pieces):
    assert [(piece, piece.ends_sentence) for piece in split_text(text, limit)] == pieces


def test_only_a_piece_that_ends_a_sentence_gets_a_full_stop():
    pieces = split_text("They will point it, or not, at the moon\nAnd go", 16)
    said = [normalise(piece, piece.ends_sentence) for piece in pieces]
    assert said == ["They will point", "it, or not,", "at the moon.", "And go."]
    assert normalise("你好", sentence_end=False) == "你好" and normalise("Yes!", sentence_end=False) == "Yes!"


@pytest.mark.parametrize("text, pieces", [
    ("https://www.example.com/a-page", ["https://", "www.", "example.", "com/a-", "page"]),
    ("202-555", ["2", "0", "2-", "5", "5", "5"]),
    ("don't won't", ["don't", "won't"]), ("你好", ["你", "好"]), ("e\u0301te\u0301s été", ["e\u0301te\u0301s", "été"]),
    ("كَتَبَ", ["كَتَبَ"]), ("internationally", ["internationally"]), ("日本語の本", ["日", "本", "語の", "本"]),
])
def test_what_is_cut_where_words_stay_whole(text, pieces):
    limit = 1 if text == "e\u0301te\u0301s été" else 6
    assert split_text(text, limit, whole_words=True) == pieces


@pytest.mark.parametrize("text", ["a" + "\u0301" * 50_000, "ب" + "\u064e" * 5000 + " ب", "!" * 9000 + "a",
                                  "a" + " !" * 5000])
def test_marks_without_end_do_not_make_a_piece_without_end(text):
    pieces = split_text(text, 168)
    assert squeeze("".join(pieces)) == squeeze(text)
    assert max(map(len, pieces)) <= 168 * CHARACTERS_PER_WEIGHT


def test_the_bound_on_characters_leaves_voiced_arabic_alone():
    voiced = "كَتَّبُوهُمَّا " * 400
    bare = strip_harakat(voiced)
    for limit in (20, 60, 168):
        assert [strip_harakat(piece) for piece in split_text(voiced, limit)] == split_text(bare, limit)


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_limit_too_small(limit):
    with pytest.raises(TextError, match="max_weight: more than 0, got "): split_text("text", limit)


@pytest.mark.parametrize("unit", ["好", "a", "a. ", "Hello, you. ", "!", "%", "<|eot_id|>", "<|", "a,", "\n", "\u064e"])
def test_a_hundred_thousand_characters_are_quick(unit):
    text = (unit * MAX_CHARACTERS)[:MAX_CHARACTERS - 1] + "a"
    check_text(text)
    escape_control_tokens(text)
    normalise(text)
    pieces = split_text(text, 168)
    assert squeeze("".join(pieces)) == squeeze(text)
    assert max(map(weigh, pieces)) <= 168 + 1e-6


@pytest.mark.filterwarnings("ignore:text. removed markup")
@pytest.mark.parametrize("unit", ["“", " ", "\n", "\t ", "🙂", " 🙂", "👩\u200d", "\u200d", "<b", "<b a=1 ", "*a",
    "**a", "`a", "[a](", "[pause", "ک ", "A B ", "1. ", "A\n"])
def test_forms_of_long_hostile_texts_are_quick(unit):
    begun, text = time.process_time(), (unit * MAX_CHARACTERS)[:MAX_CHARACTERS - 4] + " abc"
    form = TextForm(capitals="lowered", emoji="dropped", lines="joined")
    read = form.read(text)
    form.write(read)
    for pieces in (split_text(read, 168), split_words(read, 200)): assert squeeze("".join(pieces)) == squeeze(read)
    assert time.process_time() - begun < 60
