"""baselines.py: autoregression against Hugging Face, masked diffusion against enumeration over a tiny vocabulary."""

import itertools
import math

import laws
import pytest
import torch
from laws import same

from a3mini import groups
from a3mini.evaluate import autoregressive_log_likelihood, diffusion_bound, diffusion_log_likelihood, diffusion_sample
from a3mini.train import Autoregressive, Blocks, MaskedDiffusion, MaskedDiffusionModel
from a3mini.train.recipes import Batch, shifted_log_probs

V = 4
LLAMA = laws.strong_llama(vocab_size=V, hidden_size=16, num_attention_heads=2, num_key_value_heads=1)
DIFFUSION = MaskedDiffusionModel.from_autoregressive(LLAMA)
with torch.no_grad():
    DIFFUSION.mask_embedding.normal_(generator=torch.Generator().manual_seed(0))


def tokens(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(seed))


def rows_of(lengths, width: int = 9) -> Blocks:
    lengths = torch.tensor(lengths)
    return Blocks(
        tokens(len(lengths), width), lengths, torch.arange(len(lengths)), torch.zeros(len(lengths), width) > 0
    )


def batch_of(recipe, rows, progress=0.5, seed=0, examples=None):
    return recipe.batch(rows, progress, examples or list(range(len(rows.lengths))), seed)


# Autoregression


def test_autoregressive_log_probs_equal_hugging_faces_loss():
    rows = rows_of([9, 4, 2])
    batch = batch_of(Autoregressive(), rows)
    labels = rows.input_ids.masked_fill(torch.arange(9) >= rows.lengths[:, None], -100)
    loss = -(batch.weights * Autoregressive().log_probs(LLAMA, batch.inputs)).sum() / batch.count
    assert loss.item() == pytest.approx(LLAMA(rows.input_ids, labels=labels).loss.item(), rel=1e-5)  # float32 there
    assert batch.count == 8 + 3 + 1


@torch.no_grad()
def test_autoregressive_log_likelihood_equals_a3_before_training():
    """At left-to-right singletons A3's content stream is the source model; scored here through Hugging Face."""
    ids, group_ids = tokens(2, 7), torch.tensor([[0, 1, 2, 3, 4, 5, 6], [0, 0, 3, 1, 1, -1, -1]])
    terms = autoregressive_log_likelihood(LLAMA, ids, group_ids)
    for row, t in itertools.product(range(2), range(7)):
        if group_ids[row, t] > 0:
            expected = LLAMA(ids[row : row + 1, :t]).logits[0, -1].log_softmax(-1)[ids[row, t]]
            same(terms[row, t], expected)
        else:
            assert terms[row, t] == 0


# The recipe of masked diffusion


def check_causal_and_shifted(recipe: MaskedDiffusion) -> None:
    """At the start, with nothing masked, the logits are the source model's: position t - 1 predicts t."""
    rows = rows_of([9, 9])
    visible = batch_of(recipe, rows, progress=0.0).inputs["visible"]
    nothing = torch.zeros(2, 9, dtype=torch.bool)
    logits = DIFFUSION(rows.input_ids, nothing, visible)
    same(logits, LLAMA(rows.input_ids).logits)


def dense(batch: Batch, values: torch.Tensor) -> torch.Tensor:
    """What a batch of masked diffusion has for each masked token, at its position: (B, T), 0 elsewhere."""
    masked = batch.inputs["masked"]
    return torch.zeros(masked.shape).masked_scatter(masked, values[: masked.sum()].float())


@torch.no_grad()
@pytest.mark.parametrize("unit", [0, 5])
def test_only_masked_tokens_are_scored(unit):
    """As all logits of the rows have it; what only fills up counts nothing."""
    rows, recipe = rows_of([9, 4, 2, 7]), MaskedDiffusion(0.2)
    batch = recipe.batch(rows, 0.1, torch.arange(4), 0, unit)
    masked = batch.inputs["masked"]
    logits = DIFFUSION(rows.input_ids, masked, batch.inputs["visible"])
    found = recipe.log_probs(DIFFUSION, batch.inputs)
    same(dense(batch, found), (shifted_log_probs(logits, rows.input_ids) * masked).float(), tolerance=1e-6)
    count = int(masked.sum())
    assert len(found) == len(batch.weights) == (-(-count // unit) * unit if unit else count)
    assert (batch.weights[:count] > 0).all() and not batch.weights[count:].any() and not found[count:].any()


@torch.no_grad()
def test_masked_diffusion_starts_causal_and_shifted():
    check_causal_and_shifted(MaskedDiffusion(anneal=0.2))
    with pytest.raises(AssertionError):  # without annealing the first step is bidirectional
        check_causal_and_shifted(MaskedDiffusion(anneal=0.0))


def test_attention_opens_little_by_little():
    rows, recipe = rows_of([40] * 8, width=40), MaskedDiffusion(anneal=0.5)
    right = torch.ones(40, 40, dtype=torch.bool).triu(1)
    shares = []
    for progress in (0.0, 0.1, 0.25, 0.5, 0.9):
        visible = batch_of(recipe, rows, progress).inputs["visible"]
        assert visible.masked_select(~right).all(), "the left is always visible"
        shares.append(visible[:, right].float().mean().item())
    assert shares[0] == 0 and shares[3:] == [1, 1]
    assert shares[1:3] == pytest.approx([0.2, 0.5], abs=0.03)


@torch.no_grad()
@pytest.mark.parametrize("progress", [0.0, 0.1, 0.9])
def test_padding_is_never_seen(progress):
    lengths = [9, 4, 2, 7]
    rows, recipe = rows_of(lengths), MaskedDiffusion(0.2)
    batch = batch_of(recipe, rows, progress)
    behind = torch.arange(9) >= torch.tensor(lengths)[:, None]
    assert not batch.inputs["masked"][behind].any()
    other = rows._replace(input_ids=torch.where(behind, (rows.input_ids + 1) % V, rows.input_ids))
    changed = batch_of(recipe, other, progress)
    weighted = [b.weights * recipe.log_probs(DIFFUSION, b.inputs) for b in (batch, changed)]
    assert torch.equal(*weighted)
    assert batch.count == sum(lengths) - 4
    assert not batch.inputs["masked"][:, 0].any(), "the first token is given"


def test_padding_is_never_seen_when_scoring():
    group_ids = torch.tensor([[0, 2, 1, 3, -1, -1], [0, 1, 1, 2, 2, 3]])
    ids = tokens(2, 6)
    other = torch.where(group_ids < 0, (ids + 1) % V, ids)
    with torch.no_grad():
        scores = [diffusion_log_likelihood(DIFFUSION, x, group_ids) for x in (ids, other)]
        short = diffusion_log_likelihood(DIFFUSION, ids[:1, :4], group_ids[:1, :4])
    assert torch.equal(*scores)
    same(scores[0][:1, :4], short)


def test_a_batch_depends_on_seed_and_example_alone():
    """Not on the batch size, the other rows, or how much padding they bring."""
    lengths = [9, 4, 7, 2, 9, 3]
    rows, recipe = rows_of(lengths), MaskedDiffusion(0.5)
    together = batch_of(recipe, rows, 0.2, examples=list(range(10, 16)))
    for n, length in enumerate(lengths):
        row = Blocks(*(part[n : n + 1] for part in rows))
        row = row._replace(input_ids=row.input_ids[:, :length], sentence_ends=row.sentence_ends[:, :length])
        alone = batch_of(recipe, row, 0.2, examples=[10 + n])
        for name in ("input_ids", "masked"):
            assert torch.equal(alone.inputs[name][0], together.inputs[name][n, :length])
        assert torch.equal(alone.inputs["visible"][0], together.inputs["visible"][n, :length, :length])
        weights = dense(together, together.weights)[n, :length]
        assert torch.equal(dense(alone, alone.weights)[0], weights)
    other = batch_of(recipe, rows, 0.2, seed=1, examples=list(range(10, 16)))
    assert not torch.equal(other.inputs["masked"], together.inputs["masked"])


@torch.no_grad()
def exact_bound(ids: torch.Tensor) -> float:
    """The diffusion bound of one row whose first token is given, by its masked sets; see the top of baselines.py."""
    length, total = ids.shape[1] - 1, 0.0
    for size in range(1, length + 1):
        for chosen in itertools.combinations(range(1, length + 1), size):
            masked = torch.zeros(1, length + 1, dtype=torch.bool)
            masked[0, list(chosen)] = True
            logits = DIFFUSION(ids, masked, torch.ones(1, length + 1, length + 1, dtype=torch.bool))
            nats = -(shifted_log_probs(logits, ids) * masked).sum().item()
            total += nats / (size * math.comb(length, size))
    return total


def check_unbiased(weighting) -> None:
    """The mean of the training loss over many drawn masks is the bound."""
    ids, count = tokens(1, 5), 6000
    rows = Blocks(ids.repeat(count, 1), torch.full((count,), 5), torch.arange(count), torch.zeros(count, 5) > 0)
    batch = batch_of(MaskedDiffusion(0.0), rows)
    weights = weighting(batch)
    at = dense(batch, weights)
    assert at[:, 0].abs().max() == 0
    same(at[:, 1:].mean(0), torch.ones(4), tolerance=0.1)  # every token counts once
    with torch.no_grad():
        nats = -(weights * MaskedDiffusion().log_probs(DIFFUSION, batch.inputs)).sum() / count
    expected = exact_bound(ids)
    assert abs(nats / expected - 1) < 0.06, (nats, expected)
    assert batch.count == 4 * count


def test_the_weights_are_unbiased():
    check_unbiased(lambda batch: batch.weights)
    with pytest.raises(AssertionError):  # the mutant: every masked token counts once
        check_unbiased(lambda batch: (batch.weights > 0).float())


# Scores


@torch.no_grad()
def chain(group_ids, ids) -> torch.Tensor:
    """A plain loop over groups: one pass each, later tokens replaced by the mask's vector."""
    out = torch.zeros(len(ids), ids.shape[1], dtype=torch.float64)
    for row in range(len(ids)):
        kept = (group_ids[row] >= 0).nonzero().flatten()
        order, x = group_ids[row, kept], ids[row, kept]
        for group in order[order > 0].unique():
            embedded = DIFFUSION.get_input_embeddings()(x).clone()
            embedded[order >= group] = DIFFUSION.mask_embedding
            everything = torch.ones(1, 1, len(x), len(x), dtype=torch.bool)
            hidden = DIFFUSION.model(inputs_embeds=embedded[None], attention_mask=everything).last_hidden_state[0]
            log_probs = DIFFUSION.lm_head(hidden).log_softmax(-1)
            for t in (order == group).nonzero().flatten().tolist():
                out[row, kept[t]] = log_probs[t - 1, x[t]]
    return out


GROUPINGS = {
    "left to right": [0, 1, 2, 3, 4],
    "blocks": [0, 1, 1, 2, 2],
    "shuffled": [0, 3, 1, 4, 2],
    "all at once": [0, 1, 1, 1, 1],
    "infilling": [0, 2, 1, 0, 2],
    "padding behind": [0, 2, 1, 3, -1],
}


@torch.no_grad()
def test_the_chain_equals_a_loop():
    group_ids = torch.tensor(list(GROUPINGS.values()))
    ids = tokens(len(group_ids), 5)
    terms = diffusion_log_likelihood(DIFFUSION, ids, group_ids, batch_size=4)
    same(terms, chain(group_ids, ids))
    assert (terms[group_ids <= 0] == 0).all() and (terms[group_ids > 0] < 0).all()


@torch.no_grad()
def check_probability(group_ids: torch.Tensor, score) -> None:
    predicted = group_ids[0] > 0
    fillings = torch.tensor(list(itertools.product(range(V), repeat=int(predicted.sum()))))
    rows = tokens(1, 5).repeat(len(fillings), 1)
    rows[:, predicted] = fillings
    total = score(rows, group_ids.expand(len(rows), -1)).sum(-1).exp().sum().item()
    assert abs(total - 1) <= laws.EXACT, f"the probabilities sum to {total}"


@pytest.mark.parametrize("group_ids", GROUPINGS.values(), ids=GROUPINGS)
def test_a_probability(group_ids):
    check_probability(torch.tensor([group_ids]), lambda ids, g: diffusion_log_likelihood(DIFFUSION, ids, g, 1000))


def test_the_check_catches_a_leak():
    """The mutant: a step masks the later groups but not its own."""

    def leaking(ids, group_ids):
        total = 0
        for group in (1, 2):
            real = (group_ids >= 0)[:, None].expand(-1, 5, -1)
            log_probs = shifted_log_probs(DIFFUSION(ids, group_ids > group, real), ids)
            total = total + log_probs * (group_ids == group)
        return total

    with pytest.raises(AssertionError, match="sum to"):
        check_probability(torch.tensor([[0, 1, 1, 2, 2]]), leaking)


# The bound


@torch.no_grad()
def test_the_bound_is_the_mean_over_orders_of_one_by_one_prediction():
    """Over all 4! orders: the bound, the mean chain and the sum over masked sets are one number."""
    ids = tokens(1, 5, seed=3)
    orders = torch.tensor([[0, *order] for order in itertools.permutations(range(1, 5))])
    rows = ids.expand(len(orders), -1)
    chains = -diffusion_log_likelihood(DIFFUSION, rows, orders).sum(-1)
    bounds = diffusion_bound(DIFFUSION, rows, orders, draws=4, seed=0, batch_size=5)  # 4 draws: each size once
    same(bounds.double().mean(), chains.mean(), tolerance=1e-5)
    assert abs(chains.mean().item() - exact_bound(ids)) < 1e-6
    assert chains.std() > 0.01, "the orders do not differ, so the test shows nothing"
    one_draw = [diffusion_bound(DIFFUSION, rows, orders, draws=1, seed=seed).mean().item() for seed in range(40)]
    assert abs(sum(one_draw) / 40 / chains.mean().item() - 1) < 0.1


@torch.no_grad()
def test_rows_of_the_bound_do_not_mix():
    """A shorter row beside a longer one: with as many draws as both lengths divide, the values are exact."""
    ids, group_ids = tokens(2, 5), torch.tensor([[0, 2, 1, 4, 3], [0, 2, 1, -1, -1]])
    together = diffusion_bound(DIFFUSION, ids, group_ids, draws=4, seed=0)
    for row, width in ((0, 5), (1, 3)):
        alone = diffusion_bound(DIFFUSION, ids[row : row + 1, :width], group_ids[row : row + 1, :width], 4, seed=9)
        same(together[row], alone[0], tolerance=1e-5)


# Sampling


def test_greedy_sampling_is_a_fixed_point_of_the_chain():
    group_ids = torch.tensor([[0, 2, 1, 3, 1, 0]]).expand(2, -1)
    ids = tokens(1, 6).repeat(2, 1)
    ids[1, group_ids[1] > 0] = (ids[1, group_ids[1] > 0] + 1) % V  # what stands there is not read
    first, second = diffusion_sample(DIFFUSION, ids, group_ids, 0.0, torch.Generator())
    assert torch.equal(first, second) and torch.equal(first[group_ids[0] == 0], ids[0, group_ids[0] == 0])
    with torch.no_grad():
        best = diffusion_log_likelihood(DIFFUSION, first[None], group_ids[:1])
    for t in (group_ids[0] == 1).nonzero().flatten().tolist():
        for token in range(V):
            other = first[None].clone()
            other[0, t] = token
            with torch.no_grad():
                assert diffusion_log_likelihood(DIFFUSION, other, group_ids[:1])[0, t] <= best[0, t]


def test_samples_follow_the_chain():
    """Frequencies of all fillings of two tokens, one by one, against their probabilities."""
    count, group_ids = 4000, torch.tensor([[0, 2, 1, 0]])
    ids = tokens(1, 4)
    drawn = diffusion_sample(DIFFUSION, ids.repeat(count, 1), group_ids.expand(count, -1), 1.0,
                             torch.Generator().manual_seed(0))  # fmt: skip
    fillings = ids.repeat(V * V, 1)
    fillings[:, 1:3] = torch.tensor(list(itertools.product(range(V), repeat=2)))
    with torch.no_grad():
        expected = diffusion_log_likelihood(DIFFUSION, fillings, group_ids.expand(V * V, -1)).sum(-1).exp()
    seen = torch.bincount(drawn[:, 1] * V + drawn[:, 2], minlength=V * V) / count
    same(seen.double(), expected.double(), tolerance=0.03)
    assert expected.max() < 0.9


# The model


def test_adaptation_copies_the_weights():
    fresh = MaskedDiffusionModel.from_autoregressive(LLAMA)
    mean = LLAMA.get_input_embeddings().weight.mean(0)
    assert torch.equal(fresh.mask_embedding, mean) and not fresh.training
    assert all(torch.equal(fresh.state_dict()[name], weight) for name, weight in LLAMA.state_dict().items())
    assert fresh.state_dict().keys() - LLAMA.state_dict().keys() == {"mask_embedding"}


def test_groups_are_checked_and_anneal_is_a_share():
    with pytest.raises(ValueError, match="group_ids holds -2"):
        diffusion_log_likelihood(DIFFUSION, tokens(1, 3), torch.tensor([[0, 1, -2]]))
    with pytest.raises(TypeError, match="must hold integers"):
        autoregressive_log_likelihood(LLAMA, tokens(1, 3), groups.left_to_right(3)[None].float())
    with pytest.raises(ValueError, match="anneal must be a share from 0 to 1, got 1.5"):
        MaskedDiffusion(1.5)
