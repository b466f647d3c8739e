"""How large a pack is: as files, and as the paper counts, so that both figures can stand beside the paper's.

The paper counts every weight of the network and of the heads at 4 bytes, free ones too, and a mask over the
packable weights at log2(N) bits each for N tasks (its table 2: 562 MB for VGG-16, 595 MB with masks for four tasks).
"""

from __future__ import annotations

import math

from packnet_deploy.pack import Pack
from packnet_deploy.pack.manifest import GRAPH_FILE, MANIFEST_FILE

_BYTES = 4
_DENSE = ("head/", "shared/", "own/")


def file_bytes(pack: Pack) -> int:
    """Bytes of all files of the pack: deltas, graph, manifest."""
    others = sum((pack.path / name).stat().st_size for name in (GRAPH_FILE, MANIFEST_FILE))
    return others + sum(entry.bytes for entry in pack.tasks)


def paper_bytes(pack: Pack, by_filter: bool = False) -> float:
    """Bytes as the paper counts; a network whose weights all belong to one task needs no mask.

    Args:
        by_filter: whole filters are owned, so the mask has an entry for each filter, not for each weight.
    """
    with pack.opened() as opened:
        files = opened.chain.files
        entries = [(name, entry.size) for file in files for name, entry in file.entries.items()]
        owners = sum(any(e.size for n, e in file.entries.items() if n.startswith("values/")) for file in files)
    dense = sum(size for name, size in entries if name.startswith(_DENSE))
    return paper_count(
        packable=pack.manifest.weights,
        dense=dense,
        masked=sum(param.shape[0] if by_filter else param.size for param in pack.packable),
        owners=owners,
    )


def paper_count(packable: int, dense: int, masked: int, owners: int) -> float:
    """Bytes of ``packable`` and ``dense`` parameters, and of a mask of ``masked`` entries that names ``owners``."""
    return _BYTES * (packable + dense) + masked * math.log2(max(owners, 1)) / 8
