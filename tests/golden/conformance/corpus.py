"""The corpus: named cases and seeded ones, each with the verdict and, where it is accepted, what a reader makes of it.

corpus.json holds verdicts and hashes alone; the files are made again from named.py and from the seed, which gives the
same bytes everywhere. `python tests/golden/conformance/corpus.py` writes it anew with Python's reader, which is right
only after a rule in docs/ has changed, and then every line that differs has to be one that the rule explains.
"""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from formats import FORMATS, Format, fingerprint
from named import named_cases

CORPUS = Path(__file__).with_name("corpus.json")
SEED = 15
SEEDED = 150  # for each format


@dataclass(frozen=True)
class Case:
    """A file to be read.

    Attributes:
        format, name: what it is; unique together.
        original: the file that it was made of.
    """

    format: Format
    name: str
    original: str
    content: bytes


@dataclass(frozen=True)
class Expected:
    """What is known of a case.

    Attributes:
        sha256: of its content, the first 16 digits.
        seen: fingerprint of what a reader makes of it; None where it refuses.
    """

    sha256: str
    seen: str | None


def fresh_cases(item: Format, count: int, seed: int | str) -> Iterator[Case]:
    """Mutations number 0..count-1; each is made of its own seed, so that one can be made again alone."""
    for number in range(count):
        original, content = item.mutated(random.Random(f"{seed} {item.name} {number}"))
        yield Case(item, f"seed {seed}, number {number}", original, content)


def corpus_cases(item: Format) -> list[Case]:
    named = [Case(item, case.name, case.original, case.content) for case in named_cases() if case.format == item.name]
    return named + list(fresh_cases(item, SEEDED, SEED))


def content_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def expected() -> dict[tuple[str, str], Expected]:
    """By format and name."""
    document = json.loads(CORPUS.read_text())
    return {(item, name): Expected(*known) for item, cases in document.items() for name, known in cases.items()}


def _make() -> None:
    lines = []
    for item in FORMATS:
        found = []
        with tempfile.TemporaryDirectory() as folder:
            for number, case in enumerate(corpus_cases(item)):
                seen = item.described(item.place(case.original, case.content, Path(folder) / str(number)))
                known = [content_hash(case.content), None if seen is None else fingerprint(seen)]
                found.append(f"  {json.dumps(case.name)}: {json.dumps(known)}")
        lines.append(f"{json.dumps(item.name)}: {{\n" + ",\n".join(found) + "\n }")
    CORPUS.write_text("{\n " + ",\n ".join(lines) + "\n}\n")


if __name__ == "__main__":
    _make()
