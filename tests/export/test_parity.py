"""Parity: what passes, what fails, and a pack judged without exporting it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from export_networks import Network, pack_of

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.export.parity import Difference, compare, run_skeleton, task_difference
from packnet_deploy.pack import Pack, probe_batch

NAN = float("nan")


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


def test_the_skeleton_runs_on_any_batch(tiny: Network) -> None:
    images = probe_batch(tiny.spec)
    got = run_skeleton(tiny.skeleton.SerializeToString(), tiny.tensors, images[:3])
    np.testing.assert_allclose(got, tiny.logits(tiny.tensors)[:3], rtol=1e-4, atol=1e-5)


def test_a_tensor_of_another_shape_is_an_error(tiny: Network) -> None:
    tiny.tensors["b.bias"] = tiny.tensors["b.bias"][:5]
    with pytest.raises(ArtefactError, match=r"ONNX Runtime cannot run the graph: .*b\.bias"):
        run_skeleton(tiny.skeleton.SerializeToString(), tiny.tensors, probe_batch(tiny.spec))


@pytest.mark.parametrize("task", ["first", "second"])
def test_a_sound_pack_passes(tiny_pack: Pack, task: str) -> None:
    assert task_difference(tiny_pack, task).passes


def test_a_pack_with_other_logits_fails(tiny: Network, tmp_path: Path) -> None:
    pack = pack_of(tmp_path / "wrong.pack", tiny, {"only": 0.5}, wrong_probe=True)
    assert not task_difference(pack, "only").passes


def test_an_unknown_task_is_refused(tiny_pack: Pack) -> None:
    with pytest.raises(UsageError, match="first, second"):
        task_difference(tiny_pack, "third")


def test_an_absolute_tolerance_comes_on_top() -> None:
    assert compare(np.float32([[1, 10.1]]), np.float32([[1, 10]]), rtol=0.0, atol=0.11).passes
    difference = compare(np.float32([[1, 10.1]]), np.float32([[1, 10]]), rtol=1e-3, atol=0.08)
    assert not difference.passes
    assert "allowed is 0.09 (0.08 and 0.001 of their scale 10)" in str(difference)
