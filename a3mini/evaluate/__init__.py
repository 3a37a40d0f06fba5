"""How good a model is; one file per kind of evidence. ``held_out``: losses under several groupings."""

from a3mini.evaluate.held_out import GROUPINGS, HeldOut, draw, token_losses

__all__ = ["GROUPINGS", "HeldOut", "draw", "token_losses"]
