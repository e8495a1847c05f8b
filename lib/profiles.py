"""How large a run is, and where its files go.

Three profiles: ``smoke`` checks that everything works, ``laptop`` (the default) is sized for two
cores, ``full`` for one GPU. Nothing here imports the rest of ``lib``, so every room may use it.

The environment variable ``JETS_HOME``, when set, replaces the repository root for everything that
is written, and for reading it back (tests and throw-away runs use it).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA_CHOICES = ("simulated", "cms")
# On GitHub. Set here alone: the Colab badges and cells of the notebooks are filled in from it.
REPOSITORY = "OWNER/jets-in-linear-time"


def home() -> Path:
    """Folder under which everything is written: ``JETS_HOME`` if set, else the repository root."""
    return Path(os.environ.get("JETS_HOME") or ROOT).resolve()


@dataclass(frozen=True)
class Profile:
    """One size of run.

    Attributes:
        name: ``smoke``, ``laptop`` or ``full``.
        data: ``simulated`` or ``cms`` (the public files).
        labelled, test, unlabelled: numbers of jets simulated. With ``cms`` the public files decide.
        model: keyword arguments of ``lib.models.vit.ViTConfig``.
        train: keyword arguments of ``lib.training.fit.FitSettings``, supervised from scratch.
        pretrain: those that differ in self-supervised pretraining.
        seeds: random seeds of the published grids; the first is the one of the live run.
    """

    name: str
    data: str
    labelled: int
    test: int
    unlabelled: int
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    # not in the repr, which stands for the profile in results that know no pretraining
    pretrain: dict[str, Any] = field(default_factory=dict, repr=False)
    seeds: tuple[int, ...] = (0,)

    def settings(self, seed: int | None = None) -> dict[str, Any]:
        """Settings of the supervised model from scratch, for ``lib.training.runs.train``.

        Simulated jets have a test file of their own, so the test part of the split trains too.
        """
        seed = self.seeds[0] if seed is None else seed
        return {"seed": seed, "model": dict(self.model), "fit": dict(self.train),
                "loss": {"mass_weight": 3.0}, "augment": "flips",
                "hold_out": self.data != "simulated"}

    @property
    def tag(self) -> str:
        """``laptop-simulated``: the name of this run's folders."""
        return f"{self.name}-{self.data}"

    @property
    def build_dir(self) -> Path:
        """Scratch space, ignored by git: executed notebooks, logs, and all of a smoke run."""
        return home() / "build" / self.tag

    @property
    def _published(self) -> Path:
        """A smoke run publishes nothing: its results and figures stay under build/."""
        return self.build_dir if self.name == "smoke" else home()

    @property
    def data_dir(self) -> Path:
        """Simulated jets of this profile, or the public files, which are the same for all."""
        if self.data == "cms":
            return home() / "data" / "cms"
        if self.name == "smoke":
            return self.build_dir / "data"
        return home() / "data" / self.tag

    @property
    def runs_dir(self) -> Path:
        """The cache of training runs."""
        return self._published / "runs"

    @property
    def results_dir(self) -> Path:
        """One JSON per experiment, its predictions beside it."""
        if self.name == "smoke":
            return self.build_dir / "results"
        return home() / "results" / self.tag

    @property
    def figures_dir(self) -> Path:
        """Figures, each as PDF and PNG."""
        return self._published / "figures"

    @property
    def weights_dir(self) -> Path:
        """Published models: those of the laptop profile; what other profiles make stays aside."""
        return (home() if self.tag == "laptop-simulated" else self.build_dir) / "weights"

    @property
    def paper_dir(self) -> Path:
        """Where the report is built; its source is always ``ROOT/paper``."""
        return self._published / "paper"

    @property
    def notebooks_dir(self) -> Path:
        """Executed notebooks."""
        return self.build_dir / "notebooks"


# The training settings are those of the supervised model from scratch.
_OURS: dict[str, Any] = dict(
    tokens="two_scale", position="factorised", pool="energy", heads=4, mlp_ratio=2.0
)
_SIZES: dict[str, dict[str, Any]] = {
    "smoke": dict(
        labelled=300,
        test=200,
        unlabelled=300,
        model=dict(_OURS, dim=32, depth=1, heads=2, head_hidden=32),
        train=dict(updates=30, batch_size=32, lr=3e-3, ema=0.9),
        pretrain=dict(updates=8, lr=1e-3, every=4, select="loss"),
        seeds=(0,),
    ),
    "laptop": dict(
        labelled=6_000,
        test=10_000,
        unlabelled=8_000,
        model=dict(_OURS, dim=64, depth=2, head_hidden=128),
        train=dict(updates=1_400, batch_size=32, lr=2e-3, ema=0.99, precision="auto"),
        pretrain=dict(updates=600, batch_size=64, lr=1e-3, every=60, select="loss"),
        seeds=(0, 1, 2),
    ),
    "full": dict(
        labelled=10_000,
        test=20_000,
        unlabelled=60_000,
        model=dict(_OURS, dim=256, depth=6, head_hidden=256, mlp_ratio=4.0, drop_path=0.1),
        train=dict(updates=4_000, batch_size=128, lr=1e-3, ema=0.99, precision="auto"),
        pretrain=dict(updates=6_000, batch_size=256, lr=5e-4, every=300, select="loss"),
        seeds=(0, 1, 2, 3, 4),
    ),
}
NAMES = tuple(_SIZES)


def get(name: str = "laptop", data: str = "simulated") -> Profile:
    """The profile called ``name`` on ``data``.

    Raises:
        ValueError: unknown profile or data; the message names the known ones.
    """
    if name not in _SIZES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(NAMES)}")
    if data not in DATA_CHOICES:
        raise ValueError(f"unknown data {data!r}: choose one of {', '.join(DATA_CHOICES)}")
    return Profile(name=name, data=data, **_SIZES[name])
