"""What does each page of the built site weigh, and what does Lighthouse think of it?

    python benchmarks/site.py                          all pages; writes book/results/site.json
    python benchmarks/site.py --only index --runs 1    pages whose name contains "index"; prints, and writes nothing

It serves the site itself, with Python's http.server, which does not compress: a real host does, so the pages then
weigh about a quarter. Bytes are the bodies of all responses to one visit with an empty cache. Lighthouse runs with its
preset for desktops, one page after the other, three times each; the run of median performance counts. Its blocking
time is measured on this machine: leave the machine alone meanwhile. It needs Node (npx) and Chromium (A3_CHROMIUM, or
on the PATH).
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import browsers
from record import record

SITE = Path(__file__).resolve().parents[1] / "_build" / "html"
LIGHTHOUSE = "12.8.2"  # the newest version that runs on Node 20; 13 needs Node 22.19
METRICS = {
    "first_contentful_paint_ms": "first-contentful-paint",
    "largest_contentful_paint_ms": "largest-contentful-paint",
    "total_blocking_time_ms": "total-blocking-time",
    "layout_shift": "cumulative-layout-shift",
}


def lighthouse(address: str, chromium: str) -> dict:
    """The report of one visit."""
    command = ["npx", "--yes", f"lighthouse@{LIGHTHOUSE}", address, "--preset=desktop", "--quiet", "--output=json"]
    command += ["--only-categories=performance,accessibility"]
    command += ["--chrome-flags=--headless=new --no-sandbox --disable-gpu"]
    environment = os.environ | {"CHROME_PATH": chromium}
    done = subprocess.run(command, check=True, timeout=300, stdout=subprocess.PIPE, env=environment)
    return json.loads(done.stdout)


def judged(report: dict) -> dict:
    """Bytes by type, scores from 0 to 100, the metrics, and what is wrong for accessibility."""
    audits, weights = report["audits"], Counter()
    for request in audits["network-requests"]["details"]["items"]:
        if request["url"].startswith("http"):  # explorers import their own module as a blob:
            weights[request["resourceType"].lower()] += request["resourceSize"]
    names = [ref["id"] for ref in report["categories"]["accessibility"]["auditRefs"] if ref["weight"]]
    return {
        "bytes": dict(sorted(weights.items())),
        **{name: round(100 * report["categories"][name]["score"]) for name in ("performance", "accessibility")},
        **{ours: round(audits[theirs]["numericValue"], 3) for ours, theirs in METRICS.items()},
        "accessibility_findings": [name for name in names if audits[name]["score"] not in (1, None)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="only pages whose name contains this; nothing is written")
    parser.add_argument("--runs", type=int, default=3, help="runs of Lighthouse for each page")
    parser.add_argument("--site", type=Path, default=SITE, help="the built site")
    options = parser.parse_args()
    found = [page.relative_to(options.site) for page in options.site.glob("*/*.html") if page.parent.name[0] != "_"]
    names = sorted(str(page) for page in found if options.only in str(page))
    if not names:
        sys.exit(f"No page of {options.site} has {options.only!r} in its name. Build the site first: `make book`.")
    chromium = browsers.chromium()
    if chromium is None:
        sys.exit("No Chromium found: set A3_CHROMIUM to its path.")
    pages = {}
    with browsers.served(options.site) as address:
        for name in names:
            reports = [lighthouse(f"{address}/{name}", chromium) for _ in range(options.runs)]
            reports.sort(key=lambda report: report["categories"]["performance"]["score"])
            pages[name] = judged(reports[len(reports) // 2])
            print(name, json.dumps(pages[name], indent=1), flush=True)
    if not options.only:
        version = reports[0]["environment"]["hostUserAgent"].partition("Chrome/")[2].split()[0]
        record(
            "site", seed=0, lighthouse=LIGHTHOUSE, preset="desktop", runs=options.runs, chromium=version,
            server="Python's http.server, without compression", pages=pages,
        )  # fmt: skip


if __name__ == "__main__":
    main()
