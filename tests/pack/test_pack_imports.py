"""The pack stands on numpy and safetensors alone: no training framework, no ONNX, no runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BLOCKED = (
    "torch",
    "torchvision",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "tensorrt",
    "tensorrt_rtx",
    "click",
    "rich",
    "PIL",
    "msgspec",
    "lazy_loader",
)

READ = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None  # importing it raises ImportError
from packnet_deploy.pack import Pack
pack = Pack.open({golden!r})
print([task.name for task in pack.tasks], pack.load_task("birds").classes)
above = [name for name in sys.modules if name.startswith("packnet_deploy.")]
print(sorted({{name.split(".")[1] for name in above}}))
"""


def test_a_pack_is_read_where_nothing_else_is_installed(golden: Path) -> None:
    script = READ.format(blocked=BLOCKED, golden=str(golden))
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={"PYTHONUTF8": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert run.stderr == ""
    assert run.stdout.splitlines() == [
        "['shapes', 'birds', 'flowers'] ('Rotkehlchen', 'Mönchsgrasmücke')",
        "['errors', 'pack', 'version']",
    ]
