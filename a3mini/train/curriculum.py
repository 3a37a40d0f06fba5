"""Progressive adaptation: which groups a training step sees.

A model that was trained left to right learns to predict in any order in stages (paper: progressive adaptation)::

    1  singletons from left to right      what the model already does, now in the query stream
    2  contiguous groups of growing size  several tokens at once, still from left to right
    3  permuted groups                    any token from any others

A ``Curriculum`` is data: stages with shares of the training steps, and in each stage a mixture of groupings.
Each example draws its own grouping (the paper's code draws one per batch) from a generator of its own, so the
groups depend on the seed and on the example's number alone, not on the batch size or on who computes it.

A grouping draws ``group_ids`` for one row. Its kinds::

    "blocks"     contiguous groups from left to right; size 1 is autoregression
    "shuffled"   random order, cut into groups; size 1 is a permutation language model
    "strided"    far-apart tokens at a time, each stream from left to right; the size is the number of streams (ours)
    "span"       one contiguous blank of random length, both sides given, filled in groups from left to right
    "sentence"   the same with one whole sentence as the blank (a span where the row has no whole sentence)
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import yaml
from torch import Tensor

from a3mini import groups, runs

KINDS = ("blocks", "shuffled", "strided", "span", "sentence")
SHORTEST_SPAN, LONGEST_SPAN = 1 / 16, 1 / 2  # of a row
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

    def draw(self, length: int, sentence_ends: Tensor, generator: torch.Generator) -> Tensor:
        """Group ids for the ``length`` real tokens of a row, the first of which is given.

        Args:
            length: at least 2.
            sentence_ends: bool, (length,), True where a token ends a sentence; only "sentence" reads it.
            generator: where everything random comes from.

        Returns:
            int64, (length,).
        """
        if self.kind == "blocks":
            return groups.blocks(length, self.size)
        if self.kind == "shuffled":
            return groups.shuffled(length, self.size, generator=generator)
        if self.kind == "strided":
            return groups.strided(length, self.size)
        start, end = _span(length, generator)
        if self.kind == "sentence":
            start, end = _sentence(sentence_ends, generator) or (start, end)
        unknown = torch.zeros(length, dtype=torch.bool)
        unknown[start:end] = True
        return groups.infill(unknown, self.size)


def _span(length: int, generator: torch.Generator) -> tuple[int, int]:
    shortest, longest = max(1, round(SHORTEST_SPAN * length)), max(1, round(LONGEST_SPAN * length))
    size = int(torch.randint(shortest, min(longest, length - 1) + 1, (), generator=generator))
    start = int(torch.randint(1, length - size + 1, (), generator=generator))
    return start, start + size


def _sentence(sentence_ends: Tensor, generator: torch.Generator) -> tuple[int, int] | None:
    """A random stretch from behind one sentence end up to and including the next."""
    ends = sentence_ends.nonzero().flatten().tolist()
    if len(ends) < 2:
        return None
    chosen = int(torch.randint(len(ends) - 1, (), generator=generator))
    return ends[chosen] + 1, ends[chosen + 1] + 1


@dataclass(frozen=True)
class Part:
    """One ingredient of a stage: a kind of grouping, the group sizes it uses, and how often it is drawn.

    Attributes:
        kind: see ``Grouping``.
        sizes: group sizes.
        weight: how often the part is drawn, relative to the stage's other parts.
        grow: True: the sizes take equal parts of the stage in turn. False: each example draws one of them.
    """

    kind: str
    sizes: tuple[int, ...] = (1,)
    weight: float = 1.0
    grow: bool = False

    def __post_init__(self):
        object.__setattr__(self, "sizes", tuple(self.sizes))  # files hold lists
        if not self.sizes:
            raise ValueError(f"a part of kind {self.kind!r} needs at least one group size")
        for size in self.sizes:
            Grouping(self.kind, size)
        _check_positive("weight", self.weight)
        if not isinstance(self.grow, bool):
            raise ValueError(f"grow must be true or false, got {self.grow!r}")


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

    def choose(self, progress: float, generator: torch.Generator) -> Grouping:
        """A grouping for one example, ``progress`` in [0, 1) of the way through the stage."""
        weights = torch.tensor([part.weight for part in self.parts], dtype=torch.float32)
        part = self.parts[int(torch.multinomial(weights, 1, generator=generator))]
        if part.grow:
            number = int(progress * len(part.sizes) + ROUNDING)
            return Grouping(part.kind, part.sizes[min(number, len(part.sizes) - 1)])
        return Grouping(part.kind, part.sizes[int(torch.randint(len(part.sizes), (), generator=generator))])


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

        Raises:
            ValueError: another name.
        """
        if name not in PRESETS:
            raise ValueError(f"there is no curriculum {name!r}; there are {', '.join(PRESETS)}")
        return cls(tuple(PRESETS[name]), name)

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

    def draw(
        self, progress: float, lengths: Tensor, sentence_ends: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Group ids for a batch, each row with a grouping of its own.

        Args:
            progress: in [0, 1), how much of the training is over.
            lengths: int64, (B,), how many tokens of each row are real; the rest is padding.
            sentence_ends: bool, (B, T).
            generators: one per row.

        Returns:
            int64, (B, T).
        """
        stage, inside = self.stage_at(progress)
        return draw_rows(lengths, sentence_ends, [stage.choose(inside, g) for g in generators], generators)

    def to_dict(self) -> dict:
        return {"name": self.name, "stages": json.loads(json.dumps([asdict(stage) for stage in self.stages]))}

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


def draw_rows(
    lengths: Tensor, sentence_ends: Tensor, groupings: Sequence[Grouping], generators: Sequence[torch.Generator]
) -> Tensor:
    """Group ids (B, T), one grouping and one generator per row; -1 behind the real tokens."""
    group_ids = torch.full(sentence_ends.shape, groups.PADDING)
    for row, (length, grouping, generator) in enumerate(zip(lengths.tolist(), groupings, generators, strict=True)):
        group_ids[row, :length] = grouping.draw(length, sentence_ends[row, :length], generator)
    return group_ids


def generator_for(*numbers: int) -> torch.Generator:
    """A generator that depends on the numbers alone, such as a seed and the number of an example."""
    seed = 0
    for number in numbers:  # splitmix64: neighbouring numbers give unrelated seeds
        seed = (seed + number + 0x9E3779B97F4A7C15) % 2**64
        seed = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        seed = (seed ^ seed >> 27) * 0x94D049BB133111EB % 2**64
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
    "spans": (_ONE, _TWO, Stage("permuted groups, spans and sentences", 3, _STRUCTURED)),
}
