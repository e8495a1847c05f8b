"""Where a training starts: from a pretrained backbone, frozen or not.

The backbone is all of a model but its heads and the scale of the mass; the scale of its input
belongs to it, for the weights were learned on pixels scaled that way."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from lib.files import tensor_hash
from lib.models.vit import HEADS
from lib.training import checkpoint

NOT_BACKBONE = (*HEADS, "mass_mean", "mass_std")


def is_backbone(name: str) -> bool:
    """Whether a parameter or buffer of a model belongs to its backbone."""
    return name.split(".")[0] not in NOT_BACKBONE


def find(start: str | Path | Mapping, runs: Path | str, seed: int = 0) -> Path:
    """The weights, ``model.safetensors``, that a setting names.

    Args:
        start: a folder with weights; a run of the folder ``runs``, by the name of its folder or by
            what the name begins or ends with (its key); or one of these for each seed.

    Raises:
        ValueError: no such run, several of them, or one that is not finished."""
    if isinstance(start, Mapping):
        by_seed = {str(k): v for k, v in start.items()}
        if str(seed) not in by_seed:
            raise ValueError(f"start: none for seed {seed}, only for {', '.join(by_seed)}")
        start = by_seed[str(seed)]
    runs, name = Path(runs), str(start)
    folders = [p for p in (Path(start), runs / name) if p.is_dir()][:1]
    if not folders and runs.is_dir():
        folders = sorted(p for p in runs.iterdir() if p.is_dir()
                         and (p.name.startswith(f"{name}-") or p.name.endswith(f"-{name}")))
    if len(folders) != 1:
        several = ", ".join(p.name for p in folders)
        raise ValueError(f"start={name!r}: " + (f"could be {several}; give the folder's name"
                         if folders else f"no such run in {runs}; train it first"))
    path = folders[0] / "model.safetensors"
    if not path.is_file():
        raise ValueError(f"{path} is missing: the run is not finished, train it first")
    return path


def tensors(path: Path) -> dict[str, Tensor]:
    """The backbone in a file of weights."""
    return {k: v for k, v in checkpoint.read(path)[0].items() if is_backbone(k)}


def content(path: Path) -> str:
    """A hash of the backbone in a file: part of the key of every run that starts from it."""
    return tensor_hash("", sorted(tensors(path).items()), 10)


def freeze(model: nn.Module) -> nn.Module:
    """Train the heads alone: no gradients, no dropout and no statistics in the backbone."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not is_backbone(name))
    for name, module in model.named_modules():
        if name and is_backbone(name):
            module.eval()
            module.train = lambda mode=True, module=module: module  # fit sets all to training
    return model


def begin(objective: nn.Module, frozen: bool, weights: Path | None) -> nn.Module:
    """A new objective with the backbone of ``weights``, if any, and ``frozen`` or not; its heads
    and its scale of the mass stay. ``objective.begins()``, where there is such a method: the models
    that get the weights. ValueError for a backbone of another shape (the message names the first
    difference), or none for a teacher."""
    if weights is None and getattr(objective, "taught", False):
        raise ValueError("target='teacher' learns from a run: give the settings a start")
    if weights is not None:
        given = tensors(weights)
        models = objective.begins() if hasattr(objective, "begins") else [objective.model]
        there = {k: tuple(v.shape) for k, v in given.items()}
        own = {k: tuple(v.shape) for k, v in models[0].state_dict().items() if is_backbone(k)}
        for name in sorted(own.keys() | there.keys()):
            if own.get(name) != there.get(name):
                what = ("is missing there" if name not in there else "has no place in this model"
                        if name not in own else
                        f"has another shape, {there[name]} there and {own[name]} in this model")
                raise ValueError(f"{weights}: the backbone is another, {name} {what}; give the "
                                 "settings the model of that run")
        for model in models:
            model.load_state_dict(given, strict=False)
    if frozen:
        freeze(objective.model)
    return objective
