"""Interactive figures of the notebooks and of the site; nothing in the core uses them.

An explorer is one Python class, one ES module and one stylesheet of the same name: mask.py, mask.js, mask.css. ``base``
says how they become a live widget where a kernel runs, and a part of a page where none does.
"""

from a3mini.notebook.explorers.attention import AttentionViewer
from a3mini.notebook.explorers.base import Explorer
from a3mini.notebook.explorers.bounds import BoundsExplorer
from a3mini.notebook.explorers.curriculum import CurriculumViewer
from a3mini.notebook.explorers.factorisation import FactorisationExplorer
from a3mini.notebook.explorers.mask import MaskExplorer
from a3mini.notebook.explorers.player import DecodingPlayer
from a3mini.notebook.explorers.playground import Playground
from a3mini.notebook.explorers.puzzle import PuzzleExplorer
from a3mini.notebook.explorers.trade_off import TradeOffExplorer
from a3mini.notebook.explorers.two_streams import TwoStreams

__all__ = [
    "AttentionViewer",
    "BoundsExplorer",
    "CurriculumViewer",
    "DecodingPlayer",
    "Explorer",
    "FactorisationExplorer",
    "MaskExplorer",
    "Playground",
    "PuzzleExplorer",
    "TradeOffExplorer",
    "TwoStreams",
]
