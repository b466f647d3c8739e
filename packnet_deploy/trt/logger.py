"""What TensorRT says: nothing of it is printed, what matters is kept."""

from __future__ import annotations

from typing import Any

SPARSITY_NOTE = "(Sparsity)"  # begins the lines in which the builder lists sparse layers


def quiet_logger(api: Any) -> Any:
    """A logger for TensorRT.

    ``last`` is its latest error, on one line; ``sparsity`` has what its builder said about sparse layers.
    """

    class Logger(api.ILogger):  # type: ignore[misc]  # the package is only known at run time
        last = ""

        def __init__(self) -> None:
            super().__init__()
            self.sparsity: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= api.ILogger.ERROR:
                self.last = " ".join(message.split())
            elif SPARSITY_NOTE in message:
                self.sparsity.append(message)

    return Logger()
