"""Hits and tokens: an image as the list of what it holds, a patch as a token.

98.8 % of the pixels of a jet image are zero. A jet is therefore kept as its
hits (one entry a non-zero pixel) and cut into the patches that hold at least
one of them. Shapes use B jets, K tokens, P = rows x columns patches and
F = channels x patch_height x patch_width features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

PIXEL_LAYERS = (5, 6, 7)


@dataclass(frozen=True)
class Grid:
    """Geometry of an image and of its patches; a last patch that overhangs is padded."""

    channels: int
    height: int
    width: int
    patch_height: int
    patch_width: int

    @property
    def rows(self) -> int:
        return -(-self.height // self.patch_height)

    @property
    def columns(self) -> int:
        return -(-self.width // self.patch_width)

    @property
    def patches(self) -> int:
        return self.rows * self.columns

    @property
    def patch_dim(self) -> int:
        return self.channels * self.patch_height * self.patch_width

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    @property
    def coarse(self) -> tuple[int, int]:
        """Rows and columns of the coarse grid: blocks of 5 x 5 patches."""
        return -(-self.rows // 5), -(-self.columns // 5)

    def centres(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of the middle of patches (coarse ones too), in patches from the image's
        middle: two float tensors of the shape of `position`."""
        fine = position < self.patches
        block = (position - self.patches).clamp(min=0)
        row = torch.where(fine, position // self.columns, block // self.coarse[1] * 5 + 2)
        column = torch.where(fine, position % self.columns, block % self.coarse[1] * 5 + 2)
        return row - (self.rows - 1) / 2, column - (self.columns - 1) / 2


TOP_QCD = Grid(8, 125, 125, 5, 5)
QUARK_GLUON = Grid(3, 125, 125, 5, 5)
HCAL = Grid(1, 64, 72, 8, 4)


def _to(record, device):
    """A copy of a dataclass with each of its tensors (and records) on `device`."""
    moved = {
        name: value.to(device)
        for name, value in vars(record).items()
        if isinstance(value, (Tensor, TokenBatch))
    }
    return replace(record, **moved)


@dataclass
class Hits:
    """Non-zero pixels of `images` jets as flat tensors of one length, sorted by image.

    image, channel, row, column: int64; value: float32 in the encoding's unit.
    """

    image: Tensor
    channel: Tensor
    row: Tensor
    column: Tensor
    value: Tensor
    images: int

    def __len__(self) -> int:
        return len(self.value)

    def to(self, device) -> Hits:
        return _to(self, device)

    def select(self, keep: Tensor) -> Hits:
        """The hits where the boolean mask `keep` holds."""
        kept = keep.nonzero().squeeze(1)
        parts = (self.image, self.channel, self.row, self.column, self.value)
        return Hits(*(part.index_select(0, kept) for part in parts), self.images)


@dataclass
class TokenBatch:
    """features (B, K, F) float32, position (B, K) int64 in 0..P-1, valid (B, K) bool.

    F runs over (channel, row in patch, column in patch). Positions of P and
    above are coarse tokens (`keep="two_scale"`). What is not valid is padding:
    a model must not let it change anything.
    """

    features: Tensor
    position: Tensor
    valid: Tensor
    grid: Grid

    def __len__(self) -> int:
        return len(self.features)

    def to(self, device) -> TokenBatch:
        return _to(self, device)


@dataclass
class Batch:
    """What an objective's `loss` gets: label (B,) int64, mass and pt (B,) float32 in GeV.

    label, mass and pt are None where the data lack them; index (B,) numbers
    the jets within their data set; other holds a second view of the same jets,
    where the augmentation makes two.
    """

    tokens: TokenBatch
    label: Tensor | None
    mass: Tensor | None
    pt: Tensor | None
    index: Tensor
    other: TokenBatch | None = None

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device) -> Batch:
        return _to(self, device)


def tokenize(
    hits: Hits, grid: Grid, keep: str = "active", live: Tensor | None = None
) -> TokenBatch:
    """Cut hits into patches, on the device that holds them, without a loop over jets.

    keep:
      "active"    packs the patches that hold a hit; K is the largest number in the batch
      "masked"    all P patches, valid where active
      "all"       all P patches, all valid (the dense model)
      "two_scale" patches with a track or calorimeter hit as they are; the hits of the
                  others (pixel layers only) summed into coarse tokens of 5 x 5 patches
    live: (height, width) bool. Where given, a patch is active if it holds a live
      cell, whatever its values: a dead cell of a calorimeter map is a signal.

    Two hits in one pixel add up. A jet without hits has no valid token.
    Raises ValueError for an unknown `keep`.
    """
    if keep not in ("active", "masked", "all", "two_scale"):
        raise ValueError(f"keep={keep!r}: use 'active', 'masked', 'all' or 'two_scale'")
    device, count, patches = hits.value.device, hits.images, grid.patches
    ph, pw = grid.patch_height, grid.patch_width
    patch = (hits.row // ph) * grid.columns + hits.column // pw
    inside = (hits.row % ph, hits.column % pw)
    slots = patches

    if keep == "two_scale":
        fine = torch.zeros(count * patches, dtype=torch.bool, device=device)
        pixel = torch.isin(hits.channel, torch.tensor(PIXEL_LAYERS, device=device))
        fine[(hits.image * patches + patch)[~pixel]] = True
        is_fine = fine[hits.image * patches + patch]
        block = (hits.row // (5 * ph)) * grid.coarse[1] + hits.column // (5 * pw)
        # Inside a coarse token a hit falls on the cell of the patch it came from.
        cell = ((hits.row // ph) % 5 % ph, (hits.column // pw) % 5 % pw)
        patch = torch.where(is_fine, patch, patches + block)
        inside = tuple(torch.where(is_fine, a, b) for a, b in zip(inside, cell, strict=True))
        slots = patches + grid.coarse[0] * grid.coarse[1]

    key = hits.image * slots + patch
    if live is not None:
        cells = torch.nn.functional.pad(
            live.to(device), (0, grid.columns * pw - grid.width, 0, grid.rows * ph - grid.height)
        )
        active = cells.view(grid.rows, ph, grid.columns, pw).any(3).any(1).view(1, -1)
        active = active.expand(count, -1)
        known = active.reshape(-1)[key]
        hits, key = hits.select(known), key[known]
        inside = tuple(part[known] for part in inside)
    else:
        active = torch.zeros(count * slots, dtype=torch.bool, device=device)
        active[key] = True
        active = active.view(count, slots)

    if keep in ("active", "two_scale"):
        slot = active.cumsum(1) - 1
        length = max(1, int(active.sum(1).max())) if count else 1
        where_image, where_patch = active.nonzero(as_tuple=True)
        where_slot = slot[where_image, where_patch]
        position = torch.zeros(count, length, dtype=torch.int64, device=device)
        position[where_image, where_slot] = where_patch
        valid = torch.zeros(count, length, dtype=torch.bool, device=device)
        valid[where_image, where_slot] = True
        target = slot.view(-1)[key]
    else:
        length = patches
        position = torch.arange(patches, device=device).expand(count, -1)
        valid = torch.ones_like(active) if keep == "all" else active
        target = key - hits.image * slots

    features = torch.zeros(count, length, grid.patch_dim, device=device)
    pixel = (hits.channel * ph + inside[0]) * pw + inside[1]
    flat = (hits.image * length + target) * grid.patch_dim + pixel
    features.view(-1).scatter_add_(0, flat, hits.value)
    return TokenBatch(features, position, valid, grid)


def densify(tokens: TokenBatch) -> Tensor:
    """Tokens back to images: (B, C, H, W), the inverse of `tokenize` (not of "two_scale")."""
    grid, count = tokens.grid, len(tokens.valid)
    patches = tokens.features.new_zeros(count * grid.patches + 1, grid.patch_dim)
    start = torch.arange(count, device=patches.device).unsqueeze(1) * grid.patches
    flat = torch.where(tokens.valid, start + tokens.position, count * grid.patches).flatten()
    patches = patches.index_copy(0, flat, tokens.features.flatten(0, 1))[:-1]
    shape = (count, grid.rows, grid.columns, grid.channels, grid.patch_height, grid.patch_width)
    image = patches.view(shape).permute(0, 3, 1, 4, 2, 5)
    image = image.reshape(count, grid.channels, grid.rows * grid.patch_height, -1)
    return image[:, :, : grid.height, : grid.width]
