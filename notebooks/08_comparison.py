# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#     cell_metadata_filter: tags,-all
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 08 · What does attention buy, and at what price?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/08_comparison.ipynb)
#
# The course is about a transformer whose attention costs little. Nobody has
# asked yet whether it needs any. This notebook asks, and it asks as a sceptic
# would: against the same model *without* attention, against the attention that
# everybody uses, against other cheap ones, and against networks and trees that
# have none. A comparison is worth something if the losers had a fair chance, so
# the networks get equal jets, equal inputs and equal sizes, and each score stands
# beside an interval and a price tag. What is not equal is said in section 1.
#
# **You will** test a model against its own control, read a comparison table
# critically, count the operations of a model and check the count, correct $p$
# for many comparisons, remove the mass from an AUC, and enter a mechanism of
# your own into the table.
#
# **You need** notebook 07 (its model is taken from the cache); about 2 minutes
# on two cores, 2 with a GPU. The grid takes an hour and more;
# `GRIDS = True` runs it, run by run. How time and memory grow with the number
# of tokens is notebook 11, what can be taken away from the model notebook 12.

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
import numpy as np
import torch
from IPython.display import Markdown, display

import drawings.comparison
import drawings.finetune
from collider.course import course_files, course_jets, more_jets
from course import bench
from lib import profiles
from lib.evaluation import metrics
from lib.evaluation.metrics import Predictions
from lib.evaluation.predictions import resolve_precision
from lib.models.baselines import BoostedTrees, MassCut, observables
from lib.models.vit import R1
from lib.report import numbers, plots, results
from lib.report.numbers import METRICS, against, markdown_table, with_interval
from lib.report.results import Experiment
from lib.training import runs
from lib.training.recipe import changed as changed_since
from lib.training.recipe import parameters, recipe
from lib.training.runs import grid

profile = profiles.get(PROFILE, DATA)
USES = ["sample.top_qcd", "objective.*", "views", "attention.*", "baselines",
        "resnet15", "fit_batchnorm"]  # parts of results/contract.json
experiment = Experiment("08_comparison", profile, USES)
plots.style()
files = course_files(profile)
jets, train, validation, test_jets, test, hold_out = course_jets(profile)
SMALL = profile.name == "smoke"
print(f"PyTorch {torch.__version__}, profile {profile.tag}, "
      f"{torch.get_num_threads()} threads")

# %% [markdown]
# ## 1. The rules, written down as data
#
# A system is a recipe with a name; `lib.training.zoo` lists them. Each is *ours
# with a change*: what is not named is equal, the jets, the number of updates,
# the batch size, the way in which validation chooses the weights. All see the 32
# sums of an image that ours sees (notebook 07), and each has as many parameters
# as ours: the width of a hidden layer is set to whatever gives the same number.
#
# - `none`, the **control**: our model, but a token's output of attention is its
#   own value vector. Nothing is exchanged between tokens, except by the local
#   convolution and by the pooling at the end.
# - `softmax`: the attention of Vaswani et al., quadratic in the tokens.
# - `cross_covariance`: the attention of XCiT, between channels, in our model.
# - `xcit`: XCiT as its paper has it, on the dense image: patches of 8 × 8 by
#   three convolutions, class attention at the end.
# - `resnet15`: the residual network of the end-to-end papers, no tokens at all.

# %%
LABEL = {
    "ours": "ours", "none": "ours, no attention",
    "softmax": "ours, softmax attention",
    "cross_covariance": "ours, cross-covariance",
    "xcit": "XCiT, dense image", "resnet15": "ResNet-15",
    "boosted_trees": "boosted trees", "mass_only": "jet mass alone",
    "mean": "constant answer",
}

# %% [markdown]
# `LABEL` names the rows of all tables and figures. The recipes come from their list;
# `parameters` counts the weights of a model without making it, and the assertion
# holds every rival to within 5 % of ours.

# %%
RIVALS = ("none", "softmax", "cross_covariance", "xcit", "resnet15")
ours = recipe("scratch", profile)  # as in notebook 07
ARMS = {"ours": ours} | {name: recipe(name, profile) for name in RIVALS}
sizes = {name: parameters(arm) for name, arm in ARMS.items()}
print({LABEL[name]: f"{size:,}" for name, size in sizes.items()})
assert max(abs(n / sizes["ours"] - 1) for n in sizes.values()) < 0.05

# %% [markdown]
# What is *not* equal: learning rate, schedule and augmentation were chosen on
# validation jets for ours, and the rivals inherit them. An equal budget of tuning
# for each would cost six times this grid. So a rival that is behind might catch up
# with a recipe of its own; one that is ahead is ahead in spite of it. This favours
# ours, least of all against the control, which differs in nothing else. Notebook 14
# gives ours and the residual network an equal budget, and three times the updates.
#
# ## 2. Does attention help?
#
# Ours comes from the cache if notebook 07 has run; the control is trained here.
#
# **Prediction.** A jet's class depends on how its clusters lie to each other.
# The 3 × 3 convolutions see neighbours, the pooling and the 32 sums see the whole
# jet, so the control is not blind. We expect attention to help, but by less than
# 0.01 in AUC, and less than the local convolution (0.021 in notebook 12).

# %%
live = {}
for name in ("ours", "none"):
    live[name] = runs.train(f"08-{name}", ARMS[name], jets,
                            test=None if hold_out else test_jets,
                            runs=profile.runs_dir)
    experiment.add_run(name, live[name])
gained = experiment.compare("none", "ours", ["auc", "mass_mae"])
for metric, row in gained.items():
    print(f"no attention minus ours, {METRICS[metric]}: {with_interval(row)}")

# %% [markdown]
# One seed, an interval over jets alone: it holds for these two trainings. Whether
# it holds for such models and such training jets, the grid says in section 5.
#
# ## 3. Rivals that need no gradient
#
# Boosted trees on observables of the image, the jet mass alone, and the
# constant answer, as in notebook 07.

# %%
label, mass = jets.labels[train].numpy(), jets.mass[train].numpy()
y, m = test_jets.labels[test].numpy(), test_jets.mass[test].numpy()
x_test, _ = observables(test_jets, test)


def predictions(score, m_hat=None):
    return Predictions.of(test_jets, test, score, m_hat)

# %% [markdown]
# Trees are grown on the same training jets and asked about the same test jets. A
# fresh draw of jets will need them again, so they are a function of the file.

# %%
def boosted(seed, source, index):
    """Trees grown on the training jets of a file, and their answers."""
    x, _ = observables(source, index)
    trees = BoostedTrees(seed).fit(x, source.labels[index].numpy(),
                                   source.mass[index].numpy())
    return predictions(*trees.predict(x_test))

# %% [markdown]
# The **jet mass alone** is a rival that knows a single number: a cut on it, with the
# share of tops in each bin of mass as its score. And the constant answer shows what
# knowing nothing costs.

# %%
cut = MassCut(bins=min(40, len(train) // 20)).fit(mass, label)
same = np.ones(len(test))
cheap = {"boosted_trees": boosted(profile.seeds[0], jets, train),
         "mass_only": predictions(cut.predict(m)),
         "mean": predictions(label.mean() * same, mass.mean() * same)}
for name, p in cheap.items():
    experiment.add_run(name, p, seed=profile.seeds[0], labels=len(train))
for name in ("boosted_trees", "mass_only"):
    experiment.compare(name, "ours", ["auc", "mass_mae"])

# %%
KEPT = ("accuracy", "auc", "rejection_50", "rejection_30", "mass_mae")
seen = {"summary": experiment.summary(), "values": experiment.values,
        "comparisons": experiment.comparisons, "curves": {}}
rows = [[LABEL[n], *(seen["summary"][n].get(k) or "–" for k in KEPT)]
        for n in LABEL if n in seen["summary"]]
Markdown(markdown_table(["system", *(METRICS[k] for k in KEPT)], rows))

# %% [markdown]
# ## 4. What does it cost?
#
# ### Counting
#
# A linear map from $a$ to $b$ numbers costs $2ab$ operations a token (a
# multiplication and an addition), and twice that again in the backward pass,
# which needs the gradient with respect to the input and to the weights. So a
# training step costs about $6$ operations per token and weight. Attention comes
# on top: softmax with $N$ tokens of width $D$ adds $2 \cdot 2 N^2 D$ operations
# to the forward pass of a block.

# %%
def counted(settings, size=4):
    """GFLOP per jet of a training step, as PyTorch counts them."""
    arm = bench.Arm("", settings, "float32", size)
    batch = jets.batch(train[:size], keep=arm.recipe.tokens)
    step = bench.Step(arm, jets.grid, batch)
    tokens = batch.tokens.valid.shape[1]
    return step.flops() / 1e9, tokens, step.parameters


bare = {**recipe("plain_active", profile).model, "depth": 1, "position": "none"}
deep = {**bare, "depth": 2}
(shallow, tokens, few), (deeper, _, more) = counted(bare), counted(deep)
weights, dim = more - few, bare["dim"]
by_hand = 6 * tokens * weights + 3 * 2 * 2 * tokens**2 * dim
print(f"one more block: {deeper - shallow:.4f} GFLOP counted, "
      f"{by_hand / 1e9:.4f} by hand, {tokens} tokens")
assert abs(by_hand / 1e9 / (deeper - shallow) - 1) < 0.1

# %% [markdown]
# The formula leaves out norms, GELU and softmax itself, which move data more
# than they compute. How large is the quadratic term at all? Compare it with
# the linear one: $4N^2D$ against $2N \cdot 12 D^2$ in a block with an MLP four
# times as wide. They are equal where $N = 6D$.

# %%
share = 2 * tokens * dim / (2 * tokens * dim + weights)
print(f"N = {tokens}, D = {dim}: {share:.0%} of the operations of a block "
      f"with softmax are its N² part; R1's 625 tokens and D = 256: "
      f"{2 * 625 * 256 / (2 * 625 * 256 + 12 * 256**2):.0%}")

# %% [markdown]
# So what linear attention saves depends on the width. A wide model such as R1's
# spends most of its operations in the linear maps and would need 1,536 tokens
# before the quadratic part takes over; a narrow one gets there with a few
# hundred. Tokens that are never made save on both parts, whatever the width.
# And operations are not time: memory traffic, small matrices and padding cost
# too, while the softmax of a modern library is one fused kernel. So we measure.
#
# ### Measuring
#
# The models take turns on one batch of the same jets, each in the dtype that it
# trains in, and the ratio to R1's dense model is the median over rounds, so that
# a busy machine slows all alike. Memory is that of all tensors that a step holds
# at the same time, a jet.

# %%
def priced(names, rounds):
    """Cost of systems: rows of the benchmark, by name."""
    size = 2 if SMALL else ours.fit.batch_size
    arms = [bench.Arm("r1_dense", R1, "float32", 2 if SMALL else 8)]
    for name in names:
        full = resolve_precision(ARMS[name].fit.precision) != "bf16-mixed"
        arms.append(bench.Arm(name, ARMS[name],
                              "float32" if full else "bfloat16", size))
    keys = ("gflop", "ratio", "images_s", "parameters", "tokens", "megabytes")
    return {row["name"]: {k: row[k] for k in keys}
            for row in bench.measure(profile, rounds, jets, arms)}

# %% [markdown]
# The dense model of R1 is the first arm, so that every ratio is to it. `GFLOP` is per
# jet and training step; `tokens` is how many of them a jet of the batch has on
# average.

# %%
experiment.values["cost"] = priced(ARMS, rounds=1 if SMALL else 2)
rows = [[{**LABEL, "r1_dense": "R1, dense"}[n], r["parameters"],
         round(r["tokens"]), round(r["gflop"], 3), round(r["images_s"]),
         round(r["megabytes"], 1)] for n, r in experiment.values["cost"].items()]
Markdown(markdown_table(
    ["system", "parameters", "tokens", "GFLOP per jet and step",
     "jets per second", "MB per jet"], rows))

# %% [markdown]
# The control shows what attention adds to the price of our model: a sixth of its
# operations and a quarter of its time, because its few hundred tokens go through
# narrow linear maps and convolutions in any case. Softmax attention takes about as
# many operations as all the rest of the model, and doubles the time of a step. The
# networks on the dense image pay for its empty pixels in time and memory, though
# XCiT counts fewer operations than ours. (They have no active patches as tokens; the
# number in their rows is that of the patches from which their image is made.) The
# trees are missing because they have no steps. One reading on one machine: the grid
# below measured the same systems at another time, up to a third faster.
#
# ## 5. The grid
#
# One seed is an anecdote. Here each seed is a new experiment: another start,
# another order of the jets, and a **fresh draw of the training jets**, simulated
# anew, for the networks and for the trees. Seed by seed all systems get the same
# draw, so differences are paired. The test jets are always the same.
#
# With `GRIDS = True` the following cells make the grid, seed by seed: what is in
# the cache is not trained again. Otherwise they show the published one.

# %%
def drawn(seed):
    """The training jets of a seed: a file."""
    if seed == profile.seeds[0] or DATA != "simulated":
        return files["labelled"]
    return more_jets(profile, "labelled", f"draw_{seed}", seed=10 + seed)


def trained(names, seed):
    """One seed of some systems, through the cache."""
    found = grid("08", {name: ARMS[name] for name in names}, [seed],
                 drawn(seed), files["test"], runs=profile.runs_dir)
    return {name: run for name, (run,) in found.items()}

# %% [markdown]
# Hours run out before questions do, so some systems have fewer seeds than others. A
# row with one seed says so in its column, and its interval knows the test jets only.

# %%
# How many seeds each system has so far; 0: it waits for the hours of a machine.
SEEDS = {"ours": 3, "none": 3, "cross_covariance": 1,
         "softmax": 1, "resnet15": 1, "xcit": 0}


def add_seed(out, seed):
    """All systems of a seed, as runs of an experiment."""
    names = [n for n in ARMS if seed in profile.seeds[:SEEDS[n]]]
    for name, run in trained(names, seed).items():
        seen = run.history.updates * run.recipe.fit.batch_size
        out.add_run(name, run, metrics=KEPT, extra={
            "val_auc": max(run.history.curve("val_auc")),
            "jets_s": seen / run.train_seconds})
    source = runs.opened(drawn(seed))
    index = torch.cat(source.split()[::2]) if DATA == "simulated" else train
    out.add_run("boosted_trees", boosted(seed, source, index), seed=seed,
                labels=len(index), metrics=KEPT)


# %%
if GRIDS:
    out = Experiment("08_comparison_grid", profile, USES)
    out.values["cost"] = experiment.values["cost"]
    for seed in profile.seeds[:max(SEEDS.values())]:
        add_seed(out, seed)
    for name in ("mass_only", "mean"):
        out.add_run(name, cheap[name], metrics=KEPT)
    done = [n for n in LABEL if n in {run["name"] for run in out.runs}]
    for name in done:
        if name not in ("ours", "mean"):
            out.compare(name, "ours", ["auc", "mass_mae"])
    out.curves = {"settings": {n: ARMS[n].to_json() for n in done if n in ARMS},
                  "labels": LABEL, "systems": done}
    out.save()

# %%
try:
    shown = results.load("08_comparison_grid", profile)
    made = results.whence(shown)
except results.ResultsError:
    shown, made = seen, ("No grid has been published for this profile. "
                         "Below are the **live** systems with one seed.")
display(Markdown(made))
if since := changed_since(shown["curves"].get("settings", {}), ARMS):
    print("settings have changed since:", ", ".join(since))

# %% [markdown]
# ### How to read it
#
# A table of six comparisons gives one "significant" by chance rather often. Holm's
# correction lets $p$ pay for that: the smallest $p$ is multiplied by the number of
# comparisons, the next by one less, and so on. And an interval that contains zero
# proves no equality. We said beforehand which differences matter: 0.003 in AUC and
# 0.3 GeV in the mass error. Two systems are *alike* only if the whole interval
# lies inside; else the comparison is *undecided*.

# %%
MATTERS = {"auc": 0.003, "mass_mae": 0.3}

# %% [markdown]
# Take three comparisons with $p$ of 0.01, 0.03 and 0.04. Holm makes of them $3\times
# 0.01=0.03$, $2\times0.03=0.06$, and $1\times0.04$, which may not be smaller than its
# predecessor and becomes 0.06: of three "significant" ones a single one is left.

# %%
def holm(p):
    """Holm's p of several comparisons, by name."""
    least, found = 0.0, {}
    for rank, name in enumerate(sorted(p, key=p.get)):
        least = max(least, min(1.0, p[name] * (len(p) - rank)))
        found[name] = least
    return found

# %% [markdown]
# The rule of the last column is code too, so that no sentence can bend it.

# %%
def answer(row, matters):
    """What an interval says of a rival: ahead, behind, alike or undecided."""
    if abs(row["low"]) < matters and abs(row["high"]) < matters:
        return "alike"
    return numbers.verdict(row, even="undecided")


# %%
SYSTEMS = [n for n in LABEL if n in shown["summary"]]

# %% [markdown]
# First the systems by themselves: seeds, price, and three metrics with 95 % intervals
# over seeds and jets, or over jets alone where there is one seed. All have 6,000 labelled
# jets (a tenth of them to validate), the networks 1,400 updates of 32, and 10,000 test
# jets. *Rejection* is one over the share of QCD jets that pass when half of the tops do.

# %%
price, rows = shown["values"]["cost"], []
for n in SYSTEMS:
    one, cost = shown["summary"][n], price.get(n, {})
    rows.append([LABEL[n], one["auc"]["seeds"], *(
        f"{cost[k]:.3g}" if k in cost else "–"
        for k in ("gflop", "images_s", "megabytes")),
        *(one.get(k) or "–" for k in ("auc", "rejection_50", "mass_mae")),
        "–" if n == "ours" or n not in ARMS else "as ours"])
display(Markdown(made), Markdown(markdown_table(
    ["system", "seeds", "GFLOP", "jets/s", "MB per jet", "AUC",
     METRICS["rejection_50"], METRICS["mass_mae"], "tuning"], rows)))

# %%
gaps = {metric: against(shown, "ours", metric) for metric in MATTERS}
dear = {metric: holm({n: row["p"] for n, row in found.items()})
        for metric, found in gaps.items()}

# %% [markdown]
# Then each minus ours, jet by jet and seed by seed. The paired differences are much
# narrower than the intervals above, because jets that are hard for one model are hard
# for the other too, and that part cancels.

# %%
rows = [[LABEL[n], *(cell for metric, found in gaps.items() if n in found
                     for cell in (found[n], f"{dear[metric][n]:.3f}",
                                  answer(found[n], MATTERS[metric])))]
        for n in SYSTEMS if n in gaps["auc"]]
rows = [row + ["–"] * (7 - len(row)) for row in rows]
display(Markdown(made), Markdown(markdown_table(
    ["minus ours, paired", "AUC", "Holm's p", "", "mass error (GeV)",
     "Holm's p", ""], rows)))

# %% tags=["figure"]
AXES = {"auc": "AUC minus that of ours",
        "mass_mae": "mass error minus that of ours (GeV)"}
rows = {LABEL[n]: {metric: found[n] for metric, found in gaps.items()
                   if n in found} for n in SYSTEMS
        if n in gaps["auc"] and n != "mass_only"}
plots.save(drawings.comparison.differences(rows, AXES), "08_rivals", profile);

# %% [markdown]
# *Figure: each rival's AUC (left) and mass error (right) minus those of our
# model, on the same jets, a dot with its 95 % interval; ticks above it are
# single seeds. Left of the dashed line a rival has a lower AUC, right of it a
# larger error.*
#
# **Does attention help?** In the grid the AUC without it changes by -0.0004 [-0.0021,
# 0.0012], and the whole interval lies inside the 0.003 that we said would
# matter, so the rule says *alike*. The mass error
# changes by 0.44 [-0.73, 1.59] GeV: undecided, for three seeds scatter.
#
# How firm is "alike"? Section 2 trained the first of the three seeds once more, the same
# recipe on the same jets, and got -0.0023 [-0.0034, -0.0013] and 0.50 [0.36, 0.63] GeV
# where the grid has -0.0009 and -0.05 GeV: rounding that differs between two executions
# is amplified by training like a seed. Were the live run put in the place of the grid's
# first seed, the mean would be -0.0009 with an interval of about 0.003 either way, and
# the rule would say *undecided*; the mass error would be 0.62 GeV to the advantage of
# attention. Notebook 13 has another pair at 6,000 jets, -0.0025. So the honest
# answer is: at this number of jets attention is worth between nothing and about 0.003
# in AUC, and three seeds are too few to say more. (Notebook 16 says more: with a longer
# recipe and as many draws as the question needs.)
#
# The prediction had three parts. Less than 0.01 in AUC: right. Less than the local
# convolution: right, for notebook 12 loses 0.021 without the convolution. That attention
# helps at all: not shown. A likely
# reason is that the convolutions carry news between neighbours, and the pooling and the
# 32 sums over the whole jet, so that little is left for attention to bring.
#
# **Which one?** Cross-covariance attention in our model differs by -0.0003
# [-0.0013, 0.0006], softmax by 0.0005 [-0.0003, 0.0013] at more than twice the time. The
# table calls softmax *ahead* in the mass error, by 0.28 GeV. All of these have one seed
# and intervals over jets alone, and two executions of one recipe differ by as much (0.17
# GeV for ours, 0.39 for the control): no order of the mechanisms follows.
# **And the rivals?** Trees are behind, -0.012 [-0.016,
# -0.007], with three seeds. ResNet-15 is behind in AUC, -0.0042 [-0.0066, -0.0018], but
# its mass error is *smaller*, -0.85 [-1.09, -0.60] GeV: ours is not ahead in both. It has
# one seed and a recipe that was made for ours. XCiT has a price in the list above and no
# seed yet: its row waits for hours of a machine.
#
# ### The published model
#
# R1 has width 256, six blocks and 5.1 million parameters, and reads all 625
# patches. A row of it in our table would compare patience, not models: in the
# two minutes that ours takes it sees some hundred jets, ten of its batches of 64.

# %%
seen_jets = ours.fit.updates * ours.fit.batch_size
rate = price["r1_dense"]["images_s"]
print(f"R1, dense: {rate:.1f} jets/s; as many jets as ours saw would take "
      f"{seen_jets / rate / 3600:.1f} hours")

# %% [markdown]
# Its published result, on the public jets with its own recipe, is an AUC of 0.9578
# from scratch and 0.9656 with pretraining: other jets and more labels, so no
# difference to ours can be formed.
#
# ### Quality against cost

# %%
points = {LABEL[n]: {**shown["summary"][n]["auc"], **price[n]}
          for n in SYSTEMS if n in price}
flat = {LABEL[n]: shown["summary"][n]["auc"]
        for n in ("boosted_trees", "mass_only") if n in shown["summary"]}

# %% [markdown]
# A system is on the *frontier* if nothing cheaper is better: whoever stands below it
# can be replaced by something that costs less.

# %%
def frontier(points, key):
    """Systems that nothing cheaper surpasses, by rising cost."""
    best, found = -np.inf, []
    for name, row in sorted(points.items(), key=lambda item: key(item[1])):
        if row["mean"] > best:
            best = row["mean"]
            found.append(name)
    return found

# %% [markdown]
# The answer may depend on what one pays with, operations or time.

# %%
for what, key in {"operations": lambda r: r["gflop"],
                  "time": lambda r: 1 / r["ratio"]}.items():
    print(f"on the frontier by {what}:", " → ".join(frontier(points, key)))

# %% tags=["figure"]
plots.save(drawings.comparison.pareto(points, flat), "08_pareto", profile);

# %% [markdown]
# *Figure: AUC on the test jets against operations (left) and measured time
# (right) of a training step per jet, both logarithmic; 95 % intervals. Grey
# lines: boosted trees and the jet mass, which have no such cost. The dashed
# staircase joins the systems that nothing cheaper surpasses.*
#
# The staircase takes the middle of each interval at its word: a system may stand
# on it, or miss it, by less than its interval is wide, and here it mixes rows of three
# seeds with rows of one. That ours stands on it above the model without attention is such
# a case: the paired table calls the two alike, and of a tie the cheaper one is to be
# taken.
#
# ## 6. More than the mass?
#
# The jet mass alone separates the classes well, and a cut on any score that
# follows the mass *sculpts*: the QCD jets that pass pile up at the mass of the
# top quark, where one wanted to look for a peak. Three ways to ask what a score
# knows besides the mass:
#
# 1. a **window**: only jets of 150 to 220 GeV;
# 2. **equal spectra**: weights that give both classes one mass spectrum;
# 3. **decorrelated**: replace the score by its rank among the QCD jets of the
#    same mass. A cut on the rank keeps the same share of QCD at each mass, so
#    it sculpts nothing.


# %%
def beyond(answers):
    """{system: {measure: mean with interval}}, a few resamples each."""
    found = {}
    for name, ps in answers.items():
        window = [p.where((p.m > 150) & (p.m < 220)) for p in ps]
        ranked = [metrics.decorrelate(p) for p in ps]
        found[name] = {
            title: metrics.summary(runs_, [metric], 200)[metric]
            for title, runs_, metric in (
                ("all jets", ps, "auc"), ("150–220 GeV", window, "auc"),
                ("equal spectra", ps, "auc_equal_mass"),
                ("decorrelated", ranked, "auc"))}
    return found


# %% [markdown]
# The claim about the rank, executed: at a cut that keeps 20 % of QCD, how much
# of it is kept in each fifth of the mass?

# %%
def kept_by_mass(p, share=0.2, parts=5):
    """Efficiency of QCD jets in quantiles of their mass."""
    qcd = p.where(p.y == 0)
    passed = qcd.score > np.quantile(qcd.score, 1 - share)
    order = np.array_split(np.argsort(qcd.m), parts)
    return np.array([passed[i].mean() for i in order])


mine = live["ours"].predictions
before, after = kept_by_mass(mine), kept_by_mass(metrics.decorrelate(mine))
print("score:", before.round(2), " rank:", after.round(2))
assert np.ptp(after) <= np.ptp(before) + 0.1

# %%
answers_live = {"ours": [mine], "none": [live["none"].predictions],
                "boosted_trees": [cheap["boosted_trees"]],
                "mass_only": [cheap["mass_only"]]}
left = beyond(answers_live)
experiment.values["beyond_mass"] = left

# %% [markdown]
# Where the grid is made, all its systems are asked; else the published answers are
# shown.

# %%
if GRIDS:
    some = {n: ps for n, ps in results.load_predictions(
        "08_comparison_grid", profile).items() if n != "mean"}
    shown["values"]["beyond_mass"] = out.values["beyond_mass"] = beyond(some)
left, label_of = shown["values"].get("beyond_mass", left), LABEL.get
display(Markdown(made))
for name in left:
    row = left[name]["decorrelated"]
    print(f"{LABEL[name]:22s} {with_interval(left[name]['all jets'])}"
          f" → {with_interval(row)} decorrelated")

# %% tags=["figure"]
_, ((ax,),) = plots.new(1, 1, 3.6)
plots.intervals({label_of(n): left[n] for n in left}, "AUC", value="mean",
                ax=ax, vertical=True, reference=0.5, legend=False)
plots.legend_below(ax)
plots.save(ax, "08_beyond_mass", profile);

# %% [markdown]
# *Figure: AUC on all test jets, in a window of mass, with the mass spectra of
# both classes made equal, and of the score's rank among QCD jets of equal mass;
# 95 % intervals. The dotted line at one half is chance.*
#
# With equal spectra the jet mass alone is at chance. Decorrelated it is not quite,
# 0.54 instead of one half, because bins of mass have a width and within one of
# them the mass still tells a little. What remains of the others is substructure.
# In the window the classes still have different spectra, so it is the mildest of
# the three tests.
#
# ## 7. Can the scores be believed?

# %% tags=["figure"]
fig = drawings.finetune.calibration({
    LABEL[n]: metrics.reliability(ps[0].y, ps[0].score)
    for n, ps in answers_live.items() if n != "mass_only"})
plots.save(fig, "08_calibration", profile);

# %% [markdown]
# *Figure: fraction of tops against mean score in ten bins, live systems, with
# 95 % intervals; the dashed diagonal is perfect calibration.*
#
# How large is the calibration error of a *perfect* score on as many jets? It is
# not zero, for bins of few jets scatter. We draw labels from the scores
# themselves and see.

# %%
def calibration(answers):
    """Calibration error and mean score minus share of tops, over seeds."""
    return {n: {"ece": np.mean([metrics.ece(p.y, p.score) for p in ps]),
                "shift": np.mean([(p.score - p.y).mean() for p in ps])}
            for n, ps in answers.items()}

# %% [markdown]
# A calibration error is the mean distance between a score and the share of tops that
# have it; the *shift* says whether scores are too high or too low altogether.

# %%
rng = np.random.default_rng(0)
floor = np.mean([metrics.ece(rng.random(len(mine)) < mine.score, mine.score)
                 for _ in range(20)])
found_live = experiment.values["calibration"] = calibration(answers_live)
if GRIDS:
    shown["values"]["calibration"] = calibration(some)
    out.values["calibration"] = shown["values"]["calibration"]
for name, row in shown["values"].get("calibration", found_live).items():
    print(f"{LABEL[name]:22s} calibration error {row['ece']:.3f}, "
          f"mean score minus share of tops {row['shift']:+.3f}")
print(f"a perfect score on {len(mine):,} jets: {floor:.3f} on average")


# %% [markdown]
# ## 8. A mechanism of your own
#
# A mechanism is one class with one method. Put it into a file beside your work,
# say `mine.py`:
#
# ```python
# from lib.models.attention import Mechanism
#
# class Mean(Mechanism):
#     """Every token gets the mean value of all."""
#
#     def forward(self, q, k, v, valid=None):
#         keep = valid[:, None, :, None].to(v.dtype)
#         return ((keep * v).sum(2, True) / keep.sum(2, True)).expand_as(v)
# ```
#
# and one command trains our model with it, matched in size, on the same jets, and
# a second one compares the two on the same test jets:
#
# ```
# PYTHONPATH=. python -m lib train mine:Mean
# python -m lib evaluate mine:Mean scratch
# ```
#
# The row of the grid is `recipe("mine:Mean", profile)`. A mean is worth a try: it
# gives each token the whole jet, and no choice.
#
# ## 9. What we saw
#
# - **What attention buys** our model, at 6,000 jets, is not resolved from zero and at
#   most about 0.003 in AUC; the local convolution is worth seven times that (notebook 12).
#   Five planned draws resolve it (notebook 16).
# - **What it costs** is a sixth of a step's operations and a fifth to a quarter of its
#   time if it is linear, and more time than the rest of the model together if it is
#   softmax.
# - So at this number of jets the course's model has linear attention as a cheap
#   insurance. Whether it pays with more jets is asked in notebook 13, up to 100,000.
#
# With what limits?
#
# - **The recipe was made for ours**, and the rivals inherit it. Against the control and
#   the other mechanisms the handicap should be small; it was not measured.
# - **One size.** With ten times as many jets the order may change: what is built
#   in (local convolutions, energy sums, observables) is worth most when jets are
#   few, attention when they are many.
# - **Three seeds at most** are few, one is an anecdote, and Student's distribution
#   makes the intervals wide: what is called undecided may be decided by more, and what
#   is called alike may turn out undecided when one seed is trained again.
# - **Simulated jets.** All differences are between systems on the same
#   simulated jets. The detector is a parametrisation, and details of pixel
#   hits that a network could exploit may be better or worse in the real one.
#
# ## Exercises
#
# **Quick.** Which system of the price list would you deploy if a step may cost
# 0.3 GFLOP per jet at most? Does the choice change if time counts?
#
# **Medium.** Train `recipe("groups", profile)`, exact attention in small groups,
# for one seed, and compare it with ours and with the control.
#
# **Medium.** Retrain ResNet-15 with learning rates of 5e-4 and 3e-3, choosing by
# *validation*. How unfair was the shared recipe?
#
# **Project.** Climb the ladder `lib.training.zoo.LADDER` from a plain ViT to ours,
# one change a step. Which step is the highest?
#
# <details><summary>Solutions</summary>
#
# *Deploy.* Filter `experiment.values["cost"]` by `gflop < 0.3` and take the best
# AUC among them; sort by `ratio` for time. They need not agree: a model of many
# small operations is slower than its count.
#
# *Groups.*
#
# ```python
# mine = runs.train("08-groups", recipe("groups", profile), jets,
#                   test=None if hold_out else test_jets,
#                   runs=profile.runs_dir)
# for name in live:
#     print(name, metrics.compare(mine.predictions, live[name].predictions, ["auc"]))
# ```
#
# *ResNet.* `ARMS["resnet15"].but(fit={"lr": 3e-3})`; the best validation AUC
# stands in `run.history.curve("val_auc")`.
#
# *Ladder.* `{n: recipe(n, profile) for n in LADDER}` through `grid`; expect the
# local convolution and the energies of the patches to be the highest steps.
# </details>
#
# ## Recap
#
# | term | meaning |
# |---|---|
# | control | the same model without the part that is tested |
# | equal updates, equal time | two fair rules, two different questions |
# | fresh draw | new training jets for each seed: the interval holds for any such set |
# | Holm's $p$ | a $p$ that pays for the number of comparisons |
# | frontier (Pareto) | systems that nothing cheaper surpasses |
# | sculpting | a cut on a score that follows the mass shapes the background's mass |
# | decorrelated score | rank among background jets of the same mass |
#
# ## References
#
# - A. Vaswani et al., *Attention is all you need*, arXiv:1706.03762.
# - C. Zheng, *L2ViT*, arXiv:2501.16182; A. El-Nouby et al., *XCiT*,
#   arXiv:2106.09681.
# - K. He et al., *Deep residual learning*, arXiv:1512.03385; M. Andrews et al.,
#   arXiv:2104.14659 (ResNet-15 on these images).
# - G. Kasieczka, D. Shih, *DisCo*, arXiv:2001.05310 (decorrelation from the mass).
# - ATLAS Collaboration, *Performance of mass-decorrelated jet substructure
#   observables*, ATL-PHYS-PUB-2018-014.

# %%
# The results of this notebook; those of the grid only where it was run.
if GRIDS:
    print(out.save().name)
print(experiment.save().name)
