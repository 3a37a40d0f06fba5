"""Documents to rows of tokens: a tokenizer, its special tokens, packing, and the order of the rows in a training.

A row never holds parts of two documents. A document begins a row with the beginning-of-sequence token and ends
with the end-of-sequence token; what does not fit goes on in the next row, which begins with the last token of
the row before. So the first token of a row is always given, and every other one is predicted exactly once.
"""

import hashlib
import re
from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from a3mini.train.corpus import END_OF_DOCUMENT, Story, check_text
from a3mini.train.curriculum import generator_for
from a3mini.train.tokens import encode_each, vocabulary_size

SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
LARGEST_VOCABULARY = 2**20  # tokenizers reserves the memory at once, and the process dies where there is not enough
LONG_WORD = re.compile(r"\w{1000}|\s{1000}|[^\w\s]{1000}")


class Blocks(NamedTuple):
    """Rows of tokens, each from one document, padded on the right."""

    input_ids: Tensor  # (N, T) int64
    lengths: Tensor  # (N,) int64, how many tokens of each row are real
    documents: Tensor  # (N,) int64, which document each row comes from
    sentence_ends: Tensor  # (N, T) bool, True where a token ends a sentence

    def rows(self, index) -> "Blocks":
        """The rows at ``index`` (int64 tensor or slice)."""
        return Blocks(*(part[index] for part in self))

    def trimmed(self) -> "Blocks":
        """Without the columns that are padding in every row."""
        longest = int(self.lengths.max())
        return self._replace(input_ids=self.input_ids[:, :longest], sentence_ends=self.sentence_ends[:, :longest])


def fingerprint(*tensors: Tensor) -> str:
    """A short name of some tensors' contents."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def tokenizer_fingerprint(tokenizer) -> str:
    """A short name of a tokenizer's vocabulary: its tokens and their ids."""
    return hashlib.sha256(repr(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()[:16]


def train_tokenizer(stories: Iterable[Story], vocab_size: int = 4096) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer for the text: any string can be encoded, and decodes to itself.

    Args:
        stories: the training documents.
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
    texts = [story.text for story in stories]
    for text in texts:
        check_text(text)
    if not any(texts):
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
    tokenizer.train_from_iterator((piece for text in texts for piece in _without_long_words(text)), trainer)
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


def pack(stories: Sequence[Story], tokenizer, length: int) -> Blocks:
    """Tokenise documents and cut them into rows; see the top of this file.

    What it needs beside the rows does not grow with the text, but with the longest document: 40 bytes a character.

    Args:
        stories: the documents.
        tokenizer: a Hugging Face tokenizer with a bos or an eos token.
        length: T, tokens per row.

    Raises:
        ValueError: no documents, a ``length`` below 2, less text than one row, or text that is not Unicode.
    """
    if not stories:
        raise ValueError("there are no documents to pack")
    if length < 2:
        raise ValueError(f"length must be at least 2, one given and one predicted token; got {length}")
    bos, (_, eos, pad) = start_token(tokenizer), special_ids(tokenizer)
    # arrays of 8 bytes a number, which become the tensors: a list takes five times as much
    rows, lengths, owners, total = array("q"), array("q"), array("q"), 0
    for owner, ids in enumerate(encode_each(tokenizer, (story.text for story in stories))):
        total += len(ids)
        ids = [bos, *ids, eos]
        for start in range(0, len(ids) - 1, length - 1):  # rows overlap by one token, which the later row is given
            row = ids[start : start + length]
            rows.extend(row + [pad] * (length - len(row)))
            lengths.append(len(row))
            owners.append(owner)
    if total + 2 < length:
        raise ValueError(
            f"the text has {total} tokens, less than one block of {length}; give more text, or shorter blocks"
        )
    rows, lengths, owners = (torch.frombuffer(part, dtype=torch.int64) for part in (rows, lengths, owners))
    input_ids = rows.view(-1, length)
    sentence_ends = _ends_sentence(tokenizer)[input_ids]
    sentence_ends &= torch.arange(length) < lengths[:, None]
    return Blocks(input_ids, lengths, owners, sentence_ends)


def check_rows(blocks: Blocks, config) -> None:
    """Rows must fit the model whose configuration is ``config``.

    Raises:
        ValueError: a token outside its vocabulary, or rows longer than it allows.
    """
    largest, length = int(blocks.input_ids.max()), blocks.input_ids.shape[1]
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
    """Which row is the n-th example: a new random order of all rows in each epoch."""

    def __init__(self, size: int, seed: int):
        self.size, self.seed, self.epoch, self.order = size, seed, -1, None

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
        return found


def _ends_sentence(tokenizer) -> Tensor:
    """(V,) bool: tokens that end with a full stop, exclamation or question mark, quotation marks aside."""
    texts = tokenizer.batch_decode([[token] for token in range(vocabulary_size(tokenizer))])
    return torch.tensor([text.rstrip(" \"'”’)").endswith((".", "!", "?")) for text in texts])
