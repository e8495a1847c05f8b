"""Attention: a mechanism is a small module that stands between the projections of a block.

q, k, v: (B, H, N, D) queries, keys, values of N tokens in H heads of width D.
valid:   (B, N) bool or None; a token that is not valid enters no sum.
A new mechanism is one class, entered with ``@MECHANISMS.register(name)`` or named ``module:Class``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.registry import Registry, check_choices

MECHANISMS = Registry("attention")


class Mechanism(nn.Module):
    """What all mechanisms share; each has ``forward(q, k, v, valid=None) -> (B, H, N, D)``.

    A mechanism that stands for a map of N x N has ``map(q, k, valid=None) -> (B, H, N, N)`` too:
    its rows add to one over the valid keys, and without a temperature its product with v is the
    output. Whatever the dtype of its inputs, a mechanism divides in float32.

    Args:
        heads, width: H and D, for parameters.
        normalizer, floor: of the linear mechanisms, see ``Kernel``.
        temperature: start of a learned factor per head, for the mechanisms that have one (None:
            no factor); L2ViT starts at D^-0.5, XCiT at 1."""

    tempered = False  # whether there is a learned factor, (H, 1, 1)

    def __init__(self, heads: int, width: int, normalizer: str = "mean", floor: float = 1e-6,
                 temperature: float | None = None) -> None:
        super().__init__()
        check_choices(normalizer=(normalizer, ("mean", "sum")))
        self.normalizer, self.floor, factor = normalizer, floor, None
        if self.tempered and temperature is not None:
            factor = nn.Parameter(torch.full((heads, 1, 1), float(temperature)))
        self.register_parameter("temperature", factor)


def masked(x: Tensor, valid: Tensor | None) -> Tensor:
    """x (B, H, N, D) with the tokens that are not valid set to zero."""
    return x if valid is None else x * valid[:, None, :, None].to(x.dtype)


def over_keys(weight: Tensor, valid: Tensor | None) -> Tensor:
    """Weights (B, H, N, N) of keys -> rows that add to one over the valid keys."""
    if valid is not None:
        weight = weight * valid[:, None, None, :]
    return weight / weight.sum(-1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)


@MECHANISMS.register("softmax")
class Softmax(Mechanism):
    """softmax(q kᵀ / √D) v, Vaswani et al. (2017), eq. 1; quadratic in N."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None) -> Tensor:
        mask = None
        if valid is not None:
            # An image without tokens would have a softmax over nothing: let it see its padding.
            mask = (valid | ~valid.any(1, keepdim=True))[:, None, None, :]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def map(self, q: Tensor, k: Tensor, valid: Tensor | None = None) -> Tensor:
        scores = q.float() @ k.float().transpose(-2, -1) * q.shape[-1] ** -0.5
        if valid is not None:
            scores = scores.masked_fill(~valid[:, None, None, :], torch.finfo(scores.dtype).min)
        return over_keys(scores.softmax(-1), valid)


class Kernel(Mechanism):
    """φ(q) (φ(k)ᵀ v) / (φ(q)·Σφ(k)) with a feature map φ ≥ 0; linear in N. ``phi`` is the feature
    map, element by element. normalizer: "mean" averages over the valid keys, so that the floor of
    the denominator means the same with 10 tokens as with 625; "sum" is the published form, whose
    official code has a floor of 100. A temperature multiplies the output."""

    tempered = True

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None) -> Tensor:
        heads, width, dtype = q.shape[1], q.shape[3], v.dtype
        # All heads share two matrix products: of the (H·D, H·D) matrix kᵀv only the blocks of one
        # head with itself are kept. H times the arithmetic, but no head is copied out: 5.6 ms a
        # layer, not 9.2, in bfloat16 on one core (4 heads of 16, 64 jets). The sums of the keys are
        # H more columns. A copy costs less than φ and its derivative on rows in pieces.
        q, k, v = (x.transpose(1, 2).flatten(2).contiguous() for x in (q, k, v))
        weight = torch.ones(k.shape[:2], device=k.device) if valid is None else valid.float()
        if self.normalizer == "mean":
            weight = weight / weight.sum(1, keepdim=True).clamp(min=1)
        one = torch.eye(heads, device=q.device, dtype=dtype)
        block = one.repeat_interleave(width, 0)
        keys = self.phi(k) * weight.unsqueeze(-1).to(dtype)
        values = torch.cat([v, v[..., :heads].detach() * 0 + 1], -1)
        kv = (keys.transpose(1, 2) @ values) * (block @ torch.cat([block.T, one], 1))
        out, norm = (self.phi(q) @ kv).float().split([heads * width, heads], -1)
        share = norm.clamp(min=self.floor).reciprocal()
        out = out.unflatten(-1, (heads, width)) * share.unsqueeze(-1)
        if self.temperature is not None:
            out = out * self.temperature.flatten(1)
        return out.to(dtype).transpose(1, 2)

    def map(self, q: Tensor, k: Tensor, valid: Tensor | None = None) -> Tensor:
        return over_keys(self.phi(q.float()) @ self.phi(k.float()).transpose(-2, -1), valid)


@MECHANISMS.register("relu_linear")
class ReluLinear(Kernel):
    """Linear attention with φ = ReLU, L2ViT (arXiv:2501.16182), its eq. for LGA. With a mean,
    φ = ReLU + 1e-6: a query without a positive component still averages its keys."""

    def phi(self, x: Tensor) -> Tensor:
        return x.relu() + (1e-6 if self.normalizer == "mean" else 0.0)


@MECHANISMS.register("elu_linear")
class EluLinear(Kernel):
    """Linear attention with φ = ELU + 1, Katharopoulos et al. (arXiv:2006.16236), eq. 7."""

    def phi(self, x: Tensor) -> Tensor:
        return F.elu(x) + 1


@MECHANISMS.register("cross_covariance")
class CrossCovariance(Mechanism):
    """XCA: attention between the D channels, XCiT (arXiv:2106.09681), eq. 2: q and k L2-normalised
    over tokens; a temperature multiplies the D x D scores."""

    tempered = True

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None) -> Tensor:
        q, k = (F.normalize(masked(x.float(), valid), dim=-2) for x in (q, k))
        scores = q.transpose(-2, -1) @ k
        if self.temperature is not None:
            scores = scores * self.temperature
        return (v.float() @ scores.softmax(-1).transpose(-2, -1)).to(v.dtype)


@MECHANISMS.register("additive")
class Additive(Mechanism):
    """Additive attention, Fastformer (arXiv:2108.09084), eqs. 3-8 before its last projection: two
    learned vectors per head score the queries and the keys."""

    def __init__(self, heads: int, width: int, **settings) -> None:
        super().__init__(heads, width, **settings)
        self.query_weight = nn.Parameter(torch.zeros(heads, width))
        self.key_weight = nn.Parameter(torch.zeros(heads, width))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None) -> Tensor:
        def pool(x: Tensor, weight: Tensor) -> Tensor:
            scores = torch.einsum("bhnd,hd->bhn", x, weight.float()) * x.shape[-1] ** -0.5
            if valid is not None:
                scores = scores.masked_fill(~valid[:, None], torch.finfo(scores.dtype).min)
            share = masked(scores.softmax(-1)[..., None], valid)
            return (share * x).sum(2, keepdim=True)

        q, k, dtype = q.float(), k.float(), v.dtype
        keys = k * pool(q, self.query_weight)
        return (v.float() * pool(keys, self.key_weight) + q).to(dtype)
