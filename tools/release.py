"""Make a release: two commits and a tag, here; nothing is sent anywhere.

    make release VERSION=0.2.0
    git push origin main v0.2.0

In the first commit, which gets the tag, `branch` in _config.yml is the tag. So its notebooks install that version in
Colab, and all its links lead to it. The second commit puts the branch back. The version stands in a3mini/__init__.py,
what changed under its own heading in CHANGELOG.md; where there is none yet, *Unreleased* becomes it.

The tag starts two workflows on GitHub: publish.yml (the book) and release.yml (the wheel, the PDF, the zip).
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
from pathlib import Path

from tools import ROOT
from tools.site import address

PLACEHOLDER = "/OWNER/"
NEW = "## [Unreleased]\n"


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def refuse(root: Path, version: str) -> str | None:
    """Why there can be no release, or None."""
    url, branch = address.repository(root)
    if not re.match(r"^\d+\.\d+\.\d+(rc\d+)?$", version):
        return f"a version has the form 0.2.0 or 0.2.0rc1, not {version!r}: make release VERSION=0.2.0"
    if PLACEHOLDER in url:
        return f"the repository's URL is still the placeholder {url}: set it in _config.yml, and run `make links`"
    if git(root, "status", "--porcelain"):
        return "something is not committed: a release is what is committed"
    if git(root, "rev-parse", "--abbrev-ref", "HEAD") != branch:
        return f"releases are made on the branch {branch} of _config.yml"
    if git(root, "tag", "--list", f"v{version}"):
        return f"the tag v{version} is there already: take the next version"
    if notes((root / "CHANGELOG.md").read_text(encoding="utf-8"), version, "") is None:
        return f"CHANGELOG.md has nothing under [{version}] or [Unreleased]: say what changed"
    return None


def notes(changelog: str, version: str, today: str) -> str | None:
    """The changelog with a heading of this version; None if nothing stands under it."""
    heading = f"## [{version}]"
    if heading not in changelog:
        changelog = changelog.replace(NEW, f"{NEW}\n{heading} - {today}\n", 1)
    return changelog if said(changelog, version) else None


def said(changelog: str, version: str) -> str:
    """What the changelog says of a version: the notes of its release."""
    found = re.search(rf"(?ms)^## \[{re.escape(version)}\].*?$(.*?)(?=^## \[|\Z)", changelog)
    return found.group(1).strip() if found else ""


def commit(root: Path, ref: str, message: str) -> None:
    config = root / "_config.yml"
    text, count = re.subn(r"(?m)^(  branch: ).*$", rf"\g<1>{ref}", config.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError("_config.yml: one line must begin with `  branch: `")
    config.write_text(text, encoding="utf-8")
    address.write(address.texts(root), root)
    git(root, "commit", "--all", "--quiet", "--message", message)


def release(root: Path, version: str) -> None:
    _, branch = address.repository(root)
    changelog, package = root / "CHANGELOG.md", root / "a3mini" / "__init__.py"
    today = datetime.date.today().isoformat()
    changelog.write_text(notes(changelog.read_text(encoding="utf-8"), version, today), encoding="utf-8")
    stated = address.line(package.read_text(encoding="utf-8"), "__version__ = ", f'"{version}"')
    package.write_text(stated, encoding="utf-8")
    commit(root, f"v{version}", f"Version {version}: notebooks and links name the tag")
    git(root, "tag", "--annotate", f"v{version}", "--message", f"Version {version}")
    commit(root, branch, f"After version {version}: notebooks and links name {branch} again")
    print(f"Nothing is sent yet. To publish it:\n\n    git push origin {branch} v{version}\n")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version", nargs="?", default="", help="such as 0.2.0")
    parser.add_argument("--notes", action="store_true", help="only print what the changelog says of it")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository to work on")
    options = parser.parse_args(arguments)
    if options.notes:
        print(said((options.root / "CHANGELOG.md").read_text(encoding="utf-8"), options.version))
        return
    if why := refuse(options.root, options.version):
        sys.exit(f"No release: {why}.")
    release(options.root, options.version)


if __name__ == "__main__":
    main()
