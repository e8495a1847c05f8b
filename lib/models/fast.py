"""Two layers that compute what PyTorch's own do, in less time on a processor without a GPU."""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout whose chance comes in bytes: on a CPU drawing a number for each element takes
    longer than the layer before it. The rate is rounded to 1/256. (The published runs of R1's and
    R3's models drew from it: another generator would give other numbers.)"""

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
