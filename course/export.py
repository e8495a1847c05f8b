"""A trained model as one ONNX file, and that file in a session of ONNX Runtime.

All inputs are float32 with the batch first. What they are (`INPUTS`):

    frame   (B, 8, H, W) in physical units; the 8-bit pipeline is in the graph
    image   (B, C, H, W) in the encoding that the model was trained on
    tokens  features (B, K, F), position and valid (B, K): what `lib.data.tokens.tokenize` makes

Outputs: score (B, classes), probabilities, and mass (B, 1) in GeV, or another second target."""

import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from lib.cms import CHANNELS
from lib.data.encoding import CLIP, FLOOR, PIXEL_MEAN, PIXEL_STD
from lib.data.images import Images, JetImages, to_numpy
from lib.data.tokens import COARSE, PIXEL_LAYERS, Grid, Hits, TokenBatch, tokenize
from lib.data.views import transformed
from lib.evaluation.metrics import Predictions
from lib.files import replacing, require
from lib.models.rivals import Rival
from lib.registry import check_choices

INPUTS = {"frame": ("frame",), "image": ("image",), "tokens": ("features", "position", "valid")}
IR = 8  # version of the file format: what ONNX Runtime 1.10 to 1.14 can read
TOGETHER = 1024  # patches of several images at once that may hold something
TOLERANCE = 1e-4  # of a score; of a mass relative, or absolute below 1 GeV
RELEASES = ((15, 8, "12_4"), (18, 8, "13_1"), (20, 9, "14_1"), (21, 10, "15_0"))  # opset, IR


def encode_dense(images: Tensor) -> Tensor:
    """`encode_cms8` of dense images (B, 8, H, W) to the bit, in operations that ONNX has."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
    lowest = ((0 - mean) / std).clamp(-CLIP, CLIP)  # an empty pixel
    score = ((images - mean) / std).clamp(-CLIP, CLIP)
    score = torch.where(images >= FLOOR, score, lowest)
    highest = score.amax((2, 3), keepdim=True)
    # 255 as a tensor: PyTorch divides a number by multiplying with the reciprocal, rounding twice
    scale = torch.full_like(highest, 255) / (highest - lowest).clamp(min=1e-6)
    return ((score - lowest) * scale).floor()


def packed(images: Tensor, grid: Grid, keep: str) -> TokenBatch:
    """`tokenize` of dense images (B, C, H, W), in operations that a graph of ONNX holds: no boolean
    index, nothing scattered. ValueError for coarse tokens of another size than a patch."""
    margin = (0, grid.columns * grid.patch_width - grid.width,
              0, grid.rows * grid.patch_height - grid.height)
    x = F.pad(images, margin).unflatten(3, (grid.columns, grid.patch_width))
    x = x.unflatten(2, (grid.rows, grid.patch_height)).permute(0, 2, 4, 1, 3, 5)
    features = x.flatten(3).flatten(1, 2)  # (B, P, F)
    active = features.abs().amax(2) > 0
    if keep == "two_scale":
        if (grid.patch_height, grid.patch_width) != (COARSE, COARSE):
            raise ValueError(f"two_scale is exported for patches of {COARSE} x {COARSE} only")
        features, active = _two_scale(features, grid)
    count = active.shape[1]
    if keep == "all":
        active = active | ~active
    longest = active.sum(1).amax(0).clamp(min=2)  # one token would be a case of its own
    if not torch.jit.is_tracing():  # a number, which the exporter has to know the limits of
        longest = longest.item()
        torch._check(longest >= 2)
        torch._check(longest <= count)
    rank, position = torch.where(active, count - torch.arange(count), 0).topk(longest)
    rows = position.unsqueeze(-1).expand(-1, -1, grid.patch_dim)
    return TokenBatch(features.gather(1, rows), position, rank > 0, grid)


def _two_scale(features: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Patches and coarse tokens (B, P + blocks, F), and which are active, as in `tokenize`."""
    pixels = features.unflatten(-1, (grid.channels, -1))
    size, total = pixels.abs().amax(3), pixels.sum(3)  # (B, P, C): all that is read of the pixels
    other = [c for c in range(grid.channels) if c not in PIXEL_LAYERS]
    fine = size[:, :, other[0] : other[-1] + 1].amax(2) > 0  # (B, P)
    rest = (~fine).unsqueeze(-1).to(total.dtype)
    down, across = grid.coarse

    def blocks(x: Tensor) -> Tensor:  # (B, P, C) -> (B, blocks, C · COARSE²), channels first
        margin = (0, 0, 0, across * COARSE - grid.columns, 0, down * COARSE - grid.rows)
        x = F.pad(x.unflatten(1, (grid.rows, grid.columns)), margin)
        x = x.unflatten(2, (across, COARSE)).unflatten(1, (down, COARSE))
        return x.permute(0, 1, 3, 5, 2, 4).flatten(3).flatten(1, 2)

    held = blocks(size * rest).amax(2) > 0
    return torch.cat([features, blocks(total * rest)], 1), torch.cat([fine, held], 1)


class Graph(nn.Module):
    """What is exported: a model with tensors in and out. keep: as in `tokenize`."""

    def __init__(self, model: nn.Module, grid: Grid, keep: str, kind: str) -> None:
        super().__init__()
        check_choices(input=(kind, INPUTS))
        if kind == "frame" and grid.channels != len(CHANNELS):
            raise ValueError("a frame has the channels of the 8-bit pipeline: use image or tokens")
        self.model, self.grid, self.keep, self.kind = model.float(), grid, keep, kind
        self.eval()  # all of it: an exporter puts back the mode of the outermost module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self.kind == "tokens":
            features, position, valid = inputs
            output = self.model(TokenBatch(features, position.long(), valid > 0.5, self.grid))
        else:
            images = encode_dense(inputs[0]) if self.kind == "frame" else inputs[0]
            output = self.model(images if isinstance(self.model, Rival) else
                                packed(images, self.grid, self.keep))
        score = output[0].softmax(-1)
        return (score,) if output[1] is None else (score, output[1].unsqueeze(-1))


def export(graph: Graph, path: Path | str, opset: int = 18, target: str = "mass") -> Path:
    """Write a graph as one file, if it gives PyTorch's answers (`parity`), else a ValueError.
    opset: 18, or 15 to 17 by PyTorch's older exporter. target: name of the second output."""
    if not 15 <= opset <= 20:
        raise ValueError(f"opset {opset}: choose 15 to 20; 18 for CMSSW 13_1 and later, 15 before")
    _, two, *_ = examples(graph.grid, graph.kind)
    arguments = tuple(map(torch.from_numpy, feed(graph, two.hits(slice(None))).values()))
    with torch.no_grad():
        names = ["score", target][: len(graph(*arguments))]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    axes = {0: "batch", 1: "tokens"} if graph.kind == "tokens" else {0: "batch"}
    inputs = list(INPUTS[graph.kind])
    with replacing(path) as part, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters: names of axes, constants not folded
        dims = {axis: torch.export.Dim(name, max=65_536) for axis, name in axes.items()}
        how = dict(dynamic_shapes={"inputs": (dims,) * len(inputs)}) if opset >= 18 else dict(
            dynamic_axes={name: axes for name in inputs} | {name: {0: "batch"} for name in names})
        torch.onnx.export(graph, arguments, str(part), input_names=inputs, output_names=names,
                          opset_version=opset, external_data=False, verbose=False,
                          dynamo=opset >= 18, **how)
        written = onnx.load(part)
        written.ir_version = IR
        del written.graph.value_info[:]  # shapes in between, which a runtime infers
        for node in written.graph.node:  # the exporter's notes name files of this machine
            del node.metadata_props[:]
            node.doc_string = ""
        onnx.helper.set_model_props(written, {
            "tokens": graph.keep, "grid": json.dumps(asdict(graph.grid)),
            "channels": json.dumps(CHANNELS if graph.grid.channels == 8 else [])})
        onnx.checker.check_model(written, full_check=True)
        onnx.save(written, part)
        if (worst := parity(OnnxModel(part), graph)) > 1:
            raise ValueError(f"{worst * TOLERANCE:.1g} away from PyTorch: nothing was written")
    return Path(path)


def quantized(path: Path | str, target: Path | str) -> Path:
    """The file with 8-bit weights in its matrix products. What goes into these has one scale for a
    whole batch, so its jets influence each other: such a file is for batches of one."""
    with replacing(target) as part:
        quantize_dynamic(path, part, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])
    return Path(target)


class OnnxModel:
    """An ONNX file in a session on one thread; grid and tokens come from its metadata, if `export`
    wrote it. ValueError for what is no ONNX file, or takes inputs of no known kind."""

    def __init__(self, path: Path | str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # one for each new length, and none is ever freed
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own have no common base
            raise ValueError(f"{path}: ONNX Runtime cannot read it ({error})") from error
        names = tuple(node.name for node in self.session.get_inputs())
        kinds = [kind for kind, known in INPUTS.items() if known == names]
        require(kinds, path, f"its inputs, {', '.join(names)}, are none of {INPUTS}")
        self.kind, about = kinds[0], self.session.get_modelmeta().custom_metadata_map
        self.keep = about.get("tokens", "active")
        self.grid = Grid(**json.loads(about["grid"])) if "grid" in about else None

    def __call__(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """score (B, classes) and, if there is one, mass (B, 1)."""
        return self.session.run(None, inputs)

    def predict(self, jets: Images, index: Tensor | None = None, batch: int = 64) -> Predictions:
        """As ``Run.predict``. ValueError for jets in an encoding that the file does not take."""
        if self.kind == "frame" and jets.encoding != "gev":
            raise ValueError("this file takes frames in physical units: give jets in gev")
        index = torch.arange(len(jets)) if index is None else index
        found = [self(feed(self, jets.hits(part))) for part in index.split(batch)]
        score, *mass = (np.concatenate(parts) for parts in zip(*found))
        return Predictions.of(jets, index, score[:, 1], mass[0][:, 0] if mass else None)


def feed(model: Graph | OnnxModel, hits: Hits) -> dict[str, np.ndarray]:
    """Hits as the inputs of a file, by name."""
    if model.kind == "tokens":
        tokens = tokenize(hits, model.grid, model.keep)
        arrays = tokens.features, tokens.position.float(), tokens.valid.float()
        return dict(zip(INPUTS["tokens"], (array.numpy() for array in arrays)))
    return {model.kind: hits.dense(model.grid.shape).numpy()}


def examples(grid: Grid, kind: str) -> Iterator[JetImages]:
    """Batches of 1 to 7 random images, from empty to full, in the unit of the input. Of a wide grid
    only one image alone is full: seven took softmax attention eleven gigabytes at 4,096 patches."""
    draw = np.random.default_rng(0)
    for count, share in ((1, 0.012), (2, 0.001), (7, 0.03), (1, 0.0), (3, 0.3), (1, 1.0)):
        images = np.ceil(255 * draw.random((count, *grid.shape), np.float32))
        if kind == "frame":  # exponential spectra; d0 and dz of both signs
            size = np.float32(PIXEL_STD)[:, None, None]
            images = draw.exponential(size, images.shape).astype(np.float32)
            images[:, 1:3] -= size[1:3] / 3
        images[draw.random(images.shape) >= share] = 0
        if count > 1:
            images[:, :, max(1, TOGETHER // grid.columns) * grid.patch_height :] = 0
        patch = grid.patch_height, grid.patch_width
        yield JetImages.from_dense(images, "gev", attributes={"patch": patch})


@torch.no_grad()
def parity(model: OnnxModel, graph: Graph) -> float:
    """The largest difference between a file and the library's own way, `encode_cms8`, `tokenize`
    and the graph's model, in units of `TOLERANCE`."""
    model.grid, model.keep, worst = graph.grid, graph.keep, 0.0
    for jets in examples(graph.grid, model.kind):
        found = model(feed(model, jets.hits(slice(None))))
        seen = jets if model.kind != "frame" else (
            transformed(jets, lambda hits: hits, encoding="cms8"))
        logits, mass = graph.model(seen.batch(slice(None), graph.keep).tokens)
        wanted = [logits.softmax(-1)] + ([] if mass is None else [mass.unsqueeze(-1)])
        if len(found) != len(wanted):
            return np.inf
        for a, b in zip(found, map(to_numpy, wanted)):
            difference = np.abs(a - b) / np.maximum(1, np.abs(b)) / TOLERANCE
            worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max()))
    return worst


def check(path: Path | str) -> list[str]:
    """What CMSSW asks of a file, anyone's, tried on it: lines to print. ValueError with the reasons
    where it breaks the contract: types, batch, a second file, answers not finite or not alone."""
    model, written = OnnxModel(path), onnx.load(path, load_external_data=False)
    opset = max(o.version for o in written.opset_import if o.domain in ("", "ai.onnx"))
    faults = ["its weights are in another file"] * any(
        t.data_location == onnx.TensorProto.EXTERNAL for t in written.graph.initializer)
    for value in (*model.session.get_inputs(), *model.session.get_outputs()):
        if value.type != "tensor(float)":
            faults.append(f"{value.name} is no float32")
        if len(value.shape) < 2 or isinstance(value.shape[0], int):
            faults.append(f"{value.name} is {value.shape}: batch first, and another dimension")
    if model.grid is None and not faults:
        shape = model.session.get_inputs()[0].shape[1:]
        require(len(shape) == 3 and all(isinstance(size, int) for size in shape), path,
                "without metadata it has to take images of a fixed size")
        model.grid = Grid(*shape, 5, 5)
    for jets in [] if faults else examples(model.grid, model.kind):
        together = model(feed(model, jets.hits(slice(None))))
        alone = [model(feed(model, jets.hits([number]))) for number in range(len(jets))]
        for a, b in zip(together, map(np.concatenate, zip(*alone))):
            if not np.isfinite(a).all():
                faults.append("an answer is not finite")
            elif not np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE):
                faults.append("the answer for a jet depends on the others of its batch")
    require(not faults, path, "; ".join(dict.fromkeys(faults)))
    readers = [name for top, ir, name in RELEASES if opset <= top and written.ir_version <= ir]
    return [f"{path}: opset {opset}, IR {written.ir_version}, input {model.kind}, "
            f"{Path(path).stat().st_size / 1e6:.2f} MB",
            f"read by CMSSW {readers[0]} and later" if readers else "no release of CMSSW reads it",
            "batches of 1, 2, 3 and 7, and images from empty to full, agree jet by jet"]
