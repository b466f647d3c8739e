"""Plans of a recipe's text, and a folder for their runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from comparison import RECIPE

from packnet_deploy.experiments.design import Design, design_of
from packnet_deploy.experiments.folder import ExperimentsFolder
from packnet_deploy.experiments.recipe import read_experiment


@pytest.fixture
def designed(tmp_path: Path) -> Callable[..., Design]:
    """``designed(text, scale)``: the design of a recipe's text, under the name ``comparison``."""

    def make(text: str = RECIPE, scale: str = "small") -> Design:
        path = tmp_path / "comparison.toml"
        path.write_text(text)
        return design_of(read_experiment(path, scale), path.name)

    return make


@pytest.fixture
def out(tmp_path: Path) -> ExperimentsFolder:
    return ExperimentsFolder(tmp_path / "out")
