"""Scoredistill demo."""

from pathlib import Path


def demo(out: Path = Path("runs/demo"), seed: int = 0) -> None:
    """Two prompts by every method, with DDIM samples beside them, on one page; a few minutes on two cores.

    Args:
        out: Folder for the page and the single runs.
        seed: Of all randomness.
    """
    from scoredistill.tasks.demo import demo as run

    print(f"Open {run(out, seed)}")
