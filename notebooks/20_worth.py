# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#     cell_metadata_filter: tags,-all
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 20 · What is it worth? A gain, and what else the hours buy
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/20_worth.ipynb)
#
# Notebook 19 ended with *better*: from the long backbone the mass error is half a GeV smaller
# than from scratch, after the same number of updates. That is an answer, but to a narrow question. The pretraining
# took 14 times as long as the training. Would somebody who spends two more trainings on the
# *labelled* jets be better off? And for somebody who trains that long anyway, does the start
# still do anything?
#
# **You will** see a start that is a head start and nothing else; put everything in one
# currency; plan two questions with the hours that are left; and read what half a GeV is worth.
#
# **You need** notebooks 14 and 19; about a minute on two cores. The grid takes three and a half
# hours of one core; `GRIDS = True` runs it.

# %%
# On Colab: fetch the course and only the packages that are missing.
import sys

if "google.colab" in sys.modules:
    # !git clone -q --depth 1 https://github.com/{REPOSITORY} /content/course
    # %cd -q /content/course/notebooks
    sys.path.insert(0, "/content/course")
    from course import colab

    colab.install()

# %% tags=["parameters"]
PROFILE, DATA, GRIDS = "laptop", "simulated", False

# %%
from dataclasses import replace

import numpy as np
import torch
from IPython.display import Markdown, display
from scipy import stats

import drawings.comparison
from collider.course import course_files, course_jets, more_jets
from lib import profiles
from lib.evaluation import metrics
from lib.models.baselines import observables
from lib.report import plots, results
from lib.report.numbers import gap, markdown_table, with_interval
from lib.report.results import Experiment
from lib.training.recipe import passes, recipe
from lib.training.runs import grid

profile = profiles.get(PROFILE, DATA)
USES = ["sample.top_qcd", "objective.*", "views", "augment.*", "baselines"]
experiment = Experiment("20_worth", profile, USES)
plots.style()
jets, train, validation, test_jets, test, hold_out = course_jets(profile)
SMALL, quiet = profile.name == "smoke", (lambda line: None)
print(f"PyTorch {torch.__version__}, profile {profile.tag}, "
      f"{torch.get_num_threads()} threads")

# %% [markdown]
# ## 1. A head start
#
# There are two ways in which a pretrained start can help. It may be a **head start**: the
# training begins further along the same road, and a longer training from scratch gets to the
# same place. Or it leads to a **better end**, which no patience reaches from scratch. After one
# fixed number of updates nobody can tell them apart.
#
# Here is a case where we know which of the two it is: a linear rule that reads the jet mass from
# observables (notebook 07), trained by gradient descent on 1,000 jets. The start was trained on
# *other* jets, four times as many. So it knows something that these 1,000 do not tell.
#
# A step of gradient descent on the squared error is $w \leftarrow w - \eta\,(Hw - g)$, with
# $H = X^\top X/n$ plus a small ridge, and $g = X^\top m/n$.

# %%
FEW, STEPS = (200, 20_000) if SMALL else (1_000, 100_000)
x, mass = observables(jets, train)[0], jets.mass[train].numpy()
x_test, mass_test = observables(test_jets, test)[0], test_jets.mass[test].numpy()
shift, scale = x.mean(0), x.std(0) + 1e-6
X, X_test = (np.c_[(part - shift) / scale, np.ones(len(part))] for part in (x, x_test))
MARKS = np.unique(np.geomspace(1, STEPS, 41).round().astype(int))


def descent(X, m, start):
    """Weights (steps, F) after each of ``MARKS`` steps from a start (F,) on jets X (n, F), m (n,)."""
    H, g = X.T @ X / len(X) + 1e-3 * np.eye(X.shape[1]), X.T @ m / len(X)
    rate, w, found = 1 / np.linalg.eigvalsh(H)[-1], start, []
    for step in range(1, STEPS + 1):
        w = w - rate * (H @ w - g)
        if step in MARKS:
            found.append(w)
    return np.array(found)


def errors(weights):
    """Mean absolute error of the mass (GeV) on the test jets for weights (steps, F)."""
    return np.array([abs(X_test @ w - mass_test).mean() for w in weights])


nothing = np.zeros(X.shape[1])
other = descent(X[FEW:5 * FEW], mass[FEW:5 * FEW], nothing)[-1]
paths = {"from zero": descent(X[:FEW], mass[:FEW], nothing),
         "from the other jets": descent(X[:FEW], mass[:FEW], other)}
curve = {name: errors(weights) for name, weights in paths.items()}
print(f"the start itself: {errors([other])[0]:.2f} GeV")

# %% [markdown]
# **Prediction.** The start is better than what 1,000 jets can teach. After 100 steps it is
# ahead. After 1,000, after 100,000: is it still?

# %%
ahead = {int(s): float(a - b) for s, a, b in zip(MARKS, *curve.values())}
near = [min(MARKS, key=lambda s, goal=goal: abs(s - goal)) for goal in (100, 1_000, STEPS)]
for step in near:
    print(f"after {step:,} steps the start is ahead by {ahead[step]:.3f} GeV")
experiment.values["linear"] = {
    "start": float(errors([other])[0]), "back": float(curve["from zero"][-1])} | {
    name: ahead[step] for name, step in zip(("early", "later", "end"), near)}
assert ahead[near[0]] > 0.1 and abs(ahead[near[-1]]) < 0.01
assert np.allclose(*(weights[-1] for weights in paths.values()), atol=0.05)

# %% tags=["figure"]
seen = MARKS >= 100
ax = plots.lines({name: (MARKS[seen], row[seen]) for name, row in curve.items()}, "step",
                 "mass error (GeV)", log="x")
plots.save(ax, "20_head_start", profile);

# %% [markdown]
# *Figure: mass error of a linear rule on the test jets, from step 100 on (log scale).*
#
# It is not. It was ahead by 0.77 GeV after 100 steps, by 0.15 GeV after 1,000, and in the end by
# nothing: the start was at 19.06 GeV and is led *back* to 19.76.
#
# For a linear rule with squared error the end does not depend on the start: there is one
# minimum, and descent goes there. What the other jets had taught is *unlearned*, since they are
# not in the loss any more. The start was a head start.
#
# A network has many minima, and where it begins may decide where it ends. Whether it does is a
# question for a measurement. For pictures it has been made: with few labels a
# pretrained start led to a better end; with many it saved time, and training from scratch for
# about three times as long caught up (He, Girshick and Dollár 2019). Notebooks 07 and 15 saw the
# first half of this for jets. Now the second.
#
# ## 2. One currency
#
# To say what a gain is worth one needs a price. Ours is one training from scratch, 1,400
# updates. The long pretraining costs many of them, but only once: whoever loads it from
# `weights/simclr_60k` pays nothing, and if *n* people use it, each has to answer for one *n*-th.
#
# **Prediction.** Three times the updates cost two trainings more. How many have to share the
# backbone until their part of it is as cheap?

# %%
views, _ = results.grid("18_which_views_grid", profile)
COST = float(views["values"]["cost"]["long"]) if views else 14.0
shared = COST / 2
experiment.values["cost"] = {"long": COST, "shared": shared}
print(f"the long pretraining costs {COST:.1f} trainings; shared by {shared:.1f} users "
      "it costs each as much as two")

# %% [markdown]
# So it depends on who asks. For a single analysis patience is far cheaper. For an experiment
# with ten analyses the backbone is.
#
# ## 3. The plan
#
# Two questions, asked on the draws of notebook 19: their labelled jets, their seeds, their test
# jets.
#
# 1. **The control.** From long with 1,400 updates against from *scratch with 4,200*, by the
#    same recipe. If scratch is better, the gain of notebook 19 was to be had without a backbone,
#    for a price that we know.
# 2. **The start, for the patient.** The recipe that notebook 14 chose, 4,200 updates on turned
#    jets with restraint (`patient`: larger weight decay, smoothed labels, the last weights and
#    not the best), from scratch and from long. If the start is a head start, little of the half
#    GeV is left. If it leads to a better end, all of it is.
#
# There are three and a half hours of one core, which is sixteen trainings of this length. How
# many draws for which question? The luck of a draw (the scatter of differences from draw to
# draw) is known from notebook 19.

# %%
paid, made = results.grid("19_paid_looks_grid", profile)
fair, _ = results.grid("14_fair_race_grid", profile)
if paid:
    gain = gap(paid, "long", "scratch")["mass_mae"]
    before = gap(fair, "simclr", "ours")["mass_mae"] if fair else None
    luck = float(np.std(gain["points"], ddof=1))
    plan = {"luck": luck, "before": before}
    for n in (4, 6):
        half = stats.t.ppf(0.975, n - 1) * luck / np.sqrt(n)
        found = {}
        for true in (0.35, 0.5, 1.0):  # the power of Student's test: the noncentral t
            edge, far = stats.t.ppf(0.975, n - 1), true * np.sqrt(n) / luck
            found[f"{true}"] = float(stats.nct.sf(edge, n - 1, far)
                                     + stats.nct.cdf(-edge, n - 1, far))
        plan[str(n)] = {"half": float(half), "power": found}
        print(f"{n} draws: ± {half:.2f} GeV;", ", ".join(
            f"an effect of {t} GeV is clear in {p:.0%}" for t, p in found.items()))
    print(f"luck of a draw {luck:.2f} GeV; notebook 14, another start and other draws:",
          with_interval(before), "GeV")
    experiment.values["plan"] = plan

# %% [markdown]
# The following was written, and committed, while the first two trainings ran and before
# anything of them, or of any other, had been looked at.
#
# - **Four draws for the control** (the first four of notebook 19), since a large effect is
#   expected there: four trainings from scratch with 4,200 updates, compared with the four from long
#   that exist.
# - **Six draws for the patient** (the first six): twelve trainings.
# - No draw is added, and none is left out. If hours run out, the last draws are missing, and it
#   is said.
# - The measure is the *mass error*; what matters is 0.3 GeV, as in notebook 19. The answers are
#   read off the 95 % interval of the library, over draws and test jets. *Better*: it lies below zero. *Worse*:
#   above. *Too small to matter*: within ± 0.3 GeV. Else *open*. There are two questions, and
#   each may err in 5 %.
# - For six draws *open* is likely, if the start is a head start: an effect that is smaller than
#   0.3 GeV can be neither found nor excluded with so few. Six tell a better end of half a GeV
#   from nothing in about six of ten studies.
# - The trainings from long of notebook 19 have been judged by these test jets, and were found
#   good. If that is luck, it helps them against the control.
# - **Beside it**, without a decision: the accuracy, what turning and restraint add to three times
#   the updates, and how many updates the start is worth.
#
# **Predictions.** (a) The control is better than long, on all four draws, and by 0.5 to 1.5 GeV
# in the middle. (b) `patient` takes 2 to 3 GeV off what scratch with 1,400 updates has on the
# same draws. (c) For the patient the middle of the start lies between −0.5 and 0 GeV. In
# notebook 14 another backbone, shorter, had −0.35. (d) In accuracy the start is within ± 0.5
# points for the patient, and patience itself adds more than that.

# %%
FEW_METRICS = ["accuracy", "auc", "mass_mae"]
DRAWS = {"scratch_3x": 2, "patient": 2, "patient_long": 2} if SMALL else {
    "scratch_3x": 4, "patient": 6, "patient_long": 6}
WHO = {"scratch": "from scratch", "long": "from long",
       "scratch_3x": "from scratch, three times the updates",
       "patient": "the same, turned and restrained",
       "patient_long": "turned and restrained, from long"}


def trained(arm, draw):
    """A training of a draw of notebook 19, through the cache. Its answers are rounded to a
    thousandth and a tenth of a GeV: a smaller file."""
    source = more_jets(profile, "labelled", f"again_{draw}", seed=100 + draw)
    unseen = more_jets(profile, "test", "again", seed=70)
    chosen = recipe("patient" if "patient" in arm else "scratch", profile, 100 + draw)
    if arm == "scratch_3x":
        chosen = chosen.but(fit={"updates": 3 * chosen.fit.updates})
    if "long" in arm:
        start = profiles.ROOT / "weights" / "simclr_60k"
        if SMALL:
            start = grid("20", {"start": passes("simclr", profile, 1, 0).but(fit={"updates": 8})},
                         [0], course_files(profile)["unlabelled"], runs=profile.runs_dir,
                         log=quiet)["start"][0].folder
        chosen = chosen.but(start=str(start))
    if SMALL:
        chosen = chosen.but(fit={"updates": 10, "every": 5})
    run = grid("20", {arm: chosen}, [100 + draw], source, unseen,
               runs=profile.runs_dir, log=quiet)[arm][0]
    p = run.predictions
    return replace(run, predictions=replace(p, score=np.round(p.score, 3),
                                            m_hat=np.round(p.m_hat, 1)))


# %% [markdown]
# With `GRIDS = True` the next cell carries the plan out, run by run through the cache.

# %%
if GRIDS and DATA == "simulated":
    out = Experiment("20_worth_grid", profile, USES)
    for arm, many in DRAWS.items():
        for draw in range(1, many + 1):
            out.add_run(arm, trained(arm, draw), metrics=FEW_METRICS)
    out.compare("patient_long", "patient", FEW_METRICS)
    out.compare("patient", "scratch_3x", FEW_METRICS)

# %% tags=["figure"]
if GRIDS and DATA == "simulated":
    print(out.save().name)  # from here on it is read like a published one

# %% [markdown]
# ## 5. What came out

# %%
shown, made = results.grid("20_worth_grid", profile)
display(Markdown(made))


def said(row, matters=0.3):
    """The rule of the plan."""
    words = {"better": row["high"] < 0, "worse": row["low"] > 0,
             "too small to matter": max(abs(row["low"]), abs(row["high"])) < matters}
    return " and ".join(word for word, true in words.items() if true) or "open"


def versus(a, b):
    """Difference a − b of two recipes on the draws that both have."""
    both = [seed for seed in seeds[a] if seed in seeds[b]]
    return metrics.compare(*([saved[who][seeds[who].index(seed)] for seed in both]
                             for who in (a, b)), FEW_METRICS)


if shown and paid:
    saved = {name: runs for file in ("19_paid_looks_grid", "20_worth_grid")
             for name, runs in results.load_predictions(file, profile).items()}
    seeds = {name: [row["seed"] for row in paid["runs"] + shown["runs"] if row["name"] == name]
             for name in saved}
    minus_scratch = {arm: versus(arm, "scratch") for arm in ("long", *DRAWS)}
    control, start = versus("long", "scratch_3x"), versus("patient_long", "patient")
    experiment.values |= {
        "minus_scratch": minus_scratch, "control": control, "start": start,
        "turned": versus("patient", "scratch_3x"), "patience": versus("patient", "long"),
        "said": {"control": said(control["mass_mae"]), "start": said(start["mass_mae"])}}
    PRICE = {"long": 1 + COST, "scratch_3x": 3, "patient": 3, "patient_long": 3 + COST}
    experiment.values["price"] = PRICE
    display(Markdown(markdown_table(
        ["recipe", "price (trainings)", "shared by ten", "draws", "mass error minus scratch (GeV)",
         "accuracy minus scratch"],
        [[WHO[arm], f"{price:.0f}", f"{price - 0.9 * COST * ('long' in arm):.1f}",
          rows["mass_mae"]["seeds"], rows["mass_mae"], rows["accuracy"]]
         for arm, price in PRICE.items() if (rows := minus_scratch[arm])])))
    for question, rows in (("long minus control", control), ("patient, long minus not", start)):
        print(f"{question}: mass {with_interval(rows['mass_mae'])} GeV "
              f"({said(rows['mass_mae'])}), accuracy {with_interval(rows['accuracy'])};",
              "draws", *(f"{x:.2f}" for x in rows["mass_mae"]["points"]))

# %% tags=["figure"]
if shown and paid:
    fig = drawings.comparison.differences(
        {f"{WHO[arm]} − from scratch": rows for arm, rows in minus_scratch.items()} | {
            "from long − three times the updates": control,
            "turned and restrained: from long − from scratch": start},
        {"mass_mae": "mass error, difference (GeV)", "accuracy": "accuracy, difference"})
    plots.save(fig, "20_worth", profile)

# %% [markdown]
# *Figure (grid): differences on the same draws and test jets, 95 % intervals; ticks are single
# draws.*
#
# READING
#
# And how many updates is the start worth? From scratch the mass error fell from 1,400 to 4,200
# updates; we draw a line through the two, in the logarithm of the updates, and read off where it has
# fallen by as much as the start gains.

# %%
if shown and paid and (fall := -minus_scratch["scratch_3x"]["mass_mae"]["difference"]) > 0.1:
    length = recipe("scratch", profile).fit.updates
    low, middle, high = (length * (3 ** (-gain[end] / fall) - 1)
                         for end in ("high", "difference", "low"))
    left = fall * np.log(1 + middle / (3 * length)) / np.log(3)
    experiment.values["worth"] = {"value": middle, "low": low, "high": high, "left": float(left),
                                  "price": COST * length}
    print(f"the start is worth {middle:.0f} [{low:.0f}, {high:.0f}] updates and costs "
          f"{COST * length:,.0f}; of so short a head start {left:.2f} GeV would be left after "
          f"{3 * length:,} updates")

# %% [markdown]
# WORTH
#
# ## 6. What we saw
#
# SEEN
#
# ## Exercises
#
# **Quick.** The start of section 1 knew more than the 1,000 jets. Train it on as many other jets
# as it is trained on later. Is it still ahead after 100 steps? Guess, then compute.
#
# **Medium.** What the other jets had taught can be kept: add $\lambda\,|w - w_0|^2$ to the loss,
# a spring that pulls to the start (Li, Grandvalet and Davoine 2018). Then the end does depend on
# the start. Which $\lambda$ is best, and what does the best have to do with the number of jets?
#
# **Project.** How many draws would decide whether the start is worth 0.3 GeV to the patient?
# Take the luck from the twelve trainings of this notebook, and ask for a power of 0.8. What does
# it cost in hours?
#
# <details><summary>Solutions</summary>
#
# *As many.*
#
# ```python
# as_many = descent(X[FEW:2 * FEW], mass[FEW:2 * FEW], nothing)[-1]
# again = errors(descent(X[:FEW], mass[:FEW], as_many))
# for step in near:
#     print(step, f"{(curve['from zero'] - again)[MARKS == step][0]:.2f}")
# ```
#
# It is, and by nearly as much: from zero 100 steps are few. In the end nothing is left, again.
#
# *A spring.*
#
# ```python
# H, g = X[:FEW].T @ X[:FEW] / FEW, X[:FEW].T @ mass[:FEW] / FEW
# for pull in (0.001, 0.01, 0.1, 1, 10, 100):
#     w = np.linalg.solve(H + pull * np.eye(len(H)), g + pull * other)
#     print(pull, f"{errors([w])[0]:.2f}")
# ```
#
# SPRING
#
# *Draws.*
#
# ```python
# luck = np.std(start["mass_mae"]["points"], ddof=1)
# n = np.arange(3, 200)
# edge, far = stats.t.ppf(0.975, n - 1), 0.3 * np.sqrt(n) / luck
# enough = n[stats.nct.sf(edge, n - 1, far) > 0.8][0]
# print(f"luck {luck:.2f} GeV: {enough} draws, {enough * 26 / 60:.0f} hours of one core")
# ```
#
# DRAWS
# </details>
#
# ## Recap
#
# | term | meaning |
# |---|---|
# | head start | a gain that a longer training from scratch makes up for |
# | better end | one that it does not |
# | control | what somebody could do with the same means, without the idea that is tested |
# | price | here in trainings of 1,400 updates; of what is shared, each user's part |
#
# ## References
#
# - K. He, R. Girshick, P. Dollár, *Rethinking ImageNet pre-training*, ICCV 2019,
#   arXiv:1811.08883.
# - X. Li, Y. Grandvalet, F. Davoine, *Explicit inductive bias for transfer learning with
#   convolutional networks*, ICML 2018, arXiv:1802.01483.

# %%
# The results of this notebook.
print(experiment.save().name)
