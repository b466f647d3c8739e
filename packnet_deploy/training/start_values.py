"""The values that a pretrained network had, kept beside a pack so that the free weights of later tasks start from them.

``birds.pretrained.safetensors`` beside ``birds.pack``: every packable weight and everything shared, as they were given,
float32. It is material for training only: no task runs on it, and nothing of it is exported or shipped. The first
task's report names its sha256. A pack without the file takes tasks all the same, whose free weights then start from 0,
as the paper's do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from packnet_deploy.errors import ArtefactError
from packnet_deploy.pack import Pack
from packnet_deploy.pack.atomic import replacing
from packnet_deploy.pack.chain import file_sha256
from packnet_deploy.pack.tensorfile import TensorFile, write_tensors
from packnet_deploy.training.module import arrays_of

SUFFIX = ".pretrained.safetensors"
REPORT_KEY = "pretrained_sha256"  # in the first task's report

Values = Mapping[str, Tensor]


def init_path(pack: Path) -> Path:
    """``birds.pack`` to ``birds.pretrained.safetensors``."""
    return pack.with_name(pack.name.removesuffix(".pack") + SUFFIX)


def write_init(pack: Path, values: Values) -> str:
    """Keep ``values`` beside the pack at ``pack``, replacing what lies there; returns the file's sha256."""
    path = init_path(pack)
    with replacing(path) as file:
        write_tensors(file, arrays_of(values), {})
    return file_sha256(path)


def read_init(pack: Pack) -> dict[str, Tensor] | None:
    """The values kept beside a pack, float32 by parameter name; None where it never had any, or the file is gone.

    Raises:
        ArtefactError: the file is not the one that the pack was begun with.
    """
    if (named := named_init(pack)) is None:
        return None
    path = init_path(pack.path)
    if not path.exists():
        return None
    if (found := file_sha256(path)) != named:
        raise ArtefactError(
            f"{path}: expected sha256 {named}, got {found}: it is damaged, or another pack's; "
            "put the right one there, or train from 0 (--init zero)"
        )
    with TensorFile(path) as file:
        return {name: torch.from_numpy(file.read(name)) for name in file.entries}


def named_init(pack: Pack) -> str | None:
    """The sha256 of the values that the pack was begun with, if it was begun with any."""
    named = pack.header(pack.tasks[0].name).report.get(REPORT_KEY) if pack.tasks else None
    return named if isinstance(named, str) else None
