"""Bad texts, every control token against a real tokenizer, normalising, weighing and splitting."""
import random
import unicodedata

import pytest

from voicelab.models.tiny import build_tokenizer
from voicelab.text import (
    CHARACTERS_PER_WEIGHT,
    MAX_CHARACTERS,
    PUNCTUATION,
    SPECIAL_TOKENS,
    WEIGHTS,
    TextError,
    check_text,
    count_words,
    escape_control_tokens,
    has_speech,
    language_of,
    normalise,
    script_of,
    split_text,
    strip_harakat,
    weigh,
)

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
    ("", ""), ("  \n ", ""), ("a\n\n b\tc", "a b c."), ("Hi.", "Hi."), ("Hi!", "Hi!"), ('Say "hi"', 'Say "hi"'),
    ("Hi;", "Hi;"), ("كيف؟", "كيف؟"), ("نعم،", "نعم،"), ("نعم", "نعم."), ("你好", "你好."), ("你好。", "你好."),
    ("“好”！", '"好"!'),
    ("（a）【b】《c》「d」『e』", 'a [b]"c""d""e"'), ("一、二；三：四", "一,二;三:四."), ("约翰·史密斯", "约翰 史密斯."),
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


def test_a_character_heavier_than_the_limit_stands_alone():
    assert split_text("ab 你5, c", 1) == ["a", "b", "你", "5,", "c"]


@pytest.mark.parametrize("text, limit, pieces", [
    ("A year takes it around the sun. Call 555 at 10:30. Bye.", 24,
     [("A year takes it around the", False), ("sun.", True), ("Call 555 at", False), ("10:30.", True), ("Bye.", True)]),
    ("Go. Come. A sentence that is long, very long. Sit. Stay", 20,
     [("Go. Come.", True), ("A sentence that is", False), ("long, very long.", True), ("Sit. Stay", True)]),
    ("First line\nsecond line, which is long", 15,
     [("First line", True), ("second line,", False), ("which is long", True)]),
    ("你好。今天天气很好，我们走！好。", 25, [("你好。", True), ("今天天气很好，", False), ("我们走！", True), ("好。", True)]),
])
def test_whole_sentences_and_parts_of_one_are_not_packed_together(text, limit, pieces):
    assert [(piece, piece.ends_sentence) for piece in split_text(text, limit)] == pieces


def test_only_a_piece_that_ends_a_sentence_gets_a_full_stop():
    pieces = split_text("They will point it, or not, at the moon\nand go", 16)
    said = [normalise(piece, piece.ends_sentence) for piece in pieces]
    assert said == ["They will point", "it, or not,", "at the moon.", "and go."]
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
