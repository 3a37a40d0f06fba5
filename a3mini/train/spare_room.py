"""Blanks with spare room, so that a model learns where a blank ends: what ``decode.blanks`` asks of it.

A row's blank gets more positions than it has tokens. Behind its last token stands the *end*, a token that no text has;
the rest of the room is padding; and what stood behind the blank moves to the right::

    row         x  y  a  b  z  w
    group ids   0  0  1  2  0  0
    with 3      x  y  a  b  E  .  .  z  w
    group ids   0  0  1  2  3 -1 -1  0  0

A row does not grow: what it has no place for is cut off, and a blank at its very end gets no room.

One in ten gets none. There the model must fill the whole room, and no end comes: that, too, has to be seen, but not
often. With half of them, a model takes most rooms for full, and does not end.
"""

import torch
from torch import Tensor

from a3mini import groups
from a3mini.train.curriculum import uniform

ROOMY = 0.9  # the share of blanks that get spare room
OWN_NUMBERS = 0x726F6F6D  # so that the numbers drawn here are not those of the groupings


def draw_spare(room: Tensor, examples: Tensor, seed: int) -> Tensor:
    """How many positions of spare room the blank of each example gets: 0, or 1 to ``room``, int64 (B,).

    Args:
        room: int64, (B,), how many it may get.
        examples: int64, (B,), their numbers.
        seed: 64 bits.
    """
    numbers = uniform(seed ^ OWN_NUMBERS, examples, 2)
    return torch.where(numbers[:, 0] < ROOMY, (1 + numbers[:, 1] * room).long().clamp(max=room), 0)


def make_room(input_ids: Tensor, group_ids: Tensor, size: Tensor, spare: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """Rows with spare room behind their blanks.

    Args:
        input_ids, group_ids: int64, (B, T); where ``spare`` is not 0, what is predicted is one unbroken stretch, filled
            from left to right.
        size: int64, (B,), the tokens in a group.
        spare: int64, (B,), from ``draw_spare``.
        end: the token that ends a blank.

    Returns:
        int64, (B, T) each: tokens and groups. The end stands in the group that the next token of the blank would.
    """
    size, spare = size[:, None], spare[:, None]
    place = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    blank = group_ids > 0
    behind = torch.where(blank, place + 1, 0).amax(-1, keepdim=True)  # the place behind the blank's last token
    source = torch.where(place < behind, place, (place - spare).clamp(min=0))
    ids, moved = input_ids.gather(1, source), group_ids.gather(1, source)
    new = (place >= behind) & (place < behind + spare)
    group = blank.sum(-1, keepdim=True).div(size, rounding_mode="floor") + 1
    moved = torch.where(new, torch.where(place == behind, group, groups.PADDING), moved)
    return ids.masked_fill(new, end), moved
