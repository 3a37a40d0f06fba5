"""Progressive adaptation: which groups a training step sees.

A model that was trained left to right learns to predict in any order in stages (paper: progressive adaptation)::

    1  singletons from left to right      what the model already does, now in the query stream
    2  contiguous groups of growing size  several tokens at once, still from left to right
    3  permuted groups                    any token from any others

A ``Curriculum`` is data: stages with shares of the training steps, and in each stage a mixture of groupings.
Each example draws its own grouping (the paper's code draws one per batch) from random numbers of its own (``uniform``),
so the groups depend on the seed and on the example's number alone, not on the batch size or on who computes it. All
rows of a batch are drawn at once.

A grouping draws ``group_ids`` for one row. Its kinds::

    "blocks"     contiguous groups from left to right; size 1 is autoregression
    "shuffled"   random order, cut into groups; size 1 is a permutation language model
    "strided"    far-apart tokens at a time, each stream from left to right; the size is the number of streams (ours)
    "span"       one contiguous blank of random length, both sides given, filled in groups from left to right
    "sentence"   the same with one whole sentence as the blank (a span where the row has no whole sentence)

A part of a stage can give blanks spare room (``Part.room``), from which a model learns to end them: ``spare_room``.
"""

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from a3mini import groups, runs

KINDS = ("blocks", "shuffled", "strided", "span", "sentence")
BLANKS = ("span", "sentence")
SHORTEST_SPAN, LONGEST_SPAN = 1 / 16, 1 / 2  # of a row
CHOICES = 4  # of an example's random numbers, those that choose its grouping and its blank; then one for each position
GOLDEN, MIX = 0x9E3779B97F4A7C15, ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # of SplitMix64
ROUNDING = 1e-9  # progress is a quotient; its rounding must not put a boundary off by a step


@dataclass(frozen=True)
class Grouping:
    """One way to draw group ids for a row.

    Attributes:
        kind: "blocks", "shuffled", "strided", "span" or "sentence"; see the top of this file.
        size: tokens per group.

    Raises:
        ValueError: another kind, or a size below 1.
    """

    kind: str
    size: int = 1

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if not isinstance(self.size, int) or isinstance(self.size, bool) or self.size < 1:
            raise ValueError(f"size must be an integer of at least 1, got {self.size!r}")

    def draw(self, length: int, sentence_ends: Tensor, numbers: Tensor) -> Tensor:
        """Group ids for the ``length`` real tokens of a row, the first of which is given.

        Args:
            length: at least 2.
            sentence_ends: bool, (length,), True where a token ends a sentence; only "sentence" reads it.
            numbers: float64, (length + ``CHOICES``,) or more, where everything random comes from; see ``uniform``.

        Returns:
            int64, (length,).
        """
        kind, size = torch.tensor([KINDS.index(self.kind)]), torch.tensor([self.size])
        return draw_rows(kind, size, torch.tensor([length]), sentence_ends[None], numbers[None])[0]


@dataclass(frozen=True)
class Part:
    """One ingredient of a stage: a kind of grouping, the group sizes it uses, and how often it is drawn.

    Attributes:
        kind: see ``Grouping``.
        sizes: group sizes.
        weight: how often the part is drawn, relative to the stage's other parts.
        grow: True: the sizes take equal parts of the stage in turn. False: each example draws one of them.
        room: for "span" and "sentence": up to so many positions more than its tokens need has a blank; see
            ``spare_room``. 0: exactly as many as it needs.
    """

    kind: str
    sizes: tuple[int, ...] = (1,)
    weight: float = 1.0
    grow: bool = False
    room: int = 0

    def __post_init__(self):
        object.__setattr__(self, "sizes", tuple(self.sizes))  # files hold lists
        if not self.sizes:
            raise ValueError(f"a part of kind {self.kind!r} needs at least one group size")
        for size in self.sizes:
            Grouping(self.kind, size)
        _check_positive("weight", self.weight)
        if not isinstance(self.grow, bool):
            raise ValueError(f"grow must be true or false, got {self.grow!r}")
        if not isinstance(self.room, int) or isinstance(self.room, bool) or self.room < 0:
            raise ValueError(f"room must be an integer of at least 0, got {self.room!r}")
        if self.room and self.kind not in BLANKS:
            raise ValueError(f"room is for the blanks of {' and '.join(BLANKS)}; a part of kind {self.kind!r} has none")


@dataclass(frozen=True)
class Stage:
    """A part of the training with one mixture of groupings.

    Attributes:
        name: for people.
        share: of the training steps, relative to the other stages.
        parts: what its examples are drawn from.
    """

    name: str
    share: float
    parts: tuple[Part, ...]

    def __post_init__(self):
        parts = tuple(part if isinstance(part, Part) else Part(**part) for part in self.parts)
        object.__setattr__(self, "parts", parts)
        if not self.parts:
            raise ValueError(f"the stage {self.name!r} has no parts")
        _check_positive(f"the share of the stage {self.name!r}", self.share)

    def choose(self, progress: float, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """A grouping for each of some examples, ``progress`` in [0, 1) of the way through the stage.

        Args:
            numbers: float64, (B, 2) or more columns: the first says which part, the second which of its sizes.

        Returns:
            int64, (B,) each: the place of the kind in ``KINDS``, and the size.
        """
        part = self._part(numbers)
        kinds, sizes = torch.empty_like(part), torch.empty_like(part)
        for number, one in enumerate(self.parts):
            at = torch.full_like(numbers[:, 1], progress + ROUNDING) if one.grow else numbers[:, 1]
            drawn = torch.tensor(one.sizes)[(at * len(one.sizes)).long().clamp(max=len(one.sizes) - 1)]
            kinds = torch.where(part == number, KINDS.index(one.kind), kinds)
            sizes = torch.where(part == number, drawn, sizes)
        return kinds, sizes

    def room(self, numbers: Tensor) -> Tensor:
        """How much spare room the blank of each of some examples may get, int64 (B,); ``numbers`` as for ``choose``."""
        return torch.tensor([part.room for part in self.parts])[self._part(numbers)]

    def _part(self, numbers: Tensor) -> Tensor:
        """Which part each example draws, int64 (B,)."""
        weights = torch.tensor([part.weight for part in self.parts], dtype=torch.float64)
        ends = weights.cumsum(0) / weights.sum()
        return torch.bucketize(numbers[:, 0].contiguous(), ends[:-1], right=True)


@dataclass(frozen=True)
class Curriculum:
    """Stages, one after another; see ``preset`` for those of the book, ``load`` for your own.

    >>> Curriculum.preset("paper").stage_at(0.1)[0].name
    'left to right'
    """

    stages: tuple[Stage, ...]
    name: str = field(default="", compare=False)

    def __post_init__(self):
        stages = tuple(stage if isinstance(stage, Stage) else Stage(**stage) for stage in self.stages)
        object.__setattr__(self, "stages", stages)
        if not self.stages:
            raise ValueError("a curriculum needs at least one stage")

    @classmethod
    def preset(cls, name: str) -> "Curriculum":
        """One of the curricula by name.

        "paper"     the three stages. The paper gives no shares, and no group sizes for stage 3: those are ours
        "official"  the group sizes of the paper's code: 1, 2, 4 from left to right, then 4 and 8 permuted
        "stage3"    permuted groups only
        "no_stage2" left to right, then permuted groups
        "spans"     the three stages, with spans and sentence blanks mixed into the last (ours)
        "mixed"     one stage of what a model is used for: blanks, random order, far-apart tokens, left to right (ours)
        "blanks"    the same, and most blanks have spare room: the model learns to end them (ours)

        Raises:
            ValueError: another name.
        """
        if name not in PRESETS:
            raise ValueError(f"there is no curriculum {name!r}; there are {', '.join(PRESETS)}")
        return cls(tuple(PRESETS[name]), name)

    @property
    def has_room(self) -> bool:
        """Whether some of its blanks have spare room, so that a token is needed that ends them."""
        return any(part.room for stage in self.stages for part in stage.parts)

    @property
    def boundaries(self) -> list[float]:
        """Where each stage ends, as shares of the training; the last is 1."""
        shares = torch.tensor([stage.share for stage in self.stages], dtype=torch.float64)
        return [*(shares.cumsum(0) / shares.sum())[:-1].tolist(), 1.0]

    def stage_at(self, progress: float) -> tuple[Stage, float]:
        """The stage at ``progress`` in [0, 1) of the training, and the progress inside it.

        Raises:
            ValueError: ``progress`` outside [0, 1).
        """
        if not 0 <= progress < 1:
            raise ValueError(f"progress must be in [0, 1), got {progress!r}")
        start = 0.0
        for stage, end in zip(self.stages, self.boundaries, strict=True):
            if progress < end - ROUNDING or end == 1:
                return stage, max(0.0, progress - start) / (end - start)
            start = end
        raise AssertionError("the last stage ends at 1")

    def draw(self, progress: float, lengths: Tensor, sentence_ends: Tensor, numbers: Tensor) -> Tensor:
        """Group ids for a batch, each row with a grouping of its own.

        Args:
            progress: in [0, 1), how much of the training is over.
            lengths: int64, (B,), how many tokens of each row are real; the rest is padding.
            sentence_ends: bool, (B, T).
            numbers: float64, (B, T + ``CHOICES``) or more columns, where everything random comes from; ``uniform``
                makes them from a seed and the numbers of the examples.

        Returns:
            int64, (B, T).
        """
        stage, inside = self.stage_at(progress)
        return draw_rows(*stage.choose(inside, numbers), lengths, sentence_ends, numbers)

    def to_dict(self) -> dict:
        stages = json.loads(json.dumps([asdict(stage) for stage in self.stages]))
        for part in (part for stage in stages for part in stage["parts"] if not part["room"]):
            del part["room"]  # a record without it is that of a run from before there was room
        return {"name": self.name, "stages": stages}

    def save(self, path: str | Path) -> None:
        """Write YAML or JSON, by the name's ending."""
        write = json.dumps if _is_json(path) else yaml.safe_dump
        text = write(self.to_dict(), **({"indent": 1} if _is_json(path) else {"sort_keys": False}))
        runs.write_text(Path(path), text)

    @classmethod
    def load(cls, path: str | Path) -> "Curriculum":
        """Read what ``save`` wrote, or what you wrote in its form.

        Raises:
            ValueError: it is not in that form; the message names what is wrong.
            OSError: the file cannot be read.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
            return cls(**(json.loads(text) if _is_json(path) else yaml.safe_load(text)))
        except (TypeError, ValueError, yaml.YAMLError) as error:
            raise ValueError(
                f"{path} is not a curriculum: {error}. Curriculum.preset('paper').save(path) shows one"
            ) from error


def draw_rows(kinds: Tensor, sizes: Tensor, lengths: Tensor, sentence_ends: Tensor, numbers: Tensor) -> Tensor:
    """Group ids (B, T), one grouping per row; -1 behind the real tokens.

    Args:
        kinds, sizes, lengths: int64, (B,): the place of each row's kind in ``KINDS``, its size, and its real tokens.
        sentence_ends: bool, (B, T).
        numbers: float64, (B, T + ``CHOICES``) or more columns, uniform in [0, 1). Of the first four, two choose the
            grouping (``Stage.choose``), two the blank; the others belong to the positions.
    """
    kind, size, length = kinds[:, None], sizes[:, None], lengths[:, None]  # (B, 1)
    place = torch.arange(sentence_ends.shape[1]).expand_as(sentence_ends)  # (B, T)
    real = place < length

    def is_kind(*names: str) -> Tensor:
        return torch.isin(kind, torch.tensor([KINDS.index(name) for name in names]))

    start, end = _blanks(is_kind("sentence"), length, sentence_ends & real, numbers[:, 2:3], numbers[:, 3:4])
    in_blank = (place >= start) & (place < end)
    unknown = real & torch.where(is_kind("span", "sentence"), in_blank, place > 0)
    # rank: how many unknown positions come earlier in the order
    keys = numbers[:, CHOICES : CHOICES + place.shape[1]].masked_fill(~unknown, 2.0)  # known positions sort last
    rank = torch.where(is_kind("shuffled"), keys.argsort(-1).argsort(-1), unknown.long().cumsum(-1) - 1)
    found = torch.where(unknown, rank.div(size, rounding_mode="floor") + 1, groups.GIVEN)
    found = torch.where(is_kind("strided"), groups.strided_blanks(unknown, size), found)
    return found.masked_fill(~real, groups.PADDING)


def _blanks(sentence: Tensor, length: Tensor, ends: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Where each row's blank begins, and the place behind its end: int64, (B, 1) each.

    A span has a random length, and any place but the first token's. A sentence is a random stretch from behind one
    sentence end up to and including the next; where a row has none, its blank is a span.

    Args:
        sentence: bool, (B, 1), whether a sentence is wanted.
        length: int64, (B, 1).
        ends: bool, (B, T), True where a real token ends a sentence.
        first, second: float64, (B, 1), random numbers.
    """
    shortest, longest = ((share * length).round().long().clamp(min=1) for share in (SHORTEST_SPAN, LONGEST_SPAN))
    size = shortest + (first * (torch.minimum(longest, length - 1) - shortest + 1)).long()
    start = 1 + (second * (length - size)).long()
    sentences = ends.sum(-1, keepdim=True) - 1
    chosen = 1 + (first * sentences).long()  # how many sentence ends stand before the blank
    inside = F.pad(ends.long().cumsum(-1), (1, -1)) == chosen
    place = torch.arange(ends.shape[1]).expand_as(ends)
    begin = torch.where(inside, place, ends.shape[1]).amin(-1, keepdim=True)
    stop = torch.where(inside & ends, place, -1).amax(-1, keepdim=True) + 1
    sentence = sentence & (sentences >= 1)
    return torch.where(sentence, begin, start), torch.where(sentence, stop, start + size)


def uniform(seed: int, examples: Tensor, count: int) -> Tensor:
    """Random numbers of some examples: those of each depend on the seed and on its own number alone.

    The n-th number is a function of n, too, so that it does not matter how many are asked for. It is SplitMix64, a
    generator whose state is a counter (Steele, Lea and Flood 2014), for all examples and numbers at once.

    Args:
        seed: 64 bits.
        examples: int64, (B,).
        count: numbers for each.

    Returns:
        float64, (B, count), uniform in [0, 1).
    """
    step = _signed(GOLDEN)
    key = _mix(_mix(torch.tensor(_signed(seed % 2**64)) + step) + examples + step)  # (B,); int64 wraps around
    return _shift(_mix(key[:, None] + torch.arange(1, count + 1) * step), 11).double() * 2.0**-53


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's last step: neighbouring numbers get unrelated ones."""
    for shift, factor in MIX:
        x = (x ^ _shift(x, shift)) * _signed(factor)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, by: int) -> Tensor:
    """The bits of int64 moved to the right, zeros behind them; ``>>`` alone repeats the sign."""
    return (x >> by) & (2 ** (64 - by) - 1)


def _signed(number: int) -> int:
    """The int64 that has the bits of an unsigned number."""
    return number - 2**64 if number >= 2**63 else number


def generator_for(*numbers: int) -> torch.Generator:
    """A generator that depends on the numbers alone, such as a seed and the number of an example."""
    seed = 0
    for number in numbers:  # SplitMix64: neighbouring numbers give unrelated seeds
        seed = (seed + number + GOLDEN) % 2**64
        for shift, factor in MIX:
            seed = (seed ^ seed >> shift) * factor % 2**64
        seed ^= seed >> 31
    return torch.Generator().manual_seed(seed - 2**63)


def _check_positive(name: str, value: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")


def _is_json(path: str | Path) -> bool:
    return Path(path).suffix == ".json"


_ONE = Stage("left to right", 1, (Part("blocks", (1,)),))
_TWO = Stage("growing groups", 1, (Part("blocks", (1, 2, 4), grow=True),))
_PERMUTED = Part("shuffled", (1, 2, 4, 8))
_THREE = Stage("permuted groups", 3, (_PERMUTED,))
_STRUCTURED = (Part("shuffled", (1, 2, 4, 8), 2), Part("span", (1, 2, 4)), Part("sentence", (1, 2, 4)))
_MIXED = (
    Part("blocks", (1,), 0.1), Part("span", (1,), 0.2), Part("sentence", (1,), 0.15),
    Part("shuffled", (1,), 0.4), Part("strided", (2, 4, 8), 0.15),
)  # fmt: skip
PRESETS = {
    "paper": (_ONE, _TWO, _THREE),
    "official": (
        Stage("growing groups", 3, (Part("blocks", (1, 2, 4), grow=True),)),
        Stage("permuted groups", 2, (Part("shuffled", (4, 8), grow=True),)),
    ),
    "stage3": (_THREE,),
    "no_stage2": (_ONE, Stage("permuted groups", 4, (_PERMUTED,))),
    "mixed": (Stage("everything at once", 1, _MIXED),),
    "blanks": (Stage("everything at once", 1, tuple(replace(p, room=24) if p.kind in BLANKS else p for p in _MIXED)),),
    "spans": (_ONE, _TWO, Stage("permuted groups, spans and sentences", 3, _STRUCTURED)),
}
