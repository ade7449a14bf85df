"""``python -m limpet``: the command line."""

from limpet.cli import main

if __name__ == "__main__":
    main()
