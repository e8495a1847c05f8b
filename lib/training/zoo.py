"""What is compared with our model, by name: settings that differ from the recipe ``scratch``.

``TYPES`` are other models; ``LADDER`` leads from a plain vision transformer to ours, one change a
step; the rest of ``ZOO`` is our model with another mechanism.
Each has as many parameters as ours, to the nearest unit of the setting that ``MATCHED`` names."""

from itertools import accumulate
from typing import Any

from lib.models.attention import MECHANISMS

# From a plain vision transformer to ours; each step keeps those before it. None: as ours.
STEPS: dict[str, dict[str, Any]] = {
    "plain": dict(tokens="all", position="learned", pool="cls", attention="softmax", lcm_kernel=0,
                  patch_energy=False, summary=False, head_hidden=0),
    "plain_active": {"tokens": "active"},
    "plain_energy": {"patch_energy": None},
    "plain_pool": {"pool": None},
    "plain_local": {"lcm_kernel": None},
    "plain_hidden": {"head_hidden": None},
    "plain_two_scale": {"tokens": None},
    "plain_factorised": {"position": None},
    "plain_linear": {"attention": None},
}  # and, with the 32 sums, ours
LADDER = {name: {"model": model} for name, model in zip(
    STEPS, accumulate(STEPS.values(), dict.__or__), strict=True)}

_DENSE = {"fit": {"precision": "32-true"}}  # convolutions in bfloat16 are slow on a processor
# Architecture, settings in smoke and in the others, what matches the size; with the 32 sums.
TYPES: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "resnet15": ("resnet15", dict(width=5), dict(width=13), "hidden"),
    "l2vit": ("l2vit", dict(depths=[2]), {}, "mlp_ratio"),
    "xcit": ("xcit", dict(dim=16, depth=1, heads=2), dict(dim=48), "mlp_ratio"),
    "deep_sets": ("deep_sets", {}, {}, "width"),
}
ZOO: dict[str, dict[str, Any]] = {
    **{name: {"model": {"attention": name}} for name in MECHANISMS},
    "cross_covariance": {"model": {"attention": "cross_covariance", "temperature": 1.0}},
    "relu_published": {"model": {"normalizer": "sum", "floor": 100.0, "temperature": 0.25}},
    "class_attention": {"model": {"pool": "class_attention"}},
    **LADDER,
    **{name + bare: {"architecture": kind, "model": {"summary": not bare}, **_DENSE}
       for name, (kind, *_) in TYPES.items() for bare in ("", "_bare")},
}
MATCHED = {name: "mlp_ratio" for name, row in ZOO.items()
           if "architecture" not in row} | {
    name + bare: setting for name, (*_, setting) in TYPES.items() for bare in ("", "_bare")}


def settings(name: str, profile: str) -> dict[str, Any]:
    """The changes of a row, or of an attention ``module:Class``, in the size of a profile."""
    row = ZOO[name] if name in ZOO else {"model": {"attention": name}}
    base = TYPES.get(name.removesuffix("_bare"), ("", {}, {}))[1 + (profile != "smoke")]
    own = {key: value for key, value in row["model"].items() if value is not None}
    return {**row, "model": {**base, **own}}
