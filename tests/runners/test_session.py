"""A weight-free graph in ONNX Runtime: any batch, and a clear word where its tensors do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from export_networks import Network, tiny_network

from packnet_deploy.errors import ArtefactError
from packnet_deploy.pack import probe_batch
from packnet_deploy.runners.session import run_skeleton


@pytest.fixture
def tiny() -> Network:
    return tiny_network()


def test_the_skeleton_runs_on_any_batch(tiny: Network) -> None:
    images = probe_batch(tiny.spec)
    got = run_skeleton(tiny.skeleton.SerializeToString(), tiny.tensors, images[:3])
    np.testing.assert_allclose(got, tiny.logits(tiny.tensors)[:3], rtol=1e-4, atol=1e-5)


def test_a_tensor_of_another_shape_is_an_error(tiny: Network) -> None:
    tiny.tensors["b.bias"] = tiny.tensors["b.bias"][:5]
    with pytest.raises(ArtefactError, match=r"ONNX Runtime cannot run the graph: .*b\.bias"):
        run_skeleton(tiny.skeleton.SerializeToString(), tiny.tensors, probe_batch(tiny.spec))
