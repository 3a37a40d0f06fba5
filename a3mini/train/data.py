"""Documents to rows of tokens: a tokenizer, its special tokens, packing, and the order of the rows in a training.

A row never holds parts of two documents. A document begins a row with the beginning-of-sequence token and ends
with the end-of-sequence token; what does not fit goes on in the next row, which begins with the last token of
the row before. So the first token of a row is always given, and every other one is predicted exactly once.
"""

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from a3mini.train.corpus import END_OF_DOCUMENT, Story, check_text
from a3mini.train.curriculum import generator_for
from a3mini.train.tokens import encode_each, vocabulary_size

SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
FINGERPRINTED = 2**14  # rows at a time
LARGEST_VOCABULARY = 2**20  # tokenizers reserves the memory at once, and the process dies where there is not enough
LONG_WORD = re.compile(r"\w{1000}|\s{1000}|[^\w\s]{1000}")


class Blocks(NamedTuple):
    """Rows of tokens, each from one document, padded on the right.

    Where they lie on the disk (``packed``), ``input_ids`` is of a smaller dtype, int32 or uint16; ``rows`` gives int64.
    """

    input_ids: Tensor  # (N, T) int64
    lengths: Tensor  # (N,) int64, how many tokens of each row are real
    documents: Tensor  # (N,) int64, which document each row comes from
    sentence_ends: Tensor  # (N, T) bool, True where a token ends a sentence

    def rows(self, index) -> "Blocks":
        """The rows at ``index`` (int64 tensor or slice), tokens as int64."""
        found = Blocks(*(part[index] for part in self))
        return found._replace(input_ids=found.input_ids.long())

    def trimmed(self) -> "Blocks":
        """Without the columns that are padding in every row."""
        longest = int(self.lengths.max())
        return self._replace(input_ids=self.input_ids[:, :longest], sentence_ends=self.sentence_ends[:, :longest])


def fingerprint(*tensors: Tensor) -> str:
    """A short name of some tensors' contents; whole numbers count as int64. A few rows at a time are in memory."""
    digest = hashlib.sha256()
    for tensor in tensors:
        for some in tensor.split(FINGERPRINTED) if tensor.dim() else [tensor]:
            whole = not (some.dtype == torch.bool or some.is_floating_point() or some.is_complex())
            digest.update((some.long() if whole else some).contiguous().numpy().data)
    return digest.hexdigest()[:16]


def tokenizer_fingerprint(tokenizer) -> str:
    """A short name of a tokenizer's vocabulary: its tokens and their ids."""
    return hashlib.sha256(repr(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()[:16]


def train_tokenizer(stories: Iterable[Story], vocab_size: int = 4096) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer for the text: any string can be encoded, and decodes to itself.

    Args:
        stories: the training documents; they are gone through twice, and need not be in memory.
        vocab_size: upper limit, counting the 256 bytes and three special tokens: <pad>, <s>, </s>.

    Raises:
        ValueError: no text, text that is not Unicode, or a vocabulary too small for the bytes or beyond all use.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(alphabet) + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise ValueError(f"vocab_size must be at least {smallest}, the bytes and the special tokens; got {vocab_size}")
    if vocab_size > LARGEST_VOCABULARY:
        raise ValueError(f"vocab_size must be at most {LARGEST_VOCABULARY:,}; got {vocab_size:,}")
    if iter(stories) is stories:  # can be gone through only once
        stories = list(stories)
    some = False
    for story in stories:
        check_text(story.text)
        some = some or bool(story.text)
    if not some:
        raise ValueError("there is no text to train a tokenizer on")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    # the time of a merge is quadratic in a word's length: what is longer than any word is read in pieces
    tokenizer.train_from_iterator((piece for story in stories for piece in _without_long_words(story.text)), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def _without_long_words(text: str) -> Iterable[str]:
    """The text, cut behind every 1,000 characters of a kind in a row."""
    ends = [0, *(match.end() for match in LONG_WORD.finditer(text)), len(text)]
    return (text[start:end] for start, end in pairwise(ends))


def special_ids(tokenizer) -> tuple[int, int, int]:
    """Beginning, end and padding token of any tokenizer; one stands in for another where it has none.

    Raises:
        ValueError: the tokenizer has neither a beginning nor an end token.
    """
    ids = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    bos, eos = (own if own is not None else other for own, other in zip(ids, reversed(ids), strict=True))
    if bos is None:
        raise ValueError("the tokenizer has neither a bos nor an eos token; set tokenizer.bos_token")
    return bos, eos, eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def start_token(tokenizer) -> int:
    """The token before a text: ``<|endoftext|>`` where the tokenizer has it, else what ``special_ids`` begins with.

    Models whose vocabulary has it read it between all documents of their pretraining. A tokenizer of a chat model
    may name another token its bos: the packaged SmolLM2's begins a turn of a conversation, and its model then
    expects the name of who is speaking.
    """
    token = tokenizer.convert_tokens_to_ids(END_OF_DOCUMENT)  # None, or the token for what is unknown, without it
    known = token is not None and tokenizer.convert_ids_to_tokens(token) == END_OF_DOCUMENT
    return token if known else special_ids(tokenizer)[0]


def empty_token(tokenizer, embeddings: Tensor, wanted: str | None = None) -> int:
    """A token that can end a blank (``config.empty_token_id``): a special one that stands in no row.

    Special tokens that a pretraining never met share one embedding but for rounding, and a model whose embeddings are
    frozen cannot tell them apart. So the one is taken whose embedding is farthest from all others.

    Args:
        tokenizer: of the model.
        embeddings: (V, D), of the model's tokens.
        wanted: the token by its text; None: choose.

    Raises:
        ValueError: ``wanted`` is no such token, or there is none.
    """
    special = {token for token, about in tokenizer.added_tokens_decoder.items() if about.special}
    _, eos, _ = special_ids(tokenizer)
    spare = sorted(special - {start_token(tokenizer), eos, tokenizer.unk_token_id})
    texts = tokenizer.convert_ids_to_tokens(spare)
    if not spare:
        raise ValueError("the tokenizer has no special token to spare that could end a blank; add one to it")
    if wanted is not None:
        if wanted not in texts:
            raise ValueError(f"{wanted!r} cannot end a blank: no special token that texts never have; {texts} can")
        return spare[texts.index(wanted)]
    rows = embeddings.detach().float()
    exactly = "donot_use_mm_for_euclid_dist"
    apart = (
        torch.cdist(rows[spare], rows, compute_mode=exactly).topk(2, largest=False).values[:, 1]
    )  # the nearest is the token itself
    return spare[int(apart.argmax())]


def check_vocabulary(tokenizer, vocab_size: int) -> None:
    """Every id of the tokenizer must fit into the model.

    Raises:
        ValueError: the tokenizer is larger than the model's vocabulary.
    """
    needed = vocabulary_size(tokenizer)
    if needed > vocab_size:
        raise ValueError(
            f"the tokenizer's largest id is {needed - 1}, but the model's vocab_size is {vocab_size}; "
            "use the tokenizer that was saved with the model"
        )


class Rows(NamedTuple):
    """Some rows as they are made, before they become ``Blocks``."""

    input_ids: np.ndarray  # (N, T) int32
    lengths: np.ndarray  # (N,) int64
    documents: np.ndarray  # (N,) int64
    sentence_ends: np.ndarray  # (N, T) bool
    read: int  # how many documents have been read up to here
    tokens: int  # how many tokens of text these rows hold


def pack(stories: Iterable[Story], tokenizer, length: int) -> Blocks:
    """Tokenise documents and cut them into rows; see the top of this file.

    ``packed.pack`` makes the same rows on the disk, for a text of any size.

    Args:
        stories: the documents, which are gone through once.
        tokenizer: a Hugging Face tokenizer with a bos or an eos token.
        length: T, tokens per row.

    Raises:
        ValueError: no documents, a ``length`` below 2, less text than one row, or text that is not Unicode.
    """
    # arrays that grow, and become the tensors: lists of what was made so far would be copied whole at the end
    parts, total = [array("q"), array("q"), array("q"), array("b")], 0
    for some in make_rows(stories, tokenizer, length):
        total += some.tokens
        for part, more in zip(parts, some, strict=False):
            part.frombytes(more.astype(np.int8 if more.dtype == bool else np.int64).data.cast("B"))
    check_amount(len(parts[1]), total, length)
    kinds = (torch.int64, torch.int64, torch.int64, torch.bool)
    ids, lengths, owners, ends = (torch.frombuffer(part, dtype=kind) for part, kind in zip(parts, kinds, strict=True))
    return Blocks(ids.view(-1, length), lengths, owners, ends.view(-1, length))


def make_rows(stories: Iterable[Story], tokenizer, length: int, first: int = 0) -> Iterator[Rows]:
    """The rows of documents, a few hundred thousand characters at a time; ``first`` is the first document's number.

    Raises:
        ValueError: a ``length`` below 2, or text that is not Unicode.
    """
    if length < 2:
        raise ValueError(f"length must be at least 2, one given and one predicted token; got {length}")
    bos, (_, eos, pad) = start_token(tokenizer), special_ids(tokenizer)
    ends_sentence = _ends_sentence(tokenizer).numpy()
    for found in encode_each(tokenizer, (story.text for story in stories)):
        sizes = np.array([len(ids) + 2 for ids in found])  # with bos and eos
        tokens = np.concatenate([part for ids in found for part in ([bos], ids, [eos])]).astype(np.int32)
        starts = sizes.cumsum() - sizes
        # rows overlap by one token, which the later row is given
        counts = -(-(sizes - 1) // (length - 1))
        place = (length - 1) * (np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts))
        lengths = np.minimum(length, np.repeat(sizes, counts) - place)
        real = np.arange(length) < lengths[:, None]
        index = (np.repeat(starts, counts) + place)[:, None] + np.arange(length)
        input_ids = np.where(real, tokens[np.minimum(index, len(tokens) - 1)], np.int32(pad))
        owners = np.repeat(first + np.arange(len(found)), counts)
        first, total = first + len(found), int(sizes.sum()) - 2 * len(found)
        yield Rows(input_ids, lengths, owners, ends_sentence[input_ids] & real, first, total)


def check_amount(rows: int, tokens: int, length: int) -> None:
    """Check that there is text, and at least as much as one row.

    Raises:
        ValueError: there is not.
    """
    if not rows:
        raise ValueError("there are no documents to pack")
    if tokens + 2 < length:
        raise ValueError(
            f"the text has {tokens} tokens, less than one block of {length}; give more text, or shorter blocks"
        )


def check_rows(blocks: Blocks, config) -> None:
    """Rows must fit the model whose configuration is ``config``.

    Raises:
        ValueError: a token outside its vocabulary, or rows longer than it allows.
    """
    largest, length = int(blocks.input_ids.numpy().max()), blocks.input_ids.shape[1]
    if largest >= config.vocab_size:
        raise ValueError(
            f"the rows hold token {largest}, but the model's vocab_size is {config.vocab_size}; "
            "use the tokenizer that was saved with the model"
        )
    if length > config.max_position_embeddings:
        raise ValueError(
            f"the rows have {length} tokens, but the model allows {config.max_position_embeddings} "
            "(config.max_position_embeddings); pack the text into shorter rows"
        )


class Order:
    """Which row is the n-th example: a new random order of all rows in each epoch.

    Args:
        size: number of rows.
        seed: of the orders.
        visits: int64, (size,), how often an epoch shows each row; None: once.

    Raises:
        ValueError: ``visits`` are not so many counts, or all 0.
    """

    def __init__(self, size: int, seed: int, visits: Tensor | None = None):
        if visits is not None and (visits.shape != (size,) or int(visits.min()) < 0 or not visits.any()):
            raise ValueError(
                f"visits must say for each of the {size} rows how often an epoch shows it, 0, 1, 2, ...; got a tensor "
                f"of shape {tuple(visits.shape)} with {int(visits.min())} to {int(visits.max())}"
            )
        self.repeated = None if visits is None else torch.repeat_interleave(visits)  # a row's number, for each visit
        self.size = size if visits is None else len(self.repeated)
        self.seed, self.epoch, self.order = seed, -1, None

    def rows(self, examples: Tensor) -> Tensor:
        """int64, (B,): the row that each of some examples, int64 (B,), is."""
        epochs = examples.div(self.size, rounding_mode="floor")
        found = torch.empty_like(examples)
        for epoch in epochs.unique().tolist():
            if epoch != self.epoch:
                self.epoch = epoch
                self.order = torch.randperm(self.size, generator=generator_for(self.seed, -1, epoch))
            inside = epochs == epoch
            found[inside] = self.order[examples[inside] % self.size]
        return found if self.repeated is None else self.repeated[found]


def _ends_sentence(tokenizer) -> Tensor:
    """(V,) bool: tokens that end with a full stop, exclamation or question mark, quotation marks aside."""
    texts = tokenizer.batch_decode([[token] for token in range(vocabulary_size(tokenizer))])
    return torch.tensor([text.rstrip(" \"'”’)").endswith((".", "!", "?")) for text in texts])
