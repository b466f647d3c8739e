"""The pack: owner algebra, task deltas, the directory, the weight bank. numpy and safetensors only.

The format is specified in docs/format.md.

    owners.py      owner maps: support, counts, capacity
    pattern.py     2:4: what it asks of an owner map

    inputs.py      how an image becomes an input; the probe batch
    manifest.py    pack.json
    delta.py       a task's delta: its header, writing it, believing it
    encode.py      one parameter as a delta stores it
    decode.py      one parameter out of a chain of deltas
    reference.py   both, one weight at a time: the tests' oracle
    tensorfile.py  safetensors files, written the same every time and read by blocks

    chain.py       the deltas of a pack, open together: each hashed once and checked
    directory.py   a pack on disk, for reading
    growth.py      making packs, adding tasks, taking deltas out and in
    bank.py        the weight bank, any task of it, its hash

    atomic.py      files that appear whole or not at all; the lock
    reading.py     first checks on whatever comes from elsewhere
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
