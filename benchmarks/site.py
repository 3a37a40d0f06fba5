"""Weigh every page of the built site, and let Lighthouse judge it.

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
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import sync_playwright
from record import record

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
# The newest version that runs on Node 20; 13 needs Node 22.19.
LIGHTHOUSE = "12.8.2"
METRICS = {
    "first_contentful_paint_ms": "first-contentful-paint",
    "largest_contentful_paint_ms": "largest-contentful-paint",
    "total_blocking_time_ms": "total-blocking-time",
    "layout_shift": "cumulative-layout-shift",
}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    found = os.environ.get("A3_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        sys.exit("No Chromium found: set A3_CHROMIUM to its path.")
    return found


def weigh(browser, address: str) -> dict[str, int]:
    """Bytes by type of all that one visit loads."""
    context = browser.new_context(viewport={"width": 1350, "height": 940})
    page, requests, weights = context.new_page(), [], {}
    page.on("requestfinished", lambda request: requests.append(request))
    page.goto(address, wait_until="networkidle")
    for request in requests:
        if request.url.startswith("http"):  # explorers import their own module as a blob:
            weights[request.resource_type] = weights.get(request.resource_type, 0) + request.sizes()["responseBodySize"]
    context.close()
    return dict(sorted(weights.items()))


def judge(address: str, executable: str) -> dict:
    """Lighthouse's scores, 0 to 100, its metrics, and what it finds wrong for accessibility."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = ["npx", "--yes", f"lighthouse@{LIGHTHOUSE}", address, "--preset=desktop", "--quiet"]
        command += ["--only-categories=performance,accessibility", "--output=json", f"--output-path={report}"]
        command += ["--chrome-flags=--headless=new --no-sandbox --disable-gpu"]
        subprocess.run(
            command, check=True, timeout=300, capture_output=True, env={**os.environ, "CHROME_PATH": executable}
        )
        result = json.loads(report.read_text(encoding="utf-8"))
    audits = result["audits"]
    names = [ref["id"] for ref in result["categories"]["accessibility"]["auditRefs"] if ref["weight"]]
    return {
        **{name: round(100 * result["categories"][name]["score"]) for name in ("performance", "accessibility")},
        **{ours: round(audits[theirs]["numericValue"], 3) for ours, theirs in METRICS.items()},
        "accessibility_findings": [name for name in names if audits[name]["score"] not in (1, None)],
    }


def table(pages: dict[str, dict]) -> str:
    rows = [f"{'page':42} {'perf.':>5} {'acc.':>5} {'FCP':>6} {'LCP':>6} {'TBT':>6} {'CLS':>6} {'kB':>7}  of which"]
    for name, page in pages.items():
        parts = ", ".join(f"{kind} {size / 1000:.0f}" for kind, size in page["bytes"].items())
        first, largest, blocked, shift = (page[name] for name in METRICS)
        rows.append(
            f"{name:42} {page['performance']:5} {page['accessibility']:5} {first / 1000:5.1f}s {largest / 1000:5.1f}s "
            f"{blocked / 1000:5.2f}s {shift:6.3f} {sum(page['bytes'].values()) / 1000:7.0f}  {parts}"
        )
        rows += [f"    accessibility: {finding}" for finding in page["accessibility_findings"]]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="only pages whose name contains this; nothing is written")
    parser.add_argument("--runs", type=int, default=3, help="runs of Lighthouse for each page")
    parser.add_argument("--site", type=Path, default=SITE, help="the built site")
    options = parser.parse_args()
    found = {
        str(page.relative_to(options.site)) for page in options.site.glob("*/*.html") if page.parent.name[0] != "_"
    }
    names = sorted(name for name in found if options.only in name)
    if not names:
        sys.exit(f"No page of {options.site} has {options.only!r} in its name. Build the site first: `make book`.")

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=options.site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    executable, pages = chromium(), {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        for name in names:
            pages[name] = {"bytes": weigh(browser, f"http://127.0.0.1:{server.server_port}/{name}")}
        version = browser.version
        browser.close()
    for name in names:
        runs = [judge(f"http://127.0.0.1:{server.server_port}/{name}", executable) for _ in range(options.runs)]
        pages[name] |= sorted(runs, key=lambda run: run["performance"])[len(runs) // 2]
        print(name, pages[name]["performance"], pages[name]["accessibility"], flush=True)
    server.shutdown()
    print(table(pages))
    if not options.only:
        record(
            "site",
            seed=0,
            lighthouse=LIGHTHOUSE,
            preset="desktop",
            runs=options.runs,
            chromium=version,
            server="Python's http.server, without compression",
            pages=pages,
        )


if __name__ == "__main__":
    main()
