"""What a model is trained on: the recipes of any order, of autoregression and of masked diffusion.

A *recipe* turns rows of tokens into a model's inputs and says how each predicted token counts. All else, data order,
optimiser, schedule, precision, is the same for every recipe (``loop``), so that a race between them is fair.

**Any order** is A3. Its rivals are Hugging Face's Llama. **Autoregression** goes on predicting the next token.
**Masked diffusion** is adapted the way DiffuLLaMA does it: attention becomes bidirectional, little by little; the shift
stays, so that the output at position t - 1 predicts token t; a masked token enters as one learned vector, as A3's
queries do. For a masking ratio t drawn uniformly from (0, 1] each token but the first is masked with probability t,
and the loss is::

    1/t * sum of -log P(x_i | unmasked tokens) over the masked i, divided by the number of tokens,

whose expectation bounds the negative log-likelihood; ``evaluate.rivals`` says what that bound is. With rows of few
tokens that weight is noisy. ``MaskedDiffusion(counted=True)`` masks exactly k of a row's n tokens, k drawn uniformly
from 1 to n, with the weight n/k: the expectation is the same (integrate over t), the variance is lower.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import adapter, flat, groups, head
from a3mini.attention import at_least_float32
from a3mini.head import Head
from a3mini.model import A3Config
from a3mini.objective import labels_for
from a3mini.pretrained import own_config
from a3mini.rows import IGNORED_LABEL
from a3mini.train.curriculum import CHOICES, Curriculum, uniform
from a3mini.train.data import Blocks
from a3mini.train.spare_room import draw_spare, make_room

SMALLEST_RATIO = 1e-3  # of masking; bounds the weight 1/t
GOLDEN = 0.6180339887498949  # neighbouring examples get ratios that cover (0, 1] evenly
LONGEST = 2**20  # no row is longer
CONFIGURED = ("known_order", "empty_token_id")  # what a model's config keeps of its training
NO_END = (
    "blanks of this curriculum have spare room, but no token is known that ends them; give AnyOrder an empty_token_id, "
    "or the model's config"
)


class Batch(NamedTuple):
    """What a recipe makes of some rows. It is data alone: another process may make it, long before it is needed."""

    inputs: dict  # of the model: tensors, or a ``flat.FlatPlan`` of tensors
    weights: Tensor  # float, of the shape of ``log_probs``: how much each negative log-likelihood counts
    count: int  # by how many tokens the loss is divided


class Recipe(Protocol):
    """How a kind of model is trained.

    ``whole_rows``, if a recipe has it and it is True, says that rows must keep all their columns, padding or not.
    """

    def settings(self) -> dict:
        """What defines the recipe, for the run's record."""

    def batch(self, rows: Blocks, progress: float, examples: Tensor, seed: int, unit: int = 0) -> Batch:
        """Inputs for some rows.

        Args:
            rows: B of them.
            progress: in [0, 1), how much of the training is over.
            examples: int64, (B,), their numbers; what is random depends on them and on ``seed`` alone.
            unit: round shapes up so that a training has few of them, rows to a multiple of this; 0: as they are.
        """

    def log_probs(self, model: nn.Module, inputs: dict) -> Tensor:
        """Log-probabilities in nats, of the shape of the weights; anything where the weight is 0. Waits for nothing."""


class AnyOrder:
    """A3: every example draws its own grouping from the curriculum; each predicted token counts once.

    Args:
        curriculum: which groups a step sees.
        known_order: how given tokens read each other: "together", all see all; or "left_to_right", each sees those on
            its left, as in the model that A3 is adapted from (``groups.given_in_order``). None: in a training, as the
            model's config says (``for_model``); outside of one, "together".
        empty_token_id: the token that ends a blank, where the curriculum gives blanks spare room; else it is not used.
            None: in a training, as the model's config says.
    """

    def __init__(self, curriculum: Curriculum, known_order: str | None = None, empty_token_id: int | None = None):
        if known_order is not None:
            groups.check_known_order(known_order)
        if empty_token_id is not None:
            groups.check_integer("empty_token_id", empty_token_id, 0)
        self.curriculum, self.known_order, self.empty_token_id = curriculum, known_order, empty_token_id

    @property
    def whole_rows(self) -> bool:
        """Spare room moves tokens to the right, and where a row is cut must not depend on the rows beside it."""
        return self.curriculum.has_room

    def settings(self) -> dict:
        known_order = self.known_order or A3Config.known_order
        found = {"recipe": "any order", "curriculum": self.curriculum.to_dict(), "known_order": known_order}
        return found | ({"empty_token_id": self.empty_token_id} if self.curriculum.has_room else {})

    def group_ids(self, rows: Blocks, progress: float, examples: Tensor, seed: int) -> Tensor:
        """The groups that some examples draw, int64, (B, T), before given tokens are in order and blanks have room."""
        numbers = uniform(seed, torch.as_tensor(examples), rows.input_ids.shape[1] + CHOICES)
        return self.curriculum.draw(progress, rows.lengths, rows.sentence_ends, numbers)

    def with_room(
        self, rows: Blocks, drawn: Tensor, progress: float, examples: Tensor, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Tokens and groups, int64 (B, T) each, once blanks have their spare room; ``drawn``, (B, T), is ``group_ids``.

        Raises:
            ValueError: no token is known that ends a blank.
        """
        if not self.curriculum.has_room:
            return rows.input_ids, drawn
        if self.empty_token_id is None:
            raise ValueError(NO_END)
        examples = torch.as_tensor(examples)
        stage, inside = self.curriculum.stage_at(progress)
        numbers = uniform(seed, examples, CHOICES)
        spare = draw_spare(stage.room(numbers), examples, seed)
        return make_room(rows.input_ids, drawn, stage.choose(inside, numbers)[1], spare, self.empty_token_id)

    def batch(self, rows: Blocks, progress: float, examples: Tensor, seed: int, unit: int = 0) -> Batch:
        drawn = self.group_ids(rows, progress, examples, seed)
        ids, drawn = self.with_room(rows, drawn, progress, examples, seed)
        group_ids, known = groups.read_given(drawn, self.known_order or A3Config.known_order)
        plan = flat.plan(ids, group_ids, labels_for(ids, group_ids, known), unit)
        return Batch({"plan": plan}, (plan.labels != IGNORED_LABEL).float(), int((drawn > 0).sum()))

    def log_probs(self, model: nn.Module, inputs: dict) -> Tensor:
        return model(**inputs).log_probs


def for_model(recipe: Recipe, model: nn.Module, start: str | Path | None = None) -> Recipe:
    """The recipe as it trains this model: where ``AnyOrder`` leaves something open, the model's config says it.

    Args:
        recipe: is left as it is.
        model: what is trained.
        start: an adapter to go on from, whose record goes before the config.

    Raises:
        ValueError: blanks are to have spare room, and nobody says which token ends them; or it is not the model's.
    """
    if not isinstance(recipe, AnyOrder):
        return recipe
    recipe, before = copy.copy(recipe), adapter.read(start)[1] if start is not None else {}
    if recipe.known_order is None:
        recipe.known_order = before.get("known_order", getattr(model.config, "known_order", A3Config.known_order))
    if recipe.curriculum.has_room:
        own = before.get("empty_token_id", getattr(model.config, "empty_token_id", None))
        if recipe.empty_token_id is None:
            recipe.empty_token_id = own
        if recipe.empty_token_id is None:
            raise ValueError(NO_END)
        if own not in (None, recipe.empty_token_id):
            raise ValueError(
                f"empty_token_id={recipe.empty_token_id}, but the model has learned to end blanks with token {own}; "
                "leave it out to go on with that"
            )
        if recipe.empty_token_id >= model.config.vocab_size:
            raise ValueError(f"empty_token_id={recipe.empty_token_id} is outside the model's {model.config.vocab_size}")
    return recipe


@contextmanager
def read_by(recipe: Recipe, model: nn.Module) -> Iterator[None]:
    """The model's config says what the recipe settled (``CONFIGURED``); as before, if the training is cut short."""
    config, settings = model.config, recipe.settings()
    told = {name: settings[name] for name in CONFIGURED if settings.get(name) is not None}
    before = {name: vars(config)[name] for name in told if name in vars(config)}
    for name, value in told.items():
        setattr(config, name, value)
    try:
        yield
    except BaseException:
        for name in told:
            vars(config).pop(name, None)
        vars(config).update(before)
        raise


class Autoregressive:
    """The recipe of ordinary training: every token from those on its left."""

    def settings(self) -> dict:
        return {"recipe": "autoregressive"}

    def predicted(self, rows: Blocks) -> Tensor:
        """Which tokens count, bool (B, T): all but the first. A task with questions and answers may say otherwise."""
        return _behind_first(rows)

    def batch(self, rows: Blocks, progress: float, examples: Tensor, seed: int, unit: int = 0) -> Batch:
        predicted = self.predicted(rows)
        return Batch({"input_ids": rows.input_ids}, predicted.float(), int(predicted.sum()))

    def log_probs(self, model: nn.Module, inputs: dict) -> Tensor:
        ids = inputs["input_ids"]  # padding stands on the right, where no real token sees it
        # where it gets no mask, transformers looks into the positions for texts that were packed, and the GPU waits
        causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
        visible = causal.expand(len(ids), 1, -1, -1)
        return shifted_log_probs(model(input_ids=ids, attention_mask=visible, use_cache=False).logits, ids)


class MaskedDiffusionModel(LlamaForCausalLM):
    """Llama with bidirectional attention and a learned vector in place of masked tokens."""

    def __init__(self, config: LlamaConfig):
        super().__init__(config)
        self.mask_embedding = nn.Parameter(torch.zeros(config.hidden_size))
        self.lm_head = Head(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def from_autoregressive(cls, source: LlamaForCausalLM) -> "MaskedDiffusionModel":
        """Copy the weights; the mask's vector starts at the mean embedding, as A3's w does.

        Raises:
            ValueError: the source is no Llama, or its tensors do not fit.
        """
        if not isinstance(source, LlamaForCausalLM):
            raise ValueError(
                f"masked diffusion starts from a LlamaForCausalLM, got {type(source).__name__}; take a Llama, or the "
                "objective any-order or autoregressive"
            )
        model = cls(own_config(source)).to(source.dtype)
        missing, left_over = model.load_state_dict(source.state_dict(), strict=False)
        if missing != ["mask_embedding"] or left_over:
            raise ValueError(f"these tensors have no partner: {sorted({*missing, *left_over} - {'mask_embedding'})}")
        with torch.no_grad():
            model.mask_embedding.copy_(model.get_input_embeddings().weight.mean(0))
        return model.eval()

    def forward(
        self,
        input_ids: Tensor,
        masked: Tensor,
        visible: Tensor,
        places: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Shifted logits (B, T, V), those at t - 1 predict the token at t; or the log-probabilities of labels.

        Args:
            input_ids: int64, (B, T).
            masked: bool, (B, T), True where the token is replaced by the mask's vector.
            visible: bool, (B, T, T), True = row may attend to column.
            places, labels: int64, (M,) each: what M of the B * T positions predict. Then only their logits are
                computed, some at a time, and what returns are the labels' log-probabilities (M,); see ``head``.
        """
        embedded = torch.where(masked[..., None], self.mask_embedding, self.get_input_embeddings()(input_ids))
        hidden = self.model(inputs_embeds=embedded, attention_mask=visible[:, None], use_cache=False).last_hidden_state
        if places is None:
            return self.lm_head(hidden)
        return head.log_probs(hidden.flatten(0, 1).index_select(0, places), self.lm_head, labels)


class MaskedDiffusion:
    """The recipe of masked diffusion.

    Args:
        anneal: share of the training over which attention turns from causal to bidirectional: each connection to
            the right is open with a probability that grows from 0 to 1.
        counted: mask an exact number of tokens, not each with a probability; see the top of this file.
    """

    def __init__(self, anneal: float = 0.2, counted: bool = False):
        if not 0 <= anneal <= 1:
            raise ValueError(f"anneal must be a share from 0 to 1, got {anneal!r}")
        self.anneal, self.counted = anneal, counted

    def settings(self) -> dict:
        return {"recipe": "masked diffusion", "anneal": self.anneal} | ({"counted": True} if self.counted else {})

    def predicted(self, rows: Blocks) -> Tensor:
        """Which tokens can be masked, bool (B, T), never the first; as ``Autoregressive.predicted``."""
        return _behind_first(rows)

    def batch(self, rows: Blocks, progress: float, examples: Tensor, seed: int, unit: int = 0) -> Batch:
        real, predicted, examples = _real(rows), self.predicted(rows), torch.as_tensor(examples)
        batch, length = real.shape
        start = uniform(seed, torch.tensor([-2]), 1)
        # a function of the example's number, like everything random; float64, or large numbers lose their fraction
        ratio = SMALLEST_RATIO + (1 - SMALLEST_RATIO) * ((examples[:, None].double() * GOLDEN + start) % 1)  # (B, 1)
        numbers = uniform(seed, examples, length)
        masked = (numbers < ratio) & predicted
        if self.counted:
            tokens = predicted.sum(-1, keepdim=True)  # n, (B, 1)
            count = (ratio * tokens).ceil().clamp(min=1)  # k
            # the k smallest numbers of a row
            masked = (numbers.masked_fill(~predicted, 2.0).argsort(-1).argsort(-1) < count) & predicted
            ratio = count / tokens.clamp(min=1)
        opened = min(1.0, progress / self.anneal) if self.anneal else 1.0
        visible = real[:, None].expand(-1, length, -1)
        if opened < 1:  # numbers for each row of the mask, that depend on the example and on the row
            each = (examples[:, None] * LONGEST + torch.arange(length)).flatten()
            open_right = (uniform(seed + 1, each, length) < opened).view(batch, length, length)
            visible = visible & (torch.ones(length, length, dtype=torch.bool).tril() | open_right)
        places, weights = masked.flatten().nonzero()[:, 0], (masked / ratio).float()[masked]
        more = -len(places) % unit if unit else 0
        inputs = {
            "input_ids": rows.input_ids,
            "masked": masked,
            "visible": visible.contiguous(),
            "places": F.pad(places - 1, (0, more)),  # the shift; the first of a row is never masked
            "labels": F.pad(rows.input_ids[masked], (0, more), value=IGNORED_LABEL),
        }
        return Batch(inputs, F.pad(weights, (0, more)), int(predicted.sum()))

    def log_probs(self, model: nn.Module, inputs: dict) -> Tensor:
        return model(**inputs)


def shifted_log_probs(logits: Tensor, input_ids: Tensor) -> Tensor:
    """Log-probability (B, T) of each token under the logits one position before; 0 for the first."""
    labels = input_ids[:, 1:]
    scores = F.cross_entropy(at_least_float32(logits[:, :-1].flatten(0, 1)), labels.flatten(), reduction="none")
    return F.pad(-scores.unflatten(0, labels.shape), (1, 0))


def _real(rows: Blocks) -> Tensor:
    return torch.arange(rows.input_ids.shape[1]) < rows.lengths[:, None]


def _behind_first(rows: Blocks) -> Tensor:
    real = _real(rows)
    real[:, 0] = False
    return real
