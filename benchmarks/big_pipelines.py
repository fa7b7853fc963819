"""What a step costs on big pipelines beside the network calls it must make, and its memory; weights are random.

    python benchmarks/big_pipelines.py --device cuda --dtype bfloat16 --kind sdxl --size 1024 --particles 8

Networks have the shapes of Stable Diffusion 1.5 (sd15), Stable Diffusion XL (sdxl), or few channels (tiny). In each
case a step, and the calls of the networks that it was seen to make, are timed alternately; medians. Text is encoded
before the loop, so its encoder is a small one. Results are added to what the file of --out has of other settings.
"""

import argparse
import gc
import json
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from scoredistill import load_prior
from scoredistill.estimators import MSD, SDS, CSDEdit, Estimator
from scoredistill.generators import Encoded, Generator, Latents, Pixels
from scoredistill.loop import distill
from scoredistill.priors import Guided, ImageGuided

ROOT = Path(__file__).resolve().parents[1]
WARM = 2
CROSS, PLAIN = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")


@dataclass(frozen=True)
class Kind:
    """Shapes of a pipeline's networks."""

    unet: dict[str, Any]
    blocks: tuple[tuple[str, str], ...]
    vae: tuple[int, ...]
    text: int
    pooled: int | None = None

    def network(self, channels: int, sample: int) -> nn.Module:
        return diffusers.UNet2DConditionModel(
            in_channels=channels, out_channels=4, sample_size=sample, cross_attention_dim=self.text,
            down_block_types=tuple(down for down, _ in self.blocks),
            up_block_types=tuple(up for _, up in reversed(self.blocks)), **self.unet,
        )  # fmt: skip

    def autoencoder(self, size: int) -> nn.Module:
        n = len(self.vae)
        return diffusers.AutoencoderKL(
            block_out_channels=self.vae, down_block_types=("DownEncoderBlock2D",) * n, sample_size=size,
            up_block_types=("UpDecoderBlock2D",) * n, layers_per_block=2, latent_channels=4,
        )  # fmt: skip


KINDS = {
    "tiny": Kind({"block_out_channels": (32, 64), "layers_per_block": 1}, (PLAIN, CROSS), (32, 32), 32),
    "sd15": Kind(
        {"block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": 8}, (CROSS, CROSS, CROSS, PLAIN),
        (128, 256, 512, 512), 768,
    ),
    "sdxl": Kind(
        {
            "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20), "use_linear_projection": True,
            "transformer_layers_per_block": (1, 2, 10), "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
        },
        (PLAIN, CROSS, CROSS), (128, 256, 512, 512), 2048, 1280,
    ),
}  # fmt: skip


def filled(make: Callable[[], nn.Module], device: str, dtype: torch.dtype) -> nn.Module:
    """A network with random weights, made where it shall be: layer by layer on the CPU it would take minutes."""
    with torch.device("meta"):
        network = make().to(dtype)
    network.to_empty(device=device)
    for name, parameter in network.named_parameters():
        nn.init.normal_(parameter, float("norm" in name and name.endswith("weight")), 0.02)
    return network


def pipeline_of(kind: Kind, size: int, edit: bool, device: str, dtype: torch.dtype) -> Any:
    factor = 2 ** (len(kind.vae) - 1)
    config = CLIPTextConfig(
        vocab_size=99, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1
    )
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False
    )
    parts: dict[str, Any] = {
        "vae": filled(lambda: kind.autoencoder(size), device, dtype),
        "unet": filled(lambda: kind.network(8 if edit else 4, size // factor), device, dtype),
        "text_encoder": CLIPTextModel(config).to(device, dtype),
        "tokenizer": None,
        "scheduler": scheduler,
    }
    name = "InstructPix2PixPipeline" if edit else "Pipeline"
    if kind.pooled is not None:
        parts |= {"text_encoder_2": CLIPTextModelWithProjection(config).to(device, dtype), "tokenizer_2": None}
        return getattr(diffusers, f"StableDiffusionXL{name}")(**parts)
    parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return getattr(diffusers, f"StableDiffusion{name}")(**parts)


class Bench:
    """Times and memory of steps of one prior."""

    def __init__(self, options: argparse.Namespace, edit: bool):
        self.options, self.kind = options, KINDS[options.kind]
        pipeline = pipeline_of(self.kind, options.size, edit, options.device, getattr(torch, options.dtype))
        self.prior = load_prior(pipeline, max_rows=options.max_rows, channels_last=options.channels_last)

    def words(self, seed: int) -> dict[str, Tensor]:
        """A condition as the text encoders would have made it."""
        g = torch.Generator().manual_seed(seed)
        made = {"text": torch.randn(1, 77, self.kind.text, generator=g)}
        if self.kind.pooled is not None:
            made["pooled"] = torch.randn(1, self.kind.pooled, generator=g)
        return {name: value.to(self.options.device) for name, value in made.items()}

    def latents(self) -> Tensor:
        shape = self.options.particles, *self.prior.latent_shape
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.options.device)

    def distilled(self, estimator: Estimator, generator: Generator) -> dict[str, Any]:
        guided = Guided(self.prior, 7.5, uncond=self.words(1))
        run = distill(generator, guided, estimator, self.words(0), steps=self.options.steps + WARM + 1)
        return self.measured(lambda: next(run), generator)

    def edited(self) -> dict[str, Any]:
        start = self.latents()
        guided = ImageGuided(self.prior, 7.5, 1.5, uncond=self.words(1))
        generator, cond = Latents.of(start), self.words(0) | {"image": start}
        run = distill(generator, guided, CSDEdit(), cond, source=start, steps=self.options.steps + WARM + 1)
        return self.measured(lambda: next(run), generator)

    def measured(self, step: Callable[[], object], generator: Generator) -> dict[str, Any]:
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        hook = self.prior.network.register_forward_pre_hook(
            lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
        )
        step()
        hook.remove()

        @torch.no_grad()
        def unet() -> None:
            for args, kwargs in calls:
                self.prior.network(*args, **kwargs)

        def encoder() -> None:
            images = torch.rand(self.options.particles, 3, self.options.size, self.options.size)
            images = images.to(self.options.device, self.prior.codec.vae.dtype).requires_grad_()
            self.prior.codec.vae.encode(images).latent_dist.mode().sum().backward()

        bare = {"unet": unet, "encoder": encoder} if isinstance(generator, Encoded) else {"unet": unet}
        timed = {"step": step, **bare}
        rows = [{name: self.timed(call) for name, call in timed.items()} for _ in range(WARM + self.options.steps)]
        found = {
            f"{name}_{unit}": statistics.median(row[name][i] for row in rows[WARM:])
            for name in rows[0]
            for i, unit in ((0, "ms"), (1, "gib"))
        }
        networks = sum(found[f"{name}_ms"] for name in bare)
        return {
            "network_calls": len(calls),
            "network_rows": sum(len(args[0]) for args, _ in calls),
            **{name: round(value, 3) for name, value in found.items() if name.endswith("ms") or self.cuda},
            "step_over_networks": round(found["step_ms"] / networks, 3),
        }

    def windowed(self) -> dict[str, Any]:
        """Gradient through the encoder of one image of twice the size, whole and in windows of the size."""
        side, codec = 2 * self.options.size, self.prior.codec
        image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(self.options.device)
        grads, found = {}, {}
        for name, window in (("whole", None), ("windows", self.options.size)):
            codec.window = window

            def through(name: str = name) -> None:
                leaf = image.clone().requires_grad_()
                latents = codec.encode(leaf)
                grads[name] = torch.autograd.grad(latents, leaf, latents.detach())[0]

            runs = [self.timed(through) for _ in range(3)][1:]
            found |= {f"{name}_ms": round(min(ms for ms, _ in runs), 1)}
            found |= {f"{name}_gib": round(max(gib for _, gib in runs), 3)} if self.cuda else {}
        codec.window = None
        error = (grads["windows"] - grads["whole"]).norm() / grads["whole"].norm()
        return {"side": side, "window": self.options.size, **found, "gradient_error": float(f"{error:.1e}")}

    @property
    def cuda(self) -> bool:
        return self.options.device.startswith("cuda")

    def timed(self, call: Callable[[], object]) -> tuple[float, float]:
        """(milliseconds, peak of allocated device memory in GiB)."""
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        call()
        if self.cuda:
            torch.cuda.synchronize()
        spent = 1000 * (time.perf_counter() - start)
        return spent, torch.cuda.max_memory_allocated() / 2**30 if self.cuda else 0.0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    bench, results = Bench(options, edit=False), {}
    pixels = lambda: Pixels(options.particles, (options.size, options.size)).to(options.device)
    cases: dict[str, Callable[[], dict[str, Any]]] = {
        "SDS, latents": lambda: bench.distilled(SDS(), Latents.of(bench.latents())),
        "MSD, latents": lambda: bench.distilled(MSD(), Latents.of(bench.latents())),
        "SDS, pixels through the encoder": lambda: bench.distilled(SDS(), Encoded(pixels(), bench.prior)),
        "windows": bench.windowed,
    }
    for name, case in cases.items():
        if options.only in name:
            results[name] = case()
            print(name, json.dumps(results[name]), flush=True)
    if options.only in "CSD-Edit, latents":
        del bench, cases
        gc.collect()
        results["CSD-Edit, latents"] = Bench(options, edit=True).edited()
        print("CSD-Edit, latents", json.dumps(results["CSD-Edit, latents"]), flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--particles", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--max-rows", type=int, help="rows of one network call at most")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/big_pipelines.json")
    options = parser.parse_args()
    diffusers.utils.logging.set_verbosity_error()
    start, results = time.perf_counter(), measure(options)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout
    settings = {name: value for name, value in vars(options).items() if name != "out"}
    report = {
        "settings": settings,
        "commit": commit.strip(),
        "date": str(date.today()),
        "torch": torch.__version__,
        "machine": torch.cuda.get_device_name() if options.device.startswith("cuda") else "CPU",
        "threads": torch.get_num_threads(),
        "resident_peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "seconds": round(time.perf_counter() - start, 1),
        "results": results,
    }
    before = json.loads(options.out.read_text()) if options.out.exists() else []
    kept = [each for each in before if each["settings"] != settings]
    options.out.write_text(json.dumps([*kept, report], indent=2) + "\n")


if __name__ == "__main__":
    main()
