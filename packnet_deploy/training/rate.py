"""The rate that one task is pruned by, given or looked for, and what its user and its report are told of the search.

Functions of the task's options and of the notes that its training keeps: its errors by moment, and the rates tried.
The search itself is search.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from packnet_deploy.training.options import TrainOptions
from packnet_deploy.training.search import Search, Tried, resolution_warning, tasks_like_it

TRIED = "tried"  # in the notes: [rate, validation error, whether it was retrained for all epochs] of each try
REPORT_KEY = "rate_search"  # in the task's report

Notes = Mapping[str, Any]


def search_of(options: TrainOptions, notes: Notes, images: int = 0) -> Search | None:
    """The search that ``max_drop`` asks for; its limit counts from the unpruned task, measured before any try.

    Args:
        images: how many validate, for whoever wants the next step: two standard errors are the search's noise.
    """
    if options.max_drop is None:
        return None
    unpruned = notes["trained"]["val"][0] if "trained" in notes else 0.0
    limit = unpruned + options.max_drop
    noise = 2 * math.sqrt(limit * max(1 - limit, 0) / images) if images else 0.0
    return Search(limit, options.least_rate, options.prune_rate, noise)


def tried_of(notes: Notes) -> list[Tried]:
    return [Tried(*pair) for pair in notes.get(TRIED, [])]


def rate_of(options: TrainOptions, notes: Notes) -> float:
    """The rate that was given, or found."""
    search = search_of(options, notes)
    return options.prune_rate if search is None else search.found(tried_of(notes)).rate


def doubts(options: TrainOptions, images: int) -> str | None:
    """What to say before a search on so many validation images."""
    return None if options.max_drop is None else resolution_warning(options.max_drop, images)


def broken_limit(options: TrainOptions, notes: Notes) -> str | None:
    """What to say if the rate that was taken costs more than it may, because no lower one was left."""
    search = search_of(options, notes)
    error = notes["retrained"]["val"][0] if search else 0.0
    if search is None or search.within(error):
        return None
    rise = 100 * (error - notes["trained"]["val"][0])
    rate, drop = rate_of(options, notes), options.max_drop
    if options.tasks_to_come:
        return (
            f"--tasks-to-come {options.tasks_to_come} takes a rate of {rate:.3g}, and there the validation error rose "
            f"by {rise:.1f} points, which --max-drop {drop:g} does not allow; leave room for fewer tasks, or allow more"
        )
    return f"even at a rate of {rate:.3g} the validation error rose by {rise:.1f} points, more than --max-drop {drop:g}"


def search_report(options: TrainOptions, notes: Notes, owned: int, free: int) -> dict[str, Any]:
    """What the task's report keeps of the search; ``owned`` weights are its own, ``free`` nobody's. JSON."""
    if options.max_drop is None:
        return {}
    curve = {one.rate: one.error for one in sorted(tried_of(notes), key=lambda one: (one.rate, one.whole))}
    return {
        REPORT_KEY: {
            "max_drop": options.max_drop,
            "unpruned": notes["trained"]["val"][0],
            "rate": rate_of(options, notes),
            "errors_by_rate": [list(pair) for pair in curve.items()],
            "more_tasks_like_it": tasks_like_it(owned, free),
        }
    }


def search_line(report: Mapping[str, Any]) -> str | None:
    """One line about the search, from a report."""
    if (found := report.get(REPORT_KEY)) is None:
        return None
    curve = ", ".join(f"{rate:.3g}: {100 * error:.1f} %" for rate, error in found["errors_by_rate"])
    return (
        f"pruned by {found['rate']:.3g}; validation error {100 * found['unpruned']:.1f} % unpruned, by rate {curve}; "
        f"room for {found['more_tasks_like_it']} more tasks like it"
    )
