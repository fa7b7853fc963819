r"""Students that adapt a pipeline's network by low-rank updates (LoRA), for variational score distillation.

    y = W h + B A h,    A [rank, in],    B [out, rank],    B = 0 at first

Only A and B are new; W is the teacher's own tensor. The student starts equal to the teacher, takes little memory, and
cannot change the teacher by its training. The adapted layers are the projections of the attention to queries, keys,
values and output. The student may have an input that the teacher lacks: a view (a camera, [b, k]), of which a linear
map V, 0 at first and without bias, is added to the time embedding. A view of zeros is therefore the same as no view.

References: LoRA (Hu et al. 2021), https://arxiv.org/abs/2106.09685; as a student, with the camera in the time
embedding: ProlificDreamer (VSD; Wang et al. 2023), https://arxiv.org/abs/2305.16213.
"""

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from scoredistill.optional import require
from scoredistill.priors.base import JointPrior, PriorWrapper
from scoredistill.priors.conditions import Cond, expand_cond
from scoredistill.priors.pipelines.base import PipelinePrior

ADAPTER = "scoredistill-student"
ADAPTED = ["to_q", "to_k", "to_v", "to_out.0"]
SCALE = 2.0**12  # of gradients inside float16 networks, where the gradient of a mean over many pixels underflows


class LoraStudent(JointPrior, PriorWrapper):
    """A prior with `parameters()` that equals the given one until they are trained. Needs the extra `lora` (peft).

    The trained parameters are float32 even if the network has half precision. Predictions are differentiable in the
    parameters alone; x_t and the condition are constants. LoRA adapters that are active in the pipeline when the
    student is made are part of both; those loaded or switched later belong to the pipeline alone.

    Args:
        prior: the teacher, without guidance.
        rank: rank of the updates, at least 1.
        view_dim: k, the size of the view; 0 for a student without one.
        view: name of the view in the condition, [1 or b, k]. Without it, or with zeros, there is no view.
        rng: draws A; a generator seeded with 0 by default.

    Raises:
        MissingExtra: if peft is not installed.
        ValueError: if the network has no attention, a view does not have `view_dim` entries, or a view is requested of
            a transformer, which has no time embedding for it.
    """

    prior: PipelinePrior

    def __init__(
        self,
        prior: PipelinePrior,
        rank: int = 4,
        view_dim: int = 0,
        view: str = "view",
        rng: torch.Generator | None = None,
    ):
        if rank < 1 or view_dim < 0:
            raise ValueError(f"rank must be at least 1 and view_dim at least 0, not {rank} and {view_dim}")
        if view_dim and getattr(prior.network, "time_embedding", None) is None:
            raise ValueError("a view is added to the time embedding of a UNet: use view_dim=0 for a transformer")
        super().__init__(prior)
        self.view_dim, self.view = view_dim, view
        self.unet = _twin(prior.network)
        _adapt(self.unet, rank)
        self._trained = _materialize(self.unet, prior.device, rng or torch.Generator().manual_seed(0))
        if view_dim:
            self.unet.time_embedding = _Viewed(self.unet.time_embedding, view_dim).to(prior.device)
            self._trained.append(self.unet.time_embedding.view.weight)
        self._scale = scale = SCALE if prior.network.dtype == torch.float16 else 1.0
        for parameter in self._trained:
            parameter.register_hook(lambda grad: grad / scale)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trained parameters, float32: A and B of each layer in the network's order, then V."""
        return iter(self._trained)

    def _predict(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> tuple[Tensor, Tensor]:
        seen = {} if cond is None else {name: value.detach() for name, value in expand_cond(cond, len(x_t)).items()}
        view = seen.pop(self.view, None)
        if view is not None and view.shape[1:] != (self.view_dim,):
            raise ValueError(
                f"condition {self.view!r} has shape {list(view.shape)}, but this student was made for [b, "
                f"{self.view_dim}]: give the estimator student=LoraStudent(prior, view_dim=...)"
            )
        return self.prior.predict(partial(self._network, view), x_t.detach(), t, seen or None)

    def _network(self, view: Tensor | None, *inputs: Tensor, **options: Any) -> tuple[Tensor]:
        if view is not None:
            options["timestep_cond"] = view.to(self.prior.device, torch.float32)
        out = self.unet(*inputs, **options)[0]
        out = out.to(torch.promote_types(out.dtype, torch.float32))  # scaled before float16 rounds it to 0
        if out.requires_grad:
            out.register_hook(lambda grad: grad * self._scale)
        return (out,)


class _Viewed(nn.Module):
    """A time embedding plus a linear map of the view, which the network passes on as its `timestep_cond`."""

    def __init__(self, embedding: Any, view_dim: int):
        super().__init__()
        self.embedding = embedding
        self.view = nn.utils.skip_init(nn.Linear, view_dim, embedding.linear_2.out_features, bias=False)
        nn.init.zeros_(self.view.weight)

    def forward(self, step: Tensor, view: Tensor | None = None) -> Tensor:
        embedded = self.embedding(step)
        return embedded if view is None else embedded + self.view(view).to(embedded.dtype)


def _twin(network: Any) -> Any:
    """Copy a network's modules, but share its tensors."""
    tensors = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})


def _adapt(unet: Any, rank: int) -> None:
    """Add adapter layers on the meta device to the attention, beside adapters that are active there."""
    peft = require("peft", "lora", "a LoRA student")
    adapter_layer = require("peft.tuners.tuners_utils", "lora", "a LoRA student").BaseTunerLayer
    used = {}
    for name, layer in list(unet.named_modules()):
        if isinstance(layer, adapter_layer):
            if layer.merged or layer.disable_adapters:  # it acts as its base layer, whatever is added to it
                _replace(unet, name, layer.get_base_layer())
            else:
                used[name] = list(layer.active_adapters)
    vars(unet).pop("peft_config", None)  # peft warns of more than one
    given = list(unet.parameters())
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=ADAPTED)
    peft.inject_adapter_in_model(config, unet, ADAPTER, low_cpu_mem_usage=True)
    for name, layer in unet.named_modules():
        if isinstance(layer, adapter_layer):
            layer.set_adapter([*used.get(name, []), ADAPTER])
    for parameter in given:
        parameter.requires_grad_(False)
    unet.eval()


def _materialize(unet: Any, device: torch.device, rng: torch.Generator) -> list[nn.Parameter]:
    """Initialize the layers on the meta device: A uniform in +-1 / sqrt(in), as linear layers, and B = 0."""
    made = []
    for name, empty in list(unet.named_parameters()):
        if empty.is_meta and f".{ADAPTER}." in name:  # the whole network may be there
            value = torch.zeros(empty.shape)
            if "lora_A" in name:
                value = (2 * torch.rand(empty.shape, generator=rng) - 1) / empty.shape[1] ** 0.5
            made.append(nn.Parameter(value.to(device)))
            _replace(unet, name, made[-1])
    return made


def _replace(network: Any, name: str, value: Any) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, value)
