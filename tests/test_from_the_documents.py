"""Every name of the two design documents leads somewhere, and functions with their names do what the documents' code does, but for its mistakes."""
import ast
import importlib
import inspect
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from conftest import random_codes

from voicelab.audio import Audio, load_audio, read_info
from voicelab.cli import main
from voicelab.elsewhere import save_reference_and_generated_audio
from voicelab.errors import VoicelabError
from voicelab.families.higgs.dataset import (
    create_optimized_dataset_sample,
    process_reference_audio_dual_pathway,
    whisper_features_extractor,
)
from voicelab.families.higgs.prompt import clone_messages, form_of, render
from voicelab.families.higgs.tiny import build_tokenizer
from voicelab.manifest import is_row
from voicelab.reference import Reference
from voicelab.runs import Run

LESSON = "nbs/lessons/10_from_the_documents.ipynb"
IN_THE_DESIGN = """calculate_max_audio_tokens AudioGenerationController should_terminate _is_silence_pattern silence_counter
create_higgs_audio_v2_messages process_reference_audio_dual_pathway load_and_process_reference_audio encode_reference_audio_tokens
create_optimized_dataset_sample ChatMLDatasetSample save_reference_and_generated_audio Message AudioContent audio_url target_text
ref_text ref_audio_path whisper_processor audio_tokenizer audio_eos_token_id encode_whisper_embed input_tokens audio_ids ref_waveform
ref_sample_rate generated_waveform sample_rate output_dir sample_id speaker_id input_ids label_ids audio_ids_concat audio_ids_start
audio_waveforms_concat audio_waveforms_start audio_sample_rate audio_speaker_indices max_new_tokens tokenization
AUDIO_GENERATION_CONFIG adaptive_max_tokens base_tokens_per_second max_silence_tokens duration_buffer_factor min_tokens max_tokens
QUALITY_THRESHOLDS max_duration_ratio max_silence_ratio min_audio_length max_audio_length GENERATION_PARAMS temperature top_k top_p
do_sample use_cache --model_path --audio_tokenizer --max_new_tokens --transcript --scene_prompt --temperature --top_k --top_p
--ras_win_len --ras_win_max_num_repeat --ref_audio --ref_audio_in_system_message --chunk_method --chunk_max_word_num
--chunk_max_num_turns --generation_chunk_buffer_size --seed --device_id --out_path --use_static_kv_cache""".split()
IN_VITA = """web_demo.py web_demo_stream.py web_demo_stream_local.py inference_sts.py S2SInference run_infer add_audio_input_contiguous
apply_to_role is_discrete is_contiguous audio_tokenizer.encode audio_tokenizer.decode source_speech_16k option_steps
generate_audio_stream extract_audio_tokens streamer system_message default_system_message prompt_audio_tokens audio_tokens
audio_indices tts_speech snapshot_download model_path audio_tokenizer_path flow_path audio_tokenizer_rank audio_tokenizer_type
audio_path prompt_audio_path stream_stride max_returned_tokens sample_rate request_id audio_feats message use_past mode do_sample
mtp_inference_mode tokenization <|begin_of_audio|> <|end_of_audio|> SenseVoice CosyVoice TTS_texts record_btn audio_output chatbot
query task_history empty_bin task ASR TTS add_text add_audio predict reset_user_input""".split()


# --- the names --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def tables(root):
    "The rows of both tables of the lesson: name, name here, difference, a line that shows it."
    cells = ["".join(cell["source"]) for cell in json.loads((root / LESSON).read_text("utf-8"))["cells"]]
    found = {}
    for name in ("DESIGN", "VITA"):
        (source,) = (cell for cell in cells if cell.startswith(f"{name} = {{"))
        found[name] = [row for rows in ast.literal_eval(source.split("=", 1)[1].strip()).values() for row in rows]
    return found


@pytest.mark.parametrize("table, names", [("DESIGN", IN_THE_DESIGN), ("VITA", IN_VITA)])
def test_every_name_has_a_row(tables, table, names):
    assert not set(names) - {row[0] for row in tables[table]}


def lookup(path):
    path, _, parameter = path.rstrip(")").partition("(")
    parts = path.split(".")
    depth = next(n for n in range(len(parts), 0, -1) if is_module(".".join(parts[:n])))
    place = importlib.import_module(f"voicelab.{'.'.join(parts[:depth])}")
    for part in parts[depth:]: place = getattr(place, "__dataclass_fields__", {}).get(part) or getattr(place, part)
    if parameter: assert parameter in inspect.signature(place).parameters, path


def is_module(path):
    try: return importlib.import_module(f"voicelab.{path}") is not None
    except ModuleNotFoundError: return False


def test_every_row_leads_to_what_exists_or_says_why_not(tables):
    for row in tables["DESIGN"] + tables["VITA"]:
        name, here, difference, shown = row
        assert difference and shown, name
        if here: [lookup(path) for path in here.split(", ")]
        else: assert difference.startswith("not here: "), name


# --- two pathways -------------------------------------------------------------------------------------------------------

class Levels:
    "A codec that hears a path, as the design has it, or a sound, as ours: the level of every 40 ms, eight times."
    name, sample_rate, frame_rate, n_codebooks, codebook_size = "levels", 24000, 25.0, 8, 1024

    def encode(self, given):
        audio = given if isinstance(given, Audio) else load_audio(given).resample(24000)
        blocks = torch.from_numpy(audio.samples[:len(audio.samples) // 960 * 960]).view(-1, 960)
        return (blocks.abs().mean(1) * 1000).long().clamp(0, 1023).expand(8, -1)


def pathways_of_the_design(path, whisper_processor, audio_tokenizer):
    "Its code, but for the library that reads the file."
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    waveform = torch.from_numpy(samples.T).mean(dim=0, keepdim=True)
    if rate != 16000: waveform = torchaudio.transforms.Resample(rate, 16000)(waveform)
    features = whisper_processor.feature_extractor(waveform.squeeze().numpy(), sampling_rate=16000, return_tensors="pt")
    return features["input_features"], audio_tokenizer.encode(path), 16000


PROCESSOR = SimpleNamespace(feature_extractor=whisper_features_extractor(80))


def wave(tmp_path, rate=16000, channels=1, seconds=1.5, name="voice.wav"):
    times = np.arange(int(seconds * rate)) / rate
    tones = [0.3 * np.sin(2 * np.pi * (180 + 40 * n) * times) * np.sin(4 * times) ** 2 for n in range(channels)]
    soundfile.write(tmp_path / name, np.stack(tones, axis=1), rate)
    return str(tmp_path / name)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [16000, 24000, 44100])
def test_the_pathways_are_those_of_the_design(tmp_path, rate, channels):
    path = wave(tmp_path, rate, channels)
    theirs = pathways_of_the_design(path, PROCESSOR, Levels())
    features, codes, at = process_reference_audio_dual_pathway(path, PROCESSOR, Levels())
    assert torch.equal(codes, theirs[1]) and at == theirs[2] and features.shape == theirs[0].shape
    difference = (features - theirs[0]).abs().mean()
    assert difference < (1e-6 if rate == 16000 else 0.02)               # two filters for the same rate


def test_arguments_go_by_the_names_of_the_design(tmp_path):
    path = wave(tmp_path)
    made = process_reference_audio_dual_pathway(ref_audio_path=path, whisper_processor=PROCESSOR, audio_tokenizer=Levels())
    for same in (Path(path), load_audio(path), Reference(path, consent="mine")):
        other = process_reference_audio_dual_pathway(same, PROCESSOR.feature_extractor, Levels())
        assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(made, other))
    assert next(iter(process_reference_audio_dual_pathway(path, None, Levels()))) is None


@pytest.mark.parametrize("more, line", [((PROCESSOR, None), "audio_tokenizer: must be a codec, got NoneType"),
                                        ((Levels(), PROCESSOR), "whisper_processor: must be a WhisperProcessor.*, got Levels"),
                                        ((None, "dac"), "audio_tokenizer: must be a codec, got str")])
def test_wrong_arguments_are_one_line(tmp_path, more, line):
    with pytest.raises(VoicelabError, match=line) as error: process_reference_audio_dual_pathway(wave(tmp_path), *more)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:.* longer than the limit")
def test_what_the_design_would_cut_without_a_word_is_refused(tmp_path):
    path = wave(tmp_path, seconds=31)
    assert pathways_of_the_design(path, PROCESSOR, Levels())[0].shape == (1, 80, 3000)
    with pytest.raises(VoicelabError, match="at most 30 s, got 31.0 s"):
        process_reference_audio_dual_pathway(load_audio(path, limit_seconds=None), PROCESSOR, Levels())


# --- the sample and the chat --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("lengths", [[31], [5, 7, 2]])
def test_the_sample_is_that_of_the_design_but_for_its_mistakes(lengths):
    clips, waveform = [random_codes(n, seed=n) for n in lengths], torch.linspace(-1, 1, 900)[None]
    made = create_optimized_dataset_sample([5, 6, 7], clips, waveform, 16000, True)
    theirs = dict(input_ids=torch.LongTensor([5, 6, 7]), audio_ids_concat=torch.concat(clips, dim=1),
                  audio_sample_rate=torch.tensor([16000], dtype=torch.float32))
    assert all(torch.equal(getattr(made, name), value) for name, value in theirs.items()) and made.label_ids is None
    one_too_many = torch.cumsum(torch.tensor([0] + [clip.shape[1] for clip in clips]), dim=0)
    assert torch.equal(made.audio_ids_start, one_too_many[:-1])
    assert torch.equal(made.audio_waveforms_concat, waveform[0]) and made.audio_waveforms_start.tolist() == [0] != [0, len(waveform)]


@pytest.mark.parametrize("said, text", [("The library opens.", "Hello there."), ("ذهبنا إلى الحديقة.", "مرحبا بكم.")])
def test_the_chat_of_the_design_is_the_double_reference(said, text):
    messages = clone_messages(text, random_codes(4), said, form="double_reference", system="Generate speech in the provided voice.", scene="")
    turn = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>".format
    wanted = ("<|begin_of_text|>" + turn("system", "Generate speech in the provided voice.")
              + turn("user", f"{said} <|audio_bos|><|AUDIO|><|audio_eos|>") + turn("assistant", "<|audio_out_bos|><|AUDIO_OUT|><|audio_eos|>")
              + turn("user", text) + "<|start_header_id|>assistant<|end_header_id|>\n\n<|audio_out_bos|>")
    assert render(messages, build_tokenizer()).text == wanted and form_of(messages) == "double_reference"


# --- pairs from elsewhere ----------------------------------------------------------------------------------------------

def pair_of_the_design(ref_audio_path, generated_waveform, sample_rate, output_dir, sample_id, speaker_id):
    stem = f"{output_dir}/arabic_generated_{sample_id:03d}_{speaker_id}"
    soundfile.write(f"{stem}.wav", generated_waveform, sample_rate)
    shutil.copy2(ref_audio_path, f"{stem}_ref.wav")
    return {"generated_audio": f"{stem}.wav", "reference_audio": f"{stem}_ref.wav", "sample_rate": sample_rate}


@pytest.fixture
def voice(tmp_path): return Reference(wave(tmp_path), transcript="Words.", consent="mine", name="ann")


NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)


@pytest.mark.filterwarnings("ignore:No consent is stated")
@pytest.mark.parametrize("id, speaker", [(0, "ann"), (7, "speaker_3"), (1234, "x")])
def test_a_pair_is_that_of_the_design(tmp_path, id, speaker):
    path, theirs, ours = wave(tmp_path), tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    wanted = pair_of_the_design(path, NOISE, 16000, str(theirs), id, speaker)
    made = save_reference_and_generated_audio(path, NOISE, 16000, str(ours), id, speaker, language="arabic")
    assert {key: str(value).replace(str(ours), str(theirs)) for key, value in made.items()} == {key: str(value) for key, value in wanted.items()}
    for key in ("generated_audio", "reference_audio"):
        (one, rate), (other, other_rate) = soundfile.read(wanted[key]), soundfile.read(made[key])
        assert rate == other_rate and np.abs(one - other).max() < 1e-4          # 16 bits
    assert Run(ours).rows[0]["notice"]                                          # nobody stated a consent


def test_a_pair_is_a_sample_of_a_run(tmp_path, voice, capsys):
    saved = save_reference_and_generated_audio(voice, NOISE, 16000, tmp_path / "run", 7, "../ann", text="مرحبا", model="another")
    assert Path(saved["generated_audio"]).parent == tmp_path / "run" and "arabic_generated_007_" in saved["generated_audio"]
    (row,), run = Run(tmp_path / "run").rows, Run(tmp_path / "run")
    assert (row["id"], row["text"], row["speaker"], row["consent"], row["transcript"]) == (7, "مرحبا", "../ann", "mine", "Words.")
    assert is_row((tmp_path / "run/manifest.jsonl").read_bytes()) and row["hashes"]["voice"] == voice.sha256 and not run.orphans
    assert run[7].reference.rate == 16000 and "another" in read_info(saved["generated_audio"])["ICMT"] and run[7].generated.synthetic
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) in (None, 0)
    (measured,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert measured["status"] == "ok" and measured["measures"]["length"]["value"] == 0.5


def test_numbers_come_in_any_order_and_none_is_given_twice(tmp_path, voice):
    save = lambda id, speaker: save_reference_and_generated_audio(voice, NOISE, 16000, tmp_path / "run", id, speaker)
    for id, speaker in ((5, "ann"), (3, "ben"), (None, "ann"), (4, "cy"), (None, "ben")): save(id, speaker)
    assert [row["id"] for row in Run(tmp_path / "run").rows] == [5, 3, 6, 4, 7]
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.wav")}
    for taken in (3, 7):
        with pytest.raises(VoicelabError, match=f"^sample_id: {taken} is another sample's .*; None takes"): save(taken, "dan")
    (tmp_path / "run/other_generated_011_eve.wav").write_bytes(b"a sound whose line was lost")
    with pytest.raises(VoicelabError, match="^sample_id: 11 is another"): save(11, "dan")
    assert before.items() <= {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.wav")}.items()


def test_a_reference_of_any_kind_becomes_a_true_wav(tmp_path):
    flac = wave(tmp_path, name="voice.flac")
    reference = Reference(flac, consent="mine")
    saved = save_reference_and_generated_audio(reference, torch.from_numpy(NOISE), 16000, tmp_path / "run", 0, "ann")
    assert soundfile.info(saved["reference_audio"]).format == "WAV"
    (tmp_path / "theirs").mkdir()
    copied = pair_of_the_design(flac, NOISE, 16000, str(tmp_path / "theirs"), 0, "ann")["reference_audio"]
    assert soundfile.info(copied).format == "FLAC"                              # by the design: a FLAC that is called .wav


def test_without_a_reference_there_is_none(tmp_path):
    saved = save_reference_and_generated_audio(None, np.stack([NOISE, -NOISE / 2], axis=1), 16000, tmp_path / "run", None, "ann")
    assert saved["reference_audio"] is None and saved["generated_audio"].endswith("other_generated_000_ann.wav")
    assert np.abs(soundfile.read(saved["generated_audio"])[0] - NOISE / 4).max() < 1e-4


@pytest.mark.parametrize("changes, line", [
    (dict(ref_audio_path="nobody.wav"), "nobody.wav"), (dict(generated_waveform=np.zeros(0)), "generated_waveform: needs at least one sample"),
    (dict(generated_waveform=np.zeros(9, np.int16)), "type int16"), (dict(generated_waveform=np.full(9, np.nan)), "9 of 9 are NaN"),
    (dict(sample_rate=0), "rate"), (dict(sample_id=-1), "sample_id: must be a whole number from 0 to 999999999, got -1"),
    (dict(sample_id=True), "sample_id: .* got True"), (dict(sample_id="3"), "sample_id: .* got '3'"), (dict(output_dir=""), "folder: must not be empty")])
def test_bad_arguments_leave_nothing(tmp_path, voice, monkeypatch, changes, line):
    monkeypatch.chdir(tmp_path)
    given = dict(ref_audio_path=voice, generated_waveform=NOISE, sample_rate=16000, output_dir="run", sample_id=0, speaker_id="ann")
    with pytest.raises(VoicelabError, match=line) as error: save_reference_and_generated_audio(**given | changes)
    assert "\n" not in str(error.value) and not list(tmp_path.glob("run/*.wav"))
