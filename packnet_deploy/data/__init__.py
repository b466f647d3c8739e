"""Images: opening data sets, cutting images to a network's input, batches. numpy and Pillow only, no torch.

Training and the torch-free evaluation both read through here, so a pixel is prepared the same way everywhere.
"""

from __future__ import annotations

from packnet_deploy.data.source import open_dataset, open_split
from packnet_deploy.data.splits import ImageSplit, TaskData

__all__ = ["ImageSplit", "TaskData", "open_dataset", "open_split"]
