"""What passes and what fails; two runners side by side; and the pack itself as the reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.runners.comparison import Difference, agreement, compare, worst
from packnet_deploy.runners.contract import Runner
from packnet_deploy.runners.pack import PackRunner

NAN = float("nan")
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


def test_the_difference_is_the_largest_one() -> None:
    difference = compare(np.float32([[1, -4.5], [2, 3]]), np.float32([[1, -4], [2.25, 3]]))
    assert difference == Difference(max_difference=0.5, scale=4.0)


@pytest.mark.parametrize(
    ("got", "expected", "passes"),
    [
        ([1.0, 9.9995], [1.0, 10.0], True),
        ([1.0, 9.998], [1.0, 10.0], False),
        ([0.0, 0.0], [0.0, 0.0], True),
        ([1e-9, 0.0], [0.0, 0.0], False),
        ([NAN, 1.0], [1.0, 1.0], False),
        ([NAN, 1.0], [NAN, 1.0], False),
        ([float("inf"), 1.0], [float("inf"), 1.0], False),
    ],
)
def test_the_tolerance_follows_the_scale(got: list[float], expected: list[float], passes: bool) -> None:
    with np.errstate(invalid="ignore"):
        assert compare(np.float32([got]), np.float32([expected])).passes is passes


def test_the_message_names_figure_and_tolerance() -> None:
    assert str(Difference(0.5, 100.0)) == "logits differ by up to 0.5, allowed is 0.01 (0.0001 of their scale 100)"


def test_other_shapes_are_an_error() -> None:
    with pytest.raises(ArtefactError, match=r"expected shape \[4, 3\], got \[4, 2\]"):
        compare(np.zeros((4, 2), np.float32), np.zeros((4, 3), np.float32))


def test_an_absolute_tolerance_comes_on_top() -> None:
    assert compare(np.float32([[1, 10.1]]), np.float32([[1, 10]]), rtol=0.0, atol=0.11).passes
    difference = compare(np.float32([[1, 10.1]]), np.float32([[1, 10]]), rtol=1e-3, atol=0.08)
    assert not difference.passes
    assert "allowed is 0.09 (0.08 and 0.001 of their scale 10)" in str(difference)


def test_the_worst_is_the_nearest_to_what_it_is_allowed() -> None:
    small, large, none = Difference(0.5, 1e3), Difference(2.0, 1e6), Difference(0.0, 0.0)
    assert worst([none, large, small]) is small
    assert worst([none]) is none
    assert worst([]) is None
    assert worst([small, nothing_allowed := Difference(1e-9, 0.0)]) is nothing_allowed
    assert (small.of_allowed, small.of_scale, none.of_allowed) == (pytest.approx(5), 5e-4, 0)


def test_the_figures_run_over_all_batches() -> None:
    one = Scripted([[1, 2], [3, 1]], [[0, 5]])
    other = Scripted([[1, 2.5], [1, 3]], [[0, -8]])
    found = agreement(one, other, "birds", IMAGES, rtol=1.7)
    assert (found.images, found.difference.max_difference, found.difference.scale) == (3, 13.0, 8.0)
    assert found.mean_difference == pytest.approx((0.5 + 2 + 2 + 13) / 6)
    assert found.top1 == pytest.approx(1 / 3)
    assert found.difference.passes
    assert not replace(found.difference, rtol=1.6).passes
    assert replace(found.difference, rtol=1.5, atol=1.0).passes


def test_nan_never_passes() -> None:
    for first, second in ((np.nan, 1.0), (1.0, np.nan)):
        found = agreement(Scripted([[first, 1]], [[1, 1]]), Scripted([[second, 1]], [[1, 1]]), "birds", IMAGES, 1e9)
        assert not found.difference.passes


def test_other_classes_and_no_images() -> None:
    with pytest.raises(ArtefactError, match=r"'birds': logits: expected shape \[1, 3\], got \[1, 2\]"):
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
