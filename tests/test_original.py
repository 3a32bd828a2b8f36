"""The original format of Higgs Audio v2: names, configuration, its numbers, other Higgs models, and memory while loading."""
import json
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast
from vectors import PARITY, read_about, read_case

import voicelab as vl
from voicelab.families.higgs.checkpoint import load_folder, load_network
from voicelab.families.higgs.original import rename_original
from voicelab.families.higgs.tiny import build_tokenizer, save_checkpoint
from voicelab.models.checkpoint import CheckpointError
from voicelab.models.tinycodec import TinyCodecConfig, TinyCodecNet

ROPE = dict(rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
SIZES = "num_hidden_layers hidden_size intermediate_size num_attention_heads num_key_value_heads head_dim".split()


def original_json(sizes, vocab_size, out_id, n_codebooks=8, codebook_size=1024, **changes):
    "config.json as the original code writes it, with the settings of the release."
    backbone = dict(sizes, vocab_size=vocab_size, model_type="llama", rope_scaling=ROPE, rope_theta=500_000.0, rms_norm_eps=1e-5,
                    max_position_embeddings=131_072, hidden_act="silu", attention_bias=False, mlp_bias=False, head_dim=sizes["head_dim"])
    return dict(model_type="higgs_audio", text_config=backbone, audio_adapter_type="dual_ffn_fast_forward",
                audio_dual_ffn_layers=list(range(sizes["num_hidden_layers"])), audio_ffn_hidden_size=sizes["hidden_size"],
                audio_ffn_intermediate_size=sizes["intermediate_size"], audio_num_codebooks=n_codebooks,
                audio_codebook_size=codebook_size, audio_stream_bos_id=codebook_size, audio_stream_eos_id=codebook_size + 1,
                audio_out_token_idx=out_id, audio_decoder_proj_num_layers=0, audio_embed_avg=False, encode_audio_in_tokens=True,
                encode_whisper_embed=False, skip_audio_tower=True, use_delay_pattern=True, use_audio_out_self_attention=0,
                use_audio_out_embed_projector=False, use_rq_transformer=False) | changes


def write_shards(folder, state, shards=3):
    "A checkpoint of several files with its index."
    names, weight_map = sorted(state), {}
    for n in range(shards):
        file = f"model-{n + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: state[name].contiguous() for name in names[n::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps(dict(metadata={}, weight_map=weight_map)))


def back_to_original(state):
    "The original's names of transformers' tensors."
    new = {"model.embed_audio_tokens.embed_audio_tokens.": "audio_codebook_embeddings.", "model.": "",
           "audio_lm_head.": "audio_decoder_proj.audio_lm_head."}
    def old(name):
        prefix = next(prefix for prefix in new if name.startswith(prefix))
        return new[prefix] + name.removeprefix(prefix)
    return {old(name): tensor for name, tensor in state.items()}


@pytest.fixture
def original(tmp_path, tiny_network, tiny_tokenizer):
    "The random network of these tests in the original format, beside a codec."
    folder = tmp_path / "original"
    with torch.random.fork_rng():
        save_checkpoint(folder, tiny_network, tiny_tokenizer, TinyCodecNet(TinyCodecConfig(channels=32, vocoder_channels=48, code_dim=8)), {})
    (folder / "model.safetensors").unlink()
    config = tiny_network.config
    content = original_json({name: getattr(config, name) for name in SIZES}, config.vocab_size, config.audio_token_id)
    content["text_config"].update(rope_scaling=None, rope_theta=config.rope_parameters["rope_theta"])
    (folder / "config.json").write_text(json.dumps(content))
    state = back_to_original(tiny_network.state_dict())
    state["audio_decoder_proj.text_lm_head.weight"] = torch.zeros(config.vocab_size, 64)
    state["audio_codebook_weights"] = torch.ones(8)
    write_shards(folder, state)
    return folder


def change(file, **values):
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | values))


def refusal(folder):
    with pytest.raises(CheckpointError) as error: load_folder(folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    return str(error.value)


def test_the_original_format_is_the_same_network(original, tiny_network):
    network = load_folder(original).network
    wanted, got = tiny_network.state_dict(), network.state_dict()
    assert list(wanted) == list(got) and all(torch.equal(wanted[name], got[name]) for name in wanted)
    ids = torch.arange(40)[None]
    with torch.inference_mode(): assert torch.equal(network(input_ids=ids).logits, tiny_network(input_ids=ids).logits)
    config = network.config
    for name in ("audio_token_id audio_bos_token_id audio_delay_token_id bos_token_id eos_token_id pad_token_id codebook_size "
                 "num_codebooks audio_stream_bos_id audio_stream_eos_id").split():
        assert getattr(config, name) == getattr(tiny_network.config, name), name
    assert config.max_position_embeddings == 8192


def test_halves_are_put_together(original, tiny_network):
    for file in original.glob("*.safetensors*"): file.unlink()
    state = back_to_original(tiny_network.state_dict())
    embedding, head = state.pop("embed_tokens.weight"), state.pop("audio_decoder_proj.audio_lm_head.weight")
    state |= {"embed_tokens.embedding_frozen.weight": embedding[:100].clone(), "embed_tokens.embedding_trainable.weight": embedding[100:].clone(),
              "audio_decoder_proj.audio_lm_head.linear_frozen.weight": head[:7].clone(),
              "audio_decoder_proj.audio_lm_head.linear_trainable.weight": head[7:].clone()}
    write_shards(original, state, shards=2)
    network = load_folder(original).network
    assert torch.equal(network.model.embed_tokens.weight, embedding) and torch.equal(network.audio_lm_head.weight, head)


def test_a_tensor_of_another_network_is_named(original):
    state = load_file(file := sorted(original.glob("*.safetensors"))[0])
    save_file(state | {"audio_tower.conv1.weight": torch.zeros(2)}, file, metadata={"format": "pt"})
    index = json.loads((original / "model.safetensors.index.json").read_text())
    index["weight_map"]["audio_tower.conv1.weight"] = file.name
    (original / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "extra audio_tower.conv1.weight" in refusal(original)


@pytest.mark.parametrize("name, value", [
    ("skip_audio_tower", False), ("encode_whisper_embed", True), ("use_delay_pattern", False), ("audio_dual_ffn_layers", [0]),
    ("audio_adapter_type", "stack"), ("use_rq_transformer", True), ("audio_ffn_hidden_size", 32), ("audio_embed_avg", True)])
def test_another_build_is_named_as_such(original, name, value):
    change(original / "config.json", **{name: value})
    message = refusal(original)
    assert "Higgs Audio v1" in message and f"{name} must be " in message and f"got {value!r}" in message


@pytest.mark.parametrize("content", [
    dict(model_type="higgs_multimodal_qwen3", text_config=dict(model_type="qwen3")),
    dict(model_type="higgs_audio_3"), dict(model_type="higgs_audio_v3")])
def test_the_third_version_is_named_as_such(original, content):
    (original / "config.json").write_text(json.dumps(content))
    message = refusal(original)
    assert "which is Higgs Audio v3" in message and repr(content["model_type"]) in message
    with pytest.raises(CheckpointError, match="must be one of higgs_audio_v2, .*qwen2_mtp, .*, which is Higgs Audio v3: ") as error: vl.load(original)
    assert str(error.value).partition(", got ")[2] == message.partition(", got ")[2]


def test_an_id_that_is_not_the_tokenizers(original):
    change(original / "config.json", audio_out_token_idx=5)
    assert "audio_out_token_idx must be " in refusal(original)


@pytest.mark.parametrize("content", [dict(text_config=None), dict(text_config=7)])
def test_an_original_configuration_without_a_backbone(original, content):
    change(original / "config.json", **content)
    assert "text_config must describe the backbone" in refusal(original)


def test_an_original_configuration_that_lacks_a_number(original):
    content = json.loads((original / "config.json").read_text())
    del content["audio_num_codebooks"]
    (original / "config.json").write_text(json.dumps(content))
    assert refusal(original) == f"{original / 'config.json'}: lacks audio_num_codebooks"


def test_the_original_codec_is_a_pickle(original):
    released = dict(n_filters=32, D=256, codebook_dim=64, target_bandwidths=[0.5, 1, 1.5, 2, 4], ratios=[8, 5, 4, 2, 3],
                    sample_rate=24000, bins=1024, n_q=8, semantic_techer="hubert_base_general")
    (original / "codec/config.json").write_text(json.dumps(released))
    assert "is a pickle" in refusal(original) and "bosonai/higgs-audio-v2-tokenizer" in refusal(original)


# The original implementation's numbers

def parity_folder(folder):
    "The parity vectors as a checkpoint of the original format."
    tensors, about = read_case("higgs")
    config = about["config"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(PARITY / "higgs_tokenizer.json"))
    tokenizer.save_pretrained(folder)
    state = {name.removeprefix("state_dict."): tensor for name, tensor in tensors.items() if name.startswith("state_dict.")}
    content = original_json({name: config[name] for name in SIZES}, len(state["embed_tokens.weight"]),
                            tokenizer.convert_tokens_to_ids("<|AUDIO_OUT|>"), config["num_codebooks"], config["codec_codebook_size"])
    content["text_config"]["rope_theta"] = config["rope_theta"]
    (folder / "config.json").write_text(json.dumps(content))
    write_shards(folder, state)
    return tensors, about["forms"], tokenizer


@pytest.fixture(scope="module")
def parity(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    tensors, forms, tokenizer = parity_folder(folder)
    return load_network(folder, tokenizer, torch.float32, "cpu"), tensors, forms, tokenizer


@pytest.mark.parity
def test_every_tensor_of_the_vectors_has_its_place(parity):
    network, tensors, _, _ = parity
    stored = {name.removeprefix("state_dict."): tensor for name, tensor in tensors.items() if name.startswith("state_dict.")}
    named = {rename_original(name): tensor for name, tensor in stored.items()}
    state = network.state_dict()
    head = {"text_lm_head.weight"}     # of the text head, which is read only if it is asked for
    assert set(named) - {None} - head == set(state) and all(torch.equal(state[name], named[name]) for name in state)


@pytest.mark.parity
@pytest.mark.parametrize("form", read_about("higgs")["forms"])
def test_a_loaded_original_gives_the_originals_logits(parity, form):
    network, tensors, forms, tokenizer = parity
    ids, mask = (tensors[f"{form}.{name}"] for name in ("expanded_input_ids", "audio_mask"))
    from test_higgs_prompt import golden_messages

    from voicelab.families.higgs.prompt import render
    codes = [tensors[f"reference_codes.{name}"] for name in forms[form]["references"]]
    prompt = render(golden_messages(form, forms[form]["prompt_text"], codes), tokenizer, n_codebooks=network.config.num_codebooks)
    assert prompt.text == forms[form]["prompt_text"] and torch.equal(prompt.ids, ids[0])
    with torch.inference_mode():
        hidden = network.model(input_ids=prompt.network_ids[None], audio_input_ids=prompt.audio_columns.T[None],
                               audio_input_ids_mask=torch.ones(1, prompt.audio_columns.shape[1], dtype=torch.bool)).last_hidden_state[0]
    wanted = tensors[f"{form}.text_logits"].squeeze(0)
    text = hidden @ tensors["state_dict.audio_decoder_proj.text_lm_head.weight"].T
    text = text[tensors.get(f"{form}.text_positions", slice(None))]
    assert (text - wanted).abs().max() < 1e-4
    if (heard := tensors.get(f"{form}.audio_logits")) is not None:      # where an assistant speaks in the prompt
        out = tokenizer.convert_tokens_to_ids("<|AUDIO_OUT|>")
        audio = network.audio_lm_head(hidden[mask[0] & (ids[0] == out)])[tensors.get(f"{form}.audio_positions", slice(None))]
        assert (audio.view(-1) - heard.reshape(-1)).abs().max() < 1e-4


# Memory

MEASURE = """
import json, resource, sys, torch
from pathlib import Path
from voicelab.families.higgs.checkpoint import load_network, load_tokenizer
folder = Path(sys.argv[1])
tokenizer, dtype = load_tokenizer(folder), getattr(torch, sys.argv[2])
def peak():             # ru_maxrss of Linux begins with the peak of the process that started this one
    if sys.platform == "darwin": return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
before = peak()
network = load_network(folder, tokenizer, dtype, "cpu")
weights = sum(tensor.numel() * tensor.element_size() for tensor in network.parameters())
print(json.dumps(dict(weights=weights, peak=peak() - before)))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    "A folder of about 340 MB in three shards, in the original format and the release's proportions."
    folder, tokenizer = tmp_path_factory.mktemp("large"), build_tokenizer()
    sizes = dict(num_hidden_layers=14, hidden_size=768, intermediate_size=2048, num_attention_heads=6, num_key_value_heads=2, head_dim=128)
    tokenizer.save_pretrained(folder)
    content = original_json(sizes, len(tokenizer), tokenizer.convert_tokens_to_ids("<|AUDIO_OUT|>"))
    (folder / "config.json").write_text(json.dumps(content))
    from transformers import HiggsAudioV2ForConditionalGeneration

    from voicelab.families.higgs.original import original_config
    with torch.device("meta"): network = HiggsAudioV2ForConditionalGeneration(original_config(content, tokenizer, folder))
    drawn = torch.Generator().manual_seed(0)
    write_shards(folder, back_to_original({name: torch.empty(tensor.shape).normal_(0, 0.02, generator=drawn).bfloat16()
                                           for name, tensor in network.state_dict().items()}))
    return folder


@pytest.mark.parametrize("dtype", ("bfloat16", "float32"))
def test_loading_needs_the_weights_once(large, dtype, python):
    answer = subprocess.run([*python, "-c", MEASURE, str(large), dtype], capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
    measured = json.loads(answer.stdout)
    assert measured["weights"] > 300e6 and 0.9 * measured["weights"] < measured["peak"] <= 1.15 * measured["weights"], measured
