"""What people touch in JupyterLab."""
import voicelab.widgets.still  # noqa: F401
from voicelab.old_names import moved
from voicelab.widgets.ablation import Ablation
from voicelab.widgets.attention import AttentionMap
from voicelab.widgets.board import SweepBoard
from voicelab.widgets.conversation import Conversation
from voicelab.widgets.delay import DelayPattern
from voicelab.widgets.explore import CodecExplorer
from voicelab.widgets.listening import ListeningTest
from voicelab.widgets.microphone import Microphone
from voicelab.widgets.pivot import Pivot
from voicelab.widgets.prompt import PromptAnatomy
from voicelab.widgets.study import Study
from voicelab.widgets.tuner import Tuner
from voicelab.widgets.words import WordTimeline

__all__ = ["Ablation", "AttentionMap", "CodecExplorer", "Conversation", "DelayPattern", "ListeningTest", "Microphone",
           "Pivot", "PromptAnatomy", "Study", "SweepBoard", "Tuner", "WordTimeline"]

__getattr__ = moved("widgets")
