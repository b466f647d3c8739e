"""The search for a rate, without training: on any falling quality it comes within 0.05 of the best, in few steps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packnet_deploy.training.search import Search, Tried, resolution_warning, tasks_like_it


def searched(search: Search, breaks: float, at_once: float = 1.0) -> list[Tried]:
    """Every try of a search in which the error is 0 up to a rate of ``breaks`` and 1 above it, and after a short
    retraining 1 from ``at_once`` on."""
    tried: list[Tried] = []
    while (step := search.next_step(tried)) is not None:
        assert len(tried) < 24, "it ends"
        reached = breaks if step.whole else min(breaks, at_once)
        tried.append(Tried(step.rate, 0.0 if step.rate <= reached + 1e-9 else 1.0, step.whole))
    return tried


def rates_of(tried: list[Tried]) -> list[float]:
    """Each once, in the order of their first try."""
    return list(dict.fromkeys(one.rate for one in tried))


@pytest.mark.parametrize(
    ("breaks", "rates"),
    [
        (1.0, [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]),
        (0.9, [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]),
        (0.86, [0.5, 0.6, 0.7, 0.8, 0.9, 0.85]),
        (0.7, [0.5, 0.6, 0.7, 0.8, 0.75]),
        (0.5, [0.5, 0.6, 0.55]),
        (0.3, [0.5, 0.25, 0.4, 0.3, 0.35]),
        (0.0, [0.5, 0.25, 0.1, 0.05, 0.0]),
    ],
)
def test_coarse_steps_up_then_halves_of_the_gap(breaks: float, rates: list[float]) -> None:
    search = Search(0.1, 0, 0.95)
    tried = searched(search, breaks)
    assert rates_of(tried) == rates
    assert search.found(tried).rate == max(rate for rate in rates if rate <= breaks)


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.99), st.floats(0, 0.99))
def test_it_comes_within_a_step_of_the_best(breaks: float, at_once: float, one: float, other: float) -> None:
    search = Search(0.1, *sorted((one, other)))
    tried = searched(search, breaks, at_once)
    assert len({(one.rate, one.whole) for one in tried}) == len(tried)
    assert all(search.least <= one.rate <= search.most for one in tried)
    best = max(search.least, min(search.most, breaks))
    assert best - 0.0501 <= search.found(tried).rate <= best + 1e-9


def test_what_fails_after_a_short_retraining_gets_a_whole_one() -> None:
    search = Search(0.1, 0, 0.7)
    tried = searched(search, breaks=0.65, at_once=0.55)
    assert [(one.rate, one.whole) for one in tried] == [
        *((0.5, False), (0.6, False), (0.6, True)),
        *((0.7, False), (0.7, True), (0.65, False), (0.65, True)),
    ]
    assert search.found(tried) == (0.65, 0.0, True)


ERRORS = st.lists(st.sampled_from((0.05, 0.1, 0.12, 0.14, 0.5)), min_size=20, max_size=20)


@settings(max_examples=300, deadline=None)
@given(ERRORS)
def test_what_may_be_chance_does_not_end_the_climb(errors: list[float]) -> None:
    """Errors by twentieths of the rate, in no order, as few images give them; 0.03 of them is noise."""
    search, tried = Search(0.1, 0, 0.95, noise=0.03), list[Tried]()
    while (step := search.next_step(tried)) is not None:
        assert len(tried) < 24, "it ends"
        tried.append(Tried(step.rate, errors[round(step.rate * 20)], step.whole))
    found = search.found(tried)
    assert search.within(found.error) or found.rate == 0
    climbed = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    ended = next((i for i, rate in enumerate(climbed) if errors[round(rate * 20)] > 0.13), len(climbed))
    assert found.rate >= max((rate for rate in climbed[:ended] if errors[round(rate * 20)] <= 0.1), default=0)


def test_what_fails_by_chance_at_the_top_gets_a_whole_retraining() -> None:
    search = Search(0.1, 0, 0.6, noise=0.03)
    tried = [Tried(0.5, 0.12, False)]
    assert search.next_step(tried) == (0.6, False)
    tried += [Tried(0.6, 0.12, False)]
    assert search.next_step(tried) == (0.6, True)
    assert search.next_step([*tried, Tried(0.6, 0.1, True)]) is None
    assert search.next_step([*tried, Tried(0.6, 0.12, True)]) == (0.25, False)  # below what failed, for none did not


@pytest.mark.parametrize(("least", "first"), [(0.0, 0.5), (0.4, 0.5), (2 / 3, 2 / 3), (0.93, 0.93)])
def test_it_begins_at_a_half_or_where_it_must(least: float, first: float) -> None:
    assert Search(0.1, least, 0.95).next_step([]) == (first, False)


def test_the_least_rate_is_taken_where_it_must_be() -> None:
    search = Search(0.1, 2 / 3, 0.95)
    tried = searched(search, 0.5)
    assert tried == [(2 / 3, 1.0, False), (2 / 3, 1.0, True)]
    assert search.found(tried).rate == 2 / 3


def test_an_error_at_the_limit_is_within_it() -> None:
    search = Search(0.07 + 0.01, 0, 0.95)
    assert search.within(0.08)
    assert not search.within(0.0801)


@pytest.mark.parametrize(
    ("drop", "images", "needed"),
    [(0.01, 108, "200"), (0.01, 199, "200"), (0.01, 200, None), (0.003, 600, "667"), (0.5, 4, None)],
)
def test_too_few_images_to_see_the_drop(drop: float, images: int, needed: str | None) -> None:
    said = resolution_warning(drop, images)
    assert (said is None) == (needed is None)
    if said is not None:
        assert f"on {images} validation images" in said
        assert f"it takes {needed} " in said


@pytest.mark.parametrize(("owned", "free", "more"), [(10, 39, 3), (10, 40, 4), (1000, 3999, 4), (10, 0, 0), (0, 40, 0)])
def test_room_for_tasks_like_it(owned: int, free: int, more: int) -> None:
    assert tasks_like_it(owned, free) == more
