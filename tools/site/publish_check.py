"""Build what would be published, serve it as GitHub Pages does, and check it.

    make publish-check                           both editions: with solutions, and without
    make publish-check EDITION=student           one of them
    make publish-check ARGS=--external           follow the links to other sites, too; needs a network
    make publish-check ARGS=--draft              go on although the repository's URL is not set yet

The checks are the tests of the site and of the slides: links and anchors, accessibility, nothing that is loaded from
elsewhere, and every page in a real browser, under the path /REPO/ that GitHub gives a project.
"""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tools.site.links import repository

ROOT = Path(__file__).resolve().parents[2]
EDITIONS = {"complete": ("book", "_build/html"), "student": ("student", "_build/student/html")}
TESTS = ("tests/test_site.py", "tests/test_browser.py", "tests/test_slides.py")
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


def external_links(site: Path) -> dict[str, str]:
    """Every address outside the site that a page links to, and one page that does."""
    link = re.compile(r'<a\s[^>]*href="(https?://[^"#]+)')
    found = {}
    for page in sorted(site.rglob("*.html")):
        if "_static" not in page.parts:
            for url in link.findall(page.read_text("utf-8")):
                found.setdefault(url.replace("&amp;", "&"), str(page.relative_to(site)))
    return found


def broken(links: dict[str, str], tries: int = 3) -> tuple[list[str], list[str]]:
    """(what is broken, what nobody but a person can check) of ``external_links``."""
    session = requests.Session()
    session.headers["User-Agent"] = "Mozilla/5.0 (link check of a book)"
    patient = Retry(total=tries, backoff_factor=1, status_forcelist=(429, 502, 503, 504), raise_on_status=False)
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=patient))

    def ask(url: str) -> str | None:
        try:
            with session.get(url, timeout=30, stream=True) as answer:
                return None if answer.ok else f"{answer.status_code}"
        except requests.RequestException as error:
            return type(error).__name__

    with ThreadPoolExecutor(8) as workers:
        answers = dict(zip(links, workers.map(ask, links), strict=True))
    lines = {url: f"{answer}: {url} (on {links[url]})" for url, answer in answers.items() if answer}
    refused = [url for url in lines if answers[url] in ("401", "403", "429")]  # to a program, perhaps not to a reader
    return [lines[url] for url in lines if url not in refused], [lines[url] for url in refused]


def check(edition: str, options: argparse.Namespace) -> bool:
    target, folder = EDITIONS[edition]
    print(f"\n== The {edition} edition: make {target}", flush=True)
    if subprocess.run(["make", target, f"JOBS={options.jobs}"], cwd=ROOT).returncode:
        return False
    good = True
    left = placeholders(ROOT / folder)
    if left and not options.draft:
        print(
            f"The placeholder {PLACEHOLDER} is still in links of {', '.join(left)}. Run `make links`, and build again."
        )
        good = False
    print(f"\n== The {edition} edition: links, accessibility, browser", flush=True)
    environment = os.environ | {"A3_SITE": folder, "A3_SITE_REQUIRED": "1", "A3_BROWSER_REQUIRED": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(options.jobs), "--dist", "loadfile", *TESTS]
    good &= subprocess.run(command, cwd=ROOT, env=environment).returncode == 0
    if options.external:
        links = external_links(ROOT / folder)
        print(f"\n== The {edition} edition: {len(links)} links to other sites", flush=True)
        wrong, unsure = broken(links)
        for line in wrong:
            print(f"broken: {line}")
        for line in unsure:
            print(f"refused a program; look yourself: {line}")
        good &= not wrong
    return good


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
    failed = [edition for edition in editions if not check(edition, options)]
    if failed:
        sys.exit(f"Not ready to be published: the edition {' and '.join(failed)}. What is wrong stands above.")
    for edition in editions:
        print(f"Ready to be published: {EDITIONS[edition][1]} ({edition})")
    if wrong:
        print(f"But before you publish it:\n{wrong}")


if __name__ == "__main__":
    main()
