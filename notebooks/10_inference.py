# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#     cell_metadata_filter: tags,-all
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 10 · From a trained model to a trigger: one file, one core, one answer
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/10_inference.ipynb)
#
# A model that lives in a notebook has never rejected an event. The CMS
# high-level trigger is a C++ program on many cores; it spends about 300 ms on a
# whole event, has no Python, and runs networks with ONNX Runtime on one thread.
# This notebook takes the course's model there. In one sentence: a model leaves
# the laboratory as *one file* whose answers have been compared with those of the
# laboratory, whose time is known on one core, and of which we know what it
# looks at.
#
# **You will** export a model and compare the file with PyTorch, break an export
# in the way that passes every quick test, put the detector's 8-bit encoding into
# the graph, make the weights 8-bit and measure what that costs, time everything
# on one thread, and ask the model which pixels it used.
#
# **You need** notebooks 02 (tokens) and 03 (attention). The model is that of
# notebook 07, from the cache or as published. About two minutes on two cores.
#
# Four words first. A *trigger* decides within milliseconds which collisions are
# kept; what it rejects is gone for good. The *high-level* trigger is its second
# stage, ordinary software on ordinary processors. *CMSSW* is the C++ framework of
# CMS in which that software runs, and *latency* is the time from a jet's hits to
# the model's answer.

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
import subprocess
import time
import warnings
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import torch
warnings.filterwarnings("ignore")  # exporters and progress bars on their plans
from captum.attr import IntegratedGradients
from IPython.display import Markdown, display

# %%
from collider.course import course_jets, more_jets
from course import bench
import drawings.inference
from course import export
from lib import profiles
from lib.cms import CHANNELS, PIXEL
from lib.data.images import JetImages
from lib.data.tokens import Grid, TokenBatch
from lib.data.views import transformed
from lib.evaluation import metrics
from lib.evaluation.predictions import predict
from lib.data.batches import Batches
from lib.models.rivals import ResNet15
from lib.models.vit import JetViT, ViTConfig
from lib.report import plots
from lib.report.numbers import with_interval
from lib.report.results import Experiment
from lib.training import runs
from lib.training.recipe import recipe

# %%
profile = profiles.get(PROFILE, DATA)
experiment = Experiment("10_inference", profile, uses=[
    "sample.top_qcd", "tokens", "encoding", "fit", "attention.relu_linear"])
plots.style()
folder = profile.build_dir / "onnx"
folder.mkdir(parents=True, exist_ok=True)
jets, train, validation, test_jets, test, hold_out = course_jets(profile)
print(f"PyTorch {torch.__version__}, ONNX {onnx.__version__}, "
      f"ONNX Runtime {onnxruntime.__version__}, profile {profile.tag}")

# %% [markdown]
# ## 1. The model that is to leave
#
# Ours from notebook 07, trained from scratch: no pretraining, a class head and a
# mass head. Nothing is trained here if it can be helped. `runs.published` looks
# for a model in `weights/` that was made by the same recipe from the same jets,
# and hands it out only if the present code would still make it again. Where
# neither the cache nor the folder holds one, the second half of the line trains
# it, which takes two minutes more.

# %%
ours = recipe("scratch", profile)
run = runs.published(ours, jets, profile) or runs.train(
    "10-ours", ours, jets, None if hold_out else test_jets,
    runs=profile.runs_dir, log=lambda line: None)
model = run.model()

# %% [markdown]
# The first 1,000 test jets judge every file below: as many as the notebook can
# afford on one thread. They are enough for latencies up to the 99th percentile
# (ten jets lie above it), and for seeing whether a file answers like its model.
# They are not enough to rank models; that is notebook 08's work. The answers of
# PyTorch on these jets are the reference of this notebook.

# %%
few = test[:1_000] if profile.name != "smoke" else test[:100]
here = predict(model, Batches(test_jets, few, 100, run.recipe.tokens))
said = metrics.evaluate(here)
print(f"{run.parameters:,} parameters; on {len(few):,} test jets AUC "
      f"{said['auc']:.3f}, mass error {said['mass_mae']:.1f} GeV")

# %% [markdown]
# ## 2. What an exporter sees
#
# PyTorch runs Python, line by line. A file cannot. An exporter runs the model
# *once*, on an example, and writes down the operations; ONNX is the format of
# that list. Whatever Python decided on the way (a size, an `if`, a loop) is
# frozen as it was for the example. That is harmless for the number of layers
# and fatal for the number of jets or of active patches.
#
# Here is the trap in its smallest form: a module that averages the active patches
# of an image, and finds out in Python how many there are. The call `int(...)` is
# where a number leaves the graph: the exporter sees its result, not how it came
# about.

# %%
class Careless(torch.nn.Module):
    """Mean of the largest patches: as many as are active."""

    def forward(self, patches):                       # (B, P)
        longest = int(patches.ne(0).sum(1).max())     # a Python number
        return patches.topk(longest).values.mean(1, keepdim=True)


# %% [markdown]
# The example has two jets of nine patches, three of them active. We declare the
# batch as *dynamic*, so a file for any number of jets is what we ask for, and the
# exporter writes one without complaint.

# %%
example = torch.zeros(2, 9)
example[:, :3] = 1.0
path = str(folder / "careless.onnx")
torch.onnx.export(Careless(), (example,), path, input_names=["patches"],
                  dynamo=False, opset_version=15,
                  dynamic_axes={"patches": {0: "batch"}})

# %% [markdown]
# > **Prediction.** Three jets, one after the other: three active patches of one
# > unit, six of one unit, and six of which the first holds 13 units. For which of
# > them do file and PyTorch agree?

# %%
session = onnxruntime.InferenceSession(path)
for active, first in ((3, 1.0), (6, 1.0), (6, 13.0)):
    jet = torch.zeros(1, 9)
    jet[:, :active] = 1.0
    jet[:, 0] = first
    found, = session.run(None, {"patches": jet.numpy()})
    print(f"{active} active, first {first:2.0f}: "
          f"PyTorch {Careless()(jet).item():.2f}, file {found.item():.2f}")

# %% [markdown]
# For the first two. The file always averages the three largest patches, because
# three is what it saw in the example. Six equal patches hide that, since three
# ones and six ones have the same mean. The third jet shows it: PyTorch averages
# six patches, $(13+5)/6=3$, and the file three, $(13+1+1)/3=5$. There is no error
# message, only a wrong answer, and a test with a single kind of jet would have
# passed. Hence the rule of this notebook:
# **a file is compared with PyTorch at several batch sizes and several
# occupancies, an empty and a full image among them, or it is not written.**
#
# ## 3. Active tokens without a boolean index
#
# `tokenize` (notebook 02) starts from a list of hits and scatters. In a graph,
# boolean indices and scattering into computed places are what exporters get
# wrong. `course.export.packed` gets the same tokens from a dense image with
# operations that keep their shape: cut into patches, see which hold something,
# give the active ones a rank in their order, take the `topk` ranks, *gather*.
# The number of tokens stays a quantity of the graph, the largest count of
# the batch. In numbers: of five patches the second and the fifth are active, so
# their ranks are 1 and 2; the graph takes two places, and gathers patches 2 and 5.
# A second jet of that batch with one active patch gets one token and one place
# that is marked as not valid.
#
# Both ways are run on five test jets. Tokens, places and marks have to be the same
# to the last bit, because copying numbers rounds nothing.

# %%
images = test_jets.dense(test[:5])                        # (5, C, H, W)
made = export.packed(images, jets.grid, run.recipe.tokens)
wanted = test_jets.batch(test[:5], run.recipe.tokens).tokens

# %%
assert torch.equal(made.valid, wanted.valid)
assert torch.equal(made.position[made.valid], wanted.position[wanted.valid])
torch.testing.assert_close(made.features[made.valid],
                           wanted.features[wanted.valid])
print(f"{made.valid.sum(1).tolist()} tokens from a dense image, as from hits")

# %% [markdown]
# ## 4. One file
#
# `export` writes the graph, float32 only, with the batch as dimension 0 and a
# mass of shape $(B, 1)$, because the CMS wrapper takes dimension 0 of every
# output for the batch. Two version numbers decide who can read the file: the
# *opset* (which operators) and the *IR version* (of the container). We write
# opset 18 and IR 8, which ONNX Runtime 1.14 of CMSSW 13_1 reads.
#
# `check` then plays the part of a foreign framework that knows nothing of this
# course: it opens the file, looks at types and shapes, and asks for the same jets
# alone and in batches of 1, 2, 3 and 7. If an answer depends on who else is in
# the batch, the file is refused. `parity` compares with PyTorch on images from
# empty to full.

# %%
graph = export.Graph(model, jets.grid, run.recipe.tokens, "image")
image_file = export.export(graph, folder / "image.onnx")
print("\n".join(export.check(image_file)).replace(str(folder), "onnx"))

# %%
file = export.OnnxModel(image_file)
worst = export.parity(file, graph) * export.TOLERANCE
print(f"largest difference to PyTorch: {worst:.1e}")

# %% [markdown]
# The differences are those of float32 sums in another order: a float32 number has
# seven digits, and the sum of a thousand of them loses one or two. Random images
# test the corners. The test jets say whether the file is right where it will be
# used, and their mass in GeV turns the rounding into something one can judge.

# %%
there = file.predict(test_jets, few)
print(f"score: {np.abs(here.score - there.score).max():.1e}, "
      f"mass: {np.abs(here.m_hat - there.m_hat).max():.1e} GeV, {len(few)} jets")
assert np.abs(here.score - there.score).max() < 1e-4

# %% [markdown]
# Neither difference matters: the mass head is wrong by some eighteen GeV on
# average, a million times the rounding. If the score had moved by a per cent, we
# would have looked for a bug and not for a tolerance.
#
# ## 5. The detector's encoding belongs into the graph
#
# A producer in CMSSW fills images in GeV and cm. Our model was trained on the
# published 8-bit images: threshold, z-score, clip, min–max per image and
# channel, truncation (notebook 01). Written a second time in C++ this would
# differ for some pixels in the last bit and drift apart for ever. So it is part
# of the graph: the input `frame` takes physical units.
#
# To test it we need jets whose energies are still in GeV. The simulator makes the
# same collisions as those of the test file again, and stops before the encoding.
# One jet then goes two ways: through our Python code, and through the operations
# of the graph.
#
# > **Prediction.** Truncation is not continuous: a rounding error of $10^{-7}$
# > before it becomes a whole level after it. Do the two ways agree for all
# > pixels, nearly all, or most?

# %%
if profile.data == "simulated":
    physical = JetImages.open(more_jets(
        profile, "test", "test_gev", len(few) // 4,
        encoding="gev"))
else:
    physical = next(export.examples(jets.grid, "frame"))

# %%
encoded = transformed(physical, lambda hits: hits, encoding="cms8")
dense = export.encode_dense(physical.dense(slice(None)))
different = int((dense != encoded.dense(slice(None))).sum())
print(f"{different} of {dense.ne(0).sum():,} pixels differ")

# %% [markdown]
# None. The prediction that nearly all agree would have been right at the first
# try, and all do after one correction: PyTorch computes `255 / x` as
# $255\cdot(1/x)$, which rounds twice, where NumPy divides once. A handful of
# pixels in a hundred thousand moved by one level, and the mass with them by up
# to 0.02 GeV. With a tensor of 255 in place of the number they agree to the
# bit, because every step is then the same float32 operation.
#
# Now the model behind the encoding, in one file. Its answers on jets in GeV have to
# be those that PyTorch gives on the encoded images.

# %%
frame_graph = export.Graph(model, jets.grid, run.recipe.tokens, "frame")
frame_file = export.export(frame_graph, folder / "frame.onnx")
frames = export.OnnxModel(frame_file)

# %%
a = frames.predict(physical)
b = predict(model, Batches(encoded, None, 100, run.recipe.tokens))
print(f"{len(physical)} jets in GeV through the file, and encoded in Python: "
      f"scores differ by {np.abs(a.score - b.score).max():.1e}")
assert np.abs(a.score - b.score).max() < 1e-4

# %% [markdown]
# ## 6. Eight-bit weights
#
# The weights of the matrix products as 8-bit integers make the file smaller and,
# on processors with the right instructions, the products faster. *Dynamic*
# quantisation needs no calibration jets: inputs are scaled while the graph runs.
# The idea in numbers: weights between −0.5 and 0.5 are stored as integers from
# −127 to 127 with the scale 0.5/127 beside them, so that 0.3 becomes 76 and is
# read back as 0.2992. The error of one weight is at most half a step, 0.002. A
# matrix product adds up dozens of such errors of both signs.
#
# > **Prediction.** Four times smaller, as one byte is a quarter of four? And what
# > moves more, seen against its interval: the AUC or the mass error?
#
# A paper would report the AUC; the mass is the more sensitive number, since it
# has no threshold to hide behind.

# %%
small_file = export.quantized(image_file, folder / "small.onnx")
print(f"{image_file.stat().st_size / 1e3:.0f} kB before, "
      f"{small_file.stat().st_size / 1e3:.0f} kB after")

# %%
small = export.OnnxModel(small_file).predict(test_jets, few, batch=1)
change = {name: row for name, row in metrics.compare(small, there).items()
          if name in ("auc", "mass_mae")}
for name, row in change.items():
    print(f"8-bit minus float, {name}: {with_interval(row)}")

# %% [markdown]
# The file shrinks to a little more than half and not to a quarter: only the
# matrix products are in eight bits, while the graph itself, the norms and the
# convolutions stay as they are. In the published run the mass error changed by 0.03
# GeV [-0.01, 0.07] of 18.5, and the AUC by less than 0.0003 either way; both intervals
# hold zero, so a thousand jets cannot say which of the two is the more sensitive, and
# eight bits are enough for both.
#
# One thing is lost without a word: the scale of an input is taken over the
# *whole batch*, so what one jet gets depends on its neighbours. The check of
# section 4 refuses such a file; it is good for batches of one.

# %%
try:
    export.check(small_file)
except ValueError as error:
    print(str(error).replace(str(folder), "onnx"))

# %% [markdown]
# ## 7. Time on one core
#
# The clock runs from hits to the answer: filling the image (or making tokens),
# the network, the two numbers. One thread inside an operator, one between
# operators, as in CMSSW. Files take turns, jet by jet, so that a busy machine
# slows all alike. For a trigger the median says little: events queue behind
# the slow ones, so the 99th percentile is what counts. All rivals are *untrained*
# here, because time does not depend on what a model knows; what they are worth is
# notebook 08's.
#
# Eight files run. Four are our model with other inputs or other weights: from
# physical units (`frame`), from an 8-bit image, from tokens that the caller has
# made, and in eight bits. One is half as wide. Softmax replaces our attention in
# another. ResNet-15 is a small convolutional network, and *R1, dense* the transformer
# of the paper that this course follows (R1), which takes all 625 patches whether they hold something or not.
#
# > **Prediction.** Order by time at batch 1: ours from an image, ours from
# > tokens, ours with softmax, ResNet-15, R1's dense model.

# %%
compared = {arm.name: arm.settings for arm in bench.arms(ours.model)}
systems = {"ours, frame": (ours.model, "frame"),
           "ours, image": (ours.model, "image"),
           "ours, tokens": (ours.model, "tokens"),
           "ours, softmax": (compared["ours, softmax"], "image"),
           "ours, half as wide": ({**ours.model, "dim": ours.model["dim"] // 2},
                                  "image"),
           "R1, dense": (compared["R1, dense"], "image"),
           "ResNet-15": (None, "image")}

# %% [markdown]
# A file is written for each. The 8-bit one is made from the file of the image
# model, so that both hold the same weights.

# %%
files = {}
for name, (settings, kind) in systems.items():
    untold = (ResNet15(jets.grid.channels) if settings is None else
              JetViT(ViTConfig.of(jets.grid, **settings)))
    keep = (settings or {}).get("tokens", "active")
    files[name] = export.export(export.Graph(untold, jets.grid, keep, kind),
                                folder / f"{name}.onnx")
files["ours, 8-bit"] = export.quantized(files["ours, image"],
                                        folder / "ours, 8-bit.onnx")

# %% [markdown]
# Sessions first: how long one takes to start, and how much memory it and one
# jet take at their peak, in a process that has nothing else. A trigger starts its
# sessions once, before the first collision, so that seconds there would not
# matter; memory does, because it is taken on every core. The process imports
# ONNX Runtime, notes its peak, opens the file, asks about one jet with hits in one
# pixel of eighty, and prints by how much the peak has grown.

# %%
ALONE = """
import sys, numpy, onnxruntime as runtime
options = runtime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
def peak():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
before = peak()
session = runtime.InferenceSession(
    sys.argv[1], options, providers=["CPUExecutionProvider"])
node = session.get_inputs()[0]
image = numpy.zeros((1, *node.shape[1:]), "f4")
image.ravel()[::80] = 9
session.run(None, {node.name: image})
print(peak() - before)
"""

# %% [markdown]
# Linux keeps the peak in `/proc`, under `VmHWM`. On other systems, and for the
# file that takes tokens, the entry stays empty.

# %%
def memory(path):
    """Peak MB of a session and one jet; NaN for tokens, and off Linux."""
    done = subprocess.run([sys.executable, "-c", ALONE, str(path)],
                          capture_output=True, text=True)
    return float(done.stdout) if done.returncode == 0 else float("nan")


# %%
sessions, rows = {}, []
for name, path in files.items():
    start = time.perf_counter()
    sessions[name] = export.OnnxModel(path)
    rows.append({"name": name, "start_ms": 1e3 * (time.perf_counter() - start),
                 "size_mb": path.stat().st_size / 1e6,
                 "memory_mb": memory(path)})

# %% [markdown]
# Now the clock. Making the network's input from the list of hits is inside it,
# because a trigger has to pay for that too; reading the hits from the file is not.
# R1's dense model is some twenty times slower than the others, so it takes part in
# every 20th round only: fifty jets at batch 1.

# %%
def clocked(sessions, jets, batch, count, slow=("R1, dense",)):
    """Milliseconds of each call by name; slow ones get every 20th."""
    taken = {name: [] for name in sessions}
    for turn, part in enumerate(torch.arange(count).split(batch)):
        hits = jets.hits(part)
        for name, session in sessions.items():
            if name not in slow or turn % 20 == 0:
                start = time.perf_counter()
                session(export.feed(session, hits))
                taken[name].append(1e3 * (time.perf_counter() - start))
    return taken


# %% [markdown]
# Two sizes of batch, 1 and 32. The first call fills the runtime's memory pools and
# is left out.

# %%
threads = torch.get_num_threads()
torch.set_num_threads(1)
for batch in (1, 32):
    taken = clocked(sessions, test_jets, batch, len(few))
    for row in rows:  # without the first call, which fills arenas
        each = taken[row["name"]]
        found = np.percentile(each[1:] or each, (50, 90, 99)).tolist()
        row |= dict(zip((f"{key}_{batch}" for key in ("median", "p90", "p99")),
                        found))
torch.set_num_threads(threads)
sessions.clear()  # each holds a pool of memory

# %%
display(Markdown(drawings.inference.table(rows)))

# %% tags=["figure"]
figure = drawings.inference.times(rows)
plots.save(figure, "10_latency", profile);

# %% [markdown]
# *Figure: from the median to the 99th percentile of the time for one jet on one
# thread, in milliseconds on a logarithmic axis; the dashed line is at 5 ms.*
#
# Times depend on the machine and on what else it does, so this notebook formats
# the sentence that answers the prediction from what it has just measured.

# %% tags=["figure"]
display(Markdown(drawings.inference.order(rows)))

# %% [markdown]
# How to understand the table. R1's dense model pays for 625 tokens of width 256
# whatever the jet holds. ResNet-15 has few, large operations; ours has some two
# hundred small ones, and at batch 1 the runtime's cost of starting an operation
# is a good part of its time. So the two come out close together. ResNet-15 has a second advantage: its time does not depend
# on the jet, and its 99th percentile lies nearer to its median. Ours grows with the
# number of active patches, and the slowest jets are the fullest ones.
#
# The same holds for softmax, more strongly. With some two hundred tokens the
# $N^2$ of its map costs a modest amount in the median, and more at the 99th
# percentile. The encoding costs a part of a millisecond (`frame` against
# `image`), the price of never writing it twice. Eight bits gain nothing in time
# here: scaling the inputs while the graph runs eats up what the products save. A
# batch of 32 pads every jet to the longest one. From an image that takes back what a
# batch saves, and more than that for softmax, where the longest jet counts squared. Only
# the file that takes tokens gains by a batch: alone, its caller pays for making tokens of
# one jet, which is dearer than filling an image.
#
# Three jets in one event cost about three medians, of 300 ms that the trigger
# has for everything. The other condition is a goal of ours: no more than 5 ms for 99 of
# 100 jets.

# %%
first = next(row for row in rows if row["name"] == "ours, image")
share = 3 * first["median_1"] / 300
quick = first["p99_1"] < 5
print(f"three jets: {100 * share:.1f} % of 300 ms; "
      f"p99 of ours {first['p99_1']:.1f} ms, "
      f"{'within' if quick else 'NOT within'} 5 ms on this machine")

# %% [markdown]
# ### With the number of tokens
#
# The claim of linear attention is about growth. We let the grid have 4,096
# patches and fill it more and more. A straight line in logarithms, time
# $\propto N^a$, has the slope $a$: 1 for linear, towards 2 for softmax. *Towards*,
# because a model is more than its attention: embedding and MLP cost the same for
# each token, and hide the square as long as there are few.
#
# > **Prediction.** From 256 to 4,096 tokens is a factor of 16. Linear attention
# > should take 16 times as long or less, softmax up to $16^2=256$ times.

# %%
large = Grid(8, 320, 320, 5, 5)                          # 64 × 64 patches
sizes = [256, 512, 1024, 2048, 4096]


def clock(session, inputs):
    """Milliseconds of one call."""
    start = time.perf_counter()
    session(inputs)
    return 1e3 * (time.perf_counter() - start)


# %% [markdown]
# What a token holds does not matter for its time; unit vectors will do. Of nine
# rounds the fastest counts, since other work on the machine can only add.

# %%
def as_it_grows(attention, rounds=9):
    """Milliseconds of a jet on one thread, by number of tokens."""
    settings = {**ours.model, "tokens": "active", "attention": attention}
    wide = export.Graph(JetViT(ViTConfig.of(large, **settings)), large,
                        "active", "tokens")
    session = export.OnnxModel(
        export.export(wide, folder / f"{attention}.onnx", opset=17))
    found = {}
    for n in sizes:
        inputs = {"features": np.eye(n, large.patch_dim, dtype="f4")[None],
                  "position": np.arange(n, dtype="f4")[None],
                  "valid": np.ones((1, n), "f4")}
        found[n] = np.min([clock(session, inputs) for _ in range(rounds)])
    return found


# %%
grown = {name: as_it_grows(name) for name in ("relu_linear", "softmax")}
slopes = {name: np.polyfit(np.log(sizes), np.log(list(times.values())), 1)[0]
          for name, times in grown.items()}
for name, slope in slopes.items():
    print(f"{name:12} time ∝ N^{slope:.2f}, in ms:",
          {n: round(float(t), 1) for n, t in grown[name].items()})

# %% tags=["figure"]
axes = plots.lines(
    {f"{name.replace('_', ' ')}, $N^{{{slopes[name]:.2f}}}$":
     (list(times), list(times.values())) for name, times in grown.items()},
    "active tokens", "ms a jet, one thread", log="xy", marks=True)
plots.save(axes, "10_tokens", profile);

# %% [markdown]
# *Figure: time of one jet on one thread against its number of tokens, for linear
# and for softmax attention; both axes logarithmic, the fitted slope in the
# legend.*
#
# The prediction was right. Linear attention stays just below a slope of 1, because
# starting the operations costs the same for few tokens as for many. Softmax comes
# near 2 at the right end and is less steep at the left, where the rest of the model
# outweighs the map. A trigger's jets live at the left end, with some two hundred
# tokens: there the choice of the attention decides about fractions of a
# millisecond, and only finer patches would move it to the right.
#
# ## 8. What does it look at?
#
# A model that decides what is kept should be asked what it decides by. There are
# many recipes for such pictures, and nearly all of them produce something
# plausible. So this section makes three kinds of picture and gives every one a
# control that it could fail.
#
# **Integrated gradients** (arXiv:1703.01365) share the answer among the inputs.
# For a function $F$ of pixels $x$ and a baseline $x'$,
#
# $$ a_i=(x_i-x'_i)\int_0^1 \frac{\partial F}{\partial x_i}
#        \bigl(x'+t\,(x-x')\bigr)\,dt ,\qquad
#    \sum_i a_i = F(x)-F(x') . $$
#
# $F$ is the difference of the logits, top minus QCD. The baseline is a jet with a
# thousandth of its energy in the same pixels: practically none. (Exactly none
# would not do: our model counts hits, the count jumps where a pixel becomes
# zero, and no gradient sees a jump.) The model takes logarithms of energies, so
# most happens near the baseline; the path is integrated decade by decade.
# Completeness, the sum rule on the right, is a check that costs nothing and
# can fail: with 24 even steps it does, by half.
#
# A check of the formula by hand: let $F=x_1x_2$, with $x=(2,3)$ and $x'=(0,0)$. On
# the path both are scaled by $t$, so $\partial F/\partial x_1=3t$, its integral is
# 1.5, and $a_1=2\cdot1.5=3$. For the second it is $a_2=3\cdot1=3$ as well, and
# $3+3=F(x)=6$. A product is shared in equal halves, however unequal its factors.
#
# First $F$ itself, as a function of the pixels in the tokens.

# %%
looked = test[:48] if profile.name != "smoke" else test[:12]
batch = test_jets.batch(looked, run.recipe.tokens)
tokens = batch.tokens


def preference(model, tokens):
    """features (B, K, F) -> logit of top minus logit of QCD, (B,)."""
    def function(features, position, valid):
        logits, _ = model(TokenBatch(features, position, valid, tokens.grid))
        return logits[:, 1] - logits[:, 0]
    return function


# %% [markdown]
# Then the integral, one decade of energy after another, from a thousandth to all.
# Eight nodes of Gauss–Legendre in each (places and weights of a quadrature rule
# that is exact for polynomials up to degree 15) make 24 gradients a jet.

# %%
def attribute(model, tokens, steps=8):
    """Integrated gradients of the pixels, (B, K, F), by Gauss–Legendre."""
    integrated = IntegratedGradients(preference(model, tokens))
    total, x = 0, tokens.features
    for low, high in pairwise((1e-3, 1e-2, 1e-1, 1.0)):
        total = total + integrated.attribute(
            high * x, low * x, n_steps=steps, internal_batch_size=96,
            additional_forward_args=(tokens.position, tokens.valid))
    return total


shares = attribute(model, tokens)

# %% [markdown]
# The sum rule, as a check of the integration: all shares of a jet together
# against the difference between its answer and that of its baseline.

# %%
with torch.no_grad():
    F = preference(model, tokens)
    full = F(tokens.features, tokens.position, tokens.valid)
    nearly = F(1e-3 * tokens.features, tokens.position, tokens.valid)
gap = (shares.sum((1, 2)) - (full - nearly)).abs().mean()
size = (full - nearly).abs().mean()
print(f"sum of attributions against F(x) - F(x'): mean gap {gap:.3f} "
      f"of a mean size {size:.2f}")

# %% [markdown]
# The gap is what the quadrature misses: about a hundredth of the answers. So the
# shares below are those of this function and not of a crude integral.
#
# **By channel.** The size of the attributions, added up over the pixels of a
# channel, as a share of all.

# %%
def by_channel(shares):
    size = shares.abs().unflatten(-1, (len(CHANNELS), -1))   # (B, K, C, pixels)
    total = size.sum((0, 1, 3))
    return dict(zip(CHANNELS, (total / total.sum()).tolist()))


channels = by_channel(shares)
print({name: round(value, 3) for name, value in channels.items()})

# %% [markdown]
# In the published run the hadronic calorimeter has the largest share of a single
# channel, 0.19. The three pixel layers together get 0.37 and the three track
# channels 0.33. A share is not an importance: it counts how much of the answer
# flows through a channel, upwards and downwards alike.
#
# **A control that could fail.** If a model with *random* weights gave the same
# picture, the picture would show the data and not what was learnt
# (arXiv:1810.03292). The control keeps what is no learning: the scale of the
# inputs and the sums over a jet. All weights are drawn anew.

# %%
torch.manual_seed(1)
untrained = JetViT(model.config)
untrained.load_state_dict({**untrained.state_dict(), **{
    k: v for k, v in model.state_dict().items()
    if k.split(".")[0] in ("scale", "summary")}})  # same units, nothing learnt
control = attribute(untrained.eval(), tokens)

# %% [markdown]
# We compare the *ranks* of the patches in each jet, by Spearman's correlation: 1
# means the same order, 0 no relation. As a third picture there is the energy of
# the patch (tracks and calorimeters), which anybody can see without a model.
#
# > **Prediction.** A trained model should look elsewhere than one of random
# > weights: a correlation below one half.

# %%
def rank_correlation(a, b):
    """Mean over jets of Spearman's correlation of the patches' sizes."""
    rows = []
    for x, y, valid in zip(a, b, tokens.valid):
        x, y = (v[valid].argsort().argsort().double() for v in (x, y))
        rows.append(torch.corrcoef(torch.stack([x, y]))[0, 1])
    return float(torch.stack(rows).mean())


# %%
patches = shares.abs().sum(-1)
energy = tokens.features.abs().unflatten(
    -1, (len(CHANNELS), -1))[:, :, [0, 3, 4]].sum((2, 3))
same = {"random weights": rank_correlation(patches, control.abs().sum(-1)),
        "energy of the patch": rank_correlation(patches, energy)}
print({name: round(value, 2) for name, value in same.items()})

# %% [markdown]
# Wrong: the control fails, with a correlation of 0.82 in the published run. Most of
# such a picture is that of the tokens and of the architecture, because a patch with
# more hits has more inputs to share among, learnt or not; the patch's energy
# explains less of it (0.18). What training did shows in the channels (next figure,
# top): tracks and HCAL gain, the first and the third pixel layer lose, while the second
# gains and the ECAL stays where it was.
#
# **Where.** ΔR is the distance from the middle of the image, in units of η and
# φ; a jet has radius 0.8. The attribution is set beside the energy at the same
# distance: a ratio above one says that the model looks there more than the
# energy alone would suggest.

# %%
row, column = tokens.grid.centres(tokens.position)
distance = (row**2 + column**2).sqrt() * tokens.grid.patch_height * PIXEL
edges = torch.linspace(0, 1.2, 9)


def profile_in(distance, weight):
    """Share of a weight (B, K) in rings of ΔR, (rings,)."""
    ring = torch.bucketize(distance, edges) - 1
    inside = tokens.valid & (ring >= 0) & (ring < len(edges) - 1)
    found = torch.zeros(len(edges) - 1).index_add(
        0, ring[inside], weight[inside].float())
    return (found / found.sum()).numpy()


# %%
rings = {"integrated gradients": profile_in(distance, patches),
         "random weights": profile_in(distance, control.abs().sum(-1)),
         "energy": profile_in(distance, energy)}

# %% [markdown]
# **Deletion.** If attributions are right, removing the patches that they call
# important must change the answer fastest, faster than removing the *brightest*
# patches, which needs no model at all, and than removing patches at random.
# With $F$ measured in units of a logit, a change of 2.2 takes a jet from even
# odds to nine to one.
#
# > **Prediction.** Integrated gradients rise fastest, because they alone know the
# > model; then brightness, random weights, and chance.

# %%
def deleted(order, fractions):
    """Mean |F| that is lost when the first patches of an order go, (len,)."""
    lost, count = [], tokens.valid.sum(1, keepdim=True)
    rank = order.masked_fill(~tokens.valid, -1).argsort(
        1, descending=True).argsort(1)
    for fraction in fractions:
        keep = tokens.valid & (rank >= (fraction * count).round())
        with torch.no_grad():
            lost.append((F(tokens.features * keep[..., None], tokens.position,
                           keep) - full).abs().mean().item())
    return lost


# %% [markdown]
# Each order is tried on the same 48 jets, from one patch in a hundred to four in
# ten.

# %%
fractions = [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4]
orders = {"integrated gradients": patches, "brightest patch": energy,
          "random weights": control.abs().sum(-1),
          "at random": torch.rand_like(energy)}
curves = {name: (fractions, deleted(order, fractions))
          for name, order in orders.items()}

# %% tags=["figure"]
figure = drawings.inference.looks(channels, by_channel(control), edges, rings,
                                  curves)
plots.save(figure, "10_attributions", profile);

# %% [markdown]
# *Figure: share of each channel in the attributions, trained and with random
# weights; shares of attribution and of energy by distance from the middle; mean
# change of $F$ when the first patches of an order are deleted.*
#
# The prediction was wrong. Taking the brightest tenth away changes $F$ by 14.7,
# the tenth that integrated gradients name by 6.3, that of random weights by 4.0, a
# random one by 0.7. So the attributions are better than chance and worse than
# brightness, a rival that needs no model: do not read single patches off them.
# (A jet without its core is also unlike any that the model has seen, which helps
# the brightest.)
#
# **η or φ?** Shuffle the rows of all patches of a jet, or the columns, and see how
# far the answers move. The detector is nearly symmetric, but the image is not:
# the pile-up floor rises along η (notebook 01). A model that had found the floor
# useful would miss it more when η is shuffled.

# %%
def moved(axis):
    """Mean change of F when positions along an axis are dealt anew."""
    generator = torch.Generator().manual_seed(0)
    columns, count = tokens.grid.columns, tokens.grid.rows
    deal = torch.randperm(count, generator=generator)
    r, c = tokens.position // columns, tokens.position % columns
    r, c = (deal[r % count], c) if axis == "eta" else (r, deal[c])
    fine = tokens.position < tokens.grid.patches
    position = torch.where(fine, r * columns + c, tokens.position)
    with torch.no_grad():
        return (F(tokens.features, position, tokens.valid) - full
                ).abs().mean().item()


permuted = {axis: moved(axis) for axis in ("eta", "phi")}
print({axis: round(value, 2) for axis, value in permuted.items()},
      f"of a mean |F| of {full.abs().mean():.2f}")

# %% [markdown]
# Places matter along both: $F$ moves by 3.5 when η is shuffled and by 3.9 for φ, as
# much as its own mean size. It is not η that matters more: what shuffling destroys is
# the shape of the jet, in either direction. That does not acquit the floor. Most of it
# sits in the coarse tokens, which keep their places here, and one deal on 48 jets is a
# look and no measurement.
#
# **The implied map.** Linear attention never forms its $N\times N$ map, but it
# stands for one (notebook 03). *Rollout* (arXiv:2005.00928) multiplies the maps
# of the layers, each half itself and half the identity for the residual: how
# much of each token arrives at the end. Averaged over tokens and jets, beside
# the energy:

# %%
def rollout(model, tokens):
    """(B, K): how much each token passes on to all, over the layers."""
    maps = []
    hooks = [block.attention.mechanism.register_forward_hook(
        lambda mechanism, given, out: maps.append(
            mechanism.map(given[0], given[1], given[3]).mean(1)))
        for block in model.blocks]
    with torch.no_grad():
        model(tokens)
    for hook in hooks:
        hook.remove()
    flow = torch.eye(tokens.valid.shape[1]).expand(len(tokens), -1, -1)
    for found in maps:
        flow = (found + torch.eye(found.shape[1])) / 2 @ flow
    keep = tokens.valid.float()
    return (flow * keep[..., None]).sum(1) / keep.sum(1, keepdim=True)


# %% [markdown]
# A map's rows add to one, so the product's rows do as well: nothing is lost on the
# way, and the check below holds for any depth.

# %%
flow = rollout(model, tokens)
assert torch.allclose(flow.sum(1), torch.ones(len(flow)), atol=1e-3)
rings["rollout"] = profile_in(distance, flow)
rings["number of tokens"] = profile_in(distance, tokens.valid.float())

# %% tags=["figure"]
axes = plots.lines({name: ((edges[1:] + edges[:-1]) / 2, rings[name]) for name in
                    ("rollout", "number of tokens", "energy")},
                   "ΔR from the middle of the image", "share", marks=True)
plots.save(axes, "10_rollout", profile);

# %% [markdown]
# *Figure: share of the rollout, of the number of tokens and of the energy in rings
# around the middle of the image.*
#
# A rollout that follows the *number* of tokens says that attention averages over
# everybody alike; what the model prefers then comes from pooling and from the MLPs, and
# not from where attention looks. That is nearly what is seen: in the innermost ring, where
# the energy has more than 0.4 of its sum, the rollout has less than 0.1, about twice the
# share of the tokens, and further out the two curves are close. An attention map is no
# explanation of an answer, either: it knows nothing of the heads behind it.
#
# ## 9. The way into CMSSW
#
# `cmssw/README.md` is the guide: which release reads what, contract,
# configuration, threads, memory, and what to do when it fails; `cmssw/JetViT`
# is the package, with a unit test, a bundled model and its expected numbers. The
# plugin's frame-filling code is compiled in our tests and gives Python's
# array to the bit. On the command line:
#
#     python -m lib export RUN model.onnx [--opset 15] [--int8]
#     python -m lib export --check model.onnx
#
# A regressor of pT comes from the same code: train with `pt` in place of the mass,
# on jets in GeV (in 8-bit images the energy scale is gone), and export with
# `--target pt`; the medium exercise does it.
#
# ## 10. What we saw
#
# A file can be wrong without an error, and only comparisons at other batches and
# occupancies show it. The encoding is part of the model and belongs into its
# graph. Eight-bit weights cost no AUC that a thousand jets could show, and couple the jets
# of a batch. On one thread three jets take about two per cent of a trigger's time; at batch 1 the
# number of operations counts as much as their size, so a small ResNet with few
# large ones comes close. Attributions pass neither control: random weights give much
# the same picture, and deleting the brightest patches moves the answer more.
#
# The limits: times are of this machine and its load, ratios travel better;
# nothing here has run in a release of CMSSW; attributions are of some dozens of
# jets. With another seed expect the times to stay and attributions of single
# patches to move.

# %% [markdown]
# ## Exercises
#
# **Quick.** (a) Export with opset 15 and compare the size of the file and its
# largest difference to PyTorch. (b) Feed `frame` with a public 8-bit image. Why
# is the answer wrong although nothing complains?
#
# **Medium.** Train a regressor of pT on jets in GeV and export it.
#
# **Project.** Count the operations of the graph by type, remove a quarter of
# them without changing an answer, and measure the time again.
#
# <details><summary>Solutions</summary>
#
# (a)
#
#     old = export.export(graph, folder / "old.onnx", opset=15)
#     print(old.stat().st_size, export.parity(export.OnnxModel(old), graph))
#
# The difference is of the same size: another exporter, the same sums.
#
# (b) The pipeline would run twice. The second z-score divides by widths in GeV
# and cm, and the clip at 500 standard deviations cuts d0 at 1.6 cm and dz at
# 0.3 cm, which levels of 0 … 255 exceed.
#
# *Medium.*
#
#     from dataclasses import replace
#     momentum = replace(physical, mass=physical.pt)
#     tiny = recipe("scratch", profiles.get("smoke")).but(hold_out=True)
#     pt_run = runs.train("10-pt", tiny, momentum, runs=profile.runs_dir)
#     pt_graph = export.Graph(pt_run.model(), jets.grid,
#                             pt_run.recipe.tokens, "image")
#     export.export(pt_graph, folder / "pt.onnx", opset=15, target="pt")
#
# *Project.* `collections.Counter(n.op_type for n in onnx.load(f).graph.node)`.
# Candidates: the casts between bool and float of the masks at batch 1, and the
# widths of the summary, which share their sums.
#
# </details>
#
# ## Recap
#
# | term | meaning |
# |---|---|
# | ONNX, opset, IR | a list of operations in a file; version of the operators; version of the container |
# | tracing | writing down what a run did: Python's decisions are frozen |
# | occupancy | the share of pixels that hold something |
# | dynamic quantisation | 8-bit weights, inputs scaled while running |
# | p99 | 99 of 100 jets are faster |
# | integrated gradients | shares of an answer that add up to it |
# | rollout | product of the attention maps of all layers |
#
# ## References
#
# - ONNX Runtime in CMSSW: `PhysicsTools/ONNXRuntime`.
# - M. Sundararajan et al., *Axiomatic attribution for deep networks*,
#   arXiv:1703.01365.
# - J. Adebayo et al., *Sanity checks for saliency maps*, arXiv:1810.03292.
# - S. Abnar, W. Zuidema, *Quantifying attention flow in transformers*,
#   arXiv:2005.00928.

# %%
experiment.add_run("ours", there, parameters=run.parameters)
experiment.add_run("ours_8bit", small, parameters=run.parameters)
experiment.compare("ours_8bit", "ours", ["auc", "mass_mae"])
def keyed(found):
    """The same with keys that a result may have."""
    return {k.replace(",", "").replace(" ", "_"): v for k, v in found.items()}


experiment.values["latency"] = keyed({row.pop("name"): row for row in rows})
experiment.values["file"] = {"difference": worst, "pixels_differ": different,
                             "share_of_event": share}
experiment.values["scaling"] = {name: {
    "exponent": float(slopes[name]),
    "ms": {str(n): float(t) for n, t in times.items()}}
    for name, times in grown.items()}
experiment.values["looks"] = {
    "channels": keyed(channels), "rank": keyed(same), "permuted": permuted,
    "deletion": keyed({name: curve[1][4] for name, curve in curves.items()})}
print(experiment.save().name, "written")
