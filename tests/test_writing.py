"""The text head: loaded on request, three modes of a turn, equal to the original's loop and to transformers' forward."""
import json
import math
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import EDGE, GREEDY, ToneCodec
from test_original import back_to_original, original, write_shards  # noqa: F401
from transformers import HiggsAudioV2ForConditionalGeneration
from vectors import SHIPPED, read_about

import voicelab as vl
from voicelab.audio import Audio
from voicelab.budget import Budget, BudgetError, columns_for_frames
from voicelab.chat import AudioContent, FormError, Message, Prompt
from voicelab.codec import delay
from voicelab.control import Control
from voicelab.families.higgs.cache import PrefixStore
from voicelab.families.higgs.checkpoint import HiggsParts, load_folder
from voicelab.families.higgs.model import HiggsModel
from voicelab.families.higgs.original import rename_original
from voicelab.families.higgs.prompt import render
from voicelab.families.higgs.tiny import build_config, save_checkpoint
from voicelab.families.higgs.writing import MARKS, PLACES, Reply, WritingEngine, turn_budget
from voicelab.family import FAMILIES
from voicelab.generation import Chunk, EngineError, ModelInfo
from voicelab.models.description import CheckpointError
from voicelab.models.tinycodec import TinyCodecConfig, TinyCodecNet
from voicelab.runs import Run
from voicelab.session import Session

INFO = ModelInfo("writer", "higgs-audio-v2", "1", "0" * 64, "tones", "Apache-2.0")
ASKED = [{"role": "user", "content": "Say it, and write it."}]
OPEN, CLOSE, END = "<|audio_out_bos|>", "<|audio_eos|>", "<|eot_id|>"


@pytest.fixture(scope="module")
def network(tiny_tokenizer):
    "A random network with both heads."
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = build_config(tiny_tokenizer, hidden_size=64, layers=2, heads=4, intermediate_size=128)
        network = HiggsAudioV2ForConditionalGeneration(config, use_text_head=True).eval()
        for tensor in network.parameters():
            if tensor.ndim > 1: tensor.data.mul_(4)
        return network


@pytest.fixture
def writer(network, tiny_tokenizer): return HiggsModel(HiggsParts(network, tiny_tokenizer, ToneCodec(), INFO, {}), "writer")


@contextmanager
def told(writer, said, frames=4):
    "Within it the network writes `said`, texts and special tokens, and each sound that it opens has `frames` frames."
    tokenizer = writer.tokenizer
    ids = [id for part in said for id in ([tokenizer.convert_tokens_to_ids(part)] if part.startswith("<|") else tokenizer(part).input_ids)]
    left, state = iter(ids), dict(column=-1)
    def text(module, inputs, output):
        id = next(left)
        output[..., id] += EDGE
        state["column"] = -1 if id == tokenizer.convert_tokens_to_ids(OPEN) else -10**6
    def sound(module, inputs, output):
        state["column"] += 1
        logits = output.view(8, 1026)
        logits[:, 1025] = -math.inf
        if state["column"] == frames + 1: logits[0, 1025] = EDGE
    handles = [writer.network.text_lm_head.register_forward_hook(text), writer.network.audio_lm_head.register_forward_hook(sound)]
    try: yield
    finally:
        for handle in handles: handle.remove()


def budget(frames): return Budget("fixed", 1.0, frames, columns_for_frames(frames), None, "", "as asked")


def kinds(made): return [kind for kind, before in zip(made.trace.kind, [None, *made.trace.kind]) if kind != before]


# Loading

@pytest.fixture(scope="module")
def folder(network, tiny_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads") / "model"
    with torch.random.fork_rng():
        save_checkpoint(folder, network, tiny_tokenizer, TinyCodecNet(TinyCodecConfig(channels=32, vocoder_channels=48, code_dim=8)), {})
    return folder


def test_the_head_is_loaded_if_it_is_asked_for_and_no_sooner(folder, network):
    assert vl.load(folder).network.text_lm_head is None
    assert "text_lm_head.weight" not in vl.load(folder, text_head=False).network.state_dict()
    loaded = vl.load(folder, text_head=True)
    assert torch.equal(loaded.network.text_lm_head.weight, network.text_lm_head.weight.half().float())
    assert loaded.info == vl.load(folder).info
    assert loaded.generate(ASKED, mode="text", text_tokens=3, sampling="greedy").mode == "text"
    with pytest.raises(EngineError, match="mode: 'free' needs a text head, and 'model' was loaded without one; .*text_head=True"):
        vl.load(folder).generate(ASKED, mode="free")


@pytest.mark.parametrize("halves", (False, True))
def test_the_originals_head_is_loaded_too(original, network, halves):  # noqa: F811
    for file in original.glob("*.safetensors*"): file.unlink()
    state = back_to_original({name: tensor for name, tensor in network.state_dict().items() if name != "text_lm_head.weight"})
    head, name = network.text_lm_head.weight.detach(), "audio_decoder_proj.text_lm_head"
    parts = {"linear_frozen.weight": head[:9].clone(), "linear_trainable.weight": head[9:].clone()} if halves else {"weight": head}
    write_shards(original, state | {f"{name}.{part}": tensor for part, tensor in parts.items()})
    assert load_folder(original).network.text_lm_head is None
    assert torch.equal(load_folder(original, text_head=True).network.text_lm_head.weight, head)


def test_a_checkpoint_without_a_head_and_a_family_without_the_option(tmp_path):
    with pytest.raises(CheckpointError, match=r"^text_head: .*tiny has none \(no tensor text_lm_head.weight\)$"): vl.load("tiny", text_head=True)
    with pytest.raises(vl.VoicelabError, match="^text_head: must be True or False, got 1$"): vl.load("tiny", text_head=1)
    with pytest.raises(vl.VoicelabError, match="^text_hed: no such option; did you mean text_head[?]; load takes codec, dtype, device, text_head, graph$"):
        vl.load("tiny", text_hed=True)
    (tmp_path / "config.json").write_text(json.dumps(dict(model_type=FAMILIES["vita-audio"].model_types[0])))
    with pytest.raises(vl.VoicelabError, match="^text_head: no such option; load takes codec, dtype, device$"): vl.load(tmp_path, text_head=True)


# The original's loop

GOLDEN = read_about("higgs_writing", SHIPPED)


def parity_writer(scaled):
    "The parity network, some rows of its heads scaled, with its prompt: a shown answer, and a turn that is not begun."
    from test_engine import original as fixture
    from test_engine import original_prompt
    made = fixture.__wrapped__()
    state = made.network.state_dict()
    for name, row, by in scaled: state[rename_original(name)][row] *= by
    forced = original_prompt(made, "assistant_ref")
    assert forced.ids[-1] == made.ids[OPEN]
    return made.network, replace(forced, ids=forced.ids[:-1], audio_mask=forced.audio_mask[:-1])


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"].replace(" ", "-"))
def test_a_turn_equals_the_originals(case):
    from transformers import PreTrainedTokenizerFast
    network, prompt = parity_writer(case["scaled"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(SHIPPED / "higgs_tokenizer.json"))
    engine = WritingEngine(network, ToneCodec(), INFO, PrefixStore(), tokenizer, "free")
    most = turn_budget("free", budget(400), 300)
    made = Session(engine, [Chunk("", prompt, most, [])], text="", reference=None, sampling=replace(GREEDY, seed=0),
                   control=Control(repetition_frames=10**4, silence_frames=10**4)).run()
    opens, ends = (tokenizer.convert_tokens_to_ids(name) for name in (OPEN, END))
    wanted = [id for id in case["tokens"] if id != tokenizer.convert_tokens_to_ids(CLOSE)]      # which the loop writes itself
    ids = made.trace.id.dropna().astype(int).tolist()
    assert ids[:len(wanted)] == wanted and len(wanted) > 10
    if wanted[-1] == ends: assert (made.stop_reason, len(ids)) == ("eos", len(wanted))
    columns = made.chunks[0].columns[:, torch.tensor((made.trace.kind == "sound").tolist())].split((made.trace.sound.value_counts(sort=False)).tolist(), 1)
    assert wanted.count(opens) == len(case["sounds"])
    for mine, theirs in zip(columns, case["sounds"]):
        theirs = torch.tensor(theirs)
        assert torch.equal(mine[:, :theirs.shape[1]], theirs)


# transformers' forward

@pytest.mark.parametrize("frames", (0, 17))
@pytest.mark.parametrize("seed", (0, 1))
def test_text_equals_transformers_forward(writer, frames, seed):
    "Text only, greedy; the whole sequence is read anew for each token."
    network, codes = writer.network, torch.randint(0, 1024, (8, frames), generator=torch.Generator().manual_seed(seed))
    chat = [Message("user", ["Heard: ", AudioContent(codes=codes)]), Message("user", f"Write {seed}.")]
    made = writer.generate(chat, mode="text", text_tokens=25, sampling="greedy")
    prompt, closed = made.prompt, [writer.tokenizer.convert_tokens_to_ids(name) for name in (*PLACES, *MARKS)]
    ids, audio = prompt.network_ids.tolist(), prompt.audio_columns.T[None]
    for id in made.trace.id:
        with torch.inference_mode():
            heard = dict(audio_input_ids=audio, audio_input_ids_mask=torch.ones(audio.shape[:2], dtype=torch.bool))
            hidden = network.model(input_ids=torch.tensor([ids]), **heard).last_hidden_state
            logits = network.text_lm_head(hidden[0, -1])
            logits[closed] = -math.inf
        assert int(logits.argmax()) == id
        ids.append(id)
    assert len(made.trace) == 25 or made.stop_reason == "eos"


def test_a_sound_in_a_free_turn_equals_the_forced_one(writer):
    "The model opens it at once: the positions and the numbers are those of a prompt that opens it."
    forced = writer.generate(ASKED, budget=budget(12), sampling="greedy", seed=0)
    first = writer.tokenizer.convert_tokens_to_ids(OPEN)
    def only_first(module, inputs, output): output[..., first] += EDGE
    handle = writer.network.text_lm_head.register_forward_hook(only_first)
    try: free = writer.generate(ASKED, mode="free", budget=budget(12), sampling="greedy", seed=0)
    finally: handle.remove()
    assert torch.equal(free.codes, forced.codes) and free.codes.shape[1] and kinds(free)[:2] == ["begin", "sound"]


# Turns

def test_text_and_sounds_in_turns(writer, reference, tmp_path):
    with told(writer, ["One: ", OPEN, "two: ", OPEN, "end.", END]):
        made = writer.generate(ASKED, mode="free", budget=budget(40), sampling="greedy", seed=0, reference=reference)
    assert isinstance(made, Reply) and made.stop_reason == "eos" and made.written == "One: two: end." and made.mode == "free"
    assert kinds(made) == ["text", "begin", "sound", "text", "begin", "sound", "text", "end"]
    assert made.codes.shape == (8, 8) and made.audio.seconds == pytest.approx(8 / 25)
    parts = made.parts
    assert parts.kind.tolist() == ["text", "sound", "text", "sound", "text"] and parts.text.tolist() == ["One:", "", "two:", "", "end."]
    assert parts.seconds.dropna().tolist() == pytest.approx([4 / 25] * 2) and parts.begin.dropna().tolist() == pytest.approx([0, 4 / 25])
    assert made.trace.frame[made.trace.frame >= 0].tolist() == list(range(8)) and (made.trace.sound.dropna() == ([0] * 13 + [1] * 13)).all()
    assert made.trace.step.tolist() == list(range(len(made.trace))) and "".join(made.trace.piece[made.trace.kind == "text"]) == "One: two: end."
    sounds = made.chunks[0].columns[:, torch.tensor((made.trace.kind == "sound").tolist())]
    assert torch.equal(sounds[:, :13], delay(made.codes[:, :4])) and torch.equal(sounds[:, 13:], delay(made.codes[:, 4:]))
    assert "The model wrote: <em>One: two: end.</em>" in made._repr_html_() and repr(made).startswith("Reply(free, 'One: two: end.', 0.32 s")
    Run(tmp_path).save(made)
    (row,) = Run(tmp_path).rows
    assert row["status"] == "ok" and row["generated"]


def test_a_stream_is_the_same_turn(writer):
    said = ["One: ", OPEN, "two: ", OPEN, "end.", END]
    options = dict(mode="free", budget=budget(200), seed=0)
    with told(writer, said, frames=40): made = writer.generate(ASKED, **options)
    with told(writer, said, frames=40):
        session, seen = writer.chat_session(ASKED, **options), []
        pieces = [(seen.append(session.text_so_far), piece)[1] for piece in session]
    assert torch.equal(session.generation.codes, made.codes) and made.codes.shape[1] == 80
    assert np.allclose(Audio.join(pieces).samples, made.audio.samples, atol=1e-6)
    assert len(pieces) > 2 and seen[0] == "One:" and seen[-1].startswith("One: two:")


def test_seeds_repeat_a_turn_and_differ(writer):
    def drawn(seed): return writer.generate(ASKED, mode="free", text_tokens=30, budget=budget(20), sampling=vl.Sampling(temperature=2.0), seed=seed)
    one, again, other = drawn(1), drawn(1), drawn(2)
    assert one.trace.id.fillna(-1).tolist() == again.trace.id.fillna(-1).tolist() != other.trace.id.fillna(-1).tolist()
    assert torch.equal(one.codes, again.codes) and one.sampling.seed == 1


@pytest.mark.parametrize("seed", range(3))
def test_text_has_no_sound_and_no_place_for_one(writer, tmp_path, seed):
    made = writer.generate(ASKED, mode="text", text_tokens=200, sampling=vl.Sampling(temperature=5.0, top_k=None, top_p=None), seed=seed)
    never = {writer.tokenizer.convert_tokens_to_ids(name) for name in (*PLACES, *MARKS)}
    assert not never & {*made.trace.id} and made.codes.shape == (8, 0) and not made.audio.seconds and set(made.trace.kind) <= {"text", "end"}
    assert len({*made.trace.id}) > 60 and made.trace.entropy.between(0, 9).all() and made.budget.cap_seconds == 0
    assert str(made.budget) == "fixed: at most 200 tokens of text" and "Stopped" in made._repr_html_()
    Run(tmp_path).save(made)
    assert Run(tmp_path).rows[0]["status"] == "ok"


# Ends

def test_tokens_and_frames_have_their_own_limit(writer):
    with told(writer, ["a" * 50]): made = writer.generate(ASKED, mode="free", text_tokens=20, seed=0)
    assert (made.stop_reason, len(made.trace)) == ("budget", 20)
    with told(writer, ["One: ", OPEN, "two: ", OPEN, "never"], frames=30): made = writer.generate(ASKED, mode="free", budget=budget(45), seed=0)
    assert made.stop_reason == "budget" and made.codes.shape[1] == 30 + 45 - 30 - 9 and kinds(made)[-1] == "sound"       # a second staircase
    with told(writer, [OPEN, OPEN, "never"], frames=40): made = writer.generate(ASKED, mode="free", budget=budget(45), seed=0)
    assert (made.stop_reason, made.codes.shape[1], kinds(made)) == ("budget", 40, ["begin", "sound", "begin"])


def test_rules_and_people_end_a_turn(writer):
    said = ["One: ", OPEN, "never"]
    with told(writer, said, frames=300):
        made = writer.generate(ASKED, mode="free", budget=budget(400), control=Control(silence_frames=12, silence_floor_dbfs=0.0), seed=0)
    assert made.stop_reason == "silence" and 12 <= made.codes.shape[1] < 100 and kinds(made)[-1] == "sound"
    with told(writer, ["a" * 500]): made = writer.generate(ASKED, mode="text", control=Control(timeout_seconds=0), seed=0)
    assert made.stop_reason == "timeout" and len(made.trace) == 1
    session, pieces = writer.chat_session(ASKED, mode="free", budget=budget(400), seed=0), []
    with told(writer, said, frames=300):
        for piece in session: pieces.append(piece); session.stop()
    assert session.generation.stop_reason == "interrupted" and session.generation.written == "One:" and len(pieces) <= 2


def test_broken_weights_are_named(writer):
    def broken(module, inputs, output): output.fill_(math.nan)
    handle = writer.network.text_lm_head.register_forward_hook(broken)
    with pytest.raises(EngineError, match="text logits are not numbers at token 0"):
        try: writer.generate(ASKED, mode="text")
        finally: handle.remove()


@pytest.mark.parametrize("options, error, message", [
    (dict(mode="song"), FormError, "mode: must be one of sound, free, text, got 'song'"),
    (dict(mode="sound", text_tokens=5), BudgetError, "text_tokens: mode 'sound' writes nothing, got 5"),
    (dict(mode="text", budget="fixed"), BudgetError, "budget: mode 'text' makes no sound, text_tokens is its limit; got 'fixed'"),
    (dict(mode="free", text_tokens=0), BudgetError, "text_tokens: must be a whole number from 1 to 1000000000, got 0"),
    (dict(mode="free", text_tokens=True), BudgetError, "text_tokens: must be a whole number from 1 to 1000000000, got True"),
    (dict(mode="text", text_tokens=5000), EngineError, "5000 columns exceed the context of 4096")])
def test_what_does_not_fit_is_one_line(writer, options, error, message):
    with pytest.raises(error) as raised: writer.generate(ASKED, **options)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_the_attention_of_a_reply_is_refused(writer):
    from voicelab.families.higgs.attention import higgs_view
    made = writer.generate(ASKED, mode="text", text_tokens=3)
    with pytest.raises(EngineError, match="attention is read where a turn is one sound, got a reply of mode 'text'"): higgs_view(writer, made, 0)


def test_a_prompt_that_is_not_forced_lacks_the_opening_alone(tiny_tokenizer):
    chat = [Message("user", "Hello.")]
    forced, free = (render(chat, tiny_tokenizer, forced=forced) for forced in (True, False))
    assert forced.text == free.text + OPEN and forced.ids[:-1].tolist() == free.ids.tolist() and isinstance(free, Prompt)
