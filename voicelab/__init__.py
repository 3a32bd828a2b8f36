"""A workspace for zero-shot voice cloning with speech language models: generate, hear, measure, repeat."""
from importlib import import_module

from voicelab.old_names import find_old_modules, moved

__version__ = "0.1.0"

TYPE_CHECKING = False       # as in `typing`, which is slow to import; type checkers know the name

if TYPE_CHECKING:
    from voicelab import studies, widgets
    from voicelab.asr import Recogniser
    from voicelab.audio import Audio, load_audio
    from voicelab.budget import Budget
    from voicelab.control import Control, Sampling
    from voicelab.errors import VoicelabError
    from voicelab.families.higgs.speakers import SCENES, VOICES
    from voicelab.family import Speaker
    from voicelab.generation import Generation
    from voicelab.lab import load
    from voicelab.reference import Reference
    from voicelab.runs import Run
    from voicelab.settings import read_settings
    from voicelab.sweep import Sweep
    from voicelab.testsets import TestSet
    from voicelab.watermark import marks_of, watermarked

HOMES = {       # the module of each public name
    "Audio": "audio", "Reference": "reference", "load_audio": "audio", "Budget": "budget", "Control": "control",
    "Sampling": "control", "VoicelabError": "errors", "Speaker": "family", "Generation": "generation", "load": "lab",
    "Run": "runs", "read_settings": "settings", "Recogniser": "asr", "Sweep": "sweep", "TestSet": "testsets",
    "SCENES": "families.higgs.speakers", "VOICES": "families.higgs.speakers",
    "marks_of": "watermark", "watermarked": "watermark",
}

__all__ = ["SCENES", "VOICES", "Audio", "Budget", "Control", "Generation", "Recogniser", "Reference", "Run", "Sampling",
           "Speaker", "Sweep", "TestSet", "VoicelabError", "load", "load_audio", "marks_of", "read_settings", "studies",
           "watermarked", "widgets"]


def __getattr__(name):
    "Load a module when its first name is used: torch and transformers take seconds, and `--help` needs neither."
    if name in ("studies", "widgets"): return import_module(f"voicelab.{name}")
    if name not in HOMES: return moved("")(name)
    globals()[name] = found = getattr(import_module(f"voicelab.{HOMES[name]}"), name)
    if name == "Generation": import_module("voicelab.measures")     # for its `report`
    if name == "Reference": import_module("voicelab.voicefile")     # for its `save` and `load`
    return found


def __dir__(): return sorted({*globals(), *__all__})


find_old_modules()
