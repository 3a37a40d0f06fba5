"""Documents read one at a time: a text that is larger than the memory, and goes on where the reading was stopped."""

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np

from a3mini import runs
from a3mini.train import corpus
from a3mini.train.corpus import Story


class Stream:
    """Documents as ``corpus.documents`` gives them, read anew each time this is gone through.

    Repeats are known by 64 bits of a hash, which take about 80 bytes of memory for each document.

    Args:
        sources, column, split, separator, limit: as of ``corpus.documents``.
        without: documents that are left out.

    Raises, while it is read, what ``corpus.documents`` raises; no text at all is no error here.
    """

    def __init__(
        self,
        *sources: str | Path,
        column: str = "text",
        split: str = "train",
        separator: str | None = None,
        limit: int | None = None,
        without: Iterable[Story] = (),
    ):
        self.sources, self.how, self.limit = sources, (column, split, separator), limit
        self.without = {_digest(story.text) for story in without}
        self.kept: np.ndarray | None = None  # bool, for each different document; None: all
        self.revisions: dict[str, str] = {}  # of hub data sets, once they have been asked for

    def __iter__(self) -> Iterator[Story]:
        return iter(self.reading())

    def reading(self, position: dict | None = None, seen: Iterable[int] = ()) -> "Reading":
        """Read from the beginning, or go on where an earlier ``Reading`` was, as its attributes say."""
        return Reading(self, position, seen)

    def divide(self, validation: float = 0.1, seed: int = 0) -> tuple["Stream", "Stream"]:
        """Training and held-out documents, the same as of ``corpus.split_documents``.

        The text is read once, to count the documents.

        Raises:
            ValueError: as ``corpus.split_documents``.
        """
        reading = self.reading()
        held_out = np.zeros(sum(1 for _ in reading), dtype=bool)
        held_out[list(corpus.held_out_numbers(len(held_out), validation, seed))] = True
        return self.only(reading, ~held_out), self.only(reading, held_out)

    def only(self, reading: "Reading", chosen: np.ndarray) -> "Stream":
        """A part of the documents: those that are ``chosen``, bool, one for each that the ended ``reading`` gave."""
        column, split, separator = self.how
        part = Stream(*self.sources, column=column, split=split, separator=separator, limit=self.limit)
        own = np.array([self.has(n, digest) for n, digest in enumerate(reading.seen)], dtype=bool)
        part.without, part.revisions, part.kept = self.without, self.revisions, own
        part.kept[own] = chosen
        return part

    def has(self, number: int, digest: int) -> bool:
        """Whether the different document of this number and hash is one of this stream's."""
        return digest not in self.without and (self.kept is None or self.kept[number : number + 1].any())

    def fingerprint(self) -> str:
        """A short name of what would be read: of the contents of files, of the versions of packages and data sets.

        Raises:
            OSError: a file cannot be read, a package is missing, or the hub cannot be reached.
        """
        kept = None if self.kept is None else hashlib.sha256(self.kept.tobytes()).hexdigest()
        found = [list(self.how), self.limit, sorted(self.without), kept]
        for source in self.sources:
            if source in corpus.PACKAGED:
                corpus.packaged(source)  # which names the package if it is not there
                found.append([source, metadata.version(corpus.PACKAGED[source][0])])
            elif kind := corpus.file_kind(source):
                found.append([kind, runs.sha256(corpus.existing(Path(source)))])
            else:
                name = corpus.hub_name(source)
                self.revisions[name] = self.revisions.get(name) or corpus.revision_of(name)
                found.append([name, self.revisions[name]])
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


class Reading:
    """One way through a ``Stream``. After each document it says where it is, so that another can go on there.

    Attributes:
        position: the number of the source, and how many of its rows, and documents with text, have been read; JSON.
        seen: int64, a hash of each different document so far, also of those that the stream leaves out.
    """

    def __init__(self, stream: Stream, position: dict | None = None, seen: Iterable[int] = ()):
        self.stream, self.seen = stream, array("q", seen)
        self.position = dict(position or {"source": 0, "rows": 0, "documents": 0})

    def __iter__(self) -> Iterator[Story]:
        stream, known, first = self.stream, set(self.seen), self.position["source"]
        for number, source in enumerate(stream.sources[first:], start=first):
            if number > first:
                self.position = {"source": number, "rows": 0, "documents": 0}
            if self.position["documents"] == stream.limit:
                continue
            revision = stream.revisions.get(corpus.hub_name(source))
            for story in corpus.read(source, *stream.how, self.position["rows"], revision):
                self.position["rows"] += 1
                if not story.text.strip():
                    continue
                self.position["documents"] += 1
                digest = _digest(story.text)
                if digest not in known:
                    known.add(digest)
                    self.seen.append(digest)
                    if stream.has(len(self.seen) - 1, digest):
                        yield story
                if self.position["documents"] == stream.limit:
                    break


def _digest(text: str) -> int:
    # half a character is refused where it is encoded
    found = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(found, "little", signed=True)
