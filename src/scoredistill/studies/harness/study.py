"""How every study runs: settings, jobs, results, and the files that show them."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from scoredistill import __version__
from scoredistill.files import write_json, write_text
from scoredistill.recipe import FORM
from scoredistill.studies.harness.cluster import Cluster
from scoredistill.studies.harness.jobs import Job, StudyDirectory, place
from scoredistill.studies.harness.shards import Shard
from scoredistill.studies.harness.tables import Results
from scoredistill.tasks.run_config import command_line

Self = TypeVar("Self")


@runtime_checkable
class StudySetting(Protocol):
    """What to measure."""

    def complete(self: Self) -> Self:
        """Fill in the defaults; raises ValueError for what does not exist."""


S = TypeVar("S", bound=StudySetting)


@dataclass(frozen=True)
class Study(Generic[S]):
    """A comparison of methods: calling it with a setting measures and writes the report.

    Attributes:
        key: what all jobs depend on; a study with another key takes another directory.
        first: the jobs whose results all others use.
        plan: the other jobs, in the order they are started.
        gather: the results of all jobs as one dictionary, with the complete setting under "setting".
        tables: tables.md from the results.
        report: writes report.html from the results and the images in the directory given, and returns its path.
        check: raises ValueError (or ImportError) if the setting cannot be measured here, before any work.
        prepare: called before each group of jobs with the setting, the unfinished jobs and whether to show progress.
        preview: writes preview.png from what is finished; called after every job.
    """

    key: Callable[[S], Mapping[str, Any]]
    plan: Callable[[S], Sequence[Job]]
    gather: Callable[[S, StudyDirectory], dict[str, Any]]
    tables: Callable[[Results], str]
    report: Callable[[Results, Path], Path]
    check: Callable[[S], None] = lambda setting: None
    first: Callable[[S], Sequence[Job]] = lambda setting: ()
    prepare: Callable[[S, Sequence[Job], bool], None] = lambda setting, jobs, progress: None
    preview: Callable[[S, StudyDirectory], None] = lambda setting, directory: None

    def __call__(
        self, setting: S, out: Path, workers: int = 2, progress: bool = True, *, shard: Shard | None = None,
        cluster: Cluster | None = None,
    ) -> Path:  # fmt: skip
        """Run the study and write results.json, tables.md, report.html and the images.

        Args:
            setting: what to measure; defaults are filled in.
            out: output directory; finished jobs of an earlier run with the same key are kept.
            workers: processes, each with one thread; with a cluster, its tasks.
            progress: show progress bars.
            shard: measure this share of the jobs, beside those that all others need, and write no report: a call
                without a shard, after all shards, does.
            cluster: where the jobs run instead of here.

        Returns:
            The path of the report; with a shard, the directory of what was measured.

        Raises:
            ValueError: if the setting is impossible or `out` cannot be used, before any work; or if a job fails that
                all others need.
            ImportError: if a package is missing, before any work.
        """
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        if shard is not None and cluster is not None:
            raise ValueError("an executor divides the jobs by itself: give a shard or an executor, not both")
        setting = setting.complete()
        if workers > 1 or cluster is not None:
            for method in getattr(setting, "own", ()):
                if not method.file:
                    raise ValueError(
                        f"{method} is in no file, from which other processes could read it: name it as {FORM}, or use "
                        "workers=1"
                    )
        self.check(setting)
        if cluster is not None:
            cluster.executor(out)  # refuses what does not run here
        directory = StudyDirectory(out, self.key(setting), shard)
        try:
            directory.results()  # refuses damaged files before any work
            if shard is not None:
                return self._share(setting, directory, shard, workers, progress)
            return self._measured(setting, directory, workers, progress, cluster)
        finally:
            directory.release()

    def place(self, setting: S, base: Path) -> Path:
        """The output directory of a study that is given none, see `jobs.place`.

        Raises:
            ValueError: if the setting is impossible.
        """
        return place(base, self.key(setting.complete()))

    def _share(self, setting: S, directory: StudyDirectory, shard: Shard, workers: int, progress: bool) -> Path:
        """Run the jobs that all others need, and those of a shard."""
        for jobs in (self.first(setting), shard.of(self.plan(setting))):
            self.prepare(setting, directory.missing(jobs), progress)
            failed = directory.run(jobs, workers, progress)
            for name, error in failed.items():
                warnings.warn(f"{name} failed, and is tried again without --shard: {error}", stacklevel=2)
        return directory.folder

    def _measured(
        self, setting: S, directory: StudyDirectory, workers: int, progress: bool, cluster: Cluster | None
    ) -> Path:
        """Run the jobs and write the files."""
        out, failed = directory.out, dict[str, str]()
        for jobs in (self.first(setting), self.plan(setting)):
            self.prepare(setting, directory.missing(jobs), progress)
            preview = lambda: self.preview(setting, directory)
            failed |= directory.run(jobs, workers, progress, after=preview, cluster=cluster)
        own = self.gather(setting, directory)
        files = {method: method.file for method in getattr(setting, "own", ()) if method.file}
        results = {
            "setting": own["setting"],
            "command": command_line(),
            "date": str(date.today()),
            "version": __version__,
            "seconds": round(directory.seconds, 1),
            "failed": failed,
            **({"method_files": files} if files else {}),
            **own,
        }
        write_json(out / "results.json", results)
        write_text(out / "tables.md", self.tables(results))
        return self.report(results, out)
