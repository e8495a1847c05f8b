"""What comes before the blocks of JetViT: scaled inputs, patch embeddings, positions, sums."""

import numpy as np
import torch
from torch import Tensor, nn

from lib.data.tokens import Grid, Hits, TokenBatch
from lib.registry import check_choices


class InputScale(nn.Module):
    """Pixels (B, K, C·p·q) to numbers of order one: sign(x) log(1 + |x|/unit) / norm, per channel.
    unit and norm are fitted on training hits: the median and, after the logarithm, the root mean
    square of a channel's non-zero pixels. scale: "log", or a number to divide by instead."""

    def __init__(self, channels: int, scale: str | float) -> None:
        super().__init__()
        self.divisor = None if scale == "log" else float(scale)
        self.register_buffer("unit", torch.ones(channels, 1))
        self.register_buffer("norm", torch.ones(channels, 1))

    def fit(self, hits: Hits) -> None:
        for channel in range(len(self.unit)):
            values = hits.value[hits.channel == channel].abs()
            if len(values):
                self.unit[channel] = values.median().clamp(min=1e-6)
                logs = (values / self.unit[channel]).log1p()
                self.norm[channel] = logs.square().mean().sqrt().clamp(min=1e-6)

    def forward(self, x: Tensor, places: Tensor | None = None) -> Tensor:
        """places: of what is not zero, see `filled`; it saves nine tenths of the time."""
        if self.divisor is not None:
            return x / self.divisor
        if places is not None:
            channels = len(self.unit)
            value, channel = x.flatten()[places], places // (x.shape[-1] // channels) % channels
            unit, norm = self.unit[channel, 0], self.norm[channel, 0]
            value = value.sign() * (value.abs() / unit).log1p() / norm
            if torch.is_autocast_enabled(x.device.type):  # the stem would round it all the same
                value = value.to(torch.get_autocast_dtype(x.device.type))
            return value.new_zeros(x.numel()).index_copy(0, places, value).view_as(x)
        pixels = x.unflatten(-1, (self.unit.shape[0], -1))
        return (pixels.sign() * (pixels.abs() / self.unit).log1p() / self.norm).flatten(-2)


def filled(features: Tensor) -> Tensor | None:
    """Where the features (B, K, F) are not zero, as places in their flat list (n,); None where it
    pays to go through all of them, on a GPU or where many are not zero; or for an exporter."""
    exported = torch.compiler.is_exporting() or torch.jit.is_tracing()
    if exported or features.is_cuda or features.requires_grad:
        return None
    places = np.flatnonzero(features.bool().numpy())
    return torch.from_numpy(places) if 4 * len(places) < features.numel() else None


def patch_sums(features: Tensor, channels: int, places: Tensor | None = None) -> Tensor:
    """Multiplicity and energy of each channel in each patch: (B, K, C·p·q) -> (B, K, 2C). places:
    of what is not zero, see `filled`."""
    pixels = features.unflatten(-1, (channels, -1))
    if places is None:
        return torch.cat([pixels.ne(0).to(pixels.dtype).sum(-1), pixels.abs().sum(-1)], -1)
    patch = places // pixels.shape[-1]
    value = torch.stack([torch.ones(len(places)), features.flatten()[places].abs()], 1)
    sums = features.new_zeros(pixels[..., 0].numel(), 2).index_add(0, patch, value)
    return sums.view(*pixels.shape[:-1], 2).transpose(-2, -1).flatten(-2)


class Summary(nn.Module):
    """Of each channel the log multiplicity, the log energy and the log widths in eta and phi: sums
    (B, K, 2C) of `patch_sums` -> (B, 4C), standardised on training data. Energy times width is what
    a mass is made of: for a narrow jet m² ≈ Σ_ij E_i E_j ΔR_ij² / 2, which is E² times the variance
    of the position. Widths are in patches, with a floor of a tenth."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid, self.channels = grid, grid.channels
        self.register_buffer("mean", torch.zeros(4 * grid.channels))
        self.register_buffer("std", torch.ones(4 * grid.channels))

    def raw(self, sums: Tensor, tokens: TokenBatch) -> Tensor:
        """Before it is standardised."""
        sums = sums * tokens.valid.unsqueeze(-1)
        energy = sums[..., self.channels :]  # (B, K, C)
        share = energy.sum(1).clamp(min=1e-6)
        parts = [sums.sum(1).log1p()]
        for place in self.grid.centres(tokens.position):
            x = place.unsqueeze(2)  # (B, K, 1); sums, not products, which bfloat16 would spoil
            first, second = (x * energy).sum(1), (x.square() * energy).sum(1)
            variance = (second / share - (first / share).square()).clamp(min=0)
            parts.append((variance + 0.01).log() / 2)
        return torch.cat(parts, -1)

    def fit(self, sums: Tensor, tokens: TokenBatch) -> None:
        """Mean and spread of training jets."""
        raw = self.raw(sums, tokens)
        self.mean.copy_(raw.mean(0))
        self.std.copy_(raw.std(0, correction=0).clamp(min=1e-3))

    def forward(self, sums: Tensor, tokens: TokenBatch) -> Tensor:
        return (self.raw(sums, tokens) - self.mean) / self.std


class ConvStem(nn.Module):
    """A 3 x 3 convolution within each patch, GELU, then a linear map: (B, K, F) -> (B, K, D)."""

    def __init__(self, grid: Grid, dim: int, width: int = 24) -> None:
        super().__init__()
        self.patch = (grid.channels, grid.patch_height, grid.patch_width)
        self.conv = nn.Conv2d(grid.channels, width, 3)
        self.proj = nn.Linear(width * (grid.patch_height - 2) * (grid.patch_width - 2), dim)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x.flatten(0, 1).unflatten(-1, self.patch))
        return self.proj(nn.functional.gelu(out).flatten(1)).unflatten(0, x.shape[:2])


def stem_of(config) -> nn.Module:
    """The patch embedding of a `ViTConfig`: (B, K, F) -> (B, K, D)."""
    check_choices(stem=(config.stem, ("linear", "mlp", "conv")))
    pixels, dim = config.grid.patch_dim, config.dim
    if config.stem == "linear":
        return nn.Linear(pixels, dim)
    if config.stem == "mlp":
        return nn.Sequential(nn.Linear(pixels, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
    return ConvStem(config.grid, dim)


class Position(nn.Module):
    """Learned position vectors: (B, K) patch numbers -> (B, K, D)."""

    def __init__(self, config) -> None:
        super().__init__()
        check_choices(position=(config.position, ("learned", "factorised", "none")))
        grid = config.grid
        coarse = grid.coarse[0] * grid.coarse[1] if config.tokens == "two_scale" else 0
        self.kind, self.patches, self.columns = config.position, grid.patches, grid.columns
        if self.kind == "learned":
            self.table = nn.Embedding(grid.patches + coarse, config.dim)
        elif self.kind == "factorised":
            self.row = nn.Embedding(grid.rows, config.dim)
            self.column = nn.Embedding(grid.columns, config.dim)
            self.coarse = nn.Embedding(coarse, config.dim) if coarse else None

    def forward(self, position: Tensor) -> Tensor:
        if self.kind == "learned":
            return self.table(position)
        if self.kind == "none":
            return torch.zeros(1, device=position.device)
        # One look-up in the table of all patches: three of each token took as long as an MLP.
        table = (self.row.weight.unsqueeze(1) + self.column.weight).flatten(0, 1)
        if self.coarse is not None:
            table = torch.cat([table, self.coarse.weight])
        return nn.functional.embedding(position, table)
