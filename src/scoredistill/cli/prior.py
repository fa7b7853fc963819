"""The command `prior`."""

import json
from datetime import date
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from scoredistill import __version__


def prior(
    action: Positional[Literal["list", "show", "evaluate", "train"]],
    name: Positional[str] = "emoji",
    data: Path = Path("runs/emoji-data"),
    out: Path | None = None,
    sheet: Path | None = None,
    seeds: int = 8,
) -> None:
    """Know the diffusion models: list the bundled ones, show or evaluate one, or train them anew.

    Args:
        action: list, show, evaluate (figures as JSON), or train (see: scoredistill prior train --help).
        name: The model: a bundled name, or a folder; to show, also clip.
        data: Folder of the emoji data, fetched when it is empty.
        out: File for the figures; they are printed as well.
        sheet: Image file for what the model makes of the common prompts, or of held-out images.
        seeds: Samples of each prompt.
    """
    from scoredistill.priors import pipelines

    if action == "list":
        for bundled in pipelines.BUNDLED:
            print(f"{bundled}\t{pipelines.bundled_folder(bundled)}")
    elif action == "show":
        print(_card(pipelines.bundled_folder(name) if name == "clip" else Path(pipelines.prior_folder(name))))
    elif action == "evaluate":
        folder = pipelines.prior_folder(name)
        if seeds < 1:
            raise ValueError(f"seeds must be at least 1, not {seeds}")
        for option, given in (("out", out), ("sheet", sheet)):
            if given is not None and given.is_dir():
                raise ValueError(f"{given} is a folder: give a file for --{option}")
        from scoredistill.training.evaluation import evaluate
        from scoredistill.training.evaluation import sheet as draw

        if sheet is not None:
            sheet.parent.mkdir(parents=True, exist_ok=True)
            draw(folder, data, sheet)
        figures = evaluate(folder, data, pipelines.bundled_folder("clip"), seeds)
        made = {"command": f"scoredistill prior evaluate {name}", "seeds": seeds, "date": str(date.today())}
        text = json.dumps({**made, "version": __version__, "figures": figures}, indent=2)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(text + "\n")
        print(text)


def _card(folder: Path) -> str:
    card = folder / "README.md"
    if not card.is_file():
        raise ValueError(f"{folder} has no model card (README.md)")
    return card.read_text()
