"""The puzzle explorer: one puzzle, filled by the same weights in two orders, side by side."""

import json
from pathlib import Path

import torch
import traitlets

from a3mini.notebook.explorers.base import Explorer, bundle, stylesheet
from a3mini.train.puzzles import BOXES, Puzzle, Sudoku, Sums

SHADES = ("step", "probability")
AGAIN = "give it a result of `python benchmarks/puzzles.py`"


class PuzzleExplorer(Explorer):
    """How trained models fill held-out puzzles, step by step, in two orders at a time.

    Args:
        results: a result of benchmarks/puzzles.py. Its ``examples`` hold, by task and by arm, the same rows, and for
            each order whether the answer is right, and the steps: positions, tokens, probabilities and runners-up.

    Attributes:
        task: "sudoku" or "sums"; follows what the reader does, as all below, and may be set.
        arm: the name of the model whose fillings are shown.
        puzzle: the number of the puzzle, from 0. At first the first one that the two orders answer differently.
        orders: the names of the two orders.
        clock: how many steps are done; more than there are: all.
        cell: the number of the answer's cell that is told about, or None.
        shade: what colours mean, "step" or "probability".

    Raises:
        ValueError: not such a result, or one whose examples contradict themselves.
    """

    _esm = bundle("puzzle")
    _css = stylesheet("puzzle")
    summary = "An interactive figure: a puzzle that the same model fills in two orders, side by side, step by step."
    tasks = traitlets.Dict(help="The puzzles, and how each model fills them, by name.").tag(sync=True)
    task = traitlets.Unicode().tag(sync=True)
    arm = traitlets.Unicode().tag(sync=True)
    puzzle = traitlets.Int().tag(sync=True)
    orders = traitlets.List(traitlets.Unicode()).tag(sync=True)
    clock = traitlets.Int().tag(sync=True)
    cell = traitlets.Int(None, allow_none=True).tag(sync=True)
    shade = traitlets.Enum(SHADES, SHADES[0]).tag(sync=True)

    def __init__(self, results: dict):
        try:
            tasks = {name: _task(name, arms) for name, arms in results["examples"].items()}
            source = (
                f"{results['command']} on {results['date']}: {results['hardware']}, {results['threads']} threads. "
                f"The models of the first seed, the first held-out puzzles; always the likeliest token."
            )
        except (KeyError, TypeError, AttributeError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"not a result of puzzles: {what}; {AGAIN}") from error
        if not tasks:
            raise ValueError(f"not a result of puzzles: its examples are empty; {AGAIN}")
        task, first = next(iter(tasks.items()))
        arm, fills = next(iter(first["fills"].items()))
        names = list(fills[0])
        orders = [names[0], "by confidence" if "by confidence" in names else names[-1]]
        differ = [fill[orders[0]]["right"] != fill[orders[1]]["right"] for fill in fills]
        super().__init__(
            tasks=tasks,
            task=task,
            arm=arm,
            puzzle=differ.index(True) if True in differ else 0,
            orders=orders,
            clock=max(len(fills[0][order]["steps"]) for order in orders),
            source=source,
        )

    @classmethod
    def from_file(cls, path: str | Path) -> "PuzzleExplorer":
        """The explorer of a JSON file; ValueError if it holds something else."""
        try:
            return cls(json.loads(Path(path).read_text(encoding="utf-8")))
        except ValueError as error:  # what json raises is one, too
            raise ValueError(f"{path}: {error}") from error


def _task(name: str, arms: dict) -> dict:
    """Puzzles as people see them, and by arm how each is filled, by cells of the answer."""
    arms = {arm: examples for arm, examples in arms.items() if examples}
    if not arms:
        raise ValueError(f"not a result of puzzles: {name!r} has no examples; {AGAIN}")
    rows = [example["row"] for example in next(iter(arms.values()))]
    for arm, examples in arms.items():
        if [example["row"] for example in examples] != rows:
            raise ValueError(f"the examples of {arm!r} in {name!r} are of other puzzles than those of the first model")
    puzzle = _puzzle(name, len(rows[0]))
    rows = torch.tensor(rows)
    unknown = puzzle.unknown(rows)
    sudoku = isinstance(puzzle, Sudoku)
    cells = puzzle.cells if sudoku else puzzle.digits + 1
    found = {
        "kind": "sudoku" if sudoku else "sums",
        "columns": puzzle.size if sudoku else cells,
        "box": list(BOXES[puzzle.size]) if sudoku else [],
        "texts": ["∅", *map(str, range(1, puzzle.size + 1)), "⊢"] if sudoku else [*map(str, range(10)), "+", "=", "⊢"],
        "puzzles": [_shown(puzzle, row, cells) for row in rows],
    }
    start = puzzle.length - cells
    found["fills"] = {
        arm: [
            {
                order: _fill(f"{arm!r}, {order!r}, puzzle {number}", puzzle, rows[number], unknown[number], start, one)
                for order, one in example["orders"].items()
            }
            for number, example in enumerate(examples)
        ]
        for arm, examples in arms.items()
    }
    orders = {tuple(fill) for fills in found["fills"].values() for fill in fills}
    if len(orders) != 1 or len(*orders) < 1:
        raise ValueError(f"the examples of {name!r} have different orders: {sorted(orders)}")
    return found


def _puzzle(name: str, length: int) -> Puzzle:
    """What has rows of that length."""
    if name == "sudoku":
        for size in BOXES:
            if Sudoku(size).length == length:
                return Sudoku(size)
    elif name == "sums" and length > 6 and length % 3 == 1:
        return Sums((length - 4) // 3)
    raise ValueError(f"no puzzle is called {name!r} and has rows of {length} tokens; known are sudoku and sums")


def _shown(puzzle: Puzzle, row: torch.Tensor, cells: int) -> dict:
    """The answer, and what is given: clues by cell (null: none), or the operands and the carry into each digit."""
    answer = row[-cells:].tolist()
    if isinstance(puzzle, Sudoku):
        return {"answer": answer, "clues": [clue or None for clue in row[1 : 1 + cells].tolist()]}
    n, text = puzzle.digits, puzzle.text(row)
    operands = [text[:n], text[n + 1 : 2 * n + 1]]
    ones = [sum(int(one[n - k :] or 0) for one in operands) // 10**k for k in range(n, -1, -1)]  # carries, a 1 or a 0
    return {"answer": answer, "clues": [None] * cells, "operands": operands, "carries": ones}


def _fill(what: str, puzzle: Puzzle, row: torch.Tensor, unknown: torch.Tensor, start: int, one: dict) -> dict:
    """One filling: for each step the cells, tokens and probabilities, and each cell's runners-up."""
    steps, places, filled = [], [], row.masked_fill(unknown, 0)
    for step in one["steps"]:
        parts = [step[name] for name in ("positions", "tokens", "probabilities", "runners_up")]
        if not parts[0] or len({*map(len, parts)}) != 1:
            raise ValueError(f"{what}: a step must have as many tokens, probabilities and runners-up as positions")
        others = [[[int(token), p] for token, p in some.items()] for some in parts[3]]
        tokens = [*parts[1], *(token for some in others for token, _ in some)]
        chances = [*parts[2], *(p for some in others for _, p in some)]
        if wrong := [token for token in tokens if not 0 <= token < puzzle.vocabulary_size]:
            raise ValueError(f"{what}: token {wrong[0]} is not in the vocabulary of {puzzle.vocabulary_size}")
        if wrong := [p for p in chances if not 0 <= p <= 1]:
            raise ValueError(f"{what}: a probability must be from 0 to 1, got {wrong[0]}")
        places += parts[0]
        filled[parts[0]] = torch.tensor(parts[1])
        steps.append([[place - start for place in parts[0]], parts[1], parts[2], others])
    if sorted(places) != unknown.nonzero().flatten().tolist():
        raise ValueError(f"{what}: the steps must fill each unknown position once")
    if bool(puzzle.solved(filled[None])) != one["right"]:
        raise ValueError(f"{what}: it says right={one['right']}, but the rules say otherwise")
    return {"right": one["right"], "steps": steps}
