"""Hits and tokens: an image as the list of what it holds, a patch as a token.

98.8 % of the pixels of a jet image are zero. So a jet is kept as its hits, one entry a non-zero
pixel, and cut into the patches that hold at least one of them. Shapes use B jets, K tokens,
P = rows x columns patches and F = channels x patch_height x patch_width features."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from lib.cms import CHANNELS
from lib.registry import check_choices

PIXEL_LAYERS = tuple(i for i, name in enumerate(CHANNELS) if name.startswith("BPIX"))
COARSE = 5  # patches a side of a coarse token
KEEP = ("active", "masked", "all", "two_scale")


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
        """Rows and columns of the coarse grid: blocks of COARSE x COARSE patches."""
        return -(-self.rows // COARSE), -(-self.columns // COARSE)

    def centres(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of the middle of patches (coarse ones too), in patches from the image's
        middle: two float tensors of the shape of `position`."""
        fine, wide, middle = position < self.patches, self.coarse[1], COARSE // 2
        block = (position - self.patches).clamp(min=0)
        row = torch.where(fine, position // self.columns, block // wide * COARSE + middle)
        column = torch.where(fine, position % self.columns, block % wide * COARSE + middle)
        return row - (self.rows - 1) / 2, column - (self.columns - 1) / 2


TOP_QCD = Grid(8, 125, 125, 5, 5)
HCAL = Grid(1, 64, 72, 8, 4)


class OnDevice:
    """A dataclass of tensors that moves as one."""

    def to(self, device: str | torch.device) -> Self:
        """A copy with each of its tensors on `device`."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()
                                if isinstance(value, Tensor | OnDevice)})


@dataclass
class Hits(OnDevice):
    """Non-zero pixels of `images` jets as flat tensors of one length, sorted by image: the first
    four int64, value float32 in the encoding's unit."""

    image: Tensor
    channel: Tensor
    row: Tensor
    column: Tensor
    value: Tensor
    images: int

    def __len__(self) -> int:
        return len(self.value)

    def select(self, keep: Tensor) -> Self:
        """The hits where the boolean mask `keep` holds."""
        kept = keep.nonzero().squeeze(1)
        parts = (self.image, self.channel, self.row, self.column, self.value)
        return Hits(*(part.index_select(0, kept) for part in parts), self.images)

    def dense(self, shape: tuple[int, int, int]) -> Tensor:
        """The images (n, C, H, W) float32, of `shape` (C, H, W)."""
        images = torch.zeros(self.images, *shape, device=self.value.device)
        images[self.image, self.channel, self.row, self.column] = self.value
        return images


@dataclass
class TokenBatch(OnDevice):
    """features (B, K, F) float32, position (B, K) int64 in 0..P-1, valid (B, K) bool. F runs over
    (channel, row in patch, column in patch). Positions of P and above are coarse tokens
    (`keep="two_scale"`). What is not valid is padding: a model must not let it change anything."""

    features: Tensor
    position: Tensor
    valid: Tensor
    grid: Grid

    def __len__(self) -> int:
        return len(self.features)


@dataclass
class Batch(OnDevice):
    """What an objective's `loss` gets: label (B,) int64, mass and pt (B,) float32 in GeV, each None
    where the data lack it; index (B,) numbers the jets within their data set; other holds a second
    view of the same jets, where the augmentation makes two."""

    tokens: TokenBatch
    label: Tensor | None
    mass: Tensor | None
    pt: Tensor | None
    index: Tensor
    other: TokenBatch | None = None

    def __len__(self) -> int:
        return len(self.index)


def tokenize(hits: Hits, grid: Grid, keep: str = "active") -> TokenBatch:
    """Cut hits into patches, on the device that holds them, without a loop over jets.

    keep:
      "active"    packs the patches that hold a hit; K is the largest number in the batch
      "masked"    all P patches, valid where active
      "all"       all P patches, all valid (the dense model)
      "two_scale" patches with a track or calorimeter hit as they are; the hits of the
                  others (pixel layers only) summed into coarse tokens of 5 x 5 patches

    Two hits in one pixel add up. A jet without hits has no valid token. Raises ValueError for an
    unknown `keep`."""
    check_choices(keep=(keep, KEEP))
    number, cell, numbers = (_two_scale if keep == "two_scale" else by_patch)(hits, grid)
    key = hits.image * numbers + number
    active = torch.zeros(hits.images * numbers, dtype=torch.bool, device=key.device)
    active[key] = True
    active = active.view(hits.images, numbers)
    if keep in ("active", "two_scale"):
        position, valid, slot = packed(active)
        slot = slot.view(-1)[key]
    else:
        position = torch.arange(numbers, device=key.device).expand(hits.images, -1)
        valid = torch.ones_like(active) if keep == "all" else active
        slot = key - hits.image * numbers
    features = torch.zeros(*position.shape, grid.patch_dim, device=key.device)
    pixel = hits.channel * (grid.patch_height * grid.patch_width) + cell
    flat = (hits.image * position.shape[1] + slot) * grid.patch_dim + pixel
    features.view(-1).scatter_add_(0, flat, hits.value)
    return TokenBatch(features, position, valid, grid)


def by_patch(hits: Hits, grid: Grid) -> tuple[Tensor, Tensor, int]:
    """Each hit's patch and its cell in there, and how many patches there are."""
    height, width = grid.patch_height, grid.patch_width
    patch = (hits.row // height) * grid.columns + hits.column // width
    return patch, (hits.row % height) * width + hits.column % width, grid.patches


def _two_scale(hits: Hits, grid: Grid) -> tuple[Tensor, Tensor, int]:
    """As `by_patch`; hits of patches without a track or calorimeter hit go to coarse tokens,
    each to the cell of the patch that it came from."""
    patch, cell, patches = by_patch(hits, grid)
    fine = torch.zeros(hits.images * patches, dtype=torch.bool, device=patch.device)
    pixel = torch.isin(hits.channel, torch.tensor(PIXEL_LAYERS, device=patch.device))
    fine[(hits.image * patches + patch)[~pixel]] = True
    is_fine = fine[hits.image * patches + patch]
    row, column = patch // grid.columns, patch % grid.columns
    block = (row // COARSE) * grid.coarse[1] + column // COARSE
    coarse_cell = (row % COARSE % grid.patch_height * grid.patch_width
                   + column % COARSE % grid.patch_width)
    return (torch.where(is_fine, patch, patches + block), torch.where(is_fine, cell, coarse_cell),
            patches + grid.coarse[0] * grid.coarse[1])


def packed(active: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where (B, n) holds, packed to the left: position (B, K), which of them are real (B, K), and
    the slot of each, (B, n)."""
    count = active.sum(1, keepdim=True)
    length = max(1, int(count.max())) if len(active) else 1
    valid = torch.arange(length, device=active.device) < count
    position = torch.zeros_like(valid, dtype=torch.int64)
    return position.masked_scatter(valid, active.nonzero()[:, 1]), valid, active.cumsum(1) - 1


def densify(tokens: TokenBatch) -> Tensor:
    """Tokens back to images: (B, C, H, W), the inverse of `tokenize` (not of "two_scale")."""
    grid, count = tokens.grid, tokens.valid.shape[0]
    patches = tokens.features.new_zeros(count * grid.patches + 1, grid.patch_dim)
    start = torch.arange(count, device=patches.device).unsqueeze(1) * grid.patches
    flat = torch.where(tokens.valid, start + tokens.position, count * grid.patches).flatten()
    patches = patches.index_copy(0, flat, tokens.features.flatten(0, 1))[:-1]
    shape = (count, grid.rows, grid.columns, grid.channels, grid.patch_height, grid.patch_width)
    image = patches.view(shape).permute(0, 3, 1, 4, 2, 5)
    image = image.reshape(count, grid.channels, grid.rows * grid.patch_height, -1)
    return image[:, :, : grid.height, : grid.width]
