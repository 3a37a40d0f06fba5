"""A small joint head: the tokens of a group drawn one after another, on top of one pass of a frozen model.

A pass predicts each token of a group as if the others were not there. The head is one causal layer on top of it, with
two streams as in the model: the last hidden state of a token asks; keys and values come from the tokens that were drawn
in the group so far, each from its embedding and from the state that predicted it, at its rotary position. What comes
out is added to the state, and the model's own lm_head makes logits of the sum. The last product starts at zero, so an
untrained head changes nothing; the first token of a group is never changed. All else is frozen.

The idea is that of ADJUST (arXiv 2509.22738), a light sampling layer on a frozen model, and of self-speculative masked
diffusion (arXiv 2510.03929), whose last layer is causal in the order of drawing. The shape of the head is ours. It is
taught by the model itself, which knows the exact conditionals: one more pass over the same tokens, one at a time.
"""

from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from a3mini import head, rows, speculative
from a3mini.attention import Visibility, at_least_float32, rotate
from a3mini.decode.sampling import Sampler
from a3mini.groups import PADDING
from a3mini.model import A3ForCausalLM
from a3mini.rows import IGNORED_LABEL, Plan, Slots
from a3mini.train import Curriculum, Part, Stage, data, generator_for, uniform
from a3mini.train.curriculum import CHOICES

SIZES = (2, 3, 4, 6, 8)  # tokens per group in training
KINDS = ("blocks", "strided", "shuffled")
WARM_UP = 20  # steps
CURRICULUM = Curriculum((Stage("groups", 1, tuple(Part(kind, SIZES) for kind in KINDS)),))


class Asked(NamedTuple):
    """What a pass says of the tokens of its groups, in the order of drawing: B rows of Q slots."""

    states: Tensor  # (B, Q, D), the query stream's last hidden states
    positions: Tensor  # (B, Q) int64
    groups: Tensor  # (B, Q) int64, PADDING in slots that only fill up
    tokens: Tensor  # (B, Q) int64, the true ones

    @property
    def labels(self) -> Tensor:
        return self.tokens.masked_fill(self.groups == PADDING, IGNORED_LABEL)

    @property
    def earlier(self) -> Tensor:
        """bool, (B, Q, Q): which slots each one may look at, the earlier ones of its own group."""
        own = (self.groups[:, :, None] == self.groups[:, None]) & (self.groups[:, None] != PADDING)
        return own.tril(-1)

    def sums(self, values: Tensor) -> Tensor:
        """(B,): the sums over each row of what (B * Q,) slots have."""
        return values.view_as(self.groups).sum(-1)


@torch.no_grad()
def ask(model: A3ForCausalLM, ids: Tensor, group_ids: Tensor, known: Tensor) -> Asked:
    """One pass over all groups of ids (B, T); ``known`` tokens are not predicted."""
    config = model.config
    group_ids, predicted = rows.check(ids, group_ids, None, config.vocab_size, config.max_position_embeddings)
    predicted = predicted & ~known
    plan = Plan.of(ids, group_ids, None, predicted, predicted, False, in_order=True, query_start=config.query_start)
    states, _ = model.model(
        content_ids=plan.content_ids,
        positions=torch.cat((plan.content.index, plan.starts.positions), dim=1),
        query_ids=plan.starts.tokens,
        visible=Visibility.between(plan.content_groups, plan.query_groups, plan.empty),
        kernel=config._attn_implementation,
        keep_content=False,
    )
    return Asked(states, plan.query.index, plan.query_groups, plan.query.take(ids, 0))


class Rows(NamedTuple):
    """What the head makes of Q states at once, before any token is known."""

    normed: Tensor  # (B, Q, D)
    query: Tensor  # (B, H, Q, E), rotated
    rope: tuple[Tensor, Tensor]  # cosine and sine, (B, 1, Q, E / 2) each


class JointHead(nn.Module):
    """See the top of this file. ``model`` is not a part of it: it is given to each call.

    Few, wide products: where one token is drawn at a time, each operation costs more than what it computes.
    """

    def __init__(self, model: A3ForCausalLM):
        super().__init__()
        config = model.config
        width, inner, self.head_size = config.hidden_size, config.intermediate_size, config.head_dim
        wide = config.num_attention_heads * config.head_dim
        self.state_norm, self.token_norm, self.middle_norm, self.last_norm = (
            nn.RMSNorm(width, config.rms_norm_eps) for _ in range(4)
        )
        self.query = nn.Linear(width, wide, bias=False)
        self.key_value = nn.Linear(2 * width, 2 * wide, bias=False)
        self.back = nn.Linear(wide, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)

    def rows(self, model: A3ForCausalLM, states: Tensor, positions: Tensor) -> Rows:
        """states (B, Q, D) that stand at positions (B, Q)."""
        rope, normed = model.model.rope(positions, states.dtype), self.state_norm(states)
        return Rows(normed, rotate(self.heads(self.query(normed)), *rope), rope)

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_size)).transpose(1, 2)

    def content(self, model: A3ForCausalLM, rows: Rows, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, Q, E) of the tokens (B, Q) that were drawn at the rows."""
        embedded = self.token_norm(model.model.embed_tokens(tokens))
        key, value = self.key_value(torch.cat((embedded, rows.normed), dim=-1)).chunk(2, dim=-1)
        return rotate(self.heads(key), *rows.rope), self.heads(value)

    def added(self, rows: Rows, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """What is added to the states (B, Q, D) of rows that see the columns of ``mask``, or all."""
        seen = F.scaled_dot_product_attention(rows.query, key, value, mask)
        hidden = rows.normed + self.back(seen.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.middle_norm(hidden)).chunk(2, dim=-1)
        return self.out(self.last_norm(hidden + self.down(F.silu(gate) * up)))

    def forward(self, model: A3ForCausalLM, asked: Asked) -> Tensor:
        """The states (B, Q, D) with what the true tokens before them in their group add."""
        first = ~asked.earlier.any(-1, keepdim=True)  # of a group, whose prediction is exact
        rows = self.rows(model, asked.states, asked.positions)
        mask = (asked.earlier | first)[:, None]  # no row may see nothing; what they see is not used
        more = self.added(rows, *self.content(model, rows, asked.tokens), mask)
        return asked.states + more.masked_fill(first, 0.0)

    @torch.no_grad()
    def draw(
        self, model: A3ForCausalLM, states: Tensor, logits: Tensor, positions: Tensor, sampler: Sampler, shortlist: int
    ) -> tuple[Tensor, Tensor]:
        """Draw the m tokens of a group, one after another.

        Args:
            states: (B, m, D), in the order of drawing.
            logits: (B, m, V), of each alone.
            positions: int64, (B, m).
            shortlist: the head changes the logits of so many of the likeliest tokens alone, since a product with the
                whole vocabulary for each token costs more than the rest of the head; 0: of all.

        Returns:
            the tokens (B, m), and the distributions (B, m, V) that each was drawn from.
        """
        every, chances, tokens, keys, values = self.rows(model, states, positions), [], [], [], []
        if shortlist:
            likely = logits[:, 1:].topk(shortlist).indices  # (B, m - 1, K)
            weights = model.lm_head.weight[likely]  # (B, m - 1, K, D)
        for n in range(states.shape[1]):
            now = logits[:, n]
            if n:
                key, value = torch.cat(keys, 2), torch.cat(values, 2)
                more = self.added(at(every, n), key, value)[:, 0]
                if shortlist:
                    now = now.scatter_add(1, likely[:, n - 1], (weights[:, n - 1] @ more[:, :, None])[:, :, 0])
                else:
                    now = at_least_float32(F.linear(states[:, n] + more, model.lm_head.weight, model.lm_head.bias))
            chances.append(sampler.probabilities(now))
            tokens.append(sampler.draw(chances[-1]))
            if n + 1 < states.shape[1]:
                for kept, new in zip(
                    (keys, values), self.content(model, at(every, n), tokens[-1][:, None]), strict=True
                ):
                    kept.append(new)
        return torch.stack(tokens, 1), torch.stack(chances, 1)


def at(every: Rows, n: int) -> Rows:
    """The n-th row alone."""
    cos, sin = every.rope
    n = slice(n, n + 1)
    return Rows(every.normed[:, n], every.query[:, :, n], (cos[:, :, n], sin[:, :, n]))


def nats(model: A3ForCausalLM, asked: Asked, joint: JointHead | None = None) -> Tensor:
    """The loss (B,) of the true tokens, drawn independently or by the head; exact, by the chain rule in each group."""
    states = asked.states if joint is None else joint(model, asked)
    return -asked.sums(head.log_probs(states.flatten(0, 1), model.lm_head, asked.labels.flatten()))


def drafting(model: A3ForCausalLM, joint: JointHead, shortlist: int = 0):
    """A context in which speculative decoding drafts by the head; for samplers without a repetition penalty."""

    def propose(steps, hidden, filling, together, drafted, sampler):
        slots = Slots.where(drafted, order=filling.group_ids)
        places = torch.zeros_like(filling.tokens)
        places[drafted] = torch.arange(len(hidden))  # which of the M rows stands at each position
        which = places.gather(1, slots.index)  # (B, m)
        logits = steps.logits(hidden)
        tokens, p = joint.draw(model, hidden[which], logits[which], slots.index, sampler, shortlist)
        which = which[slots.valid]
        back = which.argsort()
        filling.tokens[drafted] = tokens[slots.valid][back]
        return logits, p[slots.valid][back]

    return mock.patch.object(speculative, "propose", propose)


class Lesson(NamedTuple):
    """What a step learns from: a pass over groups, and what the model says of the same tokens one at a time."""

    asked: Asked
    taught: Tensor  # (B, Q, D), last hidden states of the exact conditionals


def lessons(model: A3ForCausalLM, blocks: data.Blocks, count: int, batch: int, seed: int) -> Iterator[Lesson]:
    """``count`` batches of rows in random order, again and again, each row with groups of its own."""
    numbers, each = torch.arange(count * batch), len(blocks.lengths)
    order = torch.cat([torch.randperm(each, generator=generator_for(seed, n)) for n in range(-(-len(numbers) // each))])
    for some in numbers.split(batch):
        some_rows = blocks.rows(order[some]).trimmed()
        random = uniform(seed, some, some_rows.input_ids.shape[1] + CHOICES)
        group_ids = CURRICULUM.draw(0, some_rows.lengths, some_rows.sentence_ends, random)
        known = group_ids == 0
        exact = ask(model, some_rows.input_ids, speculative.singletons(group_ids), known)
        yield Lesson(ask(model, some_rows.input_ids, group_ids, known), exact.states)


def train(
    model: A3ForCausalLM,
    blocks: data.Blocks,
    batches: int,
    batch: int,
    epochs: int,
    rate: float,
    seed: int = 0,
) -> tuple[JointHead, list[dict]]:
    """A head that has learned to mimic the model's exact conditionals on a text, as ADJUST's has.

    Returns:
        the head; and its course: the divergence KL(exact || drawn), nats per token that it can change, with the head
        and without, the mean of each tenth of the training.
    """
    model.requires_grad_(False)
    torch.manual_seed(seed)
    joint, seen, course, sums = JointHead(model), [], [], torch.zeros(3)
    optimizer = torch.optim.AdamW(joint.parameters(), lr=rate, weight_decay=0.01)
    steps = batches * epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARM_UP, (steps - step) / (0.7 * steps))
    )
    for step in range(1, steps + 1):
        if step == 1:
            source = lessons(model, blocks, batches, batch, seed)
        elif (step - 1) % batches == 0:
            source = iter(seen)
        asked, taught = lesson = next(source)
        if epochs > 1 and step <= batches:
            seen.append(lesson)  # the passes of a frozen model give the same each time
        changed = asked.earlier.any(-1)
        with torch.no_grad():
            exact = at_least_float32(model.lm_head(taught[changed])).log_softmax(-1)
            weights = exact.exp()
        drawn = at_least_float32(model.lm_head(joint(model, asked)[changed])).log_softmax(-1)
        loss = -(weights * drawn).sum(-1).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(joint.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 4 == 0 or step == steps:  # the other side of the comparison, now and then
            with torch.no_grad():
                alone = at_least_float32(model.lm_head(asked.states[changed])).log_softmax(-1)
                least = -(weights * exact).sum(-1).mean()
                sums += torch.stack((loss.detach() - least, -(weights * alone).sum(-1).mean() - least, torch.ones(())))
        if step % max(1, steps // 10) == 0 and sums[2]:
            course.append({"step": step, "with": (sums[0] / sums[2]).item(), "without": (sums[1] / sums[2]).item()})
            print("head", course[-1], flush=True)
            sums.zero_()
    return joint.eval(), course
