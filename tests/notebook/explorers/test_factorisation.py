"""The factorisation explorer computes what the table says, draws it, and follows mouse, keyboard and Python."""

import itertools

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe

from a3mini import groups
from a3mini.notebook.explorers import FactorisationExplorer
from a3mini.notebook.explorers.factorisation import default_presets

WORDS = [("Tom", "Ann"), ("found", "lost"), ("his", "her"), ("keys", "fear"), ("smiled", "cried")]
RULES = ([0.5, 0.5], [0.6, 0.4], [[0.95, 0.05], [0.05, 0.95]], [[0.7, 0.3], [0.5, 0.5]])
FEELING = [[[0.9, 0.1], [0.2, 0.8]], [[0.1, 0.9], [0.8, 0.2]]]
WORLD = torch.einsum("n,v,np,no,vof->nvpof", *[torch.tensor(r, dtype=torch.float64) for r in (*RULES, FEELING)])
T = WORLD.dim()
# Each ordered partition of five words, and all with given words too: 0 to K without a gap.
ORDERED = [g for g in itertools.product(range(1, T + 1), repeat=T) if set(g) == set(range(1, max(g) + 1))]
WITH_GIVEN = [g for g in itertools.product(range(3), repeat=T) if set(g) - {0} == set(range(1, max(g) + 1))]
MODULE = "import(URL.createObjectURL(new Blob([code], {type: 'text/javascript'})))"


def marginal(p, keep):
    others = [t for t in range(p.dim()) if t not in keep]
    return p.sum(others, keepdim=True) if others else p


def weigh(p, group_ids):
    "What the page computes, in torch: the factors of each word, q, KL, total variation, and the loss of each pass."
    factors, lost = {}, []
    q = marginal(p, [t for t, g in enumerate(group_ids) if g == 0])
    for k in range(1, max(group_ids) + 1):
        seen = [t for t, g in enumerate(group_ids) if g < k]
        group = [t for t, g in enumerate(group_ids) if g == k]
        for t in group:
            factors[t] = marginal(p, [t, *seen]) / marginal(p, seen)
        alone = torch.stack([factors[t].expand_as(p) for t in group]).prod(0)
        q = q * alone
        lost.append((p * (marginal(p, [*group, *seen]) / marginal(p, seen) / alone).log()).sum())
    q = q.expand_as(p)
    return factors, q, (p * (p / q).log()).sum(), (p - q).abs().sum() / 2, lost


def in_the_page(browser, code, p, all_groups):
    page = browser.new_page()
    found = page.evaluate(
        f"""async ([code, table, shape, all]) => {{
          const module = await {MODULE};
          const marginal = module.marginals(table, shape);
          return [all.map((groups) => module.weigh(marginal, groups)), module.groupings(shape.length)];
        }}""",
        [code, p.flatten().tolist(), list(p.shape), all_groups],
    )
    page.close()
    return found


def world(group_ids=(1, 2, 3, 4, 5), sentence=(0,) * T, **options):
    explorer = FactorisationExplorer(WORDS, torch.tensor(group_ids), "a table of the tests", table=WORLD, **options)
    explorer.sentence = list(sentence)
    return explorer


def plain(group_ids=(0, 1, 1, 2, 3, 2, 0)):
    return FactorisationExplorer("Tom lost his red toy car .".split(), torch.tensor(group_ids), "a sentence")


def number(page, name):
    return float(page.locator(f"[data-measure={name}]").get_attribute("data-number"))


def groups_now(page):
    "The group of each word, by column."
    rows = page.evaluate(
        "[...document.querySelectorAll('[data-column]:checked')].map(({ dataset }) => [+dataset.column, +dataset.row])"
    )
    return [row for _, row in sorted(rows)]


# The arithmetic


@pytest.mark.parametrize("shape", [None, (3, 2, 1, 2), (4,)], ids=str)
def test_factors_products_and_losses_are_those_of_the_table(browser, shape):
    if shape is None:
        p, all_groups = WORLD, ORDERED + WITH_GIVEN
        assert len(ORDERED) == 541
    else:
        p = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.01
        p, length = p / p.sum(), len(shape)
        all_groups = [
            g for g in itertools.product(range(length + 1), repeat=length) if set(g) - {0} == set(range(1, max(g) + 1))
        ]
    found, partitions = in_the_page(browser, FactorisationExplorer._esm, p, all_groups)
    if shape is None:
        assert sorted(map(tuple, partitions)) == sorted(ORDERED)
    close = dict(rtol=1e-9, atol=1e-12)
    for group_ids, here in zip(all_groups, found, strict=True):
        factors, q, kl, tv, lost = weigh(p, group_ids)
        assert [t for t, factor in enumerate(here["factors"]) if factor] == sorted(factors)
        for t, factor in factors.items():
            expected = factor.expand_as(p).flatten()
            torch.testing.assert_close(torch.tensor(here["factors"][t], dtype=torch.float64), expected, **close)
        torch.testing.assert_close(torch.tensor(here["q"], dtype=torch.float64), q.flatten(), **close)
        assert sum(here["q"]) == pytest.approx(1)
        assert (here["kl"], here["tv"]) == pytest.approx((kl.item(), tv.item()), abs=1e-12)
        assert here["lost"] == pytest.approx([one.item() for one in lost], abs=1e-12)
        assert sum(here["lost"]) == pytest.approx(here["kl"], abs=1e-12)


def test_it_would_notice_a_pass_whose_words_see_each_other(browser):
    wrong = FactorisationExplorer._esm.replace("groups[t] < k)", "groups[t] <= k)")
    assert wrong != FactorisationExplorer._esm
    [[here], _] = in_the_page(browser, wrong, WORLD, [(1, 1, 1, 1, 1)])
    assert abs(here["kl"] - weigh(WORLD, (1, 1, 1, 1, 1))[2].item()) > 0.1


# What is drawn

DRAWN = [
    ((1, 2, 3, 4, 5), (0, 0, 0, 0, 0)),
    ((1, 1, 1, 1, 1), (1, 0, 0, 1, 1)),
    ((3, 1, 1, 2, 3), (0, 1, 1, 0, 1)),
    ((0, 1, 0, 1, 1), (0, 1, 1, 0, 0)),
]


@pytest.mark.parametrize(("group_ids", "x"), DRAWN, ids=str)
def test_the_drawn_numbers(open_explorer, group_ids, x):
    page = open_explorer(world(group_ids, x)).page
    factors, q, kl, tv, lost = weigh(WORLD, group_ids)
    given = marginal(WORLD, [t for t, g in enumerate(group_ids) if g == 0]).expand_as(WORLD)[x].item()
    for t, factor in factors.items():
        drawn = page.locator(f"[data-factor='{t}'] [data-value]")
        assert float(drawn.get_attribute("data-value")) == pytest.approx(factor.expand_as(WORLD)[x].item())
        assert float(drawn.inner_text()) == pytest.approx(factor.expand_as(WORLD)[x].item(), abs=1e-4)
    assert page.locator("[data-factor]").count() == len(factors) == number(page, "factors")
    assert number(page, "passes") == max(group_ids)
    assert float(page.locator("[data-q]").get_attribute("data-q")) == pytest.approx(q[x].item() / given)
    assert float(page.locator("[data-p]").get_attribute("data-p")) == pytest.approx(WORLD[x].item() / given)
    assert number(page, "kl") == pytest.approx(kl.item(), abs=1e-12)
    assert number(page, "tv") == pytest.approx(tv.item(), abs=1e-12)
    passes = [float(one.get_attribute("data-lost")) for one in page.locator("[data-lost]").all()]
    assert passes == pytest.approx([one.item() for one in lost], abs=1e-12)
    ring = page.locator(".a3-ring").get_attribute("visibility")
    assert ring == ("hidden" if 0 in group_ids else "visible")


def test_the_product_is_written_out(open_explorer):
    page = open_explorer(plain()).page
    text = page.locator("[data-formula]").inner_text().replace("\n", "")
    assert text == (
        "q(x1, x2, x3, x4, x5 | x0, x6) = p(x1 | x0, x6) · p(x2 | x0, x6) · "
        "p(x3 | x0, x1, x2, x6) · p(x5 | x0, x1, x2, x6) · p(x4 | x0, x1, x2, x3, x5, x6)"
    )
    assert (number(page, "passes"), number(page, "factors")) == (3, 5)
    assert page.locator("[data-value], [data-lost], [data-q], .a3-chart, button[data-word]").count() == 0
    everything = open_explorer(plain((0,) * 7)).page
    assert "nothing to predict" in everything.locator(".a3-verdict").inner_text()


def test_the_verdict_follows_the_loss(open_explorer):
    free, dear = (open_explorer(world(g)).page.locator(".a3-verdict") for g in ((1, 1, 2, 2, 3), (1, 2, 1, 3, 4)))
    assert "nothing is lost" in free.inner_text()
    assert "The loss comes from pass 1 (Tom and his)" in dear.inner_text()


# What the reader does


def test_the_presets_are_those_of_the_package(open_explorer):
    expected = {
        "AR": groups.left_to_right(T, given=0),
        "blocks of 2": groups.blocks(T, 2, given=0),
        "masked-diffusion step": groups.two_groups(torch.tensor([False, True, False, True, False])),
        "infilling": groups.infill(torch.tensor([False, True, True, True, False])),
        "all at once": groups.blocks(T, T, given=0),
    }
    page = open_explorer(world()).page
    for name, group_ids in expected.items():
        page.get_by_role("radio", name=name, exact=True).check(force=True)
        assert groups_now(page) == group_ids.tolist()
    for name, sizes in (("permutation", [1, 1, 1, 1, 1]), ("A3: shuffled 2s", [2, 2, 1])):
        page.get_by_role("radio", name=name, exact=True).check(force=True)
        found = groups_now(page)
        assert found != sorted(found)
        assert [found.count(k) for k in range(1, max(found) + 1)] == sizes
    assert all(groups.check(ids).shape == (n,) for n in range(1, 17) for ids in default_presets(n).values())


def test_strided_groups_are_offered_beside_all_presets(open_explorer):
    page = open_explorer(world(presets={"mine": torch.tensor([9, 9, 4, 0, 4])})).page
    streams = page.get_by_role("group", name="Strided, far-apart words at a time: streams").get_by_role("radio")
    for number in range(streams.count()):
        streams.nth(number).check(force=True)
        assert groups_now(page) == groups.strided(T, number + 2, given=0).tolist()
        assert f"Strided, {number + 2} streams." in page.locator(".a3-spoken").inner_text()
        assert "Your own grouping" not in page.locator(".a3-explorer").inner_text()
    assert number == 1
    page.get_by_role("radio", name="mine", exact=True).check(force=True)
    assert not any(streams.nth(number).is_checked() for number in range(streams.count()))
    assert (
        open_explorer(FactorisationExplorer(["a", "b"], torch.tensor([1, 2]), "")).page.get_by_text("Strided").count()
        == 0
    )


def test_own_presets(open_explorer):
    page = open_explorer(world(presets={"mine": torch.tensor([9, 9, 4, 0, 4])})).page
    assert "Your own grouping" in page.locator(".a3-explorer").inner_text()
    page.get_by_role("radio", name="mine", exact=True).check(force=True)
    assert groups_now(page) == [2, 2, 1, 0, 1]


def test_the_mouse_moves_a_word(open_explorer):
    page = open_explorer(world()).page
    page.get_by_label("his: pass 1").click(force=True)
    assert groups_now(page) == [1, 2, 1, 3, 4]
    assert number(page, "kl") == pytest.approx(weigh(WORLD, (1, 2, 1, 3, 4))[2].item())
    assert "KL 0.4946 nats" in page.locator(".a3-spoken").inner_text()
    page.get_by_label("Tom: a new pass").click(force=True)
    assert groups_now(page) == [5, 2, 1, 3, 4]
    page.get_by_label("found: given").click(force=True)
    assert groups_now(page) == [4, 0, 1, 2, 3]
    assert number(page, "kl") == pytest.approx(0, abs=1e-12)
    assert page.get_by_label("Tom: a new pass").is_disabled()  # alone in the last pass


def test_the_keyboard_moves_a_word_and_keeps_its_place(open_explorer):
    page = open_explorer(world((1, 1, 2, 2, 3))).page
    page.get_by_label("his: pass 2").focus()
    page.keyboard.press("ArrowUp")
    assert groups_now(page) == [1, 1, 1, 2, 3]
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "his: pass 1"
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    assert groups_now(page) == [1, 1, 4, 2, 3]
    page.keyboard.press("ArrowDown")  # round, past the end
    assert groups_now(page)[2] == 0


def test_words_change(open_explorer):
    page = open_explorer(world()).page
    page.locator("button[data-word='0']").click()
    page.locator("button[data-word='4']").focus()
    page.keyboard.press("Enter")
    assert float(page.locator("[data-p]").get_attribute("data-p")) == pytest.approx(WORLD[1, 0, 0, 0, 1].item())
    assert page.evaluate("document.activeElement.dataset.word") == "4"
    assert page.locator("[data-word='0']").inner_text().startswith("Ann")


def test_shuffling_keeps_the_sizes_and_what_is_given(open_explorer):
    page = open_explorer(world((0, 1, 1, 2, 3))).page
    seen = set()
    for _ in range(8):
        page.get_by_role("button", name="Shuffle the order").click()
        now = groups_now(page)
        assert now[0] == 0 and sorted(now) == [0, 1, 1, 2, 3]
        seen.add(tuple(now))
    assert len(seen) > 2


def roles(page, what):
    return page.evaluate(
        f"[...document.querySelectorAll('[data-{what}]')].sort((a, b) => a.dataset.{what} - b.dataset.{what})"
        ".map((found) => found.dataset.role)"
    )


def test_a_factor_lights_up_what_it_predicts_and_what_it_sees(open_explorer):
    page = open_explorer(world((1, 1, 2, 2, 3))).page
    expected = ["seen", "seen", "target", "unseen", "unseen"]
    page.locator("[data-factor='2']").hover()
    assert roles(page, "word") == roles(page, "at") == expected
    about = page.locator(".a3-about").inner_text()
    assert "p(his | Tom, found) predicts his and sees Tom and found. It does not see keys" in about
    assert "0.2850 (4 sentences with Tom, found and his) / 0.3000 (8 sentences with Tom and found) = 0.9500" in about
    page.mouse.move(0, 0)
    assert set(roles(page, "word")) == {""}
    page.locator("[data-factor='0']").focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert roles(page, "word") == expected
    page.keyboard.press("Enter")  # pinned: stays when the focus goes
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(50)
    assert roles(page, "word") == expected
    assert page.locator("[data-factor='2']").get_attribute("aria-pressed") == "true"


def test_a_word_lights_up_the_factors_that_use_it(open_explorer):
    page = open_explorer(world((1, 1, 2, 2, 3))).page
    expected = ["", "target", "uses", "uses", "uses"]
    page.locator("[data-word='1']").hover()
    assert roles(page, "factor") == expected
    assert page.locator("[data-lit]").count() == 3
    assert "The factors of his, keys and smiled condition on it" in page.locator(".a3-about").inner_text()
    page.mouse.move(0, 0)
    page.keyboard.press("Tab")
    page.get_by_label("found: pass 1").focus()
    assert roles(page, "factor") == expected


def test_all_groupings_can_be_picked(open_explorer):
    page = open_explorer(world((1, 1, 1, 1, 1))).page
    losses = {count: sorted(weigh(WORLD, g)[2].item() for g in ORDERED if max(g) == count) for count in range(1, T + 1)}
    page.locator("summary").click()
    for count, row in enumerate(page.locator(".a3-landscape tbody tr").all(), 1):
        least, most = (float(one.get_attribute("data-loss")) for one in row.locator("button").all())
        assert (least, most) == pytest.approx((losses[count][0], losses[count][-1]), abs=1e-9)
        row.locator("button").last.click()
        assert (number(page, "passes"), number(page, "kl")) == (count, pytest.approx(most, abs=1e-9))
    chart = page.locator(".a3-chart")
    assert chart.locator("circle:not(.a3-ring), path").count() == 541
    box = chart.bounding_box()
    page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 20)  # the only grouping with one pass
    assert groups_now(page) == [1] * T


# Both sides, all screens


def test_a_change_from_python_is_drawn(open_explorer):
    explorer = world()
    page = open_explorer(explorer).page
    page.evaluate(
        f"""async ([code, state]) => {{
          const heard = {{}};
          window.model = {{
            get: (name) => state[name], save_changes: () => {{}}, on: (name, listener) => (heard[name] = listener),
            set: (name, value) => ((state[name] = value), heard[`change:${{name}}`]()),
          }};
          document.body.replaceChildren(document.createElement("div"));
          (await {MODULE}).default.render({{ model, el: document.body.firstChild }});
        }}""",
        [explorer._esm, explorer.state()],
    )
    page.evaluate("model.set('group_ids', [4, 4, 4, 1, 1])")
    assert groups_now(page) == [2, 2, 2, 1, 1]
    page.evaluate("model.set('sentence', [1, 1, 1, 1, 1])")
    assert float(page.locator("[data-p]").get_attribute("data-p")) == pytest.approx(WORLD[1, 1, 1, 1, 1].item())
    page.evaluate("model.set('factor', 0)")
    assert roles(page, "word") == ["target", "unseen", "unseen", "seen", "seen"]


def test_odd_values_from_python_are_drawn(open_explorer):
    explorer = world()
    explorer.group_ids, explorer.sentence, explorer.factor = [7, -3, 2], [9, -1], 40
    page = open_explorer(explorer).page
    assert groups_now(page) == [2, 0, 1, 0, 0]
    assert page.locator("[data-word='0']").inner_text().startswith("Ann")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_is_accessible(open_explorer, theme):
    explorer = world((1, 1, 2, 3, 1))
    explorer.factor = 2
    window = open_explorer(explorer, plain(), size="phone", theme=theme, width=360)
    assert not window.too_wide()
    window.page.locator("summary").click()
    window.page.get_by_label("his: pass 1").first.click(force=True)
    found = Axe().run(window.page, context=".a3-explorer").response["violations"]
    assert not [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
    assert len(explorer.to_html()) < 120_000


BAD = {
    "no words": (dict(words=[], group_ids=torch.tensor([], dtype=torch.long)), "room for 1 to 16 words, got 0"),
    "a place without words": (dict(words=["a", []], group_ids=torch.tensor([1, 2])), "at least one word"),
    "too few groups": (dict(words=["a", "b"], group_ids=torch.tensor([1])), r"one number per word, \(2,\), got \(1,\)"),
    "padding": (dict(words=["a", "b"], group_ids=torch.tensor([1, -1])), r"group_ids holds -1 \(padding\)"),
    "a preset": (dict(presets={"x": torch.tensor([1, 2, 3])}), r"presets\['x'\] must have one number per word"),
    "a table of another shape": (
        dict(table=torch.ones(2, 3) / 6),
        r"table must have one entry.*\(2, 2\), got \(2, 3\)",
    ),
    "a zero": (dict(table=torch.tensor([[0.5, 0.5], [0.0, 0.0]])), "above 0.*the smallest is 0, the sum 1"),
    "another sum": (dict(table=torch.ones(2, 2)), "the sum 4"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    changes, message = BAD[name]
    good = dict(words=[("a", "b"), ("c", "d")], group_ids=torch.tensor([1, 2]), source="")
    with pytest.raises(ValueError, match=message):
        FactorisationExplorer(**(good | changes))
