"""``builtin:digits``: scikit-learn's handwritten digits (UCI optdigits), 1,797 real 8 x 8 scans, upscaled."""

from __future__ import annotations

import numpy as np

from packnet_deploy.data.builtin import SIDE, BuiltinSet, LabelledPixels
from packnet_deploy.data.pillow import pillow
from packnet_deploy.data.splits import stratified_split
from packnet_deploy.errors import missing_package

TEST_FRACTION = 0.2
INK = 16  # the scans' largest value


def make() -> BuiltinSet:
    """White digits on black.

    Raises:
        EnvironmentFault: scikit-learn or Pillow is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise missing_package("scikit-learn", "train", "builtin:digits") from error
    scans = load_digits()
    image = pillow()
    grey = np.stack(
        [
            np.asarray(image.fromarray(scan).resize((SIDE, SIDE), image.Resampling.BICUBIC))
            for scan in (scans.images * (255 / INK)).astype(np.uint8)
        ]
    )
    pixels, labels = np.repeat(grey[..., None], 3, axis=-1), scans.target.astype(np.int64)
    # Always the same test images, whatever the user's seed: a digit tested on must never have been trained on.
    train, test = stratified_split(labels, TEST_FRACTION, seed=0)
    return BuiltinSet(
        classes=tuple("0123456789"),
        train=LabelledPixels(pixels[train], labels[train]),
        test=LabelledPixels(pixels[test], labels[test]),
        flip=False,
    )
