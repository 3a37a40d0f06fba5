"""A text rewritten: a marked stretch gets alternatives, or the model mends what fits worst (paper: abstract).

Both measure a text by its log-likelihood, the same before and after: from left to right; or, where the model has ended
the new stretches itself (``blanks``), in the order in which they were written, with their ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import cycle, islice
from numbers import Integral

import torch
from torch.nn.utils.rnn import pad_sequence

from a3mini import groups, objective
from a3mini.decode.blanks import check_blank_order
from a3mini.decode.groupwise import settle_known_order
from a3mini.decode.infilling import MOST, ORDERS, Given, ended_rows, fill_rows, never_drawn
from a3mini.decode.limits import Limits
from a3mini.decode.revision import Revision, revise
from a3mini.model import A3ForCausalLM
from a3mini.train.data import check_vocabulary, start_token
from a3mini.train.tokens import decode, decode_behind, encode, encode_behind

RANKS = ("nats", "nats_per_token")


@dataclass(frozen=True)
class Alternative:
    """One way to write a text.

    Attributes:
        text: the whole text; ``str(alternative)`` is the same.
        replacement: what stands in the marked stretch.
        score: log-likelihood of the whole text after a start token, nats: from left to right; or, where the model ended
            the stretch, of what stands around it, from left to right, then of the stretch and its end.
        tokens: how many tokens the whole text has.
        gain: ``score`` minus that of the original, nats.
        original: whether this is the text as it was.
    """

    text: str
    replacement: str
    score: float
    tokens: int
    gain: float
    original: bool

    def __str__(self) -> str:
        return self.text


@torch.no_grad()
def rewrite(
    model: A3ForCausalLM,
    tokenizer,
    text: str,
    span: str | tuple[int, int],
    n: int = 4,
    tokens_per_blank: int | Sequence[int] | str | None = None,
    size: int = 1,
    order: str = "left_to_right",
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    most: int | None = None,
    rank: str = "nats",
    known_order: str | None = None,
    top_k: int | None = None,
    top_p: float | None = 0.9,
    repetition_penalty: float = 1.0,
    banned: Sequence[int] | None = None,
    tries: int = 4,
    batch_size: int = 32,
) -> list[Alternative]:
    """Write a stretch of a text in ``n`` other ways, given all that stands around it, and rank them.

    The alternatives are drawn as ``infill`` fills a blank, all at once. What stands outside of the stretch stays as it
    is, to the last space. An alternative that repeats another or the original, is no text (half a character, or only
    spaces), or joins the word before a space, is drawn again: in all ``tries`` times ``n`` rows. If that was not
    enough there are fewer.

    All are scored as texts, encoded anew, so the score does not depend on how an alternative was drawn. Where the model
    ends them, the order of the score is that of the draws, one token at a time: the text around the stretch, the
    stretch, its end. Then alternatives of all lengths have one distribution, which holds the original, too.

    Args:
        model, tokenizer: an A3 model and its tokenizer.
        text: any text.
        span: what to replace: the words themselves, if they stand in the text once; or (start, end), characters from
            0, the end not included. Spaces at its ends are left alone.
        n: how many alternatives, besides the original.
        tokens_per_blank: how many tokens an alternative has. None: the model ends each, where it has a token for that
            and the order is "left_to_right", as in ``infill``; else as "near". A number; several, which take turns; or
            "near": from half as many as the stretch has to half as many again, the nearest first.
        most: how many tokens an alternative has at most where that is not said. One that the model ends gets so much
            room, and the original must fit into it. Default: 24, or half as many again as the stretch has, if that is
            more.
        size, order, temperature, generator, known_order, top_k, repetition_penalty, banned: see ``infill``.
        top_p: see ``infill``; here the tail is cut off unless you say None.
        rank: "nats", by ``score``: how much likelier one text is than another; longer texts have lower scores.
            "nats_per_token", by ``score / tokens``: longer texts are not put at a disadvantage, and wordy ones may win.
        tries: at most ``tries * n`` rows are drawn.
        batch_size: rows computed at a time.

    Returns:
        the original and its alternatives, the best first.

    Raises:
        TypeError: ``text`` is not a string, or ``span`` is neither a string nor a pair.
        ValueError: a span that is not there, or more than once; a text too long for the model; or as ``infill``.
    """
    start, end = _find(text, span)
    for name, value in (("n", n), ("tries", tries), ("size", size), ("batch_size", batch_size)):
        groups.check_integer(name, value, 1)
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {order!r}")
    if rank not in RANKS:
        raise ValueError(f"rank must be one of {', '.join(RANKS)}; got {rank!r}")
    known_order = settle_known_order(model, known_order)
    check_vocabulary(tokenizer, model.config.vocab_size)
    first, limit = start_token(tokenizer), model.config.max_position_embeddings
    space = " " if start > 1 and text[start - 1] == " " else ""  # a word's token brings it
    around = [text[: start - len(space)], text[end:]]
    parts = [*encode(tokenizer, around[:1]), encode_behind(tokenizer, around[1])]
    given = Given(around, parts, first, limit, known_order, model.device)
    whole = 1 + len(encode(tokenizer, [text])[0])
    if whole > limit:
        raise ValueError(f"the text has {whole} tokens, but the model takes {limit}; shorten the text")
    ending = model.config.empty_token_id if tokens_per_blank is None and order == "left_to_right" else None

    def stretch(words: str) -> list[int]:
        return encode_behind(tokenizer, space + words) if around[0] else encode(tokenizer, [words])[0]

    old = stretch(text[start:end])
    if ending is None:
        lengths = _lengths(tokens_per_blank, len(old), given.room, most)
    else:
        lengths = [_room(most, len(old), given.room)]
    how = dict(
        order=order, blank_order=check_blank_order(None, order), limits=Limits(size),
        temperature=temperature, top_k=top_k, top_p=top_p, generator=generator, runners_up=0, use_cache=True,
        repetition_penalty=repetition_penalty,
        banned=sorted(never_drawn(model, tokenizer) - {ending}) if banned is None else banned,
    )  # fmt: skip

    def draw(rows: list[int]) -> list[str]:
        """What fills the stretch, for each of some lengths, with the space that a word brings."""
        done, number = fill_rows(model, given, [[length] for length in rows], ending, 1, **how)
        filled = (number > 0) & (done.group_ids > 0)
        drawn = [row[there].tolist() for row, there in zip(done.sequences, filled, strict=True)]
        drawn = [[token for token in tokens if token != ending] for tokens in drawn]
        return [(decode_behind if around[0] else decode)(tokenizer, tokens) for tokens in drawn]

    certain = temperature == 0 and order != "random"  # each length has one filling
    left = min(tries * n, len(lengths)) if certain else tries * n
    turns, found = cycle(lengths), {text[start:end]: encode(tokenizer, [text])[0]}
    while left and len(found) <= n:
        rows = list(islice(turns, min(left, n + 1 - len(found), batch_size)))
        left -= len(rows)
        for drawn in draw(rows):
            words = drawn[len(space) :]
            if drawn.startswith(space) and words.strip() and "\ufffd" not in words and words not in found:
                ids = encode(tokenizer, [text[:start] + words + text[end:]])[0]
                # encoded anew, a text may have more tokens than it was drawn with
                if len(ids) < limit and (ending is None or len(stretch(words)) <= lengths[0]):
                    found[words] = ids
    if ending is None:
        scores = _scores(model, list(found.values()), first, batch_size)
    else:
        scores = _ended_scores(model, given, lengths[0], [stretch(words) for words in found], ending, batch_size)
    made = [
        Alternative(
            text[:start] + words + text[end:], words, score, len(ids), score - scores[0], words == text[start:end]
        )
        for (words, ids), score in zip(found.items(), scores, strict=True)
    ]
    return sorted(made, key=lambda one: one.score / (one.tokens if rank == "nats_per_token" else 1), reverse=True)


@dataclass(frozen=True, eq=False)
class RevisedText(Revision):
    """A ``Revision`` of one row, (1, T), that begins with a start token; and the text.

    Attributes:
        text: the text as it is now; ``str(revised)`` is the same.
        lines: what was changed, in words; see ``Revision.report``.
    """

    text: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return self.text


@torch.no_grad()
def revise_text(
    model: A3ForCausalLM,
    tokenizer,
    text: str,
    reopen: int = 1,
    rounds: int = 20,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    *,
    least_gain: float = 4.0,
    banned: Sequence[int] | None = None,
    **options,
) -> RevisedText:
    """``revise`` for a text: its tokens behind a start token, measured from left to right.

    A change must gain 4 nats unless you say otherwise: the new text is then 55 times as likely. With 0 the text is soon
    another one; see ``revise``. What stands last has nothing behind it that it must fit.

    A text of which nothing was changed comes back as it was given; another as its tokenizer reads it: one that lowers
    case gives it back in lower case.

    Args:
        model, tokenizer: an A3 model and its tokenizer.
        text: any text.
        reopen, rounds, temperature, generator, least_gain: see ``revise``.
        banned: see ``infill``.
        options: the others of ``revise``.

    Raises:
        TypeError: ``text`` is not a string.
        ValueError: a text without tokens, or with more than the model takes; or as ``revise``.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    check_vocabulary(tokenizer, model.config.vocab_size)
    limit = model.config.max_position_embeddings
    ids = [start_token(tokenizer), *encode(tokenizer, [text])[0]]
    if len(ids) == 1:
        raise ValueError("the text is empty; there is nothing to revise")
    if len(ids) > limit:
        raise ValueError(f"the text has {len(ids)} tokens, but the model takes {limit}; shorten the text")
    rows = torch.tensor([ids], device=model.device), groups.left_to_right(len(ids))[None].to(model.device)
    done = revise(
        model, *rows, None, reopen, rounds, temperature, generator=generator, least_gain=least_gain,
        banned=sorted(never_drawn(model, tokenizer)) if banned is None else banned, **options,
    )  # fmt: skip
    revised = decode(tokenizer, done.sequences[0, 1:].tolist()) if done.changes[0] else text
    parts = {field.name: getattr(done, field.name) for field in fields(Revision)}
    return RevisedText(**parts, text=revised, lines=tuple(done.report(tokenizer)))


def _find(text: str, span: str | tuple[int, int]) -> tuple[int, int]:
    """Where the stretch begins and ends, without the spaces at its ends."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    if isinstance(span, str):
        found = [at for at in range(len(text)) if span and text.startswith(span, at)]
        if not found:
            raise ValueError(f"the span {span!r} is not in the text; give words of the text, or (start, end)")
        if len(found) > 1:
            raise ValueError(
                f"the span {span!r} is in the text {len(found)} times, at the characters "
                f"{', '.join(map(str, found))}; say which: span=({found[0]}, {found[0] + len(span)})"
            )
        start, end = found[0], found[0] + len(span)
    else:
        if not isinstance(span, Sequence) or len(span) != 2:
            raise TypeError(f"span must be words of the text, or the pair (start, end); got {span!r}")
        start, end = span
        for name, value in (("start", start), ("end", end)):
            if not isinstance(value, Integral) or isinstance(value, bool):
                raise TypeError(f"span must be two whole numbers, counted in characters; its {name} is {value!r}")
        if not 0 <= start <= end <= len(text):
            raise ValueError(
                f"span must be (start, end) with 0 <= start < end <= {len(text)}, the text's length; got {tuple(span)}"
            )
    marked = text[start:end]
    if not marked.strip():
        raise ValueError(f"the span {marked!r} has no words; to put some in, write a blank there: decode.infill")
    return start + len(marked) - len(marked.lstrip()), end - len(marked) + len(marked.rstrip())


def _room(most: int | None, old: int, room: int) -> int:
    """How many tokens an alternative that the model ends may have; the ``old`` ones of the original must fit, too."""
    if most is None:
        most = max(old, min(max(MOST, old + old // 2), room))
    groups.check_integer("most", most, 1)
    if most > room:
        raise ValueError(
            f"most is {most}, but besides what stands around the span the model has room for {max(room, 0)} tokens; "
            "lower most or shorten the text"
        )
    if most < old:
        raise ValueError(f"most is {most}, but the span itself has {old} tokens, and is compared; raise most")
    return most


def _lengths(wanted: int | Sequence[int] | str | None, old: int, room: int, most: int | None = None) -> list[int]:
    """How many tokens an alternative has, in the order in which the lengths take turns."""
    if wanted is None or isinstance(wanted, str):
        if wanted not in ("near", None):
            raise ValueError(f'tokens_per_blank must be a number, several, or "near"; got {wanted!r}')
        if most is not None:
            groups.check_integer("most", most, 1)
        near = range(max(1, (old + 1) // 2), old + max(1, old // 2) + 1)
        lengths = sorted((n for n in near if n <= min(room, most or room)), key=lambda n: (abs(n - old), -n))
        if most is not None and most < near[0]:
            raise ValueError(f"most is {most}, but near the {old} tokens of the span are {near[0]} or more; raise most")
        if not lengths:
            raise ValueError(f"besides what stands around the span, the model has room for {max(room, 0)} tokens")
        return lengths
    if most is not None:
        raise ValueError(f"most={most!r} is for alternatives whose length is not said; leave out tokens_per_blank")
    lengths = list(wanted) if isinstance(wanted, Sequence) else [wanted]
    if not lengths:
        raise ValueError('tokens_per_blank has no numbers; give one, several, or "near"')
    for length in lengths:
        groups.check_integer("tokens_per_blank", length, 1)
        if length > room:
            raise ValueError(
                f"tokens_per_blank is {length}, but besides what stands around the span the model has room for "
                f"{max(room, 0)} tokens; ask for fewer or shorten the text"
            )
    return lengths


def _scores(model: A3ForCausalLM, texts: list[list[int]], first: int, batch_size: int) -> list[float]:
    """Log-likelihood of each text, tokens behind the start token ``first``, from left to right, nats."""
    found = []
    for at in range(0, len(texts), batch_size):
        rows = [torch.tensor([first, *ids]) for ids in texts[at : at + batch_size]]
        orders = [groups.left_to_right(len(row)) for row in rows]
        ids = pad_sequence(rows, batch_first=True, padding_value=first).to(model.device)
        group_ids = pad_sequence(orders, batch_first=True, padding_value=groups.PADDING).to(model.device)
        found += objective.log_likelihood(model, ids, group_ids).tolist()
    return found


def _ended_scores(
    model: A3ForCausalLM, given: Given, room: int, stretches: list[list[int]], end: int, batch_size: int
) -> list[float]:
    """Log-likelihood of the texts with these stretches: what stands around, then the stretch and its end, nats."""
    ids, number, _ = given.rows([[room]])
    known = number == 0
    order = (known.cumsum(-1) - 1).masked_fill(~known, groups.PADDING)
    before, found = objective.log_likelihood(model, ids, order).item(), []
    for at in range(0, len(stretches), batch_size):
        rows = [[tokens] for tokens in stretches[at : at + batch_size]]
        ids, group_ids = ended_rows(given, [room], rows, end)
        scores = objective.log_likelihood(model, ids, *groups.read_given(group_ids, given.known_order))
        found += (before + scores).tolist()
    return found
