"""The command line as `python -m scoredistill`."""

from scoredistill.cli import main

if __name__ == "__main__":
    main()
