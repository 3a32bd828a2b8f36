"""Voice files: what comes back, and what somebody else may have put in one."""
import json
import os

import numpy as np
import pytest
import safetensors.numpy
import torch

import voicelab as vl
from voicelab.audio import GENERATED, Audio, Mark
from voicelab.errors import VoicelabError
from voicelab.voicefile import MOST_BYTES, MOST_HEADER, VoiceFileError, read_voice, voice_bytes, voice_in

@pytest.fixture(scope="module")
def good(model, reference): return voice_bytes(reference, model)


def parts(content):
    "Texts and arrays of a file."
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8:8 + length])["__metadata__"], safetensors.numpy.load(content)


def with_header(content, change):
    "The file with another header before the same bytes."
    length = int.from_bytes(content[:8], "little")
    header = change(json.loads(content[8:8 + length]))
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length:]


def changed(content, words=(), arrays=(), less=()):
    "The file with other texts and arrays, written by the library."
    said, found = parts(content)
    del said["words_sha256"]                        # other programs state none
    said, found = said | dict(words), found | dict(arrays)
    found, said = ({name: each for name, each in parts.items() if name not in less} for parts in (found, said))
    return safetensors.numpy.save(found, said)


def test_all_of_it_comes_back(model, voices, tmp_path):
    for name in ("ada", "noor"):
        voice = voices[name]
        read = read_voice(voice.save(tmp_path / f"{name}.safetensors", model, "double_reference"))
        assert all(getattr(read.reference, each) == getattr(voice, each) for each in ("sha256", "transcript", "consent", "name", "remarks"))
        assert read.reference.audio.samples.tobytes() == voice.audio.samples.tobytes() and read.reference.audio.mark == voice.audio.mark
        assert torch.equal(read.codes, model.encode(voice)) and read.codec == model.codec.name and read.differences(model) == ""
        prompt = model.clone_prompt("Something else.", voice, "double_reference").ids
        assert torch.equal(read.prefix, prompt[:len(read.prefix)]) and 70 < len(read.prefix) < len(prompt)
        again = vl.Reference.load(tmp_path / f"{name}.safetensors")
        assert torch.equal(model.encode(again), model.encode(voice)) and repr(again) == repr(voice)
    assert os.listdir(tmp_path) and not [each for each in os.listdir(tmp_path) if each.endswith(".tmp")]


def test_without_a_model_it_is_smaller_and_the_same_voice(reference, tmp_path, model):
    voice = read_voice(reference.save(tmp_path / "a.safetensors"))
    assert voice.codes is voice.prefix is None and voice.holds == "" and voice.differences(model) == "it has no codes"
    assert voice.reference.sha256 == reference.sha256


def test_what_a_sound_is_stays_with_it(tmp_path):
    samples = np.sin(np.arange(24_000) / 9) * np.linspace(0, 1.0, 24_000)
    made = vl.Reference(Audio(samples, 24_000, Mark(GENERATED, "by consent", "voicelab")), remarks=(), noticed=True, name="../x <b>")
    read = read_voice(made.save(tmp_path / "x.safetensors"), noticed=True)
    assert read.reference.audio.synthetic and read.reference.consent == "not stated" and read.reference.notice
    assert read.reference.name == "../x <b>" and read.reference.transcript is None
    with pytest.warns(UserWarning, match="No consent is stated"): vl.Reference.load(tmp_path / "x.safetensors")


def test_codes_of_another_codec_or_machine_are_told(model, good):
    codes = parts(good)[1]["codes"]
    codes[0, :3] += 1
    assert voice_in(changed(good, arrays=dict(codes=codes)), "a").differences(model) == f"3 of {codes.size} codes differ"
    assert "codec is tiny-codec" in voice_in(changed(good, words=dict(codec="other/1")), "a").differences(model)
    assert "it has codes [8, " in voice_in(changed(good, arrays=dict(codes=np.ascontiguousarray(codes[:, 1:]))), "a").differences(model)
    assert voice_in(changed(good, words=dict(prompt_form="none such")), "a").differences(model) == "no prompt form 'none such'"
    assert "prefix differs" in voice_in(changed(good, arrays=dict(prefix=np.arange(5, dtype=np.int32))), "a").differences(model)


def test_an_altered_reference_and_other_endings_are_refused(model, reference, tmp_path):
    shorter = reference.altered({"seconds": 1.0}, audio=reference.audio.slice(0, 1))
    with pytest.raises(VoiceFileError, match="was altered from another one"): shorter.save(tmp_path / "a.safetensors")
    with pytest.raises(VoiceFileError, match="must end in .safetensors, got 'a.wav'"): reference.save(tmp_path / "a.wav")
    with pytest.raises(VoiceFileError, match="prompt_form: must be one of"): reference.save(tmp_path / "a.safetensors", model, "no form")
    with pytest.raises(VoiceFileError, match="path: must be a path"): reference.save(3)
    assert not os.listdir(tmp_path)


def new(array, /, **entry):
    "Changes the description of an array."
    return lambda good: with_header(good, lambda header: header | {array: header[array] | entry})


HEADERS = {
    "empty": lambda good: b"", "seven bytes": lambda good: b"1234567", "a WAV": lambda good: b"RIFF\x24\0\0\0WAVEfmt ",
    "a pickle": lambda good: b"\x80\x04\x95" + bytes(100), "cut in the header": lambda good: good[:40], "cut in the sound": lambda good: good[:-9],
    "longer": lambda good: good + b"\0" * 8, "a header of exabytes": lambda good: b"\xff" * 8 + good[8:],
    "a header over the limit": lambda good: (MOST_HEADER + 1).to_bytes(8, "little") + good[8:] + bytes(MOST_HEADER),
    "no JSON": lambda good: with_header(good, lambda header: b"{" * 50), "deep JSON": lambda good: with_header(good, lambda header: b"[" * 100_000),
    "a list": lambda good: with_header(good, lambda header: []), "a number": lambda good: with_header(good, lambda header: b"1e999"),
    "no texts": lambda good: with_header(good, lambda header: {name: each for name, each in header.items() if name != "__metadata__"}),
    "texts as numbers": new("__metadata__", rate=24_000), "a text of nothing": new("__metadata__", name=None),
    "an array as a text": lambda good: with_header(good, lambda header: header | {"samples": "here"}),
    "an array of nothing": lambda good: with_header(good, lambda header: header | {"samples": {}}),
    "offsets outside": new("samples", data_offsets=[0, 2**40]), "offsets back": new("samples", data_offsets=[80, 40]),
    "offsets over each other": new("codes", data_offsets=[0, 40]), "a negative shape": new("samples", shape=[-5]),
    "an enormous shape": new("samples", shape=[2**62]), "a shape of words": new("samples", shape=["many"]),
}
NUMBERS = np.arange(48_000, dtype=np.float32)
sound = lambda samples: dict(arrays=dict(samples=samples))
codes = lambda *shape, value=0, kind=np.int32: dict(arrays=dict(codes=np.full(shape, value, kind)))
OTHERS = {
    "another format": dict(words=dict(format="pt")), "a newer version": dict(words=dict(version="2")), "no version": dict(less=("version",)),
    "a text of a later version": dict(words=dict(watermark="yes")), "no consent": dict(less=("consent",)), "an empty name": dict(words=dict(name=" ")),
    "no samples": dict(less=("samples",)), "float64": sound(np.zeros(24_000)), "halves": sound(np.zeros(24_000, np.float16)),
    "two channels": sound(np.zeros((2, 24_000), np.float32)), "not numbers": sound(NUMBERS[:24_000] * np.nan), "silence": sound(NUMBERS * 0),
    "too loud": sound(NUMBERS * 1e30), "a moment": sound(np.sin(NUMBERS[:100])), "no sound": sound(NUMBERS[:0]), "another sound": sound(np.sin(NUMBERS / 9)),
    "half a minute and more": dict(words=dict(rate="8000"), arrays=dict(samples=np.sin(np.arange(8000 * 31) / 9).astype(np.float32))),
    "a rate of words": dict(words=dict(rate="fast")), "a rate of Arabic digits": dict(words=dict(rate="٢٤٠٠٠")), "a rate below 0": dict(words=dict(rate="-1")),
    "a long rate": dict(words=dict(rate="9" * 5000)), "another rate": dict(words=dict(rate="8000")), "codes as floats": codes(8, 9, kind=np.float32),
    "codes below 0": codes(8, 9, value=-1), "no codes": codes(8, 0), "a thousand codebooks": codes(1000, 9), "codes without a codec": dict(less=("codec",)),
    "a prefix alone": dict(less=("codes",)), "another array": dict(arrays=dict(weights=NUMBERS[:3])), "a wrong hash": dict(words=dict(sha256="0" * 64)),
    "a null character": dict(words=dict(transcript="\0")),
}


@pytest.mark.parametrize("make", HEADERS.values(), ids=HEADERS)
def test_a_hostile_file_is_one_line(good, make): refused(make(good))


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_a_file_with_other_contents_is_one_line(good, change): refused(changed(good, **change))


def refused(content):
    with pytest.raises(VoiceFileError) as refusal: voice_in(content, "from <b>afar</b>.safetensors")
    line = str(refusal.value)
    assert line.startswith("'from <b>afar</b>.safetensors'") and "\n" not in line and len(line) < 400, line


def test_damaged_words_are_told(good):
    assert b"old library" in good and voice_in(good, "a").reference.transcript
    damaged = good.replace(b"old library", b"new library")
    with pytest.raises(VoiceFileError, match="'a' is damaged: its text is not what its hash states"): voice_in(damaged, "a")


def test_a_newer_version_is_named(good):
    with pytest.raises(VoiceFileError, match="is a voice file of version '2'; this voicelab reads version 1"):
        voice_in(changed(good, words=dict(version="2")), "a")


def test_files_that_are_none(tmp_path):
    big = tmp_path / "big.safetensors"
    with open(big, "wb") as file: file.truncate(2**31)                                         # 2 GB of nothing: at most 32 MB are read
    with pytest.raises(VoiceFileError, match=f"more than {MOST_BYTES} bytes"): read_voice(big)
    os.mkfifo(tmp_path / "pipe.safetensors")
    for name, said in (("none.safetensors", "cannot be read"), ("", "is a folder"), ("pipe.safetensors", "is a device or pipe")):
        with pytest.raises(VoicelabError, match=said): vl.Reference.load(tmp_path / name)
    with pytest.raises(VoicelabError, match="path: must be a path"): vl.Reference.load(None)
