"""What is kept with a task once it is trained: the figures of its report, and what its user is warned of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packnet_deploy.training import rate
from packnet_deploy.training.collapse import REPORT_KEY, collapse_warning
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.options import TrainOptions

_OPTIONS = ("method", "score", "epochs", "retrain_epochs", "lr", "batch_size", "optimizer", "seed")


def task_warnings(
    options: TrainOptions, notes: rate.Notes, images: Mapping[str, int], *, first: bool
) -> tuple[str, ...]:
    """What the user should know of the errors measured; without validation images, of those on the test images.

    Args:
        images: how many there are by split, "val" and "test"; empty for a task without.
        first: it is a new pack's first task.
    """
    warnings = [rate.doubts(options, images.get("val", 0)), rate.broken_limit(options, notes)]
    split, label = ("val", "validation") if images.get("val") else ("test", "test")
    if split in notes.get("trained", {}):
        before, after = (notes[moment][split][0] for moment in ("trained", "retrained"))
        done = f"pruning by {rate.rate_of(options, notes):.3g} and {options.retrain_epochs} epochs of retraining"
        warnings.append(collapse_warning(before, after, images[split], split=label, done=done, first=first))
    return tuple(warning for warning in warnings if warning is not None)


def task_report(
    options: TrainOptions, notes: rate.Notes, warnings: tuple[str, ...], network: PackedNetwork
) -> dict[str, Any]:
    """JSON for people: how the task in ``network`` was trained, its errors by moment, how its rate was found."""
    report = {key: getattr(options, key) for key in _OPTIONS} | {"prune_rate": rate.rate_of(options, notes)}
    if found := {moment: errors for moment, errors in notes.items() if errors and moment != rate.TRIED}:
        report["errors"] = found
    if warnings:
        report[REPORT_KEY] = list(warnings)
    owned = sum(layer.owned[-1] for layer in network.capacity)
    return report | rate.search_report(options, notes, owned, network.state.free)
