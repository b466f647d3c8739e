"""``packnet inspect`` on a 2:4 pack: figures are shares of what can have an owner; and on reports of any form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from packnet_deploy.cli.inspect import command
from packnet_deploy.pack import Backbone, InputSpec, NewTask, Pack, ParamSpec, bank_sha256, create_pack

SPEC = InputSpec((3, 8, 8), (0.5,) * 3, (0.25,) * 3, 8)
PARAMS = (ParamSpec("conv.weight", (4, 8, 3, 3), pattern="2:4"), ParamSpec("stem.weight", (4, 3, 3, 3)))


def make(path: Path, report: dict[str, Any]) -> Pack:
    """One task that owns half of what can have an owner, in each of the layers."""
    owners = {param.name: np.zeros(param.shape, np.uint8) for param in PARAMS}
    owners["conv.weight"][:, ::4] = 1
    owners["stem.weight"][:2] = 1
    weights = {param.name: np.ones(param.shape, np.float32) for param in PARAMS}
    first = NewTask(
        name="first",
        classes=("a", "b"),
        owners=owners,
        weights=weights,
        head={"weight": np.zeros((2, 4), np.float32)},
        probe_logits=np.zeros((4, 2), np.float32),
        frozen_sha256=bank_sha256(PARAMS, weights, owners, {}, 0),
        report=report,
    )
    return create_pack(path, Backbone("custom", "fc"), SPEC, b"g", PARAMS, first)


def inspect(pack: Pack, *options: str) -> str:
    result = CliRunner().invoke(command, [str(pack.path), *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_shares_are_of_what_can_have_an_owner(tmp_path: Path) -> None:
    pack = make(tmp_path / "p.pack", {"errors": {"retrained": {"test": [0.125, 0.01]}}})
    shown = inspect(pack)
    text = " ".join(shown.split())
    assert "396 packable weights, 50.0 % free" in text
    assert "1 of 2 layers keep to 2:4" in text
    assert "252 in all" in text
    rows = [line.split() for line in shown.splitlines()]
    assert ["conv.weight", "2:4", "288", "50.0", "%", "50.0", "%"] in rows
    assert ["stem.weight", "dense", "108", "50.0", "%", "50.0", "%"] in rows
    about = json.loads(inspect(pack, "--json"))
    assert (about["room"], about["free"]) == (252, 126)
    assert about["layers"][0] == {
        "name": "conv.weight",
        "size": 288,
        "owned": [72],
        "pattern": "2:4",
        "room": 144,
        "free": 72,
    }


@pytest.mark.parametrize(
    ("report", "shown"),
    [
        ({"errors": {"retrained": {"test": [0.125, 0.01]}}}, "12.5 %"),
        ({"errors": {"retrained": {"val": [0.125, 0.01]}}}, " - "),
        ({"errors": {"retrained": {"test": "none"}}}, " - "),
        ({"errors": 3}, " - "),
        ({}, " - "),
    ],
    ids=repr,
)
def test_the_test_error_is_shown_where_the_report_has_one(tmp_path: Path, report: dict[str, Any], shown: str) -> None:
    line = next(line for line in inspect(make(tmp_path / "p.pack", report)).splitlines() if " first " in line)
    assert shown in line
