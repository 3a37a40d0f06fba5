"""The examples that book/puzzles.md works out by hand are as it says."""

import re

import torch
from places import ROOT

from a3mini.train.puzzles import Sudoku, Sums

PAGE = (ROOT / "book" / "puzzles.md").read_text(encoding="utf-8")
SUDOKU, SUMS = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)


def test_the_sudoku():
    lines = [line.replace("|", "").split() for line in SUDOKU.splitlines() if "+" not in line]
    clues = torch.tensor([[0 if cell == "." else int(cell) for line in lines for cell in line]])
    puzzle = Sudoku()
    assert puzzle.count_solutions(clues).tolist() == [1]

    def possible(cell: int) -> list[int]:
        row, column = divmod(cell, 4)
        units = [
            at
            for at in range(16)
            if at // 4 == row or at % 4 == column or (at // 8, at % 4 // 2) == (row // 2, column // 2)
        ]
        return sorted({1, 2, 3, 4} - set(clues[0, units].tolist()))

    assert possible(2) == [3] and "*Row 1, column 3* follows at once." in PAGE and "Only 3 is left" in PAGE
    assert possible(0) == [1, 2, 3] and "So 1, 2 and 3 are possible" in PAGE
    clues[0, :4] = torch.tensor([1, 2, 3, 4])
    assert puzzle.count_solutions(clues).tolist() == [1] and "The only solution begins with 1 2 3 4." in PAGE


def test_the_sums():
    for line in SUMS.splitlines():
        first, second, answer = re.findall(r"\d+", line)
        puzzle = Sums(len(first))
        row = puzzle.rows(torch.tensor([int(first)]), torch.tensor([int(second)]))[0]
        assert puzzle.text(row) == f"{first}+{second}={answer}"
    one, other = (line.split() for line in SUMS.splitlines())
    assert one[0] == other[0] and one[2][:-1] == other[2][:-1] and one[-1][0] != other[-1][0]  # one digit decides
