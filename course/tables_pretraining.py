"""Tables of self-supervised pretraining: head and rows, for LaTeX and README alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.profiles import Profile
from lib.report import results

Table = tuple[list[str], list[list[Any]]]
START = {"scratch": "from scratch", "finetune_simclr": "SimCLR", "finetune_mae": "MAE, mended",
         "finetune_dae": "denoising", "r1_scratch": "R1's recipe, from scratch",
         "r1_finetune": "R1's recipe, SimCLR"}
MASKED = {"random": "random weights", "summary": "32 sums, no encoder",
          "a": "a: R1's masked autoencoder", "b": "b: convolutions alive",
          "c": "c: active patches masked", "d": "d: two-part loss", "e": "e: all three",
          "mae": "e at full length", "dae": "denoising, full length"}
VIEWS = {"random": "random weights", "simclr": "our views, full length",
         "r1_simclr": "R1's recipe, full length", "aug_r1": "R1's five views",
         "aug_no_phi_flip": "without phi-flip", "aug_no_eta_flip": "without eta-flip",
         "aug_no_phi_roll": "without roll", "aug_no_channel_dropout": "without channel dropout",
         "aug_no_pixel_noise": "without noise", "aug_translation": "roll replaced by a shift",
         "aug_ours": "our views", "observables": "observables, no encoder"}
SYSTEMS = {"scratch": "from scratch", "simclr": "SimCLR", "mae": "MAE, mended",
           "dae": "denoising", "random_frozen": "random, frozen", "linear": "observables, linear",
           "boosted_trees": "observables, trees"}


def gap(found: Mapping[str, Any], a: str, b: str, metric: str = "auc") -> Mapping | None:
    """The comparison a - b of an experiment, or None."""
    for row in found["comparisons"]:
        if (row["a"], row["b"], row["metric"]) == (a, b, metric):
            return row
    return None


def finetuned(found: Mapping[str, Any]) -> Table:
    """Fine-tuned and from scratch with all labels, and what the start was worth."""
    rows = []
    for name, title in START.items():
        if name in found["summary"]:
            base = "r1_scratch" if name.startswith("r1_") else "scratch"
            own = found["summary"][name]
            rows.append([title, *(own.get(m) for m in ("accuracy", "auc", "mass_mae")),
                         *(gap(found, name, base, m) for m in ("auc", "mass_mae"))])
    return ["start", "accuracy", "AUC", "mass MAE (GeV)", "AUC − scratch",
            "MAE − scratch"], rows


def probed(found: Mapping[str, Any], titles: Mapping[str, str], base: str) -> Table:
    """AUC of a linear probe on the features of encoders, and the difference to one of them."""
    rows = [[title, found["summary"][name]["auc"], gap(found, name, base)]
            for name, title in titles.items() if name in found["summary"]]
    return ["encoder", "probe AUC", f"minus {titles[base]}"], rows


def efficiency(found: Mapping[str, Any]) -> Table:
    """AUC by system and number of labels."""
    values = found["values"]
    rows = [[title, *(values["curves"][name].get(count, {}).get("auc")
                      for count in values["labels"])]
            for name, title in SYSTEMS.items() if name in values["curves"]]
    return ["labels", *values["labels"]], rows


def gains(found: Mapping[str, Any]) -> Table:
    """AUC minus that from scratch, by pretraining and number of labels."""
    values = found["values"]
    rows = [[SYSTEMS[name], *(values["gains"][name].get(count, {}).get("auc")
                              for count in values["labels"])]
            for name in ("simclr", "mae", "dae") if name in values["gains"]]
    return ["AUC − scratch, labels", *values["labels"]], rows


MAKERS = {
    "finetuned": ("07_finetune_grid", finetuned),
    "views": ("04_simclr_grid", lambda found: probed(found, VIEWS, "aug_r1")),
    "masked": ("05_mae_grid", lambda found: probed(found, MASKED, "random")),
    "efficiency": ("08_labels_grid", efficiency),
    "gains": ("08_labels_grid", gains),
}


def tables(profile: Profile) -> dict[str, Table]:
    """Every table whose experiment has results."""
    present = results.names(profile)
    return {name: make(results.load(source, profile))
            for name, (source, make) in MAKERS.items() if source in present}
