"""A command's options from a YAML or JSON file, as arguments, so that they are checked as those are."""

import difflib
import json
from collections.abc import Collection
from pathlib import Path


def arguments(path: str, defaults: dict, lists: Collection[str]) -> list[str]:
    """The options in a file.

    Args:
        path: of the file.
        defaults: the long options of the command, by name ("batch-size").
        lists: those that take several values.

    Raises:
        ValueError: it is no such file, there is no such option, or a value is of the wrong kind.
        OSError: the file cannot be read.
    """
    found = []
    for key, value in _read(path).items():
        name = str(key).replace("_", "-")
        if name not in defaults:
            raise ValueError(f"{path}: there is no option {key!r}{closest(name, defaults)}")
        several = isinstance(value, list)
        if (several and name not in lists) or any(isinstance(v, (list, dict)) for v in (value if several else [value])):
            wanted = "a list of values" if name in lists else "one value"
            raise ValueError(f"{path}: {key} must be {wanted}, got {value!r:.60}")
        if isinstance(defaults[name], bool) and isinstance(value, bool):
            found.append(f"--{name}" if value else f"--no-{name}")
        elif several:
            found += [f"--{name}", *map(str, value)]
        elif value is not None:
            found.append(f"--{name}={value}")
    return found


def _read(path: str) -> dict:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        if Path(path).suffix == ".json":
            config = json.loads(text)
        else:
            import yaml  # only here, so that help needs nothing

            try:
                config = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise ValueError(error) from error
    except ValueError as error:  # of JSON, of YAML, or text that is not UTF-8
        raise ValueError(f"{path} is not a valid config file: {error}") from error
    except RecursionError:
        raise ValueError(f"{path} is not a valid config file: it is nested too deeply") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold options and their values, such as `steps: 500`")
    return config


def closest(name: str, names: dict) -> str:
    """What an unknown option may have been meant to be; to stand behind its name."""
    dashes = "--" if name.startswith("--") else ""
    plain = name.removeprefix("--").split("=")[0]
    # --vocabulary-size and --vocab-size are close; --batch and --batch-size share their beginning
    close = difflib.get_close_matches(plain, names, n=1, cutoff=0.5) or [n for n in names if n.startswith(plain)]
    return f"; did you mean {dashes}{close[0]}?" if close else f"; there are {', '.join(sorted(names))}"
