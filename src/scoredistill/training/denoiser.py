"""Training of a small denoiser on samples of any distribution, and a cache of trained denoisers."""

import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from scoredistill.files import atomic
from scoredistill.priors.network import Denoiser, NetworkConfig

LABEL_DROPOUT = 0.1  # fraction of training points whose label is dropped: they train the unconditional model
WARMUP = 50  # steps

Sample = Callable[[int, torch.Generator], tuple[Tensor, Tensor | None]]  # (n, rng) -> points [n, d], labels [n] or None
After = Callable[[int, int, float], None]  # (step, steps, loss)


def train_denoiser(config: NetworkConfig, sample: Sample, after: After | None = None) -> Denoiser:
    """Train a denoiser, reproducibly: the same configuration and data give the same network.

    Args:
        config: of the network and its training.
        sample: draws training points and, if there are classes, their labels.
        after: called every 50 steps and after the last with (step, steps, loss).

    Returns:
        The moving average of the network, in evaluation mode.

    Raises:
        FloatingPointError: if training diverges.
    """
    rng = torch.Generator().manual_seed(config.seed)
    network, kept = Denoiser(config), Denoiser(config)
    optimizer = torch.optim.Adam(network.parameters(), config.lr, betas=(0.9, 0.99))
    for step in range(config.steps):
        decay = 0.5 * (1 + math.cos(math.pi * step / config.steps))
        optimizer.param_groups[0]["lr"] = config.lr * decay * min(1.0, (step + 1) / WARMUP)
        y, label = sample(config.batch, rng)
        if label is not None:
            dropped = torch.rand(len(y), generator=rng) < LABEL_DROPOUT
            label = torch.where(dropped, -1, label)
        r = (config.log_mean + config.log_std * torch.randn(len(y), generator=rng)).exp()
        z = y + r[:, None] * torch.randn(y.shape, generator=rng)
        weight = (r**2 + config.sigma_data**2) / (r * config.sigma_data) ** 2
        loss = (weight * (network(z, r, label) - y).square().mean(1)).mean()
        if not loss.isfinite():
            raise FloatingPointError(f"training diverged at step {step}: use a smaller lr than {config.lr:g}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate = 1 - min(config.average, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(kept.parameters()), list(network.parameters()), rate)
        if after is not None and (step % 50 == 0 or step + 1 == config.steps):
            after(step + 1, config.steps, loss.item())
    return kept.eval().requires_grad_(False)


def cached_denoiser(
    name: str, config: NetworkConfig, sample: Sample, folder: str | Path | None = None, after: After | None = None
) -> Denoiser:
    """Load a trained denoiser from the cache, or train it and save its weights there as safetensors.

    Args:
        name: of the file, followed by a hash of the configuration and of 64 points of `sample`.
        config, sample, after: see `train_denoiser`.
        folder: of the cache; by default networks/ in $SCOREDISTILL_CACHE or ~/.cache/scoredistill.
    """
    root = Path(os.environ.get("SCOREDISTILL_CACHE", Path.home() / ".cache" / "scoredistill")) / "networks"
    root = root if folder is None else Path(folder)
    points, _ = sample(64, torch.Generator().manual_seed(0))
    data = hashlib.sha256(points.double().mul(1000).round().long().cpu().numpy().tobytes()).hexdigest()
    text = json.dumps({"name": name, "data": data, **asdict(config)}, sort_keys=True)
    path = root / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.safetensors"
    network = Denoiser(config).eval().requires_grad_(False)
    if path.is_file():
        try:
            with safe_open(path, "pt") as file:
                if file.metadata()["config"] == text:
                    network.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
                    return network
        except Exception as error:
            warnings.warn(f"{path} is damaged ({error}) and is trained again", stacklevel=2)
    network = train_denoiser(config, sample, after)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with atomic(path) as draft:
            save_file({k: v.contiguous() for k, v in network.state_dict().items()}, draft, metadata={"config": text})
    except OSError as error:
        warnings.warn(f"cannot keep the trained network in {root} ({error.strerror})", stacklevel=2)
    return network
