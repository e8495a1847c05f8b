"""A mixture of experts in the place of a block's MLP, as R3 has it, and what its routers decided.
It is entered as the MLP of a ``ViTConfig`` with ``experts`` when this module is imported."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib import together
from lib.data.tokens import Batch, TokenBatch
from lib.models.blocks import MLP, MLPS
from lib.models.vit import JetViT
from lib.registry import check_choices
from lib.training.objectives import Supervised

ROUTERS = {"soft": 0, "top1": 1, "top2": 2}  # experts that a token is sent to; 0: to all


@dataclass
class Routing:
    """What a router decided for B images of K tokens and E experts."""

    logits: Tensor  # (B, K, E) float32; the probabilities are their softmax
    weights: Tensor  # (B, K, E) of the experts' outputs; 0 for those not called and for padding
    chosen: Tensor  # (B, K, E) bool, those of the largest logits ("soft": the one); not for padding
    valid: Tensor  # (B, K) bool

    def _mean(self, x: Tensor) -> Tensor:
        """Mean of x (B, K, ...) over the valid tokens; 0 without any."""
        return together.centre(x[self.valid])

    def load(self) -> Tensor:
        """(E,): share of the assignments that went to each expert."""
        share = self._mean(self.chosen.float())
        return share / share.sum().clamp(min=1e-6)

    def load_balancing(self) -> Tensor:
        """E · Σ_e f_e P_e, Switch (arXiv:2101.03961), eqs. 4-6, without its factor α; f_e: share of
        the assignments (constant), P_e: mean probability. 1 for an even load, E for one expert."""
        return len(self.load()) * (self.load() * self._mean(self.logits.softmax(-1))).sum()

    def z_loss(self) -> Tensor:
        """Mean of (log Σ_e exp logit_e)², ST-MoE (arXiv:2202.08906), eq. 5: keeps logits small."""
        return self._mean(self.logits.logsumexp(-1).square())


@MLPS.register("experts")
class MixtureOfExperts(nn.Module):
    """MLPs between which the ``router`` of a ``ViTConfig`` chooses, token by token: "top1", the
    output is that of the likeliest expert times its probability, as in Switch, so that the router
    learns from it; "top2", the two likeliest, with probabilities that add up to 1, as in ST-MoE;
    "soft", all experts, weighted by their probabilities: nothing is saved. No token is dropped:
    experts have no capacity. The router computes in float32, always."""

    watcher: list[Routing] | None = None  # gets the routing of each forward, see ``watched``

    def __init__(self, config) -> None:
        super().__init__()
        check_choices(router=(config.router, ROUTERS))
        experts, router, self.top = config.experts, config.router, ROUTERS[config.router]
        if experts < max(1, self.top):
            raise ValueError(f"experts={experts} are too few for router={router!r}")
        self.router = nn.Linear(config.dim, experts)
        self.experts = nn.ModuleList(MLP(config) for _ in range(experts))

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

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, K, D), valid (B, K) -> the same shape, zero for padding."""
        routing = self.route(x, valid)
        if self.watcher is not None:
            self.watcher.append(routing)
        if not self.top:
            parts = zip(routing.weights.unsqueeze(-1).unbind(2), self.experts)
            return sum(weight * expert(x) for weight, expert in parts)
        flat, weights = x.flatten(0, 1), routing.weights.flatten(0, 1)
        out = torch.zeros_like(flat, dtype=torch.float32)
        for number, expert in enumerate(self.experts):
            rows = routing.chosen[..., number].flatten().nonzero().squeeze(1)
            out = out.index_add(0, rows, weights[rows, number, None] * expert(flat[rows]).float())
        return out.view(x.shape)


def mixtures(model: nn.Module) -> list[MixtureOfExperts]:
    """The mixtures of a model, block by block; none in a model without experts."""
    return [part for part in model.modules() if isinstance(part, MixtureOfExperts)]


@contextmanager
def watched(model: nn.Module) -> Iterator[list[Routing]]:
    """A list that gets the routing of each mixture whenever the model runs in the context: that of
    the output, not computed again, so that gradients of both add up in one place."""
    found = []
    for part in mixtures(model):
        part.watcher = found
    try:
        yield found
    finally:
        for part in mixtures(model):
            part.watcher = None


def routing(model: JetViT, tokens: TokenBatch) -> list[Routing]:
    """How each block sends its tokens to experts, the class token (if any) first."""
    with watched(model) as found:
        model.encode(tokens)
    return found


class Routed(Supervised):
    """``Supervised`` (whose settings it takes) plus ``balance`` · Σ load balancing + ``z`` · Σ
    z-loss, sums over the blocks of a model with experts (``Routing``), with the published weights
    of Switch and ST-MoE."""

    shown = ("class", "mass", "balance", "z")

    def __init__(self, model: nn.Module, balance: float = 0.01, z: float = 1e-3,
                 **settings) -> None:
        super().__init__(model, **settings)
        self.routers = {"balance": balance, "z": z} if mixtures(model) else {}

    def predict(self, batch: Batch) -> dict[str, Tensor | None]:
        with watched(self.model) as found:
            output = super().predict(batch)
        if self.routers:
            output["balance"] = sum(routing.load_balancing() for routing in found)
            output["z"] = sum(routing.z_loss() for routing in found)
        return output

    def loss(self, batch: Batch, output: dict | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        output = output or self.predict(batch)
        total, parts = super().loss(batch, output)
        for name, weight in self.routers.items():
            parts[name] = output[name].detach()
            total = total + weight * output[name]
        return total, parts
