"""The tables of results on tasks: what is not measured says so, partial results leave cells empty."""

import json
import sys

import pytest
from places import ROOT

from tools.tables import results_tasks as tasks

ABOUT = {
    "command": "python benchmarks/x.py", "seed": 0, "versions": {"python": "3.11"}, "hardware": "a CPU", "threads": 1,
    "date": "2026-01-01", "wall_seconds": 1.0,
}  # fmt: skip
OURS = (tasks.tasks_main, tasks.tasks_infilling, tasks.tasks_samples, tasks.tasks_quality, tasks.tasks_likelihood)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A book without results, and a function that puts one there."""
    (tmp_path / "results").mkdir()
    (tmp_path / "paper.json").write_text((ROOT / "book" / "paper.json").read_text())
    monkeypatch.setattr(tasks, "BOOK", tmp_path)
    monkeypatch.setattr(sys.modules["results_common"], "BOOK", tmp_path)
    return lambda name, **data: (tmp_path / "results" / f"{name}.json").write_text(json.dumps(ABOUT | data))


def interval(mean: float) -> dict:
    return {"mean": mean, "low": mean - 1, "high": mean + 1}


def cells(text: str, row: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {row}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("make", OURS, ids=lambda make: make.__name__)
def test_what_is_not_measured_says_so(results, make):
    assert "Not measured yet: run `python benchmarks/" in make()


@pytest.mark.parametrize("name", tasks.COMMANDS)
def test_the_command_that_it_names_exists(name):
    assert (ROOT / tasks.COMMANDS[name].split()[1]).exists()


def test_the_papers_rows_are_as_long_as_its_columns():
    theirs = tasks.paper()
    for part in ("main", "curriculum"):
        assert all(len(row) == len(theirs["columns"]) for row in theirs[part].values())
    # two sums over the table of the paper: a digit that is changed by accident changes one of them
    assert sum(map(sum, theirs["main"].values())) == pytest.approx(1834.4)
    assert sum(map(sum, theirs["curriculum"].values())) == pytest.approx(497.5)
    quality = theirs["quality"]["perplexity"]
    assert sum(value for row in quality.values() for pair in row.values() for value in pair) == pytest.approx(564.6)


def system(**more) -> dict:
    rouge = {kind: interval(n) for kind, n in (("rouge1", 15.0), ("rouge2", 2.0), ("rougeL", 13.0))}
    return {"model": "m", "passes_per_story": 9.5, "rouge": rouge, "ours": ["A cat came."], "minus": {}, **more}


def test_infilling_with_and_without_all_its_parts(results):
    full = system(
        minus={"ar": {"rouge1": interval(0.5)}, "a3-left": {"nats_per_token": interval(-0.1)}},
        nats_per_token=interval(3.25),
    )
    results(
        "infilling", count=7, first=1000, systems={"a3-1": full, "copy-before": system(model=None)},
        our_stories=[{"prefix": "One. Two.", "middle": "Three.", "suffix": "Four. Five."}],
    )  # fmt: skip
    text = tasks.tasks_infilling()
    row = cells(text, "A3, 1 at a time")
    narrow = tasks.NARROW
    assert row[1] == f"15.0{narrow}[14.0,{narrow}16.0]" and row[4].startswith("+0.5") and "−0.5" in row[4]
    assert row[5].startswith("3.25") and row[6].startswith("−0.10") and row[7] == "9.5"
    assert cells(text, "copy the sentence before")[4:6] == ["", ""]
    assert "7 stories, drawn from the first 1,000" in text
    assert "A3, 1 at a time: A cat came." in tasks.tasks_samples()
    main = tasks.tasks_main()
    assert cells(main, "**A3, 1 at a time** (ours)")[1:7] == ["", "", "", "", "", row[1]]
    assert "benchmarks/likelihood.py" in main and "benchmarks/infilling.py" not in main


def test_quality(results):
    measured = {name: interval(2.0) for name in ("perplexity", "entropy", "distinct_1", "distinct_2", "distinct_3")}
    row = {"kind": "any-order", "model": "m", "order": "by entropy", "tokens_per_step": 2, "passes": 24.0}
    results(
        "quality", count=3, given=8, new=48, text="t", temperature=1.0, judge="j",
        rows={"x": {**row, "measured": measured}, "the stories themselves": {"measured": measured}},
    )  # fmt: skip
    text = tasks.tasks_quality()
    assert cells(text, "A3, by entropy")[1:3] == ["2", "24"]
    assert cells(text, "the stories themselves")[1:3] == ["", ""]


def answers(metric: str, value: float, **minus) -> dict:
    return {"questions": 9, "metrics": {metric: interval(value)}, "minus": minus}


def test_likelihood(results):
    source = {
        "model": "the source",
        "tasks": {"piqa": answers("acc_token", 0.6), "triviaqa": answers("exact_match", 0)},
    }
    less = {"source": {"acc_token": interval(-0.05)}}
    a3 = {"model": "A3 (9 tokens)", "tasks": {"piqa": answers("acc_token", 0.55, **less)}}
    asked = {"piqa": {"questions": 9, "chance": 0.5}, "triviaqa": {"questions": 9, "chance": None}}
    metric = {"piqa": "acc_token", "triviaqa": "exact_match"}
    results(
        "likelihood", tasks=asked, paper_metric=metric, systems={"source": source, "a3": a3, "new": a3},
        parity={"piqa": {"choices": 18, "largest_difference_nats": 2e-5}},
    )  # fmt: skip
    results("infilling", count=7, first=1000, systems={"ar": system(model="the source"), "a3-1": system()})
    text = tasks.tasks_likelihood()
    assert cells(text, "A3, left to right")[5].startswith("55.0") and "; −5.0" in cells(text, "A3, left to right")[5]
    assert cells(text, "AR, the source")[1].startswith("0.0") and "2.0e-05 nats over 18 choices" in text
    main = tasks.tasks_main()
    assert cells(main, "**guessing**")[1:6] == ["", "", "", "", "50.0"]
    # one line for one model, whatever the two results call it; the untouched source is not the AR that was trained on
    assert cells(main, "**A3, 1 at a time**")[5].startswith("55.0")
    assert cells(main, "**A3, 1 at a time**")[6].startswith("15.0")
    assert cells(main, "**AR, the source, untouched**")[6].startswith("15.0") and "trained on" not in main
    results("infilling", count=7, first=1000, systems={"ar": system(model="AR (9 tokens)")})
    main = tasks.tasks_main()
    assert cells(main, "**AR, the source, untouched**")[6] == "" and "**AR, trained on**" in main
