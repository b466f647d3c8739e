"""What LwF and joint training minimise, held against formulas written out; and the network with many heads."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from small_topologies import SPEC, Plain, Residual, batches
from torch import Tensor, nn

from packnet_deploy.training.fit import classification
from packnet_deploy.training.methods.joint import EveryTask, MixedBatches, joint_objective, shares
from packnet_deploy.training.methods.lwf import StudentNetwork, distillation, lwf_objective, lwf_stages
from packnet_deploy.training.methods.shared import SharedNetwork
from packnet_deploy.training.options import TrainOptions

CLASSES = {"one": ("a", "b"), "two": ("a", "b", "c"), "three": ("a", "b")}


def student(tasks: int = 2) -> StudentNetwork:
    torch.manual_seed(0)
    network = StudentNetwork(Residual(), "head", SPEC)
    for task in list(CLASSES)[:tasks]:
        network.add(task, CLASSES[task])
    return network


def test_each_task_answers_with_its_own_columns_as_it_did_alone() -> None:
    network = student(1)
    images = batches(2)[0][0]
    alone = network.module.eval()(images)
    network.add("two", CLASSES["two"])
    network.module.eval().chosen = "one"
    assert torch.equal(network.module(images), alone)
    assert network.module.train()(images).shape == (8, 5)
    network.module.eval().chosen = "two"
    assert network.module(images).shape == (8, 3)


def test_distillation_s_gradient_is_the_difference_of_the_softened_answers() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(distillation(logits, targets), [logits])
    expected = ((logits / 2).softmax(1) - (targets / 2).softmax(1)) / 2 / 5
    torch.testing.assert_close(gradient, expected)


def test_without_older_tasks_lwf_is_cross_entropy() -> None:
    network = student(1)
    images, labels = batches(2)[0]
    assert network.teacher is None
    found = lwf_objective(network.module, network.teacher)(network.module.eval().train(), images, labels)
    assert torch.equal(found, classification()(network.module, images, labels))


def test_lwf_adds_every_older_task_on_the_very_images_of_the_batch() -> None:
    network = student(3)
    images, labels = batches(2)[0]
    as_it_was = copy.deepcopy(network.module).eval()
    with torch.no_grad():  # training has gone on
        for parameter in network.module.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    network.module.train()
    expected: Tensor | float = 0.0
    for task in ("one", "two"):
        as_it_was.chosen = task
        wanted = (as_it_was(images) / 2).softmax(1)
        answered = network.module(images)[:, network.module.columns(task)]
        expected = expected - (wanted * (answered / 2).log_softmax(1)).sum(1).mean()
    expected = expected + nn.functional.cross_entropy(network.module(images)[:, 5:7], labels)
    found = lwf_objective(network.module, network.teacher)(network.module, images, labels)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("epochs", "alone"), [(20, 5), (40, 5), (8, 2), (4, 1)])
def test_the_warm_up_is_the_first_epochs_of_as_many_as_asked_for(epochs: int, alone: int) -> None:
    """The paper: 20 epochs, the first 5 of the classifier only. The rate falls when it would have fallen."""
    options = TrainOptions(epochs=epochs, milestones=(epochs // 2,))
    warm_up, rest = lwf_stages(options, 1)
    assert warm_up is not None
    assert rest is not None
    assert (warm_up.begin, warm_up.end, rest.begin, rest.end) == (0, alone, alone, epochs)
    assert (warm_up.shown_before, rest.shown_before) == (0, 0), "no two epochs look alike"
    assert {warm_up.schedule, rest.schedule} == {lwf_stages(options, 0)[1].schedule}  # type: ignore[union-attr]


def test_the_first_task_and_the_shortest_trainings_have_no_warm_up() -> None:
    for options, number in ((TrainOptions(epochs=20), 0), (TrainOptions(epochs=3, milestones=()), 1)):
        warm_up, rest = lwf_stages(options, number)
        assert warm_up is None
        assert rest is not None
        assert (rest.begin, rest.end) == (0, options.epochs)


def test_the_warm_up_moves_nothing_but_the_new_head() -> None:
    network = student(2)
    network.train_head("two")
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    optimizer = network.guarded(torch.optim.SGD(network.trainable_parameters(), lr=0.1, momentum=0.9, weight_decay=0.1))
    objective = lwf_objective(network.module, network.teacher)
    for images, labels in batches(3):
        network.module.train()
        optimizer.zero_grad()
        objective(network.module, images, labels).backward()
        optimizer.step()
    after = network.module.state_dict()
    for name, tensor in before.items():
        if name.startswith("network.head."):
            assert torch.equal(after[name][:2], tensor[:2])
            assert not torch.equal(after[name][2:], tensor[2:])
        else:
            assert torch.equal(after[name], tensor)


def test_a_student_and_its_teacher_come_back_from_a_snapshot() -> None:
    network, other = student(2), StudentNetwork(Residual(), "head", SPEC)
    with torch.no_grad():
        next(network.module.parameters()).add_(1)  # the student is not the teacher any more
    other.restore(copy.deepcopy(network.snapshot()))
    assert other.module.classes == network.module.classes
    assert other.teacher is not None
    assert network.teacher is not None
    for one, two in ((other.module, network.module), (other.teacher, network.teacher)):
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


# -- joint ---------------------------------------------------------------------------------------------------------


class Fixed(list[tuple[Tensor, Tensor]]):
    """Batches that are the same in every epoch."""

    skip = 0

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        self.skip = skip

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self[self.skip :])


def shared() -> SharedNetwork:
    torch.manual_seed(0)
    network = SharedNetwork(Plain(), "head", SPEC)
    for task, classes in CLASSES.items():
        network.add(task, classes)
    return network


@pytest.mark.parametrize("images", [{"one": 100, "two": 900}, {"one": 3, "two": 5000}, {"one": 7, "two": 7}])
def test_a_batch_has_a_part_of_every_task_and_the_epochs_end_together(images: dict[str, int]) -> None:
    parts = shares(images, 32)
    assert all(part >= 1 for part in parts.values())
    assert sum(parts.values()) <= 32 + len(images)
    steps = math.ceil(sum(images.values()) / 32)
    assert all(math.ceil(images[task] / part) <= steps for task, part in parts.items())
    assert max(math.ceil(images[task] / part) for task, part in parts.items()) >= steps - 1


def test_mixed_batches_show_every_image_once_with_labels_of_all_tasks() -> None:
    network = shared()
    parts = {"one": Fixed(batches(2, 2)), "two": Fixed(batches(3, 3)), "three": Fixed(batches(2, 1))}
    mixed = MixedBatches(parts, network.module)
    assert len(mixed) == 3
    found = list(mixed)
    assert [len(labels) for _, labels in found] == [24, 16, 8]
    assert sum(float(images.sum()) for images, _ in found) == pytest.approx(
        sum(float(images.sum()) for part in parts.values() for images, _ in part), abs=1e-3
    )
    first, second, third = (part[0][1] for part in parts.values())
    assert torch.equal(found[0][1], torch.cat([first, second + 2, third + 5]))


@pytest.mark.parametrize("few", [1, 2, 5, 9, 10])
def test_a_small_set_lasts_the_epoch(few: int) -> None:
    """Its batches come at equal distances, not all before those of the large set run on alone."""
    network = shared()
    parts = {"one": Fixed(batches(2, few)), "two": Fixed(batches(3, 10)), "three": Fixed(batches(2, 10))}
    mixed = MixedBatches(parts, network.module)
    own = [int((labels < 2).sum()) // 8 for _, labels in mixed]
    assert len(own) == 10
    assert sum(own) == few
    for step in range(11):
        assert abs(sum(own[:step]) - step * few / 10) < 1


@pytest.mark.parametrize("skip", [0, 1, 4, 7])
def test_mixed_batches_go_on_from_any_step(skip: int) -> None:
    network = shared()
    parts = {"one": Fixed(batches(2, 3)), "two": Fixed(batches(3, 7)), "three": Fixed(batches(2, 5))}
    mixed = MixedBatches(parts, network.module)
    mixed.set_epoch(1)
    whole = list(mixed)
    mixed.set_epoch(1, skip)
    rest = list(mixed)
    assert len(rest) == 7 - skip
    assert all(
        torch.equal(a, b) for one, two in zip(whole[skip:], rest, strict=True) for a, b in zip(one, two, strict=True)
    )


def test_joint_training_s_loss_is_each_images_own_task_s() -> None:
    network = shared()
    network.module.eval().train(False)
    parts = {task: Fixed(batches(len(classes), 1, seed=len(task))) for task, classes in CLASSES.items()}
    ((images, labels),) = MixedBatches(parts, network.module)
    total = 0.0
    for task, part in parts.items():
        network.module.chosen = task
        for own_images, own_labels in part:
            total += nn.functional.cross_entropy(network.module(own_images), own_labels, reduction="sum").item()
    network.module.training = True  # all logits, and no dropout in what lies beneath
    found = joint_objective(network.module)(network.module, images, labels)
    assert found.item() == pytest.approx(total / len(labels), rel=1e-5)
    (gradient,) = torch.autograd.grad(found, [network.module.network.head.weight])
    assert gradient.any(1).all()  # every row of every head


def test_measuring_every_task_chooses_its_head() -> None:
    network = shared()
    chosen = [network.module.chosen for _ in EveryTask({task: batches(2, 2) for task in CLASSES}, network.module)]
    assert chosen == ["one", "one", "two", "two", "three", "three"]
