"""What all pipelines share: loading, devices, memory, progress, seeds, callbacks, and what their arguments may be."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scoredistill.loop import Step
from scoredistill.media.images import read_image, to_pil
from scoredistill.media.limits import EDITING
from scoredistill.priors.base import TextPrior
from scoredistill.priors.pipelines import NetworkPrior, RecordedPrior, load_prior
from scoredistill.priors.pipelines.load import checked_device
from scoredistill.priors.pipelines.modular import is_modular

P = TypeVar("P", bound="TaskPipeline")

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "half": torch.float16, "bf16": torch.bfloat16}
IGNORED = ("safety_checker", "requires_safety_checker", "use_safetensors", "feature_extractor", "image_encoder")
"""Options of diffusers' `from_pretrained` about what a prior does not have, or always does."""
SEEDS = 2**31 - 1
INSTEAD = {
    "latents": "the start is drawn from generator",
    "prompt_embeds": "give the prompt as text",
    "negative_prompt_embeds": "give the negative prompt as text",
    "ip_adapter_image": "distillation has the prompt only",
    "callback": "use callback_on_step_end",
    "callback_steps": "use callback_on_step_end",
    "timesteps": "give a Recipe with a time schedule as method",
    "sigmas": "give a Recipe with a time schedule as method",
    "strength": "use guidance_scale and image_guidance_scale",
    "eta": "the sampler is that of the method",
    "height": "images have the size of the source",
    "width": "images have the size of the source",
}
"""What to do in place of an argument of diffusers' pipelines that ours do not have."""


class TaskPipeline:
    """Abstract base of pipelines: a prior, and a task that is done with it.

    Args:
        prior: a loaded prior, a diffusers pipeline, or what `load_prior` loads: a bundled name, a directory, a file or
            a hub name.
        method: the method of the task, or one of your own (see `scoredistill.recipe`); the pipeline's by default.

    Attributes:
        prior: the prior.
        method: the method.

    Raises:
        ValueError: if there is no such prior, or it cannot do the task.
    """

    usual: ClassVar[str]
    renamed: ClassVar[Mapping[str, str]] = {}

    def __init__(self, prior: Any = None, method: Any = None):
        self.method = self.usual if method is None else method
        if prior is None:
            raise ValueError(f"give {type(self).__name__} a prior, or use {type(self).__name__}.from_pretrained(...)")
        loaded = prior if isinstance(prior, TextPrior) else load_prior(prior)
        self.prior: Any = self.accepted(loaded)
        self._progress = True

    def accepted(self, prior: TextPrior) -> TextPrior:
        """The prior, if it can do the task.

        Raises:
            ValueError: if it cannot.
        """
        raise NotImplementedError

    @classmethod
    def from_pretrained(
        cls: type[P],
        pretrained_model_name_or_path: Any,
        *,
        method: Any = None,
        torch_dtype: torch.dtype | str | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        **options: Any,
    ) -> P:
        """Load a model.

        Args:
            pretrained_model_name_or_path: what `load_prior` loads, a diffusers pipeline, or a loaded prior.
            method: see the class.
            torch_dtype, dtype: floating-point type of the networks, also "fp16", "bf16", "fp32" or "auto".
            device: of the networks.
            **options: of `load_prior`, such as variant, revision, token, local_files_only, config and offload;
                components of the model, such as unet=, replace its own.

        Raises:
            ValueError: if there is no such model, it cannot do the task, or an option does not exist.
        """
        if torch_dtype is not None and dtype is not None and _dtype(torch_dtype) != _dtype(dtype):
            raise ValueError(f"torch_dtype {torch_dtype} and dtype {dtype} differ: give one of them")
        place = {"dtype": _dtype(dtype if torch_dtype is None else torch_dtype), "device": device}
        given: dict[str, Any] = {name: value for name, value in place.items() if value is not None}
        if isinstance(pretrained_model_name_or_path, TextPrior):
            if given or options:
                names = ", ".join([*given, *options])
                raise ValueError(f"the prior is already loaded: give {names} to load_prior")
            return cls(pretrained_model_name_or_path, method)
        known = set(inspect.signature(load_prior).parameters) - {"source"}
        parts = dict(options.pop("parts", None) or {})
        for name in [name for name in options if name not in known]:
            value = options.pop(name)
            if name in IGNORED:
                continue
            if _is_component(name, value):
                parts[name] = value
            else:
                raise ValueError(
                    f"from_pretrained takes no {name}: its options are torch_dtype, {', '.join(sorted(known))}"
                )
        if parts:
            options["parts"] = parts
        return cls(load_prior(pretrained_model_name_or_path, **given, **options), method)

    @classmethod
    def from_single_file(cls: type[P], pretrained_model_link_or_path: str | Path, **options: Any) -> P:
        """Load a model from a single file of all weights (.safetensors); options are those of `from_pretrained`."""
        return cls.from_pretrained(pretrained_model_link_or_path, **options)

    @classmethod
    def from_pipe(cls: type[P], pipeline: Any, method: Any = None) -> P:
        """The pipeline of a diffusers pipeline's networks, or of another of these pipelines' prior."""
        return cls(pipeline.prior if isinstance(pipeline, TaskPipeline) else pipeline, method)

    def to(self: P, *place: Any, **named: Any) -> P:
        """Move the networks to a device, a dtype or both, as diffusers' `to`.

        Raises:
            ValueError: for a prior without networks, or one that was recorded, which keeps its device and dtype; for a
                device that is not there.
        """
        pipeline, before = self._networks("to"), self.prior
        place = tuple(_place(each) for each in place)
        named = {name: _place(each) for name, each in named.items()}
        if isinstance(before, RecordedPrior):
            raise ValueError(f"{before.name} was learned on its device: give device and dtype to from_pretrained")
        if any(hasattr(part, "_hf_hook") for part in pipeline.components.values()):
            raise ValueError(f"{before.name} is offloaded and keeps its device and dtype: load it again for others")
        pipeline.to(*place, **named)
        prior = load_prior(pipeline)  # anew: what it keeps, such as encoded prompts, is where it was
        prior.name, prior.max_rows, prior.codec.window = before.name, before.max_rows, before.codec.window
        self.prior = self.accepted(prior)
        return self

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: torch.device | str | None = None) -> None:
        """Keep each network on the CPU between its uses by a GPU.

        Raises:
            ValueError: without a GPU, or for a prior without networks.
        """
        self._offload("model", gpu_id, device)

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str | None = None
    ) -> None:
        """Keep each layer on the CPU between its uses by a GPU; slow.

        Raises:
            ValueError: without a GPU, or for a prior without networks.
        """
        self._offload("sequential", gpu_id, device)

    def enable_vae_tiling(self) -> None:
        """Encode and decode images that are larger than the model's own in windows, to bound memory."""
        self._networks("enable_vae_tiling")
        self.prior.codec.window = max(self.prior.image_size)

    def set_progress_bar_config(self, disable: bool = False, **others: Any) -> None:
        """Show or hide progress bars.

        Raises:
            ValueError: for other settings of progress bars.
        """
        if others:
            raise ValueError(f"progress bars can only be shown or hidden, with disable: leave out {', '.join(others)}")
        self._progress = not disable

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Save the model as a diffusers pipeline."""
        self._networks("save_pretrained").save_pretrained(save_directory, **options)

    @property
    def components(self) -> dict[str, Any]:
        """The components of the model, by name."""
        return dict(self._networks("components").components)

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return self.prior.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the networks."""
        return getattr(self.prior, "dtype", torch.float32)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(method={self.method}, prior={self.prior!r})"

    def _networks(self, what: str) -> Any:
        """The diffusers pipeline of the prior.

        Raises:
            ValueError: if it has none.
        """
        if not isinstance(self.prior, NetworkPrior):
            raise ValueError(f"{type(self.prior).__name__} has no networks: leave out {what}")
        return self.prior.pipeline

    def _offload(self, kind: str, gpu_id: int | None, device: torch.device | str | None) -> None:
        accelerators = (torch.cuda.is_available(), torch.backends.mps.is_available(), torch.xpu.is_available())
        pipeline = self._networks("offloading")
        if not any(accelerators):
            raise ValueError(
                "offload keeps weights on the CPU between their uses by a GPU, and there is none here: leave it out"
            )
        if is_modular(pipeline):
            raise ValueError("a modular pipeline is offloaded by its ComponentsManager, enable_auto_cpu_offload()")
        given = {"gpu_id": gpu_id, "device": device}
        getattr(pipeline, f"enable_{kind}_cpu_offload")(**{k: v for k, v in given.items() if v is not None})

    def _settings(self, options: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
        """Options of the task among the arguments of a call.

        Raises:
            ValueError: for an argument that does not exist, saying what to do instead.
        """
        wrong = [name for name, value in options.items() if name not in known and value is not None]
        for name in wrong:
            advice = INSTEAD.get(name) or f"its further arguments are {', '.join(sorted(known))}"
            raise ValueError(f"{type(self).__name__} takes no {name}: {advice}")
        return {name: value for name, value in options.items() if name in known}

    def _callback(
        self,
        asked: Callable[..., Any] | None,
        inputs: Sequence[str] | None,
        tensors: Callable[[Step], dict[str, Callable[[], Tensor]]],
    ) -> Callable[[Step], None] | None:
        """The callback of a task that calls diffusers' (pipe, index, t, tensors) -> changed tensors.

        Args:
            asked: the callback; t is in [0, 1].
            inputs: names of the tensors it takes; all by default.
            tensors: makes functions of tensors by name from a step; those that nobody asks for are not called.

        Raises:
            ValueError: for names that do not exist.
        """
        if asked is None:
            return None
        wanted = getattr(asked, "tensor_inputs", None) or inputs

        def after(step: Step) -> None:
            known = tensors(step)
            names = list(known) if wanted is None else list(wanted)
            if missing := [name for name in names if name not in known]:
                raise ValueError(f"a step has no {', '.join(missing)}: its tensors are {', '.join(known)}")
            given = {name: known[name]() for name in names}
            seen = {name: value.clone() for name, value in given.items()}  # changed in place, or returned
            changed = asked(self, step.index, step.t, dict(seen)) or {}
            for name, value in {**seen, **changed}.items():
                if name not in given or value.shape != given[name].shape or not torch.equal(value, given[name]):
                    replace_tensor(step, name, value)

        return after


def replace_tensor(step: Step, name: str, value: Tensor) -> None:
    """Put what a callback returns in the place of the latents.

    Raises:
        ValueError: if the step does not optimize latents, or the shape is another.
    """
    parameter = getattr(step.generator, "canvas", getattr(step.generator, "values", None))
    if name != "latents" or parameter is None:
        raise ValueError(f"a callback can change the latents where latents are optimized, not {name}: return {{}}")
    if value.shape != parameter.shape:
        raise ValueError(f"latents must have the shape {list(parameter.shape)}, not {list(value.shape)}")
    with torch.no_grad():
        parameter.copy_(value)


def seed_from(generator: Any) -> int:
    """A seed that a generator draws, or the global one of torch without a generator, as noise is drawn in diffusers.

    Raises:
        ValueError: if it is no generator.
    """
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ValueError(f"generator must be a torch.Generator or a list of them, not {type(generator).__name__}")
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(SEEDS, (), generator=generator, device=device))


def seeds_from(generator: Any, count: int) -> list[int]:
    """A seed for each run.

    Raises:
        ValueError: if there is not one generator, or a list of as many.
    """
    if isinstance(generator, Sequence):
        if len(generator) != count:
            raise ValueError(
                f"there are {len(generator)} generators for {count} run{'s'[: count > 1]}: give one, or one for each"
            )
        return [seed_from(each) for each in generator]
    return [seed_from(generator) for _ in range(count)]


def texts(value: Any, what: str, count: int | None = None, blank: bool = False) -> list[str]:
    """A text or a list of them as a list.

    Args:
        value: the text or texts.
        what: what they are, for messages.
        count: how many are needed; a single text is repeated.
        blank: whether a text may be empty.

    Raises:
        ValueError: if it is neither, one is empty, or their number is another.
    """
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, Sequence) or not several or not all(isinstance(text, str) for text in several):
        raise ValueError(f"{what} must be a text or a list of texts, not {value!r}")
    if not blank and not all(text.strip() for text in several):
        raise ValueError(f"the {what} is empty: describe what to make or to change")
    if count is not None and len(several) == 1:
        several = list(several) * count
    if count is not None and len(several) != count:
        raise ValueError(f"there are {len(several)} {what}s for {count}: give one, or one for each")
    return list(several)


def images_of(image: Any) -> list[Image.Image]:
    """Images of any of diffusers' forms as PIL images.

    Args:
        image: a PIL image, the path of a file, an array [h, w, 3] of bytes or of numbers in [0, 1], a tensor
            [3, h, w] in [0, 1], a batch of such arrays or tensors, or a list of any of them.

    Raises:
        ValueError: if it is none of these.
    """
    if isinstance(image, (list, tuple)):
        return [each for one in image for each in images_of(one)]
    if isinstance(image, Image.Image):
        return [image]
    if isinstance(image, (str, Path)):
        return [read_image(image, EDITING, transparency=True)]
    if isinstance(image, np.ndarray) and image.ndim in (3, 4) and image.shape[-1] == 3:
        batch = torch.from_numpy(image.reshape(-1, *image.shape[-3:]).copy()).permute(0, 3, 1, 2)
        return to_pil(_in_range(batch))
    if isinstance(image, Tensor) and image.ndim in (3, 4) and image.shape[-3] == 3:
        return to_pil(_in_range(image.reshape(-1, *image.shape[-3:]).cpu()))
    shape = f" of shape {list(image.shape)}" if isinstance(image, (np.ndarray, Tensor)) else ""
    raise ValueError(
        f"image must be a PIL image, a path, an array [h, w, 3], a tensor [3, h, w] or a list of them, not "
        f"a {type(image).__name__}{shape}"
    )


def _in_range(batch: Tensor) -> Tensor:
    """A batch of bytes or of numbers in [0, 1] as numbers in [0, 1].

    Raises:
        ValueError: if there are other numbers.
    """
    if batch.dtype == torch.uint8:
        return batch.float() / 255
    batch = batch.float()
    if not bool(((batch >= -1e-3) & (batch <= 1 + 1e-3)).all()):
        raise ValueError("the numbers of an image must be in [0, 1]: divide bytes by 255, or map [-1, 1] to [0, 1]")
    return batch


def _dtype(given: torch.dtype | str | None) -> torch.dtype | str | None:
    """A data type by any of its usual names; None for "auto"."""
    if given == "auto":
        return None
    if isinstance(given, str):
        given = given.removeprefix("torch.")
        found = DTYPES.get(given) or getattr(torch, given, None)
        return found if isinstance(found, torch.dtype) else given
    return given


def _place(given: Any) -> Any:
    """An argument of `to`: a data type by any of its usual names, or a device.

    Raises:
        ValueError: if there is no such device.
    """
    if not isinstance(given, (str, torch.device)):
        return given
    if isinstance(named := _dtype(str(given)), torch.dtype):
        return named
    return checked_device(given, ", or as a data type float32, float16 or bfloat16")


def _is_component(name: str, value: Any) -> bool:
    """Whether an option of loading is a component of the model, or one that is left out (None)."""
    known = value is None or isinstance(value, torch.nn.Module) or hasattr(value, "config")
    return known or name.startswith(("tokenizer", "scheduler", "text_encoder", "unet", "transformer", "vae"))
