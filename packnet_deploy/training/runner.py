"""Running a task in PyTorch from materialised weights: what the other runners are compared with.

The network is the caller's; this file gives it one task's tensors for the length of a call and never changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from packnet_deploy.errors import ArtefactError, EnvironmentFault, missing_package
from packnet_deploy.runners.contract import Float32Array, check_images, check_task
from packnet_deploy.runners.devices import device_of

if TYPE_CHECKING:
    import torch

LoadTask = Callable[[str], Mapping[str, npt.NDArray[np.floating]]]


class TorchRunner:
    """A module run in eval mode with the weights of one task at a time.

    The module's own parameters and buffers stay as they are: each call lends it the task's tensors
    (``torch.func.functional_call``), so heads of different widths need no surgery. The tensors of the task asked
    for last are kept; asking for another calls ``load_task``.

    Args:
        module: the network the pack was made from. It is in eval mode inside ``with``.
        load_task: a task's materialised tensors under their torch names, the head as ``head.weight`` and
            ``head.bias``; ``num_batches_tracked`` may be left out.
        tasks: the tasks ``load_task`` knows.
        head: name of the module's own output layer, ``classifier.1`` for instance.
        device: where the tensors are put; the module's own device does not matter.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        load_task: LoadTask,
        *,
        tasks: Sequence[str],
        head: str,
        device: str = "cpu",
    ) -> None:
        self.tasks = tuple(tasks)
        self._module = module
        self._load_task = load_task
        self._head = head
        self._device = device
        self._modes: list[tuple[torch.nn.Module, bool]] = []
        self._task: str | None = None
        self._tensors: dict[str, torch.Tensor] = {}

    def __enter__(self) -> TorchRunner:
        self._modes = [(part, part.training) for part in self._module.modules()]
        self._module.eval()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back each part of the module in the mode it was in, and drop the task's tensors."""
        for part, training in self._modes:
            part.training = training
        self._modes = []
        self._task, self._tensors = None, {}

    def infer(self, images: Float32Array, task: str) -> Float32Array:
        """See ``Runner.infer``.

        Raises:
            ArtefactError: ``load_task`` gave too few or too many tensors for the module; names them.
        """
        try:
            import torch
        except ImportError as error:
            raise missing_package("torch", "train", "running a task in PyTorch") from error

        check_task(task, self.tasks)
        check_images(images)
        if not self._modes:
            raise RuntimeError("TorchRunner runs only inside its with block")
        self.set_task(task)
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
            logits = torch.func.functional_call(self._module, self._tensors, (batch,))
        result: Float32Array = logits.cpu().numpy()
        return result

    def set_task(self, task: str) -> None:
        """Put a task's tensors on the device; ``infer`` does it as well. The current task costs nothing.

        Raises:
            UsageError: an unknown task.
            ArtefactError: as ``infer``.
        """
        check_task(task, self.tasks)
        if task != self._task:
            self._tensors, self._task = self._load(task), task

    def _load(self, task: str) -> dict[str, torch.Tensor]:
        import torch

        given = {self._torch_name(name): value for name, value in self._load_task(task).items()}
        parameters = {name for name, _ in self._module.named_parameters()}
        buffers = {name for name, _ in self._module.named_buffers()}
        needed = {name for name in parameters | buffers if not name.endswith("num_batches_tracked")}
        missing, unknown = sorted(needed - given.keys()), sorted(given.keys() - parameters - buffers)
        if missing or unknown:
            raise ArtefactError(
                f"task '{task}': expected the module's {len(needed)} tensors, got {len(given)} "
                f"(missing: {', '.join(missing[:3]) or 'none'}; unknown: {', '.join(unknown[:3]) or 'none'}); "
                f"was the pack made for another backbone?"
            )
        return {name: torch.tensor(np.asarray(v, np.float32), device=self._device) for name, v in given.items()}

    def _torch_name(self, name: str) -> str:
        return f"{self._head}.{name.removeprefix('head.')}" if name in ("head.weight", "head.bias") else name


def start_torch(device: str = "cpu", threads: int | None = None) -> str:
    """Load PyTorch and start it on ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: CUDA where there is a GPU. Says which.

    Args:
        threads: of each operator on the CPU; PyTorch's own choice when None.

    Raises:
        UsageError: ``device`` is none of them.
        EnvironmentFault: there is no PyTorch, or a GPU was asked for and is not to be had.
    """
    try:
        import torch
    except ImportError as error:
        raise missing_package("torch", "train", "running a task in PyTorch") from error
    kind, gpu = device_of(device)
    there = torch.cuda.device_count()
    if kind == "cuda" and gpu >= there:
        found = f"{there} GPUs" if there else "no GPU"
        raise EnvironmentFault(
            f"device {device}: PyTorch finds {found} here; use --device cpu, or check the machine with nvidia-smi"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = f"cuda:{gpu}" if kind != "cpu" and there else "cpu"
    torch.zeros(1, device=chosen)
    return chosen
