"""Checks for the exercises of notebook 05, train a compact model."""

import math
from collections.abc import Callable
from functools import cache

import torch

from a3mini import groups, objective
from a3mini.model import A3Config, A3ForCausalLM
from a3mini.notebook.checks.base import Mistake, exercise, expect, mixture
from a3mini.train.curriculum import CHOICES, Curriculum, uniform


@exercise
def learning_rate(answer: Callable) -> None:
    """(step, highest, warmup_steps, steps) -> the rate of that step: up in a line, down along half a cosine."""
    for highest, warmup, steps in ((3e-3, 20, 300), (0.5, 0, 10), (1.0, 7, 8), (2.0, 1, 6)):
        if warmup == 0:
            try:
                answer(0, highest, warmup, steps)
            except ZeroDivisionError:
                raise Mistake("without a warm-up (warmup_steps = 0) your code divides by zero at step 0.") from None
        got = [float(answer(step, highest, warmup, steps)) / highest for step in range(steps)]
        case = f"with {warmup} of {steps} steps for the warm-up "
        for step in range(warmup):
            place = f"{case}the rate of step {step} should be {step}/{warmup} of the highest, not {got[step]:.4f}"
            expect(not _equal(got[step], (step + 1) / warmup), f"{place}: step 0 has rate 0.")
            expect(_equal(got[step], step / warmup), f"{place}.")
        expect(not _equal(got[warmup], 2), f"{case}it rises to twice the highest rate: 1 + cos goes up to 2.")
        expect(
            _equal(got[warmup], 1),
            f"{case}step {warmup} should have the highest rate, not {got[warmup]:.4f} of it: the cosine begins there.",
        )
        left = [(step - warmup) / (steps - warmup) for step in range(warmup, steps)]
        straight = all(_equal(rate, 1 - u) for rate, u in zip(got[warmup:], left, strict=True))
        expect(not straight or len(left) < 3, "it falls in a straight line; it should follow a cosine.")
        right = [0.5 * (1 + math.cos(math.pi * u)) for u in left]
        wrong = [abs(rate - wanted) for rate, wanted in zip(got[warmup:], right, strict=True)]
        worst = wrong.index(max(wrong))
        place = f"{case}the rate of step {warmup + worst} should be {right[worst]:.4f} of the highest"
        expect(got[-1] > -1e-5, f"{place}, not {got[warmup + worst]:.4f}: half a cosine goes from 1 to 0, not to -1.")
        expect(max(wrong) < 1e-5, f"{place}, not {got[warmup + worst]:.4f}. Is u 0 at {warmup} and 1 at {steps}?")


def _equal(a: float, b: float) -> bool:
    """As equal as numbers can be that were float32 in between."""
    return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-5)


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
