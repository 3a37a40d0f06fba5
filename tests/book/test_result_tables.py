"""The tables and figures of results (book/_ext/result_tables): what they say, on which page, and how it gets them."""

import inspect
import json
import re
import shutil
from pathlib import Path

import adaptation
import matplotlib.pyplot as plt
import puzzles as bench_puzzles
import pytest
from places import ROOT

from a3mini.notebook.theme import DARK

pytest.importorskip("myst_parser", reason="needs the extra `book`")

from small_book import one_page, warnings  # isort: split

from result_tables import SHOWN, common, puzzles, study

RESULTS = ROOT / "book" / "results"
FIGURES = [name for name, make in SHOWN.items() if make.__annotations__["return"] is common.Figure]
TABLES = [name for name in SHOWN if name not in FIGURES]
OURS = sorted({read for make in SHOWN.values() for read in common.reads(make, RESULTS)} - {*common.PUBLISHED})
N = "\u202f"  # between the parts of an interval

# The stored results


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_result_says_how_it_was_made(path):
    result = json.loads(path.read_text())
    assert result.keys() >= {"command", "seed", "versions", "hardware", "threads", "date", "wall_seconds"}


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_page_says_where_to_get_the_texts_of_a_result(path):
    result = json.loads(path.read_text())
    files = re.findall(r"[\w./-]+\.(?:txt|csv|jsonl)\b", result["command"])
    said = common.source(result)
    assert not files or "Texts: " in said
    for file in files:
        assert f"`{file}`: " in said, f"say in common.TEXTS what {file} is"
    assert common.source({**result, "command": "python benchmarks/x.py"}).count("Texts:") == 0


def test_the_limit_of_the_benchmark_counts_every_multiplication():
    """By hand for one length: 5 full content layers, the last content layer's k and v, 6 query layers, one head."""
    from two_stream import SHAPE, limit

    width, mlp, scores, head = 256, 3 * 256 * 1024, 2 * 128 * 256, 256 * 4096
    assert SHAPE["num_hidden_layers"] == 6
    autoregressive = 128 * (6 * (4 * width**2 + mlp + scores) + head)
    content = 127 * (5 * (4 * width**2 + mlp + scores) + 2 * width**2)
    query = 127 * (6 * (2 * width**2 + mlp + scores) + head)
    assert limit(128) == pytest.approx((content + query) / autoregressive)


def test_the_papers_numbers():
    theirs = json.loads((ROOT / "book" / "paper.json").read_text())
    for part in ("main", "curriculum"):
        assert all(len(row) == len(theirs["columns"]) for row in theirs[part].values())
    # sums over the tables of the paper: a digit that is changed by accident changes one of them
    assert sum(map(sum, theirs["main"].values())) == pytest.approx(1834.4)
    assert sum(map(sum, theirs["curriculum"].values())) == pytest.approx(497.5)
    quality = theirs["quality"]["perplexity"]
    assert sum(value for row in quality.values() for pair in row.values() for value in pair) == pytest.approx(564.6)


def test_the_numbers_of_others():
    """Sums over what was published, as for the paper; and what follows from it, by hand."""
    field = json.loads((ROOT / "book" / "field.json").read_text(encoding="utf-8"))
    shot = field["zero_shot"]
    assert sum(sum(row) for order in ("left to right", "any order") for row in shot[order].values()) == pytest.approx(
        277.71 + 242.61 + 236.56 + 282.81 + 247.38
    )
    assert sum(map(sum, field["esoteric"]["perplexity"].values())) == pytest.approx(123.37)
    assert sum(field["text8"]["bits"].values()) == pytest.approx(8.16)
    first = cells(common.made(SHOWN["field_orders"], RESULTS), "Any order, read causally")[1]
    assert first == "AO-GPT against RADD: +0.12 to +0.25 nats"  # ln(33.73 / 29.96), ln(101.01 / 79.06)


def test_every_work_is_in_the_bibliography():
    field = json.loads((ROOT / "book" / "field.json").read_text(encoding="utf-8"))
    entries = re.findall(r"(?m)^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"))
    assert {work["cite"] for work in field["works"]} <= set(entries) and len(entries) == len(set(entries))
    assert {work["read"] for work in field["works"]} == {"paper", "abstract", "code"}


# Names and pages


def directives() -> list[tuple[str, str]]:
    """Name and content of each {result} on a page."""
    pages = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "book").glob("*.md"))]
    return [found for page in pages for found in re.findall(r"(?ms)^```\{result\} (\w+)\n(.*?)```$", page)]


def test_each_table_is_on_one_page_and_each_name_on_a_page_is_one():
    assert sorted(name for name, _ in directives()) == sorted(SHOWN)
    assert {"two_stream", "tasks_main", "study_curves"} <= SHOWN.keys()
    assert all(inspect.isfunction(make) for make in SHOWN.values())


def test_a_figure_has_an_alternative_in_words_and_a_caption_and_a_table_has_no_text():
    for name, content in directives():
        assert bool(re.fullmatch(r":alt: \w.*\n:width: \d+%\n\n\w.*", content, re.DOTALL)) == (name in FIGURES), name
        assert name in FIGURES or not content


# What a table says


def grid(text: str) -> list[list[str]]:
    """The cells of the first table; the line below the header is left out."""
    rows = [line for line in text.split("\n\n")[0].splitlines() if line.startswith("|")]
    found = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return found[:1] + found[2:]


def cells(text: str, row: str) -> list[str]:
    return next(line for line in grid(text) if line[0].startswith(row))


def not_there(name: str) -> list[str]:
    """What ``made`` says of a name while a result that it needs has not been measured yet; none, once all are there."""
    needs = inspect.signature(SHOWN[name]).parameters.items()
    files = common.reads(SHOWN[name], RESULTS)
    return [common.not_yet(read) for read, how in needs if how.default is how.empty and not files[read].exists()][:1]


def empty_columns(text: str) -> list[str]:
    return [column[0] for column in zip(*grid(text), strict=True) if not any(column[1:])]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_made_from_what_is_stored(name):
    """A cell whose key is misspelt would be empty in every row."""
    text = common.made(SHOWN[name], RESULTS)
    if absent := not_there(name):
        assert [text] == absent
        return
    assert "Not measured yet" not in text and "{" not in text.replace("{cite}`", "")
    if not name.endswith("_samples"):  # a list, and more than one table
        assert len(grid(text)) > 2 and not empty_columns(text)


def test_an_empty_column_is_noticed():
    rows = [{"ms": 1.5, "seconds": 2}, {"ms": None, "seconds": 3}]
    assert empty_columns(common.table("ms: {ms:.1f} | s: {seconds}", rows)) == []
    assert empty_columns(common.table("ms: {ms:.1f} | s: {sec}", rows)) == ["s"]


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (1.25, ".1f", "1.2"),
        (0.255, ".0%", "26%"),
        (None, ".1f", ""),
        ([1.234, 0.056], ".2f", f"1.23{N}±{N}0.06"),
        ([-1.234, 0.056], "+.2f", f"−1.23{N}±{N}0.06"),
        ([0.0916, 0.015], ".1%", f"9.2{N}±{N}1.5"),
        ({"mean": 0.5, "low": -0.25, "high": 1.75}, "+.2f", f"+0.50{N}[−0.25,{N}+1.75]"),
        ({"mean": 0.358, "low": 0.278, "high": 0.447}, ".1%", f"35.8{N}[27.8,{N}44.7]"),
    ],
)
def test_a_mean_comes_with_its_interval(value, spec, text):
    assert common.fill(f"{{x:{spec}}}", {"x": value}) == text
    assert common.fill(f"{{a[b c]:{spec}}} {{a[d]:{spec}}}", {"a": {"b c": value}}) == f"{text} "


def test_alternatives_and_changes_are_listed():
    def way(words, gain, original=False):
        return {"words": words, "score": -9.5 + gain, "gain": gain, "tokens": 5, "original": original}

    text = {"before": "A ", "behind": ".", "alternatives": [way("dog*", 1.25), way("cat", 0, True), way("fox", -2)]}
    rows = [{"text": "A cat sat.", "lines": ['"sat" -> "ran"  +5.0 nats']}, {"text": "I.", "lines": []}]
    one = {
        "model": "tiny", "rewriting": {"texts": [text]},
        "revising": {"0": {"rows": []}, "4": {"rows": rows}},
    }  # fmt: skip
    samples, changes = (SHOWN[name]({"models": {"m": one}}) for name in ("rewriting_samples", "revising_samples"))
    assert samples.startswith("A **cat**.\n- m: ")
    assert "- m: dog\\* (+1.2) · *as it was* (−9.5 nats) · fox (−2.0)" in samples
    assert '- m: "sat" → "ran" +5.0 nats' in changes and "*I.*\n- m: nothing" in changes


def test_blanks_and_their_fillings():
    """A blank that has used up its room says so, where others ended; a long text is cut on both sides."""
    blank = {"kind": "sentences", "before": "a " * 20, "filled": " It* ran.", "behind": " " + "b " * 16, "tokens": 3}
    short = blank | {"before": "", "behind": " b"}
    ways = {
        "ends": {"ended": interval(0.5), "texts": [" So.", " on and on"], "drawn": [2, 9], "drawn_ends": [True, False]},
        "4 tokens": {"ended": None, "texts": [" They", "\n"], "drawn": [4, 4], "drawn_ends": [False, False]},
    }
    found = SHOWN["blanks_samples"]({"blanks": [blank, short, blank], "shown": 2, "ways": ways}).split("\n\n")
    stood = "- *what stood there* (3): It\\* ran."
    assert found == [
        f"… {'a ' * 15}**[...]** {'b ' * 15}…\n{stood}\n- ends (2): So.\n- 4 tokens (4): They",
        f"**[...]** b\n{stood}\n- ends (9, no end): on and on\n- 4 tokens (4): *nothing*",
    ]


def test_certain_differences_are_bold():
    """Both intervals have to leave out zero."""
    pair = {"first": "a3_paper", "second": "ar"}
    rows = [
        {"grouping": "left to right", "mean": 0.4, "over_seeds": 0.1, "over_documents": [0.2, 0.6]},
        {"grouping": "random order", "mean": 0.4, "over_seeds": 0.1, "over_documents": [-0.2, 0.6]},
        {"grouping": "a span", "mean": -0.4, "over_seeds": 0.5, "over_documents": [-0.6, -0.2]},
    ]
    text = study.study_differences({"differences": [pair | row for row in rows]})
    header, row = grid(text)
    found = dict(zip(header, row, strict=True))
    assert found["left to right"] == f"**+0.40{N}±{N}0.10**" and found["random order"] == f"+0.40{N}±{N}0.10"
    assert found["a span"] == f"−0.40{N}±{N}0.50" and "a sentence" not in found


def test_the_stages_in_the_figure_are_those_of_the_training():
    shares = [stage.share for stage in adaptation.STAGES]
    assert pytest.approx([sum(shares[:1]) / sum(shares), sum(shares[:2]) / sum(shares)]) == study._STAGES


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_each_time(name, tmp_path):
    if absent := not_there(name):
        assert [common.made(SHOWN[name], RESULTS)] == absent
        return
    for file in ("one", "two"):
        common.save(common.made(SHOWN[name], RESULTS), tmp_path / f"{file}.svg", tmp_path / f"{file}-dark.svg")
    for theme in ("", "-dark"):
        assert (tmp_path / f"one{theme}.svg").read_bytes() == (tmp_path / f"two{theme}.svg").read_bytes()
    grounds = [re.search(r"fill: (#\w+)", (tmp_path / f"one{theme}.svg").read_text())[1] for theme in ("", "-dark")]
    assert grounds == ["#ffffff", DARK["ground"].lower()]
    assert (tmp_path / "one.svg").read_text().count('<g id="line2d') > 20


# What is not measured, and what is measured in part

ABOUT = {
    "command": "python benchmarks/x.py", "seed": 0, "versions": {"python": "3.11"}, "hardware": "a CPU", "threads": 1,
    "date": "2026-01-01", "wall_seconds": 1.0,
}  # fmt: skip


@pytest.fixture
def results(tmp_path):
    """A book without results: a function that puts one there, and with a name alone makes that table."""
    (tmp_path / "results").mkdir()
    for name in common.PUBLISHED:
        shutil.copy(ROOT / "book" / f"{name}.json", tmp_path)

    def put_or_make(name: str, **data) -> str | None:
        if not data:
            return common.made(SHOWN[name], tmp_path / "results")
        (tmp_path / "results" / f"{name}.json").write_text(json.dumps(ABOUT | data))

    return put_or_make


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_not_measured_says_so(results, name):
    reads = set(inspect.signature(SHOWN[name]).parameters) - {*common.PUBLISHED}
    assert ("Not measured yet: run `" in str(results(name))) == bool(reads)


@pytest.mark.parametrize("name", OURS)
def test_the_command_that_it_names_exists(name):
    command = re.search("`(.*)`", common.not_yet(name))[1].split()
    targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert command[1] in targets if command[0] == "make" else (ROOT / command[1]).is_file()


def test_what_is_not_there_is_told_from_what_is_bad(tmp_path, monkeypatch):
    """A table may be missing while its result is, and for nothing else; one that may be left out is not missed."""
    (tmp_path / "results").mkdir()
    for name in common.PUBLISHED:
        shutil.copy(ROOT / "book" / f"{name}.json", tmp_path)
    monkeypatch.setattr(f"{__name__}.RESULTS", tmp_path / "results")
    assert not_there("two_stream") == [common.not_yet("two_stream")]
    (tmp_path / "results" / "two_stream.json").write_text("{}")
    assert not_there("two_stream") == [] and not_there("tasks_main") == []
    with pytest.raises(KeyError):
        test_a_table_is_made_from_what_is_stored("two_stream")


def interval(mean: float) -> dict:
    return {"mean": mean, "low": mean - 1, "high": mean + 1}


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
    text = results("tasks_infilling")
    row = cells(text, "A3, 1 at a time")
    assert row[1] == f"15.0{N}[14.0,{N}16.0]" and row[4].startswith("+0.5") and "−0.5" in row[4]
    assert row[5].startswith("3.25") and row[6].startswith("−0.10") and row[7] == "9.5"
    assert cells(text, "copy the sentence before")[4:6] == ["", ""]
    assert "7 stories, drawn from the first 1,000" in text and text.endswith("Models: m.")
    samples = results("tasks_samples")
    assert "*One. Two.* **[...]** *Four. Five.*" in samples and "our sentence: Three." in samples
    assert "A3, 1 at a time: A cat came." in samples
    main = results("tasks_main")
    assert cells(main, "**A3, 1 at a time** (ours)")[1:7] == ["", "", "", "", "", row[1]]
    assert "benchmarks/likelihood.py" in main and "benchmarks/infilling.py" not in main
    assert cells(main, "A3, 8B (paper)")[1:3] == ["19.4", "58.4"]


def test_quality(results):
    measured = {name: interval(2.0) for name in ("perplexity", "entropy", "distinct_1", "distinct_2", "distinct_3")}
    row = {"kind": "any-order", "model": "m", "order": "by entropy", "tokens_per_step": 2, "passes": 24.0}
    results(
        "quality", count=3, given=8, new=48, text="t", temperature=1.0, judge="j",
        rows={"x": {**row, "measured": measured}, "the stories themselves": {"measured": measured}},
    )  # fmt: skip
    text = results("tasks_quality")
    assert cells(text, "A3, by entropy")[1:3] == ["2", "24"]
    assert cells(text, "the stories themselves")[1:3] == ["", ""]


def test_quality_by_which_tokens_are_drawn_together(results):
    measured = {name: interval(2.0) for name in ("perplexity", "entropy", "distinct_1", "distinct_2", "distinct_3")}
    orders = [("left to right", 1), ("random order", 1), ("left to right", 2), ("strided", 2), ("random order", 2)]
    rows = {
        f"any-order, {order}, {size}": {
            "kind": "any-order", "model": "m", "order": order, "tokens_per_step": size, "passes": 48 / size,
            "measured": measured | {"perplexity": interval(10.0 * size)}, "ours": [f"*He*|{order}\nran", "x", "y"],
        }
        for order, size in orders
    }  # fmt: skip
    rows |= {"the stories themselves": {"measured": measured}}
    results(
        "quality_orders", count=3, given=8, new=48, text="t", temperature=1.0, judge="j", rows=rows,
        beginnings=["Omar lost.", "Two.", "Three."],
    )  # fmt: skip
    text = results("quality_orders")
    assert grid(text)[0][2:5] == ["neighbours, perplexity", "strided, perplexity", "random, perplexity"]
    assert cells(text, "1")[1:5] == ["48", f"10{N}[9,{N}11]", "", f"10{N}[9,{N}11]"]
    assert cells(text, "2")[1:4] == ["24", f"20{N}[19,{N}21]", f"20{N}[19,{N}21]"]
    assert "The stories themselves: perplexity 2.0" in text and "AR:" not in text
    found = results("quality_orders_samples")
    assert found.startswith("*Omar lost.* **...**") and "Three." not in found
    assert (
        "| 2 | neighbours | \\*He\\*\\|left to right ran |\n| 2 | strided | " in found and "| 1 | strided" not in found
    )


def test_a_result_from_before_a_grouping_still_has_its_table(results):
    """And one that has it shows it."""
    about = {"model": "m", "text": "rows"}
    for more in ({}, {"strided groups of 4": interval(2.5)}):
        results("adaptation", **about, losses={"untouched": {"left to right": interval(2.0), **more}})
        assert grid(results("adaptation_losses"))[0] == ["model", "left to right", *more]
    assert common.measured(["b", "c", "a"], [{"a": 1}, {"b": 2}]) == ["b", "a"]


def test_what_was_added_to_a_result_says_when(results):
    row = {"family": "left to right", "tokens_per_step": 1, "passes": 64, "ms_per_sample": 1.0, "own_loss": [1, 1],
           "judged": {name: [1.0, 0.1] for name in ("perplexity", "entropy", "distinct_pairs")}}  # fmt: skip
    stored = dict(samples=2, seeds=[0], new_tokens=3, given=1, judge="j", strategies={"x": row})
    results("tradeoff", **stored)
    assert "Added" not in results("tradeoff")
    added = ABOUT | {"command": "python benchmarks/tradeoff.py --add strided", "families": ["strided"]}
    results("tradeoff", **stored, added=[added])
    assert "Added on 2026-01-01 by `python benchmarks/tradeoff.py --add strided`: strided;" in results("tradeoff")


def answers(metric: str, value: float, **minus) -> dict:
    return {"questions": 9, "metrics": {metric: interval(value)}, "minus": minus}


def test_the_recipe_by_ablation(results):
    """Arms that were not run are named; bold is what rows and seeds agree on."""
    orders = {"left to right": 3.0, "random order": 4.0, "mean of what is used": 3.5}

    def arm(shift: float, half: float, by_seed: list[float]) -> dict:
        found = {order: {"mean": shift, "low": shift - half, "high": shift + half} for order in orders}
        return {
            "changes": "this", "losses": orders, "operations": 1.0, "predicted_tokens": 1234, "difference": found,
            "by_seed": dict.fromkeys(orders, by_seed), "by_text": {"bible-bbe": {"difference": found["random order"]}},
        }  # fmt: skip

    base = {name: value for name, value in arm(0, 0, []).items() if name not in ("difference", "by_seed")}
    arms = {"the base": base | {"by_text": {"bible-bbe": {}}}, "certain": arm(-0.25, 0.125, [-0.125, -0.5])}
    arms |= {"rows differ": arm(-0.25, 0.5, [-0.125, -0.5]), "seeds differ": arm(-0.25, 0.125, [0.125, -0.5])}
    results(
        "recipe", arms=arms, not_run=["AdamW"], rows=8, length=128, seeds=2, steps=256, batch_tokens=2048,
        text="a text", rates={"muon": 8e-3, "adamw": 2e-3},
    )  # fmt: skip
    text, by_order = results("recipe"), results("recipe_orders")
    row = dict(zip(grid(text)[0], cells(text, "seeds differ"), strict=True))
    assert row["difference"] == row["the Bible"] == f"−0.250{N}[−0.375,{N}−0.125]"
    assert row["each seed"] == "+0.125, −0.500" and row["predicted tokens"] == "1,234"
    assert "Not run: AdamW." in text and not any(cells(text, "the base")[3:6])
    assert grid(by_order)[0] == ["arm", "left to right", "random order"]
    assert cells(by_order, "the base")[1:] == ["3.00", "4.00"]
    assert cells(by_order, "certain")[1] == f"**−0.250{N}±{N}0.125**"
    assert cells(by_order, "rows differ")[1] == f"−0.250{N}±{N}0.500"
    assert cells(by_order, "seeds differ")[1] == f"−0.250{N}±{N}0.125"


def test_the_compact_model_and_its_twins(results):
    """What a twin can say stands beside it; without twins the table is shorter, and an aim not measured is left out."""
    names = ("left to right", "strided 4", "random order", "a span, both sides", "a sentence, both sides")
    of = {"a3": names, "ar": ("left to right", "a span, left side", "a sentence, left side"),
          "diffusion": ("random order (bound)",)}  # fmt: skip
    losses = {arm: {way: interval(2.0 + number) for way in ways} for number, (arm, ways) in enumerate(of.items())}
    differences = {"a3, left to right - ar, left to right": interval(0.25),
                   "a3, random order - diffusion, random order (bound)": interval(-0.125),
                   "a3, strided 4 - a3, left to right": interval(0.0625)}  # fmt: skip
    state = {"tokens": 1_234_567, "step": 9, "seconds": 60.0, "hardware": "a CPU", "threads": 2, "precision": "bf16"}
    arms = {arm: state | {"curve": [{"tokens": 0, **dict.fromkeys(ways, 8.0)}, {"tokens": 10**6, **dict.fromkeys(
        ways, 2.0)}]} for arm, ways in of.items()}  # fmt: skip
    spread = {"entropy": [7.0, 0.0], "distinct_pairs": [0.5, 0.0]}

    def put(*known: str) -> None:
        results(
            "compact", judged_text="stories", rows=8, weights=3_443_328, texts=24, given=16, new=64,
            arms={arm: arms[arm] for arm in known}, rounding={"more": {"left to right": interval(0.0005)}},
            losses={"stories": {arm: losses[arm] for arm in known}},
            differences={"stories": {k: v for k, v in differences.items() if "- a3" in k or len(known) > 1}},
            judged={"the story itself": {"perplexity": [43.0, 0.0], **spread},
                    "a3, left to right 1": {"perplexity": [39.0, 1.0], **spread}, "judge": "a judge"},
            samples={"beginnings": ["Once"], "continuations": {"a3, strided 4": ["Once upon"]}, "blanks": [
                {"text": "A ____ b.", "filled": "cat*", "ended": True},
                {"text": "____ So.", "filled": "", "ended": False}]},
        )  # fmt: skip

    put("a3", "ar", "diffusion")
    text = results("compact_losses")
    assert cells(text, "left to right")[2] == "AR, left to right" and cells(text, "left to right")[4].startswith(
        "+0.250"
    )
    assert cells(text, "strided 4")[2] == "A3, left to right" and cells(text, "random order")[4].startswith("−0.125")
    assert not any(cells(text, "a span")[2:]) and "AR saw 1,234,567 tokens in 9 steps" in text
    aims = {row[0]: row[3] for row in grid(results("compact_aims"))[1:]}
    assert aims["left to right, nats more than the AR twin"] == "no" and list(aims.values()).count("yes") == 4
    assert cells(results("compact_judged"), "A3, left to right 1")[1] == f"39.0{N}±{N}1.0"
    assert results("compact_samples") == "**Once**\n\n- *A3, strided 4*: … upon"
    assert results("compact_blanks_samples").splitlines() == [
        "- A **[cat\\*]** b.", "- **[*nothing*]** *(used up its room)* So."
    ]  # fmt: skip
    assert [len(ax.lines) for ax in results("compact_curves").axes] == [5]
    put("a3")
    assert not any(cells(results("compact_losses"), "left to right")[2:])
    assert len(grid(results("compact_aims"))) == 4
    assert len(grid(results("compact_texts"))) == 2 and "AR saw" not in results("compact_losses")


def test_repetition(results):
    """One seed has numbers, several have intervals; the pass of each seed is named; an arm that is missing is, too."""

    def arm(ways: tuple[str, ...], passes: list[int], shift: float) -> dict:
        def number(value: float):
            return value + shift if len(passes) == 1 else [value + shift, 0.25]

        best = {name: number(value) for name, value in (("loss", 3.0), ("end", 3.5), ("seen", 1.5))}
        best |= {"rise": number(0.5 - shift), "passes": passes}
        curve = [{"passes": one, "tokens": 9 * one} | {part: dict.fromkeys(ways, number(value)) for part, value in
                  (("held out", 3.0 + one / 8), ("trained on", 3.0 - one / 8))} for one in (1, 2, 4)]  # fmt: skip
        return {"curve": curve, "best": dict.fromkeys(ways, best), "rate": 8e-3, "operations": 1.25,
                "training_seconds": 60.0}  # fmt: skip

    def put(passes: list[int], **arms) -> None:
        results(
            "repetition", arms=arms, text_tokens=1234, text_rows=9, length=128, passes=4, batch=16, rows=8, warmup=3,
            shape={"hidden_size": 128, "num_hidden_layers": 3}, vocabulary=4096, dial="narrow", seeds=len(passes),
            text="a text", not_run=[name for name in ("masked diffusion",) if name not in arms],
        )  # fmt: skip

    a3, ar = (("random order", "left to right"), [2], 0.25), (("left to right",), [1], 0.0)
    put([1], **{"A3": arm(*a3), "autoregression": arm(*ar)})
    text, figure = results("repetition"), results("repetition_curves")
    rows = [line[:7] for line in grid(text)[1:]]
    assert rows == [
        ["left to right", "AR", "3.000", "1", "3.500", "+0.500", "1.500"],
        ["left to right", "A3", "3.250", "2", "3.750", "+0.500", "1.750"],
        ["random order", "A3", "3.250", "2", "3.750", "+0.500", "1.750"],
    ]
    assert "1,234 tokens" in text and "Learning rate: 0.008 for all" in text and "Not run: masked diffusion." in text
    assert [len(ax.lines) for ax in figure.axes] == [4, 2] and not figure.axes[0].collections
    put([1, 2], **{"A3": arm(a3[0], [2, 4], 0.25), "autoregression": arm(ar[0], [1, 1], 0.0) | {"rate": 4e-3},
                   "masked diffusion": arm(("random order",), [4, 4], 0.0)})  # fmt: skip
    text, figure = results("repetition"), results("repetition_curves")
    assert grid(text)[-1][:4] == ["random order", "A3", f"3.250{N}±{N}0.250", "2, 4"] and "Not run" not in text
    assert "A3 0.008, AR 0.004, masked diffusion (its bound) 0.008" in text
    assert [len(ax.lines) for ax in figure.axes] == [4, 4] and len(figure.axes[1].collections) == 4
    held_out, seen = (line.get_ydata() for line in figure.axes[0].lines[:2])
    assert held_out[0] < held_out[-1] and seen[0] > seen[-1]


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
    text = results("tasks_likelihood")
    assert cells(text, "A3, left to right")[5].startswith("55.0") and "; −5.0" in cells(text, "A3, left to right")[5]
    assert cells(text, "AR, the source")[1].startswith("0.0") and "2.0e-05 nats over 18 choices" in text
    main = results("tasks_main")
    assert cells(main, "**guessing**")[1:6] == ["", "", "", "", "50.0"]
    # one line for one model, whatever the two results call it; the untouched source is not the AR that was trained on
    assert cells(main, "**A3, 1 at a time**")[5].startswith("55.0")
    assert cells(main, "**A3, 1 at a time**")[6].startswith("15.0")
    assert cells(main, "**AR, the source, untouched**")[6].startswith("15.0") and "trained on" not in main
    results("infilling", count=7, first=1000, systems={"ar": system(model="AR (9 tokens)")})
    main = results("tasks_main")
    assert cells(main, "**AR, the source, untouched**")[6] == "" and "**AR, trained on**" in main


def solved(tasks: tuple[str, ...], seeds: int = 2) -> dict:
    """A result of benchmarks/puzzles.py: on the way two orders, at the end all."""
    shares = {"left to right": 0.25, "right to left": 0.5, "random": 0.4, "by confidence": 0.75,
              "by confidence, 3 at a time": 0.7, "bounded": 0.7504}  # fmt: skip
    every = {order: [share, 0.0123, 11.0] for order, share in shares.items()}
    few = {order: every[order] for order in bench_puzzles.WATCHED}
    start, end = {"step": 100, "tokens": 9, "loss": 1.0}, {"step": 200, "tokens": 18, "loss": 0.5}
    one = {"left to right": every["left to right"]}
    curves = {arm: [start | few, end | every] for arm in bench_puzzles.ARMS}
    curves["autoregression"] = [start | one, end | one]
    made = bench_puzzles.tasks(4)
    return dict(seeds=seeds, questions=256, rate=bench_puzzles.RATES, bound=0.2, shape=bench_puzzles.SHAPE, examples={},
                not_run=[], tasks={task: repr(made[task]) for task in tasks},
                curves=dict.fromkeys(tasks, curves))  # fmt: skip


@pytest.mark.parametrize("tasks", [("sudoku",), ("sudoku", "sums")], ids=len)
def test_puzzles_by_task(results, tasks):
    results("puzzles", **solved(tasks))
    text = results("puzzles")
    assert text.count("\n| --- |") + text.count("\n| --- | ---") >= len(tasks) and "{" not in text
    assert [part.split(" | ")[0] for part in text.split("\n\n")[: len(tasks)]] == [f"| {task}" for task in tasks]
    header, row = grid(text)[0], cells(text, "A3, random order")
    assert header == ["sudoku", *bench_puzzles.ORDERS[:4], "by confidence, 3 at a time (steps)", "bounded (steps)"]
    assert row[1] == f"25.0{N}±{N}1.2" and row[5] == f"70.0{N}±{N}1.2 (11.0)"
    best = f"**75.0{N}±{N}1.2**"  # two that look the same are both bold
    assert row[4] == best and row[6] == f"{best} (11.0)" and text.count("**75.0") == 2 * 3 * len(tasks)
    assert cells(text, "autoregression")[1:] == [f"25.0{N}±{N}1.2", *[""] * 5]
    assert "of 256 held-out questions" in text and "intervals over seeds" in text
    assert all(f"11.0 ({task})" in text for task in tasks)
    late = solved(tasks)
    by_confidence = {"by confidence": [0.5, 1.2, 11.0], "by_seed": {"by confidence": [0.9, 0.1]}}
    late["curves"][tasks[0]]["A3, random order"][-1] |= by_confidence
    results("puzzles", **late)
    assert cells(results("puzzles"), "A3, random order")[4] == "90.0, 10.0", "an interval that says nothing"
    results("puzzles", **solved(tasks))
    setup = results("puzzles_setup")
    assert grid(setup)[0] == ["what", *tasks] and "{" not in setup
    made = bench_puzzles.tasks(4)
    assert all(
        cell.startswith(f"{made[task].steps} steps")
        for task, cell in zip(tasks, cells(setup, "training")[1:], strict=True)
    )
    results("puzzles", **solved(tasks, seeds=1))
    assert "intervals over questions" in results("puzzles")
    panels = results("puzzles_curve").axes
    assert [ax.get_title() for ax in panels] == [
        f"{task}, {order}" for task in tasks for order in bench_puzzles.WATCHED
    ]
    assert [len(ax.lines) for ax in panels] == [4, 3] * len(tasks)  # autoregression has one order
    seen, share = panels[0].lines[0].get_data()
    assert seen.tolist() == pytest.approx([100 * 64 / 1000, 200 * 64 / 1000]) and share.tolist() == [25, 25]
    plt.close("all")


def test_the_orders_and_arms_of_the_tables_are_the_benchmark_s():
    assert puzzles._ORDERS == bench_puzzles.ORDERS and puzzles._WATCHED == bench_puzzles.WATCHED
    assert {"by confidence", *puzzles._SEVERAL} == {*bench_puzzles.CHOSEN} and tuple(
        puzzles._LOOKS
    ) == bench_puzzles.ARMS


# The directive, in a book of one page


@pytest.fixture
def book(tmp_path):
    return one_page(tmp_path, "result_tables")


def shown(app) -> str:
    return next(Path(app.outdir).glob("index.*")).read_text(encoding="utf-8")


TWO_STREAM = "```{result} two_stream\n```"
CURVES = "```{result} study_curves\n:alt: Two panels.\n:width: 80%\n\nA *caption*.\n```"


def test_a_page_shows_a_table_and_a_figure(book):
    app = book(f"{TWO_STREAM}\n\n{CURVES}")
    page = shown(app)
    assert not warnings(app)
    stored = json.loads((RESULTS / "two_stream.json").read_text())["rows"]
    assert page.count("<tr") == len(stored) + 1 and "<th" in page and "<code" in page  # the command below
    image = re.search(r'<img[^>]*alt="Two panels\."[^>]*>', page)[0]
    assert "width: 80%" in image and "<em>caption</em>" in page
    picture = Path(app.outdir) / re.search(r'src="([^"]+)"', image)[1]
    assert picture.read_text(encoding="utf-8").startswith("<?xml") and "held-out" not in page


def test_other_builders_show_the_table_too(book):
    app = book(TWO_STREAM, builder="text")
    assert not warnings(app) and "| 1.59 " in shown(app) and "Measured by" in shown(app)


def test_an_unknown_name_is_said_to_be_one(book):
    said = warnings(book("```{result} two-stream\n```"))
    assert "result: there is no 'two-stream', only adaptation_arms, " in said and ", two_stream, " in said
    assert said.count("WARNING") + said.count("ERROR") == 1


def test_a_bad_or_missing_result_is_said_to_be_one(book):
    app = book(CURVES)
    data = Path(app.srcdir) / "book" / "results" / "study.json"
    data.write_text("{}")
    assert "result study_curves: KeyError: 'arms'" in warnings(book(CURVES))
    data.unlink()
    app = book(CURVES)
    assert not warnings(app) and "Not measured yet: run <code" in shown(app)


def test_the_page_is_written_again_when_its_data_or_its_code_changes(book):
    app = book(TWO_STREAM)
    known = {Path(app.srcdir, file).resolve() for file in app.env.dependencies["index"]}
    data = Path(app.srcdir) / "book" / "results" / "two_stream.json"
    assert {data.resolve(), *Path(common.__file__).parent.glob("*.py")} <= known
    assert (data.parent / "study.json").resolve() not in known
    data.write_text(json.dumps(json.loads(data.read_text()) | {"hardware": "another machine"}))
    assert "another machine" in shown(book(TWO_STREAM))


def test_pages_may_be_read_in_parallel(book):
    extension = book(TWO_STREAM).extensions["result_tables"]
    assert extension.parallel_read_safe and extension.parallel_write_safe


def test_the_book_loads_it():
    config = (ROOT / "_config.yml").read_text()
    assert "result_tables: book/_ext\n" in config and "      - result_tables\n" in config
