"""Filling the blanks of a text, given everything else; and the probability of what stands in them.

Where the model has learned a token that ends a blank (``config.empty_token_id``), nobody needs to say how long a blank
is: ``blanks`` has how that works.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from a3mini import groups, objective
from a3mini.decode.blanks import Rooms, check_blank_order, in_blanks
from a3mini.decode.dynamic import resample
from a3mini.decode.groupwise import Generation, generate, settle_known_order
from a3mini.decode.limits import Limits
from a3mini.model import A3ForCausalLM
from a3mini.train.data import check_vocabulary, start_token
from a3mini.train.tokens import decode, decode_behind, encode, encode_behind, no_tokens

CHOSEN = ("confidence", "entropy")  # orders that the model chooses
ORDERS = (*groups.INFILL_ORDERS, *CHOSEN)
CANDIDATES = (1, 2, 3, 4, 6, 8, 12, 16)  # lengths that "auto" tries
MOST = 24  # tokens of a blank whose length nobody says


@dataclass(frozen=True, eq=False)
class Infilling(Generation):
    """A ``Generation`` of one row, (1, T), that begins with a start token; and the text.

    Attributes:
        text: the text with its blanks filled; ``str(infilling)`` is the same.
        blanks: what went into each blank.
        ended: whether the model ended each blank; False where it used up its room, or where its length was said.
    """

    text: str
    blanks: tuple[str, ...]
    ended: tuple[bool, ...]

    def __str__(self) -> str:
        return self.text


@torch.no_grad()
def infill(
    model: A3ForCausalLM,
    tokenizer,
    text: str,
    blank: str = "____",
    tokens_per_blank: int | Sequence[int] | str | None = None,
    size: int | None = None,
    order: str = "left_to_right",
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    bound: float | None = None,
    threshold: float | None = None,
    apart: int = 1,
    window: int | None = None,
    shortlist: int | None = None,
    most: int | Sequence[int] | None = None,
    least: int = 1,
    blank_order: str | None = None,
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
        tokens_per_blank: how many tokens each blank gets. None: the model ends each blank, where it has a token for
            that (``model.config.empty_token_id``) and the order is "left_to_right": in another order tokens could stand
            behind the end before it is drawn. Else as "auto". A number, or one for each blank: so many. "auto": goes
            through the blanks from left to right, fills the whole text with each of ``candidates`` as the length of
            that blank, and keeps the length whose whole text has the highest left-to-right log-likelihood. The blanks
            behind it have the middle candidate's length until their turn comes. Longer texts have lower likelihoods,
            so it tends to be brief.
        most: how many tokens a blank has at most where its length is not said: one number, or one for each blank. A
            blank that the model ends gets so much room, and the text behind it stands behind the room, so ``most`` has
            an influence on short fillings too. Default: 24, or as many as the model takes.
        least: how many tokens it has at least. With 0 a blank may stay empty. ``log_probs`` are the model's own, that
            may end sooner.
        size: tokens filled at a time. None: 1, or as many as ``bound`` and ``threshold`` allow.
        order: of the unknown tokens: "left_to_right"; "random"; "strided", ``size`` far-apart tokens of a blank at a
            time (``groups.infill``); or chosen by the model: "confidence", "entropy".
        bound, threshold, apart, window, shortlist: with an order that the model chooses: how many tokens it fills at a
            time, and which; see ``limits.Limits``.
        blank_order: "in_turn", blank after blank; or "together", a step fills the next ``size`` tokens of every blank,
            which do not see each other. Default: in turn, where the order of the tokens is "left_to_right" or
            "strided"; the others go from blank to blank as they like, and cannot be told otherwise.
        temperature, generator, top_k, top_p, repetition_penalty: see ``sampling.Sampler``.
        known_order: "together", known tokens are one group that all sees all; or "left_to_right", each sees those on
            its left, as in the model that A3 was adapted from. None: as in the model's training
            (``model.config.known_order``).
        candidates: the lengths that "auto" tries, those from ``least`` to ``most``.
        banned: token ids that are never drawn; default: the tokenizer's special tokens, and numbers that stand for no
            token; in blanks that the model ends, the end is not among them. If you ban it, they use up their room.
        use_cache, runners_up: see ``generate``.
        considered: see ``resample``; for the orders "confidence" and "entropy".

    Returns:
        the filled text, and all that ``generate`` returns.

    Raises:
        TypeError: ``text`` is not a string.
        ValueError: no blank, no tokens for one, more tokens than the model takes, a text that is not Unicode, a
            tokenizer larger than the model's vocabulary, or as ``generate``.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {order!r}")
    blank_order = check_blank_order(blank_order, order)
    if size is not None:
        groups.check_integer("size", size, 1)
    limits = Limits(size, bound, threshold, apart, window, shortlist)
    if order not in CHOSEN and limits != Limits(size):
        raise ValueError(
            f"order {order!r} is fixed before: bound, threshold, apart, window and shortlist are for the orders "
            '"confidence" and "entropy", which the model chooses'
        )
    groups.check_integer("least", least, 0)
    given = Given.of(model, tokenizer, text, blank, known_order)
    end = model.config.empty_token_id if tokens_per_blank is None and order == "left_to_right" else None
    if banned is None:
        banned = sorted(never_drawn(model, tokenizer) - {end})
    options = dict(
        temperature=temperature, top_k=top_k, top_p=top_p, generator=generator, use_cache=use_cache,
        repetition_penalty=repetition_penalty, banned=banned, runners_up=runners_up,
    )  # fmt: skip
    how = {"order": order, "blank_order": blank_order, "limits": limits, "considered": considered, **options}

    def fill(lengths: list[list[int]]) -> tuple[Generation, Tensor]:
        return fill_rows(model, given, lengths, end, least, **how)

    if end is not None:
        lengths = given.rooms(most, least)
        return _one(tokenizer, given, *fill([lengths]), 0, lengths, end)
    if tokens_per_blank is not None and not isinstance(tokens_per_blank, str):
        if most is not None:
            raise ValueError(f"most={most!r} is for blanks whose length is not said; leave out tokens_per_blank")
        lengths = _one_for_each("tokens_per_blank", tokens_per_blank, given.blanks, least)
        given.check_fit(lengths)
        return _one(tokenizer, given, *fill([lengths]), 0, lengths)
    allowed = given.candidates(tokens_per_blank, candidates, most, least)
    lengths = given.start_lengths(allowed)
    for number, current in enumerate(lengths):
        room = given.room - sum(lengths) + current
        tried = [[*lengths[:number], n, *lengths[number + 1 :]] for n in allowed[number] if n <= room]
        done, numbers = fill(tried)
        best = int(_left_to_right(model, done).argmax())
        lengths = tried[best]
    return _one(tokenizer, given, done, numbers, best, lengths)


def infill_log_likelihood(
    model: A3ForCausalLM,
    tokenizer,
    text: str,
    blanks: Sequence[str | Sequence[int]],
    blank: str = "____",
    most: int | Sequence[int] | None = None,
    size: int = 1,
    *,
    blank_order: str | None = None,
    known_order: str | None = None,
) -> Tensor:
    """Log-probability of what stands in the blanks of a text, and of its ending there: blanks of unknown length.

    It is that of the draws of ``infill`` at temperature 1, with nothing banned, from left to right. Its exponential,
    summed over all tokens and all lengths from 0 up to the room, is 1. Gradients flow.

    Args:
        model: one whose ``config.empty_token_id`` is set.
        tokenizer, text, blank, size, blank_order, known_order: see ``infill``.
        blanks: what stands in each blank: a text, as ``Infilling.blanks`` has it, with the space before its first word;
            or its token ids. A text may be written with other tokens than those that were drawn.
        most: the room of each blank; see ``infill``. Another room puts the text behind the blank elsewhere, and so
            the probabilities are others.

    Returns:
        (), in nats.

    Raises:
        TypeError, ValueError: as ``infill``; a model that ends no blanks; a blank too many, too few or too long.
    """
    blank_order = check_blank_order(blank_order, "left_to_right")
    groups.check_integer("size", size, 1)
    given = Given.of(model, tokenizer, text, blank, known_order)
    end = model.config.empty_token_id
    if end is None:
        raise ValueError(
            "this model has no token that ends a blank (config.empty_token_id); score tokens of a known number with "
            "objective.log_likelihood"
        )
    if isinstance(blanks, str) or len(blanks) != given.blanks:
        raise ValueError(f"blanks must hold what stands in each of the {given.blanks} blanks; got {blanks!r}")
    lengths, fillings = given.rooms(most, 0), []
    for n, (filled, room) in enumerate(zip(blanks, lengths, strict=True)):
        if isinstance(filled, str):
            behind = n or given.texts[0]
            filled = encode_behind(tokenizer, filled) if behind else encode(tokenizer, [filled])[0]
        tokens = list(filled)
        if len(tokens) > room:
            raise ValueError(f"blank {n + 1} holds {len(tokens)} tokens, but has room for {room}; raise most")
        if end in tokens:
            raise ValueError(f"blank {n + 1} holds the token {end}, which ends a blank and stands in none")
        fillings.append(tokens)
    ids, group_ids = ended_rows(given, lengths, [fillings], end, size, blank_order)
    return objective.log_likelihood(model, ids, *groups.read_given(group_ids, given.known_order))[0]


def ended_rows(
    given: "Given",
    lengths: list[int],
    rows: Sequence[Sequence[Sequence[int]]],
    end: int,
    size: int = 1,
    blank_order: str = "in_turn",
) -> tuple[Tensor, Tensor]:
    """Rows whose blanks hold some tokens and their end; what is left of a room is padding.

    Args:
        lengths: the room of each blank.
        rows: B lists of what stands in the blanks; each has at most as many tokens as its room, and no end.
        end, size, blank_order: as ``infill_log_likelihood``.

    Returns:
        int64, (B, T) each: tokens and groups.
    """
    ids, number, _ = given.rows([lengths] * len(rows))
    group_ids = in_blanks(number, size, blank_order=blank_order)
    for row, blanks in enumerate(rows):
        for n, (filled, room) in enumerate(zip(blanks, lengths, strict=True), start=1):
            tokens = [*filled, end][:room]
            at = (number[row] == n).nonzero()[:, 0]
            ids[row, at[: len(tokens)]] = torch.tensor(tokens, device=ids.device)
            group_ids[row, at[len(tokens) :]] = groups.PADDING
    return ids, group_ids


def fill_rows(
    model: A3ForCausalLM,
    given: "Given",
    lengths: list[list[int]],
    end: int | None = None,
    least: int = 0,
    *,
    order: str,
    blank_order: str | None,
    limits: Limits,
    considered: bool = False,
    **options,
) -> tuple[Generation, Tensor]:
    """Fill the blanks of a text at several lengths, all at once.

    Args:
        lengths: of the blanks, a list for each row.
        end, least: see ``Rooms``; None: each blank has its length.
        order, blank_order, considered: see ``infill``.
        limits: of them a fixed order takes ``per_step``.
        options: of ``generate`` and ``resample``.

    Returns:
        B rows, and int64 (B, T), the number of the blank that a position belongs to, 0: none.
    """
    ids, number, padding = given.rows(lengths)
    if order in CHOSEN:
        how = {**options, **vars(limits), "considered": considered, **given.known_groups(number, padding)}
        return resample(model, ids, number > 0, criterion=order, **how), number
    size = limits.per_step or 1
    if order == "random" or (end is None and blank_order == "in_turn"):
        group_ids = groups.infill(number > 0, size, order, padding, options["generator"])
    else:
        group_ids = in_blanks(number, size, order, blank_order).masked_fill(padding, groups.PADDING)
    rooms = None if end is None else Rooms(number, end, least)
    return generate(model, ids, *groups.read_given(group_ids, given.known_order), rooms=rooms, **options), number


def never_drawn(model: A3ForCausalLM, tokenizer) -> set[int]:
    """The ids that are no text: special tokens, what ends a blank early, and numbers that stand for no token."""
    empty = {model.config.empty_token_id} - {None}
    unused = no_tokens(tokenizer, model.config.vocab_size)
    return {*tokenizer.all_special_ids, start_token(tokenizer), *empty, *unused}


class Given(NamedTuple):
    """A text cut at its blanks."""

    texts: list[str]  # as the user wrote them, around the blanks
    parts: list[list[int]]  # their tokens
    start: int  # the token before the text
    limit: int  # how many tokens the model takes
    known_order: str
    device: torch.device

    @classmethod
    def of(cls, model: A3ForCausalLM, tokenizer, text: str, blank: str, known_order: str | None) -> "Given":
        """Check a text and cut it."""
        if not isinstance(text, str) or not isinstance(blank, str):
            raise TypeError(f"text and blank must be strings, got {type(text).__name__} and {type(blank).__name__}")
        if not blank:
            raise ValueError('blank is the empty string; say how a blank is written, for example blank="____"')
        if blank not in text:
            raise ValueError(f"there is no blank in the text; write {blank!r} where something is missing")
        known_order = settle_known_order(model, known_order)
        check_vocabulary(tokenizer, model.config.vocab_size)
        texts = text.split(blank)
        # the space before a word belongs to the word's token: a filled blank brings its own
        texts = [*(part.rstrip(" ") for part in texts[:-1]), texts[-1]]
        parts = [*encode(tokenizer, texts[:1]), *(encode_behind(tokenizer, part) for part in texts[1:])]
        limit = model.config.max_position_embeddings
        return cls(texts, parts, start_token(tokenizer), limit, known_order, model.device)

    @property
    def blanks(self) -> int:
        return len(self.texts) - 1

    @property
    def fixed(self) -> int:
        """How many tokens are there already, the start token and the text's."""
        return 1 + sum(map(len, self.parts))

    @property
    def room(self) -> int:
        """Tokens that all blanks may have together."""
        return self.limit - self.fixed

    def check_fit(self, lengths: list[int], remedy: str = "shorten the text") -> None:
        if sum(lengths) > self.room:
            raise ValueError(
                f"text and blanks have {self.fixed + sum(lengths)} tokens, but the model takes {self.limit}; {remedy}"
            )

    def rooms(self, most: int | Sequence[int] | None, least: int) -> list[int]:
        """The room of each blank that the model may end."""
        if most is None:
            lengths = [max(1, least, min(MOST, self.room // self.blanks))] * self.blanks
            self.check_fit(lengths)
        else:
            lengths = _one_for_each("most", most, self.blanks, least)
            self.check_fit(lengths, "lower most or shorten the text")
        return lengths

    def candidates(self, wanted: str | None, candidates: Sequence[int], most, least: int) -> list[list[int]]:
        """The lengths that "auto" tries for each blank."""
        if wanted not in ("auto", None):
            raise ValueError(f'tokens_per_blank must be a number, one number for each blank, or "auto"; got {wanted!r}')
        if not isinstance(candidates, Sequence) or not candidates:
            raise ValueError(f"candidates must be lengths to try, for example (1, 2, 4, 8); got {candidates!r}")
        for length in candidates:
            groups.check_integer("each of candidates", length, 1)
        limits = _one_for_each("most", max(candidates) if most is None else most, self.blanks, 1)
        found = [[length for length in candidates if least <= length <= limit] for limit in limits]
        if not all(found):
            raise ValueError(f"none of candidates={tuple(candidates)} is from least={least} to most={most}; change one")
        return found

    def start_lengths(self, allowed: list[list[int]]) -> list[int]:
        """The lengths that "auto" begins with: the middle ones, or the smallest where these do not fit."""
        smallest = [min(lengths) for lengths in allowed]
        if sum(smallest) > self.room:
            raise ValueError(
                f"{self.blanks} blanks of at least {max(smallest)} tokens do not fit: besides the text, the model has "
                f"room for {max(self.room, 0)} tokens; shorten the text"
            )
        middle = [sorted(lengths)[len(lengths) // 2] for lengths in allowed]
        return middle if sum(middle) <= self.room else smallest

    def rows(self, lengths: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """A row for each list of blanks' lengths: its tokens, the number of each position's blank, and the padding.

        Returns:
            int64 (B, T), int64 (B, T) with 0 outside of blanks, and bool (B, T).
        """
        rows = [self._row(row) for row in lengths]
        ids, number = (pad_sequence(column, batch_first=True).to(self.device) for column in zip(*rows, strict=True))
        length = torch.tensor([len(row) for row, _ in rows], device=self.device)
        return ids, number, torch.arange(ids.shape[1], device=self.device) >= length[:, None]

    def _row(self, lengths: list[int]) -> tuple[Tensor, Tensor]:
        ids, number = [self.start, *self.parts[0]], [0] * (1 + len(self.parts[0]))
        for blank, (length, part) in enumerate(zip(lengths, self.parts[1:], strict=True), start=1):
            ids += [self.start] * length + part
            number += [blank] * length + [0] * len(part)
        return torch.tensor(ids), torch.tensor(number)

    def known_groups(self, number: Tensor, padding: Tensor) -> dict:
        """How ``resample`` is told what is known, and in which order."""
        position = torch.arange(number.shape[1], device=number.device).expand_as(number)
        in_order = self.known_order == "left_to_right"
        return {"known": (number == 0) & ~padding, "known_groups": position if in_order else None}


def _one_for_each(name: str, wanted: int | Sequence[int], blanks: int, least: int) -> list[int]:
    """One number for each blank, at least ``least`` and at least 1."""
    numbers = list(wanted) if isinstance(wanted, Sequence) and not isinstance(wanted, str) else [wanted] * blanks
    if len(numbers) != blanks:
        raise ValueError(f"{name} has {len(numbers)} numbers, but the text has {blanks} blanks")
    for number in numbers:
        groups.check_integer(name, number, 1)
        if number < least:
            raise ValueError(f"{name} is {number}, but a blank has at least least={least} tokens; change one of them")
    return numbers


def _left_to_right(model: A3ForCausalLM, done: Generation) -> Tensor:
    """Log-likelihood (B,) of each whole text after its start token, nats."""
    position = torch.arange(done.sequences.shape[1], device=done.sequences.device)
    group_ids = position.expand_as(done.sequences).masked_fill(done.group_ids == groups.PADDING, groups.PADDING)
    return objective.log_likelihood(model, done.sequences, group_ids)


def _one(
    tokenizer, given: Given, done: Generation, number: Tensor, row: int, lengths: list[int], end: int | None = None
) -> Infilling:
    """Row ``row`` without the padding behind it."""
    length = given.fixed + sum(lengths)
    one = slice(row, row + 1)
    ids, there = done.sequences[row, :length], done.group_ids[row, :length] > 0
    filled = [ids[there & (number[row, :length] == n + 1)].tolist() for n in range(given.blanks)]
    ended = tuple(end is not None and end in tokens for tokens in filled)
    filled = [tokens[:-1] if over else tokens for tokens, over in zip(filled, ended, strict=True)]
    texts = given.texts
    return Infilling(
        sequences=done.sequences[one, :length],
        log_probs=done.log_probs[one, :length],
        group_ids=done.group_ids[one, :length],
        known=done.known[one, :length],
        trace=done.trace.row(row, length),
        text=_put_together(tokenizer, texts, filled),
        blanks=tuple((decode_behind if n or texts[0] else decode)(tokenizer, ids) for n, ids in enumerate(filled)),
        ended=ended,
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
