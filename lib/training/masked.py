"""Objectives that rebuild jets: masked autoencoder (MAE) and denoising autoencoder.

B jets, K tokens, D the model's width, F pixels of a patch, S places: the patches of the grid and,
with two-scale tokens, the coarse blocks behind them.
They learn from scaled pixels (``model.scale``); a loss comes with what trivial answers would get:
``zero`` (nothing anywhere) and ``mean`` (the batch's mean of each pixel of a patch)."""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import together
from lib.data.augment import Augment
from lib.data.tokens import Batch, Grid, TokenBatch, packed
from lib.data.views import Damaged
from lib.models.blocks import Block, Layout
from lib.models.embedding import Position
from lib.models.vit import JetViT, ViTConfig
from lib.registry import check_choices
from lib.training.objectives import OBJECTIVES, resting

LOSSES = {"mse": 1, "two_part": 2}  # outputs a pixel
UNLIKELY = 1e-3  # probability of a hit for an answer of "nothing": 0 would cost infinitely much


def lookup(tokens: TokenBatch) -> Tensor:
    """(B, S): which token lies at a place; K where there is none."""
    count, length = tokens.valid.shape
    places = tokens.grid.patches + math.prod(tokens.grid.coarse)
    where = torch.full((count, places + 1), length, device=tokens.position.device)
    number = torch.arange(length, device=where.device).expand(count, -1)
    return where.scatter_(1, tokens.position.where(tokens.valid, places), number)[:, :places]


def taken(x: Tensor, empty: Tensor, where: Tensor) -> Tensor:
    """x (B, K, D) at the tokens ``where`` (B, N); ``empty`` (D,) where it says K."""
    x = torch.cat([x, empty.to(x.dtype).expand(len(x), 1, -1)], 1)
    return x.gather(1, where.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def pixels(model: JetViT, tokens: TokenBatch, place: Tensor) -> Tensor:
    """Scaled pixels (B, N, F) of the patches at ``place`` (B, N), 0 where there is no token."""
    scaled, where = model.scale(tokens.features), lookup(tokens).gather(1, place)
    return taken(scaled, scaled.new_zeros(scaled.shape[-1]), where).float()


def in_play(tokens: TokenBatch, config: ViTConfig, everywhere: bool = False) -> Tensor:
    """(B, S): places whose token holds something, or ``everywhere`` all of them."""
    two_scale = config.tokens == "two_scale"
    places = tokens.grid.patches + (math.prod(tokens.grid.coarse) if two_scale else 0)
    active = tokens.valid & (tokens.features != 0).any(-1)
    pool = active.new_full((len(tokens), places + 1), everywhere)
    return pool.scatter_(1, tokens.position.where(active, places), True)[:, :places]


def hidden_of(race: Tensor, pool: Tensor, ratio: float) -> Tensor:
    """(B, S) bool: of n places in ``pool`` the ``ratio`` · n, rounded, that are first in ``race``;
    but one stays and, of two or more, one goes."""
    count = pool.sum(1, keepdim=True)
    number = (ratio * count).round().clamp(min=1).minimum(count - 1)
    return race.masked_fill(~pool, torch.inf).argsort(1).argsort(1) < number


def in_view(tokens: TokenBatch, hidden: Tensor) -> TokenBatch:
    """The tokens that are not at ``hidden`` places (B, S), packed."""
    order, valid, _ = packed(tokens.valid & ~hidden.gather(1, tokens.position))
    features = tokens.features.gather(1, order[..., None].expand(-1, -1, tokens.grid.patch_dim))
    return TokenBatch(features, tokens.position.gather(1, order), valid, tokens.grid)


def mask_token(config: ViTConfig) -> nn.Parameter | None:
    """What convolutions find where a patch is hidden; None without convolutions."""
    return nn.Parameter(0.02 * torch.randn(config.dim)) if config.lcm_kernel else None


def filling(token: Tensor | None, hidden: Tensor, grid: Grid) -> Tensor | None:
    """(B, P, D): the mask token at the patches that are ``hidden`` (B, S), for ``encode``."""
    return None if token is None else hidden[:, : grid.patches, None] * token


class Decoder(nn.Module):
    """Encoded tokens -> ``outputs`` numbers at the wanted places: a narrow transformer with mask
    tokens."""

    def __init__(self, config: ViTConfig, outputs: int, dim: int, depth: int) -> None:
        super().__init__()
        self.grid = config.grid
        self.into = nn.Linear(config.dim, dim)
        position = "learned" if config.position == "none" else config.position
        config = dataclasses.replace(config, dim=dim, position=position, experts=0, dropout=0.0,
                                     lcm_norm="layer")
        self.mask_token = nn.Parameter(0.02 * torch.randn(dim))
        self.position = Position(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(depth))
        self.norm, self.out = nn.LayerNorm(dim), nn.Linear(dim, outputs)
        nn.init.trunc_normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, seen: TokenBatch, wanted: Tensor,
                local: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, K, D) of the tokens ``seen``, wanted (B, S) bool -> (B, N, outputs), and the
        places (B, N) and validity (B, N) of its rows."""
        place, valid, _ = packed(wanted)
        x = taken(self.into(x), self.mask_token, lookup(seen).gather(1, place))
        x = x + self.position(place)
        layout = Layout(place, valid, self.grid)
        for block in self.blocks:
            x = block(x, valid, layout, local)
        return self.out(self.norm(x)).float(), place, valid


def painter(config: ViTConfig, reconstruct: str, dim: int, depth: int, latent: int = 0) -> Decoder:
    """A decoder that gives ``latent`` numbers and then pixels. It begins near the trivial answer:
    few hits, of scaled size 1; else nothing."""
    check_choices(reconstruct=(reconstruct, LOSSES))
    size = config.grid.patch_dim
    decoder = Decoder(config, latent + LOSSES[reconstruct] * size, dim, depth)
    if reconstruct == "two_part":
        nn.init.constant_(decoder.out.bias[latent : latent + size], -3.0)
        nn.init.constant_(decoder.out.bias[latent + size :], 1.0)
    return decoder


def expected(output: Tensor, loss: str) -> Tensor:
    """What a decoder's output (..., outputs) says of each pixel, (..., F): an expectation."""
    if loss == "mse":
        return output
    logit, value = output.chunk(2, -1)
    return logit.sigmoid() * value


def reconstruction(output: Tensor, target: Tensor, asked: Tensor,
                   loss: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss over the patches (B, N) that are ``asked`` for, and what trivial answers would get:
    output (B, N, F) or, for ``two_part``, (B, N, 2F) logits, then values; target (B, N, F) scaled.

    ``mse``: mean squared error over all pixels, as in MAE (arXiv:2111.06377).
    ``two_part``: is there a hit, and how large is it? Binary cross-entropy of each pixel's
    occupancy plus the mean squared error of the value over the pixels that have one: the empty
    ones, 97 % of an active patch, cannot drown the others.

    Returns:
        the loss; parts ``zero`` and ``mean``, the same loss for trivial answers; for ``two_part``
        also ``occupancy`` and ``value``, and ``mse``, ``mse_zero``, ``mse_mean`` as for ``mse``."""
    o, t = output[asked], target[asked]
    hit = (t != 0).float()
    # of the whole batch: the number of patches; of each pixel the sum and the number of hits
    patches, total, found = together.summed(torch.cat(
        [t.new_tensor([len(t)]), t.sum(0), hit.sum(0)])).split([1, t.shape[1], t.shape[1]])
    if not patches:  # nothing was hidden, e.g. jets of a single patch
        names = ("zero", "mean") if loss == "mse" else (
            "zero", "mean", "occupancy", "value", "mse", "mse_zero", "mse_mean")
        return 0 * output.sum(), dict.fromkeys(names, output.new_zeros(()))
    # a share of what is there for each process: the mean over them is that over the whole batch
    pixels, hits = (n / together.size() for n in (patches.squeeze() * t.shape[1],
                                                  found.sum().clamp(min=1)))
    square = {"mse": (expected(o, loss) - t).square().sum() / pixels,
              "zero": t.square().sum() / pixels,
              "mean": (t - total / patches).square().sum() / pixels}
    if loss == "mse":
        return square["mse"], {k: square[k] for k in ("zero", "mean")}
    logit, value = o.chunk(2, -1)
    rate, mean = found / patches, total / found.clamp(min=1)

    def cross_entropy(p: Tensor) -> Tensor:
        return -(rate * p.log() + (1 - rate) * (1 - p).log()).mean()

    parts = {"occupancy": F.binary_cross_entropy_with_logits(logit, hit, reduction="sum") / pixels,
             "value": ((value - t).square() * hit).sum() / hits}
    parts |= {"zero": cross_entropy(torch.full_like(rate, UNLIKELY)) + t.square().sum() / hits,
              "mean": cross_entropy(rate.clamp(1e-6, 1 - 1e-6))
              + ((mean - t).square() * hit).sum() / hits}
    parts |= {"mse" if k == "mse" else f"mse_{k}": v for k, v in square.items()}
    return parts["occupancy"] + parts["value"], {k: v.detach() for k, v in parts.items()}


@OBJECTIVES.register("mae")
class MAE(nn.Module):
    """Most patches are hidden; what they hold is told from the rest, which the encoder sees packed
    (arXiv:2111.06377). Every choice that can go wrong on sparse images is a setting.

    Args:
        ratio: share of the patches that is hidden.
        mask: hide ``active`` patches (the decoder then knows which places hold something), or of
            ``all`` places, most of them empty, as on images.
        lcm: the convolutions of the blocks are left out (``skip``, R1), find nothing where a patch
            is hidden (``zeros``), or a learned mask ``token`` there.
        reconstruct: ``mse`` or ``two_part``, see ``reconstruction``.
        dim, depth: of the decoder."""

    shown, model_type = ("mean",), JetViT

    def __init__(self, model: JetViT, ratio: float = 0.75, mask: str = "active", lcm: str = "token",
                 reconstruct: str = "two_part", dim: int = 64, depth: int = 1) -> None:
        super().__init__()
        check_choices(mask=(mask, ("active", "all")), lcm=(lcm, ("skip", "zeros", "token")))
        if not 0 < ratio < 1:
            raise ValueError(f"ratio={ratio}: choose a share between 0 and 1")
        skipped = ("lcm", "norm_lcm") if lcm == "skip" else ()
        self.model, config = resting(model, "flow", *skipped), model.config
        self.ratio, self.mask, self.lcm, self.reconstruct = ratio, mask, lcm, reconstruct
        self.mask_token = mask_token(config) if lcm == "token" else None
        self.decoder = resting(painter(config, reconstruct, dim, depth), *skipped)

    def hide(self, tokens: TokenBatch) -> tuple[Tensor, Tensor]:
        """Which places are in play and which of them are hidden: (B, S) bool each, see
        ``hidden_of``."""
        pool = in_play(tokens, self.model.config, self.mask == "all")
        return pool, hidden_of(torch.rand(pool.shape, device=pool.device), pool, self.ratio)

    def reconstructed(self, tokens: TokenBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decoder output (B, N, outputs), target (B, N, F), the places (B, N), which are hidden."""
        pool, hidden = self.hide(tokens)
        seen = in_view(tokens, hidden)
        fill = filling(self.mask_token, hidden, tokens.grid)
        x = self.model.encode(seen, self.lcm != "skip", fill)
        output, place, valid = self.decoder(x, seen, pool, self.lcm != "skip")
        return output, pixels(self.model, tokens, place), place, hidden.gather(1, place) & valid

    def loss(self, batch: Batch, output: None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss over the hidden patches and its parts, see ``reconstruction``."""
        output, target, _, asked = self.reconstructed(batch.tokens)
        return reconstruction(output, target, asked, self.reconstruct)


@OBJECTIVES.register("denoising")
class Denoising(nn.Module):
    """A jet with noise, lost and added hits comes in; the jet as it was is to come out.

    Vincent et al., ICML 2008, doi:10.1145/1390156.1390294. The batch's tokens are damaged, its
    ``other`` is the jet itself (``lib.data.views.Damaged``). The decoder is asked for every patch
    that holds something before or after the damage, with a mask token where it sees none. The
    arguments are those of ``MAE``."""

    shown, model_type = ("mean",), JetViT

    def __init__(self, model: JetViT, reconstruct: str = "two_part", dim: int = 64,
                 depth: int = 1) -> None:
        super().__init__()
        self.model, self.reconstruct = resting(model, "flow"), reconstruct
        self.decoder = painter(model.config, reconstruct, dim, depth)

    @staticmethod
    def views(augment: Augment | None, damage: Augment) -> tuple[Damaged, Damaged]:
        return Damaged(damage, augment), Damaged(damage)

    def reconstructed(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decoder output (B, N, outputs), target (B, N, F), the places (B, N), which are real.
        ValueError if the batch holds no undamaged jets."""
        if batch.other is None:
            raise ValueError("denoising needs the jet as it was beside the damaged one: make "
                             "batches with lib.data.views.Damaged")
        damaged, clean = batch.tokens, batch.other
        wanted = torch.stack([lookup(t) < t.valid.shape[1] for t in (damaged, clean)])
        output, place, valid = self.decoder(self.model.encode(damaged), damaged, wanted.any(0))
        return output, pixels(self.model, clean, place), place, valid

    def loss(self, batch: Batch, output: None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and parts, see ``reconstruction``; and ``mse_input``, the mean squared error of
        giving the damaged jet back, the trivial answer here."""
        output, target, place, asked = self.reconstructed(batch)
        loss, parts = reconstruction(output, target, asked, self.reconstruct)
        given = pixels(self.model, batch.tokens, place)
        parts["mse_input"] = ((given - target).square() * asked.unsqueeze(-1)).sum() / (
            asked.sum().clamp(min=1) * target.shape[-1])
        return loss, parts
