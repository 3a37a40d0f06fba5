"""A text of several sources with weights: how many passes over each of them a pass over the whole makes.

With weight 6 a pass shows every document of a source six times, with 0.8 eight documents of ten, with 2.5 all of them
twice and half of them once more. They are whole documents, chosen by a seed, the same in every pass. So the tokens that
a training sees of each source follow from the weights.

Documents are held out before anything is repeated, and a text that several sources have belongs to the first of them:
no document stands on both sides. Repeats take no memory: each document is packed once, and ``train`` is told how often
a pass shows each row.
"""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from a3mini.train import corpus, packed
from a3mini.train.corpus import Story
from a3mini.train.curriculum import generator_for
from a3mini.train.data import Blocks
from a3mini.train.overlap import WORDS, KeptOut
from a3mini.train.stream import Stream

PRESETS = {  # by names that everyone can read: of the hub, and of pip packages
    "simple": {"tinystories": 1.0, "iastate/onestop_english": 2.0, "andersen": 2.0},
}
MOST = 1000  # passes over a source in one; what is more is a slip


class Weighted(NamedTuple):
    """What a training goes through: documents, and how often one pass shows each."""

    mixture: "Mixture"
    documents: list[Story] | Stream  # N of them, each once
    owners: Tensor  # int64, (N,), which of the mixture's sources a document is of
    visits: Tensor  # int64, (N,), how often a pass shows it, at least once
    dropped: int = 0  # documents that shared words with an evaluation set

    def pack(self, tokenizer, length: int, home: Path | None = None) -> tuple[Blocks, Tensor | None]:
        """Rows of tokens, each once, and how often a pass shows each row: int64, (rows,); None: once.

        Both are for ``train(..., blocks, ..., visits=visits)``. Arguments and errors: as of ``packed.pack``.
        """
        blocks = packed.pack(self.documents, tokenizer, length, home)
        visits = self.visits[blocks.documents]
        return blocks, None if (visits == 1).all() else visits

    def tokens(self, blocks: Blocks) -> dict[str, int]:
        """How many tokens, given or predicted, one pass shows of each source; ``blocks`` are those of ``pack``."""
        shown = blocks.lengths * self.visits[blocks.documents]
        sums = torch.zeros(len(self.mixture.weights), dtype=torch.int64)
        sums.index_add_(0, self.owners[blocks.documents], shown)
        return dict(zip(self.mixture.weights, sums.tolist(), strict=True))


@dataclass(frozen=True)
class Mixture:
    """Sources and their weights; see the top of this file.

    Args:
        weights: for each source, as ``corpus.documents`` reads it, how many passes over it a pass over the mixture
            makes; above 0, at most 1,000. Of documents with the same text the first source has the only one.

    Raises:
        ValueError: no source, or a weight that is no such number.
    """

    weights: Mapping[str | Path, float]

    def __post_init__(self):
        if not self.weights:
            raise ValueError("a mixture needs at least one source")
        for source, weight in self.weights.items():
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not number or not 0 < weight <= MOST:  # nan is neither
                raise ValueError(
                    f"the weight of {source} must be a number above 0, at most {MOST:,}, got {weight!r}; it says how "
                    "many passes over this text one pass makes, and a text that is to play no part is left out"
                )
        object.__setattr__(self, "weights", {str(source): float(weight) for source, weight in self.weights.items()})

    @classmethod
    def parse(cls, texts: Iterable[str | Path]) -> "Mixture":
        """A mixture as the command line writes it: "stories.jsonl.gz=6", "tinystories=1", "andersen", "simple".

        What stands behind the last "=" is the weight if it is a number; else all of it is the source's name, and the
        weight 1. So a "=" in the name of a file does no harm: "lr=3.txt", "lr=3.txt=6". The name of a preset stands
        for its sources; a weight multiplies theirs.

        Raises:
            ValueError: a source that is named twice, or a weight that is no number above 0.
        """
        weights = {}
        for text in map(str, texts):
            source, weight = _divided(text)
            if source in PRESETS:
                found = {name: own * weight for name, own in PRESETS[source].items()}
            else:
                found = {source: weight}
            if twice := found.keys() & weights.keys():
                raise ValueError(f"the text {min(twice)} is named twice; name it once, with a weight: {min(twice)}=2")
            weights |= found
        return cls(weights)

    @classmethod
    def preset(cls, name: str) -> "Mixture":
        """A mixture of texts that everyone can read, by its name.

        "simple": TinyStories, news for learners, and fairy tales. TinyStories is large: see ``limit``.

        Raises:
            ValueError: there is none of this name.
        """
        if name not in PRESETS:
            raise ValueError(f"there is no mixture {name!r}; there is {', '.join(PRESETS)}")
        return cls(PRESETS[name])

    def split(
        self,
        validation: float = 0.1,
        seed: int = 0,
        *,
        without: Iterable[Story] = (),
        keep_out: Iterable[str] | None = None,
        words: int = WORDS,
        streamed: bool = False,
        **how,
    ) -> tuple[Weighted, list[Story] | Stream]:
        """Training and held-out documents, the latter each once, whatever the weights.

        Without weights they are those of ``corpus.split_documents(corpus.documents(*sources))``. Which documents are
        held out does not depend on the weights, nor on what is kept out.

        Args:
            validation: share of the documents of all sources together that is held out; 0: none.
            seed: of which documents are held out, and of which a weight with a fraction takes.
            without: documents that are left out, such as those of a held-out text of its own.
            keep_out: the items of evaluation sets, such as ``corpus.whole_texts("cloze.csv")``: what shares ``words``
                words in a row with one of them is not trained on; see ``overlap``. None: there is no such set.
            words: how many words in a row are too many.
            streamed: leave the documents on the disk, see ``Stream``; they are read once to count them.
            how: column, split, separator and limit, as of ``corpus.documents``.

        Raises:
            ValueError, OSError: as ``corpus.documents`` and ``corpus.split_documents``; a source of which there is
                nothing to train on.
        """
        for source in self.weights:  # wrong names are found before anything is read
            _check_source(source)
        kept_out = None if keep_out is None else KeptOut(keep_out, words)
        stream = Stream(*self.weights, **how, without=without)
        reading, documents, owners, shared = stream.reading(), [], array("q"), array("b")
        for story in reading:
            owners.append(reading.position["source"])
            shared.append(kept_out is not None and kept_out.shares(story.text))
            if not streamed:
                documents.append(story)
        if not owners:
            raise ValueError(f"there is no text in {', '.join(self.weights)}; nothing is left besides what is held out")
        if validation and len(owners) == 1:
            raise ValueError(
                "the text is one document, which cannot be divided into training and held-out text; give a separator "
                "(--separator), a text that is held out (--validation-text), or hold out none (--validation 0)"
            )
        owners, shared = torch.frombuffer(owners, dtype=torch.int64), torch.frombuffer(shared, dtype=torch.bool)
        held_out = torch.zeros(len(owners), dtype=torch.bool)
        if validation:
            held_out[list(corpus.held_out_numbers(len(owners), validation, seed))] = True
        shared &= ~held_out
        visits = self._visits(owners.masked_fill(held_out | shared, -1), seed)

        def part(chosen: Tensor) -> list[Story] | Stream:
            if streamed and chosen.any():  # none is an empty list, which is false
                return stream.only(reading, chosen.numpy())
            return [documents[n] for n in chosen.nonzero().flatten().tolist()]

        chosen = visits > 0
        return Weighted(self, part(chosen), owners[chosen], visits[chosen], int(shared.sum())), part(held_out)

    def names(self) -> dict[str, float]:
        """The weights by the names of sources, without the folders that files are in, for a record."""
        short = [Path(source).name if corpus.file_kind(source) else source for source in self.weights]
        return dict(zip(short if len({*short}) == len(short) else self.weights, self.weights.values(), strict=True))

    def _visits(self, owners: Tensor, seed: int) -> Tensor:
        """int64, (N,): how often a pass shows each document, by its source; -1: that of none, and 0 times.

        Raises:
            ValueError: there is no document at all, or none of a source that was given a weight.
        """
        visits = torch.zeros_like(owners)
        for number, (source, weight) in enumerate(self.weights.items()):
            own = (owners == number).nonzero().flatten()
            total = round(weight * len(own))
            if not total and weight != 1:  # without weights a source may have nothing new, as in ``corpus.documents``
                few = f"{weight:g} of its {len(own)} documents is none" if len(own) else "it has no document"
                raise ValueError(
                    f"nothing is left to train on of {source}: {few}, besides what is held out, kept out, or in a "
                    "source before it; leave it out, or raise its weight"
                )
            each, more = divmod(total, max(1, len(own)))
            visits[own] = each
            visits[own[torch.randperm(len(own), generator=generator_for(seed, number))[:more]]] += 1
        if not visits.any():
            raise ValueError(f"nothing is left to train on of {', '.join(self.weights)}; give more text")
        return visits


def _divided(text: str) -> tuple[str, float]:
    """A source and its weight, of "SOURCE=WEIGHT" or "SOURCE"."""
    source, _, weight = text.rpartition("=")
    if source:
        try:
            return source, float(weight)
        except ValueError:
            if not corpus.file_kind(text) and _is_name(source):
                raise ValueError(f"the weight of {source} must be a number, got {weight!r}") from None
    return text, 1.0


def _is_name(source: str) -> bool:
    return bool(corpus.file_kind(source)) or source in {*corpus.PACKAGED, *corpus.HUB, *PRESETS}


def _check_source(source: str) -> None:
    """Raises ValueError or OSError if there is no such text, as far as can be told without reading it."""
    if source in corpus.PACKAGED:
        corpus.packaged(source)
    else:
        corpus.read(source, "text", "train", None)  # begins to read when it is gone through
