"""What a fit is given and what it gives back: settings, rates and groups, history."""

import math
from dataclasses import dataclass, field

from torch import nn

from lib.registry import check_choices

WHERE = ("accelerator", "devices")  # settings that say where it is computed, not what
NO_DECAY = ("temperature", "position", "cls", "token", "sigma")  # besides biases and norms


@dataclass(frozen=True)
class FitSettings:
    """How to train. Arms that are compared get the same number of updates."""

    updates: int = 400
    batch_size: int = 64  # of all processes together
    lr: float = 1e-3  # the peak
    # of parts: by the longest matching prefix of the parameter's name, e.g. {"class_head": 1e-4}
    rates: dict[str, float] = field(default_factory=dict)
    weight_decay: float = 0.05  # never on biases, norms, temperatures, positions, class tokens
    warmup: float = 0.05  # fraction of the updates in which the rate rises linearly from 0
    # then cosine (to 0), constant, or plateau: times ``factor`` whenever the validation loss has
    # not improved for more than ``plateau_patience`` validations
    schedule: str = "cosine"
    factor: float = 0.5
    plateau_patience: int = 2
    clip: float | None = 1.0  # largest norm of the gradient
    ema: float | None = None  # decay of the average of the weights that is validated and kept
    every: int | None = None  # updates between validations; None: one pass, but at least 20
    patience: int | None = None  # validations without improvement before training stops
    # which weights are kept: best validation auc or loss or, as high:name or low:name, a number of
    # the monitor; without validation, the last
    select: str = "auc"
    # stop after so much training (without validation), for comparisons at equal time: the schedule
    # then follows the clock, and a run is not exactly repeatable
    minutes: float | None = None
    # as in Lightning Fabric, or auto: bf16-mixed where the hardware multiplies in bfloat16 (about
    # twice as fast), else 32-true
    precision: str = "32-true"
    accelerator: str = "auto"  # cuda where there is a GPU, else cpu; mps only by name
    devices: int | str = 1  # processes of this node, unless torchrun or srun has started them
    seed: int = 0  # of dropout and the like; initialisation and order belong to model and batches

    def __post_init__(self) -> None:
        check_choices(schedule=(self.schedule, ("cosine", "constant", "plateau")))
        if self.select not in ("auc", "loss") and not self.select.startswith(("high:", "low:")):
            raise ValueError(f"select={self.select!r}: choose auc, loss, high:NAME or low:NAME")
        if self.updates < 1:
            raise ValueError(f"updates={self.updates}: at least one is needed")


class History(list):
    """One dict per validation: epoch (passes), update, loss and its parts, val_*, lr, images_s."""

    best_update: int = 0  # where the kept weights come from
    updates: int = 0
    train_seconds: float = 0.0  # without validation
    stopped: str = ""  # by ``updates``, ``patience`` or ``minutes``

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Updates and values of one quantity, e.g. ``val_auc``."""
        rows = [r for r in self if r.get(name) is not None]
        return [r["update"] for r in rows], [r[name] for r in rows]

    def to_json(self) -> dict:
        return {**vars(self), "rows": list(self)}

    @classmethod
    def from_json(cls, data: dict) -> "History":
        history = cls(data["rows"])
        vars(history).update({k: v for k, v in data.items() if k != "rows"})
        return history


def parameter_groups(module: nn.Module, settings: FitSettings) -> list[dict]:
    """Groups for AdamW: by learning rate, and with or without weight decay. A name matches a prefix
    of ``settings.rates`` with or without a leading ``model.``. ValueError for a prefix that matches
    no parameter."""
    groups: dict[tuple[float, float], dict] = {}
    unused = set(settings.rates)
    for name, parameter in module.named_parameters():
        short = name.removeprefix("model.")
        matching = [p for p in settings.rates if name.startswith(p) or short.startswith(p)]
        unused -= set(matching)
        if not parameter.requires_grad:
            continue
        lr = settings.rates[max(matching, key=len)] if matching else settings.lr
        plain = parameter.ndim < 2 or any(word in name for word in NO_DECAY)
        decay = 0.0 if plain else settings.weight_decay
        group = groups.setdefault((lr, decay), {
            "params": [], "names": [], "lr": lr, "base_lr": lr, "weight_decay": decay})
        group["params"].append(parameter)
        group["names"].append(name)
    if unused:
        raise ValueError(f"rates: no parameter starts with {', '.join(sorted(unused))}")
    return list(groups.values())


def learning_rate(progress: float, settings: FitSettings) -> float:
    """Factor on the learning rate when a fraction ``progress`` of the training is done."""
    if progress < settings.warmup:
        return progress / settings.warmup
    if settings.schedule != "cosine":
        return 1.0
    after = (progress - settings.warmup) / max(1 - settings.warmup, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(after, 1.0)))


def goodness(row: dict, select: str) -> float:
    """The number to maximise; without a defined AUC (no labels, one class) minus the loss."""
    if select == "auc" and math.isfinite(row.get("val_auc", math.nan)):
        return row["val_auc"]
    if select in ("auc", "loss"):
        return -row["val_loss"]
    direction, name = select.split(":", 1)
    if name not in row:
        raise ValueError(f"select={select!r}: the monitor gave {', '.join(row)}")
    return row[name] if direction == "high" else -row[name]
