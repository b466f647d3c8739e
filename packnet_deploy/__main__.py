"""``python -m packnet_deploy`` is ``packnet``."""

from packnet_deploy.cli.app import main

main()
