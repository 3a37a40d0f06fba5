"""Interactive figures of the notebooks and of the site; nothing in the core uses them.

Each explorer is one Python class here and one ES module in a3mini/static/. ``base`` says how they become a live
widget where a kernel runs, and a part of a page where none does.
"""

from a3mini.explorers.attention import AttentionViewer
from a3mini.explorers.base import Explorer
from a3mini.explorers.curriculum import CurriculumViewer
from a3mini.explorers.factorisation import FactorisationExplorer
from a3mini.explorers.mask import MaskExplorer
from a3mini.explorers.player import DecodingPlayer
from a3mini.explorers.trade_off import TradeOffExplorer

__all__ = [
    "AttentionViewer",
    "CurriculumViewer",
    "DecodingPlayer",
    "Explorer",
    "FactorisationExplorer",
    "MaskExplorer",
    "TradeOffExplorer",
]
