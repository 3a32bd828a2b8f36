"""A forked process has none of torch's threads: where it would wait for them for ever it says so, else it works."""
import json
import os
import subprocess

import pytest

TRY = '''
import json, multiprocessing, os, signal, sys, torch
torch.set_num_threads(int(sys.argv[1]))
from voicelab import Reference, load
from voicelab.models.glm4voice import tiny_glm4voice
from voicelab.families.vita.checkpoint import tiny_vita
from voicelab.families.vita.model import VitaModel

TEXT = "Good evening."
reference = Reference("data/voices/ada.wav", transcript="The old library opens at nine in the morning.", consent="synthetic")

def say(model): return model.clone(TEXT, reference=reference, seed=1, budget="fixed").codes.shape[1]

def in_a_fork(call):
    reading, writing = os.pipe()
    if not (child := os.fork()):
        signal.alarm(60)                                # a child that hangs says nothing
        try: said = call()
        except Exception as error: said = f"{type(error).__name__}: {error}"
        os.write(writing, json.dumps(said, default=str).encode())
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 10_000)
    os.waitpid(child, 0)
    return json.loads(said or '"hangs"')

def alone(call):
    torch.set_num_threads(1)
    return call()
'''

HIGGS = TRY + '''
model = load("tiny")
begun, made = model.stream(TEXT, reference=reference, seed=1), model.clone(TEXT, reference=reference, seed=1, budget="fixed")
frames = made.codes.shape[1]
calls = dict(clone=lambda: say(model), stream=lambda: next(iter(model.stream(TEXT, reference=reference))), begun=lambda: next(iter(begun)),
             session=lambda: model.session(TEXT), plan=lambda: model.plan(TEXT), batch=lambda: model.clone_batch([TEXT]),
             prompt=lambda: model.prompt(TEXT), encode=lambda: model.encode(Reference("data/voices/ben.wav")),
             codec=lambda: model.codec.encode(reference.audio), load=lambda: load("tiny"))
print(json.dumps(dict(frames=frames, name=in_a_fork(lambda: repr(model)), budgets=in_a_fork(lambda: len(model.budgets(TEXT))),
                      similarity=in_a_fork(lambda: made.report()["similarity"].detail), length=in_a_fork(lambda: made.report()["length"].value),
                      said={name: in_a_fork(call) for name, call in calls.items()} if sys.argv[2] == "all" else {},
                      clone=in_a_fork(lambda: say(model)) if sys.argv[2] == "clone" else None, alone=in_a_fork(lambda: alone(lambda: say(model))))))
'''

VITA = TRY + '''
model = VitaModel(tiny_vita(), tiny_glm4voice())
begun, made = model.stream("Good.", reference=reference, budget=20, seed=1), model.clone("Good.", reference=reference, budget=20, seed=1)
calls = dict(clone=lambda: model.clone(TEXT, reference=reference), stream=lambda: next(iter(model.stream(TEXT))), begun=lambda: next(iter(begun)),
             respond=lambda: model.respond("text_chat", text=TEXT), plan=lambda: model.plan(TEXT), prompt=lambda: model.clone_prompt(TEXT),
             hear=lambda: model.hear(reference, "reference", "system"), codec=lambda: model.codec.encode(reference.audio))
print(json.dumps(dict(said={name: in_a_fork(call) for name, call in calls.items()})))
'''

SPAWN = TRY + '''
def work(queue): queue.put(say(load("tiny")))

if __name__ == "__main__":
    model, spawn = load("tiny"), multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    child = spawn.Process(target=work, args=(queue,))
    child.start()
    print(json.dumps(dict(frames=queue.get(timeout=500))))
    child.join()
'''


@pytest.fixture
def run(root, tmp_path, python):
    "What a script prints, with so many threads of torch; an error if it hangs."
    def run(script: str, *words: str) -> dict:
        (tmp_path / "work.py").write_text(script)
        paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run([*python, tmp_path / "work.py", *words], cwd=root, env=os.environ | {"PYTHONPATH": paths},
                              capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])
    return run


@pytest.mark.parametrize("script", [HIGGS, VITA], ids=["higgs", "vita"])
def test_a_fork_that_would_hang_says_so_in_a_line(run, script):
    found = run(script, "2", "all")
    for name, said in found["said"].items():
        assert str(said).startswith("EngineError: ") and "process: " in said and "spawn" in said and "\n" not in said, (name, said)
    if script == VITA: return
    assert found["name"].startswith("HiggsModel('tiny'") and found["budgets"] == 1       # what needs no torch is not refused
    assert "process: " in found["similarity"] and found["length"] > 0                           # a report has what it can have
    assert found["alone"] == found["frames"]                                                    # one thread is enough for a fork


def test_a_fork_of_a_process_of_one_thread_goes_on(run):
    found = run(HIGGS, "1", "clone")
    assert found["clone"] == found["alone"] == found["frames"]


def test_a_spawned_process_begins_anew(run):
    assert run(SPAWN, "2")["frames"] > 5
