"""Folders that somebody else made: whatever stands in them, loading gives a model or one line, at once and in little memory."""
import json
import os
import resource
import sys
import time
import zipfile
from dataclasses import fields

import hostile_checkpoints as hostile
import pytest
import torch
import yaml
from hostile_checkpoints import KINDS, LOADERS
from safetensors.torch import load_file, save_file

from voicelab.families.higgs.checkpoint import load_codec, load_folder, load_tokenizer
from voicelab.families.vita.checkpoint import load_vita_folder
from voicelab.lab import load
from voicelab.models import checkpoint
from voicelab.models.checkpoint import Card, CheckpointError, checkpoint_sha256, load_weights, read_card
from voicelab.models.glm4decoder import PlainDumper, load_decoder, read_decoder_config, read_tensors
from voicelab.models.whispervq import load_whispervq

@pytest.fixture(scope="module")
def bases(tmp_path_factory, tiny_network, tiny_tokenizer):
    "A folder that holds one of each kind, as small as it gets. Not to be changed."
    return hostile.make_bases(tmp_path_factory.mktemp("bases"), tiny_network, tiny_tokenizer)


@pytest.fixture
def copy(bases, tmp_path):
    "Makes a folder of links to one of the bases; the file that a test changes is to be replaced."
    return lambda name: hostile.linked((bases / name).resolve(), tmp_path / name.replace("/", "-"))


def replace(file, content):
    file.unlink(missing_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def change(file, *path, to):
    "One value of a JSON file."
    content = json.loads(file.read_text())
    inner = content
    for name in path[:-1]: inner = inner[name]
    inner[path[-1]] = to
    replace(file, json.dumps(content))


def refusal(call, *args, seconds=5.0):
    "The one line with which a call is refused, in so many seconds of the processor and without memory."
    begun, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with hostile.within(60), pytest.raises(CheckpointError) as error: call(*args)
    unit = 1 if sys.platform == "darwin" else 1024
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit < before * unit + 500e6
    assert time.process_time() - begun < seconds
    message = str(error.value)
    assert message.isprintable() and len(message) < 1300
    return message


@pytest.mark.parametrize("name", LOADERS)
def test_folders_of_links_load(copy, name):
    "As they lie in the hub's cache."
    assert LOADERS[name](copy(name)) is not None


# One field

FIELDS = [
    ("shipped", "config.json", ("num_hidden_layers",), "num_hidden_layers"),
    ("shipped", "config.json", ("vocab_size",), "vocab_size"),
    ("shipped", "config.json", ("rope_parameters", "rope_theta"), "rope_theta"),
    ("shipped/codec", "config.json", ("n_codebooks",), "n_codebooks"),
    ("shipped/codec", "config.json", ("window",), "window"), ("shipped/codec", "config.json", ("hop",), "hop"),
    ("shipped/codec", "config.json", ("vocoder_dilations", 2), "vocoder_dilations"),
    ("higgs/codec", "config.json", ("codebook_size",), "codebook_size"),
    ("higgs/codec", "config.json", ("sample_rate",), "sample_rate"),
    ("higgs/codec", "config.json", ("target_bandwidths", 0), "target_bandwidths"),
    ("higgs/codec", "config.json", ("acoustic_model_config", "downsampling_ratios", 0), "downsampling_ratios"),
    ("higgs/codec", "config.json", ("semantic_model_config", "conv_stride", 0), "conv_stride"),
    ("original", "config.json", ("text_config", "num_hidden_layers"), "text_config.num_hidden_layers"),
    ("original", "config.json", ("audio_num_codebooks",), "audio_num_codebooks"),
    ("qwen2_mtp", "config.json", ("num_hidden_layers",), "num_hidden_layers"),
    ("qwen2_mtp", "config.json", ("hidden_size",), "hidden_size"),
    ("qwen2_mtp", "config.json", ("rope_theta",), "rope_theta"),
    ("qwen2_mtp_sensevoice", "config.json", ("sensevoice", "layers"), "layers"),
    ("codec/tokenizer", "config.json", ("d_model",), "d_model"),
    ("codec/tokenizer", "config.json", ("quantize_position",), "quantize_position")]
WRONG = (1e30, 2**31, 2**62, -1, 0, True, None, "8", [], [8], {}, {"8": 8})


@pytest.mark.parametrize("name, file, path, said", FIELDS)
def test_a_size_that_cannot_be_is_named_before_anything_is_built(copy, name, file, path, said):
    folder = copy(name)
    for value in WRONG:
        if path[-1] == "rope_theta" and value in (2**31,) or name == "original" and value is None: continue      # can be; is as good as absent
        change(folder / file, *path, to=value)
        message = refusal(LOADERS[name], folder)
        assert message.startswith(f"{folder / file}: ") and f"{said} = " in message and ": must be " in message, (value, message)


@pytest.mark.parametrize("place", ["flow.encoder.num_blocks", "flow.decoder.estimator.num_mid_blocks", "flow.input_frame_rate", "hift.upsample_rates",
                                   "hift.istft_params.n_fft", "hift.resblock_dilation_sizes"])
@pytest.mark.parametrize("value", ["2147483648", "1e+30", ".inf", ".nan", "-1", "true", "~", "x", "{}", "[[[1]]]", "0x" + "f" * 9000])
def test_a_decoders_size_that_cannot_be(copy, place, value):
    folder, (part, _, inner) = copy("codec/decoder"), place.partition(".")
    config = at = read_decoder_config(file := folder / "config.yaml")
    for name in place.split(".")[:-1]: at = at[name]
    at[place.split(".")[-1]] = "@"
    replace(file, yaml.dump(config, Dumper=PlainDumper).replace("'@'", value))
    message = refusal(load_decoder, folder)
    assert message.startswith(f"{file}: {part}: {inner} = ") and ": must be " in message


def test_the_largest_numbers_allowed_take_no_memory(copy):
    folder = copy("qwen2_mtp")
    for name, most in dict(vocab_size=1 << 24, hidden_size=1 << 16, intermediate_size=1 << 18, num_attention_heads=512, num_key_value_heads=512,
                           num_hidden_layers=256).items():
        change(folder / "config.json", name, to=most)
    assert "[344, 32] instead of [16777216, 65536]" in refusal(load_vita_folder, folder, seconds=60)


@pytest.mark.parametrize("name, file, changes, words", [
    ("shipped", "config.json", dict(num_key_value_heads=3), "num_attention_heads = 4: must be a multiple of num_key_value_heads = 3"),
    ("shipped", "config.json", dict(head_dim=63), "heads of 63: must have an even width"),
    ("shipped", "config.json", dict(rope_parameters=dict(rope_type="llama3", rope_theta=1e4, factor=2, low_freq_factor=1, high_freq_factor=1,
                                                         original_max_position_embeddings=64)), "must be below high_freq_factor"),
    ("shipped", "config.json", dict(audio_delay_token_id=1), "audio_delay_token_id must be 284, got 1"),
    ("shipped/codec", "config.json", dict(hop=241), "window = 960: must be even, and hop = 241 plus an even number"),
    ("shipped/codec", "config.json", dict(hop=962), "window = 960: must be even"),
    ("higgs/codec", "config.json", dict(downsample_factor=160), "as HuBERT hears it"),
    ("higgs/codec", "config.json", dict(target_bandwidths=[0.01]), "target_bandwidths = [0.01]: must make 1 to 64 codebooks"),
    ("higgs/codec", "config.json", dict(kernel_size=4), "kernel_size = 4: must be odd"),
    ("qwen2_mtp", "config.json", dict(num_nextn_predict_layers=12), "num_nextn_predict_layers = 12: must be 0 to 11"),
    ("qwen2_mtp", "config.json", dict(hidden_size=33), "hidden_size = 33: must be a multiple of num_attention_heads = 4"),
    ("qwen2_mtp_sensevoice", "config.json", dict(sensevoice=dict(kernel=4)), "sensevoice: kernel = 4: must be odd")])
def test_numbers_that_cannot_be_together(copy, name, file, changes, words):
    folder = copy(name)
    for field, value in changes.items(): change(folder / file, field, to=value)
    assert words in refusal(LOADERS[name], folder)


@pytest.mark.parametrize("kind", ["a", 7, None, [], ["qwen2_mtp"], {}, {"qwen2_mtp": 1}, True])
@pytest.mark.parametrize("file", ["config.json", "codec/config.json"])
def test_a_model_type_of_any_type(copy, kind, file):
    folder = copy("shipped")
    change(folder / file, "model_type", to=kind)
    assert "model_type must be " in refusal(load, folder)


def test_nothing_but_described_numbers_reaches_transformers(copy):
    "What transformers would do with them: load code, give tuples, keep no cache, ask for a package."
    folder = copy("shipped")
    for name, value in dict(attn_implementation="someone/kernels", _attn_implementation="someone/kernels", auto_map={"AutoModel": "code.Model"},
                            return_dict=False, use_cache=False, quantization_config={"quant_method": "bitsandbytes"}).items():
        change(folder / "config.json", name, to=value)
    config = load_folder(folder).network.config
    assert config._attn_implementation == "sdpa" and config.use_cache and config.return_dict and not hasattr(config, "quantization_config")


# The card

ODD = (-1, 0.5, 3, 1e30, 2**70, True, "a", "x\ny", "\x1b[2J", "x" * 5000, [], [7], ["a"], {}, {"a": 1})
GOOD = dict(name=("a",), version=(-1, 0.5, 3, "a"), license=("a",), languages=(["a"],), chunk_seconds=(3,), vowel_marks=(True,),
            lines=("kept", "joined"), capitals=("kept", "lowered"), emoji=("dropped",), transcripts=("normalised",), numbers=("words",),
            turns=(3,), limits=("a",))


@pytest.mark.parametrize("field", [item.name for item in fields(Card)])
def test_each_value_of_a_card_is_what_it_should_be(tmp_path, field):
    for value in ODD:
        replace(file := tmp_path / "voicelab.json", json.dumps({field: value}))
        if any(type(value) is type(good) and value == good for good in GOOD[field]): assert read_card(tmp_path) == {field: value}
        else: assert refusal(read_card, tmp_path).startswith(f"{file}: {field} = ")


def test_null_in_a_card_is_as_good_as_absent(copy):
    folder = copy("shipped")
    replace(folder / "voicelab.json", json.dumps(dict.fromkeys([item.name for item in fields(Card)]) | {"more": {"of": "it"}}))
    model = load(folder, device="cpu")
    assert model.card == {"more": {"of": "it"}} and (model.info.name, model.info.version) == ("shipped", "not stated")


# What is parsed

def test_a_bomb_of_aliases_is_refused_at_once(copy):
    folder = copy("codec/decoder")
    steps = zip("abcdefghijklmnopq", "bcdefghijklmnopqr")
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]" for old, new in steps)
    assert len(bomb) < 800
    for content in (bomb, "flow: &a {b: *a}", "flow: &a {hift: &b {x: *a, y: *a}, z: *b}", "hift: {<<: *a}"):
        replace(folder / "config.yaml", content)
        assert "aliases are not read" in refusal(load_decoder, folder, seconds=5)


@pytest.mark.parametrize("name, file", [("shipped", "config.json"), ("shipped/codec", "config.json"), ("shipped", "tokenizer.json"),
                                        ("shipped", "voicelab.json"),
                                        ("shipped", "tokenizer_config.json"), ("qwen2_mtp", "generation_config.json"),
                                        ("qwen2_mtp", "config.json"),
                                        ("codec/tokenizer", "config.json"),
                                        ("original", "model.safetensors.index.json")])
def test_json_that_is_no_data(copy, name, file):
    folder = copy(name)
    whole = json.loads((folder / file).read_text())
    for content, words in ((f'{{"a": {"[" * 100_000}', "is nested more than 24 deep"),
                           (f'{{"a": {"[" * 30}{"]" * 30}}}', "is nested more than 24 deep"),
                           (json.dumps(whole)[:-1] + ', "zz": 1, "zz": 2}', "key 'zz' occurs twice"),
                           ('{"a": -Infinity}', "-Infinity is not a finite number"),
                           (f'{{"a": {"9" * 100_000}}}', "is a number of 100000 digits"),
                           ('{"a": "\xff"}'.encode("latin-1"), "can't decode byte"),
                           ('"' + "\\\"" * 400_000, "can't be read"), ("[]", "must hold a JSON object"),
                           ("", "can't be read")):
        replace(folder / file, content)
        message = refusal(load if name in KINDS else LOADERS[name], folder)
        assert message.startswith(f"{folder / file}: ") and words in message


@pytest.mark.parametrize("content, words", [("a: " + "{b: " * 30, "is nested more than 24 deep"), ("- " * 30 + "x", "is nested more than 24 deep"),
                                            ("flow: 1\nflow: 2", "key 'flow' occurs twice"),
                                            ("a: " + "9" * 9000, "can't be used"),
                                            ("x: y\n" * 20_000, "more than the 65536"), ("{? [a]: b}", "can't be used"),
                                            ("\t", "can't be used")])
def test_yaml_that_is_no_data(copy, content, words):
    folder = copy("codec/decoder")
    replace(folder / "config.yaml", content)
    assert words in refusal(load_decoder, folder)


# What is no file

OTHERS = dict(missing=lambda file: None, folder=lambda file: file.mkdir(), pipe=os.mkfifo, loop=lambda file: file.symlink_to(file.name),
              zero=lambda file: file.symlink_to("/dev/zero"), nowhere=lambda file: file.symlink_to("/nowhere"), empty=lambda file: file.touch(),
              large=lambda file: (file.touch(), os.truncate(file, 1 << 42)))
MAY_LACK = ("voicelab.json", "tokenizer_config.json", "generation_config.json", "model.safetensors.index.json")


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", ["shipped/codec", "qwen2_mtp_sensevoice", "codec", "original"])
def test_something_else_in_the_place_of_a_file(copy, name, other):
    folder = copy(name)
    for file in [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".md"]:
        kept = os.readlink(file)
        file.unlink()
        OTHERS[other](file)
        if other == "missing" and file.name in MAY_LACK: LOADERS[name](folder)
        else: assert file.name in refusal(LOADERS[name], folder) or other == "missing"
        if file.is_dir() and not file.is_symlink(): file.rmdir()
        else: file.unlink(missing_ok=True)
        file.symlink_to(kept)


def test_a_hash_reads_files_only(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    whole = checkpoint_sha256(tmp_path)
    (tmp_path / "more").mkdir()
    os.symlink(tmp_path, tmp_path / "more/again")                   # a circle
    assert checkpoint_sha256(tmp_path) == whole
    for other in ("pipe", "zero", "folder", "loop"):
        OTHERS[other](file := tmp_path / "more/x.json")
        assert "x.json" in refusal(checkpoint_sha256, tmp_path)
        (file.rmdir if other == "folder" else file.unlink)()


def test_a_folder_of_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "MOST_FILES", 20)
    for n in range(21): (tmp_path / str(n)).mkdir()
    assert "holds more than 20 files" in refusal(checkpoint_sha256, tmp_path)


def test_an_index_names_files_of_its_folder(copy):
    folder = copy("original")
    for name in ("../model.safetensors", "/etc/passwd", "a/b.safetensors", "config.json", "x\n.safetensors", "", ".safetensors/..", 7, None, []):
        replace(folder / "model.safetensors.index.json", json.dumps(dict(weight_map={"a": name})))
        assert "must hold a weight_map of tensors to names of .safetensors files in its folder" in refusal(load_folder, folder)


# Weights

def header_of(content): return json.dumps(content).encode()


@pytest.mark.parametrize("header, length, words", [
    (b"{}", 1 << 62, "header of 4611686018427387904 bytes"), (b"{}", 1 << 25, "header of 33554432 bytes"),
    (b"{", None, "can't be read ("),
    (b"[" * 10_000, None, "can't be read ("),
    (header_of({"a": dict(dtype="F32", shape=[2**40, 2**40], data_offsets=[0, 8])}), None, "can't be read ("),
    (header_of({"a": dict(dtype="F32", shape=[2], data_offsets=[0, 2**62])}), None, "can't be read ("),
    (header_of({"a": 7}), None, "can't be read ("),
    (header_of({"a\nb": dict(dtype="F32", shape=[2], data_offsets=[0, 8])}), None, "extra a b"),
    (header_of({"n" * 10**6: dict(dtype="F32", shape=[2], data_offsets=[0, 8])}), None, f"extra {'n' * 120}..."),
    (header_of({str(n): dict(dtype="F32", shape=[0], data_offsets=[0, 0]) for n in range(20_001)}
               | {"a": dict(dtype="F32", shape=[2], data_offsets=[0, 8])}), None, "holds 20002 tensors: more than 20000")])
def test_headers_that_lie(copy, header, length, words):
    folder = copy("shipped/codec")
    replace(folder / "model.safetensors", (len(header) if length is None else length).to_bytes(8, "little") + header + bytes(8))
    message = refusal(load_codec, folder)
    assert words in message and str(folder) in message


def test_weights_are_numbers_with_a_fraction(copy):
    folder = copy("shipped/codec")
    state = load_file(folder / "model.safetensors")
    name = "quantizer.codebooks"
    for dtype, said in ((torch.int64, "I64"), (torch.bool, "BOOL"), (torch.float8_e4m3fn, "F8_E4M3"), (torch.complex64, "C64")):
        (folder / "model.safetensors").unlink()
        save_file(state | {name: state[name].to(dtype)}, folder / "model.safetensors")
        assert f"{name} is stored as {said}: must be one of F64, F32, F16, BF16" in refusal(load_codec, folder)


def test_rows_that_are_not_of_one_tensor(tmp_path):
    for shapes in (((2, 3), (2, 4)), ((2, 3), (6,)), ((), ()), ((6,), ())):
        save_file({f"weight{n}": torch.zeros(shape) for n, shape in enumerate(shapes)}, tmp_path / "model.safetensors")
        message = refusal(load_weights, torch.nn.Linear(3, 4, bias=False), tmp_path, lambda name: "weight")
        assert "weight0, weight1 can't be the rows of one tensor" in message


def test_a_layers_number_that_is_none(copy):
    folder = copy("codec/tokenizer")
    state = load_file(folder / "model.safetensors")
    for name in ("model.encoder.layers.x.y", f"model.encoder.layers.{'9' * 5000}.y", "model.encoder.layers.", "layers.-1.y"):
        (folder / "model.safetensors").unlink()
        save_file(state | {name: torch.zeros(1)}, folder / "model.safetensors")
        assert "extra " in refusal(load_whispervq, folder)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_pickles_no_larger_than_their_file(copy, tmp_path):
    folder, file = copy("codec/decoder"), tmp_path / "flow.pt"
    state = load_file(folder / "flow.safetensors")
    (folder / "flow.safetensors").unlink()
    torch.save(state, folder / "flow.pt")
    read = load_decoder(folder)[0].state_dict()
    assert all(torch.equal(tensor, read[name]) for name, tensor in state.items())
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, file)
    assert "all of their numbers stored" in refusal(read_tensors, file)
    for wrong in (torch.zeros(2, device="meta"), torch.zeros(2, dtype=torch.long), torch.zeros(2).to_sparse(), "text", None):
        torch.save({"a": wrong}, file)
        assert "flow.pt: " in refusal(read_tensors, file)
    torch.save({"a": torch.zeros(1 << 22)}, whole := tmp_path / "whole.pt")
    with zipfile.ZipFile(whole) as parts, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in parts.namelist(): packed.writestr(name, parts.read(name))
    assert file.stat().st_size < 1 << 17 and "can't be read as tensors" in refusal(read_tensors, file)


# Tokenizers

SPLIT = dict(type="Split", behavior="Isolated", invert=False)
DOUBLED = dict(type="Replace", pattern=dict(String="a"), content="aa")


def template(token, **more): return dict(type="TemplateProcessing", single=[dict(SpecialToken=dict(id=token, type_id=0))], **more)


@pytest.mark.parametrize("part, content, words", [
    ("normalizer", dict(type="Sequence", normalizers=[DOUBLED] * 30), "must be of type NFC or"),
    ("normalizer", dict(type="Sequence", normalizers=[dict(type="NFC")] * 30), "has 30 steps, more than 16"),
    ("normalizer", 7, "normalizer = 7"),
    ("normalizer", dict(type="Sequence"), "must be of type NFC"),
    ("normalizer", dict(type=["NFC"]), "must be of type NFC"),
    ("pre_tokenizer", SPLIT | dict(pattern=dict(Regex="(a+)+$")), "the pattern must be that of"),
    ("pre_tokenizer", SPLIT, "the pattern must be that of"),
    ("pre_tokenizer", dict(type="ByteLevel", add_prefix_space=1), "can't be used"),
    ("decoder", dict(type="WordPiece"), "must be of type ByteLevel"),
    ("post_processor", template("[X]"), "puts in '[X]', which it does not define"),
    ("post_processor", template([], special_tokens={"a": 1}), "tokenizer.json: can't be used"),
    ("post_processor", dict(type="TemplateProcessing", single=7), "tokenizer.json: can't be used"),
    ("added_tokens", 7, "added_tokens must be a row, got 7"),
    ("added_tokens", [dict(id=2**40, content="x")], "added_tokens must have content and an id"),
    ("added_tokens", [dict(id=1, content="")], "added_tokens must have"), ("model", None, "model must be an object"),
    ("model", dict(type="Unigram"), "type = 'Unigram'"),
    ("model", dict(type="BPE", vocab={"a": 2**30}), "model.vocab must be"),
    ("model", dict(type="BPE", vocab=[]), "model.vocab must be"),
    ("model", dict(type="BPE", vocab={"a": 0}, merges=[["a", "b"]]), "can't be used"),
    ("model", dict(type="BPE", vocab={}, dropout=0.5), "dropout = 0.5"),
    ("model", dict(type="BPE", vocab={"a": 0}, merges=[], continuing_subword_prefix="##"), "continuing_subword_prefix = '##'"),
    ("truncation", dict(direction="Right", max_length=3, strategy="LongestFirst", stride=9), "can't be used"),
    ("padding", 7, "can't be used")])
def test_a_tokenizer_that_would_run_away(copy, part, content, words):
    folder = copy("shipped")
    change(folder / "tokenizer.json", part, to=content)
    message = refusal(load_tokenizer, folder)
    assert message.startswith(f"{folder / 'tokenizer.json'}: ") and words in message


@pytest.mark.parametrize("cut", [r"\p{N}{1,3}", r"\p{N}"])
def test_the_tokenizers_of_the_releases_are_read(copy, cut):
    "Their steps, as Llama 3 and Qwen2.5 have them."
    folder = copy("shipped")
    pattern = (rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{cut}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)
    change(folder / "tokenizer.json", "pre_tokenizer", to=dict(type="Sequence", pretokenizers=[SPLIT | dict(pattern=dict(Regex=pattern)), level]))
    change(folder / "tokenizer.json", "normalizer", to=dict(type="NFC"))
    begin = dict(id="<|begin_of_text|>", ids=[270], tokens=["<|begin_of_text|>"])
    first, second = (dict(Sequence=dict(id=name, type_id=n)) for n, name in enumerate("AB"))
    begun = template(begin["id"], pair=[first, second], special_tokens={begin["id"]: begin})
    begun["single"].append(first)
    change(folder / "tokenizer.json", "post_processor", to=dict(type="Sequence", processors=[level, begun]))
    assert load_tokenizer(folder)("a 123").input_ids[0] == 270


@pytest.mark.parametrize("name, value, words", [
    ("eos_token", 7, "eos_token = 7: must be a token or null"), ("eos_token", dict(content=7), "can't be used"),
    ("added_tokens_decoder", [], "must be a table"),
    ("added_tokens_decoder", {"x": {}}, "can't be used"), ("extra_special_tokens", 7, "must be a table"),
    ("extra_special_tokens", [7], "can't be used"),
    ("model_max_length", -1, "model_max_length = -1: must be"),
    ("padding_side", "up", "padding_side = 'up': must be one of left, right"),
    ("model_input_names", "ids", "model_input_names = 'ids': must be a row"), ("get_vocab_token", "x", None),
    ("clean_up_tokenization_spaces", 1, "must be true or false")])
def test_settings_of_a_tokenizer_that_cannot_be(copy, name, value, words):
    folder = copy("shipped")
    change(folder / "tokenizer_config.json", name, to=value)
    if words: assert words in refusal(load_tokenizer, folder)
    else: load_tokenizer(folder)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_tokenizer_opens_no_file_that_its_settings_name(copy, tmp_path, file):
    folder, pipe = copy("shipped"), tmp_path / "pipe"
    os.mkfifo(pipe)
    names = ("tokenizer_file", "vocab_file", "merges_file", "gguf_file", "special_tokens_map_file", "name_or_path")
    content = dict(fast_tokenizer_files=["tokenizer.1.0.0.json"], auto_map={"AutoTokenizer": "code.Tokenizer"})
    replace(folder / file, json.dumps(content | dict.fromkeys(names, str(pipe))))
    os.symlink(pipe, folder / "tokenizer.1.0.0.json")
    with hostile.within(20): assert load_tokenizer(folder).name_or_path == str(folder)
