"""The repetition penalty of VITA-Audio against transformers', and what a checkpoint's generation_config.json may say."""
import json
import math

import pytest
import torch
from conftest import untouched
from transformers import DynamicCache
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from voicelab.control import ControlError, Sampling
from voicelab.families.vita.checkpoint import load_vita_folder, save_vita, tiny_settings, tiny_vita
from voicelab.families.vita.decode import VITA_SAMPLING, decode_tokens, penalise
from voicelab.families.vita.model import VitaModel
from voicelab.families.vita.prompt import Heard, render_vita, vita_messages
from voicelab.models.checkpoint import CheckpointError
from voicelab.models.glm4voice import tiny_glm4voice

GREEDY = Sampling.preset("greedy")
BAD = (0, -1.05, True, "1.05", math.nan, math.inf, 10.5, [1.05])


@pytest.fixture(scope="module")
def tiny(): return tiny_vita(n_codes=64)


def asked(tiny): return render_vita(vita_messages("clone", text="Hello.", reference=Heard(codes=torch.arange(30)[None])), tiny.tokenizer, tiny.variant)


def ids(tiny, penalty, mode="vanilla", sampling=GREEDY, tokens=40):
    steps = decode_tokens(tiny.network, asked(tiny), tiny.tokens, mode=mode, most_tokens=tokens, most_frames=tokens, sampling=sampling,
                          generator=torch.Generator().manual_seed(0), repetition_penalty=penalty)
    return untouched(lambda: list(steps))


@pytest.mark.parametrize("penalty", (0.5, 1.0, 1.05, 1.3, 10))
@pytest.mark.parametrize("read", ([], [3], [3, 3, 3], [0, 1, 49], list(range(50)), [7] * 20 + [8]))
def test_it_is_that_of_transformers(penalty, read):
    logits = torch.randn(50, generator=torch.Generator().manual_seed(len(read))) * 5
    logits[-1], logits[8] = -math.inf, 0.0
    before, read = logits.clone(), torch.tensor(read, dtype=torch.long)
    want = RepetitionPenaltyLogitsProcessor(float(penalty))(read[None], logits[None].clone())[0]
    assert torch.equal(penalise(logits, read, penalty), want) and torch.equal(logits, before)


@torch.inference_mode()
def test_a_greedy_answer_is_that_of_transformers_processor(tiny):
    prompt, processor = asked(tiny), RepetitionPenaltyLogitsProcessor(1.3)
    said = prompt.ids[None]
    for _ in range(40):
        logits = tiny.network.logits(tiny.network.main(tiny.network.embed(said), DynamicCache(), 0)[:, -1])
        logits[:, tiny.tokens.last_code + 1:] = -math.inf
        said = torch.cat([said, processor(said, logits).argmax(-1, keepdim=True)], 1)
        if int(said[0, -1]) in tiny.tokens.stops: break
    made = [token.id for token in ids(tiny, 1.3)]
    assert made == said[0, len(prompt.ids):].tolist() and made != [token.id for token in ids(tiny, 1.0)]


@pytest.mark.parametrize("mode", ("vanilla", "boost"))
def test_the_prompt_counts_and_the_trace_is_the_models_own(tiny, mode):
    plain, held = ids(tiny, 1.0, mode), ids(tiny, 10, mode)
    assert not {token.id for token in held} & set(asked(tiny).ids.tolist()) and len({token.id for token in held}) == len(held)
    assert plain[0].entropy_bits == held[0].entropy_bits and plain[0].eos_probability == held[0].eos_probability
    assert [token.id for token in ids(tiny, 1, mode, VITA_SAMPLING)] == [token.id for token in ids(tiny, 1.0, mode, VITA_SAMPLING)]


@pytest.mark.parametrize("penalty", BAD)
def test_penalties_that_are_none(tiny, penalty):
    model = VitaModel(tiny, tiny_glm4voice())
    with pytest.raises(ControlError, match="repetition_penalty: must be a number above 0 and at most 10, 1 for none, got"):
        model.session("tts", text="Hello.", repetition_penalty=penalty)
    with pytest.raises(ControlError, match="repetition_penalty"): ids(tiny, penalty)


def stated(folder, tiny, content, prediction_heads=10):
    save_vita(folder, tiny, tiny_settings("qwen2_mtp", tiny.tokenizer, prediction_heads), {})
    (folder / "generation_config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return load_vita_folder(folder)


def test_a_checkpoint_may_state_it_and_a_call_may_differ(tiny, tmp_path):
    model = VitaModel(stated(tmp_path, tiny, dict(repetition_penalty=1.05, temperature=0.7)), tiny_glm4voice())
    asked = dict(text="Hello.", seed=1, budget=30, option_steps=1)
    by_default, same, off = (model.respond("tts", **asked, **more) for more in ({}, dict(repetition_penalty=1.05), dict(repetition_penalty=1)))
    assert (by_default.repetition_penalty, off.repetition_penalty) == (1.05, 1) and by_default.trace.id.equals(same.trace.id)
    assert off.trace.id.equals(VitaModel(tiny, model.voice).respond("tts", **asked).trace.id)


@pytest.mark.parametrize("content, mode, penalty", [
    ({}, (1, 10), 1.0), (dict(mtp_inference_mode=[1, 4, 3, 8, 4, 10]), (1, 4, 3, 8, 4, 10), 1.0),
    (dict(mtp_inference_mode="boost"), "boost", 1.0), (dict(repetition_penalty=None), (1, 10), 1.0), (dict(repetition_penalty=1.2), (1, 10), 1.2)])
def test_what_a_checkpoint_states(tiny, tmp_path, content, mode, penalty):
    parts = stated(tmp_path, tiny, content)
    assert (parts.mode, parts.repetition_penalty) == (mode, penalty)
    assert VitaModel(parts, tiny_glm4voice()).respond("tts", text="Hi.", mode=parts.mode, budget=5, option_steps=1).mode == mode


def test_what_is_saved_is_read_again(tiny, tmp_path):
    save_vita(tmp_path, tiny, tiny_settings("qwen2_mtp", tiny.tokenizer, 10), {})
    assert load_vita_folder(tmp_path).mode == tiny.mode == "boost"


@pytest.mark.parametrize("content, message", [
    *((json.dumps(dict(repetition_penalty=value)), "repetition_penalty.*: must be a number") for value in (0, -1, "1.05", True)),
    (dict(mtp_inference_mode=[1]), "turns must be pairs"), (dict(mtp_inference_mode="fast"), "mode: must be one of"), ("[1, 2]", ""), ("{", "")])
def test_statements_that_are_none(tiny, tmp_path, content, message):
    with pytest.raises(CheckpointError, match=rf"generation_config.json.*{message}"): stated(tmp_path, tiny, content)
