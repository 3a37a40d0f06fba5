"""The picture of the two streams: what it says of a row follows from the package's masks, and a real model obeys it."""

import functools
import itertools
import re

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from a3mini import groups, masks
from a3mini.notebook.explorers import TwoStreams, base
from a3mini.notebook.explorers.two_streams import RULES, STARTS
from a3mini.rows import Plan

WORDS = "<s> Mia found a big ball .".split()
START = torch.tensor([0, 1, 3, 2, 2, 1, 3])
MODULE = "import(URL.createObjectURL(new Blob([code], {type: 'text/javascript'})))"
STREAMS = ("content", "query")
GROUPS = st.lists(st.integers(-1, 4), min_size=1, max_size=7)


# What the page must compute, from the package's masks


def sees(ids: Tensor, rule: str) -> dict[str, Tensor]:
    """Which content rows of the layer below a row of each stream attends to, (T, T), [row, column]."""
    query = masks.may_attend(ids, ids, own_group=rule != "less")
    if rule == "all but itself":
        query = query & ~torch.eye(len(ids), dtype=torch.bool)
    return {"content": masks.content_mask(ids), "query": query}


def reaching(ids: Tensor, layers: int, rule: str, start: str) -> dict[tuple[str, int], Tensor]:
    """Which tokens reach the rows of each stream and layer, (T, T), [row, token]: products of masks."""
    mask, own = sees(ids, rule), torch.eye(len(ids), dtype=torch.long)
    found = {("content", 0): own, ("query", 0): own if start == "token" else 0 * own}
    for layer in range(1, layers + 1):
        for stream in STREAMS:
            below = mask[stream].long() @ found["content", layer - 1] + found[stream, layer - 1]  # and the residual
            found[stream, layer] = below.clamp(max=1)
    return {at: matrix.bool() for at, matrix in found.items()}


def edges(ids: Tensor, row: tuple[str, int, int], rule: str) -> list[set[tuple]]:
    """For each layer from that of ``row`` down: (row, what it reads, whether through the residual alone)."""
    mask, hops, rows = sees(ids, rule), [], {row}
    for layer in range(row[1], 0, -1):
        hop = set()
        for stream, _, i in rows:
            columns = mask[stream][i].nonzero().flatten().tolist()
            hop |= {((stream, layer, i), ("content", layer - 1, j), False) for j in columns}
            if stream == "query" or i not in columns:
                hop.add(((stream, layer, i), (stream, layer - 1, i), True))
        hops.append(hop)
        rows = {read for _, read, _ in hop}
    return hops


@pytest.fixture(scope="module")
def module(browser):
    """A page on which `explorer` is the module two_streams.js."""
    page = browser.new_page()
    page.evaluate(f"async (code) => {{ window.explorer = await {MODULE} }}", base.bundle("two_streams"))
    page.evaluate(
        """() => { window.flat = ({layer, stream, position}) => [stream, layer, position];
             window.all = (g, rows, rule, start) => rows.map(([stream, layer, position]) => {
               const found = explorer.field(g, {layer, stream, position}, rule);
               const way = explorer.way(found, position, start);
               return {
                 known: explorer.tokensAt(found.ends, start), ends: found.ends.map(flat),
                 hops: found.hops.map(hop => hop.map(e => [flat(e.row), flat(e.read), e.residual, way.has(e)])),
               } }) }"""
    )
    yield page
    page.close()


def every_row(length: int, layers: int) -> list[tuple[str, int, int]]:
    return list(itertools.product(STREAMS, range(layers + 1), range(length)))


def found(module, ids: Tensor, rows: list, rule: str = "less", start: str = "w") -> list[dict]:
    return module.evaluate("([g, rows, rule, start]) => all(g, rows, rule, start)", [ids.tolist(), rows, rule, start])


@settings(deadline=None, max_examples=60)
@given(GROUPS, st.integers(1, 4), st.sampled_from(RULES), st.sampled_from(STARTS))
def test_what_a_row_reads_follows_from_the_masks(module, ids, layers, rule, start):
    ids = groups.relabel(torch.tensor(ids))
    rows, tokens = every_row(len(ids), layers), reaching(ids, layers, rule, start)
    for row, drawn in zip(rows, found(module, ids, rows, rule, start), strict=True):
        stream, layer, position = row
        known = tokens[stream, layer][position].nonzero().flatten().tolist()
        assert drawn["known"] == known
        expected = edges(ids, row, rule)
        lines = [[(tuple(reader), tuple(read), alone) for reader, read, alone, _ in hop] for hop in drawn["hops"]]
        assert [set(hop) for hop in lines] == expected
        assert [len(hop) for hop in lines] == [len(hop) for hop in expected]  # none twice
        # The token's way: the lines whose lower end it reaches
        for reader, read, _, red in itertools.chain(*drawn["hops"]):
            assert red == bool(tokens[read[0], read[1]][read[2], position]), (row, reader, read)


@settings(deadline=None, max_examples=60)
@given(GROUPS, st.integers(1, 4))
def test_a_query_row_never_knows_its_own_token_nor_one_of_its_group(module, ids, layers):
    ids = groups.relabel(torch.tensor(ids))
    rows = every_row(len(ids), layers)
    content, query = masks.content_mask(ids), masks.query_mask(ids)
    for (stream, layer, i), drawn in zip(rows, found(module, ids, rows), strict=True):
        if stream == "query":  # through several layers no more than through one
            assert drawn["known"] == (query[i].nonzero().flatten().tolist() if layer else [])
            assert i not in drawn["known"]
        elif ids[i] >= 0 and layer:
            assert drawn["known"] == content[i].nonzero().flatten().tolist()


@settings(deadline=None, max_examples=60)
@given(GROUPS, st.integers(1, 4))
def test_rows_that_are_not_faint_are_those_that_the_model_computes(module, ids, layers):
    ids = groups.relabel(torch.tensor(ids))
    needed = set(module.evaluate("([g, layers]) => [...explorer.needed(g, layers, 'less')]", [ids.tolist(), layers]))
    plan = Plan.of(torch.zeros_like(ids)[None], ids[None], None, (ids > 0)[None], (ids > 0)[None], False, False)
    content, query = (slots.index[slots.valid].tolist() for slots in (plan.content, plan.query))
    expected = {f"query {layer} {i}" for layer in range(layers + 1) for i in query}
    expected |= {f"content {layer} {i}" for layer in range(layers) for i in content}  # none after the last layer
    assert needed == expected


GROUPINGS = [[0, 1, 3, 2, 2, 1, 3], [0, 1, 2, 3, 4], [1, 1, 2, 2, -1], [2, 0, 1, 1, 0, -1]]


@functools.cache
def deep(layers: int):
    return laws.strong_llama(num_hidden_layers=layers)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("rule", RULES)
@torch.no_grad()
def test_a_real_transformer_knows_just_these_tokens(module, rule, start, layers):
    """A random Llama with both streams in one sequence, as in ``laws``: change a token, and see which rows change."""
    llama = deep(layers)
    w = torch.randn(llama.config.hidden_size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for grouping in GROUPINGS:
        ids, length = torch.tensor(grouping), len(grouping)
        mask = sees(ids, rule)
        allowed = torch.zeros(2 * length, 2 * length, dtype=torch.bool)
        allowed[:length, :length], allowed[length:, :length] = mask["content"], mask["query"]
        blind = ~allowed.any(-1)  # its attention is zero in A3, but not in Llama
        bias = torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~allowed, float("-inf"))
        bias[blind] = 0
        texts = torch.arange(length).repeat(length + 1, 1)
        texts[torch.arange(length) + 1, torch.arange(length)] += 3  # in text 1 + j token j is another
        content = llama.model.embed_tokens(texts)
        query = content if start == "token" else w.expand_as(content)
        logits = llama(
            inputs_embeds=torch.cat((content, query), 1),
            attention_mask=bias.expand(length + 1, 1, -1, -1),
            position_ids=torch.arange(length).repeat(length + 1, 2),
            use_cache=False,
        ).logits
        changed = ((logits[1:] - logits[:1]).abs().amax(-1) > laws.EXACT).T  # [row, token]
        rows = [(stream, layers, i) for stream in STREAMS for i in range(length)]
        drawn = found(module, ids, rows, rule, start)
        for number, (row, one) in enumerate(zip(rows, drawn, strict=True)):
            if not blind[number]:
                assert changed[number].nonzero().flatten().tolist() == one["known"], (grouping, row)


@torch.no_grad()
def test_the_package_s_model_knows_just_these_tokens(module):
    model = laws.strong_model()
    layers = model.config.num_hidden_layers
    for grouping in GROUPINGS:
        ids, length = torch.tensor(grouping), len(grouping)
        texts = torch.arange(length).repeat(length + 1, 1)
        texts[torch.arange(length) + 1, torch.arange(length)] += 3
        logits = model(texts, ids.expand(length + 1, -1)).logits
        changed = ((logits[1:] - logits[:1]).abs().amax(-1) > laws.EXACT).T
        rows = [("query", layers, i) for i in range(length) if ids[i] > 0]
        for (_, _, i), drawn in zip(rows, found(module, ids, rows), strict=True):
            assert changed[i].nonzero().flatten().tolist() == drawn["known"]


# The page


PICTURE = """() => {
  const all = (selector, tell) => [...document.querySelectorAll(selector)].map(({ dataset }) => tell(dataset));
  return {
    lines: all('.a3-edge', d => [d.edge, d.residual === 'true', d.leaks === 'true']),
    lit: all('.a3-node[data-lit=true]', d => d.row),
    chosen: all('.a3-node[aria-pressed=true]', d => d.row),
    reaches: all('.a3-token', d => d.reaches === 'true'),
    leaks: all('.a3-token', d => d.leaks === 'true'),
    verdict: all('.a3-verdict', d => d.verdict),
  };
}"""


def expected_lines(ids, row: tuple[str, int, int], lit: int | None = None, rule: str = "less", start: str = "w") -> set:
    ids = torch.as_tensor(ids)
    stream, layer, position = row
    tokens = reaching(ids, layer, rule, start)
    asked = stream == "query" and ids[position] > 0
    return {
        (
            f"{' '.join(map(str, reader))} {' '.join(map(str, read))}",
            alone,
            bool(asked and tokens[stream, layer][position, position] and tokens[read[:2]][read[2], position]),
        )
        for hop in edges(ids, row, rule)[:lit]
        for reader, read, alone in hop
    }


def assert_drawn(page, ids, row, lit: int | None = None, rule: str = "less", start: str = "w") -> None:
    """The page shows ``row`` chosen, the lines that it should, and which tokens reach it."""
    ids, (stream, layer, position) = torch.as_tensor(ids), row
    picture, expected = page.evaluate(PICTURE), expected_lines(ids, row, lit, rule, start)
    lines = set(map(tuple, picture["lines"]))
    assert lines == expected and len(picture["lines"]) == len(expected)
    chosen = f"{stream} {layer} {position}"
    assert picture["chosen"] == [chosen]
    ends = {" ".join(part) for name, *_ in lines for part in (name.split()[:3], name.split()[3:])}
    assert set(picture["lit"]) == {chosen} | ends
    known = reaching(ids, layer, rule, start)[stream, layer][position]
    whole, asked = lit is None or lit >= layer, stream == "query" and ids[position] > 0
    assert picture["reaches"] == (known & whole).tolist()
    assert picture["leaks"] == (known & (ids >= ids[position]) & bool(whole and asked)).tolist()
    verdict = "wrong" if any(picture["leaks"]) else "right"
    assert picture["verdict"] == [verdict if whole and asked else ""]


def node(page, stream, layer, position):
    return page.locator(f".a3-node[data-row='{stream} {layer} {position}']")


def pick(page, row) -> None:
    """A click without the mouse, for the many."""
    node(page, *row).dispatch_event("click")


def told(page) -> str:
    return page.locator(".a3-panel").inner_text()


ENDS = """() => {
  const { x: left, y: top } = document.querySelector('.a3-plane').getBoundingClientRect();
  const nodeAt = ({ x, y }) => document.elementsFromPoint(left + x, top + y).find(e => e.matches('.a3-node'));
  const ends = edge => [0, edge.getTotalLength()].map(at => nodeAt(edge.getPointAtLength(at))?.dataset.row);
  return [...document.querySelectorAll('.a3-edge')].map(edge => [edge.dataset.edge, ends(edge)]);
}"""
STROKES = """[...document.querySelectorAll('.a3-edge, .a3-stem')].map(
  e => [e.dataset.leaks === 'true', getComputedStyle(e).stroke])"""


def test_every_row_can_be_clicked(open_explorer):
    page = open_explorer(TwoStreams.example()).page
    assert_drawn(page, START, ("query", 3, 4))
    for row in every_row(len(WORDS), 3):
        node(page, *row).click()
        assert_drawn(page, START, row)
        # each line runs from its row to what that row reads
        for name, ends in page.evaluate(ENDS):
            words = name.split()
            assert ends == [" ".join(words[:3]), " ".join(words[3:])]


def test_the_words_say_what_is_read_and_why(open_explorer):
    page = open_explorer(TwoStreams.example()).page
    assert (
        told(page).split()
        == (
            "Query row 4 (big, group 2), layer 3. Query row 4 reads content rows with g < 2: positions 0, 1 and 5. "
            "Not group 2: its own content row holds the token that it has to predict, and position 3 is predicted at "
            "the same time. What reaches it: w and the tokens at 0, 1 and 5. Its own token, at 4, does not. "
            "From it the model predicts the token at 4."
        ).split()
    )
    for row, *parts in (
        (("content", 2, 3), "Content row 3 reads content rows with g ≤ 2: positions 0, 1, 3, 4 and 5; itself too",
         "the tokens at 0, 1, 3, 4 and 5. Its own token is among them."),
        (("content", 0, 1), "Content row 1 starts from its token.", "What reaches it: the token at 1."),
        (("query", 0, 1), "starts from w: one learned vector", "What reaches it: w. Its own token, at 1, does not."),
        (("query", 1, 0), "g < 0: there are none", "nobody needs it: a given token is not predicted."),
        (("content", 1, 2), "nobody needs it: its group is the last, so no query row reads it."),
        (("content", 3, 1), "nobody needs it: above the last layer only query rows are read"),
        (("query", 2, 1), "g < 1: position 0. Not group 1", "position 5 is predicted at the same time"),
    ):  # fmt: skip
        pick(page, row)
        for part in parts:
            assert part in told(page), (row, part)
    page = open_explorer(TwoStreams(["a", "b", "c", "d"], torch.tensor([1, 2, -1, 2]), "a test", layers=1)).page
    node(page, "query", 1, 0).click()
    assert "g < 1: there are none, so only its residual connection feeds it." in told(page)
    assert "What reaches it: w. Its own token, at 0, does not." in told(page)
    for stream in STREAMS:
        node(page, stream, 1, 2).click()
        assert f"{stream.title()} row 2 is padding: it sees nobody" in told(page)
        assert "nobody needs it: padding is neither read nor predicted" in told(page)


def test_what_is_said_is_what_is_read(open_explorer):
    explorer = TwoStreams(WORDS, START, "a test")
    for ids in (START, groups.left_to_right(7), torch.tensor([-1, 2, 0, 1, 1, 0, 2])):
        explorer.group_ids = ids.tolist()
        page = open_explorer(explorer).page
        for stream, layer, i in every_row(7, 3):
            pick(page, (stream, layer, i))
            mask = sees(ids, "less")[stream][i].nonzero().flatten().tolist()
            named = re.search(r"with g [<≤] \d+: positions? ([\d, and]+)", told(page))
            if not layer or ids[i] < 0 or not mask:
                assert named is None
            else:
                assert [int(number) for number in re.findall(r"\d+", named[1])] == mask


@pytest.mark.parametrize("look", ["light", "dark"])
def test_what_if_a_query_row_saw_its_own_group(open_explorer, look):
    page = open_explorer(TwoStreams.example(), theme=look).page
    verdict = page.locator(".a3-verdict")
    for rule, label in (("less or equal", "g ≤ gᵢ"), ("all but itself", "g ≤ gᵢ, not i"), ("less", "g < gᵢ (A3)")):
        page.get_by_role("radio", name=label, exact=True).check(force=True)
        for row in every_row(len(WORDS), 3):
            if row[0] == "query":
                pick(page, row)
                assert_drawn(page, START, row, rule=rule)
    page.get_by_role("radio", name="g ≤ gᵢ", exact=True).check(force=True)
    node(page, "query", 1, 4).click()
    assert "Its own token, at 4, reaches it through content row 4: a leak." in verdict.inner_text()
    node(page, "query", 2, 4).click()
    assert "through content rows 3 and 4: a leak." in verdict.inner_text()
    assert "What if: query row 4 reads content rows with g ≤ 2: positions 0, 1, 3, 4 and 5." in told(page)
    assert node(page, "content", 1, 2).get_attribute("data-needed") == "true"  # the last group is read now
    page.get_by_role("radio", name="g ≤ gᵢ, not i", exact=True).check(force=True)
    assert "through content row 3, which has read content row 4: a leak." in verdict.inner_text()
    node(page, "query", 1, 4).click()  # one layer: the neighbour's token, not yet its own
    assert "That at 3 is of its own group: each would be predicted from the other" in verdict.inner_text()
    assert "its own token, at 4" not in verdict.inner_text().lower()
    assert not any(leaks for leaks, _ in page.evaluate(STROKES))
    node(page, "query", 3, 4).click()
    red = "rgb(213, 94, 0)"
    strokes = page.evaluate(STROKES)
    assert {colour for leaks, colour in strokes if leaks} == {red} != {colour for leaks, colour in strokes if not leaks}


def test_what_if_the_query_kept_its_token(open_explorer):
    page = open_explorer(TwoStreams.example()).page
    assert node(page, "query", 0, 4).inner_text() == "w"
    page.get_by_role("radio", name="their token", exact=True).check(force=True)
    assert node(page, "query", 0, 4).inner_text() == ""
    for row in every_row(len(WORDS), 3):
        pick(page, row)
        assert_drawn(page, START, row, start="token")
    node(page, "query", 3, 4).click()
    assert "Its own token, at 4, reaches it through its residual connection: a leak." in told(page)
    assert sum(red for *_, red in page.evaluate(PICTURE)["lines"]) == 3  # straight up, through no other row
    node(page, "query", 0, 4).click()
    assert "What if: query row 4 starts from its token. No mask hides that" in told(page)
    node(page, "query", 0, 0).click()
    assert "What reaches it: the token at 0. Its own token is among them." in told(page)
    page.get_by_role("radio", name="w (A3)", exact=True).check(force=True)
    assert_drawn(page, START, ("query", 0, 0))


def test_layer_by_layer(open_explorer):
    page = open_explorer(TwoStreams.example()).page
    row, count = ("query", 3, 4), page.locator(".a3-count")
    for label, lit in (("First", 0), ("Step forward", 1), ("Step forward", 2), ("Step back", 1), ("Last", 3)):
        page.get_by_role("button", name=label).click()
        assert_drawn(page, START, row, lit)
        assert count.inner_text() == f"{lit} of 3 layers lit."
        # what reaches the row is told only once all is lit
        assert ("What reaches it" in told(page)) == (lit == 3)
        assert count.inner_text() in page.locator(".a3-spoken").inner_text()
    node(page, "query", 1, 4).click()
    assert_drawn(page, START, ("query", 1, 4), 1)
    node(page, "query", 3, 2).click()  # all was lit, so all is
    assert_drawn(page, START, ("query", 3, 2), 3)
    page.get_by_role("button", name="Step back").click()
    node(page, "query", 3, 6).click()  # and what was not lit is not
    assert_drawn(page, START, ("query", 3, 6), 2)


def test_play_lights_one_layer_after_the_other_and_stops(open_explorer):
    page = open_explorer(TwoStreams.example()).page
    play = page.locator(".a3-play")
    page.evaluate(
        """() => { const count = document.querySelector('.a3-count'); window.counts = [];
             new MutationObserver(() => counts.push(count.textContent)).observe(count, { childList: true }) }"""
    )
    play.click()
    page.wait_for_function("document.querySelector('.a3-play').textContent.includes('Pause')")
    page.wait_for_function("document.querySelector('.a3-play').textContent.includes('Play')")
    assert list(dict.fromkeys(page.evaluate("counts"))) == [f"{lit} of 3 layers lit." for lit in (1, 2, 3)]
    play.click()
    node(page, "query", 3, 1).click()  # another row ends it
    assert "Play" in play.inner_text()
    node(page, "content", 0, 1).click()
    play.click()
    assert "Play" in play.inner_text() and page.locator(".a3-count").inner_text() == "No layer below it."


def test_nothing_runs_unless_asked(open_explorer):
    page = open_explorer(TwoStreams.example()).page
    page.evaluate(
        """() => { window.asked = 0; const later = window.setTimeout;
             window.setTimeout = (...a) => (asked++, later(...a)); window.setInterval = () => asked++ }"""
    )
    node(page, "query", 2, 1).click()
    page.get_by_role("button", name="Random order").click()
    page.get_by_role("button", name="Step back").click()
    assert page.evaluate("asked") == 0


def test_keys_choose_rows_and_keep_the_focus(open_explorer):
    page = open_explorer(TwoStreams.example()).page
    assert page.locator(".a3-node[tabindex='0']").count() == 1
    node(page, "query", 3, 4).focus()
    for press, row in (
        ("ArrowLeft", ("content", 3, 4)),
        ("ArrowLeft", ("query", 3, 3)),
        ("ArrowDown", ("query", 2, 3)),
        ("ArrowDown", ("query", 1, 3)),
        ("ArrowRight", ("content", 1, 4)),
        ("ArrowUp", ("content", 2, 4)),
        ("End", ("query", 0, 6)),
        ("Home", ("content", 3, 0)),
    ):
        page.keyboard.press(press)
        assert_drawn(page, START, row)
        assert page.evaluate("document.activeElement.dataset.row") == " ".join(map(str, row))
        spoken = page.locator(".a3-spoken").inner_text()
        assert f"{row[0].title()} row {row[2]}" in spoken and "What reaches it" in spoken
    assert node(page, "content", 3, 0).get_attribute("aria-label") == (
        "Content row 0, <s>, given, layer 3, nobody needs it"
    )
    assert node(page, "query", 0, 6).get_attribute("aria-label") == "Query row 6, ., group 3, the start"


def test_groups_are_changed_by_key_and_by_button(open_explorer):
    page = open_explorer(TwoStreams.example()).page
    token = page.locator(".a3-token")
    token.nth(4).focus()
    row = ("query", 3, 4)
    for press, ids in (
        ("ArrowUp", [0, 1, 4, 3, 2, 1, 4]),  # out of its group, before it
        ("ArrowUp", [0, 1, 3, 2, 1, 1, 3]),
        ("ArrowDown", [0, 1, 4, 3, 2, 1, 4]),
        ("ArrowDown", START.tolist()),
    ):
        page.keyboard.press(press)
        assert_drawn(page, ids, row)
        assert f"group_ids = {ids}" in page.locator(".a3-moves").inner_text()
        assert f"group_ids = {ids}" in page.locator(".a3-spoken").inner_text()
        assert token.nth(4).evaluate("e => e === document.activeElement")
    page.keyboard.press("ArrowRight")
    assert_drawn(page, START, ("query", 3, 5))
    page.get_by_role("button", name="Earlier").press("Enter")
    page.get_by_role("button", name="Earlier").press("Enter")
    page.get_by_role("button", name="Earlier").press("Enter")  # nothing is before given
    assert_drawn(page, [0, 1, 3, 2, 2, 0, 3], ("query", 3, 5))
    assert token.nth(5).get_attribute("aria-label") == "ball, position 5, given"
    token.nth(6).click()
    page.get_by_role("button", name="Later").click()
    page.get_by_role("button", name="Later").click()
    page.get_by_role("button", name="Later").click()  # nothing is after padding
    assert_drawn(page, [0, 1, 3, 2, 2, 0, -1], ("query", 3, 6))


def test_presets_are_the_constructors_of_the_package(open_explorer):
    explorer = TwoStreams.example()
    page = open_explorer(explorer).page
    seeds = [torch.Generator().manual_seed(seed) for seed in range(4)]
    expected = {
        "Left to right": [groups.left_to_right(7)],
        "Random order": [groups.shuffled(7, 1, generator=seed) for seed in seeds],
        "Groups of two": [groups.blocks(7, 2)],
        "A blank": [groups.infill(torch.tensor([0, 0, 1, 1, 1, 0, 0]).bool())],
    }
    assert [preset["name"] for preset in explorer.presets] == list(expected)
    for name, groupings in expected.items():
        press = page.get_by_role("button", name=name, exact=True)
        for ids in groupings:
            press.click()
            assert_drawn(page, ids, ("query", 3, 4))
        assert press.get_attribute("aria-pressed") == "true"
    page.locator(".a3-token").nth(3).press("ArrowUp")
    assert page.locator(".a3-controls [aria-pressed=true]").count() == 0


def test_faint_rows_are_those_that_nobody_needs(module, open_explorer):
    page = open_explorer(TwoStreams.example()).page
    for name in ("Left to right", "A blank"):
        page.get_by_role("button", name=name, exact=True).click()
        ids = [int(text) for text in page.locator(".a3-token small").all_inner_texts()]
        needed = module.evaluate("(g) => [...explorer.needed(g, 3, 'less')]", ids)
        shown = page.evaluate("[...document.querySelectorAll('.a3-node[data-needed=true]')].map(n => n.dataset.row)")
        assert sorted(shown) == sorted(needed) and 0 < len(shown) < 56
        for row in every_row(7, 3):
            if " ".join(map(str, row)) not in needed:
                pick(page, row)
                assert "Drawn faint, for nobody needs it" in told(page)


def test_python_may_set_everything(open_explorer):
    explorer = TwoStreams.example()
    explorer.group_ids, explorer.position, explorer.layer, explorer.stream = [9, 5, -1, 5, 0, 7, 7], 3, 2, "query"
    explorer.rule, explorer.start, explorer.clock = "all but itself", "token", 1
    assert explorer.group_ids == [3, 1, -1, 1, 0, 2, 2]
    page = open_explorer(explorer).page
    assert_drawn(page, explorer.group_ids, ("query", 2, 3), 1, "all but itself", "token")
    assert page.get_by_role("radio", name="their token").is_checked()


def test_it_fits_a_phone_and_can_be_read(open_explorer):
    long = "Afterwards everybody understood <s> it , of course !".split()
    for theme, explorer in itertools.product(
        ("light", "dark"), (TwoStreams.example(), TwoStreams(long, torch.arange(9), "a test", layers=4))
    ):
        window = open_explorer(explorer, theme=theme, width=360)
        page = window.page
        for label in ("g ≤ gᵢ, not i", "their token"):
            page.get_by_role("radio", name=label, exact=True).check(force=True)
        assert not window.too_wide()
        assert not window.violations(".a3-explorer")
        if explorer.layers == 3:  # the picture and its words are on one screen
            words, picture = (page.locator(name).bounding_box() for name in (".a3-panel", ".a3-net"))
            assert words["y"] + words["height"] - picture["y"] < 800
    page.set_viewport_size({"width": 900, "height": 800})
    page.wait_for_function("document.querySelector('.a3-net').clientWidth > 400")
    words, picture = (page.locator(name).bounding_box() for name in (".a3-panel", ".a3-net"))
    assert words["x"] > picture["x"] + picture["width"] - 1  # side by side
    assert len(TwoStreams.example().to_html()) < 60_000


def test_lines_follow_the_width(open_explorer):
    page = open_explorer(TwoStreams.example()).page
    for width in (1200, 400):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(
            """() => { const left = (what) => document.querySelector(what).getBoundingClientRect().x;
                 const start = document.querySelector('.a3-edge').getPointAtLength(0).x + left('.a3-plane');
                 return Math.abs(start - left('.a3-node[aria-pressed=true]') - 12) < 1 }"""
        )


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_short_and_long_texts(open_explorer, length):
    explorer = TwoStreams([str(i) for i in range(length)], torch.arange(length), "a test", layers=2)
    page = open_explorer(explorer).page
    for preset in explorer.presets:
        page.get_by_role("button", name=preset["name"], exact=True).click()
        shown = page.locator(".a3-moves .a3-note").inner_text()
        assert shown in [f"group_ids = {ids}" for ids in preset["groupings"]]
    last = explorer.presets[-1]["groupings"][0]
    for row in every_row(length, 2):
        pick(page, row)
        assert_drawn(page, last, row)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((WORDS, START[:5], "a test"), r"one number per token, \(7,\), got \(5,\)"),
        (([], START, "a test"), "tokens must be 1 to 10 strings, got 0"),
        ((["a"] * 11, START, "a test"), "tokens must be 1 to 10 strings, got 11"),
        ((WORDS, START - 2, "a test"), "group_ids holds -2"),
        ((WORDS, START, "a test", 0), "layers must be from 1 to 4, got 0"),
        ((WORDS, START, "a test", 5), "layers must be from 1 to 4, got 5"),
        ((WORDS, START, "a test", 2, 7), "position must be from 0 to 6, got 7"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TwoStreams(*arguments)


def test_bad_values_are_refused_later_too():
    explorer = TwoStreams.example()
    for name, value, message in (
        ("group_ids", [1, 2], "one number per token"),
        ("position", -1, "position must be from 0 to 6, got -1"),
        ("layer", 4, "layer must be from 0 to 3, got 4"),
    ):
        before = getattr(explorer, name)
        with pytest.raises(ValueError, match=message):
            setattr(explorer, name, value)
        assert getattr(explorer, name) == before
