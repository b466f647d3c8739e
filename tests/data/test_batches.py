"""Evaluation batches: complete, in order, equal to image-by-image work, and tidy when they end early."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from packnet_deploy.data import open_split
from packnet_deploy.data.batches import batches, in_threads, usable_cores
from packnet_deploy.data.preprocess import centre
from packnet_deploy.data.splits import ArraySplit
from packnet_deploy.errors import EnvironmentFault
from packnet_deploy.pack.inputs import InputSpec

SPEC = InputSpec((3, 6, 5), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 8)


def _split(n: int) -> ArraySplit:
    pixels = np.random.default_rng(n).integers(0, 256, (n, 9, 10, 3), np.uint8)
    return ArraySplit(np.arange(n), pixels, "made")


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("n", "batch_size"), [(7, 3), (6, 3), (1, 4), (5, 1), (0, 4)])
def test_batches_are_the_images_in_order(n, batch_size, threads):
    split = _split(n)
    got = list(batches(split, SPEC, batch_size, threads))
    assert [len(labels) for _, labels in got] == [batch_size] * (n // batch_size) + [n % batch_size] * (
        n % batch_size > 0
    )
    for images, labels in got:
        assert (images.dtype, labels.dtype) == (np.dtype(np.float32), np.dtype(np.int64))
        expected = SPEC.normalise(np.stack([centre(split.image(i), SPEC) for i in labels]))
        np.testing.assert_array_equal(images, expected)
    assert [i for _, labels in got for i in labels] == list(range(n))


def test_a_slow_image_does_not_change_the_order():
    def slow(index: int) -> int:
        time.sleep(0.03 if index % 4 == 0 else 0)
        return index

    assert list(in_threads(slow, range(20), ahead=8, threads=4)) == list(range(20))


def test_no_more_than_asked_is_under_way():
    items = iter(range(100))
    results = in_threads(lambda item: item, items, ahead=5, threads=2)
    assert [next(results), next(results)] == [0, 1]
    assert next(items) == 7  # 2 delivered, 5 under way


def test_stopping_half_way_ends_the_threads():
    before = threading.active_count()
    reader = batches(_split(50), SPEC, 4, threads=3)
    next(reader)
    assert threading.active_count() > before
    reader.close()
    assert threading.active_count() == before


def test_a_damaged_image_is_named(write_set):
    root = write_set(test={"cat": 5, "dog": 5})
    bad = root / "test" / "dog" / "002.png"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(EnvironmentFault, match=r"dog/002\.png: expected a readable image"):
        list(batches(open_split(root)[1], SPEC, 4))


def test_a_batch_needs_an_image():
    with pytest.raises(ValueError, match="batch_size: expected 1 or more, got 0"):
        next(batches(_split(3), SPEC, 0))


def test_there_is_a_core_to_use():
    assert usable_cores() >= 1


def test_evaluation_data_needs_no_torch(write_set):
    root = write_set(test={"cat": 2, "dog": 2})
    program = (
        "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None\n"
        "from packnet_deploy.data import open_split\n"
        "from packnet_deploy.data.batches import batches\n"
        "from packnet_deploy.pack.inputs import InputSpec\n"
        "spec = InputSpec((3, 4, 4), (0.5,) * 3, (0.5,) * 3, 4)\n"
        f"sources = [{str(root)!r}, 'builtin:textures']\n"
        "print([sum(len(y) for _, y in batches(open_split(s)[1], spec, 32)) for s in sources])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[4, 500]\n", "")


def test_opening_the_package_imports_nothing_heavy():
    program = (
        "import sys, packnet_deploy.data; print(sorted({'PIL', 'sklearn', 'matplotlib', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
