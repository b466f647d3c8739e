"""A map at every door: each package's ``__init__`` lists its files, and says which names are for its users.

Where a name brings PyTorch, ONNX or TensorRT with it, the package has an ``__init__.pyi`` that lists the names and is
read lazily (lazy_loader); type checkers read the same list. Elsewhere the names are simply there.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import packnet_deploy

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "packnet_deploy",
    *(m.name for m in pkgutil.walk_packages(packnet_deploy.__path__, "packnet_deploy.") if m.ispkg),
)
HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "cuda", "PIL", "sklearn")
LINE = re.compile(r"^    (\w+(?:\.py|/)) {2,}\S", re.MULTILINE)


def folder_of(package: ModuleType) -> Path:
    return Path(str(package.__file__)).parent


def fault_of(name: str) -> str | None:
    """What is wrong with a package's map or its public names, if anything is."""
    package = importlib.import_module(name)
    folder = folder_of(package)
    files = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    files |= {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    lines = LINE.findall(package.__doc__ or "")
    if files ^ set(lines) or len(set(lines)) < len(lines):
        return (
            f"the map lacks {sorted(files - set(lines))}, has no file for {sorted(set(lines) - files)}, or lists twice"
        )
    if not getattr(package, "__all__", ()):
        return "no public names"
    for public in package.__all__:
        if getattr(package, public, None) is None:
            return f"{public}: there is no such name"
        if f"{public}.py" in files or f"{public}/" in files:
            return f"{public}: the name or the file? call one of them otherwise"
    return None


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_has_a_map_and_public_names(name: str) -> None:
    assert fault_of(name) is None


def test_doors_open_without_what_is_heavy() -> None:
    script = (
        "import importlib, sys\n"
        f"for name in {PACKAGES!r}:\n"
        "    importlib.import_module(name)\n"
        f"    assert not (found := [heavy for heavy in {HEAVY!r} if heavy in sys.modules]), (name, found)"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stderr == ""


def test_within_the_package_imports_name_the_file() -> None:
    """What a lazy door brings is seen by no import contract: doors are for users."""
    lazy = [name for name in PACKAGES if (folder_of(importlib.import_module(name)) / "__init__.pyi").exists()]
    assert lazy
    for path in (ROOT / "packnet_deploy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in lazy:
                door = folder_of(importlib.import_module(node.module))
                for alias in node.names:
                    is_file = (door / f"{alias.name}.py").exists() or (door / alias.name).is_dir()
                    assert is_file, f"{path.relative_to(ROOT)}: import {alias.name} from its file, not {node.module}"
