"""`python -m prelabel.worker.cli`."""

from . import main

main()
