"From a person's text to what a model reads: hidden characters, capitals, lines, chunks, and the released model's script."
import pytest

import voicelab as vl
from voicelab.budget import BudgetError
from voicelab.families.higgs.speakers import normalise_turns
from voicelab.split import split_text
from voicelab.text_form import UPSTREAM, TextForm

WORDS = "The old library opens at nine in the morning."


@pytest.fixture(scope="module")
def model(): return vl.load("tiny")


@pytest.fixture(scope="module")
def ada(root): return vl.Reference(root / "data/voices/ada.wav", transcript=WORDS, consent="synthetic")


HIDDEN = {"Please find the flower in the garden.": [
    "Please\u200b find the flo\u200bwer in the garden.", "Please \u2060find the flow\ufe0fer in the gar\ufffcden.", "Please ﬁnd the ﬂower in the garden.",
    "𝐏𝐥𝐞𝐚𝐬𝐞 𝐟𝐢𝐧𝐝 the flower in the garden.", "Please find the\u00a0flower\u2003in the garden.", "\ufeffPlease find the flow\u00ader in the garden.\u200e",
    "PLEASE FIND THE FLOWER IN THE GARDEN.", "Please find the FLOWER in the garden.", "Please find the flower 🌷 in the garden.",
    "Please find\U000e0067 the flower in the garden"], "A well-known garden.": ["A well\u2011known garden."],
    "الكتاب الجديد في المدرسة.": ["الکتاب الجدید فی المدرسة.", "الكتـاب الجديد في المدرسة.", "الكت\u200dاب الجديد في المدرسة."]}


@pytest.mark.parametrize("plain, written", [(plain, written) for plain, forms in HIDDEN.items() for written in forms])
def test_the_prompt_of_the_plain_word(model, ada, plain, written):
    assert model.prompt(written, ada).ids.tolist() == model.prompt(plain, ada).ids.tolist()
    assert model.plan(written, seed=0).chunks[0].prompt.ids.tolist() == model.plan(plain, seed=0).chunks[0].prompt.ids.tolist()


@pytest.mark.parametrize("written", ["The old\u200b library opens at ni\u2060ne in the morning.",
    "The old library opens at nine in the\u00admorning.".replace("\u00ad", "\u00ad "),
                                     "𝐓he old library opens at nine in the morning.\ufeff"])
def test_the_same_in_a_transcript(model, ada, root, written):
    other = vl.Reference(root / "data/voices/ada.wav", transcript=written, consent="synthetic")
    assert model.prompt("Hello.", other).ids.tolist() == model.prompt("Hello.", ada).ids.tolist()


def test_a_transcript_is_left_alone(model, ada, root):
    other = vl.Reference(root / "data/voices/ada.wav", transcript="“The old library” (opens)， at nine", consent="synthetic")
    assert "user<|end_header_id|>\n\n“The old library” (opens)， at nine<|eot_id|>" in model.prompt("Hello.", other).text
    assert 'user<|end_header_id|>\n\n"The old library" opens , at nine.<|eot_id|>' in \
        model.prompt("Hello.", other, text_form=TextForm(transcripts="normalised")).text


def test_lines_stay_lines(model, ada):
    text = "Chapter one\n\nThe garden is open today\nChapter two"
    said = "Chapter one\nThe garden is open today\nChapter two.<|eot_id|>"
    assert said in model.prompt(text, ada).text and said in model.plan(text, reference=ada, seed=0, chunking="none").chunks[0].prompt.text
    assert "Chapter one. The garden is open today. Chapter two." in model.prompt(text, ada, text_form=TextForm(lines="joined")).text


def test_no_scene_no_system_message(model, ada):
    assert "system<|end_header_id|>" not in model.prompt("Hello.", ada, scene="").text
    assert "system<|end_header_id|>" in model.prompt("Hello.", scene="").text


def test_markup_is_named_once(model, ada, recwarn):
    model.plan("A **big** <b>house</b> [pause:10ms] here.", reference=ada, seed=0)
    told = [str(each.message) for each in recwarn if "markup" in str(each.message)]
    assert told == ["text: removed markup, which would be read aloud: <b>, </b>, **big**, [pause:10ms]"]


# As the released model's own script makes them (its functions were run on these texts)

@pytest.mark.parametrize("text, theirs", [
    ("大家好，欢迎。今天(周一)很好", "大家好, 欢迎.今天 周一 很好."), ("One\n\n  two  three\n", "One\ntwo three."),
    ("Heat to 70 °F", "Heat to 70 degrees Fahrenheit."),
    ("约翰·史密斯：“好”……", '约翰.史密斯:"好"......'), ("It’s a test—really", "It's a test-really."), ("# Title\nText", "# Title\nText."),
    ("[SPEAKER0] Hi\n\n[SPEAKER1] Ho", "[SPEAKER0] Hi\n[SPEAKER1] Ho."), ("「a」【b】、c", '"a"[b],c.'), ("a;", "a;"), ("a:", "a:.")])
def test_texts_as_the_script_writes_them(text, theirs):
    for form in (TextForm(), UPSTREAM): assert normalise_turns(form.read(text), form=form) == theirs


DIALOGUE = "[SPEAKER0] One two three.\n[SPEAKER1] Four five.\n[SPEAKER0] Six."


@pytest.mark.parametrize("text, options, theirs", [
    (DIALOGUE, dict(chunking="none"), [DIALOGUE]), (DIALOGUE, dict(chunking="speaker"), DIALOGUE.split("\n")),
    (DIALOGUE, dict(chunking="speaker", chunk_turns=2), ["[SPEAKER0] One two three.\n[SPEAKER1] Four five.", "[SPEAKER0] Six."]),
    ("One two three four. Five", dict(chunking="words", chunk_words=2), ["One two", "three four.", "Five"]),
    ("One two. Three " * 40, dict(chunking="words"), [("One two. Three " * 40).strip()]), ("One.\nTwo.", dict(chunking="speaker"), ["One.\nTwo."])])
def test_chunks_as_the_script_makes_them(model, text, options, theirs):
    plan = model.plan(text, voice=["A.", "B."], seed=0, **options)
    assert [str(chunk.text) for chunk in plan.chunks] == theirs
    assert [str(piece) for piece, _ in model.budgets(text, **options)] == theirs


def test_seconds(model):
    text = "The garden is open today. " * 12
    counts = [len(model.plan(text, seed=0, chunking=seconds).chunks) for seconds in (None, 3, 6.0, 60)]
    assert counts[0] == counts[2] and counts[1] > counts[2] > counts[3] == 1
    assert len(model.plan(text, seed=0, chunking="none").chunks) == 1


def test_no_turn_is_cut_that_fits(model):
    text = "[SPEAKER0] Is it raining? I do not know.\n[SPEAKER1] Not yet. Soon.\n[SPEAKER0] Then we go. Come."
    for seconds in (3, 4, 5):
        chunks = model.plan(text, voice=["A.", "B."], seed=0, chunking=seconds).chunks
        assert all(str(chunk.text).startswith("[SPEAKER") for chunk in chunks)
    alone = model.plan("[SPEAKER0] " + "One two three four five. " * 9, voice=["A."], seed=0, chunking=3).chunks
    assert len(alone) > 3 and all("[SPEAKER0] " in chunk.prompt.text for chunk in alone)


@pytest.mark.parametrize("options, says", [
    (dict(chunking="wrods"), "chunking: must be seconds above 0 or one of none, words, speaker, got 'wrods'"), (dict(chunking=0), "got 0"),
    (dict(chunking=float("nan")), "got nan"), (dict(chunking=True), "got True"), (dict(chunking=[3]), "got \\[3\\]"),
    (dict(chunking="words", chunk_words=0), "chunk_words: must be a whole number from 1, got 0"), (dict(chunk_turns=1.5), "chunk_turns: .* got 1.5")])
def test_chunkings_refused(model, options, says):
    with pytest.raises(BudgetError, match=says) as error: model.plan("Hello there.", seed=0, **options)
    assert "\n" not in str(error.value)


def test_the_buffer_of_earlier_chunks_is_turns(model, ada):
    text = " ".join(["The garden is open today."] * 4)
    shown = [chunk.turns for chunk in model.plan(text, reference=ada, seed=0, turns=2, chunking="words", chunk_words=5).chunks]
    assert shown == [0, 1, 2, 2]


def test_the_default_cuts_at_sentences(model):
    text = "Acme Co. Ltd. of Tokyo is big. Sen. Smith spoke at five a.m. The garden was open. Wait... what? He left the old house."
    assert [str(chunk.text) for chunk in model.plan(text, seed=0, chunking=3).chunks] == split_text(text, 3 * 14)
