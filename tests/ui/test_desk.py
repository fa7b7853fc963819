"""What the pages of the app share."""

import threading
import time
from contextlib import suppress

import fake_command
from scoredistill.ui.calls import IMAGE, Call
from scoredistill.ui.desk import Desk
from scoredistill.ui.files import Display
from scoredistill.ui.jobs import Queue, State


class Slow(Queue):
    """Without devices, and slow, so that both clicks look before either has queued the run."""

    def submit(self, call):
        time.sleep(0.05)
        return super().submit(call)


def test_two_clicks_queue_a_run_once(tmp_path):
    queue = Slow(fake_command.command, fake_command.nothing, tmp_path, ())
    queue.stop(queue.submit(Call(IMAGE, {"prompt": "a cat"}, tmp_path / "run")))
    desk = Desk(tmp_path, queue, Display(tmp_path / "shown"))

    def click():
        with suppress(ValueError):
            desk.resume("run")

    clicks = [threading.Thread(target=click) for _ in range(2)]
    for each in clicks:
        each.start()
    for each in clicks:
        each.join()
    assert [job.state for job in queue.jobs] == [State.STOPPED, State.QUEUED]
