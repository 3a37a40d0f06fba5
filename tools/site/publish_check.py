"""Build what would be published, serve it as GitHub Pages does, and check it.

    make publish-check                           both editions: with solutions, and without
    make publish-check EDITION=student           one of them
    make publish-check ARGS=--external           follow the links to other sites, too; needs a network
    make publish-check ARGS=--draft              go on although the repository's URL is not set yet

The checks are the tests of the site and of the slides: links and anchors, accessibility, nothing that is loaded from
elsewhere, and every page in a real browser, under the path /REPO/ that GitHub gives a project.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tools import ROOT
from tools.site.links import repository

BOOK = ROOT / ".book"  # `make book` and `make student` put the executed notebooks into its folder source
EDITIONS = {"complete": ("book", "_build/html"), "student": ("student", "_build/student/html")}
TESTS = ("tests/book/test_site.py", "tests/book/test_browser.py", "tests/tools/test_slides.py")
PLACEHOLDER = "OWNER"


def wrong_url(url: str, github_repository: str | None) -> str | None:
    """What is wrong with the repository's URL and how to set it, or None.

    ``github_repository`` is OWNER/REPO as GitHub's workflows know it, None elsewhere.
    """
    yours = f"https://github.com/{github_repository or 'YOUR-NAME/YOUR-REPOSITORY'}"
    how = (
        f"In _config.yml, under `repository:`, set\n\n    url: {yours}\n\n"
        "then run `make links`, and commit. Badges, launch buttons and setup cells take the URL from there."
    )
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]*[\w-]", url) or url.endswith(".git"):
        return f"The repository's URL is {url}, and should have the form {yours}.\n{how}"
    if f"/{PLACEHOLDER}/" in url:
        return f"The repository's URL is still the placeholder {url}.\n{how}"
    if github_repository and url.lower() != yours.lower():
        return f"This repository is {yours}, but the book names {url}.\n{how}"
    return None


def placeholders(site: Path) -> list[str]:
    """The pages with a link into the placeholder's repository."""
    link = re.compile(rf'href="https://[^"]*/{PLACEHOLDER}/')
    return [
        str(page.relative_to(site)) for page in sorted(site.rglob("*.html")) if link.search(page.read_text("utf-8"))
    ]


def broken(source: Path, output: Path) -> tuple[list[str], list[str]]:
    """(what is broken, what nobody but a person can check) of the links to other sites on all pages of a book.

    Sphinx's linkcheck follows them, and leaves its report in a folder below ``output``.
    """
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    subprocess.run([jupyter_book, "build", source, "--path-output", output, "--builder", "linkcheck", "-q"])
    report = (output / "_build" / "html" / "output.json").read_text(encoding="utf-8").splitlines()
    bad = [link for link in map(json.loads, report) if link["status"] in ("broken", "timeout")]
    lines = {f"{link['info']} (on {link['filename']}): {link['uri']}" for link in bad}
    refused = {line for line in lines if line.startswith(("401", "403", "429"))}  # a program, perhaps not a reader
    return sorted(lines - refused), sorted(refused)


def check(edition: str, options: argparse.Namespace) -> bool:
    target, folder = EDITIONS[edition]
    print(f"\n== The {edition} edition: make {target}", flush=True)
    if subprocess.run(["make", target, f"JOBS={options.jobs}"], cwd=ROOT).returncode:
        return False
    left = [] if options.draft else placeholders(ROOT / folder)
    if left:
        print(f"The placeholder {PLACEHOLDER} is still in links of {', '.join(left)}. Run `make links`, build again.")
    print(f"\n== The {edition} edition: links, accessibility, browser", flush=True)
    environment = os.environ | {"A3_SITE": folder, "A3_SITE_REQUIRED": "1", "A3_BROWSER_REQUIRED": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(options.jobs), "--dist", "loadfile", *TESTS]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode == 0 and not left


def follow_external() -> bool:
    print("\n== Links to other sites", flush=True)
    wrong, unsure = broken(BOOK / "source", BOOK / "links")
    for line in [f"broken: {line}" for line in wrong] + [
        f"refused a program; look yourself: {line}" for line in unsure
    ]:
        print(line)
    return not wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edition", choices=[*EDITIONS, "both"], default="both")
    parser.add_argument("--jobs", type=int, default=2, help="how many notebooks, or test files, run at the same time")
    parser.add_argument("--external", action="store_true", help="follow the links to other sites, too")
    parser.add_argument("--draft", action="store_true", help="go on although the repository's URL is not set yet")
    options = parser.parse_args()

    wrong = wrong_url(repository(ROOT)[0], os.environ.get("GITHUB_REPOSITORY"))
    if wrong and not options.draft:
        sys.exit(f"{wrong}\nTo try the rest before that: make publish-check ARGS=--draft")
    if subprocess.run([sys.executable, "-m", "tools.site.links", "--check"], cwd=ROOT).returncode:
        sys.exit(1)
    editions = EDITIONS if options.edition == "both" else [options.edition]
    failed = [f"the edition {edition}" for edition in editions if not check(edition, options)]
    if options.external and not follow_external():
        failed.append("links to other sites")
    if failed:
        sys.exit(f"Not ready to be published: {' and '.join(failed)}. What is wrong stands above.")
    for edition in editions:
        print(f"Ready to be published: {EDITIONS[edition][1]} ({edition})")
    if wrong:
        print(f"But before you publish it:\n{wrong}")


if __name__ == "__main__":
    main()
