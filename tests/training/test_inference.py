"""Errors as the paper counts them, against a plain count in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from packnet_deploy.training.inference import Errors, errors


class Answers(nn.Module):
    """Reads the logits off the images: float ``[b, classes, 1, 1]`` to ``[b, classes]``."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def counted(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Image by image: the label must be the best answer, or among the best five."""
    wrong1 = wrong5 = 0
    for row, label in zip(logits, labels, strict=True):
        ranked = sorted(range(len(row)), key=lambda answer: -row[answer])
        wrong1 += label != ranked[0]
        wrong5 += label not in ranked[:5]
    return wrong1 / len(labels), wrong5 / len(labels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classes", [2, 4, 5, 6, 11])
def test_errors_are_a_plain_count(classes: int, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(classes)
    logits = rng.permuted(np.tile(np.arange(classes), (37, 1)), axis=1)  # no two alike in a row
    labels = rng.integers(0, classes, 37)
    pairs = [
        (torch.tensor(logits[at : at + 10], dtype=dtype)[..., None, None], torch.tensor(labels[at : at + 10]))
        for at in range(0, 37, 10)  # the last batch is a smaller one
    ]
    found = errors(Answers(), pairs)
    assert found == pytest.approx(counted(logits, labels))
    assert (found.top5 == 0) == (classes <= 5)


def test_without_images_there_is_no_error_to_speak_of() -> None:
    assert all(map(math.isnan, errors(Answers(), [])))


def test_everything_right_and_everything_wrong() -> None:
    images, labels = torch.eye(7)[:, :, None, None], torch.arange(7)
    assert errors(Answers(), [(images, labels)]) == Errors(0, 0)
    assert errors(Answers(), [(-images, labels)]) == Errors(1, 1)


def test_in_eval_mode_and_every_modules_mode_is_put_back() -> None:
    module = nn.Sequential(nn.Dropout(0.9), nn.Sequential(nn.Dropout(0.9)), nn.Flatten()).train()
    module[1].eval()  # as the guard holds frozen normalisation
    assert errors(module, [(torch.eye(4)[..., None, None], torch.tensor([0, 1, 2, 0]))]) == (0.25, 0)
    assert [part.training for part in (module, module[0], module[1], module[1][0])] == [True, True, False, False]


def test_other_tensors_in_place_of_the_modules_own() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False))
    with torch.no_grad():
        module[1].weight.copy_(torch.eye(3))
    pairs = [(torch.eye(3)[..., None, None], torch.tensor([0, 1, 2]))]
    turned = {"1.weight": torch.eye(3).roll(1, 0)}
    assert errors(module, pairs) == (0, 0)
    assert errors(module, pairs, turned) == (1, 0)
    assert torch.equal(module[1].weight, torch.eye(3))
