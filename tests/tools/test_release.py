"""tools/release.py: two commits and a tag, in a copy of the repository; and what it refuses."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from places import ROOT

from tools import release

FILES = ("_config.yml", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "a3mini/__init__.py")
FILES += ("book/errata.md", "book/results/notebook_times.json", "notebooks")
OURS = "https://github.com/ann/book"


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    return subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A repository of ann's, with all that a release writes."""
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "Ann")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "ann@example.org")
    root = tmp_path / "copy"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, root / name)
    config = root / "_config.yml"
    text = re.sub(r"(?m)^  url: .*", f"  url: {OURS}", config.read_text())
    config.write_text(re.sub(r"(?m)^  branch: .*", "  branch: main", text))
    log = root / "CHANGELOG.md"
    log.write_text(log.read_text().replace(release.NEW, f"{release.NEW}\n- A new thing.\n", 1))
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    release.address.write(release.address.texts(root), root)
    git(root, "commit", "--all", "--quiet", "--message", "all")
    return root


def test_the_notebooks_of_a_tag_install_the_tag(copy):
    before = git(copy, "rev-parse", "HEAD")
    release.main(["9.8.7", "--root", str(copy)])
    assert git(copy, "log", "--format=%H", "v9.8.7~1", "-1") == before and not git(copy, "status", "--porcelain")

    def there(ref: str, name: str) -> str:
        return git(copy, "show", f"{ref}:{name}")

    for path in sorted((copy / "notebooks").glob("*.ipynb")):
        name = f"notebooks/{path.name}"
        assert f'\\"git+{OURS}@v9.8.7\\"' in there("v9.8.7", name) and f"ann/book/blob/v9.8.7/{name}" in there(
            "v9.8.7", name
        )
        assert there("main", name) == there("main~2", name)  # after it, all is as it was
    readme = there("v9.8.7", "README.md")
    assert f'pip install "git+{OURS}@v9.8.7"' in readme and "@main" not in readme and "branch=v9" not in readme
    assert "https://ann.github.io/book/" in readme and f"git clone {OURS}\n" in readme
    for ref in ("v9.8.7", "main"):
        assert '__version__ = "9.8.7"' in there(ref, "a3mini/__init__.py")
        assert "\nversion: 9.8.7\n" in there(ref, "CITATION.cff") and '"9.8.7",' in there(ref, "book/errata.md")
        assert release.said(there(ref, "CHANGELOG.md"), "9.8.7").startswith("- A new thing.")
        assert not release.said(there(ref, "CHANGELOG.md"), "Unreleased")
    assert f'Changelog = "{OURS}/blob/v9.8.7/CHANGELOG.md"' in there("v9.8.7", "pyproject.toml")


def refused(copy: Path, version: str = "9.8.7") -> str:
    before = git(copy, "rev-parse", "HEAD"), git(copy, "status", "--porcelain"), git(copy, "tag")
    with pytest.raises(SystemExit) as caught:
        release.main([version, "--root", str(copy)])
    assert before == (git(copy, "rev-parse", "HEAD"), git(copy, "status", "--porcelain"), git(copy, "tag"))
    return str(caught.value)


def test_what_is_refused_changes_nothing(copy):
    for version in ("", "v1.0.0", "1.0", "1.0.0; rm -rf"):
        assert "has the form" in refused(copy, version)
    git(copy, "tag", "v9.8.7")
    assert "is there already" in refused(copy)
    git(copy, "tag", "--delete", "v9.8.7")
    git(copy, "switch", "--quiet", "--create", "other")
    assert "on the branch main" in refused(copy)
    git(copy, "switch", "--quiet", "main")
    log = copy / "CHANGELOG.md"
    log.write_text(log.read_text() + "\n")
    assert "not committed" in refused(copy)
    log.write_text("# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2020-01-01\n\n- Something.\n")
    git(copy, "commit", "--all", "--quiet", "--message", "nothing to say")
    assert "say what changed" in refused(copy)
    config = copy / "_config.yml"
    config.write_text(config.read_text().replace("/ann/", "/OWNER/"))
    assert "placeholder" in refused(copy)


def test_the_notes_of_a_release(capsys, copy):
    (copy / "CHANGELOG.md").write_text(
        "## [Unreleased]\n\n- c\n\n## [0.2.0] - 2026-01-01\n\n- b\n\n## [0.1.0]\n\n- a\n"
    )
    capsys.readouterr()
    release.main(["0.2.0", "--notes", "--root", str(copy)])
    assert capsys.readouterr().out == "- b\n"


def test_this_version_has_notes():
    """What would be released now: the changelog knows the version that the package has."""
    version = release.address.version(ROOT)
    assert release.said((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version)
