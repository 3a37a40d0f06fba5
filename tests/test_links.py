"""The repository's URL stands in one place, and all that is generated from it agrees."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "links.py"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SKIPPED = {".git", ".venv", ".book", "_build", "build", "checkpoints", "__pycache__"}
SKIPPED |= {".hypothesis", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"}


def links(root: Path, *arguments: str) -> None:
    """Run tools/links.py on a repository. It raises SystemExit where the tool would fail."""
    spec = importlib.util.spec_from_file_location("links", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(["--root", str(root), *arguments])


def own_files(root: Path):
    for path in root.rglob("*"):
        if path.is_file() and not SKIPPED & set(path.relative_to(root).parts):
            yield path


def test_everything_generated_is_up_to_date():
    links(ROOT, "--check")


def test_a_new_url_reaches_every_place(tmp_path):
    ignore = shutil.ignore_patterns(*SKIPPED, "*.egg-info")
    copy = shutil.copytree(ROOT, tmp_path / "copy", ignore=ignore)
    old = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    config = copy / "_config.yml"
    config.write_text(config.read_text().replace(old, "https://github.com/someone/elsewhere"))

    with pytest.raises(SystemExit, match="make links"):
        links(copy, "--check")
    links(copy)
    links(copy, "--check")
    name = old.removeprefix("https://github.com/").encode()
    left = [str(path.relative_to(copy)) for path in own_files(copy) if name in path.read_bytes()]
    assert not left, "these files name the repository by hand"
    assert all(b"someone/elsewhere" in path.read_bytes() for path in (copy / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_first_cells_are_badge_title_setup(path):
    badge, title, setup = nbformat.read(path, as_version=4).cells[:3]
    assert badge.id == "badge" and badge.metadata.tags == ["remove-cell"] and path.name in badge.source
    assert title.cell_type == "markdown" and title.source.startswith("# ")
    assert setup.id == "setup" and "setup" in setup.metadata.tags


def setup_source() -> str:
    (source,) = {cell.source for path in NOTEBOOKS for cell in nbformat.read(path, 4).cells if cell.id == "setup"}
    return source


def run_setup(monkeypatch, installed) -> list[str]:
    """Execute the setup cell where only the given modules exist; return the pip commands that it runs."""
    commands = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed(name) else None)
    monkeypatch.setattr(subprocess, "check_call", lambda command: commands.append(" ".join(command)))
    exec(compile(setup_source(), "setup", "exec"), {})
    return commands


def test_setup_does_nothing_where_the_package_is(monkeypatch):
    assert run_setup(monkeypatch, lambda name: name == "a3mini") == []


def test_setup_installs_what_is_missing_and_never_torch(monkeypatch):
    package, rest = run_setup(monkeypatch, lambda name: name in ("matplotlib", "transformers"))
    assert "--no-deps" in package and "git+https://" in package
    assert "gguf" in rest and "anywidget" in rest
    assert not {"matplotlib", "transformers", "torch"} & set(rest.split())
    assert len(run_setup(monkeypatch, lambda name: name != "a3mini")) == 1
