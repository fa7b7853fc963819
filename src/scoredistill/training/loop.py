"""The training loop of all networks: AdamW or Muon, warm-up, cosine decay, averages, and checkpoints for resuming.

    learning rate    lr(s) = lr_max min(1, s / s_warm) (1 + cos(pi max(0, (p - 1 + c) / c))) / 2

where p in [0, 1] is the progress and c the fraction of the training in which the rate decays. Progress is measured in
steps, minutes or CPU minutes of this process, which compare recipes fairly on a shared machine. All random numbers of
step s come from generators seeded by s, so a killed run resumes as if it had not been interrupted.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from scoredistill.checkpoint import load_state, save_state
from scoredistill.training.averages import STDS, Averages
from scoredistill.training.muon import Muon, hidden_matrices

Loss = Callable[[Any, torch.Generator], Tensor]
Draw = Callable[[Any, Path], None]  # saves samples of a network as an image
CHECKPOINT = "checkpoint.safetensors"
Measure = Callable[[Any], float]  # a loss on held-out data


@dataclass(frozen=True)
class Plan:
    """Duration, optimizer and learning rates of a training.

    Attributes:
        batch: images per part of a step; used by the losses.
        lr: peak learning rate.
        steps: number of steps, unless `minutes` or `cpu_minutes` is given.
        minutes: training time in minutes, summed over resumed runs; 0 loads the last checkpoint without training.
        cpu_minutes: the same in CPU minutes of the process, of all its threads.
        warmup: steps of linear warm-up.
        cooldown: c, fraction of the training in which the rate decays to 0; it is constant before.
        optimizer: "adamw" for all parameters, or "muon" for matrices of hidden layers.
        weight_decay: of the optimizer.
        save_minutes: minutes between checkpoints.
        slow: prefix of the names of parameters that learn at `slow_factor` times the rate.
        slow_factor: see `slow`.
        bfloat16: compute in bfloat16 by autocast; weights and optimizer stay in float32.
        parts: number of losses, computed in parallel threads, whose mean is the loss of a step. On two cores, two parts
            with one thread each (`--threads 1`) are faster than one part with two threads.
        snapshots: number of snapshots of the averages, evenly spaced, for `averages.reconstruct`. Samples are drawn and
            the held-out loss is measured when one is saved; without snapshots, at every checkpoint.
    """

    batch: int
    lr: float
    steps: int = 0
    minutes: float | None = None
    cpu_minutes: float | None = None
    warmup: int = 200
    cooldown: float = 1.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = 0.01
    save_minutes: float = 3.0
    slow: str = "-"
    slow_factor: float = 1.0
    bfloat16: bool = False
    parts: int = 1
    snapshots: int = 0

    def progress(self, step: int, seconds: float, cpu_seconds: float = 0.0) -> float:
        """Completed fraction of the training, in [0, 1]; a plan of 0 steps or minutes is complete."""
        done, total = float(step), float(self.steps)
        if self.minutes is not None:
            done, total = seconds, 60 * self.minutes
        elif self.cpu_minutes is not None:
            done, total = cpu_seconds, 60 * self.cpu_minutes
        return min(1.0, done / total) if total else 1.0

    def rate(self, step: int, progress: float) -> float:
        """Learning rate at a step."""
        decayed = max(0.0, progress - 1 + self.cooldown) / self.cooldown if self.cooldown else 0.0
        return self.lr * min(1.0, (step + 1) / self.warmup) * (1 + math.cos(math.pi * decayed)) / 2


class Run:
    """A network in training, with everything that a checkpoint holds.

    Args:
        network: to train. Parameters that require no gradient stay as they are.
        plan: duration and rates.
        folder: of the checkpoint, which is loaded if it exists, the log and the snapshots.
        device: to train on.

    Attributes:
        step: number of completed steps.
        seconds, cpu_seconds: time and CPU time spent in steps.
        images: number of images seen.
        due: whether the progress has passed that of a snapshot since the last one.
    """

    def __init__(self, network: nn.Module, plan: Plan, folder: Path, device: str = "cpu") -> None:
        self.network, self.plan, self.folder, self.device = network.to(device), plan, folder, device
        self.averages = Averages(self.network)
        self.optimizers = build_optimizers(self.network, plan)
        self.step, self.seconds, self.cpu_seconds, self.images = 0, 0.0, 0.0, 0
        self.due = False
        self.pool = ThreadPoolExecutor(plan.parts)
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self.load()

    @property
    def path(self) -> Path:
        """Path of the checkpoint."""
        return self.folder / CHECKPOINT

    @property
    def average(self) -> Any:
        """The longer of the averaged networks, which is drawn, evaluated and exported."""
        return self.averages.networks[STDS[-1]]

    @property
    def progress(self) -> float:
        """Completed fraction of the training, in [0, 1]."""
        return self.plan.progress(self.step, self.seconds, self.cpu_seconds)

    def save(self) -> None:
        """Write the checkpoint atomically: a process killed meanwhile leaves the previous one intact."""
        counts = {name: getattr(self, name) for name in ("step", "seconds", "cpu_seconds", "images")}
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        networks = {"network": self.network.state_dict(), "averages": self.averages.state_dict()}
        save_state({**networks, "optimizers": optimizers, **counts}, self.path)

    def load(self) -> None:
        """Load the checkpoint.

        Raises:
            ValueError: if it is of another optimizer or network, or trained other parameters.
        """
        state = load_state(self.path)
        try:
            self.network.load_state_dict(state["network"])
            self.averages.load_state_dict(state["averages"])
            for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(
                f"{self.path} was trained with another optimizer, network or choice of parameters: "
                "remove it, or train in another folder"
            ) from error
        self.step, self.images = state["step"], state["images"]
        self.seconds, self.cpu_seconds = state["seconds"], state["cpu_seconds"]

    def log(self, loss: float, held_out: float | None = None) -> None:
        """Append a line to log.jsonl."""
        line = {"step": self.step, "images": self.images, "seconds": round(self.seconds, 1)}
        line |= {"cpu_seconds": round(self.cpu_seconds, 1), "loss": round(loss, 5)}
        if held_out is not None:
            line["held_out"] = round(held_out, 5)
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def update(self, loss: Loss) -> float:
        """Make one optimizer step and return the loss."""
        started, before, progress = time.monotonic(), time.process_time(), self.progress
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["factor"] * self.plan.rate(self.step, progress)
        self.network.train()
        self.network.zero_grad(set_to_none=True)
        if self.plan.parts == 1:
            value = self.backward(loss, 0)
        else:
            value = sum(self.pool.map(lambda part: self.backward(loss, part), range(self.plan.parts)))
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self.averages.update(self.network, self.step)
        self.images += self.plan.batch * self.plan.parts
        self.seconds += time.monotonic() - started
        self.cpu_seconds += time.process_time() - before
        self.due = self.due or self.snapshot_due(progress)
        return value

    def backward(self, loss: Loss, part: int) -> float:
        """Accumulate the gradient of one part, and return its contribution to the loss."""
        rng = torch.Generator().manual_seed(1_000_003 * (self.step + 1) + part)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.plan.bfloat16):
            value = loss(self.network, rng) / self.plan.parts
        value.backward()
        return float(value.detach())

    def snapshot(self) -> None:
        """Save a snapshot of the averages."""
        self.averages.snapshot(self.folder / "snapshots", self.step)
        self.due = False

    def snapshot_due(self, before: float) -> bool:
        """Whether the progress has passed a multiple of 1 / snapshots since `before`."""
        count = self.plan.snapshots
        return math.floor(count * self.progress) > math.floor(count * before)


def build_optimizers(network: nn.Module, plan: Plan) -> list[torch.optim.Optimizer]:
    """AdamW, preceded by Muon for the matrices of hidden layers if the plan asks for it."""
    hidden = {id(weight) for weight in hidden_matrices(network)} if plan.optimizer == "muon" else set()

    def groups(by_muon: bool) -> list[dict[str, Any]]:
        named = [(n, p) for n, p in network.named_parameters() if p.requires_grad and (id(p) in hidden) == by_muon]
        fast = [p for name, p in named if not name.startswith(plan.slow)]
        slow = [p for name, p in named if name.startswith(plan.slow)]
        return [{"params": fast, "factor": 1.0}, {"params": slow, "factor": plan.slow_factor}]

    adamw = torch.optim.AdamW(groups(False), lr=plan.lr, betas=(0.9, 0.98), weight_decay=plan.weight_decay)
    return [Muon(groups(True), plan.lr, weight_decay=plan.weight_decay), adamw] if hidden else [adamw]


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


def train(run: Run, loss: Loss, draw: Draw, name: str, measure: Measure | None = None) -> Any:
    """Train to the end of the plan; a complete run returns at once.

    Every `save_minutes`, at snapshots and at the end, a checkpoint and a line of log.jsonl are written; sample grids
    (samples.png) and held-out losses as described in `Plan.snapshots`. SIGINT (Ctrl-C) and SIGTERM save a checkpoint
    and exit.

    Args:
        run: the network in training.
        loss: (network, rng) -> scalar loss of one part of a step.
        draw: saves samples of the averaged network as an image.
        name: of the network, for the progress bar.
        measure: a loss of the averaged network on held-out data, for the log. It costs none of the training time.

    Returns:
        The averaged network.

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
            ends = run.progress >= 1
            if ends or run.due or stop.requested or time.monotonic() - saved > 60 * run.plan.save_minutes:
                shows = not stop.requested and (ends or run.due or not run.plan.snapshots)
                if run.due:
                    run.snapshot()
                run.save()
                run.log(recent, measure(run.average) if shows and measure is not None else None)
                if shows:
                    draw(run.average, run.folder / "samples.png")
                saved = time.monotonic()
    if stop.requested:
        raise SystemExit(f"stopped at {run.progress:.0%}: run the same command to resume")
    return run.average
