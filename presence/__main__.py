"""`python -m presence` is the same as the console script `presence`."""

from presence.cli import main

if __name__ == "__main__":
    main()
