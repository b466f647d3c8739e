"""Small networks with everything that couples channels, and noise to train them on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from packnet_deploy.pack import InputSpec

SPEC = InputSpec((3, 12, 12), (0.5,) * 3, (0.25,) * 3, resize=12)


class Body(nn.Module):
    """What follows the features in all of them."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.head = nn.Linear(features, 2)

    def classify(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


class Plain(Body):
    """No normalisation, a hidden linear layer behind flattened maps, dropout."""

    def __init__(self) -> None:
        super().__init__(9)
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 6, 3, stride=2)
        self.fc = nn.Linear(6 * 2 * 2, 9)
        self.drop = nn.Dropout(0.1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv2(self.conv1(images).relu()).relu().flatten(1)
        logits: Tensor = self.head(self.drop(self.fc(features).relu()))
        return logits


class Residual(Body):
    """A stage whose sum every block writes to, with normalisation."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.norm = nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8)
        self.inner, self.inner_norm = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.outer, self.outer_norm = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)

    def forward(self, images: Tensor) -> Tensor:
        stream = self.norm(self.stem(images)).relu()
        stream = stream + self.outer_norm(self.outer(self.inner_norm(self.inner(stream)).relu()))
        return self.classify(stream.relu())


class Dense(Body):
    """Concatenations, normalised after them."""

    def __init__(self) -> None:
        super().__init__(4 + 3 + 5)
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.norm1, self.conv1 = nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, padding=1)
        self.norm2, self.conv2 = nn.BatchNorm2d(7), nn.Conv2d(7, 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        first = self.stem(images)
        second = torch.cat([first, self.conv1(self.norm1(first).relu())], dim=1)
        third = torch.cat([second, self.conv2(self.norm2(second).relu())], dim=1)
        return self.classify(third.relu())


class Depthwise(Body):
    """An inverted bottleneck with squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__(6)
        self.expand, self.norm = nn.Conv2d(3, 8, 1, stride=2, bias=False), nn.BatchNorm2d(8)
        self.depth, self.depth_norm = nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.project = nn.Conv2d(8, 6, 1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.depth_norm(self.depth(self.norm(self.expand(images)).relu())).relu()
        gate = self.excite(self.squeeze(features.mean(dim=(2, 3), keepdim=True)).relu()).sigmoid()
        return self.classify(self.project(features * gate).relu())


class Grouped(Body):
    """A convolution in groups: a filter may lose all that it reads. The head is a convolution with ReLU behind it."""

    def __init__(self) -> None:
        super().__init__(1)
        self.stem, self.grouped = nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 8, 3, groups=4)
        self.last, self.head = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 2, 1)  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        features = self.last(self.grouped(self.stem(images).relu()).relu()).relu()
        logits: Tensor = self.head(features).relu().mean(dim=(2, 3))
        return logits


TOPOLOGIES: tuple[Callable[[], nn.Module], ...] = (Plain, Residual, Dense, Depthwise, Grouped)


def batches(classes: int, count: int = 3, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(8, *SPEC.shape, generator=generator), torch.randint(0, classes, (8,), generator=generator))
        for _ in range(count)
    ]
