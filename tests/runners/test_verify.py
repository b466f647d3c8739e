"""verify_pack: what holds for the golden pack, and what it notices when a frozen weight or a probe is another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from export_networks import pack_of, tiny_network

from packnet_deploy.pack import Pack
from packnet_deploy.runners.verify import verify_pack


def rewrite(pack: Path, index: int, change: Callable[[bytes], bytes]) -> None:
    """Change one delta's bytes and make every later hash agree, as somebody with write access could."""
    manifest = json.loads((pack / "pack.json").read_text())
    renamed: dict[str, str] = {}
    for task in manifest["tasks"]:
        file = pack / task["file"]
        data = file.read_bytes()
        if task["index"] == index:
            data = change(data)
        for old, new in renamed.items():
            data = data.replace(old.encode(), new.encode())
        file.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        renamed[task["sha256"]] = digest
        task["sha256"] = digest
    (pack / "pack.json").write_text(json.dumps(manifest))


def first_value(data: bytes, name: str) -> int:
    """Offset of the first byte of a tensor in a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    begin: int = json.loads(data[8 : 8 + length])[name]["data_offsets"][0]
    return 8 + length + begin


def flip(name: str) -> Callable[[bytes], bytes]:
    """Flip a high bit of the first value of a tensor."""

    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[first_value(data, name) + 2] ^= 0x40
        return bytes(changed)

    return change


def test_the_golden_pack_holds(golden: Path) -> None:
    checks = list(verify_pack(Pack.open(golden)))
    assert [check.task for check in checks] == ["shapes", "birds", "flowers"]
    assert all(check.passes for check in checks)


def test_a_changed_frozen_weight_is_noticed_by_the_tasks_after_it(golden_copy: Path) -> None:
    rewrite(golden_copy, 1, flip("values/conv1.weight"))
    frozen = {check.task: check.frozen for check in verify_pack(Pack.open(golden_copy))}
    assert frozen == {"shapes": True, "birds": False, "flowers": False}


def test_a_changed_bias_is_noticed_too(golden_copy: Path) -> None:
    rewrite(golden_copy, 1, flip("shared/fire.squeeze.bias"))
    assert not any(check.frozen for check in list(verify_pack(Pack.open(golden_copy)))[1:])


def test_a_changed_head_fails_its_task_alone(golden_copy: Path) -> None:
    rewrite(golden_copy, 2, flip("head/weight"))
    checks = {check.task: check for check in verify_pack(Pack.open(golden_copy))}
    assert all(check.frozen for check in checks.values())
    assert [task for task, check in checks.items() if not check.passes] == ["birds"]


def test_the_packs_of_the_exports_tests_are_sound(tmp_path: Path) -> None:
    pack = pack_of(tmp_path / "tiny.pack", tiny_network(), {"first": 0.1, "second": 0.1})
    assert {check.task: check.difference.passes for check in verify_pack(pack)} == {"first": True, "second": True}


def test_a_pack_with_other_logits_fails(tmp_path: Path) -> None:
    pack = pack_of(tmp_path / "wrong.pack", tiny_network(), {"only": 0.5}, wrong_probe=True)
    assert [check.difference.passes for check in verify_pack(pack)] == [False]
