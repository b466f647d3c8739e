"""``--config FILE``: the rarer settings of TensorRT's builder, by the names that TensorRT itself gives them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Whole numbers, with the least that is legal.
NUMBERS = {
    "builder_optimization_level": 0,
    "avg_timing_iterations": 1,
    "max_num_tactics": -1,
    "max_aux_streams": 0,
    "l2_limit_for_tiling": -1,
}
# Members of TensorRT's enumerations, by the setting's name.
NAMED = {"profiling_verbosity": "ProfilingVerbosity", "tiling_optimization_level": "TilingOptimizationLevel"}
FLAGS = "flags"  # a list of BuilderFlag's members, those aside that packnet sets itself
TF32 = "TF32"  # products of fp32 with fp16's ten bits; TensorRT's default, ours only when asked for
OWN_FLAGS = ("REFIT", "REFIT_IDENTICAL", "REFIT_INDIVIDUAL", "STRIP_PLAN", "SPARSE_WEIGHTS", "WEIGHT_STREAMING")


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a TOML file; what TensorRT makes of them is ``apply_settings``' business.

    Raises:
        EnvironmentFault: it cannot be read.
        ArtefactError: it is not TOML.
        UsageError: an unknown setting.
    """
    try:
        settings = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise EnvironmentFault(f"--config {path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"--config {path}: not TOML: {error}") from error
    known = (*NUMBERS, *NAMED, FLAGS)
    if unknown := [name for name in settings if name not in known]:
        raise UsageError(f"--config {path}: expected some of {', '.join(known)}, got {unknown[0]!r}")
    return settings


def asks_for_tf32(settings: Mapping[str, Any]) -> bool:
    return TF32 in _flags(settings)


def apply_settings(settings: Mapping[str, Any], config: Any, api: Any) -> None:
    """Set them on a builder config, and take TF32 away unless they ask for it: fp32 means fp32.

    Raises:
        UsageError: a value that this TensorRT does not know.
    """
    config.clear_flag(api.BuilderFlag.TF32)
    for name, value in settings.items():
        if name in NUMBERS:
            if type(value) is not int or value < NUMBERS[name]:
                raise UsageError(f"--config: {name}: expected a whole number from {NUMBERS[name]} up, got {value!r}")
            _set(config, name, value)
        elif name in NAMED:
            _set(config, name, _member(getattr(api, NAMED[name], None), name, value))
    for flag in _flags(settings):
        if flag in OWN_FLAGS:
            raise UsageError(f"--config: flags: {flag} is packnet's to set; see --switch and --sparsity")
        config.set_flag(_member(api.BuilderFlag, FLAGS, flag))


def _flags(settings: Mapping[str, Any]) -> list[Any]:
    value = settings.get(FLAGS, [])
    return value if isinstance(value, list) else [value]


def _set(config: Any, name: str, value: Any) -> None:
    if not hasattr(config, name):
        raise UsageError(f"--config: {name}: this TensorRT does not have it; leave it out")
    setattr(config, name, value)


def _member(kind: Any, name: str, value: Any) -> Any:
    members = getattr(kind, "__members__", {})
    if not isinstance(value, str) or value not in members:
        raise UsageError(f"--config: {name}: expected one of {', '.join(members) or 'nothing here'}, got {value!r}")
    return members[value]
