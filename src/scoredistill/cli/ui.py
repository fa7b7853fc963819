"""The command `ui`."""

import runpy
from importlib import import_module
from pathlib import Path

from scoredistill.tasks.output_paths import RUNS


def ui(
    runs: Path = RUNS,
    models: tuple[str, ...] = (),
    host: str = "127.0.0.1",
    port: int = 7860,
    browser: bool = True,
) -> None:
    """Open the web app: forms for the tasks, live previews, and all runs.

    Args:
        runs: Directory of the runs; they are shown, and new ones go there.
        models: Directories or hub names of models to choose from, beside the bundled ones.
        host: Address to listen on; by default only this computer can open the page.
        port: Port of the page.
        browser: Open the page in a browser.
    """
    from scoredistill.ui.server import serve

    serve(runs, command, prepare, host=host, port=port, models=models, open_browser=browser)


def command() -> None:
    """Run the command line of sys.argv in a worker of the app, as `python -m scoredistill` does."""
    runpy.run_module("scoredistill", run_name="__main__")


def prepare() -> None:
    """Import what commands need, so that they start at once."""
    for name in ("scoredistill.cli.commands", "scoredistill.tasks", "diffusers", "transformers"):
        import_module(name)
