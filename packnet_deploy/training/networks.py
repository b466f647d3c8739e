"""The networks that ``--arch`` names, as a list: torchvision, which has them, takes seconds to import.

The list is networks.csv, and says what ``backbones.arch_table`` found when it was written; a test compares the two.
What can be built here and now is for backbones.py to say.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

LIST = Path(__file__).with_name("networks.csv")
COMMON = ("resnet18", "squeezenet1_1", "mobilenet_v2")  # named where nothing is near


class ArchInfo(NamedTuple):
    """One line about a network that ``build`` knows.

    Attributes:
        packable: how many weights tasks share out among them.
        head: the output layer's module name.
        input_size: side of the images that it is made for, pixels.
        weights: names of its pretrained weights, the one that ``imagenet`` stands for first.
    """

    name: str
    packable: int
    head: str
    input_size: int
    weights: tuple[str, ...]


@cache
def known_networks() -> dict[str, ArchInfo]:
    """The list, by name."""
    rows = csv.DictReader(io.StringIO(LIST.read_text("utf-8")))
    found = (
        ArchInfo(row["name"], int(row["packable"]), row["head"], int(row["input_size"]), tuple(row["weights"].split()))
        for row in rows
    )
    return {network.name: network for network in found}


def list_text(networks: Iterable[ArchInfo]) -> str:
    """What networks.csv holds for these networks."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ArchInfo._fields)
    writer.writerows((*network[:-1], " ".join(network.weights)) for network in networks)
    return text.getvalue()


def near(name: str) -> tuple[str, ...]:
    """Networks called nearly so; common ones where there are none."""
    return tuple(difflib.get_close_matches(name.lower(), known_networks(), n=4)) or COMMON
