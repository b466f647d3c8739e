"""Images: opening data sets, cutting images to a network's input, batches. numpy and Pillow only, no torch.

Training and the torch-free evaluation both read through here, so a pixel is prepared the same way everywhere.

    source.py       opening a data set by what the user typed
    splits.py       labelled images in parts that never share one; holding some out
    imageset.py     what a layout's reader returns, before images are held out

    folders.py      ``imagefolder:`` DIR/train/CLASS/*.jpg
    imagenet.py     ``imagenet:``
    places365.py    ``places365:``
    cub200.py       ``cub200:``
    cars.py         ``cars:``
    flowers102.py   ``flowers102:``
    listed.py       images that a set's own files list
    annotations.py  the text tables and MATLAB files that sets describe their images by

    builtin.py      ``builtin:`` sets that need no download; painting them
    digits.py       handwriting
    letters.py      letters in many fonts
    textures.py     computed patterns

    pillow.py       the one door to Pillow; from an image's mode to RGB, turned upright
    preprocess.py   resizing, cutting, mirroring
    batches.py      evaluation batches, decoded in threads
"""

from __future__ import annotations

from packnet_deploy.data.source import open_dataset, open_split
from packnet_deploy.data.splits import ImageSplit, TaskData

__all__ = ["ImageSplit", "TaskData", "open_dataset", "open_split"]
