"""GLM-4-Voice's tokenizer and decoder against the goldens, and what users can do to them."""
import json
import math
import re
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import joined, untouched
from safetensors.torch import load_file, save_file
from vectors import full_size_names, read_case

from voicelab.audio import Audio, load_audio
from voicelab.codec import CodecError
from voicelab.families.vita.engine import PublishedStream
from voicelab.files import AudioError
from voicelab.models.checkpoint import CheckpointError
from voicelab.models.flow import FlowConfig, FlowNet, mel_noise, step_times
from voicelab.models.glm4decoder import (
    convert_decoder,
    decoder_configs,
    load_decoder,
    read_decoder_config,
    read_tensors,
    weights_sha256,
    write_decoder_config,
)
from voicelab.models.glm4voice import (
    load_glm4voice,
    log_mel,
    save_glm4voice,
    tiny_glm4voice,
    two_generators,
)
from voicelab.models.hift import HiftConfig, HiftNet, HiftStream, Source
from voicelab.models.whispervq import (
    WhisperVQ,
    WhisperVQConfig,
    load_whispervq,
    tokenize,
    tokenizer_config,
    tokenizer_names,
)

def state(tensors, head): return {name.removeprefix(head): tensor for name, tensor in tensors.items() if name.startswith(head)}


def far(ours, theirs):
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


def seeded(seed=0): return torch.Generator().manual_seed(seed)


def random_codes(count, seed=0): return torch.randint(0, 16_384, (1, count), generator=seeded(seed))


def streamed(session, pushes):
    return joined([*(session.push(codes) for codes in pushes), session.flush()])


@pytest.fixture(scope="module")
def codec(): return tiny_glm4voice()


# ---- the tokenizer

@pytest.mark.parity
def test_tokenizer_is_the_references():
    tensors, about = read_case("vita_whispervq")
    net = WhisperVQ(tokenizer_config(about["config"], "golden")).eval()
    rename = tokenizer_names(net.config.layers)
    weights = state(tensors, "state_dict.")
    net.load_state_dict({rename(name): tensor for name, tensor in weights.items() if rename(name)}, strict=True)
    seen = []
    for layer in net.layers: layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad(): codes, _ = net(tensors["mel"], tensors["attention_mask"])
    valid = tensors["attention_mask"][:, ::2 * net.config.pooling].bool()
    assert torch.equal(codes[valid], tensors["token_ids"][valid]) and 0 < valid.sum() < valid.numel()
    for place, hidden in enumerate(seen): assert far(hidden, tensors[f"hidden_states.{place}"]) < 1e-4
    last = net.codebook(codes) + net.embed_positions2.weight[:codes.shape[1]]
    assert far(last[valid], tensors["last_hidden_state"][valid]) < 1e-4


@pytest.mark.parametrize("samples, count", [(0, 0), (1, 1), (1279, 1), (1280, 1), (1281, 2), (16_000, 13), (160_000, 125),
                                            (480_000, 375), (480_001, 376)])
def test_a_code_for_every_80_ms_begun(codec, samples, count):
    codes = tokenize(codec.tokenizer, Audio(np.random.default_rng(0).normal(0, 0.1, samples).astype("float32"), 16_000))
    assert codes.shape == (1, count) and codes.dtype == torch.long


def test_other_rates_give_as_many_codes(codec):
    for rate in (8_000, 22_050, 24_000, 48_000):
        assert codec.encode(Audio(np.zeros(2 * rate, np.float32) + 0.1, rate)).shape == (1, 25)


def test_pieces_of_30_s_are_read_alone(codec):
    samples = np.random.default_rng(1).normal(0, 0.1, 16_000 * 32).astype("float32")
    both = tokenize(codec.tokenizer, Audio(samples, 16_000))
    assert torch.equal(both[:, :375], tokenize(codec.tokenizer, Audio(samples[:480_000], 16_000))) and both.shape == (1, 400)


def test_recordings_that_are_none(codec, tmp_path, root):
    with pytest.raises(AudioError, match="NaN"): codec.encode(Audio(np.array([0, np.nan], np.float32), 16_000))
    with pytest.raises(AudioError, match="mono"): Audio(np.zeros((2, 100), np.float32), 16_000)
    voice = load_audio(root / "data/voices/ada.wav")
    soundfile.write(tmp_path / "stereo.wav", np.stack([voice.samples] * 2, 1), voice.rate, subtype="FLOAT")
    assert torch.equal(codec.encode(load_audio(tmp_path / "stereo.wav")), codec.encode(voice))


def test_full_size_tokenizer():
    with torch.device("meta"): net = WhisperVQ()
    assert sum(parameter.numel() for parameter in net.parameters()) == 343_599_360


def test_tokenizer_out_of_a_whole_recogniser(codec, tmp_path):
    save_glm4voice(codec, tmp_path)
    file = tmp_path / "tokenizer/model.safetensors"
    weights = {f"model.encoder.{name}": tensor for name, tensor in load_file(file).items()}
    weights |= {"model.encoder.layers.2.fc1.weight": torch.zeros(2, 2), "model.encoder.layer_norm.weight": torch.zeros(2),
                "model.encoder.ema_count": torch.zeros(2), "model.decoder.embed_tokens.weight": torch.zeros(2, 2)}
    save_file(weights, file)
    net = load_whispervq(tmp_path / "tokenizer")
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in codec.tokenizer.state_dict().items())


@pytest.mark.parametrize("change, message", [
    (dict(pooling_type="max"), "pooling_type = 'max': must be 'avg'"), (dict(d_model="wide"), "d_model = 'wide': must be a whole number"),
    (dict(quantize_causal_block_size=None), "quantize_causal_block_size = None: must be"), (dict(pooling_position=8), "pooling_position = 8: must be 2"),
    (dict(encoder_causal_convolution=False), "encoder_causal_convolution = False: must be True"),
    (dict(quantize_vocab_size=0), "quantize_vocab_size = 0: must be a whole number from 2")])
def test_other_tokenizers_are_refused(codec, tmp_path, change, message):
    save_glm4voice(codec, tmp_path)
    file = tmp_path / "tokenizer/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CheckpointError, match=message) as error: load_glm4voice(tmp_path)
    assert "\n" not in str(error.value) and "config.json" in str(error.value)


# ---- the decoder's networks

def published(config, folder):
    "The golden's configuration as a config.yaml, and what is read from that."
    flow, hift = config["flow"], config["hift"]
    flow_shape = FlowConfig(
        codebook_size=flow["vocab_size"], code_width=flow["input_size"], width=flow["encoder"]["output_size"],
        heads=flow["encoder"]["attention_heads"], feed_forward=flow["encoder"]["linear_units"], layers=flow["encoder"]["num_blocks"],
        block=flow["encoder"]["block_size"], mel_bands=flow["output_size"], speaker_width=flow["spk_embed_dim"],
        regulator_layers=len(flow["length_regulator"]["sampling_ratios"]), channels=tuple(flow["estimator"]["channels"]),
        estimator_heads=flow["estimator"]["num_heads"], head_width=flow["estimator"]["attention_head_dim"],
        estimator_layers=flow["estimator"]["n_blocks"], mid_blocks=flow["estimator"]["num_mid_blocks"],
        guidance=flow["cfm"]["inference_cfg_rate"], frame_rate=flow["input_frame_rate"], sample_rate=hift["sampling_rate"])
    tuples = lambda value: tuple(map(tuples, value)) if isinstance(value, list) else value
    hift_shape = HiftConfig(
        hift["in_channels"], hift["base_channels"], hift["f0_predictor"]["cond_channels"], hift["nb_harmonics"], hift["sampling_rate"],
        hift["nsf_alpha"], hift["nsf_sigma"], float(hift["nsf_voiced_threshold"]), *map(tuples, (
            hift["upsample_rates"], hift["upsample_kernel_sizes"], hift["istft_n_fft"], hift["istft_hop"], hift["resblock_kernel_sizes"],
            hift["resblock_dilation_sizes"], hift["source_resblock_kernel_sizes"], hift["source_resblock_dilation_sizes"],
            hift["lrelu_slope"], hift["audio_limit"])))
    write_decoder_config(flow_shape, hift_shape, folder / "config.yaml")
    assert decoder_configs(folder / "config.yaml") == (flow_shape, hift_shape)
    return flow_shape, hift_shape


@pytest.mark.parity
def test_flow_is_the_references(tmp_path):
    tensors, about = read_case("vita_flow_hift")
    flow = FlowNet(published(about["config"], tmp_path)[0]).eval().requires_grad_(False)
    flow.load_state_dict(state(tensors, "flow."), strict=True)
    codes, prompt = tensors["token"], tensors["prompt_token"]
    bands, frames = tensors["mel_steps1"].shape[1:]
    assert frames == flow.config.frames(codes.shape[1])
    def noise(frames): return torch.randn(1, bands, frames, generator=seeded(42))
    assert far(flow.encoder(flow.input_embedding(codes)), tensors["encoder_out"]) < 1e-3
    assert far(flow.wanted(codes, frames).transpose(1, 2), tensors["regulated"]) < 1e-3
    time = torch.full((1,), about["est_t"])
    moved = flow.decoder.estimator(tensors["est_x"], tensors["est_mu"], time, tensors["est_spk"], tensors["est_cond"])
    assert far(moved, tensors["est_out"]) < 1e-3
    for steps in (1, 3, 10): assert far(flow(codes, noise(frames), steps), tensors[f"mel_steps{steps}"]) < 1e-3
    assert far(flow(codes, noise(frames), 10, speaker=tensors["embedding"]), tensors["mel_spk"]) < 1e-3
    both, known = torch.cat([prompt, codes], 1), tensors["prompt_feat"].transpose(1, 2)
    made = flow(both, noise(flow.config.frames(both.shape[1])), 10, known=known)
    assert far(made, tensors["mel_prompted"]) < 1e-3 and far(made[..., :30], tensors["mel_steps10"][..., :30]) > 1e-2


@pytest.mark.parity
def test_vocoder_is_the_references(tmp_path):
    tensors, about = read_case("vita_flow_hift")
    hift = HiftNet(published(about["config"], tmp_path)[1]).eval().requires_grad_(False)
    hift.load_state_dict(state(tensors, "hift."), strict=True)
    pitch = hift.f0_predictor(tensors["hift_mel"])
    assert far(pitch, tensors["hift_f0"]) < 1e-3
    assert far(hift(tensors["hift_mel"], tensors["hift_source"][0]), tensors["hift_wav_from_source"]) < 1e-3
    generator, count = seeded(about["hift_seed"]), hift.config.harmonics + 1        # in the reference's order
    phases = (2 * torch.rand(1, count, 1, generator=generator) - 1)[0, :, 0] * math.pi
    phases[0] = 0
    noise = torch.randn(1, count, tensors["hift_source"].shape[2], generator=generator)[0].T
    assert far(hift.m_source(pitch[0], phases, noise)[0], tensors["hift_source"][0, 0]) < 1e-3


@pytest.mark.parity
def test_full_size_decoder_has_the_released_names_and_shapes():
    with torch.device("meta"): nets = {"flow.pt": FlowNet(), "hift.pt": HiftNet()}
    found = {(file, name, str(tuple(tensor.shape))) for file, net in nets.items() for name, tensor in net.state_dict().items()}
    assert found == set(map(tuple, full_size_names("vita_decoder_keys")))


def test_full_size_decoder_counts():
    with torch.device("meta"): flow, hift = FlowNet(), HiftNet()
    assert [sum(parameter.numel() for parameter in net.parameters()) for net in (flow, hift)] == [111_166_208, 20_460_591]


def test_source_is_a_sum_of_sines():
    config = HiftConfig(breath_level=0.0)
    source, pitch = Source(config).requires_grad_(False), torch.tensor([200.0, 0.0, 300.0])
    noise = torch.randn(3 * 256, 9, generator=seeded())
    made, cycles = source(pitch, torch.zeros(9), noise)
    hertz = np.repeat([200.0, 0.0, 300.0], 256)
    passed = np.cumsum(hertz / 22_050)
    waves = 0.1 * np.sin(2 * np.pi * passed[:, None] * np.arange(1, 10)) * (hertz > 10)[:, None]
    waves = waves + noise.numpy() * np.where(hertz > 10, 0.0, 0.1 / 3)[:, None]
    want = np.tanh(waves @ source.l_linear.weight[0].numpy() + source.l_linear.bias.item())
    assert np.abs(made.numpy() - want).max() < 1e-5 and cycles == pytest.approx(passed[-1] % 1)


@pytest.mark.parametrize("size", (1, 2, 5, 14, 33, 200))
def test_vocoder_in_pieces_is_the_vocoder_at_once(codec, size):
    mel = 2 * torch.randn(1, 80, 60, generator=seeded())
    def stream(sizes):
        vocoder = HiftStream(codec.hift, seeded(3))
        with torch.inference_mode(): return torch.cat([*(vocoder.push(part) for part in mel.split(sizes, 2)), vocoder.push(mel[..., :0], last=True)])
    assert far(stream(size), stream(60)) < 1e-5


def test_steps_are_euler_along_the_schedule(codec):
    assert step_times(1) == [0, 1] and len(step_times(10)) == 11 and step_times(3) == sorted(step_times(3))
    codes, noise = random_codes(4), mel_noise(codec.flow.config.frames(4), seeded())
    field = codec.flow.decoder.estimator
    wanted, speaker = codec.flow.wanted(codes, noise.shape[2]), codec.flow.spk_embed_affine_layer(torch.zeros(1, 192))
    none = torch.zeros_like(noise)
    given = field(noise, wanted, torch.zeros(1), speaker, none)
    want = noise + 1.7 * given - 0.7 * field(noise, none, torch.zeros(1), torch.zeros_like(speaker), none)
    assert far(codec.flow(codes, noise, 1), want) < 1e-4


# ---- the decoder's files

def released(codec, folder):
    "A folder as it is published: a configuration with tags, and two pickles."
    write_decoder_config(codec.flow.config, codec.hift.config, folder / "config.yaml")
    text = (folder / "config.yaml").read_text().replace("spk_embed_dim: 192", "spk_embed_dim: !ref <speaker>")
    for name, package in (("ConditionalCFM", "cosyvoice.flow.flow_matching"), ("HiFTGenerator", "cosyvoice.hifigan.generator")):
        text = text.replace(name, f"{package}.{name}")
    (folder / "config.yaml").write_text(f"seed: !apply:os.system [exit 3]\nllm: !new:cosyvoice.llm.llm.TransformerLM\n  size: 4\nspeaker: 192\n{text}")
    for part, net in (("flow", codec.flow), ("hift", codec.hift)): torch.save(net.state_dict(), folder / f"{part}.pt")
    return folder


def refusal(call, *args):
    with pytest.raises(CheckpointError) as error: call(*args)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    return str(error.value)


def test_released_files_convert_once(codec, tmp_path):
    folder = released(codec, tmp_path)
    assert read_decoder_config(folder / "config.yaml")["seed"] is None
    want = weights_sha256(codec.flow, codec.hift)
    assert weights_sha256(*load_decoder(folder)) == want
    convert_decoder(folder, folder)
    for file in ("flow.pt", "hift.pt"): (folder / file).write_bytes(b"gone")
    assert weights_sha256(*load_decoder(folder)) == want


@pytest.mark.parametrize("name, content, message", [
    ("flow.pt", None, "holds neither flow.safetensors nor flow.pt"), ("hift.pt", b"", "hift.pt: can't be read as tensors"),
    ("flow.pt", b"PK" + bytes(100), "flow.pt: can't be read as tensors"), ("config.yaml", None, "config.yaml: is missing"),
    ("config.yaml", b"\xff\xfe", "config.yaml: can't be read"), ("config.yaml", b"[1, 2]", "must hold a mapping"),
    ("config.yaml", b"flow: 3", "lacks class"), ("config.yaml", b"a: !python/object:os.x {}", "lacks class"),
    ("flow.safetensors", b"broken", "flow.safetensors: can't be read")])
def test_damaged_folders(codec, tmp_path, name, content, message):
    released(codec, tmp_path)
    if content is None: (tmp_path / name).unlink()
    else: (tmp_path / name).write_bytes(content)
    assert message in refusal(load_decoder, tmp_path)


@pytest.mark.parametrize("old, new, message", [
    ("solver: euler", "solver: dopri5", "option_steps.*decoder.cfm_params.content.solver 'dopri5', not euler"),
    ("        solver: euler\n", "", "option_steps.*decoder.cfm_params.content.solver is missing"),
    ("flow_matching.ConditionalCFM", "stable.StableDiffusion", "option_steps.*decoder.class .*StableDiffusion"),
    ("BlockConformerEncoder", "ConformerEncoder", "encoder.class = 'ConformerEncoder': must be 'BlockConformerEncoder'"),
    ("use_cnn_module: false", "use_cnn_module: true", "encoder.use_cnn_module = True: must be False"),
    ("    num_blocks: 2", "    num_blocks: -2", "encoder.num_blocks = -2: must be a whole number from 1"),
    ("in_channels: 80", "in_channels: 100", "80 mel bands, hift takes 100"),
    ("sampling_ratios:\n    - 1", "sampling_ratios:\n    - 2", "sampling_ratios must be a row of 1 to 16, all of them 1"),
    ("    attention_heads: 2\n", "", "lacks encoder.attention_heads"),
    ("channels:\n      - 32", "channels:\n      - 33", "channels = .33.: must be multiples of 8")])
def test_other_decoders_are_refused(codec, tmp_path, old, new, message):
    text = (released(codec, tmp_path) / "config.yaml").read_text()
    assert old in text
    (tmp_path / "config.yaml").write_text(text.replace(old, new, 1))
    assert re.search(message, refusal(load_decoder, tmp_path))


def test_pickles_run_nothing(tmp_path):
    class Evil:
        def __reduce__(self): return (Path.touch, (tmp_path / "ran",))
    torch.save({"weight": Evil()}, tmp_path / "flow.pt")
    assert "flow.pt" in refusal(read_tensors, tmp_path / "flow.pt") and not (tmp_path / "ran").exists()
    torch.save([torch.zeros(2)], tmp_path / "hift.pt")
    assert "tensors by name" in refusal(read_tensors, tmp_path / "hift.pt")


def test_weights_that_do_not_fit_are_named(codec, tmp_path):
    weights = torch.load(released(codec, tmp_path) / "flow.pt")
    weights["extra.weight"] = weights.pop("encoder_proj.bias")
    torch.save(weights, tmp_path / "flow.pt")
    assert "missing encoder_proj.bias; extra extra.weight" in refusal(load_decoder, tmp_path)


def test_folders_of_both_parts(codec, tmp_path):
    save_glm4voice(codec, tmp_path / "a")
    loaded, codes = load_glm4voice(tmp_path / "a"), random_codes(3)
    assert np.array_equal(loaded.decode(codes, 1).samples, codec.decode(codes, 1).samples)
    (tmp_path / "a/tokenizer").rename(tmp_path / "a/glm-4-voice-tokenizer")
    (tmp_path / "a/decoder").rename(tmp_path / "b")
    assert load_glm4voice(tmp_path / "a/glm-4-voice-tokenizer", tmp_path / "b").name == loaded.name
    assert "holds no folder glm-4-voice-decoder or decoder" in refusal(load_glm4voice, tmp_path / "a")
    assert "is not a folder" in refusal(load_glm4voice, tmp_path / "none")


def test_tokenizer_and_decoder_must_count_alike(codec, tmp_path):
    other = WhisperVQ(WhisperVQConfig(mel_bands=32, width=32, heads=2, feed_forward=64, layers=2, codebook_size=99))
    with pytest.raises(CheckpointError, match="tokenizer has 99 codes, but the decoder 16384"):
        type(codec)(other, codec.flow, codec.hift, "mixed")


# ---- the codec

def test_tiny_is_quick_and_its_seed_counts():
    begun = time.process_time()
    codec = untouched(tiny_glm4voice)
    assert time.process_time() - begun < 10
    assert weights_sha256(codec.flow) == weights_sha256(tiny_glm4voice(0).flow) != weights_sha256(tiny_glm4voice(1).flow)


@pytest.mark.parametrize("count", (0, 1, 2, 19, 20, 21, 64))
def test_lengths(codec, count):
    sound, frames = codec.decode(random_codes(count), 1), count * 441 // 64
    assert len(sound.samples) == 256 * frames and sound.rate == 22_050 and codec.flow.config.frames(count) == frames
    session = codec.session(1)
    assert len(streamed(session, [random_codes(count)])) == 256 * frames


@pytest.mark.parametrize("codes, message", [
    (torch.tensor([[16_384]]), "ids must be 0 to 16383"), (torch.tensor([[-1]]), "ids must be 0"), (torch.tensor([1, 2]), "shape"),
    (torch.zeros(2, 3, dtype=torch.long), r"must be \[1, frames\]"), (torch.tensor([[math.nan]]), "whole numbers, got torch.float32"),
    (torch.tensor([[True]]), "whole numbers"), ([[1]], "whole numbers, got list")])
def test_codes_that_are_none(codec, codes, message):
    with pytest.raises(CodecError, match=message): codec.decode(codes)
    session = codec.session(1)
    with pytest.raises(CodecError, match=message): session.push(codes)
    assert len(streamed(session, [random_codes(2)])) == 256 * 13           # as if nothing had happened


@pytest.mark.parametrize("options, message", [
    (dict(steps=0), "steps: must be"), (dict(steps=()), "steps: must be"), (dict(steps=(1, 2.5)), "steps: must be"),
    (dict(steps=True), "steps: must be"), (dict(blocks=()), "blocks: must be"), (dict(blocks=(0,)), "blocks: must be"),
    (dict(generator=7), "generator: must be")])
def test_options_that_are_none(codec, options, message):
    with pytest.raises(CodecError, match=message): codec.session(**options)


def test_seeds(codec):
    codes = random_codes(6)
    def decode(seed=None): return untouched(lambda: codec.decode(codes, 1, None if seed is None else seeded(seed)).samples)
    assert np.array_equal(decode(), decode()) and np.array_equal(decode(42), decode()) and not np.array_equal(decode(1), decode(2))
    generator = seeded(1)
    first, second = (codec.decode(codes, 1, generator).samples for _ in range(2))
    assert np.array_equal(first, decode(1)) and not np.array_equal(first, second)
    strided = torch.stack([codes[0], codes[0]], 1)[:, :1].T                # the same codes, not contiguous
    assert np.array_equal(codec.decode(strided.int(), 1).samples, decode())


# ---- streams

@pytest.mark.parametrize("size", (1, 2, 5, 6, 10, 23, 32, 33, 50))
def test_a_stream_has_the_offline_length(codec, size):
    codes, blocks = random_codes(33), (size, 2 * size + 1)
    session = codec.session((1, 2), seeded(5), blocks=blocks)
    sound = untouched(lambda: streamed(session, codes.split(3, 1)))
    assert len(sound) == codec.flow.config.frames(33) * 256 and np.isfinite(sound).all()
    assert session.table["codes"].sum() == 33 and session.table["seconds"].sum() == pytest.approx(len(sound) / 22_050)
    with torch.inference_mode(): at_once = HiftStream(codec.hift, two_generators(seeded(5))[1]).push(session.mel, last=True)
    assert np.abs(at_once.numpy() - sound).max() < 1e-4                    # the vocoder adds nothing to the difference
    other = codec.session((1, 2), seeded(5), blocks=blocks)
    assert np.array_equal(streamed(other, [codes[:, :20], codes[:, 20:20], codes[:, 20:]]), sound)


def test_one_block_is_the_offline_decode(codec):
    codes = random_codes(30)
    assert np.array_equal(streamed(codec.session(2, blocks=(31,)), codes.split(7, 1)), codec.decode(codes, 2).samples)
    held = streamed(codec.session(2, blocks=(30,)), [codes])               # full before the end is known: the tail is held back
    assert np.abs(held - codec.decode(codes, 2).samples).max() < 1e-5


def test_the_steps_of_the_blocks(codec):
    session = codec.session((1, 3, 5), blocks=(2,))
    streamed(session, random_codes(9).split(1, 1))
    assert session.table["steps"].tolist() == [1, 3, 5, 5, 5] and session.table["codes"].tolist() == [2, 2, 2, 2, 1]


def test_the_end_of_a_session(codec):
    session = codec.session(1)
    assert session.flush() is None and session.first_audio_seconds is None
    session = codec.session(1)
    assert session.push(random_codes(3)) is None and session.first_audio_seconds is None
    assert len(session.flush().samples) == 20 * 256 and session.first_audio_seconds > 0
    assert session.flush() is None
    with pytest.raises(CodecError, match="flushed"): session.push(random_codes(1))


def test_first_sound_comes_with_the_first_block(codec):
    session, codes = codec.session(1), random_codes(8)
    assert session.push(codes[:, :7]) is None
    piece = session.push(codes[:, 7:])
    assert len(piece.samples) == (codec.flow.config.frames(8) - codec.flow.config.frames(2) - 5 - codec.hift.reach) * 256


def test_two_sessions_do_not_meet(codec):
    codes = random_codes(24)
    alone = streamed(codec.session(1, blocks=(8,)), codes.split(4, 1))
    first, second = (codec.session(1, blocks=(8,)) for _ in range(2))
    pieces = [[], []]
    for part in codes.split(4, 1):
        for session, heard in zip((first, second), pieces): heard.append(session.push(part))
    for session, heard in zip((first, second), pieces): assert np.array_equal(joined([*heard, session.flush()]), alone)


def test_fades_neither_lift_nor_sink(codec, monkeypatch):
    "Where every block makes the same mel, so does the stream."
    shape = codec.flow.config
    def steady(codes, noise, steps, known=None, speaker=None): return torch.full((1, 80, noise.shape[2] - known.shape[2]), -4.0)
    monkeypatch.setattr(codec.flow, "forward", steady)
    session = codec.session(1, blocks=(7,))
    streamed(session, [random_codes(40)])
    assert session.mel.shape[2] == shape.frames(40) and far(session.mel, torch.full_like(session.mel, -4.0)) < 1e-5


def test_the_demo_loses_the_end(codec):
    stream, pieces = PublishedStream(codec, normalise=True, lose_tail=True), []
    assert stream.mark() is None
    for segment in random_codes(48).split(8, 1):
        stream.push(segment)
        if (piece := stream.mark()) is not None: pieces.append(piece)
    assert stream.flush() is None
    assert len(pieces) == 2 and sum(len(piece.samples) for piece in pieces) == codec.flow.config.frames(32) * 256
    assert all(piece.peak == pytest.approx(1) for piece in pieces)


# ---- a voice for the decoder

def test_a_voice_is_an_experiment_and_off(codec, root):
    ada, codes = load_audio(root / "data/voices/ada.wav"), random_codes(25)
    voice = codec.voice(ada)
    assert "experiment" in repr(voice) and "experiment" not in repr(codec.no_voice)
    assert voice.mel.shape[2] == codec.flow.config.frames(voice.codes.shape[1])
    plain, told = codec.decode(codes, 1), codec.decode(codes, 1, voice=voice)
    assert abs(len(plain.samples) - len(told.samples)) <= 256 and not np.array_equal(plain.samples[:9000], told.samples[:9000])
    assert len(streamed(codec.session(1, voice=voice, blocks=(6,)), [codes])) == len(told.samples)
    assert np.array_equal(codec.decode(codes, 1, voice=codec.no_voice).samples, plain.samples)
    embedded = codec.decode(codes, 1, voice=codec.voice(embedding=torch.randn(192, generator=seeded())))
    assert len(embedded.samples) == len(plain.samples) and not np.array_equal(embedded.samples, plain.samples)


def test_voices_that_are_none(codec):
    for vector in (torch.zeros(192), torch.ones(3), torch.full((192,), math.nan)):
        with pytest.raises(CodecError, match="embedding: must be 192 finite numbers"): codec.voice(embedding=vector)
    with pytest.raises(CodecError, match="reference: 0.001 s is shorter than a code"): codec.voice(Audio(np.zeros(22, np.float32), 22_050))


def test_log_mel_finds_a_tone(codec):
    tone = Audio((0.5 * np.sin(2 * np.pi * 1000 * np.arange(22_050) / 22_050)).astype(np.float32), 22_050)
    mel = log_mel(tone, codec.flow.config)
    assert mel.shape == (1, 80, 86) and mel.isfinite().all()
    edges = 3 * np.arange(82) * (15 + 27 * math.log(8) / math.log(6.4)) / 3 / 81    # Slaney's mel: 8 kHz is 15 + 27 ln 8 / ln 6.4
    band = int(np.abs(edges[1:-1] - 15).argmin())                                     # and 1 kHz is 15
    assert abs(int(mel[0, :, 40].argmax()) - band) <= 1
