"""The laws of DESIGN as functions that raise AssertionError, so that tests can also show what breaks them.

The oracle for both streams at any grouping is Hugging Face's Llama: give it the T token embeddings and then
T copies of w as inputs, both at positions 0 .. T-1, and a mask that lets nobody see the copies. Its first T
rows are then the content stream and its last T rows the query stream. With ``query_start="previous"`` some copies of w
are a token's embedding at its position instead; ``starts_by_loop`` says which.
"""

import functools
import inspect
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple
from unittest import mock

import torch
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from a3mini import A3Config, A3ForCausalLM, from_autoregressive, groups, masks, objective, rows
from a3mini.attention import A3RMSNorm, Visibility
from a3mini.decode import Generation
from a3mini.decode.steps import Steps
from a3mini.head import Head

TINY = {
    "vocab_size": 11,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}
EXACT = 1e-9  # in float64


def strong_llama(seed: int = 0, **changes) -> LlamaForCausalLM:
    """A tiny random Llama, float64, whose weights are large enough that context matters (see ``context_effect``)."""
    return strong_source(LlamaConfig(**{**TINY, **changes}), seed)


def strong_source(config: PreTrainedConfig, seed: int = 0) -> PreTrainedModel:
    """The same for a config of any Llama-like kind: every norm, bias and matrix is such that its loss would show."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).double().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.copy_(1 + 0.3 * torch.randn_like(weight))
            elif name.endswith("bias"):
                weight.copy_(0.3 * torch.randn_like(weight))
            elif "embed" not in name and "lm_head" not in name:
                weight.mul_(10)
            else:
                weight.mul_(25 if "embed" in name and not model.config.tie_word_embeddings else 8)
    return model


def strong_model(seed: int = 0, query_start: str = "vector", **changes) -> A3ForCausalLM:
    """The same weights as A3, with a random w."""
    model = from_autoregressive(strong_llama(seed, **changes), dtype=torch.float64, query_start=query_start)
    with torch.no_grad():
        model.model.query_embedding.normal_()
    assert context_effect(model) >= 0.1, "the model hardly uses its context, so the laws would test nothing"
    return model


def loving(model: A3ForCausalLM, wanted: dict[int, float]) -> A3ForCausalLM:
    """The model with another head: whatever it sees, these tokens have these logits, and all others -50."""
    head = Head(model.config.hidden_size, model.config.vocab_size).double()
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(-50.0)
        head.bias[list(wanted)] = torch.tensor(list(wanted.values()), dtype=torch.float64)
    model.lm_head = head
    return model


def in_double(model: A3ForCausalLM) -> A3ForCausalLM:
    """The same model with the norms' statistics in its own precision.

    Llama takes them in float32. There, a sum in another order can flip a rounding, which ``EXACT`` would not allow
    when two ways to compute the same thing are compared.
    """

    def norm(module: A3RMSNorm, x: Tensor) -> Tensor:
        return module.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + module.eps)

    for module in model.modules():
        if isinstance(module, A3RMSNorm):
            module.forward = functools.partial(norm, module)
    return model


@torch.no_grad()
def context_effect(model: A3ForCausalLM, length: int = 6, samples: int = 32) -> float:
    """Mean total variation between the last token's conditionals under two random contexts."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (2 * samples, length), generator=generator)
    group_ids = torch.zeros_like(ids)
    group_ids[:, -1] = 1
    first, second = model(ids, group_ids).logits[:, -1].softmax(-1).chunk(2)
    return 0.5 * (first - second).abs().sum(-1).mean().item()


@torch.no_grad()
def parity(model: A3ForCausalLM, llama: LlamaForCausalLM, input_ids: Tensor, tolerance: float = EXACT) -> float:
    """Law 1: at left-to-right singletons the content stream is the source model. Returns the largest difference."""
    group_ids = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    ours = model(input_ids, group_ids, content_logits=True, return_logits=False).content_logits
    difference = (ours - llama(input_ids).logits).abs().max().item()
    assert difference <= tolerance, f"content logits differ from Llama's by {difference}"
    return difference


@torch.no_grad()
def query_parity(
    model: A3ForCausalLM, llama: LlamaForCausalLM, input_ids: Tensor, tolerance: float = EXACT, **asked
) -> float:
    """Law 1 for the warm start: at left-to-right singletons the query stream, too, is the source model, one token on.

    Args:
        asked: what else the model is asked for, such as ``content_logits=True``.

    Returns:
        the largest difference.
    """
    group_ids = groups.left_to_right(input_ids.shape[1]).to(input_ids.device).expand_as(input_ids)
    ours = model(input_ids, group_ids, **asked).logits
    difference = (ours[:, 1:] - llama(input_ids).logits[:, :-1]).abs().max().item()
    assert difference <= tolerance, f"query logits differ from Llama's of the token before by {difference}"
    return difference


def starts_by_loop(start: str, tokens: Tensor, group_ids: Tensor, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What a query row at each position starts from, (B, T) each: a token or ``FROM_VECTOR``, and where it stands."""
    found, places = torch.full_like(tokens, rows.FROM_VECTOR), torch.zeros_like(tokens)
    for b in range(len(tokens)):
        for i in range(tokens.shape[1]):
            places[b, i] = i
            if start == "vector" or i == 0 or not 0 <= group_ids[b, i - 1] < group_ids[b, i]:
                continue
            if seen is None or seen[b, i - 1]:
                found[b, i], places[b, i] = tokens[b, i - 1], i - 1
    return found, places


def mutate_starts(monkeypatch, old: str, new: str) -> None:
    """Make one mistake in ``rows.Starts.of``."""
    source = inspect.getsource(rows)
    assert source.count(old) == 1, f"the mutant does not fit the code any more: {old}"
    mutant = ModuleType("mutant")
    exec(source.replace(old, new), mutant.__dict__)
    monkeypatch.setattr(rows.Starts, "of", mutant.Starts.of)
    monkeypatch.setattr(rows, "tokens_before", mutant.tokens_before)


@torch.no_grad()
def llama_as_two_streams(
    model: A3ForCausalLM, input_ids: Tensor, group_ids: Tensor, kind: PreTrainedConfig | None = None
) -> tuple[Tensor, Tensor]:
    """Content and query logits (B, T, V) computed by Hugging Face's Llama; see the top of this file.

    Args:
        kind: the config of the model's source, if that is no Llama but like one.
    """
    if kind is None:
        kind = LlamaConfig(**{key: getattr(model.config, key) for key in model.config.to_dict() if key != "model_type"})
    llama = AutoModelForCausalLM.from_config(kind, attn_implementation="sdpa").to(model.dtype).eval()
    weights = {name: weight for name, weight in model.state_dict().items() if name != "model.query_embedding"}
    llama.load_state_dict(weights)
    batch, length = input_ids.shape
    tokens = llama.model.embed_tokens(input_ids)
    start, places = starts_by_loop(model.config.query_start, input_ids, group_ids)
    cold, warm = model.model.query_embedding, llama.model.embed_tokens(start.clamp(min=0))
    inputs = torch.cat((tokens, torch.where((start == rows.FROM_VECTOR)[..., None], cold, warm)), dim=1)
    allowed = torch.zeros(batch, 2 * length, 2 * length, dtype=torch.bool)
    allowed[:, :length, :length] = masks.content_mask(group_ids)
    allowed[:, length:, :length] = masks.query_mask(group_ids)
    bias = torch.zeros(allowed.shape, dtype=model.dtype).masked_fill(~allowed, float("-inf"))
    bias = bias.masked_fill(~allowed.any(-1, keepdim=True), 0.0)  # rows that see nothing: not compared
    positions = torch.cat((torch.arange(length).expand(batch, -1), places), dim=1)
    logits = llama(inputs_embeds=inputs, attention_mask=bias[:, None], position_ids=positions, use_cache=False).logits
    return logits[:, :length], logits[:, length:]


@torch.no_grad()
def both_streams(
    model: A3ForCausalLM,
    input_ids: Tensor,
    group_ids: Tensor,
    tolerance: float = EXACT,
    kind: PreTrainedConfig | None = None,
) -> None:
    """Both streams equal the oracle wherever they exist and see something; ``kind`` as in ``llama_as_two_streams``."""
    content, query = llama_as_two_streams(model, input_ids, group_ids, kind)
    out = model(input_ids, group_ids, content_logits=True)
    exists = group_ids >= 0
    torch.testing.assert_close(out.content_logits[exists], content[exists], rtol=0, atol=tolerance)
    seeing = (group_ids > 0) & masks.query_mask(group_ids).any(-1)
    torch.testing.assert_close(out.logits[seeing], query[seeing], rtol=0, atol=tolerance)


@torch.no_grad()
def no_leakage(model: A3ForCausalLM, input_ids: Tensor, group_ids: Tensor) -> None:
    """Law 2: changing any token of a group >= g leaves every query logit of group g bit for bit the same."""
    before = model(input_ids, group_ids).logits
    for group in group_ids[group_ids > 0].unique():
        later = group_ids >= group
        changed = torch.where(later, (input_ids + 1 + group) % model.config.vocab_size, input_ids)
        after = model(changed, group_ids).logits
        at = group_ids == group
        assert torch.equal(before[at], after[at]), f"group {group} has seen a token of its own group or a later one"


@torch.no_grad()
def a_probability(model: A3ForCausalLM, input_ids: Tensor, group_ids: Tensor, known: Tensor | None = None) -> None:
    """Law 3: over all fillings of the predicted positions of one row, the probabilities sum to 1."""
    predicted = objective.labels_for(input_ids, group_ids, known) >= 0
    rows = fillings(input_ids, predicted, model.config.vocab_size)
    all_known = None if known is None else known.expand(len(rows), -1)
    total = objective.log_likelihood(model, rows, group_ids.expand(len(rows), -1), all_known).exp().sum().item()
    assert abs(total - 1) <= EXACT, f"the probabilities sum to {total}"


@torch.no_grad()
def exact_cache(model: A3ForCausalLM, input_ids: Tensor, group_ids: Tensor, tolerance: float = EXACT) -> None:
    """Law 4: group after group, feeding only new content and the next queries, gives the logits of one full pass."""
    full = model(input_ids, group_ids).logits[0]
    ids, groups_of = input_ids[0], group_ids[0]
    cache, seen = DynamicCache(), torch.empty(0, dtype=torch.int64)
    start, places = starts_by_loop(model.config.query_start, input_ids, group_ids)
    new = (groups_of == 0).nonzero()[:, 0]
    for group in groups_of[groups_of > 0].unique():
        query = (groups_of == group).nonzero()[:, 0]
        seen = torch.cat((seen, groups_of[new]))
        mask = torch.cat(
            (
                masks.may_attend(groups_of[new], seen, own_group=True),
                masks.may_attend(groups_of[query], seen, own_group=False),
            )
        )
        hidden, _ = model.model(
            content_ids=ids[None, new],
            query_ids=start[:, query],
            positions=torch.cat((new, places[0, query]))[None],
            visible=Visibility.of(mask[None]),
            kernel="sdpa",
            keep_content=False,
            cache=cache,
        )
        difference = (model.lm_head(hidden[0]) - full[query]).abs().max().item()
        assert difference <= tolerance, f"with the cache group {group} differs by {difference}"
        new = query


# Decoding


@st.composite
def batches(draw, rows: int = 4, length: int = 8, last_group: int = 5, given: int = 0):
    """Tokens, group ids and ``known`` (B, T) of a batch whose rows have groups and lengths of their own.

    ``given``: at least so many tokens at the start of every row are given.
    """
    batch, length = draw(st.integers(1, rows)), draw(st.integers(max(2, given + 1), length))
    shape = st.lists(st.lists(st.integers(-1, last_group), min_size=length, max_size=length), min_size=batch,
                     max_size=batch)  # fmt: skip
    group_ids = torch.tensor(draw(shape))
    lengths = torch.tensor(draw(st.lists(st.integers(1, length), min_size=batch, max_size=batch)))
    group_ids = group_ids.masked_fill(torch.arange(length) >= lengths[:, None], groups.PADDING)
    group_ids[:, :given] = groups.GIVEN
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    known = torch.rand(batch, length, generator=generator) < draw(st.sampled_from([0.0, 0.3]))
    if not ((group_ids > 0) & ~known).any():  # there is always something to fill
        group_ids[0, given], known[0, given] = 1, False
    return torch.randint(TINY["vocab_size"], (batch, length), generator=generator), group_ids, known


class Pass(NamedTuple):
    """What one step of decoding was asked, and what it answered."""

    tokens: Tensor  # (B, T)
    group_ids: Tensor  # (B, T)
    ask: Tensor  # (B, T)
    logits: Tensor  # (M, V)


@contextmanager
def recorded_steps() -> Iterator[list[Pass]]:
    """All steps of a decoding; what a test has put in the place of ``Steps.__call__`` stays there."""
    passes, right = [], Steps.__call__

    def call(self: Steps, tokens: Tensor, group_ids: Tensor, new: Tensor, ask: Tensor) -> Tensor:
        before = tokens.clone(), group_ids.clone(), ask.clone()
        hidden = right(self, tokens, group_ids, new, ask)
        passes.append(Pass(*before, self.logits(hidden)))
        return hidden

    with mock.patch.object(Steps, "__call__", call):
        yield passes


def start_one_step_late(monkeypatch) -> None:
    """A mutant: in decoding a query row does not start from what is fed in the same step."""
    call, of, now = Steps.__call__, rows.Starts.of, {}

    def wrong_call(self, tokens, group_ids, new, ask):
        now["new"] = new
        return call(self, tokens, group_ids, new, ask)

    def wrong_start(start, query, tokens, group_ids, seen=None):
        return of(start, query, tokens, group_ids, None if seen is None else seen & ~now["new"])

    monkeypatch.setattr(Steps, "__call__", wrong_call)
    monkeypatch.setattr(rows.Starts, "of", wrong_start)


@torch.no_grad()
def exact_steps(model: A3ForCausalLM, decode: Callable[[bool], Generation], tolerance: float = EXACT) -> Generation:
    """Law 4 for a whole decoding: with the cache as without it, and each step as one full pass over what is there.

    Args:
        decode: takes ``use_cache``, and decodes with the same seed each time.
    """
    results = []
    for use_cache in (True, False):
        with recorded_steps() as passes:
            results.append(decode(use_cache))
        for number, step in enumerate(passes, start=1):
            full = model(step.tokens, step.group_ids).logits[step.ask]
            difference = (step.logits - full).abs().max().item()
            assert difference <= tolerance, f"use_cache={use_cache}: step {number} differs by {difference}"
    done, without = results
    assert torch.equal(done.sequences, without.sequences) and torch.equal(done.group_ids, without.group_ids)
    same(done.log_probs, without.log_probs, tolerance)
    terms = objective.log_likelihood(model, done.sequences, done.group_ids, done.known, reduction="token")
    same(done.log_probs, terms, tolerance)
    return done


class Work(NamedTuple):
    """What the model computed: how often the content of each (row, position), how often its query; passes in all."""

    content: Counter
    queries: Counter
    passes: list[int]  # the number of content rows of each pass


@contextmanager
def counted_work(model: A3ForCausalLM) -> Iterator[Work]:
    """A spy on the forward pass. Every batch row needs a given token: then who sees nothing only fills up."""
    work, right = Work(Counter(), Counter(), []), model.model.forward

    def forward(content_ids: Tensor, positions: Tensor, visible: Visibility, query_ids: Tensor | None = None, **others):
        number, places = content_ids.shape[1], positions.clone()
        if query_ids is not None:  # what starts from the token before stands one further
            places[:, number:] += query_ids != rows.FROM_VECTOR
        real = torch.ones(positions.shape, dtype=torch.bool) if visible.empty is None else ~visible.empty[..., 0]
        for stream, part in ((work.content, slice(0, number)), (work.queries, slice(number, None))):
            row, slot = real[:, part].nonzero().T
            stream.update(zip(row.tolist(), places[:, part][row, slot].tolist(), strict=True))
        work.passes.append(int(real[:, :number].sum()))
        return right(content_ids=content_ids, positions=positions, visible=visible, query_ids=query_ids, **others)

    with mock.patch.object(model.model, "forward", forward):
        yield work


def chi_squared(counts: dict, expected: dict) -> tuple[float, int, float]:
    """Pearson's statistic, its degrees of freedom and its p-value; cells that expect fewer than 5 are one cell."""
    total = sum(counts.values())
    if any(expected.get(cell, 0) <= 0 for cell in counts):
        return float("inf"), len(expected) - 1, 0.0  # what cannot happen has happened
    seen, wanted = [0], [0.0]
    for cell, chance in expected.items():
        if chance * total < 5:
            seen[0] += counts.get(cell, 0)
            wanted[0] += chance * total
        else:
            seen.append(counts.get(cell, 0))
            wanted.append(chance * total)
    statistic = sum((n - m) ** 2 / m for n, m in zip(seen, wanted, strict=True) if m > 0)
    freedom = len(wanted) - (1 if wanted[0] > 0 else 2)
    half = torch.tensor([freedom, statistic], dtype=torch.float64) / 2
    return statistic, freedom, torch.special.gammaincc(*half).item()


def follows(counts: Tensor, probabilities: Tensor) -> float:
    """How often a sample from ``probabilities`` (N,) fits worse than ``counts`` (N,)."""
    found = {cell: count for cell, count in enumerate(counts.tolist()) if count}
    return chi_squared(found, dict(enumerate(probabilities.tolist())))[2]


def fillings(input_ids: Tensor, unknown: Tensor, vocab_size: int) -> Tensor:
    """Every filling of the unknown positions of one row, (V ** M, T), the first position slowest."""
    values = itertools.product(range(vocab_size), repeat=int(unknown.sum()))
    rows = input_ids.repeat(vocab_size ** int(unknown.sum()), 1)
    rows[:, unknown[0]] = torch.tensor(list(values), dtype=torch.int64)
    return rows


def same(first: Tensor, second: Tensor, tolerance: float = EXACT) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=tolerance)


def tiny_config(**changes) -> A3Config:
    return A3Config(**{**TINY, **changes})
