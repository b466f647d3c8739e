"""Augmentations by name: what each may do to an image, that the rest of the world does not notice, and that an image
of an epoch looks the same wherever and whenever it is made.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from packnet_deploy.data.preprocess import DRAWS, Pixels, centre_cut
from packnet_deploy.data.splits import ArraySplit, TaskData
from packnet_deploy.errors import UsageError
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.training.augment import Augmentation, Draws, usual
from packnet_deploy.training.loader import EvalLoader, train_loader
from packnet_deploy.training.options import AUGMENTATIONS, EITHER_OR, TrainOptions

SPEC = InputSpec((3, 24, 24), (0.5, 0.25, 0.75), (0.25,) * 3, resize=28)
GREY = InputSpec((1, 24, 24), (0.5,), (0.25,), resize=28)
MIXED = ("random-resized-crop", "flip", "color-jitter", "trivial-augment", "erasing")


def image(spec: InputSpec = SPEC, seed: int = 0) -> Pixels:
    """Smooth, so that a cut resembles its image: uint8 ``[c, 28, 36]``."""
    rows, columns = np.mgrid[:28, :36]
    channels = [(rows * (3 + c) + columns * (5 - c) + 20 * seed) % 256 for c in range(spec.shape[0])]
    return np.stack(channels).astype(np.uint8)


def draws(number: int) -> Draws:
    rng = np.random.default_rng(number)
    return Draws(rng.random(DRAWS), int(rng.integers(1 << 63)))


def views(names: Sequence[str], spec: InputSpec = SPEC, count: int = 40) -> list[Pixels]:
    augmentation = Augmentation(names, spec)
    return [augmentation(image(spec), draws(i)) for i in range(count)]


def loader(names: Sequence[str] | None, flip: bool = True, **options: object):
    pixels = np.stack([image(seed=i).transpose(1, 2, 0) for i in range(12)])
    split = ArraySplit(np.arange(12), pixels, "made")
    data = TaskData(tuple("abcdefghijkl"), split, split, split, flip, "made", "", "")
    return train_loader(data, SPEC, 4, 7, augment=names, **options)  # type: ignore[arg-type]


def epoch(given, number: int = 3) -> dict[int, np.ndarray]:
    """Images of an epoch by label, which tells them apart."""
    given.set_epoch(number)
    return {int(label): seen for images, labels in given for seen, label in zip(images.numpy(), labels, strict=True)}


def same(one: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("spec", [SPEC, GREY], ids=["colours", "grey"])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_one_gives_images_of_the_input_that_differ_and_are_reproducible(name: str, spec: InputSpec) -> None:
    seen = views((name,), spec)
    assert {(view.shape, view.dtype) for view in seen} == {(spec.shape, np.dtype(np.uint8))}
    assert len({view.tobytes() for view in seen}) > 1
    assert all(np.array_equal(one, other) for one, other in zip(seen, views((name,), spec), strict=True))


def test_none_is_what_evaluation_sees() -> None:
    assert all(np.array_equal(view, centre_cut(image(), SPEC)) for view in views(()))
    given = loader(())
    (expected,) = [dict(zip(labels.tolist(), images.numpy(), strict=True)) for images, labels in eval_batches()]
    assert same(epoch(given), expected)


def eval_batches() -> EvalLoader:
    pixels = np.stack([image(seed=i).transpose(1, 2, 0) for i in range(12)])
    return EvalLoader(ArraySplit(np.arange(12), pixels, "made"), SPEC, 12)


def test_a_flip_mirrors_and_nothing_else() -> None:
    plain = centre_cut(image(), SPEC)
    seen = {view.tobytes() for view in views(("flip",))}
    assert seen == {plain.tobytes(), plain[:, :, ::-1].tobytes()}


def test_a_resized_cut_is_of_the_image() -> None:
    flat = np.repeat(np.repeat(np.arange(4, dtype=np.uint8)[:, None] * 60, 9, axis=1).reshape(1, 1, 36), 28, axis=1)
    augmentation = Augmentation(("random-resized-crop",), GREY)
    widths = [np.ptp(augmentation(flat, draws(i)).astype(int)) for i in range(40)]  # how many of the four bands it has
    assert min(widths) < 180 == max(widths)


def test_colours_leave_shapes_alone_and_erasing_the_rest_of_the_image() -> None:
    plain = centre_cut(image(), SPEC).astype(int)
    erased = [view for view in views(("erasing",), count=200) if not np.array_equal(view, plain)]
    assert 25 < len(erased) < 80  # a quarter of 200, standard deviation 6
    mean = np.array([128, 64, 191])
    for view in erased:
        changed = (view != plain).any(axis=0)
        assert (view[:, changed] == mean[:, None]).all()
    grey = np.full((3, 24, 24), 100, np.uint8)
    for i in range(20):
        view = Augmentation(("color-jitter",), SPEC)(grey, draws(i))
        assert len(np.unique(view)) == 1
        assert 50 <= view.min() <= 150


def test_the_usual_ones_are_a_cut_and_a_mirror_where_it_is_allowed() -> None:
    assert (usual(True), usual(False)) == (("crop", "flip"), ("crop",))
    for flip in (True, False):
        assert same(epoch(loader(None, flip)), epoch(loader(usual(flip), flip)))


@pytest.mark.parametrize("names", [None, MIXED, ("crop", "rand-augment")])
def test_an_image_of_an_epoch_does_not_depend_on_who_makes_it(names: Sequence[str] | None) -> None:
    alone = epoch(loader(names))
    assert not same(alone, epoch(loader(names), 4))
    torch.manual_seed(123)  # as in another process, or after an interruption
    assert same(epoch(loader(names)), alone)
    for workers in (0, 2):
        assert same(epoch(loader(names, workers=workers, memory_limit=0)), alone)
    halves = [epoch(loader(names, share=(rank, 2))) for rank in (0, 1)]
    assert same(halves[0] | halves[1], alone)
    resumed = loader(names)
    resumed.set_epoch(3, skip=1)
    rest = {int(label): seen for images, labels in resumed for seen, label in zip(images.numpy(), labels, strict=True)}
    assert len(rest) == 8
    assert all(np.array_equal(rest[key], alone[key]) for key in rest)


def test_dropout_does_not_notice() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    epoch(loader(MIXED))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("pair", [*EITHER_OR, ("none", "crop")])
def test_what_excludes_each_other_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=f"--augment: expected {pair[0]} or {pair[1]}, got both"):
        TrainOptions(augment=pair)


def test_none_is_not_the_default() -> None:
    assert (TrainOptions().augment, TrainOptions(augment=("none",)).augment) == (None, ())


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--augment: expected one of crop, .*, none, got 'mixup'"):
        TrainOptions(augment=("mixup",))
