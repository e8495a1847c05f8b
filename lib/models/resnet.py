"""A residual network on the dense image, as the end-to-end papers use it: the closest rival."""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.tokens import Hits, TokenBatch, densify


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.second = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.short = nn.Identity()
        if stride > 1 or into != out:
            self.short = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False),
                                       nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        return F.relu(y + self.short(x))


class ResNet15(nn.Module):
    """A ResNet on the dense image: stem, six residual blocks, two dense layers: 15 in depth. The
    size that the end-to-end papers use on these images (arXiv:2104.14659, there with wider layers).
    forward(tokens) -> logits (B, 2) and mass (B,) in GeV, as JetViT has it."""

    def __init__(self, channels: int = 8, width: int = 16, stride: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 5, stride, 2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(
            Residual(width, width, 1), Residual(width, width, 1),
            Residual(width, 2 * width, 2), Residual(2 * width, 2 * width, 1),
            Residual(2 * width, 4 * width, 2), Residual(4 * width, 4 * width, 1))
        self.hidden = nn.Linear(4 * width, 4 * width)
        self.class_head, self.mass_head = nn.Linear(4 * width, 2), nn.Linear(4 * width, 1)
        self.register_buffer("mass_mean", torch.tensor(0.0))
        self.register_buffer("mass_std", torch.tensor(1.0))

    def fit_scales(self, hits: Hits, tokens: TokenBatch, mass: Tensor | None = None) -> Self:
        """Fit the scaling of the mass on training jets; hits and tokens are not needed."""
        if mass is not None:
            self.mass_mean.copy_(mass.mean())
            self.mass_std.copy_(mass.std(correction=0).clamp(min=1e-6))
        return self

    def forward(self, tokens: TokenBatch) -> tuple[Tensor, Tensor]:
        return self.on_images(densify(tokens))

    def on_images(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The same for dense images (B, C, H, W)."""
        image = image.sign() * image.abs().log1p() / 3
        image = image.contiguous(memory_format=torch.channels_last)
        x = self.blocks(F.relu(self.norm(self.stem(image)))).float().mean((2, 3))
        x = F.relu(self.hidden(x)).float()
        mass = self.mass_head(x).squeeze(-1).float() * self.mass_std + self.mass_mean
        return self.class_head(x).float(), mass
