"""Blanks of unknown length: each has room for so many tokens, and the model says where it ends.

A *room* is a stretch of positions, whose tokens are drawn from left to right. One token, the *end*, stands for nothing.
Where it is drawn the blank ends: what is left of the room becomes padding, and what stands behind the room stays where
it is::

    positions   0  1  2  3  4  5  6  7  8        the room is 2 .. 6
    given       x  y  .  .  .  .  .  z  w
    drawn             a  b  E                    two tokens and the end
    group ids   0  0  1  2  3 -1 -1  0  0

The end is a token of the sequence, and the probability of a filled blank includes it. A blank without an end has used
up its room. If a group has several positions, what was drawn behind an end in the same step is dropped. It needs no
probability: the tokens of a group are drawn independently, and summed over all tokens its factor is 1. So over all
fillings of all lengths, from none to the whole room, the probabilities sum to 1.

None of this is in the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor

from a3mini import groups

BLANK_ORDERS = ("in_turn", "together")


@dataclass(frozen=True, eq=False)
class Rooms:
    """Where blanks are that the model may end, for ``generate``.

    Attributes:
        number: int64, (B, T): the room that a position belongs to, 1, 2, ...; 0: none. A room is one unbroken stretch
            of predicted positions, whose groups do not fall from left to right.
        end: the token that ends a blank. Only there it may be drawn.
        least: how many tokens a blank has at least; before that its end is not drawn.
    """

    number: Tensor
    end: int
    least: int = 0

    def check(self, group_ids: Tensor, predicted: Tensor, vocab_size: int, banned: Sequence[int] = ()) -> "Rooms":
        """Check it against what is to be filled.

        Args:
            group_ids: int64, (B, T).
            predicted: bool, (B, T).
            vocab_size, banned: of the model and the sampler.

        Raises:
            TypeError, ValueError: not as ``Rooms`` has it, or nothing is left to draw.
        """
        number = self.number
        if not isinstance(number, Tensor) or number.dtype != torch.int64:
            raise TypeError(f"number must be an int64 tensor, got {getattr(number, 'dtype', type(number).__name__)}")
        if number.shape != group_ids.shape:
            raise ValueError(f"number has shape {tuple(number.shape)} but group_ids has {tuple(group_ids.shape)}")
        if number.min() < 0:
            raise ValueError(f"number holds {number.min().item()}; allowed are 0 (no room) and 1, 2, ... (rooms)")
        end = self.end
        if not isinstance(end, Integral) or isinstance(end, bool) or not 0 <= end < vocab_size:
            raise ValueError(f"end must be a token id, 0 .. {vocab_size - 1}; got {end!r}")
        groups.check_integer("least", self.least, 0)
        if len({*map(int, banned), int(end)}) == vocab_size:
            raise ValueError("banned and end hold the whole vocabulary; there is no token left to draw")
        inside = number > 0
        if (inside & ~predicted).any():
            raise ValueError("a room holds a position that is not predicted; rooms are for blanks alone")
        begins = inside & (number != F.pad(number, (1, -1)))
        if (begins & (self._place != self._first(inside))).any():
            raise ValueError("a room has a gap; number each unbroken stretch of positions by itself")
        if (inside & ~begins & (group_ids < F.pad(group_ids, (1, -1)))).any():
            raise ValueError("a room is not filled from left to right; an end would contradict tokens on its right")
        return self

    @property
    def _place(self) -> Tensor:
        return torch.arange(self.number.shape[1], device=self.number.device)

    def _first(self, at: Tensor) -> Tensor:
        """int64, (B, T): the first position of ``at``, bool (B, T), in each position's room; T where there is none."""
        length = self.number.shape[1]
        place = self._place.expand_as(at).masked_fill(~at | (self.number == 0), length)
        found = place.new_full((len(at), int(self.number.max()) + 1), length)  # of each room
        return found.scatter_reduce(1, self.number, place, "amin").gather(1, self.number)

    @cached_property
    def may_end(self) -> Tensor:
        """Where the end may be drawn; bool, (B, T)."""
        return (self.number > 0) & (self._place - self._first(self.number > 0) >= self.least)

    def allowed(self, logits: Tensor, at: Tensor) -> Tensor:
        """Logits (M, V) of the positions ``at`` (B, T), in which the end is left only where it may be drawn."""
        logits = logits.clone()
        logits[~self.may_end[at], self.end] = float("-inf")
        return logits

    def behind(self, at: Tensor, drawn: Tensor) -> Tensor:
        """bool, (B, T): what stands in a room behind an end, if the tokens ``drawn`` (M,) go to ``at`` (B, T)."""
        ends = torch.zeros_like(at)
        ends[at] = drawn == self.end
        return self._place > self._first(ends)


def in_blanks(number: Tensor, size: int = 1, order: str = "left_to_right", blank_order: str = "in_turn") -> Tensor:
    """Groups in which no two blanks share one by chance: each begins with a group of its own.

    Args:
        number: int64, (B, T): the blank that a position belongs to, 1, 2, ...; 0: none.
        size, order: of the tokens in a blank, "left_to_right" or "strided"; see ``groups.infill``.
        blank_order: "in_turn", blank after blank; or "together", the i-th group of every blank is one group.

    Returns:
        int64, (B, T): 1, 2, ... in the blanks, 0 elsewhere.
    """
    found = torch.zeros_like(number)
    for blank in range(1, int(number.max()) + 1):
        inside = number == blank
        before = found.amax(-1, keepdim=True) if blank_order == "in_turn" else 0
        found = torch.where(inside, groups.infill(inside, size, order) + before, found)
    return found


def check_blank_order(blank_order: str | None, order: str) -> str:
    """Which of ``BLANK_ORDERS`` is meant; None: blanks in turn, where the order of their tokens can be kept so.

    Raises:
        ValueError: another one, or blanks in turn in an order that goes from blank to blank.
    """
    in_turn = order in ("left_to_right", "strided")
    if blank_order is None:
        return "in_turn" if in_turn else "together"
    if blank_order not in BLANK_ORDERS:
        raise ValueError(f"blank_order must be one of {', '.join(BLANK_ORDERS)}; got {blank_order!r}")
    if blank_order == "in_turn" and not in_turn:
        raise ValueError(f'the order {order!r} goes from blank to blank; for blank_order="in_turn" use "left_to_right"')
    return blank_order
