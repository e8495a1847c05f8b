"""The behaviour contract: the code still does what the published results were made with."""

from __future__ import annotations

import inspect
import json

import behaviour  # fills golden.COMPONENTS
import golden
import pytest

from collider import detector
from hcal import events
from lib.data import encoding
from lib.models.vit import ViTConfig
from lib.profiles import ROOT
from lib.report import contract
from lib.training import optim
from lib.training.contrastive import SimCLR
from lib.training.jepa import JEPA
from lib.training.masked import MAE
from lib.training.optim import FitSettings


def stale_without(name: str) -> str:
    """Results that used the present version of a component."""
    used = []
    for path in sorted((ROOT / "results").glob("*/*.json")):
        found = json.loads(path.read_text()).get("made_with", {}).get("components", {})
        if found.get(name) == contract.golden().get(name, {}).get("version"):
            used.append(path.stem)
    return ", ".join(used) or "no result"


@pytest.mark.parametrize("name", golden.COMPONENTS)
def test_component_behaves_as_published(name):
    if what := golden.changed(name):
        pytest.fail(f"{name} {what}: mend it, or, if it is meant, "
                    f"`PYTHONPATH=. python tests/behaviour.py {name}` raises its version; then "
                    f"{stale_without(name)} become(s) stale", pytrace=False)


def test_contract_names_no_component_that_is_gone():
    gone = set(contract.golden()) - set(golden.COMPONENTS)
    assert not gone, "`PYTHONPATH=. python tests/behaviour.py` drops them"


def default(function, name, value):
    """(object, attribute, value) that gives a parameter another default."""
    function = inspect.unwrap(function)
    given = [p for p in inspect.signature(function).parameters.values()
             if p.default is not p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    defaults = list(function.__defaults__)
    defaults[[p.name for p in given].index(name)] = value
    return function, "__defaults__", tuple(defaults)


@pytest.mark.parametrize(("name", "change"), [
    ("fit", default(FitSettings.__init__, "weight_decay", 0.06)),
    ("fit", default(FitSettings.__init__, "clip", 1.1)),
    ("fit", (optim, "NO_DECAY", ("temperature", "cls", "token", "sigma"))),
    ("fit", default(FitSettings.__init__, "warmup", 0.06)),
    ("objective.simclr", default(SimCLR.__init__, "temperature", 0.51)),
    ("objective.jepa", default(JEPA.__init__, "momentum", 0.99)),
    ("objective.mae", default(MAE.__init__, "ratio", 0.7)),
    ("vit", default(ViTConfig.__init__, "floor", 2e-6)),
    ("detector", (detector, "ECAL_RESOLUTION", (0.029, 0.12, 0.003))),
    ("sample.top_qcd", (detector, "ECAL_THRESHOLD", 0.1)),
    ("sample.quark_gluon", (detector, "HCAL_RESPONSE", (0.55, 0.16))),
    ("hcal.scores", (events, "SIGMA", 0.018)),
], ids=lambda x: x if isinstance(x, str) else f"{x[1]} {x[2]}"[:40])
def test_a_changed_constant_is_noticed(name, change, monkeypatch):
    monkeypatch.setattr(*change)
    assert golden.changed(name)


def test_new_statistics_of_pixels_change_the_encoding_and_no_model(monkeypatch):
    monkeypatch.setattr(encoding, "PIXEL_STD", tuple(2 * x for x in encoding.PIXEL_STD))
    monkeypatch.setattr(encoding, "PIXEL_MEAN", tuple(3 * x for x in encoding.PIXEL_MEAN))
    behaviour.jets.cache_clear()
    left = ("tokens", "batches", "vit", "views", "objective.supervised", "metrics")
    assert [name for name in left if golden.changed(name)] == []
    assert golden.changed("encoding")


def test_a_version_is_raised_and_what_is_gone_is_dropped(tmp_path, monkeypatch):
    numbers = [1.0]
    monkeypatch.setattr(contract, "PATH", tmp_path / "contract.json")
    monkeypatch.setattr(golden, "COMPONENTS", {})
    monkeypatch.setattr(golden, "NEEDS", {})
    golden.component("a.x", needs=["a.y"])(lambda: {"case": numbers})
    golden.component("a.y")(lambda: {"case": [2.0]})
    golden.update()
    assert contract.versions(["a.x"]) == {"a.x": 1, "a.y": 1}
    assert contract.versions(["*.y"]) == {"a.y": 1}
    numbers[0] = 1.0005
    assert golden.changed("a.x") is None
    numbers[0] = 1.01
    assert golden.changed("a.x") == "gives 1.01 for case, not 1"
    del golden.COMPONENTS["a.y"]
    golden.NEEDS["a.x"] = []
    assert golden.update(["a.x"]) == ["a.x: version 2", "a.y: gone"]
    assert contract.versions() == {"a.x": 2}
    assert golden.changed("a.x") is None
    with pytest.raises(ValueError, match="no component 'b'"):
        contract.versions(["b"])
    with pytest.raises(ValueError, match=r"no component a\.z"):
        golden.update(["a.z"])
