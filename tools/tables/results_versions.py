"""The tables of book/versions.md, from tools/environments/matrix.py and tools/environments/colab_check.py."""

from tools.tables.results_common import BOOK, load, table

NOT_YET = "*Not run to its end yet. The command is `{}`.*"


def ran(result: dict) -> str:
    words = [f"{result['passed']:,} passed"]
    words += [f"{result[key]:,} {key}" for key in ("failed", "skipped") if result[key]]
    return f"{', '.join(words)} ({result['seconds'] / 60:.0f} min)"


def versions_matrix() -> str:
    if not (BOOK / "results" / "version_matrix.json").exists():
        return NOT_YET.format("make matrix")
    result = load("version_matrix")
    columns = result["columns"]
    rows = [
        [name, limits.replace(">=", "≥ "), *(column["versions"].get(name, "") for column in columns.values())]
        for name, limits in {"python": ">=3.11", **result["ranges"]}.items()
    ]
    rows += [
        [f"**{kind}**", "", *(ran(column[kind]) for column in columns.values())] for kind in ("tests", "notebooks")
    ]
    notes = [
        f"{which.capitalize()}: commits {', '.join(commit[:7] for commit in column['commits'])}"
        + ("" if column["complete"] else ", **not all of it ran**")
        + "".join(f"; failed: `{name}`" for kind in ("tests", "notebooks") for name in column[kind]["failures"])
        + "."
        for which, column in columns.items()
    ]
    return (
        f"{table(['package', 'range', *columns], rows)}\n\n{' '.join(notes)} "
        f"Made by `{result['command']}` on {result['date']}: {result['hardware']}."
    )


def versions_colab() -> str:
    if not (BOOK / "results" / "colab_check.json").exists():
        return NOT_YET.format("make colab-check")
    result = load("colab_check")
    have = {name.lower().replace("_", "-"): version for name, version in result["environment"].items()}
    wanted = ["python", "torch", "transformers", "numpy", "datasets", "accelerate", "peft", "ipywidgets", "ipykernel"]
    added = ", ".join(f"{name} {version}" for name, version in result["installed"].items())
    later = ", ".join(f"{name} {version}" for name, version in result["installed_by_09"].items())
    moved = ", ".join(f"{name} from {old} to {new}" for name, (old, new) in result["changed"].items())
    commit, date = result["snapshot"]
    rows = [
        ["Colab's list of packages", f"commit {commit[:7]} of googlecolab/backend-info, {date}"],
        ["among them", ", ".join(f"{name} {have[name]}" for name in wanted)],
        ["the setup cell installed", added],
        ["notebook 09 installed as well", later],
        ["packages whose version changed", moved or "none"],
        ["a second run of the setup cell", result["second_run"]],
        ["notebooks that ran to their end", f"{result['passed']} of {len(result['notebooks'])}"],
    ]
    return (
        f"{table(['what', 'found'], rows)}\n\nMade by `{result['command']}` on {result['date']}: {result['hardware']}, "
        f"commit {result['commit'][:7]}, {result['wall_seconds'] / 60:.0f} minutes for the notebooks."
    )
