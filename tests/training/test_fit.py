"""The loop from outside: what it tells, what it minimises, and that it goes on from any step to the same bits."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import SPEC, bits, frozen_bits, packed
from torch import Tensor, nn

from packnet_deploy.pack import Backbone, Pack, create_pack
from packnet_deploy.training import fit as loop
from packnet_deploy.training.backbones import input_spec, quickstart_network
from packnet_deploy.training.checkpoint import random_state, restore_random_state
from packnet_deploy.training.fit import EpochRecord, State, Supervisor, classification, fit, make_optimizer
from packnet_deploy.training.inference import Errors
from packnet_deploy.training.network import PackedNetwork
from packnet_deploy.training.stages import Fit, Schedule
from packnet_deploy.training.trace import trace_skeleton

BATCHES, EPOCHS = 3, 2


class Loader:
    """Batches of noise that depend on the epoch alone, and can be begun in the middle."""

    def __init__(self) -> None:
        self.epoch = self.skip = 0

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        self.epoch, self.skip = epoch, skip

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.epoch)
        for number in range(BATCHES):
            images = torch.randn(6 - number, *SPEC.shape, generator=generator)
            if number >= self.skip:
                yield images, (images.mean((1, 2, 3)) > 0).long()


class Recorder:
    """A watcher that keeps what it hears."""

    def __init__(self) -> None:
        self.heard = list[tuple[Any, ...]]()

    def note(self, text: str) -> None: ...

    def phase(self, name: str, begin: int, end: int, batches: int) -> None:
        self.heard.append(("phase", name, begin, end, batches))

    def batch(self, images: int, loss: float) -> None:
        self.heard.append(("batch", images))

    def epoch(self, epoch: int, loss: float, val: Errors) -> None:
        self.heard.append(("epoch", epoch, val))


class Stopped(Exception):
    """Training was stopped, as Interrupted does it."""


class StopsAt(Supervisor):
    """Stops after so many steps of this run, and keeps the state as a checkpoint would: a copy.

    Args:
        network: a snapshot of it is kept with the state.
        state: where to go on, if this is not the beginning.
    """

    def __init__(self, network: PackedNetwork, steps: int = 0, state: State | None = None) -> None:
        self.network, self.left, self.state = network, steps, state
        self.records = list[EpochRecord]()

    def continued(self) -> State | None:
        if self.state is None:
            return None
        restore_random_state(self.state["random"])
        return dict(self.state["fit"])

    def stop_wanted(self) -> bool:
        self.left -= 1
        return self.left == 0

    def stop(self, where: str, state: State) -> None:
        self._keep(state)
        raise Stopped

    def epoch(self, record: EpochRecord, state: State) -> None:
        self.records.append(record)
        self._keep(state)

    def _keep(self, state: State) -> None:
        self.state = copy.deepcopy({"fit": state, "random": random_state(), "network": self.network.snapshot()})


VAL = [(torch.randn(20, *SPEC.shape, generator=torch.Generator().manual_seed(9)), torch.arange(20) % 2)]


def stage(optimizer: str = "sgd", amp: str = "none") -> Fit:
    schedule = Schedule(EPOCHS, 0.05, (1,), optimizer, weight_decay=0.01, amp=amp)
    return Fit("train", schedule, 0, EPOCHS)


def second_task() -> PackedNetwork:
    """A network whose first task is frozen; the second has just begun. Dropout draws from the global generator."""
    network = packed(1)
    network.begin("second", ["a", "b"])
    torch.manual_seed(5)
    return network


@pytest.mark.parametrize(("optimizer", "amp"), [("sgd", "none"), ("adamw", "bf16"), ("adamw", "fp16")])
def test_stopped_after_any_step_it_goes_on_to_the_same_bits(optimizer: str, amp: str) -> None:
    whole = second_task()
    supervisor = StopsAt(whole)
    fit(whole, stage(optimizer, amp), Loader(), VAL, Recorder(), name="p", supervisor=supervisor)
    expected = [bits(tensor) for tensor in whole.module.state_dict().values() if tensor.is_floating_point()]
    for steps in range(1, BATCHES * EPOCHS + 1):
        network = second_task()
        stops = StopsAt(network, steps)
        with pytest.raises(Stopped):
            fit(network, stage(optimizer, amp), Loader(), VAL, Recorder(), name="p", supervisor=stops)
        assert stops.state is not None
        other = second_task()  # a new process
        torch.manual_seed(99)
        other.restore(stops.state["network"])
        goes_on = StopsAt(other, state=stops.state)
        fit(other, stage(optimizer, amp), Loader(), VAL, Recorder(), name="p", supervisor=goes_on)
        got = [bits(tensor) for tensor in other.module.state_dict().values() if tensor.is_floating_point()]
        assert all((a == b).all() for a, b in zip(got, expected, strict=True)), f"after step {steps}"
        seen = [(r.epoch, r.lr, r.loss, r.val) for r in (*stops.records, *goes_on.records)]
        assert seen == [(r.epoch, r.lr, r.loss, r.val) for r in supervisor.records], f"after step {steps}"


def test_the_scale_of_half_precision_goes_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """So large at first that steps are left out until it has been halved often enough."""
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**20))
    whole, network, other = (second_task() for _ in range(3))
    before = bits(whole.module[10].weight)
    torch.manual_seed(5)
    fit(whole, stage(amp="fp16"), Loader(), VAL, Recorder(), name="p")
    assert (bits(whole.module[10].weight) != before).any(), "or the scale was too large for all steps"
    torch.manual_seed(5)
    stops = StopsAt(network, 3)
    with pytest.raises(Stopped):
        fit(network, stage(amp="fp16"), Loader(), VAL, Recorder(), name="p", supervisor=stops)
    assert stops.state is not None
    assert stops.state["fit"]["scaler"]["scale"] < 2.0**20, "or no step was left out"
    other.restore(stops.state["network"])
    fit(other, stage(amp="fp16"), Loader(), VAL, Recorder(), name="p", supervisor=StopsAt(other, state=stops.state))
    assert (bits(other.module[10].weight) == bits(whole.module[10].weight)).all()


def test_the_best_epoch_may_lie_before_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.1, 0.9])
    monkeypatch.setattr(loop, "errors", lambda module, val: Errors(next(scores), 0.0))
    network, after_first_epoch = second_task(), []

    class Weights(Recorder):
        def epoch(self, epoch: int, loss: float, val: Errors) -> None:
            after_first_epoch.append(bits(network.module[10].weight))

    stops = StopsAt(network, BATCHES + 1)
    with pytest.raises(Stopped):
        fit(network, stage(), Loader(), VAL, Weights(), name="p", supervisor=stops)
    assert stops.state is not None
    other = second_task()
    other.restore(stops.state["network"])
    fit(other, stage(), Loader(), VAL, Recorder(), name="p", supervisor=StopsAt(other, state=stops.state))
    assert (bits(other.module[10].weight) == after_first_epoch[0]).all()


@pytest.mark.parametrize(("of", "kept"), [(EPOCHS, 0), (EPOCHS + 1, EPOCHS - 1)])
def test_only_where_its_schedule_ends_a_phase_ends_with_its_best_epoch(
    monkeypatch: pytest.MonkeyPatch, of: int, kept: int
) -> None:
    scores = iter(0.1 + epoch for epoch in range(EPOCHS))
    monkeypatch.setattr(loop, "errors", lambda module, val: Errors(next(scores), 0.0))
    network, after = second_task(), list[Tensor]()

    class Weights(Recorder):
        def epoch(self, epoch: int, loss: float, val: Errors) -> None:
            after.append(bits(network.module[10].weight))

    part = Fit("train", replace(stage().schedule, epochs=of), 0, EPOCHS)
    fit(network, part, Loader(), VAL, Weights(), name="p")
    assert [bool((bits(network.module[10].weight) == weights).all()) for weights in after] == [
        epoch == kept for epoch in range(EPOCHS)
    ]


def test_a_finished_phase_is_not_begun_again() -> None:
    network = second_task()
    supervisor = StopsAt(network)
    fit(network, stage(), Loader(), VAL, Recorder(), name="p", supervisor=supervisor)
    kept, heard = bits(network.module[0].weight), Recorder()
    fit(network, stage(), Loader(), VAL, heard, name="p", supervisor=StopsAt(network, state=supervisor.state))
    assert heard.heard == [("phase", "p", EPOCHS, EPOCHS, BATCHES)]
    assert (bits(network.module[0].weight) == kept).all()


def test_what_is_told_and_recorded() -> None:
    network, heard = second_task(), Recorder()
    supervisor = StopsAt(network)
    fit(network, stage(), Loader(), VAL, heard, name="birds: train", supervisor=supervisor)
    steps = [("batch", 6), ("batch", 5), ("batch", 4)]
    val = [record.val for record in supervisor.records]
    assert heard.heard == [
        ("phase", "birds: train", 0, EPOCHS, BATCHES), *steps, ("epoch", 1, val[0]), *steps, ("epoch", 2, val[1]),
    ]  # fmt: skip
    assert [(r.phase, r.epoch, r.lr) for r in supervisor.records] == [
        ("train", 1, 0.05),
        ("train", 2, pytest.approx(0.005)),
    ]
    for record in supervisor.records:
        assert 0 < record.seconds < 60
        assert record.images_per_second * record.seconds > 15, "validation takes time, too, and is no training"


def test_the_epochs_loss_is_the_mean_over_its_images() -> None:
    """Batches of 6, 5 and 4 images: not the mean of the batches' means."""
    network, losses = second_task(), iter((1.0, 2.0, 4.0))

    def objective(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return module(images).sum() * 0 + next(losses)

    supervisor = StopsAt(network)
    one = Fit("train", Schedule(1, 0.1), 0, 1)
    fit(network, one, Loader(), [], Recorder(), name="p", objective=objective, supervisor=supervisor)
    assert supervisor.records[0].loss == pytest.approx((6 * 1 + 5 * 2 + 4 * 4) / 15)


def test_the_objective_is_what_is_minimised() -> None:
    def norm(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return module(images).square().mean()

    network = second_task()
    images, labels = next(iter(Loader()))
    network.module.eval()
    before = norm(network.module, images, labels).item()
    fit(network, Fit("train", Schedule(4, 0.05), 0, 4), Loader(), [], Recorder(), name="p", objective=norm)
    network.module.eval()
    assert norm(network.module, images, labels).item() < before / 2


def test_plain_classification_is_cross_entropy() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    expected = -logits.log_softmax(1)[torch.arange(2), labels].mean()
    assert torch.allclose(classification()(nn.Identity(), logits, labels), expected)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_computes_in_it_and_leaves_the_weights_float32(amp: str) -> None:
    seen = set[torch.dtype]()

    def objective(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        logits = module(images)
        seen.add(logits.dtype)
        return classification()(nn.Identity(), logits, labels)

    network = second_task()
    before, moved = frozen_bits(network, 1), bits(network.module[10].weight)
    fit(network, stage(amp=amp), Loader(), VAL, Recorder(), name="p", objective=objective)
    assert seen == {{"bf16": torch.bfloat16, "fp16": torch.float16}[amp]}
    assert {tensor.dtype for tensor in network.module.parameters()} == {torch.float32}
    assert frozen_bits(network, 1) == before
    assert (bits(network.module[10].weight) != moved).any()


@pytest.mark.parametrize(
    ("schedule", "kind", "settings"),
    [
        (Schedule(1, 0.3, momentum=0.5, weight_decay=0.1), torch.optim.SGD, {"lr": 0.3, "momentum": 0.5}),
        (Schedule(1, 0.3, optimizer="adamw", weight_decay=0.1), torch.optim.AdamW, {"lr": 0.3}),
    ],
)
def test_the_schedules_optimiser(schedule: Schedule, kind: type, settings: dict[str, float]) -> None:
    optimizer = make_optimizer(second_task(), schedule)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    for name, value in (settings | {"weight_decay": 0.1}).items():
        assert group[name] == value


def test_a_head_with_a_rate_of_its_own() -> None:
    network = second_task()
    optimizer = make_optimizer(network, Schedule(1, 0.2, lr_head=0.05))
    body, head = ({id(p): group["share"] for p in group["params"]} for group in optimizer.param_groups)
    assert head == {id(p): 0.25 for p in network.head_parameters()}
    assert body == {id(p): 1.0 for p in network.trainable_parameters() if id(p) not in head}


def test_the_rate_changes_with_every_step() -> None:
    """Cosine with an epoch of warm-up: the rate of a step is the schedule's at its middle."""
    network, recorder, schedule = second_task(), Recorder(), Schedule(3, 0.2, kind="cosine", warmup=1)
    rates, steps = list[float](), len(Loader())
    guarded = network.guarded

    def watched(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        optimizer.register_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
        return guarded(optimizer)

    network.guarded = watched  # type: ignore[method-assign]
    fit(network, Fit("train", schedule, 0, 3), Loader(), [], recorder, name="p")
    assert rates == pytest.approx([schedule.lr_at((step + 0.5) / steps) for step in range(3 * steps)])


@pytest.mark.parametrize("amp", ["none", "bf16"])
def test_no_step_is_longer_than_its_gradient_may_be(amp: str) -> None:
    """Without momentum a step is at most as long as the rate times the norm."""

    def steep(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return 100 * module(images).square().mean()

    lengths, loader = dict[float, list[float]](), Loader()
    for clip in (0.0, 0.1):
        network, moved = second_task(), list[float]()
        guarded = network.guarded

        def watched(
            optimizer: torch.optim.Optimizer,
            guarded: Any = guarded,
            moved: list[float] = moved,
        ) -> torch.optim.Optimizer:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            before = list[Tensor]()
            optimizer.register_step_pre_hook(lambda *_: before.__setitem__(slice(None), copies(parameters)))

            def measure(*_: Any) -> None:
                steps = [(p.detach() - b).norm() for p, b in zip(parameters, before, strict=True)]
                moved.append(float(torch.stack(steps).norm()))

            optimizer.register_step_post_hook(measure)
            return guarded(optimizer)

        network.guarded = watched  # type: ignore[method-assign]
        schedule = Schedule(1, 0.01, momentum=0, amp=amp, clip_grad=clip)
        fit(network, Fit("train", schedule, 0, 1), loader, [], Recorder(), name="p", objective=steep)
        lengths[clip] = [length for length in moved if length]
    assert lengths[0.1]
    assert max(lengths[0.1]) == pytest.approx(0.001, rel=1e-3)
    assert max(lengths[0.0]) > 0.002


def copies(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def test_smoothed_labels_give_a_share_to_every_class() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    shares = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
    expected = -(logits.log_softmax(1) * shares).sum(1).mean()
    assert torch.allclose(classification(0.2)(nn.Identity(), logits, labels), expected)


NEW_PROCESS = """
import sys, torch
from packnet_deploy.pack import Pack, append_task
from packnet_deploy.training import fit as loop
from packnet_deploy.training.backbones import quickstart_network
from packnet_deploy.training.network import PackedNetwork
pack = Pack.open(sys.argv[1])
network = PackedNetwork.resume(pack, quickstart_network(7))
network.begin("second", ["a", "b", "c"])
optimizer = network.guarded(torch.optim.AdamW(network.trainable_parameters(), lr=0.01, weight_decay=0.1))
for _ in range(3):
    network.module.train()
    loss = network.module(torch.randn(4, *pack.input.shape)).square().sum()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
network.prune(0.5)
network.freeze()
append_task(pack, network.new_task())
"""


def test_a_new_process_adds_a_task_and_changes_none(tmp_path: Path) -> None:
    spec = input_spec("quickstart", 16)
    net = PackedNetwork(quickstart_network(2), "head", spec)
    net.begin("first", ["a", "b"])
    net.prune(0.5)
    net.freeze()
    graph = trace_skeleton(net.module, "head", spec).SerializeToString(deterministic=True)
    pack = create_pack(tmp_path / "p.pack", Backbone("quickstart", "head"), spec, graph, net.packable, net.new_task())
    delta = pack.file(pack.tasks[0]).read_bytes()
    before = pack.load_task("first").tensors
    command = [sys.executable, "-c", NEW_PROCESS, str(pack.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    grown = Pack.open(pack.path)
    assert [task.name for task in grown.tasks] == ["first", "second"]
    assert grown.file(grown.tasks[0]).read_bytes() == delta
    after = grown.load_task("first").tensors
    assert all(after[name].tobytes() == values.tobytes() for name, values in before.items())
    assert grown.header("second").frozen_sha256 == grown.bank().sha256(1)


def test_the_head_alone_changes_where_it_alone_may() -> None:
    """Not a weight, bias or running average beside it; and afterwards the others may change again."""
    network = second_task()
    head = {f"{network.head}.weight", f"{network.head}.bias"}
    before = floats(network)
    with network.head_alone():
        fit(network, stage(), Loader(), VAL, Recorder(), name="p")
    assert {name for name, values in floats(network).items() if (values != before[name]).any()} == head
    fit(network, stage(), Loader(), VAL, Recorder(), name="p")
    assert {name for name, values in floats(network).items() if (values != before[name]).any()} > head


def floats(network: PackedNetwork) -> dict[str, Any]:
    """The bits of every floating tensor, by name."""
    state = network.module.state_dict()
    return {name: bits(tensor).copy() for name, tensor in state.items() if tensor.is_floating_point()}
