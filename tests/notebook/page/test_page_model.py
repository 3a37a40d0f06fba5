"""The model in the page: the numbers of the package, and the laws that make them right whoever computes them."""

import itertools
import math

import laws
import pytest
import torch
from page_engines import JavaScriptError
from page_models import KINDS, all_kinds, saved

from a3mini import groups, objective
from a3mini.objective import labels_for

CLOSE = 1e-3  # of logits up to 4; both sides compute in float32
PREDICT = """({ name, wasm, texts }) => texts.map(({ tokens, groups, known }) =>
    [...p.predict(model(name, wasm), tokens, groups, { known })].map(([at, logits]) => [at, [...logits]]))"""
# the same text in as many steps as it has groups
STEPS = """({ name, texts }) => texts.map(({ tokens, groups }) => {
    const session = new p.Session(model(name));
    let [filled, found] = [[], []];
    for (const group of [...new Set(groups)].filter((group) => group >= 0).sort((a, b) => a - b)) {
      const members = [...groups.keys()].filter((at) => groups[at] === group);
      if (group > 0) {
        found.push(...session.step(filled, members).map((logits, n) => [members[n], [...logits]]));
        filled = [];
      }
      filled.push(members.map((at) => [at, tokens[at]]));
    }
    return found.sort(([at], [other]) => at - other);
  })"""


@pytest.fixture(scope="module")
def models(tmp_path_factory, engine):
    return all_kinds(tmp_path_factory.mktemp("models"), engine, 0)


def some_texts(model, count: int, seed: int = 0) -> list[dict]:
    """Texts of all lengths, with groups of all kinds: given or not, with padding, single or together."""
    draw, longest, found = torch.Generator().manual_seed(seed), model.config.max_position_embeddings, []
    for n in range(count):
        length = int(torch.randint(1, longest + 1, (), generator=draw)) if n else longest
        last = int(torch.randint(1, 2 * length, (), generator=draw))
        group_ids = torch.randint(-1, last + 1, (length,), generator=draw)
        group_ids[torch.randint(0, length, (), generator=draw)] = 1  # something is predicted
        tokens = torch.randint(0, model.config.vocab_size, (length,), generator=draw)
        known = torch.rand(length, generator=draw) < (0.3 if n % 2 else 0)
        found.append({"tokens": tokens.tolist(), "groups": group_ids.tolist(), "known": known.tolist()})
    return found


def expected(model, text: dict) -> list[torch.Tensor | None]:
    tokens, group_ids, known = (torch.tensor([text[part]]) for part in ("tokens", "groups", "known"))
    labels = labels_for(tokens, group_ids, known)
    with torch.no_grad():
        logits = model(tokens, group_ids, return_logits=True).logits[0]
    return [logits[at] if labels[0, at] >= 0 else None for at in range(len(logits))]


@pytest.mark.parametrize("wasm", [True, False], ids=["wasm", "plain"])
@pytest.mark.parametrize("name", KINDS)
def test_its_logits_are_those_of_the_package(engine, models, name, wasm):
    texts = some_texts(models[name], 6)
    for text, found in zip(texts, engine(PREDICT, {"name": name, "wasm": wasm, "texts": texts}), strict=True):
        wanted = expected(models[name], text)
        assert [at for at, _ in found] == [at for at, logits in enumerate(wanted) if logits is not None]
        for at, logits in found:
            torch.testing.assert_close(torch.tensor(logits), wanted[at], atol=CLOSE, rtol=0)


def test_the_kinds_differ_where_they_should(models):
    """As the parity would not, if the config were not read: the same weights, started otherwise."""
    text = some_texts(models["ours"], 1)[0]
    warm = expected(models["ours"], text)
    models["ours"].config.query_start = "vector"
    try:
        cold = expected(models["ours"], text)
    finally:
        models["ours"].config.query_start = "previous"
    apart = [(one - other).abs().max() for one, other in zip(warm, cold, strict=True) if one is not None]
    assert max(apart) > 100 * CLOSE


@pytest.mark.parametrize("name", KINDS)
def test_step_by_step_is_one_pass_to_the_last_bit(engine, models, name):
    texts = [{**text, "known": []} for text in some_texts(models[name], 5, seed=1)]
    at_once = engine(PREDICT, {"name": name, "wasm": True, "texts": texts})
    assert engine(STEPS, {"name": name, "texts": texts}) == at_once


@pytest.mark.parametrize("name", KINDS)
def test_no_prediction_sees_its_own_token_or_a_later_one(engine, models, name):
    """Bit for bit: whichever token is changed, all predictions of its own group and of earlier ones stay."""
    text = some_texts(models[name], 1, seed=2)[0]
    code = """({ name, tokens, groups }) => {
        const first = p.predict(model(name), tokens, groups);
        const moved = { earlier: 0, later: 0 };
        tokens.forEach((_, at) => {
          const changed = tokens.with(at, (tokens[at] + 7) % model(name).embedding.rows);
          for (const [position, logits] of p.predict(model(name), changed, groups)) {
            const later = groups[at] >= 0 && groups[position] > groups[at];
            const same = logits.every((logit, token) => logit === first.get(position)[token]);
            moved[later ? "later" : "earlier"] += !same;
          }
        });
        return moved;
      }"""
    moved = engine(code, {"name": name, **text})
    assert moved["earlier"] == 0 and moved["later"] > 100


def test_the_probabilities_of_all_texts_sum_to_1(engine, tmp_path):
    tokens, length = 3, 5
    _, file = saved(tmp_path, "tiny", 3, **{**KINDS["ours"], "vocab_size": tokens})
    engine.put("tiny", file)
    texts = [list(text) for text in itertools.product(range(tokens), repeat=length)]
    for seed in range(3):
        group_ids = groups.shuffled(length, 1, given=0, generator=torch.Generator().manual_seed(seed)).tolist()
        scores = engine(
            "({ texts, groups }) => texts.map((tokens) => [...p.score(model('tiny'), tokens, groups)])",
            {"texts": texts, "groups": group_ids},
        )
        assert sum(math.exp(sum(row)) for row in scores) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["paper", "ours"])
def test_scores_are_those_of_the_package(engine, models, name):
    texts = some_texts(models[name], 6, seed=4)
    code = """({ name, texts }) =>
        texts.map(({ tokens, groups, known }) => [...p.score(model(name), tokens, groups, { known })])"""
    for text, found in zip(texts, engine(code, {"name": name, "texts": texts}), strict=True):
        tokens, group_ids, known = (torch.tensor([text[part]]) for part in ("tokens", "groups", "known"))
        wanted = objective.log_likelihood(models[name], tokens, group_ids, known, reduction="token")[0]
        torch.testing.assert_close(torch.tensor(found), wanted.detach(), atol=CLOSE, rtol=0)


def test_attention_is_that_of_the_package(engine, models):
    """The rows stand in the order of their groups there, and at their positions here."""
    text = {**some_texts(models["ours"], 1, seed=5)[0], "known": []}
    tokens, group_ids = torch.tensor([text["tokens"]]), torch.tensor([text["groups"]])
    with torch.no_grad():
        out = models["ours"](tokens, group_ids, output_attentions=True)
    code = """({ tokens, groups, layer, head }) => {
        const watch = { layer, head };
        const wanted = [...p.predict(model("ours"), tokens, groups, { watch }).keys()];
        const rows = (list) => list.map((weights) => [...weights]);
        return { columns: watch.columns, wanted, content: rows(watch.content), query: rows(watch.query) };
      }"""
    last = len(out.query_attentions) - 1
    for layer, head in itertools.product((0, last), (0, 3)):
        found = engine(code, {**text, "layer": layer, "head": head})
        for stream, positions in (("content", found["columns"]), ("query", found["wanted"])):
            assert len(found[stream]) == len(positions) > 5
            wanted = getattr(out, f"{stream}_attentions")[layer][0, head]
            for position, weights in zip(positions, found[stream], strict=True):
                row = torch.zeros(len(text["tokens"]))
                row[found["columns"][: len(weights)]] = torch.tensor(weights)
                torch.testing.assert_close(row, wanted[position], atol=1e-4, rtol=0)


def test_what_is_taken_out_again_leaves_no_trace(engine, models):
    code = """({ name }) => {
        const session = new p.Session(model(name));
        session.step([[[0, 1]]], [1, 2]);
        session.step([[[1, 5], [2, 6]], [[3, 7]]], [4]);
        session.keep(1);
        const again = session.step([[[2, 9]]], [1]);
        const fresh = new p.Session(model(name)).step([[[0, 1]], [[2, 9]]], [1]);
        return [[...again[0]], [...fresh[0]]];
      }"""
    again, fresh = engine(code, {"name": "ours"})
    assert again == fresh


@pytest.mark.parametrize("name", KINDS)
def test_a_chain_in_one_pass_is_the_chain_step_by_step(engine, models, name):
    """To the last bit, in any order; and what is kept of it is there as if it had been filled."""
    code = """({ name, given, chain, kept }) => {
        const [once, steps] = [new p.Session(model(name)), new p.Session(model(name))];
        once.step(given.slice(0, 1), []);
        const found = once.verify(given.slice(1), chain);
        const wanted = chain.map(([at], n) => steps.step(n ? [[chain[n - 1]]] : given, [at])[0]);
        const next = [];
        for (const session of [once, steps]) {
          session.keep(given.length + kept);
          next.push(...session.step([[[chain[kept][0], 3]]], [chain.at(-1)[0]]));
        }
        return [...found, ...wanted, ...next].map((logits) => [...logits]);
      }"""
    for seed in range(5):
        draw = torch.Generator().manual_seed(seed)
        places = [torch.arange(16), torch.arange(16).flip(0)][seed] if seed < 2 else torch.randperm(16, generator=draw)
        filled = [[at, int(torch.randint(290, (), generator=draw))] for at in places.tolist()]
        given, chain = [[filled[0]], filled[1:4], [filled[4]]], filled[5:]
        found = engine(code, {"name": name, "given": given, "chain": chain, "kept": 2 * seed})
        count = len(chain)
        assert found[:count] == found[count : 2 * count] and found[-2] == found[-1]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("s.step([[[0, 290]]], [])", "token 290 is outside the vocabulary 0 .. 289"),
        ("s.step([], [32])", "position 32 is not open"),
        ("s.step([[[1, 5]]], [1])", "a position is named twice"),
        ("s.verify([[[1, 5]]], [[1, 5]])", "a position is named twice"),
        ("s.verify([], [[1, 5], [2, 6], [1, 5]])", "a position is named twice"),
        ("(s.verify([], [[1, 5], [2, 6]]), s.step([], [1]))", "position 1 is not open"),
        ("(s.step([[[1, 5]]], []), s.step([], [1]))", "position 1 is not open"),
        ("p.score(model('ours'), [1, 2], [1])", "2 tokens need as many groups, not 1"),
        ("p.score(model('ours'), Array(33).fill(1), Array(33).fill(1))", "33 tokens, but the model takes 32"),
    ],
)
def test_a_wrong_question_is_refused(engine, models, code, message):
    with pytest.raises(JavaScriptError, match=message):
        engine(f"() => {{ const s = new p.Session(model('ours')); return {code}; }}")


# The product


def test_webassembly_and_plain_javascript_agree(engine):
    """At all sizes around those that are computed together; rows of the result do not depend on their neighbours."""
    assert engine("() => p.simdWorks()"), "this engine has WebAssembly with SIMD"
    code = """({ rows, columns, count, whole, scale, x }) => {
        const source = { whole: Int8Array.from(whole), scale: Float32Array.from(scale), rows, columns };
        const input = Float32Array.from(x);
        const [fast, plain] = [true, false].map((wasm) => p.matrices([source], wasm)[0]);
        const alone = Array.from({ length: count }, (_, n) =>
          [...fast.times(input.slice(n * columns, (n + 1) * columns), 1)]).flat();
        const row = new Float32Array(columns);
        fast.row(rows - 1, row, 0);
        return { fast: [...fast.times(input, count)], plain: [...plain.times(input, count)], alone, row: [...row] };
      }"""
    for rows, columns, count in [(1, 1, 1), (3, 7, 2), (5, 8, 3), (4, 9, 8), (9, 70, 15), (2, 16, 33)]:
        draw = torch.Generator().manual_seed(rows)
        whole = torch.randint(-127, 128, (rows, columns), generator=draw)
        scale, x = torch.rand(rows, generator=draw), torch.randn(count, columns, generator=draw)
        whole[0, 0], whole[-1, -1] = -127, 127
        found = engine(
            code,
            {"rows": rows, "columns": columns, "count": count}
            | {"whole": whole.flatten().tolist(), "scale": scale.tolist(), "x": x.flatten().tolist()},
        )
        wanted = (x.double() @ (whole * scale.double()[:, None]).T).flatten()
        for way in ("fast", "plain"):
            torch.testing.assert_close(torch.tensor(found[way]).double(), wanted, atol=1e-4, rtol=1e-5)
        assert found["alone"] == found["fast"]
        torch.testing.assert_close(torch.tensor(found["row"]), whole[-1] * scale[-1])


# The file


def test_a_damaged_file_says_so(engine, tmp_path):
    _, file = saved(tmp_path, "whole", **KINDS["paper"])
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    wrong = {
        b"": "no header",
        whole[:100]: "cut short",
        whole[: header - 1]: "cut short",
        whole[:header]: "cut short",
        whole[:-1]: "cut short",
        b"<!doctype html>" + whole: "no safetensors file",
        whole[:9] + b"!" + whole[10:]: "its header cannot be read",
        whole.replace(b"8 bits, 1", b"8 bits, 2"): "its format is a3mini, 8 bits, 2, and should be a3mini, 8 bits, 1",
        whole.replace(b"query_embedding", b"query_embeddimg"): "it has no model.query_embedding",
        whole.replace(b"q_proj.weight.scale", b"q_proj.weight.scalf"): "has no scale for each row",
        whole.replace(b'"F32"', b'"F16"'): "is of the kind F16",
        whole.replace(b'\\"silu\\"', b'\\"gelu\\"'): 'whose hidden_act is "gelu"',
        whole.replace(b'\\"default\\"', b'\\"dynamic\\"'): "rope_type is dynamic",
    }
    for n, (content, message) in enumerate(wrong.items()):
        engine.put(f"wrong {n}", content)
        with pytest.raises(JavaScriptError, match=message):
            engine(f"() => new p.Model(file('wrong {n}')).size")
    engine.put("right", whole)
    assert engine("() => new p.Model(file('right')).size") == laws.TINY["hidden_size"]


@pytest.mark.parametrize(
    "change",
    [
        {"attention_bias": True},
        {"mlp_bias": True},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_model_of_another_kind_is_refused(engine, tmp_path, change):
    _, file = saved(tmp_path, "other", **change)
    engine.put("other", file)
    with pytest.raises(JavaScriptError, match="the page cannot run a model whose"):
        engine("() => new p.Model(file('other')).size")
