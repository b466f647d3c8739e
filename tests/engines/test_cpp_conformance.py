"""The C++ reader and Python's, side by side: the corpus, and fresh mutations of every format that both read.

Verdicts are compared, and what is read where both accept, to the last byte. `make fuzz MUTATIONS=100000` does as many
as asked for; a failure says which seed makes its case again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from answers import answers_of
from corpus import Case, corpus_cases, expected, fresh_cases
from formats import FORMATS, Description, Format, fingerprint

pytestmark = pytest.mark.slow

PROGRAMS = {"pack": "packnet-dump", "delta": "packnet-dump", "sidecar": "packnet-dump-sidecar"}
MUTATIONS = int(os.environ.get("PACKNET_MUTATIONS", "1000"))  # of each format
SEED = os.environ.get("PACKNET_SEED") or str(time.time_ns())
AT_ONCE = 250

by_format = pytest.mark.parametrize("item", [f for f in FORMATS if f.name in PROGRAMS], ids=lambda item: item.name)


def described_by(program: Path, paths: Sequence[Path]) -> list[Description | None]:
    """What the C++ reader makes of files; None where it refuses one."""
    return [None if "refused" in answer else answer for answer in answers_of(program, paths)]


def placed(item: Format, cases: Iterable[Case]) -> Iterator[tuple[list[Case], list[Path]]]:
    """Cases on disk, some at once."""
    rest = iter(cases)
    while some := list(islice(rest, AT_ONCE)):
        with TemporaryDirectory() as folder:
            places = [Path(folder) / str(number) for number in range(len(some))]
            yield some, [item.place(c.original, c.content, place) for c, place in zip(some, places, strict=True)]


@by_format
def test_every_case_of_the_corpus_is_judged_as_it_says(item: Format, sanitized: Path) -> None:
    known = expected()
    for cases, paths in placed(item, corpus_cases(item)):
        for case, got in zip(cases, described_by(sanitized / "tests" / PROGRAMS[item.name], paths), strict=True):
            assert (None if got is None else fingerprint(got)) == known[item.name, case.name].seen, case.name


@by_format
def test_both_readers_judge_fresh_mutations_alike(item: Format, sanitized: Path) -> None:
    accepted = 0
    for cases, paths in placed(item, fresh_cases(item, MUTATIONS, SEED)):
        theirs = described_by(sanitized / "tests" / PROGRAMS[item.name], paths)
        for case, path, got in zip(cases, paths, theirs, strict=True):
            mine = item.described(path)
            assert got == mine, f"{item.name}, {case.name} (PACKNET_SEED={SEED})"
            accepted += mine is not None
    assert 0 < accepted < MUTATIONS
