"""Sums and sudokus: tasks whose answers are right or wrong, and in which the order of filling matters.

Carries of a sum run from right to left, while we write it from left to right. The next cell of a sudoku that follows
from the clues can be anywhere. So a model that must go from left to right has to guess where another one knows (Kim et
al. 2025, arXiv 2502.06768).

Either task makes rows of tokens, each with the question on the left and the answer on the right, so that every kind of
model reads the whole question before it predicts. What is known and what is unknown follows from the row itself. A row
is held out or trained on by its sum or its grid, never both.
"""

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from a3mini.groups import check_integer
from a3mini.train.curriculum import generator_for
from a3mini.train.data import Blocks

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}  # rows and columns of a box, by the size of the sudoku
GRIDS_OF_4 = 288  # all solved grids of size 4
HELD_OUT_EVERY = 7  # no factor of 10, so it says nothing about single digits
MOST_DIGITS = 9  # the number of a pair of operands fits into 63 bits
CHUNK = 4096  # grids compared with all others at a time


class Puzzle(Protocol):
    """What trains and measures a model on either task; rows are int64, (B, length)."""

    vocabulary_size: int
    length: int

    def draw(self, count: int, seed: int, held_out: bool = False) -> Tensor:
        """Rows with right answers."""

    def unknown(self, rows: Tensor) -> Tensor:
        """bool, (B, length), True where the answer is to be found."""

    def solved(self, rows: Tensor) -> Tensor:
        """bool, (B,), whether the whole answer is right."""

    def text(self, row: Tensor) -> str:
        """One row as a reader writes it."""


@dataclass(frozen=True)
class Sums:
    """Sums of two numbers, the most significant digit first: "123+456=0579".

    Tokens: the digits 0 .. 9; 10 is "+", 11 is "=", 12 begins the row. Operands have ``digits`` digits and answers one
    more, with zeros in front, so all rows have one length and the answer one place.

    Args:
        digits: of an operand, 1 .. 9.

    Raises:
        ValueError: another number of digits.
    """

    digits: int = 6

    PLUS, EQUALS, START = 10, 11, 12
    vocabulary_size = 13

    def __post_init__(self):
        check_integer("digits", self.digits, 1)
        if self.digits > MOST_DIGITS:
            raise ValueError(f"digits must be at most {MOST_DIGITS}, got {self.digits}; larger pairs do not fit int64")

    @property
    def length(self) -> int:
        """Tokens of a row."""
        return 3 * self.digits + 4

    def draw(self, count: int, seed: int, held_out: bool = False) -> Tensor:
        """Sums of random operands.

        Args:
            count: B, how many.
            seed: decides which.
            held_out: pairs that training never sees: those whose number, the first operand followed by the second, can
                be divided by 7.

        Returns:
            int64, (B, length).

        Raises:
            ValueError: ``count`` below 1.
        """
        check_integer("count", count, 1)
        generator = generator_for(seed, held_out)
        pairs = 10 ** (2 * self.digits)
        rest = torch.zeros(count, dtype=torch.int64)
        if not held_out:
            rest = torch.randint(1, HELD_OUT_EVERY, (count,), generator=generator)
        whole = torch.randint(pairs // HELD_OUT_EVERY, (count,), generator=generator)
        return self.rows(*self._operands(whole * HELD_OUT_EVERY + rest))

    def rows(self, first: Tensor, second: Tensor) -> Tensor:
        """The rows (B, length) of given operands, int64, (B,) each.

        Raises:
            ValueError: an operand that is negative or has too many digits.
        """
        for name, operand in (("first", first), ("second", second)):
            wrong = operand[(operand < 0) | (operand >= 10**self.digits)]
            if len(wrong):
                raise ValueError(f"{name} holds {wrong[0].item()}; it must be from 0 to {10**self.digits - 1}")
        start, plus, equals = (torch.full((len(first), 1), token) for token in (self.START, self.PLUS, self.EQUALS))
        answer = _digits(first + second, self.digits + 1)
        return torch.cat([start, _digits(first, self.digits), plus, _digits(second, self.digits), equals, answer], 1)

    def unknown(self, rows: Tensor) -> Tensor:
        """bool, (B, length), True at the answer's digits."""
        _check_rows(rows, self.length)
        return (torch.arange(self.length) >= self.length - self.digits - 1).expand(len(rows), -1)

    def right(self, rows: Tensor) -> Tensor:
        """Which digits of the answer are right, bool, (B, digits + 1), the most significant first."""
        _check_rows(rows, self.length)
        n = self.digits
        total = _number(rows[:, 1 : n + 1]) + _number(rows[:, n + 2 : 2 * n + 2])
        return rows[:, -n - 1 :] == _digits(total, n + 1)

    def solved(self, rows: Tensor) -> Tensor:
        """Whether all digits of an answer are right, bool, (B,)."""
        return self.right(rows).all(-1)

    def text(self, row: Tensor) -> str:
        """A row (length,) as we write it, without what begins it."""
        return "".join("0123456789+="[token] for token in row[1:].tolist())

    def _operands(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        return pairs.div(10**self.digits, rounding_mode="floor"), pairs % 10**self.digits


@dataclass(frozen=True)
class Sudoku:
    """Sudokus of 4, 6 or 9 digits whose clues leave exactly one solution.

    Tokens: 0 is an empty cell, 1 .. ``size`` are the digits, ``size`` + 1 begins the row. Behind it come the cells of
    the puzzle, row after row, and then those of the solution. The unknown tokens are the solution's at empty cells.

    Args:
        size: 4 (boxes of 2 x 2), 6 (2 x 3) or 9 (3 x 3).
        blanks: empty cells, at most; fewer where no further clue can go and leave one solution.
        grids: how many different solved grids there are in all; of size 4 there are 288.
        held_out: how many of them training never sees.

    Raises:
        ValueError: another size, or a number outside its range.
    """

    size: int = 4
    blanks: int = 11
    grids: int = GRIDS_OF_4
    held_out: int = 48

    EMPTY = 0

    def __post_init__(self):
        if self.size not in BOXES:
            raise ValueError(f"size must be one of {', '.join(map(str, BOXES))}; got {self.size!r}")
        for name in ("blanks", "grids", "held_out"):
            check_integer(name, getattr(self, name), 1)
        if self.blanks > self.cells:
            raise ValueError(f"blanks must be at most {self.cells}, the cells; got {self.blanks}")
        if self.size == 4 and self.grids > GRIDS_OF_4:
            raise ValueError(f"grids must be at most {GRIDS_OF_4}, all that there are of size 4; got {self.grids}")
        if self.held_out >= self.grids:
            raise ValueError(
                f"held_out={self.held_out} leaves none of {self.grids} grids to train on; lower it, or raise grids"
            )

    @property
    def cells(self) -> int:
        """Cells of a grid."""
        return self.size**2

    @property
    def length(self) -> int:
        """Tokens of a row."""
        return 1 + 2 * self.cells

    @property
    def vocabulary_size(self) -> int:
        return self.size + 2

    def split(self) -> tuple[Tensor, Tensor]:
        """The solved grids to train on and those held out, int64, (G, cells) each; none is in both."""
        grids = torch.tensor(_grids(self.size, self.grids))
        return grids[self.held_out :], grids[: self.held_out]

    def draw(self, count: int, seed: int, held_out: bool = False) -> Tensor:
        """Random puzzles with their solutions; a grid can come again with other clues.

        Args:
            count: B, how many.
            seed: decides which grids and clues.
            held_out: from the grids that training never sees.

        Returns:
            int64, (B, length).

        Raises:
            ValueError: ``count`` below 1.
        """
        check_integer("count", count, 1)
        generator, grids = generator_for(seed, held_out), self.split()[held_out]
        solutions = grids[torch.randint(len(grids), (count,), generator=generator)]
        return self.rows(self.dig(solutions, generator), solutions)

    def dig(self, solutions: Tensor, generator: torch.Generator) -> Tensor:
        """Empty up to ``blanks`` cells in random order, but none without which there would be two solutions.

        Args:
            solutions: int64, (B, cells), solved grids.
            generator: draws the order.

        Returns:
            the clues, int64, (B, cells), 0 where empty.

        Raises:
            ValueError: a grid that is not solved.
        """
        wrong = (~self.valid(solutions)).nonzero()
        if len(wrong):
            raise ValueError(f"solutions[{wrong[0].item()}] is no solved grid; take grids from split()")
        order = torch.rand(solutions.shape, generator=generator).argsort(-1)
        if self.size == 4:
            parts = zip(solutions.split(CHUNK), order.split(CHUNK), strict=True)
            return torch.cat([_dig_4(*part, self.blanks) for part in parts])
        dug = [self._dig(grid, turn) for grid, turn in zip(solutions.tolist(), order.tolist(), strict=True)]
        return torch.tensor(dug)

    def rows(self, clues: Tensor, solutions: Tensor) -> Tensor:
        """The rows (B, length) of clues and solutions, int64, (B, cells) each."""
        return torch.cat([torch.full((len(clues), 1), self.size + 1), clues, solutions], 1)

    def unknown(self, rows: Tensor) -> Tensor:
        """bool, (B, length), True at the solution's tokens whose cell is empty in the puzzle."""
        _check_rows(rows, self.length)
        empty = rows[:, 1 : 1 + self.cells] == self.EMPTY
        return torch.cat([torch.zeros(len(rows), 1 + self.cells, dtype=torch.bool), empty], 1)

    def valid(self, grids: Tensor) -> Tensor:
        """Whether every row, column and box of grids (B, cells) holds each digit once; bool, (B,)."""
        _check_rows(grids, self.cells)
        return (grids[:, _units(self.size)].sort(-1).values == torch.arange(1, self.size + 1)).all(-1).all(-1)

    def solved(self, rows: Tensor) -> Tensor:
        """Whether a row's solution is a valid grid that keeps all clues; bool, (B,)."""
        _check_rows(rows, self.length)
        clues, answer = rows[:, 1 : 1 + self.cells], rows[:, 1 + self.cells :]
        return self.valid(answer) & ((clues == answer) | (clues == self.EMPTY)).all(-1)

    def count_solutions(self, clues: Tensor, most: int = 2) -> Tensor:
        """How many solutions puzzles (B, cells) have, counted up to ``most``; int64, (B,).

        Raises:
            ValueError: ``most`` below 1, a wrong shape, or a clue that is no digit.
        """
        check_integer("most", most, 1)
        _check_rows(clues, self.cells)
        wrong = clues[(clues < 0) | (clues > self.size)]
        if len(wrong):
            raise ValueError(f"clues hold {wrong[0].item()}; allowed are 0, an empty cell, and 1 to {self.size}")
        counts = []
        for cells in clues.tolist():
            found = _solutions(cells, self.size)
            counts.append(sum(1 for _, _ in zip(range(most), found, strict=False)))
        return torch.tensor(counts)

    def text(self, row: Tensor) -> str:
        """The puzzle and the solution of a row (length,), a line each for every line of the grid; "." where empty."""
        cells = ["." if token == self.EMPTY else str(token) for token in row[1:].tolist()]
        puzzle, solution = (
            ["".join(part[i : i + self.size]) for i in range(0, self.cells, self.size)]
            for part in (cells[: self.cells], cells[self.cells :])
        )
        return "\n".join(f"{left}  {right}" for left, right in zip(puzzle, solution, strict=True))

    def _dig(self, grid: list[int], order: list[int]) -> list[int]:
        clues, left = list(grid), self.blanks
        for cell in order:
            if not left:
                break
            # it was the only solution before, so a second one has another digit here
            clues[cell] = self.EMPTY
            if next(_solutions(clues, self.size, (cell, grid[cell])), None) is None:
                left -= 1
            else:
                clues[cell] = grid[cell]
        return clues


def as_blocks(rows: Tensor) -> Blocks:
    """Rows (B, T) for ``train``: all of one length, each a document of its own."""
    count, length = rows.shape
    ends = torch.zeros(count, length, dtype=torch.bool)
    return Blocks(rows, torch.full((count,), length), torch.arange(count), ends)


def _check_rows(rows: Tensor, length: int) -> None:
    if rows.dim() != 2 or rows.shape[1] != length:
        raise ValueError(f"rows must have shape (B, {length}), got {tuple(rows.shape)}; for one row use row[None]")


def _digits(numbers: Tensor, count: int) -> Tensor:
    """(B, count): the decimal digits of numbers (B,), the most significant first."""
    powers = 10 ** torch.arange(count - 1, -1, -1)
    return numbers[:, None].div(powers, rounding_mode="floor") % 10


def _number(digits: Tensor) -> Tensor:
    """(B,): the numbers that digits (B, N) write."""
    return (digits * 10 ** torch.arange(digits.shape[1] - 1, -1, -1)).sum(-1)


def _box(cell: int, size: int) -> int:
    height, width = BOXES[size]
    return cell // size // height * (size // width) + cell % size // width


@functools.cache
def _units(size: int) -> Tensor:
    """int64, (3 * size, size): the cells of every row, column and box."""
    cells = range(size**2)
    kinds = (lambda cell: cell // size, lambda cell: cell % size, lambda cell: _box(cell, size))
    return torch.tensor([[cell for cell in cells if kind(cell) == one] for kind in kinds for one in range(size)])


def _solutions(
    clues: list[int], size: int, unlike: tuple[int, int] | None = None, rng: random.Random | None = None
) -> Iterator[list[int]]:
    """All solutions, one after the other; the cell with the fewest candidates is tried first.

    Args:
        clues: the cells, 0 where empty.
        unlike: a cell and a digit that it must not have.
        rng: tries digits in random order.
    """
    rows, columns, boxes = [0] * size, [0] * size, [0] * size  # which digits are there already, a bit each
    cells = list(clues)
    for cell, digit in enumerate(cells):
        if digit:
            row, column, box, bit = cell // size, cell % size, _box(cell, size), 1 << digit
            if (rows[row] | columns[column] | boxes[box]) & bit:
                return
            rows[row] |= bit
            columns[column] |= bit
            boxes[box] |= bit
    every = (1 << size + 1) - 2

    def candidates(cell: int) -> int:
        open_bits = every & ~(rows[cell // size] | columns[cell % size] | boxes[_box(cell, size)])
        return open_bits & ~(1 << unlike[1]) if unlike and cell == unlike[0] else open_bits

    def go_on(empty: list[int]) -> Iterator[list[int]]:
        if not empty:
            yield list(cells)
            return
        best, fewest = empty[0], size + 1
        for cell in empty:
            if (count := candidates(cell).bit_count()) < fewest:
                best, fewest = cell, count
                if count < 2:
                    break
        digits = [digit for digit in range(1, size + 1) if candidates(best) >> digit & 1]
        if rng:
            rng.shuffle(digits)
        rest = [cell for cell in empty if cell != best]
        row, column, box = best // size, best % size, _box(best, size)
        for digit in digits:
            bit = 1 << digit
            cells[best] = digit
            rows[row] |= bit
            columns[column] |= bit
            boxes[box] |= bit
            yield from go_on(rest)
            cells[best] = 0
            rows[row] ^= bit
            columns[column] ^= bit
            boxes[box] ^= bit

    yield from go_on([cell for cell, digit in enumerate(cells) if not digit])


@functools.cache
def _grids(size: int, count: int) -> tuple[tuple[int, ...], ...]:
    """Different solved grids in random order, the same ones each time."""
    rng, empty = random.Random(size), [0] * size**2
    if size == 4:
        every = [tuple(grid) for grid in _solutions(empty, size)]
        return tuple(rng.sample(every, count))
    found = {}  # a dict keeps the order
    while len(found) < count:
        found[tuple(next(_solutions(empty, size, rng=rng)))] = None
    return tuple(found)


def _dig_4(solutions: Tensor, order: Tensor, blanks: int) -> Tensor:
    """``Sudoku.dig`` for size 4: a puzzle has one solution if every other grid differs at some clue."""
    every = torch.tensor(_grids(4, GRIDS_OF_4))
    bit = 1 << torch.arange(16)
    differs = ((solutions[:, None] != every) * bit).sum(-1)  # (B, 288), a bit for each cell
    clues, left = torch.full((len(solutions), 1), 2**16 - 1), torch.full((len(solutions), 1), blanks)
    for cell in order.split(1, dim=1):
        fewer = clues & ~bit[cell]
        gone = ((differs & fewer) == 0).sum(-1, keepdim=True) == 1  # the grid itself alone agrees
        gone &= left > 0
        clues, left = torch.where(gone, fewer, clues), left - gone.long()
    return solutions * ((clues & bit) != 0)
