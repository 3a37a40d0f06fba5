"""A3, and masked diffusion, behind the interface of lm-eval: any task that lm-eval has can score them::

    lm = A3LM(model, tokenizer)                                  # the query stream, left to right
    lm_eval.simple_evaluate(lm, tasks=["hellaswag"], limit=100)

lm-eval asks for log P(continuation | context) and for greedy continuations. A3 answers from one of two streams. The
**content stream** at left-to-right singletons is the source model (law 1): there ``A3LM`` agrees with lm-eval's own
class for Hugging Face models, example by example. The **query stream** answers under any factorisation: the context is
given, the continuation is predicted in groups, in the order that ``A3LM`` is told. It can be given both sides as well;
``local_tasks`` has such a task. These files need lm-eval, the extra ``eval``.
"""

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from a3mini import decode, groups, masks
from a3mini.attention import Visibility, at_least_float32
from a3mini.decode.steps import Steps
from a3mini.evaluate.rivals import diffusion_bound
from a3mini.evaluate.row_lm import Row, RowLM, Scored
from a3mini.head import rows_at_a_time
from a3mini.model import A3ForCausalLM
from a3mini.train.curriculum import generator_for
from a3mini.train.recipes import MaskedDiffusionModel
from a3mini.train.tokens import no_tokens

try:
    from lm_eval.models.utils import Collator, normalize_gen_kwargs, postprocess_generated_text
except ImportError as error:
    raise ImportError('the likelihood tasks come with a package of their own: pip install "a3mini[eval]"') from error

STREAMS = ("query", "content")
ORDERS = ("left_to_right", "random")
CHUNK = 8  # tokens that ``generate_until`` draws before it looks for a stop string; then twice as many, and so on
GENERATION = {"until", "max_gen_toks", "do_sample", "temperature", "top_k", "top_p"}  # what a request may say


class A3LM(RowLM):
    """A3 as lm-eval's language model.

    Args:
        model: an A3 model.
        tokenizer: its tokenizer.
        stream: "query", A3's predictions; or "content", which predicts the next token as the source model does, left
            to right, and knows no other factorisation.
        order: in which the query stream predicts a continuation: "left_to_right" or "random".
        size: tokens that it predicts at a time.
        seed: of the random orders, and of sampling.
        known_order: how given tokens read each other, "together" or "left_to_right"; see ``groups.given_in_order``.
            None: as in the model's training (``model.config.known_order``); the content stream reads left to right.
        batch_size: rows per pass.
        max_gen_toks: tokens of a generation, where the task does not say.

    Raises:
        TypeError: ``model`` is not A3.
        ValueError: an option out of its range, or one that the content stream does not have.
    """

    def __init__(
        self,
        model: A3ForCausalLM,
        tokenizer,
        stream: str = "query",
        order: str = "left_to_right",
        size: int = 1,
        seed: int = 0,
        known_order: str | None = None,
        batch_size: int = 16,
        max_gen_toks: int = 256,
    ):
        if not isinstance(model, A3ForCausalLM):
            raise TypeError(f"model must be an A3ForCausalLM, got {type(model).__name__}; for others there is HFLM")
        if known_order is None:
            known_order = "left_to_right" if stream == "content" else model.config.known_order
        for name, value, allowed in (
            ("stream", stream, STREAMS), ("order", order, ORDERS), ("known_order", known_order, groups.KNOWN_ORDERS),
        ):  # fmt: skip
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
        groups.check_integer("size", size, 1)
        groups.check_integer("max_gen_toks", max_gen_toks, 1)
        if stream == "content" and (order, size, known_order) != ("left_to_right", 1, "left_to_right"):
            raise ValueError(
                f"the content stream predicts from left to right, one by one; order={order!r}, size={size} and "
                f'known_order={known_order!r} need stream="query"'
            )
        super().__init__(model, tokenizer, batch_size)
        self.stream, self.order, self.size, self.seed, self.known_order = stream, order, size, seed, known_order
        self.max_gen_toks = max_gen_toks

    @property
    def max_length(self) -> int:
        # the content stream never reads the last token of a row
        return self.model.config.max_position_embeddings - (self.stream == "query")

    def score(self, rows: Sequence[Row]) -> list[Scored]:
        if self.stream == "query":
            return self._query(rows)
        if any(row.suffix for row in rows):
            raise ValueError('the content stream reads from left to right; a suffix needs stream="query"')
        return self._content(rows)

    def groups_of(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Group ids (B, T) of rows under this factorisation, and bool (B, T), the tokens that are known."""
        return groups.read_given(self.orders(rows, self.order, self.size, self.seed), self.known_order)

    def _query(self, rows: Sequence[Row]) -> list[Scored]:
        ids, unknown, _ = self._tensors(rows)
        group_ids, _ = self.groups_of(rows)
        last = group_ids.masked_fill(~unknown, 0).amax(-1, keepdim=True)
        # One step of decoding in which all content is there: the same numbers as ``objective.log_likelihood``, and
        # logits of the continuations alone.
        steps = Steps(self.model, ids.shape, use_cache=False)
        hidden = steps(ids, group_ids, (group_ids >= 0) & (group_ids < last), unknown)
        return self._read(hidden, ids[unknown], rows)

    def _content(self, rows: Sequence[Row]) -> list[Scored]:
        ids, unknown, padding = self._tensors(rows)
        # row i sees itself and what is on its left, and predicts token i + 1: the last token is never read
        position = torch.arange(ids.shape[1] - 1, device=ids.device).expand(len(rows), -1)
        group_ids = position.masked_fill(padding[:, 1:], groups.PADDING)
        hidden, _ = self.model.model(
            content_ids=ids[:, :-1].masked_fill(group_ids < 0, 0),
            positions=position,
            visible=Visibility.of(masks.may_attend(group_ids, group_ids, own_group=True)),
            kernel=self.model.config._attn_implementation,
            keep_content=True,
        )
        return self._read(hidden[unknown[:, 1:]], ids[unknown], rows)

    def _read(self, hidden: Tensor, tokens: Tensor, rows: Sequence[Row]) -> list[Scored]:
        """Scores of rows from the hidden states (M, D) of all their continuations, whose tokens are (M,)."""
        head, lengths = self.model.lm_head, [len(row.continuation) for row in rows]
        size, found = rows_at_a_time(head.out_features), []
        for part, own in zip(hidden.split(size), tokens.split(size), strict=True):  # not all logits at once
            logits = at_least_float32(head(part))
            found.append((logits.log_softmax(-1).gather(-1, own[:, None])[:, 0], logits.argmax(-1) == own))
        log_probs, greedy = (torch.cat(parts).split(lengths) for parts in zip(*found, strict=True))
        return [Scored(one.sum().item(), bool(all_.all())) for one, all_ in zip(log_probs, greedy, strict=True)]

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        """Continuations, from left to right, one token at a time, by the query stream with its cache.

        Args:
            requests: lm-eval's instances, with ``args`` (context, options). Options: until (the strings that end a
                text), max_gen_toks, do_sample, temperature, top_k, top_p; greedy by default.
            disable_tqdm: no progress bar.

        Raises:
            ValueError: an option that is not known, more tokens than the model takes, or the content stream.
        """
        if self.stream != "query":
            raise ValueError('the content stream does not generate; use stream="query", or HFLM for the source model')
        for request in requests:
            unknown = sorted(set(request.args[1]) - GENERATION)
            if unknown:
                raise ValueError(f"a request wants {unknown[0]!r}; A3LM knows {', '.join(sorted(GENERATION))}")
        batches = Collator(
            [request.args for request in requests],
            sort_fn=lambda args: -len(self.tok_encode(args[0])),
            group_by="gen_kwargs",
            group_fn=lambda args: args[1],
        )
        found = []
        with tqdm(total=len(requests), disable=disable_tqdm, desc="generations") as bar:
            for batch in batches.get_batched(n=self.batch_size):
                found += self._generate([context for context, _ in batch], batch[0][1])
                bar.update(len(batch))
        found = batches.get_original(found)
        for request, text in zip(requests, found, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return found

    def _generate(self, contexts: list[str], options: dict) -> list[str]:
        options = normalize_gen_kwargs(options, self.max_gen_toks)
        until, limit, sample = options["until"], options["max_gen_toks"], options["do_sample"]
        room = self.model.config.max_position_embeddings - limit
        if room < 1:
            raise ValueError(f"max_gen_toks is {limit}, but the model takes {room + limit} tokens, context included")
        drawing = {
            "temperature": options["temperature"] if sample else 0.0,
            "top_k": options.get("top_k") if sample else None,
            "top_p": options.get("top_p") if sample else None,
            "generator": generator_for(self.seed, zlib.crc32(repr(contexts).encode())),
        }
        given = [(self.tok_encode(context) or [self.prefix_token_id])[-room:] for context in contexts]
        drawn: list[list[int]] = [[] for _ in given]
        texts, open_rows, chunk = [""] * len(given), list(range(len(given))), CHUNK
        while open_rows:
            chunk = min(chunk, limit - len(drawn[open_rows[0]]))  # rows that are open have drawn equally many
            new = self._extend([(given[n], drawn[n]) for n in open_rows], chunk, drawing)
            for n, tokens in zip(open_rows, new, strict=True):
                drawn[n] += tokens
                whole = self.tokenizer.decode(drawn[n], skip_special_tokens=True)
                texts[n] = postprocess_generated_text(whole, until, None)
                if texts[n] != whole or self.eot_token_id in tokens or len(drawn[n]) >= limit:
                    open_rows = [row for row in open_rows if row != n]
            chunk *= 2
        return texts

    def _extend(self, rows: list[tuple[list[int], list[int]]], chunk: int, drawing: dict) -> list[list[int]]:
        """The next ``chunk`` tokens of rows (given, drawn), fewer where the text ends."""
        here = [torch.tensor(given + drawn) for given, drawn in rows]
        ids = pad_sequence([torch.cat((one, one.new_zeros(chunk))) for one in here], batch_first=True)
        position = torch.arange(ids.shape[1]).expand_as(ids)
        known = position < torch.tensor([[len(one)] for one in here])
        real = position < torch.tensor([[len(one) + chunk] for one in here])
        group_ids = position
        if self.known_order == "together":
            group_ids = position.masked_fill(position < torch.tensor([[len(given)] for given, _ in rows]), groups.GIVEN)
        group_ids = group_ids.masked_fill(~real, groups.PADDING)
        ids, group_ids, known = (part.to(self.device) for part in (ids, group_ids, known))
        done = decode.generate(
            self.model, ids, group_ids, known, banned=no_tokens(self.tokenizer, self.model.config.vocab_size),
            stop=self.eot_token_id, runners_up=0, **drawing,
        )  # fmt: skip
        kept = (done.group_ids > 0) & ~known
        return [row[mask].tolist() for row, mask in zip(done.sequences, kept, strict=True)]


class DiffusionLM(RowLM):
    """Masked diffusion as lm-eval's language model: a continuation's score is minus the diffusion bound.

    The bound (see ``baselines``) is the mean negative log-likelihood over random orders; ``draws`` passes estimate it.
    It takes a suffix, as A3 does. It says nothing about greedy decoding: ``is_greedy`` is always False.

    Args:
        model: a masked-diffusion model.
        tokenizer: its tokenizer.
        draws: passes per row.
        seed: of the random orders.
        batch_size: rows per pass.

    Raises:
        TypeError: ``model`` is of another kind.
        ValueError: an option out of its range.
    """

    def __init__(self, model: MaskedDiffusionModel, tokenizer, draws: int = 4, seed: int = 0, batch_size: int = 16):
        if not isinstance(model, MaskedDiffusionModel):
            raise TypeError(f"model must be a MaskedDiffusionModel, got {type(model).__name__}")
        groups.check_integer("draws", draws, 1)
        super().__init__(model, tokenizer, batch_size)
        self.draws, self.seed = draws, seed

    def score(self, rows: Sequence[Row]) -> list[Scored]:
        found = []
        for row in rows:  # one by one: what is drawn for a row must not depend on the others
            ids, _, _ = self._tensors([row])
            group_ids = self.orders([row], "random", 1, self.seed)
            bound = diffusion_bound(self.model, ids, group_ids, self.draws, row.seed(self.seed))
            found.append(Scored(-bound.item(), False))
        return found
