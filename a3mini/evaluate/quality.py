"""Generation quality: what a judge thinks of a text, and beside it what a low perplexity may hide.

A judge is an autoregressive model that did not write the text. Its **perplexity** is exp(nats per token), of the text
given the prompt that it continues. A judge rewards what is easy to predict, above all repetition. So these always
stand beside it::

    entropy      of the tokens of one text: with n_v of its L tokens equal to v, -sum_v n_v/L log(n_v/L), in nats. It
                 is what papers on diffusion language models report (Zheng et al. 2024, arXiv 2409.02908). It is at
                 most log L, so only texts of like length may be compared.
    distinct-n   of one text: different runs of n tokens, divided by all runs of n tokens (after Li et al. 2016).

The judge reads the text in its own tokens, whoever wrote it. Entropy and distinct-n are of the tokens as they were
written (``Written``): sixteen full stops are sixteen tokens, even where a tokenizer has one token for all of them. All
are measured on each text alone: a model that writes one good text every time is not caught by them. So every text has a
prompt of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from a3mini import groups
from a3mini.evaluate.intervals import Interval, bootstrap
from a3mini.evaluate.stories import MIDDLE, PREFIX, Batch
from a3mini.objective import labels_for
from a3mini.rows import IGNORED_LABEL
from a3mini.train.corpus import Story
from a3mini.train.curriculum import generator_for
from a3mini.train.data import start_token
from a3mini.train.tokens import decode, decode_behind, encode, encode_behind, encode_each

RUNS = (1, 2, 3)  # n of distinct-n


class Written(str):
    """A text that knows the tokens that it was written in."""

    ids: list[int]

    def __new__(cls, text: str, ids: Sequence[int]):
        made = super().__new__(cls, text)
        made.ids = list(map(int, ids))
        return made


class Judged(NamedTuple):
    """What was measured on N texts, all (N,)."""

    nats: Tensor  # float64, negative log-likelihood of the text under the judge
    tokens: Tensor  # int64, of the text, the judge's
    entropy: Tensor  # float64, nats
    distinct: dict[int, Tensor]  # n to float64, a share from 0 to 1

    def summary(self, seed: int = 0) -> dict[str, Interval]:
        """Means over the texts with their bootstrap intervals; two texts at least.

        The perplexity is that of all tokens together, exp(sum of nats / sum of tokens): a text is drawn again with
        all its tokens.
        """
        loss = bootstrap(self.nats / self.tokens, self.tokens.double(), seed=seed)
        return {
            "perplexity": Interval(*map(math.exp, loss)),
            "entropy": bootstrap(self.entropy, seed=seed),
            **{f"distinct_{n}": bootstrap(share, seed=seed) for n, share in self.distinct.items()},
        }


def entropy(ids: Sequence[int]) -> float:
    """Entropy of the tokens of one text, nats: 0 for one token over and over, log L for L different ones.

    Example:
        >>> round(entropy([7, 7, 8, 8]), 4)  # log 2
        0.6931
    """
    counts = torch.tensor(list(ids)).unique(return_counts=True)[1].double()
    return torch.special.entr(counts / counts.sum()).sum().item()


def distinct(ids: Sequence[int], n: int) -> float:
    """Different runs of ``n`` tokens of one text, as a share of all its runs of ``n`` tokens.

    Example:
        >>> distinct([1, 2, 1, 2], n=2)  # of 12, 21, 12 two differ
        0.6666666666666666
    """
    found = list(zip(*(ids[start:] for start in range(n)), strict=False))
    return len(set(found)) / len(found)


def judge(
    model: PreTrainedModel, tokenizer, texts: Sequence[str], prompts: Sequence[str] | None = None, batch_size: int = 8
) -> Judged:
    """Measure texts: perplexity under ``model``, entropy and distinct-n.

    Args:
        model, tokenizer, texts, prompts, batch_size: as ``text_nats``. Entropy and distinct-n of a ``Written`` are
            those of its own tokens, of another text those of the judge's.

    Raises:
        ValueError: a text of fewer than three tokens; else as ``text_nats``.
    """
    own = _own_ids(tokenizer, texts, prompts)
    written = [text.ids if isinstance(text, Written) else ids for text, ids in zip(texts, own, strict=True)]
    for number, ids in enumerate(written):
        if len(ids) < max(RUNS):
            raise ValueError(
                f"text {number} ({texts[number]!r}) has {len(ids)} tokens, and distinct-{max(RUNS)} needs {max(RUNS)}; "
                "leave such texts out, and say so"
            )
    return Judged(
        *text_nats(model, tokenizer, texts, prompts, batch_size),
        entropy=torch.tensor([entropy(ids) for ids in written], dtype=torch.float64),
        distinct={n: torch.tensor([distinct(ids, n) for ids in written], dtype=torch.float64) for n in RUNS},
    )


@torch.no_grad()
def text_nats(
    model: PreTrainedModel,
    tokenizer,
    texts: Sequence[str],
    prompts: Sequence[str] | None = None,
    batch_size: int = 8,
    start: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of texts under a judge.

    Args:
        model, tokenizer: the judge, left to right.
        texts: N of them; a space at the beginning counts. An empty one has no nats.
        prompts: what each text continues: read, but not counted. Default: nothing.
        batch_size: texts at a time.
        start: the token before all; default: as in ``stories``.

    Returns:
        nats (N,), float64, and tokens (N,), int64.

    Raises:
        ValueError: no texts, not as many prompts, or a text that is too long for the judge.
    """
    own = _own_ids(tokenizer, texts, prompts)
    start = start_token(tokenizer) if start is None else start
    before = [[start, *ids] for ids in (encode(tokenizer, prompts) if prompts else [[]] * len(texts))]
    limit = model.config.max_position_embeddings
    for number, (given, ids) in enumerate(zip(before, own, strict=True)):
        if len(given) + len(ids) > limit:
            raise ValueError(
                f"text {number} has {len(given) + len(ids)} tokens with its prompt, but the judge takes {limit}; cut it"
            )
    nats = torch.zeros(len(texts), dtype=torch.float64)
    for part in torch.arange(len(texts)).split(batch_size):
        rows = [torch.tensor(before[n] + own[n]) for n in part.tolist()]
        order = [groups.left_to_right(len(row), len(before[n])) for n, row in zip(part.tolist(), rows, strict=True)]
        ids = pad_sequence(rows, batch_first=True)
        group_ids = pad_sequence(order, batch_first=True, padding_value=groups.PADDING)
        nats[part] = _negative_log_likelihood(model, ids.to(model.device), group_ids.to(model.device)).cpu()
    return nats, torch.tensor([len(ids) for ids in own])


def _own_ids(tokenizer, texts: Sequence[str], prompts: Sequence[str] | None) -> list[list[int]]:
    """The tokens of texts, each of which stands behind its prompt."""
    prompts = [""] * len(texts) if prompts is None else prompts
    if not texts or len(prompts) != len(texts):
        raise ValueError(f"there are {len(texts)} texts and {len(prompts)} prompts; give one prompt for each text")
    pairs = zip(texts, prompts, strict=True)
    return [encode_behind(tokenizer, text) if prompt else encode(tokenizer, [text])[0] for text, prompt in pairs]


def _negative_log_likelihood(model: PreTrainedModel, ids: Tensor, group_ids: Tensor) -> Tensor:
    """Nats (B,) of the predicted tokens, each given what stands on its left. Padding stands on the right, unseen."""
    labels = labels_for(ids, group_ids)[:, 1:]
    at = labels != IGNORED_LABEL
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    # logits only where something is predicted: a prompt needs none
    losses = torch.nn.functional.cross_entropy(model.lm_head(hidden[at]).float(), labels[at], reduction="none")
    return torch.zeros(at.shape, device=ids.device).masked_scatter(at, losses).double().sum(-1)


@dataclass(frozen=True, eq=False)
class Openings(Batch):
    """Beginnings of N stories, and blanks behind them: any system that fills a blank (``evaluate.fillers``) goes on.

    What follows in the stories stands in ``input_ids``, as the true text to compare with; no system reads it.
    """

    @property
    def prompts(self) -> list[str]:
        """What is given, without the start token."""
        rows = zip(self.input_ids, self.part, strict=True)
        return self._written([row[1:][part[1:] == PREFIX].tolist() for row, part in rows], decode)

    @property
    def real(self) -> list[str]:
        """How the stories really go on."""
        return self.texts(self.input_ids)

    def decode(self, blanks: list) -> list[Written]:
        """The texts with the spaces around them, which a judge reads too."""
        return self._written(blanks, decode_behind)

    def _written(self, blanks: list, read) -> list[Written]:
        return [Written(read(self.tokenizer, ids, skip_special_tokens=False), ids) for ids in blanks]


def openings(
    stories: Sequence[Story], tokenizer, given: int = 32, new: int = 64, count: int = 24, seed: int = 0, device="cpu"
) -> Openings:
    """The first tokens of ``count`` stories, drawn with ``seed`` from those that are long enough.

    Args:
        stories: a model's training should not have seen them.
        tokenizer: the model's.
        given: tokens that are given, with the start token.
        new: tokens that are to follow.
        count: how many; a larger count with the same seed holds the stories of a smaller one.
        seed: of the choice.
        device: of the model.

    Raises:
        ValueError: an option out of its range, or fewer than ``count`` stories that are long enough.
    """
    groups.check_integer("given", given, 2)
    groups.check_integer("new", new, max(RUNS))
    groups.check_integer("count", count, 1)
    start = start_token(tokenizer)
    encoded = chain.from_iterable(encode_each(tokenizer, (story.text for story in stories)))
    rows = [torch.tensor([start, *ids[: given + new - 1]]) for ids in encoded if len(ids) >= given + new - 1]
    if len(rows) < count:
        raise ValueError(
            f"{len(rows)} of the {len(stories)} stories have {given + new - 1} tokens, and {count} are wanted; "
            "lower count, given or new"
        )
    order = torch.randperm(len(rows), generator=generator_for(seed, 0))[:count].tolist()
    part = torch.full((count, given + new), PREFIX)
    part[:, given:] = MIDDLE
    return Openings(
        stories=[],
        input_ids=torch.stack([rows[n] for n in order]).to(device),
        part=part.to(device),
        tokenizer=tokenizer,
        banned=sorted({*tokenizer.all_special_ids, start}),
    )
