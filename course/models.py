"""Train, evaluate and predict from the command line, through the same cache as the notebooks."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from collider.course import course_files, opened
from hcal import runs as hcal_runs
from lib.data.batches import Batches
from lib.data.images import JetImages
from lib.evaluation import metrics
from lib.evaluation.predictions import predict as predict_batches
from lib.files import require
from lib.models.vit import JetViT
from lib.profiles import Profile
from lib.report.numbers import chances, with_interval
from lib.training import recipe as recipes
from lib.training import runs
from lib.training.fit import launched


def train(name: str, profile: Profile, seed: int = 0, file: Path | Sequence[Path] | None = None,
          start: str | None = None, devices: int | str = 1, **changes: float | None) -> Path:
    """Train a recipe on the profile's jets or on those of ``file``; the folder of its run. A
    ``name`` that ``lib.training.recipe`` does not know is one for ``scratch``; ``module:Class`` is
    an attention of one's own. A fine-tuning starts from a run, a folder of weights, or a
    pretraining, trained first unless it is cached. changes: of the recipe's ``updates``, ``lr``,
    ``batch_size`` and ``labels``."""
    changes = {k: v for k, v in changes.items() if v is not None}
    labels = {"labels": int(changes.pop("labels"))} if "labels" in changes else {}
    if not name or Path(name).name != name:
        raise ValueError(f"{name!r} cannot name a run: it becomes a folder, so give one plain word")
    if not 0 <= seed < 2**32:
        raise ValueError(f"--seed {seed}: give a whole number from 0 to {2**32 - 1}")
    if name in hcal_runs.MODELS:
        require(not changes | labels, name, f"{', '.join(changes | labels)} cannot be changed here")
        return hcal_runs.train(name, profile, seed, _listed(file))
    file = _one(file)
    if name in recipes.FROM_BACKBONE:
        start = start or _default_start(name)
        if start in recipes.PRETRAININGS:
            start = str(train(start, profile, seed, devices=devices))
    known = name if name in recipes.NAMES or ":" in name else "scratch"
    meant = difflib.get_close_matches(name, (*recipes.NAMES, *hcal_runs.MODELS), 1, 0.8)
    if meant and meant[0] not in (name, "scratch"):
        raise ValueError(f"no recipe {name!r}; did you mean {meant[0]}? Another word names a run "
                         "from scratch, but one less like this")
    recipe, alone = recipes.recipe(known, profile, seed, start), known in recipes.PRETRAININGS
    if labels and alone:
        raise ValueError(f"--labels: {known} learns without labels; leave it out")
    recipe = recipe.but(fit={**changes, "devices": devices}, **labels)
    part = "unlabelled" if alone else "labelled"
    with launched(recipe.fit).rank_zero_first():  # it makes the files, the others find them
        files = {part: file} if file else course_files(profile)
    if files[part] is None:
        raise ValueError("the public unlabelled file is not here; run python -m lib download "
                         "unlabelled, or give --file")
    jets = opened(files[part])
    if jets.labels is None and not alone:
        raise ValueError(f"{file} has no labels (Y): training needs a labelled file; without "
                         f"labels there are {', '.join(recipes.PRETRAININGS)}")
    if len(jets) < 3:
        raise ValueError(f"{file} holds {len(jets)} jets: training needs at least 3, for its parts")
    if alone and not file:
        return runs.pretrain(f"{name}-{seed}", recipe, profile, jets, files["labelled"]).folder
    if file and not alone:
        recipe = recipe.but(hold_out=True)
    return runs.train(f"{name}-{seed}" if alone else name, recipe, jets, files.get("test"),
                      runs=profile.runs_dir).folder


def _listed(file: Path | Sequence[Path] | None) -> list[Path]:
    return [] if file is None else [file] if isinstance(file, Path) else list(file)


def _one(file: Path | Sequence[Path] | None) -> Path | None:
    """The only file of jets. ValueError for more."""
    if len(files := _listed(file)) > 1:
        raise ValueError(f"--file {' '.join(map(str, files))}: give one file of jets")
    return files[0] if files else None


def test_jets(profile: Profile) -> tuple[JetImages, Tensor]:
    """The test jets and their numbers: the test file or, for ``cms``, split A."""
    files = course_files(profile)
    jets = JetImages.open(files["test"] or files["labelled"])
    return jets, torch.arange(len(jets)) if files["test"] else jets.split().test


def find(run: str, profile: Profile) -> Path:
    """The folder of a run, given as a path, by the name of its folder, or as a recipe: then the run
    of its first seed, whatever notebook or command made it. A ValueError lists those there are."""
    for folder in (Path(run), profile.runs_dir / run):
        if (folder / "run.json").is_file():
            return folder
    known = sorted(path.parent.name for path in profile.runs_dir.glob("*/run.json"))
    matching = [name for name in known if name.startswith(f"{run}-")]
    if len(matching) == 1:
        return profile.runs_dir / matching[0]
    if not matching and (folder := _of_recipe(run, profile)):
        return folder
    listed = ", ".join(matching or known) or "none; train one with python -m lib train"
    raise ValueError(f"no run {run!r}; there are: {listed}")


def _of_recipe(name: str, profile: Profile) -> Path | None:
    """The cached run of a recipe and the profile's first seed; simulates and trains nothing."""
    parts = ("labelled", "test", "unlabelled") if profile.data == "simulated" else ("labelled",)
    if name not in recipes.NAMES or not all(
            (profile.data_dir / f"{part}.h5").exists() for part in parts):
        return None
    tuned = name in recipes.FROM_BACKBONE
    backbone = _of_recipe(_default_start(name), profile) if tuned else None
    if tuned and backbone is None:
        return None
    jets = course_files(profile)["unlabelled" if name in recipes.PRETRAININGS else "labelled"]
    return jets and runs.Order(recipes.recipe(name, profile, start=backbone), JetImages.open(jets),
                               profile.runs_dir).folder()


def _default_start(name: str) -> str:
    return "r1_simclr" if name.startswith("r1_") else "simclr"


def evaluate(names: Sequence[str], profile: Profile,
             file: Path | Sequence[Path] | None = None, out: Path | None = None,
             figures: Path | None = None) -> str:
    """Metrics of runs on the test jets or on ``file``, with intervals, as text; the predictions of
    a single run also as ``out``, an npz. With several runs also the difference of each to the last,
    paired by jet, with the two-sided p; runs that judged other jets (their own test parts) cannot
    be paired. Into the folder ``figures`` go pictures of all runs (`course.figures.draw`)."""
    if out is not None:
        if len(names) > 1:
            raise ValueError("--out takes the predictions of one run: evaluate them one by one")
        _check_out(out)
    folders = [find(name, profile) for name in names]
    maps = ["hcal" in str(runs.record_of(folder)["settings"]) for folder in folders]
    if any(maps) != all(maps):
        raise ValueError("models of jets and of HCAL maps: evaluate them one by one")
    if all(maps):
        jets, index = hcal_runs.held_out(profile, _listed(file)), None
    else:
        file = _one(file)
        jets, index = (opened(file), None) if file else test_jets(profile)
    if jets.labels is None:
        raise ValueError(f"{file} has no labels (Y): use predict")
    answers, histories, said = {}, {}, []
    for folder in folders:
        run = runs.Run.open(folder)
        histories[folder.name] = run.history
        answers[folder.name] = run.predict(jets, index)
        said.append((folder.name, metrics.summary(answers[folder.name])))
        if out is not None:
            answers[folder.name].save(out)
    if figures is not None:
        from course.figures import draw  # matplotlib takes seconds, and few need it

        draw(figures, answers, histories)
    *others, last = answers
    said += [(f"{name} minus {last}", metrics.compare(answers[name], answers[last]))
             for name in others]
    lines = []
    for title, rows in said:
        lines.append(title)
        for metric, row in rows.items():
            p = f"  {chances(row['p'])}" if "difference" in row else ""
            lines.append(f"  {metric:<16} {with_interval(row)}{p}")
    return "\n".join(lines)


def predict(run: str, file: Path, out: Path) -> Path:
    """Write scores (probability of top) and masses (GeV) for all jets of ``file`` to an npz;
    ``run`` is the folder of a run or of published weights."""
    _check_out(out)  # before the work, not after it
    jets, folder = opened(file), Path(run)
    if (folder / "run.json").is_file():
        predictions = runs.Run.open(folder).predict(jets)
    elif (folder / "config.json").is_file():
        model = JetViT.from_pretrained(folder)
        wanted = (model.config.channels, model.config.height, model.config.width)
        require(jets.shape == wanted, file, f"holds images of {jets.shape} (C, H, W), the model of "
                f"{folder} takes {wanted}: give jets of that kind")
        index = torch.arange(len(jets))
        predictions = predict_batches(model, Batches(jets, index, 256, model.config.tokens))
    else:
        raise ValueError(f"{folder} is neither a run nor weights: it has no run.json, config.json")
    predictions.save(out)
    return out


def export(profile: Profile, run: str | None = None, out: Path | None = None,
           check: Path | None = None, kind: str | None = None, opset: int = 18,
           target: str = "mass", int8: bool = False, file: Path | None = None) -> list[str]:
    """Write a run or published weights as an ONNX file (`course.export`), or check one, with a run
    also against its weights; lines to print. int8 is measured on ``file``, or on the test jets."""
    from course.export import TOLERANCE, Graph, OnnxModel, parity, quantized
    from course.export import check as checked
    from course.export import export as write

    if check is None and (run is None or out is None):
        raise ValueError("give a run and the file to write, or --check FILE")
    if run is None:
        return checked(check)
    folder = Path(run) if (Path(run) / "config.json").is_file() else find(run, profile)
    record = runs.record_of(folder)
    if record and not record["predicts"]:
        raise ValueError(f"{folder.name} is a pretraining and predicts nothing yet: fine-tune it")
    if record:
        opened = runs.Run.open(folder)
        model, grid, keep = opened.model(), opened.recipe.grid, opened.recipe.tokens
    else:
        model = JetViT.from_pretrained(folder)
        grid, keep = model.config.grid, model.config.tokens
    if check is not None:
        found = OnnxModel(check)
        worst = parity(found, Graph(model, grid, keep, found.kind)) * TOLERANCE
        if worst > TOLERANCE:
            raise ValueError(f"{check} differs from {folder.name} by {worst:.2g}")
        return [*checked(check), f"agrees with {folder.name} to {worst:.1g}"]
    scaled = record.get("data", {}).get("encoding") != "gev" and grid.channels == 8
    kind = kind or ("frame" if scaled else "image")
    jets, index = (file and JetImages.open(file), None) if file or not int8 else test_jets(profile)
    if int8 and kind == "frame" and jets.encoding != "gev":
        raise ValueError("--int8 of frames needs jets in gev: give --file, or --input image")
    said = checked(write(Graph(model, grid, keep, kind), out, opset, target))
    if int8:
        before = OnnxModel(out).predict(jets, index)
        after = OnnxModel(quantized(out, out)).predict(jets, index, batch=1)
        said += [f"8-bit weights: {out.stat().st_size / 1e6:.2f} MB"]
        said += [f"8-bit minus float, {metric}: {with_interval(row)}"
                 for metric, row in metrics.compare(after, before).items()]
    return said


def _check_out(out: Path) -> None:
    require(out.suffix == ".npz", out, "predictions are written as .npz")
    require(not out.is_dir(), out, "is a folder; choose another name")
    out.parent.mkdir(parents=True, exist_ok=True)
