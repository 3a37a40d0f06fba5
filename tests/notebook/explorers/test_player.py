"""The decoding player: at every step it shows what the package's own replay has."""

import itertools
import json
import math

import laws
import pytest
import torch

from a3mini import decode, groups, speculative
from a3mini.decode import Trace
from a3mini.decode.trace import Step
from a3mini.notebook.explorers import DecodingPlayer

V = laws.TINY["vocab_size"]
MODEL = laws.in_double(laws.strong_model())
WORDS = dict(enumerate(["<s>", " a", " b", "c", "\n", " <i>", "'s", " ", "", " long-word", "."]))
T = 9
IDS = torch.arange(T)[None] % V
UNKNOWN = torch.arange(T)[None] > 2


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def traces(seed: int = 0) -> dict[str, Trace]:
    """Every way of decoding; all four actions occur."""
    options = dict(generator=seeded(seed))
    fours = groups.blocks(T, 4, 3)[None]
    ones = groups.shuffled(T, 1, 3, seeded(seed))[None]
    refreshed = dict(criterion="entropy", context="refreshed")
    stop = next(  # a token that ends a text which is not finished
        trace
        for trace in (
            decode.generate(MODEL, IDS, groups.left_to_right(T, 3)[None], temperature=0, stop=s).trace for s in range(V)
        )
        if any(step.action == "stop" for step in trace.steps[0])
    )
    number = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 0, 2]])  # two blanks, the first of which ends early
    blanks = next(
        done.trace
        for done in (
            decode.generate(
                MODEL, IDS, decode.blanks.in_blanks(number, 2), rooms=decode.Rooms(number, end), generator=seeded(n)
            )
            for n, end in itertools.product(range(9), range(V))
        )
        if (done.group_ids[0, 5:7] < 0).all() and done.group_ids[0, 4] > 0
    )
    return {
        "groups": decode.generate(MODEL, IDS, fours, **options).trace,
        "confidence": decode.resample(MODEL, IDS, UNKNOWN, 2, **options).trace,
        "refreshed": decode.resample(MODEL, IDS, UNKNOWN, **refreshed, **options).trace,
        "speculative": speculative.generate(MODEL, IDS, ones, draft=4, **options).trace,
        "revise": decode.revise(MODEL, IDS, groups.left_to_right(T)[None], rounds=5).trace,
        "stop": stop,
        "blanks": blanks,
    }


TRACES = traces()


def player(names=None, ways=TRACES, **options) -> DecodingPlayer:
    found = {name: ways[name] for name in names or ways}
    made = DecodingPlayer(found, WORDS, **{"source": "the tests", "shown": list(found)} | options)
    made.clock = 0
    return made


def panels(page) -> dict[str, dict]:
    """What the panels show, by name: tokens by position, -1 where there is none, and the numbers."""
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('section[data-way]')].map((panel) => {
             const chips = [...panel.querySelectorAll('.a3-chip')];
             const each = (of) => Object.fromEntries(chips.map((chip) => [chip.dataset.position, of(chip.dataset)]));
             return [panel.dataset.way, {
               tokens: each(({ token }) => token === '' ? -1 : +token),
               states: each(({ state }) => state),
               struck: [...panel.querySelectorAll('del')].map((gone) => +gone.closest('.a3-chip').dataset.position),
               passes: +panel.dataset.passes, nats: +panel.dataset.nats, filled: +panel.dataset.filled,
             }];
           }))"""
    )


def panel(page, name: str) -> dict:
    return panels(page)[name]


def standing(steps: list[Step]) -> dict[int, float]:
    """Log-probabilities of the tokens that were written and still stand: a plain loop."""
    found = {}
    for step in steps:
        if step.action == "commit":
            found |= dict(zip(step.positions, step.log_probs, strict=True))
        elif step.action == "reopen":
            found = {at: value for at, value in found.items() if at not in step.positions}
    return found


def seek(page, clock: int) -> None:
    """By the slider, as a reader does."""
    page.locator(".a3-slider input").evaluate(
        "(range, value) => { range.value = value; range.dispatchEvent(new Event('input', { bubbles: true })) }", clock
    )


def check(found: dict, trace: Trace, count: int) -> None:
    """A panel after ``count`` steps is the replay after ``count`` steps."""
    replay = trace.replay(count)[0].tolist()
    assert found["tokens"] == {str(at): token for at, token in enumerate(replay)}
    values = standing(trace.steps[0][:count])
    assert found["nats"] == pytest.approx(sum(values.values()), abs=5e-5 * T) and found["filled"] == len(values)


def test_all_four_actions_are_tried():
    assert {step.action for trace in TRACES.values() for step in trace.steps[0]} == {
        "commit", "reject", "reopen", "stop",
    }  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_each_step_is_the_replay(open_explorer, seed):
    ways = traces(seed)
    page = open_explorer(player(ways=ways, unit="step")).page
    for clock in range(max(len(trace.steps[0]) for trace in ways.values()) + 1):
        seek(page, clock)
        shown = panels(page)
        for name, trace in ways.items():
            found, done = shown[name], trace.steps[0][:clock]
            check(found, trace, clock)
            assert found["passes"] == (done[-1].passes if done else 0)
            last = done[-1] if done and clock <= len(trace.steps[0]) else None
            gone = sorted(last.positions) if last and last.action in ("reject", "reopen") else []
            assert found["struck"] == gone
    for name, trace in ways.items():  # at the end: the package's own sums
        assert panel(page, name)["passes"] == trace.passes[0]


def test_on_the_clock_of_passes(open_explorer):
    """After so many passes each way has exactly the steps that they paid for; then a way stands still."""
    page = open_explorer(player()).page
    for clock in range(0, max(trace.passes[0] for trace in TRACES.values()) + 1):
        seek(page, clock)
        shown = panels(page)
        for name, trace in TRACES.items():
            found = shown[name]
            check(found, trace, sum(step.passes <= clock for step in trace.steps[0]))
            assert found["passes"] == min(clock, trace.passes[0])


def test_one_token_at_a_time(open_explorer):
    page = open_explorer(player(names=["groups"], unit="token")).page
    order = [at for step in TRACES["groups"].steps[0] for at in step.positions]
    final = TRACES["groups"].replay()[0].tolist()
    for clock in range(len(order) + 1):
        seek(page, clock)
        found = panel(page, "groups")
        there = {at for at in range(T) if at < 3 or at in order[:clock]}
        assert found["tokens"] == {str(at): final[at] if at in there else -1 for at in range(T)}
        assert [int(at) for at, state in found["states"].items() if state == "new"] == order[clock - 1 : clock][:1]


def test_the_sum_is_the_log_likelihood(open_explorer):
    done = decode.generate(MODEL, IDS, groups.blocks(T, 4, 3)[None], generator=seeded(5))
    explorer = DecodingPlayer({"it": done.trace}, WORDS, source="")
    explorer.clock = 99
    found = panel(open_explorer(explorer).page, "it")
    assert found["nats"] == pytest.approx(done.log_probs.sum().item(), abs=1e-3) and found["filled"] == T - 3


def test_drafts_wait_one_pass(open_explorer):
    """In the pass that drafts, they are marked; in the next, each is committed, or struck and not there."""
    trace = TRACES["speculative"]
    page = open_explorer(player(names=["speculative"])).page
    seek(page, 1)
    drafts = [int(at) for at, state in panel(page, "speculative")["states"].items() if state == "draft"]
    second = [step for step in trace.steps[0] if step.passes == 2]
    assert drafts == sorted({at for step in second for at in step.positions}) and len(drafts) == 3
    seek(page, 2)
    found = panel(page, "speculative")
    assert "draft" not in found["states"].values()
    rejected = sorted(at for step in second if step.action == "reject" for at in step.positions)
    assert found["struck"] == rejected


@pytest.mark.parametrize("name", ["groups", "confidence"])
def test_probabilities_and_runners_up(open_explorer, name):
    page = open_explorer(player(names=[name], unit="step")).page
    for clock, step in enumerate(TRACES[name].steps[0], start=1):
        seek(page, clock)
        for number, at in enumerate(step.positions):
            expected = {step.tokens[number]: step.log_probs[number]} | dict(step.runners_up[number])
            bars = page.locator(f".a3-card[data-position='{at}'] li[data-token]")
            found = bars.evaluate_all("(bars) => bars.map((bar) => [+bar.dataset.token, +bar.dataset.p])")
            assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
            for token, p in found:
                assert p == pytest.approx(math.exp(expected[token]), rel=2e-4)
            assert len(found) == len(expected)
            drawn = page.locator(f".a3-card[data-position='{at}'] li[data-drawn]")
            assert drawn.get_attribute("data-token") == str(step.tokens[number])


def test_the_keyboard_is_enough(open_explorer):
    page = open_explorer(player(names=["groups", "speculative"])).page
    page.get_by_role("button", name="Step forward").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert panel(page, "groups")["passes"] == 2
    page.get_by_role("button", name="Step back").focus()
    page.keyboard.press("Space")
    assert panel(page, "groups")["passes"] == 1
    page.locator(".a3-slider input").focus()
    page.keyboard.press("End")
    check(panel(page, "speculative"), TRACES["speculative"], 99)
    # into the text: one stop, then arrows; the history of that position
    page.locator("section[data-way=groups] .a3-button").focus()
    for key in ("Tab", "End"):
        page.keyboard.press(key)
    chip = page.locator(f"section[data-way=groups] .a3-chip[data-position='{T - 1}']")
    assert chip.evaluate("(chip) => chip === document.activeElement") and chip.get_attribute("aria-pressed") == "true"
    assert f"groups, position {T - 1}" in page.locator(".a3-detail").inner_text()
    assert "Pass 2: ✓ commit" in page.locator(".a3-detail").inner_text()
    page.get_by_role("button", name="Back to this tick").click()
    assert "forward pass" in page.locator(".a3-detail-title").inner_text()


def test_the_history_of_a_position(open_explorer):
    """It is asked by the mouse; all that has happened there is told, and no more."""
    trace = TRACES["revise"]
    reopened = next(step for step in trace.steps[0] if step.action == "reopen")
    explorer = player(names=["revise"])
    explorer.clock = 99_999  # what is too far is the end
    page = open_explorer(explorer).page
    page.locator(f".a3-chip[data-position='{reopened.positions[0]}']").click()
    items = page.locator(".a3-record li").all_inner_texts()
    assert len(items) == sum(reopened.positions[0] in step.positions for step in trace.steps[0])
    assert any("↺ reopen" in item and WORDS[reopened.tokens[0]].strip() in item for item in items)
    seek(page, reopened.passes - 1)
    assert len(page.locator(".a3-record li").all()) == sum(
        reopened.positions[0] in step.positions for step in trace.steps[0] if step.passes < reopened.passes
    )


LONG = 700  # milliseconds: more than a tick at normal speed


def stop_the_clock(page) -> None:
    """From here on time passes in ``page.clock.run_for`` alone: a busy machine changes nothing."""
    page.clock.install(time=0)
    page.clock.pause_at(1000)


COUNT = """() => { window.timers = 0; const real = setTimeout;
  window.setTimeout = (...args) => (window.timers++, real(...args)) }"""


def test_playing_ends(open_explorer):
    explorer = player(names=["groups", "confidence"])
    explorer.speed = "fast"
    page = open_explorer(explorer).page
    stop_the_clock(page)
    page.evaluate(COUNT)
    page.clock.run_for(LONG)
    assert page.evaluate("timers") == 0  # nothing runs before Play
    page.locator(".a3-play").click()
    assert "Pause" in page.locator(".a3-play").inner_text()
    page.clock.run_for(60_000)
    assert "Play" in page.locator(".a3-play").inner_text()
    check(panel(page, "confidence"), TRACES["confidence"], 99)
    assert page.evaluate("timers") == TRACES["confidence"].passes[0] - 1
    assert "finished: groups, confidence" in page.locator(".a3-spoken").inner_text()
    page.locator(".a3-play").click()  # once more, from the start; then it is taken away
    page.evaluate("document.querySelector('.a3-figure').remove()")
    before = page.evaluate("timers")
    page.clock.run_for(60_000)
    assert page.evaluate("timers") == before


def test_a_pause_lasts(open_explorer):
    page = open_explorer(player(names=["confidence", "refreshed"])).page
    stop_the_clock(page)
    page.locator(".a3-play").click()
    assert panel(page, "confidence")["passes"] == 1
    page.clock.run_for(LONG)
    assert panel(page, "confidence")["passes"] > 1
    page.locator(".a3-play").click()
    paused = panel(page, "confidence")["passes"]
    page.clock.run_for(LONG)
    assert panel(page, "confidence")["passes"] == paused


def test_another_unit_keeps_the_place_and_boxes_open_texts(open_explorer):
    page = open_explorer(player(shown=["groups"])).page
    page.get_by_role("button", name="Step forward").click()
    page.get_by_role("radio", name="token").check()
    assert page.locator(".a3-slider output").inner_text().startswith("4 of")  # a group of four
    assert panel(page, "groups")["filled"] == 4
    assert page.locator("section[data-way=stop]").is_hidden()
    page.get_by_role("checkbox", name="stop").check()
    assert page.locator("section[data-way=stop]").is_visible()


@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_phone(open_explorer, look):
    """64 positions; nothing sticks out, nobody is shut out."""
    from axe_playwright_python.sync_playwright import Axe

    ids = torch.randint(V, (1, 32), generator=seeded(0))
    model = laws.strong_model(max_position_embeddings=64)
    ids = torch.cat((ids, ids), dim=1)
    long = decode.resample(model, ids, torch.arange(64)[None] > 3, 4, generator=seeded(0)).trace
    explorer = DecodingPlayer({"long": long, **TRACES}, WORDS, source="", shown=["long", "speculative", "revise"])
    explorer.clock = 2
    window = open_explorer(explorer, width=360, theme=look)
    window.page.locator(".a3-legend summary").click()
    for way, clock in (("speculative", 2), ("stop", 99), ("long", 7)):
        seek(window.page, clock)
        if way != "stop":
            window.page.locator(f"section[data-way={way}] .a3-chip").nth(6).click()
        found = Axe().run(window.page, context=".a3-explorer").response["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
        assert not window.too_wide()


def test_what_it_reads():
    text = TRACES["groups"].to_json()
    from_json = DecodingPlayer({"it": text}, WORDS, source="")
    assert from_json.traces == DecodingPlayer({"it": TRACES["groups"]}, WORDS, source="").traces
    whole = json.loads(text) | {"texts": {str(token): word for token, word in WORDS.items()}}
    assert DecodingPlayer({"it": json.dumps(whole)}, source="").texts == from_json.texts
    assert len(player().to_html()) < 120_000
    batch = decode.generate(MODEL, IDS.expand(2, -1), groups.left_to_right(T, 3).expand(2, -1), generator=seeded(0))
    second = DecodingPlayer({"it": batch.trace}, WORDS, source="", row=1)
    assert second.traces == DecodingPlayer({"it": batch.trace.row(1)}, WORDS, source="").traces


@pytest.mark.parametrize(
    ("group_ids", "order", "said"),
    [
        (groups.blocks(T, 2, 3), "neighbours", "up to 2 tokens a pass, neighbours;"),
        (groups.strided(T, 2, 3), "strided", "up to 2 tokens a pass, far apart (strided);"),
        (
            groups.infill(torch.tensor([0, 1, 1, 1, 0, 0, 1, 1, 1]).bool(), 2, "strided"),
            "strided",
            "far apart (strided);",
        ),
        (torch.tensor([0, 0, 0, 1, 3, 2, 2, 1, 3]), "other", "up to 2 tokens a pass;"),
        (groups.left_to_right(T, 3), "other", "one token a pass;"),
    ],
)
def test_it_says_which_tokens_are_drawn_together(open_explorer, group_ids, order, said):
    trace = decode.generate(MODEL, IDS, group_ids[None], generator=seeded(0)).trace
    explorer = player(["it"], {"it": trace})
    assert explorer.traces[0]["order"] == order
    assert (
        f"How: order fixed before, {said}"[-len(said) :]
        in open_explorer(explorer).page.locator(".a3-note").inner_text()
    )
    for stopped in range(V):  # a text that ends early is filled in the same order
        steps = decode.generate(MODEL, IDS, group_ids[None], generator=seeded(0), stop=stopped).trace
        if sum(step.action == "commit" for step in steps.steps[0]) > 1:
            assert player(["it"], {"it": steps}).traces[0]["order"] == order


def test_only_a_fixed_order_has_a_name():
    assert [trace.get("order") for trace in player().traces] == [
        "neighbours", None, None, None, None, "other", "neighbours",
    ]  # fmt: skip


def changed(**changes) -> str:
    return json.dumps(json.loads(TRACES["groups"].to_json()) | changes)


@pytest.mark.parametrize(
    ("found", "options", "message"),
    [
        ({}, {}, "traces is empty"),
        ({"it": "{"}, {}, "trace 'it': this is not a trace"),
        ({"it": changed(version=2)}, {}, "trace 'it': this is a3mini/trace version 2; .* reads a3mini/trace version 1"),
        ({"it": changed(schema="other")}, {}, "trace 'it': this is other version 1"),
        (TRACES, {"row": 1}, "trace 'groups' has rows 0 to 0; there is no row 1"),
        (TRACES, {"shown": ["no"]}, "shown has 'no', but the traces are 'groups'"),
        (TRACES, {"unit": "hour"}, "unit must be one of pass, step, token; got 'hour'"),
        (TRACES, {"tokenizer": {0: "a"}}, "token 1 has no text"),
        (TRACES, {"tokenizer": None}, "token 0 has no text"),
    ],
)
def test_what_it_refuses(found, options, message):
    with pytest.raises(ValueError, match=message):
        DecodingPlayer(found, **{"tokenizer": WORDS, "source": ""} | options)


def test_it_wants_traces_by_name():
    with pytest.raises(TypeError, match="traces must be a dict, name: trace; got Trace"):
        DecodingPlayer(TRACES["groups"], WORDS, source="")
    with pytest.raises(TypeError, match="'it' must be a Trace or its JSON; got int"):
        DecodingPlayer({"it": 3}, WORDS, source="")


def test_what_is_left_of_a_blanks_room_is_no_hole(open_explorer):
    """It is marked, told as the end of a blank, and read by nobody; a text that ends is told as before."""
    page = open_explorer(player(names=["blanks", "stop"], unit="step")).page
    trace = TRACES["blanks"]
    stop = next(number for number, step in enumerate(trace.steps[0]) if step.action == "stop")
    before, done = (page.locator("section[data-way=blanks] .a3-hidden"), len(trace.steps[0]))
    seek(page, 0)
    assert before.text_content().count(" _") == 5  # the room of both blanks
    seek(page, stop + 1)
    left = trace.steps[0][stop].positions
    states = panel(page, "blanks")["states"]
    assert [at for at, state in states.items() if state == "ended"] == [str(at) for at in left]
    assert before.text_content().count(" _") == 1  # the second blank
    assert "The blank has ended. What is left of its room holds nothing" in page.locator(".a3-detail").text_content()
    chip = page.locator(f"section[data-way=blanks] .a3-chip[data-position='{left[0]}']")
    assert "after the end of the blank" in chip.get_attribute("aria-label")
    seek(page, done)
    assert " _" not in before.text_content() and trace.replay()[0, left].tolist() == [-1] * len(left)
    chip.focus()
    assert "the blank ended before this position" in page.locator(".a3-detail").text_content()
    assert "stop: behind the end of the text or of a blank" in page.locator(".a3-legend").text_content()
    last = page.locator("section[data-way=stop] .a3-chip[data-state=ended]").first
    assert "after the end of the text" in last.get_attribute("aria-label")


def test_it_opens_on_the_finished_texts(open_explorer):
    window = open_explorer(DecodingPlayer({"left to right": TRACES["groups"]}, WORDS, source=""))
    page = window.page
    assert "Nothing is filled yet." not in page.locator(".a3-now").inner_text()
    assert page.locator(".a3-text [data-state=open]").count() == 0
    page.get_by_role("button", name="First").click()
    assert page.locator(".a3-now").inner_text() == "Nothing is filled yet."
