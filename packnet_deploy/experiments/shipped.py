"""The recipes that come with packnet-deploy, by name: those of the source tree, or of an installed package."""

from __future__ import annotations

from pathlib import Path

from packnet_deploy.errors import UsageError

# train/recipes/ of the tree; a wheel carries the same files as packnet_deploy/experiments/recipes/.
_PLACES = (Path(__file__).parents[2] / "train" / "recipes", Path(__file__).parent / "recipes")


def shipped_recipes() -> dict[str, Path]:
    """Name to file, sorted by name."""
    found = {path.stem: path for place in _PLACES for path in place.glob("*.toml")}
    return dict(sorted(found.items()))


def recipe_path(asked: str) -> Path:
    """A file's path, or the name of a recipe that came with the package.

    Raises:
        UsageError: it is neither.
    """
    if asked.endswith(".toml") or Path(asked).is_file():
        return Path(asked)
    if (path := shipped_recipes().get(asked)) is None:
        known = ", ".join(shipped_recipes()) or "none here"
        raise UsageError(f"{asked}: expected a recipe's file or the name of one of: {known}")
    return path
