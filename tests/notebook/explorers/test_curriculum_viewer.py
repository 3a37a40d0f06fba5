"""The curriculum viewer shows what a training saw: its groups, their masks, its losses, its stages."""

import copy

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from training_run import CONFIG, small_blocks, small_model

from a3mini import groups, masks
from a3mini.evaluate import GROUPINGS, HeldOut
from a3mini.notebook.explorers import CurriculumViewer
from a3mini.notebook.explorers.curriculum import Replay
from a3mini.train import AnyOrder, Curriculum, Part, Stage, TrainConfig, train, uniform
from a3mini.train.curriculum import CHOICES, KINDS

SPANS = Curriculum.preset("spans")
BLOCKS = small_blocks(14, 12)
SETTINGS = TrainConfig(**CONFIG | {"steps": 30, "batch_size": 6, "micro_batch_size": 3, "seed": 3, "eval_every": 5})


class Spy(AnyOrder):
    """Trains as ever, and keeps what goes into the loss."""

    def __init__(self, curriculum):
        super().__init__(curriculum)
        self.seen = []

    def log_probs(self, model, inputs):
        self.seen += texts_of(inputs["plan"])
        return super().log_probs(model, inputs)


def texts_of(plan) -> list[tuple[list[int], list[int]]]:
    """Tokens and group ids of each text of a plan."""
    found = []
    for text in places_of(plan):
        assert list(text) == list(range(len(text)))
        ids, group = zip(*text.values(), strict=True)
        found.append((list(ids), list(group)))
    return found


def places_of(plan) -> list[dict[int, tuple[int, int]]]:
    """What stands at each place of each text, token and group, read from rows: predicted ones are labels."""
    found, width = [], plan.width
    positions, content_ids = plan.positions[0].tolist(), plan.content_ids[0].tolist()
    for rows, groups_of in zip(plan.rows.tolist(), plan.groups.tolist(), strict=True):
        text = {}
        for place, (row, group) in enumerate(zip(rows, groups_of, strict=True)):
            if group != groups.PADDING:
                token = content_ids[row] if place < width else int(plan.labels[row - len(content_ids)])
                text[positions[row]] = token, group
        if text:  # the last one of a plan may only fill up
            found.append(dict(sorted(text.items())))
    return found


class Letters:
    """A tokenizer of the tests: 17 letters."""

    def decode(self, ids):
        return chr(ord("a") + ids[0])


@pytest.fixture(scope="module")
def run():
    """The metrics of a small training, and for each step the real tokens and groups of the rows it saw."""
    spy = Spy(SPANS)
    metrics = train(small_model(), spy, BLOCKS, SETTINGS, evaluate=HeldOut(small_blocks(5)), quiet=True)
    size = SETTINGS.batch_size
    assert len(spy.seen) == size * SETTINGS.steps
    return metrics, {step: spy.seen[(step - 1) * size : step * size] for step in range(1, SETTINGS.steps + 1)}


def viewer(metrics, **options) -> CurriculumViewer:
    options = {"step": 1} | options
    return CurriculumViewer(SPANS, BLOCKS, SETTINGS, metrics, Letters(), "a model of the tests", **options)


# What a step saw


def test_the_replay_is_the_training(run):
    replay, (_, saw) = Replay(SPANS, BLOCKS, SETTINGS), run
    for step, rows in saw.items():
        found = zip(*replay.seen(step), strict=True)
        assert [(ids[group >= 0].tolist(), group[group >= 0].tolist()) for ids, group in found] == rows, step
    # another seed, or steps counted from 0, would show other groups
    other = Replay(SPANS, BLOCKS, TrainConfig(**CONFIG | {"steps": 30, "batch_size": 6, "seed": 4}))
    last = saw[SETTINGS.steps]
    assert [group[group >= 0].tolist() for group in other.seen(SETTINGS.steps)[1]] != [group for _, group in last]
    assert [group for _, group in saw[SETTINGS.steps - 1]] != [group for _, group in last]


ROOMY = Curriculum((Stage("blanks", 1, (Part("span", (1, 2), room=5), Part("blocks"))),))
END = 1  # of ``small_blocks``, whose tokens begin at 3
SHORT = TrainConfig(**CONFIG | {"steps": 12, "batch_size": 6, "seed": 3, "eval_every": 0, "save_every": 0})


class RoomySpy(Spy):
    """The same for blanks with spare room, where padding stands in the middle of a row."""

    def log_probs(self, model, inputs):
        self.seen += places_of(inputs["plan"])
        return AnyOrder.log_probs(self, model, inputs)


def roomy_viewer(**options) -> CurriculumViewer:
    metrics = [{"step": 12, "tokens": Replay(ROOMY, BLOCKS, SHORT, END).tokens(12), "order": 1.0}]
    return CurriculumViewer(ROOMY, BLOCKS, SHORT, metrics, Letters(), "nothing was trained", **options)


def test_spare_room_is_replayed_and_kept():
    """The end behind a blank, the padding, and what has moved to the right: place by place what went into the loss."""
    spy = RoomySpy(ROOMY)
    spy.empty_token_id = END
    train(small_model(), spy, BLOCKS, SHORT, quiet=True)
    size, replay = SHORT.batch_size, Replay(ROOMY, BLOCKS, SHORT, END)
    shown = 12  # tokens of a row: enough to see the end of every blank
    viewed = roomy_viewer(empty_token_id=END, rows=size, tokens=shown)
    samples = {sample["step"]: sample for sample in viewed.samples}
    ends = 0
    for step in range(1, SHORT.steps + 1):
        saw = spy.seen[(step - 1) * size : step * size]
        for place, (ids, group) in enumerate(zip(*(part.tolist() for part in replay.seen(step)), strict=True)):
            there = {n: (ids[n], group[n]) for n in range(len(ids)) if group[n] >= 0}
            assert there == saw[place], (step, place)
            row = samples[step]["rows"][place]
            part = slice(row["start"], row["start"] + shown)
            assert row["groups"] == group[: row["length"]][part] and row["length"] == 1 + max(there)
            last = max(n for n in there if group[n] > 0)
            assert row["spare"] == (ids[last] == END)
            padded = row["length"] > len(there)
            assert not padded or (
                row["spare"] and -1 in row["groups"] and row["groups"].index(-1) == last + 1 - row["start"]
            )
            ends += padded
        assert samples[step]["predicted"] == sum(group > 0 for text in saw for _, group in text.values())
    assert ends > 5
    with pytest.raises(ValueError, match="no token is known that ends them"):
        roomy_viewer()


def test_the_kept_rows_are_those_of_the_training(run):
    metrics, saw = run
    explorer = viewer(metrics, samples=9, rows=4, tokens=8)
    assert {1, 7, 13, 30} <= {sample["step"] for sample in explorer.samples}  # 30 steps, stages of 6, 6 and 18
    later = 0
    for sample in explorer.samples:
        assert len(sample["rows"]) == 4
        for row, (ids, group) in zip(sample["rows"], saw[sample["step"]], strict=False):
            part = slice(row["start"], row["start"] + 8)
            assert row["groups"] == group[part] and row["length"] == len(ids) and max(row["groups"]) > 0
            assert [explorer.vocabulary[token] for token in row["tokens"]] == [Letters().decode([t]) for t in ids[part]]
            later += row["start"] > 0
    assert later  # a blank at the end of a row is shown too


def test_what_the_batches_drew(run):
    metrics, saw = run
    for sample in viewer(metrics).samples:
        step = sample["step"]
        assert sum(count for *_, count in sample["drawn"]) == SETTINGS.batch_size
        for place, grouping in enumerate(Replay(SPANS, BLOCKS, SETTINGS).groupings(step)):
            # the example's own numbers choose it, and give the groups that the step saw
            group = saw[step][place][1]
            example = torch.tensor([(step - 1) * SETTINGS.batch_size + place])
            numbers = uniform(SETTINGS.seed, example, len(group) + CHOICES)
            stage, inside = SPANS.stage_at((step - 1) / SETTINGS.steps)
            kind, size = stage.choose(inside, numbers)
            assert (KINDS[kind.item()], size.item()) == (grouping.kind, grouping.size)
            ends = Replay(SPANS, BLOCKS, SETTINGS).rows(step).sentence_ends[place]
            assert grouping.draw(len(group), ends[: len(group)], numbers[0]).tolist() == group
            assert any(
                part["kind"] == grouping.kind and grouping.size in part["sizes"] and part["share"] > 0
                for part in sample["parts"]
            )
        left = right = predicted = 0
        for _, group in saw[step]:  # a plain loop
            for i, own in enumerate(group):
                if own > 0:
                    predicted += 1
                    left += sum(other < own for other in group[:i])
                    right += sum(other < own for other in group[i + 1 :])
        assert sample["predicted"] == predicted
        assert sample["left"] == pytest.approx(left / predicted, abs=0.006)
        assert sample["right"] == pytest.approx(right / predicted, abs=0.006)


@pytest.mark.parametrize("name", ["paper", "official", "stage3", "no_stage2", "spans"])
@pytest.mark.parametrize("steps", [7, 30, 200])
def test_stages_are_those_of_the_curriculum(name, steps):
    curriculum = Curriculum.preset(name)
    settings = TrainConfig(steps=steps, batch_size=1)
    replay = Replay(curriculum, BLOCKS, settings)
    metrics = [{"step": steps, "tokens": replay.tokens(steps), "order": 1.0}]
    explorer = CurriculumViewer(curriculum, BLOCKS, settings, metrics, Letters(), "nothing was trained")
    for stage in explorer.stages:
        for step in range(stage["first"], stage["last"] + 1):
            assert curriculum.stage_at((step - 1) / steps)[0].name == stage["name"]
    assert [stage["first"] for stage in explorer.stages[1:]] == [stage["last"] + 1 for stage in explorer.stages[:-1]]
    if steps == 200:
        assert [stage["last"] / steps for stage in explorer.stages] == pytest.approx(curriculum.boundaries)


def test_all_losses_are_kept(run):
    metrics, _ = run
    explorer = viewer(metrics, samples=2, references={"AR": 1.23456})
    assert len(explorer.curves) == len(GROUPINGS)
    for curve in explorer.curves:
        name, close = curve["name"], lambda value: pytest.approx(value, abs=6e-5)
        expected = [[line["step"], close(line[name])] for line in metrics if name in line]
        assert curve["points"] == expected and len(expected) == 7
    assert explorer.batch_losses == [[line["step"], close(line["loss"])] for line in metrics if "loss" in line]
    assert explorer.references == [["AR", 1.2346]]


def test_bad_input(run):
    metrics, _ = run
    with pytest.raises(ValueError, match="step must be one of the training's steps, 1 to 30; got 31"):
        viewer(metrics, step=31)
    with pytest.raises(ValueError, match="rows must be at least 1, got 0"):
        viewer(metrics, rows=0)
    with pytest.raises(ValueError, match="no evaluations"):
        viewer([{"step": 30, "tokens": 1, "loss": 1.0}])
    other = copy.deepcopy(metrics)
    other[-1]["tokens"] += 1
    with pytest.raises(ValueError, match="of another run.*give the blocks and the config"):
        viewer(other)


# In the page


def at(page) -> int:
    return int(page.locator(".a3-now").get_attribute("data-step"))


def check_groups(page, groups: list[int]):
    """The groups of the tokens, and who sees whom."""
    chips = page.locator(".a3-token")
    assert [int(group) for group in chips.evaluate_all("all => all.map(e => e.dataset.group)")] == groups
    for stream, mask in (("content", masks.content_mask), ("query", masks.query_mask)):
        cells = page.locator(f"[data-mask={stream}] td[data-seen]").evaluate_all("all => all.map(e => e.dataset.seen)")
        assert cells == [str(seen).lower() for seen in mask(torch.tensor(groups)).flatten().tolist()]


def check_drawn(page, explorer, row: int = 0):
    """All that is drawn for the present step equals what the package says."""
    step = at(page)
    sample = next(sample for sample in explorer.samples if sample["step"] == step)
    check_groups(page, sample["rows"][row]["groups"])
    for curve in explorer.curves:
        line = page.locator(f"[data-order='{curve['name']}']")
        value = lambda what, line=line: float(line.locator(f"[data-{what}]").get_attribute(f"data-{what}"))  # noqa: E731
        first = explorer.stages[sample["stage"]]["first"]
        now = [loss for s, loss in curve["points"] if s <= step][-1]
        before = [loss for s, loss in curve["points"] if s < first][-1]
        assert (value("start"), value("before"), value("now")) == (curve["points"][0][1], before, now)
        assert value("change") == pytest.approx(now - before, abs=1e-6)
        drawn = page.locator(f"[data-curve='{curve['name']}']").get_attribute("data-points")
        assert int(drawn) == sum(s <= step for s, _ in curve["points"])
    assert float(page.locator("[data-right]").get_attribute("data-right")) == sample["right"]
    name = explorer.stages[sample["stage"]]["name"]
    assert f"Step {step}: stage {sample['stage'] + 1} of 3, {name}" in page.locator(".a3-head").inner_text()


def serious(page) -> list:
    found = Axe().run(page, context=".a3-explorer").response["violations"]
    return [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]


@pytest.mark.parametrize(("look", "width"), [("light", 800), ("dark", 360)])
def test_walking(run, open_explorer, look, width):
    explorer = viewer(run[0], step=6, samples=12, tokens=10)
    window = open_explorer(explorer, theme=look, width=width)
    page, kept = window.page, [sample["step"] for sample in explorer.samples]
    check_drawn(page, explorer)
    bands = page.locator("[data-first]").evaluate_all("all => all.map(e => [+e.dataset.first, +e.dataset.last])")
    assert bands == [[stage["first"], stage["last"]] for stage in explorer.stages]

    # by keyboard: the slider goes from kept step to kept step, and keeps the focus
    slider = page.get_by_role("slider", name="Training step")
    slider.focus()
    for key, expected in (("ArrowRight", kept[kept.index(6) + 1]), ("End", 30), ("ArrowLeft", kept[-2]), ("Home", 1)):
        page.keyboard.press(key)
        assert at(page) == expected and slider.evaluate("e => e === document.activeElement")
        assert slider.get_attribute("aria-valuetext") == f"{expected} of 30"
        check_drawn(page, explorer)

    # by mouse: buttons, stages, the chart
    back, on = page.get_by_role("button", name="Step back"), page.get_by_role("button", name="Step on")
    on.click()
    assert at(page) == kept[1]
    back.click()
    assert at(page) == 1 and back.get_attribute("aria-disabled") == "true"
    back.press("Enter")
    assert at(page) == 1 and back.evaluate("e => e === document.activeElement")
    third = page.get_by_role("button", name="3 permuted")
    third.click()
    assert at(page) == 13 and third.get_attribute("aria-pressed") == "true"
    box = page.locator(".a3-time svg rect").last.bounding_box()  # the third stage's part of the chart
    page.mouse.click(box["x"] + box["width"] - 1, box["y"] + 20)
    assert at(page) == 30

    # the other rows, and what comes later
    page.get_by_role("radio", name="2", exact=True).focus()
    page.keyboard.press("ArrowRight")
    check_drawn(page, explorer, row=2)
    page.get_by_role("button", name="1 left to right").press("Space")
    assert at(page) == 1 and page.locator(".a3-future").count() == 0
    page.get_by_role("button", name="Show the whole training").click()
    assert page.locator(".a3-future").count() == len(GROUPINGS) == 6
    marks = page.locator("[data-order] .a3-marker").evaluate_all("all => all.map(e => e.getAttribute('d'))")
    dashes = page.locator("[data-order] line").evaluate_all("all => all.map(e => e.getAttribute('stroke-dasharray'))")
    assert len(set(marks)) == len(set(dashes)) == len(GROUPINGS), "told apart without colour"

    page.locator("summary").click()
    cells = page.locator("[data-at='10'] [data-value]").evaluate_all("all => all.map(e => +e.dataset.value)")
    expected = [dict(curve["points"])[10] for curve in explorer.curves] + [dict(explorer.batch_losses)[10]]
    assert cells == expected
    assert not window.too_wide() and not serious(page)
    small = page.evaluate(
        """[...document.querySelectorAll('.a3-explorer *')]
             .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
             .filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).map(e => e.outerHTML)"""
    )
    assert not small
    scale = page.locator(".a3-chart").evaluate("e => e.getBoundingClientRect().width / e.viewBox.baseVal.width")
    assert scale == pytest.approx(1, abs=0.01)  # 12 pixels of the chart are 12 pixels of the screen


@pytest.mark.parametrize(("step", "row"), [(17, 1), (-4, -1), (99, 9)])
def test_what_python_sets_is_shown_or_the_nearest(run, open_explorer, step, row):
    explorer = viewer(run[0], samples=4)
    explorer.step, explorer.row, explorer.whole = step, row, True
    page = open_explorer(explorer).page
    assert at(page) == min((sample["step"] for sample in explorer.samples), key=lambda kept: abs(kept - step))
    check_drawn(page, explorer, max(0, min(row, 2)))
    assert page.locator(".a3-future").count() == len(GROUPINGS)


def test_strided_rows_are_said_to_be(open_explorer):
    curriculum = Curriculum((Stage("far apart", 1, (Part("strided", (1, 4)),)),))
    replay = Replay(curriculum, BLOCKS, SETTINGS)
    metrics = [{"step": 30, "tokens": replay.tokens(30), "order": 1.0}]
    explorer = CurriculumViewer(curriculum, BLOCKS, SETTINGS, metrics, Letters(), "nothing was trained")
    told = open_explorer(explorer).page.locator(".a3-panel").inner_text()
    assert "groups of 4 tokens that stand far apart (strided)" in told and "single tokens from left to right" in told
    assert "blank" not in told


def test_spare_room_is_shown(open_explorer):
    explorer = roomy_viewer(empty_token_id=END)
    step, number = next(
        (sample["step"], n) for sample in explorer.samples for n, row in enumerate(sample["rows"])
        if row["spare"] and -1 in row["groups"]
    )  # fmt: skip
    explorer.step, explorer.row = step, number
    page = open_explorer(explorer).page
    row = next(sample for sample in explorer.samples if sample["step"] == step)["rows"][number]
    check_groups(page, row["groups"])
    chips = page.locator(".a3-token small").all_inner_texts()
    assert chips == [{0: "given", -1: "padding"}.get(group, str(group)) for group in row["groups"]]
    assert "half of them with up to 5 positions of spare room" in page.locator(".a3-panel").inner_text()
    assert "behind its last token stands the end" in page.locator(".a3-note").first.inner_text()
    assert not serious(page)
