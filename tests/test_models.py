"""Checkpoints that fit and that do not, the released codec in small, and models that can't be had."""
import gc
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import endless, joined, random_codes, saying, untouched
from safetensors.torch import load_file, save_file
from transformers import (
    DacConfig,
    HiggsAudioV2ForConditionalGeneration,
    HiggsAudioV2TokenizerConfig,
    HiggsAudioV2TokenizerModel,
    HubertConfig,
    PreTrainedTokenizerFast,
)

from voicelab import lab
from voicelab.audio import Audio
from voicelab.budget import Budget
from voicelab.codec import Codec, StreamDecoder, decode_batch
from voicelab.control import Sampling
from voicelab.families.higgs.checkpoint import HiggsCodec, load_codec, load_folder
from voicelab.families.higgs.model import HiggsModel
from voicelab.families.higgs.tiny import build_tokenizer, save_checkpoint
from voicelab.hub import ModelError
from voicelab.lab import load
from voicelab.models import checkpoint
from voicelab.models.checkpoint import (
    CheckpointError,
    check_shapes,
    checkpoint_sha256,
    joined_shape,
    missing_files,
    stored_parts,
)
from voicelab.models.description import reading
from voicelab.models.tinycodec import TinyCodec, TinyCodecConfig, TinyCodecNet
from voicelab.reference import Reference
from voicelab.text import MAX_CHARACTERS, SPECIAL_TOKENS

SMALL = TinyCodecConfig(channels=32, vocoder_channels=48, code_dim=8)


@pytest.fixture(scope="module")
def written(tmp_path_factory, tiny_network, tiny_tokenizer):
    "A checkpoint as the recipe writes it, with random weights. Not to be changed."
    folder = tmp_path_factory.mktemp("checkpoint")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(folder, tiny_network, tiny_tokenizer, TinyCodecNet(SMALL),
                        dict(name="untrained", version="0.1", license="Apache-2.0", chunk_seconds=6.0))
    return folder


@pytest.fixture
def folder(written, tmp_path): return Path(shutil.copytree(written, tmp_path / "model"))


def refusal(call, *args):
    with pytest.raises(CheckpointError) as error: call(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def change(file, edit):
    "Rewrite a JSON or safetensors file after `edit(content)`."
    if file.suffix == ".json":
        content = json.loads(file.read_text())
        edit(content)
        file.write_text(json.dumps(content))
    else:
        content = load_file(file)
        edit(content)
        save_file(content, file, metadata={"format": "pt"})


def damage(state):
    "One tensor of each fault twice: all six must be named. Works on the tensors of any network."
    names = sorted(name for name, tensor in state.items() if tensor.ndim == 2)
    del state[names[0]], state[names[1]]
    for name in names[2:4]: state[name] = torch.zeros(3, 5)
    state["left.over"], state["from.another"] = torch.zeros(2), torch.zeros(2)
    return names[:4]


def assert_all_named(message, names, folder):
    faults = message.split("tensors do not fit the network: ")[1].split("; ")
    assert [fault.split()[0] for fault in faults] == ["missing", "extra", "misshapen"]
    assert all(name in faults[0] for name in names[:2]) and "left.over" in faults[1] and "from.another" in faults[1]
    assert all(f"{name} [3, 5] instead of [" in faults[2] for name in names[2:4]) and str(folder) in message


# What is written is what is read

def test_a_checkpoint_comes_back(written, tiny_network, tiny_tokenizer):
    parts = untouched(lambda: load_folder(written))
    for name, tensor in tiny_network.state_dict().items():
        assert torch.equal(parts.network.state_dict()[name], tensor.half().float()), name
    assert parts.tokenizer.get_vocab() == tiny_tokenizer.get_vocab()
    assert isinstance(parts.codec, TinyCodec) and parts.codec.net.config.channels == 32 and not parts.network.training
    info = parts.info
    assert (info.name, info.version, info.license, info.family) == ("untrained", "0.1", "Apache-2.0", "higgs-audio-v2")
    assert info.sha256 == checkpoint_sha256(written) and info.codec.startswith("tiny-codec/")
    assert parts.card["chunk_seconds"] == 6.0


def test_a_loaded_codec_can_be_saved_again(written, tiny_network, tiny_tokenizer, tmp_path):
    "Its weights lie in memory in another order than in a file."
    net = load_folder(written).codec.net
    assert not net.vocoder.before.weight.is_contiguous()
    save_checkpoint(tmp_path / "again", tiny_network, tiny_tokenizer, net, dict(name="again", version="0.1", license="Apache-2.0", chunk_seconds=6.0))
    again = load_folder(tmp_path / "again").codec.net.state_dict()
    for name, tensor in net.state_dict().items(): assert torch.equal(tensor, again[name]), name


def test_a_folder_without_a_card_is_named_after_itself(folder):
    (folder / "voicelab.json").unlink()
    parts = load_folder(str(folder))
    assert (parts.info.name, parts.info.version, parts.info.license) == ("model", "not stated", "not stated")
    assert parts.card == {}


def test_a_sharded_checkpoint_and_a_text_head_are_fine(folder, written, tiny_network):
    (folder / "model.safetensors").unlink()
    tiny_network.save_pretrained(folder, max_shard_size="500KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    shard = sorted(folder.glob("model-*.safetensors"))[0]
    change(shard, lambda state: state.update({"text_lm_head.weight": torch.zeros(4, 64)}))
    parts = load_folder(folder)
    state = parts.network.state_dict()
    for name, tensor in tiny_network.state_dict().items(): assert torch.equal(state[name], tensor), name


def test_the_hash_is_of_names_and_contents(folder, written):
    assert checkpoint_sha256(folder) == checkpoint_sha256(written)
    change(folder / "codec/model.safetensors", lambda state: next(iter(state.values())).add_(1))
    assert checkpoint_sha256(folder) != checkpoint_sha256(written)
    first = checkpoint_sha256(folder)
    (folder / "voicelab.json").rename(folder / "card.json")
    assert checkpoint_sha256(folder) != first


def test_loading_prints_nothing(written, capfd):
    load_folder(written)
    assert capfd.readouterr() == ("", "")


# What does not fit

@pytest.mark.parametrize("part", ("", "codec"))
def test_every_tensor_that_does_not_fit_is_named(folder, part, capfd):
    names = []
    change(folder / part / "model.safetensors", lambda state: names.extend(damage(state)))
    assert_all_named(refusal(load_folder, folder), names, folder / part)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("part", ("", "codec"))
@pytest.mark.parametrize("length", (0, 4, 100, 60_000))
def test_truncated_weights(folder, part, length):
    file = folder / part / "model.safetensors"
    os.truncate(file, length)
    assert refusal(load_folder, folder).startswith(f"{file}: can't be read (")


@pytest.mark.parametrize("part", ("", "codec"))
def test_weights_of_another_kind_are_no_weights(folder, part):
    (folder / part / "model.safetensors").rename(folder / part / "pytorch_model.bin")
    assert refusal(load_folder, folder) == f"{folder / part}: holds no .safetensors file".replace("/:", ":")


def test_a_tensor_in_two_files_is_named(folder):
    save_file({"model.norm.weight": torch.zeros(64)}, folder / "more.safetensors")
    assert "more than one file holds model.norm.weight" in refusal(load_folder, folder)


@pytest.mark.parametrize("name", ("config.json", "tokenizer.json", "codec/config.json"))
def test_missing_files(folder, name):
    (folder / name).unlink()
    assert refusal(load_folder, folder) == f"{folder / name}: is missing"


def test_no_folder_and_no_codec(folder, tmp_path):
    assert "config.json: is missing" in refusal(load_folder, tmp_path / "nowhere")
    shutil.rmtree(folder / "codec")
    assert refusal(load_folder, folder) == f"{folder / 'codec/config.json'}: is missing"


@pytest.mark.parametrize("name", ("config.json", "tokenizer.json", "codec/config.json", "voicelab.json"))
@pytest.mark.parametrize("content", ("", "{", "[1, 2]", "\x00\x01"))
def test_damaged_json(folder, name, content):
    (folder / name).write_text(content)
    message = refusal(load_folder, folder)
    assert message.startswith(f"{folder / name}: ")


@pytest.mark.parametrize("kind", ("llama", None, "qwen3"))
def test_another_model_type(folder, kind):
    change(folder / "config.json", lambda config: config.update(model_type=kind))
    message = f"{folder / 'config.json'}: model_type must be higgs_audio_v2 or higgs_audio, got {kind!r}"
    assert refusal(load_folder, folder) == message
    change(folder / "config.json", lambda config: config.update(model_type="higgs_audio_v2"))
    change(folder / "codec/config.json", lambda config: config.update(model_type=kind))
    message = f"model_type must be voicelab_tiny_codec or higgs_audio_v2_tokenizer, got {kind!r}"
    assert message in refusal(load_folder, folder)


@pytest.mark.parametrize("values, words", [
    ({"hidden_size": "big"}, "hidden_size = 'big': must be a whole number from 1 to 65536"),
    ({"num_hidden_layers": None}, "num_hidden_layers = None: must be a whole number from 1 to 256"),
    ({"hidden_act": "shout"}, "hidden_act = 'shout': must be one of silu, gelu, relu")])
def test_configurations_that_make_no_network(folder, values, words):
    change(folder / "config.json", lambda config: config.update(values))
    assert refusal(load_folder, folder) == f"{folder / 'config.json'}: {words}"


@pytest.mark.parametrize("values, words", [
    ({"colour": "red"}, "unknown 'colour'"), ({"channels": "wide"}, "channels = 'wide': must be a whole number from 1 to 8192"),
    ({"n_codebooks": -1}, "n_codebooks = -1: must be a whole number from 1 to 64")])
def test_configurations_that_make_no_codec(folder, values, words):
    change(folder / "codec/config.json", lambda config: config.update(values))
    assert refusal(load_folder, folder) == f"{folder / 'codec/config.json'}: {words}"


def test_a_tokenizer_without_audio_tokens(folder):
    def forget(content):
        content["added_tokens"] = [token for token in content["added_tokens"] if "AUDIO" not in token["content"]]
    change(folder / "tokenizer.json", forget)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    message = f"{folder / 'tokenizer.json'}: lacks the special tokens <|AUDIO|>, <|AUDIO_OUT|>"
    assert refusal(load_folder, folder) == message


def test_codebook_counts_that_differ(folder, tiny_network, tiny_tokenizer):
    with torch.random.fork_rng():
        save_checkpoint(folder, tiny_network, tiny_tokenizer, TinyCodecNet(TinyCodecConfig(
            channels=32, vocoder_channels=48, code_dim=8, n_codebooks=4, codebook_size=512)), {})
    message = refusal(load_folder, folder)
    assert "num_codebooks must be 4, got 8" in message and "codebook_size must be 514, got 1026" in message


@pytest.mark.parametrize("name, value, wanted", [
    ("audio_token_id", 5, "audio_token_id must be {out}, got 5"),
    ("audio_stream_bos_id", 1, "audio_stream_bos_id must be 1024, got 1"),
    ("audio_stream_eos_id", 1024, "audio_stream_eos_id must be 1025, got 1024")])
def test_ids_that_differ(folder, tiny_tokenizer, name, value, wanted):
    change(folder / "config.json", lambda config: config.update({name: value}))
    assert wanted.format(out=tiny_tokenizer.convert_tokens_to_ids("<|AUDIO_OUT|>")) in refusal(load_folder, folder)


def test_a_vocabulary_larger_than_the_network(folder, tiny_network):
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["more", "words"])
    tokenizer.save_pretrained(folder)
    size = tiny_network.config.vocab_size
    assert f"vocab_size must be at least {size + 2}, got {size}" in refusal(load_folder, folder)


def test_check_shapes_is_silent_where_all_fits(written):
    shapes = {name: joined_shape(rows) for name, rows in stored_parts(written).items()}
    assert check_shapes(shapes, shapes, written) is None


def test_many_faults_are_counted(folder):
    change(folder / "model.safetensors", lambda state: [state.pop(name) for name in list(state)[3:]])
    message = refusal(load_folder, folder)
    assert re.search(r"missing .* and \d+ more$", message) and len(message) < 900


def test_a_shard_that_is_not_there(folder, tiny_network):
    (folder / "model.safetensors").unlink()
    tiny_network.save_pretrained(folder, max_shard_size="500KB")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    assert missing_files(folder) == []
    shard.unlink()
    assert refusal(load_folder, folder) == f"{shard}: is missing, but model.safetensors.index.json names it"
    assert missing_files(folder) == [shard.name]
    (folder / "model.safetensors.index.json").write_text('{"weight_map": 7}')
    assert "must hold a weight_map" in refusal(load_folder, folder)


def test_what_an_empty_folder_lacks(tmp_path): assert missing_files(tmp_path) == ["config.json", "*.safetensors"]


def test_a_large_file_is_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "WHOLE_BYTES", 3 << 20)
    file, content = tmp_path / "model.safetensors", bytearray(np.random.default_rng(0).bytes(5 << 20))
    def hashed():
        file.write_bytes(content)
        return checkpoint_sha256(tmp_path)
    first = hashed()
    assert first.startswith("sampled:") and len(checkpoint.short_id(first)) == 12
    content[2 << 20] ^= 1                                       # the first byte of a sample
    second = hashed()
    assert second != first
    content += b"!"
    assert hashed() != second
    del content[3 << 20:]
    assert not hashed().startswith("sampled:")


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16))
def test_a_network_is_what_transformers_makes_of_it(written, dtype):
    ours = load_folder(written, dtype=dtype).network
    theirs = HiggsAudioV2ForConditionalGeneration.from_pretrained(written, dtype=dtype, local_files_only=True)
    for part in ("named_parameters", "named_buffers"):
        wanted, got = (dict(getattr(network, part)()) for network in (theirs, ours))
        assert list(wanted) == list(got) and all(wanted[name].dtype == got[name].dtype for name in wanted)
        assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    assert ours.dtype == ours.config.dtype == dtype and not ours.training
    ids = torch.arange(9)[None]
    with torch.inference_mode(): assert torch.equal(ours(input_ids=ids).logits, theirs.eval()(input_ids=ids).logits)


@pytest.mark.parametrize("stated, context", [(2048, 8192), (131_072, 8192), (4096, 4096), (16_384, 16_384)])
def test_the_context_is_what_a_checkpoint_states_unless_that_is_nominal(folder, stated, context):
    change(folder / "config.json", lambda config: config.update(max_position_embeddings=stated))
    assert load_folder(folder).network.config.max_position_embeddings == context


# The released codec, in small

def small_higgs_codec() -> HiggsAudioV2TokenizerModel:
    "The released codec's class and strides with random weights, loud enough that a wrong frame is heard."
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ratios = [8, 5, 4, 2, 3]
        net = HiggsAudioV2TokenizerModel(HiggsAudioV2TokenizerConfig(
            target_bandwidths=[2.0], codebook_size=1024, codebook_dim=8, sample_rate=24_000,
            acoustic_model_config=DacConfig(encoder_hidden_size=4, decoder_hidden_size=64, hidden_size=16,
                                            downsampling_ratios=ratios, upsampling_ratios=ratios),
            semantic_model_config=HubertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                                               intermediate_size=32, conv_dim=(16,) * 7, num_conv_pos_embeddings=16,
                                               num_conv_pos_embedding_groups=4, mask_time_prob=0.0))).eval()
        for quantizer in net.quantizer.quantizers: quantizer.codebook.embed.normal_()
        for name, tensor in net.acoustic_decoder.named_parameters():
            if tensor.ndim == 3: tensor.data.normal_(0, 0.7 / tensor[0].numel() ** 0.5)
        return net


@pytest.fixture(scope="module")
def higgs_folder(tmp_path_factory, written):
    folder = tmp_path_factory.mktemp("higgs") / "model"
    shutil.copytree(written, folder)
    shutil.rmtree(folder / "codec")
    small_higgs_codec().save_pretrained(folder / "codec")
    return folder


@pytest.fixture(scope="module")
def higgs_codec(higgs_folder): return load_codec(higgs_folder / "codec")


def test_a_bug_in_a_check_is_no_fault_of_the_folder(higgs_folder, monkeypatch):
    def codec_faults(config): raise KeyError("hop")
    monkeypatch.setattr("voicelab.families.higgs.checkpoint.codec_faults", codec_faults)
    with pytest.raises(KeyError, match="hop"): load_codec(higgs_folder / "codec")


def test_what_a_library_said_is_kept_as_the_cause():
    with pytest.raises(CheckpointError, match="config.json: can't be used \\(no room\\)") as error, reading(Path("config.json")): raise RuntimeError("no room")
    assert type(error.value.__cause__) is RuntimeError


def test_higgs_codec_keeps_the_contract(higgs_codec):
    assert isinstance(higgs_codec, HiggsCodec) and isinstance(higgs_codec, Codec)
    assert (higgs_codec.sample_rate, higgs_codec.frame_rate) == (24_000, 25)
    assert (higgs_codec.n_codebooks, higgs_codec.codebook_size) == (8, 1024)
    assert higgs_codec.name.startswith("higgs-audio-v2-tokenizer/")


@pytest.mark.parametrize("samples, rate, frames", [(24_000, 24_000, 25), (19_200, 24_000, 20), (16_000, 16_000, 25),
                                                   (36_000, 24_000, 38)])
def test_higgs_codec_encodes_as_its_network(higgs_codec, samples, rate, frames):
    sound = Audio(np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32), rate)
    codes = untouched(lambda: higgs_codec.encode(sound))
    assert codes.shape == (8, frames) and codes.dtype == torch.long and codes.is_contiguous()
    with torch.no_grad():
        wanted = higgs_codec.net.encode(torch.from_numpy(sound.resample(24_000).samples)[None, None]).audio_codes[0]
    assert torch.equal(codes, wanted)
    assert len(higgs_codec.decode(codes).samples) == 960 * frames


def test_higgs_codec_states_its_reach(higgs_codec):
    codes, at = random_codes(60), 30
    moved = codes.clone()
    moved[:, at] = (moved[:, at] + 500) % 1024
    one, other = (higgs_codec.decode(each).samples for each in (codes, moved))
    heard = (np.abs(one - other).reshape(-1, 960).max(1) > 1e-7).nonzero()[0]
    assert 0.01 < np.abs(one).max() < 2 and at - 10 <= heard.min() and heard.max() <= at + 10


@pytest.mark.parametrize("frames", (1, 12, 16, 70))
def test_higgs_codec_streams_exactly(higgs_codec, frames):
    codes, decoder = random_codes(frames), StreamDecoder(higgs_codec)
    pieces = [decoder.push(codes[:, t:t + 1]) for t in range(frames)] + [decoder.flush()]
    assert np.abs(joined(pieces) - higgs_codec.decode(codes).samples).max() < 1e-5


def test_a_codec_that_has_spoken_can_be_unloaded(higgs_folder):
    codec = load_codec(higgs_folder / "codec")
    codec.decode(codec.encode(Audio(np.zeros(24_000, np.float32), 24_000)))
    gone = weakref.ref(codec.net)
    del codec
    gc.collect()
    assert gone() is None


def test_the_codec_of_the_released_shape_is_transformers_own():
    "Random weights in the released configuration: 200 M parameters, eight codebooks, 40 ms a frame."
    ratios = [8, 5, 4, 2, 3]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = HiggsAudioV2TokenizerModel(HiggsAudioV2TokenizerConfig(
            target_bandwidths=[0.5, 1, 1.5, 2], acoustic_model_config=DacConfig(
                encoder_hidden_size=64, decoder_hidden_size=1024, hidden_size=256, downsampling_ratios=ratios,
                upsampling_ratios=ratios), semantic_model_config=HubertConfig())).eval()
        for quantizer in net.quantizer.quantizers: quantizer.codebook.embed.normal_()
    codec = HiggsCodec(net, "full")
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == 200.3
    assert (codec.sample_rate, codec.frame_rate, codec.n_codebooks, codec.codebook_size) == (24_000, 25, 8, 1024)
    for samples in (24_000, 13_000):
        sound = Audio(np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32), 24_000)
        with torch.inference_mode():
            codes = net.encode(torch.from_numpy(sound.samples)[None, None]).audio_codes
            wanted = net.decode(codes).audio_values[0, 0].numpy()
        assert torch.equal(codec.encode(sound), codes[0]) and len(codes.unique()) > 50
        assert np.abs(codec.decode(codes[0]).samples - wanted).max() < 1e-6


def test_higgs_codec_decodes_a_batch_as_its_rows(higgs_codec):
    rows = [random_codes(n) for n in (70, 12, 140, 0, 70)]
    for codes, sound in zip(rows, decode_batch(higgs_codec, rows), strict=True):
        if codes.shape[1]: assert np.abs(sound.samples - higgs_codec.decode(codes).samples).max() < 1e-4


def test_every_tensor_of_the_higgs_codec_that_does_not_fit_is_named(higgs_folder, tmp_path, capfd):
    folder, names = Path(shutil.copytree(higgs_folder, tmp_path / "model")), []
    capfd.readouterr()
    change(folder / "codec/model.safetensors", lambda state: names.extend(damage(state)))
    assert_all_named(refusal(load_folder, folder), names, folder / "codec")
    assert capfd.readouterr() == ("", "")
    os.truncate(folder / "codec/model.safetensors", 1000)
    assert refusal(load_folder, folder).startswith(f"{folder / 'codec/model.safetensors'}: can't be read (")


def test_higgs_codec_configurations_that_make_no_codec(higgs_folder, tmp_path):
    folder = Path(shutil.copytree(higgs_folder, tmp_path / "model"))
    change(folder / "codec/config.json", lambda config: config.update(codebook_size="big"))
    message = f"{folder / 'codec/config.json'}: codebook_size = 'big': must be a whole number from 2 to 65536"
    assert refusal(load_folder, folder) == message


# Models as people meet them

def voice(seconds=1.2):
    "Bursts of a buzz: sound enough for a reference."
    t = np.arange(int(24_000 * seconds)) / 24_000
    return Audio((0.2 * np.sin(2 * np.pi * 140 * t) * (np.sin(2 * np.pi * 3 * t) > -0.5)).astype(np.float32), 24_000)


@pytest.fixture(scope="module", params=("tiny codec", "higgs codec"))
def model(request, written, higgs_folder):
    return load(written if request.param == "tiny codec" else higgs_folder, device="cpu")


FIXED = Budget("fixed", 1.0, 30, 39, None, "", "")


def test_a_voice_is_cloned_and_streamed(model):
    reference = Reference(voice(), transcript="What is said.", consent="synthetic")
    options = dict(reference=reference, seed=5, budget=FIXED)
    with saying(model.network, endless): made = untouched(lambda: model.clone("Some words.", **options))
    with saying(model.network, endless): pieces = list(stream := model.stream("Some words.", **options))
    assert made.codes.shape == (8, 30) and made.stop_reason == "budget" and made.audio.rate == 24_000
    assert torch.equal(stream.generation.codes, made.codes)
    assert np.abs(joined(pieces) - made.audio.samples).max() < 1e-4
    assert np.abs(joined(pieces) - model.codec.decode(made.codes).samples).max() < 1e-4
    assert made.prompt.codes[0].shape == (8, 30) and made.reference is reference
    assert made.model.codec == model.codec.name
    assert made.trace.rms_dbfs.notna().sum() == 30


def test_the_reference_is_heard_and_encoded_once(model, monkeypatch):
    calls, encode = [], model.codec.encode
    monkeypatch.setattr(model.codec, "encode", lambda audio: (calls.append(audio), encode(audio))[1])
    loud, low = (Reference(voice(seconds), transcript="What is said.", consent="synthetic") for seconds in (1.31, 0.9))
    say = lambda reference, form="assistant_ref": model.clone("Words.", reference=reference, sampling="greedy", seed=0,
                                                              budget=FIXED, prompt_form=form)
    with saying(model.network, endless): made = [say(loud), say(loud), say(low), say(loud, "system_ref"), say(None)]
    assert len(calls) == 2 and torch.equal(made[0].codes, made[1].codes)
    assert len({tuple(each.codes.flatten().tolist()) for each in made}) == 4


@pytest.mark.parametrize("options, message", [
    (dict(prompt_form="whisper"), "prompt_form: must be one of assistant_ref"),
    (dict(budget=7), "budget: must be a Budget"),
    (dict(budget="by_moon"), "or one of words_per_minute, reference_rate, fixed, got 'by_moon'"),
    (dict(sampling="wild"), "sampling: must be one of upstream, design, greedy"),
    (dict(sampling=7), "sampling: must be a Sampling"),
    (dict(seed=-1), "seed: must be"), (dict(seed=3, sampling=Sampling(seed=4)), "seed: sampling already has seed 4, got 3"),
    (dict(reference=Reference(voice())), "needs one"), (dict(reference="no-such-file.wav"), "no-such-file.wav"),
    (dict(budget=Budget("fixed", 1.0, 9000, 9009, None, "", "")), "exceed the context of 4096")])
def test_bad_requests_are_one_line_before_any_work(model, options, message, monkeypatch):
    monkeypatch.setattr(model.network, "forward", None)
    with pytest.raises(ValueError) as error: model.session("Some words.", **options)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ("", "  \n", "...", "<|eot_id|>", "x" * 100_001, None, 7))
def test_bad_texts_are_one_line_before_any_work(model, text):
    with pytest.raises(ValueError) as error: model.clone(text)
    assert str(error.value).startswith("text: ") and "\n" not in str(error.value)


def test_the_longest_text_is_planned_at_once(written):
    begun = time.process_time()
    session = HiggsModel(load_folder(written)).session(("A word after a word. " * MAX_CHARACTERS)[:MAX_CHARACTERS])
    assert len(session.chunks) > 100 and time.process_time() - begun < 60


@pytest.mark.parametrize("name", ("giant", "a/b/c", "./nowhere", "/nowhere", ""))
def test_unknown_models(name):
    with pytest.raises(ModelError) as error: load(name)
    assert str(error.value).startswith(f"model: must be one of {', '.join(lab.MODELS)}, a folder or a hub id, got ")


def test_a_missing_shipped_checkpoint_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(lab.MODELS["tiny"], "folder", tmp_path)
    with pytest.raises(CheckpointError, match="config.json: is missing"): load("tiny")


def test_models_are_listed_without_the_hub():
    table = lab.known_models()
    assert list(table.name) == ["tiny", "higgs-v2", "higgs-v2-original", "vita-boost", "vita-balance", "vita-plus-vanilla",
                                "vita-plus-boost"]
    assert {"source", "size", "license", "languages", "here", "lacks"} <= set(table.columns)


NO_HUB = "model: bosonai/higgs-audio-v2-generation-3B-base is not on this machine"
HUB = """
import sys, time
from huggingface_hub import constants
from voicelab import hub, lab
hub.HUB_SECONDS = 1
for constants.ENDPOINT in sys.argv[1:]:
    begun = time.perf_counter()
    try: lab.load("higgs-v2")
    except hub.ModelError as error: print(time.perf_counter() - begun, error)
"""


def test_offline_is_one_line_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name, hub_id in (("higgs-v2", lab.MODELS["higgs-v2"]["hub"]), ("someone/some-model", "someone/some-model")):
        with pytest.raises(ModelError) as error: load(name)
        assert str(error.value).startswith(f"model: {hub_id} is not on this machine") and "\n" not in str(error.value)
    with pytest.raises(ModelError, match="^codec: some/codec is not on this machine .*; put its config.json, .* into a folder, and give that as codec$"):
        load("tiny", codec="some/codec")


def test_a_hub_that_refuses_or_never_answers_is_one_line_and_soon(tmp_path):
    with socket.socket() as nobody, socket.socket() as silent:
        for server in (nobody, silent): server.bind(("127.0.0.1", 0))
        silent.listen()                                     # takes the call, and that is all
        endpoints = [f"http://127.0.0.1:{server.getsockname()[1]}" for server in (nobody, silent)]
        environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", HUB, *endpoints]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert answer.stderr == "" and len(answer.stdout.splitlines()) == 2
    for line in answer.stdout.splitlines():
        seconds, message = line.split(" ", 1)
        assert float(seconds) < 60              # 1 of them waiting for an answer
        assert message.startswith(NO_HUB) and "folder" in message


def test_a_model_shows_itself(written):
    shown = repr(HiggsModel(load_folder(written)))
    assert "untrained" in shown and "tiny-codec/" in shown


def test_the_special_tokens_are_those_of_the_tokenizer(tiny_tokenizer):
    assert isinstance(tiny_tokenizer, PreTrainedTokenizerFast)
    assert set(SPECIAL_TOKENS) <= set(tiny_tokenizer.get_added_vocab())
