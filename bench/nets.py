"""Networks for the exporter: torchvision's by name, and a few that it lacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torchvision import models
from torchvision.models.regnet import BlockParams, RegNet


@dataclass(frozen=True)
class Net:
    """make: an untrained module. shape: of its one float32 input."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = (1, 3, 224, 224)


def conv_bn(c: int, oc: int, k: int, stride: int = 1, group: int = 1, act: bool = True) -> nn.Sequential:
    """Convolution without bias, padded to keep the size, batch normalization and, if asked, ReLU."""
    layers = [nn.Conv2d(c, oc, k, stride, k // 2, groups=group, bias=False), nn.BatchNorm2d(oc)]
    return nn.Sequential(*layers, *([nn.ReLU()] if act else []))


class LeNet(nn.Module):
    """Two convolutions of 32 and 64 channels and two dense layers on 28x28 digits."""

    def __init__(self, k: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, k, padding=k // 2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, k, padding=k // 2),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


class UNet(nn.Module):
    """U-Net (Ronneberger et al., 2015) with padded convolutions and half the channels, or fewer."""

    def __init__(self, width: int = 32, depth: int = 4, classes: int = 2) -> None:
        super().__init__()
        widths = [width << i for i in range(depth + 1)]
        self.down = nn.ModuleList(
            self.pair(c, oc) for c, oc in zip([3, *widths[:-2]], widths[:-1], strict=True)
        )
        self.bottom = self.pair(widths[-2], widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in reversed(widths[:-1]))
        self.merge = nn.ModuleList(self.pair(2 * c, c) for c in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, classes, 1)

    @staticmethod
    def pair(c: int, oc: int) -> nn.Sequential:
        return nn.Sequential(conv_bn(c, oc, 3), conv_bn(oc, oc, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], 1))
        return self.head(x)


class Ghost(nn.Module):
    """Half of the channels by a 1x1 convolution, the rest from those by a depthwise one (GhostNet, 2020, fig. 2)."""

    def __init__(self, c: int, oc: int, act: bool = True) -> None:
        super().__init__()
        half = -(-oc // 2)
        self.oc = oc
        self.primary = conv_bn(c, half, 1, act=act)
        self.cheap = conv_bn(half, half, 3, group=half, act=act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.primary(x)
        return torch.cat([x, self.cheap(x)], 1)[:, : self.oc]


class SqueezeExcite(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        inner = max(8, (c // 4 + 4) // 8 * 8)
        self.reduce = nn.Conv2d(c, inner, 1)
        self.expand = nn.Conv2d(inner, c, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.expand(functional.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * functional.hardsigmoid(scale)


class GhostBottleneck(nn.Module):
    def __init__(self, c: int, inner: int, oc: int, k: int, stride: int, excite: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [Ghost(c, inner)]
        if stride > 1:
            layers.append(conv_bn(inner, inner, k, stride, inner, act=False))
        if excite:
            layers.append(SqueezeExcite(inner))
        self.body = nn.Sequential(*layers, Ghost(inner, oc, act=False))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or c != oc:
            self.shortcut = nn.Sequential(
                conv_bn(c, c, k, stride, c, act=False), conv_bn(c, oc, 1, act=False)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.shortcut(x)


GHOST_BLOCKS = (
    (3, 16, 16, 0, 1),
    (3, 48, 24, 0, 2),
    (3, 72, 24, 0, 1),
    (5, 72, 40, 1, 2),
    (5, 120, 40, 1, 1),
    (3, 240, 80, 0, 2),
    (3, 200, 80, 0, 1),
    (3, 184, 80, 0, 1),
    (3, 184, 80, 0, 1),
    (3, 480, 112, 1, 1),
    (3, 672, 112, 1, 1),
    (5, 672, 160, 1, 2),
    (5, 960, 160, 0, 1),
    (5, 960, 160, 1, 1),
    (5, 960, 160, 0, 1),
    (5, 960, 160, 1, 1),
)
"""Kernel, inner channels, output channels, squeeze-and-excite, stride (GhostNet, 2020, table 7)."""


class GhostNet(nn.Module):
    """GhostNet 1.0 (Han et al., 2020)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_bn(3, 16, 3, 2)]
        c = 16
        for k, inner, oc, excite, stride in GHOST_BLOCKS:
            layers.append(GhostBottleneck(c, inner, oc, k, stride, bool(excite)))
            c = oc
        layers += [conv_bn(c, 960, 1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(960, 1280, 1), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1280, 1000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Dense(nn.Module):
    """The one tensor of a torchvision segmentation net's dictionary."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)["out"]


def regnetx_002() -> nn.Module:
    """RegNetX-200MF (Radosavovic et al., 2020)."""
    return RegNet(BlockParams.from_init_params(depth=13, w_0=24, w_a=36.44, w_m=2.49, group_width=8))


def deeplab_resnet50() -> nn.Module:
    return Dense(models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None))


def deeplab_mobilenetv3() -> nn.Module:
    return Dense(models.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None))


NETS = {
    "lenet": Net(LeNet, (1, 1, 28, 28)),
    "lenet_5x5": Net(partial(LeNet, 5), (1, 1, 28, 28)),
    "squeezenet1_1": Net(models.squeezenet1_1),
    "shufflenetv2": Net(models.shufflenet_v2_x1_0),
    "mobilenetv2": Net(models.mobilenet_v2),
    "mobilenetv3_large": Net(models.mobilenet_v3_large),
    "mnasnet1_0": Net(models.mnasnet1_0),
    "ghostnet": Net(GhostNet),
    "regnetx_002": Net(regnetx_002),
    "efficientnet_b0": Net(models.efficientnet_b0),
    "resnet18": Net(models.resnet18),
    "resnext50": Net(models.resnext50_32x4d),
    "densenet121": Net(models.densenet121),
    "vgg16": Net(models.vgg16),
    "convnext_tiny": Net(models.convnext_tiny),
    "unet_small": Net(UNet, (1, 3, 256, 256)),
    "deeplab_mobilenetv3": Net(deeplab_mobilenetv3, (1, 3, 512, 512)),
    "deeplab_resnet50": Net(deeplab_resnet50),
}
