"""VITA-Audio's network, ear and prompts against the published code's numbers and strings, and what must be refused."""
import re

import pytest
import torch
from transformers import DynamicCache
from vectors import full_size_names, read_about, read_case

from voicelab.families.vita.checkpoint import build_vita_tokenizer
from voicelab.families.vita.decode import MODES, Cascade
from voicelab.families.vita.network import VitaConfig, VitaNetwork, vita_config
from voicelab.families.vita.prompt import (
    CONTIGUOUS,
    DISCRETE,
    VARIANTS,
    Heard,
    VitaPrompt,
    applies,
    render_vita,
    vita_messages,
)
from voicelab.families.vita.sensevoice import SenseVoiceConfig, positions

def golden(name):
    "Configuration, state dict and tensors of a case."
    tensors, about = read_case(name)
    state = {key.removeprefix("state_dict."): value for key, value in tensors.items() if key.startswith("state_dict.")}
    return about, state, tensors


def strings(): return read_about("vita_prompts")


def bare_prompt(ids, heard=(), places=()):
    "A prompt of ids alone."
    return VitaPrompt("", ids, torch.zeros(1, 0).long(), torch.zeros(len(ids), dtype=torch.bool), None, "", [], 0, None, list(heard), list(places))


def greedy(network, prompt, mode, steps):
    "Ids and logits of a greedy answer, nothing masked."
    cascade = Cascade(network, prompt, network.config.prediction_heads if any(mode[1::2]) else 0)
    plan, logits = list("".join("M" * m + "m" * h for m, h in unrolled(mode, steps)))[:steps], []
    for turn in plan:
        logits.append(cascade.logits(turn == "M")[0])
        cascade.append(logits[-1].argmax()[None, None])
    return cascade.ids, torch.stack(logits)


def unrolled(mode, steps):
    pairs = list(zip(mode[::2], mode[1::2]))
    return pairs + [pairs[-1]] * steps


@pytest.fixture(scope="module")
def mtp():
    config, state, tensors = golden("vita_mtp")
    network = VitaNetwork(vita_config(config["config"] | {"model_type": "qwen2_mtp"})).eval()
    network.load_state_dict(state, strict=True)
    return network, tensors


@pytest.mark.parity
@torch.inference_mode()
def test_main_model(mtp):
    network, want = mtp
    hidden = network.main(network.embed(want["input_ids"]), DynamicCache(), 0)
    torch.testing.assert_close(hidden, want["main_hidden"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(network.logits(hidden), want["main_logits"], atol=1e-3, rtol=1e-4)


@pytest.mark.parity
@torch.inference_mode()
def test_every_head(mtp):
    network, want = mtp
    ids, cache = want["cascade_ids"], DynamicCache()
    hidden = network.main(network.embed(ids), cache, 0)
    for number in range(network.config.prediction_heads):
        hidden = network.head(number, ids[:, number + 1:], hidden[:, :ids.shape[1] - number - 1], cache, number + 1)
        torch.testing.assert_close(network.logits(hidden), want[f"cascade_logits.{number}"], atol=1e-3, rtol=1e-4)


@pytest.mark.parity
@pytest.mark.parametrize("mode", MODES)
def test_modes(mtp, mode):
    network, want = mtp
    logits = want[f"gen_{mode}_logits"]
    ids, made = greedy(network, bare_prompt(want["input_ids"][0]), MODES[mode], len(logits))
    assert torch.equal(ids, want[f"gen_{mode}_seq"])
    torch.testing.assert_close(made, logits, atol=1e-3, rtol=1e-4)


def plus_network(position_dtype=torch.float32):
    config, state, want = golden("vita_sensevoice")
    ear, root = config["enc_config"], "model.audio_model.model."
    sense = SenseVoiceConfig(ear["output_size"], ear["attention_heads"], ear["linear_units"], ear["num_blocks"], ear["tp_blocks"],
                             ear["kernel_size"], len(state[f"{root}embed.weight"]), len(state[f"{root}ctc.ctc_lo.bias"]), position_dtype)
    made = vita_config(config["config"] | {"model_type": "qwen2_mtp"})
    network = VitaNetwork(VitaConfig(made.qwen, made.prediction_heads, sense)).eval()
    network.load_state_dict(state, strict=True)
    return network, want


@pytest.mark.parity
@torch.inference_mode()
def test_encoder_and_projector():
    network, want = plus_network()
    for number, length in enumerate(want["enc_len"].tolist()):
        features = want[f"audios.{number}"]
        assert length == len(features) + 4
        heard = network.model.audio_model["model"](features)
        torch.testing.assert_close(heard, want["enc_out"][number, :length], atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(network.listen(features), want["proj"][number, :length], rtol=1e-4,
                                   atol=1e-3 * float(want["proj"].std()))


@pytest.mark.parity
def test_positions_in_bfloat16():
    _, _, want = golden("vita_sensevoice")
    made = want["pe_bf16"][0]
    assert torch.equal(positions(*made.shape), made)
    assert positions(*made.shape, torch.float32).dtype == torch.float32


@pytest.mark.parity
@pytest.mark.parametrize("name, mode", [("vanilla", (8192, 0)), ("mtp3", (1, 3))])
def test_plus_path(name, mode):
    network, want = plus_network()
    places = [(int(want[f"audio_indices.{n}"][1, 0, 0]), want[f"audio_indices.{n}"].shape[2]) for n in (0, 1)]
    heard = [Heard(codes=torch.zeros(1, 1).long(), features=want[f"audios.{n}"]) for n in (0, 1)]
    ids, logits = greedy(network, bare_prompt(want["input_ids"][0], heard, places), mode, len(want[f"gen_{name}_logits"]))
    assert torch.equal(ids, want[f"gen_{name}_seq"])
    torch.testing.assert_close(logits, want[f"gen_{name}_logits"], atol=1e-3, rtol=1e-4)


@pytest.mark.parity
@pytest.mark.parametrize("title, kind, layers, prediction_heads", [
    ("Boost/Balance (qwen2_mtp)", "qwen2_mtp", 38, 10), ("Plus-Vanilla (qwen2_mtp_sensevoice)", "qwen2_mtp_sensevoice", 28, 0),
    ("Plus-Boost (qwen2_mtp_sensevoice)", "qwen2_mtp_sensevoice", 38, 10)])
def test_full_size_names(title, kind, layers, prediction_heads):
    wanted = {name: tuple(map(int, re.findall(r"\d+", shape))) for variant, name, shape in full_size_names("vita_lm_keys") if variant == title}
    config = vita_config(dict(model_type=kind, vocab_size=168_072, hidden_size=3584, intermediate_size=18_944, num_hidden_layers=layers,
                              num_attention_heads=28, num_key_value_heads=4, max_position_embeddings=8192, rms_norm_eps=1e-6,
                              rope_theta=1e6, num_nextn_predict_layers=prediction_heads))
    with torch.device("meta"): state = VitaNetwork(config).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == wanted


@pytest.fixture(scope="module")
def tokenizers(): return {name: build_vita_tokenizer(variant, 64) for name, variant in VARIANTS.items()}


CODES = torch.tensor([[3, 14]])
REFERENCE = Heard(codes=CODES, features=torch.zeros(7, 560), name="reference")
QUESTION = Heard(codes=CODES, features=torch.zeros(5, 560), name="input audio")
GOLDEN_TASKS = {
    "sts_luke": (CONTIGUOUS, "speech_to_speech", dict(audio=QUESTION)),
    "spoken_qa_omni": (CONTIGUOUS, "spoken_qa", dict(audio=QUESTION)),
    "asr": (CONTIGUOUS, "asr", dict(audio=QUESTION)),
    "tts": (DISCRETE, "tts", dict(text="Hello.")),
    "clone_tts_your_voice discrete": (DISCRETE, "clone", dict(text="Hello.", reference=REFERENCE)),
    "clone_tts_your_voice contiguous": (CONTIGUOUS, "clone", dict(text="Hello.", reference=REFERENCE)),
    "clone_tts_seedtts_eval": (DISCRETE, "clone", dict(text="Hello.", reference=REFERENCE, form="speaker_metadata")),
    "clone_sts contiguous": (CONTIGUOUS, "speech_to_speech", dict(audio=QUESTION, reference=REFERENCE)),
    "text": (DISCRETE, "text", dict(text="Hello.")),
}


@pytest.mark.parametrize("variant", [DISCRETE, CONTIGUOUS])
def test_each_turn_is_shown_on_a_line_of_its_own(variant, tokenizers):
    made = render_vita(vita_messages("clone", text="Hello.", reference=REFERENCE), tokenizers[variant.model_type], variant)
    lines = made._repr_html_().split("<br>")
    assert len(lines) == 3 and all(f"|&gt;{role}" in line.partition("</bdi>")[0] for role, line in zip(("user", "assistant"), lines[1:]))


@pytest.mark.parity
@pytest.mark.parametrize("start", GOLDEN_TASKS)
def test_prompt_strings(start, tokenizers):
    wanted = [text for name, text in strings()["prompts"].items() if name == start or name.startswith((f"{start} ", f"{start},"))]
    variant, task, given = GOLDEN_TASKS[start]
    made = render_vita(vita_messages(task, **given), tokenizers[variant.model_type], variant)
    assert wanted == [made.text]


@pytest.mark.parity
def test_every_golden_prompt_is_known():
    left = [name for name in strings()["prompts"] if not any(name == s or name.startswith((f"{s} ", f"{s},")) for s in GOLDEN_TASKS)]
    assert not left


@pytest.mark.parity
def test_truth_table():
    classes = dict(GLM4VoiceTokenizer="glm4voice", CosyVoice2Tokenizer="cosyvoice2", SNACTokenizer="snac24khz",
                   SenseVoiceSparkTTSTokenizer="sensevoice_sparktts", SenseVoiceGLM4VoiceTokenizer="sensevoice_glm4voice")
    for name, roles in strings()["apply_to_role[discrete, contiguous, default]"].items():
        for role in [key for key in roles if not key.endswith("_args")]:
            assert list(applies(classes[name], role)) == roles[role], (name, role)


@pytest.mark.parity
@pytest.mark.parametrize("variant, key", [(DISCRETE, "ids_boost"), (CONTIGUOUS, "ids_plus")])
def test_ids_by_name(variant, key):
    wanted = strings()[key]
    first = min(wanted.values())
    assert {name: first + n for n, name in enumerate([*variant.added_tokens, "<|audio_0|>"])} == wanted
