"""Filling the blanks of a text, given everything else."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from a3mini import groups, objective
from a3mini.decode.dynamic import CRITERIA, resample
from a3mini.decode.groupwise import Generation, generate
from a3mini.model import A3ForCausalLM
from a3mini.train.data import check_vocabulary, start_token
from a3mini.train.tokens import decode, decode_behind, encode, encode_behind, no_tokens

ORDERS = (*groups.INFILL_ORDERS, "confidence", "entropy")
CANDIDATES = (1, 2, 3, 4, 6, 8, 12, 16)  # lengths that "auto" tries


@dataclass(frozen=True, eq=False)
class Infilling(Generation):
    """A ``Generation`` of one row, (1, T), that begins with a start token; and the text.

    Attributes:
        text: the text with its blanks filled; ``str(infilling)`` is the same.
        blanks: what went into each blank.
    """

    text: str
    blanks: tuple[str, ...]

    def __str__(self) -> str:
        return self.text


@torch.no_grad()
def infill(
    model: A3ForCausalLM,
    tokenizer,
    text: str,
    blank: str = "____",
    tokens_per_blank: int | Sequence[int] | str = 8,
    size: int = 1,
    order: str = "left_to_right",
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    known_order: str | None = None,
    candidates: Sequence[int] = CANDIDATES,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    banned: Sequence[int] | None = None,
    use_cache: bool = True,
    runners_up: int = 3,
    considered: bool = True,
) -> Infilling:
    """Fill every blank of a text, given everything else (paper: groupwise decoding, infilling).

    The marker is cut out before anything is tokenised, so it does not matter how a tokenizer would split it. A start
    token is put before the text. Spaces before a blank go, since tokens bring their own. What stands around the blanks
    comes back as it was given. The model reads it as its tokenizer has it: one that lowers case, or does not know a
    character, hides that from the model.

    Args:
        model, tokenizer: an A3 model and its tokenizer.
        text: has one or more blanks; it may be nothing but blanks.
        blank: how a blank is written.
        tokens_per_blank: how many tokens each blank gets: one number, or one for each blank, or "auto". "auto" goes
            through the blanks from left to right, fills the whole text with each of ``candidates`` as the length of
            that blank, and keeps the length whose whole text has the highest left-to-right log-likelihood. The blanks
            behind it have the middle candidate's length until their turn comes. Longer texts have lower likelihoods,
            so it tends to be brief.
        size: tokens filled at a time.
        order: of the unknown tokens: "left_to_right"; "random"; "strided", ``size`` far-apart tokens of a blank at a
            time (``groups.infill``); or chosen by the model: "confidence", "entropy".
        temperature, generator, top_k, top_p, repetition_penalty: see ``sampling.Sampler``.
        known_order: "together", known tokens are one group that all sees all; or "left_to_right", each sees those on
            its left, as in the model that A3 was adapted from. None: as in the model's training
            (``model.config.known_order``).
        candidates: the lengths that "auto" tries.
        banned: token ids that are never drawn; default: the tokenizer's special tokens, and numbers that stand for no
            token.
        use_cache, runners_up: see ``generate``.
        considered: see ``resample``; for the orders "confidence" and "entropy".

    Returns:
        the filled text, and all that ``generate`` returns.

    Raises:
        TypeError: ``text`` is not a string.
        ValueError: no blank, no tokens for one, more tokens than the model takes, a text that is not Unicode, a
            tokenizer larger than the model's vocabulary, or as ``generate``.
    """
    if not isinstance(text, str) or not isinstance(blank, str):
        raise TypeError(f"text and blank must be strings, got {type(text).__name__} and {type(blank).__name__}")
    if not blank:
        raise ValueError('blank is the empty string; say how a blank is written, for example blank="____"')
    if blank not in text:
        raise ValueError(f"there is no blank in the text; write {blank!r} where something is missing")
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {order!r}")
    known_order = model.config.known_order if known_order is None else known_order
    groups.check_known_order(known_order)
    groups.check_integer("size", size, 1)
    vocab_size = model.config.vocab_size
    check_vocabulary(tokenizer, vocab_size)
    texts = text.split(blank)
    # the space before a word belongs to the word's token: a filled blank brings its own
    texts = [*(part.rstrip(" ") for part in texts[:-1]), texts[-1]]
    parts = [*encode(tokenizer, texts[:1]), *(encode_behind(tokenizer, part) for part in texts[1:])]
    start = start_token(tokenizer)
    if banned is None:  # special tokens, and numbers that stand for no token at all
        empty = {model.config.empty_token_id} - {None}
        banned = sorted({*tokenizer.all_special_ids, start, *empty, *no_tokens(tokenizer, vocab_size)})
    options = dict(
        temperature=temperature, top_k=top_k, top_p=top_p, generator=generator, use_cache=use_cache,
        repetition_penalty=repetition_penalty, banned=banned, runners_up=runners_up,
    )  # fmt: skip

    def fill(lengths: list[list[int]]) -> tuple[Generation, Tensor]:
        """One row for each list of lengths; also bool (B, T), where the blanks are."""
        rows = [_lay_out(parts, row, start) for row in lengths]
        ids, unknown = (pad_sequence(column, batch_first=True).to(model.device) for column in zip(*rows, strict=True))
        length = torch.tensor([len(row) for row, _ in rows], device=model.device)
        padding = torch.arange(ids.shape[1], device=model.device) >= length[:, None]
        return _fill(model, ids, unknown, padding, size, order, known_order, considered, options), unknown

    limit = model.config.max_position_embeddings
    fixed = 1 + sum(map(len, parts))
    lengths, automatic = _lengths(tokens_per_blank, len(parts) - 1, candidates, limit - fixed)
    if fixed + sum(lengths) > limit:
        raise ValueError(
            f"text and blanks have {fixed + sum(lengths)} tokens, but the model takes {limit}; shorten the text"
        )
    if not automatic:
        return _one(tokenizer, texts, *fill([lengths]), 0, fixed + sum(lengths), lengths)
    for number, current in enumerate(lengths):
        room = limit - fixed - sum(lengths) + current
        tried = [[*lengths[:number], length, *lengths[number + 1 :]] for length in candidates if length <= room]
        done, unknown = fill(tried)
        best = int(_left_to_right(model, done).argmax())
        lengths = tried[best]
    return _one(tokenizer, texts, done, unknown, best, fixed + sum(lengths), lengths)


def _lengths(wanted, blanks: int, candidates: Sequence[int], room: int) -> tuple[list[int], bool]:
    """Tokens for each blank to begin with, and whether they are to be chosen."""
    if isinstance(wanted, str):
        if wanted != "auto":
            raise ValueError(f'tokens_per_blank must be a number, one number for each blank, or "auto"; got {wanted!r}')
        if not isinstance(candidates, Sequence) or not candidates:
            raise ValueError(f"candidates must be lengths to try, for example (1, 2, 4, 8); got {candidates!r}")
        for length in candidates:
            groups.check_integer("each of candidates", length, 1)
        smallest = min(candidates)
        if smallest * blanks > room:
            raise ValueError(
                f"{blanks} blanks of at least {smallest} tokens do not fit: besides the text, the model has room for "
                f"{max(room, 0)} tokens; shorten the text"
            )
        middle = sorted(candidates)[len(candidates) // 2]
        return [middle if middle * blanks <= room else smallest] * blanks, True
    lengths = [wanted] * blanks if not isinstance(wanted, Sequence) else list(wanted)
    if len(lengths) != blanks:
        raise ValueError(f"tokens_per_blank has {len(lengths)} numbers, but the text has {blanks} blanks")
    for length in lengths:
        groups.check_integer("tokens_per_blank", length, 1)
    return lengths, False


def _lay_out(parts: list[list[int]], lengths: list[int], start: int) -> tuple[Tensor, Tensor]:
    """One row: its tokens, and where the blanks are."""
    ids, unknown = [start, *parts[0]], [False] * (1 + len(parts[0]))
    for length, part in zip(lengths, parts[1:], strict=True):
        ids += [start] * length + part
        unknown += [True] * length + [False] * len(part)
    return torch.tensor(ids), torch.tensor(unknown)


def _fill(model, ids, unknown, padding, size, order, known_order, considered, options) -> Generation:
    if order in CRITERIA and order != "random":
        known = ~unknown & ~padding
        position = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        known_groups = position if known_order == "left_to_right" else None
        options = {**options, "known": known, "known_groups": known_groups, "considered": considered}
        return resample(model, ids, unknown, size, order, **options)
    group_ids = groups.infill(unknown, size, order, padding, options["generator"])
    return generate(model, ids, *groups.read_given(group_ids, known_order), **options)


def _left_to_right(model: A3ForCausalLM, done: Generation) -> Tensor:
    """Log-likelihood (B,) of each whole text after its start token, nats."""
    position = torch.arange(done.sequences.shape[1], device=done.sequences.device)
    group_ids = position.expand_as(done.sequences).masked_fill(done.group_ids == groups.PADDING, groups.PADDING)
    return objective.log_likelihood(model, done.sequences, group_ids)


def _one(tokenizer, texts: list[str], done: Generation, unknown: Tensor, row: int, length: int, lengths: list[int]):
    """Row ``row`` without its padding; ``texts`` stand around the blanks."""
    one = slice(row, row + 1)
    filled = [ids.tolist() for ids in done.sequences[row, :length][unknown[row, :length]].split(lengths)]
    return Infilling(
        sequences=done.sequences[one, :length],
        log_probs=done.log_probs[one, :length],
        group_ids=done.group_ids[one, :length],
        known=done.known[one, :length],
        trace=done.trace.row(row, length),
        text=_put_together(tokenizer, texts, filled),
        blanks=tuple((decode_behind if n or texts[0] else decode)(tokenizer, ids) for n, ids in enumerate(filled)),
    )


def _put_together(tokenizer, texts: list[str], filled: list[list[int]]) -> str:
    """The texts as they were given, and the tokens of the blanks between them, read.

    The whole row is not decoded: not every tokenizer gives the texts back, and the odd byte of a blank could spoil the
    letter beside it. Blanks without text between them are read together: a character may have bytes in both.
    """
    whole, ids = texts[0], []
    for n, (more, behind) in enumerate(zip(filled, texts[1:], strict=True), start=1):
        ids = ids + more
        if behind or n == len(filled):
            whole += (decode_behind if whole else decode)(tokenizer, ids) + behind
            ids = []
    return whole
