"""One run of a task: its prior, its cost and time so far, its progress bar, and its output directory.

A task completes its request, opens a session, runs, and finishes:

    settings = request.complete()
    directory, prior = ImageDirectory.of(arguments, settings), text_prior(arguments.prior, arguments)
    with StepSession(arguments, prior, directory) as session:
        session.begin(settings)
        last = session.follow(steps, ...)
        return session.finish(Result(...))
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch
from PIL import Image
from torch import Tensor

from scoredistill.loop import ADVICE, ON_NAN, Step
from scoredistill.priors.base import Editor, Prior, TextPrior
from scoredistill.priors.counted import Counted
from scoredistill.priors.pipelines import load_prior
from scoredistill.ranks import Ranks
from scoredistill.tasks import checks
from scoredistill.tasks.request import PriorOptions, PriorSource, RunOptions, loading, prior_name
from scoredistill.tasks.run_config import values_of
from scoredistill.tasks.run_directory import RunDirectory
from scoredistill.tasks.step_directory import StepDirectory

R = TypeVar("R")
T = TypeVar("T")
N = TypeVar("N", bound="Session[Any]")

_kept: ContextVar[dict[str, Prior] | None] = ContextVar("_kept", default=None)
MAX_ROWS = 64  # largest batch of one network call of an editor, unless the prior has a limit of its own


class Session(Generic[R]):
    """One run of a task; a context manager, at whose end other processes may use the output directory.

    Args:
        options: how the run is carried out.
        prior: the loaded prior.
        directory: output directory, checked but not yet opened; None to write nothing.

    Attributes:
        prior: the loaded prior.
        counted: the same prior, counting network evaluations, encoded and decoded images.
    """

    def __init__(self, options: RunOptions, prior: Prior, directory: RunDirectory[R] | None):
        self.options, self.prior, self.counted = options, prior, Counted(prior)
        self._directory = directory
        self._start = time.perf_counter()

    @property
    def counts(self) -> dict[str, int]:
        """Network evaluations ("rows"), network calls, images encoded and decoded so far."""
        return self.counted.counts()

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, without loading the prior; of a resumed run, with the time before."""
        return time.perf_counter() - self._start

    def start(self, spent: float = 0.0) -> None:
        """Start the clock of the run, `spent` seconds ago."""
        self._start = time.perf_counter() - spent

    def opened(self, settings: object, opening: Callable[[], T]) -> T:
        """What opening the output directory returns on rank 0, on all ranks of a job.

        Raises:
            ValueError: if a rank has other settings than rank 0, or the directory cannot be opened.
        """
        ranks = Ranks.here()
        ranks.check_same({name: str(value) for name, value in values_of(settings).items()})
        return ranks.first(opening)

    def finish(self, result: R) -> R:
        """Write the results and the report to the output directory, if there is one.

        Returns:
            The result.
        """
        if self._directory is not None:
            with self._directory.told():
                self._directory.finish(result)
            self._directory.release()
        return result

    @property
    def machine(self) -> dict[str, str]:
        """Data type and device of the networks, which a resumed run keeps."""
        dtype = getattr(self.prior, "dtype", None)
        known = {} if dtype is None else {"dtype": str(dtype).removeprefix("torch.")}
        return {**known, "device": getattr(self.prior, "device", torch.device("cpu")).type}

    def __enter__(self: N) -> N:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._directory is not None:
            self._directory.release()


class StepSession(Session[R]):
    """A run that consists of the steps of `distill`, with metrics and checkpoints.

    Attributes:
        state: state of an interrupted run to continue, for `distill`; None for a new one. Set by `begin`.
        history: metrics of each step.
    """

    def __init__(self, options: RunOptions, prior: Prior, directory: StepDirectory[R] | None):
        super().__init__(options, prior, directory)
        self._steps_directory = directory
        self.state: dict[str, Any] | None = None
        self.history: list[dict[str, float]] = []
        self._last: Step | None = None

    def begin(self, settings: object, **facts: str) -> None:
        """Open the output directory, restore what an interrupted run left there, and start the clock.

        Args:
            settings: the complete settings.
            **facts: what else identifies the run, see `RunDirectory.open`.
        """
        spent, directory = 0.0, self._steps_directory
        nothing: tuple[dict[str, Any] | None, list[dict[str, float]]] = (None, [])
        opening = lambda: nothing if directory is None else directory.open(settings, **facts, **self.machine)
        self.state, self.history = self.opened(settings, opening)
        if self.state is not None:
            self.counted.add(self.state["counts"])
            spent = self.state["seconds"]
        self.start(spent)

    def follow(
        self, steps: Iterator[Step], label: str, draw: Callable[[Step], Image.Image],
        callback: Callable[[Step], None] | None = None,
    ) -> Step:  # fmt: skip
        """Take all steps, with metrics, progress bar, callback, previews and checkpoints.

        Args:
            steps: the steps, of `distill`.
            label: what the progress bar shows.
            draw: makes an image of what there is after a step, for previews and the video of the run; what it decodes
                is not counted, so that the cost does not depend on the output directory or on interruptions.
            callback: called after every step.

        Returns:
            The last step.

        Raises:
            FloatingPointError: if a gradient is not finite.
        """
        from tqdm.auto import tqdm

        def uncounted(step: Step) -> Image.Image:
            before = self.counts
            image = draw(step)
            self.counted.add({name: before[name] - count for name, count in self.counts.items()})
            return image

        last: Step | None = None
        bar = tqdm(
            self._told(steps),
            label,
            initial=len(self.history),
            disable=not self.options.progress,
            dynamic_ncols=True,
            unit="step",
        )
        for step in bar:
            bar.total, last = step.steps, step
            self.history.append(measure(step))
            bar.set_postfix({name: f"{value:.3g}" for name, value in self.history[-1].items()}, refresh=False)
            if callback is not None:
                callback(step)
            if self._steps_directory is not None:
                self._steps_directory.record(step, self.history[-1], self.counts, self.seconds, uncounted)
            self._last = step
        if last is None:
            raise ValueError("the run has no steps left: start it anew, without resume")
        return last

    def _told(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The steps; if one is not finite, the state before it is kept.

        Raises:
            FloatingPointError: if a gradient is not finite.
        """
        try:
            yield from steps
        except FloatingPointError as error:
            last, directory = self._last, self._steps_directory
            if last is None or directory is None:
                raise
            with suppress(FloatingPointError):  # what the estimator learns may be damaged: the checkpoint before stays
                directory.keep(last, self.counts, self.seconds)
            raise FloatingPointError(
                f"{error}; the last good state is kept in {directory.path}, from which --resume --on-nan skip continues"
            ) from error


def text_prior(prior: PriorSource, options: RunOptions) -> TextPrior:
    """A loaded prior that generates images from text.

    Raises:
        ValueError: if there is no such prior, or it knows no text or needs a source image.
    """
    loaded, name = _loaded(prior, options), prior_name(prior)
    if not isinstance(loaded, TextPrior):
        raise ValueError(f"{name} has no text encoder: use a prior of load_prior, such as emoji")
    if loaded.needs_source:
        raise ValueError(
            f"{name} edits images and cannot generate them from text: use a text-to-image model such as emoji"
        )
    return loaded


def editor(prior: PriorSource, options: RunOptions | None = None) -> Editor:
    """A loaded prior that follows instructions about an image, with network calls split so that memory is bounded.

    Raises:
        ValueError: if there is no such prior, or it does not follow instructions.
    """
    options = options or RunOptions()
    loaded = _loaded(prior, options)
    if not isinstance(loaded, Editor):
        raise ValueError(
            f"{prior_name(prior)} follows no instructions about an image: use an editor such as emoji-edit"
        )
    if loaded.max_rows is None:
        loaded.max_rows = MAX_ROWS
    return loaded


@contextmanager
def priors_kept() -> Iterator[None]:
    """Load the prior of several runs once: within the block, the same name with the same options is the same prior."""
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def _loaded(prior: PriorSource, options: PriorOptions) -> Prior:
    if isinstance(options, RunOptions):
        checks.choice(options, "on_nan", ON_NAN)
    given = loading(options)
    if isinstance(prior, (str, Path)):
        kept = _kept.get()
        cache, name = {} if kept is None else kept, repr((str(prior), sorted(given.items(), key=str)))
        if name not in cache:
            cache[name] = load_prior(prior, **given)
        return cache[name]
    if foreign := [name for name in given if name not in ("dtype", "device")]:
        raise ValueError(f"the prior is already loaded: give {', '.join(foreign)} to load_prior")
    return prior


def measure(step: Step) -> dict[str, float]:
    """Metrics of a step as numbers; waits for the device once.

    Raises:
        FloatingPointError: if the gradient is not finite.
    """
    values: list[Tensor] = [step.grad_norm, *step.estimate.info.values()]
    numbers = torch.stack([v.detach().double().reshape(()) for v in values]).tolist()
    if not all(abs(v) < float("inf") for v in numbers):
        what = "what the method reports" if abs(numbers[0]) < float("inf") else "the gradient"
        raise FloatingPointError(f"{what} of step {step.index} is not finite (t = {step.t:.4g}): {ADVICE}")
    return {"t": step.t, "grad_norm": numbers[0], **dict(zip(step.estimate.info, numbers[1:], strict=True))}
