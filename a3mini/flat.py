"""All rows of a batch in one line: the plan of a pass that is made ahead, and in which hardly a row is padding.

Texts differ in length, and blanks in size. A rectangle of rows, as long as the longest, is half empty. So here the rows
of all texts stand behind one another::

    texts            content rows   query rows           the line
    A B C D          A B C          b c d                A B C  E F G H  .  b c d  h  .
    E F G H          E F G H        h                    content          queries        . fills up

Projections, norms and MLPs are the same for every row, and see the line. Attention alone must know the texts: for it
the rows are put into a rectangle, a text in each row, and the result back into the line (``attention.Texts``); or
FlexAttention leaves out the blocks between two texts. So texts never see each other.

A plan is made from values, on the CPU, by whoever has time (``train.batches``: another process, ahead). What the device
then computes depends on shapes alone, and these are few: ``unit`` rounds them up. So nothing there waits for a value,
and all of it can be compiled.

Letters: B texts of T positions; C content and Q query rows of the line; c and q of a text, in the rectangle.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from a3mini import groups, rows
from a3mini.rows import FROM_VECTOR, IGNORED_LABEL, NOBODY

LEVELS = 16  # a good unit is the number of tokens at hand, divided by this
WIDTHS = 4  # into how many steps the widths of the rectangle are rounded up


class FlatPlan(NamedTuple):
    """What a pass over labelled texts computes, all as tensors; see ``plan``."""

    content_ids: Tensor  # (1, C) int64, tokens
    positions: Tensor  # (1, C + Q) int64, the positions of the content rows, then of the query rows
    before: Tensor  # (1, Q) int64: the token before each query row's, if it may see it; else FROM_VECTOR
    labels: Tensor  # (Q,) int64, IGNORED_LABEL where a row only fills up
    places: Tensor  # (Q,) int64, where each query row's position stands among all B * T; B * T if it only fills up
    rows: Tensor  # (B, c + q) int64, each text's rows in the line, content first; a row that fills up where it has less
    back: Tensor  # (C + Q,) int64, where each row of the line stands among the B * (c + q) of the rectangle
    groups: Tensor  # (B, c + q) int64, the group of each row; PADDING where it only fills up
    empty: Tensor | None  # (B, c + q, 1) bool, True where a real row may see nothing; None if there is no such row
    width: int  # c
    causal: bool  # whether in each text row i of either stream sees the first i + 1 content rows; then q = c
    real: Tensor  # () int64, how many of the C + Q rows are real

    @property
    def computed(self) -> int:
        """C + Q, the rows that are computed."""
        return self.positions.shape[1]

    @property
    def shape(self) -> tuple[int, int, int, int, int, bool]:
        """B, c, q, C, Q and ``causal``, on which all that is computed depends."""
        texts, both = self.rows.shape
        return texts, self.width, both - self.width, self.content_ids.shape[1], len(self.labels), self.causal


def plan(input_ids: Tensor, group_ids: Tensor, labels: Tensor, unit: int = 0) -> FlatPlan:
    """Plan a pass that predicts ``labels``.

    Rows that nothing needs do not exist, as in ``rows.Plan``: query rows where there is no label, content rows that no
    query can see. Each text's rows stand in the order of generation. Where all texts are generated token by token, that
    makes attention causal: see ``_one_by_one``.

    Args:
        input_ids, group_ids: int64, (B, T); see ``A3ForCausalLM.forward``. They must have been checked.
        labels: int64, (B, T); what counts is where a group is predicted and the label is not ``IGNORED_LABEL``.
        unit: round C and Q up to a multiple of it, c and q to one of T / ``WIDTHS``, and B by an eighth at most; 0: as
            they are, with one row to fill up.

    Returns:
        tensors on the device of ``group_ids``.
    """
    batch, length = group_ids.shape
    counted = (group_ids > 0) & (labels != IGNORED_LABEL)
    last = group_ids.masked_fill(~counted, 0).amax(-1, keepdim=True)
    content = _Stream.of((group_ids >= 0) & (group_ids < last), group_ids, unit)
    query = _Stream.of(counted, group_ids, unit)
    places = _one_by_one(content, query, group_ids)
    if places is not None:
        query = query._replace(column=places, width=content.width)
    if unit:  # a text more, at least: the rectangle needs a place that no row takes
        texts = _up(batch + 1, 2 ** max(0, batch.bit_length() - 4))
    else:
        texts = batch + (min(content.spare, query.spare) == 0)

    columns, asking = (stream.rectangle(group_ids, groups.PADDING, texts) for stream in (content, query))
    rectangle = torch.cat((columns, asking), 1)
    empty = rows.empty_rows(columns, asking)
    empty = empty & (rectangle != groups.PADDING)[..., None] if empty is not None else rectangle.new_zeros(1) > 0
    both = content.width + query.width
    return FlatPlan(
        content_ids=content.line(input_ids, 0)[None],
        positions=torch.cat((content.line_positions(), query.line_positions()))[None],
        before=query.line(rows.tokens_before(input_ids, group_ids), FROM_VECTOR)[None],
        labels=query.line(labels, IGNORED_LABEL),
        places=query.places(batch * length),
        rows=torch.cat((content.numbers(texts), content.size + query.numbers(texts)), 1),
        back=torch.cat((content.back(both, 0, texts), query.back(both, content.width, texts))),
        groups=rectangle,
        empty=empty if empty.any() else None,
        width=content.width,
        causal=places is not None,
        real=content.count.sum() + query.count.sum(),
    )


class _Stream(NamedTuple):
    """The rows of one stream: which text and position each has, in the line, and how large line and rectangle are."""

    text: Tensor  # (R,) int64, for the R real rows
    position: Tensor  # (R,) int64
    column: Tensor  # (R,) int64, their places in their texts
    count: Tensor  # (B,) int64, rows of each text
    length: int  # T
    size: int  # of the line: R rows and at least one that fills up
    width: int  # of the rectangle

    @classmethod
    def of(cls, keep: Tensor, group_ids: Tensor, unit: int) -> "_Stream":
        length = keep.shape[1]
        count = keep.sum(-1)
        order = group_ids.masked_fill(~keep, NOBODY).argsort(dim=-1, stable=True)  # (B, T), what is kept comes first
        text, column = (torch.arange(length, device=keep.device) < count[:, None]).nonzero(as_tuple=True)
        size = _up(len(text) + 1, unit or 1)
        width = _up(max(1, int(count.max())), -(-length // WIDTHS) if unit else 1)
        return cls(text, order[text, column], column, count, length, size, width)

    @property
    def spare(self) -> int:
        """Places of the rectangle that no row takes."""
        return len(self.count) * self.width - len(self.text)

    def line(self, values: Tensor, fill: int) -> Tensor:
        """``values`` (B, T) of the rows: (size,)."""
        return F.pad(values[self.text, self.position], (0, self.size - len(self.text)), value=fill)

    def line_positions(self) -> Tensor:
        return F.pad(self.position, (0, self.size - len(self.text)))

    def places(self, nowhere: int) -> Tensor:
        """Where the rows stand among all B * T positions: (size,)."""
        return F.pad(self.text * self.length + self.position, (0, self.size - len(self.text)), value=nowhere)

    def rectangle(self, values: Tensor, fill: int, texts: int) -> Tensor:
        """``values`` (B, T) of the rows: (texts, width)."""
        out = values.new_full((texts, self.width), fill)
        out[self.text, self.column] = values[self.text, self.position]
        return out

    def numbers(self, texts: int) -> Tensor:
        """The rows' own numbers in the line: (texts, width); that of the last row, which only fills up, elsewhere."""
        out = self.text.new_full((texts, self.width), self.size - 1)
        out[self.text, self.column] = torch.arange(len(self.text), device=self.text.device)
        return out

    def back(self, both: int, offset: int, texts: int) -> Tensor:
        """Where the rows stand in a rectangle (texts, both) in which this stream begins at column ``offset``: (size,).

        Rows that fill up get a place that no row takes.
        """
        taken = torch.zeros(texts, self.width, dtype=torch.bool, device=self.text.device)
        taken[self.text, self.column] = True
        free = int((~taken).flatten().to(torch.uint8).argmax())
        nowhere = free // self.width * both + offset + free % self.width
        places = self.text * both + offset + self.column
        return F.pad(places, (0, self.size - len(self.text)), value=nowhere)


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def _one_by_one(content: _Stream, query: _Stream, group_ids: Tensor) -> Tensor | None:
    """Where query rows stand in the rectangle so that both streams are causal, int64, (R,); None: they cannot be.

    Sorted rows of one token a group see all content up to themselves: content row i the columns 0 .. i. A query row
    that sees n columns does so too if it is put at place n - 1. So no two may see equally many, and each must see one.
    """
    batch = len(group_ids)
    columns = content.rectangle(group_ids, NOBODY, batch)
    if not (columns[:, 1:] > columns[:, :-1])[columns[:, 1:] < NOBODY].all():
        return None
    seen = torch.searchsorted(columns, query.rectangle(group_ids, 0, batch))[query.text, query.column]
    same_text = query.text[1:] == query.text[:-1]
    if not ((seen > 0).all() and (~same_text | (seen[1:] > seen[:-1])).all()):
        return None
    return seen - 1
