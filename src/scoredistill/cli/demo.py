"""The command `demo`."""

from pathlib import Path


def demo(out: Path = Path("runs/demo"), seed: int = 0) -> None:
    """Compare the methods and DDIM samples on two prompts, in one report; a few minutes on two cores.

    Args:
        out: Output directory of the report and of the single runs.
        seed: Seed for all random number generators.
    """
    from scoredistill.tasks.demo import demo as run

    print(f"Open {run(out, seed)}")
