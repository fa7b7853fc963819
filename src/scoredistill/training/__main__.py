"""Run the training command: `python -m scoredistill.training --help`."""

from scoredistill.training.command import main

main()
