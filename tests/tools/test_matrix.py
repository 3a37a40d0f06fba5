"""The ranges in pyproject.toml are those that the stored version matrix has tried, at both ends."""

import json
import re
import tomllib

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from places import ROOT

from tools.environments import colab_check, environments, matrix

REPORT = """<testsuites><testsuite time="12.34">
<testcase classname="tests.test_a" name="test_one"/>
<testcase classname="tests.test_a" name="test_two"><failure>no</failure></testcase>
<testcase classname="tests.test_b" name="test_three"><skipped/></testcase>
<testcase classname="tests.test_c" name="test_four"><error>no</error></testcase>
</testsuite></testsuites>"""


def stored(name: str, command: str) -> dict:
    """A stored result. A page says where one is missing."""
    path = ROOT / "book" / "results" / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no stored result yet: {command}")
    return json.loads(path.read_text())


@pytest.fixture
def matrix_result() -> dict:
    return stored("version_matrix", "make matrix")


def test_the_ranges_are_those_of_the_matrix(matrix_result):
    assert matrix.ranges(*matrix.READERS) == matrix_result["ranges"], (
        "run `make matrix` after a change of the ranges in pyproject.toml"
    )


def test_the_matrix_ran_and_nothing_failed(matrix_result):
    assert set(matrix_result["columns"]) == {"oldest", "newest"}
    for column in matrix_result["columns"].values():
        assert column["complete"] and column["tests"]["passed"] > 500 and column["notebooks"]["passed"] >= 10
        assert column["tests"]["failed"] == column["notebooks"]["failed"] == 0


@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_the_versions_lie_in_the_ranges(which, matrix_result):
    versions = matrix_result["columns"][which]["versions"]
    for name, limits in matrix_result["ranges"].items():
        assert SpecifierSet(limits).contains(versions[name], prereleases=True), name
        if which == "oldest":
            lowest = Version(re.search(r">=([^,]+)", limits)[1])
            assert Version(Version(versions[name]).public) == lowest, name


def test_the_oldest_python_is_the_one_that_pyproject_asks_for(matrix_result):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = Version(matrix_result["columns"]["oldest"]["versions"]["python"])
    assert project["requires-python"] == f">={oldest.major}.{oldest.minor}"


def test_every_range_has_a_lower_end():
    assert all(limits.startswith(">=") for limits in matrix.ranges(*matrix.READERS, *matrix.TOOLS).values())


def test_pins_are_the_lower_ends_or_the_ranges():
    found = {"one": ">=1.2", "two": ">=3,<4"}
    assert matrix.pins("oldest", found) == ["one==1.2", "two==3"]
    assert matrix.pins("newest", found) == ["one>=1.2", "two>=3,<4"]


def test_a_report_is_counted():
    found = environments.counts(REPORT)
    assert (found["passed"], found["failed"], found["skipped"], found["seconds"]) == (1, 2, 1, 12.3)
    assert found["failures"] == ["test_a.test_two", "test_c.test_four"]


def test_a_workplace_in_the_project_is_refused():
    with pytest.raises(ValueError, match="lies in the project"):
        environments.Workplace(ROOT / "somewhere")


def test_pinned_versions_lie_in_the_ranges():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {n.lower().replace("_", "-"): v for n, v in re.findall(r"(?m)^([\w.-]+)==(\S+)$", lines)}
    for name, limits in matrix.ranges(*matrix.READERS, *matrix.TOOLS).items():
        assert SpecifierSet(limits).contains(pinned[name]), name


# tools/environments/colab_check.py


def test_a_change_of_what_was_there_is_seen():
    before = {"torch": "2.11.0", "numpy": "2.0.2", "old": "1"}
    after = {"torch": "2.11.0", "numpy": "2.4.6", "new": "1"}
    assert colab_check.changed(before, after) == {"numpy": ["2.0.2", "2.4.6"], "old": ["1", "gone"]}
    assert colab_check.changed(before, before) == {}


def test_the_stored_check_found_what_the_page_says():
    found = stored("colab_check", "make colab-check")
    assert not found["changed"] and set(found["installed"]) >= {"a3mini", "gguf"} and "torch" not in found["installed"]
    # a chapter may be newer than the last run, which takes most of an hour: then the page names it
    assert {*found["notebooks"]} <= {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert found["passed"] == len(found["notebooks"]) and not found["failed"]
