"""Who may see whom: the masks of both streams, from ``group_ids`` alone (paper: two-stream attention).

Row i of a mask is the position that looks, column j the position that is looked at; True = may attend.
Keys and values always come from the content stream, so column j means "the token at j"::

    content mask   row i sees column j  iff  g_j >= 0 and g_j <= g_i     (own group included)
    query mask     row i sees column j  iff  g_j >= 0 and g_j <  g_i     (earlier groups only)

A query never sees its own token nor its own group's, so it can be trained to predict them. A row may
be empty: a query of the first group when nothing is given, or padding. model.py owns what happens then.
"""

from torch import Tensor

from a3mini import groups


def content_mask(group_ids: Tensor) -> Tensor:
    """What each content row may see: its own group and all earlier ones.

    Args:
        group_ids: integer, (B, T) or (T,); see ``groups``.

    Returns:
        bool, (B, T, T) or (T, T), [row, column].

    Raises:
        TypeError, ValueError: ``group_ids`` is not valid.

    Example:
        >>> content_mask(torch.tensor([0, 1, 1, 2])).int()
        tensor([[1, 0, 0, 0],
                [1, 1, 1, 0],
                [1, 1, 1, 0],
                [1, 1, 1, 1]], dtype=torch.int32)
    """
    group_ids = groups.check(group_ids)
    return may_attend(group_ids, group_ids, own_group=True)


def query_mask(group_ids: Tensor) -> Tensor:
    """What each query row may see: earlier groups only.

    Args:
        group_ids: integer, (B, T) or (T,); see ``groups``.

    Returns:
        bool, (B, T, T) or (T, T), [row, column].

    Raises:
        TypeError, ValueError: ``group_ids`` is not valid.

    Example:
        >>> query_mask(torch.tensor([0, 1, 1, 2])).int()
        tensor([[0, 0, 0, 0],
                [1, 0, 0, 0],
                [1, 0, 0, 0],
                [1, 1, 1, 0]], dtype=torch.int32)
    """
    group_ids = groups.check(group_ids)
    return may_attend(group_ids, group_ids, own_group=False)


def may_attend(rows: Tensor, columns: Tensor, own_group: bool) -> Tensor:
    """The rule itself, for any choice of rows and columns; the model computes only the rows it needs.

    Args:
        rows: int64, (..., R), the group of each position that looks.
        columns: int64, (..., C), the group of each position that is looked at.
        own_group: True for the content stream, False for the query stream.

    Returns:
        bool, (..., R, C).
    """
    row, column = rows[..., :, None], columns[..., None, :]
    earlier = column <= row if own_group else column < row
    return earlier & (column >= 0)
