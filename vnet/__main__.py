"""``python -m vnet`` is the ``vnet`` command."""

from vnet.cli import main

if __name__ == "__main__":
    main()
