"""Several runs of a task in one directory: one per prompt and seed, with an image grid and a page about all of them.

config.json    prompts, number of seeds and the options that all runs share
NAME-seed0/    the output directory of a run
grid.png       a row per prompt, a column per seed                index.html    the same with numbers and links
result.json    written last
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from scoredistill.files import slug, write_json
from scoredistill.media.images import grid
from scoredistill.reports.page import Page
from scoredistill.tasks import gallery
from scoredistill.tasks.run_config import read_config, result_of
from scoredistill.tasks.run_directory import RunDirectory

SIDE = 192  # pixels of the longer side of an image in the grid
LONGEST = 40  # characters of a prompt in the name of a directory
ONE = ("prompt", "instruction", "seed")  # what differs between runs


@dataclass(frozen=True)
class BatchRequest:
    """What several runs are asked for.

    Attributes:
        prompts: prompts or instructions.
        seed: the first seed.
        seeds: number of seeds, of every prompt.
        options: what all runs share.
    """

    prompts: tuple[str, ...]
    seed: int
    seeds: int
    options: Mapping[str, Any]

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, int]], asked: Mapping[str, Any]) -> "BatchRequest":
        """The request of runs.

        Args:
            pairs: prompt and seed of every run.
            asked: the options of one of them.
        """
        prompts, seeds = tuple(dict.fromkeys(text for text, _ in pairs)), sorted({seed for _, seed in pairs})
        shared = {name: value for name, value in asked.items() if name not in ONE and value is not None}
        return cls(prompts, seeds[0], len(seeds), shared)


class BatchDirectory(RunDirectory[Sequence[Path]]):
    """Output directory of several runs."""

    leftovers = ("grid.png", "index.html", "result.json")

    def open(self, request: BatchRequest) -> None:
        """Begin to write."""
        self._prompts = request.prompts
        self._begin(request, continued=self.resume, facts={})

    def name(self, text: str, seed: int) -> str:
        """The name of the directory of a run; prompts of the same name are numbered."""
        names = [slug(prompt, LONGEST) or "run" for prompt in self._prompts]
        at = self._prompts.index(text)
        again = names[:at].count(names[at])
        return f"{names[at]}{f'-{again + 1}' if again else ''}-seed{seed}"

    def finish(self, result: Sequence[Path]) -> None:
        """Write the grid and the page about finished runs, which are given by their directories."""
        shown = {run: _image(run) for run in result}
        configs = {run: read_config(run).get("request", {}) for run in result}
        if known := [made for made in shown.values() if made is not None]:
            labels = [_label(configs[run]) for run in result]
            columns = max(1, len(result) // len(self._prompts))
            blank = Image.new("RGB", known[0].size, "white")  # in the place of runs without an image
            self.save(grid([made or blank for made in shown.values()], columns, 4, labels), "grid.png")
        page = Page(f"{len(result)} runs", ", ".join(self._prompts)).command(self.command)
        page.cards([gallery.card(run, self.path, gallery.image_of(run)) for run in result])
        page.heading("Numbers").table([_row(run, configs[run]) for run in result])
        page.save(self.path / "index.html")
        write_json(self._result, {"runs": [run.name for run in result]}, indent=2)

    @property
    def _interrupted(self) -> bool:
        return self._config.is_file() and not self._result.is_file()


def _image(run: Path) -> Image.Image | None:
    """The image that stands for a run in the grid."""
    path = gallery.image_of(run)
    return None if path is None else gallery.reduced(path, SIDE)


def _label(request: Mapping[str, Any]) -> str:
    return f"{gallery.title(request)}, seed {request.get('seed', '?')}"


def _row(run: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    summary = result_of(run)
    score = gallery.score(summary)
    return {
        "prompt": gallery.title(request),
        "seed": request.get("seed", ""),
        **({} if score is None else {"CLIP similarity": score}),
        "NFE": summary.get("rows", ""),
        "seconds": summary.get("seconds", ""),
    }
