"""A workspace for zero-shot voice cloning with speech language models: generate, hear, measure, repeat."""
from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from voicelab import widgets
    from voicelab.audio import Audio, Reference, load_audio
    from voicelab.budget import Budget
    from voicelab.control import Control, Sampling
    from voicelab.errors import VoicelabError
    from voicelab.lab import VoiceModel, load
    from voicelab.runs import Run
    from voicelab.session import Generation
    from voicelab.settings import read_settings
    from voicelab.speakers import SCENES, VOICES

HOMES = {"Audio": "audio", "Reference": "audio", "load_audio": "audio", "Budget": "budget", "Control": "control", "Sampling": "control",
         "VoicelabError": "errors", "VoiceModel": "lab", "load": "lab", "Run": "runs", "Generation": "session",
         "read_settings": "settings", "SCENES": "speakers", "VOICES": "speakers"}        # the module of each public name

__all__ = ["SCENES", "VOICES", "Audio", "Budget", "Control", "Generation", "Reference", "Run", "Sampling", "VoiceModel",
           "VoicelabError", "load", "load_audio", "read_settings", "widgets"]


def __getattr__(name):
    "A module is loaded when its first name is used: torch and transformers take seconds, and `voicelab --help` needs neither."
    if name == "widgets": return import_module("voicelab.widgets")
    if name not in HOMES: raise AttributeError(f"module 'voicelab' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"voicelab.{HOMES[name]}"), name)
    return found


def __dir__(): return sorted({*globals(), *__all__})
