"""The laws of DESIGN as functions that raise AssertionError, so that tests can also show what breaks them.

The oracle for both streams at any grouping is Hugging Face's Llama: give it the T token embeddings and then
T copies of w as inputs, both at positions 0 .. T-1, and a mask that lets nobody see the copies. Its first T
rows are then the content stream and its last T rows the query stream.
"""

import itertools

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from a3mini import A3Config, A3ForCausalLM, from_autoregressive, masks, objective
from a3mini.model import Visibility

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
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**TINY, **changes})).double().eval()
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


def strong_model(seed: int = 0, **changes) -> A3ForCausalLM:
    """The same weights as A3, with a random w."""
    model = from_autoregressive(strong_llama(seed, **changes), dtype=torch.float64)
    with torch.no_grad():
        model.model.query_embedding.normal_()
    assert context_effect(model) >= 0.1, "the model hardly uses its context, so the laws would test nothing"
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
    group_ids = torch.arange(input_ids.shape[1]).expand_as(input_ids)
    ours = model(input_ids, group_ids, content_logits=True, return_logits=False).content_logits
    difference = (ours - llama(input_ids).logits).abs().max().item()
    assert difference <= tolerance, f"content logits differ from Llama's by {difference}"
    return difference


@torch.no_grad()
def llama_as_two_streams(model: A3ForCausalLM, input_ids: Tensor, group_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Content and query logits (B, T, V) computed by Hugging Face's Llama; see the top of this file."""
    config = LlamaConfig(**{key: getattr(model.config, key) for key in model.config.to_dict() if key != "model_type"})
    llama = LlamaForCausalLM._from_config(config, attn_implementation="sdpa").to(model.dtype).eval()
    weights = {name: weight for name, weight in model.state_dict().items() if name != "model.query_embedding"}
    llama.load_state_dict(weights)
    batch, length = input_ids.shape
    tokens = llama.model.embed_tokens(input_ids)
    inputs = torch.cat((tokens, model.model.query_embedding.expand(batch, length, -1)), dim=1)
    allowed = torch.zeros(batch, 2 * length, 2 * length, dtype=torch.bool)
    allowed[:, :length, :length] = masks.content_mask(group_ids)
    allowed[:, length:, :length] = masks.query_mask(group_ids)
    bias = torch.zeros(allowed.shape, dtype=model.dtype).masked_fill(~allowed, float("-inf"))
    bias = bias.masked_fill(~allowed.any(-1, keepdim=True), 0.0)  # rows that see nothing: not compared
    positions = torch.arange(length).repeat(2).expand(batch, -1)
    logits = llama(inputs_embeds=inputs, attention_mask=bias[:, None], position_ids=positions, use_cache=False).logits
    return logits[:, :length], logits[:, length:]


@torch.no_grad()
def both_streams(model: A3ForCausalLM, input_ids: Tensor, group_ids: Tensor, tolerance: float = EXACT) -> None:
    """Both streams equal the oracle wherever they exist and see something."""
    content, query = llama_as_two_streams(model, input_ids, group_ids)
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
    predicted = objective.labels_for(input_ids, group_ids, known)[0] >= 0
    values = itertools.product(range(model.config.vocab_size), repeat=int(predicted.sum()))
    fillings = torch.tensor(list(values), dtype=torch.int64)
    rows = input_ids.repeat(len(fillings), 1)
    rows[:, predicted] = fillings
    all_known = None if known is None else known.expand(len(rows), -1)
    total = objective.log_likelihood(model, rows, group_ids.expand(len(rows), -1), all_known).exp().sum().item()
    assert abs(total - 1) <= EXACT, f"the probabilities sum to {total}"


@torch.no_grad()
def exact_cache(model: A3ForCausalLM, input_ids: Tensor, group_ids: Tensor, tolerance: float = EXACT) -> None:
    """Law 4: group after group, feeding only new content and the next queries, gives the logits of one full pass."""
    full = model(input_ids, group_ids).logits[0]
    ids, groups_of = input_ids[0], group_ids[0]
    cache, seen = DynamicCache(), torch.empty(0, dtype=torch.int64)
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
            positions=torch.cat((new, query))[None],
            visible=Visibility.of(mask[None]),
            kernel="sdpa",
            keep_content=False,
            cache=cache,
        )
        difference = (model.lm_head(hidden[0]) - full[query]).abs().max().item()
        assert difference <= tolerance, f"with the cache group {group} differs by {difference}"
        new = query


def same(first: Tensor, second: Tensor, tolerance: float = EXACT) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=tolerance)


def tiny_config(**changes) -> A3Config:
    return A3Config(**{**TINY, **changes})
