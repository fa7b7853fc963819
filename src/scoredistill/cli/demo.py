"""The command `demo`."""

from pathlib import Path
from typing import Any

from scoredistill.cli.options import opened


def demo(out: Path | None = None, seed: int = 0, overwrite: bool = False, progress: bool = True) -> dict[str, Any]:
    """Compare the methods and DDIM samples on two prompts, in one report; a few minutes on two cores.

    Args:
        out: Output directory of the report and of the single runs; runs/demo by default, or with a number behind if
            there is one.
        seed: Seed for all random number generators.
        overwrite: Replace a finished demonstration in the output directory.
        progress: Show progress bars.
    """
    from scoredistill.tasks.demo import demo as run
    from scoredistill.tasks.output_paths import reserved

    with reserved(out, "demo", "demo") as place:
        return opened(run(place, seed, progress=progress, overwrite=overwrite))
