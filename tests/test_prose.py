"""Numbers that the prose of a notebook states are those of the published results."""

import re

import pytest

from lib import profiles
from lib.profiles import ROOT
from lib.report import results


def published(name):
    return results.load(name, profiles.get("laptop"))


def difference(name, a, b, metric="auc", digits=3):
    """What a - b is printed as: "0.031 [0.009, 0.054]"."""
    row, = (c for c in published(name)["comparisons"]
            if (c["a"], c["b"], c["metric"]) == (a, b, metric))
    return "{} [{}, {}]".format(*(f"{row[k]:.{digits}f}" for k in ("difference", "low", "high")))


def closure():
    found = published("01_collisions")["values"]["closure_met"]
    return ("Of {of} rows {met} are met: {fitted_met} of {fitted_rows} that were fitted, and "
            "{free_met} of {free_rows} that were not".format(**found))


def humps(key):
    rows = published("01_collisions")["values"]["closure"]
    return " and ".join(f"{row[key]:.0f}" for kind in ("low", "high") for row in rows
                        if row["quantity"].startswith(f"m: {kind} mode"))


def bpix_excess():
    row, = (row for row in published("01_collisions")["values"]["closure"]
            if row["quantity"] == "BPIX 1: non-zero pixels")
    return row["measured"] / row["published"] - 1


def densities():
    found = published("01_collisions")["values"]["pile_up"]["density"]
    return "{chs_20:.2f} and {chs_40:.2f} with CHS, {none_20:.2f} and {none_40:.2f} without".format(
        **found)


def shift(what):
    return published("12_ablations")["values"]["shifts"]["ours"][what]["auc"]["difference"]


SAID = {
    "01_collisions": [
        closure, densities,
        lambda: f"BPIX 1 has {bpix_excess():.0%} too many".replace("%", " %"),
        lambda: f"ours at {humps('measured')} GeV",
        lambda: humps("published"),
        lambda: "{auc:.2f}, but at equal mass {at_equal_mass:.2f}".format(
            **published("01_collisions")["values"]["tell_tales"]["jet_pT"])],
    "09_hcal": [
        *(lambda k=k, e=e, d=d: f"{hcal('r3_' + k, f'epoch_{e}', 'mean'):.{d}f}"
          for k, d in (("vit", 3), ("moe", 3)) for e in (1, 2, 3)),
        *(lambda k=k, d=d: f"{published('09_hcal')['summary'][k]['val_loss']['mean']:.{d}f}"
          for k, d in (("moe_as_vit", 4), ("vit", 4), ("vit_as_moe", 3), ("moe", 3))),
        lambda: "{mean:.2f} ± {std:.2f} bits".format(**hcal("routing_random", "information")),
        *(lambda n=n, k=k: f"{hcal('routing_' + n, k):.2f}" for n, k in (
            ("published", "information"), ("soft", "share"), ("top1", "share"),
            ("soft", "distance"), ("top1", "distance"))),
        *(lambda w=w, s=s: f"{hcal(w, s, 'fpr95_0.9', 'value'):.3%}".replace("%", " %")
          for w in ("A_to_B", "A_to_B_few_events", "B_to_A", "B_to_A_few_events")
          for s in ("rule_no_network", "masked_model")),
        lambda: f"{hcal('B_to_A', 'rule_no_network', 'auprc_0.9', 'value'):.3f}",
        *(lambda w=w: f"{hcal(w, 'oracle', 'fpr95_0.9', 'value'):.3%}".replace("%", " %")
          for w in ("B_to_A", "B_to_A_few_events")),
        *(lambda n=n, s=s: f"{hcal(n + '_B_to_A_0.85', s):.3%}".replace("%", " %")
          for n in ("boxes", "strips", "scattered") for s in ("rule_no_network", "masked_model")),
        lambda: f"All lines close, {closed(355456)} of the first run and {closed(357479)} of",
        lambda: " in the first run and to ".join(
            f"{off:.1%}" for off in hcal("symmetry").values()).replace("%", " %"),
        lambda: "lies {median:.1f} standard deviations apart, the best one {best:.0f}".format(
            **hcal("apart")),
        lambda: f"their mean is {hcal('untrained', 'auc'):.3f}",
        lambda: f"after three epochs, {hcal('r3_xavier', 'epoch_3'):.5f}",
        *(lambda k=k, e=e, d=d: f"{grid09(k, e):.{d}f}" for k, e, d in (
            ("vit_15_epochs", "loss_3", 4), ("vit_15_epochs", "loss_15", 4),
            ("moe_15_epochs", "loss_3", 3), ("moe_15_epochs", "loss_15", 3))),
        *(lambda k=k, q=q: f"{min(grid09(k, q)):.2f} to {max(grid09(k, q)):.2f}"
          for k, q in (("router_published", "information_last"), ("router_soft", "distance_last"),
                       ("router_top1", "distance_last"), ("router_top1", "share_last"))),
        lambda: f"{hcal('attention', 'MoE-ViT_table', 'trained'):.3f}"],
    "08_comparison": [
        *(lambda a=a, m=m, d=d: difference("08_comparison_grid", a, "ours", m, d)
          for a, m, d in (("none", "auc", 4), ("none", "mass_mae", 2), ("softmax", "auc", 4),
                          ("resnet15", "auc", 4), ("resnet15", "mass_mae", 2),
                          ("cross_covariance", "auc", 4), ("boosted_trees", "auc", 3)))],
    "11_scaling": [
        lambda: "Of {all:.0f} patches {active:.0f} are active, and two scales make "
                "{two_scale:.0f} tokens".format(**scaled("two_scales")),
        lambda: "625 / 219 = {:.1f}".format(
            scaled("two_scales", "all") / scaled("two_scales", "two_scale")),
        lambda: "{:.0f} are active already in 2012, and {:.0f} with 200".format(
            scaled("tokens", "25", "5"), scaled("tokens", "200", "5")),
        lambda: "with 200 collisions {:,.0f} are active".format(scaled("tokens", "200", "1")),
        lambda: "in 2012, with {:,.0f} active ones".format(scaled("tokens", "25", "1")),
        lambda: "it has {:.0f} pixels, in {:.0f} towers".format(
            scaled("tokens", "0", "1"), scaled("tokens", "0", "5")),
        lambda: "the rate falls by {} than the tokens grow".format(
            "more" if scaled("rates", "5", "jets_s") / scaled("rates", "1", "jets_s")
            > scaled("rates", "1", "tokens") / scaled("rates", "5", "tokens") else "less")],
    "12_ablations": [
        lambda: "{:.3f} in AUC".format(shift("hottest tower dead")),
        lambda: "{:.3f} and a mass".format(shift("dropped cells")),
        *(lambda a=a, b=b, m=m, d=d: difference("12_ablations_grid", a, b, m, d)
          for a, b, m, d in (("no_local", "ours_half", "auc", 3), ("plain_vit", "ours", "auc", 3),
                             ("no_local", "ours_half", "mass_mae", 1),
                             ("active", "ours", "auc", 3), ("gev", "ours", "auc", 3),
                             ("gev", "ours", "mass_mae", 2))),
        lambda: "by {:.1f} %, with".format(100 * published("12_ablations_grid")["values"][
            "shifts_gev"]["calorimeters +5 %"]["mass"]["difference"])],
}


def hcal(*keys, of="09_hcal"):
    found = published(of)["values"]
    for key in keys:
        found = found[key]
    return found


def grid09(*keys):
    return hcal(*keys, of="09_hcal_grid")


def scaled(*keys):
    return hcal(*keys, of="11_scaling")


def closed(run):
    rows = hcal(f"closure_{run}")
    assert all(row["ok"] for row in rows)
    return len(rows)


@pytest.mark.parametrize(("notebook", "value"), [(n, v) for n, all_ in SAID.items() for v in all_])
def test_the_prose_states_the_published_number(notebook, value):
    text = (ROOT / f"notebooks/{notebook}.py").read_text()
    prose = " ".join(re.sub(r"^# ?", "", text, flags=re.MULTILINE).split()).replace(" GeV [", " [")
    assert value() in prose
