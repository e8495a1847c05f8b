"""The command line: ``python -m lib COMMAND --help``.

Each command imports what it needs when it runs, so that ``--help`` is quick. What a user can get
wrong ends in one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lib import profiles

Command = Callable[[argparse.Namespace], int | None]


# --- data -----------------------------------------------------------------------------------------


def _simulate(options: argparse.Namespace) -> None:
    from collider.simulate import simulate

    simulate(
        options.process, options.jets, options.out, seed=options.seed, workers=options.workers,
        encoding=options.encoding, dense=options.dense, labelled=not options.unlabelled,
    )


def _download(options: argparse.Namespace) -> None:
    from lib.data.download import download

    folder = options.out or profiles.get("laptop", "cms").data_dir
    for path in download(options.which, folder, sample=options.sample):
        print(path)


def _pack(options: argparse.Namespace) -> None:
    from lib.data.images import pack

    print(pack(options.source, options.target))


def _unpack(options: argparse.Namespace) -> None:
    from lib.data.images import unpack

    print(unpack(options.source, options.target))


def _inspect(options: argparse.Namespace) -> None:
    from lib.data.images import inspect

    print(json.dumps(inspect(options.file), indent=2, default=str))


# --- runs -----------------------------------------------------------------------------------------


def _train(options: argparse.Namespace) -> None:
    from course.models import train

    profile = profiles.get(options.profile, options.data)
    print(train(options.name, profile, seed=options.seed, file=options.file, start=options.start))


def _evaluate(options: argparse.Namespace) -> None:
    from course.models import evaluate

    profile = profiles.get(options.profile, options.data)
    for run, rows in evaluate(options.runs, profile, file=options.file, out=options.out).items():
        print(run)
        for metric, text in rows.items():
            print(f"  {metric:<16} {text}")


def _verify(options: argparse.Namespace) -> int:
    from course import weights

    return weights.verify(options.folder)


def _predict(options: argparse.Namespace) -> None:
    from course.models import predict

    print(predict(options.run, options.file, options.out))


def _score_hcal(options: argparse.Namespace) -> None:
    from hcal.command import score

    score(options.maps, options.out, options.reference, options.threshold)


# --- report and tools -----------------------------------------------------------------------------


def _report(options: argparse.Namespace) -> int:
    from course import paper
    from lib.report import results

    if options.check:
        found = [
            line
            for name in profiles.NAMES if name != "smoke"
            for data in profiles.DATA_CHOICES
            for line in results.check(profiles.get(name, data))
        ]
        print("\n".join(found) if found else "all published results are up to date")
        return 1 if found else 0
    try:
        print(paper.build(profiles.get(options.profile, options.data)))
    except paper.LatexMissing as missing:
        print(f"python -m lib: {missing}", file=sys.stderr)
        return 3
    return 0


def _course(options: argparse.Namespace) -> int:
    from course import course

    return course.run(options)


def _doctor(options: argparse.Namespace) -> int:
    from course import doctor

    return doctor.main()


def _bench(options: argparse.Namespace) -> int | None:
    from course import bench

    return bench.main(options.rest)


# --- the parser -----------------------------------------------------------------------------------


def _with_profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="laptop", help="smoke, laptop (default) or full")
    parser.add_argument("--data", default="simulated", help="simulated (default) or cms")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="python -m lib", description="Jets in Linear Time: data, models and report."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Command, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        added.set_defaults(call=run)
        return added

    add = command("simulate", _simulate, "simulate jets into a file").add_argument
    add("process", choices=["top_qcd", "quark_gluon"])
    add("--jets", type=_positive, required=True, metavar="N")
    add("--out", type=Path, required=True, metavar="F", help="the HDF5 file to write")
    add("--seed", type=int, default=1, metavar="S", help="the same seed gives the same file")
    add("--workers", type=_positive, metavar="W", help="processes (default: one a core)")
    add("--encoding", choices=["cms8", "gev"], default="cms8",
        help="the published 8-bit scaling (default), or energies in GeV")
    add("--dense", action="store_true", help="the public layout instead of the packed one")
    add("--unlabelled", action="store_true", help="without Y, m and pT")

    add = command("download", _download, "fetch the public CMS files").add_argument
    add("which", choices=["labelled", "unlabelled", "all"])
    add("--sample", type=_positive, metavar="N", help="only N jets, by range requests")
    add("--out", type=Path, metavar="DIR", help="folder (default: data/cms)")

    add = command("pack", _pack, "pack a dense file, without loss").add_argument
    add("source", type=Path, metavar="SRC")
    add("target", type=Path, metavar="DST")

    add = command("unpack", _unpack, "write the dense public layout of a packed file").add_argument
    add("source", type=Path, metavar="SRC")
    add("target", type=Path, metavar="DST")

    add = command("inspect", _inspect, "say what a file of jets holds").add_argument
    add("file", type=Path, metavar="FILE")

    added = command("train", _train, "train the model of a profile, or load it from the cache")
    added.add_argument("name", metavar="NAME",
                       help="simclr, mae, dae (pretraining), finetune, scratch, r1_simclr, "
                            "r1_finetune, r1_scratch; another word names a run from scratch")
    _with_profile(added)
    added.add_argument("--seed", type=int, default=0, metavar="S")
    added.add_argument("--file", type=Path, metavar="F",
                       help="jets of your own; with labels, except for pretraining")
    added.add_argument("--start", metavar="RUN",
                       help="finetune: the pretrained run or weights (default: simclr)")

    added = command("evaluate", _evaluate, "metrics of runs, with intervals")
    added.add_argument("runs", nargs="+", metavar="RUN", help="a folder of runs/, or its name")
    _with_profile(added)
    added.add_argument("--file", type=Path, metavar="F", help="default: the test jets")
    added.add_argument("--out", type=Path, metavar="predictions.npz")

    added = command("verify", _verify, "evaluate the published weights again")
    added.add_argument("--folder", type=Path, metavar="DIR", default=profiles.home() / "weights",
                       help="default: weights/")

    added = command("predict", _predict, "scores and masses for the jets of a file")
    added.add_argument("run", metavar="RUN", help="a folder of runs/ or weights/")
    added.add_argument("--file", type=Path, required=True, metavar="F")
    added.add_argument("--out", type=Path, required=True, metavar="F")

    added = command("score-hcal", _score_hcal, "find sick channels in HCAL DigiOccupancy maps")
    added.add_argument("maps", type=Path, metavar="MAPS",
                       help=".npy or .npz, (N, 64, 72) or (64, 72) counts of one run")
    added.add_argument("--reference", type=Path, metavar="HEALTHY",
                       help="healthy maps of the same detector, best under the same conditions "
                            "(default: each cell is judged by its ring and its mirror image)")
    added.add_argument("--out", type=Path, required=True, metavar="SCORES",
                       help="the .npz to write; a map of the detector is drawn beside it")
    added.add_argument("--threshold", type=float, default=3.0, metavar="T",
                       help="log odds above which a cell is suspicious (default: 3, 20 to 1)")

    added = command("report", _report, "tables, README and main.pdf from the results")
    added.add_argument("--check", action="store_true",
                       help="list published results that are stale or made by uncommitted code")
    _with_profile(added)

    from course.course import add_arguments

    add_arguments(command("course", _course, "run the notebooks in order, then the report"))
    command("doctor", _doctor, "check the environment")
    if importlib.util.find_spec("course.bench"):
        # Its options are its own; importing it takes seconds, which --help should not.
        commands.add_parser(
            "bench", help="training speed against the published dense model", add_help=False
        ).set_defaults(call=_bench)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = build_parser()
    options, options.rest = parser.parse_known_args(arguments)
    if options.rest and options.command != "bench":
        parser.error(f"unrecognized arguments: {' '.join(options.rest)}")
    try:
        return options.call(options) or 0
    except (ValueError, OSError, MemoryError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.filename and error.strerror:
            message = f"{error.filename}: {error.strerror}; check this path and who may write there"
        print(f"python -m lib {options.command}: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\npython -m lib {options.command}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
