"""The ``packnet`` command: one small file per command, each loaded only when it is called."""

from packnet_deploy.cli.app import main

__all__ = ["main"]
