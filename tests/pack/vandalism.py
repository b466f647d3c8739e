"""Edits that a file may suffer, seeded: bits, cuts, copies, numbers made odd, words put in the place of others."""

from __future__ import annotations

import random

WORDS = (
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b'""',
    b'"\\ud800"',
    b"\\u0000",
    b"\n",
    b"9" * 5000,
)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The same bytes after a few edits of one kind each."""
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(data) or 1)
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
        elif kind == 1:
            data = data[:place] + data[place + rng.randrange(20) :]
        elif kind == 2:
            data = data[:place] + data[place : place + rng.randrange(40)] + data[place:]
        elif kind == 3:
            data = data[:place]
        else:  # a whole token of the JSON
            tokens = [i for i in range(len(data) - 1) if data[i : i + 1] in b' ,:[{"' and data[i + 1] not in b' ,:[{"']
            begin = rng.choice(tokens or [0]) + 1
            end = begin
            while end < len(data) and data[end] not in b',]}"':
                end += 1
            data = data[:begin] + rng.choice(WORDS) + data[end:]
    return data
