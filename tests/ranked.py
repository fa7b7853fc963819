"""Several ranks in a test: forked processes, which have imported PyTorch already, connected by gloo."""

import io
import multiprocessing
import os
import tempfile
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

forks = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are forked")
PATIENCE = 120.0  # seconds, for a machine that does much else


def run(size, function, *arguments):
    """What the function returns on each rank.

    Raises:
        AssertionError: with the traceback of a rank whose function raised an error.
    """
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe(duplex=False) for _ in range(size)]
        work = [
            context.Process(target=_work, args=(rank, size, Path(folder), into, function, arguments))
            for rank, (_, into) in enumerate(pipes)
        ]
        for process in work:
            process.start()
        for _, into in pipes:
            into.close()
        try:
            found = [_received(out) for out, _ in pipes]
        finally:
            for process in work:
                process.terminate()
                process.join()
    errors = [error for error, _ in found if error]
    assert not errors, "\n".join(errors)
    return [value for _, value in found]


def _received(pipe):
    try:
        if not pipe.poll(PATIENCE):
            return "a rank did not answer", None
        return torch.load(io.BytesIO(pipe.recv_bytes()), weights_only=False)
    except EOFError:
        return "a rank ended without an answer", None


def _work(rank, size, folder, pipe, function, arguments):
    try:
        torch.set_num_threads(1)
        store = dist.FileStore(str(folder / "store"), size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=PATIENCE))
        answer = None, function(*arguments)
    except BaseException:
        answer = traceback.format_exc(), None
    data = io.BytesIO()
    torch.save(answer, data)
    pipe.send_bytes(data.getvalue())
    os._exit(0)
