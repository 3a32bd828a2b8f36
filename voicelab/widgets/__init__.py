"""What people touch in JupyterLab."""
from voicelab.widgets.ablation import Ablation
from voicelab.widgets.attention import Listening
from voicelab.widgets.delay import DelayPattern
from voicelab.widgets.explore import CodecExplorer
from voicelab.widgets.listening import ListeningTest
from voicelab.widgets.microphone import Microphone
from voicelab.widgets.prompt import PromptAnatomy
from voicelab.widgets.tuner import Tuner

__all__ = ["Ablation", "CodecExplorer", "DelayPattern", "Listening", "ListeningTest", "Microphone", "PromptAnatomy", "Tuner"]
