"""What names a device, for every runner alike. Imports nothing heavy: options that ``--help`` reads have one."""

from __future__ import annotations

from packnet_deploy.errors import UsageError

DEVICES = ("auto", "cpu", "cuda")


def device_of(device: str) -> tuple[str, int]:
    """``auto``, ``cpu`` or ``cuda``, and a GPU's number: ``cuda:1`` is the second that CUDA shows, ``cuda`` the first.

    Raises:
        UsageError: it is none of them.
    """
    kind, colon, number = device.partition(":")
    if kind not in DEVICES or (colon and (kind != "cuda" or not number.isdecimal())):
        raise UsageError(f"device: expected one of {', '.join(DEVICES)}, or cuda:N for another GPU, got {device!r}")
    return kind, int(number or 0)
