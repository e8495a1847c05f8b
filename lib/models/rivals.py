"""Other types of model for the same tokens: a residual network and two vision transformers on the
dense image as their papers have them, and a deep set of hits.

All answer ``forward(tokens) -> logits (B, 2), mass (B,) in GeV`` as JetViT does, and take its 32
sums beside their own features (``summary``)."""

import itertools
import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.tokens import TOP_QCD, Grid, TokenBatch, densify
from lib.models.blocks import Block, ClassAttention, ImageBatchNorm, Layout
from lib.models.embedding import Summary, patch_sums
from lib.models.vit import Answering, ViTConfig


def scaled_image(tokens: TokenBatch | Tensor) -> Tensor:
    """The dense image (B, C, H, W) of tokens or of itself, logarithmic and of order one, channels
    last in memory."""
    image = tokens if isinstance(tokens, Tensor) else densify(tokens)
    image = image.sign() * image.abs().log1p() / 3
    return image.contiguous(memory_format=torch.channels_last)


class Rival(Answering):
    """What they share: the sums, a hidden layer and two heads. A subclass calls ``answers`` at the
    end of its ``__init__`` and has ``pooled(tokens)``, features of each jet, (B, width)."""

    def answers(self, grid: Grid, width: int, summary: bool, hidden: int | None = None) -> None:
        """The layers behind `width` features; hidden: width of the hidden one, the same if None."""
        self.summary = Summary(grid) if summary else None
        self.hidden = nn.Linear(width + 4 * grid.channels * summary, hidden or width)
        self.class_head, self.mass_head = (nn.Linear(hidden or width, n) for n in (2, 1))

    def forward(self, tokens: TokenBatch | Tensor) -> tuple[Tensor, Tensor]:
        """Of tokens or, for a model of images without the sums, of images (B, C, H, W)."""
        x = self.pooled(tokens).float()
        if self.summary is not None:
            sums = patch_sums(tokens.features, self.summary.channels)
            x = torch.cat([x, self.summary(sums, tokens)], -1)
        return self.answer(F.relu(self.hidden(x)).float())


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


def convolutions(widths: list[int]) -> nn.Sequential:
    """3 x 3 convolutions of stride 2, each with its norm; GELU between them."""
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(widths):
        layers += [nn.Conv2d(into, out, 3, 2, 1, bias=False), ImageBatchNorm(out), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def dense_layout(x: Tensor) -> Layout:
    """The layout of a map (B, D, H, W) whose cells are all tokens."""
    rows, columns = x.shape[2:]
    position = torch.arange(rows * columns, device=x.device).expand(len(x), -1)
    return Layout(position, position >= 0, Grid(1, rows, columns, 1, 1))


class L2Block(nn.Module):
    """A block of L2ViT on (B, D, H, W): positional convolution, attention (in windows with softmax,
    or global and linear with a local concentration), positional convolution, MLP."""

    def __init__(self, dim: int, mlp_ratio: float, local: bool) -> None:
        super().__init__()
        how = dict(attention="windows", lcm_kernel=0) if local else dict(
            attention="relu_linear", normalizer="sum", floor=100.0, temperature=32**-0.5,
            lcm_kernel=7, lcm_norm="batch")
        self.block = Block(ViTConfig(dim=dim, heads=max(1, dim // 32), mlp_ratio=mlp_ratio, **how))
        self.places = nn.ModuleList(nn.Conv2d(dim, dim, 3, 1, 1, groups=dim) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        block, layout = self.block, dense_layout(x)
        if block.lcm is None:  # the windows are those of the present size
            block.attention.mechanism.on(layout.grid)
        tokens = (x + self.places[0](x)).flatten(2).transpose(1, 2)
        tokens = tokens + block.attention(block.norm1(tokens), layout.on_grid, layout.position)
        if block.lcm is not None:
            tokens = tokens + block.lcm(block.norm_lcm(tokens), layout)
        x = tokens.transpose(1, 2).view_as(x)
        x = (x + self.places[1](x)).permute(0, 2, 3, 1)
        return (x + block.mlp(block.norm2(x))).permute(0, 3, 1, 2)


class L2ViT(Rival):
    """L2ViT as its paper has it (arXiv:2501.16182): a convolutional stem to a quarter of the size,
    stages that halve the size and double the width, blocks that alternate 7 x 7 windows and global
    linear attention, heads of width 32.

    dim: width of the first stage, a multiple of 32. depths: blocks of each stage."""

    def __init__(self, grid: Grid, dim: int = 32, depths: tuple[int, ...] = (2, 2),
                 mlp_ratio: float = 4.0, summary: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [convolutions([grid.channels, dim // 2, dim])]
        for stage, depth in enumerate(depths):
            width = dim * 2**stage
            if stage:
                layers += [ImageBatchNorm(width // 2), nn.Conv2d(width // 2, width, 2, 2)]
            layers += [L2Block(width, mlp_ratio, number % 2 == 0) for number in range(depth)]
        self.layers, self.norm = nn.Sequential(*layers), nn.LayerNorm(width)
        self.answers(grid, width, summary)

    def pooled(self, tokens: TokenBatch) -> Tensor:
        return self.norm(self.layers(scaled_image(tokens)).flatten(2).mean(2))


class XCiT(Rival):
    """XCiT as its paper has it (arXiv:2106.09681): patches of 8 x 8 by three convolutions, sines of
    the position, blocks of cross-covariance attention, local patch interaction and MLP with
    LayerScale, two layers of class attention."""

    def __init__(self, grid: Grid, dim: int = 64, depth: int = 2, heads: int = 4,
                 mlp_ratio: float = 4.0, summary: bool = False) -> None:
        super().__init__()
        self.stem = convolutions([grid.channels, dim // 4, dim // 2, dim])
        self.place = nn.Linear(32, dim)
        config = ViTConfig(dim=dim, heads=heads, mlp_ratio=mlp_ratio, temperature=1.0,
                           attention="cross_covariance", lcm_norm="batch", layer_scale=1.0)
        self.blocks = nn.ModuleList(Block(config) for _ in range(depth))
        self.ends = ClassAttention(config)
        self.answers(grid, dim, summary)

    def pooled(self, tokens: TokenBatch) -> Tensor:
        x = self.stem(scaled_image(tokens))
        layout, (rows, columns) = dense_layout(x), x.shape[2:]
        x, position = x.flatten(2).transpose(1, 2), layout.position[0]  # (B, N, D)
        at = torch.stack([position // columns / rows, position % columns / columns], 1)
        angle = 2 * math.pi * at.unsqueeze(2) / 20 ** torch.linspace(0, 1, 8, device=x.device)
        x = x + self.place(torch.cat([angle.sin(), angle.cos()], 2).flatten(1)).to(x.dtype)
        for block in self.blocks:
            x = block(x, layout.on_grid, layout)
        return self.ends(x, layout.on_grid)


class DeepSets(Rival):
    """Deep sets of hits (arXiv:1703.06114): a network on each hit's channel, place and log value,
    mean and maximum over the hits; no patch, no convolution, no attention."""

    def __init__(self, grid: Grid, width: int = 128, summary: bool = False) -> None:
        super().__init__()
        self.grid, self.channel = grid, nn.Embedding(grid.channels, 16)
        self.each = nn.Sequential(nn.Linear(16 + 3, width), nn.GELU(), nn.Linear(width, width),
                                  nn.GELU(), nn.Linear(width, width))
        self.answers(grid, 2 * width, summary)

    def pooled(self, tokens: TokenBatch) -> Tensor:
        grid, area = self.grid, self.grid.patch_height * self.grid.patch_width
        image, slot, pixel = (tokens.features * tokens.valid.unsqueeze(2)).nonzero().unbind(1)
        patch, cell = tokens.position[image, slot], pixel % area
        row = patch // grid.columns * grid.patch_height + cell // grid.patch_width
        column = patch % grid.columns * grid.patch_width + cell % grid.patch_width
        value = tokens.features[image, slot, pixel]
        parts = [2 * row / grid.height - 1, 2 * column / grid.width - 1,
                 value.sign() * value.abs().log1p() / 3]
        x = self.each(torch.cat([self.channel(pixel // area), torch.stack(parts, 1)], 1)).float()
        number = torch.bincount(image, minlength=len(tokens)).clamp(min=1).unsqueeze(1)
        mean = x.new_zeros(len(tokens), x.shape[1]).index_add(0, image, x) / number
        most = torch.zeros_like(mean).scatter_reduce(
            0, image.unsqueeze(1).expand_as(x), x, "amax", include_self=False)
        return torch.cat([mean, most], 1)
