"""Drafts in the page: what is written is what one-by-one decoding writes, in no more passes than tokens (law 6)."""

import itertools
from collections import Counter
from dataclasses import dataclass, field

import laws
import pytest
import torch
from page_engines import JavaScriptError
from page_models import KINDS, OURS, PAPER, all_kinds, saved

from a3mini import groups, speculative
from a3mini.decode import Sampler
from a3mini.notebook import page

BLANK = [0, 0, 1, 1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 3, 3, 3, 3, 0]
ORDERS = [{}, {"order": "random"}, {"order": "strided", "size": 3}]
# the groups that the same seed gives, each position in one of its own
GROUPS = """const singles = (blank, how) => {
    const groups = p.infill(blank, how);
    const open = [...blank.keys()].filter((at) => blank[at]).sort((a, b) => groups[a] - groups[b] || a - b);
    return blank.map((_, at) => 1 + open.indexOf(at));
  };"""
DRAFTED = f"""({{ name, tokens, blank, how, seed }}) => {{
    {GROUPS}
    const rounds = [...p.drafted(model(name), tokens, blank, {{ ...how, random: p.seeded(seed) }})];
    return {{ groups: singles(blank, {{ ...how, random: p.seeded(seed) }}), rounds:
      rounds.map(({{ logits, ...round }}) => ({{ ...round, logits: logits.map((row) => [...row]) }})) }};
  }}"""


@pytest.fixture(scope="module")
def models(tmp_path_factory, engine):
    return all_kinds(tmp_path_factory.mktemp("models"), engine, 40)


def text(seed: int = 0) -> torch.Tensor:
    return torch.randint(290, (len(BLANK),), generator=torch.Generator().manual_seed(seed))


def drafted(engine, name: str, tokens: torch.Tensor, how: dict, seed: int = 0, blank=BLANK):
    """The rounds, and the groups of one position each."""
    asked = {"name": name, "tokens": tokens.tolist(), "blank": blank, "how": how, "seed": seed}
    answer = engine(DRAFTED, asked)
    return answer["rounds"], answer["groups"]


def every(rounds: list[dict], part: str) -> list:
    return [value for one in rounds for value in one[part]]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("how", ORDERS, ids=str)
def test_greedy_drafts_are_those_of_the_package(engine, models, name, how):
    """The same rounds: what is drafted in each, what is kept, what is rejected, and how many passes that takes."""
    model, passes = models[name], set()
    for seed, draft in itertools.product(range(3), (1, 2, 4, 99)):
        tokens = text(seed)
        rounds, group_ids = drafted(engine, name, tokens, {**how, "draft": draft, "temperature": 0}, seed)
        read, known = groups.read_given(torch.tensor(group_ids), model.config.known_order)
        wanted = speculative.generate(
            model, tokens[None], read[None], known[None], draft=draft, temperature=0, runners_up=0
        )
        steps = wanted.trace.steps[0]
        written = tokens.clone()
        written[every(rounds, "positions")] = torch.tensor(every(rounds, "tokens"))
        assert written.tolist() == wanted.sequences[0].tolist()
        assert sum(one["passes"] for one in rounds) == steps[-1].passes
        commits = [step for step in steps if step.action == "commit"]
        assert every(rounds, "positions") == [at for step in commits for at in step.positions]
        log_probs = [value for step in commits for value in step.log_probs]
        assert every(rounds, "logProbs") == pytest.approx(log_probs, abs=1e-3)
        rejects = [
            pair for step in steps if step.action == "reject" for pair in zip(step.positions, step.tokens, strict=True)
        ]
        assert sorted((one["position"], one["token"]) for one in every(rounds, "rejected")) == sorted(rejects)
        passes.add(sum(one["passes"] for one in rounds))
    assert len(passes) > 1


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("how", [{}, {"order": "random"}], ids=str)
def test_greedy_drafts_are_one_by_one_decoding(engine, models, name, how):
    """To the last bit."""
    code = """({ name, tokens, blank, how, seed }) => {
        const steps = [...p.fill(model(name), tokens, blank, { ...how, random: p.seeded(seed) })];
        return steps.flatMap(({ positions, tokens, logProbs }) => [[positions[0], tokens[0], logProbs[0]]]);
      }"""
    for seed in range(3):
        how = {**how, "temperature": 0, "draft": 5, "banned": [3, 4, 200]}
        tokens = text(10 + seed)
        rounds, _ = drafted(engine, name, tokens, how, seed)
        found = zip(*(every(rounds, part) for part in ("positions", "tokens", "logProbs")), strict=True)
        asked = {"name": name, "tokens": tokens.tolist(), "blank": BLANK, "how": how, "seed": seed}
        assert [list(one) for one in found] == engine(code, asked)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("how", ORDERS, ids=str)
@pytest.mark.parametrize("known_order", ["together", "left_to_right"])
def test_every_round_says_what_it_did(engine, models, name, how, known_order):
    """Its logits are those of one pass over the whole text that was written, to the last bit; and its parts fit."""
    code = """({ name, tokens, blank, groups, how }) => {
        const inOrder = how.knownOrder === "left_to_right";
        const read = groups.map((group, at) => (group ? tokens.length + group : inOrder ? at : 0));
        const known = blank.map((number) => number === 0);
        return [...p.predict(model(name), tokens, read, { known })].map(([at, logits]) => [at, [...logits]]);
      }"""
    kept = rejected = 0
    for seed, draft in itertools.product(range(3), (1, 3, 6)):
        tokens, how = text(20 + seed), {**how, "draft": draft, "temperature": 0.3, "knownOrder": known_order}
        rounds, group_ids = drafted(engine, name, tokens, how, seed)
        order = sorted((at for at, group in enumerate(group_ids) if group), key=lambda at: group_ids[at])
        positions, drawn = every(rounds, "positions"), every(rounds, "tokens")
        assert positions == order
        written = tokens.clone()
        written[positions] = torch.tensor(drawn)
        asked = {"name": name, "tokens": written.tolist(), "blank": BLANK, "groups": group_ids, "how": how}
        exact = dict(engine(code, asked))
        assert every(rounds, "logits") == [exact[at] for at in positions]
        wanted = torch.tensor([exact[at] for at in positions]).log_softmax(-1).gather(1, torch.tensor(drawn)[:, None])
        assert every(rounds, "logProbs") == pytest.approx(wanted[:, 0].tolist(), abs=1e-5)

        done = 0
        for one in rounds:
            drafts = [(draft["position"], draft["token"]) for draft in one["drafts"]]
            lost = [(draft["position"], draft["token"]) for draft in one["rejected"]]
            filled = list(zip(one["positions"], one["tokens"], strict=True))
            good = len(drafts) - len(lost)
            assert [at for at, _ in drafts] == order[done : done + draft]
            assert lost == drafts[good:] and filled[:good] == drafts[:good] and good >= 1
            assert len(filled) == good + bool(lost)
            if lost:
                assert filled[-1][0] == lost[0][0] and filled[-1][1] != lost[0][1]
            assert one["passes"] == (2 if len(drafts) > 1 else 1) <= len(filled)
            done, kept, rejected = done + len(filled), kept + good - 1, rejected + len(lost)
    assert kept > 3 and rejected > 3


def test_passes_are_counted_right(engine, models):
    code = """({ tokens, blank, draft }) => {
        const counted = Object.create(model("ours"));
        let count = 0;
        counted.run = (...given) => {
          count += 1;
          return model("ours").run(...given);
        };
        const rounds = [...p.drafted(counted, tokens, blank, { draft, random: p.seeded(1) })];
        return [count, rounds.map(({ passes }) => passes)];
      }"""
    for draft in (1, 2, 5):
        count, passes = engine(code, {"tokens": text().tolist(), "blank": BLANK, "draft": draft})
        assert count == sum(passes) <= sum(number > 0 for number in BLANK)
        assert draft > 1 or set(passes) == {1}


def test_a_text_without_blanks_and_wrong_questions(engine, models):
    assert drafted(engine, "ours", text(), {}, blank=[0] * len(BLANK))[0] == []
    with pytest.raises(JavaScriptError, match="draft must be at least 1; got 0"):
        drafted(engine, "ours", text(), {"draft": 0})
    with pytest.raises(JavaScriptError, match="order must be left_to_right, random or strided; got entropy"):
        drafted(engine, "ours", text(), {"order": "entropy"})


# Law 6: the distribution

V, SAMPLES = 3, 6_000
RIGHT, WRONG = 1e-3, 1e-6  # p-values: above the first is what exact samples have, below the second is a mistake
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY = {"vocab_size": V, "num_key_value_heads": 1, "max_position_embeddings": 8, **SMALL}
# many fillings with one stream of random numbers, of which the first few, always the same ones, give the order
SAMPLE = f"""({{ name, tokens, blank, how, first, count, script }}) => {{
    const drafted = script ? new Function(script + "\\nreturn drafted;")() : p.drafted;
    {GROUPS}
    const stream = p.seeded(5);
    const ordered = () => {{
      let next = how.order === "random" ? 0 : first.length;
      return () => (next < first.length ? first[next++] : stream());
    }};
    const counts = {{}};
    for (let n = 0; n < count; n++) {{
      const text = [...tokens];
      for (const round of drafted(model(name), tokens, blank, {{ ...how, random: ordered() }})) {{
        round.positions.forEach((at, n) => (text[at] = round.tokens[n]));
      }}
      const found = text.filter((_, at) => blank[at]);
      counts[found] = (counts[found] ?? 0) + 1;
    }}
    return {{ counts, groups: singles(blank, {{ ...how, random: ordered() }}) }};
  }}"""


@dataclass(frozen=True)
class Case:
    how: dict
    blank: list[int] = field(default_factory=lambda: [0, 1, 1, 1, 1])
    name: str = "warm"


CASES = {
    "drafts of 2": Case({"draft": 2}),
    "drafts longer than the text": Case({"draft": 9}),
    "one by one": Case({"draft": 1}),
    "random": Case({"order": "random"}, [0, 1, 1, 0, 2, 2]),
    "strided": Case({"order": "strided", "size": 2}),
    "cold": Case({"draft": 3}, name="cold"),
    "cold, random": Case({"order": "random", "draft": 3}, [0, 1, 1, 0, 2, 2], "cold"),
    "temperature": Case({"order": "random", "temperature": 0.5}, [0, 1, 1, 0, 2, 2]),
    "top p": Case({"topP": 0.8, "draft": 3}),
    "banned, with all the rest": Case(
        {"order": "random", "banned": [2], "temperature": 1.3, "topP": 0.95}, [0, 1, 1, 0, 2, 2]
    ),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, engine):
    folder, found = tmp_path_factory.mktemp("tiny"), {}
    for name, kind in (("warm", OURS), ("cold", PAPER)):
        found[name], file = saved(folder, name, 4, **kind, **TINY)
        engine.put(name, file)
    return found


@torch.no_grad()
def exact(model, case: Case, tokens: list[int], group_ids: list[int]) -> dict[str, float]:
    """The probability of every filling in one-by-one decoding, by enumeration in the package."""
    open_ = [at for at, number in enumerate(case.blank) if number]
    fillings = list(itertools.product(range(V), repeat=len(open_)))
    rows = torch.tensor(tokens).repeat(len(fillings), 1)
    rows[:, open_] = torch.tensor(fillings)
    read, _ = groups.read_given(torch.tensor(group_ids), model.config.known_order)
    logits = model(rows, read.expand_as(rows), return_logits=True).logits
    how = case.how
    sampler = Sampler(how.get("temperature", 1.0), top_p=how.get("topP"), banned=how.get("banned", ()))
    chances = torch.ones(len(rows), dtype=torch.float64)
    for at in open_:
        chances *= sampler.probabilities(logits[:, at]).gather(1, rows[:, at, None])[:, 0].double()
    assert abs(chances.sum() - 1) < 1e-5
    return {",".join(map(str, filling)): chance for filling, chance in zip(fillings, chances.tolist(), strict=True)}


def p_value(engine, models, case: Case, script: str | None = None) -> float:
    tokens = [1, 2, 0, 1, 2, 0][: len(case.blank)]
    asked = {"name": case.name, "tokens": tokens, "blank": case.blank, "how": case.how, "script": script}
    found = engine(SAMPLE, {**asked, "first": [0.9, 0.1, 0.9], "count": SAMPLES})
    if case.how.get("order") == "random":
        assert found["groups"] == [0, 3, 2, 0, 1, 4]  # a position whose left neighbour is drafted with it, and later
    expected = exact(models[case.name], case, tokens, found["groups"])
    assert sum(found["counts"].values()) == SAMPLES
    result = laws.chi_squared(Counter(found["counts"]), expected)
    print("chi2 = {:.1f}, df = {}, p = {:.3g}".format(*result))
    return result[2]


@pytest.mark.parametrize("name", CASES)
def test_samples_follow_the_exact_distribution(engine, tiny, name):
    assert p_value(engine, tiny, CASES[name]) > RIGHT


ACCEPT = "failed = random() * p[n][token] >= q[token];"
REDRAWN = "pick(residual(q, p[n]), random)"
Q = "const q = probabilities(logits[n], options);"
SEES = "wanted.map((_, n) => filled.length + n)"
MUTANTS = {
    "every draft is accepted": (ACCEPT, "failed = false;", "random"),
    "accepted with probability q": (ACCEPT, "failed = random() >= q[token];", "random"),
    "the ratio upside down": (ACCEPT, "failed = random() * q[token] >= p[n][token];", "random"),
    "drawn again from q": (REDRAWN, "pick(q, random)", "random"),
    "drawn again from p": (REDRAWN, "pick(p[n], random)", "random"),
    "the residual of both sides": ("Math.max(0, chance - p[token])", "Math.abs(chance - p[token])", "random"),
    "drawn again at temperature 1": (
        REDRAWN,
        "pick(residual(probabilities(logits[n]), p[n]), random)",
        "temperature",
    ),
    "stale cache": ("this.cache.keep(columns);", "", "drafts longer than the text"),
    "verified at temperature 1": (Q, "const q = probabilities(logits[n]);", "temperature"),
    "verified without truncation": (Q, "const q = probabilities(logits[n]);", "top p"),
    "a row sees its own token": (SEES, "wanted.map((_, n) => filled.length + Math.min(n + 1, singles.length))", "cold"),
    "a row does not see the draft before": (SEES, "wanted.map((_, n) => filled.length + Math.max(n - 1, 0))", "cold"),
    "a row starts from what stands behind": (
        "(seen(position - 1, row) ? this.tokens[position - 1] : undefined)",
        "this.tokens[position - 1]",
        "random",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mistakes_are_found(engine, tiny, name):
    old, new, of = MUTANTS[name]
    script = page.script()
    assert script.count(old) == 1, f"the mutant does not fit the code any more: {old}"
    assert p_value(engine, tiny, CASES[of], script.replace(old, new)) < WRONG
