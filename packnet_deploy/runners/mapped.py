"""Bank and owners of a ``shared`` folder, mapped into memory once and lent to every session that runs on them.

The sessions then hold nothing of their own but heads and biases, and compute their masks at each run, as a selector
does. The mapping is read-only and backed by the files, so several processes share the very same pages.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.runners.exported import external_tensors

if TYPE_CHECKING:
    import onnxruntime


class MappedBank:
    """The external tensors of graphs in one folder, as ONNX Runtime takes them, each file mapped once.

    Keep it as long as any session that was lent from it.
    """

    def __init__(self) -> None:
        self._files: dict[Path, npt.NDArray[np.uint8]] = {}
        self._values: dict[tuple[Path, int], onnxruntime.OrtValue] = {}

    def of(self, path: Path) -> dict[str, onnxruntime.OrtValue]:
        """The initialisers to lend to the graph at ``path``, by name.

        Raises:
            UsageError: the graph keeps everything to itself: it is not of layout ``shared``.
            ArtefactError: its data is missing or does not fit.
        """
        import onnxruntime

        lent = {}
        for tensor in external_tensors(path):
            key = (tensor.file.resolve(), tensor.offset)
            if key not in self._values:
                dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
                content = self._map(key[0])[tensor.offset : tensor.offset + tensor.length]
                if content.size != np.prod(tensor.shape, dtype=np.int64) * dtype.itemsize:
                    raise ArtefactError(f"{path}: tensor '{tensor.name}': {content.size:,} bytes do not fill its shape")
                array: npt.NDArray[Any] = content.view(dtype).reshape(tensor.shape)
                self._values[key] = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            lent[tensor.name] = self._values[key]
        if not lent:
            raise UsageError(f"{path}: it shares no bank with others; export with --layout shared")
        return lent

    def _map(self, file: Path) -> npt.NDArray[np.uint8]:
        if file not in self._files:
            self._files[file] = np.memmap(file, np.uint8, "r")
        return self._files[file]
