"""Two runners side by side: the figures, and the pack itself as the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.runners.agreement import agreement
from packnet_deploy.runners.contract import Runner
from packnet_deploy.runners.pack import PackRunner

IMAGES = [np.zeros((2, 3, 4, 4), np.float32), np.zeros((1, 3, 4, 4), np.float32)]


class Scripted:
    """A runner that answers what it was given, batch after batch."""

    tasks = ("birds",)

    def __init__(self, *answers: list[list[float]]) -> None:
        self._answers = [np.array(answer, np.float32) for answer in answers]

    def infer(self, images: np.ndarray, task: str) -> np.ndarray:
        return self._answers.pop(0)

    def close(self) -> None: ...
    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *error: object) -> None: ...


def test_the_figures_run_over_all_batches() -> None:
    one = Scripted([[1, 2], [3, 1]], [[0, 5]])
    other = Scripted([[1, 2.5], [1, 3]], [[0, -8]])
    found = agreement(one, other, "birds", IMAGES)
    assert (found.images, found.max_difference, found.scale) == (3, 13.0, 8.0)
    assert found.mean_difference == pytest.approx((0.5 + 2 + 2 + 13) / 6)
    assert found.top1 == pytest.approx(1 / 3)
    assert found.passes(rtol=1.7)
    assert not found.passes(rtol=1.6)
    assert found.passes(rtol=1.5, atol=1.0)


def test_nan_never_passes() -> None:
    for first, second in ((np.nan, 1.0), (1.0, np.nan)):
        found = agreement(Scripted([[first, 1]], [[1, 1]]), Scripted([[second, 1]], [[1, 1]]), "birds", IMAGES)
        assert not found.passes(rtol=1e9)


def test_other_classes_and_no_images() -> None:
    with pytest.raises(ArtefactError, match=r"'birds': expected logits \[1, 3\], got \[1, 2\]"):
        agreement(Scripted([[1, 2]]), Scripted([[1, 2, 3]]), "birds", IMAGES[:1])
    with pytest.raises(UsageError, match="expected images to compare on, got none"):
        agreement(Scripted(), Scripted(), "birds", [])


def test_the_pack_answers_as_it_was_trained_to(golden: Path) -> None:
    pack = Pack.open(golden)
    images = probe_batch(pack.input)
    with PackRunner(pack) as runner:
        assert isinstance(runner, Runner)
        for task in (*runner.tasks, runner.tasks[0]):
            expected = pack.load_task(task).probe_logits
            np.testing.assert_allclose(runner.infer(images, task), expected, atol=1e-5 * np.abs(expected).max())
        with pytest.raises(UsageError, match="shapes, birds, flowers"):
            runner.infer(images, "cars")
        with pytest.raises(UsageError, match=r"expected float32 \[n, 3, 17, 19\]"):
            runner.infer(images[:, :, :5], "birds")
    with pytest.raises(RuntimeError, match="with block"):
        runner.infer(images, "birds")
