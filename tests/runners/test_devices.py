"""What names a device."""

from __future__ import annotations

import pytest

from packnet_deploy.errors import UsageError
from packnet_deploy.runners.devices import device_of


def test_a_device_and_the_number_of_its_gpu() -> None:
    assert [device_of(name) for name in ("cpu", "auto", "cuda", "cuda:0", "cuda:12")] == [
        ("cpu", 0),
        ("auto", 0),
        ("cuda", 0),
        ("cuda", 0),
        ("cuda", 12),
    ]


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:-1", "cuda:x", "cpu:1", "auto:0"])
def test_what_names_none(name: str) -> None:
    with pytest.raises(UsageError, match="device: expected one of auto, cpu, cuda, or cuda:N"):
        device_of(name)
