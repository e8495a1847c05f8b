"""What is trained and how: the one typed recipe, and the recipes that have a name.

``recipe(name, profile)`` is what notebooks, grids and the command line train; those with ``r1_``
have R1's batches, rates, weight decays, epochs and patience in every profile, on the same model."""

import bisect
import dataclasses
import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.data.images import JetImages
from lib.data.tokens import TOP_QCD, Grid
from lib.models.rivals import DeepSets, L2ViT, ResNet15, XCiT
from lib.models.vit import JetViT, ViTConfig
from lib.profiles import Profile
from lib.registry import Registry, refuse_unknown
from lib.training import contrastive, jepa, masked  # noqa: F401 (they enter their objectives)
from lib.training.objectives import OBJECTIVES
from lib.training.optim import FitSettings
from lib.training.zoo import MATCHED, ZOO, settings

ARCHITECTURES = Registry("architecture")
SCALE_JETS = 512  # training jets that the scaling layers are fitted on (the mass: on all)


@dataclass(frozen=True, eq=False)
class Recipe:
    """What is trained and how; with the jets, it determines a run."""

    objective: str = "supervised"  # one of ``OBJECTIVES``, or ``module:Class``; its arguments
    loss: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = "vit"  # one of ``ARCHITECTURES``; its arguments (``ViTConfig``)
    model: Mapping[str, Any] = field(default_factory=dict)
    fit: FitSettings = field(default_factory=FitSettings)
    augment: Any = None  # of the hits in training, see ``lib.data.views.views``
    damage: Any = "damage"  # of the hits, for denoising
    split: int = 42  # which jets, with ``hold_out`` and ``labels``: see ``lib.training.split``
    hold_out: bool = True
    labels: int | None = None
    start: Any = None  # a run whose backbone to start from, see ``backbone.find``
    frozen: bool = False  # train the heads alone
    batches: str = "lib.training.split:make_batches"  # or another function of (recipe, jets)
    grid: Grid | None = None  # how images are cut; that of the jets
    seed: int = 0  # of initialisation, order, chance in training and the draw of labels

    def __post_init__(self) -> None:
        for level in ("loss", "model"):
            if (known := self._defaults()[level]) is not None:
                refuse_unknown(level, getattr(self, level), known)

    @classmethod
    def of(cls, given: "Mapping | Recipe", **changes: Any) -> "Recipe":
        """A recipe from plain JSON or another recipe, with ``changes``; those of ``model``,
        ``loss`` and ``fit`` go into what is there. ValueError for an unknown name (the message has
        the nearest known one), or no plain JSON."""
        given = given.to_json() if isinstance(given, Recipe) else dict(given)
        for level in ("model", "loss", "fit"):
            if level in changes:
                changes[level] = {**given.get(level, {}), **changes[level]}
        try:
            plain = json.loads(json.dumps({**given, **changes}, default=_plain))
        except TypeError as error:
            raise ValueError(f"settings must be plain JSON: {error}") from error
        refuse_unknown("", plain, cls.__dataclass_fields__)
        fit = plain.get("fit", {})
        refuse_unknown("fit", fit, FitSettings.__dataclass_fields__)
        plain["fit"] = FitSettings(**{"seed": plain.get("seed", 0), **fit})
        if plain.get("grid"):
            plain["grid"] = Grid(**plain["grid"])
        return cls(**plain)

    def but(self, **changes: Any) -> "Recipe":
        """This recipe with changes, e.g. ``ours.but(model={"attention": "softmax"})``."""
        return Recipe.of(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """The canonical form: plain JSON, and nothing that is as by default, so that equal recipes
        are equal text and equal runs."""
        own = {**vars(self), "grid": self.grid and asdict(self.grid), "fit": asdict(self.fit)}
        default = {f.name: f.default for f in dataclasses.fields(self)}
        for level, known in self._defaults().items():
            own[level], default[level] = _without(own[level], known or {}), {}
        return json.loads(json.dumps(_without(own, default), default=_plain))

    def _defaults(self) -> dict[str, dict[str, Any] | None]:
        """What the three levels are by default; None: the objective checks its model itself."""
        objective = OBJECTIVES.find(self.objective)
        own = hasattr(objective, "build")
        return {"fit": {**asdict(FitSettings()), "seed": self.seed}, "loss": _arguments(objective),
                "model": None if own else _arguments(ARCHITECTURES.find(self.architecture))}

    @property
    def tokens(self) -> str:
        """Which patches become tokens."""
        return self.model.get("tokens", "active")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.to_json() == other.to_json()


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value):
        return asdict(value)
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    raise TypeError(f"{value!r} is not")


def _without(given: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """What is not as by default; whole numbers as floats where the default is one."""
    whole = {k: float(v) for k, v in given.items()
             if isinstance(v, int) and isinstance(default.get(k), float)}
    return {k: v for k, v in {**given, **whole}.items() if k not in default or v != default[k]}


def _arguments(made: Any) -> dict[str, Any]:
    """Arguments of a class or function, with their defaults; the first is the model or the grid."""
    if made is _vit:
        return {k: v for k, v in asdict(ViTConfig()).items() if k not in Grid.__dataclass_fields__}
    known: dict[str, Any] = {}
    for part in getattr(made, "__mro__", (made,)):  # **settings go on to the class above
        _, *others = inspect.signature(part).parameters.values()
        known = {p.name: p.default for p in others if p.kind is not p.VAR_KEYWORD} | known
        if all(p.kind is not p.VAR_KEYWORD for p in others):
            break
    return known


def changed(published: Mapping[str, Mapping], now: Mapping[str, Recipe]) -> list[str]:
    """Names whose published recipe is not the present one, whatever seed and start."""

    def core(given: Mapping | Recipe) -> Recipe | None:
        try:
            return Recipe.of(given, seed=0, start=None, grid=None, fit={"seed": 0})
        except ValueError:  # of a time that knew other settings
            return None

    return [n for n in now if n in published and core(published[n]) != core(now[n])]


def _vit(grid: Grid, **arguments: Any) -> nn.Module:
    return JetViT(ViTConfig.of(grid, **arguments))


ARCHITECTURES |= {"vit": _vit, "resnet15": ResNet15, "l2vit": L2ViT, "xcit": XCiT,
                  "deep_sets": DeepSets}


def make_model(recipe: Recipe, jets: JetImages | None = None,
               index: Tensor | None = None) -> nn.Module:
    """The model of a recipe; where jets are given, its scaling layers are fitted on those of
    ``index``, the training jets."""
    grid = recipe.grid if jets is None else jets.grid
    model = ARCHITECTURES.find(recipe.architecture)(grid, **recipe.model)
    if jets is not None:
        some = index[torch.linspace(0, len(index) - 1, min(len(index), SCALE_JETS)).long()]
        tokens = jets.batch(some, recipe.tokens).tokens
        mass = None if jets.mass is None else jets.mass[index.to(jets.mass.device)]
        model.fit_scales(jets.hits(some), tokens, mass)
    return model


def build(recipe: Recipe, jets: JetImages | None = None, index: Tensor | None = None) -> nn.Module:
    """The objective of a recipe, around its model; ``jets`` and ``index`` as in ``make_model``.
    ValueError for an objective that takes no such model."""
    objective = OBJECTIVES.find(recipe.objective)
    if hasattr(objective, "build"):
        return objective.build(recipe, jets, index)
    model = make_model(recipe, jets, index)
    if not isinstance(model, wanted := getattr(objective, "model_type", nn.Module)):
        raise ValueError(f"objective={recipe.objective!r} pretrains a {wanted.__name__}: leave "
                         "architecture at vit")
    return objective(model, **recipe.loss)


PRETRAININGS: dict[str, dict[str, Any]] = {
    "simclr": {"objective": "simclr", "augment": "ours"},
    "mae": {"objective": "mae", "augment": "flips"},
    "dae": {"objective": "denoising", "augment": "flips", "damage": "damage"},
    # The last weights: a loss between features says nothing of their worth.
    "jepa": {"objective": "jepa", "augment": "flips", "fit": {"select": "high:update"}},
    "r1_simclr": {"objective": "simclr", "augment": "r1",
                  "loss": {"temperature": 0.5, "dim": 128}},
    "r1_mae": {"objective": "mae", "augment": "flips",
               "loss": {"mask": "all", "lcm": "skip", "reconstruct": "mse"}},
}
# From scratch as notebook 14 found it best for few jets: three times the updates, on turned jets.
PATIENT: dict[str, Any] = {
    "augment": ["flips", {"rotation": {"degrees": 30}}], "loss": {"smoothing": 0.05},
    "fit": {"weight_decay": 0.3, "select": "high:update"}}
FROM_BACKBONE = ("finetune", "r1_finetune")
NAMES = (*PRETRAININGS, "scratch", "patient", "r1_scratch", *FROM_BACKBONE, *ZOO)

_OURS: dict[str, Any] = dict(
    tokens="two_scale", position="factorised", pool="energy", heads=4, mlp_ratio=2.0)
_LAPTOP = dict(_OURS, dim=64, depth=2, head_hidden=128)
# By profile: model, fit from scratch, what differs in a pretraining; full: R1's amounts of jets.
SIZES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "smoke": (dict(_OURS, dim=32, depth=1, heads=2, head_hidden=32),
              dict(updates=30, batch_size=32, lr=3e-3, ema=0.9),
              dict(updates=8, lr=1e-3, every=4, select="loss")),
    "laptop": (_LAPTOP,
               dict(updates=1_400, batch_size=32, lr=2e-3, ema=0.99, precision="auto"),
               dict(updates=600, batch_size=64, lr=1e-3, every=60, select="loss")),
    "full": (_LAPTOP,
             dict(updates=2_000, batch_size=64, lr=2e-3, ema=0.99, precision="auto"),
             dict(updates=5_860, batch_size=512, lr=2e-3, every=586, select="loss")),
}


def parameters(recipe: Recipe) -> int:
    """How many parameters the model of a recipe has; none of them is made."""
    with torch.device("meta"):
        model = make_model(dataclasses.replace(recipe, grid=recipe.grid or TOP_QCD))
    return sum(p.numel() for p in model.parameters())


def matched(recipe: Recipe, setting: str, goal: int) -> Recipe:
    """The recipe with that value of a setting of its model, whole or, for ``mlp_ratio``, in units
    of the narrowest hidden layer, with which it is nearest to ``goal`` parameters."""
    known = _arguments(ARCHITECTURES.find(recipe.architecture))
    step = 1 / recipe.model.get("dim", known.get("dim", 1)) if setting == "mlp_ratio" else 1

    def with_value(number: int) -> Recipe:
        return recipe.but(model={setting: number * step})

    above = bisect.bisect_left(range(1, 4096), goal, key=lambda n: parameters(with_value(n))) + 1
    return min(map(with_value, (max(1, above - 1), above)),
               key=lambda found: abs(parameters(found) - goal))


def recipe(name: str, profile: Profile, seed: int | None = None,
           start: str | Path | Mapping | None = None) -> Recipe:
    """A recipe by its name, in the size of a profile; for ``finetune``, ``r1_finetune`` and, if you
    like, ``patient`` with the pretrained run to start from (``backbone.find``). The seed: the first
    of the profile. Simulated jets have a test file, so the test part of the split trains too.

    Raises:
        ValueError: an unknown recipe; one that needs a start and has none, or the reverse."""
    if name not in NAMES and ":" not in name:
        raise ValueError(f"unknown recipe {name!r}: choose one of {', '.join(NAMES)}")
    if (name in FROM_BACKBONE) != (start is not None) and name != "patient":
        raise ValueError(f"{name}: " + ("give the pretrained run to start from, e.g. simclr"
                         if start is None else "starts from nothing; finetune takes a run"))
    if name in ZOO or ":" in name:
        base, own = recipe("scratch", profile, seed), settings(name, profile.name)
        # Of another architecture none of our model's settings is known.
        made = (Recipe.of({**base.to_json(), "model": {}}, **own) if "architecture" in own
                else base.but(**own))
        how = MATCHED.get(name, "mlp_ratio" if ":" in name else None)
        return matched(made, how, parameters(base)) if how else made
    model, fit, pretraining = SIZES[profile.name]
    base = Recipe.of({"model": model, "seed": profile.seeds[0] if seed is None else seed})
    if pretrains := name in PRETRAININGS:
        base = base.but(fit={**fit, **pretraining}).but(**PRETRAININGS[name])
    else:
        base = base.but(fit=fit, loss={"mass_weight": 3.0}, augment="flips", start=start,
                        hold_out=profile.data != "simulated")
    if name == "patient":
        long = {"updates": 3 * fit["updates"], "every": fit["updates"] // 4}
        base = base.but(**PATIENT).but(fit=long)
    if name.startswith("r1_"):  # at most 50 epochs, 5 or 3 of them warm-up; patience of 15
        epoch = (int(0.95 * profile.unlabelled) // 128 if pretrains
                 else int(0.9 * profile.labelled) // 64)
        base = base.but(loss={} if pretrains else {"mass_weight": 1.0}, fit={
            "batch_size": 128 if pretrains else 64, "every": epoch, "lr": 3e-4, "patience": 15,
            "updates": epoch * (2 if profile.name == "smoke" else 50), "ema": None,
            "weight_decay": 0.05 if pretrains else 0.01, "warmup": 0.1 if pretrains else 0.06})
    if name == "r1_finetune":
        rates = dict.fromkeys(("class_head", "mass_head", "hidden"), 1e-4)
        base = base.but(fit={"lr": 5e-5, "rates": rates})
    return base


def passes(name: str, profile: Profile, count: float, seed: int | None = None) -> Recipe:
    """The choices of a pretraining (objective, views, mask, loss) at the course's rate and batch,
    for ``count`` passes over the profile's unlabelled jets, so that nothing else differs."""
    found = recipe(name.removeprefix("r1_"), profile, seed).but(**PRETRAININGS[name])
    updates = max(2, round(count * profile.unlabelled / found.fit.batch_size))
    return found.but(fit={"updates": updates, "every": max(1, updates // 4)})
