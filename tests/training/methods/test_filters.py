"""Tasks that own whole filters: who may read what, what is pruned, and all of them answered by one forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_topologies import SPEC, TOPOLOGIES, Body, Depthwise, Grouped, Plain, Residual, batches
from torch import Tensor, nn
from traced_once import traced_once

from packnet_deploy.errors import UsageError
from packnet_deploy.pack import Backbone, Pack, append_task, create_pack, probe_batch
from packnet_deploy.runners.verify import verify_pack
from packnet_deploy.training import backbones
from packnet_deploy.training.methods.channels import with_images
from packnet_deploy.training.methods.filters import FilterPacking, least
from packnet_deploy.training.methods.simultaneous import simultaneous
from packnet_deploy.training.network import PackedNetwork

ONE_FORWARD = 1e-5  # of the logits' scale: only the order of floating-point sums differs


def train(network: PackedNetwork, images: list[tuple[Tensor, Tensor]]) -> None:
    """A few steps with everything on that moves weights whose gradient is zero."""
    optimizer = network.guarded(
        torch.optim.SGD(network.trainable_parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    )
    for batch, labels in images:
        network.module.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(network.module(batch), labels).backward()
        optimizer.step()


def add_task(filters: FilterPacking, name: str, classes: int, rate: float = 0.3) -> None:
    images = batches(classes, seed=classes)
    filters.begin(name, [f"class {i}" for i in range(classes)])
    train(filters.network, images)
    filters.prune(filters.importance(images), rate)
    train(filters.network, images)
    filters.freeze()


def packing(topology: type[Body]) -> FilterPacking:
    torch.manual_seed(0)
    return FilterPacking(PackedNetwork(topology(), "head", SPEC))


def pack_of(filters: FilterPacking, path: Path, tasks: int, spec: Any = SPEC, arch: str = "small") -> Pack:
    network, pack = filters.network, None
    for index in range(tasks):
        add_task(filters, f"task{index + 1}", classes=index + 2)
        if pack is None:
            graph = traced_once(network.module, network.head, spec).SerializeToString(deterministic=True)
            pack = create_pack(path, Backbone(arch, network.head), spec, graph, network.packable, network.new_task())
        else:
            pack = append_task(pack, network.new_task())
    assert pack is not None
    return pack


# -- three tasks on every topology ---------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_pack_verifies_and_one_forward_answers_every_task(topology: type[Body], tmp_path: Path) -> None:
    pack = pack_of(packing(topology), tmp_path / "p.pack", tasks=3)
    assert all(check.passes for check in verify_pack(pack))
    together = simultaneous(pack, topology())
    answers = together(torch.from_numpy(probe_batch(SPEC)))
    assert list(answers) == ["task1", "task2", "task3"]
    for task, logits in answers.items():
        expected = pack.load_task(task).probe_logits
        assert logits.shape == expected.shape
        assert np.abs(logits.numpy() - expected).max() <= ONE_FORWARD * np.abs(expected).max()
    assert torch.isfinite(torch.cat(list(answers.values()), dim=1)).all()


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_weight_belongs_to_its_filters_task_and_reads_no_newer_channel(topology: type[Body]) -> None:
    filters = packing(topology)
    for index in range(3):
        add_task(filters, f"task{index + 1}", classes=2)
        owners = filters.owners
        head = dict(filters.network.module.named_parameters())["head.weight"]
        foreign = ~with_images(owners > 0)[filters.channels.head]
        assert not head[:, foreign].any()
        for name, layer in filters.channels.layers.items():
            weights, read = filters.network.state.owners[name], layer.read_by_filter()
            for o, maker in enumerate(owners[layer.outputs].tolist()):
                for i, source in enumerate(read[o].tolist()):
                    reads = 1 if source < 0 else int(owners[source])
                    owned = maker > 0 and 0 < reads <= maker
                    assert set(weights[o, i].flatten().tolist()) == {maker if owned else 0}
    assert {1, 2, 3} <= set(filters.owners.tolist())


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_older_tasks_keep_every_bit(topology: type[Body], tmp_path: Path) -> None:
    pack = pack_of(packing(topology), tmp_path / "p.pack", tasks=2)
    before = pack.load_task("task1").tensors
    filters = FilterPacking(PackedNetwork.resume(pack, topology()))
    add_task(filters, "task3", classes=2)
    live = filters.network.as_task(1)
    assert all(np.array_equal(values, live[name]) for name, values in before.items() if name in live)


# -- the steps -----------------------------------------------------------------------------------------------------


def test_pruning_frees_the_share_asked_for_and_the_least_important_first() -> None:
    filters = packing(Residual)
    filters.begin("one", ["a", "b"])
    scores = torch.arange(filters.channels.count, dtype=torch.float64)
    filters.prune(scores, 0.25)
    freed = (filters.owners == 0).nonzero().flatten().tolist()
    assert freed == list(range(round(0.25 * 14)))
    filters.prune(scores, 0.5)  # in all, not again
    assert (filters.owners == 0).nonzero().flatten().tolist() == list(range(7))
    for name, weight in filters.network.module.named_parameters():
        if name in filters.channels.layers:
            assert not weight[filters.network.state.owners[name] == 0].any()


def test_no_bundle_loses_its_last_channel_and_ties_go_by_number() -> None:
    bundles = torch.tensor([0, 0, 0, 1, 1])
    held, none = torch.ones(5, dtype=torch.bool), torch.zeros(5, dtype=torch.bool)
    scores = torch.tensor([1.0, 1.0, 1.0, 9.0, 8.0])
    assert least(scores, held, none, bundles, 1).tolist() == [False, True, False, False, False]
    assert least(scores, held, none, bundles, 5).tolist() == [False, True, True, False, True]
    older = torch.tensor([True, False, False, False, False])
    assert least(scores, held & ~older, older, bundles, 5).tolist() == [False, True, True, False, True]


def test_a_channel_that_lost_its_inputs_goes_too() -> None:
    filters = packing(Grouped)
    filters.begin("one", ["a", "b"])
    stem = filters.channels.layers["stem.weight"].outputs
    grouped = filters.channels.layers["grouped.weight"].outputs
    scores = torch.ones(filters.channels.count, dtype=torch.float64)
    scores[stem[:2]] = 0  # all that the first two grouped filters read
    filters.prune(scores, 2 / filters.channels.count)
    owners = filters.owners
    assert owners[stem].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert owners[grouped].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert not filters.network.state.owners["last.weight"][:, :2].any()


def test_the_head_reads_no_channel_of_others_while_it_trains() -> None:
    filters = packing(Plain)
    add_task(filters, "one", classes=2)
    filters.begin("two", ["a", "b", "c"])
    filters.prune(torch.rand(filters.channels.count), 0.5)
    foreign = ~with_images(filters.owners > 0)[filters.channels.head]
    assert foreign.any()
    head = filters.network.module.head
    with torch.no_grad():
        head.weight.fill_(1)  # by something that the network knows nothing of
    filters.network.module(batches(3)[0][0])
    assert not head.weight[:, foreign].any()
    assert head.weight[:, ~foreign].all()


def test_new_filters_start_at_random_and_what_they_pass_through_is_neutral() -> None:
    filters = packing(Depthwise)
    add_task(filters, "one", classes=2, rate=0.5)
    module, layers = filters.network.module, filters.channels.layers
    free = filters.owners == 0
    assert free[filters.channels.norms["norm"]].any()
    for name, numbers in filters.channels.norms.items():
        norm = module.get_submodule(name)
        assert isinstance(norm, nn.BatchNorm2d)
        for vector, value in ((norm.weight, 1), (norm.bias, 0), (norm.running_mean, 0), (norm.running_var, 1)):
            assert (vector[free[numbers]] == value).all()
            assert (vector[~free[numbers]] != value).all()
    assert (module.project.bias[free[layers["project.weight"].outputs]] == 0).all()
    filters.begin("two", ["a", "b"])
    for name, weight in module.named_parameters():
        if name in layers:
            assert weight[filters.network.state.owners[name] == 2].all()


def test_task_one_does_not_notice_that_what_it_gave_back_is_neutral() -> None:
    filters = packing(Depthwise)
    images = batches(2)
    filters.begin("one", ["a", "b"])
    train(filters.network, images)
    filters.prune(filters.importance(images), 0.4)
    before = filters.network.logits(probe_batch(SPEC))
    filters.freeze()
    after = filters.network.logits(probe_batch(SPEC))
    assert np.array_equal(before, after)
    assert np.abs(before).max() > 0


def test_without_a_free_filter_a_task_is_refused_before_it_begins() -> None:
    filters = packing(Plain)
    add_task(filters, "one", classes=2, rate=0.0)
    with pytest.raises(UsageError, match="no free filters"):
        filters.begin("two", ["a", "b"])
    assert filters.network.state.task == 1


# -- the Taylor criterion ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_importance_is_the_loss_s_slope_along_a_gate_on_every_reader(topology: type[Body]) -> None:
    """Independently: each channel behind a factor of 1 wherever it is read; |d loss / d factor|, image by image."""
    filters = packing(topology)
    filters.begin("one", ["a", "b"])
    module, channels = filters.network.module.eval(), filters.channels
    images = batches(2, count=2)
    found = filters.importance(images)
    expected = torch.zeros(channels.count, dtype=torch.float64)
    readers = {name.removesuffix(".weight"): x.inputs for name, x in channels.layers.items() if not x.passes_on}
    factors = torch.ones(channels.count + 1, requires_grad=True)
    for name, numbers in (readers | {"head": channels.head}).items():
        module.get_submodule(name).register_forward_pre_hook(
            lambda _, x, numbers=numbers: x[0] * factors[numbers].reshape(1, -1, *[1] * (x[0].ndim - 2))
        )
    for batch, labels in images:
        for image, label in zip(batch, labels, strict=True):
            loss = nn.functional.cross_entropy(module(image[None]), label[None])
            (slope,) = torch.autograd.grad(loss, [factors])
            expected += slope[:-1].abs().double()
    for bundle in channels.bundles.unique():
        expected[channels.bundles == bundle] /= expected[channels.bundles == bundle].norm()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


# -- one forward ---------------------------------------------------------------------------------------------------


def test_a_pack_shared_out_weight_by_weight_is_refused(tmp_path: Path) -> None:
    network, pack = PackedNetwork(Plain(), "head", SPEC), None
    for task in ("one", "two"):
        network.begin(task, ["a", "b"])
        network.prune(0.5)
        network.freeze()
        if pack is None:
            graph = traced_once(network.module, "head", SPEC).SerializeToString(deterministic=True)
            backbone = Backbone("small", "head")
            pack = create_pack(tmp_path / "p.pack", backbone, SPEC, graph, network.packable, network.new_task())
        else:
            pack = append_task(pack, network.new_task())
    assert pack is not None
    with pytest.raises(UsageError, match="weight by weight"):
        simultaneous(pack, Plain())


def torchvision_network(arch: str) -> tuple[nn.Module, str]:
    """As it is, but VGG with hidden layers of 32 units in the place of 4096, for the time that these take."""
    module, head = backbones.build(arch, 2)
    if arch == "vgg11_bn":
        module.classifier[0], module.classifier[3] = nn.Linear(512 * 49, 32), nn.Linear(32, 32)
        module.classifier[6] = nn.Linear(32, 2)
    return module, head


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["resnet18", "densenet121", "mobilenet_v2", "squeezenet1_1", "vgg11_bn"])
def test_torchvisions_networks_make_packs_that_verify(arch: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = backbones.input_spec(arch, 32)
    module, head = torchvision_network(arch)
    filters, pack = FilterPacking(PackedNetwork(module, head, spec)), None
    generator = torch.Generator().manual_seed(0)
    images = [(torch.randn(8, *spec.shape, generator=generator), torch.arange(8) % 2) for _ in range(2)]
    for index in range(2):
        filters.begin(f"task{index + 1}", ["a", "b"])
        train(filters.network, images)
        filters.prune(filters.importance(images), 0.3)
        filters.freeze()
        new = filters.network.new_task()
        if pack is None:
            graph = traced_once(module, head, spec).SerializeToString(deterministic=True)
            pack = create_pack(tmp_path / "p.pack", Backbone(arch, head), spec, graph, filters.network.packable, new)
        else:
            pack = append_task(pack, new)
    assert pack is not None
    assert all(check.passes for check in verify_pack(pack))
    answers = simultaneous(pack, torchvision_network(arch)[0])(torch.from_numpy(probe_batch(spec)))
    for task, logits in answers.items():
        expected = pack.load_task(task).probe_logits
        assert np.abs(logits.numpy() - expected).max() <= ONE_FORWARD * np.abs(expected).max()
