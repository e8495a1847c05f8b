"""A residual network on the dense image, as the end-to-end papers use it: the closest rival."""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.tokens import TOP_QCD, Grid, TokenBatch
from lib.models.blocks import ImageBatchNorm
from lib.models.rivals import Rival, scaled_image


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.norm1 = ImageBatchNorm(out)
        self.second = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = ImageBatchNorm(out)
        self.short = nn.Identity()
        if stride > 1 or into != out:
            self.short = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False),
                                       ImageBatchNorm(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        return F.relu(y + self.short(x))


class ResNet15(Rival):
    """A ResNet on the dense image: stem, six residual blocks, two dense layers: 15 in depth. The
    size that the end-to-end papers use on these images (arXiv:2104.14659, there with wider layers).
    grid: of the images, or the number of their channels."""

    def __init__(self, grid: Grid | int = TOP_QCD, width: int = 16, stride: int = 2,
                 summary: bool = False, hidden: int | None = None) -> None:
        super().__init__()
        grid = replace(TOP_QCD, channels=grid) if isinstance(grid, int) else grid
        self.stem = nn.Conv2d(grid.channels, width, 5, stride, 2, bias=False)
        self.norm = ImageBatchNorm(width)
        self.blocks = nn.Sequential(
            Residual(width, width, 1), Residual(width, width, 1),
            Residual(width, 2 * width, 2), Residual(2 * width, 2 * width, 1),
            Residual(2 * width, 4 * width, 2), Residual(4 * width, 4 * width, 1))
        self.answers(grid, 4 * width, summary, hidden)

    def pooled(self, tokens: TokenBatch | Tensor) -> Tensor:
        x = self.norm(self.stem(scaled_image(tokens)))
        return self.blocks(F.relu(x)).float().mean((2, 3))
