"""puzzles.py: Python's own sums, and sudokus against all grids there are; what is held out never comes in training."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from a3mini.train import generator_for, puzzles
from a3mini.train.data import check_rows
from a3mini.train.puzzles import Sudoku, Sums

SIZES = {4: Sudoku(), 6: Sudoku(6, blanks=20, grids=12, held_out=4), 9: Sudoku(9, blanks=40, grids=6, held_out=2)}
every_size = pytest.mark.parametrize("size", SIZES)
every_task = pytest.mark.parametrize("task", [Sums(3), Sudoku()], ids=["sums", "sudoku"])


def is_valid(grid: list[int], size: int, boxes: bool = True) -> bool:
    """Row, column and box by box, in plain loops; without ``boxes`` a mistake: any Latin square."""
    height, width = {4: (2, 2), 6: (2, 3), 9: (3, 3)}[size]
    digits, numbers = set(range(1, size + 1)), range(size)
    parts = [[grid[r * size + c] for c in numbers] for r in numbers]
    parts += [[grid[r * size + c] for r in numbers] for c in numbers]
    for top, left in itertools.product(range(0, size, height), range(0, size, width)) if boxes else ():
        parts.append([grid[r * size + c] for r in range(top, top + height) for c in range(left, left + width)])
    return all(set(part) == digits for part in parts)


def every_grid_of_4() -> list[list[int]]:
    """All rows of digits in all combinations."""
    rows = list(itertools.permutations((1, 2, 3, 4)))
    grids = []
    for first, second in itertools.product(rows, rows):
        if len(set(first[:2] + second[:2])) == 4:  # the upper boxes
            grids += [first + second + low + last for low, last in itertools.product(rows, rows)]
    return [list(grid) for grid in grids if is_valid(grid, 4)]


GRIDS = every_grid_of_4()


# Sums


@given(st.integers(1, 9), st.data())
def test_sums_are_pythons_own(digits, drawn):
    operand = st.integers(0, 10**digits - 1)
    first, second = drawn.draw(operand), drawn.draw(operand)
    task = Sums(digits)
    rows = task.rows(torch.tensor([first]), torch.tensor([second]))
    text = f"{first:0{digits}}+{second:0{digits}}={first + second:0{digits + 1}}"
    assert task.text(rows[0]) == text and rows.shape == (1, task.length)
    assert "".join("0123456789+="[token] for token in rows[task.unknown(rows)].tolist()) == text.split("=")[1]
    assert rows[0, 0] == Sums.START and rows.max() < task.vocabulary_size
    assert task.right(rows).all() and task.solved(rows).all()


def test_a_wrong_digit_is_found_where_it_stands():
    task = Sums(3)
    rows = task.draw(50, seed=0)
    for place in range(4):
        changed = rows.clone()
        changed[:, place - 4] = (changed[:, place - 4] + 1) % 10
        assert not task.solved(changed).any()
        assert task.right(changed).all(0).tolist() == [other != place for other in range(4)]


def test_sums_without_carries_are_caught():
    task = Sums(3)
    rows = task.draw(200, seed=1)
    digits = (rows[:, 1:4] + rows[:, 5:8]) % 10
    forgotten = torch.cat([rows[:, :-4], torch.zeros(200, 1, dtype=torch.int64), digits], 1)
    carries = ((rows[:, 1:4] + rows[:, 5:8]) >= 10).any(-1)
    assert carries.any() and not carries.all()
    assert torch.equal(task.solved(forgotten), ~carries)


def test_held_out_pairs_are_those_divided_by_7():
    task = Sums(1)
    pairs = {
        held_out: {tuple(row) for row in task.draw(3000, 0, held_out)[:, [1, 3]].tolist()} for held_out in (False, True)
    }
    assert pairs[True] == {(number // 10, number % 10) for number in range(0, 98, 7)}
    assert pairs[False] == set(itertools.product(range(10), repeat=2)) - {(9, 9)} - pairs[True] - {(9, 8)}


def test_every_digit_is_held_out_as_often_as_trained_on():
    for held_out in (False, True):
        last = Sums(3).draw(5000, 0, held_out)[:, 7]
        assert torch.bincount(last, minlength=10).float().div(5000).sub(0.1).abs().max() < 0.03


# Sudokus


def test_all_grids_of_size_4():
    assert len(GRIDS) == puzzles.GRIDS_OF_4
    trained, held_out = Sudoku().split()
    assert (len(trained), len(held_out)) == (240, 48)
    assert sorted(trained.tolist() + held_out.tolist()) == sorted(GRIDS)


@every_size
def test_grids_are_valid_and_none_is_on_both_sides(size):
    task = SIZES[size]
    sides = [grids.tolist() for grids in task.split()]
    assert [len(side) for side in sides] == [task.grids - task.held_out, task.held_out]
    assert len({tuple(grid) for side in sides for grid in side}) == task.grids
    assert all(is_valid(grid, size) for side in sides for grid in side)
    for held_out in (False, True):
        rows = task.draw(5, 0, held_out)
        assert all(grid in sides[held_out] for grid in rows[:, 1 + size**2 :].tolist())


@given(st.integers(0, 2**32), st.integers(1, 16))
@settings(max_examples=20, deadline=None)
def test_puzzles_of_size_4_have_one_solution_among_all_grids(seed, blanks):
    task = Sudoku(4, blanks=blanks)
    clues = task.draw(3, seed)[:, 1:17]
    for puzzle, counted in zip(clues.tolist(), task.count_solutions(clues).tolist(), strict=True):
        fits = [grid for grid in GRIDS if all(c in (0, g) for c, g in zip(puzzle, grid, strict=True))]
        assert len(fits) == counted == 1
        empty = puzzle.count(0)
        assert empty <= blanks
        if empty < blanks:  # no further clue can go
            for cell in (cell for cell in range(16) if puzzle[cell]):
                fewer = [0 if at == cell else clue for at, clue in enumerate(puzzle)]
                assert sum(all(c in (0, g) for c, g in zip(fewer, grid, strict=True)) for grid in GRIDS) > 1


def test_both_ways_to_dig_agree():
    task = Sudoku(4, blanks=16)
    solutions = task.split()[0][:20]
    order = torch.rand(solutions.shape, generator=generator_for(0)).argsort(-1)
    each = [task._dig(grid, turn) for grid, turn in zip(solutions.tolist(), order.tolist(), strict=True)]
    assert task.dig(solutions, generator_for(0)).tolist() == each


@pytest.mark.parametrize("size", [6, 9])
def test_larger_puzzles_have_one_solution(size):
    task = SIZES[size]
    rows = task.draw(3, 0)
    assert (task.count_solutions(rows[:, 1 : 1 + size**2]) == 1).all()
    assert (task.unknown(rows).sum(-1) == task.blanks).all() and task.solved(rows).all()


@given(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 4]), min_size=16, max_size=16), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_solutions_are_counted_as_among_all_grids(clues, most):
    fits = sum(all(c in (0, g) for c, g in zip(clues, grid, strict=True)) for grid in GRIDS)
    assert Sudoku().count_solutions(torch.tensor([clues]), most).tolist() == [min(fits, most)]


def test_an_empty_grid_has_all_solutions():
    assert Sudoku().count_solutions(torch.zeros(1, 16, dtype=torch.int64), most=1000).tolist() == [288]


def changed_answers(size: int) -> tuple[torch.Tensor, list[bool]]:
    """Rows with solutions as they are, with two rows or columns exchanged, or with one digit changed."""
    task = SIZES[size]
    clues = torch.zeros(1, size**2, dtype=torch.int64)
    answers = []
    for grid in task.split()[0][:4].view(-1, size, size):
        for a, b in itertools.combinations(range(size), 2):
            to = list(range(size))
            to[a], to[b] = b, a
            answers += [grid[to], grid[:, to]]
        wrong = grid.clone()
        wrong[0, 0] = grid[0, 1]
        answers += [grid, wrong]
    flat = torch.stack(answers).view(-1, size**2)
    return task.rows(clues.expand(len(flat), -1), flat), [is_valid(one, size) for one in flat.tolist()]


@every_size
def test_the_checker_is_the_plain_loop(size):
    rows, expected = changed_answers(size)
    assert True in expected and False in expected
    assert SIZES[size].solved(rows).tolist() == expected


@every_size
def test_a_checker_that_forgets_boxes_would_be_caught(size):
    rows, expected = changed_answers(size)
    assert [is_valid(grid, size, boxes=False) for grid in rows[:, 1 + size**2 :].tolist()] != expected


def test_a_valid_grid_that_changes_a_clue_is_no_solution():
    task = Sudoku()
    rows = task.draw(30, 0)
    others = rows.clone()
    others[:, 17:] = torch.tensor(GRIDS)[torch.arange(30)]
    same = (others == rows).all(-1)
    assert task.valid(others[:, 17:]).all() and not same.all()
    assert torch.equal(task.solved(others), same), "with one solution, another grid breaks a clue"


def test_of_puzzles_with_many_solutions_each_is_accepted():
    task, clues = Sudoku(), torch.zeros(288, 16, dtype=torch.int64)
    assert task.solved(task.rows(clues, torch.tensor(GRIDS))).all()


def test_what_is_unknown_is_what_is_empty():
    task = Sudoku()
    rows = task.draw(20, 0)
    assert torch.equal(task.unknown(rows)[:, 17:], rows[:, 1:17] == 0) and not task.unknown(rows)[:, :17].any()
    row = task.rows(torch.tensor([[0, 2, 3, 4] * 4]), torch.tensor([[1, 2, 3, 4] * 4]))[0]
    assert task.text(row) == "\n".join([".234  1234"] * 4)


# Both


@every_task
def test_seeds(task):
    rows = task.draw(20, 3)
    assert torch.equal(rows, task.draw(20, 3)) and not torch.equal(rows, task.draw(20, 4))
    assert not torch.equal(rows, task.draw(20, 3, held_out=True))
    assert rows.dtype == torch.int64 and task.solved(rows).all()


@every_task
def test_rows_can_be_trained_on(task):
    rows = task.draw(8, 0)
    blocks = puzzles.as_blocks(rows)
    config = type("Config", (), {"vocab_size": task.vocabulary_size, "max_position_embeddings": task.length})
    check_rows(blocks, config)
    assert torch.equal(blocks.rows(torch.tensor([2, 5])).trimmed().input_ids, rows[[2, 5]])


@every_task
def test_a_wrong_shape_says_so(task):
    with pytest.raises(ValueError, match=rf"must have shape \(B, {task.length}\), got \({task.length},\)"):
        task.unknown(task.draw(1, 0)[0])
    with pytest.raises(ValueError, match="count must be an integer, at least 1; got 0"):
        task.draw(0, 0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Sums(0), "digits must be an integer, at least 1; got 0"),
        (lambda: Sums(10), "digits must be at most 9, got 10"),
        (lambda: Sums(2).rows(torch.tensor([5]), torch.tensor([100])), "second holds 100; it must be from 0 to 99"),
        (lambda: Sums(2).rows(torch.tensor([-1]), torch.tensor([10])), "first holds -1; it must be from 0 to 99"),
        (lambda: Sudoku(5), "size must be one of 4, 6, 9; got 5"),
        (lambda: Sudoku(4, blanks=17), "blanks must be at most 16, the cells; got 17"),
        (lambda: Sudoku(4, grids=289), "grids must be at most 288, all that there are of size 4; got 289"),
        (lambda: Sudoku(4, grids=48), "held_out=48 leaves none of 48 grids"),
        (lambda: Sudoku().dig(torch.ones(2, 16).long(), generator_for(0)), r"solutions\[0\] is no solved grid"),
        (lambda: Sudoku().count_solutions(torch.full((1, 16), 5)), "clues hold 5; allowed are 0, an empty cell"),
    ],
)
def test_what_makes_no_sense_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
