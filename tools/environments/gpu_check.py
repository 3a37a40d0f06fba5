"""What could not be tried without a GPU, in one command: `make gpu-check`.

On a machine with a CUDA GPU it runs tests/gpu on SmolLM2, prints a line for each test, writes what they measured to
book/results/gpu.json, and exits with 1 if one failed. Without a GPU it says so in one line, writes nothing, and exits
with 0, so that it may stand in a script that runs everywhere. A few minutes.

    python -m tools.environments.gpu_check
    python -m tools.environments.gpu_check --rehearse     a tiny random model on the CPU; nothing is written
"""

import argparse
import os
import sys

import pytest
import torch

from a3mini import pretrained
from a3mini.train import devices
from benchmarks.record import record
from tools import ROOT

TESTS = ROOT / "tests" / "gpu"


class Checks:
    """A pytest plugin: prints a line for each test, and keeps what it measured."""

    def __init__(self):
        self.found = {}

    def pytest_runtest_logreport(self, report):
        if report.when != "call" and report.passed:
            return
        name, measured = report.nodeid.rsplit("::test_")[-1], dict(report.user_properties)
        if report.failed:
            measured["error"] = report.longrepr.reprcrash.message
            print(report.longreprtext)
        self.found[name] = {"passed": report.passed, **measured, "seconds": round(report.duration, 1)}
        print(f"{'ok  ' if report.passed else 'FAIL'} {name}: {self.found[name]}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rehearse", action="store_true", help="a tiny model on the CPU; nothing is written")
    parser.add_argument(
        "--beside", default="", help="what else uses the GPU meanwhile: speeds are then no measurements"
    )
    options = parser.parse_args(arguments)
    if not options.rehearse and not torch.cuda.is_available():
        print("gpu-check: there is no CUDA GPU here, so nothing was checked and nothing written")
        return 0
    os.environ["A3_GPU"] = "" if options.rehearse else "1"  # the tests ask for it
    checks = Checks()
    # the lines above are all that is printed; pytest's own options in pyproject.toml are about its report
    quiet = ["-p", "no:terminal", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib", "--capture=no"]
    status = pytest.main([str(TESTS), *quiet], plugins=[checks])
    failed = [name for name, found in checks.found.items() if not found["passed"]]
    if not options.rehearse:
        *_, model = pretrained.small_model()
        about = {"model": model, "device": devices.this()._asdict(), "beside": options.beside}
        record("gpu", seed=0, **about, failed=failed, checks=checks.found)
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed" if not status else "not all checks ran")
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
