"""What keeps a training that may be stopped or killed: its checkpoint after every epoch, its log, its stopping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from packnet_deploy.errors import ArtefactError, Interrupted, reason
from packnet_deploy.training.checkpoint import Checkpoint, StopRequest, random_state, restore_random_state
from packnet_deploy.training.distributed import World, gathered
from packnet_deploy.training.fit import EpochRecord, State, Supervisor
from packnet_deploy.training.train_folder import TrainFolder


class Kept(Protocol):
    """A network under training that can be put back to an earlier moment."""

    def snapshot(self) -> dict[str, Any]: ...
    def restore(self, snapshot: Mapping[str, Any]) -> None: ...


class Keeper(Supervisor):
    """Supervises the stages of one training, each a ``fit``.

    Attributes:
        task: what the log and messages call what is trained.
        stage: which stage is next, or running; set by the training.
        notes: JSON values to keep with the checkpoint; the training's own.
        held: an earlier moment of the network, which it can ``go_back`` to.
    """

    def __init__(
        self, task: str, network: Kept, checkpoint: Checkpoint, folder: TrainFolder, world: World, stop: StopRequest
    ) -> None:
        self.task, self.stage, self.notes = task, 0, dict[str, Any]()
        self._network, self._checkpoint, self._folder, self._world, self._stop = (
            network,
            checkpoint,
            folder,
            world,
            stop,
        )
        self.held: dict[str, Any] | None = None
        self._log = list[list[Any]]()
        self._continued: dict[str, Any] | None = None

    def resume(self) -> bool:
        """Go back to the checkpoint, if there is one; whether there was."""
        if not self._checkpoint.path.exists():
            return False
        content = self._checkpoint.load()
        try:
            self._network.restore(content["network"])
            self.stage, self.notes, self.held = content["stage"], content["notes"], content["held"]
            self._log = content["log"]
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:  # the last one is PyTorch's
            raise ArtefactError(
                f"{self._checkpoint.path}: it does not fit this training ({reason(error)}); delete it to start again"
            ) from error
        self._continued = content
        if self._world.writes:
            self._folder.log().put(self._log)
        return True

    def done(self) -> None:
        """What was trained is in its pack: there is nothing to go on with any more."""
        self._checkpoint.remove()

    def hold(self) -> None:
        """Keep the network as it is now; it takes the place of what was held before."""
        self.held = self._network.snapshot()

    def go_back(self) -> None:
        """The network is again as it was when it was held."""
        assert self.held is not None
        self._network.restore(self.held)

    def continued(self) -> State | None:
        state, self._continued = self._continued, None
        if state is None:
            return None
        restore_random_state(state["random"][self._world.rank])
        return dict(state["fit"])

    def stop_wanted(self) -> bool:
        return self._stop.wanted

    def stop(self, where: str, state: State) -> NoReturn:
        self._save(state)
        how = "packnet train --resume"
        raise Interrupted(f"{where}: stopped; go on with: {how}", terminated=self._stop.terminated)

    def epoch(self, record: EpochRecord, state: State) -> None:
        if self._world.writes and all(row[0] != self.task for row in self._log):
            self._folder.log().drop(self.task)  # rows of an earlier training, whose pack is gone
        figures = [record.lr, record.loss, *record.val, round(record.seconds, 3), round(record.images_per_second, 1)]
        self._log.append([self.task, record.phase, record.epoch, *figures])
        self._save(state)
        if self._world.writes:
            self._folder.log().put(self._log)

    def _save(self, state: State) -> None:
        randoms = gathered(random_state())
        if self._world.writes:
            self._checkpoint.save(
                {
                    "stage": self.stage,
                    "fit": state,
                    "network": self._network.snapshot(),
                    "random": randoms,
                    "notes": self.notes,
                    "held": self.held,
                    "log": self._log,
                }
            )
