"""The attention viewer shows the weights that the model computes, and lets mouse and keyboard reach all of them."""

import math

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe

from a3mini import A3Config, A3ForCausalLM, groups, masks, pretrained
from a3mini.notebook.explorers.attention import MEAN, MEASURES, STEPS, AttentionViewer

TOKENS = "<s> Tom lost his red toy car .".split()
LENGTH, LAYERS, HEADS = len(TOKENS), 2, 4
GROUPINGS = {
    "left to right": groups.left_to_right(LENGTH),
    "shuffled": torch.tensor([0, 6, 2, 4, 2, 1, 3, 5]),
    "nothing given, padding": torch.tensor([2, 2, 1, 1, 3, 4, -1, -1]),
}
STREAMS = ("content", "query")


@pytest.fixture(scope="module")
def model() -> A3ForCausalLM:
    torch.manual_seed(0)
    size = dict(vocab_size=20, hidden_size=32, intermediate_size=48, num_hidden_layers=LAYERS)
    model = A3ForCausalLM(A3Config(**size, num_attention_heads=HEADS, num_key_value_heads=2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter *= 8  # so that attention is far from uniform
    return model


INPUT_IDS = torch.tensor([3, 7, 1, 8, 2, 9, 4, 6])


@pytest.fixture(scope="module")
def viewer(model):
    return lambda **begin: AttentionViewer.of(model, TOKENS, INPUT_IDS, GROUPINGS, "a tiny model", **begin)


@pytest.fixture(scope="module")
def expected(model):
    return computed(model)


def computed(model):
    """The weights again, one by one from each layer's inputs: angles as complex numbers, the rule as a loop."""
    found = {}
    for name, group_ids in GROUPINGS.items():
        inputs = []
        hooks = [
            layer.self_attn.register_forward_pre_hook(lambda module, args, inputs=inputs: inputs.append(args[:2]))
            for layer in model.model.layers
        ]
        with torch.no_grad():
            model(INPUT_IDS[None], group_ids[None], output_attentions=True)
        [hook.remove() for hook in hooks]
        content_at = [i for i in range(LENGTH) if group_ids[i] >= 0]
        query_at = [i for i in range(LENGTH) if group_ids[i] > 0]
        warm = model.config.query_start == "previous"  # then a row may begin, and be turned, as the token before it
        turned_at = [i - bool(warm and i > 0 and 0 <= group_ids[i - 1] < group_ids[i]) for i in query_at]
        weights = {stream: torch.zeros(LAYERS, HEADS, LENGTH, LENGTH, dtype=torch.float64) for stream in STREAMS}
        for number, (layer, (rows, content)) in enumerate(zip(model.model.layers, inputs, strict=True)):
            attention, size = layer.self_attn, model.config.head_dim

            def turned(x, at, size=size):
                x = x.double().unflatten(-1, (-1, size))  # (rows, heads, E)
                angle = torch.tensor(at)[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size)
                return torch.complex(x[..., : size // 2], x[..., size // 2 :]) * torch.exp(1j * angle)[:, None]

            with torch.no_grad():
                q = turned(attention.q_proj(rows[0]), content_at + turned_at)
                k = turned(attention.k_proj(content[0]), content_at)
            for stream, at, first in (("content", content_at, 0), ("query", query_at, len(content_at))):
                for place, i in enumerate(at):
                    for head in range(HEADS):
                        allowed = {}
                        for column, j in enumerate(content_at):
                            later = group_ids[j] > group_ids[i] if stream == "content" else group_ids[j] >= group_ids[i]
                            if not later:
                                score = (q[first + place, head] * k[column, head // 2].conj()).real.sum() / size**0.5
                                allowed[j] = math.exp(score)
                        for j, part in allowed.items():
                            weights[stream][number, head, i, j] = part / sum(allowed.values())
        found[name] = weights
    return found


def shown(page, stream):
    """Weights of the matrix on the page, and which cells are open: two (T, T) tensors."""
    cells = page.locator(f".a3-matrix[data-stream={stream}] tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].slice(1).map(c => [+c.dataset.value, c.dataset.seen === 'true', "
        "c.className.includes('a3-forbidden'), c.textContent]))"
    )
    for line in cells:
        for value, seen, hatched, text in line:
            assert hatched != seen and (text == "" if value < 0.005 else text == str(math.floor(value * 100 + 0.5)))
    values = torch.tensor([[cell[0] for cell in line] for line in cells], dtype=torch.float64)
    return values, torch.tensor([[cell[1] for cell in line] for line in cells])


def test_every_weight_is_the_models(open_explorer, viewer, expected):
    page = open_explorer(viewer()).page
    for name, weights in expected.items():
        page.get_by_role("radio", name=name).check()
        for layer in range(LAYERS):
            page.get_by_role("combobox", name="Layer").select_option(str(layer))
            for head in (*range(HEADS), MEAN):
                page.get_by_role("combobox", name="Head").select_option(str(head))
                for stream, mask in zip(STREAMS, (masks.content_mask, masks.query_mask), strict=True):
                    right = weights[stream][layer]
                    right = right.mean(0) if head == MEAN else right[head]
                    values, seen = shown(page, stream)
                    torch.testing.assert_close(values, right, atol=0.5 / STEPS + 1e-5, rtol=0)
                    assert torch.equal(seen, mask(GROUPINGS[name])) and not values[~seen].any()
                    assert ((values.sum(-1) - 1).abs()[seen.any(-1)] < LENGTH * 0.5 / STEPS).all()


def test_rows_stand_at_their_own_position_whatever_they_start_from(open_explorer, model):
    """A query row that starts from the token before it is turned as that token, and yet it is the row of its own."""
    warm = A3ForCausalLM(A3Config(**model.config.to_dict() | {"query_start": "previous"})).eval()
    warm.load_state_dict(model.state_dict())
    expected, cold = computed(warm), computed(model)
    page = open_explorer(AttentionViewer.of(warm, TOKENS, INPUT_IDS, GROUPINGS, "a tiny model")).page
    for name in GROUPINGS:
        page.get_by_role("radio", name=name).check()
        for stream, mask in zip(STREAMS, (masks.content_mask, masks.query_mask), strict=True):
            values, seen = shown(page, stream)
            torch.testing.assert_close(values, expected[name][stream][0, 0], atol=0.5 / STEPS + 1e-5, rtol=0)
            assert torch.equal(seen, mask(GROUPINGS[name]))
        assert (expected[name]["query"] - cold[name]["query"]).abs().max() > 0.1, "otherwise this test shows nothing"


def test_the_comparison_can_fail(expected):
    content, query = expected["shuffled"]["content"], expected["shuffled"]["query"]
    for wrong in (content.roll(1, 0), content.roll(1, 1), content.mT, query):
        assert (content - wrong).abs().max() > 0.1


def measure(weights, mask, what):
    """The measure of one head (T, T), as a loop, and over how many rows it is the mean."""
    found = []
    for i in range(LENGTH):
        seen = mask[i].nonzero().flatten().tolist()
        if len(set(seen) - {i}) < 2:
            continue
        row = weights[i].tolist()
        if what == "entropy":
            found.append(-sum(row[j] * math.log(row[j]) for j in seen if row[j]))
            continue
        wanted = {
            "before": {i - 1},
            "after": {i + 1},
            "own": {i},
            "first": {0} - {i},
            "right": set(range(i + 1, LENGTH)),
        }
        if wanted[what] & set(seen):
            found.append(sum(row[j] for j in wanted[what] & set(seen)))
    return (sum(found) / len(found) if found else None), len(found)


def test_the_number_of_each_head(open_explorer, viewer, expected):
    page = open_explorer(viewer()).page
    for name, weights in expected.items():
        page.get_by_role("radio", name=name).check()
        for what in MEASURES:
            page.get_by_label("Mean weight").select_option(what)
            best = {}
            for stream, mask in zip(STREAMS, (masks.content_mask, masks.query_mask), strict=True):
                right = weights[stream]
                right = torch.cat((right, right.mean(1, keepdim=True)), dim=1).flatten(0, 1)
                right = [measure(head, mask(GROUPINGS[name]), what) for head in right]
                place = 1 + STREAMS.index(stream)
                values = page.locator(f".a3-head > span:nth-child({place}) .a3-number").evaluate_all(
                    "all => all.map(e => e.dataset.value === undefined ? null : +e.dataset.value)"
                )
                rows = [counted for _, counted in right]
                right = [value for value, _ in right]
                assert values == [None if value is None else pytest.approx(value, abs=0.01) for value in right]
                heads = [value for number, value in enumerate(right) if number % (HEADS + 1) < HEADS]
                best[stream] = (None if heads[0] is None else max(heads), rows[0])
            for stream, (value, counted) in best.items():
                words = page.locator(f"[data-highest={stream}]").inner_text()
                if value is None:
                    assert words == f"No {stream} row may look there."
                else:
                    assert f"over {counted} row{'s' * (counted != 1)}: layer" in words
                    assert float(words.rsplit(" ", 1)[1]) == pytest.approx(value, abs=0.015)


def test_the_token_that_looks(open_explorer, viewer, expected):
    page = open_explorer(viewer(layer=1, head=2, row=3)).page
    page.get_by_role("radio", name="shuffled").check()
    for position in (3, 6):
        page.locator(".a3-strip button").nth(position).click()
        for stream in STREAMS:
            values = page.locator(f".a3-bar[data-stream={stream}]").evaluate_all(
                "all => all.map(e => +e.dataset.value)"
            )
            row = expected["shuffled"][stream][1, 2, position]
            assert values == pytest.approx(row.tolist(), abs=0.5 / STEPS + 1e-5)
            best = row.argmax().item()
            words = page.locator(f".a3-readout [data-stream={stream}]").inner_text()
            seen = int((row > 0).sum())
            assert f"{stream} row may see {seen} token{'s' * (seen != 1)}: {TOKENS[best]} {row[best]:.2f}" in words


def test_rows_that_see_nothing_say_so(open_explorer, viewer):
    page = open_explorer(viewer(row=0)).page
    query = page.locator(".a3-readout [data-stream=query]")
    assert "does not exist: a given token is not predicted" in query.inner_text()
    assert page.locator(".a3-both .a3-note").all_inner_texts() == [
        "Every row sees something.",
        "Given, so no query row: <s>.",
    ]
    page.get_by_role("radio", name="nothing given").check()
    page.locator(".a3-strip button").nth(2).click()
    assert "sees nothing, so its attention output is zero" in query.inner_text()
    page.locator(".a3-strip button").nth(7).click()
    assert "does not exist: padding" in query.inner_text()
    content, query = page.locator(".a3-both .a3-note").all_inner_texts()
    assert content == "Padding: car, .."
    assert query == "Sees nothing: lost, his. Padding: car, .."


def where(page) -> tuple[str, str, str]:
    """Layer and head of the matrices, and the token that looks."""
    return (
        page.get_by_role("combobox", name="Layer").input_value(),
        page.get_by_role("combobox", name="Head").input_value(),
        page.locator(".a3-strip [data-looks=true] button").get_attribute("aria-label"),
    )


def test_by_keyboard(open_explorer, viewer):
    page = open_explorer(viewer(layer=0, head=1, row=2)).page
    pressed = page.locator(".a3-head[aria-pressed=true]")
    pressed.focus()
    for key in ("ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert where(page) == ("1", "2", "lost, group 2")
    assert pressed.evaluate("e => e === document.activeElement")  # focus outlives the redraw
    assert "Layer 1, head 2" in page.locator(".a3-spoken").text_content()
    for _ in range(4):  # measure, both highest, layer
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    assert where(page)[:2] == ("0", "2")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert where(page) == ("0", "2", "his, group 3")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "his, group 3"
    page.get_by_role("radio").first.focus()
    page.keyboard.press("ArrowRight")
    assert where(page)[2] == "his, group 4"  # the grouping changed, the token did not


def test_by_mouse(open_explorer, viewer):
    page = open_explorer(viewer(layer=0, head=1, row=2)).page
    page.locator(".a3-head[data-layer='1'][data-head='-1']").click()
    assert where(page)[:2] == ("1", "-1")
    page.locator("[data-highest=query]").click()
    assert f"layer {where(page)[0]}, head {where(page)[1]}" in page.locator("[data-highest=query]").inner_text()
    rows = page.locator(".a3-matrix[data-stream=query] tbody tr")
    place = "e => e.getBoundingClientRect().top + scrollY"
    top = rows.nth(5).evaluate(place)
    rows.nth(5).hover()
    assert where(page)[2] == "toy, group 5"
    assert rows.nth(5).evaluate(place) == top  # else rows would run away from the mouse
    page.locator(".a3-title").hover()
    assert where(page)[2] == "lost, group 2"
    rows.nth(6).locator("td").last.click()
    page.locator(".a3-title").hover()
    assert where(page)[2] == "car, group 6"


def test_python_chooses_too(open_explorer, viewer):
    changed = viewer()
    changed.grouping, changed.layer, changed.head, changed.row, changed.measure = "shuffled", 1, MEAN, 4, "first"
    beyond = viewer()
    beyond.grouping, beyond.layer, beyond.head, beyond.row = "no such name", 9, 9, 99
    page = open_explorer(changed, beyond).page
    first, second = page.locator(".a3-explorer").all()
    assert where(first) == ("1", "-1", "red, group 2")
    assert first.get_by_role("radio", name="shuffled").is_checked()
    assert first.get_by_label("Mean weight").input_value() == "first"
    assert where(second) == ("1", "3", "., group 7")


def test_equal_tokens_are_told_apart(open_explorer):
    weights = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])[None, None]
    query = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0.4, 0.6, 0]])[None, None]
    viewer = AttentionViewer(["a", "a", " b"], {"one": (torch.tensor([0, 1, 2]), weights, query)}, "by hand")
    words = open_explorer(viewer).page.locator(".a3-readout").inner_text()
    assert "␣b 0.50, a (1) 0.30, a (0) 0.20" in words and "a (1) 0.60, a (0) 0.40" in words


@pytest.mark.parametrize("look", ["light", "dark"])
def test_on_a_phone(open_explorer, look):
    """With the model and the sentence of the book."""
    model, tokenizer, name = pretrained.compact_model()
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer("The old farmer walked home and sang")["input_ids"]]])
    length = ids.shape[1]
    choices = {"left to right": groups.left_to_right(length), "random": groups.shuffled(length, 1)}
    explorer = AttentionViewer.of(model, tokenizer, ids, choices, name, layer=5, head=2)
    assert len(explorer.to_html()) < 120_000
    window = open_explorer(explorer, size="phone", theme=look, width=360)
    window.page.get_by_role("radio", name="random").check()
    window.page.locator(".a3-head").nth(7).click()
    window.page.locator(".a3-strip button").nth(3).click()
    assert not window.too_wide()
    found = Axe().run(window.page, context=".a3-explorer").response["violations"]
    assert not [one["id"] for one in found if one["impact"] in ("serious", "critical")]


def of(**changes) -> AttentionViewer:
    group_ids = torch.tensor([0, 1, 2])
    content = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]]).expand(2, 2, 3, 3)
    query = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0.5, 0.5, 0]]).expand(2, 2, 3, 3)
    parts = dict(tokens=list("abc"), group_ids=group_ids, content=content, query=query) | changes
    given = {key: parts[key] for key in ("layer", "head", "row") if key in parts}
    weights = {"one": (parts["group_ids"], parts["content"], parts["query"])}
    return AttentionViewer(parts["tokens"], parts.get("groupings", weights), "by hand", **given)


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(groupings={}), "groupings is empty"),
        (dict(tokens=list("abcd")), r"group_ids of 'one' must have one number per token, \(4,\), got \(3,\)"),
        (
            dict(query=torch.zeros(2, 1, 3, 3)),
            r"query weights of 'one' must have shape .*\(2, 2, 3, 3\), got \(2, 1, 3, 3\)",
        ),
        (
            dict(group_ids=torch.tensor([0, 2, 1])),
            "content weights of 'one': layer 0, head 0, row 2 gives 0.3 to column 1",
        ),
        (dict(content=torch.eye(3).expand(2, 2, 3, 3) * 3), "must sum to 1; they are off by up to 2"),
        (dict(content=torch.zeros(2, 2, 3, 3)), "off by up to 1"),
        (dict(layer=2), "layer must be from 0 to 1, got 2"),
        (dict(head=-2), "head must be from -1 to 1, got -2"),
        (dict(row=3), "row must be from 0 to 2, got 3"),
    ],
)
def test_bad_input(changes, words):
    of()
    with pytest.raises(ValueError, match=words):
        of(**changes)


def test_one_sentence_at_a_time(model):
    with pytest.raises(ValueError, match=r"input_ids must be one sentence, \(T,\) or \(1, T\), got \(2, 8\)"):
        AttentionViewer.of(model, TOKENS, INPUT_IDS.expand(2, -1), GROUPINGS, "")
