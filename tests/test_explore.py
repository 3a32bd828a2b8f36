"What each codebook holds: bounds, codecs with one codebook, codecs that can't decode fewer."
import numpy as np
import pytest
import torch
from conftest import ToneCodec, random_codes

import voicelab
from voicelab.audio import GENERATED, Audio, Mark
from voicelab.codec import CodecError
from voicelab.explore import decode_first, exchange, resynthesise
from voicelab.reference import Reference

def sound(seconds, pitch=150):
    time = np.arange(int(seconds * 24_000)) / 24_000
    return Reference(Audio((0.2 * np.sin(2 * np.pi * pitch * time) * (1 + np.sin(20 * time))).astype(np.float32), 24_000), consent="synthetic")


class OneBook(ToneCodec):
    n_codebooks, sample_rate, frame_rate, name = 1, 8000, 12.5, "one"
    def encode(self, audio): return super().encode(audio)[:1]
    def decode(self, codes): return super().decode(codes.repeat(8, 1))


def test_all_codebooks_are_the_codec_itself(small_codec):
    codes = random_codes(9)
    assert np.array_equal(decode_first(small_codec, codes, 8).samples, small_codec.decode(codes).samples)
    assert np.array_equal(small_codec.decode_first(codes).samples, small_codec.decode(codes).samples)
    assert not np.allclose(decode_first(small_codec, codes, 3).samples, small_codec.decode(codes).samples)


@pytest.mark.parametrize("k", [0, 9, -1, 2.0, None])
def test_how_many_codebooks_there_are(small_codec, k):
    with pytest.raises(CodecError, match="k: must be a whole number from 1 to 8 codebooks, got"): decode_first(small_codec, random_codes(3), k)


@pytest.mark.parametrize("codes", [torch.zeros(0, 3, dtype=torch.long), torch.zeros(9, 3, dtype=torch.long), torch.full((2, 3), 1024)])
def test_codes_that_do_not_fit(small_codec, codes):
    with pytest.raises(CodecError, match="codes: "): small_codec.decode_first(codes)


def test_the_lab_still_refuses_codes_with_too_few_codebooks(small_codec):
    with pytest.raises(CodecError, match=r"codes: must be \[8, frames\], got shape \[3, 4\]"): small_codec.decode(random_codes(4, 3))


def test_a_codec_that_cannot_decode_fewer_has_a_ladder_of_one_step():
    assert list(resynthesise(ToneCodec(), sound(1)).audios) == [8]
    with pytest.raises(CodecError, match="can't decode fewer than its 8 codebooks"): decode_first(ToneCodec(), random_codes(3), 2)


def test_a_codec_of_one_codebook_has_a_ceiling_and_nothing_to_exchange():
    through = resynthesise(OneBook(), sound(2))
    assert list(through.audios) == [1] and through.ceiling.name == "similarity" and list(through.table.bits_per_second) == [125]
    with pytest.raises(CodecError, match="one has one codebook, so there is nothing to exchange"): exchange(OneBook(), sound(1), sound(1), [0])


def test_exchanged_codebooks_are_cropped_not_stretched(small_codec):
    a, b = sound(1.0), sound(1.6, pitch=220)
    mixed = exchange(small_codec, a, b, [2, 0, 2])
    expected = small_codec.encode(a.audio).clone()
    expected[[0, 2]] = small_codec.encode(b.audio)[[0, 2], :25]
    assert np.array_equal(mixed.audio.samples, small_codec.decode(expected).samples)
    assert mixed.codebooks == (0, 2) and mixed.cropped_seconds == pytest.approx(0.6)


@pytest.mark.parametrize("codebooks", [[8], [-1], [0.5], ["0"]])
def test_codebooks_that_are_not_there(small_codec, codebooks):
    with pytest.raises(CodecError, match="codebooks: must be 0 to 7, got"): exchange(small_codec, sound(1), sound(1), codebooks)


def test_a_mixture_is_synthetic_and_a_resynthesis_what_the_recording_is(small_codec):
    real, made = sound(1.0), sound(1.0, pitch=220)
    made = Reference(Audio(made.audio.samples, 24_000, Mark(f"{GENERATED}; model tiny")), consent="asked")
    mixed = exchange(small_codec, real, made, [0]).audio.mark
    assert mixed == Mark(f"{GENERATED}; model small; model tiny", "Consent of the reference speaker: synthetic; Consent of the reference speaker: asked",
                         f"voicelab {voicelab.__version__}")
    assert exchange(small_codec, real, real, [0]).audio.synthetic
    assert {sound.mark for sound in resynthesise(small_codec, made).audios.values()} == {made.audio.mark}
    assert not any(sound.synthetic for sound in resynthesise(small_codec, real).audios.values())
