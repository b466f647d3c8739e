"""Verifying a whole pack, from the pack alone: what every task was, it still is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.runners.comparison import Difference, compare
from packnet_deploy.runners.pack import PackRunner


@dataclass(frozen=True)
class TaskCheck:
    """What holds for one task.

    Attributes:
        frozen: the earlier tasks' weights hash to what the trainer saw after training this one.
        difference: its probe logits in ONNX Runtime from the training framework's.
    """

    task: str
    frozen: bool
    difference: Difference

    @property
    def passes(self) -> bool:
        return self.frozen and self.difference.passes


def verify_pack(pack: Pack) -> Iterator[TaskCheck]:
    """Check every task in turn: file hashes and their chain, ``frozen_sha256`` against the bank, probe logits.

    And first of all that the owners of all tasks together keep to 2:4 wherever pack.json promises it.

    Raises:
        ArtefactError: a file is damaged or out of place, or the promise is broken; nothing behind it can be judged.
    """
    with pack.opened() as opened:
        bank, images = opened.bank(), probe_batch(opened.input)
        with PackRunner(opened) as runner:
            for entry in opened.tasks:
                frozen = opened.header(entry.name).frozen_sha256 == bank.sha256(entry.index - 1)
                difference = compare(runner.infer(images, entry.name), opened.probe_logits(entry.name))
                yield TaskCheck(entry.name, frozen, difference)
