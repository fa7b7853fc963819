"""The training loop of all networks: AdamW, warm-up, cosine decay, moving average, and checkpoints for resuming.

    learning rate     lr(s) = lr_max min(1, s / s_warm) (1 + cos(pi p)) / 2,    p in [0, 1] the progress
    moving average    theta_ema <- theta_ema + (1 - d_s) (theta - theta_ema),   d_s = min(d, (1 + s) / (10 + s))

Progress is measured in steps or minutes. All random numbers of step s come from generators seeded by s, so a killed run
resumes as if it had not been interrupted.
"""

from __future__ import annotations

import copy
import json
import math
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from scoredistill.files import atomic

Loss = Callable[[Any, torch.Generator], Tensor]
Draw = Callable[[Any, Path], None]  # saves samples of a network as an image


@dataclass(frozen=True)
class Plan:
    """Duration and learning rates of a training.

    Attributes:
        batch: images per part of a step; used by the losses.
        lr: peak learning rate.
        steps: number of steps, unless `minutes` is given.
        minutes: training time in minutes, summed over resumed runs; 0 loads the last checkpoint without training.
        warmup: steps of linear warm-up.
        decay: d of the moving average.
        weight_decay: of AdamW.
        save_minutes: minutes between checkpoints.
        slow: prefix of the names of parameters that learn at `slow_factor` times the rate.
        slow_factor: see `slow`.
        bfloat16: compute in bfloat16 by autocast; weights and optimizer stay in float32.
        parts: number of losses, computed in parallel threads, whose mean is the loss of a step. On two cores, two parts
            with one thread each (`--threads 1`) are faster than one part with two threads.
    """

    batch: int
    lr: float
    steps: int = 0
    minutes: float | None = None
    warmup: int = 200
    decay: float = 0.999
    weight_decay: float = 0.01
    save_minutes: float = 3.0
    slow: str = "-"
    slow_factor: float = 1.0
    bfloat16: bool = False
    parts: int = 1

    def progress(self, step: int, seconds: float) -> float:
        """Completed fraction of the training, in [0, 1]; a plan of 0 steps or minutes is complete."""
        done, total = (step, self.steps) if self.minutes is None else (seconds, 60 * self.minutes)
        return min(1.0, done / total) if total else 1.0

    def rate(self, step: int, progress: float) -> float:
        """Learning rate at a step."""
        return self.lr * min(1.0, (step + 1) / self.warmup) * (1 + math.cos(math.pi * progress)) / 2


class Run:
    """A network in training, with everything that a checkpoint holds.

    Args:
        network: to train.
        plan: duration and rates.
        folder: of the checkpoint, which is loaded if it exists, and the log.
        device: to train on.
    """

    def __init__(self, network: nn.Module, plan: Plan, folder: Path, device: str = "cpu") -> None:
        self.network, self.plan, self.folder, self.device = network.to(device), plan, folder, device
        self.average: Any = copy.deepcopy(self.network).requires_grad_(False).eval()
        slow = [p for name, p in network.named_parameters() if p.requires_grad and name.startswith(plan.slow)]
        fast = [p for name, p in network.named_parameters() if p.requires_grad and not name.startswith(plan.slow)]
        groups = [{"params": fast, "factor": 1.0}, {"params": slow, "factor": plan.slow_factor}]
        self.optimizer = torch.optim.AdamW(groups, lr=plan.lr, betas=(0.9, 0.98), weight_decay=plan.weight_decay)
        self.step, self.seconds = 0, 0.0
        self.pool = ThreadPoolExecutor(plan.parts)
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self.load()

    @property
    def path(self) -> Path:
        """Path of the checkpoint."""
        return self.folder / "checkpoint.pt"

    @property
    def progress(self) -> float:
        """Completed fraction of the training, in [0, 1]."""
        return self.plan.progress(self.step, self.seconds)

    def save(self) -> None:
        """Write the checkpoint atomically: a process killed meanwhile leaves the previous one intact."""
        state = {name: getattr(self, name).state_dict() for name in ("network", "average", "optimizer")}
        with atomic(self.path) as draft:
            torch.save(state | {"step": self.step, "seconds": self.seconds}, draft)

    def load(self) -> None:
        """Load the checkpoint."""
        state = torch.load(self.path, map_location=self.device, weights_only=True)
        for name in ("network", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]

    def log(self, loss: float) -> None:
        """Append a line to log.jsonl."""
        line = {"step": self.step, "seconds": round(self.seconds, 1), "loss": round(loss, 5)}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def update(self, loss: Loss) -> float:
        """Make one optimizer step and return the loss."""
        started = time.monotonic()
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * self.plan.rate(self.step, self.progress)
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        value = sum(self.pool.map(lambda part: self.backward(loss, part), range(self.plan.parts)))
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.update_average()
        self.step += 1
        self.seconds += time.monotonic() - started
        return value

    def backward(self, loss: Loss, part: int) -> float:
        """Accumulate the gradient of one part, and return its contribution to the loss."""
        rng = torch.Generator().manual_seed(1_000_003 * (self.step + 1) + part)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.plan.bfloat16):
            value = loss(self.network, rng) / self.plan.parts
        value.backward()
        return float(value.detach())

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the moving average towards the network."""
        decay = min(self.plan.decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        for mean, buffer in zip(self.average.buffers(), self.network.buffers(), strict=True):
            mean.copy_(buffer)


class Interrupt:
    """Context manager in which SIGINT and SIGTERM only request a stop, so that the current step is completed."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Interrupt:
        signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        self.before = {number: signal.signal(number, self.request) for number in signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def request(self, *_: object) -> None:
        """Request a stop; the signal handler."""
        self.requested = True


def train(run: Run, loss: Loss, draw: Draw, name: str) -> Any:
    """Train to the end of the plan; a complete run returns at once.

    Every `save_minutes` and at the end, a checkpoint, a sample grid (samples.png) and a line of log.jsonl are written.
    SIGINT (Ctrl-C) and SIGTERM save a checkpoint and exit.

    Args:
        run: the network in training.
        loss: (network, rng) -> scalar loss of one part of a step.
        draw: saves samples of the averaged network as an image.
        name: of the network, for the progress bar.

    Returns:
        The moving average of the network.

    Raises:
        SystemExit: if a signal stopped the training.
    """
    saved, recent = time.monotonic(), 0.0
    layout = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
    with (
        tqdm(total=1.0, initial=run.progress, desc=name, bar_format=layout, mininterval=1.0) as bar,
        Interrupt() as stop,
    ):
        while run.progress < 1 and not stop.requested:
            value = run.update(loss)
            recent = value if recent == 0 else 0.98 * recent + 0.02 * value
            bar.set_postfix(step=run.step, loss=f"{recent:.4f}", refresh=False)
            bar.update(run.progress - bar.n)
            if run.progress >= 1 or stop.requested or time.monotonic() - saved > 60 * run.plan.save_minutes:
                run.save()
                run.log(recent)
                if not stop.requested:
                    draw(run.average, run.folder / "samples.png")
                saved = time.monotonic()
    if stop.requested:
        raise SystemExit(f"stopped at {run.progress:.0%}: run the same command to resume")
    return run.average
