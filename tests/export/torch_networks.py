"""Networks of torchvision as the export tests and the export matrix use them: random weights, torch's own logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from export_networks import Network

from packnet_deploy.pack import InputSpec, probe_batch
from packnet_deploy.training.trace import trace_skeleton


@dataclass
class TorchNetwork(Network):
    """A skeleton whose logits are torch's."""

    module: torch.nn.Module
    head: str

    def logits(self, tensors: Mapping[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        named = {
            f"{self.head}{name.removeprefix('head')}" if name.startswith("head.") else name: torch.from_numpy(array)
            for name, array in tensors.items()
        }
        images = torch.from_numpy(probe_batch(self.spec))
        with torch.no_grad():
            return np.asarray(torch.func.functional_call(self.module, named, (images,)).numpy())


def torchvision_network(name: str, head: str, size: int, *, narrow: bool = False) -> TorchNetwork:
    """Random weights, and normalisation that is anything but the identity.

    Args:
        narrow: of 4096 features between VGG's linear layers leave 64, which changes shapes, not the graph: 18 million
            weights instead of 138. The export matrix has the network as it is.
    """
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None).eval()
    if narrow and isinstance(module, torchvision.models.VGG):
        module.classifier[0] = torch.nn.Linear(512 * 7 * 7, 64)
        module.classifier[3] = torch.nn.Linear(64, 64)
        module.classifier[6] = torch.nn.Linear(64, 1000)
        module.eval()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for values in (layer.running_mean, layer.bias):
                values.data.normal_(0, 0.1)
            for values in (layer.running_var, layer.weight):
                values.data.uniform_(0.5, 1.5)
    spec = InputSpec((3, size, size), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), size)
    tensors = {
        name.replace(f"{head}.", "head."): value.detach().numpy()
        for name, value in (*module.named_parameters(), *module.named_buffers())
        if value.is_floating_point()
    }
    return TorchNetwork(trace_skeleton(module, head, spec), tensors, spec, module, head)
