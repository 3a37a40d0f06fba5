"""The puzzle explorer: what it shows after each step is what the model did; what it says of the rules is so."""

import copy
import json
import math
import re

import puzzles as bench
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini.notebook.explorers import PuzzleExplorer
from a3mini.train.puzzles import Sudoku, Sums

PUZZLES = {"sudoku": Sudoku(), "sums": Sums(3)}
ORDERS = ("left to right", "by confidence, 3 at a time", "by confidence")
ABOUT = {"command": "python benchmarks/x.py", "date": "2026-01-01", "hardware": "a CPU", "threads": 1}


def examples(puzzle, seed: int, count: int = 2) -> list[dict]:
    """What the benchmark stores, of a model that has learned nothing: most digits are wrong."""
    torch.manual_seed(seed)
    shape = dict(bench.TINY, num_hidden_layers=1, max_position_embeddings=puzzle.length, tie_word_embeddings=True)
    source = LlamaForCausalLM(LlamaConfig(vocab_size=puzzle.vocabulary_size, **shape)).eval()
    model, _ = bench.begin("A3, random order", source, puzzle)
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 6  # sure of some tokens, unsure of others
    found = bench.examples(model, puzzle, puzzle.draw(count, 0, held_out=True))
    found = json.loads(json.dumps(found))  # keys of runners-up become strings, as they do in a file
    for one in found:
        one["orders"] = {order: one["orders"][order] for order in ORDERS}
    return found


def solve(example: dict, order: str) -> None:
    """As if the model had known the answer."""
    one = example["orders"][order]
    for step in one["steps"]:
        step["tokens"] = [example["row"][at] for at in step["positions"]]
    one["right"] = True


@pytest.fixture(scope="module")
def result() -> dict:
    found = {
        task: {arm: examples(puzzle, seed) for seed, arm in enumerate(("A3, random order", "A3, left to right"))}
        for task, puzzle in PUZZLES.items()
    }
    for task in found:
        solve(found[task]["A3, random order"][1], "by confidence")
    return ABOUT | {"examples": found}


@pytest.fixture
def explorer(result):
    return PuzzleExplorer(result)


def step_to(page, clock: int) -> None:
    page.get_by_label("Steps done").evaluate(
        "(range, value) => { range.value = value; range.dispatchEvent(new Event('input', { bubbles: true })) }", clock
    )


def side(page, number: int) -> dict:
    """What one side shows."""
    return page.locator(f"section[data-side='{number}']").evaluate(
        """(panel) => ({...panel.dataset, said: panel.querySelector('.a3-figures').textContent,
             line: panel.querySelector('.a3-line').textContent, tally: panel.querySelector('.a3-note').textContent,
             above: [...panel.querySelectorAll('.a3-above')].map((one) => one.textContent),
             cells: [...panel.querySelectorAll('.a3-cell')].map((one) => ({...one.dataset, face: one.textContent,
               label: one.getAttribute('aria-label'), group: one.style.getPropertyValue('--group')}))})"""
    )


def filled(puzzle, example: dict, order: str, until: int) -> tuple[dict, dict]:
    """By cell: the token and the step, by a plain loop over the stored steps."""
    start = puzzle.length - len(cells_of(puzzle))
    tokens, steps = {}, {}
    for number, step in enumerate(example["orders"][order]["steps"][:until], start=1):
        for at, token in zip(step["positions"], step["tokens"], strict=True):
            tokens[at - start], steps[at - start] = token, number
    return tokens, steps


def cells_of(puzzle) -> range:
    return range(puzzle.cells if isinstance(puzzle, Sudoku) else puzzle.digits + 1)


def possible(row: list[int], standing: dict[int, int], cell: int) -> list[int]:
    """The digits that the rules leave for a cell of a 4 x 4 grid, by their definition."""

    def units(at: int) -> tuple:
        return at // 4, at % 4, (at // 8, at % 4 // 2)

    seen = {digit for at, digit in standing.items() if any(map(lambda a, b: a == b, units(at), units(cell)))}
    return [digit for digit in range(1, 5) if digit not in seen]


@pytest.mark.parametrize("task", PUZZLES)
def test_each_step_is_what_the_model_did(open_explorer, explorer, result, task):
    puzzle = PUZZLES[task]
    explorer.task, explorer.orders = task, ["left to right", "by confidence, 3 at a time"]
    page = open_explorer(explorer).page
    for number in range(2):
        page.locator(".a3-controls select").select_option(str(number))
        example = result["examples"][task]["A3, random order"][number]
        answer = example["row"][-len(cells_of(puzzle)) :]
        clues = example["row"][1 : 1 + puzzle.cells] if task == "sudoku" else [0] * len(answer)
        for clock in (0, 1, 2, 99):
            step_to(page, clock)
            now = min(clock, max(len(example["orders"][order]["steps"]) for order in explorer.orders))
            for at, order in enumerate(explorer.orders):
                shown, one = side(page, at), example["orders"][order]
                tokens, steps = filled(puzzle, example, order, clock)
                assert shown["order"] == order and len(shown["cells"]) == len(answer)
                assert shown["right"] == str(one["right"]).lower()
                for cell, (clue, found) in enumerate(zip(clues, shown["cells"], strict=True)):
                    if clue:
                        assert found["state"] == "clue" and found["face"] == str(clue)
                    else:
                        assert found["token"] == str(tokens.get(cell, ""))
                        assert found["step"] == str(steps.get(cell, ""))
                        bad = cell in tokens and tokens[cell] != answer[cell]
                        assert found["wrong"] == str(bad).lower() and ("✗" in found["face"]) == bad
                        assert ("wrong, right is" in found["label"]) == bad and (found["group"] != "transparent") == (
                            cell in tokens
                        )
                        state = "open" if cell not in tokens else "new" if steps[cell] == now else "filled"
                        assert found["state"] == state
                bad = sum(tokens[cell] != answer[cell] for cell in tokens)
                assert [int(shown[key]) for key in ("filled", "wrong")] == [len(tokens), bad]
                assert f"{bad} wrong" in shown["said"]
                verdict = "✓\u00a0solved" if one["right"] else "✗\u00a0not solved"
                assert (verdict in shown["said"]) == (clock >= len(one["steps"]))


def test_what_it_says_of_the_rules_of_a_sudoku(open_explorer, explorer, result):
    explorer.puzzle, explorer.orders = 1, ["left to right", "by confidence"]
    page = open_explorer(explorer).page
    step_to(page, 99)
    example, seen = result["examples"]["sudoku"]["A3, random order"][1], set()
    row = example["row"]
    clues = {at: clue for at, clue in enumerate(row[1:17]) if clue}
    for at, order in enumerate(explorer.orders):
        forced = 0
        tokens, steps = filled(PUZZLES["sudoku"], example, order, 99)
        for cell, step in steps.items():
            before = clues | {other: tokens[other] for other in tokens if steps[other] < step}
            left = possible(row, before, cell)
            forced += len(left) == 1
            page.locator(f"section[data-side='{at}'] .a3-cell[data-cell='{cell}']").hover()
            said = page.locator(f".a3-part[data-side='{at}'] .a3-note").inner_text()
            assert f" left {len(left)} digit" in said and (not left or said.endswith(f": {', '.join(map(str, left))}."))
            seen.add(len(left))
        assert int(side(page, at)["one"]) == forced
        assert f"{forced} of {len(tokens)} had one possible digit" in side(page, at)["said"]
    assert len(seen) > 2


def test_the_carries_of_a_sum(open_explorer, explorer, result):
    explorer.task = "sums"
    page = open_explorer(explorer).page
    step_to(page, 99)
    carried = set()
    for number in range(2):
        page.locator(".a3-controls select").select_option(str(number))
        example = result["examples"]["sums"]["A3, random order"][number]
        first, second = (int(part) for part in PUZZLES["sums"].text(torch.tensor(example["row"]))[:7].split("+"))
        shown = side(page, 0)
        carries = [(first % 10**k + second % 10**k) // 10**k for k in (3, 2, 1, 0)]
        assert shown["above"][:4] == [str(carry) if carry else "" for carry in carries]
        assert "".join(shown["above"][4:8]) == f"{first:03d}" and "".join(shown["above"][8:]) == f"+{second:03d}"
        tokens, _ = filled(PUZZLES["sums"], example, "left to right", 99)
        assert shown["line"] == f"{first:03d}+{second:03d}=" + "".join("0123456789+=⊢"[tokens[at]] for at in range(4))
        page.locator("section[data-side='0'] .a3-cell[data-cell='1']").hover()
        said = page.locator(".a3-part[data-side='0'] .a3-note").inner_text()
        assert (
            f"{'A 1' if carries[1] else 'Nothing'} is carried into it" in said and "still open" in said
        )  # it goes left to right
        carried.update(carries)
    assert carried == {0, 1}


def test_a_cell_tells_what_else_it_might_have_been(open_explorer, explorer, result):
    page = open_explorer(explorer).page
    step_to(page, 99)
    example = result["examples"]["sudoku"]["A3, random order"][explorer.puzzle]
    for at, order in enumerate(explorer.orders):
        step = example["orders"][order]["steps"][2]
        cell = step["positions"][0] - 17
        page.locator(f"section[data-side='{at}'] .a3-cell[data-cell='{cell}']").focus()
        rows = page.locator(f".a3-part[data-side='{at}'] li").evaluate_all(
            "all => all.map(({dataset}) => [+dataset.token, +dataset.p, dataset.chosen])"
        )
        others = [[int(token), p, "false"] for token, p in step["runners_up"][0].items()]
        expected = [[step["tokens"][0], step["probabilities"][0], "true"], *others]
        assert sorted(rows) == sorted(expected) and [p for _, p, _ in rows] == sorted(
            (p for _, p, _ in rows), reverse=True
        )
        assert (
            f"Step 3: {'✓' if step['tokens'][0] == example['row'][17 + cell] else '✗'}"
            in page.locator(f".a3-part[data-side='{at}']").inner_text()
        )
        assert page.locator(".a3-detail-title").inner_text() == f"Row {cell // 4 + 1}, column {cell % 4 + 1}"
    clue = next(at for at, one in enumerate(example["row"][1:17]) if one)
    page.locator(f".a3-cell[data-cell='{clue}']").first.focus()
    assert f"{example['row'][1 + clue]}: a clue" in page.locator(".a3-detail").inner_text()


def test_colours_are_the_step_or_the_probability(open_explorer, explorer, result):
    page = open_explorer(explorer).page
    step_to(page, 99)
    example = result["examples"]["sudoku"]["A3, random order"][explorer.puzzle]
    steps = example["orders"]["left to right"]["steps"]
    chances = {step["positions"][0] - 17: step["probabilities"][0] for step in steps}
    by_step = side(page, 0)["cells"]
    assert len({by_step[cell]["group"] for cell in chances}) == len(steps)
    page.locator("input[value=probability]").check(force=True)
    by_chance = side(page, 0)["cells"]
    groups = {}
    for cell, p in chances.items():
        assert re.search(rf"{math.floor(100 * p + 0.5)}%", by_chance[cell]["face"])
        groups.setdefault(min(9, math.floor(10 * p)), set()).add(by_chance[cell]["group"])
    assert all(len(colours) == 1 for colours in groups.values()) and len(set.union(*groups.values())) == len(groups) > 1


def test_it_begins_where_the_orders_differ_and_counts_all(open_explorer, explorer):
    assert (explorer.task, explorer.arm, explorer.puzzle) == ("sudoku", "A3, random order", 1)
    assert explorer.orders == ["left to right", "by confidence"]
    page = open_explorer(explorer).page
    assert "Of these 2 puzzles it solves 0." in side(page, 0)["tally"]
    assert "Of these 2 puzzles it solves 1." in side(page, 1)["tally"]
    assert "✗\u00a0not solved" in side(page, 0)["said"] and "✓\u00a0solved" in side(page, 1)["said"]


def test_the_keyboard_is_enough(open_explorer, explorer):
    page = open_explorer(explorer).page
    page.get_by_label("First", exact=True).press("Enter")
    assert side(page, 1)["filled"] == "0"
    page.get_by_label("Step forward").press("Enter")
    assert "left to right: 1 step, 1 of " in page.locator(".a3-spoken").inner_text()
    page.get_by_label("Step back").press("Enter")
    page.get_by_label("Last", exact=True).press("Enter")
    for number in range(2):  # one stop of the Tab key for each grid, arrows within it
        grid = f"section[data-side='{number}'] button.a3-cell"
        assert page.locator(f"{grid}[tabindex='0']").count() == 1
        page.locator(f"{grid}[data-cell='1']").focus()
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.dataset.cell") == "5"
        assert page.locator(f"{grid}[data-cell='5']").get_attribute("aria-pressed") == "true"
    page.locator("section[data-side='1'] select").select_option("by confidence, 3 at a time")
    assert side(page, 1)["order"] == "by confidence, 3 at a time" and side(page, 0)["order"] == "left to right"
    page.locator("input[value='A3, left to right']").check(force=True)
    assert "Of these 2 puzzles it solves 0." in side(page, 1)["tally"]
    page.locator("input[value=sums]").check(force=True)
    assert len(side(page, 0)["cells"]) == 4 and "✗\u00a0not solved" in side(page, 0)["said"]  # the end stays the end
    page.locator("input[value=sudoku]").check(force=True)
    assert len(side(page, 0)["cells"]) == 16


def test_playing_ends(open_explorer, explorer):
    explorer.clock = 0
    page = open_explorer(explorer).page
    page.evaluate(
        """() => { window.timers = 0; const real = setTimeout;
             window.setTimeout = (f, ms) => { timers++; return real(f, Math.min(ms, 5)) } }"""
    )
    assert page.evaluate("timers") == 0  # nothing runs before Play
    page.locator(".a3-play").click()
    total = max(len(explorer.tasks["sudoku"]["fills"][explorer.arm][1][order]["steps"]) for order in explorer.orders)
    page.wait_for_function("document.querySelector('.a3-spoken').textContent.includes('solved')")
    assert "Play" in page.locator(".a3-play").inner_text() and page.evaluate("timers") == total - 1


@pytest.mark.parametrize("look", ["light", "dark"])
def test_it_fits_a_phone_can_be_read_and_is_accessible(open_explorer, explorer, look):
    window = open_explorer(explorer, theme=look, width=360)
    window.page.locator("summary").click()
    for task, shade, cell in (("sudoku", "step", 3), ("sums", "probability", 1)):
        window.page.locator(f"input[value={task}]").check(force=True)
        window.page.locator(f"input[value={shade}]").check(force=True)
        window.page.locator(f".a3-cell[data-cell='{cell}']").first.focus()
        for clock in (0, 2, 99):
            step_to(window.page, clock)
            assert not window.too_wide()
        assert not window.violations(".a3-explorer")


def test_one_task_and_one_model_need_no_choice(open_explorer, result):
    found = ABOUT | {"examples": {"sums": {"A3, random order": result["examples"]["sums"]["A3, random order"]}}}
    page = open_explorer(PuzzleExplorer(found)).page
    assert page.locator("fieldset").count() == 1 and len(side(page, 0)["cells"]) == 4


def test_what_python_sets_is_drawn(open_explorer, explorer):
    """What is not there is the first that is."""
    explorer.arm, explorer.orders, explorer.puzzle, explorer.clock = "no such", ["no such", "by confidence"], 77, 999
    explorer.task, explorer.cell = "sums", 99
    page = open_explorer(explorer).page
    assert side(page, 0)["order"] == "left to right" and side(page, 1)["filled"] == "4"
    assert "Point at a digit" in page.locator(".a3-detail").inner_text()


@pytest.mark.parametrize("size", [6, 9])
def test_larger_grids_fit_too(open_explorer, size):
    puzzle = Sudoku(size, blanks=3, grids=2, held_out=1)
    row = puzzle.draw(1, 0, held_out=True)
    places = puzzle.unknown(row)[0].nonzero().flatten().tolist()
    steps = [
        {"positions": [at], "tokens": [row[0, at].item()], "probabilities": [0.5], "runners_up": [{"1": 0.25}]}
        for at in places
    ]
    example = {"row": row[0].tolist(), "orders": {"left to right": {"right": True, "steps": steps}}}
    window = open_explorer(PuzzleExplorer(ABOUT | {"examples": {"sudoku": {"A3": [example]}}}), width=360)
    assert len(side(window.page, 0)["cells"]) == size**2 and not window.too_wide()
    boxes = window.page.locator("section[data-side='0'] .a3-cell[data-right='true']").count()
    assert boxes == size * (size // {6: 3, 9: 3}[size] - 1)


def spoil(path: str, value) -> dict:
    """A result in which one value is another; ``path`` leads there."""

    def change(result: dict) -> dict:
        result = copy.deepcopy(result)
        *keys, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        inside = result
        for key in keys:
            inside = inside[key]
        inside[last] = value
        return result

    return change


ONE = "examples/sums/A3, random order/0"
STEP = f"{ONE}/orders/left to right/steps/0"
WRONG = {
    "it lacks 'examples'": lambda result: ABOUT,
    "it lacks 'date'": lambda result: {"examples": result["examples"], "command": ""},
    "examples are empty": spoil("examples", {}),
    "'sums' has no examples": spoil("examples/sums", {"A3, random order": []}),
    "no puzzle is called 'crossword'": lambda result: ABOUT | {"examples": {"crossword": result["examples"]["sums"]}},
    "rows of 3 tokens": spoil("examples/sudoku", {"A3": [{"row": [1, 2, 3], "orders": {}}]}),
    "are of other puzzles": spoil(f"{ONE}/row/2", 77),
    "it says right=True, but the rules say otherwise": spoil(f"{ONE}/orders/left to right/right", True),
    "fill each unknown position once": spoil(f"{STEP}/positions", [10]),
    "as many tokens": spoil(f"{STEP}/tokens", []),
    "token 13 is not in the vocabulary of 13": spoil(f"{STEP}/tokens", [13]),
    "from 0 to 1, got 1.5": spoil(f"{STEP}/runners_up", [{"1": 1.5}]),
    "different orders": spoil(f"{ONE}/orders", {}),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_it_refuses(result, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PuzzleExplorer(WRONG[message](result))


def test_a_file_that_is_none_says_which(tmp_path):
    (tmp_path / "x.json").write_text("[1")
    with pytest.raises(ValueError, match="x.json: "):
        PuzzleExplorer.from_file(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"x.json: not a result of puzzles"):
        PuzzleExplorer.from_file(tmp_path / "x.json")
