"""Recipes by name, from the command line to published weights that are checked again."""

import json

import behaviour  # noqa: F401  (fills golden.COMPONENTS)
import golden
import pytest
import torch
from test_augment import make

from course import models, weights
from course.commands import main
from lib import profiles
from lib.data.images import JetImages
from lib.models.vit import JetViT
from lib.report import contract
from lib.training import recipe as recipes
from lib.training.recipe import Recipe, changed
from lib.training.runs import Run, published


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jets")
    made = {"labelled": make("cms8", jets=80), "test": make("cms8", jets=40)}
    some = made["labelled"]
    made["unlabelled"] = JetImages(some.indptr, some.indices, some.data, some.shape, "cms8")
    for name, jets in made.items():
        jets.save(folder / f"{name}.h5")
    return {name: folder / f"{name}.h5" for name in made}


@pytest.fixture
def profile(files, tmp_path, monkeypatch):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    for module in (models, weights):
        monkeypatch.setattr(module, "course_files", lambda profile, *_: files)
    return profiles.get("smoke")


def run(*arguments) -> int:
    return main([*map(str, arguments)])


def test_recipes_differ_in_what_their_names_say():
    profile = profiles.get("laptop")
    scratch = recipes.recipe("scratch", profile, 1)
    tuned = recipes.recipe("finetune", profile, 1, "simclr")
    assert tuned.but(start=None) == scratch
    patient = [recipes.recipe("patient", profile, 0, start) for start in (None, "x")]
    assert patient[1] == patient[0].but(start="x")
    fits = [recipes.recipe(name, profile).fit for name in ("simclr", "mae", "dae")]
    assert len({(f.updates, f.batch_size) for f in fits}) == 1
    r1 = [recipes.recipe(name, profile, 0, start).fit
          for name, start in (("r1_scratch", None), ("r1_finetune", "x"))]
    assert [f.lr for f in r1] == [3e-4, 5e-5]
    assert [f.weight_decay for f in r1] == [0.01] * 2
    assert r1[0].updates == r1[1].updates
    assert r1[1].rates["class_head"] == 1e-4


@pytest.mark.parametrize("size", profiles.NAMES)
@pytest.mark.parametrize(("name", "batch", "warmup"), [
    ("r1_simclr", 128, 5), ("r1_mae", 128, 5), ("r1_scratch", 64, 3), ("r1_finetune", 64, 3)])
def test_r1_s_numbers_are_r1_s_in_every_profile(name, batch, warmup, size):
    profile = profiles.get(size)
    found = recipes.recipe(name, profile, 0, "x" if name == "r1_finetune" else None).fit
    jets = 0.95 * profile.unlabelled if batch == 128 else 0.9 * profile.labelled
    assert found.batch_size == batch
    assert found.every == int(jets) // batch, "patience counts epochs"
    assert found.warmup * 50 == pytest.approx(warmup)
    epochs = found.updates / found.every
    assert epochs == (2 if size == "smoke" else 50)
    assert found.patience == 15


def test_pretrainings_of_one_length_differ_in_their_choices_alone():
    profile = profiles.get("laptop")
    one, other = (recipes.passes(n, profile, 0.3) for n in ("simclr", "r1_simclr"))
    assert one.but(augment="r1", loss={"temperature": 0.5, "dim": 128}) == other
    assert recipes.passes("r1_mae", profile, 0.3).fit == recipes.passes("mae", profile, 0.3).fit
    assert recipes.passes("mae", profile, 1).fit.updates * 64 == profile.unlabelled


def test_the_budget_of_pretraining_dates_only_results_that_pretrain(monkeypatch):
    model, fit, pretraining = recipes.SIZES["laptop"]
    monkeypatch.setitem(recipes.SIZES, "laptop", (model, fit, {**pretraining, "updates": 1}))
    assert golden.changed("pretrain.laptop")
    assert not golden.changed("train.laptop")
    assert "pretrain.laptop" in contract.versions(["objective.mae"], "laptop")
    used = contract.versions(["sample.top_qcd", "fit", "attention.*"], "laptop")
    assert not [name for name in used if "pretrain" in name or "full" in name]


@pytest.mark.parametrize(("given", "said"), [
    ({"agument": "flips"}, r"unknown setting agument \(did you mean augment\?\)"),
    ({"fit": {"epochs": 3}}, "unknown fit setting epochs"),
    ({"fit": {"uptades": 3}}, r"unknown fit setting uptades \(did you mean updates\?\)"),
    ({"model": {"dmi": 3}}, r"unknown model setting dmi \(did you mean dim\?\)"),
    ({"architecture": "resnet15", "model": {"dim": 3}}, "unknown model setting dim"),
    ({"loss": {"mass_wieght": 3}}, r"mass_wieght \(did you mean mass_weight\?\)"),
    ({"objective": "mae", "loss": {"temperature": 1}}, "unknown loss setting temperature"),
    ({"fit": {"select": "best"}}, "select='best'"),
    ({"fit": 3}, "fit=3: give names and values"),
    ({"model": "big"}, "model='big': give names and values"),
    ({"objective": "guess"}, "objective='guess': choose one of"),
    ({"architecture": "mlp"}, "architecture='mlp': choose one of"),
    ({"seed": object()}, "plain JSON"),
])
def test_nothing_unknown_at_any_level(given, said):
    with pytest.raises(ValueError, match=said):
        Recipe.of(given)


def test_the_canonical_form_leaves_out_what_is_as_by_default():
    assert Recipe.of({}).to_json() == {}
    said = {"seed": 3, "fit": {"seed": 3, "lr": 1e-3, "clip": 1, "updates": 7}, "augment": None,
            "model": {"dim": 96, "depth": 1}, "loss": {"mass_weight": 1}, "hold_out": True}
    assert Recipe.of(said).to_json() == {"seed": 3, "fit": {"updates": 7}, "model": {"depth": 1}}
    assert Recipe.of(said) == Recipe.of(Recipe.of(said).to_json())
    assert Recipe.of(said).but(seed=4).fit.seed == 4
    assert Recipe.of(said, seed=4) != Recipe.of(said)
    for name in recipes.NAMES:
        made = recipes.recipe(name, profiles.get("full"), 1, "x" if "tune" in name else None)
        assert Recipe.of(made.to_json()) == made


def test_published_recipes_of_any_age_are_compared():
    now = {n: recipes.recipe(n, profiles.get("laptop")) for n in ("scratch", "mae", "simclr")}
    old = json.loads((profiles.ROOT / "weights" / "scratch" / "run.json").read_text())["settings"]
    assert changed({"scratch": old, "mae": {"maps": "turned"}}, now) == ["mae"]
    assert changed({"scratch": {**old, "augment": None}}, now) == ["scratch"]


@pytest.mark.parametrize(("name", "start", "said"), [
    ("byol", None, "simclr"), ("finetune", None, "start"), ("scratch", "x", "finetune")])
def test_recipes_that_make_no_sense(name, start, said):
    with pytest.raises(ValueError, match=said):
        recipes.recipe(name, profiles.get("smoke"), 0, start)


def test_finetune_trains_the_pretraining_once_and_runs_are_compared(profile, files, capsys):
    assert run("train", "finetune", "--profile", "smoke") == 0
    assert run("train", "scratch", "--profile", "smoke") == 0
    assert run("train", "simclr", "--profile", "smoke") == 0
    assert "simclr-0: from the cache" in capsys.readouterr().out
    folders = [p.name for p in profile.runs_dir.iterdir() if p.is_dir()]
    assert len(folders) == 3
    # a notebook calls them something else; their recipes find them all the same
    for folder in list(profile.runs_dir.glob("*-*")):
        if folder.is_dir():
            folder.rename(folder.with_name(f"07-{folder.name}"))
    profile.data_dir.mkdir(parents=True)
    for name in files:
        (profile.data_dir / f"{name}.h5").touch()
    assert run("evaluate", "finetune", "scratch", "--profile", "smoke") == 0
    said = capsys.readouterr().out
    assert " minus 07-scratch-" in said
    assert "p = " in said
    assert run("evaluate", "simclr", "--profile", "smoke") == 2
    assert "fine-tune" in capsys.readouterr().err


def test_pretraining_takes_a_file_of_ones_own(profile, files, tmp_path, capsys):
    assert run("train", "mae", "--profile", "smoke", "--file", files["unlabelled"]) == 0
    folder = capsys.readouterr().out.strip().splitlines()[-1]
    assert Run.open(folder).recipe.objective == "mae"
    JetImages.open(files["unlabelled"]).subset(torch.arange(2)).save(tmp_path / "two.h5")
    assert run("train", "dae", "--profile", "smoke", "--file", tmp_path / "two.h5") == 2
    assert run("train", "scratch", "--profile", "smoke", "--file", files["unlabelled"]) == 2
    assert "no labels" in capsys.readouterr().err


def test_what_a_reader_changes_first_is_a_flag(profile, files, tmp_path, capsys):
    assert run("train", "simclr", "--profile", "smoke", "--updates", 2) == 0
    backbone = Run.open(capsys.readouterr().out.strip().splitlines()[-1])
    backbone.folder.rename(tmp_path / "weights")  # such as weights/simclr
    assert run("train", "finetune", "--profile", "smoke", "--start", tmp_path / "weights",
               "--updates", 3, "--lr", "1e-3", "--batch-size", 8, "--labels", 20) == 0
    found = Run.open(capsys.readouterr().out.strip().splitlines()[-1])
    assert (found.recipe.fit.updates, found.recipe.fit.lr) == (3, 1e-3)
    assert (found.recipe.fit.batch_size, found.labels) == (8, 20)
    assert run("train", "mae", "--profile", "smoke", "--labels", 20) == 2
    assert "learns without labels" in capsys.readouterr().err
    profile.data_dir.mkdir(parents=True, exist_ok=True)
    assert run("evaluate", found.folder, "--profile", "smoke", "--figures", tmp_path / "drawn") == 0
    drawn = {path.stem for path in (tmp_path / "drawn").glob("*.png")}
    assert {"roc", "curves", f"confusion_{found.folder.name}"} == drawn  # these jets have no mass


def test_published_weights_are_verified_and_a_wrong_number_is_found(profile, capsys):
    for name in ("simclr", "scratch"):
        trained = Run.open(models.train(name, profile))
        folder = weights.publish(name, trained, profile, "A test.")
        torch.testing.assert_close(JetViT.from_pretrained(folder).state_dict(),
                                   trained.model().state_dict())
        assert "95 %" in (folder / "README.md").read_text()
    assert run("verify", "--folder", profile.weights_dir) == 0
    card = json.loads((folder / "card.json").read_text())
    card["metrics"]["auc"] |= {"mean": 2.0, "low": 1.9, "high": 2.1}
    (folder / "card.json").write_text(json.dumps(card))
    capsys.readouterr()
    assert run("verify", "--folder", profile.weights_dir) == 1
    assert "OUTSIDE" in capsys.readouterr().out
    (folder / "card.json").write_text("{}")
    assert run("verify", "--folder", profile.weights_dir) == 2
    assert "card.json" in capsys.readouterr().err


def test_a_published_backbone_is_found_where_the_cache_has_none(profile, files, tmp_path):
    recipe, jets = recipes.recipe("simclr", profile), JetImages.open(files["unlabelled"])
    trained = Run.open(models.train("simclr", profile))
    weights.publish("simclr", trained, profile, "A test.")
    assert published(recipe, jets, profile) is None  # the cache comes first
    trained.folder.rename(tmp_path / "elsewhere")
    found = published(recipe, jets, profile)
    assert found.history[-1]["probe_auc"] == trained.history[-1]["probe_auc"]
    tuned = models.train("finetune", profile, start=str(found.folder))
    assert Run.open(tuned).record["start"] == "simclr"
    assert published(recipe.but(seed=7), jets, profile) is None


def test_nothing_to_verify_is_an_error(tmp_path, capsys):
    assert run("verify", "--folder", tmp_path) == 2
    assert "--only 07" in capsys.readouterr().err
