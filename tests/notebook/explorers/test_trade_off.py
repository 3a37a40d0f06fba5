"""The trade-off explorer draws what the stored result says; its front and its advice are those of a plain loop."""

import copy
import json
import math
import re
from itertools import product

import pytest
import traitlets
from axe_playwright_python.sync_playwright import Axe
from places import ROOT

from a3mini.notebook.explorers import TradeOffExplorer
from a3mini.notebook.explorers.trade_off import COSTS, QUALITIES

PATH = ROOT / "book" / "results" / "tradeoff.json"
RESULT = json.loads(PATH.read_text())
REAL = "held-out text"
WAYS = {name: row for name, row in RESULT["strategies"].items() if "family" in row}


def example() -> TradeOffExplorer:
    return TradeOffExplorer.from_file(PATH)


def number(name: str, key: str) -> list[float]:
    row = RESULT["strategies"][name]
    return row["own_loss"] if key == "own_loss" else row["judged"][key]


def score(name: str, y: str) -> float:
    value = number(name, y)[0]
    return value if y in ("perplexity", "own_loss") else abs(value - number(REAL, y)[0])


def front(x: str, y: str, names) -> list[str]:
    """By the definition: no other is at least as good in both and better in one."""
    at = {name: (WAYS[name][x], score(name, y)) for name in names}
    beaten = {
        a for a, b in product(names, names) if at[b] != at[a] and all(p <= q for p, q in zip(at[b], at[a], strict=True))
    }
    return sorted((name for name in names if name not in beaten), key=lambda name: at[name])  # equal ones as they come


def best(x: str, y: str, names, budget: float) -> str:
    inside = [name for name in names if WAYS[name][x] <= budget]
    return min(inside, key=lambda name: (score(name, y), WAYS[name][x]), default="")


def points(page) -> list[dict]:
    return page.locator(".a3-point").evaluate_all("points => points.map((point) => ({...point.dataset}))")


def advised(page) -> str:
    return page.locator("[data-part=best]").get_attribute("data-best")


def shown_front(page) -> list[str]:
    return page.locator("path.a3-front").get_attribute("data-front").split("|")


# What is drawn


def test_every_number_of_the_table_is_the_result_s(open_explorer):
    page = open_explorer(example()).page
    rows = page.locator("details tbody tr").evaluate_all(
        """rows => rows.map((row) => [row.dataset.name, [...row.querySelectorAll('td')].map((cell) =>
             [cell.dataset.key, cell.dataset.value, cell.dataset.half, cell.textContent])])"""
    )
    assert [name for name, _ in rows] == list(RESULT["strategies"])
    for name, cells in rows:
        assert [cell[0] for cell in cells] == ["size", *COSTS, *QUALITIES]
        for key, value, half, text in cells:
            if key in QUALITIES:
                assert [float(value), float(half)] == number(name, key)
                for part, exact in zip(text.split(" ± "), number(name, key), strict=True):
                    digits = len(part.partition(".")[2])
                    assert abs(float(part) - exact) <= 0.5 * 10**-digits + 1e-9
            elif name == REAL:
                assert value is None and text == ""
            else:
                assert float(value) == float(text) == WAYS[name]["tokens_per_step" if key == "size" else key]


def test_points_bars_and_front_stand_where_the_numbers_say(open_explorer):
    page = open_explorer(example()).page
    for x, y in product(COSTS, QUALITIES):
        page.locator(f"input[value={x}]").check(force=True)
        page.locator("select").select_option(y)
        compare(page, x, y)


def compare(page, x: str, y: str) -> None:
    drawn = {point["name"]: point for point in points(page)}
    assert drawn.keys() == WAYS.keys()
    for name, point in drawn.items():
        assert [float(point[key]) for key in ("x", "y", "half")] == [WAYS[name][x], *number(name, y)]
    assert shown_front(page) == front(x, y, WAYS)
    assert sorted(name for name in drawn if drawn[name]["front"] == "true") == sorted(front(x, y, WAYS))

    # In pixels: all heights lie on one straight line (of logarithms, for the perplexity), and so do the bars' ends.
    height = math.log if y == "perplexity" else float
    where = page.evaluate(
        """() => [...document.querySelectorAll('.a3-point')].map((point) => {
             const [px, py] = point.getAttribute('transform').match(/[-\\d.]+/g).map(Number);
             const bar = document.querySelector(`[data-interval="${point.dataset.name}"]`).getAttribute('d');
             return [point.dataset.name, px, py, bar];
           })"""
    )
    pairs = []
    for name, _, py, bar in where:
        mean, half = number(name, y)
        top, bottom = map(float, re.match(r"M[-\d.]+,([-\d.]+)h6m-3,0V([-\d.]+)", bar).groups())
        pairs += [(height(mean), py), (height(mean + half), top), (height(mean - half), bottom)]
    level = page.locator(".a3-real").get_attribute("d")
    pairs.append((height(number(REAL, y)[0]), float(re.match(r"M[-\d.]+,([-\d.]+)H", level)[1])))
    low, high = min(pairs), max(pairs)
    slope = (high[1] - low[1]) / (high[0] - low[0])
    assert slope < 0
    assert all(abs(low[1] + slope * (value - low[0]) - py) < 0.01 for value, py in pairs)
    # From left to right by cost; ways of equal cost stand within a few pixels of each other.
    across = {name: px for name, px, _, _ in where}
    for cost in {WAYS[name][x] for name in WAYS}:
        same = [across[name] for name in WAYS if WAYS[name][x] == cost]
        assert max(same) - min(same) <= 9 * (len(same) - 1) + 0.01
    first, last = (pick(WAYS, key=lambda name: WAYS[name][x]) for pick in (min, max))
    assert across[first] < across[last]


EVERY_BUDGET = """() => {
  const range = document.querySelector("input[type=range]");
  return Array.from({ length: +range.max + 1 }, (_, at) => {
    range.value = at;
    range.dispatchEvent(new Event("input"));
    const faint = [...document.querySelectorAll(".a3-point.a3-faint")].map((point) => point.dataset.name);
    const { best } = document.querySelector("[data-part=best]").dataset;
    return [document.querySelector("output").textContent, best, faint];
  });
}"""


def test_the_best_within_the_budget_is_that_of_a_plain_loop(open_explorer):
    page = open_explorer(example()).page
    tried = set()
    for x, y in product(COSTS, QUALITIES):
        page.locator(f"input[value={x}]").check(force=True)
        page.locator("select").select_option(y)
        found = page.evaluate(EVERY_BUDGET)
        stops = sorted({math.ceil(row[x]) for row in WAYS.values()})
        assert [said for said, _, _ in found] == [f"{stop} {'passes' if x == 'passes' else 'ms'}" for stop in stops]
        for stop, (_, advice, faint) in zip(stops, found, strict=True):
            assert advice == best(x, y, WAYS, stop)
            assert set(faint) == {name for name in WAYS if WAYS[name][x] > stop}
            tried.add((x, advice))
    assert len(tried) > 15  # the advice does depend on the budget


def test_more_varied_than_real_text_is_not_better(open_explorer):
    """With real text amid the ways: the nearest from above or from below wins."""
    result, middle = copy.deepcopy(RESULT), 8.13
    result["strategies"][REAL]["judged"]["entropy"] = [middle, 0.0]
    explorer = TradeOffExplorer(result)
    explorer.y = "entropy"
    found = open_explorer(explorer).page.evaluate(EVERY_BUDGET)
    sides = set()
    for said, advice, _ in found:
        inside = [name for name in WAYS if WAYS[name]["passes"] <= int(said.split()[0])]
        gaps = {name: abs(number(name, "entropy")[0] - middle) for name in inside}
        assert gaps[advice] == min(gaps.values())
        sides.add(number(advice, "entropy")[0] > middle)
    assert sides == {True, False}


def test_it_says_when_time_tells_another_story(open_explorer):
    """Where speculation leads within 55 passes, and one at a time is better within its milliseconds."""
    result = copy.deepcopy(RESULT)
    for size, perplexity in ((4, 95.0), (8, 95.0), (16, 75.0)):
        result["strategies"][f"speculative, left to right, {size}"]["judged"]["perplexity"] = [perplexity, 1.0]
    explorer = TradeOffExplorer(result)
    explorer.budgets = explorer.budgets | {"passes": 55.0}
    text = open_explorer(explorer).page.locator("[data-part=best]").inner_text()
    assert "speculative, left to right, 16 at a time" in text
    ours, (mean, half) = WAYS["left to right, 1"], number("left to right, 1", "perplexity")
    spent = WAYS["speculative, left to right, 16"]["ms_per_sample"]
    gives = f"gives {mean:.0f} ± {half:.0f} for {ours['ms_per_sample']:.1f} ms"
    assert mean < 75 and f"within its {spent:.1f} ms, left to right, 1 at a time {gives}" in text
    assert "at least as varied as held-out text" in text


def test_a_dull_text_is_not_praised(open_explorer):
    result = copy.deepcopy(RESULT)
    dull = result["strategies"]["random order, 4"]["judged"]
    dull |= {"perplexity": [20.0, 1.0], "distinct_pairs": [0.3, 0.01]}
    text = open_explorer(TradeOffExplorer(result)).page.locator("[data-part=best]").inner_text()
    assert "random order, 4" in text and "Beware: less than held-out text in distinct pairs of words." in text


def test_without_real_text_more_is_more_varied(open_explorer):
    result = copy.deepcopy(RESULT)
    del result["strategies"][REAL]
    explorer = TradeOffExplorer(result)
    explorer.y, explorer.selected = "entropy", "by entropy, 1"
    page = open_explorer(explorer).page
    assert page.locator(".a3-real").count() == 0 and "higher is more varied" in page.locator(".a3-aim").text_content()
    inside = [name for name in WAYS if WAYS[name]["passes"] <= 16]
    assert number(advised(page), "entropy")[0] == max(number(name, "entropy")[0] for name in inside)


# The reader


def test_mouse_and_keyboard_read_records(open_explorer):
    page = open_explorer(example()).page
    record = page.locator("[data-part=record]")
    for name in ("left to right, 8", "by confidence, refreshed, 1"):
        page.locator(f".a3-point[data-name='{name}']").hover(force=True)
        assert record.get_attribute("data-selected") == name
        for key in (*COSTS, *QUALITIES):
            cell = record.locator(f"[data-key={key}]")
            assert float(cell.get_attribute("data-value")) == (
                WAYS[name][key] if key in COSTS else number(name, key)[0]
            )
    # One stop of the Tab key; arrows go from cheap to dear, and the focus survives each redraw.
    assert page.locator(".a3-point[tabindex='0']").count() == 1
    page.locator(".a3-point[tabindex='0']").focus()
    page.keyboard.press("Home")
    order = [point["name"] for point in points(page)]
    assert [WAYS[name]["passes"] for name in order] == sorted(WAYS[name]["passes"] for name in order)
    for name in order[:6]:
        assert record.get_attribute("data-selected") == name
        assert page.evaluate("document.activeElement.dataset.name") == name
        page.keyboard.press("ArrowRight")
    # The mouse may look elsewhere meanwhile.
    page.locator(".a3-point[data-name='random order, 1']").hover(force=True)
    assert record.get_attribute("data-selected") == "random order, 1"
    assert page.evaluate("document.activeElement.dataset.name") == order[6]


def test_all_families_are_told_apart_without_colour(open_explorer):
    result = json.loads(PATH.read_text())
    row = next(row for row in result["strategies"].values() if "family" in row)
    result["strategies"] = {f"{n}": row | {"family": f"family {n}"} for n in range(8)}
    page = open_explorer(TradeOffExplorer(result)).page
    marks = page.locator("label svg").evaluate_all(
        """all => all.map(({children: [line, mark]}) =>
             [line.getAttribute('stroke-dasharray'), mark.getAttribute('d')])"""
    )
    colours = page.locator("label .a3-mark").evaluate_all("all => all.map(e => getComputedStyle(e).fill)")
    assert [len(set(one)) for one in (*zip(*marks, strict=True), colours)] == [8, 8, 8]


def test_hidden_families_leave_the_front_and_the_advice(open_explorer):
    page = open_explorer(example()).page
    gone = {"strided", "speculative, random order"}
    for family in gone:
        page.get_by_label(family, exact=True).press("Space")
    left = [name for name in WAYS if WAYS[name]["family"] not in gone]
    assert {point["name"] for point in points(page)} == set(left)
    assert shown_front(page) == front("passes", "perplexity", left)
    assert advised(page) == best("passes", "perplexity", left, 16) != best("passes", "perplexity", WAYS, 16)
    assert "Best within 16 passes" in page.locator(".a3-spoken").inner_text()
    for family in {WAYS[name]["family"] for name in left}:
        page.get_by_label(family, exact=True).uncheck()
    assert points(page) == [] and advised(page) == ""


def test_what_python_sets_is_drawn(open_explorer):
    """All that the reader can choose is a trait; a name that does not exist chooses nothing."""
    explorer = example()
    explorer.x, explorer.y, explorer.selected = "ms_per_sample", "own_loss", "by entropy, 2"
    explorer.hidden, explorer.budgets = ["left to right", "no such family"], {"passes": 16.0, "ms_per_sample": 50.5}
    page = open_explorer(explorer).page
    left = [name for name in WAYS if WAYS[name]["family"] != "left to right"]
    assert advised(page) == best("ms_per_sample", "own_loss", left, 50.5)
    assert page.locator(".a3-slider output").inner_text() == "50.5 ms"
    assert page.locator("[data-part=record]").get_attribute("data-selected") == "by entropy, 2"
    explorer.selected, explorer.hidden, explorer.budgets = "left to right, 1", ["left to right"], {}
    page = open_explorer(explorer).page
    assert page.locator("[data-part=record]").get_attribute("data-selected") == ""
    assert advised(page) == best("ms_per_sample", "own_loss", left, math.inf)


@pytest.mark.parametrize("look", ["light", "dark"])
def test_it_fits_a_phone_can_be_read_and_is_accessible(open_explorer, look):
    window = open_explorer(example(), theme=look, width=360)
    page = window.page
    page.locator(".a3-point").nth(9).focus()
    page.locator("summary").click()
    assert not window.too_wide()
    sizes = page.evaluate(
        """() => [...document.querySelectorAll('.a3-chart text')].map((text) =>
             parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)"""
    )
    assert min(sizes) >= 12
    box = page.locator(".a3-chart").bounding_box()
    for text in page.locator(".a3-chart text").all():
        found = text.bounding_box()
        assert box["x"] - 1 <= found["x"] and found["x"] + found["width"] <= box["x"] + box["width"] + 1
    found = Axe().run(page, context=".a3-explorer")
    serious = [v["id"] for v in found.response["violations"] if v["impact"] in ("serious", "critical")]
    assert not serious
    page.set_viewport_size({"width": 900, "height": 800})  # the chart is drawn anew, its text keeps its size
    page.wait_for_function("document.querySelector('.a3-chart').viewBox.baseVal.width > 700")


# Python


def test_the_source_says_how_it_was_measured():
    source = example().source
    for part in ("command", "date", "hardware", "model", "judge"):
        assert str(RESULT[part]) in source
    assert "24 samples for each of the seeds 0, 1, 2" in source
    assert len(example().to_html()) < 120_000


def broken(change) -> dict:
    result = copy.deepcopy(RESULT)
    change(result)
    return result


BAD = {
    "it lacks 'strategies'": lambda r: r.pop("strategies"),
    "it lacks 'judge'": lambda r: r.pop("judge"),
    "it lacks 'passes'": lambda r: r["strategies"]["random order, 4"].pop("passes"),
    "passes of 'random order, 4' must be more than 0, got 0": lambda r: r["strategies"]["random order, 4"].update(
        passes=0
    ),
    "own_loss of 'random order, 4' must be a finite number, got nan": lambda r: r["strategies"][
        "random order, 4"
    ].update(own_loss=[math.nan, 1.0]),
    "0 ways of decoding, 1 real texts": lambda r: r.update(strategies={REAL: r["strategies"][REAL]}),
}


@pytest.mark.parametrize("message", BAD)
def test_another_result_is_one_clear_error(message):
    with pytest.raises(ValueError, match=f"not a trade-off: .*{re.escape(message)}.*benchmarks/tradeoff.py"):
        TradeOffExplorer(broken(BAD[message]))


@pytest.mark.parametrize("text", ["[]", "not json", "{}", '{"strategies": [1]}'])
def test_another_file_is_one_clear_error_that_names_it(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="other.json: "):
        TradeOffExplorer.from_file(path)
    for name in ("x", "y"):
        with pytest.raises(traitlets.TraitError):
            setattr(example(), name, "beauty")


@pytest.mark.parametrize("passes", [16.0, 64.0])
def test_the_line_of_the_budget_stands_on_its_tick(passes, open_explorer):
    explorer = example()
    explorer.budgets = explorer.budgets | {"passes": passes}
    page = open_explorer(explorer).page
    line = page.locator("path.a3-budget").get_attribute("d")
    texts = page.locator("svg text").evaluate_all("all => all.map(text => [text.textContent, text.getAttribute('x')])")
    assert float(line[1:].split(",")[0]) == pytest.approx(float(dict(texts)[f"{passes:g}"]), abs=0.1)
