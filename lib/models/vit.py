"""JetViT: a vision transformer with linear attention on the patches that hold something."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from lib.data.tokens import Grid, Hits, TokenBatch
from lib.files import guarded, read_json, read_tensors, replacing_folder, write_json, write_tensors
from lib.models.blocks import Block, ClassAttention, Dropout, Layout
from lib.models.embedding import InputScale, Position, Summary, filled, patch_sums, stem_of
from lib.registry import check_choices, refuse_unknown

POOLS = ("mean", "mean_max", "cls", "class_attention", "energy")
HEADS = ("class_head", "mass_head", "hidden")  # of a JetViT: not part of its backbone


@dataclass(frozen=True)
class ViTConfig:
    """Every setting of JetViT; the default is ours, `R1` below the published model."""

    # images, and the patches that they are cut into (see `lib.data.tokens.Grid`)
    channels: int = 8
    height: int = 125
    width: int = 125
    patch_height: int = 5
    patch_width: int = 5
    tokens: str = "active"  # which patches become tokens: active, all or two_scale (`tokenize`)

    # the size of the transformer
    dim: int = 96
    depth: int = 3
    heads: int = 3
    mlp_ratio: float = 4.0  # width of the hidden layer of an MLP, in units of dim

    # from pixels to the first block
    stem: str = "linear"  # patch embedding: linear, mlp or conv (3 x 3 within the patch)
    patch_energy: bool = True  # log multiplicity and log energy per channel beside the pixels
    embed_norm: bool = False  # R1's LayerNorm behind the embedding; removes the patch's energy
    position: str = "learned"  # learned (one vector a patch), factorised (row + column) or none

    # a block
    attention: str = "relu_linear"  # one of `lib.models.attention.MECHANISMS`, or module:Class
    normalizer: str = "mean"  # of linear attention: mean, or R1's sum
    floor: float = 1e-6  # of linear attention: of its denominator
    temperature: float | None = None  # start of R1's learned factor per head; None: no factor
    lcm_kernel: int = 3  # size of the depthwise convolutions; 0: none
    lcm_norm: str = "layer"  # their norm: layer, or R1's batch
    experts: int = 0  # R3's mixture of MLPs, see `hcal.experts`; 0: one MLP
    layer_scale: float = 0.0  # start of a learned factor per channel of each branch; 0: none
    router: str = "soft"  # what chooses between experts: soft, top1 or top2

    # from the last block to the answers
    # mean, mean_max, cls, class_attention (XCiT's), or energy: mean, maximum and, per channel, a
    # mean weighted by the energy of the patches, as in an energy flow network (arXiv:1810.05165)
    pool: str = "mean_max"
    cls_position: bool = False  # R3's position of the class token: parameters, nothing else
    head_hidden: int = 0  # width of a hidden layer shared by the heads; 0: linear heads
    summary: bool = True  # log multiplicity, energy, widths per channel beside the pooled tokens
    scale: str | float = "log"  # per channel, fitted on training data; or a number to divide by
    dropout: float = 0.0
    drop_path: float = 0.0
    start: float = 0.0  # of weights: a truncated normal of this width (R3: 0.02); 0: Xavier
    classes: int = 2
    mass_head: bool = True  # predict the jet mass
    mlp: str | None = None  # module:Class in place of a block's MLP (see `lib.models.blocks.MLPS`)

    @property
    def grid(self) -> Grid:
        return Grid(self.channels, self.height, self.width, self.patch_height, self.patch_width)

    @property
    def learned(self) -> int:
        """Width of the learned features of a jet, see `JetViT.features`."""
        if self.pool == "energy":
            return 2 * self.dim + self.channels * (self.dim // 4)
        return self.dim * (2 if self.pool == "mean_max" else 1)

    @property
    def pooled(self) -> int:
        """Width of all features of a jet."""
        return self.learned + (4 * self.channels if self.summary else 0)

    @classmethod
    def of(cls, grid: Grid, **settings) -> Self:
        """A config for `grid`; an unknown setting is a ValueError that names the known ones."""
        known = {field.name for field in dataclasses.fields(cls)} - set(dataclasses.asdict(grid))
        refuse_unknown("model", settings, known)
        return cls(**{**dataclasses.asdict(grid), **settings})


# R1's published model: 5,111,579 parameters. Its text gives a floor of 1e-6, its code 100.
R1 = dict(
    tokens="all", dim=256, depth=6, heads=4, mlp_ratio=4.0, stem="linear", patch_energy=False,
    embed_norm=True, position="learned", attention="relu_linear", normalizer="sum", floor=1e-6,
    temperature=64**-0.5, lcm_kernel=7, lcm_norm="batch", pool="mean", summary=False, scale=255.0,
    dropout=0.1, drop_path=0.1)


class Answering(nn.Module):
    """A model that may have a ``summary`` and a ``mass_head``, and the scale of the mass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mass_mean", torch.tensor(0.0))
        self.register_buffer("mass_std", torch.tensor(1.0))

    def fit_scales(self, hits: Hits, tokens: TokenBatch, mass: Tensor | None = None) -> Self:
        """Fit the scaling layers on training jets: of input, summary and mass (GeV)."""
        if isinstance(getattr(self, "scale", None), InputScale):
            self.scale.fit(hits)
        if self.summary is not None:
            self.summary.fit(patch_sums(tokens.features, self.summary.channels), tokens)
        if mass is not None and self.mass_head is not None:
            self.mass_mean.copy_(mass.mean())
            self.mass_std.copy_(mass.std(correction=0).clamp(min=1e-6))
        return self

    def answer(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The two heads on features of jets (B, width), see ``forward``."""
        logits = self.class_head(x).float()
        if self.mass_head is None:
            return logits, None
        return logits, self.mass_head(x).squeeze(-1).float() * self.mass_std + self.mass_mean


class JetViT(Answering):
    """Patch embedding, `depth` blocks, LayerNorm, pooling, a class head and a mass head."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        check_choices(pool=(config.pool, POOLS),
                      tokens=(config.tokens, ("active", "all", "two_scale")))
        self.config, dim = config, config.dim
        self.scale = InputScale(config.channels, config.scale)
        self.stem = stem_of(config)
        self.energy = nn.Linear(2 * config.channels, dim) if config.patch_energy else None
        self.embed_norm = nn.LayerNorm(dim) if config.embed_norm else nn.Identity()
        self.position = Position(config)
        self.dropout = Dropout(config.dropout)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim)) if config.pool == "cls" else None
        self.ends = ClassAttention(config) if config.pool == "class_attention" else None
        rates = torch.linspace(0, config.drop_path, config.depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(dim)
        self.summary = Summary(config.grid) if config.summary else None
        self.flow = nn.Linear(dim, dim // 4) if config.pool == "energy" else None
        width, self.hidden = config.head_hidden or config.pooled, nn.Identity()
        if config.head_hidden:
            self.hidden = nn.Sequential(nn.Linear(config.pooled, width), nn.GELU(),
                                        Dropout(config.dropout))
        self.class_head = nn.Linear(width, config.classes)
        self.mass_head = nn.Linear(width, 1) if config.mass_head else None
        for module in self.modules():
            if isinstance(module, nn.Linear):
                if config.start:
                    nn.init.trunc_normal_(module.weight, std=config.start)
                else:
                    nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=0.02)
        if self.cls is not None:
            nn.init.trunc_normal_(self.cls, std=0.02)
        placed = self.cls is not None and config.cls_position
        self.cls_position = nn.Parameter(torch.zeros(1, 1, dim)) if placed else None

    def embed(self, tokens: TokenBatch, places: Tensor | None = None,
              sums: Tensor | None = None) -> Tensor:
        """Scaled and embedded patches with their positions: (B, K, D). places, sums: of the tokens,
        where they are known (`filled`, `patch_sums`)."""
        if places is None:
            places = filled(tokens.features)
        x = self.stem(self.scale(tokens.features, places))
        if self.energy is not None:
            if sums is None:
                sums = patch_sums(tokens.features, self.config.channels, places)
            x = x + self.energy(sums.log1p())
        x = self.embed_norm(x)
        return self.dropout(x + self.position(tokens.position).to(x.dtype))

    def _through(self, tokens: TokenBatch, local: bool, fill: Tensor | None, *known) -> Tensor:
        """The tokens behind the last block, the class token first if there is one."""
        x, position, valid = self.embed(tokens, *known), tokens.position, tokens.valid
        if self.cls is not None:
            first = self.cls if self.cls_position is None else self.cls + self.cls_position
            x = torch.cat([first.expand(x.shape[0], -1, -1).to(x.dtype), x], 1)
            position = nn.functional.pad(position, (1, 0), value=-1)
            valid = nn.functional.pad(valid, (1, 0), value=True)
        layout = Layout(position, valid, self.config.grid, fill)
        for block in self.blocks:
            x = block(x, valid, layout, local)
        return self.norm(x)

    def encode(self, tokens: TokenBatch, local: bool = True, fill: Tensor | None = None) -> Tensor:
        """One vector a token: (B, K, D); what is not valid is undefined. local: False leaves the
        convolutions out. fill: (B, P, D), what they find in empty cells."""
        x = self._through(tokens, local, fill)
        return x if self.cls is None else x[:, 1:]

    def features(self, tokens: TokenBatch, summary: bool = True) -> Tensor:
        """One vector a jet: (B, width), float32; 0 without tokens. summary: with the model's own at
        the end (if it has one), in which nothing is learned."""
        places = filled(tokens.features)
        sums = patch_sums(tokens.features, self.config.channels, places)
        x = self._through(tokens, True, None, places, sums).float()
        if self.cls is not None:
            parts = [x[:, 0]]
        elif self.ends is not None:
            parts = [self.ends(x, tokens.valid).float()]
        else:
            keep = tokens.valid.unsqueeze(-1)
            parts = [(x * keep).sum(1) / keep.sum(1).clamp(min=1)]
            if self.config.pool in ("mean_max", "energy"):
                top = x.masked_fill(~keep, torch.finfo(x.dtype).min).amax(1)
                parts.append(torch.where(keep.any(1), top, 0.0))
            if self.flow is not None:
                energy = sums[..., self.config.channels :] * keep  # (B, K, C)
                share = energy / energy.sum(1, keepdim=True).clamp(min=1e-6)
                parts.append((share.transpose(1, 2) @ self.flow(x).float()).flatten(1))
        if summary and self.summary is not None:
            parts.append(self.summary(sums, tokens))
        return torch.cat(parts, -1)

    def forward(self, tokens: TokenBatch) -> tuple[Tensor, Tensor | None]:
        """-> logits (B, classes) and mass (B,) in GeV, or None without a mass head."""
        x = self.features(tokens)
        with torch.autocast(x.device.type, enabled=False):
            return self.answer(self.hidden(x))

    def save_pretrained(self, folder: str | Path, card: str = "") -> Path:
        """Write config.json, model.safetensors and, if given, a model card to `folder`: all of them
        or none."""
        with replacing_folder(folder) as part:
            write_json(part / "config.json", dataclasses.asdict(self.config))
            write_tensors(part / "model.safetensors", self.state_dict())
            if card:
                (part / "README.md").write_text(card, encoding="utf-8")
        return Path(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Rebuild what `save_pretrained` wrote. DataError names the file."""
        file, weights = Path(folder) / "config.json", Path(folder) / "model.safetensors"
        todo = "take the whole folder from where it was published"
        with guarded(file, todo, "it is not a JetViT's"):
            config = ViTConfig(**read_json(file, todo))
            tensors, _ = read_tensors(weights, todo)
            with torch.device("meta"):  # shapes alone: nothing is allocated that does not fit
                shapes = {k: v.shape for k, v in cls(config).state_dict().items()}
        with guarded(weights, todo, "it does not fit its config.json"):
            if other := [k for k in shapes.keys() | tensors.keys()
                         if k not in tensors or tensors[k].shape != shapes.get(k)]:
                raise ValueError(f"{min(other)} is missing, or has another shape")
            model = cls(config)
            model.load_state_dict(tensors)
        return model.eval()
