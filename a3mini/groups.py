"""Who is predicted when: one integer tensor, ``group_ids``.

``group_ids`` is int64 of shape (B, T), one number per token::

    0        given: conditioned on, never predicted, no loss
    1 .. K   predicted, in that order; equal ids are predicted in parallel
    -1       padding: never seen, never predicted

Only the order of the values matters, so they need not be contiguous. This tensor is the paper's
factorisation P(x) = prod_k P(x_Gk | x_G<k): G_k holds the positions whose id is k.
Autoregression, one masked-diffusion step, block diffusion, permutation models and infilling differ in
this tensor alone, and each has a constructor below.

Every constructor takes an optional ``generator`` so that all can be called alike; those that draw
nothing ignore it. Position enters the model only through attention. So a group that sees nothing
predicts the same distribution at every position, and so does one that sees a single token, since the
mean over one value does not depend on angles. The constructors over a length give the first token by
default: begin sequences with a beginning-of-sequence token, and give more where positions must differ.
"""

from collections.abc import Sequence
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor

GIVEN = 0
PADDING = -1
INFILL_ORDERS = ("left_to_right", "random", "strided")
KNOWN_ORDERS = ("together", "left_to_right")  # how given tokens read each other; see ``read_given``


def check(group_ids: Tensor, name: str = "group_ids") -> Tensor:
    """Return ``group_ids`` as int64, or say what is wrong with it.

    Args:
        group_ids: integer tensor, (T,) or (B, T), every value -1 or more.
        name: what to call the tensor in an error.

    Raises:
        TypeError: not a tensor, or not of an integer type.
        ValueError: not one- or two-dimensional, or a value below -1.
    """
    if not isinstance(group_ids, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(group_ids).__name__}")
    if group_ids.dtype == torch.bool or group_ids.is_floating_point() or group_ids.is_complex():
        raise TypeError(f"{name} must hold integers, got {group_ids.dtype}; convert it with .long()")
    if group_ids.dim() not in (1, 2):
        raise ValueError(f"{name} must have shape (T,) or (B, T), got {tuple(group_ids.shape)}")
    group_ids = group_ids.long()
    if group_ids.numel() and group_ids.min() < PADDING:
        raise ValueError(
            f"{name} holds {group_ids.min().item()}; allowed are -1 (padding), 0 (given) and 1, 2, ... (predicted)"
        )
    return group_ids


def relabel(group_ids: Tensor) -> Tensor:
    """Number the predicted groups of each row 1, 2, ..., K in the same order; 0 and -1 stay.

    Args:
        group_ids: (T,) or (B, T).

    Returns:
        int64, the shape of ``group_ids``. The model treats it exactly as it treats ``group_ids``.

    Example:
        >>> relabel(torch.tensor([0, 10, 300, 20, -1]))
        tensor([ 0,  1,  3,  2, -1])
    """
    group_ids = check(group_ids)
    in_order, position = group_ids.clamp(min=0).sort(-1)
    number = in_order.diff(prepend=torch.zeros_like(in_order[..., :1])).ne(0).cumsum(-1)  # how many groups so far
    return torch.where(group_ids > 0, torch.zeros_like(group_ids).scatter(-1, position, number), group_ids)


def from_sets(
    length: int, *sets: Sequence[int], given: Sequence[int] = (), generator: torch.Generator | None = None
) -> Tensor:
    """Group ids from the sets of positions G_1, G_2, ..., as the paper writes them but counted from 0.

    Positions that stand in no set are padding.

    Args:
        length: T, the number of positions.
        sets: the positions of each group, in the order of prediction.
        given: the positions that are conditioned on.

    Returns:
        int64, (T,).

    Raises:
        ValueError: a position outside 0 .. T-1, or one that stands in two sets.

    Example:
        The paper's example of a mask:

        >>> from_sets(6, [0, 1, 2], [4, 5], [3])
        tensor([1, 1, 1, 3, 2, 2])
    """
    check_integer("length", length, 1)
    group_ids = torch.full((length,), PADDING)
    for group, positions in enumerate([given, *sets]):
        for position in positions:
            if not 0 <= position < length:
                raise ValueError(f"position {position} is outside 0 .. {length - 1}")
            if group_ids[position] != PADDING:
                raise ValueError(f"position {position} stands in two sets; each position has one group")
            group_ids[position] = group
    return group_ids


def left_to_right(length: int, given: int = 1, generator: torch.Generator | None = None) -> Tensor:
    """Singletons from left to right: the autoregressive factorisation prod_t P(x_t | x_<t).

    Args:
        length: T, the number of positions.
        given: how many positions at the start are given.

    Returns:
        int64, (T,): 0, ..., 0, 1, 2, 3, ...

    Raises:
        ValueError: ``length`` below 1, or ``given`` outside 0 .. ``length``.

    Example:
        >>> left_to_right(5)
        tensor([0, 1, 2, 3, 4])
    """
    return blocks(length, 1, given)


def blocks(length: int, size: int, given: int = 1, generator: torch.Generator | None = None) -> Tensor:
    """Contiguous groups of ``size`` from left to right: semi-autoregression, or block diffusion.

    Args:
        length: T, the number of positions.
        size: tokens per group; the last group may be smaller.
        given: how many positions at the start are given.

    Returns:
        int64, (T,).

    Raises:
        ValueError: ``length`` or ``size`` below 1, or ``given`` outside 0 .. ``length``.

    Example:
        >>> blocks(7, size=3)
        tensor([0, 1, 1, 1, 2, 2, 2])
    """
    check_integer("length", length, 1)
    check_integer("size", size, 1)
    check_integer("given", given, 0, length)
    position = torch.arange(length) - given
    return torch.where(position < 0, GIVEN, position.div(size, rounding_mode="floor") + 1)


def strided(length: int, streams: int, given: int = 1, generator: torch.Generator | None = None) -> Tensor:
    """Far-apart tokens at a time: the predicted positions are cut into pieces, and step i predicts the i-th of each.

    Each piece is filled from left to right. Tokens of one group stand as far from each other as they can, so that they
    tell little about each other, and drawing them independently loses little. Ours, not the paper's; related: spread
    positions in ARMD (arXiv 2601.16971) and Eso-LM (2506.01928).

    Args:
        length: T, the number of positions.
        streams: how many pieces, and so tokens per group; lengths of pieces differ by one at most, the longer ones
            come first. Fewer positions than that: one group.
        given: how many positions at the start are given.

    Returns:
        int64, (T,).

    Raises:
        ValueError: ``length`` or ``streams`` below 1, or ``given`` outside 0 .. ``length``.

    Example:
        >>> strided(8, streams=3)
        tensor([0, 1, 2, 3, 1, 2, 1, 2])
    """
    check_integer("length", length, 1)
    check_integer("streams", streams, 1)
    check_integer("given", given, 0, length)
    return infill(torch.arange(length) >= given, streams, "strided")


def shuffled(length: int, size: int, given: int = 1, generator: torch.Generator | None = None) -> Tensor:
    """Positions in random order, cut into groups of ``size``: size 1 is a permutation language model.

    Args:
        length: T, the number of positions.
        size: tokens per group; the last group may be smaller.
        given: how many positions at the start are given.
        generator: where the order comes from; default: torch's global generator.

    Returns:
        int64, (T,).

    Raises:
        ValueError: ``length`` or ``size`` below 1, or ``given`` outside 0 .. ``length``.
    """
    in_order = blocks(length, size, given)
    order = torch.randperm(length - given, generator=generator)
    return torch.cat([in_order[:given], in_order[given:][order]])


def two_groups(unknown: Tensor, padding: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Given tokens, then all unknown ones at once: one step of masked diffusion, P(x_G2 | x_G1).

    Args:
        unknown: bool, (T,) or (B, T); True where a token is to be predicted.
        padding: bool, the same shape; True where there is no token.

    Returns:
        int64, the shape of ``unknown``: 1 where unknown, -1 where padding, else 0.

    Raises:
        TypeError: ``unknown`` or ``padding`` is not a boolean tensor.
        ValueError: wrong shapes, or a position that is both unknown and padding.

    Example:
        >>> two_groups(torch.tensor([False, True, False, True]))
        tensor([0, 1, 0, 1])
    """
    check_mask("unknown", unknown)
    return infill(unknown, size=unknown.shape[-1], padding=padding)


def infill(
    unknown: Tensor,
    size: int = 1,
    order: str = "left_to_right",
    padding: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Given tokens first, then the unknown ones in groups of ``size`` (paper: groupwise decoding, infilling).

    A *blank* is an unbroken stretch of unknown positions.

    Args:
        unknown: bool, (T,) or (B, T); True where a token is to be predicted.
        size: tokens per group; each row's last group may be smaller.
        order: "left_to_right"; "random" (each row draws its own order); or "strided": blank after blank from the left,
            each cut into ``size`` pieces whose i-th positions are one group, as ``strided`` has it. A blank shorter
            than ``size`` is one group.
        padding: bool, the same shape; True where there is no token.
        generator: where the random orders come from; default: torch's global generator.

    Returns:
        int64, the shape of ``unknown``, on its device.

    Raises:
        TypeError: ``unknown`` or ``padding`` is not a boolean tensor.
        ValueError: wrong shapes, ``size`` below 1, another ``order``, or a position that is both unknown and padding.

    Example:
        >>> infill(torch.tensor([False, True, True, True, False]), size=2)
        tensor([0, 1, 1, 2, 0])
    """
    check_mask("unknown", unknown)
    check_integer("size", size, 1)
    if order not in INFILL_ORDERS:
        raise ValueError(f"order must be one of {', '.join(INFILL_ORDERS)}; got {order!r}")
    if padding is not None:
        check_mask("padding", padding)
        if padding.shape != unknown.shape:
            raise ValueError(f"padding has shape {tuple(padding.shape)} but unknown has {tuple(unknown.shape)}")
        if (unknown & padding).any():
            raise ValueError(f"{(unknown & padding).sum().item()} positions are both unknown and padding; choose one")

    if order == "strided":
        group_ids = strided_blanks(unknown, size)
        return group_ids if padding is None else group_ids.masked_fill(padding, PADDING)

    # rank = how many unknown positions of the same row come earlier in the order
    if order == "left_to_right":
        rank = unknown.long().cumsum(-1) - 1
    else:
        keys = torch.rand(unknown.shape, generator=generator, device=generator.device if generator else None)
        keys = keys.to(unknown.device).masked_fill(~unknown, 2.0)  # known positions sort last
        rank = keys.argsort(-1).argsort(-1)
    group_ids = torch.where(unknown, rank.div(size, rounding_mode="floor") + 1, GIVEN)
    return group_ids if padding is None else group_ids.masked_fill(padding, PADDING)


def strided_blanks(unknown: Tensor, streams: int | Tensor) -> Tensor:
    """Group ids, the shape of ``unknown``: 0 where known; inside each blank ``streams`` pieces side by side.

    ``streams`` may differ from row to row: int64, (B, 1). See ``infill`` and its order "strided".
    """
    first = unknown & ~F.pad(unknown, (1, -1), value=False)  # of a blank
    blank = first.long().cumsum(-1) * unknown  # 1, 2, ...: the number of each position's blank; 0: known
    count = F.pad(torch.zeros_like(blank), (0, 1)).scatter_add(-1, blank, torch.ones_like(blank))  # of each number
    size = count.gather(-1, blank)
    rank = unknown.long().cumsum(-1) - 1  # among all unknown; minus that of the blank's first: inside the blank
    rank = rank - torch.where(first, rank, -1).cummax(-1).values
    pieces = size.clamp(max=streams)
    short, longer = size.div(pieces, rounding_mode="floor"), size % pieces  # the first pieces have one position more
    in_longer = rank < longer * (short + 1)
    step = torch.where(in_longer, rank % (short + 1), (rank - longer * (short + 1)) % short.clamp(min=1))
    steps = short + (longer > 0)  # of the blank
    before = torch.where(first, steps, 0).cumsum(-1) - steps  # steps of the blanks on the left
    return torch.where(unknown, before + step + 1, GIVEN)


def given_in_order(group_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The same prediction with the given tokens read from left to right: each sees those on its left alone.

    Given tokens are one group, in which all see all. A model that was trained left to right has never read a text like
    that. Here each given token gets a number of its own, by its position, and all predicted groups come behind.

    Args:
        group_ids: (T,) or (B, T).

    Returns:
        int64 group ids, and bool, True where a token is given: it is known, and must not be predicted (``known`` in
        ``objective`` and ``decode``). Both have the shape of ``group_ids``.

    Example:
        >>> given_in_order(torch.tensor([0, 1, 2, 0]))
        (tensor([0, 5, 6, 3]), tensor([ True, False, False,  True]))
    """
    group_ids = check(group_ids)
    given, length = group_ids == GIVEN, group_ids.shape[-1]
    position = torch.arange(length, device=group_ids.device).expand_as(group_ids)
    return torch.where(given, position, torch.where(group_ids > 0, group_ids + length, group_ids)), given


def check_known_order(known_order: str) -> None:
    """Raises ValueError unless ``known_order`` is one of ``KNOWN_ORDERS``."""
    if known_order not in KNOWN_ORDERS:
        raise ValueError(f"known_order must be one of {', '.join(KNOWN_ORDERS)}; got {known_order!r}")


def read_given(group_ids: Tensor, known_order: str) -> tuple[Tensor, Tensor]:
    """Group ids in which the given tokens read each other as ``known_order`` says, and which tokens are given.

    Args:
        group_ids: (T,) or (B, T).
        known_order: "together", as they are; or "left_to_right", as ``given_in_order`` has it.

    Returns:
        as ``given_in_order``.

    Raises:
        ValueError: another ``known_order``.
    """
    check_known_order(known_order)
    group_ids = check(group_ids)
    return given_in_order(group_ids) if known_order == "left_to_right" else (group_ids, group_ids == GIVEN)


def check_integer(name: str, value: int, low: int, high: int | None = None) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low or (high is not None and value > high):
        wanted = f"at least {low}" if high is None else f"from {low} to {high}, the length"
        raise ValueError(f"{name} must be an integer, {wanted}; got {value!r}")


def check_mask(name: str, mask: Tensor) -> None:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"{name} must be a boolean torch.Tensor, got {getattr(mask, 'dtype', type(mask).__name__)}")
    if mask.dim() not in (1, 2) or mask.shape[-1] == 0:
        raise ValueError(f"{name} must have shape (T,) or (B, T) with T at least 1, got {tuple(mask.shape)}")
