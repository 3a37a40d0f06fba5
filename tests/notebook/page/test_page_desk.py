"""What a page asks of the model: marked texts, steps that the reader may change at any time, and second thoughts."""

import itertools
import math

import pytest
import small_tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from page_engines import JavaScriptError
from page_models import OURS, PAPER, saved

from a3mini import groups, objective
from a3mini.notebook.explorers import playground
from a3mini.objective import labels_for

END = 0  # the token that ends a blank: <pad>
TEXT = "Tom had a [red kite]. ____ He was [happy] again."
DESK = "(globalThis.desks ??= {}, (name) => globalThis.desks[name] ??= new p.Desk(file(name)))"
ROUND = f"""({{ name, text }}) => {{
    const words = ({DESK})(name).read({{ text }});
    const again = p.write(words);
    return {{ words, again, twice: p.write(({DESK})(name).read({{ text: again }})) }};
  }}"""
# Fill a text to its end; at each step the whole board goes to the desk, as in the page.
FILL = f"""({{ name, text, how, room, last }}) => {{
    const desk = ({DESK})(name);
    const words = desk.read({{ text }});
    const board = {{ ...p.layOut(words, desk.about().start, room), turns: [], closed: [] }};
    const gaps = words.flatMap(({{ kind }}, n) => (kind === "gap" ? [board.blank[board.word.indexOf(n)]] : []));
    const steps = [];
    const open = () => board.blank.filter((blank, at) => blank > 0 && !board.closed.includes(at)
      && !board.turns.flat().some(([other]) => other === at)).length;
    for (let draws = 0; open() && draws < (last ?? 99); draws++) {{
      const step = desk.step({{ board, how: {{ ...how, draws }}, gaps: how.ends ? gaps : [] }});
      steps.push(step);
      board.turns.push(...step.turns.map((turn) => turn.map(({{ position, id }}) => [position, id])));
      board.closed.push(...step.stopped);
    }}
    return {{ board, steps, gaps }};
  }}"""
ASK = f"({{ name, question, given }}) => ({DESK})(name)[question](given)"
ASK_ALL = f"({{ name, question, given }}) => [...({DESK})(name)[question](given)]"
HOW = {"order": "left_to_right", "size": 1, "bound": None, "temperature": 1, "seed": 1}


@pytest.fixture(scope="module")
def models(tmp_path_factory, engine):
    folder = tmp_path_factory.mktemp("models")
    kinds = {"ours": OURS | {"empty_token_id": END}, "paper": PAPER | {"empty_token_id": None}}
    made = {
        name: saved(folder, name, n, **kind, max_position_embeddings=64) for n, (name, kind) in enumerate(kinds.items())
    }
    for name, (_, file) in made.items():
        engine.put(name, file)
    return {name: model for name, (model, _) in made.items()}


def fill(engine, name="ours", text=TEXT, room=6, last=None, ends=True, **how):
    return engine(FILL, {"name": name, "text": text, "how": {**HOW, "ends": ends, **how}, "room": room, "last": last})


def score(model, board) -> torch.Tensor:
    """Log-probabilities of what is filled, by the package, (T,)."""
    group_ids, given = torch.full((1, len(board["tokens"])), groups.PADDING), torch.tensor(board["blank"]) == 0
    tokens = torch.tensor([board["tokens"]])
    group_ids[0, given] = groups.GIVEN
    for number, turn in enumerate(board["turns"], start=1):
        for at, token in turn:
            group_ids[0, at], tokens[0, at] = number, token
    group_ids, known = groups.read_given(group_ids, model.config.known_order)
    labels = labels_for(tokens, group_ids, known)[0]
    with torch.no_grad():
        logits = model(tokens, group_ids, return_logits=True).logits[0]
    return logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[:, None])[:, 0]


# Texts


def test_a_marked_text(engine, models):
    found = engine(ROUND, {"name": "ours", "text": TEXT})
    kinds = [(word["kind"], word["text"]) for word in found["words"]]
    assert kinds[3:6] == [("hidden", " red"), ("hidden", " kite"), ("given", ".")]
    assert kinds[6] == ("gap", " ____") and ("hidden", " happy") in kinds
    assert found["again"] == TEXT
    assert all("".join(word["letters"]) == word["text"] for word in found["words"] if word["kind"] != "gap")


def test_marked_texts_are_read_as_python_reads_them_and_written_back(engine, models):
    tokenizer = small_tokenizers.byte_level()
    parts = st.sampled_from(
        ["[", "]", "____", "___", "_", " ", "  ", "\n", "cat", "'s", " dog", ".", "[a b]", "[]", "é", "🙂"]
    )

    @settings(max_examples=150, deadline=None)
    @given(st.lists(parts, max_size=12).map("".join))
    def check(text):
        found = engine(ROUND, {"name": "ours", "text": text})
        words = [{key: word[key] for key in ("kind", "text", "ids")} for word in found["words"]]
        assert words == playground.read(tokenizer, text)
        assert found["again"] == found["twice"]

    check()


def test_where_everything_stands(engine, models):
    board = fill(engine, last=0)["board"]
    red, kite, happy = (len(small_tokenizers.byte_level().encode(word)) for word in (" red", " kite", " happy"))
    blank = board["blank"]
    assert [blank.count(n) for n in (1, 2, 3)] == [red + kite, 6, happy] and max(blank) == 3
    assert all((truth is None) == (number in (0, 2)) for truth, number in zip(board["truth"], blank, strict=True))


# Steps


@pytest.mark.parametrize("name", ["ours", "paper"])
@pytest.mark.parametrize(
    "how",
    [{}, {"order": "random", "size": 2}, {"order": "strided", "size": 3}, {"order": "confidence"},
     {"order": "entropy", "size": None, "bound": 2.0}, {"order": "drafts", "size": 3}],
    ids=str,
)  # fmt: skip
def test_what_each_token_has_is_the_package_s(engine, models, name, how):
    found = fill(engine, name, ends=name == "ours" and not how, **how)
    board, expected = found["board"], score(models[name], found["board"])
    for step in found["steps"]:
        assert step["turns"]
        for token in itertools.chain(*step["turns"]):
            assert token["logProb"] == pytest.approx(float(expected[token["position"]]), abs=1e-3)
            others = [other["logProb"] for other in token["runnersUp"]]
            assert others == sorted(others, reverse=True) and token["id"] not in [
                one["id"] for one in token["runnersUp"]
            ]
            assert math.exp(token["logProb"]) + sum(map(math.exp, others)) <= 1 + 1e-4
            truth = board["truth"][token["position"]]
            assert (token["truth"] or {}).get("id") == truth
    again = engine(ASK, {"name": name, "question": "scored", "given": {"board": board}})["turns"]
    for turn, before in zip(again, itertools.chain(*(step["turns"] for step in found["steps"])), strict=True):
        for one, other in zip(turn, before, strict=True):
            assert one["logProb"] == pytest.approx(other["logProb"], abs=1e-3) and one["id"] == other["id"]


def test_only_gaps_end(engine, models):
    seen = set()
    for seed in range(1, 30):
        found = fill(engine, text="A [b] ____ c [d]", room=40, temperature=3, seed=seed)
        ends = [token["position"] for step in found["steps"] for token in step["turns"][0] if token["id"] == END]
        board = found["board"]
        assert all(board["blank"][at] == 2 for at in ends) and found["gaps"] == [2]
        gap = [at for at, blank in enumerate(board["blank"]) if blank == 2]
        assert sorted(board["closed"]) == [at for at in gap if ends and at > ends[0]]
        seen.add(len(ends))
    assert seen == {0, 1}, "some gaps end, and some use up their room"


def test_a_seed_is_a_text(engine, models):
    texts = [[turn for turn in fill(engine, seed=seed, ends=False)["board"]["turns"]] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_the_reader_may_choose_the_position(engine, models):
    board = fill(engine, last=0)["board"]
    at = max(at for at, blank in enumerate(board["blank"]) if blank == 1)
    step = engine(
        ASK, {"name": "ours", "question": "step", "given": {"board": board, "how": {**HOW, "draws": 0}, "position": at}}
    )
    assert [token["position"] for token in step["turns"][0]] == [at]
    assert step["turns"][0][0]["id"] != END


def test_a_board_that_was_changed_is_read_anew(engine, models):
    """Whatever was computed before, the next step is that of a fresh desk."""
    found = fill(engine, last=4)
    board = found["board"]
    question = {"board": board, "how": {**HOW, "temperature": 0, "draws": 9}}
    fill(engine, text="Something else. [Or] not.")  # the desk has followed another text since
    for change in (lambda: None, lambda: board["turns"].pop(1), lambda: board["turns"][0][0].__setitem__(1, 7)):
        change()
        kept = engine(ASK, {"name": "ours", "question": "step", "given": question})["turns"]
        fresh = engine("({ given }) => new p.Desk(file('ours')).step(given)", {"given": question})["turns"]
        assert kept == fresh


def test_nothing_open_is_said(engine, models):
    with pytest.raises(JavaScriptError, match="nothing is open"):
        fill_all = fill(engine)["board"]
        engine(ASK, {"name": "ours", "question": "step", "given": {"board": fill_all, "how": {**HOW, "draws": 0}}})


def test_a_round_of_drafts(engine, models):
    """The verified text is that of one by one where the likeliest is always taken; the rejected drafts are told."""
    plain, rejected = fill(engine, ends=False, temperature=0)["board"], 0
    found = fill(engine, ends=False, order="drafts", size=3, temperature=0)
    assert found["board"]["turns"] == plain["turns"]
    for step in found["steps"]:
        kept = {token["position"]: token["letters"] for turn in step["turns"] for token in turn}
        lost = {one["position"]: one["letters"] for one in step["rejected"]}
        assert step["passes"] == (2 if len(step["drafts"]) > 1 else 1)
        assert all(kept[one["position"]] == one["letters"] for one in step["drafts"] if one["position"] not in lost)
        rejected += len(lost)
    assert rejected > 0


# Second thoughts


@pytest.mark.parametrize("name", ["ours", "paper"])
def test_what_it_thinks_of_a_text(engine, models, name):
    tokens = [1, *small_tokenizers.byte_level().encode("The old dog was happy again.")]
    words = [[1, 2], [3], [4, 5]]
    given = {"tokens": tokens, "words": words}
    first, *rest = engine(ASK_ALL, {"name": name, "question": "opinion", "given": given})
    ids = torch.tensor([tokens])
    with torch.no_grad():
        left = objective.log_likelihood(models[name], ids, groups.left_to_right(len(tokens), 1)[None])
    nats = {order["name"]: order["nats"] for order in first["orders"]}
    assert nats["left to right"] == pytest.approx(-float(left), abs=1e-2) and len(nats) == 5
    assert first["tokens"] == len(tokens) - 1
    assert [part["word"]["word"] for part in rest[:-1]] == words
    fit = sorted(
        words, key=lambda word: next(p["word"]["both"] for p in rest[:-1] if p["word"]["word"] == word) / len(word)
    )
    assert rest[-1] == {"worst": fit[:3]}


def test_where_a_head_looks(engine, models):
    board = fill(engine, last=3)["board"]
    filled = [at for turn in board["turns"] for at, _ in turn]
    opened = next(at for at, blank in enumerate(board["blank"]) if blank == 3)
    given = [at for at, blank in enumerate(board["blank"]) if blank == 0]
    for position, sees in ((filled[1], [*given, filled[0]]), (opened, [*given, *filled])):
        question = {"board": board, "position": position, "layer": 1, "head": 0}
        weights = dict(engine(ASK, {"name": "ours", "question": "attention", "given": question})["weights"])
        assert sorted(weights) == sorted(sees) and sum(weights.values()) == pytest.approx(1, abs=1e-4)


# A port


def test_answers_come_through_a_port(engine, models):
    code = """async ({ board }) => {
        const { port1, port2 } = new MessageChannel();
        const heard = [];
        port2.onmessage = ({ data }) => heard.push(data);
        p.serve(port1);
        port2.postMessage({ id: 1, name: "open", given: { buffer: file("ours"), wasm: false } });
        port2.postMessage({ id: 2, name: "opinion", given: { tokens: board.tokens, words: [[1], [2], [3]] } });
        port2.postMessage({ id: 3, name: "step", given: { board: { ...board, blank: [] } } });
        const answered = () => heard.filter(({ part }) => !part).length;
        for (let n = 0; n < 200 && answered() < 3; n++) await new Promise((next) => setTimeout(next, 10));
        port1.close();
        return heard;
      }"""
    board = fill(engine, last=0)["board"]
    heard = engine(code, {"board": board})
    assert heard[0]["id"] == 1 and heard[0]["result"]["length"] == 64 and heard[0]["result"]["ends"] is True
    assert [set(one) - {"id"} for one in heard if one["id"] == 2] == [{"part"}] * 5 + [{"result"}]
    assert [one["id"] for one in heard].index(3) < len(heard) - 1, "a step does not wait for the opinion's end"
    assert "error" in next(one for one in heard if one["id"] == 3)
