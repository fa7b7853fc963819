"""The command `prior`."""

import json
from datetime import date
from pathlib import Path
from typing import Literal

from tyro.conf import OmitArgPrefixes, Positional

from scoredistill import __version__
from scoredistill.cli.options import CommandPrior, refuse
from scoredistill.files import write_text
from scoredistill.tasks.request import loading

DATA, SEEDS = Path("runs/emoji-data"), 8


def prior(
    action: Positional[Literal["list", "show", "evaluate", "train"]],
    name: Positional[str] = "emoji",
    data: Path = DATA,
    out: Path | None = None,
    sheet: Path | None = None,
    seeds: int = SEEDS,
    concepts: bool = False,
    *,
    load: OmitArgPrefixes[CommandPrior],
) -> None:
    """List the bundled diffusion models, show or evaluate one, or train them again.

    Args:
        action: list, show (the model card), evaluate (metrics as JSON) or train (see: scoredistill prior train --help).
        name: The model: a bundled name or a directory; to show, also clip.
        data: Directory of the emoji data; they are downloaded if it is empty.
        out: File for the metrics, which are printed as well.
        sheet: Image file for samples of the common prompts, or for edits of held-out images.
        seeds: Number of samples of each prompt.
        concepts: Show the prompts or instructions that the model knows, instead of its card.
        load: How the model to evaluate is loaded.
    """
    from scoredistill.priors import pipelines

    if action in ("list", "show"):
        changed = {"data": data if data != DATA else None, "seeds": seeds if seeds != SEEDS else None}
        refuse(f"prior {action}", **changed, out=out, sheet=sheet, **loading(load))
    if concepts and action != "show":
        raise ValueError(f"--concepts belongs to show: leave it out, or give scoredistill prior show {name} --concepts")
    if action == "list" and name != "emoji":
        raise ValueError(f"prior list has no name: leave it out, or give scoredistill prior show {name}")
    if action == "list":
        for bundled in pipelines.BUNDLED:
            print(f"{bundled}\t{pipelines.bundled_folder(bundled)}")
    elif action == "show" and concepts:
        print(_concepts(name))
    elif action == "show":
        print(_card(pipelines.bundled_folder(name) if name == "clip" else Path(pipelines.prior_folder(name))))
    elif action == "evaluate":
        folder = pipelines.prior_folder(name)
        if seeds < 1:
            raise ValueError(f"seeds must be at least 1, not {seeds}")
        for option, given in (("out", out), ("sheet", sheet)):
            if given is not None and given.is_dir():
                raise ValueError(f"{given} is a directory: give a file for --{option}")
        from scoredistill.training.evaluation import evaluate
        from scoredistill.training.evaluation import sheet as draw

        model = pipelines.load_prior(folder, **loading(load))
        if sheet is not None:
            sheet.parent.mkdir(parents=True, exist_ok=True)
            draw(model, data, sheet)
        figures = evaluate(model, data, pipelines.bundled_folder("clip"), seeds)
        made = {"command": f"scoredistill prior evaluate {name}", "seeds": seeds, "date": str(date.today())}
        text = json.dumps({**made, "version": __version__, "figures": figures}, indent=2)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_text(out, text + "\n")
        print(text)
    else:
        raise ValueError("write the action first: scoredistill prior train --data FOLDER")


def _concepts(name: str) -> str:
    from scoredistill.priors.pipelines import prior_folder
    from scoredistill.priors.vocabulary import Vocabulary

    known = Vocabulary.read(Path(prior_folder(name)))
    if known is None:
        raise ValueError(f"{name} comes without a vocabulary, so what it knows cannot be listed")
    return known.listed()


def _card(folder: Path) -> str:
    card = folder / "README.md"
    if not card.is_file():
        raise ValueError(f"{folder} has no model card (README.md)")
    return card.read_text()
