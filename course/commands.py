"""The command line: ``python -m lib COMMAND --help``.

One table: a command, the function that it calls, its arguments, which are that function's
parameters. The function is imported when it runs, so that ``--help`` is quick. What a user can get
wrong ends in one line on stderr and exit code 2."""

import argparse
import json
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib import profiles

Argument = tuple[tuple[str, ...], dict[str, Any]]


def arg(*names: str, **settings: Any) -> Argument:
    """Names and settings of one argument, as ``ArgumentParser.add_argument`` takes them."""
    return names, settings


def positive(text: str) -> int:
    """A number of things."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


PROFILE = arg("--profile", default="laptop", help="smoke, laptop (default) or full")
DATA = arg("--data", default="simulated", help="simulated (default) or cms: the public files")
SCHEDULER = arg("--scheduler", metavar="ADDRESS",
                help="of a dask cluster that does the work, e.g. tcp://HOST:8786 (DATA.md)")
OUT = arg("--out", type=Path, required=True, metavar="F", help="the file to write")
FROM_TO = [arg("source", type=Path, metavar="SRC"), arg("target", type=Path, metavar="DST")]

# What the function returns is printed; a whole number is the exit code. ``profile`` and ``data``
# together become the Profile, ``scheduler`` goes into the environment (``lib.workers``); a default
# that depends on the environment is a function.
COMMANDS: dict[str, tuple[str, str, list[Argument]]] = {
    "simulate": ("collider.simulate:simulate", "simulate jets into a file", [
        arg("process", choices=["top_qcd", "quark_gluon"]),
        arg("--jets", type=positive, required=True, metavar="N"), OUT,
        arg("--shard", metavar="K/N", help="only part K of N, as a file in the folder --out; any "
                                           "hosts make the parts, and `pack` merges them"),
        arg("--seed", type=int, default=1, metavar="S", help="the same seed gives the same file"),
        arg("--workers", type=positive, metavar="W", help="processes (default: one a core)"),
        SCHEDULER,
        arg("--encoding", choices=["cms8", "gev"],
            help="8-bit scaling, or energies in GeV (default: that of the public files)"),
        arg("--dense", action="store_true", help="the public layout instead of the packed one"),
        arg("--unlabelled", dest="labelled", action="store_false", help="without Y, m and pT"),
        arg("--pool", choices=["train", "test"], default="train", help="of pile-up collisions"),
        arg("--pool-events", type=positive, metavar="N", help="its size (default: 3000)"),
        arg("--pile-up", type=float, metavar="MEAN", help="collisions an event, without spread"),
        arg("--pile-up-removal", choices=["none", "chs"], default="none", help="from the jets"),
        arg("--detector", choices=["nominal", "varied"], default="nominal",
            help="varied: more noise, more material, worse tracks")]),
    "download": ("course.download:download", "fetch the public CMS files", [
        arg("which", choices=["labelled", "unlabelled", "all"]),
        arg("--sample", type=positive, metavar="N", help="only N jets, by range requests"),
        arg("--out", dest="folder", type=Path, metavar="DIR", help="folder (default: data/cms)",
            default=lambda: profiles.get("laptop", "cms").data_dir)]),
    "pack": ("collider.shards:pack", "pack a dense or parquet file, or merge shards", [
        arg("sources", nargs="+", type=Path, metavar="SRC",
            help="SRC DST; the public .parquet files of quark and gluon jets, DST; or all shards"),
        arg("--out", type=Path, metavar="DST", help="the file that shards become"),
        arg("--encoding", choices=["cms8", "gev"],
            help="that of a file that does not declare it (default: cms8)")]),
    "unpack": ("lib.data.store:unpack", "write the dense public layout of a packed file",
               FROM_TO),
    "inspect": ("course.contents:inspect", "say what a file of jets holds", [
        arg("path", type=Path, metavar="FILE")]),
    "closure": ("collider.closure:main", "how far the simulated jets are from those of a file", [
        arg("file", type=Path, metavar="FILE", help="jets, such as download --sample 200 fetches"),
        PROFILE, DATA]),
    "train": ("course.models:train", "train the model of a profile, or load it from the cache", [
        arg("name", metavar="NAME",
            help="simclr, mae, dae, jepa (pretraining), finetune, scratch, patient (notebook 14); "
                 "r1_simclr, r1_mae, r1_finetune, r1_scratch with R1's own numbers; vit, moe_vit: "
                 "the published models of HCAL runs; a row of lib.training.zoo (softmax, none, "
                 "...), or an attention of yours as module:Class; another word names a run from "
                 "scratch"),
        PROFILE, DATA, arg("--seed", type=int, default=0, metavar="S"),
        arg("--file", type=Path, nargs="+", metavar="F",
            help="jets of your own, with labels, except for pretraining; or HCAL maps: "
                 "Run355456*.npy Run357479*.npy, or their folder"),
        arg("--start", metavar="RUN",
            help="finetune, patient: the pretrained run or weights, such as weights/simclr"),
        arg("--updates", type=positive, metavar="N", help="of the optimiser; the default of this "
                                                          "and the next three is the recipe's"),
        arg("--lr", type=float, metavar="RATE", help="the peak of the learning rate"),
        arg("--batch-size", type=positive, metavar="N", help="jets an update"),
        arg("--labels", type=positive, metavar="N", help="train on so many labelled jets"),
        arg("--devices", type=positive, default=1, metavar="N",
            help="GPUs, or processes on CPUs, that share each batch; none with torchrun or srun, "
                 "which start them")]),
    "evaluate": ("course.models:evaluate", "metrics of runs, with intervals", [
        arg("names", nargs="+", metavar="RUN", help="a folder of runs/, or its name"),
        PROFILE, DATA, arg("--file", type=Path, nargs="+", metavar="F",
                           help="default: the test jets, or the test maps of HCAL"),
        arg("--out", type=Path, metavar="predictions.npz"),
        arg("--figures", type=Path, metavar="DIR", help="draw confusion matrices, ROC with bands, "
                                                        "mass, response and training curves")]),
    "verify": ("course.weights:verify", "evaluate the published weights again", [
        arg("--folder", type=Path, metavar="DIR", default=lambda: profiles.home() / "weights",
            help="default: weights/")]),
    "predict": ("course.models:predict", "scores and masses for the jets of a file", [
        arg("run", metavar="RUN", help="a folder of runs/ or weights/"),
        arg("--file", type=Path, required=True, metavar="F"), OUT]),
    "export": ("course.models:export", "write a model as an ONNX file, or check such a file", [
        arg("run", nargs="?", metavar="RUN", help="a folder of runs/ or weights/"),
        arg("out", nargs="?", type=Path, metavar="model.onnx"), PROFILE, DATA,
        arg("--check", type=Path, metavar="F", help="check a file, with RUN against its weights"),
        arg("--input", dest="kind", choices=["frame", "image", "tokens"],
            help="frame: physical units, 8-bit scaling in the graph; image: as in files; tokens"),
        arg("--opset", type=positive, default=18, metavar="N", help="18; 15 up to CMSSW 13_0"),
        arg("--target", default="mass", metavar="NAME", help="of the second head (mass)"),
        arg("--int8", action="store_true", help="8-bit weights, and what they change"),
        arg("--file", type=Path, metavar="F", help="jets for --int8 (default: the test jets)")]),
    "score-hcal": ("hcal.command:score", "find sick channels in HCAL DigiOccupancy maps", [
        arg("maps", type=Path, metavar="MAPS",
            help=".npy, .npz or FILE.npz:KEY; (N, 64, 72), (64, 72) or (64, 72, N) counts of one "
                 "run; NaN or masked: dead"),
        arg("--reference", type=Path, metavar="HEALTHY",
            help="healthy maps of the same detector, best under the same conditions "
                 "(default: each cell is judged by its ring and its mirror image)"),
        arg("--out", type=Path, required=True, metavar="SCORES",
            help="the .npz to write; a map of the detector is drawn beside it"),
        arg("--threshold", type=float, default=3.0, metavar="T",
            help="log odds above which a cell is suspicious (default: 3, 20 to 1)")]),
    "report": ("course.paper:report", "tables, README and main.pdf from the results", [
        arg("--check", action="store_true",
            help="list published results that are stale or made by uncommitted code"),
        PROFILE, DATA]),
    "course": ("course.course:run", "run the notebooks in order, then the report", [
        PROFILE, DATA,
        arg("--only", action="append", metavar="NN",
            help="one notebook; may be given several times"),
        arg("--from", dest="start", metavar="NN", help="this notebook and those after it"),
        arg("--grids", action="store_true", help="also run the grids: hours on two cores"),
        SCHEDULER,
        arg("--fresh", action="store_true", help="ignore the cache: simulate and train again"),
        arg("--publish", action="store_true", help="refresh notebooks/*.ipynb from this run"),
        arg("--submission", nargs="?", const="all", metavar="NN",
            help="each executed notebook, or only NN, also as a PDF"),
        arg("--check", action="store_true", help="only check these options"),
        arg("--notebooks", dest="folder", type=Path, default=profiles.ROOT / "notebooks",
            help=argparse.SUPPRESS)]),
    "doctor": ("course.doctor:main", "check the environment", []),
    "bench": ("course.bench:main", "training speed against the published dense model", [
        PROFILE, DATA, arg("--file", type=Path, metavar="F", help="default: the labelled jets"),
        arg("--rounds", type=positive, default=5, metavar="N"),
        arg("--device", choices=["auto", "cpu", "cuda"], default="auto"),
        arg("--scaling", action="store_true",
            help="instead: time and memory of every attention, 64 to 16,384 tokens; resumable"),
        arg("--processes", type=positive, default=1, metavar="N",
            help="instead: training by N processes against one, of one thread each")]),
}


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="python -m lib", description="Jets in Linear Time: data, models and report.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, text, arguments) in COMMANDS.items():
        added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        for names, settings in arguments:
            added.add_argument(*names, **settings)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = vars(build_parser().parse_args(arguments))
    command = options.pop("command")
    options = {name: value() if callable(value) else value for name, value in options.items()}
    if address := options.pop("scheduler", None):
        os.environ["JETS_SCHEDULER"] = address  # for the kernels of notebooks as well
    try:
        if "data" in options:
            options["profile"] = profiles.get(options["profile"], options.pop("data"))
        found = pkgutil.resolve_name(COMMANDS[command][0])(**options)
    except (ValueError, OSError, MemoryError, ArithmeticError, RuntimeError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, MemoryError) or "memory" in message:
            message = f"not enough memory ({message:.200}); close other programs or take fewer jets"
        elif isinstance(error, RuntimeError) and type(error) is not RuntimeError:
            raise  # a mistake of ours
        if isinstance(error, OSError) and error.filename and error.strerror:
            message = f"{error.filename}: {error.strerror}; check this path and who may write there"
        print(f"python -m lib {command}: {message}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"python -m lib {command}: needs the package {error.name}: run ./run_all.sh --setup, "
              "then .venv/bin/python -m lib", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\npython -m lib {command}: interrupted", file=sys.stderr)
        return 130
    if isinstance(found, int):
        return found
    if isinstance(found, dict):
        found = json.dumps(found, indent=2, default=str)
    for line in found if isinstance(found, list) else [found]:
        if isinstance(line, str | Path):
            print(line)
    return 0
