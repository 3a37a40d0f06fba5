"""The rooms of the package: who may import whom, and what ``import a3mini`` does not load."""

import ast
import subprocess
import sys

import pytest
from places import ROOT

import a3mini

PACKAGE = ROOT / "a3mini"
# From the ground up: a room stands on those before it, and on nothing else.
ROOMS = ("model", "kept", "train", "decode", "evaluate", "notebook", "commands")
MODEL = {"lazy", "groups", "masks", "rows", "flex", "attention", "model", "objective"}
KEPT = {"runs", "adapter", "pretrained"}
COMMANDS = {"cli", "commands", "__main__"}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def room(module: str) -> str:
    """The room of a module, as "decode.cache" or "groups"."""
    first = module.split(".")[0]
    for name, files in (("model", MODEL), ("kept", KEPT), ("commands", COMMANDS)):
        if first in files:
            return name
    return first


def imported(source: str) -> set[str]:
    """The modules of the package that a file imports, as "decode.cache" or "groups"."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "a3mini":
            inside = node.module.partition(".")[2]
            found |= {inside} if inside else {alias.name for alias in node.names}
    return found - {"__version__"}


def wrong(file: str, source: str) -> list[str]:
    """The imports that go up."""
    own = ROOMS.index(room(file.removesuffix(".py").replace("/", ".")))
    return sorted(name for name in imported(source) if ROOMS.index(room(name)) > own)


@pytest.mark.parametrize("file", [str(file) for file in FILES])
def test_imports_go_one_way(file):
    assert not wrong(file, (PACKAGE / file).read_text(encoding="utf-8"))


def test_an_import_that_goes_up_is_caught():
    assert wrong("masks.py", "from a3mini import runs") == ["runs"]
    assert wrong("train/loop.py", "from a3mini.decode.sampling import Sampler") == ["decode.sampling"]
    assert wrong("decode/steps.py", "def f():\n    from a3mini.notebook import plots") == ["notebook"]
    assert not wrong("decode/infilling.py", "from a3mini.train.data import start_token")


def loaded(code: str) -> set[str]:
    """The packages that are loaded once ``code`` has run in a fresh process."""
    show = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    code = f"import sys\ntry:\n    {code}\nfinally:\n    print()\n    {show}"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return set(made.stdout.splitlines()[-1].split())


HEAVY = {"torch", "transformers", "accelerate", "datasets", "matplotlib", "peft"}


@pytest.mark.parametrize(
    "code",
    [
        "import a3mini",
        "from a3mini.cli import main; main(['--version'])",
        "from a3mini.cli import main; main(['--help'])",
        "from a3mini import train, decode, evaluate, notebook",
    ],
)
def test_nothing_is_loaded_before_it_is_used(code):
    assert not HEAVY & loaded(code)


def test_what_is_used_is_loaded():
    assert {"torch", "transformers"} <= loaded("from a3mini import A3Config")


@pytest.mark.parametrize("package", [a3mini, a3mini.train, a3mini.decode, a3mini.evaluate], ids=lambda p: p.__name__)
def test_every_public_name_is_there(package):
    assert package.__all__ == sorted(package.__all__) == dir(package)
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'; it has "):
        package.nothing  # noqa: B018
