"""The command line as ``python -m tinymetafed``."""

from .cli import main

main()
