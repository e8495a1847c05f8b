"""The jets of the course: three files a profile, simulated where they are missing, or public."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from collider.events import SAMPLES
from collider.shards import pack
from collider.simulate import Settings, holds, simulate
from lib.cms import PUBLIC
from lib.data.images import JetImages
from lib.files import DataError, require
from lib.profiles import Profile
from lib.registry import Registry
from lib.workers import one_at_a_time

SEEDS = {"labelled": 1, "test": 2, "unlabelled": 3}  # of the course's own files
DATASETS = Registry("data set")


class DataSet:
    """Where the files of a task come from: simulated jets of one process, unless `make` differs. A
    new one is a subclass, entered by ``@DATASETS.register(name)`` or named as ``module:Class``.
    Patches are 5×5 unless the attribute ``patch`` of a file says otherwise."""

    process = ""  # of `collider.events.SAMPLES`
    parts: ClassVar[tuple[str, ...]] = tuple(SEEDS)  # the files that there are
    folder = ""  # of its files, below the data folder of the profile
    # Profile → part → number of jets; what is not given is as in the profile.
    sizes: ClassVar[Mapping[str, Mapping[str, int]]] = {}

    def make(self, path: Path, part: str, jets: int, **changes: Any) -> None:
        """See that `path` holds the first `jets` jets of a part; ``changes`` are its settings."""
        settings = {"seed": SEEDS[part], "pool": "test" if part == "test" else "train",
                    "labelled": part != "unlabelled", **changes}
        wanted = Settings(self.process, jets, **settings)
        if not holds(path, wanted):
            with one_at_a_time(path.with_name(f".{path.name}.lock"), f"{path.name}: being made"):
                if not holds(path, wanted):  # another process may just have made it
                    simulate(self.process, jets, path, **settings)

    def public(self, profile: Profile) -> dict[str, Path | None]:
        """The public files, None where there is none. Raises: DataError if one is missing."""
        raise DataError(f"{type(self).__name__} has no public files; use --data simulated")


@DATASETS.register("top_qcd")
class TopQCD(DataSet):
    process = "top_qcd"

    def public(self, profile: Profile) -> dict[str, Path | None]:
        found = {"labelled": None, "test": None, "unlabelled": None}
        for part, name in PUBLIC.items():
            dense, packed = profile.data_dir / name, profile.data_dir / f"{part}.h5"
            if dense.exists() and not packed.exists():
                print(f"{packed.name}: packing {name}", flush=True)
                pack([dense], packed)
            found[part] = packed if packed.exists() else None
        # The other is 30 GB that supervised lessons do not need.
        require(found["labelled"], profile.data_dir / "labelled.h5", "the public labelled file is "
                "not here; run `python -m lib download labelled` (5 GB)")
        return found


@DATASETS.register("quark_gluon")
class QuarkGluon(DataSet):
    process = folder = "quark_gluon"
    parts = ("labelled", "test")
    sizes: ClassVar[Mapping] = {"laptop": {"test": 4_000},
                                "full": {"labelled": 90_000, "test": 10_000}}

    def public(self, profile: Profile) -> dict[str, Path | None]:
        folder = profile.data_dir / self.folder
        packed, found = folder / "labelled.h5", sorted(folder.glob("*.parquet"))
        if not packed.exists():
            require(found, folder, "holds no public file of quark and gluon jets; put "
                    "QCDToGGQQ_IMGjet_RH1all_jet0_run*.parquet there, see DATA.md")
            pack(found, packed)
        return {"labelled": packed, "test": None, "unlabelled": None}


def course_files(profile: Profile, dataset: str = "top_qcd") -> dict[str, Path | None]:
    """The labelled, test and unlabelled file of a profile; simulated ones are made if missing. With
    the public data `test` is None (split A of the labelled file is used), and `unlabelled` where it
    was not downloaded or the data set has none. Raises: DataError where the public labelled file is
    missing."""
    if profile.data == "cms":
        return DATASETS.find(dataset)().public(profile)
    there = DATASETS.find(dataset).parts
    return {part: more_jets(profile, part, dataset=dataset) if part in there else None
            for part in SEEDS}


def more_jets(profile: Profile, like: str, name: str | None = None, jets: int | None = None,
              dataset: str = "top_qcd", **changes: Any) -> Path:
    """A file with the events of one of the course's files; made if it is missing. like: "labelled",
    "test" or "unlabelled". name: of the file. jets: how many, the first ones (whole chunks hold the
    same events). changes: of the settings, as ``pile_up=31.0``."""
    source = DATASETS.find(dataset)()
    path = profile.data_dir / source.folder / f"{name or like}.h5"
    usual = source.sizes.get(profile.name, {}).get(like, getattr(profile, like))
    source.make(path, like, jets or usual, **changes)
    return path


def opened(path: Path) -> JetImages:
    """The jets of a file that a user names; where its sample has changed since, stderr says so."""
    jets = JetImages.open(path)
    process, made = (jets.attributes.get(name) for name in ("process", "version"))
    if isinstance(process, str) and (now := SAMPLES.get(process)) and now.version != made:
        print(f"{path}: version {made} of the sample {process}, which has version {now.version} by "
              "now; simulate it again for jets like those of the course", file=sys.stderr)
    return jets


class CourseJets(NamedTuple):
    """The labelled jets of a profile and the parts they are used in: image numbers, long tensors.
    Simulated data have a test file, so 90 % of the labelled file is for training and 10 % for
    validation; the public data are split 70/10/20 (split A), and `test_jets` is `jets` itself."""

    jets: JetImages
    train: Tensor
    validation: Tensor
    test_jets: JetImages
    test: Tensor
    hold_out: bool  # whether the test is a part of the labelled file: a setting of the runs


def course_jets(profile: Profile, dataset: str = "top_qcd") -> CourseJets:
    """Training, validation and test jets of a profile, as every notebook uses them; runs with the
    same `hold_out` make the same parts."""
    files = course_files(profile, dataset)
    jets = JetImages.open(files["labelled"])
    train, validation, test = jets.split()
    if files["test"] is None:
        return CourseJets(jets, train, validation, jets, test, True)
    test_jets = JetImages.open(files["test"])
    return CourseJets(jets, torch.cat([train, test]), validation, test_jets,
                      torch.arange(len(test_jets)), False)
