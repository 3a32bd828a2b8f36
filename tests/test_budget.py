"""The design document's formula to the token, columns and frames, limits, bad input, and plans that lose and clip nothing."""
import math
import random
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest

from voicelab.audio import Audio
from voicelab.budget import (
    DEFAULT_RATE,
    RULES,
    Budget,
    BudgetError,
    columns_for_frames,
    estimate_seconds,
    frames_for_columns,
    make_budget,
    plan,
    speaking_rate,
)
from voicelab.reference import Reference
from voicelab.settings import Settings
from voicelab.split import split_text
from voicelab.text import MAX_CHARACTERS, TextError, strip_harakat, weigh

RATE = 24_000
TEXTS = {
    "english": "The north wind and the sun were disputing which was the stronger, when a traveller came along. ",
    "arabic": "كانت ريح الشمال والشمس تتجادلان أيهما أقوى، عندما جاء مسافر يلف نفسه بعباءة. هل يخلعها؟ ",
    "vocalised": "يُولَدُ جَمِيعُ النَّاسِ أَحْرَارًا مُتَسَاوِينَ فِي الكَرَامَةِ وَالحُقُوقِ، وَقَدْ وُهِبُوا. ",
    "chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "digits": "Call 202-555-0147 before 17:30 on 21/11/2026. ",
    "short words": "a b c d e f g h i j ",
    "no spaces": "abcdefghij" * 5,
    "signs": "5 %%%%%%%%%% ",
}


def speaker(seconds: float, transcript: str | None) -> Reference:
    hum = 0.1 * np.sin(2 * np.pi * 150 * np.arange(int(RATE * seconds)) / RATE)
    return Reference(Audio(hum.astype(np.float32), RATE), transcript=transcript, consent="synthetic")


def configured(**values) -> Settings:
    plain = Settings()
    return replace(plain, audio_generation=replace(plain.audio_generation, **values))


def calculate_max_audio_tokens(target_text: str, base_tokens_per_second: int = 25) -> int:
    "The formula of *Voice Cloning Optimization Design*, as written there."
    word_count = len(target_text.split())
    estimated_duration_seconds = (word_count / 150) * 60
    buffer_factor = 1.5
    max_duration = estimated_duration_seconds * buffer_factor
    max_tokens = int(max_duration * base_tokens_per_second)
    return max(min(max_tokens, 512), 64)


# Columns and frames

@pytest.mark.parametrize("n_codebooks", [1, 4, 8, 12])
def test_columns_and_frames_are_inverse(n_codebooks):
    for frames in range(1, 300):
        columns = columns_for_frames(frames, n_codebooks)
        assert columns == frames + n_codebooks + 1
        assert frames_for_columns(columns, n_codebooks) == frames
    assert [frames_for_columns(columns, n_codebooks) for columns in range(n_codebooks + 2)] == [0] * (n_codebooks + 2)


def test_eight_codebooks_cost_nine_columns():
    assert [columns_for_frames(frames) for frames in (1, 55, 503)] == [10, 64, 512]
    for text in TEXTS.values():
        for rule in RULES:
            budget = make_budget(text, rule=rule, settings=Settings())
            assert budget.columns == budget.frames + 9
            assert budget.cap_seconds == budget.frames / 25


def test_delay_makes_as_many_columns():
    torch, codec = pytest.importorskip("torch"), pytest.importorskip("voicelab.codec")
    for n_codebooks in (4, 8):
        for frames in (1, 25, 60):
            codes = torch.zeros(n_codebooks, frames, dtype=torch.long)
            assert codec.delay(codes).shape == (n_codebooks, columns_for_frames(frames, n_codebooks))


# The design document's rule

@pytest.mark.parametrize("words", range(1, 120))
def test_words_per_minute_is_the_document_to_the_token(words):
    text = " ".join(["word"] * words)
    budget = make_budget(text, rule="words_per_minute", settings=Settings())
    assert budget.columns == calculate_max_audio_tokens(text)
    assert budget.seconds == words / 150 * 60
    assert budget.margin == 1.5
    assert budget.clamped == ("min_tokens" if words < 5 else "max_tokens" if words > 34 else "")


def test_words_per_minute_follows_the_settings():
    settings = configured(base_tokens_per_second=50, duration_buffer_factor=2.0, min_tokens=20, max_tokens=1000)
    assert make_budget("word " * 10, rule="words_per_minute", settings=settings).columns == 400
    assert make_budget("word " * 90, rule="words_per_minute", settings=settings).columns == 1000
    assert make_budget("word", rule="words_per_minute", settings=settings).columns == 40


@pytest.mark.parametrize("name, clips", [("english", False), ("chinese", True), ("digits", True)])
def test_what_512_tokens_clip(name, clips):
    budget = make_budget(TEXTS[name], rule="words_per_minute", settings=Settings())
    assert budget.clips == clips
    assert ("will be cut off" in str(budget)) == clips
    assert not make_budget(TEXTS[name], settings=Settings()).clips


# The reference's rule

def test_estimate_is_the_reference_speech_scaled_by_weight():
    reference = speaker(3.0, TEXTS["english"][:40])
    for text in TEXTS.values():
        expected = reference.speech_seconds * weigh(text) / weigh(reference.transcript)
        assert estimate_seconds(text, reference) == pytest.approx(expected)
    assert estimate_seconds(reference.transcript, reference) == pytest.approx(reference.speech_seconds)


def test_default_rate():
    assert speaking_rate(None).value == speaking_rate(speaker(2, None)).value == DEFAULT_RATE
    assert "no transcript" in speaking_rate(speaker(2, None)).source
    assert estimate_seconds("a" * 28) == 2.0


def test_too_little_speech_takes_the_default():
    samples = np.zeros(RATE * 2, dtype=np.float32)
    samples[:RATE // 5] = 0.1 * np.sin(2 * np.pi * 150 * np.arange(RATE // 5) / RATE)
    rate = speaking_rate(Reference(Audio(samples, RATE), transcript="Hi there", consent="synthetic"))
    assert rate.value == DEFAULT_RATE and "under 0.5 s of speech" in rate.source


@pytest.mark.parametrize("transcript, value", [("Yes.", 7.0), ("...", 7.0), ("a long text " * 50, 28.0)])
def test_a_wrong_transcript_cannot_break_the_budget(transcript, value):
    rate = speaking_rate(speaker(5, transcript))
    assert rate.value == value and "limited" in rate.source and "is its sample rate" in rate.doubt


def test_harakat_cost_nothing():
    vocalised = make_budget(TEXTS["vocalised"], settings=Settings())
    assert vocalised == make_budget(strip_harakat(TEXTS["vocalised"]), settings=Settings())


@pytest.mark.parametrize("letters", [1, 20, 21, 22, 28, 100, 1000])
def test_margin_and_floor(letters):
    budget = make_budget("a" * letters, settings=Settings())
    assert budget.frames == max(75, math.ceil(25 * letters / 14 * 2 - 1e-6))
    assert budget.clamped == ("min_seconds" if letters < 21 else "")
    settings = configured(reference_margin=1.0, min_seconds=0.1)
    assert make_budget("a" * letters, settings=settings).frames == max(3, math.ceil(25 * letters / 14 - 1e-6))


def test_other_frame_rates_and_codebooks():
    budget = make_budget("a" * 140, settings=Settings(), frame_rate=12.5, n_codebooks=4)
    assert (budget.frames, budget.columns, budget.cap_seconds) == (250, 255, 20.0)


def test_max_frames():
    assert make_budget("a" * 140, settings=Settings()).frames == 500
    budget = make_budget("a" * 140, settings=Settings(), max_frames=100)
    assert (budget.frames, budget.clamped, budget.clips) == (100, "max_frames", True)
    assert make_budget("Hi", settings=Settings(), max_frames=30).frames == 30
    for rule in RULES: assert make_budget("word " * 100, rule=rule, settings=Settings(), max_frames=40).frames == 40


# Choosing

def test_the_rule_comes_from_the_argument_then_the_settings():
    text = TEXTS["english"]
    assert make_budget(text, settings=Settings()).rule == "reference_rate"
    assert make_budget(text, settings=configured(rule="words_per_minute")).rule == "words_per_minute"
    unadaptive = configured(adaptive_max_tokens=False)
    assert make_budget(text, settings=unadaptive).rule == "fixed"
    assert make_budget(text, settings=unadaptive, rule="reference_rate").rule == "reference_rate"


def test_fixed():
    for text in TEXTS.values():
        budget = make_budget(text, rule="fixed", settings=configured(max_tokens=300))
        assert (budget.columns, budget.margin) == (300, None)
        assert budget.seconds == estimate_seconds(text)


def test_settings_file_is_read(tmp_path, monkeypatch):
    (tmp_path / "settings.ini").write_text("[AUDIO_GENERATION_CONFIG]\nreference_margin = 4.0\n")
    monkeypatch.chdir(tmp_path)
    assert make_budget(TEXTS["english"]).margin == 4.0
    assert plan(TEXTS["english"])[0][1].margin == 4.0


# Bad input

@pytest.mark.parametrize("function", [make_budget, plan])
@pytest.mark.parametrize("text", ["", "  ", "<|eot_id|><SE>", "?!", "a" * (MAX_CHARACTERS + 1), None, 5])
def test_bad_text(function, text):
    with pytest.raises(TextError, match="^text: ") as error: function(text)
    assert "\n" not in str(error.value)


def test_unknown_rule():
    for function in (make_budget, plan, estimate_seconds):
        with pytest.raises(BudgetError, match="^rule: must be one of words_per_minute, reference_rate, fixed, got 'flat'$"):
            function("Hello", rule="flat")
    assert issubclass(BudgetError, ValueError)


@pytest.mark.parametrize("values, says", [
    (dict(max_frames=0), "max_frames: at least 1, got 0"), (dict(max_frames=-3), "max_frames: at least 1, got -3"),
    (dict(rule="fixed", n_codebooks=600), "columns hold no frame of 600 codebooks"),
])
def test_impossible_limits(values, says):
    for function in (make_budget, plan):
        with pytest.raises(BudgetError, match=says): function("Hello there", settings=Settings(), **values)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_chunks_too_short(seconds):
    with pytest.raises(BudgetError, match="chunk_seconds: more than 0, got "): plan("Hello", chunk_seconds=seconds)


def test_a_cap_without_room_for_a_word():
    with pytest.raises(BudgetError, match="leaves no room"):
        plan("one two three four five " * 9, settings=configured(min_tokens=10, max_tokens=12), rule="words_per_minute")


@pytest.mark.parametrize("values, says", [
    (dict(max_frames=2), "max_frames = 2: leaves no room for '{}', needs to be at least {}"),
    (dict(chunk_seconds=0.01), "chunk_seconds = 0.01: leaves no room for '{}', needs to be at least {}"),
    (dict(rule="fixed", n_codebooks=510), "max_tokens = 512: leaves no room for '{}', needs to be at least {}"),
    (dict(rule="fixed", max_frames=1), "max_frames = 1: leaves no room for '{}', needs to be at least {}"),
])
def test_the_limit_without_room_is_named_with_what_would_do(values, says):
    with pytest.raises(BudgetError) as caught: plan("o 5 " * 9, settings=Settings(), **values)
    found = re.fullmatch(re.escape(says).replace(r"\{\}", "(.+)"), str(caught.value))
    name, (piece, needed) = says.split()[0], found.groups()
    if name == "max_tokens": values, name = values | dict(settings=configured(max_tokens=int(needed))), "settings"
    else: values = values | {name: float(needed) if name == "chunk_seconds" else int(needed)}
    [(done, budget)] = plan(piece, **({"settings": Settings()} | values))
    assert done == piece and not budget.clips


@pytest.mark.parametrize("values, says", [
    (dict(frames=0), "frames: must be a whole number from 1 to 1000000000, got 0"), (dict(frames=-5), "got -5"),
    (dict(frames=2.5), "got 2.5"), (dict(frames=True), "got True"), (dict(frames="40"), "got '40'"),
    (dict(frames=40, columns=39), "columns: must be a whole number from 40 to 1000000000, got 39"),
    (dict(columns=None), "columns: .* got None"),
])
def test_a_budget_made_by_hand_is_checked(values, says):
    with pytest.raises(BudgetError, match=says):
        Budget(**(dict(rule="fixed", seconds=1.0, frames=40, columns=49, margin=None, clamped="", detail="") | values))


# Plans

@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("reference", [None, "quick", "slow"])
def test_plans_lose_nothing_and_stay_short(rule, name, reference):
    if reference: reference = speaker({"quick": 1.2, "slow": 3.5}[reference], "The device would work in the day.")
    text = TEXTS[name] * 25
    pieces = plan(text, reference, rule=rule, settings=Settings())
    assert "".join("".join(piece for piece, _ in pieces).split()) == "".join(text.split())
    for piece, budget in pieces:
        assert budget.seconds <= 12 + 1e-6
        assert budget.clamped not in ("max_tokens", "max_frames")
        assert estimate_seconds(piece, reference) <= 12 + 1e-6
        if rule != "words_per_minute": assert not budget.clips
        if any(char.isalnum() for char in piece):
            assert budget == make_budget(piece, reference, rule=rule, settings=Settings())


CLIPPED = {
    "chinese": TEXTS["chinese"] * 3, "japanese": "日本語を話すことができますか。" * 4,
    "digits": "3141592653589793238462643383279502884197",
    "url": "See https://www.example.com/some/long-path/to/a/page.html?id=12345678 for more.",
    "long words": "Internationalisation characteristically necessitates counterintuitive misinterpretations. " * 4,
    "arabic": TEXTS["arabic"] * 4, "phone": "Call 202-555-0147, 202-555-0148 or 1-800-555-0199 now.",
    "dashes": "Hello " + "- " * 60 + "there",
}


@pytest.mark.parametrize("name", CLIPPED)
def test_words_per_minute_is_split_until_nothing_is_cut_off(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pieces = plan(CLIPPED[name], rule="words_per_minute", settings=Settings())
    assert not any(budget.clips for _, budget in pieces)
    assert re.findall("[a-zA-Z]+", " ".join(piece for piece, _ in pieces)) == re.findall("[a-zA-Z]+", CLIPPED[name])
    said = "".join("".join(piece for piece, _ in pieces).split())
    assert said.replace("-", "") == "".join(CLIPPED[name].split()).replace("-", "")


def test_what_cannot_be_helped_says_clips_and_warns_once():
    word = "pneumonoultramicroscopicsilicovolcanoconiosis"
    with pytest.warns(UserWarning) as caught:
        pieces = plan(f"They say {word}, or {word}.", rule="words_per_minute", settings=Settings())
    assert [piece for piece, budget in pieces if budget.clips] == [f"{word},", f"{word}."]
    [warning] = caught
    for part in ("words_per_minute: ", repr(word[:40]), "3.2 s", "2.2 s", "1 more"): assert part in str(warning.message)
    assert "\n" not in str(warning.message) and warning.filename == __file__


def test_pieces_know_whether_they_end_a_sentence():
    text = "A traveller came along, wrapped in a warm cloak, in Counterrevolutionary circumstances. Then she left"
    for rule, values in zip(RULES, (dict(max_frames=80), dict(chunk_seconds=2.5), dict(max_frames=60))):
        pieces = [piece for piece, _ in plan(text, rule=rule, settings=Settings(), **values)]
        assert len(pieces) > 2
        assert [piece.ends_sentence for piece in pieces] == [piece.endswith(("ces.", "left")) for piece in pieces]


def test_a_piece_of_nothing_but_marks_is_left_out():
    pieces = plan("a" + "\u0301" * 5000 + " b", settings=Settings())
    assert all(weigh(piece) and len(piece) <= 1008 for piece, _ in pieces)


def test_a_short_text_is_one_piece():
    [(piece, budget)] = plan(" Hello there. ", settings=Settings())
    assert piece == "Hello there."
    assert budget == make_budget("Hello there.", settings=Settings())


def test_no_more_pieces_than_splitting_by_weight_makes():
    text = TEXTS["english"] * 10
    assert [piece for piece, _ in plan(text, settings=Settings())] == split_text(text, 12 * DEFAULT_RATE)
    assert len(plan(text, settings=Settings(), chunk_seconds=24)) < len(plan(text, settings=Settings()))


@pytest.mark.parametrize("max_frames", [60, 150, 400])
def test_plans_under_a_frame_limit(max_frames):
    for rule in RULES:
        pieces = plan(TEXTS["english"] * 5, rule=rule, settings=Settings(), max_frames=max_frames)
        assert all(budget.frames <= max_frames for _, budget in pieces)
        assert all(not budget.clips for _, budget in pieces)


def test_random_plans():
    draw = random.Random(2)
    for _ in range(60):
        text = "".join(draw.choices(list(TEXTS.values()), k=5)) + "a"
        rule, seconds = draw.choice(list(RULES)), draw.uniform(0.5, 20)
        pieces = plan(text, rule=rule, settings=Settings(), chunk_seconds=seconds)
        assert "".join("".join(piece for piece, _ in pieces).split()) == "".join(text.split())
        assert all(budget.seconds <= seconds + 1e-6 for _, budget in pieces)


@pytest.mark.parametrize("unit", ["好", "a", "word ", "Hello, you. ", "%", "1", "a "])
def test_a_hundred_thousand_characters(unit):
    text = (unit * MAX_CHARACTERS)[:MAX_CHARACTERS - 1] + "a"
    for rule in RULES:
        pieces = plan(text, rule=rule, settings=Settings())
        assert all(budget.seconds <= 12 + 1e-6 for _, budget in pieces)
        assert "".join("".join(piece for piece, _ in pieces).split()) == "".join(text.split())


# Showing

def test_a_budget_shows_itself():
    budget = make_budget(TEXTS["chinese"], rule="words_per_minute", settings=Settings())
    assert isinstance(budget, Budget)
    assert "\n" not in str(budget)
    for part in ("words_per_minute", "55 frames", "64 columns", "min_tokens", "2.2 s"): assert part in str(budget)
    assert str(budget) in budget._repr_html_() and "b00020" in budget._repr_html_()
    assert "b00020" not in make_budget("Hello", settings=Settings())._repr_html_()
