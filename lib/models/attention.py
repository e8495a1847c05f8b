"""Attention: one function per mechanism, all of one signature.

q, k, v: (B, H, N, D) queries, keys, values of N tokens in H heads of width D.
valid:   (B, N) bool or None; a token that is not valid enters no sum.
Returns  (B, H, N, D).

Every mechanism divides in float32, whatever the dtype of its inputs.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor


def _in_float32(function):
    """Run `function` in float32 outside autocast and return the dtype of v."""

    @functools.wraps(function)
    def run(q, k, v, *args, **kwargs):
        with torch.autocast(q.device.type, enabled=False):
            return function(q.float(), k.float(), v.float(), *args, **kwargs).to(v.dtype)

    return run


def _no_autocast(function):
    """Run `function` in the dtype of its inputs, which chooses its own precision."""

    @functools.wraps(function)
    def run(q, *args, **kwargs):
        with torch.autocast(q.device.type, enabled=False):
            return function(q, *args, **kwargs)

    return run


def _mask(x: Tensor, valid: Tensor | None) -> Tensor:
    """x (B, H, N, D) with the tokens that are not valid set to zero."""
    return x if valid is None else x * valid[:, None, :, None].to(x.dtype)


def _count(x: Tensor, valid: Tensor | None) -> Tensor | float:
    """Number of valid tokens per image, at least one: (B, 1, 1, 1) or a number."""
    if valid is None:
        return float(x.shape[2])
    return valid.sum(1).clamp(min=1).to(x.dtype)[:, None, None, None]


def softmax(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √D) v, Vaswani et al. (2017), eq. 1; quadratic in N."""
    mask = None
    if valid is not None:
        # An image without tokens would have a softmax over nothing: let it see its padding.
        mask = (valid | ~valid.any(1, keepdim=True))[:, None, None, :]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _merge(x: Tensor) -> Tensor:
    """(B, H, N, D) -> (B, N, H·D); a view where the heads came out of one projection."""
    return x.transpose(1, 2).flatten(2)


def _kernel(q, k, v, valid, temperature, normalizer, floor):
    """φ(q) (φ(k)ᵀ v) / (φ(q)·Σφ(k)), with q and k already mapped by φ ≥ 0; linear in N.

    All heads share two matrix products: of the (H·D, H·D) matrix kᵀv only the blocks of one
    head with itself are kept. That is H times the arithmetic of a product per head, and
    still several times faster, since no head has to be copied out. The products run in the
    dtype of the inputs and accumulate in float32; the division is in float32.
    """
    heads, width, dtype = q.shape[1], q.shape[3], v.dtype
    q, k, v = _merge(q), _merge(k), _merge(v)
    weight = torch.ones(k.shape[:2], device=k.device) if valid is None else valid.float()
    if normalizer == "mean":
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1)
    elif normalizer != "sum":
        raise ValueError(f"normalizer={normalizer!r}: use 'mean' or 'sum'")
    k = k * weight.unsqueeze(-1).to(dtype)
    block = torch.eye(heads, device=q.device, dtype=dtype).repeat_interleave(width, 0)  # (H·D, H)
    kv = (k.transpose(1, 2) @ v) * (block @ block.T)
    total = k.sum(1, dtype=torch.float32).to(dtype).unsqueeze(-1) * block  # (B, H·D, H)
    out, norm = (q @ torch.cat([kv, total], -1)).float().split([heads * width, heads], -1)
    out = out.unflatten(-1, (heads, width)) / norm.clamp(min=floor).unsqueeze(-1)
    if temperature is not None:
        out = out * temperature.flatten(1)
    return out.to(dtype).transpose(1, 2)


@_no_autocast
def relu_linear(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    valid: Tensor | None = None,
    temperature: Tensor | None = None,
    normalizer: str = "mean",
    floor: float = 1e-6,
) -> Tensor:
    """Linear attention with φ = ReLU, L2ViT (arXiv:2501.16182), its eq. for LGA.

    temperature: (H, 1, 1), multiplies the output. normalizer: "mean" averages over the
    valid keys, so that the floor means the same with 10 tokens as with 625, and adds 1e-6
    to φ so that a query without a positive component still averages its keys; "sum" is
    the published form with a plain ReLU, whose official code has a floor of 100.
    """
    shift = 1e-6 if normalizer == "mean" else 0.0
    return _kernel(q.relu() + shift, k.relu() + shift, v, valid, temperature, normalizer, floor)


@_no_autocast
def elu_linear(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    valid: Tensor | None = None,
    temperature: Tensor | None = None,
    normalizer: str = "mean",
    floor: float = 1e-6,
) -> Tensor:
    """Linear attention with φ = ELU + 1, Katharopoulos et al. (arXiv:2006.16236), eq. 7."""
    return _kernel(F.elu(q) + 1, F.elu(k) + 1, v, valid, temperature, normalizer, floor)


@_in_float32
def cross_covariance(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    valid: Tensor | None = None,
    temperature: Tensor | None = None,
) -> Tensor:
    """XCA: attention between the D channels, XCiT (arXiv:2106.09681), eq. 2.

    q and k are L2-normalised over tokens; temperature (H, 1, 1) multiplies the D x D map.
    """
    q = F.normalize(_mask(q, valid), dim=-2)
    k = F.normalize(_mask(k, valid), dim=-2)
    scores = q.transpose(-2, -1) @ k
    if temperature is not None:
        scores = scores * temperature
    return v @ scores.softmax(-1).transpose(-2, -1)


@_in_float32
def additive(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    valid: Tensor | None = None,
    query_weight: Tensor | None = None,
    key_weight: Tensor | None = None,
) -> Tensor:
    """Additive attention, Fastformer (arXiv:2108.09084), eqs. 3-8 before its last projection.

    query_weight, key_weight: (H, D) learned vectors; None means a plain average.
    """

    def pool(x: Tensor, weight: Tensor | None) -> Tensor:
        if weight is None:
            return _mask(x, valid).sum(2, keepdim=True) / _count(x, valid)
        scores = torch.einsum("bhnd,hd->bhn", x, weight.float()) * x.shape[-1] ** -0.5
        if valid is not None:
            scores = scores.masked_fill(~valid[:, None], torch.finfo(scores.dtype).min)
        share = _mask(scores.softmax(-1)[..., None], valid)
        return (share * x).sum(2, keepdim=True)

    keys = k * pool(q, query_weight)
    return v * pool(keys, key_weight) + q


MECHANISMS = {
    "softmax": softmax,
    "relu_linear": relu_linear,
    "elu_linear": elu_linear,
    "cross_covariance": cross_covariance,
    "additive": additive,
}


def implied_map(q: Tensor, k: Tensor, valid: Tensor | None = None, kernel: str = "relu") -> Tensor:
    """The (B, H, N, N) row-stochastic map that a kernel stands for.

    kernel: "relu", "elu" or "softmax". Rows add to one over the valid keys; a linear
    mechanism never builds this map, but equals its product with v. Additive attention and
    XCA have none.
    """
    q, k = q.float(), k.float()
    if kernel == "softmax":
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        if valid is not None:
            scores = scores.masked_fill(~valid[:, None, None, :], torch.finfo(scores.dtype).min)
        weight = scores.softmax(-1)
    elif kernel == "relu":
        weight = (q.relu() + 1e-6) @ (k.relu() + 1e-6).transpose(-2, -1)
    elif kernel == "elu":
        weight = (F.elu(q) + 1) @ (F.elu(k) + 1).transpose(-2, -1)
    else:
        raise ValueError(f"kernel={kernel!r}: use 'relu', 'elu' or 'softmax'")
    if valid is not None:
        weight = weight * valid[:, None, None, :]
    return weight / weight.sum(-1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
