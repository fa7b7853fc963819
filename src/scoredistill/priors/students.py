"""Students: trainable priors that learn the distribution of particles, for variational methods."""

from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Prior, PriorWrapper
from scoredistill.priors.network import untrained
from scoredistill.priors.pipelines.base import PipelinePrior
from scoredistill.priors.pipelines.lora import LoraStudent


def student_of(prior: Prior, x: Float[Tensor, " b *d"]) -> Prior:
    """Make a prior with `parameters()` that can learn the distribution of particles like x.

    Args:
        prior: the teacher. Its wrappers (guidance, counters, windows) are taken off first.
        x: particles in the prior's space.

    Returns:
        For a pipeline, a `LoraStudent` that shares the pipeline's weights. For other priors on points, x[b, d], a small
        unconditional network that is scaled to the spread of x.

    Raises:
        NotImplementedError: for other priors on samples that are not points.
    """
    teacher = prior
    while isinstance(teacher, PriorWrapper):
        teacher = teacher.prior
    if isinstance(teacher, PipelinePrior):
        return LoraStudent(teacher)
    if x.ndim == 2:
        return untrained(x, teacher.schedule)
    raise NotImplementedError(
        f"{type(teacher).__name__} has no student for samples of shape {tuple(x.shape[1:])}: pass student= to the "
        "estimator"
    )
