"""Chat prompts: every form and special token, parity with the original's prompts, and transformers' own template."""
import re
from itertools import chain

import numpy as np
import pytest
import torch
from conftest import random_codes
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from vectors import PARITY, read_about, read_case

from voicelab.audio import Audio
from voicelab.chat import NO_REFERENCE, AudioContent, Message, Segment, tokenise_segments
from voicelab.codec import delay
from voicelab.families.higgs.prompt import PROMPT_FORMS, Scene, clone_messages, expand_slots, form_of, render
from voicelab.reference import Reference
from voicelab.text import SPECIAL_TOKENS, TextError, escape_control_tokens

BRACKETS = {"<|AUDIO|>": ("<|audio_bos|>", "<|audio_eos|>"), "<|AUDIO_OUT|>": ("<|audio_out_bos|>", "<|audio_eos|>")}
TAG = re.compile(r"^\[SPEAKER\d+\] ")
# What transformers' conversion script writes into the converted checkpoint, in other words.
CHAT_TEMPLATE = (
    "{%- set slot = '<|audio_out_bos|><|AUDIO_OUT|><|audio_eos|>' %}{{- bos_token }}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\n' + messages[0].content[0].text | trim }}"
    "{%- set rest = messages[1:] %}"
    "{%- if rest and rest[0].role == 'scene' %}{{- '\n\n<|scene_desc_start|>\n' }}"
    "{%- for item in rest[0].content %}"
    "{%- if item.type == 'audio' %}{{- ' ' + slot }}{%- if not loop.last %}{{- '\n' }}{%- endif %}"
    "{%- else %}{{- item.text | trim }}"
    "{%- if loop.first and not loop.last %}{{- '\n\n' }}"
    "{%- elif not loop.last and rest[0].content[loop.index].type != 'audio' %}{{- '\n' }}{%- endif %}"
    "{%- endif %}{%- endfor %}"
    "{{- '\n<|scene_desc_end|>' }}{%- set rest = rest[1:] %}{%- endif %}{{- '<|eot_id|>' }}"
    "{%- for m in rest %}{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}"
    "{%- if m.role == 'assistant' %}{{- slot }}"
    "{%- else %}{%- for item in m.content %}{{- item.text | trim }}{%- endfor %}{%- endif %}"
    "{{- '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n<|audio_out_bos|>' }}{%- endif %}")


def byte_tokenizer(words=(), merges=(), **options):
    "Byte-level BPE with the control tokens; `words` are whole words that ignore_merges finds, as the tiny model's."
    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges), *words]
    tokenizer = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(symbols)}, merges=list(merges), **options))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not merges)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin_of_text|>",
                                   eos_token="<|end_of_text|>", pad_token="<|end_of_text|>")


TOKENIZERS = {"bytes": byte_tokenizer(),
              "words": byte_tokenizer(["Hello", "Ġthere", "Reference", "Ġwords", "instruction"], ignore_merges=True),
              "merges": byte_tokenizer(merges=[(".", "Ċ"), (".Ċ", "Ċ"), ("Ċ", "Ċ"), ("s", ".")])}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request): return TOKENIZERS[request.param]


def plain_ids(tokenizer, text): return tokenizer(text, add_special_tokens=False).input_ids


def control_ids(tokenizer, ids):
    control = set(tokenizer.get_added_vocab().values())
    return [i for i in ids.tolist() if i in control]


def check_consistent(prompt, tokenizer):
    "What holds for every prompt, whatever is in it."
    assert "".join(prompt.segments["text"]) == prompt.text
    assert prompt.segments["tokens"].sum() == len(prompt.ids) == len(prompt.audio_mask) == len(prompt.network_ids)
    assert prompt.slot_ids.tolist() == plain_ids(tokenizer, prompt.text)
    assert int(prompt.audio_mask.sum()) == prompt.audio_columns.shape[1]
    joined = torch.cat([prompt.audio_columns[:, :0], *map(delay, prompt.codes)], dim=1)
    assert torch.equal(prompt.audio_columns, joined)
    audio_rows = prompt.segments.query("kind == 'audio'")
    assert audio_rows.tokens.tolist() == [delay(c).shape[1] for c in prompt.codes]
    assert prompt.segments.seconds.notna().tolist() == (prompt.segments.kind == "audio").tolist()
    assert prompt.ids.dtype == prompt.audio_columns.dtype == torch.int64 and prompt.audio_mask.dtype == torch.bool


# --- parity with the original implementation -----------------------------------------------------------------------

def read_turns(text):
    "(role, content) of each finished turn of a rendered prompt."
    return re.findall(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n(.*?)<\|eot_id\|>", text, re.S)


def without_slots(text):
    for token, (start, end) in BRACKETS.items(): text = text.replace(f"{start}{token}{end}", "")
    return text


def read_system(content):
    "System text and scene text of a system turn, without its speakers."
    system, _, scene = content.partition("<|scene_desc_start|>\n")
    scene = scene.removesuffix("\n<|scene_desc_end|>")
    return system.removesuffix("\n\n"), re.split(r"(?:\n\n)?SPEAKER0: ", scene)[0]


def golden_messages(form, text, codes):
    "The chat of a golden prompt through `clone_messages`, with every word read from the prompt's text."
    turns = read_turns(text)
    system, scene = read_system(turns[0][1]) if turns[0][0] == "system" else ("", "")
    spoken = [content for role, content in turns if role == "user"]
    said = [TAG.sub("", without_slots(c).strip()) for c in spoken[:-1]]
    if form in ("double_reference", "empty_assistant"): codes = codes[:len(said)]
    return clone_messages(spoken[-1], codes, said or None, form=form, system=system, scene=scene)


@pytest.fixture(scope="module")
def goldens():
    tensors, case = read_case("higgs")
    return case, tensors, PreTrainedTokenizerFast(tokenizer_file=str(PARITY / "higgs_tokenizer.json"))


@pytest.mark.parity
@pytest.mark.parametrize("form", read_about("higgs")["forms"])
def test_prompt_is_the_original(form, goldens):
    case, tensors, tokenizer = goldens
    text, references = case["forms"][form]["prompt_text"], case["forms"][form]["references"]
    config = case["config"]
    prompt = render(golden_messages(form, text, [tensors[f"reference_codes.{name}"] for name in references]), tokenizer,
                    n_codebooks=config["num_codebooks"])
    assert prompt.form == form
    assert prompt.text == text
    assert torch.equal(prompt.ids, tensors[f"{form}.expanded_input_ids"][0])
    assert torch.equal(prompt.audio_mask, tensors[f"{form}.audio_mask"][0])
    assert prompt.audio_columns.max() == config["audio_stream_eos_id"]
    assert (prompt.audio_columns[:, 0] == config["audio_stream_bos_id"]).all()
    check_consistent(prompt, tokenizer)


@pytest.mark.parity
def test_every_golden_form_is_known(goldens):
    assert set(goldens[0]["forms"]) <= set(PROMPT_FORMS)


# --- transformers' own template --------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def processor():
    from transformers import (
        DacConfig,
        DacFeatureExtractor,
        HiggsAudioV2Processor,
        HiggsAudioV2TokenizerConfig,
        HiggsAudioV2TokenizerModel,
        HubertConfig,
    )
    torch.manual_seed(0)
    ratios = [8, 5, 4, 2, 3]
    codec = HiggsAudioV2TokenizerModel(HiggsAudioV2TokenizerConfig(
        target_bandwidths=[2.0], codebook_size=1024, codebook_dim=8, sample_rate=24000,
        acoustic_model_config=DacConfig(encoder_hidden_size=4, decoder_hidden_size=64, hidden_size=16,
                                        downsampling_ratios=ratios, upsampling_ratios=ratios),
        semantic_model_config=HubertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                                           intermediate_size=32, conv_dim=(16,) * 7, num_conv_pos_embeddings=16,
                                           num_conv_pos_embedding_groups=4, mask_time_prob=0.0))).eval()
    for quantizer in codec.quantizer.quantizers: quantizer.codebook.embed.normal_()
    extractor = DacFeatureExtractor(sampling_rate=24000, hop_length=1)
    return HiggsAudioV2Processor(extractor, byte_tokenizer(), codec, chat_template=CHAT_TEMPLATE)


def sine(seconds, rate=24000):
    return Audio((0.1 * np.sin(np.arange(int(seconds * rate)) / 17)).astype(np.float32), rate)


def encoded(processor, sound, slot=None):
    "The clip with the codes that the processor's codec makes of it."
    inputs = processor.feature_extractor(sound.samples, sampling_rate=sound.rate, return_tensors="pt")
    with torch.no_grad(): codes = processor.audio_tokenizer.encode(input_values=inputs["input_values"]).audio_codes[0]
    return AudioContent(sound, codes, slot=slot)


def processed(processor, conversation):
    text = processor.apply_chat_template(conversation, add_generation_prompt=True)
    inputs = processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=True, return_dict=True,
                                           return_tensors="pt")
    return text, inputs


def to_transformers(messages):
    "A chat of a reference and a text for HiggsAudioV2Processor.apply_chat_template."
    def item(part):
        if isinstance(part, str): return {"type": "text", "text": escape_control_tokens(part).strip()}
        return {"type": "audio", "audio": part.audio.resample(24_000).samples}
    (first, *rest), conversation = messages, []
    text, *scene = first.parts
    conversation.append({"role": "system", "content": [item(text)]})
    for each in scene:
        speakers = [[f"SPEAKER{n}: {who}"] if isinstance(who, str) else [f"SPEAKER{n}:", who] for n, who in enumerate(each.speakers)]
        conversation.append({"role": "scene", "content": [item(part) for part in (each.text, *chain(*speakers))]})
    return conversation + [{"role": message.role, "content": [item(part) for part in message.parts]} for message in rest]


@pytest.mark.parametrize("form, scene, texts", [
    ("assistant_ref", "Audio is recorded from a quiet room.", ["Reference words."]),
    ("assistant_ref", "", ["مرحبا بالعالم."]),
    ("assistant_ref", "A cave.", ["One.", "Two."]),
    ("system_ref", "Audio is recorded from a quiet room.", ["unused"]),
    ("system_ref", "A cave.", ["unused", "unused"]),
    (NO_REFERENCE, "A cave.", []),
])
def test_render_equals_transformers(processor, form, scene, texts):
    slot = "out" if form == "system_ref" else None
    clips = [encoded(processor, sine(0.6 + 0.3 * n), slot) for n in range(len(texts))]
    text = "[SPEAKER0] Hello." if len(texts) == 1 else "[SPEAKER0] Hello.\n[SPEAKER1] You?"
    messages = clone_messages(text, clips or None, texts or None, scene=scene, system="Speak." if clips else None,
                              form=form if form in PROMPT_FORMS else "assistant_ref")
    text, inputs = processed(processor, to_transformers(messages))
    prompt = render(messages, processor.tokenizer)
    assert prompt.form == form
    assert prompt.text == text
    delay_id = processor.audio_delay_token_id
    theirs = inputs["input_ids"][0]
    assert torch.equal(prompt.network_ids, theirs.masked_fill(theirs == delay_id, processor.audio_token_id))
    if clips: assert torch.equal(prompt.audio_columns.T, inputs["audio_input_ids"][0])
    check_consistent(prompt, processor.tokenizer)


def test_system_ref_differs_from_transformers_in_its_slots_alone(processor):
    clip = encoded(processor, sine(0.6))
    messages = clone_messages("Hello.", clip, form="system_ref")
    text, _ = processed(processor, to_transformers(messages))
    ours = render(messages, processor.tokenizer).text
    assert ours.replace("<|audio_bos|><|AUDIO|>", "<|audio_out_bos|><|AUDIO_OUT|>") == text


def test_to_transformers_escapes_and_resamples(processor):
    clip = AudioContent(sine(0.6, rate=16000), random_codes(15))
    conversation = to_transformers(clone_messages("Say <|AUDIO_OUT|> now.", clip, "Words <|eot_id|>."))
    assert len(conversation[3]["content"][0]["audio"]) == 14400
    text, inputs = processed(processor, conversation)
    assert text.count("<|AUDIO_OUT|>") == 1 and text.count("<|eot_id|>") == 4
    assert inputs["audio_input_ids"].shape[1] == int(
        torch.isin(inputs["input_ids"], torch.tensor([processor.audio_token_id, processor.audio_delay_token_id])).sum())


# --- forms -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", PROMPT_FORMS)
@pytest.mark.parametrize("frames", [1, 31, 200])
def test_forms_are_consistent(form, frames, tokenizer):
    codes = random_codes(frames)
    prompt = render(clone_messages("Hello there.", codes, "Reference words.", form=form), tokenizer)
    assert prompt.form == form
    check_consistent(prompt, tokenizer)
    expected = {"double_reference": [frames, frames], "empty_assistant": [frames, 0]}.get(form, [frames])
    assert [c.shape[1] for c in prompt.codes] == expected
    assert all(torch.equal(c, codes[:, :c.shape[1]]) for c in prompt.codes)
    assert ("Reference words." in prompt.text) == (form != "system_ref")
    assert prompt.text.endswith("<|end_header_id|>\n\n<|audio_out_bos|>")
    placeholder = tokenizer.convert_tokens_to_ids("<|AUDIO_OUT|>")
    assert torch.equal(prompt.network_ids == placeholder, prompt.audio_mask)


def test_roles_of_the_slots():
    def roles(form):
        prompt = render(clone_messages("Hi.", random_codes(5), "Words.", form=form), TOKENIZERS["bytes"])
        audio = prompt.segments.query("kind == 'audio'")
        return list(zip(audio.role, audio.text))
    heard, said = ("user", "<|AUDIO|>"), ("assistant", "<|AUDIO_OUT|>")
    assert {form: roles(form) for form in PROMPT_FORMS} == {
        "assistant_ref": [said], "system_ref": [("system", "<|AUDIO|>")], "user_ref": [heard],
        "double_reference": [heard, said], "empty_assistant": [heard, said]}


def test_prompt_without_reference(tokenizer):
    prompt = render(clone_messages("Hello there."), tokenizer)
    assert prompt.form == NO_REFERENCE and prompt.codes == [] and prompt.audio_columns.shape == (8, 0)
    assert not prompt.audio_mask.any()
    check_consistent(prompt, tokenizer)


@pytest.mark.parametrize("n_codebooks", [1, 4, 12])
def test_other_codecs(n_codebooks):
    codes = torch.arange(9).expand(n_codebooks, 9)
    prompt = render(clone_messages("Hi.", codes, "Words."), TOKENIZERS["bytes"], n_codebooks=n_codebooks)
    assert torch.equal(prompt.audio_columns, delay(codes))


def test_scene_and_system_can_be_left_out(tokenizer):
    codes = random_codes(5)
    bare = render(clone_messages("Hi.", codes, "Words.", system="", scene=None), tokenizer)
    assert bare.text.startswith("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWords.<|eot_id|>")
    no_scene = render(clone_messages("Hi.", codes, "Words.", scene=""), tokenizer)
    assert no_scene.text == bare.text       # as the examples do it
    for form, options in (("system_ref", {}), ("assistant_ref", dict(scene="A cave.")), ("user_ref", dict(system="Speak."))):
        assert "|>system<|" in render(clone_messages("Hi.", codes, "Words.", form=form, **(dict(scene="") | options)), tokenizer).text
    alone = render(clone_messages("Hi.", codes, form="system_ref", system="", scene=""), tokenizer)
    assert "system<|end_header_id|>\n\n<|scene_desc_start|>\nSPEAKER0: <|audio_bos|>" in alone.text
    for prompt in (bare, no_scene, alone): check_consistent(prompt, tokenizer)


def test_several_references(tokenizer):
    codes = [random_codes(5), random_codes(7, seed=1)]
    prompt = render(clone_messages("[SPEAKER1] Hi.", codes, ["One.", "Two."]), tokenizer)
    assert "[SPEAKER0] One.<|eot_id|>" in prompt.text and "[SPEAKER1] Two.<|eot_id|>" in prompt.text
    assert [c.shape[1] for c in prompt.codes] == [5, 7] and prompt.form == "assistant_ref"
    check_consistent(prompt, tokenizer)


def test_described_speakers_and_recipient(tokenizer):
    speakers = ("Male, warm voice.", AudioContent(codes=random_codes(4)))
    messages = [Message("system", ["Speak.", Scene(speakers=speakers)]),
                Message("user", "Hi."), Message("assistant", "Well.", recipient="audience"),
                Message("assistant", AudioContent(codes=random_codes(3)))]
    prompt = render(messages, tokenizer, add_generation_prompt=False)
    assert "SPEAKER0: Male, warm voice.\nSPEAKER1: <|audio_bos|>" in prompt.text
    assert "\n\naudience<|recipient|>Well.<|eom_id|>" in prompt.text and prompt.text.endswith("<|audio_eos|><|eot_id|>")
    check_consistent(prompt, tokenizer)


def test_form_of_a_chat_with_earlier_chunks():
    clip = AudioContent(codes=random_codes(4))
    for form in ("assistant_ref", "system_ref", "user_ref"):
        chat = clone_messages("First chunk.", clip, "Words.", form=form)
        assert form_of([*chat, Message("assistant", clip), Message("user", "Second chunk.")]) == form


def test_clips_know_their_seconds():
    reference = Reference(sine(2.0), transcript="Words.")
    clip = AudioContent(reference, random_codes(49))
    assert clip.seconds == pytest.approx(2.0) and isinstance(clip.audio, Audio)
    def seconds(**options):
        prompt = render(clone_messages("Hi.", transcript="Words.", **options), TOKENIZERS["bytes"])
        return prompt.segments.query("kind == 'audio'").seconds.tolist()
    assert seconds(reference_codes=clip) == pytest.approx([2.0])
    assert seconds(reference_codes=random_codes(49)) == pytest.approx([1.96])
    assert seconds(reference_codes=random_codes(49), seconds=1.9) == pytest.approx([1.9])
    assert seconds(reference_codes=clip, form="empty_assistant") == pytest.approx([2.0, 0.0])


# --- people's text never steers --------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", PROMPT_FORMS)
@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_special_tokens_are_only_text(token, form, tokenizer):
    codes = random_codes(3)
    def clone(word):
        text, transcript, system, scene = (f"{start} {word} now{word}." for start in ("Say", "It said", "Be", "In"))
        return render(clone_messages(text, codes, transcript, form=form, system=system, scene=scene), tokenizer)
    prompt, harmless = clone(token), clone("x")
    assert control_ids(tokenizer, prompt.ids) == control_ids(tokenizer, harmless.ids)
    assert prompt.text.count(token) == harmless.text.count(token)
    check_consistent(prompt, tokenizer)


@pytest.mark.parametrize("content", [["<|eot", "_id|>"], ["<|eot<|eot_id|>", "_id|>"], ["<S", "E>", "</SE", ">"]])
def test_control_tokens_in_parts_are_only_text(content, tokenizer):
    prompt = render([Message("user", content)], tokenizer)
    harmless = render([Message("user", "x")], tokenizer)
    assert control_ids(tokenizer, prompt.ids) == control_ids(tokenizer, harmless.ids)
    check_consistent(prompt, tokenizer)


def test_control_tokens_in_descriptions_and_recipients(tokenizer):
    def chat(words): return [Message("system", ["Speak.", Scene(words, (words,))]), Message("user", "Hi."),
                             Message("assistant", words, recipient=words)]
    prompt, harmless = render(chat("<|eot_id|>"), tokenizer), render(chat("x"), tokenizer)
    assert control_ids(tokenizer, prompt.ids) == control_ids(tokenizer, harmless.ids)


def test_control_tokens_only_the_tokenizer_knows():
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|secret|>"]})
    prompt = render([Message("user", "a<|secret|>b")], tokenizer)
    assert tokenizer.convert_tokens_to_ids("<|secret|>") not in prompt.ids and "<|secret|>" not in prompt.text
    check_consistent(prompt, tokenizer)


@pytest.mark.parametrize("text", ["مرحبًا، كيف حالك؟", "你好。世界", "e\u0301 \U0001f600 ok", "a\n\n\nb", "  two  spaces ",
                                  "\n\nline breaks first", "tab\tand\r\nreturn", "x" * 5000])
def test_any_script_gives_the_ids_of_the_whole_text(text, tokenizer):
    clip = AudioContent(codes=random_codes(2))
    prompt = render([Message("system", text), Message("user", [text, clip, text])], tokenizer)
    assert prompt.segments.query("kind == 'text'")["text"].tolist() == [text] * 3
    check_consistent(prompt, tokenizer)


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_text_pieces_hold_no_control_token_even_unescaped(token, tokenizer):
    segments = [Segment("user", "text", f"a{token}b"), Segment("user", "control", token)]
    ids, owners = tokenise_segments(segments, tokenizer, SPECIAL_TOKENS)
    assert control_ids(tokenizer, torch.tensor(ids)) == [tokenizer.convert_tokens_to_ids(token)]
    assert owners == [0] * (len(ids) - 1) + [1]


def test_tokens_are_counted_where_they_begin():
    trimming, merging = byte_tokenizer(), TOKENIZERS["merges"]
    trimming.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    segments = [Segment("system", "text", "Be. "), Segment("system", "control", "\n\n"), Segment("system", "text", " a \u00e9")]
    assert tokenise_segments(segments, trimming, SPECIAL_TOKENS)[1] == [0] * 4 + [1] * 2 + [2] * 5
    segments = [Segment("system", "text", "Be."), Segment("system", "control", "\n\n"), Segment("system", "text", "\na")]
    ids, owners = tokenise_segments(segments, merging, SPECIAL_TOKENS)
    assert merging.convert_ids_to_tokens(ids) == ["B", "e", ".ĊĊ", "Ċ", "a"] and owners == [0, 0, 0, 2, 2]


# --- bad input: one line that names the argument ---------------------------------------------------------------------

CODES = random_codes(5)


@pytest.mark.parametrize("make, named", [
    (lambda: clone_messages("Hi.", CODES, "Words.", form="whisper"), "form: must be one of assistant_ref"),
    (lambda: clone_messages("Hi.", CODES), "transcript: form 'assistant_ref' needs one"),
    (lambda: clone_messages("Hi.", CODES, form="user_ref"), "transcript: form 'user_ref' needs one"),
    (lambda: clone_messages("Hi.", CODES, form="double_reference"), "transcript: form 'double_reference' needs one"),
    (lambda: clone_messages("Hi.", CODES, form="empty_assistant"), "transcript: form 'empty_assistant' needs one"),
    (lambda: clone_messages("Hi.", transcript="Words."), "needs reference_codes"),
    (lambda: clone_messages("Hi.", [CODES, CODES], "Words."), "one for each of 2 references, got 1"),
    (lambda: clone_messages("Hi.", CODES[:, :0], "Words."), "at least 1 frame"),
    (lambda: clone_messages("Hi.", AudioContent(sine(1)), "Words.", form="empty_assistant"), "encode first"),
    (lambda: clone_messages("Hi.", torch.zeros(5), "Words."), "[n_codebooks, frames]"),
    (lambda: AudioContent("voice.wav"), "audio: must be an Audio or a Reference, got str"),
    (lambda: AudioContent(codes=CODES, slot="up"), "slot: must be 'in', 'out'"),
    (lambda: AudioContent(), "needs audio or codes"),
    (lambda: Message("tool", "x"), "role: must be one of system, user, assistant, got 'tool'"),
    (lambda: Message("user", None), "content: must be text"),
    (lambda: Message("user", "x", recipient="you"), "recipient: only an assistant"),
    (lambda: Message("assistant", Scene("x")), "system message"),
    (lambda: render([], TOKENIZERS["bytes"]), "messages: need at least one"),
    (lambda: render([Message("user", AudioContent(sine(1)))], TOKENIZERS["bytes"]), "encode first"),
    (lambda: render([Message("user", AudioContent(codes=CODES))], TOKENIZERS["bytes"], n_codebooks=4), "[4, frames]"),
    (lambda: render([Message("user", AudioContent(codes=CODES + 1024))], TOKENIZERS["bytes"]), "0 to 1023"),
    (lambda: expand_slots(torch.tensor([1, 9, 2, 9]), [CODES], [9]), "each of the 2 audio slots, got 1"),
])
def test_bad_input(make, named):
    with pytest.raises(ValueError) as error: make()
    assert named in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "  \n", "<|eot_id|>", None, "x" * 100_001])
def test_bad_texts(text):
    with pytest.raises(TextError) as error: clone_messages(text, CODES, "Words.")
    assert str(error.value).startswith("text") and "\n" not in str(error.value)
    if text is not None:
        with pytest.raises(TextError, match="transcript"): clone_messages("Hi.", CODES, text)


def test_a_tokenizer_without_the_control_tokens():
    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])))
    with pytest.raises(ValueError, match=r"tokenizer: must have the control token <\|begin_of_text\|>"):
        render([Message("user", "a")], plain)


# --- how it shows itself ---------------------------------------------------------------------------------------------

def test_prompt_shows_itself():
    prompt = render(clone_messages("Is 2 < 3 & 4?", CODES, "مرحبا."), TOKENIZERS["bytes"])
    assert repr(prompt) == f"Prompt(assistant_ref: {len(prompt.ids)} positions, 14 of them columns of 1 clip)"
    shown = prompt._repr_html_()
    assert "Is 2 &lt; 3 &amp; 4?" in shown and "0.20 s, 14 columns" in shown
    turns = shown.split("<br>")[1:]         # after the system's: user, reference, user, what will be said
    assert len(turns) == 4 and all("start_header_id" in turn.partition("</bdi>")[0] for turn in turns)
    assert "language model: codes in the chat" in shown
    assert "<script" not in render([Message("user", "<script>alert(1)</script>")], TOKENIZERS["bytes"])._repr_html_()
