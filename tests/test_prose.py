"""Numbers that the prose of a notebook states are those of the published results."""

import re
from statistics import mean, stdev

import numpy as np
import pytest
from scipy.stats import chi2

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


def holms(name, a, metric, among):
    """Holm's p of a difference, among those that `among` takes."""
    rows = {c["a"]: c["p"] for c in published(name)["comparisons"]
            if c["metric"] == metric and among(c["a"])}
    order = sorted(rows, key=rows.get)
    return max(rows[n] * (len(rows) - k) for k, n in enumerate(order[:order.index(a) + 1]))


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


def value(name, *keys):
    found = published(name)["values"]
    for key in keys:
        found = found[key]
    return found


def trees(encoding, *names):
    """AUC by which boosted trees tell jets after each change from jets as they are."""
    return [value("04_simclr", "symmetry", encoding, n, "trees", "mean") for n in names]


def probed(name, *systems):
    return [published(name)["summary"][n]["auc"]["mean"] for n in systems]


def signed(row, digits=3):
    """A difference and its interval, with the minus of print."""
    return "{} [{}, {}]".format(*(f"{row[k]:.{digits}f}" for k in (
        "difference", "low", "high"))).replace("-", "−")


def pull(row):
    return value("05_mae", "pulls", row)


def share_of_pull(row):
    lengths = {k: v["gradient"] for k, v in pull(row).items() if k != "cosine"}
    return lengths["hits"] / sum(lengths.values())


def channel(number):
    rows = value("05_mae", "occupancy", "channels")
    return "{:.2f} against {:.2f}".format(*(rows[n][number] for n in ("e, mended", "map")))


LESSONS = {
    "04_simclr": [
        lambda: "Flips: {:.2f}, where *nothing at all* has {:.2f}. Roll: {:.2f}, crop: "
                "{:.2f}".format(*trees("cms8", "flips", "nothing", "phi_roll", "random_crop")),
        lambda: "Translation: {:.2f}".format(*trees("cms8", "translation")),
        lambda: "measured again: {:.2f}, pile-up exchanged: {:.2f}".format(
            *trees("cms8", "smearing", "pile_up")),
        lambda: "`gev` it is {:.2f} and {:.2f}".format(*trees("gev", "smearing", "pile_up")),
        lambda: "of the two: {:.2f} against {:.2f}".format(
            *trees("cms8", "phi_roll", "quarter_turn")),
        lambda: "The roll changes {:.0f} %".format(
            100 * value("04_simclr", "shapes", "phi_roll", "changed")),
        lambda: "After the roll {:.0f} %".format(
            100 * value("04_simclr", "shapes", "phi_roll", "towers")),
        lambda: "ends at {val:.2f}, between {guess:.2f} (a guess) and {apart:.2f}".format(
            **value("04_simclr", "loss")),
        lambda: "For {:.0f} % of the views".format(100 * value("04_simclr", "loss", "match")),
        *(lambda k=k, t=t: t.format(*(value("04_simclr", "monitor", when, k)
                                      for when in ("start", "end")))
          for k, t in (("probe_auc", "from {:.3f} to {:.3f}"), ("neighbour_auc", "from {:.2f} to "
                        "{:.2f}"), ("effective_rank", "from {:.0f} to {:.0f}"),
                       ("mean_cosine", "fell from {:.2f} to {:.2f}"))),
        lambda: "strangers at {strangers:.2f}".format(
            **value("04_simclr", "spread", "simclr_features")),
        lambda: "they are at {strangers:.2f}".format(
            **value("04_simclr", "spread", "simclr_projection")),
        *(lambda n=n: "({:.2f} → {:.2f})".format(*(value("04_simclr", "moved", w, n) for w in (
            "untrained", "pretrained"))) for n in ("quarter_turn", "phi_roll", "random_crop")),
        lambda: "{:.3f} against {:.3f}".format(*probed("04_simclr", "simclr", "random")),
        lambda: "*observables* win: {:.3f}".format(*probed("04_simclr", "observables")),
        lambda: "the summary " + difference("04_simclr", "summary_simclr", "summary"),
        *(lambda k=k: "from {:.2f} to {:.2f}".format(*(value("04_simclr", "explained", n, k)
                                                       for n in ("random", "simclr")))
          for k in ("mass", "pt", "auc")),
        lambda: signed(value("04_simclr_grid", "judge", "simclr_third")),
        lambda: "it is " + signed(value("04_simclr", "judge", "simclr_full")),
        lambda: "{sigma:.1f} of their standard deviations".format(
            **value("04_simclr", "judge", "simclr_full")),
        lambda: signed(value("04_simclr_grid", "judge", "r1_mae")),
        lambda: signed(value("04_simclr_grid", "excess", "flips"))],
    "05_mae": [
        lambda: "Under R1's mask {:.0f} %".format(
            100 * value("05_mae", "hidden", "a", "empty_patches")),
        *(lambda n=n, t=t: t.format(100 * value("05_mae", "hidden", n, "empty_pixels"))
          for n, t in (("a", "to paint {:.1f} %"), ("e", "alone leaves {:.1f} %"))),
        lambda: "a mean square of {zero:.4f}".format(**value("05_mae", "trivial", "all_mse")),
        lambda: "zero costs {zero:.2f} and the mean {mean:.2f}".format(
            **value("05_mae", "trivial", "active_two_part")),
        *(lambda n=n, k=k, t=t: t.format(value("05_mae", "losses", n, k)) for n, k, t in (
            ("a", "mse_to_mean", "mean's square ({:.3f})"), ("e", "loss_to_mean", "loss ({:.3f})"),
            ("e", "mse_to_mean", "arm a is: {:.3f}"), ("dae", "loss_to_mean", "stands at {:.3f}"),
            ("dae", "mse_to_input", "last column is {:.1f}"))),
        lambda: "{mended:.3f} for the mended arm and {map:.3f} for the map".format(
            **value("05_mae", "occupancy")),
        lambda: f"ECAL {channel(3)}, HCAL {channel(4)}", lambda: f"d0: {channel(1)}",
        lambda: "{lost:.2f} for what was lost".format(**value("05_mae", "denoising")),
        lambda: "{real:.2f} for what is real".format(**value("05_mae", "denoising")),
        lambda: "{hits_before:.0f} % and {hits_after:.0f} %".format(**value("05_mae", "reasons")),
        lambda: f"hits have {share_of_pull('a, as R1'):.0%} of the pull".replace("%", " %"),
        lambda: "the cosine is {cosine:.2f}".format(**pull("a, as R1")).replace("-", "−"),
        lambda: "tug of war ({cosine:.2f})".format(**pull("e, mended")),
        lambda: "32 sums, with {:.3f}, are no better than random weights, {:.3f}".format(
            *probed("05_mae", "summary", "random")),
        *(lambda n=n: signed(next(row for row in published("05_mae")["comparisons"]
                                  if row["a"] == n)) for n in ("a", "e", "dae", "a_no_lcm",
                                                                "random_no_lcm"))],
}


def learned(arm, number=0):
    """AUC of a validation of notebook 07, as its text rounds it."""
    return f"{published('07_finetune')['curves']['learning'][arm][1][number]:.3f}"


def response_of(kind, low):
    """Predicted over label mass in a bin of notebook 07."""
    row, = (row for row in published("07_finetune")["curves"]["response"]
            if (row["class"], round(row["low"])) == (kind, low))
    return row["response"]


def cured(key):
    return published("07_finetune")["values"]["calibration"]["300 labels"][key]


def mean_of(name, metric):
    return published("07_finetune")["summary"][name][metric]["mean"]


LONG, AGAIN = "15_long_pretraining_grid", "16_once_more_grid"
FAR = "17_far_end_grid"
COUNTS = dict(enumerate("None One Two Three Four Five Six Seven Eight Nine".split()))


def counted(true):
    """A number, or how many are true, as a word."""
    return COUNTS[int(np.sum(true))].lower()


def compared(name, a, b, metric="auc"):
    row, = (c for c in published(name)["comparisons"]
            if (c["a"], c["b"], c["metric"]) == (a, b, metric))
    return row


def raced(updates, choice, key):
    return value("14_fair_race_grid", "tuning", "ours", str(updates), choice, key)


def jets_bought(name, metric, digits, of="13_more_jets_grid"):
    row = published(of)["summary"][name][metric]
    return "{} [{}, {}]".format(*(f"{row[k]:.{digits}f}" for k in ("mean", "low", "high")))


SAID = LESSONS | {
    "02_sparsity": [
        lambda: "has an AUC of {auc_of_count:.3f}".format(**value("02_sparsity", "occupancy")),
        lambda: "by {work_ratio:.1f} and not by {tokens_ratio:.1f}".format(
            **value("02_sparsity", "compute"))],
    "03_attention": [
        lambda: "of softmax by " + difference("03_attention", "linear", "softmax"),
        lambda: "the interval, " + signed(compared(
            "03_attention", "linear + local", "linear")).partition(" ")[2]],
    "06_jepa": [
        *(lambda a=a, b=b, t=t: t.format(signed(compared("06_jepa_grid", a, b)))
          for a, b, t in (("jepa_300", "scratch_300", "from scratch is {} with 300 labels"),
                          ("jepa_all", "scratch_all", "{} with all; the masked"),
                          ("simclr_300", "scratch_300", "ahead by {} with 300"),
                          ("simclr_all", "scratch_all", "by {} with all"),
                          ("simclr_300", "paid_300", "{} against \"paid\""))),
        lambda: "is {:.3f} with pretraining and {:.3f} from scratch".format(*(
            value("06_jepa", "calibration", n, "ece") for n in ("pretrained by JEPA", "scratch"))),
        lambda: "softmax, by {:.3f} [{:.3f}, {:.3f}]".format(*(
            -compared("06_jepa", "scratch_all", "softmax_all")[k]
            for k in ("difference", "high", "low"))),
        lambda: signed(compared("06_jepa", "jepa_linear", "random_linear")) + " for the linear",
        lambda: "{difference:.3f} above its random partner".format(
            **compared("06_jepa", "jepa_attentive", "random_attentive")),
        lambda: "behind scratch by {:.3f}".format(
            -compared("06_jepa", "jepa_300", "scratch_300")["difference"]),
        lambda: "ends {difference:.3f} behind".format(
            **compared("06_jepa", "jepa_300", "paid_300")),
        *(lambda w=w, t=t: t.format(*(value("06_jepa", "robust", w, n, "lost") for n in (
            "pretrained by JEPA", "scratch"))) for w, t in (
                ("patches lost", "JEPA loses {:.3f} of its AUC and scratch {:.3f}"),
                ("noise on readings", "noise {:.3f} and {:.3f}"))),
        lambda: "by {:.2f} with an interval of [{:.2f}, {:.2f}]".format(*(
            value("06_jepa", "dictionary", "jepa", k) * sign for k, sign in (
                ("difference", -1), ("low", 1), ("high", 1)))).replace("-", "−"),
        *(lambda a=a, k=k, t=t: t.format(signed(compared(
            "06_variants_grid", f"{a}_{k}", f"block_{k}")))
          for a, k, t in (("random_mask", "linear", "blocks by {} in the linear"),
                          ("random_mask", "attentive", "by {} in the attentive"),
                          ("own", "linear", "ahead by {}, although"))),
        lambda: "has {:.3f} in the linear probe, and the random encoder {:.3f}".format(*(
            published("06_variants_grid")["summary"][f"{n}_linear"]["auc"]["mean"]
            for n in ("block", "random"))),
        lambda: "(smallest p {:.3f})".format(18 * min(
            row["p"] for row in published("06_variants_grid")["comparisons"]))],
    "13_more_jets": [
        lambda: "AUC of " + jets_bought("ours", "auc", 3, "14_fair_race_grid"),
        lambda: jets_bought("ours", "mass_mae", 1, "14_fair_race_grid") + " GeV over three draws",
        lambda: "18,000 has {:.3f} and {:.1f} GeV".format(*(
            published("13_more_jets_grid")["summary"]["ours_18000"][m]["mean"]
            for m in ("auc", "mass_mae"))),
        lambda: "mass error of " + jets_bought("ours_100000", "mass_mae", 1),
        lambda: "AUC of " + jets_bought("ours_100000", "auc", 3),
        lambda: "the trees reach " + jets_bought("trees_100000", "auc", 3),
        lambda: "said {:.3f}, inside".format(value("13_more_jets", "predicted", "with a floor")),
        lambda: "said {:.3f} and is".format(value("13_more_jets", "predicted", "without")),
        *(lambda n=n, m=m, d=d: difference("13_more_jets_grid", f"none_{n}", f"ours_{n}", m, d)
          for n in (100_000, 6_000) for m, d in (("auc", 4), ("mass_mae", 2)))],
    "14_fair_race": [
        *(lambda n=n, t=t: t.format(*compared("14_fair_race_grid", n, "ours", "mass_mae")["points"])
          for n, t in (("resnet15", "by {:.1f}, {:.1f} and {:.1f} GeV"),
                       ("none", "say {:.1f}, {:.1f} and {:.1f} GeV"))),
        *(lambda n=n, t=t: t.format(*(
            published("08_comparison_grid")["summary"][n][m]["mean"] for m in ("mass_mae", "auc")))
          for n, t in (("ours", "{:.1f} GeV and {:.3f}. That step"),
                       ("resnet15", "came from {:.1f} GeV and {:.3f}"))),
        lambda: "flatters it by {optimism:.2f} units, and the".format(
            **value("14_fair_race", "choice")),
        lambda: "{regret:.2f} units worse than the best of the six, which differ by "
                "{spread:.1f}".format(**value("14_fair_race", "choice")),
        lambda: "are {:.1f} apart at the whole length".format(
            raced(4200, "mirrors, restrained", "J") - raced(4200, "turned, restrained", "J")),
        lambda: "were {:.1f} apart at half".format(
            raced(2100, "turned, restrained", "J") - raced(2100, "mirrors, restrained", "J")),
        lambda: "$J={:.1f}$ where validation said {:.1f}".format(
            *(raced(4200, "turned, restrained", k) for k in ("J_test", "J"))),
        *(lambda k=k, t=t: t.format(*(raced(4200, c, k) for c in (
            "turned, restrained", "mirrors, restrained"))) for k, t in (
                ("auc", "({:.4f} against {:.4f}"), ("mass_mae", "{:.1f} GeV against {:.1f}"))),
        *(lambda n=n, m=m, d=d: jets_bought(n, m, d, "14_fair_race_grid")
          for n in ("ours", "resnet15") for m, d in (("auc", 3), ("mass_mae", 1))),
        *(lambda n=n, m=m, d=d: difference("14_fair_race_grid", n, "ours", m, d)
          for n in ("resnet15", "none", "simclr") for m, d in (("auc", 4), ("mass_mae", 2)))],
    "16_once_more": [
        lambda: "trained on the same {} jets".format(min(
            run["labels"] for run in published("16_once_more")["runs"])),
        lambda missed=lambda: value("16_once_more", "pairs", "missed"): (
            f"{COUNTS[9 - missed()]} hold it and {COUNTS[missed()].lower()} do not"),
        lambda: "error of {:.2f} GeV".format(value("16_once_more", "pairs", "interval")),
        lambda: "scatter by {:.2f} GeV".format(value("16_once_more", "pairs", "scatter")),
        lambda: difference("16_once_more", "trees", "linear", "mass_mae", 1),
        *(lambda t=t: t.format(100 * value("16_once_more", "looks", "ever"))
          for t in ("In {:.0f} % of all studies:", "in {:.0f} % of all studies of")),
        lambda: "takes {:.0f} and {:.0f}, and five".format(*(
            value("16_once_more", "plan", n, "half") for n in ("resnet15_mass_mae", "none_auc"))),
        lambda: "needs {draws:.0f} draws, or {half:.0f}".format(
            **value("16_once_more", "plan", "none_mass_mae")),
        *(lambda n=n, m=m, d=d: difference(AGAIN, n, "ours", m, d)
          for n, m, d in (("resnet15", "mass_mae", 2), ("resnet15", "auc", 4),
                          ("none", "auc", 4), ("none", "mass_mae", 2), ("half", "auc", 4),
                          ("half", "mass_mae", 2))),
        lambda: difference(AGAIN, "half", "resnet15", "auc", 4),
        lambda: "it rejects {:.0f} where ours rejects {:.0f}".format(*(
            published(AGAIN)["summary"][n]["rejection_50"]["mean"] for n in ("half", "ours"))),
        lambda: "by factors of {:.1f} to {:.1f}".format(*sorted(
            stdev(compared("14_fair_race_grid", n, "ours", m)["points"])
            / stdev(compared(AGAIN, n, "ours", m)["points"])
            for n, m in (("resnet15", "mass_mae"), ("none", "auc"), ("none", "mass_mae")))[::2]),
        lambda: difference(AGAIN, "all_none", "all_ours", "mass_mae", 2),
        lambda: "pilot's {:.2f}".format(compared(
            "14_fair_race_grid", "resnet15", "ours", "mass_mae")["difference"]),
        *(lambda of=of, t=t: t.format(*compared(of, "none", "ours", "mass_mae")["points"])
          for of, t in (("14_fair_race_grid", "({:.1f}, {:.1f} and {:.1f} GeV)"),
                        (AGAIN, "({:.1f}, {:.1f}, {:.1f}, {:.1f} and {:.1f})")))],
    "18_which_views": [
        lambda: "{:.3f}, our views after five passes {:.3f}, the long backbone {:.3f}".format(
            *probed("18_which_views", "untrained", "simclr", "simclr_60k")),
        lambda: "From {worst:.3f} to {best:.3f}, and all above the {floor:.3f} of".format(
            **value("18_which_views", "outside")),
        lambda: "has {ours:.3f} and is".format(**value("18_which_views", "outside")),
        lambda: "came out at {sigma:.4f}".format(**value("18_which_views", "noise")),
        lambda: "p of {pile_up:.2f} among".format(**value("18_which_views", "holm")),
        *(lambda v=v, d=d: "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*(
            value("18_which_views", "effects", v)[k] for k in ("difference", "low", "high")), d=d)
          for v, d in (("pile_up", 4), ("channel_dropout", 3), ("phi_roll", 3), ("flips", 3))),
        lambda: "expects {mean:.3f} [{low:.3f}, {high:.3f}]".format(
            **value("18_which_views", "outside", "expected")),
        lambda: "four pretrainings have {measured:.3f}".format(
            **value("18_which_views", "outside")),
        lambda: "autoencoder has {r1_mae:.3f} in".format(**value("18_which_views", "outside")),
        *(lambda a=a, m=m, d=d: difference("18_which_views_grid", a, "scratch", m, d)
          for a, m, d in (("from_r1_mae", "accuracy", 4), ("from_r1_simclr", "accuracy", 4),
                          ("from_r1_simclr", "mass_mae", 2), ("from_long", "mass_mae", 2))),
        lambda: "({:.2f}, {:.2f}, {:.2f} and {:.2f} GeV)".format(
            *compared("18_which_views_grid", "from_long", "scratch", "mass_mae")["points"]),
        lambda: "takes {r1_simclr:.1f} times as long".format(
            **value("18_which_views_grid", "cost")),
        lambda: "by its pairs, {long:.0f} times".format(**value("18_which_views_grid", "cost"))],
    "19_paid_looks": [
        lambda: "power falls from {fixed:.2f} to {paid:.2f}".format(
            **value("19_paid_looks", "bought")),
        lambda: "ends after {draws:.1f} draws".format(**value("19_paid_looks", "bought")),
        lambda: "early say {early:.2f}, nearly".format(**value("19_paid_looks", "large")),
        lambda: "little low, {late:.2f}.".format(**value("19_paid_looks", "large")),
        lambda: "hold it in {:.0f} % of".format(100 * value("19_paid_looks", "large", "plain")),
        lambda: "reaches ± {reach:.2f} GeV".format(**value("19_paid_looks", "plan", "zero")),
        lambda: "{:.2f} to {:.1f} GeV. With the".format(*(
            value("19_paid_looks", "plan", "luck") * (3 / chi2.ppf(q, 3)) ** 0.5
            for q in (0.975, 0.025))),
        *(lambda n=n, m=m, d=d: "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*(
            value("19_paid_looks", "looks", n, m)[k] for k in ("difference", "low", "high")), d=d)
          for n, m, d in (("8", "mass_mae", 2), ("16", "mass_mae", 2), ("16", "accuracy", 4))),
        lambda: "the middle is {difference:.2f} GeV".format(
            **value("19_paid_looks", "final", "mass_mae")),
        lambda: "fourth draw, {:.2f} GeV".format(
            value("19_paid_looks", "final", "mass_mae", "points")[3]),
        lambda: "those of update {}, where".format(value("20_worth_grid", "kept", "long")[3]),
        lambda: "ahead on {} of {} draws".format(
            value("19_paid_looks", "ahead"), value("19_paid_looks", "ended")),
        lambda: "Of the {:.1f} GeV".format(
            published("19_paid_looks_grid")["summary"]["scratch"]["mass_mae"]["mean"]),
        lambda: "takes {long:.0f} times as long as".format(
            **value("18_which_views_grid", "cost"))],
    "20_worth": [
        lambda: "ahead by {early:.2f} GeV after 110 steps, by {later:.2f} GeV after".format(
            **value("20_worth", "linear")),
        lambda: "the start had {start:.2f} GeV".format(**value("20_worth", "linear")),
        lambda: "*back* to {back:.2f}.".format(**value("20_worth", "linear")),
        lambda: "({long:.1f} is extrapolated".format(**value("20_worth", "cost")),
        lambda: "fourth, was {:.2f} GeV on".format(
            value("19_paid_looks", "final", "mass_mae", "points")[3]),
        *(lambda q=q, w=w, m=m, d=d: "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*(
            value("20_worth", q, w, m)[k] for k in ("difference", "low", "high")), d=d)
          for q, w, m, d in (("control", "best", "mass_mae", 1), ("control", "last", "mass_mae", 2),
                             ("control", "last", "auc", 4), ("start", "last", "mass_mae", 2),
                             ("start", "last", "accuracy", 3))),
        lambda: "by {:.2f} [{:.2f}, {:.2f}] GeV. What made".format(*(
            -value("20_worth", "short", "last", "mass_mae")[k]
            for k in ("difference", "high", "low"))),
        lambda: "gain, {:.1f} [{:.1f}, {:.1f}] GeV, cannot".format(*(
            value("20_worth", "change")[k] for k in ("difference", "low", "high"))),
        lambda: "p = {p:.2f}, and two".format(**value("20_worth", "start", "last", "mass_mae")),
        lambda: "leave about {left:.2f} GeV".format(**value("20_worth", "worth")),
        lambda: "of the {:.2f} GeV that the start gained".format(
            -value("20_worth", "short", "last", "mass_mae")["difference"]),
        lambda: "found, {:.2f} to {:.2f} GeV, holds".format(*(
            -value("20_worth", "start", "last", "mass_mae")[k] for k in ("high", "low"))),
        lambda: "take {:.1f} GeV off the mass".format(
            -value("20_worth", "minus_scratch", "patient", "mass_mae")["difference"]),
        lambda: "off more, {:.2f} GeV".format(
            -value("20_worth", "minus_scratch", "patient", "mass_mae")["difference"]),
        lambda: "add {:.1f} points to the accuracy, [{:.1f}, {:.1f}]".format(*(
            100 * value("20_worth", "minus_scratch", "patient", "accuracy")[k]
            for k in ("difference", "low", "high"))),
        lambda: "recipes, {:.1f} GeV below".format(
            -value("20_worth", "minus_scratch", "patient_long", "mass_mae")["difference"]),
        lambda: "those of update {} in the fourth".format(
            value("20_worth_grid", "kept", "long")[3]),
        lambda: "of {:,} to {:,}, better than the last ones on {} draws".format(
            *(end(value("20_worth_grid", "kept", "scratch_3x")) for end in (min, max)),
            counted(np.subtract(*(published("20_worth_grid")["summary"][arm]["mass_mae"]["points"]
                                  for arm in ("scratch_3x", "scratch_3x_last"))) < 0)),
        lambda: "ahead on {} of four draws".format(counted(
            np.array(value("20_worth", "control", "best", "mass_mae")["points"]) > 0)),
        lambda: "on {} of six draws. Narrowly".format(counted(
            np.array(value("20_worth", "start", "last", "mass_mae")["points"]) < 0)),
        lambda: "ahead of scratch on all {} draws, by".format(counted(
            np.array(value("20_worth", "short", "last", "mass_mae")["points"]) < 0)),
        lambda: "is about {} times what the start".format(counted(round(
            value("20_worth", "minus_scratch", "patient", "mass_mae")["difference"]
            / value("20_worth", "short", "last", "mass_mae")["difference"])))],
    "17_far_end": [
        *(lambda m=m, t=t: t.format(**value("17_far_end", "scatter", m)) for m, t in (
            ("mass_mae", "{first:.2f} to {last:.2f} GeV, a power of {slope:.2f} ± {error:.2f}"),
            ("auc", "an eighth, a power of {slope:.2f} ± {error:.2f}"))),
        lambda: "{:.1f} % at half the lender's".format(100 * value("17_far_end", "borrow", "0.5")),
        lambda: "the truth in {:.0f} % of all".format(100 * value("17_far_end", "borrow", "2")),
        lambda: "{wider:.1f} times as wide on average".format(**value("17_far_end", "borrow")),
        *(lambda m=m, t=t: t.format(**value("17_far_end", "plan", m)) for m, t in (
            ("auc", "would be ± {pooled:.4f} instead of ± {half:.4f}"),
            ("mass_mae", "± {pooled:.1f} instead of ± {half:.1f} GeV"))),
        *(lambda k=k, m=m, d=d: "{} [{}, {}]".format(*(
            f"{value(FAR, k, m)[end]:.{d}f}" for end in ("difference", "low", "high")))
          for k in ("borrowed", "sealed") for m, d in (("auc", 4), ("mass_mae", 2))),
        lambda: "pairs say {:.4f} and {:.4f}".format(*value(FAR, "borrowed", "auc")["points"]),
        lambda: "has {:.4f}, {:.4f} and {:.4f}, and {:.1f}, {:.1f} and {:.1f} GeV".format(*(
            x for m in ("auc", "mass_mae")
            for x in published(FAR)["summary"]["all_ours"][m]["points"])),
        *(lambda m=m, d=d: jets_bought("all_ours", m, d, FAR)
          for m, d in (("auc", 3), ("mass_mae", 1))),
        *(lambda m=m, d=d: difference(FAR, "all_none", "all_ours", m, d)
          for m, d in (("auc", 4), ("mass_mae", 2))),
        lambda: "({:.2f}, {:.2f} and {:.2f})".format(
            *compared(FAR, "all_none", "all_ours", "mass_mae")["points"]),
        *(lambda m=m, t=t: t.format(stdev(compared(FAR, "all_none", "all_ours", m)["points"]),
                                    stdev(compared(AGAIN, "none", "ours", m)["points"]))
          for m, t in (("auc", "{:.5f} against {:.5f}"),
                       ("mass_mae", "by {:.2f} GeV where the lender has {:.2f}"))),
        lambda: "takes {:.0f} % away, of that at 6,000 jets {:.0f} %".format(*(
            100 - 100 * (1 - probed(of, f"{a}ours")[0]) / (1 - probed(of, f"{a}none")[0])
            for of, a in ((FAR, "all_"), (AGAIN, "")))),
        lambda: "gives [{low:.4f}, {high:.4f}]".format(**compared(FAR, "none", "ours")),
        lambda: "({:.0f} and {:.0f}) leaves".format(*(
            published(FAR)["summary"][f"all_{n}"]["rejection_50"]["mean"]
            for n in ("ours", "none")))],
    "15_long_pretraining": [
        lambda: "has {:.3f}, the short pretraining {:.3f}, the long one".format(
            *probed("15_long_pretraining", "probe_random", "probe_short")),
        lambda: "scratch {:.3f}, short {:.3f}, long {:.3f}; then the linear rule, {:.3f}".format(
            *probed("15_long_pretraining", *(f"few_{n}" for n in ("scratch", "short", "long",
                                                                  "linear")))),
        *(lambda b=b, m=m, d=d: difference("15_long_pretraining", "few_long", f"few_{b}", m, d)
          for b, m, d in (("scratch", "auc", 3), ("short", "auc", 3), ("linear", "auc", 3),
                          ("linear", "mass_mae", 1))),
        lambda: difference("15_long_pretraining", "probe_long", "probe_short"),
        *(lambda n=n: jets_bought(n, "auc", 3, LONG)
          for n in ("long_300", "linear_300", "trees_300")),
        *(lambda a=a, b=b, m=m, d=d: difference(LONG, a, b, m, d) for a, b, m, d in (
            ("long_all", "trees_all", "auc", 3), ("long_300", "short_300", "mass_mae", 2),
            ("long_300", "scratch_300", "mass_mae", 2), ("long_all", "scratch_all", "mass_mae", 2),
            ("long_all", "scratch_all", "auc", 4), ("short_all", "scratch_all", "mass_mae", 2),
            ("long_all", "short_all", "auc", 4), ("long_all", "scratch_all", "accuracy", 3),
            ("long_1000", "scratch_1000", "mass_mae", 2),
            ("long_1000", "scratch_1000", "auc", 3), ("long_1000", "linear_1000", "auc", 3),
            ("long_1000", "trees_1000", "auc", 3))),
        lambda: "the rule leads by {difference:.1f} GeV".format(
            **compared(LONG, "long_1000", "linear_1000", "mass_mae")),
        lambda: "nothing here either, {:.3f} and {:.3f}".format(
            *probed(LONG, "scratch_4x_1000", "scratch_1000")),
        *(lambda a=a, b=b, m=m, d=d: " and ".join(", ".join(
            f"{x:.{d}f}" for x in compared(LONG, a, b, m)["points"]).rsplit(", ", 1))
          for a, b, m, d in (("long_300", "short_300", "auc", 3),
                             ("long_300", "scratch_300", "auc", 3),
                             ("long_1000", "scratch_1000", "auc", 3),
                             ("long_all", "scratch_all", "mass_mae", 1),
                             ("long_300", "scratch_4x_300", "auc", 3))),
        lambda: "mean was {:.2f} GeV".format(mean(compared(
            LONG, "long_all", "scratch_all", "mass_mae")["points"][:3])),
        lambda: "AUC of {:.3f}, no more than the {:.3f}".format(
            *probed(LONG, "scratch_4x_300", "scratch_300"))],
    "01_collisions": [
        closure, densities,
        lambda: "31 pixels against {:.0f}".format(next(
            row["measured"] for row in value("01_collisions", "closure")
            if row["quantity"] == "track d0: non-zero pixels")),
        lambda: "{:.0%} of its numbers".format(value(
            "01_collisions", "real_jet", "beyond")).replace("%", " %"),
        lambda: f"BPIX 1 has {bpix_excess():.0%} too many".replace("%", " %"),
        lambda: f"ours at {humps('measured')} GeV",
        lambda: humps("published"),
        lambda: "{auc:.2f}, but at equal mass {at_equal_mass:.2f}".format(
            **published("01_collisions")["values"]["tell_tales"]["jet_pT"])],
    "07_finetune": [
        lambda: "{:.3f} for the mass alone, {:.3f} for the trees".format(
            *(mean_of(k, "auc") for k in ("mass_only", "boosted_trees"))),
        lambda: "{:.3f} for the transformer, {:.3f} for the trees".format(
            *(mean_of(k, "auc") for k in ("scratch", "boosted_trees"))),
        lambda: "{:.1f} GeV against {:.1f} GeV".format(
            *(mean_of(k, "mass_mae") for k in ("scratch", "boosted_trees"))),
        lambda: "{:.1f} GeV against {:.1f}: the".format(
            *(mean_of(k, "mass_rmse") for k in ("scratch", "boosted_trees"))),
        lambda: "{sigma:.4f} instead of {sigma_independent:.4f}".format(
            **published("07_finetune")["values"]["paired"]),
        *(lambda a=a, b=b, m=m, d=d: difference("07_finetune", a, b, m, d)
          for a, b, m, d in (("scratch", "mass_only", "auc", 3),
                             ("scratch", "boosted_trees", "auc", 3),
                             ("scratch", "boosted_trees", "mass_mae", 1),
                             ("finetune_simclr", "scratch", "accuracy", 3),
                             ("finetune_simclr", "scratch", "auc", 4),
                             ("few_simclr", "few_scratch", "auc", 3),
                             ("few_linear", "few_scratch", "auc", 3))),
        lambda: f"{learned('from SimCLR')} against {learned('from scratch')}",
        lambda: "at " + learned("from R1's MAE"),
        lambda: f"validation jets was {learned('from scratch', -1)}",
        lambda: "(ratio {:.2f}) and tops a quarter too heavy ({:.2f})".format(
            response_of("QCD", 100), response_of("top", 100)),
        lambda: f"comes out at {response_of('QCD', 200):.2f} of",
        lambda: "from {:.3f} to {:.3f}".format(cured("loss"), cured("loss_scaled")),
        lambda: "{:.3f} against {:.3f}: fewer".format(
            mean_of("few_boosted_trees", "auc"), mean_of("few_linear", "auc"))],
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
        lambda: "{:.3f} against {:.3f} (both from B to A)".format(*(
            hcal("B_to_A", s, "auprc_0.9", "value") for s in ("rule_no_network", "masked_model"))),
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
        *(lambda m=m, d=d: difference("08_comparison", "none", "ours", m, d)
          for m, d in (("auc", 4), ("mass_mae", 2))),
        lambda: "the mean would be {:.4f} with".format(mean([
            compared("08_comparison", "none", "ours")["difference"],
            *compared("08_comparison_grid", "none", "ours")["points"][1:]])),
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
        lambda: "predicted one {:.1f} %".format(100 * published("12_ablations")["values"][
            "shifts"]["ours"]["31 pile-up collisions"]["mass"]["difference"]),
        *(lambda a=a, d=d: difference("12_ablations_grid", a, "ours_half", digits=d)
          for a, d in (("no_ema", 4), ("all_patches", 3), ("conv_stem", 3),
                       ("gaussian_loss", 3))),
        lambda: "the mass cannot, " + difference(
            "12_ablations_grid", "no_summary", "ours_half", "mass_mae", 2),
        *(lambda a=a, b=b, m=m, d=d: difference("12_ablations_grid", a, b, m, d)
          for a, b, m, d in (("no_local", "ours_half", "auc", 3), ("plain_vit", "ours", "auc", 3),
                             ("no_local", "ours_half", "mass_mae", 1),
                             ("active", "ours", "auc", 3), ("active", "ours", "mass_mae", 2),
                             ("gaussian_loss", "ours_half", "mass_mae", 1),
                             ("gev", "ours", "auc", 3),
                             ("gev", "ours", "mass_mae", 2))),
        *(lambda a=a, m=m, t=t: t.format(holms("12_ablations_grid", a, m, lambda n: n != "gev"))
          for a, m, t in (("no_local", "auc", "convolution*, becomes {:.2f}"),
                          ("no_summary", "mass_mae", "the jet* with {:.3f}"),
                          ("no_local", "mass_mae", "convolution* with {:.3f}"))),
        lambda: "rule ({:.2f} and {:.2f} of thirteen".format(*(
            holms("12_ablations_grid", "gev", m, bool) for m in ("auc", "mass_mae"))),
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
