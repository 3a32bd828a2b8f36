"""Voices, scenes, tags and events in words: the examples' prompts, tags over chunks, and what is refused."""
import pytest
import torch
from conftest import random_codes
from test_higgs_prompt import TOKENIZERS, check_consistent, control_ids

from voicelab.chat import NO_REFERENCE, AudioContent, FormError, Message
from voicelab.families.higgs.prompt import PROMPT_FORMS, clone_messages, render
from voicelab.families.higgs.speakers import (
    SCENES,
    SOUND_EVENTS,
    SPEAKERS_SYSTEM,
    VOICES,
    SoundEvent,
    SpeakerError,
    carry_speakers,
    count_speakers,
    normalise_turns,
    split_events,
    warn_of_held_sounds,
)
from voicelab.text import TextError, normalise
from voicelab.text_form import TextForm

TOKENIZER = TOKENIZERS["bytes"]
HEAD = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
TAIL = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<|audio_out_bos|>"
USER = "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
SLOT = "<|audio_bos|><|AUDIO|><|audio_eos|>"


def block(text): return f"\n\n<|scene_desc_start|>\n{text}\n<|scene_desc_end|>"


@pytest.mark.parametrize("options, system", [
    (dict(), "Generate audio following instruction." + block("Audio is recorded from a quiet room.")),
    (dict(scene="reading_blog"), "Generate audio following instruction." + block(SCENES["reading_blog"])),
    (dict(scene=""), "Generate audio following instruction."),
    (dict(voice="male_en", scene=""), "Generate audio following instruction." + block(f"SPEAKER0: {VOICES['male_en']}")),
    (dict(voice=["female_en_story", "A pirate."], scene="A ship."),
     "Generate audio following instruction." + block(f"A ship.\n\nSPEAKER0: {VOICES['female_en_story']}\nSPEAKER1: A pirate.")),
    (dict(system="Be brief.", scene=None), "Be brief."),
])
def test_chats_without_a_recording_are_the_examples(options, system):
    prompt = render(clone_messages("Hi.", **options), TOKENIZER)
    assert prompt.text == HEAD + system + USER + "Hi." + TAIL and prompt.form == NO_REFERENCE
    check_consistent(prompt, TOKENIZER)


@pytest.mark.parametrize("scene", ("", "A kitchen."))
def test_speakers_of_whom_nothing_is_known(scene):
    text = "[SPEAKER0] Hi.\n[SPEAKER1] Ho.\n[SPEAKER2] Ha."
    prompt = render(clone_messages(text, scene=scene), TOKENIZER)
    voices = "SPEAKER0: feminine\nSPEAKER1: masculine\nSPEAKER2: feminine"
    assert prompt.text == HEAD + SPEAKERS_SYSTEM + block(f"{scene}\n\n{voices}" if scene else voices) + USER + text + TAIL
    one = render(clone_messages("[SPEAKER0] Hi.", scene=""), TOKENIZER)
    assert one.text.startswith(HEAD + "Generate audio following instruction.<|eot_id|>")


@pytest.mark.parametrize("form", PROMPT_FORMS)
def test_two_references_in_every_form(form):
    codes = [random_codes(5), random_codes(7, seed=1)]
    prompt = render(clone_messages("[SPEAKER1] Hi.\n[SPEAKER0] Ho.", codes, ["One.", "Two."], form=form), TOKENIZER)
    assert prompt.form == form
    check_consistent(prompt, TOKENIZER)
    if form == "system_ref": assert f"SPEAKER0: {SLOT}\nSPEAKER1: {SLOT}\n<|scene_desc_end|>" in prompt.text
    else: assert "[SPEAKER0] One." in prompt.text and "[SPEAKER1] Two." in prompt.text


def test_transformers_spelling_differs_in_the_scene_alone():
    def text(form, **options): return render(clone_messages("Hi.", random_codes(5), "Words.", form=form, **options), TOKENIZER).text
    assert text("assistant_ref", spelling="transformers") == text("assistant_ref")
    theirs = text("system_ref", spelling="transformers")
    assert theirs == text("system_ref").replace("<|audio_bos|><|AUDIO|>", "<|audio_out_bos|><|AUDIO_OUT|>") != text("system_ref")
    for form in ("user_ref", "double_reference", "empty_assistant"):
        with pytest.raises(FormError, match=f"no form '{form}'"): text(form, spelling="transformers")


@pytest.mark.parametrize("name", SOUND_EVENTS)
def test_every_event_is_its_control_tokens(name):
    prompt = render(clone_messages(f"Well. [{name}] So.", scene=""), TOKENIZER)
    assert f"Well. {SOUND_EVENTS[name]} So.{TAIL}" in prompt.text
    check_consistent(prompt, TOKENIZER)
    harmless = render(clone_messages("Well. So.", scene=""), TOKENIZER)
    more = [TOKENIZER.convert_ids_to_tokens(i) for i in control_ids(TOKENIZER, prompt.ids)]
    for token in map(TOKENIZER.convert_ids_to_tokens, control_ids(TOKENIZER, harmless.ids)): more.remove(token)
    assert len(more) == 2 and all(token.strip("</>").startswith("SE") for token in more)


@pytest.mark.parametrize("text", ["<SE>[Laughter]</SE>", "[<SE>laugh</SE>]", "[LAUGH]", "[laugh", "[ laugh]", "[sneeze]", "[<|eot_id|>]"])
def test_nothing_else_in_brackets_is_an_event(text):
    prompt = render(clone_messages(f"Well. {text} So."), TOKENIZER)
    assert control_ids(TOKENIZER, prompt.ids) == control_ids(TOKENIZER, render(clone_messages("Well."), TOKENIZER).ids)


def test_an_event_made_of_what_an_escape_leaves():
    prompt = render(clone_messages("a [laugh]<|eot_id|>[laugh] b"), TOKENIZER)
    assert prompt.text.count("<SE>") == 2 and "<|eot_id|>[" not in prompt.text and prompt.text.count("<|eot_id|>") == 2


@pytest.mark.parametrize("text, window, warned", [
    ("[music start] Hi. [music end]", 7, True), ("[humming start] Hm. [humming end]", 7, True), ("[music] Hi.", 7, True),
    ("[music] Hi.", 0, False), ("[laugh] Hi.", 7, False), ("Music. [musical] Hi.", 7, False)])
def test_a_held_sound_is_warned_of(text, window, warned, recwarn):
    warn_of_held_sounds(text, window)
    assert [str(each.message).startswith("text: [") for each in recwarn] == [True] * warned


@pytest.mark.parametrize("text, tidy", [
    ("[SPEAKER0]  Hi ，you\n\n\n [SPEAKER1] Ho", "[SPEAKER0] Hi , you\n[SPEAKER1] Ho."), ("One\n\ntwo", "One\ntwo."),
    ("Ha [laugh]", "Ha [laugh]"), ("Ha [note]", "Ha [note]."), ("Ha 【laugh】", "Ha [laugh]"), ("أهلا؟", "أهلا؟"), ("你好。", "你好."),
    ("[SPEAKER0] Hi!\n[SPEAKER1] Ho [applause]", "[SPEAKER0] Hi!\n[SPEAKER1] Ho [applause]")])
def test_turns_are_normalised(text, tidy):
    assert normalise_turns(text) == tidy
    assert normalise_turns(tidy) == tidy
    if "[" not in tidy: assert tidy == normalise(text)


def test_turns_stay_lines_in_every_form():
    assert normalise_turns("[SPEAKER0] One\ntwo\n[SPEAKER1] Ho", form=TextForm(lines="joined")) == "[SPEAKER0] One two\n[SPEAKER1] Ho."


def test_a_piece_that_was_cut_gets_no_stop(): assert normalise_turns("[SPEAKER0] Hi and", sentence_end=False) == "[SPEAKER0] Hi and"


def test_tags_go_on_over_pieces():
    pieces = ["[SPEAKER0] A. [SPEAKER1] B.", "C.", "[SPEAKER0] D.", "E."]
    assert carry_speakers(pieces) == [pieces[0], "[SPEAKER1] C.", pieces[2], "[SPEAKER0] E."]
    assert carry_speakers([]) == []


CODES = AudioContent(codes=random_codes(5))


@pytest.mark.parametrize("make, error, named", [
    (lambda: clone_messages("[SPEAKER1] Hi.", CODES, "Words."), SpeakerError, "speaks as [SPEAKER1], but there is 1 speaker"),
    (lambda: clone_messages("[SPEAKER2] Hi.", voice=["A.", "B."]), SpeakerError, "[SPEAKER2], but there are 2 speakers, numbered from 0"),
    (lambda: clone_messages("[SPEAKER1] Hi."), SpeakerError, "without gaps, got [SPEAKER1]"),
    (lambda: clone_messages("[SPEAKER0] [SPEAKER1]"), TextError, "text: nothing to say"),
    (lambda: clone_messages("Hi.", CODES, "Words.", voice="male_en"), FormError, "voice: can't be combined with a reference"),
    (lambda: clone_messages("Hi.", voice=7), SpeakerError, "voice: must be text or a list of texts, got int"),
    (lambda: clone_messages("Hi.", voice=""), TextError, "voice: nothing to say"),
    (lambda: clone_messages("Hi.", voice=["male_en", None]), TextError, "voice: must be a string, got NoneType"),
    (lambda: clone_messages("Hi.", scene=3), SpeakerError, "scene: must be text, got int"),
    (lambda: clone_messages("Hi.", spelling="mine"), FormError, "spelling: must be one of original, transformers, got 'mine'"),
    (lambda: clone_messages("Hi.", CODES, form="system_ref", scene="", spelling="transformers"), FormError, "needs a scene text"),
    (lambda: SoundEvent("sneeze"), SpeakerError, "name: must be one of laugh"),
])
def test_what_is_refused(make, error, named):
    with pytest.raises(error) as caught: make()
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_codes_out_of_range_name_their_range():
    far = AudioContent(codes=torch.full((8, 3), 1025))
    with pytest.raises(ValueError, match="0 to 1023, got 1025 to 1025"): render(clone_messages("Hi.", far, "Words."), TOKENIZER)


def test_events_by_hand():
    prompt = render([Message("user", ["Ha. ", SoundEvent("cough")])], TOKENIZER)
    assert "Ha. <SE>[Cough]</SE><|eot_id|>" in prompt.text
    assert split_events("[cough]") == [SoundEvent("cough")]
    assert count_speakers("[SPEAKER0] a [SPEAKER0] b") == 1
