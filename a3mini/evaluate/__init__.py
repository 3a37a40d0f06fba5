"""How good a model is: held-out losses, infilling, likelihood tasks, and the quality of what it writes.

One file per kind of evidence. Those that need the extra ``eval`` (rouge-score, lm-eval) are imported by name.
"""

from a3mini.evaluate.held_out import GROUPINGS, HeldOut, draw, token_losses

__all__ = ["GROUPINGS", "HeldOut", "draw", "token_losses"]
