"""What all pages of the app share: the directory of runs, the queue, and the models to choose from."""

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scoredistill.tasks.output_paths import default_out, unwritable
from scoredistill.ui.calls import Call, Kind
from scoredistill.ui.files import Display
from scoredistill.ui.history import Run, Stage, find
from scoredistill.ui.jobs import Job, Queue, State


@dataclass(frozen=True)
class Desk:
    """The state of the app.

    Args:
        root: directory of the runs.
        queue: runs them.
        display: copies images for the page.
        models: names, directories or hub names of models that forms offer, beside the bundled ones.
    """

    root: Path
    queue: Queue
    display: Display
    models: tuple[str, ...] = ()
    _resuming: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def submit(self, kind: Kind, values: Mapping[str, Any], source: Path | None = None, suffix: str = "") -> str:
        """Check what is asked for, and put it into the queue.

        Args:
            kind: the task.
            values: fields of its request.
            source: the file to work on.
            suffix: of the name of the output directory.

        Returns:
            The name of the run.

        Raises:
            ValueError: for impossible values, or a directory that cannot be written.
            MissingExtra: if a package is missing.
        """
        call = Call(kind, values, self.root / "x", source)
        call.check()
        about = call.text or " ".join(values.get("regions") or ())
        about = f"{source.stem.rpartition('-')[0] or source.stem} {about}" if source is not None else about
        out = self._reserved(about, kind.command, suffix)
        return self.name_of(self.queue.submit(replace(call, out=out)))

    def resume(self, name: str) -> str:
        """Put an interrupted run into the queue again.

        Raises:
            ValueError: if it cannot be continued here.
        """
        with self._resuming:  # so that two clicks do not queue a run twice
            call = self.call(name)
            if call is None or self.job_state(name) in (State.QUEUED, State.RUNNING):
                raise ValueError("this run cannot be continued here: give its command with --resume in a terminal")
            known = (call.out / "config.json").is_file()
            return self.name_of(self.queue.submit(replace(call, resume=known)))

    def stop(self, names: Sequence[str]) -> None:
        """Stop runs of the app that wait or run."""
        for name in names:
            if (job := self.job(name)) is not None:
                self.queue.stop(job)

    def job(self, name: str) -> Job | None:
        """The last job of a run; None if the app did not start it."""
        return next((job for job in reversed(self.queue.jobs) if self.name_of(job) == name), None)

    def job_state(self, name: str) -> State | None:
        """What has become of the last job of a run."""
        job = self.job(name)
        return None if job is None else job.state

    def run(self, name: object) -> Run | None:
        """The run of a name; it need not have written anything if its job is in the queue."""
        job = self.job(name) if isinstance(name, str) else None
        return find(self.root, name) if job is None else Run(job.call.out, self.name_of(job))

    def call(self, name: str) -> Call | None:
        """The call that continues a run; None if it must not or cannot be continued here.

        Runs that others have put there may name a method in a file, or another model, which would run code.
        """
        if (job := self.job(name)) is not None:
            return job.call
        run = find(self.root, name)
        call = None if run is None else run.call
        if run is None or call is None or run.config.get("prior_options") or run.config.get("method_file"):
            return None
        usual = {each.default for each in call.request.__dataclass_fields__.values() if each.name == "prior"}
        known = call.values.get("prior") in (*usual, *self.models)
        return call if known and ".py" not in str(call.values.get("method")) else None

    def resumable(self, name: str) -> bool:
        """Whether a run can be continued here."""
        run, job = self.run(name), self.job(name)
        if run is None or self.call(name) is None:
            return False
        if job is not None:
            return job.state is State.STOPPED or (job.state is State.FAILED and bool(run.config))
        return run.stage is Stage.INTERRUPTED

    def newest(self) -> list[str]:
        """The run to show first: the one that runs, or the last one that was asked for."""
        job = self.queue.latest()
        return [] if job is None else [self.name_of(job)]

    def name_of(self, job: Job) -> str:
        """The name of the run of a job."""
        return job.call.out.relative_to(self.root).as_posix()

    def _reserved(self, about: str, fallback: str, suffix: str) -> Path:
        """A new output directory."""
        while True:
            out = default_out(about, fallback, suffix, root=self.root)
            try:
                os.makedirs(out)
            except FileExistsError:
                continue
            except OSError as error:
                raise unwritable(out, error) from error
            return out
