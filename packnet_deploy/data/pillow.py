"""The one door to Pillow, so that a machine without it hears which extra to install."""

from __future__ import annotations

from types import ModuleType

from packnet_deploy.errors import missing_package


def pillow() -> ModuleType:
    """Pillow's ``PIL.Image`` module.

    Raises:
        EnvironmentFault: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_package("pillow", "images", "reading images") from error
    return Image
