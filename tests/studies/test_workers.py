"""Worker processes of studies."""

import multiprocessing
import threading
from types import SimpleNamespace

from scoredistill.studies.harness.workers import Workers


def test_a_worker_that_died_between_jobs_is_replaced_and_its_job_is_done(monkeypatch):
    """The first worker is dead when it is given its job."""
    started = []

    def start(self):
        ours, theirs = multiprocessing.Pipe()
        process = SimpleNamespace(join=lambda _: None, terminate=lambda: None, is_alive=lambda: False, exitcode=-9)
        if started:
            threading.Thread(target=lambda: [theirs.send(theirs.recv() ** 2) for _ in "ab"], daemon=True).start()
        else:
            theirs.close()
        started.append(theirs)
        self._running[ours] = (process, None)

    monkeypatch.setattr(Workers, "_start", start)
    with Workers(1, abs) as pool:
        assert dict(pool.map([2, 3])) == {2: 4, 3: 9}
    assert len(started) == 2
