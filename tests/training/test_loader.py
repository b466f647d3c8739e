"""The training loader: the same images whatever the workers, every image once, errors in one line."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from PIL import Image

from packnet_deploy.data.batches import batches
from packnet_deploy.data.splits import ArraySplit, FileSplit, TaskData
from packnet_deploy.errors import EnvironmentFault, UsageError
from packnet_deploy.pack.inputs import InputSpec
from packnet_deploy.training.loader import EvalLoader, Normaliser, train_loader

SPEC = InputSpec((3, 8, 8), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 12)


def _split(n: int) -> ArraySplit:
    """Labels are positions, so that a batch tells which images it holds."""
    pixels = np.random.default_rng(n).integers(0, 256, (n, 14, 13, 3), np.uint8)
    return ArraySplit(np.arange(n), pixels, "made")


def _data(train, flip: bool = True) -> TaskData:
    return TaskData(("a", "b"), train, train, train, flip, "made", "", "")


def _loader(n: int = 23, batch_size: int = 4, seed: int = 0, **options):
    return train_loader(_data(_split(n)), SPEC, batch_size, seed, **options)


def _epoch(loader, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    loader.set_epoch(epoch)
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def _same(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_images_do_not_depend_on_workers_or_memory(workers):
    kept, decoded = _loader(), _loader(workers=workers, memory_limit=0)
    assert (kept.in_memory, decoded.in_memory) == (True, False)
    assert (kept.workers, decoded.workers) == (0, workers)
    for epoch in (0, 1):
        assert _same(_epoch(kept, epoch), _epoch(decoded, epoch))


def test_epochs_and_seeds_differ_and_a_resumed_run_sees_the_same_images():
    through = _loader()
    epochs = [_epoch(through, epoch) for epoch in range(3)]
    assert _same(_epoch(_loader(), 2), epochs[2])  # as after a restart before epoch 2
    assert _same(_epoch(through, 1), epochs[1])
    assert not torch.equal(epochs[0][1], epochs[1][1])
    assert not torch.equal(_epoch(_loader(seed=1), 0)[1], epochs[0][1])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("skip", [0, 1, 4, 6])
def test_an_epoch_can_be_gone_on_with(skip, workers):
    loader = _loader(workers=workers, memory_limit=0)
    loader.set_epoch(2)
    whole = list(loader)
    loader.set_epoch(2, skip)
    rest = list(loader)
    assert len(whole) == len(loader) == 6
    assert all(_same(one, other) for one, other in zip(rest, whole[skip:], strict=True))
    assert _same(_epoch(loader, 3), _epoch(_loader(), 3)), "the next one is whole again"


@pytest.mark.parametrize(("n", "batch_size", "processes"), [(23, 4, 2), (23, 8, 2), (23, 8, 3), (9, 4, 2), (8, 8, 4)])
def test_processes_share_every_batch(n, batch_size, processes):
    """Together they see the batches that one would see, which may be larger at the end; two images each, at least."""
    loaders = [_loader(n, batch_size, share=(rank, processes)) for rank in range(processes)]
    whole = dict(zip(*reversed(_epoch(_loader(n, n), 1)), strict=True))  # image by label
    whole = {int(label): image for label, image in whole.items()}
    for loader in loaders:
        loader.set_epoch(1)
    seen = []
    for parts in zip(*loaders, strict=True):
        sizes = [len(labels) for _, labels in parts]
        assert min(sizes) >= 2
        assert max(sizes) - min(sizes) <= 1
        for images, labels in parts:
            assert all(torch.equal(image, whole[int(label)]) for image, label in zip(images, labels, strict=True))
            seen += labels.tolist()
    assert sorted(seen) == list(range(n))


@pytest.mark.parametrize(("n", "batch_size", "processes"), [(23, 3, 2), (3, 8, 2), (23, 8, 5), (3, 1, 4)])
def test_too_small_batches_for_so_many_processes(n, batch_size, processes):
    with pytest.raises(
        UsageError, match=rf"{processes} processes: expected batches of \d+ images or more, got --batch-s"
    ):
        _loader(n, batch_size, share=(0, processes))


def test_an_image_is_cut_anew_in_every_epoch():
    loader = _loader(n=8)
    views = []
    for epoch in range(6):
        images, labels = _epoch(loader, epoch)
        views.append(images[labels == 3].numpy().tobytes())
    assert len(set(views)) >= 4


def test_an_abandoned_epoch_leaves_the_next_whole():
    for loader in (_loader(), _loader(workers=2, memory_limit=0)):
        loader.set_epoch(0)
        next(iter(loader))
        assert _same(_epoch(loader, 1), _epoch(_loader(), 1))


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [
        (8, 4, [4, 4]),
        (10, 4, [4, 4, 2]),
        (9, 4, [4, 5]),  # never a batch of one, which BatchNorm cannot train on
        (5, 4, [5]),
        (3, 4, [3]),
        (1, 4, [1]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_every_image_comes_once_and_never_alone(n, batch_size, sizes):
    loader = _loader(n, batch_size)
    assert [len(labels) for _, labels in loader] == sizes
    assert len(loader) == len(sizes)
    assert sorted(_epoch(loader, 0)[1].tolist()) == list(range(n))


def test_batches_are_normalised_cuts_of_the_right_image():
    split = ArraySplit(
        np.arange(5), np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1).repeat(3, 3) * np.uint8(50), "flat"
    )
    images, labels = _epoch(train_loader(_data(split), SPEC, 2, 0), 0)
    assert (images.dtype, labels.dtype, tuple(images.shape)) == (torch.float32, torch.int64, (5, 3, 8, 8))
    flat = np.repeat(np.repeat((labels.numpy() * 50).astype(np.uint8).reshape(5, 1, 1, 1), 3, 1), 64, 3)
    expected = SPEC.normalise(flat.reshape(5, 3, 8, 8))
    np.testing.assert_array_equal(images.numpy(), expected)


@pytest.mark.parametrize("flip", [False, True])
def test_mirrors_only_where_they_are_harmless(flip):
    ramp = np.tile(np.arange(14, dtype=np.uint8)[None, None, :, None] * np.uint8(10), (40, 14, 1, 3))
    images, _ = _epoch(train_loader(_data(ArraySplit(np.arange(40), ramp, "ramp"), flip), SPEC, 8, 0), 0)
    mirrored = (images[:, 0, 0, 0] > images[:, 0, 0, -1]).sum().item()
    assert 8 <= mirrored <= 32 if flip else mirrored == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_leaves_the_global_generators_alone(workers):
    loader = _loader(workers=workers, memory_limit=0)
    torch.manual_seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    _epoch(loader, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


@pytest.mark.parametrize(("workers", "memory_limit"), [(0, 1 << 20), (0, 0), (2, 0)])
def test_a_damaged_image_is_one_line_from_any_process(tmp_path, workers, memory_limit):
    paths = []
    for index in range(100):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (13, 14)).save(path)
        paths.append(str(path))
    bad = tmp_path / "50.png"
    bad.write_bytes(bad.read_bytes()[:50])
    split = FileSplit(np.arange(100), tuple(paths))
    with pytest.raises(EnvironmentFault) as caught:
        _epoch(train_loader(_data(split), SPEC, 4, 0, workers=workers, memory_limit=memory_limit), 0)
    assert str(caught.value).startswith(f"{bad}: expected a readable image")
    assert "\n" not in str(caught.value)


def test_memory_is_judged_by_the_resized_images():
    # 23 images of 13 x 14 become 12 x 12, 3 channels: 9,936 bytes.
    assert _loader(memory_limit=9_936).in_memory
    assert not _loader(memory_limit=9_935).in_memory


def test_a_batch_size_below_one_is_refused():
    with pytest.raises(ValueError, match="batch_size: expected 1 or more, got 0"):
        _loader(batch_size=0)


@pytest.mark.parametrize("spec", [SPEC, InputSpec((1, 8, 8), (0.5,), (0.25,), 8)])
def test_normaliser_equals_the_input_description(spec):
    pixels = np.random.default_rng(0).integers(0, 256, (5, *spec.shape), np.uint8)
    ours = Normaliser(spec)(torch.from_numpy(pixels))
    np.testing.assert_array_equal(ours.numpy(), spec.normalise(pixels))


@dataclass(frozen=True, eq=False)
class _Counting(ArraySplit):
    opened: list[int] = field(default_factory=list)

    def image(self, index: int, boxed: bool = True):
        self.opened.append(index)
        return super().image(index, boxed)


@pytest.mark.parametrize(("memory_limit", "decoded"), [(10 * 192, 10), (10 * 192 - 1, 30)])
def test_evaluation_equals_the_torch_free_batches_and_decodes_once_if_it_fits(memory_limit, decoded):
    plain = _split(10)
    counting = _Counting(plain.labels, plain.pixels, plain.source)
    loader = EvalLoader(counting, SPEC, 4, memory_limit=memory_limit)
    expected = list(batches(plain, SPEC, 4))
    assert len(loader) == len(expected) == 3
    for _ in range(3):
        for (images, labels), (their_images, their_labels) in zip(loader, expected, strict=True):
            np.testing.assert_array_equal(images.numpy(), their_images)
            np.testing.assert_array_equal(labels.numpy(), their_labels)
    assert len(counting.opened) == decoded


def test_an_abandoned_evaluation_is_not_taken_for_a_complete_one():
    loader = EvalLoader(_split(10), SPEC, 4)
    next(iter(loader))
    assert sum(len(labels) for _, labels in loader) == 10
