"""The mask explorer: what it draws is what the package computes, however the reader got there."""

import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from a3mini import groups, masks
from a3mini.notebook.explorers import MaskExplorer, base

WORDS = "<s> Tom lost his red toy car .".split()
START = torch.tensor([0, 1, 1, 1, 3, 2, 2, 2])
MODULE = "import(URL.createObjectURL(new Blob([code], {type: 'text/javascript'})))"
DRAWN = """() => Object.fromEntries(['content', 'query'].map(stream => [stream,
    [...document.querySelectorAll(`[data-mask=${stream}] tbody tr`)].map(row => [...row.querySelectorAll('td')].map(
      cell => [cell.dataset.seen === 'true', cell.textContent]))]))"""


def ids_of(page) -> torch.Tensor:
    return torch.tensor(eval(page.locator(".a3-about code").inner_text().removeprefix("group_ids = ")))


def assert_masks(page, group_ids) -> None:
    """The page shows ``group_ids``: in words, on the tokens, on the board, and in each cell of both masks."""
    group_ids = torch.as_tensor(group_ids)
    assert ids_of(page).tolist() == group_ids.tolist()
    drawn = page.evaluate(DRAWN)
    for stream, mask in (("content", masks.content_mask), ("query", masks.query_mask)):
        expected = [
            [(seen, str(group) if seen else "") for seen, group in zip(row, group_ids.tolist(), strict=True)]
            for row in mask(group_ids).tolist()
        ]
        assert [[tuple(cell) for cell in row] for row in drawn[stream]] == expected, stream
    numbers = [text.replace("−", "-") for text in page.locator(".a3-token small").all_inner_texts()]
    assert numbers == [str(group) for group in group_ids.tolist()]
    spots = page.evaluate("[...document.querySelectorAll('.a3-here')].map(s => [+s.dataset.token, +s.dataset.row])")
    assert sorted(spots) == [list(pair) for pair in enumerate(group_ids.tolist())]


def token(page, position):
    return page.locator(".a3-token").nth(position)


def spot(page, position, row):
    return page.locator(f".a3-lane[data-row='{row}'] .a3-spot").nth(position)


def drag(page, what, to) -> None:
    what.scroll_into_view_if_needed()
    start, end = what.bounding_box(), to.bounding_box()
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2, steps=4)
    page.mouse.up()


def cover() -> MaskExplorer:
    """The sentence in the groups of the book's cover, without a challenge."""
    words = MaskExplorer.example().tokens
    return MaskExplorer(words, torch.tensor([0, 1, 1, 1, 3, 2, 2, 2]), "the cover", position=5)


@pytest.fixture
def open_explorer(open_explorer):
    """The same, with what is folded open."""

    def show(*explorers, **options):
        found = open_explorer(*explorers, **options)
        found.page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        return found

    return show


def test_presets_are_the_constructors_of_the_package(open_explorer):
    explorer = cover()
    unknown = torch.tensor([0, 0, 1, 1, 1, 0, 0, 0]).bool()
    seeds = [torch.Generator().manual_seed(seed) for seed in range(4)]
    expected = {
        "Left to right": [groups.left_to_right(8)],
        "Right to left": [groups.from_sets(8, [7], [6], [5], [4], [3], [2], [1], given=[0])],
        "Blocks of 2": [groups.blocks(8, 2)],
        "Random order": [groups.shuffled(8, 1, generator=seed) for seed in seeds],
        "Random pairs": [groups.shuffled(8, 2, generator=seed.manual_seed(seed.initial_seed())) for seed in seeds],
        "Masked diffusion": [groups.two_groups(unknown)],
        "Infilling": [groups.infill(unknown)],
        "All at once": [groups.two_groups(torch.arange(8) > 0)],
        "Strided": [groups.strided(8, streams) for streams in (2, 3, 4)],
        "With padding": [torch.tensor([0, 1, 2, 3, 4, 5, -1, -1])],
    }
    page = open_explorer(explorer).page
    assert_masks(page, START)
    assert [preset["name"] for preset in explorer.presets] == list(expected)
    for streams, ids in zip("234", expected.pop("Strided"), strict=True):
        page.get_by_role("radio", name=streams, exact=True).check(force=True)
        assert_masks(page, ids)
        assert page.locator(".a3-about b").inner_text() == f"Strided, {streams} streams"
    for name, groupings in expected.items():
        button = page.get_by_role("button", name=name, exact=True)
        for ids in groupings:
            button.click()
            assert_masks(page, ids)
        assert button.get_attribute("aria-pressed") == "true"
        assert page.locator(".a3-about b").inner_text() == name
    assert page.locator("[type=radio]:checked").count() == 0
    button.click()
    token(page, 1).press("ArrowUp")
    assert page.locator(".a3-about b").inner_text() == "A grouping of your own"


def test_streams_by_keyboard(open_explorer):
    page = open_explorer(cover()).page
    page.get_by_role("radio", name="2", exact=True).focus()
    for key, streams in (("Space", 2), ("ArrowRight", 3), ("ArrowRight", 4), ("ArrowLeft", 3)):
        page.keyboard.press(key)
        assert_masks(page, groups.strided(8, streams))
        assert page.evaluate("document.activeElement.value") == str(streams)
        assert f"Strided, {streams} streams" in page.locator(".a3-spoken").inner_text()
    token(page, 1).press("ArrowUp")
    assert page.locator("[type=radio]:checked").count() == 0
    explorer = MaskExplorer(WORDS, groups.strided(8, 4), "a test")
    assert open_explorer(explorer).page.get_by_role("radio", name="4", exact=True).is_checked()


def test_the_mouse_moves_tokens_and_groups(open_explorer):
    page = open_explorer(cover()).page
    spot(page, 5, 4).click()  # toy into a new group at the end
    assert_masks(page, [0, 1, 1, 1, 3, 4, 2, 2])
    spot(page, 2, 0).click()
    assert_masks(page, [0, 1, 0, 1, 3, 4, 2, 2])
    spot(page, 7, -1).click()
    assert_masks(page, [0, 1, 0, 1, 3, 4, 2, -1])
    drag(page, spot(page, 4, 3), spot(page, 4, 1))  # red joins Tom and his; the later groups move up
    assert_masks(page, [0, 1, 0, 1, 1, 3, 2, -1])
    handle = page.locator(".a3-handle")
    drag(page, handle.nth(0), page.locator(".a3-lane[data-row='3']"))
    assert_masks(page, [0, 3, 0, 3, 3, 2, 1, -1])
    drag(page, handle.nth(2), page.locator(".a3-lane[data-row='0']"))  # too far: the first place
    assert_masks(page, [0, 1, 0, 1, 1, 3, 2, -1])
    handle.nth(1).click()  # no way, no change
    assert_masks(page, [0, 1, 0, 1, 1, 3, 2, -1])


def test_keys_move_tokens_and_groups_and_keep_the_focus(open_explorer):
    page = open_explorer(MaskExplorer(WORDS, START, "a test", position=3)).page
    here = lambda: page.evaluate("document.activeElement.dataset.key")  # noqa: E731
    token(page, 3).focus()
    for key, expected in (
        ("ArrowDown", [0, 1, 1, 2, 4, 3, 3, 3]),  # out of its group
        ("ArrowDown", [0, 1, 1, 2, 3, 2, 2, 2]),  # into the next one
        ("ArrowUp", [0, 1, 1, 2, 4, 3, 3, 3]),
        ("ArrowUp", [0, 1, 1, 1, 3, 2, 2, 2]),
        ("ArrowUp", [0, 2, 2, 1, 4, 3, 3, 3]),
        ("ArrowUp", [0, 1, 1, 0, 3, 2, 2, 2]),
        ("ArrowUp", [0, 1, 1, 0, 3, 2, 2, 2]),  # nothing is before given
        ("ArrowDown", [0, 2, 2, 1, 4, 3, 3, 3]),
    ):
        page.keyboard.press(key)
        assert here() == "token 3"
        assert_masks(page, expected)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")  # red is alone in the last group: padding comes next
    assert here() == "token 4"
    assert_masks(page, [0, 2, 2, 1, -1, 3, 3, 3])
    page.keyboard.press("ArrowUp")
    assert_masks(page, [0, 2, 2, 1, 4, 3, 3, 3])
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert here() == "group 2"
    assert_masks(page, [0, 1, 1, 2, 4, 3, 3, 3])
    for name, expected in (
        ("Given", [0, 1, 1, 2, 0, 3, 3, 3]),
        ("New group", [0, 1, 1, 2, 4, 3, 3, 3]),
        ("↑ Group earlier", [0, 1, 1, 2, 3, 4, 4, 4]),
        ("↓ Group later", [0, 1, 1, 2, 4, 3, 3, 3]),
        ("↑ Token earlier", [0, 1, 1, 2, 3, 3, 3, 3]),
        ("↓ Token later", [0, 1, 1, 2, 4, 3, 3, 3]),
        ("Padding", [0, 1, 1, 2, -1, 3, 3, 3]),
    ):
        page.get_by_role("button", name=name, exact=True).press("Enter")
        assert_masks(page, expected)
    assert (
        "“.”" not in page.locator(".a3-spoken").inner_text()
        and "red: padding" in page.locator(".a3-spoken").inner_text()
    )


def test_pointing_says_what_a_token_sees(open_explorer):
    ids = torch.tensor([0, 1, 1, -1, 3, 2, 2, 0])
    page = open_explorer(MaskExplorer(WORDS, ids, "a test", position=-1)).page
    words, names = page.locator(".a3-words"), [*WORDS[:-1], "“.”"]

    def listed(mask: torch.Tensor, none: str) -> str:
        found = [name for name, seen in zip(names, mask.tolist(), strict=True) if seen]
        return f"{', '.join(found[:-1])} and {found[-1]}" if len(found) > 1 else (found or [none])[0]

    content, query = masks.content_mask(ids), masks.query_mask(ids)
    for position in range(len(ids)):
        for show in (token(page, position).hover, token(page, position).focus, token(page, position).click):
            page.mouse.move(0, 0)
            show()
            text = words.inner_text()
            assert text.startswith(names[position])
            assert f"Its query sees {listed(query[position], 'nothing')}" in text
            assert f"Its content row sees {listed(content[position], 'nothing')}" in text
            by_queries, by_content = (listed(mask[:, position], "nobody") for mask in (query, content))
            assert f"by the queries of {by_queries}; by the content rows of {by_content}." in text
            lit = page.evaluate("[...document.querySelectorAll('td[data-row]')].map(c => +c.dataset.i)")
            assert set(lit) == {position} and len(lit) == 16
            sides = page.evaluate(
                "[...document.querySelectorAll('.a3-lane')].map(l => [l.dataset.row, l.dataset.side])"
            )
            for row, side in sides:
                members = (ids == int(row)).nonzero().flatten()
                if len(members) and ids[position] >= 0 and int(row) >= 0:
                    seen = (bool(query[position, members[0]]), bool(content[position, members[0]]))
                    assert seen == {"earlier": (True, True), "own": (False, True), "later": (False, False)}[side]
                else:
                    assert side == ""
    page.locator("[data-mask=query] td[data-i='4']").first.hover()
    assert words.inner_text().startswith("red (group 3)")
    page.mouse.move(0, 0)
    assert words.inner_text().startswith("“.” (given)")  # what was chosen before


def test_a_change_is_counted_and_marked(open_explorer):
    page = open_explorer(cover()).page
    token(page, 5).press("ArrowUp")
    before, after = START, ids_of(page)
    marked = page.evaluate("[...document.querySelectorAll('td[data-changed]')].map(c => [+c.dataset.i, +c.dataset.j])")
    different = [mask(before) != mask(after) for mask in (masks.content_mask, masks.query_mask)]
    assert marked == [cell for mask in different for cell in mask.nonzero().tolist()]
    content, query = (int(mask.sum()) for mask in different)
    assert (
        f"{content} cells of the content mask and {query} of the query mask" in page.locator(".a3-changes").inner_text()
    )


# The module's arithmetic, called from Python


@pytest.fixture(scope="module")
def module(browser):
    """A page on which `explorer` is the module mask.js."""
    page = browser.new_page()
    page.evaluate(f"async (code) => {{ window.explorer = await {MODULE} }}", base.bundle("mask"))
    yield page
    page.close()


@settings(deadline=None)
@given(st.lists(st.integers(-1, 5), min_size=2, max_size=9), st.data())
def test_every_move_gives_a_grouping(module, ids, data):
    ids = groups.relabel(torch.tensor(ids)).tolist()
    position, by = data.draw(st.integers(0, len(ids) - 1)), data.draw(st.sampled_from([-1, 1]))
    moved = module.evaluate("([g, i, by]) => explorer.step(g, i, by)", [ids, position, by])
    assert groups.relabel(torch.tensor(moved)).tolist() == moved
    rest = [masks.query_mask(torch.tensor(g)) for g in (ids, moved)]
    others = torch.arange(len(ids)) != position
    assert torch.equal(rest[0][others][:, others], rest[1][others][:, others])  # only this token has moved
    back = module.evaluate("([g, i, by]) => explorer.step(g, i, by)", [moved, position, -by])
    assert back == ids or moved == ids  # and can go back, unless it stood at an end
    if max(ids) > 0:
        group, to = (data.draw(st.integers(1, max(ids))) for _ in range(2))
        order = [other for other in range(1, max(ids) + 1) if other != group]
        order.insert(to - 1, group)
        expected = [order.index(old) + 1 if old > 0 else old for old in ids]
        assert module.evaluate("([g, a, b]) => explorer.moveGroup(g, a, b)", [ids, group, to]) == expected


def every_grouping(length: int) -> torch.Tensor:
    """All group ids of ``length`` tokens, numbered without gaps, padding and given among them."""
    ids = torch.tensor(list(itertools.product(range(-1, length + 1), repeat=length)), dtype=torch.int8).long()
    return torch.cat([part[(groups.relabel(part) == part).all(-1)] for part in ids.split(200_000)])


def meets(condition: dict, ids: torch.Tensor) -> torch.Tensor:
    """Which of the groupings meet a condition of a challenge; from the package's masks."""
    match condition["kind"]:
        case "sees":
            mask = {"content": masks.content_mask, "query": masks.query_mask}[condition["stream"]](ids)
            return mask[:, condition["row"], condition["column"]] == condition["wanted"]
        case "predicted":
            return (ids[:, condition["positions"]] > 0).all(-1)
        case "steps":
            return ids.max(-1).values <= condition["most"]
        case "apart":
            return ~((ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] > 0)).any(-1)


def test_the_checker_of_each_challenge_agrees_with_brute_force(module):
    explorer = MaskExplorer(WORDS[:7], START[:7], "a test")
    some = every_grouping(6)  # of the six tokens after <s>
    some = torch.cat([torch.zeros(len(some), 1, dtype=torch.long), some], 1)
    assert len(some) > 15_000 and len(explorer.challenges) == 7
    judged = module.evaluate(
        """([all, challenges, names]) => JSON.stringify(challenges.map(challenge =>
             JSON.parse(all).map(g => explorer.judge(g, challenge, names).map(({met}) => met))))""",
        [json.dumps(some.tolist()), explorer.challenges, WORDS],
    )
    judged = json.loads(judged)
    left_to_right = groups.left_to_right(7)[None]
    for challenge, found in zip(explorer.challenges, judged, strict=True):
        expected = torch.stack([meets(condition, some) for condition in challenge["conditions"]], -1)
        assert torch.equal(torch.tensor(found), expected), challenge["name"]
        assert expected.all(-1).any() == (challenge["answer"] is not None), challenge["name"]
        assert not all(meets(condition, left_to_right) for condition in challenge["conditions"])  # where it begins
        if challenge["answer"]:
            answer = torch.tensor([challenge["answer"]])
            assert all(meets(condition, answer) for condition in challenge["conditions"]), challenge["name"]
        for left_out in range(expected.shape[1]):  # each condition of an impossible one is needed
            if challenge["answer"] is None and challenge["conditions"][left_out]["kind"] == "sees":
                assert expected[:, torch.arange(expected.shape[1]) != left_out].all(-1).any()


def test_a_challenge_says_what_is_wrong_and_when_it_is_solved(open_explorer):
    page = open_explorer(cover()).page
    goal, verdict = page.locator(".a3-goal"), page.locator(".a3-verdict")
    assert not goal.is_visible()
    page.locator(".a3-select select").select_option("1")
    assert_masks(page, range(8))
    assert "Still wrong: 2 of 4 conditions." in verdict.inner_text()
    wrong = goal.locator("[data-met=false]").all_inner_texts()
    assert wrong == [
        "✗ the query of toy sees car: car (group 6) is not earlier than toy (group 5)",
        "✗ the query of toy does not see his: his (group 3) is earlier than toy (group 5)",
    ]
    goal.get_by_role("button", name="It cannot be done").click()
    assert verdict.inner_text().startswith("It can be done. Still wrong")
    spot(page, 6, 4).click()
    spot(page, 3, 7).click()
    assert "Solved." in verdict.inner_text() and verdict.get_attribute("data-solved") == "true"
    spot(page, 6, -1).click()
    assert "car is padding, and nobody sees padding" in goal.inner_text()
    goal.get_by_role("button", name="Show an answer").click()
    assert verdict.inner_text().startswith("Solved.")

    page.locator(".a3-select select").select_option("4")  # the impossible one
    token(page, 4).focus()
    for _ in range(8):
        page.keyboard.press("ArrowUp")
        assert verdict.get_attribute("data-solved") == "false"
    goal.get_by_role("button", name="It cannot be done").press("Enter")
    assert verdict.inner_text().startswith("Right, it cannot be done. The group of “red” would have to")
    assert page.evaluate("document.activeElement.dataset.key") == "impossible"
    page.locator(".a3-select select").select_option("-1")
    assert not goal.is_visible()


def test_python_may_set_everything(open_explorer):
    explorer = cover()
    explorer.group_ids, explorer.position, explorer.challenge = [9, 5, -1, 5, 0, 7, 7, 9], 2, 6
    assert explorer.group_ids == [3, 1, -1, 1, 0, 2, 2, 3]
    page = open_explorer(explorer).page
    assert_masks(page, explorer.group_ids)
    assert "lost (padding)" in page.locator(".a3-words").inner_text()
    assert "“toy” sees “his”" in page.locator(".a3-goal").inner_text()


def test_it_fits_a_phone_and_can_be_read(open_explorer):
    words = "<s> Once upon a time there was a prince ,".split()
    explorer = MaskExplorer(words, torch.arange(len(words)), "The Princess and the Pea")
    for theme in ("light", "dark"):
        window = open_explorer(explorer, theme=theme, width=360)
        page = window.page
        page.locator("select").select_option("5")
        token(page, 9).press("ArrowDown")
        token(page, 5).hover()
        assert not window.too_wide()
        assert not window.violations(".a3-explorer")
        assert "a₂" in page.locator(".a3-token span").all_inner_texts()
    page.set_viewport_size({"width": 800, "height": 900})
    boxes = [page.locator(f"[data-mask={stream}]").last.bounding_box() for stream in ("content", "query")]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]  # side by side
    assert len(cover().to_html()) < 120_000


def test_short_texts_have_presets_too(open_explorer):
    for length in (1, 2, 3):
        explorer = MaskExplorer(WORDS[:length], torch.arange(length), "a test")
        page = open_explorer(explorer).page
        assert explorer.challenges == [] and page.locator(".a3-select").count() == 0
        for preset in explorer.presets:
            page.get_by_role("button", name=preset["name"], exact=True).click()
            assert str(ids_of(page).tolist()) in map(str, preset["groupings"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((WORDS, START[:5], "a test"), r"one number per token, \(8,\), got \(5,\)"),
        (([], START, "a test"), "tokens is empty"),
        ((WORDS, START - 2, "a test"), "group_ids holds -2"),
        ((WORDS, START, "a test", torch.ones(3).bool()), r"unknown must have one value per token, \(8,\), got \(3,\)"),
        ((WORDS, START, "a test", None, 8), "position must be from 0 to 7, or -1 for none; got 8"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MaskExplorer(*arguments)


def test_bad_group_ids_are_refused_later_too():
    explorer = cover()
    with pytest.raises(ValueError, match="one number per token"):
        explorer.group_ids = [1, 2]
    assert explorer.group_ids == START.tolist()


def test_it_opens_on_its_first_challenge_with_few_buttons(open_explorer):
    explorer = MaskExplorer.example()
    page = open_explorer(explorer).page
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = false)")
    assert page.locator(".a3-select select").input_value() == "0"
    goal = page.locator(".a3-goal")
    assert "Still wrong: 1 of 1 condition." in goal.inner_text()
    visible = page.locator(".a3-controls button:visible").all_inner_texts()
    assert visible == ["It cannot be done", "Show an answer", "↑ Token earlier", "↓ Token later"]
    for _ in range(4):  # "red" comes before "lost": past the two groups between them, and past its own
        token(page, 4).press("ArrowUp")
    assert "Solved." in goal.inner_text()
    with pytest.raises(ValueError, match="challenge must be from 0 to 6"):
        MaskExplorer(explorer.tokens, explorer.group_ids, "", challenge=7)
