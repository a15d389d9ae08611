"""The program, for lines of a shell."""

from ringfence.cli.main import main

main()
