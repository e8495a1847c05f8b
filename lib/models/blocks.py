"""The transformer block on a packed set of patches: attention, local convolution, MLP or experts.

x: (B, K, D) tokens, valid: (B, K) bool. What is not valid enters no attention, no
convolution and no statistic of a norm; its own output is never read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib.models.attention import MECHANISMS


@dataclass
class Layout:
    """Where the tokens of a batch sit on the grid of patches.

    flat: (B·K,) row of each token in a (B·rows·columns + 1, D) buffer, whose last row takes
    what has no place on the grid: padding, class tokens and coarse tokens.
    """

    flat: Tensor
    on_grid: Tensor  # (B, K) bool
    images: int
    rows: int
    columns: int
    complete: bool  # every valid token has a place
    fill: Tensor | None = None  # (B, rows·columns, D): what empty cells hold, where not zero

    @classmethod
    def of(cls, position: Tensor, valid: Tensor, rows: int, columns: int, complete: bool,
           fill: Tensor | None = None) -> Layout:
        """position (B, K), valid (B, K) -> Layout."""
        images, patches = len(position), rows * columns
        on_grid = valid & (position >= 0) & (position < patches)
        start = torch.arange(images, device=position.device).unsqueeze(1) * patches
        flat = torch.where(on_grid, start + position, images * patches)
        return cls(flat.flatten(), on_grid, images, rows, columns, complete, fill)

    def spread(self, x: Tensor) -> Tensor:
        """(B, K, D) -> (B, D, rows, columns), channels last in memory; `fill` where no token is."""
        cells = self.images * self.rows * self.columns
        buffer = x.new_zeros(cells + 1, x.shape[-1]).index_copy(0, self.flat, x.flatten(0, 1))
        grid = buffer[:cells].view(self.images, self.rows, self.columns, -1)
        if self.fill is not None:
            grid = grid + self.fill.to(grid.dtype).view_as(grid)
        return grid.permute(0, 3, 1, 2)

    def collect(self, grid: Tensor) -> Tensor:
        """(B, D, rows, columns) -> (B, K, D); zero for class and coarse tokens.

        Padding gets the vector of some cell: no one reads it, and masking costs time.
        """
        cells = grid.permute(0, 2, 3, 1).flatten(0, 2)
        taken = cells.index_select(0, self.flat.clamp(max=len(cells) - 1))
        taken = taken.view(*self.on_grid.shape, -1)
        return taken if self.complete else taken * self.on_grid.unsqueeze(-1).to(taken.dtype)


class MaskedBatchNorm(nn.Module):
    """Batch normalisation of (B, K, D) whose statistics see the valid tokens only.

    With every token valid it is `nn.BatchNorm1d` over B·K rows (momentum 0.1, eps 1e-5).
    """

    def __init__(self, dim: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.momentum, self.eps = momentum, eps

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        mean, var = self.running_mean, self.running_var
        count = valid.sum()
        if self.training and count > 1:
            keep = valid.unsqueeze(-1).float()
            mean = (x.float() * keep).sum((0, 1)) / count
            var = ((x.float() - mean) ** 2 * keep).sum((0, 1)) / count
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var * count / (count - 1), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        return (x * scale + (self.bias - mean * scale)).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention with one of `lib.models.attention.MECHANISMS`.

    normalizer, floor: of the linear mechanisms. temperature: start value of the learned
    factor per head (None: none); L2ViT starts at D^-0.5, XCiT at 1.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mechanism: str = "relu_linear",
        normalizer: str = "mean",
        floor: float = 1e-6,
        temperature: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if mechanism not in MECHANISMS:
            raise ValueError(f"attention={mechanism!r}: use one of {', '.join(MECHANISMS)}")
        if dim % heads:
            raise ValueError(f"dim={dim} is not a multiple of heads={heads}")
        if normalizer not in ("mean", "sum"):
            raise ValueError(f"normalizer={normalizer!r}: use 'mean' or 'sum'")
        self.heads, self.mechanism, self.settings = heads, mechanism, {}
        if mechanism in ("relu_linear", "elu_linear"):
            self.settings = {"normalizer": normalizer, "floor": floor}
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)
        self.temperature = None
        if temperature is not None and mechanism in (
            "relu_linear",
            "elu_linear",
            "cross_covariance",
        ):
            self.temperature = nn.Parameter(torch.full((heads, 1, 1), float(temperature)))
        if mechanism == "additive":
            self.query_weight = nn.Parameter(torch.zeros(heads, dim // heads))
            self.key_weight = nn.Parameter(torch.zeros(heads, dim // heads))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, K, D) -> queries, keys, values, each (B, H, K, D/H)."""
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return parts[0], parts[1], parts[2]

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        q, k, v = self.split(x)
        extra = dict(self.settings)
        if self.temperature is not None:
            extra["temperature"] = self.temperature
        if self.mechanism == "additive":
            extra |= {"query_weight": self.query_weight, "key_weight": self.key_weight}
        out = MECHANISMS[self.mechanism](q, k, v, valid, **extra)
        return self.dropout(self.proj(out.transpose(1, 2).flatten(2)))


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution whose weight gradient is a depthwise convolution too.

    dL/dw[c, i, j] = sum_bhw g[b, c, h, w] x[b, c, h + i, w + j] is the input, each image and
    channel a channel of its own, convolved with the gradient as its kernel. The library's own
    kernel for this takes 2.5 times longer in bfloat16 on a CPU (7 x 7, 256 channels).
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return nn.functional.conv2d(x, weight, bias, padding="same", groups=len(weight))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        (images, channels, height, width), half = x.shape, weight.shape[-1] // 2
        dx = nn.functional.conv2d(grad, weight.flip(2, 3), padding="same", groups=channels)
        flat = x.permute(2, 3, 0, 1).reshape(1, height, width, images * channels)
        flat = nn.functional.pad(flat.permute(0, 3, 1, 2), (half,) * 4)
        kernel = grad.reshape(images * channels, 1, height, width)
        dw = nn.functional.conv2d(flat.contiguous(memory_format=torch.channels_last), kernel,
                                  groups=images * channels)
        dw = dw.view(images, channels, 1, *weight.shape[2:]).float().sum(0)
        return dx, dw.to(weight.dtype), grad.float().sum((0, 2, 3)).to(grad.dtype)


def depthwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x), by the faster way where there is one; x: (B, D, rows, columns)."""
    low = torch.is_autocast_enabled(x.device.type) or x.dtype == torch.bfloat16
    if x.device.type != "cpu" or not low or conv.kernel_size[0] < 5:
        return conv(x)
    return _Depthwise.apply(*(part.to(torch.bfloat16) for part in (x, conv.weight, conv.bias)))


class LocalConcentration(nn.Module):
    """The local concentration module of L2ViT: depthwise convolution, GELU, norm, again.

    A depthwise convolution gives each patch its neighbourhood, which linear attention
    blurs. Only cells that hold a token are kept between the two convolutions.
    norm: "batch" (as published) or "layer".
    """

    def __init__(self, dim: int, kernel: int = 7, norm: str = "batch") -> None:
        super().__init__()
        if norm not in ("batch", "layer"):
            raise ValueError(f"lcm_norm={norm!r}: use 'batch' or 'layer'")
        self.first = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.act = nn.GELU()
        self.norm = MaskedBatchNorm(dim) if norm == "batch" else nn.LayerNorm(dim)
        self.second = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        x = self.act(layout.collect(depthwise(self.first, layout.spread(x))))
        if isinstance(self.norm, MaskedBatchNorm):
            x = self.norm(x, layout.on_grid)
        else:
            x = self.norm(x)
        return layout.collect(depthwise(self.second, layout.spread(x)))


class Dropout(nn.Module):
    """Dropout whose chance comes in bytes: on a CPU drawing a number for each element takes
    longer than the layer before it. The rate is rounded to 1/256."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        if x.is_cuda:
            return nn.functional.dropout(x, self.rate)
        dropped = max(1, round(self.rate * 256))
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * (keep.to(x.dtype) * (256 / (256 - dropped)))


class DropPath(nn.Module):
    """Stochastic depth (arXiv:1603.09382): drop a residual branch, image by image."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(len(x), 1, 1, device=x.device) >= self.rate
        return x * keep / (1 - self.rate)


class MLP(nn.Sequential):
    """Linear, GELU, linear, with dropout behind each."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__(
            nn.Linear(dim, hidden),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(hidden, dim),
            Dropout(dropout),
        )


ROUTERS = {"soft": 0, "top1": 1, "top2": 2}  # experts that a token is sent to; 0: to all


@dataclass
class Routing:
    """What a router decided for B images of K tokens and E experts, in float32.

    logits:  (B, K, E) its output; the probabilities are their softmax.
    weights: (B, K, E) what each expert's output is multiplied by; 0 for experts that are not
             called, and for padding.
    chosen:  (B, K, E) bool, the experts of the largest logits ("soft": the one); not for padding.
    valid:   (B, K) bool.
    """

    logits: Tensor
    weights: Tensor
    chosen: Tensor
    valid: Tensor

    def _mean(self, x: Tensor) -> Tensor:
        """Mean of x (B, K, ...) over the valid tokens; 0 without any."""
        keep = self.valid.view(*self.valid.shape, *(1,) * (x.ndim - 2))
        return x.masked_fill(~keep, 0).sum((0, 1)) / keep.sum().clamp(min=1)

    def load(self) -> Tensor:
        """(E,): share of the assignments that went to each expert."""
        share = self._mean(self.chosen.float())
        return share / share.sum().clamp(min=1e-6)

    def load_balancing(self) -> Tensor:
        """E · Σ_e f_e P_e, Switch (arXiv:2101.03961), eqs. 4-6, without its factor α.

        f_e: share of the assignments (constant), P_e: mean probability. It is 1 where both are
        even and E where one expert gets everything.
        """
        return len(self.load()) * (self.load() * self._mean(self.logits.softmax(-1))).sum()

    def z_loss(self) -> Tensor:
        """Mean of (log Σ_e exp logit_e)², ST-MoE (arXiv:2202.08906), eq. 5: keeps logits small."""
        return self._mean(self.logits.logsumexp(-1).square())


class MixtureOfExperts(nn.Module):
    """MLPs between which a router chooses, token by token.

    router:
      "top1"  the output is that of the likeliest expert times its probability, as in Switch,
              so that the router learns from it
      "top2"  the two likeliest, with their probabilities scaled to add up to 1, as in ST-MoE
      "soft"  all experts, weighted by their probabilities: nothing is saved
    No token is dropped: experts have no capacity. The router computes in float32, always.
    """

    def __init__(
        self, dim: int, hidden: int, experts: int, router: str = "soft", dropout: float = 0.0
    ) -> None:
        super().__init__()
        if router not in ROUTERS:
            raise ValueError(f"router={router!r}: use one of {', '.join(ROUTERS)}")
        if experts < max(1, ROUTERS[router]):
            raise ValueError(f"experts={experts} are too few for router={router!r}")
        self.top = ROUTERS[router]
        self.router = nn.Linear(dim, experts)
        self.experts = nn.ModuleList(MLP(dim, hidden, dropout) for _ in range(experts))

    def route(self, x: Tensor, valid: Tensor) -> Routing:
        with torch.autocast(x.device.type, enabled=False):
            logits = self.router(x.float())
        weights, keep = logits.softmax(-1), valid.unsqueeze(-1)
        best = logits.topk(max(1, self.top), -1).indices
        chosen = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, best, True) & keep
        weights = weights * (chosen if self.top else keep)
        if self.top > 1:
            weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
        return Routing(logits, weights, chosen, valid)

    def forward(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Routing]:
        """x (B, K, D), valid (B, K) -> the same shape, zero for padding, and the routing."""
        routing = self.route(x, valid)
        if not self.top:
            parts = zip(routing.weights.unsqueeze(-1).unbind(2), self.experts)
            return sum(weight * expert(x) for weight, expert in parts), routing
        flat, weights = x.flatten(0, 1), routing.weights.flatten(0, 1)
        out = torch.zeros_like(flat, dtype=torch.float32)
        for number, expert in enumerate(self.experts):
            rows = routing.chosen[..., number].flatten().nonzero().squeeze(1)
            out = out.index_add(0, rows, weights[rows, number, None] * expert(flat[rows]).float())
        return out.view(x.shape), routing


class Block(nn.Module):
    """Pre-norm block: x + attention, x + local convolution (if any), x + MLP or experts."""

    def __init__(self, config, drop_path: float = 0.0) -> None:
        """config: a `lib.models.vit.ViTConfig`."""
        super().__init__()
        dim = config.dim
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(
            dim,
            config.heads,
            config.attention,
            config.normalizer,
            config.floor,
            config.temperature,
            config.dropout,
        )
        self.lcm = None
        if config.lcm_kernel:
            self.norm_lcm = nn.LayerNorm(dim)
            self.lcm = LocalConcentration(dim, config.lcm_kernel, config.lcm_norm)
        self.norm2 = nn.LayerNorm(dim)
        hidden = int(dim * config.mlp_ratio)
        if config.experts:
            self.mlp = MixtureOfExperts(dim, hidden, config.experts, config.router, config.dropout)
        else:
            self.mlp = MLP(dim, hidden, config.dropout)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Tensor, valid: Tensor, layout: Layout, local: bool = True,
        routings: list[Routing] | None = None,
    ) -> Tensor:
        """local=False leaves the convolution out, as R1's masked pretraining does.

        routings: a list to which the block's routing is added, if it has experts.
        """
        x = x + self.drop_path(self.attention(self.norm1(x), valid))
        if self.lcm is not None and local:
            x = x + self.drop_path(self.lcm(self.norm_lcm(x), layout))
        if isinstance(self.mlp, MLP):
            return x + self.drop_path(self.mlp(self.norm2(x)))
        out, routing = self.mlp(self.norm2(x), valid)
        if routings is not None:
            routings.append(routing)
        return x + self.drop_path(out)
