"""Rows of tokens on the disk: a text of any size is packed once, in little memory, and goes on where it was stopped.

A folder of rows::

    HOME/rows-LAYOUT-FINGERPRINT/       the fingerprint is that of the text, the tokenizer and the length
        input_ids.safetensors           (N, T), uint16 if the vocabulary allows it, else int32
        lengths, documents, sentence_ends .safetensors
        whole.json                      what it was made of, the number of rows, size and checksum of each file

The files are mapped into memory: what is read of them is there, and no more. While rows are made, they are appended to
a folder beside it, whose name begins with ``.partial-``; from time to time a record is written of how far its files are
whole. Another call for the same rows begins there, at the next document. Then the folder gets its name. It can be
removed at any time. What is damaged is made anew, and where nothing can be written, rows are made in memory.
"""

import hashlib
import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
from filelock import FileLock  # comes with torch
from safetensors import SafetensorError, safe_open

from a3mini import runs
from a3mini.train import data
from a3mini.train.corpus import Story
from a3mini.train.stream import Stream
from a3mini.train.tokens import vocabulary_size

LAYOUT = 1  # of the folder; a new number makes every folder anew
RECORD, PROGRESS = "whole.json", "progress.json"
HEADER = 1024  # bytes before the numbers in a file of safetensors, most of them spaces
CHUNK = 2**24  # bytes read at a time
SECONDS = 5.0  # between two records of how far the files are whole
NAMES = ("input_ids", "lengths", "documents", "sentence_ends")
PROGRESS_FIELDS = {"rows": int, "seen": int, "documents": int, "tokens": int, "position": dict | None}
SAFETENSORS = {"uint16": "U16", "int32": "I32", "int64": "I64", "bool": "BOOL"}


def pack(documents: Iterable[Story], tokenizer, length: int, home: Path | None) -> data.Blocks:
    """As ``data.pack``, but the rows lie on the disk, and the second call reads them.

    Whatever the size of the text, less than 400 MB of memory are needed beside the documents: for the words that have
    been seen (``words.KEPT``), and for what is at work. A ``Stream`` needs 80 bytes for each document.

    Args:
        documents: a list of documents, or a ``Stream``, which is read once.
        tokenizer: a Hugging Face tokenizer with a bos or an eos token.
        length: T, tokens per row.
        home: the folder of all such folders; None: make the rows in memory.

    Raises:
        ValueError, OSError: as ``data.pack``, and what a ``Stream`` raises.
    """
    if home is None:
        return data.pack(documents, tokenizer, length)
    if not isinstance(documents, Stream):
        documents = list(documents)
    about = {"text": text_fingerprint(documents), "tokenizer": tokenizer_settings(tokenizer), "length": length}
    folder = home / f"rows-{LAYOUT}-{_short(about)}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(home / f".{folder.name}.lock")
        lock.acquire()  # another process makes the same rows: they will be here when it ends
    except (OSError, NotImplementedError):  # nothing can be written here, or nothing can be locked
        return data.pack(documents, tokenizer, length)
    try:
        with suppress(OSError, ValueError, SafetensorError):
            return read(folder, about)
        if folder.exists():
            shutil.rmtree(folder)  # damaged, or we would not be here
        try:
            _write(folder, about, documents, tokenizer, length)
        except OSError:
            if isinstance(documents, Stream):  # it may be the text that cannot be read, or too long for the memory
                raise
            return data.pack(documents, tokenizer, length)
        return read(folder, about)
    finally:
        lock.release()


def text_fingerprint(documents: Iterable[Story]) -> str:
    """A short name of what the documents say; a ``Stream`` is known by where it comes from, and is not read."""
    if isinstance(documents, Stream):
        return documents.fingerprint()
    digest = hashlib.sha256()
    for story in documents:
        text = story.text.encode(errors="surrogatepass")
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()[:16]


def tokenizer_settings(tokenizer) -> str:
    """A short name of all that decides which tokens a text becomes, and what stands around it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend else repr(tokenizer)
    if backend:  # what the last call left there plays no part
        rules |= {"truncation": None, "padding": None}
    control = data.start_token(tokenizer), data.special_ids(tokenizer)
    return _short([rules, data.tokenizer_fingerprint(tokenizer), control])


def read(folder: Path, about: dict | None = None) -> data.Blocks:
    """The rows in a folder, mapped into memory.

    Raises:
        ValueError: it is damaged, or was made of something else than ``about`` says; safetensors has an error of its
            own for a file that was cut short.
        OSError: it is not there.
    """
    record = runs.read_json(folder / RECORD, {"about": dict, "files": dict})
    if about is not None and record["about"] != about:
        raise ValueError(f"{folder} was made of another text, or for another tokenizer")
    if record["files"] != {name: _checksum(folder / f"{name}.safetensors") for name in NAMES}:
        raise ValueError(f"{folder} is damaged")
    found = []
    for name in NAMES:
        with safe_open(folder / f"{name}.safetensors", framework="pt") as file:
            found.append(file.get_tensor(name))
    return data.Blocks(*found)


def _write(folder: Path, about: dict, documents: Iterable[Story], tokenizer, length: int) -> None:
    """Make the rows of documents; go on with what another call has left."""
    partial = folder.with_name(f"{runs.PARTIAL}{folder.name}")
    small = vocabulary_size(tokenizer) <= 2**16
    columns = {
        "input_ids": Column(partial, "input_ids", "uint16" if small else "int32", (length,)),
        "lengths": Column(partial, "lengths", "int64"),
        "documents": Column(partial, "documents", "int64"),
        "sentence_ends": Column(partial, "sentence_ends", "bool", (length,)),
    }
    seen = Column(partial, "seen", "int64")  # see ``stream.Reading``
    try:
        done = runs.read_json(partial / PROGRESS, PROGRESS_FIELDS)
        for column in columns.values():
            column.cut(done["rows"])
        seen.cut(done["seen"])
    except (OSError, ValueError):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        done = {"rows": 0, "seen": 0, "documents": 0, "tokens": 0, "position": None}
        for column in [*columns.values(), seen]:
            column.cut(0)
    if streamed := isinstance(documents, Stream):
        stories = documents.reading(done["position"], seen.read())
    else:
        stories = islice(documents, done["documents"], None)
    saved_at = time.monotonic()
    for some in data.make_rows(stories, tokenizer, length, done["documents"]):
        for name, column in columns.items():
            column.append(getattr(some, name))
        done |= {"documents": some.read, "tokens": done["tokens"] + some.tokens, "rows": columns["lengths"].rows}
        if time.monotonic() - saved_at >= SECONDS:
            if streamed:
                seen.append(np.array(stories.seen[seen.rows :], dtype=np.int64))
                done |= {"seen": seen.rows, "position": stories.position}
            for column in [*columns.values(), seen]:
                column.flush()
            runs.write_json(partial / PROGRESS, done)
            saved_at = time.monotonic()
    for column in columns.values():
        column.close()
    try:
        data.check_amount(done["rows"], done["tokens"], length)
    except ValueError:
        shutil.rmtree(partial)
        raise
    for name in ("seen.safetensors", PROGRESS):
        (partial / name).unlink(missing_ok=True)
    files = {name: _checksum(partial / f"{name}.safetensors") for name in columns}
    runs.write_json(partial / RECORD, {"about": about, "rows": done["rows"], "tokens": done["tokens"], "files": files})
    for path in partial.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    partial.rename(folder)


class Column:
    """A file of safetensors with one tensor, to which rows are appended; its header is written last.

    Args:
        folder: where the file is, NAME.safetensors.
        name: of the tensor.
        dtype: as numpy calls it.
        shape: of one row.
    """

    def __init__(self, folder: Path, name: str, dtype: str, shape: tuple[int, ...] = ()):
        self.path, self.name, self.dtype, self.shape = folder / f"{name}.safetensors", name, np.dtype(dtype), shape
        self.row = self.dtype.itemsize * math.prod(shape)  # bytes
        self.rows, self.file = 0, None

    def cut(self, rows: int) -> None:
        """Open the file, and keep so many rows of it.

        Raises:
            ValueError: it has not so many.
        """
        self.path.touch()
        self.file = self.path.open("r+b")
        size = HEADER + rows * self.row
        if rows and self.path.stat().st_size < size:
            raise ValueError(f"{self.path} is damaged")
        self.file.truncate(size)
        self.file.seek(size)
        self.rows = rows

    def append(self, rows: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(rows, dtype=self.dtype).data)
        self.rows += len(rows)

    def read(self) -> np.ndarray:
        """All rows."""
        return np.fromfile(self.path, dtype=self.dtype, offset=HEADER).reshape(-1, *self.shape)

    def flush(self) -> None:
        """Onto the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def close(self) -> None:
        shape = [self.rows, *self.shape]
        about = {"dtype": SAFETENSORS[self.dtype.name], "shape": shape, "data_offsets": [0, self.rows * self.row]}
        header = json.dumps({self.name: about}).encode().ljust(HEADER - 8)
        self.file.seek(0)
        self.file.write(len(header).to_bytes(8, "little") + header)
        self.file.close()


def _short(about) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def _checksum(path: Path) -> list[int]:
    """Size and checksum of a file. It finds accidents, which need no cryptography."""
    checksum = 0
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            checksum = zlib.crc32(part, checksum)
    return [path.stat().st_size, checksum]
