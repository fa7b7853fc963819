r"""Diffusers pipelines as priors: Stable Diffusion 1.x and 2.x and everything in their format.

    prior = load_prior("stable-diffusion-v1-5/stable-diffusion-v1-5", dtype=torch.float16, device="cuda")
    cond = prior.encode_text(["a hamburger"])

Time t in [0, 1] is the scheduler's time step t (T - 1), its own table is the schedule, and its own time steps are those
of `sampling.ddim`, which therefore equals the pipeline. Networks that predict the noise, v or the clean sample are all
converted to the noise (`base.from_prediction`).
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Cond, Prior, expand_cond, from_prediction
from scoredistill.schedule import Tabulated, per_sample

BUNDLED = ("emoji",)
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
PIPELINES = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
SNAP = 1e-3  # time steps this near to a whole number are meant to be it


class StableDiffusionPrior(Prior):
    """Prior of a `StableDiffusionPipeline`: latents, with a text condition {"text": [b, tokens, features]}.

    Particles stay in their own dtype and on their own device; the networks run in theirs. The pipeline's networks are
    frozen and put in evaluation mode; LoRA adapters loaded in it keep working.

    Attributes:
        pipeline: the diffusers pipeline.
        name: what the model is called in reports.
        latent_shape: (channels, height, width) of the samples of the model's own picture size.
        picture_size: (height, width) the model was made for, in pixels.
    """

    def __init__(self, pipeline: Any, name: str | None = None):
        scheduler = pipeline.scheduler
        kind = scheduler.config.get("prediction_type", "epsilon")
        if kind not in PREDICTIONS:
            raise ValueError(f"prediction type {kind!r} is not supported: {', '.join(PREDICTIONS)} are")
        if getattr(scheduler, "alphas_cumprod", None) is None:
            raise ValueError(
                f"{type(scheduler).__name__} has no alphas_cumprod: load the pipeline with a DDIMScheduler"
            )
        networks: list[Any] = [getattr(pipeline, part, None) for part in ("unet", "vae", "text_encoder")]
        if None in networks:
            raise ValueError("the pipeline lacks a unet, vae or text_encoder: load it with all three")
        for network in networks:
            network.requires_grad_(False).eval()
        self.pipeline = pipeline
        self.name = name or pipeline.config.get("_name_or_path") or type(pipeline).__name__
        self.prediction = PREDICTIONS[kind]
        self.schedule: Tabulated = Tabulated(scheduler.alphas_cumprod)
        self.unet, self.vae, _ = networks
        side, self.factor = self.unet.config.sample_size or 64, pipeline.vae_scale_factor
        height, width = (side, side) if isinstance(side, int) else side
        self.latent_shape = (self.unet.config.in_channels, height, width)
        self.picture_size = (height * self.factor, width * self.factor)
        self._shift = self.vae.config.get("shift_factor") or 0.0
        self._text: dict[str, Tensor] = {}

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @torch.no_grad()
    def eps(self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"], cond: Cond | None = None) -> Float[Tensor, "b *d"]:
        return self.predict(self.unet, x_t, t, cond)[1]

    @torch.no_grad()
    def denoise(
        self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"], cond: Cond | None = None
    ) -> Float[Tensor, "b *d"]:
        return self.predict(self.unet, x_t, t, cond)[0]

    def predict(
        self, unet: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond | None = None
    ) -> tuple[Tensor, Tensor]:
        """(x0, eps) from one batched call of `unet`, or of what stands in for it; differentiable, unlike `eps`."""
        cond = self.encode_text([""]) if cond is None else cond
        alpha, sigma = (per_sample(c, x_t) for c in self.schedule(t))
        step = t.to(torch.float32) * (len(self.schedule) - 1)
        whole = step.round()
        step = torch.where((step - whole).abs() < SNAP, whole, step).clamp(min=0)
        text = expand_cond(cond, len(x_t))["text"]
        place = {"device": self.device, "dtype": self.unet.dtype}
        out = unet(x_t.to(**place), step.to(self.device), text.to(**place), return_dict=False)[0]
        return from_prediction(self.prediction, out.to(x_t), x_t, alpha, sigma)

    def student(self, x: Float[Tensor, "b *d"]) -> Prior:
        """A copy of this prior that learns through LoRA and shares its weights, see `lora.LoraStudent`."""
        from scoredistill.priors.lora import LoraStudent  # imported late: it stands on this module

        return LoraStudent(self)

    @torch.no_grad()
    def encode_text(self, prompts: str | Sequence[str]) -> dict[str, Tensor]:
        """Condition of one prompt or of a list with one per sample. Each distinct prompt is encoded once.

        (Until `forget_text`, to be called when the text encoder changes, for example by a LoRA adapter.)
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        new = [p for p in dict.fromkeys(prompts) if p not in self._text]
        if new:
            embeddings, _ = self.pipeline.encode_prompt(new, self.device, 1, False)
            self._text.update(zip(new, embeddings.split(1), strict=True))
        return {"text": torch.cat([self._text[p] for p in prompts]).to(self.device)}

    def forget_text(self) -> None:
        """Encode prompts anew from now on."""
        self._text.clear()

    def null(self, cond: Cond) -> Cond:
        return self.encode_text([""])

    def encode_image(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c p q"]:
        """Pictures in [0, 1] to latents (the posterior's mode), differentiably; sides divide by the VAE's factor."""
        if images.shape[-1] % self.factor or images.shape[-2] % self.factor:
            size = f"{images.shape[-2]}x{images.shape[-1]}"
            raise ValueError(f"picture sides must be multiples of {self.factor}, not {size}")
        encoded = self.vae.encode((2 * images - 1).to(self.device, self.vae.dtype))
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return (latents.to(images) - self._shift) * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, x: Float[Tensor, "b c p q"]) -> Float[Tensor, "b 3 h w"]:
        latents = x / self.vae.config.scaling_factor + self._shift
        pictures = self.vae.decode(latents.to(self.device, self.vae.dtype)).sample
        return (pictures.to(x) / 2 + 0.5).clamp(0, 1)

    def times(self, steps: int) -> Float[Tensor, "{steps} 2"]:
        """The times of the pipeline's DDIM scheduler, which goes to `from` - T // steps whatever the next `from` is.

        It ends at the table's first entry, or before it, where data are clean (`set_alpha_to_one`, see `Tabulated`).
        """
        from diffusers import DDIMScheduler  # imported late: it costs seconds, and the core needs it nowhere else

        scheduler = DDIMScheduler.from_config(self.pipeline.scheduler.config)
        scheduler.set_timesteps(steps)
        start, last = scheduler.timesteps.double(), len(self.schedule) - 1
        to = start - len(self.schedule) // steps
        end = -1.0 if scheduler.config.set_alpha_to_one else 0.0
        return torch.stack([start, torch.where(to < 0, end, to)], 1) / last


def load_prior(
    source: Any = "emoji",
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    revision: str | None = None,
    variant: str | None = None,
    local_files_only: bool = False,
) -> StableDiffusionPrior:
    """Load a diffusion model as a prior.

    Args:
        source: "emoji" (bundled), a hub name such as "stable-diffusion-v1-5/stable-diffusion-v1-5", a local folder with
            a `model_index.json`, or a ready pipeline object.
        dtype: of the networks, float32 by default (a ready pipeline keeps its own); particles stay float32.
        device: "cuda" if there is one by default, else "cpu" (a ready pipeline stays where it is).
        revision, variant, local_files_only: as in diffusers' `from_pretrained`.

    Raises:
        ValueError: if there is no such model, it is of a kind that is not supported, or is not in safetensors.
    """
    if isinstance(dtype, str):
        dtype = _dtype(dtype)
    if device is not None:
        device = _device(device)
    if not isinstance(source, (str, Path)):
        _check_kind(type(source).__mro__)
        if dtype is not None or device is not None:
            source = source.to(*(given for given in (device, dtype) if given is not None))
        return StableDiffusionPrior(source)
    folder = prior_folder(source)
    options = {"revision": revision, "local_files_only": local_files_only or Path(folder).is_dir()}
    pipeline = _load_pipeline(folder, {"torch_dtype": dtype or torch.float32, "variant": variant}, options)
    return StableDiffusionPrior(pipeline.to(device or ("cuda" if torch.cuda.is_available() else "cpu")), str(source))


def bundled_folder(name: str) -> Path:
    """Where the package keeps a bundled model."""
    return Path(str(files("scoredistill.priors"))) / "bundled" / name


def prior_folder(source: str | Path) -> str:
    """The folder or hub name that `load_prior(source)` reads, after checking what can be checked without reading it."""
    if str(source) in BUNDLED:
        return str(bundled_folder(str(source)))
    path = Path(source)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ValueError(f"{path} is not a diffusers pipeline: it has no model_index.json")
        return str(path)
    if path.exists() or str(source).count("/") != 1 or not all(str(source).split("/")):
        raise ValueError(
            f"no prior {str(source)!r}: give {', '.join(map(repr, BUNDLED))} (bundled), a folder with a diffusers "
            "pipeline, or a hub name such as 'stable-diffusion-v1-5/stable-diffusion-v1-5'"
        )
    return str(source)


@contextmanager
def quietly() -> Iterator[None]:
    """Load models without the libraries' progress bars, and their advice that does not concern our users.

    (torchvision is left out on purpose, and `torch_dtype` is the one spelling that all admitted versions take.)
    """
    import diffusers
    import transformers

    libraries = (diffusers.utils.logging, transformers.utils.logging)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for library, (level, bars) in zip(libraries, before, strict=True):
            library.set_verbosity(level)
            if bars:
                library.enable_progress_bar()


def _load_pipeline(folder: str, precision: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    from diffusers import DiffusionPipeline

    # a hub download may take long: there, the libraries' own progress bars stay
    with quietly() if Path(folder).is_dir() else nullcontext():
        try:
            index = DiffusionPipeline.load_config(folder, **options)
        except Exception as error:
            raise _failure(folder, error) from error
        _check_kind(index["_class_name"])
        if "safety_checker" in index:  # it looks at finished pictures, which distillation does not make
            precision = {**precision, "safety_checker": None, "requires_safety_checker": False}
        try:
            return DiffusionPipeline.from_pretrained(folder, use_safetensors=True, **precision, **options)
        except Exception as error:
            raise _failure(folder, error) from error


def _failure(folder: str, error: Exception) -> ValueError:
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    return ValueError(f"cannot load {folder!r} as a pipeline with safetensors weights: {reason}")


def _check_kind(kind: str | tuple[type, ...]) -> None:
    """Raise ValueError unless the class, by name or with those it inherits from, is a pipeline we know."""
    names = [kind] if isinstance(kind, str) else [c.__name__ for c in kind]
    if not set(names) & set(PIPELINES):
        raise ValueError(
            f"{names[0]} is not supported yet: {' and '.join(PIPELINES)} (Stable Diffusion 1.x and 2.x) are; any "
            "network can be wrapped with Prior.from_callable(fn, schedule, prediction)"
        )


def _device(device: str | torch.device) -> torch.device:
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}: use cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("this torch sees no CUDA device: use device cpu, or install a CUDA build of torch")
    return device


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"unknown dtype {name!r}: use float32, float16 or bfloat16")
    return dtype
