"""Write the repository's URL and the version to all the places that need them: plain Python, with nothing installed.

The URL stands in _config.yml alone (repository: url and branch), the version in a3mini/__init__.py. From them come the
badges that open a notebook in Colab, the address that its setup cell installs, the first screen of README.md, and lines
of pyproject.toml, CITATION.cff and book/errata.md. A release (tools/release.py) sets ``branch`` to its tag for one
commit: so the notebooks of a tag install that tag.

    python3 -m tools.site.address          any Python 3.8 or newer; `make links` takes it where there is no environment

tools/site/links.py writes the same, and what needs the environment.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from tools import ROOT

COLAB = "https://colab.research.google.com"
OPENS = re.compile(re.escape(COLAB) + r"/github/[^/\s]+/[^/\s]+/blob/[^\s)\"]+?/notebooks/")
INSTALLS = re.compile(r"git\+https://github\.com/[^\s@\"'\\]+@[^\s\"'\\]+")
FIRST = "00_quickstart.ipynb"  # what the first screen opens


def repository(root: Path) -> tuple[str, str]:
    """The URL, and the branch or tag that links and setup cells name."""
    part = re.search(r"(?m)^repository:\n((?:[ #].*\n|\n)+)", (root / "_config.yml").read_text(encoding="utf-8"))
    found = dict(re.findall(r"(?m)^ +(url|branch): *[\"']?([^\s\"'#]+)", part.group(1) if part else ""))
    if set(found) != {"url", "branch"}:
        raise ValueError("_config.yml: under `repository:` there must be a line `url:` and a line `branch:`")
    return found["url"], found["branch"]


def version(root: Path) -> str:
    return re.search(
        r'(?m)^__version__ = "(.+)"$', (root / "a3mini" / "__init__.py").read_text(encoding="utf-8")
    ).group(1)


def site(url: str) -> str:
    """Where GitHub Pages puts the book of a repository."""
    owner, name = url.split("/")[-2:]
    return f"https://{owner}.github.io/{name}/"


def installs(url: str, ref: str) -> str:
    """What pip is told to install."""
    return f"git+{url}@{ref}"


def badge(url: str, ref: str, name: str) -> str:
    path = "/".join(url.split("/")[-2:])
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({COLAB}/github/{path}/blob/{ref}/notebooks/{name})"


def minutes(root: Path) -> int:
    """What all notebooks take, one after another, as `make timings` has measured it."""
    stored = (root / "book" / "results" / "notebook_times.json").read_text(encoding="utf-8")
    return math.ceil(sum(json.loads(stored)["seconds"].values()) / 60)


def first_screen(url: str, ref: str, root: Path) -> str:
    """README's links: what to open, what to install, what to clone."""
    name = url.split("/")[-1]
    return f"""\
**[Read the book]({site(url)})** · {badge(url, ref, FIRST)}

```bash
pip install "{installs(url, ref)}"    # the package: Python 3.11 or newer
```

```bash
git clone {url}
cd {name}
make book    # builds the book, and prints where to open it
make test    # runs every check
```

The notebooks together run about {minutes(root)} minutes on two CPU cores, one after another (measured); `make book`
runs two at a time, and only those that have changed. It needs Python 3.11.5 or newer, `make`, `git` and about 3 GB of
disk, on Linux or macOS. On Windows take [WSL](https://learn.microsoft.com/windows/wsl/install), where all of this is
the same. The package alone needs no `make`."""


def between(text: str, name: str, content: str) -> str:
    """Replace what stands between <!-- name:begin --> and <!-- name:end -->."""
    pattern = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    text, count = pattern.subn(lambda found: f"{found.group(1)}{content}\n{found.group(2)}", text)
    if count != 1:
        raise ValueError(f"the markers {name}:begin and {name}:end must stand there exactly once")
    return text


def line(text: str, start: str, value: str) -> str:
    """Replace what follows ``start`` at the beginning of a line."""
    text, count = re.subn(rf"(?m)^({re.escape(start)}).*$", lambda found: found.group(1) + value, text)
    if count != 1:
        raise ValueError(f"a line must begin with {start!r} exactly once")
    return text


def everywhere(text: str, url: str, ref: str) -> str:
    """A text with its links to Colab, and what its setup cell installs, as they should be."""
    path = "/".join(url.split("/")[-2:])
    text = OPENS.sub(lambda _: f"{COLAB}/github/{path}/blob/{ref}/notebooks/", text)
    return INSTALLS.sub(lambda _: installs(url, ref), text)


def readme(text: str, url: str, ref: str, root: Path) -> str:
    workflow = f"{url}/actions/workflows/test.yml"
    of = "" if re.match(r"v\d", ref) else f"?branch={ref}"  # a tag has no runs of its own; else the default branch's
    badges = f"[![tests]({workflow}/badge.svg{of})]({workflow})"
    return everywhere(between(between(text, "badges", badges), "start", first_screen(url, ref, root)), url, ref)


def project(text: str, url: str, ref: str) -> str:
    for name, there in (
        ("Homepage", site(url)),
        ("Repository", url),
        ("Issues", f"{url}/issues"),
        ("Changelog", f"{url}/blob/{ref}/CHANGELOG.md"),
    ):
        text = line(text, f"{name} = ", f'"{there}"')
    return text


def texts(root: Path) -> dict[Path, str]:
    """Every file that names the URL or the version, as it should be."""
    (url, ref), now = repository(root), version(root)
    found = {path: path.read_text(encoding="utf-8") for path in sorted((root / "notebooks").glob("*.ipynb"))}
    found = {path: everywhere(text, url, ref) for path, text in found.items()}
    path = root / "README.md"
    found[path] = readme(path.read_text(encoding="utf-8"), url, ref, root)
    path = root / "pyproject.toml"
    found[path] = project(path.read_text(encoding="utf-8"), url, ref)
    path = root / "CITATION.cff"
    text = line(path.read_text(encoding="utf-8"), "repository-code: ", f'"{url}"')
    found[path] = line(text, "version: ", now)
    path = root / "book" / "errata.md"
    found[path] = line(path.read_text(encoding="utf-8"), "  version = ", f'"{now}",')
    return found


def write(found: dict[Path, str], root: Path) -> None:
    for path, text in found.items():
        if path.read_text(encoding="utf-8") != text:
            print(f"written: {path.relative_to(root)}")
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(texts(ROOT), ROOT)
    print("The URL and the version are everywhere. `make links` does the rest, once there is an environment.")
