"""PackedNetwork: what is packed and what is not, heads, stored precisions, and packs that other processes made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import SPEC, add_task, bits, frozen_bits, packed, small_module, small_network, train
from torch import nn

from packnet_deploy.errors import ArtefactError, CheckFailed, StepOrderError, UsageError
from packnet_deploy.pack import Backbone, Pack, append_task, bank_sha256, create_pack, probe_batch
from packnet_deploy.training.network import PackedNetwork

BATCH = probe_batch(SPEC)


def new_pack(path: Path, network: PackedNetwork) -> Pack:
    """A pack of the network's first task; no graph is needed here."""
    return create_pack(
        path, Backbone("small", network.head), SPEC, b"a graph", network.packable, first=network.new_task()
    )


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return new_pack(tmp_path / "small.pack", packed(1))


# -- what is packed ------------------------------------------------------------------------------------------------


def test_weights_are_packed_and_everything_else_is_shared() -> None:
    network = small_network()
    assert [(p.name, p.shape) for p in network.packable] == [
        ("0.weight", (8, 3, 3, 3)),
        ("3.weight", (6, 8, 3, 3)),
        ("8.weight", (7, 6)),
    ]
    assert list(network.shared()) == ["1.weight", "1.bias", "3.bias", "8.bias", "1.running_mean", "1.running_var"]


class Bare(nn.Module):
    """A weight that no layer holds, and a scale for each channel, which is no weight."""

    def __init__(self) -> None:
        super().__init__()
        self.secret = nn.Parameter(torch.randn(3, 3))
        self.scale = nn.Parameter(torch.ones(3, 1, 1))
        self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)


class Looking(nn.Module):
    """Attention projects its inputs by a parameter of its own, which is in no linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.look, self.head = nn.Conv2d(3, 4, 1), nn.MultiheadAttention(4, 2), nn.Linear(4, 2)


def _with(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), layer, nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("module", "head", "message"),
    [
        (Looking(), "head", r"parameter 'look\.in_proj_weight' \[12, 4\] is a weight that belongs to no conv"),
        (_with(nn.Bilinear(3, 3, 4)), "2", r"parameter '1\.weight' \[4, 3, 3\] is a weight that belongs to no conv"),
        (_with(nn.Embedding(5, 4)), "2", r"parameter '1\.weight' \[5, 4\] is a weight that belongs to no conv"),
        (_with(nn.LSTM(4, 4)), "2", r"parameter '1\.weight_ih_l0' \[16, 4\] is a weight that belongs to no conv"),
        (Bare(), "head", r"parameter 'secret' \[3, 3\] is a weight that belongs to no convolution or linear layer"),
        (small_module(), "nothing", "head 'nothing': expected a Linear or Conv2d"),
        (small_module(), "1", "head '1': expected a Linear or Conv2d"),
        (nn.Sequential(nn.Flatten(), nn.Linear(432, 2)), "1", "nothing to pack"),
    ],
    ids=[
        "attention",
        "bilinear",
        "embedding",
        "lstm",
        "bare weight",
        "no head",
        "a head of another kind",
        "a head only",
    ],
)
def test_networks_that_cannot_be_packed_are_refused(module: nn.Module, head: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PackedNetwork(module, head, SPEC)


def test_tied_weights_count_once_and_a_convolution_can_be_the_head() -> None:
    tied = nn.Conv2d(4, 4, 3, padding=1)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 1), tied, tied, nn.Conv2d(4, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    network = PackedNetwork(module, "3", SPEC)
    assert [p.name for p in network.packable] == ["0.weight", "1.weight"]
    add_task(network, "first", classes=3)
    assert network.new_task().head["weight"].shape == (3, 4, 1, 1)
    assert [layer.size for layer in network.capacity] == [12, 144]
    before = frozen_bits(network, 1)
    add_task(network, "second", classes=5)
    assert frozen_bits(network, 1) == before
    assert network.logits(BATCH).shape == (4, 5)


# -- heads ---------------------------------------------------------------------------------------------------------


def test_each_task_gets_a_head_as_wide_as_its_classes() -> None:
    network = packed(1)
    first = network.module[10]
    network.begin("second", ["a", "b", "c"])
    assert network.module[10] is not first
    assert network.head_width == 3 == network.module[10].out_features
    assert network.logits(BATCH).shape == (4, 3)
    assert all(parameter.requires_grad for parameter in network.module[10].parameters())


def test_a_head_without_bias_stays_without() -> None:
    module = small_module()
    module[10] = nn.Linear(7, 2, bias=False)
    network = PackedNetwork(module, "10", SPEC)
    add_task(network, "first", classes=4)
    assert set(network.new_task().head) == {"weight"}


def test_a_kept_head_must_be_as_wide_as_the_classes() -> None:
    network = small_network()
    head = network.module[10].weight
    with pytest.raises(UsageError, match="task 't': the network's own head has 2 classes, the data 3"):
        network.begin("t", ["a", "b", "c"], keep_head=True)
    network.begin("t", ["a", "b"], keep_head=True)  # the refusal left no trace
    assert network.module[10].weight is head


# -- steps ---------------------------------------------------------------------------------------------------------


def test_new_task_needs_a_task_trained_here_and_frozen(pack: Pack) -> None:
    network = small_network()
    resumed = PackedNetwork.resume(pack, small_module(1))
    for unready in (network, resumed):
        with pytest.raises(StepOrderError, match=r"new_task\(\) is out of order.*begin\(\), prune\(\), freeze\(\)"):
            unready.new_task()
    network.begin("t", ["a", "b"])
    with pytest.raises(StepOrderError, match="task 1 is in phase TRAINING"):
        network.new_task()


def test_a_refused_step_changes_nothing() -> None:
    network = packed(1)
    network.begin("second", ["a", "b"])
    head, state = network.module[10], network.state
    with pytest.raises(StepOrderError):
        network.begin("third", ["a", "b", "c"])
    with pytest.raises(StepOrderError):
        network.freeze()
    assert network.module[10] is head
    assert network.state is state


def test_pruned_weights_are_zero_while_retraining_and_when_the_next_task_begins() -> None:
    network = small_network()
    network.begin("first", ["a", "b"])
    network.prune(0.5)
    train(network)
    weights = dict(network.module.named_parameters())
    for name, owner in network.state.owners.items():
        assert int((owner == 0).sum()) == round(owner.numel() / 2)
        assert not bits(weights[name])[(owner == 0).reshape(-1).numpy()].any(), "0.0 and not -0.0"
    network.freeze()
    network.begin("second", ["a", "b"])
    assert not any(weights[name][owner == 2].any() for name, owner in network.state.owners.items())
    train(network)
    assert any(weights[name][owner == 2].any() for name, owner in network.state.owners.items())


def test_old_tasks_answer_bit_for_bit_as_before() -> None:
    network = packed(1)
    heads = {1: {f"head.{n}": p.detach().numpy().copy() for n, p in network.module[10].named_parameters()}}
    answers = {1: network.logits(BATCH)}
    for index in (2, 3):
        add_task(network, f"task{index}", classes=index)
        heads[index] = {f"head.{n}": p.detach().numpy().copy() for n, p in network.module[10].named_parameters()}
        answers[index] = network.logits(BATCH)
        for task, answer in answers.items():
            assert np.array_equal(network.logits(BATCH, network.as_task(task) | heads[task]), answer), task
    assert not np.array_equal(answers[2], answers[3][:, :2])


def test_logits_leave_modes_and_values_as_they_were() -> None:
    network = packed(1)
    network.begin("second", ["a", "b"])
    network.module.train()
    modes = [part.training for part in network.module.modules()]
    before = [bits(parameter).tolist() for parameter in network.module.parameters()]
    assert np.array_equal(network.logits(BATCH), network.logits(BATCH)), "dropout is off"
    assert [part.training for part in network.module.modules()] == modes
    assert [bits(parameter).tolist() for parameter in network.module.parameters()] == before


# -- stored precision ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_live_weights_are_the_stored_ones(tmp_path: Path, dtype: str) -> None:
    network = packed(1)
    pack = new_pack(tmp_path / "p.pack", network)
    first = frozen_bits(network, 1)
    add_task(network, "second", value_dtype=dtype)
    assert frozen_bits(network, 1) == first, "an earlier task is not rounded"
    task = network.new_task()
    pack = append_task(pack, task)
    live, loaded = network.as_task(2), pack.load_task("second").tensors
    for name, values in live.items():
        assert np.array_equal(values.view(np.int32), loaded[name].view(np.int32)), name
    assert np.array_equal(task.probe_logits, network.logits(BATCH))
    assert np.array_equal(network.logits(BATCH, loaded), network.logits(BATCH, live | _head(network)))
    again = PackedNetwork.resume(pack, small_module(9))
    assert frozen_bits(again, 2) == frozen_bits(network, 2)


def _head(network: PackedNetwork) -> dict[str, Any]:
    return {f"head.{n}": p.detach().numpy() for n, p in network.module.get_submodule(network.head).named_parameters()}


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (1e6, "float16", r"'8\.weight': a weight does not fit float16"),
        (3.4e38, "bfloat16", r"'8\.weight': a weight does not fit bfloat16"),
        (float("inf"), "float32", r"'8\.weight': a weight is NaN or infinite"),
        (float("nan"), "bfloat16", r"'8\.weight': a weight is NaN or infinite"),
    ],
)
def test_a_weight_that_cannot_be_stored_is_refused_before_any_is_rounded(
    value: float, dtype: str, message: str
) -> None:
    network = small_network()
    network.begin("t", ["a", "b"])
    network.prune(0)
    with torch.no_grad():
        network.module[8].weight[0, 0] = value
    before = bits(network.module[0].weight).tolist()
    with pytest.raises(CheckFailed, match=message):
        network.freeze(dtype)
    assert bits(network.module[0].weight).tolist() == before
    with torch.no_grad():
        network.module[8].weight[0, 0] = 1
    network.freeze("float32")  # the refusal left the step to be done


def test_an_unknown_dtype_is_refused() -> None:
    network = small_network()
    network.begin("t", ["a", "b"])
    network.prune(0)
    with pytest.raises(UsageError, match="value dtype: expected one of float32, float16, bfloat16, got 'int8'"):
        network.freeze("int8")


# -- packs ---------------------------------------------------------------------------------------------------------

ADDS_A_TASK = """
import sys
from small_networks import add_task, small_module
from packnet_deploy.pack import Pack, append_task
from packnet_deploy.training.network import PackedNetwork

pack = Pack.open(sys.argv[1])
network = PackedNetwork.resume(pack, small_module(seed=7))
add_task(network, "second", classes=3)
append_task(pack, network.new_task())
"""


def test_a_task_added_by_a_new_process(tmp_path: Path) -> None:
    network = packed(1)
    path = new_pack(tmp_path / "p.pack", network).path
    delta = path / "deltas" / "0001-task1.safetensors"
    before, answer = delta.read_bytes(), network.logits(BATCH)
    subprocess.run([sys.executable, "-c", ADDS_A_TASK, str(path)], check=True, cwd=Path(__file__).parent)
    assert delta.read_bytes() == before
    pack = Pack.open(path)
    assert [task.name for task in pack.tasks] == ["task1", "second"]
    expected = bank_sha256(
        network.packable,
        {name: weight.detach().numpy() for name, weight in network.module.named_parameters()},
        {name: owner.numpy() for name, owner in network.state.owners.items()},
        {name: tensor.numpy() for name, tensor in network.shared().items()},
        1,
    )
    assert pack.header("second").frozen_sha256 == expected
    assert np.array_equal(network.logits(BATCH, pack.load_task("task1").tensors), answer)


def test_resuming_gives_the_packs_owners_and_values(pack: Pack) -> None:
    network = packed(1)  # the same as in the pack
    resumed = PackedNetwork.resume(pack, small_module(5))
    assert frozen_bits(resumed, 1) == frozen_bits(network, 1)
    assert resumed.capacity == network.capacity == pack.capacity()
    for name, owner in resumed.state.owners.items():
        assert torch.equal(owner, network.state.owners[name])
        assert not resumed.module.get_parameter(name)[owner == 0].any()


def test_what_was_resumed_is_guarded_at_once(pack: Pack) -> None:
    resumed = PackedNetwork.resume(pack, small_module(5))
    before = frozen_bits(resumed, 1)
    with torch.no_grad():
        for name in resumed.state.owners:
            resumed.module.get_parameter(name).add_(1)
    resumed.begin("second", ["a", "b"])
    assert frozen_bits(resumed, 1) == before


@pytest.mark.parametrize("name", ["0.weight", "3.bias", "1.running_mean"])
def test_a_weight_that_moved_past_the_guard_never_enters_a_pack(pack: Pack, name: str) -> None:
    network = PackedNetwork.resume(pack, small_module(5))
    add_task(network, "second")
    network._guard._unhook()
    network._guard._layers.clear()
    value = network.module.state_dict()[name]
    owner = network.state.owners.get(name)
    place = (owner == 1).nonzero()[0] if owner is not None else torch.tensor([0])
    value[tuple(place)] = torch.nextafter(value[tuple(place)], torch.tensor(9.0))
    manifest = (pack.path / "pack.json").read_bytes()
    with pytest.raises(CheckFailed, match="changed a frozen weight: frozen_sha256 expected"):
        append_task(pack, network.new_task())
    assert (pack.path / "pack.json").read_bytes() == manifest
    assert len(list((pack.path / "deltas").iterdir())) == 1


def _wider() -> nn.Module:
    module = small_module()
    module[8], module[10] = nn.Linear(6, 9), nn.Linear(9, 2)
    return module


def _without_norm() -> nn.Module:
    module = small_module()
    module[1] = nn.Identity()
    return module


def _other_bias() -> nn.Module:
    module = small_module()
    module[3] = nn.Conv2d(8, 6, 3, bias=False)
    return module


def _other_shared_shape() -> nn.Module:
    module = small_module()
    module[1].running_mean = torch.zeros(9)
    return module


@pytest.mark.parametrize(
    ("module", "differs"),
    [
        (_wider(), r"8\.weight differ"),
        (_without_norm(), r"1\.bias, 1\.running_mean, 1\.running_var differ"),
        (_other_bias(), r"3\.bias differ"),
        (_other_shared_shape(), r"1\.running_mean differ"),
        (small_module()[:8], "head '10': expected a Linear or Conv2d"),
    ],
    ids=["packable", "shared", "bias", "shared shape", "head"],
)
def test_resuming_with_another_network_names_what_differs(pack: Pack, module: nn.Module, differs: str) -> None:
    with pytest.raises(ArtefactError, match=rf"small\.pack: made for another network than small: {differs}"):
        PackedNetwork.resume(pack, module)
