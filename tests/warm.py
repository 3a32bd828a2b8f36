"""Programs and kernels that begin within a moment: forks of one process, which has imported what takes seconds and is none of ours.

Each of them imports voicelab anew, so that it finds out what an import lacks. Whoever starts one starts a small process that stands for it: it gives
its folder, environment and files, and they end together. What a test says of the start of Python, or of a signal that comes, needs one of its own.
"""
import atexit
import gc
import json
import os
import random
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import types
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

from voicelab.nursery import Nursery

BEFORE = ("torch", "torchaudio", "pandas", "transformers.generation.utils", "transformers.models.qwen2.modeling_qwen2",
          "transformers.models.higgs_audio_v2.modeling_higgs_audio_v2", "matplotlib.pyplot", "ipykernel.kernelapp", "ipykernel.zmqshell",
          "anywidget", "nbdev.test", "resemblyzer")
STANDS_FOR_IT = """import json, os, signal, socket, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
said = json.dumps(dict(words=sys.argv[2:], folder=os.getcwd(), environment=dict(os.environ))).encode() + b"\\n"
line.sendall(said[socket.send_fds(line, [said], [0, 1, 2]):])
code = line.recv(1)
sys.exit(code[0] if code else 1)"""


class Begun(BaseException):
    "Leaves the loop of the process that makes forks, in a fork."


class Warm(Nursery):
    "Makes programs, with the files of those who ask."
    def __init__(self, path):
        super().__init__(path)
        self.files = {}

    def _hear(self, line):
        said, files = b"", []
        with suppress(ConnectionError): said, files, *_ = socket.recv_fds(line, 65_536, 3)
        if not said: return self._leave(line)
        if files: self.files[line] = files
        self.waiting[line] += said
        if self.waiting[line].endswith(b"\n"): self._fork(line, json.loads(self.waiting.pop(line)))

    def _fork(self, line, wish):
        gc.freeze()
        files = self.files.pop(line)
        if (child := os.fork()) == 0:
            for each in (self.looks, self.door, *self.waiting, *self.kernels.values()): each.close()
            raise Begun(wish, files, line)
        for each in files: os.close(each)
        self.kernels[child] = line


def become(wish: dict, files: list[int], own: list[str]): # own: paths of the process before the fork
    "Do what `python WORDS` does."
    import matplotlib
    import numpy
    import torch
    for name in [each for each in sys.modules if each.partition(".")[0] == "voicelab"]: del sys.modules[name]
    sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("voicelab")]
    os.setsid()
    os.chdir(wish["folder"])
    os.environ.clear()
    os.environ.update(wish["environment"])
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    for name, how, errors in (("stdin", "r", "strict"), ("stdout", "w", "strict"), ("stderr", "w", "backslashreplace")):
        number = ("stdin", "stdout", "stderr").index(name)
        file = open(number, how, 1 if name == "stderr" else -1, "utf-8", errors, closefd=False)
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)
    for draw in (random.seed, numpy.random.seed, torch.seed): draw()
    if "MPLBACKEND" in os.environ: matplotlib.rcParams["backend"] = os.environ["MPLBACKEND"]
    what, *words = wish["words"]
    if what in ("-c", "-m"): first, code, sys.argv[:] = wish["folder"], words[0], ([what] if what == "-c" else []) + words[what == "-c":]
    else: first, sys.argv[:] = str(Path(what).absolute().parent), wish["words"]
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [first, *filter(None, paths), *(each for each in sys.path if each not in own)]
    if what == "-m": runpy.run_module(code, run_name="__main__", alter_sys=True)
    elif what == "-c":
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), vars(main))
    else: runpy.run_path(what, run_name="__main__")


def end(program) -> int:
    "The exit code of a program, whose end is that of Python but for the memory, which goes with the process: to tidy that takes half a second."
    try:
        program()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
        if not isinstance(code, int): code = print(code, file=sys.stderr) or 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try: stream.flush()
        except OSError: code = 120
    return code & 255


@contextmanager
def python():
    "The words of a command that takes `-c CODE`, `-m MODULE` or a file as Python does."
    with tempfile.TemporaryDirectory() as folder:
        door, environment = str(Path(folder, "door")), os.environ | dict(PYTORCH_NVML_BASED_CUDA_CHECK="1")     # or looking for a GPU forbids forks
        with subprocess.Popen([sys.executable, __file__, door], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout.readline() == b"open\n"
            yield [sys.executable, "-I", "-S", "-c", STANDS_FOR_IT, door]
            process.stdin.close()


def main():
    own = {sys.path[0], *os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    warm = Warm(sys.argv[1])
    print("open", flush=True)
    gc.disable()
    for name in BEFORE:
        with suppress(ImportError): import_module(name)
    gc.enable()
    try: return warm.serve()
    except Begun as begun: wish, files, line = begun.args
    process, code = os.getpid(), end(lambda: become(wish, files, own))
    if os.getpid() == process: line.send(bytes([code]))
    os._exit(code)


if __name__ == "__main__": main()
