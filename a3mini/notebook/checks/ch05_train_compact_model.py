"""Checks for the exercises of notebook 05, train a compact model."""

import math
from collections.abc import Callable
from functools import cache

import torch

from a3mini import groups, objective
from a3mini.model import A3Config, A3ForCausalLM
from a3mini.notebook.checks.base import exercise, expect, mixture
from a3mini.train.curriculum import CHOICES, Curriculum, uniform


@cache
def _step_texts() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Two batches of another number of predicted tokens: some are given, some padding."""
    generator, found = torch.Generator().manual_seed(0), []
    for rows in (
        [[0, 1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 1, 0, 0, 0, 0], [0, 1, 1, 2, 2, -1, -1, -1]],
        [[0, 2, 0, 1, 0, 0, -1, -1], [0, 0, 1, 1, 0, 0, 0, 0], [0, 3, 1, 2, 4, 5, -1, -1]],
    ):
        group_ids = torch.tensor(rows)
        found.append((torch.randint(1, 9, group_ids.shape, generator=generator), group_ids))
    return found


def _step_model() -> tuple[A3ForCausalLM, torch.optim.Optimizer]:
    """Plain gradient descent, so that a gradient twice as long moves the weights twice as far."""
    sizes = dict(vocab_size=9, hidden_size=16, intermediate_size=32, num_hidden_layers=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = A3ForCausalLM(A3Config(**sizes, num_attention_heads=2, num_key_value_heads=2))
    with torch.no_grad():
        for weight in model.parameters():  # a fresh model hardly uses its context
            weight.mul_(4) if weight.dim() > 1 else None
    return model, torch.optim.SGD(model.parameters(), lr=0.05)


def _vector(model: A3ForCausalLM) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


@cache
def _after_steps(clip_norm: float, way: str = "") -> tuple[list[float], list[torch.Tensor]]:
    """The losses of two steps, and the weights before and after them; ``way`` is a mistake to make."""
    model, optimizer = _step_model()
    losses, weights = [], [_vector(model)]
    with torch.enable_grad():
        for ids, group_ids in _step_texts():
            nats = -model(ids, group_ids, labels=ids).log_probs
            predicted = group_ids > 0
            count = {"a sum": 1, "all positions": predicted.numel(), "real": int((group_ids >= 0).sum())}.get(way)
            loss = nats.sum() / (count or predicted.sum())
            if way == "rows":
                loss = (nats.sum(1) / predicted.sum(1)).mean()
            (-loss if way == "up" else loss).backward()
            if way != "long":
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            optimizer.step()
            if way != "left over":
                optimizer.zero_grad()
            losses.append(loss.item())
            weights.append(_vector(model))
    return losses, weights


@exercise
def training_step(answer: Callable) -> None:
    """(model, optimizer, input_ids, group_ids, clip_norm) -> the loss; the weights are updated."""
    divided = {
        "a sum": "it is a sum: divide it by the number of predicted tokens",
        "all positions": "it is divided by all B * T positions; count those that are predicted",
        "real": "it is divided by all tokens, given ones too; count those that are predicted",
        "rows": "it is the mean of the rows' means, so tokens of different rows do not weigh the same",
    }
    for clip_norm in (1e3, 0.5):  # the first is never reached
        model, optimizer = _step_model()
        losses, weights = _after_steps(clip_norm)
        for number, (ids, group_ids) in enumerate(_step_texts()):
            with torch.enable_grad():
                got = answer(model, optimizer, ids.clone(), group_ids.clone(), clip_norm)
            where = f"with clip_norm {clip_norm:g}, step {number + 1}: "
            number_like = isinstance(got, (int, float, torch.Tensor)) and torch.as_tensor(got).numel() == 1
            expect(number_like, "return the loss, one number.")
            got, now, right = torch.as_tensor(got).item(), _vector(model), weights[number + 1]
            said = f"{where}the loss should be {losses[number]:.4f}, not {got:.4f}"
            for way, what in divided.items():
                wrong = _after_steps(clip_norm, way)[0][number]
                expect(number > 0 or not math.isclose(got, wrong, rel_tol=1e-4), f"{said}: {what}.")
            expect(number > 0 or not math.isclose(got, -losses[0], rel_tol=1e-4), f"{said}: the sign is wrong.")
            moved = (right - weights[number]).norm()
            expect(not torch.equal(now, weights[number]), f"{where}the weights have not changed.")
            for way, what in (
                ("up", "they went up the gradient, not down"),
                ("long", "the gradient was not clipped before the step"),
                ("left over", "gradients of the step before were added: set them to zero"),
            ):
                wrong = _after_steps(clip_norm, way)[1][number + 1]
                other = (wrong - right).norm() > 0.01 * moved  # here this mistake shows
                expect(not (other and (now - wrong).norm() < 0.01 * moved), f"{where}the weights are wrong: {what}.")
            expect((now - right).norm() < 0.01 * moved, f"{where}the weights after it are wrong.")
            expect(math.isclose(got, losses[number], rel_tol=1e-4), f"{said}.")


@exercise
def blank_curriculum(answer: Curriculum) -> None:
    """Left to right for a quarter, growing spans for a quarter, then sentence blanks (2/3) and permutations (1/3)."""
    expect(isinstance(answer, Curriculum), f"make a Curriculum, not {type(answer).__name__}.")
    parts = [{("blocks", 1): 1.0}] * 3 + [{("span", size): 1.0} for size in (1, 2, 4)]
    parts += [{("sentence", 1): 2 / 3, ("shuffled", 1): 1 / 6, ("shuffled", 4): 1 / 6}] * 6
    for moment in range(240):  # between two boundaries, which may be rounded
        progress = (moment + 0.5) / 240
        right, got = parts[moment // 20], mixture(answer, progress)
        same = got.keys() == right.keys() and all(math.isclose(got[key], right[key], abs_tol=5e-3) for key in right)
        texts = [
            ", ".join(f"{kind} of size {size} ({share:.1%})" for (kind, size), share in sorted(mixture.items()))
            for mixture in (right, got)
        ]
        expect(same, f"at {progress:.1%} of the training there should be {texts[0]}; you have {texts[1]}.")


@cache
def _toy_loss(curriculum: Curriculum) -> float:
    """Nats per letter of a tiny model after 70 steps on three random letters and their copy; mean of two seeds."""
    length, batch, steps, sizes = 7, 32, 70, dict(vocab_size=9, hidden_size=32, intermediate_size=64)
    config = A3Config(**sizes, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)

    def texts(count: int, generator: torch.Generator) -> torch.Tensor:
        half = torch.randint(8, (count, 3), generator=generator)
        return torch.cat((torch.full((count, 1), 8), half, half), dim=1)

    losses = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            model, generator = A3ForCausalLM(config), torch.Generator().manual_seed(seed)
            optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
            lengths, no_ends = torch.full((batch,), length), torch.zeros(batch, length, dtype=torch.bool)
            for step in range(steps):
                numbers = uniform(seed, torch.arange(step * batch, (step + 1) * batch), length + CHOICES)
                x, ids = texts(batch, generator), curriculum.draw(step / steps, lengths, no_ends, numbers)
                optimizer.zero_grad()
                (-model(x, ids, labels=x).log_probs.sum() / (ids > 0).sum()).backward()
                optimizer.step()
        generator = torch.Generator().manual_seed(99)
        x = texts(256, generator)
        orders = [[groups.left_to_right(length)] * len(x)]
        orders += [[groups.shuffled(length, size, generator=generator) for _ in x] for size in (1, 2)]
        with torch.no_grad():
            losses += [-objective.log_likelihood(model, x, torch.stack(ids)).mean().item() / 6 for ids in orders]
    return sum(losses) / len(losses)


@exercise
def toy_curriculum(answer: Curriculum) -> str:
    """A curriculum with which the tiny model learns the toy texts better than with the paper's stages."""
    expect(isinstance(answer, Curriculum), f"make a Curriculum, not {type(answer).__name__}.")
    paper, yours = _toy_loss(Curriculum.preset("paper")), _toy_loss(answer)
    found = f"mean loss {yours:.3f} nats per letter, {paper:.3f} with the paper's stages"
    met = set().union(*(mixture(answer, moment / 100) for moment in range(100)))
    never = " It never meets a random order." if not any(kind == "shuffled" for kind, _ in met) else ""
    expect(yours < paper, f"{found}: not better.{never}")
    expect(yours < paper - 0.04, f"{found}: better, but by less than 0.04.")
    return f"{found}. Now on real text, in section 11."


@exercise
def microbatch_losses(answer: Callable) -> None:
    """(log_probs, predicted), lists of (B, T), -> losses whose gradients add up to that of the mean over all tokens."""
    generator = torch.Generator().manual_seed(0)
    for counts in ([7, 1], [2, 0, 5], [3, 3], [6]):
        log_probs = [torch.randn(2, 4, generator=generator, dtype=torch.float64).requires_grad_() for _ in counts]
        predicted = [(torch.arange(8) < count).flip(0).view(2, 4) for count in counts]
        got = answer(list(log_probs), [part.clone() for part in predicted])
        case = f"for microbatches of {', '.join(map(str, counts))} predicted tokens "
        expect(isinstance(got, (list, tuple)) and len(got) == len(counts), "return a list, one loss per microbatch.")
        for number, loss in enumerate(got):
            expect(isinstance(loss, torch.Tensor) and loss.numel() == 1, "each loss is a tensor with one number.")
            expect(
                loss.requires_grad, f"{case}loss {number} has no graph, so backward fails: compute it from log_probs."
            )
            try:
                loss.backward()
            except RuntimeError as error:
                expect(
                    "second time" not in str(error),
                    f"{case}calling backward on loss {number} fails: it shares a part of its graph with another loss, "
                    "whose backward has freed it. Compute each loss from its own microbatch.",
                )
                raise
        gradient = torch.stack([torch.zeros_like(part) if part.grad is None else part.grad for part in log_probs])
        chosen = torch.stack(predicted)
        share = chosen.double() / sum(counts)
        expect(not gradient.isnan().any(), f"{case}the gradient is not a number: a microbatch may predict nothing.")
        expect(not torch.allclose(gradient, share), "the sign is wrong: the loss is the *negative* log-likelihood.")
        expect(not gradient[~chosen].any(), f"{case}positions count that are not predicted.")
        expect(
            not torch.allclose(gradient, -chosen.double()) or sum(counts) == 1,
            f"{case}the losses are sums; divide them by the number of predicted tokens of the whole step.",
        )
        weights = [sorted(-gradient[n][chosen[n]]) for n, count in enumerate(counts) if count]
        lightest, heaviest = min(w[0] for w in weights), max(w[-1] for w in weights)
        expect(
            all(w[-1] - w[0] < 1e-9 for w in weights),
            f"{case}tokens of one microbatch weigh from {lightest:.3f} to {heaviest:.3f}; all should weigh the same.",
        )
        expect(
            heaviest - lightest < 1e-9,
            f"{case}a token weighs {' or '.join(f'{w[0]:.3f}' for w in weights)}, depending on its microbatch; "
            "divide by the count of the whole step, not by that of the microbatch.",
        )
        expect(
            torch.allclose(gradient, -share),
            f"{case}each token should weigh 1/{sum(counts)} = {1 / sum(counts):.3f}, not {lightest:.3f}.",
        )


@exercise
def rows_of_step(answer: Callable) -> None:
    """(step, batch_size, size, order_of) -> the rows of a step, epochs following each other without a gap."""

    def order_of(epoch: int, size: int) -> torch.Tensor:
        return torch.randperm(size, generator=torch.Generator().manual_seed(epoch))

    for batch, size in ((2, 6), (4, 6), (5, 3), (7, 2)):
        drawn = {}
        for step in (0, 1, 2, 3, 5, 7, 2, 100, 0):  # back and forth, as after a crash
            got = answer(step, batch, size, lambda epoch, size=size: order_of(epoch, size))
            where = f"with batches of {batch} and {size} rows, step {step}"
            expect(isinstance(got, list), f"return a list of row numbers, not {type(got).__name__}.")
            got = [int(row) for row in got]
            examples = range(step * batch, (step + 1) * batch)
            right = [int(order_of(example // size, size)[example % size]) for example in examples]
            expect(drawn.setdefault(step, got) == got, f"{where} differs when it is asked for again: remember nothing.")
            expect(
                len(got) >= batch or examples[0] // size == examples[-1] // size,
                f"{where} has {len(got)} rows: a batch goes on into the next epoch.",
            )
            expect(len(got) == batch, f"{where} has {len(got)} rows, not {batch}.")
            first = order_of(0, size).tolist()
            again = [first[example % size] for example in examples]
            expect(got != again or again == right, f"{where}: every epoch has an order of its own.")
            expect(got == right, f"{where} should be {right}, not {got}. Which examples does the step have?")
