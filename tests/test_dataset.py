"""The dataset sample, the dual pathway and the collator, and that a batch gives what its samples give alone."""
import numpy as np
import pytest
import torch
from conftest import random_codes

from voicelab.audio import Audio
from voicelab.families.higgs.dataset import (
    IGNORED,
    ChatMLDatasetSample,
    VoiceCloneCollator,
    create_optimized_dataset_sample,
    process_reference_audio_dual_pathway,
    whisper_features,
    whisper_features_extractor,
)
from voicelab.families.higgs.prompt import PROMPT_FORMS, clone_messages, render
from voicelab.families.higgs.tiny import build_tokenizer
from voicelab.reference import Reference

TOKENIZER = build_tokenizer()


def prompt_of(form="assistant_ref", frames=7, text="Hello there."):
    return render(clone_messages(text, random_codes(frames), "Reference words.", form=form), TOKENIZER)


def sample_of(prompt): return create_optimized_dataset_sample(prompt.slot_ids, prompt.codes)


class LengthCodec:
    "Codes that say how many samples, at which rate, the codec was given."
    name, sample_rate, frame_rate, n_codebooks, codebook_size, context_frames = "length", 24000, 25.0, 8, 1024, 0
    def encode(self, audio):
        assert audio.rate == self.sample_rate
        return torch.zeros(8, len(audio.samples) // 960, dtype=torch.long)


def noise(seconds, rate):
    return Audio(np.random.default_rng(0).uniform(-0.3, 0.3, int(seconds * rate)).astype(np.float32), rate)


# --- samples ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("lengths", [[], [31], [31, 0], [0], [5, 7, 2], [5, 0, 7]])
def test_clips_come_back_as_they_went_in(lengths):
    clips = [random_codes(n, seed=n) for n in lengths]
    sample = create_optimized_dataset_sample(list(range(9)), clips)
    assert [c.shape for c in sample.codes] == [c.shape for c in clips]
    assert all(torch.equal(a, b) for a, b in zip(sample.codes, clips))
    if lengths: assert len(sample.audio_ids_start) == len(lengths)


def test_absent_parts_are_none():
    sample = create_optimized_dataset_sample([1, 2], [])
    absent = {name: value for name, value in vars(sample).items() if name != "input_ids"}
    assert set(absent.values()) == {None} and sample.codes == [] and sample.waveforms == []
    assert sample.input_ids.dtype == torch.int64


@pytest.mark.parametrize("shape", [(4800,), (1, 4800)])
def test_a_waveform_starts_and_ends_where_it_does(shape):
    waveform = torch.arange(4800.0).reshape(shape)
    sample = create_optimized_dataset_sample([1], [random_codes(5)], waveform, 16000, encode_whisper_embed=True)
    assert sample.audio_waveforms_concat.shape == (4800,) and sample.audio_waveforms_start.tolist() == [0]
    assert torch.equal(sample.waveforms[0], torch.arange(4800.0)) and sample.audio_sample_rate.tolist() == [16000.0]


def test_a_waveform_is_kept_only_for_study():
    assert create_optimized_dataset_sample([1], [], torch.zeros(9), 16000).audio_waveforms_concat is None


def test_one_start_too_many_makes_a_ghost():
    haunted = ChatMLDatasetSample(torch.tensor([1]), audio_ids_concat=random_codes(5),
                                  audio_ids_start=torch.tensor([0, 5]))
    assert [c.shape[1] for c in haunted.codes] == [5, 0]


@pytest.mark.parametrize("waveform, rate", [(None, 16000), (torch.zeros(9), None), (torch.zeros(2, 9), 16000)])
def test_bad_waveforms(waveform, rate):
    with pytest.raises(ValueError, match="^ref_waveform: ") as error:
        create_optimized_dataset_sample([1], [], waveform, rate, encode_whisper_embed=True)
    assert "\n" not in str(error.value)


# --- two pathways ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100])
@pytest.mark.parametrize("n_mels", [80, 128])
def test_both_pathways_get_their_own_rate(rate, n_mels):
    dual = process_reference_audio_dual_pathway(noise(1.0, rate), whisper_features_extractor(n_mels), LengthCodec())
    assert dual.codes.shape == (8, 25)
    assert dual.features.shape == (1, n_mels, 3000) and dual.features.dtype == torch.float32
    loud = (dual.features[0] - dual.features.min()).mean(0) > 0.1
    assert 95 <= int(loud.sum()) <= 105


def test_features_are_optional():
    reference = Reference(noise(1.0, 24000), transcript="Words.")
    dual = process_reference_audio_dual_pathway(reference, None, LengthCodec())
    assert dual.features is None and dual.audio is reference.audio
    prompt = prompt_of()
    assert dual.annotate(prompt) is prompt


def test_features_have_a_limit():
    with pytest.raises(ValueError, match="^audio: .*at most 30 s, got 30.5 s"):
        whisper_features(noise(30.5, 16000), whisper_features_extractor())


@pytest.mark.parametrize("form", PROMPT_FORMS)
def test_the_table_says_that_features_are_ignored(form):
    dual = process_reference_audio_dual_pathway(noise(1.0, 24000), whisper_features_extractor(), LengthCodec())
    prompt = prompt_of(form)
    studied = dual.annotate(prompt)
    row = studied.segments.query("kind == 'features'")
    assert row.feeds.tolist() == [IGNORED] and row.tokens.tolist() == [0]
    assert row.seconds.tolist() == pytest.approx([1.0])
    assert studied.segments.drop(row.index).reset_index(drop=True).equals(prompt.segments)
    assert torch.equal(studied.ids, prompt.ids) and "no Whisper tower" in studied._repr_html_()


def test_a_prompt_without_a_clip_has_no_features():
    dual = process_reference_audio_dual_pathway(noise(1.0, 24000), whisper_features_extractor(), LengthCodec())
    prompt = render(clone_messages("Hello."), TOKENIZER)
    assert dual.annotate(prompt) is prompt


# --- the collator ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", PROMPT_FORMS)
def test_a_batch_of_one_is_the_prompt(form):
    prompt = prompt_of(form)
    batch = VoiceCloneCollator(TOKENIZER)([sample_of(prompt)])
    assert torch.equal(batch["input_ids"][0], prompt.network_ids) and batch["attention_mask"].all()
    assert torch.equal(batch["audio_input_ids"][0].T, prompt.audio_columns) and batch["audio_input_ids_mask"].all()
    assert set(batch) == {"input_ids", "attention_mask", "audio_input_ids", "audio_input_ids_mask"}


def test_padding_sides():
    short, long, none = prompt_of(frames=2), prompt_of(frames=30), render(clone_messages("Hi."), TOKENIZER)
    batch = VoiceCloneCollator(TOKENIZER)([sample_of(p) for p in (short, long, none)])
    for row, prompt in enumerate((short, long, none)):
        n, columns = len(prompt.ids), prompt.audio_columns.shape[1]
        assert torch.equal(batch["input_ids"][row, -n:], prompt.network_ids)
        assert (batch["input_ids"][row, :-n] == TOKENIZER.pad_token_id).all()
        assert batch["attention_mask"][row].tolist() == [0] * (batch["input_ids"].shape[1] - n) + [1] * n
        assert torch.equal(batch["audio_input_ids"][row, :columns].T, prompt.audio_columns)
        assert (batch["audio_input_ids"][row, columns:] == 1025).all()
        assert int(batch["audio_input_ids_mask"][row].sum()) == columns


def test_a_batch_without_clips_has_no_audio():
    batch = VoiceCloneCollator(TOKENIZER)([sample_of(render(clone_messages(t), TOKENIZER)) for t in ("Hi.", "Hello.")])
    assert set(batch) == {"input_ids", "attention_mask"}


def test_features_of_a_batch():
    collate = VoiceCloneCollator(TOKENIZER, feature_extractor=whisper_features_extractor(80))
    prompt, sound = prompt_of(), noise(1.0, 16000)
    sample = create_optimized_dataset_sample(prompt.slot_ids, prompt.codes, torch.tensor(sound.samples), 16000, True)
    features = collate([sample, sample])["audio_features"]
    assert features.shape == (2, 80, 3000)
    assert torch.equal(features[:1], whisper_features(sound, whisper_features_extractor(80)))
    with pytest.raises(ValueError, match="^samples: feature_extractor needs"): collate([sample_of(prompt)])


@pytest.mark.parametrize("clips", [0, 1, 3])
def test_clips_must_match_slots(clips):
    prompt = prompt_of("double_reference")
    with pytest.raises(ValueError, match=f"each of the 2 audio slots, got {clips}"):
        VoiceCloneCollator(TOKENIZER)([create_optimized_dataset_sample(prompt.slot_ids, [random_codes(7)] * clips)])


def test_a_tokenizer_without_padding():
    tokenizer = build_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="^tokenizer: must have a padding token"): VoiceCloneCollator(tokenizer)


@torch.no_grad()
def test_a_batch_gives_the_network_what_its_samples_give_alone(tiny_network):
    prompts = [prompt_of(form, frames) for form, frames in zip(PROMPT_FORMS, (3, 12, 7, 5, 20))]
    prompts.append(render(clone_messages("A longer text to be spoken, without any reference."), TOKENIZER))
    batch = VoiceCloneCollator(TOKENIZER)([sample_of(p) for p in prompts])
    positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    together = tiny_network(**batch, position_ids=positions).logits[:, -1]
    for row, prompt in enumerate(prompts):
        clips = dict(audio_input_ids=prompt.audio_columns.T[None]) if prompt.codes else {}
        alone = tiny_network(input_ids=prompt.network_ids[None], **clips).logits[0, -1]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=0)
