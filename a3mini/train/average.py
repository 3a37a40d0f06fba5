"""An exponential moving average of the trained weights, which forgets by tokens.

Of the weights after each step, the average takes 2^(-n / half-life) parts, where n is how many tokens were trained on
since. So it does not depend on how the tokens are cut into steps, but for how often the weights are looked at. The
parts are divided by their sum, as in Adam: the weights that the training began with have no part, and after the first
step the average is the weights themselves.

``torch.optim.swa_utils.AveragedModel`` does not fit: it copies the whole model, frozen weights included, keeps the
average in the weights' own type, and its average forgets by steps, the same at each. The update itself is the one that
its ``get_ema_multi_avg_fn`` makes.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

TOKENS, PREFIX = "tokens", "average."  # in a state


class Average:
    """The average of some weights, in float32, beside them on their device.

    Args:
        named_weights: as ``named_parameters()`` gives them. Those that are not trained are left out; a weight that has
            two names is kept once, under the first.
        half_life_tokens: after so many more tokens, what a weight was counts half as much.

    Raises:
        ValueError: the half-life is not positive, or nothing is trained.
    """

    def __init__(
        self, named_weights: Mapping[str, nn.Parameter] | Iterable[tuple[str, nn.Parameter]], half_life_tokens: float
    ):
        if not 0 < half_life_tokens < math.inf:
            raise ValueError(f"half_life_tokens must be a positive number, got {half_life_tokens}")
        pairs = named_weights.items() if isinstance(named_weights, Mapping) else named_weights
        once = {}
        for name, weight in pairs:
            if weight.requires_grad:
                once.setdefault(id(weight), (name, weight))
        if not once:
            raise ValueError("there is nothing to average: no weight is trained")
        self.names = [name for name, _ in once.values()]
        self.weights = [weight for _, weight in once.values()]
        self.averages = [weight.detach().float().clone() for weight in self.weights]
        self.half_life_tokens = half_life_tokens
        self.tokens = 0
        self._is_swapped = False

    @torch.no_grad()
    def update(self, tokens: int) -> None:
        """Take the weights in, after a step of the optimiser that trained on ``tokens`` tokens. Waits for no value.

        Raises:
            ValueError: ``tokens`` is not positive.
            RuntimeError: inside ``swapped``.
        """
        if tokens < 1:
            raise ValueError(f"a step trains on at least one token, got {tokens}")
        if self._is_swapped:
            raise RuntimeError("the average cannot be updated inside swapped(): its weights are in the model")
        self.tokens += tokens
        rate = -math.log(2) / self.half_life_tokens
        share = math.expm1(rate * tokens) / math.expm1(rate * self.tokens)  # of the newest; 1 at the first update
        torch._foreach_lerp_(self.averages, [weight.detach().float() for weight in self.weights], share)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the model's weights are their averages; after it, and after an error in it, what they were.

        The tensors stay the same, so what is compiled stays valid. Costs one copy of the trained weights meanwhile.
        Before the first update the weights are left as they are.

        Raises:
            RuntimeError: inside another ``swapped``.
        """
        if self._is_swapped:
            raise RuntimeError("swapped() inside swapped(): the averages are in the model already")
        weights = [weight.detach() for weight in self.weights]
        kept = [weight.clone() for weight in weights]
        self._is_swapped = True
        try:
            if self.tokens:
                _copy(self.averages, weights)
            yield
        finally:
            _copy(kept, weights)
            self._is_swapped = False

    def keep(self) -> None:
        """The model's weights become their averages, for good."""
        if self.tokens:
            _copy(self.averages, [weight.detach() for weight in self.weights])

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint needs: "tokens", int64 (), and "average.NAME", float32, whole. Every process takes part."""
        averages = [one.full_tensor() if isinstance(one, DTensor) else one for one in self.averages]
        return {TOKENS: torch.tensor(self.tokens), **dict(zip(map(PREFIX.__add__, self.names), averages, strict=True))}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from such a state, bit for bit.

        Raises:
            ValueError: it is of other weights; the first that differs is named, and nothing is changed.
        """
        if TOKENS not in state:
            raise ValueError(f"the state of an average holds no {TOKENS!r}")
        expected = {PREFIX + name: tuple(one.shape) for name, one in zip(self.names, self.averages, strict=True)}
        found = {name: tuple(one.shape) for name, one in state.items() if name != TOKENS}
        for name in sorted({*expected, *found}):
            if expected.get(name) != found.get(name):
                raise ValueError(
                    f"the state of the average is of other weights: {name} has the shape {found.get(name)} there, "
                    f"{expected.get(name)} here"
                )
        self.tokens = int(state[TOKENS])
        for name, average in zip(self.names, self.averages, strict=True):
            value = state[PREFIX + name].to(average.device)
            if isinstance(average, DTensor):
                value = distribute_tensor(value, average.device_mesh, average.placements)
            average.copy_(value)


def _copy(values: list[Tensor], weights: list[Tensor]) -> None:
    for value, weight in zip(values, weights, strict=True):  # no _foreach_copy_: divided weights have none
        weight.copy_(value)
