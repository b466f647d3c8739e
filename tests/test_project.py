"""The package as a whole: everything imports, and public names are there."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import packnet_deploy
import packnet_deploy.pack

ROOT = Path(__file__).parents[1]
TEXTS = {"", ".py", ".md", ".toml", ".json", ".yml", ".txt", ".sh", ".cpp", ".h", ".cmake"}


def test_every_module_imports_and_says_what_it_covers() -> None:
    names = [m.name for m in pkgutil.walk_packages(packnet_deploy.__path__, "packnet_deploy.")]
    assert len(names) > 50
    for name in names:
        if not name.endswith("__main__"):
            module = importlib.import_module(name)
            empty = not Path(str(module.__file__)).read_bytes()
            assert module.__doc__ or empty, f"{name} has no docstring"


def test_the_packs_public_names() -> None:
    for name in packnet_deploy.pack.__all__:
        assert hasattr(packnet_deploy.pack, name)
    assert packnet_deploy.pack.__all__ == sorted(packnet_deploy.pack.__all__, key=lambda n: (not n.isupper(), n))


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    """Paths of a home, a scratch folder or a virtual environment, and names of hosts, are nobody else's business."""
    private = re.compile(r"(?<![\w.~}-])/(?:home|root|Users|work|mnt|scratch|tmp)/[\w.-]")
    seen = 0
    for top in (
        "packnet_deploy",
        "tests",
        "train",
        "docs",
        "engines",
        ".ci",
        ".github",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "CITATION.cff",
        "mkdocs.yml",
        "Makefile",
        "pyproject.toml",
    ):
        for path in (ROOT / top, *(ROOT / top).rglob("*")):
            if path.is_file() and path.suffix in TEXTS:
                seen += 1
                found = private.search(path.read_text(encoding="utf-8"))
                assert found is None, f"{path.relative_to(ROOT)}: {found}"
    assert seen > 100


def test_no_test_module_imports_another() -> None:
    """Children that a test starts included: what tests share lies in files that hold no tests."""
    importing = re.compile(r"^\s*(?:from|import) (test_\w+)", re.MULTILINE)
    modules = [path for path in (ROOT / "tests").rglob("*.py") if importing.search(path.read_text(encoding="utf-8"))]
    assert modules == []


def test_one_version() -> None:
    version = packnet_deploy.__version__
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()
