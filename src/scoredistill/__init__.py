"""Score distillation: a pretrained diffusion model, used as a critic, shapes anything that can be rendered into images.

Parameters make images, a prior scores them, an estimator turns scores into a gradient, the gradient flows back. The
names below are imported on first use, so that `import scoredistill` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoredistill.loop import Step, distill
    from scoredistill.loss import DistillationLoss
    from scoredistill.priors.pipelines import load_prior
    from scoredistill.recipe import Recipe

__version__ = "0.1.0"
__all__ = ["DistillationLoss", "Recipe", "Step", "__version__", "distill", "load_prior", "metrics", "tasks"]

_HOME = {
    "DistillationLoss": "loss",
    "Recipe": "recipe",
    "Step": "loop",
    "distill": "loop",
    "load_prior": "priors.pipelines",
}
_MODULES = {
    "metrics",
    "tasks",
    "schedule",
    "priors",
    "estimators",
    "kernels",
    "sampling",
    "generators",
    "pipelines",
    "three_d",
    "times",
    "clock",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"scoredistill.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"scoredistill.{name}")
    raise AttributeError(f"module 'scoredistill' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_MODULES})
