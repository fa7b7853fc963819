"""A network and its ControlNet, as one network.

A ControlNet sees the sample too, and its outputs are arguments of the network. As one network, with the ControlNet's
arguments beside the network's own, both are evaluated at once, and only the control image belongs to the condition.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scoredistill.priors.pipelines.argument_trees import leaves

CONTROL = "controlnet_arguments"
"""Name of the ControlNet's arguments among those of the network."""


class Controlled(nn.Module):
    """Calls a ControlNet, and the network with its outputs.

    Args:
        network: the UNet or transformer.
        control: the ControlNet.
        links: of the arguments of the network that are outputs of the ControlNet, the number of that output.
    """

    def __init__(self, network: nn.Module, control: nn.Module, links: Mapping[str, int]):
        super().__init__()
        self.network, self.control, self.links = network, control, links

    @property
    def config(self) -> Any:
        """Configuration of the network."""
        return self.network.config

    @property
    def device(self) -> Any:
        """Device of the network."""
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the network."""
        return self.network.dtype  # type: ignore[return-value]

    def forward(self, **arguments: Any) -> Any:
        """The network's output, given its own arguments and the ControlNet's."""
        outputs = parts(self.control(**arguments.pop(CONTROL)))
        return self.network(**arguments, **{name: outputs[number] for name, number in self.links.items()})


def parts(outputs: Any) -> list[Any]:
    """The outputs of a ControlNet, in their order."""
    return list(outputs.values()) if isinstance(outputs, Mapping) else list(outputs)


def linked(arguments: Mapping[str, Any], outputs: Any) -> dict[str, int]:
    """The arguments of a network that are outputs of a ControlNet, by their tensors, with the number of the output."""
    known = [{id(leaf) for leaf in leaves(each).values()} for each in parts(outputs) if each is not None]
    found = {}
    for name, value in arguments.items():
        tensors = {id(leaf) for leaf in leaves(value).values() if isinstance(leaf, Tensor)}
        for number, each in enumerate(known):
            if tensors and tensors <= each:
                found[name] = number
    return found
