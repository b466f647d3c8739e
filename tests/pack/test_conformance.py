"""Python's reader and the corpus of tests/golden/conformance: every verdict, and what is read where it accepts."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus import content_hash, corpus_cases, expected, fresh_cases
from formats import FORMATS, Format, fingerprint
from named import named_cases

by_format = pytest.mark.parametrize("item", FORMATS, ids=lambda item: item.name)


@by_format
def test_every_original_is_accepted(item: Format, tmp_path: Path) -> None:
    for number, (name, content) in enumerate(item.originals.items()):
        assert item.described(item.place(name, content, tmp_path / str(number))) is not None


def test_what_a_rule_is_named_for_is_judged_by_it() -> None:
    known = expected()
    wrong = [case.name for case in named_cases() if (known[case.format, case.name].seen is not None) != case.accepted]
    assert not wrong


@by_format
def test_every_case_of_the_corpus_is_judged_as_it_says(item: Format, tmp_path: Path) -> None:
    known = expected()
    cases = corpus_cases(item)
    assert {case.name for case in cases} == {name for format_name, name in known if format_name == item.name}
    for number, case in enumerate(cases):
        case_known = known[item.name, case.name]
        assert content_hash(case.content) == case_known.sha256, f"{case.name}: its generator changed"
        seen = item.described(item.place(case.original, case.content, tmp_path / str(number)))
        assert (None if seen is None else fingerprint(seen)) == case_known.seen, case.name


@by_format
def test_mutations_are_of_use(item: Format, tmp_path: Path) -> None:
    """Neither all of them refused nor all accepted, and all different."""
    cases = list(fresh_cases(item, 200, seed=1))
    assert len({case.content for case in cases}) > 180
    accepted = sum(known.seen is not None for (name, _), known in expected().items() if name == item.name)
    assert 0.1 < accepted / len(corpus_cases(item)) < 0.6
