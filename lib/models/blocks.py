"""The transformer block on a packed set of patches: attention, local convolution, MLP.

x: (B, K, D) tokens, valid: (B, K) bool. What is not valid enters no attention, no
convolution and no statistic of a norm; its own output is never read."""

import dataclasses

import torch
from torch import Tensor, nn

from lib import together
from lib.data.tokens import TOP_QCD, Grid
from lib.models import zoo  # noqa: F401 (its mechanisms enter themselves)
from lib.models.attention import MECHANISMS
from lib.registry import Registry, check_choices

SPARSE = 8  # times as many cells as tokens: then a convolution goes by neighbours


class Layout:
    """Where tokens with position and valid (B, K) sit on the grid of P patches. Class tokens and
    coarse tokens have no place there. fill: (B, P, D), added to what is on the grid; it is how a
    masked pretraining puts a mask token where it hid a patch."""

    def __init__(self, position: Tensor, valid: Tensor, grid: Grid,
                 fill: Tensor | None = None) -> None:
        self.shape = position.shape[0], grid.rows, grid.columns
        self.grid, self.position, self.fill, self.near = grid, position, fill, {}
        self.on_grid = valid & (position >= 0) & (position < grid.patches)
        start = torch.arange(self.shape[0], device=position.device).unsqueeze(1) * grid.patches
        self.cells = self.shape[0] * grid.patches
        # the row of each token in a buffer, whose last row takes what has no place on the grid
        self.flat = torch.where(self.on_grid, start + position, self.cells).flatten()

    def spread(self, x: Tensor) -> Tensor:
        """(B, K, D) -> (B, D, rows, columns), channels last; 0 or `fill` where there is none."""
        if torch.is_autocast_enabled(x.device.type):  # what a convolution would do to all cells
            x = x.to(torch.get_autocast_dtype(x.device.type))
        grid = _Move.apply(x, self.flat, self.cells, True).view(*self.shape, -1)
        if self.fill is not None:
            grid = grid + self.fill.to(grid.dtype).view_as(grid)
        return grid.permute(0, 3, 1, 2)

    def collect(self, grid: Tensor) -> Tensor:
        """(B, D, rows, columns) -> (B, K, D); zero where a token has no place there."""
        cells = grid.permute(0, 2, 3, 1).flatten(0, 2)
        return _Move.apply(cells, self.flat, self.cells, False).view(*self.on_grid.shape, -1)

    def convolve(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        """A depthwise convolution of tokens (B, K, D) -> (B, K, D), zero where a token has no place
        on the grid. Where most cells are empty, it goes from token to token."""
        exported = torch.compiler.is_exporting() or torch.jit.is_tracing()  # any sizes
        if exported or self.fill is not None or self.cells < SPARSE * len(self.flat):
            return self.collect(depthwise(conv, self.spread(x)))
        size = conv.kernel_size[0]
        if size not in self.near:
            self.near[size] = self._neighbours(size)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        out = _Gathered.apply(x.flatten(0, 1), conv.weight, conv.bias, self.near[size])
        return out.view_as(x) * self.on_grid.unsqueeze(-1).to(x.dtype)

    def _neighbours(self, size: int) -> Tensor:
        """Of each token the one at each place of a kernel: (size², B·K); B·K where none is."""
        count, edge = len(self.flat), (size // 2,) * 4
        token = torch.full((self.cells + 1,), count, device=self.flat.device)
        token[self.flat] = torch.arange(count, device=token.device)
        around = nn.functional.pad(token[:-1].view(self.shape), edge, value=count)
        around = around.unfold(1, size, 1).unfold(2, size, 1)  # (B, rows, columns, size, size)
        cell = torch.unravel_index(self.flat.clamp(max=self.cells - 1), self.shape)
        near = around[cell].flatten(1).t().contiguous()
        return near.where(self.on_grid.flatten(), count)


class _Gathered(torch.autograd.Function):
    """Depthwise convolution of tokens x (N, D) by their neighbours (size², N): N is a token of
    zeros. The neighbours of the derivative are those of the mirrored kernel."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, near: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, near)
        return _Gathered.summed(x, weight, near) + bias.to(x.dtype)

    @staticmethod
    def summed(x: Tensor, weight: Tensor, near: Tensor) -> Tensor:
        padded, out = nn.functional.pad(x, (0, 0, 0, 1)), torch.zeros_like(x)
        for factor, index in zip(weight.flatten(1).t().to(x.dtype), near, strict=True):
            out.addcmul_(padded.index_select(0, index), factor)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, near = ctx.saved_tensors
        padded = nn.functional.pad(x, (0, 0, 0, 1))
        dw = [(padded.index_select(0, index) * grad).sum(0, dtype=torch.float32) for index in near]
        dw = torch.stack(dw, 1).view_as(weight).to(weight.dtype)
        dx = _Gathered.summed(grad, weight.flip(2, 3), near)
        return dx, dw, grad.sum(0, dtype=dw.dtype), None


class _Move(torch.autograd.Function):
    """Tokens to cells, or back: each is the derivative of the other, and the library's own would
    clear and copy all cells once more. A token whose cell is the last, one too many, has none."""

    @staticmethod
    def forward(ctx, x: Tensor, flat: Tensor, cells: int, there: bool) -> Tensor:
        ctx.save_for_backward(flat)
        ctx.how, ctx.shape = (cells, there), x.shape
        if there:
            x = x.flatten(0, -2)
            return x.new_zeros(cells + 1, x.shape[-1]).index_copy_(0, flat, x)[:-1]
        taken = x.index_select(0, flat.clamp(max=cells - 1))
        return taken.mul_((flat < cells).unsqueeze(1))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        cells, there = ctx.how
        moved = _Move.apply(grad, *ctx.saved_tensors, cells, not there)
        return moved.view(ctx.shape), None, None, None


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


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution whose weight gradient is a depthwise convolution too. dL/dw[c, i, j] =
    sum_bhw g[b, c, h, w] x[b, c, h + i, w + j] is the input, each image and channel a channel of
    its own, convolved with the gradient as its kernel. The library's own kernel for this takes 2.5
    times longer in bfloat16 on a CPU (7 x 7, 256 channels)."""

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


class MaskedBatchNorm(nn.Module):
    """Batch normalisation of (B, K, D) whose statistics see the valid tokens only, of all processes
    that make the step; with every token valid it is `nn.BatchNorm1d` over B·K rows."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        mean, var = self.running_mean, self.running_var
        if self.training and (count := together.summed(valid.sum())) > 1:
            keep = valid.unsqueeze(-1).float()
            mean = together.summed((x.float() * keep).sum((0, 1))) / count
            var = together.summed(((x.float() - mean) ** 2 * keep).sum((0, 1))) / count
            with torch.no_grad():
                self.running_mean.lerp_(mean, 0.1)
                self.running_var.lerp_(var * count / (count - 1), 0.1)
        scale = self.weight * (var + 1e-5).rsqrt()
        return (x * scale + (self.bias - mean * scale)).to(x.dtype)


class ImageBatchNorm(nn.BatchNorm2d):
    """That of torch and, where several processes make a step, over the images of all."""

    def forward(self, x: Tensor) -> Tensor:
        if together.size() == 1:
            return super().forward(x)
        rows = x.flatten(2).transpose(1, 2)  # (B, H·W, C)
        rows = MaskedBatchNorm.forward(self, rows, rows.new_ones(rows.shape[:2], dtype=torch.bool))
        return rows.transpose(1, 2).unflatten(2, x.shape[2:])


class Attention(nn.Module):
    """Projections to queries, keys and values, a mechanism between them, and a projection back.

    settings: of the mechanism; a mechanism that is ``placed`` gets the grid too, and the positions
    of the tokens. In a file of weights a parameter of the mechanism has the name
    ``attention.temperature``, without the word mechanism."""

    def __init__(self, dim: int, heads: int, mechanism: str, dropout: float = 0.0,
                 grid: Grid = TOP_QCD, **settings) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim={dim} is not a multiple of heads={heads}")
        kind = MECHANISMS.find(mechanism)
        self.heads, self.placed = heads, getattr(kind, "placed", False)
        settings |= {"grid": grid} if self.placed else {}
        self.mechanism = kind(heads, dim // heads, **settings)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, K, D) -> queries, keys, values, each (B, H, K, D/H)."""
        return self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()

    def forward(self, x: Tensor, valid: Tensor, position: Tensor | None = None) -> Tensor:
        q, k, v = self.split(x)
        place = (position,) if self.placed else ()
        with torch.autocast(x.device.type, enabled=False):  # a mechanism chooses its precision
            out = self.mechanism(q, k, v, valid, *place)
        return self.dropout(self.proj(out.transpose(1, 2).flatten(2)))


class LocalConcentration(nn.Module):
    """The local concentration module of L2ViT: depthwise convolution, GELU, norm, convolution. It
    gives each patch its neighbourhood, which linear attention blurs. Only cells that hold a token
    are kept between the convolutions. norm: "batch" (as published) or "layer"."""

    def __init__(self, dim: int, kernel: int = 7, norm: str = "batch") -> None:
        super().__init__()
        check_choices(lcm_norm=(norm, ("batch", "layer")))
        self.first = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.act = nn.GELU()
        self.norm = MaskedBatchNorm(dim) if norm == "batch" else nn.LayerNorm(dim)
        self.second = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        x = self.act(layout.convolve(self.first, x))
        batch = isinstance(self.norm, MaskedBatchNorm)
        x = self.norm(x, layout.on_grid) if batch else self.norm(x)
        return layout.convolve(self.second, x)


MLPS = Registry("mlp")  # classes of one argument, a ``ViTConfig``, with forward(x, valid)


@MLPS.register("mlp")
class MLP(nn.Sequential):
    """Linear, GELU, linear, with dropout behind each; each token by itself."""

    def __init__(self, config) -> None:
        dim, hidden = config.dim, int(config.dim * config.mlp_ratio)
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), Dropout(config.dropout),
                         nn.Linear(hidden, dim), Dropout(config.dropout))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        return super().forward(x)


class Block(nn.Module):
    """Pre-norm block of a `ViTConfig`: x + attention, x + local convolution (if any), x + MLP.
    drop_path: rate of stochastic depth (arXiv:1603.09382)."""

    def __init__(self, config, drop_path: float = 0.0) -> None:
        super().__init__()
        dim, self.drop_path = config.dim, drop_path
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(
            dim, config.heads, config.attention, config.dropout, config.grid,
            normalizer=config.normalizer, floor=config.floor, temperature=config.temperature)
        self.lcm = None
        if config.lcm_kernel:
            self.norm_lcm = nn.LayerNorm(dim)
            self.lcm = LocalConcentration(dim, config.lcm_kernel, config.lcm_norm)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLPS.find(config.mlp or ("experts" if config.experts else "mlp"))(config)
        self.scales = None
        if config.layer_scale:
            self.scales = nn.ParameterList(torch.full((dim,), float(config.layer_scale))
                                           for _ in range(3 if self.lcm else 2))

    def residual(self, branch: Tensor, number: int) -> Tensor:
        """The branch of a number, scaled, and dropped image by image."""
        if self.scales is not None:
            branch = branch * self.scales[number]
        if not self.training or self.drop_path == 0:
            return branch
        keep = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop_path
        return branch * keep / (1 - self.drop_path)

    def forward(self, x: Tensor, valid: Tensor, layout: Layout, local: bool = True) -> Tensor:
        """local=False leaves the convolution out, as R1's masked pretraining does."""
        x = x + self.residual(self.attention(self.norm1(x), valid, layout.position), 0)
        if self.lcm is not None and local:
            x = x + self.residual(self.lcm(self.norm_lcm(x), layout), 2)
        return x + self.residual(self.mlp(self.norm2(x), valid), 1)


class ClassAttention(nn.Module):
    """The end of XCiT: a class token reads the tokens in a few layers of softmax attention. It
    alone asks, and it alone goes through the MLP. x (B, K, D), valid (B, K) -> (B, D)."""

    def __init__(self, config, layers: int = 2) -> None:
        super().__init__()
        config = dataclasses.replace(config, attention="softmax", lcm_kernel=0)
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.zeros(1, 1, config.dim), std=0.02))
        self.blocks = nn.ModuleList(Block(config) for _ in range(layers))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        token = self.token.expand(len(x), -1, -1).to(x.dtype)
        valid = nn.functional.pad(valid, (1, 0), value=True)
        for block in self.blocks:
            attention = block.attention
            q, k, v = attention.split(block.norm1(torch.cat([token, x], 1)))
            read = attention.mechanism(q[:, :, :1], k, v, valid).transpose(1, 2).flatten(2)
            token = token + block.residual(attention.proj(read), 0)
            token = token + block.residual(block.mlp(block.norm2(token)), 1)
        return self.norm(token).squeeze(1)
