"""Tokenizers of each kind, trained on the spot: byte-level, the two of SentencePiece, WordPiece; and one with holes."""

import json

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from a3mini.train import corpus, data

TEXT = "The cat sat on the mat. The dog ran to the cat, and the cat ran off! Why? Nobody knows. Käthe says: 猫."
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def _whole(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens(SPECIAL)
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def byte_level() -> PreTrainedTokenizerFast:
    """This package's own."""
    return data.train_tokenizer([corpus.Story("", TEXT)], 290)


def _learned(text: str) -> tuple[list[str], list[tuple]]:
    """Pieces of words that begin with SentencePiece's space, and their merges; the same each time."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=110, show_progress=False))
    found = json.loads(tokenizer.to_str())["model"]
    return list(found["vocab"]), [tuple(pair) for pair in found["merges"]]


def sentence_piece() -> PreTrainedTokenizerFast:
    """As T5 and XLNet: every text begins with a space, unless it has one; what it does not know is <unk>."""
    pieces = [*SPECIAL, *_learned(TEXT)[0]]
    tokenizer = Tokenizer(models.Unigram([(piece, -10 - n / 1000) for n, piece in enumerate(pieces)], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return _whole(tokenizer)


def llama_2() -> PreTrainedTokenizerFast:
    """As Llama 2 and TinyLlama: every text begins with one more space; what it does not know is bytes."""
    pieces, merges = _learned(TEXT.encode("ascii", "ignore").decode())
    vocabulary = {token: n for n, token in enumerate([*SPECIAL, *BYTES, *pieces])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _whole(tokenizer)


def word_piece() -> PreTrainedTokenizerFast:
    """As BERT: capitals, spaces and line breaks are lost, and what it does not know is one <unk>."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=1000, special_tokens=SPECIAL, show_progress=False)
    # every letter, at the beginning of a word and inside; and so many words in -ys that these two are one piece
    more = (
        "abcdefghijklmnopqrstuvwxyz 0123456789 " + " ".join("abcdefghijklmnopqrstuvwxyz") + " boys days toys keys" * 9
    )
    tokenizer.train_from_iterator([TEXT, more], trainer)
    return _whole(tokenizer)


def with_holes() -> PreTrainedTokenizerFast:
    """Ids are left out, as where a model's makers took tokens away: 300 tokens, and the largest id is 314."""
    learned = json.loads(data.train_tokenizer([corpus.Story("", TEXT)], 300).backend_tokenizer.to_str())["model"]
    vocabulary = {token: n if n < 285 else n + 15 for token, n in learned["vocab"].items()}
    tokenizer = Tokenizer(models.BPE(vocabulary, [tuple(pair) for pair in learned["merges"]]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **data.SPECIAL_TOKENS)


KINDS = {kind.__name__: kind for kind in (byte_level, sentence_piece, llama_2, word_piece)}
