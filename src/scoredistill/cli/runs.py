"""One run of a command, or several in one directory: where they go, what is printed and what is answered."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from scoredistill.cli.options import CommandPlan, CommandRun, all_runs, answer_of, listed, values
from scoredistill.files import read_text
from scoredistill.tasks import gallery
from scoredistill.tasks.batch import BatchDirectory, BatchRequest
from scoredistill.tasks.output_paths import reserved
from scoredistill.tasks.run_config import read_config
from scoredistill.tasks.session import priors_kept

Q = TypeVar("Q", bound=Any)


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        request: what is asked for, a dataclass with a seed.
        text, fallback, suffix: name of the output directory, see `default_out`.
        options: more of the request, by which a run to resume is found.
    """

    request: Any
    text: str
    fallback: str
    suffix: str = ""
    options: Mapping[str, Any] | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """The request, by name."""
        return dict(values(self.request) if self.options is None else self.options)


Make = Callable[[Any, CommandRun, Path], dict[str, Any]]


def variants(request: Q, field: str, plan: CommandPlan) -> list[Q]:
    """The requests of all prompts and seeds.

    Args:
        request: what is asked for.
        field: its prompt or instruction.
        plan: says which prompts and how many seeds.

    Raises:
        ValueError: if there are both a prompt and --prompts, or there is no seed.
    """
    if plan.seeds < 1:
        raise ValueError(f"--seeds is the number of runs of a prompt, at least 1, not {plan.seeds}")
    one = getattr(request, field)
    if one and plan.prompts:
        raise ValueError(f"give one {field}, or several by --prompts, but not both: put {one!r} behind --prompts")
    texts = _texts(plan.prompts) if plan.prompts else (one,)
    return [replace(request, **{field: text, "seed": request.seed + i}) for text in texts for i in range(plan.seeds)]


def carried_out(jobs: Sequence[Job], run: CommandRun, make: Make) -> dict[str, Any]:
    """Carry out one run, or several in one directory with a page about all of them.

    Args:
        jobs: the runs.
        run: how they are carried out, and where.
        make: carries out one request in a directory, and returns what `ending` does.

    Returns:
        What --json prints.
    """
    first = jobs[0]
    if len(jobs) == 1:
        with reserved(run.out, first.text, first.fallback, first.suffix, run.resume, first.asked) as out:
            return make(first.request, run, out)
    request = BatchRequest.of([(job.text, job.request.seed) for job in jobs], first.asked)
    with reserved(run.out, about(jobs), first.fallback, first.suffix, run.resume) as place, priors_kept():
        batch = BatchDirectory(place, request, run.resume, run.overwrite)
        batch.open(request)
        try:
            answers = [_one(job, run, make, batch.path / batch.name(job.text, job.request.seed)) for job in jobs]
            with batch.told():
                batch.finish([Path(answer["out"]) for answer in answers])
        finally:
            batch.release()
    print(f"{len(jobs)} runs: {place / 'index.html'}")
    listed([("grid", place / "grid.png"), *all_runs(place)])
    total = sum(float(answer.get("seconds") or 0) for answer in answers)
    page = {"out": str(place), "report": str(place / "index.html"), "grid": str(place / "grid.png")}
    return {**page, "seconds": round(total, 2), "runs": answers}


def about(jobs: Sequence[Job]) -> str:
    """What runs are about, for the name of their directory."""
    texts = list(dict.fromkeys(job.text for job in jobs))
    more = f" and {len(texts) - 1} more" if len(texts) > 1 else f" {len(jobs)} seeds" if len(jobs) > 1 else ""
    return f"{texts[0]}{more}"


def _one(job: Job, run: CommandRun, make: Make, out: Path) -> dict[str, Any]:
    """One of several runs; of a batch that is resumed, a finished one is only read."""
    finished = run.resume and (out / "result.json").is_file() and read_config(out)
    if finished:
        return answer_of(out, [image for image in [gallery.image_of(out)] if image is not None])
    begun = run.resume and bool(read_config(out))
    return make(job.request, replace(run, resume=begun, overwrite=False if begun else out.exists()), out)


def _texts(given: Sequence[str]) -> list[str]:
    """The prompts, or those of a file with one per line, each once.

    Raises:
        ValueError: if the file is missing or empty.
    """
    if len(given) != 1 or not given[0].endswith(".txt"):
        return list(dict.fromkeys(given))
    path = Path(given[0])
    try:
        lines = [line.strip() for line in read_text(path).splitlines()]
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read prompts from {path}: give a text file with one prompt per line") from error
    if not any(lines):
        raise ValueError(f"{path} has no prompts: write one per line")
    return list(dict.fromkeys(filter(None, lines)))
