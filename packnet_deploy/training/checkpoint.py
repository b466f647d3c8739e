"""Training that can be killed at any moment: checkpoints, and stopping at a step when a signal asks for it.

A checkpoint is one file, replaced by rename, so a crash leaves the one before or the new one. It holds tensors and
plain values only and is read with ``weights_only=True``.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

import torch

from packnet_deploy.errors import ArtefactError, Terminated, UsageError, reason
from packnet_deploy.pack.atomic import remove_leftovers, replacing

FORMAT = "packnet-checkpoint 1"


class Checkpoint:
    """One checkpoint file, and what the training it belongs to is.

    Args:
        identity: everything that determines the result, as JSON values; a checkpoint of another training is refused.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self._identity = path, dict(identity)

    def load(self) -> dict[str, Any]:
        """The saved content.

        Raises:
            ArtefactError: damaged.
            UsageError: it belongs to another training; names the first difference.
        """
        content = read(self.path)
        saved = content["identity"]
        for key in sorted(self._identity.keys() | saved.keys()):
            if (was := saved.get(key)) != (now := self._identity.get(key)):
                raise UsageError(
                    f"{self.path}: it is of a training with {key} {was!r}, now it is {now!r}; "
                    "resume with the same options, or delete the file to start again"
                )
        return dict(content["content"])

    def save(self, content: Mapping[str, Any]) -> None:
        """Replace the file, atomically and durably."""
        remove_leftovers(self.path.parent)
        with replacing(self.path) as file:
            save_tensors({"format": FORMAT, "identity": self._identity, "content": dict(content)}, file)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """A checkpoint's ``identity`` and ``content``, tensors on the CPU.

    Raises:
        ArtefactError: it is not a checkpoint, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # PyTorch writes checksums but never looks at them
            if damaged := archive.testzip():
                raise ValueError(f"the checksum of {damaged} differs")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make these raise nearly anything
        what = f"{path}: not a checkpoint, or damaged ({reason(error)})"
        raise ArtefactError(f"{what}; delete it to start again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArtefactError(f"{path}: expected a checkpoint of the form {FORMAT!r}; delete it to start again")
    for part in ("identity", "content"):
        if not isinstance(found := content.get(part), dict) or not all(isinstance(key, str) for key in found):
            raise ArtefactError(
                f"{path}: {part}: expected named values, got {type(found).__name__}; delete it to start again"
            )
    return content


def save_tensors(content: Mapping[str, Any], file: BinaryIO) -> None:
    """``torch.save``, which says of a full disk only that it failed.

    Raises:
        OSError: the file cannot be written; says why.
    """
    target = _Heard(file)
    try:
        torch.save(content, target)  # type: ignore[arg-type]  # it writes to it, and flushes it
    except Exception as error:
        raise target.error or error from error


class _Heard:
    """A file that keeps the error that a write met."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            error.filename = error.filename or self._file.name
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def random_state() -> dict[str, Any]:
    """The state of PyTorch's generators: dropout and the like. The loader's randomness is a function of the epoch."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def restore_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


class StopRequest:
    """Set by the first SIGINT or SIGTERM; the second one stops the process as usual.

    Attributes:
        terminated: it was SIGTERM.
    """

    def __init__(self) -> None:
        self.wanted = self.terminated = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Catch the two signals within; outside the main thread, where that is impossible, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        self.wanted, self.terminated = True, number == signal.SIGTERM
