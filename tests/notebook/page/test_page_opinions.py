"""What the model thinks of a text, in the page: the numbers of the package, and no more work than that takes."""

import pytest
import torch
from page_engines import JavaScriptError
from page_models import KINDS, all_kinds

from a3mini import groups, objective

CLOSE = 1e-3
LENGTH = 20
IN_ORDER = [[1], [2, 3, 4], [5], [7, 8], [12, 13, 14, 15], [18, 19]]  # the first token, the last, and not all of them
MIXED = [[5], [18, 19], [2, 3], [4, 5, 6], [5], [1], [19]]
ONE_BY_ONE = "({ name, tokens, words }) => [...p.oneByOne(model(name), tokens, words)]"


@pytest.fixture(scope="module")
def models(tmp_path_factory, engine):
    return all_kinds(tmp_path_factory.mktemp("models"), engine, 20)


def text(seed: int = 0, length: int = LENGTH) -> torch.Tensor:
    return torch.randint(290, (length,), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def scored(model, tokens: torch.Tensor, group_ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (T,) of the package; given tokens read each other as the model was trained."""
    read, known = groups.read_given(group_ids, model.config.known_order)
    return objective.log_likelihood(model, tokens[None], read[None], known[None], reduction="token")[0]


@pytest.mark.parametrize("name", ["paper", "ours"])
@pytest.mark.parametrize("how", [{}, {"size": 3}, {"order": "strided", "size": 4}, {"order": "random"}], ids=str)
def test_an_opinion_is_that_of_the_package(engine, models, name, how):
    tokens = text(1)
    code = """({ name, tokens, how }) => {
        const random = () => p.seeded(3);
        const blank = tokens.map((_, at) => (at ? 1 : 0));
        const groups = p.infill(blank, { ...how, random: random() });
        return { groups, found: [...p.opinion(model(name), tokens, { ...how, random: random() })] };
      }"""
    answer = engine(code, {"name": name, "tokens": tokens.tolist(), "how": how})
    found, group_ids = torch.tensor(answer["found"]), torch.tensor(answer["groups"])
    torch.testing.assert_close(found, scored(models[name], tokens, group_ids), atol=CLOSE, rtol=0)
    assert found[0] == 0 and (found[1:] < 0).all()


def test_a_text_of_the_start_token_alone(engine, models):
    assert engine("() => [[...p.opinion(model('ours'), [7])], [...p.oneByOne(model('ours'), [7], [])]]") == [[0], []]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("words", [IN_ORDER, MIXED], ids=["in order", "mixed"])
def test_words_are_those_of_the_package(engine, models, name, words):
    tokens = text(2)
    found = engine(ONE_BY_ONE, {"name": name, "tokens": tokens.tolist(), "words": words})
    assert [one["word"] for one in found] == words
    in_turn = scored(models[name], tokens, groups.left_to_right(LENGTH))
    for one, word in zip(found, words, strict=True):
        both = torch.zeros(LENGTH, dtype=torch.int64)
        both[word] = torch.arange(1, 1 + len(word))
        assert one["both"] == pytest.approx(scored(models[name], tokens, both).sum().item(), abs=CLOSE)
        assert one["left"] == pytest.approx(in_turn[word].sum().item(), abs=CLOSE)
        if models[name].config.known_order == "left_to_right":
            left = both.clone()
            left[word[-1] + 1 :] = groups.PADDING  # what is never seen
            assert one["left"] == pytest.approx(scored(models[name], tokens, left).sum().item(), abs=CLOSE)
    assert sum(abs(one["both"] - one["left"]) > 0.05 for one in found) > len(words) / 2


@pytest.mark.parametrize("name", ["paper", "ours"])
@pytest.mark.parametrize("words", [IN_ORDER, MIXED], ids=["in order", "mixed"])
def test_words_are_those_of_a_fresh_pass_to_the_last_bit(engine, models, name, words):
    """One pass over the whole text for each word, with nothing left from the word before."""
    code = """({ name, tokens, words }) => words.map((word) => {
        const inOrder = model(name).config.known_order === "left_to_right";
        const groups = tokens.map((_, at) => {
          if (word.includes(at)) return tokens.length + word.indexOf(at);
          return inOrder ? at : 0;
        });
        const known = tokens.map((_, at) => !word.includes(at));
        const scores = [...p.predict(model(name), tokens, groups, { known })];
        return scores.reduce((sum, [at, logits]) => sum + p.logSoftmax(logits)[tokens[at]], 0);
      })"""
    asked = {"name": name, "tokens": text(3).tolist(), "words": words}
    assert [one["both"] for one in engine(ONE_BY_ONE, asked)] == engine(code, asked)


@pytest.mark.parametrize(("words", "again"), [(IN_ORDER, [0, 1, 2, 5, 7, 12]), (MIXED, [0, 5, 2, 2, 4, 1, 1])])
def test_what_is_left_of_both_words_is_not_computed_again(engine, models, words, again):
    code = """({ name, tokens, words }) => {
        const counted = Object.create(model(name));
        const counts = [];
        counted.run = (cache, content, ...rest) => {
          counts.push(content.tokens.length);
          return model(name).run(cache, content, ...rest);
        };
        for (const _ of p.oneByOne(counted, tokens, words));
        return counts;
      }"""
    tokens = text(4).tolist()
    # the first pass is that from left to right, and in each a last token that nobody sees is left out
    ours, paper = (engine(code, {"name": name, "tokens": tokens, "words": words}) for name in ("ours", "paper"))
    assert ours == [LENGTH - 1, *(LENGTH - 1 - same for same in again)]
    assert paper == [LENGTH - 1] * (1 + len(words))


def test_the_worst_words(engine):
    code = "({ found, count }) => p.worst(found, count)"
    found = [
        {"word": [1], "both": -3.0},
        {"word": [2, 3], "both": -8.0},
        {"word": [4], "both": -4.0},
        {"word": [5], "both": -9.0},
        {"word": [6, 7, 8], "both": -10.5},
    ]
    ranked = [[5], [2, 3], [4], [6, 7, 8], [1]]  # per token: 9, 4, 4, 3.5, 3
    for count in (0, 1, 2, 4, 9):
        assert engine(code, {"found": found, "count": count}) == ranked[:count]
    assert engine(code, {"found": found[::-1], "count": 3}) == [[5], [4], [2, 3]], "of equals the first"
    same = """(found) => { p.worst(found, 2); return found; }"""
    assert engine(same, found) == found, "what is given stays as it is"


@pytest.mark.parametrize("word", [[], [0], [0, 1], [3, 5], [4, 3], [3, 3], [19, 20], [20], [-1]], ids=str)
def test_what_is_no_word_is_refused(engine, models, word):
    with pytest.raises(JavaScriptError, match="is no word: it needs positions from 1 to 19, one after another"):
        engine(ONE_BY_ONE, {"name": "ours", "tokens": text().tolist(), "words": [[1], word]})
