"""Looking into models of calorimeter maps, each look beside its null: mirror images, routers and
attention."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from hcal.experts import cls_attention
from hcal.experts import routing as routing_of
from hcal.files import HcalMaps
from hcal.files import row as row_of
from lib.data.tokens import TokenBatch


def mirror_ratio(maps: HcalMaps) -> dict[str, list[float]]:
    """Mean of the ring at +ieta over that at -ieta, by |ieta|.

    Returns: ``ieta``, ``ratio``, ``error`` (standard error, lumi-sections as the sample) and
    ``spread`` (what differences between the cells of a ring allow for).
    """
    live, out = maps.live, {name: [] for name in ("ieta", "ratio", "error", "spread")}
    for eta in range(19, 30):
        rings = [maps.counts[:, r, live[r]] for r in (row_of(eta), row_of(-eta))]
        a, b = (ring.mean(1) for ring in rings)
        ratio = a.sum() / b.sum()
        error = (a - ratio * b).std() / b.mean() / math.sqrt(len(maps))
        means = [ring.mean(0) for ring in rings]
        spread = sum((m.std() / m.mean()) ** 2 / len(m) for m in means) ** 0.5
        for values, value in zip(out.values(), (eta, ratio, error, spread), strict=True):
            values.append(float(value))
    return out


# --- routers --------------------------------------------------------------------------------------


def information(chosen: Tensor, group: Tensor) -> float:
    """Mutual information in bits: chosen (T, E) one-hot, group (T,) int64."""
    joint = torch.zeros(int(group.max()) + 1, chosen.shape[1])
    joint = joint.index_add(0, group, chosen.float()) / len(group)
    apart = joint.sum(1, keepdim=True) * joint.sum(0)
    seen = joint > 0
    return (joint[seen] * (joint[seen] / apart[seen]).log2()).sum().item()


def shuffled(chosen: Tensor) -> Tensor:
    """Choices (B, K, E) dealt to the tokens of each map at random: a router that knows nothing."""
    order = torch.rand(chosen.shape[:2]).argsort(1)
    return chosen.gather(1, order.unsqueeze(-1).expand_as(chosen))


@torch.no_grad()
def router_state(model: nn.Module, tokens: TokenBatch, null: int = 0) -> dict[str, float]:
    """What the routers of a model with a class token do, means over its blocks.

    Returns:
        ``load`` (share of the busiest expert), ``entropy`` (of a token's probabilities, bits),
        ``information`` (of expert and row of the patch, bits) and ``distance`` (1 - cosine of the
        outputs of the first two experts for the same tokens). null: so many shuffled routers;
        adds their ``shuffled`` information.
    """
    inside: list[tuple[nn.Module, Tensor]] = []
    hooks = [block.mlp.register_forward_hook(lambda mlp, x, out: inside.append((mlp, x[0])))
             for block in model.blocks]
    try:
        routings = routing_of(model, tokens)
    finally:
        for hook in hooks:
            hook.remove()
    row = (tokens.position // tokens.grid.columns).flatten().cpu()
    found = []
    for (mixture, x), routing in zip(inside, routings, strict=True):
        p = routing.logits[:, 1:].softmax(-1)  # the class token has no place
        chosen = routing.chosen[:, 1:].cpu()
        a, b = (expert(x[:, 1:]).flatten() for expert in mixture.experts[:2])
        state = {"load": chosen.float().mean((0, 1)).max(),
                 "entropy": -(p * p.clamp(min=1e-9).log2()).sum(-1).mean(),
                 "information": information(chosen.flatten(0, 1), row),
                 "distance": 1 - torch.cosine_similarity(a, b, dim=0)}
        if null:
            state["shuffled"] = np.mean([information(shuffled(chosen).flatten(0, 1), row)
                                         for _ in range(null)])
        found.append(state)
    return {k: float(np.mean([float(state[k]) for state in found])) for k in found[0]}


def watch_routers(maps: HcalMaps, most: int = 100) -> Callable[[nn.Module], dict[str, float]]:
    """``router_state`` on some of the maps, for ``Trainer``."""
    tokens = maps.batch(slice(0, None, max(1, len(maps) // most)), "all").tokens
    return lambda model: router_state(model, tokens.to(next(model.parameters()).device))


@torch.no_grad()
def expert_weights(model: nn.Module, maps: HcalMaps) -> tuple[Tensor, Tensor, float]:
    """Mean weight of the first expert by place, (blocks, rows, columns), and by class, (blocks,
    2); and the information of expert and class in bits, mean over the blocks."""
    batch = maps.batch(slice(None), "all")
    routings = routing_of(model, batch.tokens)
    weight = torch.stack([r.weights[:, 1:, 0] for r in routings], 1)  # (B, blocks, K)
    by_class = torch.stack([weight[batch.label == c].mean((0, 2)) for c in (0, 1)], 1)
    kind = batch.label.unsqueeze(1).expand(batch.tokens.position.shape).flatten()
    bits = np.mean([information(r.chosen[:, 1:].flatten(0, 1), kind) for r in routings])
    return weight.mean(0).unflatten(1, (maps.grid.rows, -1)), by_class, float(bits)


# --- attention ------------------------------------------------------------------------------------


@torch.no_grad()
def class_attention(model: nn.Module, maps: HcalMaps) -> Tensor:
    """Attention of the class token to the patches in the last block, without its share for
    itself: (n, heads, rows, columns), adds up to 1."""
    found = cls_attention(model, maps.batch(slice(None), "all").tokens)[:, :, 1:]
    found = found / found.sum(-1, keepdim=True)
    return found.unflatten(-1, (maps.grid.rows, maps.grid.columns))


def share_on_live(attention: Tensor, maps: HcalMaps) -> float:
    """Share of an attention (..., rows, columns) that lands on live cells, if that of a patch is
    spread evenly over its cells."""
    mask = HcalMaps(maps.live[None].float(), maps.live, grid=maps.grid)
    share = mask.batch([0], "all").tokens.features[0].mean(-1)  # (P,)
    return (attention.flatten(-2) * share).sum(-1).mean().item()
