r"""The contract of priors: a diffusion model as a score function.

Its one abstract method predicts the noise, eps(x_t, t, cond). With x_t = alpha_t x + sigma_t n,

    denoise   E[x | x_t] = (x_t - sigma_t eps) / alpha_t          (Tweedie's formula)
    score     grad log p_t(x_t) = -eps / sigma_t

and in the coordinates z = x_t / alpha_t, r = sigma_t / alpha_t the denoiser is D(z; r) = E[y | z = y + r n].

A condition is a mapping of names to tensors whose first axis is the batch (or 1, for a condition that all samples
share), for example {"text": [b, 77, 768]}. The meaning of the names belongs to the prior.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.conditions import Cond
from scoredistill.priors.predictions import check_prediction, from_prediction
from scoredistill.priors.vocabulary import Knowledge, Vocabulary
from scoredistill.schedule import Schedule, per_sample

Terms = list[tuple[Tensor | float, Cond | None]]  # (coefficient [b] or one number, condition)


def check_instance(name: str, value: object, example: str) -> None:
    """Refuse a class, a function, a text or None in the place of an object.

    Args:
        name: what the value should be, such as "prior".
        value: what was given.
        example: an expression that makes such an object.

    Raises:
        ValueError: in one sentence that says what to give.
    """
    if isinstance(value, type):
        raise ValueError(f"{name} is the class {value.__name__}: give an instance, such as {value.__name__}(...)")
    if inspect.isfunction(value):
        raise ValueError(f"{name} is the function {value.__name__}: call it, such as {value.__name__}(...)")
    if isinstance(value, str):
        raise ValueError(f"{name} is the text {value[:80]!r}: give an object, such as {example}")
    if value is None:
        raise ValueError(f"{name} is None: give an object, such as {example}")


def check_prior(prior: object) -> None:
    """Refuse what is often given in the place of a prior: a name, a class, a network or a pipeline.

    Raises:
        ValueError: in one sentence that says what to give.
    """
    if isinstance(prior, Prior):
        return
    check_instance("prior", prior, "load_prior(name)")
    if isinstance(prior, torch.nn.Module):
        raise ValueError(
            f"prior is a network ({type(prior).__name__}), whose schedule is not known: wrap it by "
            "Prior.from_callable(network, schedule, prediction)"
        )
    if hasattr(prior, "scheduler"):
        raise ValueError(f"prior is a pipeline ({type(prior).__name__}): give load_prior(pipeline)")


class Prior(ABC):
    """Abstract base of diffusion models: the noise prediction and what follows from it.

    Attributes:
        schedule: the noise schedule t -> (alpha_t, sigma_t) of the model.
    """

    schedule: Schedule

    @abstractmethod
    def eps(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        """Predict the noise in x_t at times t in [0, 1]."""

    def denoise(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        """Predict the clean sample, E[x | x_t]."""
        alpha, sigma = (per_sample(c, x_t) for c in self.schedule(t))
        return (x_t - sigma * self.eps(x_t, t, cond)) / alpha

    def score(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        """Score of the noised density, grad log p_t(x_t); infinite at sigma_t = 0."""
        _, sigma = self.schedule(t)
        return -self.eps(x_t, t, cond) / per_sample(sigma, x_t)

    def denoise_at(
        self, z: Float[Tensor, " b *d"], ratio: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        """Denoise in clean coordinates, D(z; r) = E[y | z = y + r n]; r is clamped to the schedule's range."""
        t = self.schedule.time_of(ratio)
        alpha, _ = self.schedule(t)
        return self.denoise(per_sample(alpha, z) * z, t, cond)

    def null(self, cond: Cond) -> Cond:
        """Return the unconditional counterpart of `cond`, for classifier-free guidance.

        Raises:
            NotImplementedError: for priors without an unconditional mode.
        """
        raise NotImplementedError(f"{type(self).__name__} has no unconditional mode: pass uncond= to Guided")

    def terms(self, t: Float[Tensor, " b"], cond: Cond | None) -> Terms:
        """Return guidance as linear terms (a_k, cond_k): eps(x_t, t, cond) = sum_k a_k unguided.eps(x_t, t, cond_k)."""
        return [(1.0, cond)]

    @property
    def unguided(self) -> "Prior":
        """This prior without linear guidance."""
        return self

    def times(self, steps: int) -> Float[Tensor, "{steps} 2"]:
        """Return the decreasing (from, to) times of a sampler's steps, which evaluate the prior at `from`.

        A step's `to` is the next one's `from`, except for schedulers that round the two differently.
        """
        grid = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        return torch.stack([grid[:-1], grid[1:]], 1)

    def encode_image(self, images: Float[Tensor, "b k *p"]) -> Float[Tensor, " b *d"]:
        """Encode images in [0, 1] as samples of this prior; the identity for priors whose samples are images."""
        return images

    def decode(self, x: Float[Tensor, " b *d"]) -> Tensor:
        """Decode samples of this prior to images in [0, 1]; the identity for priors whose samples are images."""
        return x

    def decode_differentiably(self, x: Float[Tensor, " b *d"]) -> Tensor:
        """`decode`, for gradients through the decoder, which need the memory of its activations."""
        return self.decode(x)

    def facts(self) -> dict[str, object]:
        """What `repr` says of the prior, by name."""
        return {"schedule": self.schedule}

    def __repr__(self) -> str:
        try:
            return described(self, self.facts())
        except AttributeError:  # of an object that is not yet made
            return object.__repr__(self)

    def knows(self, prompt: str) -> Knowledge | None:
        """Return whether this prior was trained on prompts, or instructions, like one; None if it cannot say.

        It can say for models that come with a vocabulary, such as the bundled ones (`priors.vocabulary`).

        Raises:
            ValueError: if the prompt is not a single text.
        """
        return None

    @staticmethod
    def from_callable(fn: Callable[..., Tensor], schedule: Schedule, prediction: str = "eps") -> "Prior":
        """Wrap any network or function fn(x_t, t, cond).

        Args:
            fn: the network.
            schedule: its noise schedule.
            prediction: the kind of its output: "eps", "x0", "v", "flow" or "score" (see `from_prediction`).

        Raises:
            ValueError: for an unknown kind.
        """
        return FunctionPrior(fn, schedule, prediction)


def described(thing: object, facts: Mapping[str, object]) -> str:
    """The `repr` of an object: its class and facts, without the module names of types."""
    said = [f"{name}={str(value).removeprefix('torch.')}" for name, value in facts.items()]
    return f"{type(thing).__name__}({', '.join(said)})"


class JointPrior(Prior):
    """Abstract base of priors that predict the noise and the clean sample together, in one call of a network."""

    def eps(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        return self._predict(x_t, t, cond)[1]

    def denoise(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        return self._predict(x_t, t, cond)[0]

    @abstractmethod
    def _predict(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> tuple[Tensor, Tensor]:
        """Predict (x0, eps)."""


class FunctionPrior(JointPrior):
    """A prior made from a function or `nn.Module` fn(x_t[b, *d], t[b], cond) -> prediction[b, *d]."""

    def __init__(self, fn: Callable[..., Tensor], schedule: Schedule, prediction: str = "eps"):
        check_prediction(prediction)
        self.fn, self.schedule, self.prediction = fn, schedule, prediction

    def facts(self) -> dict[str, object]:
        name = getattr(self.fn, "__name__", type(self.fn).__name__)
        return {"fn": name, "predicts": self.prediction, **super().facts()}

    def _predict(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> tuple[Tensor, Tensor]:
        alpha, sigma = (per_sample(c, x_t) for c in self.schedule(t))
        return from_prediction(self.prediction, self.fn(x_t, t, cond), x_t, alpha, sigma)


class TextPrior(Prior):
    """Abstract base of priors with a text encoder and images, such as those of `load_prior`.

    Attributes:
        name: name of the model, for messages.
        latent_shape: shape of a sample of the model's own size.
        image_size: (height, width) in pixels of that size.
        device: device of the samples.
        needs_source: whether its condition must hold a source image.
        vocabulary: what it was trained to draw, or to do, in words; None if that is not known.
    """

    name: str
    latent_shape: tuple[int, ...]
    needs_source: bool = False
    vocabulary: Vocabulary | None = None

    def knows(self, prompt: str) -> Knowledge | None:
        return None if self.vocabulary is None else self.vocabulary.knows(prompt)

    @property
    @abstractmethod
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the model's own size."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Device of the samples."""

    @abstractmethod
    def encode_text(self, prompts: str | Sequence[str]) -> Cond:
        """Encode one prompt, or a list with one per sample, as a condition."""


class Editor(TextPrior):
    """Abstract base of priors that follow an instruction about a source image.

    Attributes:
        factor: pixels along one side of a latent; 1 if samples are pixels.
        max_rows: largest batch of one network call; None for no limit.
        takes_zeros: whether the model was trained with zeros for no image, which `ImageGuided` gives it.
    """

    max_rows: int | None
    takes_zeros: bool = True

    @property
    @abstractmethod
    def factor(self) -> int:
        """Pixels along one side of a latent."""

    @abstractmethod
    def encode_source(self, images: Float[Tensor, "b 3 h w"]) -> Cond:
        """The condition {"image": ...} of source images with values in [0, 1]."""


class PriorWrapper(Prior):
    """Abstract base of priors made from another prior; all but the noise prediction is forwarded to it."""

    def __init__(self, prior: Prior):
        check_prior(prior)
        self.prior = prior
        self.schedule = prior.schedule

    def facts(self) -> dict[str, object]:
        return {"prior": self.prior}

    def null(self, cond: Cond) -> Cond:
        return self.prior.null(cond)

    def times(self, steps: int) -> Float[Tensor, "{steps} 2"]:
        return self.prior.times(steps)

    def encode_image(self, images: Float[Tensor, "b k *p"]) -> Float[Tensor, " b *d"]:
        return self.prior.encode_image(images)

    def decode(self, x: Float[Tensor, " b *d"]) -> Tensor:
        return self.prior.decode(x)

    def decode_differentiably(self, x: Float[Tensor, " b *d"]) -> Tensor:
        return self.prior.decode_differentiably(x)

    def knows(self, prompt: str) -> Knowledge | None:
        return self.prior.knows(prompt)
