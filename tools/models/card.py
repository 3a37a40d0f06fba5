"""The model card of a packaged model: a Jinja template beside this file, filled in with the run's own record."""

import json
import shlex
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from a3mini import runs

FILTERS = {
    "comma": "{:,}".format,
    "interval": lambda one: f"{one['mean']:.2f} [{one['low']:.2f}, {one['high']:.2f}]",
    "listed": lambda versions: ", ".join(f"{name} {version}" for name, version in versions.items()),
    "shell": shlex.join,
}


def render(template: str, **facts) -> str:
    loader = FileSystemLoader(Path(__file__).parent)
    jinja = Environment(loader=loader, trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    jinja.filters |= FILTERS
    return jinja.get_template(template).render(facts)


def write_card(folder: Path, template: str, run: Path, **facts) -> None:
    """Write folder/README.md. The template can name the ``record`` and the ``metrics`` of the run, and the facts."""
    facts |= {"record": json.loads((run / "run.json").read_text()), "metrics": runs.read_metrics(run)}
    (folder / "README.md").write_text(render(template, **facts), encoding="utf-8")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder.name.removeprefix(runs.PARTIAL)}: {size / 2**20:.1f} MiB")
