"""The bounds explorer: each set and each number on the page is the trace's; the sets keep to their bound."""

import math
from types import SimpleNamespace

import laws
import pytest
import torch

from a3mini import decode, groups
from a3mini.decode import Trace
from a3mini.notebook.explorers import BoundsExplorer

V = laws.TINY["vocab_size"]
MODEL = laws.in_double(laws.strong_model())
with torch.no_grad():
    MODEL.lm_head.weight *= 6  # sure of some tokens, unsure of others
WORDS = ["<s>", " a", " b", "c", "\n", " <i>", "'s", " ", "", " long-word", "."]
TOKENIZER = SimpleNamespace(decode=lambda ids: "".join(WORDS[token] for token in ids))
T, GIVEN = 12, 3
IDS = torch.arange(T)[None] % V
UNKNOWN = torch.arange(T)[None] >= GIVEN
BOUNDS, APART = (0.0, 0.5, 2.0, 9.0), (1, 4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bounded(bound: float, apart: int = 1, **options) -> Trace:
    options = {"criterion": "entropy", "generator": seeded(), **options}
    return decode.resample(MODEL, IDS, UNKNOWN, bound=bound, apart=apart, **options).trace


def fixed(make, size: int) -> Trace:
    return decode.generate(MODEL, IDS, make(T, size, GIVEN)[None], generator=seeded()).trace


TRACES = {(bound, apart): bounded(bound, apart) for apart in APART for bound in BOUNDS}
BESIDE = {
    name: [fixed(make, size) for size in (1, 2, 4)]
    for name, make in {"far apart": groups.strided, "neighbours": groups.blocks}.items()
}


def example(traces=TRACES, beside=BESIDE) -> BoundsExplorer:
    return BoundsExplorer(
        [(trace, 1 + number / 7) for number, trace in enumerate(traces.values())],
        {name: [(trace, 2 + number / 7) for number, trace in enumerate(of)] for name, of in beside.items()},
        TOKENIZER,
        source="the tests",
    )


def at(bound: float, apart: int = 1, clock: int = T) -> BoundsExplorer:
    explorer = example()
    explorer.bound, explorer.apart, explorer.clock = bound, apart, clock
    return explorer


def chips(page) -> list[dict]:
    return page.locator(".a3-bounds > .a3-tokens .a3-token").evaluate_all(
        """chips => chips.map((chip) => ({...chip.dataset, label: chip.getAttribute('aria-label'),
             below: chip.querySelector('small').textContent}))"""
    )


def step_to(page, clock: int) -> None:
    """By the slider of passes, as a reader does."""
    page.get_by_label("Passes done").evaluate(
        "(range, value) => { range.value = value; range.dispatchEvent(new Event('input', { bubbles: true })) }", clock
    )


def entropies(step) -> list[float]:
    found = dict(zip(step.considered["positions"], step.considered["scores"], strict=True))
    return [-found[position] for position in step.positions]


# What is drawn


@pytest.mark.parametrize("key", TRACES, ids=str)
def test_each_pass_is_the_trace_s(open_explorer, key):
    trace = TRACES[key]
    page = open_explorer(at(*key)).page
    for clock in range(trace.passes[0] + 1):
        step_to(page, clock)
        found = chips(page)
        tokens = [int(chip["token"]) if chip["token"] else -1 for chip in found]
        assert tokens == trace.replay(clock)[0].tolist()
        new = [int(chip["position"]) for chip in found if chip["state"] == "new"]
        assert new == (sorted(trace.steps[0][clock - 1].positions) if clock else [])
        for number, step in enumerate(trace.steps[0][:clock], start=1):
            assert all(found[position]["below"] == str(number) for position in step.positions)
        waiting = [float(chip["below"]) for chip in found if chip["state"] == "open"]
        if clock < trace.passes[0]:  # what the next pass will find
            scores = trace.steps[0][clock].considered["scores"]
            assert waiting == pytest.approx([-score for score in scores], abs=0.0051)
        else:
            assert not waiting


@pytest.mark.parametrize("key", TRACES, ids=str)
def test_a_set_keeps_to_its_bound_and_one_more_would_not(open_explorer, key):
    (bound, apart), trace = key, TRACES[key]
    page = open_explorer(at(*key)).page
    left = set(range(GIVEN, T))
    for clock, step in enumerate(trace.steps[0], start=1):
        step_to(page, clock)
        of, panel = entropies(step), page.locator("[data-part=set]")
        assert float(panel.get_attribute("data-loses")) == pytest.approx(sum(of) - max(of), abs=1e-2)
        assert float(panel.get_attribute("data-total")) == pytest.approx(sum(of), abs=1e-2)
        assert sum(of) - max(of) <= bound + 1e-6
        left -= set(step.positions)
        far = [one for one in left if all(abs(one - other) >= apart for other in step.positions)]
        said = page.locator(".a3-reason").inner_text()
        assert ("One token alone loses nothing" in said) == (len(of) == 1)
        assert ("Nothing else was open" in said) == (not left)
        assert (f"is {apart} away" in said) == bool(left and not far)
        assert ("too much" in said) == bool(far)
        if far:  # the next surest has the largest entropy, so all that are in the set would count
            assert sum(of) > bound
        assert page.locator("[data-part=set] li").count() == len(of)


def test_all_cases_are_tried():
    sizes = {key: {len(step.positions) for step in trace.steps[0]} for key, trace in TRACES.items()}
    assert sizes[0.0, 1] == {1} and max(sizes[0.5, 1]) > 2 and sizes[9.0, 1] == {T - GIVEN}
    assert 1 < max(sizes[9.0, 4]) < max(sizes[2.0, 1])


def test_the_numbers_are_those_of_each_text(open_explorer):
    explorer = example()
    page = open_explorer(explorer).page
    bound, apart = page.get_by_label("A pass may lose"), page.locator(".a3-choice input")
    for number, ((nats, away), trace) in enumerate(TRACES.items()):
        apart.nth(APART.index(away)).check(force=True)
        bound.fill(str(BOUNDS.index(nats)))
        assert bound.get_attribute("aria-valuetext") == f"{nats:g} nats"
        found = page.locator(".a3-figures")
        assert float(found.get_attribute("data-bound")) == nats and int(found.get_attribute("data-apart")) == away
        assert int(found.get_attribute("data-passes")) == trace.passes[0]
        assert float(found.get_attribute("data-rate")) == pytest.approx((T - GIVEN) / trace.passes[0])
        assert f"{1 + number / 7:.2f} nats per token" in found.inner_text()
        now = page.locator("tr[data-now=true] td").all_inner_texts()  # hidden in its fold
        assert page.locator("tr[data-now=true]").count() == 1 and len(now) == 3
        # the bars
        sizes, losses = page.locator(".a3-lane svg").evaluate_all(
            "all => all.map((svg) => [...svg.querySelectorAll('.a3-bar')].map((bar) => +bar.dataset.value))"
        )
        assert sizes == [len(step.positions) for step in trace.steps[0]]
        of = [entropies(step) for step in trace.steps[0]]
        assert losses == pytest.approx([sum(one) - max(one) for one in of], abs=1e-2)
    assert page.locator("tbody tr").count() == len(TRACES) + sum(map(len, BESIDE.values()))


def test_beside_it_stand_the_texts_of_about_as_many_passes(open_explorer):
    page = open_explorer(example()).page
    chosen = set()
    for number, nats in enumerate(BOUNDS):
        page.get_by_label("A pass may lose").fill(str(number))
        passes, expected = TRACES[nats, 1].passes[0], {}
        for name, of in BESIDE.items():
            nearest = min(of, key=lambda trace: abs(math.log(trace.passes[0] / passes)))
            words = "".join(WORDS[token] for token in nearest.replay()[0, GIVEN:].tolist())
            if abs(math.log(nearest.passes[0] / passes)) < math.log(1.5) and words not in expected.values():
                expected[name, nearest.passes[0]] = words
        shown = page.locator("[data-part=beside] [data-name]").evaluate_all(
            "all => all.map(({dataset, lastChild}) => [dataset.name, +dataset.passes, lastChild.textContent])"
        )
        assert {(name, count): f"… {words.strip()}" for (name, count), words in expected.items()} == {
            (name, count): words for name, count, words in shown
        }
        assert ("No text here" in page.locator("[data-part=beside]").inner_text()) == (not expected)
        chosen.add(tuple(expected))
    assert len(chosen) > 2 and () in chosen  # the choice depends on the bound


def test_a_token_tells_its_history(open_explorer):
    key = (2.0, 1)
    page = open_explorer(at(*key)).page
    number, step = next((n, s) for n, s in enumerate(TRACES[key].steps[0], start=1) if len(s.positions) > 1)
    for i, position in enumerate(step.positions):
        page.locator(f".a3-token[data-position='{position}']").hover()
        said = page.locator(".a3-detail").inner_text()
        assert f"pass {number}, with" in said and f"entropy when drawn {entropies(step)[i]:.2f} nats" in said
        percent = float(said.partition("probability ")[2].rstrip("%."))
        assert percent == pytest.approx(100 * math.exp(step.log_probs[i]), abs=0.06)
        mates = page.locator(".a3-token[data-mate=true]").evaluate_all("all => all.map((one) => +one.dataset.position)")
        assert sorted(mates) == sorted(step.positions)
        label = page.locator(f".a3-token[data-position='{position}']").get_attribute("aria-label")
        assert label == said
    page.locator(".a3-token[data-position='0']").hover()
    assert "there at the start" in page.locator(".a3-detail").inner_text()


# The reader


def test_the_keyboard_is_enough(open_explorer):
    page = open_explorer(at(0.5, 1, 0)).page
    page.get_by_label("A pass may lose").focus()
    page.keyboard.press("ArrowRight")
    figures = page.locator(".a3-figures")
    assert figures.get_attribute("data-bound") == "2"
    assert "Bound 2 nats" in page.locator(".a3-spoken").inner_text()
    page.get_by_label("Step forward").press("Enter")
    assert page.locator("[data-part=set]").get_attribute("data-pass") == "1"
    assert "Pass 1 of" in page.locator(".a3-spoken").inner_text()
    page.get_by_label("Step back").press("Enter")
    assert "Before the first pass" in page.locator("[data-part=set]").inner_text()
    page.get_by_label("Last", exact=True).press("Enter")
    # one stop of the Tab key for all tokens
    assert page.locator("button.a3-token[tabindex='0']").count() == 1
    page.locator("button.a3-token[tabindex='0']").focus()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.position") == str(T - 1)
    page.keyboard.press("ArrowLeft")
    assert page.locator(".a3-detail").inner_text() == chips(page)[T - 2]["label"]


def test_another_bound_keeps_the_place(open_explorer):
    """Who sees the whole text sees the whole of the other; else the passes that are done stay, if there are so many."""
    page = open_explorer(at(9.0, 1)).page
    page.get_by_label("A pass may lose").fill("0")
    assert page.locator("[data-part=set]").get_attribute("data-pass") == str(T - GIVEN)
    step_to(page, 2)
    page.get_by_label("A pass may lose").fill("1")
    assert page.locator("[data-part=set]").get_attribute("data-pass") == "2"
    page.locator(".a3-lane svg").first.click(position={"x": 2, "y": 10})
    assert page.locator("[data-part=set]").get_attribute("data-pass") == "1"


def test_playing_ends(open_explorer):
    page = open_explorer(at(0.5, 1, 0)).page
    page.evaluate(
        """() => { window.timers = 0; const real = setTimeout;
             window.setTimeout = (f, ms) => { timers++; return real(f, Math.min(ms, 5)) } }"""
    )
    assert page.evaluate("timers") == 0  # nothing runs before Play
    play = page.locator(".a3-play")
    play.click()
    passes = TRACES[0.5, 1].passes[0]
    page.wait_for_function(f"document.querySelector('[data-part=set]').dataset.pass === '{passes}'")
    assert "Play" in play.inner_text() and page.evaluate("timers") == passes - 1
    play.click()  # from the beginning
    page.wait_for_function(f"timers === {2 * (passes - 1)}")


def test_what_python_sets_is_drawn(open_explorer):
    """A bound that does not exist shows the nearest; a clock beyond the end is the end."""
    explorer = at(0.5, 4, 999)
    explorer.position = 5
    page = open_explorer(explorer).page
    assert page.locator("[data-part=set]").get_attribute("data-pass") == str(TRACES[0.5, 4].passes[0])
    assert page.locator(".a3-token[data-position='5']").get_attribute("aria-pressed") == "true"
    assert page.locator(".a3-choice input:checked").input_value() == "4"
    for nats, away, shown in ((1.9, 1, "2"), (1e9, 4, "9"), (0.1, 77, "0")):
        figures = open_explorer(at(nats, away)).page.locator(".a3-figures")
        assert figures.get_attribute("data-bound") == shown
        assert figures.get_attribute("data-apart") == ("4" if away == 4 else "1")


@pytest.mark.parametrize("look", ["light", "dark"])
def test_it_fits_a_phone_can_be_read_and_is_accessible(open_explorer, look):
    window = open_explorer(at(2.0, 1, 2), theme=look, width=360)
    for fold in window.page.locator("summary").all():
        fold.click()
    for clock in (0, 2, T):
        step_to(window.page, clock)
        assert not window.too_wide()
        assert not window.violations(".a3-explorer")


def test_each_distance_offers_its_own_bounds(open_explorer):
    some = {key: trace for key, trace in TRACES.items() if key not in ((0.0, 4), (0.5, 4))}
    explorer = example(some)
    explorer.bound = 0.5
    page = open_explorer(explorer).page
    limit, figures = page.get_by_label("A pass may lose"), page.locator(".a3-figures")
    assert limit.get_attribute("max") == "3" and figures.get_attribute("data-bound") == "0.5"
    page.locator(".a3-choice input").nth(1).check(force=True)
    assert limit.get_attribute("max") == "1" and figures.get_attribute("data-bound") == "2"
    limit.fill("1")
    assert figures.get_attribute("data-bound") == "9" and figures.get_attribute("data-apart") == "4"


# Python


def test_alone_it_has_neither_a_choice_nor_texts_beside(open_explorer):
    page = open_explorer(example({(2.0, 1): TRACES[2.0, 1]}, {})).page
    assert page.locator(".a3-choice").count() == 0 and page.locator("[data-part=beside]").is_hidden()


WRONG = {
    "bounded is empty": lambda: example({}),
    "one is of generate": lambda: example({1: BESIDE["neighbours"][1]}),
    "'criterion': 'confidence'": lambda: example({1: bounded(1, criterion="confidence")}),
    "'bound': None": lambda: example({1: decode.resample(MODEL, IDS, UNKNOWN, criterion="entropy").trace}),
    "'window': 4": lambda: example({1: bounded(1, window=4)}),
    "considered=True": lambda: example({1: bounded(1, considered=False)}),
    "two traces have bound=2 and apart=1": lambda: example({1: TRACES[2.0, 1], 2: TRACES[2.0, 1]}),
    "one row, got 2": lambda: example({1: _rows(2)}),
    "fill the same positions": lambda: example({1: TRACES[2.0, 1]}, {"other": [_other()]}),
    "same known tokens": lambda: example({1: TRACES[2.0, 1]}, {"other": [_other(IDS + 1 - (IDS == V - 1).long())]}),
    "end nothing": lambda: example({1: TRACES[2.0, 1]}, {"ended": [_ended()]}),
}


def _rows(count: int) -> Trace:
    options = dict(criterion="entropy", bound=1.0)
    return decode.resample(MODEL, IDS.expand(count, -1), UNKNOWN.expand(count, -1), **options).trace


def _other(ids: torch.Tensor = IDS) -> Trace:
    given = GIVEN if ids is not IDS else GIVEN - 1
    return decode.generate(MODEL, ids, groups.blocks(T, 2, given)[None]).trace


def _ended() -> Trace:
    order = groups.left_to_right(T, GIVEN)[None]
    traces = (decode.generate(MODEL, IDS, order, temperature=0, stop=stop).trace for stop in range(V))
    return next(trace for trace in traces if any(step.action == "stop" for step in trace.steps[0]))


@pytest.mark.parametrize("message", WRONG)
def test_what_it_refuses(message):
    with pytest.raises(ValueError, match=message):
        WRONG[message]()


def test_the_example_is_what_the_compact_model_does():
    explorer = BoundsExplorer.example()
    assert {(run["bound"], run["apart"]) for run in explorer.bounded} >= {(0.0, 1), (16.0, 1), (16.0, 8)}
    for run in explorer.bounded:
        for of in run["entropies"]:
            assert sum(of) - max(of) <= run["bound"] + 1e-2
        for places in run["positions"]:
            assert all(abs(one - other) >= run["apart"] for one in places for other in places if one != other)
    passes = {run["bound"]: len(run["positions"]) for run in explorer.bounded if run["apart"] == 1}
    assert passes[0.0] > 2 * passes[8.0] > 2 * passes[16.0]
    assert "seed 0: the first text of each kind" in explorer.source
    assert len(explorer.to_html()) < 130_000


def test_on_a_phone_what_one_turns_stays_in_sight(open_explorer):
    page = open_explorer(at(4), size="phone", width=360).page
    keys, limit = page.locator(".a3-keys"), page.locator(".a3-slider.a3-stays")
    result = page.locator(".a3-panels")
    assert result.bounding_box()["y"] - limit.bounding_box()["y"] > 500  # of 48 tokens: 1000
    result.evaluate("e => scrollTo(0, e.getBoundingClientRect().top + scrollY - 200)")
    for one in (limit, keys):
        assert 0 <= one.bounding_box()["y"] < 120
    assert limit.bounding_box()["y"] + limit.bounding_box()["height"] <= keys.bounding_box()["y"] + 1
    before = page.locator(".a3-figures").get_attribute("data-passes")
    page.get_by_role("slider", name="A pass may lose at most").press("Home")
    assert page.locator(".a3-figures").get_attribute("data-passes") != before
    assert 0 <= limit.bounding_box()["y"] < 120 and 0 < result.bounding_box()["y"] < 800
