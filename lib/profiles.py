"""How large a run is, and where its files go.

Three profiles: ``smoke`` checks that everything works, ``laptop`` (the default) is sized for two
cores, ``full`` for one GPU. What is trained, in which size, says ``lib.training.recipe``.

The environment variable ``JETS_HOME``, when set, replaces the repository root for everything that
is written, and for reading it back (tests and throw-away runs use it). ``JETS_FRESH``, seconds
since 1970, has runs that were begun earlier trained again; ``--fresh`` sets it to now."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA_CHOICES = ("simulated", "cms")
# On GitHub. Set here alone: the Colab badges and cells of the notebooks are filled in from it.
REPOSITORY = "OWNER/jets-in-linear-time"


def home() -> Path:
    """Folder under which everything is written: ``JETS_HOME`` if set, else the repository root."""
    return Path(os.environ.get("JETS_HOME") or ROOT).resolve()


def fresh_since() -> float:
    """Runs that were begun before are not taken from the cache: ``JETS_FRESH``, else 0."""
    return float(os.environ.get("JETS_FRESH") or 0)


def cores() -> int:
    """Cores that this process may use: those of its affinity, no more than a container's quota or a
    job of SLURM has."""
    import joblib  # slow to import, and few need it

    job = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(joblib.cpu_count(), int(job) if job.isdigit() else math.inf)


@dataclass(frozen=True)
class Profile:
    """One size of run: ``labelled``, ``test`` and ``unlabelled`` are numbers of jets simulated;
    with the data ``cms`` the public files decide. ``seeds`` are those of the published grids, the
    first that of the live run."""

    name: str
    data: str
    labelled: int
    test: int
    unlabelled: int
    seeds: tuple[int, ...]

    @property
    def tag(self) -> str:
        """``laptop-simulated``: the name of this run's folders."""
        return f"{self.name}-{self.data}"

    @property
    def build_dir(self) -> Path:
        """Scratch space, ignored by git: executed notebooks, logs, and all of a smoke run."""
        return home() / "build" / self.tag

    def _folder(self, name: str, per_profile: bool = False) -> Path:
        """A smoke run publishes nothing: what it writes stays under build/."""
        return (self.build_dir / name if self.name == "smoke" else
                home() / name / (self.tag if per_profile else ""))

    @property
    def data_dir(self) -> Path:
        """Simulated jets of this profile, or the public files, which are the same for all."""
        return home() / "data" / "cms" if self.data == "cms" else self._folder("data", True)

    @property
    def runs_dir(self) -> Path:
        """The cache of training runs."""
        return self._folder("runs")

    @property
    def results_dir(self) -> Path:
        """One JSON per experiment, its predictions beside it."""
        return self._folder("results", True)

    @property
    def figures_dir(self) -> Path:
        """Figures, each as PDF and PNG."""
        return self._folder("figures")

    @property
    def weights_dir(self) -> Path:
        """Published models: those of the laptop profile; what other profiles make stays aside."""
        return (home() if self.tag == "laptop-simulated" else self.build_dir) / "weights"

    @property
    def paper_dir(self) -> Path:
        """Where the report is built; its source is always ``ROOT/paper``."""
        return self._folder("paper")


_SIZES = {
    "smoke": dict(labelled=300, test=200, unlabelled=300, seeds=(0,)),
    "laptop": dict(labelled=6_000, test=10_000, unlabelled=8_000, seeds=(0, 1, 2)),
    "full": dict(labelled=10_000, test=10_000, unlabelled=60_000, seeds=(0, 1, 2)),
}
NAMES = tuple(_SIZES)


def get(name: str = "laptop", data: str = "simulated") -> Profile:
    """The profile called ``name`` on ``data``; a ValueError names the known ones."""
    for what, given, known in ("profile", name, NAMES), ("data", data, DATA_CHOICES):
        if given not in known:
            raise ValueError(f"unknown {what} {given!r}: choose one of {', '.join(known)}")
    return Profile(name, data, **_SIZES[name])
