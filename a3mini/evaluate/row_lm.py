"""Requests of lm-eval as rows of tokens, for every model that scores rows.

lm-eval (EleutherAI's LM Evaluation Harness) asks for log P(continuation | context). The tokens are exactly those of its
own class for Hugging Face models: no start token before a context, trailing spaces of the context moved to the
continuation, the two tokenised together and cut apart, and on the left cut off what does not fit into the model. One
thing differs: a text that spells a control token, such as "</s>", is text here.

A request may have a third argument, {"suffix": text}: the text behind the continuation, for models that can be given
both sides. lm-eval's own models refuse such a request.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from a3mini import groups
from a3mini.train.curriculum import generator_for
from a3mini.train.data import check_vocabulary, special_ids
from a3mini.train.tokens import encode, encode_behind

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.models.utils import Collator
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as error:
    raise ImportError('the likelihood tasks come with a package of their own: pip install "a3mini[eval]"') from error


class Row(NamedTuple):
    """One request as tokens: P(continuation | context, suffix)."""

    context: list[int]
    continuation: list[int]
    suffix: list[int]

    @property
    def ids(self) -> list[int]:
        return self.context + self.continuation + self.suffix

    def seed(self, seed: int) -> int:
        """A seed of the row's own: it depends on ``seed`` and the row's tokens, and on no other row."""
        return zlib.crc32(repr((seed, self)).encode())


class Scored(NamedTuple):
    """What lm-eval wants to know of a request."""

    log_probs: float  # of the continuation, nats
    is_greedy: bool  # whether greedy decoding would have given it


class RowLM(TemplateLM):
    """What the models here share: tokens, batches, rolling windows. ``score`` is for a subclass to write.

    Args:
        model: on the device where it is to run.
        tokenizer: its Hugging Face tokenizer.
        batch_size: rows per pass; rows of like length go together, and the result does not depend on it.

    Raises:
        ValueError: the tokenizer is larger than the model's vocabulary; a ``batch_size`` below 1.
    """

    def __init__(self, model, tokenizer, batch_size: int):
        super().__init__()
        check_vocabulary(tokenizer, model.config.vocab_size)
        groups.check_integer("batch_size", batch_size, 1)
        self.model, self.tokenizer, self.batch_size = model.eval(), tokenizer, batch_size
        self._device = model.device

    def score(self, rows: Sequence[Row]) -> list[Scored]:
        """Score a batch of rows."""
        raise NotImplementedError

    @property
    def eot_token_id(self) -> int:
        return special_ids(self.tokenizer)[1]

    @property
    def prefix_token_id(self) -> int:
        """Stands where a context would be, if there is none."""
        return special_ids(self.tokenizer)[0]

    @property
    def max_length(self) -> int:
        """How many tokens may stand before the last one of a row."""
        return self.model.config.max_position_embeddings - 1  # the last one has a row of the query stream

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_) -> list[int]:
        return encode(self.tokenizer, [string], add_special_tokens is not False)[0]

    def encode(self, context: str, continuation: str, suffix: str = "") -> Row:
        """A request as tokens. The suffix is tokenised as what stands behind other text, whatever that is.

        Raises:
            ValueError: a suffix without a context.
        """
        behind = encode_behind(self.tokenizer, suffix) if suffix else []
        if context:
            return Row(*self._encode_pair(context, continuation), behind)
        if suffix:
            raise ValueError(f"the suffix {suffix!r:.40} needs a context before the continuation; got none")
        return Row([self.prefix_token_id], self.tok_encode(continuation, add_special_tokens=False), [])

    def loglikelihood(self, requests, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, nats, and whether greedy decoding would give it.

        Args:
            requests: lm-eval's instances, with ``args`` (context, continuation) or (context, continuation,
                {"suffix": text}). A suffix is conditioned on: P(continuation | context, suffix).
            disable_tqdm: no progress bar.

        Raises:
            ValueError: an argument that is not known, an empty continuation, a row that does not fit into the model.
        """
        rows = []
        for request in requests:
            context, continuation, *rest = request.args
            options = dict(rest[0]) if rest else {}
            row = self.encode(context, continuation, options.pop("suffix", ""))
            if options or len(rest) > 1:
                raise ValueError(f"a request has the argument {next(iter(options), rest[-1])!r}; only suffix is known")
            rows.append(row)
        found = self._scores(rows, disable_tqdm)
        for request, answer in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
        return found

    def _loglikelihood_tokens(self, requests, disable_tqdm: bool = False, **_) -> list[tuple[float, bool]]:
        return self._scores([Row(context, continuation, []) for _, context, continuation in requests], disable_tqdm)

    def _scores(self, rows: list[Row], disable_tqdm: bool) -> list[tuple[float, bool]]:
        rows = [self._fit(row) for row in rows]
        batches = Collator(rows, sort_fn=lambda row: -len(row.ids))
        found = []
        with torch.no_grad(), tqdm(total=len(rows), disable=disable_tqdm, desc="log-likelihoods") as bar:
            for batch in batches.get_batched(n=self.batch_size):
                found += [tuple(scored) for scored in self.score(batch)]
                bar.update(len(batch))
        return batches.get_original(found)

    def _fit(self, row: Row) -> Row:
        """The row without what is too much on its left; at least one token of context stays."""
        if not row.continuation:
            raise ValueError(f"a continuation has no tokens; its context ends with {self._tail(row.context)!r}")
        room = self.max_length + 1 - len(row.continuation) - len(row.suffix)
        if room < 1:
            raise ValueError(
                f"continuation and suffix have {len(row.continuation) + len(row.suffix)} tokens, but the model takes "
                f"{self.max_length + 1} with the context; shorten {self._tail(row.continuation)!r}"
            )
        return row._replace(context=row.context[-room:])

    def _tail(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids)[-40:]

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False) -> list[float]:
        """Log-probability of whole texts, nats; a long one in windows, every token from as much context as fits."""
        rows, counts = [], []
        for request in requests:
            windows = get_rolling_token_windows(
                self.tok_encode(request.args[0]), self.prefix_token_id, self.max_length, context_len=1
            )
            own = [Row(*make_disjoint_window(window), []) for window in windows]
            rows += own
            counts.append(len(own))
        scores = torch.tensor([score for score, _ in self._scores(rows, disable_tqdm)], dtype=torch.float64)
        totals = [part.sum().item() for part in scores.split(counts)]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        raise NotImplementedError(f"{type(self).__name__} does not generate; use A3LM with the query stream, or HFLM")

    def _tensors(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, T), and bool (B, T): the continuations, and padding."""
        ids = [torch.tensor(row.ids) for row in rows]
        unknown = [
            torch.tensor([False] * len(row.context) + [True] * len(row.continuation) + [False] * len(row.suffix))
            for row in rows
        ]
        padding = [torch.zeros(len(one), dtype=torch.bool) for one in ids]
        found = (
            pad_sequence(part, batch_first=True, padding_value=value)
            for part, value in ((ids, 0), (unknown, False), (padding, True))
        )
        return tuple(part.to(self.device) for part in found)

    def orders(self, rows: Sequence[Row], order: str, size: int, seed: int) -> Tensor:
        """Group ids (B, T): context and suffix 0, the continuation in groups; see ``groups.infill``."""
        _, unknown, _ = self._tensors(rows)
        drawn = [
            groups.infill(one[: len(row.ids)], size, order, generator=generator_for(row.seed(seed)))
            for row, one in zip(rows, unknown.cpu(), strict=True)
        ]
        return pad_sequence(drawn, batch_first=True, padding_value=groups.PADDING).to(self.device)
