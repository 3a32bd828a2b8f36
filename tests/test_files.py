"Sound files: every format, depth, rate and channel count in; every broken file refused in one line."
import io
import os
import re
import struct
import subprocess
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from voicelab import recordings
from voicelab.files import KINDS, AudioError, kind_of, riff_chunk, sound_file, wav_file, write_whole
from voicelab.recordings import MAX_CHUNKS, ForwardFile, read_info, read_sound
from voicelab.store import append_whole

def tone(seconds=1.0, rate=24_000, hertz=440.0):
    "A sine at half scale, float32 [n]."
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def refusal(path, limit_seconds=30.0):
    "The one line with which the file at `path` is refused."
    with pytest.raises(AudioError) as caught: read_sound(path, limit_seconds)
    text = str(caught.value)
    assert text.isprintable() and repr(str(path)) in text
    return text


@pytest.fixture
def make(tmp_path):
    "Write samples to a file of the folder and return its path."
    def make(name, samples, rate=24_000, **options):
        soundfile.write(tmp_path / name, samples, rate, **options)
        return tmp_path / name
    return make


# What can be read

@pytest.mark.parametrize("name, subtype, close", [
    ("a.wav", "PCM_U8", 1e-2), ("a.wav", "PCM_16", 1e-4), ("a.wav", "PCM_24", 1e-6), ("a.wav", "PCM_32", 1e-6),
    ("a.wav", "FLOAT", 1e-7), ("a.wav", "DOUBLE", 1e-7), ("a.wav", "ULAW", 3e-2),
    ("a.flac", "PCM_S8", 1e-2), ("a.flac", "PCM_16", 1e-4), ("a.flac", "PCM_24", 1e-6),
    ("a.ogg", "VORBIS", 5e-2), ("a.ogg", "OPUS", 5e-2), ("a.mp3", "MPEG_LAYER_III", 5e-2),
])
def test_formats_and_depths(make, name, subtype, close):
    samples, rate, _ = read_sound(make(name, tone(), subtype=subtype), None)
    assert (rate, samples.dtype, samples.ndim) == (24_000, np.float32, 1)
    middle = samples[4_000:20_000]
    assert len(samples) == pytest.approx(24_000, abs=600)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / 2**0.5, abs=max(close, 1e-3))
    if subtype.startswith(("PCM", "FLOAT", "DOUBLE")): assert np.abs(samples - tone()).max() < close


@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64"])
def test_the_kinds_of_wav(make, format):
    assert len(read_sound(make("a.wav", tone(), format=format), None)[0]) == 24_000


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_rates(make, name, rate):
    samples, own_rate, seconds = read_sound(make(name, tone(0.6, rate), rate), None)
    assert (own_rate, len(samples), seconds) == (rate, round(0.6 * rate), pytest.approx(0.6))


@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_channels_are_averaged(make, name, channels):
    spread = np.stack([tone() * (2 * number / (channels + 1)) for number in range(1, channels + 1)], axis=1)
    samples, _, _ = read_sound(make(name, spread), None)
    assert np.abs(samples - tone())[2_000:-2_000].max() < (0.1 if name == "a.ogg" else 1e-3)


def test_stereo_mp3_and_the_name_does_not_decide(make, tmp_path):
    path = make("a.mp3", np.stack([tone(), 0 * tone()], axis=1))
    for name in ("b.wav", "c", "d.raw", "e.MP3", "ä ö.mp3"):
        (tmp_path / name).write_bytes(path.read_bytes())
        assert np.abs(read_sound(tmp_path / name, None)[0]).max() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_blocks_give_what_one_reading_gives(make, name):
    noise = np.random.default_rng(0).normal(0, 0.1, 24_000 * 8)
    path = make(name, noise)
    whole = soundfile.read(path, dtype="float32")[0]
    assert np.abs(read_sound(path, None)[0] - whole).max() < 1e-6


def test_mp3_with_a_tag_before_it(make):
    path = make("a.mp3", tone())
    plain = path.read_bytes()
    path.write_bytes(b"ID3\x04\0\0" + bytes([0, 0, 8, 0]) + bytes(1024) + plain)
    assert len(read_sound(path, None)[0]) == 24_000
    path.write_bytes(path.read_bytes()[:-len(plain) // 2])
    assert "truncated" in refusal(path)


def test_mp3_without_a_stated_length(make):
    path = make("a.mp3", np.random.default_rng(0).normal(0, 0.1, 72_000))
    plain = path.read_bytes()
    path.write_bytes(plain[plain.index(plain[:2], 4):])
    samples, rate, stated = read_sound(path, None)
    assert stated is None and len(samples) > 24_000


def test_streamed_files_that_do_not_know_their_length(make):
    wav, flac = make("a.wav", tone()), make("a.flac", tone())
    for stated in (0xFFFFFFFF, 0x7FFFFFFF):
        whole = bytearray(wav.read_bytes())
        whole[4:8] = whole[40:44] = struct.pack("<I", stated)
        wav.write_bytes(whole)
        assert len(read_sound(wav, None)[0]) == 24_000
    whole = bytearray(flac.read_bytes())
    whole[21:26] = bytes([whole[21] & 0xF0, 0, 0, 0, 0])
    flac.write_bytes(whole)
    samples, _, stated = read_sound(flac, None)
    assert len(samples) == 24_000 and stated is None
    flac.write_bytes(whole[:len(whole) * 2 // 3])
    assert "damaged" in refusal(flac)


# What cannot

def test_missing_file(tmp_path): assert "No such file" in refusal(tmp_path / "none.wav")


def test_folder(tmp_path): assert "folder" in refusal(tmp_path)


def test_file_as_a_folder(make): assert "Not a directory" in refusal(make("a.wav", tone()) / "b.wav")


def test_pipe_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    assert "not a file" in refusal(tmp_path / "pipe.wav")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_forbidden_file(make):
    path = make("a.wav", tone())
    path.chmod(0)
    assert "Permission denied" in refusal(path)


@pytest.mark.parametrize("name", ["a\0b.wav", "a\nb.wav", "a" * 300 + ".wav"])
def test_impossible_names_stay_on_one_line(name):
    with pytest.raises(AudioError) as caught: read_sound(name, None)
    assert str(caught.value).isprintable() and "cannot be read" in str(caught.value)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a"])
def test_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    assert "is empty (0 bytes)" in refusal(tmp_path / name)


def test_no_samples(make): assert "holds no samples" in refusal(make("a.wav", np.zeros(0)))


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3"])
def test_no_samples_in_other_formats(make, name): refusal(make(name, np.zeros(0)))


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.raw", "a"])
@pytest.mark.parametrize("content", [b"not a sound\n" * 100, b"\x89PNG\r\n\x1a\n" + bytes(500), bytes(5_000), b"R",
                                     b"RIFF", b"\xff\xfb\x90\x00" + bytes(40), bytes(range(256)) * 20, b"OggS",
                                     b"fLaC", b"ID3"],
                         ids=["text", "png", "zeros", "R", "RIFF", "sync", "bytes", "OggS", "fLaC", "ID3"])
def test_no_sound(tmp_path, capfd, name, content):
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path / name)
    if not content.startswith(b"\xff"): assert capfd.readouterr().err == ""


def test_sound_of_another_format(make): assert "is AIFF" in refusal(make("a.aiff", tone()))


@pytest.mark.parametrize("rate", [4_000, 7_999, 192_001, 384_000])
def test_unsupported_rates(make, rate):
    said = refusal(make("a.wav", tone(), rate))
    assert f"sample rate: must be a whole number from 8000 to 192000 Hz, got {rate}" in said


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.5, 0.99])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_truncated_files_never_pass_for_whole(make, capfd, name, share):
    path = make(name, np.random.default_rng(0).normal(0, 0.1, 24_000 * 8))
    whole = path.read_bytes()
    path.write_bytes(whole[:max(1, int(len(whole) * share))])
    refusal(path)
    assert capfd.readouterr().err == ""


def test_truncated_files_say_how_much_is_there(make):
    wav, flac, mp3 = (make(f"a.{ending}", tone(8.0)) for ending in ("wav", "flac", "mp3"))
    for path in (wav, flac, mp3): path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    assert re.search(r"truncated: 191978 of its 384000 bytes of sound are there \(50.0%\)", refusal(wav))
    assert re.search(r"truncated: \d+ of its \d+ bytes of sound are there \(50.0%\)", refusal(mp3))
    assert re.search(r"truncated or damaged: [2-4].\d\d of 8.00 s could be read", refusal(flac))


@pytest.mark.parametrize("name, options", [("a.wav", dict(endian="BIG")), ("a.wav", dict(format="RF64")), ("a.wav", dict(subtype="PCM_24")),
                                           ("a.wav", dict(subtype="FLOAT")), ("a.wav", dict(subtype="ULAW")), ("a.mp3", {})])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_truncated_files_say_their_seconds(make, name, options, rate):
    path = make(name, np.random.default_rng(0).normal(0, 0.1, 4 * rate), rate, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) * 3 // 4])
    there, stated = map(float, re.search(r"are there \(7\d.\d%\): (\d.\d\d) of (\d.\d\d) s", refusal(path)).groups())
    assert there == pytest.approx(3, abs=0.15) and stated == pytest.approx(4, abs=0.15)


def test_a_big_endian_wav_is_read_whole(make):
    assert np.array_equal(read_sound(make("a.wav", tone(), endian="BIG"), None)[0], read_sound(make("b.wav", tone()), None)[0])
    path = make("a.wav", tone(), endian="BIG")
    path.write_bytes(path.read_bytes()[:40] + bytes(4) + path.read_bytes()[44:])
    with pytest.warns(UserWarning, match="states that it holds no sound, but 48000 bytes follow"): assert len(read_sound(path, None)[0]) == 24_000


def test_a_rate_of_no_bytes_a_second_has_no_seconds(make):
    path = make("a.wav", tone())
    whole = path.read_bytes()
    path.write_bytes(whole[:28] + bytes(4) + whole[32:24_044])
    assert refusal(path).endswith("24000 of its 48000 bytes of sound are there (50.0%)")


def test_truncated_beyond_the_limit_is_seen_where_the_file_states_its_length(make):
    path = make("a.wav", tone(8.0))
    path.write_bytes(path.read_bytes()[:300_000])
    assert "truncated" in refusal(path, limit_seconds=1.0)


def test_damage_in_the_middle_of_a_flac(make):
    path = make("a.flac", np.random.default_rng(0).normal(0, 0.1, 24_000 * 8))
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle:middle + 20_000] = bytes(20_000)
    path.write_bytes(whole)
    assert "damaged" in refusal(path)


# A long file

@pytest.mark.parametrize("name", ["long.wav", "long.flac"])
def test_ten_minutes_are_not_read_whole(make, monkeypatch, name):
    path = make(name, np.tile(tone(1.0, 16_000), 600), 16_000)
    counts, read = [], ForwardFile.read

    def counting(self, *arguments, **options):
        block = read(self, *arguments, **options)
        counts.append(len(block))
        return block

    monkeypatch.setattr(ForwardFile, "read", counting)
    tracemalloc.start()
    samples, rate, stated = read_sound(path, 30.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(samples) == 30 * 16_000 + 1 and stated == 600.0
    assert sum(counts) == len(samples) and len(counts) > 5 and max(counts) <= 65_536
    assert peak < 3 * samples.nbytes < 600 * 16_000


# Small files that hold, or say that they hold, very much

def measured(call, *arguments):
    "What `call` returns or raises, the seconds of the processor that it took, and the most bytes that it had at a time."
    tracemalloc.start()
    begun = time.process_time()         # other work on the machine doesn't count
    try: result = call(*arguments)
    except AudioError as error: result = error
    seconds, peak = time.process_time() - begun, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, seconds, peak


def riff(*chunks): return riff_chunk(b"RIFF", b"WAVE" + b"".join(chunks))


FORMAT, SOUND = riff_chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)), riff_chunk(b"data", bytes(32_000))
HUGE = b"\xff\xff\xff\xff"


@pytest.fixture(scope="module")
def three_hours(tmp_path_factory):
    "A small FLAC that holds three hours of silence."
    path = tmp_path_factory.mktemp("long") / "long.flac"
    with soundfile.SoundFile(path, "w", 8_000, 1) as sound:
        for _ in range(180): sound.write(np.zeros(60 * 8_000, np.int16))
    assert path.stat().st_size < 1_000_000
    return path


def test_three_hours_of_silence_are_refused_before_they_are_decoded(three_hours):
    said, seconds, peak = measured(read_sound, three_hours, None)
    assert str(said) == f"{str(three_hours)!r} holds more than 7200 s, the most that is read: give limit_seconds for a part"
    assert seconds < 1 and peak < 1_000_000
    assert "7200 s" in str(measured(read_sound, three_hours, 1e9)[0])


def test_a_part_of_three_hours_takes_the_memory_of_the_part(three_hours):
    (samples, _, stated), _, peak = measured(read_sound, three_hours, 30.0)
    assert len(samples) == 30 * 8_000 + 1 and stated == 3 * 3_600 and peak < 3 * samples.nbytes


def test_a_length_that_is_not_stated_is_bounded_while_it_is_read(three_hours, tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "MAX_FRAMES", 1_000_000)
    whole = bytearray(three_hours.read_bytes())
    whole[21:26] = bytes([whole[21] & 0xF0, 0, 0, 0, 0])
    path = write_whole(tmp_path / "a.flac", whole)
    said, _, peak = measured(read_sound, path, None)
    assert "holds more than 125 s" in str(said) and peak < 9_000_000
    assert read_sound(path, 1.0)[2] is None


def test_the_bounds_themselves_are_allowed(make, monkeypatch):
    monkeypatch.setattr(recordings, "MAX_SECONDS", 2)
    assert len(read_sound(make("a.wav", tone(2.0)), None)[0]) == 48_000
    long = make("b.wav", tone(3.0))
    assert len(read_sound(long, 2)[0]) == 48_001 and "more than 2 s" in refusal(long, 2.1) and "more than 2 s" in refusal(long, None)


def test_a_thousand_channels_do_not_widen_the_blocks(make, monkeypatch):
    path, sizes, read = make("a.wav", np.zeros((3_000, 1_000)), 8_000), [], ForwardFile.read
    monkeypatch.setattr(ForwardFile, "read", lambda self, *given, **options: [sizes.append((block := read(self, *given, **options)).size), block][1])
    assert len(read_sound(path, None)[0]) == 3_000 and max(sizes) <= 65_536


@pytest.mark.parametrize("chunks", [(FORMAT, b"none" + bytes(4), SOUND), (FORMAT, SOUND, b"none" + bytes(4)), (b"none" + bytes(4), FORMAT, SOUND)],
                         ids=["before the sound", "behind the sound", "first"])
def test_millions_of_empty_chunks(tmp_path, chunks):
    path = write_whole(tmp_path / "a.wav", riff(*(chunk * (3_000_000 if chunk[:4] == b"none" else 1) for chunk in chunks)))
    said, seconds, peak = measured(read_info, path)
    assert str(said) == f"{str(path)!r} has more than {MAX_CHUNKS} chunks" and seconds < 1 and peak < 1_000_000
    _, seconds, peak = measured(read_sound, path, None)
    assert seconds < 1 and peak < 1_000_000


def test_millions_of_empty_texts(tmp_path):
    path = write_whole(tmp_path / "a.wav", riff(FORMAT, SOUND, riff_chunk(b"LIST", b"INFO" + (b"ICMT" + bytes(4)) * 3_000_000)))
    said, seconds, peak = measured(read_info, path)
    assert f"more than {MAX_CHUNKS} chunks" in str(said) and seconds < 1 and peak < 1_000_000


def test_as_many_chunks_as_are_allowed(tmp_path):
    path = write_whole(tmp_path / "a.wav", riff(FORMAT, b"none" + bytes(4), riff_chunk(b"LIST", b"INFO" + riff_chunk(b"ICMT", b"x\0")), SOUND,
                                                (b"none" + bytes(4)) * (MAX_CHUNKS - 4)))
    assert read_info(path) == {"ICMT": "x"} and len(read_sound(path, None)[0]) == 16_000


@pytest.mark.parametrize("list_chunk, texts", [
    (b"LIST" + HUGE + b"INFO" + riff_chunk(b"ICMT", b"x\0"), {"ICMT": "x"}), (b"LIST" + HUGE, {}),
    (riff_chunk(b"LIST", b"INFOICMT" + HUGE + b"x\0"), {"ICMT": "x"}), (riff_chunk(b"LIST", b"adtllabl" + HUGE), {}),
], ids=["a list", "a list and no more", "a text", "a label"])
def test_what_states_four_gigabytes(tmp_path, list_chunk, texts):
    path = write_whole(tmp_path / "a.wav", riff(FORMAT, SOUND, list_chunk))
    found, seconds, peak = measured(read_info, path)
    assert found == texts and seconds < 1 and peak < 2_000_000
    assert len(read_sound(path, None)[0]) == 16_000


def test_no_more_of_a_list_is_read_than_texts_can_be(tmp_path):
    path = write_whole(tmp_path / "a.wav", riff(FORMAT, riff_chunk(b"LIST", b"INFO" + riff_chunk(b"ICMT", b"x" * 20_000_000)), SOUND))
    found, _, peak = measured(read_info, path)
    assert len(found["ICMT"]) < 300_000 and peak < 2_000_000 and len(read_sound(path, None)[0]) == 16_000


# Writing

@pytest.mark.parametrize("kind", KINDS.values())
def test_every_format_keeps_the_texts_and_shows_them_to_others(tmp_path, kind):
    info = {"ICMT": "AI-generated; مثال\n声音", "ICOP": "ü" * 400, "ISFT": "voicelab 0.1.0", "INAM": "A title", "IART": "Anna"}
    path = write_whole(tmp_path / "a", sound_file(tone(), 24_000, kind, info))
    assert read_info(path) == info and len(read_sound(path, None)[0]) == pytest.approx(24_000, abs=600)
    with soundfile.SoundFile(path) as sound: shown = sound.copy_metadata()
    assert (shown["comment"], shown["copyright"], shown["title"], shown["artist"]) == (info["ICMT"], info["ICOP"], "A title", "Anna")
    assert shown["software"].startswith("voicelab 0.1.0") and read_info(write_whole(tmp_path / "b", sound_file(tone(), 24_000, kind))) == {}


@pytest.mark.parametrize("rate", [8_000, 44_056, 192_000])
def test_a_flac_has_the_samples_of_a_wav(rate):
    whole = np.concatenate([np.arange(-32768, 32768) / 32768, [1.0, 2.0, -2.0]])
    read = lambda kind: soundfile.read(io.BytesIO(sound_file(whole, rate, kind)), dtype="int16")
    assert np.array_equal(read("FLAC")[0], read("WAV")[0]) and read("FLAC")[1] == rate


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_minutes_of_sound_beyond_full_scale_in_every_format(tmp_path, kind):
    path = write_whole(tmp_path / "a", sound_file(3 * tone(180.0), 24_000, kind, {"ICMT": "x" * 1_000}))
    samples = read_sound(path, None)[0]
    assert len(samples) == 180 * 24_000 and 0.8 < np.abs(samples).max() < 1.4
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    refusal(path, None)


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_only_a_wav_can_be_without_samples(kind):
    assert len(sound_file(np.zeros(0), 24_000)) == 44
    with pytest.raises(AudioError, match=f"^samples: there are none, and {kind} needs at least one"): sound_file(np.zeros(0), 24_000, kind)


@pytest.mark.parametrize("kind", KINDS.values())
def test_long_texts_come_back(tmp_path, kind):
    info = {"ICMT": "مثال " * 2_000, "ICOP": "x" * 10_000}
    assert read_info(write_whole(tmp_path / "a", sound_file(tone(), 24_000, kind, info))) == info


@pytest.mark.parametrize("rate", [8_001, 44_056, 96_000])
def test_rates_that_an_mp3_has_not(rate):
    with pytest.raises(AudioError, match=f"^rate: {rate} Hz cannot be written as MP3: "): sound_file(tone(), rate, "MP3")


@pytest.mark.parametrize("name, kind", [("a.wav", "WAV"), ("b/A.Flac", "FLAC"), (Path("a.b.OGG"), "OGG"), ("a.mp3", "MP3")])
def test_the_ending_names_the_format(name, kind): assert kind_of(name) == kind


def test_what_is_written_is_read_back_bit_for_bit(tmp_path):
    whole = np.concatenate([np.arange(-32768, 32768) / 32768, [1.0, 2.0, -2.0]])
    path = write_whole(tmp_path / "a.wav", wav_file(whole, 16_000))
    back = read_sound(path, None)[0]
    assert np.array_equal(back[:65_536], whole[:65_536].astype(np.float32))
    assert np.array_equal(np.rint(back[65_536:] * 32768), [32767, 32767, -32768])
    assert wav_file(back, 16_000) == path.read_bytes()


@pytest.mark.parametrize("count", [0, 1, 1001])
def test_exact_files_keep_every_float(tmp_path, count):
    whole = np.resize(np.float32([-0.0, 1e-42, 1 / 3, -7.5, 3e38, 1.0]), count)
    path = write_whole(tmp_path / "a.wav", wav_file(whole, 44_100, {"ISFT": "voicelab"}, exact=True))
    assert read_info(path) == {"ISFT": "voicelab"} and soundfile.info(path).subtype == "FLOAT" and soundfile.info(path).frames == count
    assert struct.unpack("<HHIIHHH", path.read_bytes()[20:38]) == (3, 1, 44_100, 176_400, 4, 32, 0)
    if count: assert read_sound(path, None)[0].tobytes() == whole.tobytes()


def test_a_failed_append_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "a.txt", b"old\n")

    def full(descriptor): raise OSError(28, "No space left on device")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"): append_whole(path, b"new\n")
    assert path.read_bytes() == b"old\n"
    append_whole(path, b"new\n")
    assert path.read_bytes() == b"old\nnew\n"


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_whole(tmp_path / "a.wav", wav_file(tone(), 24_000, {"ISFT": "voicelab"}))
    assert read_info("~/a.wav") == {"ISFT": "voicelab"} and len(read_sound(Path("~/a.wav"), None)[0]) == 24_000
    with pytest.raises(AudioError, match="No such file"): read_info("~nobody-of-this-name/a.wav")


@pytest.mark.parametrize("info", [{}, {"ISFT": "voicelab"}, {"ICOP": "© مثال 声音", "ICMT": "", "IABC": "odd"}])
def test_info_is_read_back_and_does_not_disturb_the_sound(tmp_path, info):
    path = write_whole(tmp_path / "a.wav", wav_file(tone(), 24_000, info))
    assert read_info(path) == info
    assert len(soundfile.read(path)[0]) == 24_000
    if "ISFT" in info: assert soundfile.SoundFile(path).software == "voicelab"


def test_info_of_files_made_elsewhere(make, tmp_path):
    path = make("a.wav", tone())
    assert read_info(path) == {}
    with soundfile.SoundFile(tmp_path / "b.wav", "w", 16_000, 1) as file:
        file.artist = "somebody"
        file.write(tone())
    assert read_info(tmp_path / "b.wav")["IART"] == "somebody"
    path.write_bytes(path.read_bytes()[:50])
    assert read_info(path) == {}


@pytest.mark.parametrize("content, said", [(b"", "empty"), (b"fLaC" + bytes(20), "not a WAV"), (b"RIFF", "not a WAV")])
def test_info_of_no_wav(tmp_path, content, said):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match=said): read_info(tmp_path / "a.wav")


@pytest.mark.parametrize("info", [{"TOOLONG": "x"}, {"abc": "x"}, {"IS T": "x"}, {"ÄÖÜß": "x"}, {"ICMT": "a\0b"}])
def test_info_that_a_wav_cannot_hold(info):
    with pytest.raises(AudioError, match="^info: "): wav_file(tone(), 24_000, info)


def test_a_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "a.wav", b"old")

    def full(descriptor): raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"): write_whole(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.wav"]


def test_a_written_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    path = write_whole(tmp_path / "a.wav", b"x")
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert soundfile.info(io.BytesIO(wav_file(tone(), 24_000))).subtype == "PCM_16"


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3"])
def test_texts_of_any_length_and_letters_never_end_the_process(tmp_path, kind, python):
    "libsndfile has 128 bytes for the software text with its own name in it; a letter cut there once ended the process."
    script = ("import sys, numpy as np; from voicelab.audio import Audio, Mark, load_audio\n"
              "for letter in ('a', 'é', '声', '🦉'):\n"
              "    for count in (20, 24, 25, 26, 31, 32, 33, 40, 60, 63, 64, 65, 70, 100, 126, 127, 128, 140, 3000):\n"
              "        mark = Mark(letter * count, letter * count, letter * count)\n"
              "        path = Audio(np.full(800, .1, np.float32), 16000, mark).save(sys.argv[1])\n"
              "        kept = load_audio(path).mark\n"
              "        assert kept.comment == mark.comment and kept.copyright == mark.copyright, (letter, count)\n"
              "        assert kept.software and mark.software.startswith(kept.software), (letter, count)\n")
    done = subprocess.run([*python, "-c", script, str(tmp_path / f"a.{kind}")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]


def test_a_second_list_of_texts_does_not_hide_the_first(tmp_path):
    whole = wav_file(tone(), 24_000, {"ICMT": "first"})
    path = tmp_path / "a.wav"
    path.write_bytes(whole + riff_chunk(b"LIST", b"INFO" + riff_chunk(b"ICMT", b"second\0")))
    assert read_info(path)["ICMT"] == "first; second"


def test_texts_behind_the_data_of_an_rf64_file_are_read(tmp_path):
    samples = np.zeros(100, "<i2").tobytes()
    sizes = riff_chunk(b"ds64", len(samples).to_bytes(8, "little") * 2 + bytes(12))
    form = riff_chunk(b"fmt ", (1).to_bytes(2, "little") * 2 + (8000).to_bytes(4, "little") + (16000).to_bytes(4, "little") + b"\2\0\x10\0")
    texts = riff_chunk(b"LIST", b"INFO" + riff_chunk(b"ICMT", b"made\0"))
    path = tmp_path / "a.wav"
    path.write_bytes(b"RF64" + b"\xff" * 4 + b"WAVE" + sizes + form + b"data" + b"\xff" * 4 + samples + texts)
    assert read_info(path) == {"ICMT": "made"}
    for size in (1 << 62, (1 << 63) - 1, (1 << 64) - 1):                        # no file is so long, and no system seeks so far
        path.write_bytes(path.read_bytes().replace(sizes, sizes := riff_chunk(b"ds64", size.to_bytes(8, "little") * 2 + bytes(12))))
        assert read_info(path) == {}
        with suppress(AudioError): read_sound(path, None)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="is a device or pipe"): read_sound(tmp_path / "pipe.wav", None)
    with pytest.raises(AudioError, match="is a folder"): read_sound(tmp_path, None)


# What telephones, browsers and dying programs leave

@pytest.mark.parametrize("head, kind", [
    (b"\0\0\0 ftypM4A ", "MP4 or M4A (AAC)"), (b"\0\0\0 ftypisom", "MP4 or M4A (AAC)"), (b"\x1a\x45\xdf\xa3\x9fB\x86\x81", "WebM or Matroska"),
    (b"\xff\xf1\x50\x80\x0f\xff\xfc", "AAC"), (b"#!AMR\n", "AMR"), (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"), (b"RIFF\0\0\1\0AVI LIST", "AVI"),
])
@pytest.mark.parametrize("name", ["memo.m4a", "memo.wav", "memo.mp3"])
def test_a_foreign_format_is_told_by_its_bytes_with_a_way_out(tmp_path, head, kind, name):
    (path := tmp_path / name).write_bytes(head + np.random.default_rng(0).bytes(5000))
    said = refusal(path, None)
    assert said == f"{str(path)!r} is {kind}: the formats read are WAV, FLAC, OGG and MP3; convert it with: ffmpeg -i INPUT -ac 1 voice.wav"


def test_a_format_that_is_known_but_not_read_says_how_to_convert(make):
    assert "is AIFF: the formats read are WAV, FLAC, OGG and MP3; convert it with: ffmpeg" in refusal(make("a.aiff", tone(), format="AIFF"), None)


def unstated(path, sizes=(0, 0)):
    "The WAV at `path` with these stated sizes of the file and of its sound, as a program leaves it that dies before its end."
    content, data = bytearray(path.read_bytes()), path.read_bytes().index(b"data")
    for place, size in zip((4, data + 4), sizes): content[place:place + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "PCM_U8"])
@pytest.mark.parametrize("sizes", [(0, 0), (36, 0), (0xFFFFFFFF, 0)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_that_states_no_sound_but_has_some_is_read(make, subtype, sizes, channels):
    path = make("a.wav", np.stack([tone()] * channels, axis=1), subtype=subtype)
    whole, rate, seconds = read_sound(path, None)
    with pytest.warns(UserWarning, match="a.wav' states that it holds no sound, but .* bytes follow: they are read as sound") as caught:
        found = read_sound(unstated(path, sizes), None)
    assert found[0].tobytes() == whole.tobytes() and found[1:] == (rate, seconds) and len(caught) == 1
    with pytest.warns(UserWarning): assert len(read_sound(path, 0.25)[0]) == round(0.25 * rate) + 1


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "PCM_U8"])
@pytest.mark.parametrize("sizes", [(0, 100), (136, 100), (117_000, 101), (0xFFFFFFFF, 4096)])
@pytest.mark.parametrize("silent", [False, True])
def test_a_wav_that_states_too_little_sound_is_read_whole(make, subtype, sizes, silent):
    path = make("a.wav", tone() * (not silent), subtype=subtype)
    whole, rate, seconds = read_sound(path, None)
    says = f"a.wav' states that it holds only {sizes[1]} bytes of sound, but .* bytes follow: they are read as sound"
    with pytest.warns(UserWarning, match=says) as caught: found = read_sound(unstated(path, sizes), None)
    assert found[0].tobytes() == whole.tobytes() and found[1:] == (rate, seconds) and len(caught) == 1
    assert read_info(path) == {}


def test_an_rf64_that_states_too_little_sound_is_refused(make):
    content = bytearray((path := make("a.wav", tone(), format="RF64")).read_bytes())
    content[28:36] = (100).to_bytes(8, "little")
    path.write_bytes(content)
    assert re.search(r"states that it holds only 100 bytes of sound, but \d+ bytes follow: its RF64 header is wrong$", refusal(path, None))


@pytest.mark.parametrize("trailer", [b"LIST" + (20_000).to_bytes(4, "little") + bytes(20_000), b"id3 " + (20_000).to_bytes(4, "little") + bytes(20_000),
                                     b"TAG" + bytes(125), bytes(200)])
def test_what_follows_a_true_header_is_not_sound(make, trailer, recwarn):
    path = make("a.wav", tone()[:1_000])
    whole = read_sound(path, None)[0]
    path.write_bytes(path.read_bytes() + trailer)
    assert read_sound(path, None)[0].tobytes() == whole.tobytes() and not recwarn.list


def test_a_wav_that_truly_has_no_sound_stays_without(make):
    path = unstated(make("a.wav", tone()))
    path.write_bytes(path.read_bytes()[:path.read_bytes().index(b"data") + 8])
    assert "holds no samples" in refusal(path, None)
    path.write_bytes(path.read_bytes() + b"LIST" + (200).to_bytes(4, "little") + bytes(200))
    assert "holds no samples" in refusal(path, None)


def test_what_follows_a_false_header_is_not_held_in_memory(make):
    path = unstated(make("a.wav", tone(60.0)))
    with pytest.warns(UserWarning): (samples, _, stated), _, peak = measured(read_sound, path, 1.0)
    assert len(samples) == 24_001 and stated == pytest.approx(60) and peak < 3_000_000
