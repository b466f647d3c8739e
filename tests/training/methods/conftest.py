"""The methods' tests make many packs of the same small networks: each graph is traced once."""

from __future__ import annotations

import pytest
from traced_once import traced_once

from packnet_deploy.training import task
from packnet_deploy.training.methods import shared


@pytest.fixture(autouse=True)
def _trace_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for user in (task, shared):
        monkeypatch.setattr(user, "trace_skeleton", traced_once)
