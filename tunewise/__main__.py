"""`python -m tunewise`."""

from tunewise.cli.main import main

main()
