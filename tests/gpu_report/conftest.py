"""The way to the stand-ins for a GPU and for TensorRT."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / name) for name in ("export", "trt")]
