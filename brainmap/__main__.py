"""`python -m brainmap` is the command `brainmap`."""

from brainmap.cli import main

if __name__ == "__main__":
    main()
