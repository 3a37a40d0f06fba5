"""The rooms of the package: who may import whom, and what ``import a3mini`` does not load."""

import subprocess
import sys

import pytest
from places import ROOT

import a3mini
from tools.site import rooms

PACKAGE = ROOT / "a3mini"
FILES = sorted(
    path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "lazy.py")
)


def wrong(file: str, source: str) -> list[str]:
    """The imports that go up."""
    order = list(rooms.ROOMS)
    own = order.index(rooms.room(file.removesuffix(".py").replace("/", ".")))
    return sorted(name for name in rooms.imported(source) if order.index(rooms.room(name)) > own)


@pytest.mark.parametrize("file", [str(file) for file in FILES])
def test_imports_go_one_way(file):
    assert not wrong(file, (PACKAGE / file).read_text(encoding="utf-8"))


def test_an_import_that_goes_up_is_caught():
    assert wrong("masks.py", "from a3mini import runs") == ["runs"]
    assert wrong("train/loop.py", "from a3mini.decode.sampling import Sampler") == ["decode.sampling"]
    assert wrong("decode/steps.py", "def f():\n    from a3mini.notebook import plots") == ["notebook"]
    assert not wrong("decode/infilling.py", "from a3mini.train.data import start_token")


def test_the_picture_of_the_rooms_is_up_to_date_and_shows_every_file():
    assert (ROOT / "book" / "_static" / "rooms.svg").read_text(encoding="utf-8") == rooms.draw(), "run `make links`"
    shown = {file for name in rooms.ROOMS for file in rooms.files(name)}
    inside = {"explorers", "plots", "checks", "__main__"}  # folders of a room stand for their files
    assert {file.stem for file in FILES if file.parent.name not in inside} - inside <= shown


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
        "from a3mini.cli import main; main(['train', '--help'])",
        "from a3mini.cli import main; main(['infill', '--help'])",
        "from a3mini.cli import main; main(['rewrite', '--help'])",
        "from a3mini.cli import main; main(['revise', '--help'])",
        "from a3mini.cli import main; main(['evaluate', '--txt=andersen'])",
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
