"""The package as a whole: everything imports, and public names are there."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import packnet_deploy
import packnet_deploy.pack

ROOT = Path(__file__).parents[1]


def test_every_module_imports_and_says_what_it_covers() -> None:
    names = [m.name for m in pkgutil.walk_packages(packnet_deploy.__path__, "packnet_deploy.")]
    assert len(names) > 50
    for name in names:
        if not name.endswith("__main__"):
            module = importlib.import_module(name)
            assert module.__doc__ or not getattr(module, "__all__", None), f"{name} has no docstring"


def test_the_packs_public_names() -> None:
    for name in packnet_deploy.pack.__all__:
        assert hasattr(packnet_deploy.pack, name)
    assert packnet_deploy.pack.__all__ == sorted(packnet_deploy.pack.__all__, key=lambda n: (not n.isupper(), n))


def test_one_version() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{packnet_deploy.__version__}"\n' in text
