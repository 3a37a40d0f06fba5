"""Filling the third sentence of a story of five, by the protocol that the paper follows (DiffuLLaMA's evaluation).

The stories are those of Story Cloze, validation set of 2016 (ROCStories); ``corpus.cloze`` reads them. Sentences 1 and
2 are the prefix, sentence 4 and the right ending are the suffix, and sentence 3 is the blank, at its true length in
tokens. The protocol takes the first 1,000 stories; ``subset`` draws fewer of them.

**Tokens**, the same for every system::

    start token, prefix | " " + middle | " " + suffix

The parts are tokenised apart, so the blank is exactly the tokens of " " + middle, and no token reaches across an edge.
DiffuLLaMA's code does the same: its tokenizer puts a space before every part by itself; with such a tokenizer no part
gets two (``tokens.encode_behind``). The start token is that of ``data.start_token``. No system may put a special token
into the blank, and none may end early.

**ROUGE** compares the filled sentence with the true one: F1 of rouge-score times 100, without stemming, which is what
DiffuLLaMA's evaluation gets from the defaults of ``evaluate``. ROUGE lowers case and drops punctuation itself.

A system is a function of (``Batch``, generator) to a ``Filled``; ``evaluate.fillers`` has them.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from a3mini import groups
from a3mini.train.corpus import Cloze
from a3mini.train.curriculum import generator_for
from a3mini.train.data import start_token
from a3mini.train.tokens import decode_behind, encode_behind
from a3mini.train.tokens import encode as encode_texts

PROTOCOL = 1000  # the protocol's stories are the first so many
ROUGE = ("rouge1", "rouge2", "rougeL")
PREFIX, MIDDLE, SUFFIX = 0, 1, 2  # the parts of a story; -1 is padding
SENTENCE_END = re.compile(r"""(?<=[.!?])\s+|(?<=[.!?]["'”’)])\s+""")


class Filled(NamedTuple):
    """What a system returns for B stories."""

    texts: list[str]  # what it put into each blank
    passes: list[int]  # forward passes that each story took part in


@dataclass(frozen=True, eq=False)
class Batch:
    """B stories as tokens, padded on the right; see ``encode``.

    Attributes:
        stories: the stories.
        input_ids: int64, (B, T). The true middle is in it, for scoring; a system that fills must not read it.
        part: int64, (B, T): ``PREFIX`` (with the start token), ``MIDDLE``, ``SUFFIX``, or -1, padding.
        tokenizer: a Hugging Face tokenizer.
        banned: token ids that no system may put into a blank: special tokens.
    """

    stories: list[Cloze]
    input_ids: Tensor
    part: Tensor
    tokenizer: object
    banned: list[int]

    @property
    def unknown(self) -> Tensor:
        """The blank; bool, (B, T)."""
        return self.part == MIDDLE

    @property
    def padding(self) -> Tensor:
        """bool, (B, T)."""
        return self.part == groups.PADDING

    @property
    def lengths(self) -> list[int]:
        """Tokens of each blank."""
        return self.unknown.sum(-1).tolist()

    def texts(self, sequences: Tensor) -> list[str]:
        """What stands in the blanks of ``sequences`` (B, T)."""
        return self.decode([row[blank].tolist() for row, blank in zip(sequences, self.unknown, strict=True)])

    def decode(self, blanks: list[list[int]]) -> list[str]:
        """The texts of the tokens of each blank, without spaces around them."""
        return [decode_behind(self.tokenizer, ids, skip_special_tokens=False).strip() for ids in blanks]


def encode(stories: Sequence[Cloze], tokenizer, device="cpu") -> Batch:
    """Stories as one batch of tokens.

    Raises:
        ValueError: no stories, or a story without a middle sentence.
    """
    if not stories:
        raise ValueError("there are no stories to encode")
    start, rows, parts = start_token(tokenizer), [], []
    for story in stories:
        if not story.middle.strip():
            raise ValueError(f"the story {story.prefix[:40]!r} ... has no middle sentence; leave it out")
        texts = (story.prefix.strip(), f" {story.middle.strip()}", f" {story.suffix.strip()}")
        prefix = encode_texts(tokenizer, texts[:1])[0]
        middle, suffix = (encode_behind(tokenizer, text) for text in texts[1:])
        ids = [start, *prefix, *middle, *suffix]
        rows.append(torch.tensor(ids))
        lengths = torch.tensor([1 + len(prefix), len(middle), len(suffix)])
        parts.append(torch.tensor([PREFIX, MIDDLE, SUFFIX]).repeat_interleave(lengths))
    return Batch(
        stories=list(stories),
        input_ids=pad_sequence(rows, batch_first=True).to(device),
        part=pad_sequence(parts, batch_first=True, padding_value=groups.PADDING).to(device),
        tokenizer=tokenizer,
        banned=sorted({*tokenizer.all_special_ids, start}),
    )


def batches(stories: Sequence[Cloze], tokenizer, batch_size: int = 16, device="cpu") -> list[tuple[list[int], Batch]]:
    """Batches of stories of like length, each with the indices of its stories.

    Sorted by the length of the blank first: a batch takes as many passes as its longest blank.
    """
    groups.check_integer("batch_size", batch_size, 1)
    whole = encode(stories, tokenizer)
    length = (~whole.padding).sum(-1)
    order = (whole.unknown.sum(-1) * (int(length.max()) + 1) + length).argsort(stable=True).tolist()
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [(part, encode([stories[n] for n in part], tokenizer, device)) for part in parts]


def subset(stories: Sequence[Cloze], count: int, seed: int = 0, first: int = PROTOCOL) -> list[Cloze]:
    """At most ``count`` of the first ``first`` stories, drawn with ``seed``, in their order.

    A larger count with the same seed holds the stories of a smaller one.
    """
    groups.check_integer("count", count, 1)
    order = torch.randperm(min(first, len(stories)), generator=generator_for(seed, 0))
    return [stories[n] for n in sorted(order[:count].tolist())]


def fill(
    system: Callable[[Batch, torch.Generator], Filled],
    stories: Sequence[Cloze],
    tokenizer,
    batch_size: int = 16,
    seed: int = 0,
    device="cpu",
) -> Filled:
    """What a system puts into the blank of every story, in the order of ``stories``.

    Args:
        system: see ``evaluate.fillers``.
        stories: at least one.
        tokenizer: the system's.
        batch_size: stories at a time.
        seed: of all that is drawn; a greedy system draws nothing.
        device: of the system's model.
    """
    texts, passes = [""] * len(stories), [0] * len(stories)
    for number, (part, batch) in enumerate(batches(stories, tokenizer, batch_size, device)):
        filled = system(batch, generator_for(seed, number))
        for n, text, count in zip(part, *filled, strict=True):
            texts[n], passes[n] = text, count
    return Filled(texts, passes)


@torch.no_grad()
def middle_nats(
    log_probs: Callable[[Batch], Tensor], stories: Sequence[Cloze], tokenizer, batch_size: int = 16, device="cpu"
) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of the true middle, and its number of tokens, for every story.

    Args:
        log_probs: a ``Batch`` to the log-probabilities (B, T) of its tokens, nats; those of the blank are read.
        stories, tokenizer, batch_size, device: as ``fill``.

    Returns:
        nats (N,), float64, and tokens (N,), int64. Per token: ``intervals.bootstrap(nats / tokens, tokens)``.
    """
    nats, tokens = torch.zeros(len(stories), dtype=torch.float64), torch.zeros(len(stories), dtype=torch.int64)
    for part, batch in batches(stories, tokenizer, batch_size, device):
        nats[part] = -(log_probs(batch) * batch.unknown).double().sum(-1).cpu()
        tokens[part] = batch.unknown.sum(-1).cpu()
    return nats, tokens


def rouge(texts: Sequence[str], references: Sequence[str]) -> dict[str, Tensor]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L for every pair, from 0 to 100; float64, (N,) each.

    Raises:
        ImportError: rouge-score is not installed.
        ValueError: not as many texts as references.
    """
    if len(texts) != len(references):
        raise ValueError(f"there are {len(texts)} texts but {len(references)} references; they must be pairs")
    try:
        from rouge_score.rouge_scorer import RougeScorer  # only here: of the extra ``eval``
    except ImportError as error:
        raise ImportError('ROUGE comes with a package of its own: pip install "a3mini[eval]"') from error
    scorer = RougeScorer(ROUGE, use_stemmer=False)
    found = [scorer.score(reference, text) for text, reference in zip(texts, references, strict=True)]
    return {name: torch.tensor([100 * one[name].fmeasure for one in found], dtype=torch.float64) for name in ROUGE}


def sentences(text: str) -> list[str]:
    """A text cut behind full stops, exclamation and question marks, closing quotation marks and brackets included."""
    return SENTENCE_END.split(text.strip())
