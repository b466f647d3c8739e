"""The pack: owner algebra, task deltas, the directory, the weight bank. numpy and safetensors only.

The format is specified in docs/format.md.
"""

from packnet_deploy.pack.bank import WeightBank, bank_sha256
from packnet_deploy.pack.chain import TaskWeights, file_sha256
from packnet_deploy.pack.delta import DeltaHeader, NewTask
from packnet_deploy.pack.directory import OpenedPack, Pack
from packnet_deploy.pack.growth import append_task, apply_delta, create_pack, extract_delta
from packnet_deploy.pack.inputs import InputSpec, probe_batch, probe_pixels
from packnet_deploy.pack.manifest import Backbone, Manifest, ParamSpec, TaskEntry
from packnet_deploy.pack.owners import (
    FREE,
    MAX_TASKS,
    LayerCapacity,
    OwnerMap,
    capacity,
    count_by_owner,
    support,
)

__all__ = [
    "FREE",
    "MAX_TASKS",
    "Backbone",
    "DeltaHeader",
    "InputSpec",
    "LayerCapacity",
    "Manifest",
    "NewTask",
    "OpenedPack",
    "OwnerMap",
    "Pack",
    "ParamSpec",
    "TaskEntry",
    "TaskWeights",
    "WeightBank",
    "append_task",
    "apply_delta",
    "bank_sha256",
    "capacity",
    "count_by_owner",
    "create_pack",
    "extract_delta",
    "file_sha256",
    "probe_batch",
    "probe_pixels",
    "support",
]
