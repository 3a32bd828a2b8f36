"""Delay pattern, streaming and token text, with transformers' processor as the oracle of the first."""
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import ToneCodec, joined, random_codes, untouched
from transformers import HiggsAudioV2Processor

from voicelab.audio import Audio
from voicelab.codec import (
    STREAM_BOS,
    STREAM_EOS,
    Codec,
    CodecError,
    StreamDecoder,
    check_codes,
    code_tokens,
    decode_batch,
    delay,
    parse_code_tokens,
    plot_columns,
    undelay,
)
from voicelab.models.tinycodec import TinyCodec, TinyCodecConfig, TinyCodecNet

plt.switch_backend("Agg")
FRAMES = (0, 1, 2, 7, 8, 9, 31)


class Upstream(HiggsAudioV2Processor):
    "transformers' delay pattern without the rest of its processor."
    audio_stream_bos_id, audio_stream_eos_id = STREAM_BOS, STREAM_EOS
    def __init__(self): pass


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("books", (1, 2, 8))
def test_delay_is_upstreams_and_undelay_takes_it_back(books, frames):
    codes = random_codes(frames, books)
    columns = delay(codes)
    edge = lambda value: torch.full((books, 1), value)
    wanted = Upstream().build_delay_pattern(torch.cat([edge(STREAM_BOS), codes, edge(STREAM_EOS)], 1)[None])[0]
    assert torch.equal(columns, wanted) and columns.dtype == torch.long
    assert columns.shape == (books, frames + books + 1)
    assert torch.equal(undelay(columns), codes)
    straight = Upstream().revert_delay_pattern(columns.T).T
    assert torch.equal(straight[:, 1:-1], codes)


@pytest.mark.parametrize("cut", range(41))
def test_a_cut_keeps_the_frames_that_are_whole(cut):
    codes = random_codes(31)
    kept = undelay(delay(codes)[:, :cut])
    assert torch.equal(kept, codes[:, :max(0, min(31, cut - 8))])


@pytest.mark.parametrize("stray", (STREAM_BOS, STREAM_EOS))
@pytest.mark.parametrize("book", (0, 3, 7))
def test_strays_inside_are_clipped_and_at_the_end_dropped(book, stray):
    codes = random_codes(12)
    inside, trailing = codes.clone(), codes.clone()
    inside[book, 5], trailing[book, 10:] = stray, stray
    kept = undelay(delay(inside))
    assert kept.shape == (8, 12) and kept[book, 5] == 1023
    kept[book, 5] = codes[book, 5]
    assert torch.equal(kept, codes)
    assert torch.equal(undelay(delay(trailing)), codes[:, :10])
    assert undelay(delay(torch.full((8, 4), stray))).shape == (8, 0)


@pytest.mark.parametrize("codes, message", [
    (torch.zeros(7, 3), "must be [8, frames], got shape [7, 3]"), (torch.zeros(8), "got shape [8]"),
    (torch.zeros(1, 8, 3), "got shape [1, 8, 3]"), (torch.full((8, 2), 1024), "0 to 1023, got 1024 to 1024"),
    (torch.full((8, 2), -1), "0 to 1023, got -1 to -1"), (torch.zeros(8, 3), "must be whole numbers, got torch.float32")])
def test_check_codes_names_what_is_wrong(codes, message):
    with pytest.raises(CodecError) as error: check_codes(codes, 8)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_check_codes_takes_the_empty_audio():
    assert check_codes(torch.zeros(8, 0, dtype=torch.int32), 8).dtype == torch.long


@pytest.mark.parametrize("context", (0, 1, 3))
@pytest.mark.parametrize("frames", (0, 1, 2, 5, 6, 26, 90))
@pytest.mark.parametrize("step", (1, 4, 100))
def test_streamed_pieces_join_to_the_whole(context, frames, step):
    codec, codes = ToneCodec(context), random_codes(frames)
    decoder = StreamDecoder(codec, block_frames=3)
    pieces = [decoder.push(codes[:, t:t + step]) for t in range(0, frames, step)] + [decoder.flush()]
    whole = codec.decode(codes).samples if frames else np.zeros(0)
    assert len(joined(pieces)) == 320 * frames
    assert np.abs(joined(pieces) - whole).max(initial=0) <= 1e-6
    assert decoder.flush() is None                        # nothing is given twice


def test_blocks_grow_from_early_to_cheap():
    decoder = StreamDecoder(ToneCodec(2))
    lengths = [len(p.samples) // 320 for t in range(200) if (p := decoder.push(random_codes(1, seed=t)))]
    assert lengths[:4] == [5, 10, 20, 25] and set(lengths[4:]) == {25}


def test_the_first_piece_waits_for_block_and_context_only():
    decoder = StreamDecoder(ToneCodec(2), block_frames=4)
    assert [decoder.push(random_codes(1)) is None for _ in range(6)] == [True] * 5 + [False]


def test_too_little_context_is_heard():
    codec, codes = ToneCodec(2), random_codes(40)
    whole = codec.decode(codes).samples
    class Liar(ToneCodec):
        def decode(self, codes): return codec.decode(codes)
    decoder = StreamDecoder(Liar(1))
    pieces = [decoder.push(codes[:, t:t + 1]) for t in range(40)] + [decoder.flush()]
    assert np.abs(joined(pieces) - whole).max() > 1e-3


class WholeCodec(ToneCodec):
    "Each sample depends on all codes."
    def __init__(self): super().__init__(None)
    def decode(self, codes):
        return Audio(np.full(320 * codes.shape[1], 0.1 + codes.float().mean().item() / 2048, np.float32), self.sample_rate)
    def decode_rows(self, codes): raise AssertionError("windows of such a codec would be wrong")


def test_without_a_finite_context_all_is_decoded_at_the_end():
    codec, rows = WholeCodec(), [random_codes(40), random_codes(7, seed=1), random_codes(0)]
    decoder = StreamDecoder(codec)
    assert [decoder.push(rows[0][:, t:t + 8]) for t in range(0, 40, 8)] == [None] * 5
    assert np.array_equal(decoder.flush().samples, codec.decode(rows[0]).samples) and decoder.flush() is None
    assert StreamDecoder(codec).flush() is None
    for codes, sound in zip(rows, decode_batch(codec, rows), strict=True):
        assert len(sound.samples) == 320 * codes.shape[1] and (not len(sound.samples) or np.array_equal(sound.samples, codec.decode(codes).samples))


def test_code_tokens_and_back():
    codes = random_codes(50)[0]
    assert torch.equal(parse_code_tokens(code_tokens(codes)), codes)
    assert code_tokens(torch.tensor([])) == "" and parse_code_tokens("no codes here").shape == (0,)


@pytest.mark.parametrize("text, codes", [
    ("<|audio_3|> and <|audio_12|>", [3, 12]), ("<|audio_|>", []), ("<|audio_-1|>", []), ("<|audio_²|>", []),
    ("<|audio_7", []), ("<|audio_7<|audio_8|>", [8]), ("<|audio_5|>9|>", [5])])
def test_only_whole_code_tokens_count(text, codes): assert parse_code_tokens(text).tolist() == codes


def test_columns_can_be_drawn():
    figure, ax = plt.subplots()
    assert plot_columns(delay(random_codes(9)), ax=ax) is ax
    assert ax.get_xlabel() and ax.get_ylabel()
    plt.close(figure)


# The tiny codec

SMALL = TinyCodecConfig(channels=32, vocoder_channels=48, code_dim=8)


@pytest.fixture(scope="module")
def tiny():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = TinyCodecNet(SMALL)
        for tensor in net.parameters():
            if tensor.ndim > 1: tensor.data.mul_(3)       # so that far frames are heard, not only near ones
        return TinyCodec(net, "small")


def test_tiny_codec_keeps_the_contract(tiny):
    assert isinstance(tiny, Codec)
    assert (tiny.sample_rate, tiny.frame_rate, tiny.n_codebooks, tiny.codebook_size) == (24_000, 25.0, 8, 1024)


@pytest.mark.parametrize("samples, rate, frames", [(24_000, 24_000, 25), (959, 24_000, 0), (960, 24_000, 1),
                                                   (19_213, 24_000, 20), (8_000, 16_000, 12), (0, 24_000, 0)])
def test_tiny_codec_encodes_whole_frames(tiny, samples, rate, frames):
    sound = Audio(np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32), rate)
    codes = untouched(lambda: tiny.encode(sound))
    assert codes.shape == (8, frames) and codes.dtype == torch.long
    assert torch.equal(codes, check_codes(tiny.encode(sound), 8))


def test_tiny_codec_hears_no_level(tiny):
    sound = np.random.default_rng(0).normal(0, 0.1, 9600).astype(np.float32)
    assert torch.equal(tiny.encode(Audio(sound, 24_000)), tiny.encode(Audio(sound * 0.25, 24_000)))
    assert tiny.encode(Audio(np.zeros(9600, np.float32), 24_000)).shape == (8, 10)


def test_tiny_codec_states_its_reach_exactly(tiny):
    codes, at = random_codes(60), 30
    moved = codes.clone()
    moved[:, at] = (moved[:, at] + 500) % 1024
    changed = np.abs(tiny.decode(codes).samples - tiny.decode(moved).samples).reshape(-1, 960).max(1) > 0
    heard = changed.nonzero()[0]
    assert at - tiny.context_frames <= heard.min() and heard.max() <= at + tiny.context_frames
    assert heard.min() <= at - tiny.context_frames + 1    # not stated generously either


@pytest.mark.parametrize("frames", (1, 4, 14, 15, 70))
def test_tiny_codec_streams_exactly(tiny, frames):
    codes, decoder = random_codes(frames), StreamDecoder(tiny)
    pieces = [decoder.push(codes[:, t:t + 1]) for t in range(frames)] + [decoder.flush()]
    whole = tiny.decode(codes).samples
    assert len(whole) == 960 * frames and whole.dtype == np.float32
    assert np.abs(joined(pieces) - whole).max() < 1e-4


@pytest.mark.parametrize("lengths", [(0,), (1,), (0, 0), (130, 129, 128, 127, 1, 0), (300, 300, 5), (40, 41, 42), (256, 257)])
def test_a_batch_decodes_as_its_rows_alone(tiny, lengths):
    rows = [random_codes(n) for n in lengths]
    for codes, sound in zip(rows, untouched(lambda: decode_batch(tiny, rows)), strict=True):
        assert len(sound.samples) == 960 * codes.shape[1] and sound.samples.dtype == np.float32 and sound.rate == 24_000
        if codes.shape[1]: assert np.abs(sound.samples - tiny.decode(codes).samples).max() < 1e-4


@pytest.mark.parametrize("window", (1, 15, 16, 50))
def test_windows_of_a_batch_never_get_too_short_to_be_right(tiny, window):
    rows = [random_codes(n) for n in (90, 33, 90)]
    for codes, sound in zip(rows, decode_batch(tiny, rows, window_frames=window), strict=True):
        assert np.abs(sound.samples - tiny.decode(codes).samples).max() < 1e-4


def test_rows_of_different_lengths_are_decoded_in_one_go(tiny, monkeypatch):
    decoded, decode_rows = [], tiny.decode_rows
    monkeypatch.setattr(tiny, "decode_rows", lambda codes: decoded.append(codes.shape) or decode_rows(codes))
    decode_batch(tiny, [random_codes(n) for n in (90, 61, 47, 40, 118)])
    assert [shape[1:] for shape in decoded] == [(8, 40)] and decoded[0][0] <= 3 * 5 + 3


def test_a_batch_names_codes_that_are_wrong(tiny):
    with pytest.raises(CodecError, match="0 to 1023"): decode_batch(tiny, [random_codes(3), torch.full((8, 3), STREAM_EOS)])


def test_a_codec_without_rows_decodes_one_by_one():
    codec, rows = ToneCodec(2), [random_codes(n) for n in (5, 0, 9)]
    sounds = decode_batch(codec, rows)
    assert [len(sound.samples) // 320 for sound in sounds] == [5, 0, 9]


def test_no_frames_are_no_sound(tiny):
    sound = tiny.decode(random_codes(0))
    assert sound.samples.shape == (0,) and sound.rate == 24_000


def test_tiny_codec_refuses_other_codes(tiny):
    with pytest.raises(CodecError, match="8, frames"): tiny.decode(torch.zeros(4, 3))
    with pytest.raises(CodecError, match="0 to 1023"): tiny.decode(torch.full((8, 3), STREAM_EOS))
