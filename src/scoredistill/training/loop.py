"""One training loop for all three networks: AdamW, warm-up, cosine decay, moving average, checkpoints that resume.

Learning rate:  lr(s) = lr_max min(1, s / s_warm) (1 + cos(pi p)) / 2,  p in [0, 1] the progress, in steps or minutes.
Average:  theta_ema <- theta_ema + (1 - d_s) (theta - theta_ema),  d_s = min(d, (1 + s) / (10 + s)).
Step s draws all its randomness from generators seeded by s, so a run that was killed continues as if it had not been.
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

Loss = Callable[[Any, torch.Generator], Tensor]
Sheet = Callable[[Any, Path], None]


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Attributes:
        batch: images of a part of a step (read by the losses).
        parts: a step is the mean of this many losses, computed side by side in threads of their own; two parts on two
            cores, with one thread each (``--threads 1``), wait less for each other than the threads of one part.
        lr: peak learning rate.
        steps: stop after this many steps, unless `minutes` is given.
        minutes: stop after this much training time (over all runs) instead; 0 takes the last checkpoint as it is.
        warmup: steps of linear warm-up.
        decay: the moving average's d.
        weight_decay: AdamW's.
        save_minutes: time between checkpoints.
        slow: parameters whose name starts with this learn at `slow_factor` of the rate.
        bfloat16: compute in bfloat16 where torch's autocast says so; weights and optimizer stay in float32.
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
        """Done share of the training, in [0, 1]; a plan of no steps or no minutes is done."""
        done, total = (step, self.steps) if self.minutes is None else (seconds, 60 * self.minutes)
        return min(1.0, done / total) if total else 1.0

    def rate(self, step: int, progress: float) -> float:
        """Learning rate at a step."""
        return self.lr * min(1.0, (step + 1) / self.warmup) * (1 + math.cos(math.pi * progress)) / 2


class Run:
    """A network in training, with everything a checkpoint holds."""

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
        return self.folder / "checkpoint.pt"

    @property
    def progress(self) -> float:
        return self.plan.progress(self.step, self.seconds)

    def save(self) -> None:
        """Write the checkpoint; a kill at any moment leaves the old or the new one, never half."""
        state = {name: getattr(self, name).state_dict() for name in ("network", "average", "optimizer")}
        partial = self.path.with_suffix(".partial")
        torch.save(state | {"step": self.step, "seconds": self.seconds}, partial)
        partial.replace(self.path)

    def load(self) -> None:
        """Continue from the checkpoint."""
        state = torch.load(self.path, map_location=self.device, weights_only=True)
        for name in ("network", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]

    def log(self, loss: float) -> None:
        """Append a line to ``log.jsonl``."""
        line = {"step": self.step, "seconds": round(self.seconds, 1), "loss": round(loss, 5)}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def update(self, loss: Loss) -> float:
        """One optimizer step; returns the loss."""
        started = time.monotonic()
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * self.plan.rate(self.step, self.progress)
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        value = sum(self.pool.map(lambda part: self.backward(loss, part), range(self.plan.parts)))
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.follow()
        self.step += 1
        self.seconds += time.monotonic() - started
        return value

    def backward(self, loss: Loss, part: int) -> float:
        """Add one part's share of the gradient; returns its share of the loss."""
        rng = torch.Generator().manual_seed(1_000_003 * (self.step + 1) + part)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.plan.bfloat16):
            value = loss(self.network, rng) / self.plan.parts
        value.backward()
        return float(value.detach())

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average towards the network."""
        decay = min(self.plan.decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        for mean, buffer in zip(self.average.buffers(), self.network.buffers(), strict=True):
            mean.copy_(buffer)


class Interrupt:
    """While active, Ctrl-C and a polite kill only ask for a stop, so that the step at work is finished and saved."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Interrupt:
        signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        self.before = {number: signal.signal(number, self.ask) for number in signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def ask(self, *_: object) -> None:
        self.asked = True


def train(run: Run, loss: Loss, sheet: Sheet, name: str) -> Any:
    """Train to the end of the plan and return the averaged network; a finished run returns at once.

    Every `save_minutes` and at the end, a checkpoint and a sheet of images (``sheet.png``) are written, and a line to
    ``log.jsonl``. Ctrl-C or a polite kill saves and exits.
    """
    saved, recent = time.monotonic(), 0.0
    layout = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
    with (
        tqdm(total=1.0, initial=run.progress, desc=name, bar_format=layout, mininterval=1.0) as bar,
        Interrupt() as stop,
    ):
        while run.progress < 1 and not stop.asked:
            value = run.update(loss)
            recent = value if recent == 0 else 0.98 * recent + 0.02 * value
            bar.set_postfix(step=run.step, loss=f"{recent:.4f}", refresh=False)
            bar.update(run.progress - bar.n)
            if run.progress >= 1 or stop.asked or time.monotonic() - saved > 60 * run.plan.save_minutes:
                run.save()
                run.log(recent)
                if not stop.asked:
                    sheet(run.average, run.folder / "sheet.png")
                saved = time.monotonic()
    if stop.asked:
        raise SystemExit(f"Stopped at {run.progress:.0%}; the same command continues.")
    return run.average
