"""GitHub's workflows: valid by GitHub's own schema, safe by zizmor's audits, and the scripts inside do what they say.

Nothing here asks GitHub: check-jsonschema brings the schema, and zizmor its rules.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema import Draft7Validator
from places import ROOT
from ruamel.yaml import YAML

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
ZIZMOR = str(Path(sys.executable).with_name("zizmor"))
SCHEMA = Draft7Validator(get_builtin_schema("vendor.github-workflows"))


def read(file: Path) -> dict:
    return YAML(typ="safe").load(file)  # YAML 1.2, as on GitHub: `on` is a word, and not True


def problems(folder: Path) -> str:
    """What the schema, zizmor and our own rules object to in the workflows of a folder; "" if nothing."""
    # pedantic: also what is merely bad style, such as a permission without a reason
    command = [ZIZMOR, "--offline", "--no-config", "--no-progress", "--persona=pedantic", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"})
    text = run.stdout + run.stderr if run.returncode else ""
    for file in sorted(folder.glob("*.yml")):
        source, workflow = file.read_text(encoding="utf-8"), read(file)
        text += "".join(f"schema: {file.name}: {error.message}\n" for error in SCHEMA.iter_errors(workflow))
        for line in source.splitlines():
            if "uses:" in line and not PINNED.search(line):
                text += f"not a full commit with its version: {line}\n"
        for key in ("permissions", "concurrency"):
            text += "" if key in workflow else f"{file.name}: no {key}\n"
        for name, job in workflow.get("jobs", {}).items():
            text += "" if "timeout-minutes" in job else f"{file.name}: {name} has no timeout\n"
    return text


def test_every_workflow_is_valid_and_safe():
    assert {file.name for file in WORKFLOWS} >= {"test.yml", "publish.yml", "newest.yml", "release.yml", "matrix.yml"}
    assert not problems(WORKFLOWS[0].parent)


FORMS = [file for file in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) if file.name != "config.yml"]
SETTINGS = [("dependabot.yml", "dependabot"), ("ISSUE_TEMPLATE/config.yml", "github-issue-config")]
SETTINGS += [(f"ISSUE_TEMPLATE/{file.name}", "github-issue-forms") for file in FORMS]


@pytest.mark.parametrize(("name", "schema"), SETTINGS)
def test_every_other_setting_is_valid(name, schema):
    check = Draft7Validator(get_builtin_schema(f"vendor.{schema}"))
    setting = read(ROOT / ".github" / name)
    assert not [error.message for error in check.iter_errors(setting)]
    assert [*check.iter_errors({**setting, "no such key": 1, "updates": 1, "body": 1, "blank_issues_enabled": 1})]


def test_a_form_asks_with_commands_that_work():
    """What a reader is told to run prints something."""
    asked = [code for file in FORMS for code in re.findall(r'python -c "([^"]+)"', file.read_text(encoding="utf-8"))]
    assert len(asked) == 2
    for code in asked:
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert ended.returncode == 0 and ended.stdout.strip(), ended.stderr


MUTANTS = {
    "a key that GitHub does not know": ("runs-on:", "runs_on:", "schema"),
    "an action by its tag": (r"@[0-9a-f]{40} # v([\d.]+)", r"@v\1", "unpinned-uses"),
    "a commit without its version": (r" # v[\d.]+", "", "not a full commit with its version"),
    "no permissions": ("\npermissions: {}", "", "no permissions"),
    "all permissions": (r"permissions:\n      \w+: read.*", "permissions: write-all", "excessive-permissions"),
    "no concurrency": (r"(?m)^concurrency:.*\n(  .*\n)+", "", "no concurrency"),
    "no timeout": (r" *timeout-minutes: .*\n", "", "has no timeout"),
    "a token left on the disk": ("persist-credentials: false", "fetch-depth: 1", "artipacked"),
    "text of a stranger in a script": (
        r"run: \.ci/run",
        "run: echo ${{ github.event.pull_request.title }}",
        "template-injection",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_is_found(name, tmp_path):
    pattern, replacement, message = MUTANTS[name]
    source = next(file for file in WORKFLOWS if file.name == "test.yml").read_text(encoding="utf-8")
    mutant, count = re.subn(pattern, replacement, source, count=1)
    assert count == 1
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (folder / "test.yml").write_text(mutant, encoding="utf-8")
    assert message in problems(folder)


# The scripts


def script(workflow: str, step: str) -> str:
    file = next(file for file in WORKFLOWS if file.name == workflow)
    jobs = read(file)["jobs"].values()
    return next(found["run"] for job in jobs for found in job["steps"] if found.get("name") == step)


def run(text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """As a step runs it."""
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"} | environment
    return subprocess.run(["bash", "-e", "-c", text], env=environment, capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize(
    ("chosen", "variable", "edition"),
    [
        ("", "", "complete"),  # a tag, and nothing set
        ("", "student", "student"),  # a tag
        ("as the variable A3_EDITION says", "student", "student"),
        ("complete", "student", "complete"),  # by hand
        ("", "students", None),
        ("", "$(touch ran)", None),
    ],
)
def test_which_edition_is_published(chosen, variable, edition, tmp_path):
    there = tmp_path / "environment"
    text = script("publish.yml", "choose the edition")
    done = run(text, tmp_path, CHOSEN=chosen, VARIABLE=variable, GITHUB_ENV=str(there))
    if edition:
        assert done.returncode == 0 and there.read_text() == f"EDITION={edition}\n"
    else:
        assert done.returncode == 1 and "A3_EDITION must be" in done.stdout
        assert not there.exists() and not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("tag", "version", "branch", "said"),
    [
        ("v1.2.3", "1.2.3", "v1.2.3", None),
        ("v1.2.4", "1.2.3", "v1.2.4", "not the version"),
        ("v1.2.3", "1.2.3", "main", "would install another version"),
        ("v1.2.3", "1x2.3", "v1.2.3", "not the version"),
    ],
)
def test_a_tag_is_the_version_that_its_notebooks_install(tag, version, branch, said, tmp_path):
    (tmp_path / "a3mini").mkdir()
    (tmp_path / "a3mini" / "__init__.py").write_text(f'"""Doc."""\n\n__version__ = "{version}"\n')
    config = re.sub(r"(?m)^  branch: .*$", f"  branch: {branch}", (ROOT / "_config.yml").read_text(encoding="utf-8"))
    (tmp_path / "_config.yml").write_text(config)
    done = run(script("release.yml", "the tag is the version, and the notebooks install it"), tmp_path, TAG=tag)
    assert (done.returncode == 0) == (said is None) and (said or "") in done.stdout


@pytest.mark.parametrize(("tag", "rehearsal"), [("v0.2.0", "false"), ("v0.2.0rc1", "true")])
def test_a_release_has_its_notes_and_all_files(tag, rehearsal, gh):
    (gh / "python3").write_text('#!/bin/sh\necho "notes of $*"\n')
    (gh / "python3").chmod(0o755)
    (gh / "files").mkdir()
    for name in ("a.whl", "site.zip"):
        (gh / "files" / name).touch()
    done = run(script("release.yml", "attach the files"), gh, TAG=tag)
    assert done.returncode == 0, done.stderr
    assert (gh / "notes.md").read_text() == f"notes of -m tools.release --notes {tag[1:]}\n"
    (call,) = (gh / "calls").read_text().splitlines()
    assert call == (
        f"release create {tag} --verify-tag --title {tag} --notes-file notes.md --prerelease={rehearsal} "
        "files/a.whl files/site.zip"
    )


def test_the_book_that_is_attached_is_what_make_takeaway_writes():
    job = read(next(file for file in WORKFLOWS if file.name == "release.yml"))["jobs"]["book"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make book", "make takeaway"]
    folder = job["steps"][-1]["with"]["path"]
    there = (ROOT / "tools" / "site" / "takeaway.py").read_text(encoding="utf-8")  # to import it needs the extra `book`
    assert "DOWNLOADS = ROOT / " + " / ".join(f'"{part}"' for part in folder.split("/")) in there


def test_pypi_is_off_until_somebody_turns_it_on():
    job = read(next(file for file in WORKFLOWS if file.name == "release.yml"))["jobs"]["pypi"]
    assert "vars.A3_PYPI == 'true'" in job["if"] and job["permissions"] == {"id-token": "write"}
    assert not any("password" in str(step) for step in job["steps"])


@pytest.fixture
def gh(tmp_path):
    """A stand-in for GitHub's program: `open` holds the number of an open issue, and `calls` what was asked."""
    (tmp_path / "gh").write_text('#!/bin/sh\necho "$*" >> calls\n[ "$2" = list ] && cat open || true\n')
    (tmp_path / "gh").chmod(0o755)
    (tmp_path / "open").write_text("")
    return tmp_path


def reported(gh: Path) -> list[str]:
    done = run(script("newest.yml", "open an issue, or comment on the open one"), gh, RUN="https://a.run/1")
    assert done.returncode == 0, done.stderr
    calls = (gh / "calls").read_text().splitlines()
    assert calls[0].startswith("issue list --state open --label newest-dependencies")
    return calls[1:]


def test_a_failure_opens_an_issue(gh):
    label, issue = reported(gh)
    assert label.startswith("label create newest-dependencies --force")
    assert issue.startswith("issue create --label newest-dependencies") and "https://a.run/1" in issue


def test_a_second_failure_comments_on_it(gh):
    (gh / "open").write_text("7\n")
    (comment,) = reported(gh)
    assert comment.startswith("issue comment 7 --body") and "https://a.run/1" in comment
