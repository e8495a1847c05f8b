"""The zoo: rivals of softmax and plain linear attention, each from its paper's formulas.

Shapes as in ``lib.models.attention``. All compute in float32 (float64 stays) whatever comes in, and
take means over the valid keys where a paper has sums, so that a jet of 10 tokens and one of 625 are
treated alike. Those that are ``placed`` get the grid, and ``position`` (B, N) of the tokens on it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.tokens import COARSE, TOP_QCD, Grid
from lib.models.attention import MECHANISMS, Mechanism, masked, over_keys


def wide(*tensors: Tensor) -> list[Tensor]:
    """The tensors in float32, or in float64 if they are."""
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def mean_weight(k: Tensor, valid: Tensor | None) -> Tensor:
    """What each key counts in a mean over the valid ones: (B or 1, 1, N, 1)."""
    if valid is None:
        return torch.full((1, 1, k.shape[2], 1), 1 / k.shape[2], device=k.device, dtype=k.dtype)
    return (valid / valid.sum(1, keepdim=True).clamp(min=1))[:, None, :, None].to(k.dtype)


@MECHANISMS.register("none")
class NoMixing(Mechanism):
    """v: nothing is exchanged. The control, which any attention has to beat; the projections to
    queries and keys rest, so of a model's parameters 2 D² + 2 D a block do nothing."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None) -> Tensor:
        return v


@MECHANISMS.register("inline")
class InLine(Mechanism):
    """Injective linear attention, Han et al. (arXiv:2412.06590): scores q·k are normalised by
    subtraction, not division: row i is (q_i·k_j - mean_s q_i·k_s) + 1/N, whose sum is one.

    Its product with v is mean(v) + q Σ k (v - mean v). normalizer: "mean" divides the scores by the
    number of keys; "sum" is the published form. The local residual of the paper is the block's
    convolution."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None) -> Tensor:
        dtype, (q, k, v) = v.dtype, wide(q, k, v)
        weight = mean_weight(k, valid)
        centre = (weight * v).sum(2, keepdim=True)
        keys = masked(k, valid) if self.normalizer == "sum" else weight * k
        return (centre + q @ (keys.transpose(-2, -1) @ (v - centre))).to(dtype)

    def map(self, q: Tensor, k: Tensor, valid: Tensor | None = None) -> Tensor:
        """Rows add to one; an entry may be negative."""
        q, k = wide(q, k)
        weight = mean_weight(k, valid).transpose(-2, -1)  # (B, 1, 1, N)
        scores = q @ k.transpose(-2, -1)
        scores = scores - (scores * weight).sum(-1, keepdim=True)
        scale = (weight > 0).to(weight.dtype) if self.normalizer == "sum" else weight
        return scores * scale + weight


@MECHANISMS.register("polaformer")
class PolaFormer(Mechanism):
    """Polarity-aware linear attention, Meng et al. (arXiv:2501.15061).

    q and k are split into their positive and negative parts, raised to a learned power of 1 to 5 a
    channel, which sharpens the map and keeps its rank. Half of the value channels are averaged with
    the product of equal signs (q⁺k⁺ + q⁻k⁻), the others with that of opposite signs; a learned
    factor a channel, here not a function of the token, weighs the two."""

    def __init__(self, heads: int, width: int, **settings) -> None:
        super().__init__(heads, width, **settings)
        self.power = nn.Parameter(torch.zeros(heads, 1, width))
        self.gain = nn.Parameter(torch.ones(heads, 1, width))

    def features(self, x: Tensor, flipped: bool = False) -> Tensor:
        """(B, H, N, D) -> (B, H, N, 2D): positive and negative parts, or the reverse."""
        power, parts = 1 + 4 * self.power.sigmoid(), [x.relu(), (-x).relu()]
        return torch.cat([part**power for part in parts[:: -1 if flipped else 1]], -1) + 1e-6

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None) -> Tensor:
        dtype, (q, k, v) = v.dtype, wide(q, k, v)
        key = self.features(k) * mean_weight(k, valid)
        total, half, out = key.sum(2).unsqueeze(-1), -(-v.shape[-1] // 2), []
        for values, flipped in zip(v.split(half, -1), (False, True)):
            query = self.features(q, flipped)
            product = query @ (key.transpose(-2, -1) @ values)
            out.append(product / (query @ total).clamp(min=self.floor))
        return (torch.cat(out, -1) * self.gain).to(dtype)


@MECHANISMS.register("vit3")
class TestTime(Mechanism):
    """Test-time training, ViT³ (arXiv:2512.01643): keys and values train a small inner network for
    one step, in closed form, and the queries go through what came out.

    The network is F(x) = (x A) ⊙ silu(x B), the loss -F(k)·v, mean over the keys, the rate 1:
    A' = A + mean kᵀ (v ⊙ silu(k B)), B' = B + mean kᵀ (v ⊙ (k A) ⊙ silu'(k B)). Keys are of length
    √D at most, or a large one would throw the step. The paper's second inner network, a depthwise
    convolution, is the block's own."""

    __test__ = False  # its name does not make it one

    def __init__(self, heads: int, width: int, **settings) -> None:
        super().__init__(heads, width, **settings)
        self.value, self.gate = (nn.Parameter(torch.empty(heads, width, width).uniform_(
            -(3 / width)**0.5, (3 / width)**0.5)) for _ in range(2))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None) -> Tensor:
        dtype, (q, k, v) = v.dtype, wide(q, k, v)
        length = k.norm(dim=-1, keepdim=True)
        k = k * (k.shape[-1]**0.5 / length.clamp(min=k.shape[-1]**0.5))
        keys = (k * mean_weight(k, valid)).transpose(-2, -1)
        linear, gate = k @ self.value, k @ self.gate
        open_, slope = gate.sigmoid(), F.silu(gate)
        slope = open_ + slope * (1 - open_)  # the derivative of silu
        value = self.value + keys @ (v * F.silu(gate))
        gate = self.gate + keys @ (v * linear * slope)
        return ((q @ value) * F.silu(q @ gate)).to(dtype)


class Placed(Mechanism):
    """A mechanism on blocks of patches; without ``position`` tokens are numbered as they come.
    grid: of the patches. ``blocks(grid)`` says how many rows and columns of them make a block."""

    placed = True

    def __init__(self, heads: int, width: int, grid: Grid = TOP_QCD, **settings) -> None:
        super().__init__(heads, width, **settings)
        self.on(grid)

    def on(self, grid: Grid) -> None:
        """Work on another grid."""
        self.grid, self.block = grid, self.blocks(grid)
        self.shape = -(-grid.rows // self.block[0]), -(-grid.columns // self.block[1])
        self.count = self.shape[0] * self.shape[1]

    def number(self, q: Tensor, position: Tensor | None) -> Tensor:
        """The block of each token, (B, N). A coarse token counts by its middle; one without a place
        (a class token, -1) is in the middle."""
        rows, columns = self.grid.rows, self.grid.columns
        if position is None:
            position = torch.arange(q.shape[2], device=q.device) % self.grid.patches
        middle = rows // 2 * columns + columns // 2
        row, column = self.grid.centres(position.where(position >= 0, middle))
        row = (row + (rows - 1) / 2).long().clamp(max=rows - 1) // self.block[0]
        column = (column + (columns - 1) / 2).long().clamp(max=columns - 1) // self.block[1]
        return (row * self.shape[1] + column).expand(len(q), -1)


class Groups:
    """Tokens in the boxes of M blocks: (B, H, N, D) <-> (B, H, M, S, D), S the fullest block's."""

    def __init__(self, number: Tensor, valid: Tensor | None, count: int) -> None:
        valid = torch.ones_like(number, dtype=torch.bool) if valid is None else valid
        number = torch.where(valid, number, count)  # padding comes last
        ordered, order = number.sort(dim=1, stable=True)
        first = torch.searchsorted(ordered, torch.arange(
            count + 1, device=number.device).expand(len(number), -1).contiguous())
        rank = torch.arange(number.shape[1], device=number.device) - first.gather(1, ordered)
        rank = torch.zeros_like(rank).scatter(1, order, rank)
        self.shape = count, max(1, int(torch.where(valid, rank + 1, 0).max()))
        self.last = count * self.shape[1]  # the slot of all padding
        self.slot = torch.where(valid, number * self.shape[1] + rank, self.last)
        here = torch.zeros(len(number), self.last + 1, dtype=torch.bool, device=number.device)
        self.here = here.scatter(1, self.slot, True)[:, :-1].unflatten(1, self.shape)  # (B, M, S)

    def spread(self, x: Tensor) -> Tensor:
        """-> (B, H, M, S, D), zero where no token is."""
        boxes = x.new_zeros(*x.shape[:2], self.last + 1, x.shape[-1])
        boxes = boxes.scatter(2, self.slot[:, None, :, None].expand_as(x), x)
        return boxes[:, :, :-1].unflatten(2, self.shape)

    def collect(self, boxes: Tensor) -> Tensor:
        """-> (B, H, N, D); padding gets the vector of some token."""
        slot = self.slot.clamp(max=self.last - 1)[:, None, :, None]
        return boxes.flatten(2, 3).gather(2, slot.expand(-1, boxes.shape[1], -1, boxes.shape[-1]))


@MECHANISMS.register("mhla")
class Mhla(Placed):
    """Multi-head linear attention, heads of tokens, Zhang et al. (arXiv:2601.07832): each of 5 x 5
    blocks of the image keeps its own φ(k)ᵀv; a query reads their mixture with weights of its block,
    learned a head: M² numbers, which start as the largest distance + 1 - distance. They are kept as
    logarithms, so that the map stays positive. φ = ReLU + 1e-6."""

    def __init__(self, heads: int, width: int, **settings) -> None:
        super().__init__(heads, width, **settings)
        place = torch.cartesian_prod(*(torch.arange(float(n)) for n in self.shape))
        far = torch.cdist(place.view(-1, 2), place.view(-1, 2))
        self.mix = nn.Parameter((far.max() + 1 - far).log().repeat(heads, 1, 1))

    @staticmethod
    def blocks(grid: Grid) -> tuple[int, int]:
        return -(-grid.rows // COARSE), -(-grid.columns // COARSE)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None,
                position: Tensor | None = None) -> Tensor:
        dtype, (q, k, v) = v.dtype, wide(q, k, v)
        groups = Groups(self.number(q, position), valid, self.count)
        keys = (k.relu() + 1e-6) * mean_weight(k, valid)
        one = torch.ones_like(v[..., :1])  # a further value: the sum of the weights
        keys, values = groups.spread(keys), groups.spread(torch.cat([v, one], -1))
        kv = (keys.transpose(-2, -1) @ values).flatten(3)  # (B, H, M, D (D + 1))
        mixed = (self.mix.exp() @ kv).unflatten(-1, (k.shape[-1], -1))
        out = groups.collect(groups.spread(q.relu() + 1e-6) @ mixed)
        return (out[..., :-1] / out[..., -1:].clamp(min=self.floor)).to(dtype)

    def map(self, q: Tensor, k: Tensor, valid: Tensor | None = None,
            position: Tensor | None = None) -> Tensor:
        q, k = wide(q, k)
        block = F.one_hot(self.number(q, position), self.count).to(q.dtype).unsqueeze(1)
        weight = (q.relu() + 1e-6) @ (k.relu() + 1e-6).transpose(-2, -1)
        return over_keys(weight * (block @ self.mix.exp() @ block.transpose(-2, -1)), valid)


@MECHANISMS.register("windows")
class Windows(Placed):
    """Softmax attention within windows of 7 x 7 patches, as in the local blocks of L2ViT."""

    size, summary = 7, False

    @classmethod
    def blocks(cls, grid: Grid) -> tuple[int, int]:
        return cls.size, cls.size

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None,
                position: Tensor | None = None) -> Tensor:
        dtype, (q, k, v) = v.dtype, wide(q, k, v)
        groups = Groups(self.number(q, position), valid, self.count)
        here, boxes = groups.here.unsqueeze(1), [groups.spread(x) for x in (q, k, v)]
        here = here | ~here.any(-1, keepdim=True)  # an empty block sees its zeros
        scores = boxes[0] @ boxes[1].transpose(-2, -1) * q.shape[-1] ** -0.5
        scores, values = scores.masked_fill(~here.unsqueeze(3), -torch.inf), boxes[2]
        if self.summary:
            key, value = self.summaries(groups, *boxes)
            more = boxes[0] @ key.transpose(-2, -1) * q.shape[-1] ** -0.5
            scores, values = torch.cat([scores, more], -1), torch.cat([values, value], -2)
        return groups.collect(scores.softmax(-1) @ values).to(dtype)


@MECHANISMS.register("groups")
class SmallGroups(Windows):
    """Exact attention in small groups, as in PHAT-JeT (arXiv:2605.21789): a token attends to those
    of its block of 5 x 5 patches and to the block's summary token. The summary tokens, means of
    their block's queries, keys and values, attend to each other first. Cost: 25 N and (N/25)²
    scores. The paper's convolution on the plane is the block's."""

    size, summary = COARSE, True

    def summaries(self, groups: Groups, *boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Key and value of each block's summary token, (B, H, M, 1, D)."""
        number = groups.here.sum(-1)[:, None, :, None].clamp(min=1)
        query, key, value = (x.sum(3) / number for x in boxes)  # (B, H, M, D)
        filled = groups.here.any(-1)
        filled = filled | ~filled.any(-1, keepdim=True)  # an image without tokens: all of them
        scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
        share = scores.masked_fill(~filled[:, None, None], -torch.inf).softmax(-1)
        return (share @ key).unsqueeze(3), (share @ value).unsqueeze(3)
