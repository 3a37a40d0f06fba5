"""One step of decoding: the content that was committed since the last step, and the queries of what comes next.

Every way of decoding is a sequence of such steps. With the cache a step computes new content rows and query rows,
and nothing else. Without it, it computes the content rows of everything committed so far again; the results are the
same (law 4).
"""

import torch
from torch import Tensor

from a3mini import masks
from a3mini.attention import Visibility, at_least_float32
from a3mini.decode.cache import ContentCache
from a3mini.groups import PADDING
from a3mini.model import A3ForCausalLM
from a3mini.rows import Slots, Starts


class Steps:
    """The forward passes of one decoding.

    Args:
        model: an A3 model.
        shape: B and T of the batch.
        use_cache: keep keys and values of content between steps.

    ``passes``, int64 (B,), counts the steps in which a row had a query. ``fed``, bool (B, T), marks the positions
    whose content the model has seen.
    """

    def __init__(self, model: A3ForCausalLM, shape: tuple[int, int], use_cache: bool):
        self.model, self.use_cache = model, use_cache
        self.fed = torch.zeros(shape, dtype=torch.bool, device=model.device)
        self.passes = torch.zeros(shape[0], dtype=torch.int64, device=model.device)
        self._cache = self._empty_cache()

    def _empty_cache(self) -> ContentCache:
        return ContentCache(*self.fed.shape, self.model.config.num_hidden_layers, self.fed.device)

    def __call__(self, tokens: Tensor, group_ids: Tensor, new: Tensor, ask: Tensor) -> Tensor:
        """Feed content and ask for predictions.

        Args:
            tokens: int64, (B, T), read where content is.
            group_ids: int64, (B, T); see ``groups``. A query sees the fed content of earlier groups, content that of
                its own group too. New content must not belong to an earlier group than content fed before.
            new: bool, (B, T), content to feed now.
            ask: bool, (B, T), positions to predict.

        Returns:
            the last hidden states (M, D) of the M positions asked, in the order of ``ask.nonzero()``; give them,
            or some of them, to ``logits``.
        """
        self.fed = self.fed | new
        self.passes = self.passes + ask.any(-1)
        if not self.use_cache:
            self._cache, new = self._empty_cache(), self.fed & ask.any(-1, keepdim=True)
        content, query = Slots.where(new, order=group_ids), Slots.where(ask)
        content_groups, query_groups = content.take(group_ids, PADDING), query.take(group_ids, PADDING)
        starts = Starts.of(self.model.config.query_start, query, tokens, group_ids, self.fed)
        columns = self._cache.extend(content, content_groups)  # (B, S)
        content_mask = masks.may_attend(content_groups, columns, own_group=True)  # (B, C, S)
        query_mask = masks.may_attend(query_groups, columns, own_group=False)  # (B, Q, S)
        hidden, _ = self.model.model(
            content_ids=content.take(tokens, 0),
            positions=torch.cat((content.index, starts.positions), dim=1),
            query_ids=starts.tokens,
            visible=Visibility.of(torch.cat((content_mask, query_mask), dim=1)),
            kernel=self.model.config._attn_implementation,
            keep_content=False,
            cache=self._cache,
        )
        return hidden[query.valid]

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (M, V), at least float32, of hidden states (M, D)."""
        return at_least_float32(self.model.lm_head(hidden))

    def take_back(self, group_ids: Tensor, first_group: Tensor) -> None:
        """Forget each row's content of group ``first_group`` (B,) and later: its tokens did not last."""
        self.fed = self.fed & (group_ids < first_group[:, None])
        if self.use_cache:
            self._cache.drop(first_group)
