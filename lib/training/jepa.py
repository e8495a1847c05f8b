"""JEPA: what hidden patches of a jet mean is told from the rest, in the space of features.

Joint-embedding prediction (I-JEPA, arXiv:2301.08243): a *context* encoder sees the patches in view,
a narrow *predictor* tells from them the features that a *target* encoder gives the hidden ones in
the whole jet. Nothing is painted, so detail that nobody can know need not be known. But features
can be made easy to tell: all alike, the loss is zero (*collapse*). The targets decide whether that
is a way out.

B jets, K tokens, D the model's width, S places, N rows of the predictor, as in ``masked``."""

import copy
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import together
from lib.data.tokens import Batch, TokenBatch
from lib.models.embedding import patch_sums
from lib.models.vit import JetViT
from lib.registry import check_choices
from lib.training import masked
from lib.training.objectives import OBJECTIVES, resting

TARGETS = ("average", "sigreg", "teacher", "own")
MASKS = ("random", "block", "energy")
NORMS = ("layer", "batch")
BLOCKS = 4  # target blocks of a jet, as in I-JEPA
SIGREG, ROWS = 0.05, 1024  # weight of SIGReg (LeJEPA's), and the most tokens that it looks at


def sigreg(x: Tensor, directions: int = 64, knots: int = 17) -> Tensor:
    """How far the rows of x (N, D) are from a standard normal distribution, about 1 where they are
    one (LeJEPA, arXiv:2511.08544): the mean over projections on random unit vectors of the
    Epps–Pulley statistic N ∫ |φ(t) - exp(-t²/2)|² exp(-t²/2) dt over all t, with φ the mean of
    exp(i t·projection)."""
    direction = F.normalize(torch.randn(x.shape[1], directions, device=x.device), dim=0)
    t = torch.linspace(0, 5, knots, device=x.device)  # the integrand is even
    angle = (x.float() @ direction).unsqueeze(-1) * t  # (N, directions, knots)
    normal = (-t.square() / 2).exp()
    gap = (angle.cos().mean(0) - normal).square() + angle.sin().mean(0).square()
    return len(x) * 2 * torch.trapezoid(gap * normal, t).mean()


@OBJECTIVES.register("jepa")
class JEPA(nn.Module):
    """Smooth L1 between told and given features of the hidden patches.

    Args:
        target: where targets come from: the moving ``average`` of the context encoder, without
            gradient; the context encoder itself, kept from collapse by ``sigreg``; a frozen
            ``teacher``, the run of the recipe's ``start`` (SALT, arXiv:2509.24317); or its ``own``
            features with nothing against collapse, the control.
        mask: hide ``random`` active patches; those nearest to four random ones (``block``); or to
            four drawn in proportion to their energy (``energy``).
        ratio: share of a jet's active patches that is hidden, whatever their number.
        momentum: of the moving average at the start; it rises linearly to 1.
        context: weight of the same loss at the patches in view, without which they may become
            mere carriers of news about the hidden ones (V-JEPA 2.1, arXiv:2603.14482).
        pixels: weight of a reconstruction of the hidden pixels beside it ("JepaMAE"), see
            ``masked.reconstruction``.
        depth: blocks of the predictor, which is half as wide as the model.
        norm: a target is normalised over its D numbers (``layer``, I-JEPA); then, with ``batch``,
            each number over the batch's tokens, so that what all share is no target."""

    shown, model_type = ("mean",), JetViT

    def __init__(self, model: JetViT, target: str = "average", mask: str = "block",
                 ratio: float = 0.6, momentum: float = 0.996, context: float = 0.0,
                 pixels: float = 0.0, depth: int = 1, norm: str = "batch") -> None:
        super().__init__()
        check_choices(target=(target, TARGETS), mask=(mask, MASKS), norm=(norm, NORMS))
        if not 0 < ratio < 1:
            raise ValueError(f"ratio={ratio}: choose a share between 0 and 1")
        self.model, config = resting(model, "flow"), model.config
        self.kind, self.taught = target, target == "teacher"
        self.mask, self.ratio, self.momentum, self.norm = mask, ratio, momentum, norm
        self.context, self.pixels, half = context, pixels, config.dim // 2
        self.mask_token = masked.mask_token(config)
        self.predictor = (masked.painter(config, "two_part", half, depth, config.dim) if pixels
                          else masked.Decoder(config, config.dim, half, depth))
        self.target = None
        if target in ("average", "teacher"):
            self.target = copy.deepcopy(model).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """As every module; but the target encoder drops nothing and keeps its statistics."""
        super().train(mode)
        if self.target is not None:
            self.target.eval()
        return self

    def begins(self) -> list[nn.Module]:
        """What a ``start`` is loaded into: the teacher alone, where there is one."""
        return [self.target] if self.taught else [m for m in (self.model, self.target) if m]

    @torch.no_grad()
    def after_update(self, progress: float) -> None:
        """Move the average: θ̄ ← m θ̄ + (1 - m) θ, buffers too."""
        if self.kind != "average":
            return
        keep = self.momentum + (1 - self.momentum) * progress
        for slow, now in zip(self.target.state_dict().values(), self.model.state_dict().values(),
                             strict=True):
            slow.copy_(slow.lerp(now, 1 - keep) if slow.is_floating_point() else now)

    def hide(self, tokens: TokenBatch) -> tuple[Tensor, Tensor]:
        """Which places hold something and which of them are hidden: (B, S) bool each, see
        ``masked.hidden_of``. The draw knows places, not how tokens are packed."""
        pool = masked.in_play(tokens, self.model.config)
        race = torch.rand(pool.shape, device=pool.device)
        if self.mask != "random":
            weight = _energy(tokens, pool) if self.mask == "energy" else 1
            # The smallest of waiting times -log(u)/weight are a draw in proportion to the weights.
            times = (-race.log() / weight).masked_fill(~pool, torch.inf)
            centre = times.topk(min(BLOCKS, pool.shape[1]), largest=False)
            row, column = (place.float() for place in tokens.grid.centres(
                torch.arange(pool.shape[1], device=pool.device)))
            stretch = 0.75 * 2 ** torch.rand(centre.indices.shape, device=pool.device)  # 3/4 to 3/2
            high, wide = ((place[:, None] - place[centre.indices].unsqueeze(1)).abs()
                          for place in (row, column))  # (B, S, BLOCKS)
            far = torch.maximum(high * stretch.sqrt()[:, None], wide / stretch.sqrt()[:, None])
            far = far.masked_fill(centre.values.isinf().unsqueeze(1), torch.inf)
            race = far.amin(-1) + 0.5 * race
        return pool, masked.hidden_of(race, pool, self.ratio)

    def targets(self, tokens: TokenBatch) -> Tensor:
        """Features (B, K, D) that are to be told, before they are normalised."""
        if self.target is None:
            return self.model.encode(tokens).float()
        with torch.no_grad():
            return self.target.encode(tokens).float()

    def normalised(self, given: Tensor, valid: Tensor) -> Tensor:
        """Targets (B, K, D) as they are to be told, see ``norm``."""
        given = F.layer_norm(given, given.shape[-1:])
        if self.norm == "layer":
            return given
        mean = together.centre(rows := given[valid])
        return (given - mean) / (together.centre((rows - mean).square()) + 1e-3).sqrt()

    def predicted(self, tokens: TokenBatch, given: Tensor) -> tuple[Tensor, ...]:
        """Told (B, N, D, and pixels behind them) and ``given`` features, normalised; the places
        (B, N) of both, their validity, which are hidden."""
        pool, hidden = self.hide(tokens)
        seen = masked.in_view(tokens, hidden)
        fill = masked.filling(self.mask_token, hidden, tokens.grid)
        output, place, valid = self.predictor(self.model.encode(seen, fill=fill), seen, pool)
        given = self.normalised(given, tokens.valid)
        where = masked.lookup(tokens).gather(1, place)
        target = masked.taken(given, given.new_zeros(given.shape[-1]), where)
        return output, target, place, valid, hidden.gather(1, place) & valid

    def loss(self, batch: Batch, output: None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its parts: ``mean``, that of giving every hidden patch the mean of all
        targets, which falls with them in a collapse; and the further terms, unweighted."""
        tokens = batch.tokens
        given = self.targets(tokens)
        told, target, place, valid, hidden = self.predicted(tokens, given)
        width = target.shape[-1]
        t = target[hidden]
        total = _smooth(told[hidden][:, :width], t)
        parts = {"mean": _smooth(together.centre(t).expand_as(t), t)}
        if self.context:
            view = valid & ~hidden
            parts["context"] = _smooth(told[view][:, :width], target[view])
            total = total + self.context * parts["context"]
        if self.pixels:
            wanted = masked.pixels(self.model, tokens, place)
            parts["pixels"], _ = masked.reconstruction(told[..., width:], wanted, hidden,
                                                       "two_part")
            total = total + self.pixels * parts["pixels"]
        if self.kind == "sigreg" and tokens.valid.any():
            rows = given[tokens.valid]
            parts["sigreg"] = sigreg(rows[torch.randperm(len(rows), device=rows.device)[:ROWS]])
            total = (1 - SIGREG) * total + SIGREG * parts["sigreg"]
        return total, {name: value.detach() for name, value in parts.items()}


def _smooth(a: Tensor, b: Tensor) -> Tensor:
    """Smooth L1, the mean over all processes; 0, with gradients, where there is nothing."""
    return together.mean(F.smooth_l1_loss(a, b, reduction="none"))


def _energy(tokens: TokenBatch, pool: Tensor) -> Tensor:
    """(B, S): share of the jet's energy at each place, the mean over channels; never 0."""
    channels = tokens.grid.channels
    energy = patch_sums(tokens.features, channels)[..., channels:] * tokens.valid.unsqueeze(-1)
    share = (energy / energy.sum(1, keepdim=True).clamp(min=1e-6)).mean(-1)
    # Where a token is padding its share is 0, wherever it says it lies.
    return share.new_zeros(pool.shape).scatter_add(1, tokens.position, share).clamp(min=1e-6)
