"""``python -m qkd`` is ``qkd``."""

from qkd.cli import main

main()
