"""Write the repository's URL, and the setup cell, to every place that needs them.

The URL stands in _config.yml alone (repository: url and branch). From it this tool writes the
marked parts of README.md, one line of CITATION.cff, and two cells of each notebook: the badge
that opens it in Colab and the setup cell. It also brings each notebook into the one form in which
notebooks are committed: no outputs, no counts, the same kernel, stable cell ids.

    python tools/links.py            write
    python tools/links.py --check    change nothing; fail if something would change
"""

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[1]

SETUP = """\
# Setup. Does nothing where a3mini is installed; elsewhere (Colab) installs it and what is missing, never PyTorch.
import importlib
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("a3mini") is None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.check_call([*pip, "--no-deps", "git+{url}@{branch}"])
    wanted = "accelerate anywidget datasets gguf ipywidgets matplotlib numpy peft safetensors transformers".split()
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        subprocess.check_call([*pip, *missing])
    importlib.invalidate_caches()"""

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


def repository(root: Path) -> tuple[str, str]:
    config = yaml.safe_load((root / "_config.yml").read_text())["repository"]
    return config["url"], config["branch"]


def colab(url: str, branch: str, name: str) -> str:
    path = url.removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{path}/blob/{branch}/notebooks/{name}"


def measured_time(name: str) -> str:
    """What `make timings` has measured, in words."""
    results = json.loads((ROOT / "book" / "results" / "notebook_times.json").read_text())
    seconds = results["seconds"].get(name)
    if seconds is None:
        return "Not measured yet."
    return f"About {5 * round(seconds / 5 + 0.5):.0f} seconds on two CPU cores (measured). On a GPU: not measured yet."


def title(notebook: nbformat.NotebookNode) -> str:
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return cell.source.splitlines()[0].removeprefix("# ").strip()
    raise ValueError("no cell begins with a `# Title`")


def canonical(text: str, name: str, url: str, branch: str) -> str:
    """The notebook with its two generated cells, in the form in which it is committed."""
    notebook = nbformat.reads(text, as_version=4)
    badge = nbformat.v4.new_markdown_cell(
        BADGE.format(colab=colab(url, branch, name)), id="badge", metadata={"tags": ["remove-cell"]}
    )
    setup = nbformat.v4.new_code_cell(SETUP.format(url=url, branch=branch), id="setup", metadata=SETUP_METADATA)
    body = [cell for cell in notebook.cells if cell.get("id") not in ("badge", "setup")]
    for cell in body:
        cell.source = re.sub(r"<!-- timings -->.*", f"<!-- timings --> {measured_time(name)}", cell.source)
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


def between(text: str, name: str, content: str) -> str:
    """Replace what stands between <!-- name:begin --> and <!-- name:end -->."""
    pattern = rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)"
    new, count = re.subn(pattern, lambda m: f"{m[1]}{content}\n{m[2]}", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"README.md needs the markers {name}:begin and {name}:end exactly once")
    return new


def generated(root: Path) -> dict[Path, str]:
    """Every file with a generated part, as it should be."""
    url, branch = repository(root)
    files, rows = {}, ["| Notebook | Run it |", "|---|---|"]
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        files[path] = canonical(text, path.name, url, branch)
        heading = title(nbformat.reads(files[path], as_version=4))
        badge = BADGE.format(colab=colab(url, branch, path.name))
        rows.append(f"| [{heading}](notebooks/{path.name}) | {badge} |")

    workflow = f"{url}/actions/workflows/test.yml"
    badges = f"[![tests]({workflow}/badge.svg?branch={branch})]({workflow})"
    readme = root / "README.md"
    text = between(readme.read_text(encoding="utf-8"), "badges", badges)
    files[readme] = between(text, "notebooks", "\n".join(rows))

    citation = root / "CITATION.cff"
    text = citation.read_text(encoding="utf-8")
    files[citation] = re.sub(r"(?m)^repository-code: .*$", f'repository-code: "{url}"', text)
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
