"""Damaged and hostile files for every reader: how often one answers otherwise than it should.

    python tests/mutate.py --n 5000          # in the repository; some minutes
    python tests/mutate.py --n 300 --seed 7 --only npz

Each file is a good one with a few changes: bits, bytes, blocks, an end that is missing, and what a
hostile or careless writer does, by format: headers that claim gigabytes, other types, links,
deep or wrong JSON. A reader may accept it, or refuse it in one line that names it (ValueError).
Anything else is counted and listed: a foreign exception, a crash, more than ``SECONDS``, more than
``MEGABYTES``. The exit code is 1 if there was any.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import h5py  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

SECONDS, MEGABYTES = 10, 400
Change = Callable[[np.random.Generator, Path], None]
STRANGE = (None, True, -1, 0, 1.5, 1e308, float("nan"), float("inf"), 2**31, 2**63, 10**400, "",
           "\0", "x" * 5000, [], [[]], {}, {"a": None}, [None, "1"], "9" * 30)


# --- changes ----------------------------------------------------------------------------------
def some_bytes(rng: np.random.Generator, path: Path) -> None:
    """Bits, bytes, a block of zeros or noise, numbers blown up, an end cut off or repeated."""
    content = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 4)):
        size = max(len(content), 1)
        # headers are at either end, and small: half of the changes go there
        place = int(rng.integers(size) if rng.random() < 0.5 else
                    rng.choice([-1, 1]) * rng.integers(min(size, 600))) % size
        kind, run = rng.integers(7), int(rng.integers(1, 65))
        if kind == 0:
            if content:
                content[place] ^= 1 << rng.integers(8)
        elif kind == 1:
            content[place:place + run] = rng.bytes(run)
        elif kind == 2:
            content[place:place + run] = bytes(run)
        elif kind == 3:
            number = (2**64 - 1, 2**32, 2**31 - 1, 10**9)[rng.integers(4)]
            content[place:place + 8] = number.to_bytes(8, "little")
        elif kind == 4:
            del content[place:]
        elif kind == 5:
            del content[place:place + run]
        else:
            content[place:place] = content[place:place + run]
    path.write_bytes(content)


def json_values(rng: np.random.Generator, path: Path) -> None:
    """A value replaced, a key lost or renamed, or everything nested too deep."""
    path.write_text(_other_json(rng, path.read_text()))


def _other_json(rng: np.random.Generator, text: str) -> str:
    if rng.random() < 0.05:
        return rng.choice(["[" * 200_000, '{"a":' * 200_000, "9" * 10_000, "", "null", "[]", "{}"])
    root = json.loads(text)
    places = []

    def visit(value: Any) -> None:
        for key in (value if isinstance(value, dict) else range(len(value))
                    if isinstance(value, list) else ()):
            places.append((value, key))
            visit(value[key])

    visit(root)
    for _ in range(rng.integers(1, 3)):
        holder, key = places[rng.integers(len(places))]
        if isinstance(holder, dict) and rng.random() < 0.3 and key in holder:
            held = holder.pop(key)
            if rng.random() < 0.5:
                holder[f"{key}x"] = held
        elif isinstance(holder, dict) or key < len(holder):
            holder[key] = STRANGE[rng.integers(len(STRANGE))]
    return json.dumps(root)


def npz_members(rng: np.random.Generator, path: Path) -> None:
    """A member of an npz of another shape or type, one that lies, is lost, or holds objects."""
    with np.load(path) as file:
        arrays = dict(file)
    name = rng.choice(list(arrays))
    array, kind = arrays[name], rng.integers(9)
    number = int(rng.integers(1, 10**10))
    changed = {
        0: lambda: array.reshape(-1)[:-1], 1: lambda: array[None], 2: lambda: array.astype(str),
        3: lambda: np.array([{}], dtype=object), 4: lambda: np.full_like(array, -1),
        5: lambda: np.where(rng.random(array.shape) < 0.5, np.nan, array),
        6: lambda: array * np.float64(1e300), 7: lambda: array.astype(complex)}
    if kind == 8:
        del arrays[name]
    else:
        with np.errstate(all="ignore"):
            arrays[name] = changed[int(kind)]()
    np.savez_compressed(path, **arrays)
    if arrays and rng.random() < 0.4:  # a header that claims more
        with zipfile.ZipFile(path) as file:
            members = {n: file.read(n) for n in file.namelist()}
        victim = rng.choice(list(members))
        head = (f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({number},), }}".ljust(117)
                + "\n").encode()
        members[victim] = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for member, content in members.items():
                file.writestr(member, content)


def h5_parts(rng: np.random.Generator, path: Path) -> None:
    """A dataset or attribute of an HDF5 file of another type, size, place or value."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = names[rng.integers(len(names))]
        if rng.random() < 0.3:
            values = [*STRANGE[:9], "gev", [8, 125, 125], [1 << 20, 1 << 10, 1], np.ones((70, 70)),
                      b"\xff\xfe", json.dumps({"patch": [0, 1 << 40]}), "[" * 9000]
            key = ("schema", "shape", "encoding", "provenance")[rng.integers(4)]
            value = values[rng.integers(len(values))]
            file.attrs.pop(key, None)
            if value is not None:
                file.attrs[key] = value
            return
        held = file[name]
        shape = held.shape if isinstance(held, h5py.Dataset) else (5,)
        values = held[()] if isinstance(held, h5py.Dataset) else np.ones(5)
        del file[name]
        options = [
            lambda: file.create_dataset(name, (int(rng.integers(1, 10**9)), *shape[1:]), "f4"),
            lambda: file.create_dataset(name, (int(rng.integers(1, 10**9)), *shape[1:]), "i8",
                                        chunks=(1 << 16, *shape[1:]), compression="gzip"),
            lambda: file.create_dataset(name, data=np.array(["a"] * shape[0], dtype=object),
                                        dtype=h5py.string_dtype()),
            lambda: file.create_dataset(name, data=values.astype("f8") * -1),
            lambda: file.create_dataset(name, data=np.full(shape, np.inf, "f4")),
            lambda: file.create_dataset(name, data=values[:-1]),
            lambda: file.create_dataset(name, data=values[..., None]),
            lambda: file.create_dataset(name, data=3.0),
            lambda: file.create_dataset(name, shape, "f4", external=[("/dev/zero", 0, 1 << 40)]),
            lambda: file.create_dataset(name, data=h5py.Empty("f4")),
            lambda: file.create_dataset(name, shape, h5py.vlen_dtype("f4")),
            lambda: file.create_dataset(name, shape, [("a", "f4"), ("b", "i4")]),
            lambda: file.__setitem__(name, np.dtype("f4")),
            lambda: file.__setitem__(name, h5py.SoftLink(f"/{name}")),
            lambda: file.__setitem__(name, h5py.ExternalLink(path.name, name)),
            lambda: file.__setitem__(name, h5py.ExternalLink("/etc/passwd", name)),
            lambda: file.create_group(name), lambda: None]
        options[rng.integers(len(options))]()


def tensors(rng: np.random.Generator, path: Path) -> None:
    """The head of a safetensors file: JSON that says which tensor lies where, and its notes."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    head = json.loads(content[8:8 + size])
    notes = head.get("__metadata__", {})
    if notes and rng.random() < 0.5:
        key = rng.choice(list(notes))
        notes[key] = _other_json(rng, notes[key]) if notes[key][:1] in "[{" else "[1"
        text = json.dumps(head)
    else:
        text = _other_json(rng, json.dumps(head))
    head = text.encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + content[8 + size:])


# --- readers: a good file, what changes it, what reads it ---------------------------------------
class Reader:
    """A folder with good files, one of which is changed; ``read`` gets the changed folder."""

    def __init__(self, victims: dict[str, Change | None], make: Callable[[Path], Any],
                 read: Callable[[Path], Any]) -> None:
        self.victims, self.make, self.read = victims, make, read


def _jets(folder: Path) -> Any:
    from jetfiles import LABELLED, cms

    from lib.data.images import JetImages

    known = {"labels": LABELLED["Y"], "mass": LABELLED["m"], "pt": LABELLED["pT"]}
    jets = JetImages.from_dense(np.moveaxis(cms(density=2e-3), -1, 1), **known,
                                truth={"event": np.arange(5), "mass": np.ones(5, np.float32)})
    jets.save(folder / "jets.h5")
    return jets


def _dense(folder: Path) -> None:
    from lib.data.store import unpack

    _jets(folder)
    unpack(folder / "jets.h5", folder / "dense.h5")
    (folder / "jets.h5").unlink()


def _open(folder: Path) -> None:
    from course.contents import inspect
    from lib.data.images import JetImages

    path = next(folder.glob("*.h5"))
    jets = JetImages.open(path)
    jets.fingerprint(), jets.batch(slice(0, 2)), inspect(path)


def _predictions(folder: Path) -> None:
    from lib.evaluation.metrics import Predictions

    n = np.arange(40)
    Predictions(n, n % 2.0, (n % 7) / 7, 100.0 + n, 101.0 + n).save(folder / "p.npz")


def _summary(folder: Path) -> None:
    from lib.evaluation import metrics

    metrics.summary(metrics.Predictions.load(folder / "p.npz"))


def _maps(folder: Path) -> None:
    from hcal.maps import LIVE

    np.savez_compressed(folder / "maps.npz", maps=np.full((6, 64, 72), 900) * LIVE.numpy())


def _load_maps(folder: Path) -> None:
    from hcal.maps import load

    load(folder / "maps.npz")


def _map_array(folder: Path) -> None:
    from hcal.maps import LIVE

    np.save(folder / "maps.npy", 900 * np.ones((3, 64, 72)) * LIVE.numpy())


def _load_array(folder: Path) -> None:
    from hcal.maps import load

    load(folder / "maps.npy")


def _model() -> Any:
    from lib.models.vit import JetViT, ViTConfig

    return JetViT(ViTConfig(dim=8, depth=1, heads=2))


def _load_model(folder: Path) -> None:
    from lib.models.vit import JetViT

    JetViT.from_pretrained(folder)


def _checkpoint(folder: Path) -> None:
    _train(folder)


def _train(folder: Path) -> Any:
    from lib.data.images import JetImages
    from lib.training import runs
    from lib.training.recipe import Recipe

    data = folder.parent / "training.h5"
    if not data.exists():
        from jetfiles import cms
        JetImages.from_dense(np.moveaxis(cms(20, density=2e-3), -1, 1), labels=np.arange(20) % 2,
                             mass=np.arange(20) + 100).save(data)
    recipe = Recipe.of({"model": {"dim": 8, "depth": 1, "heads": 2},
                        "fit": {"updates": 4, "every": 2}})
    return runs.train("run", recipe, data, runs=folder, log=lambda line: None)


def _resume(folder: Path) -> None:
    """Goes on from the checkpoint, as the loop does when a run was killed."""
    from lib.training import runs

    [run] = folder.glob("run-*")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"finished": False}))
    (run / "history.json").unlink()
    _train(folder)
    runs.Run.open(run)


def _use_run(folder: Path) -> None:
    from lib.data.images import JetImages
    from lib.training.runs import Run

    [path] = folder.glob("run-*")
    run = Run.open(path)
    assert len(run.predict(JetImages.open(folder.parent / "training.h5"))) == 20
    assert run.parameters + run.train_seconds + run.labels + run.recipe.fit.updates > 0


def _results(folder: Path) -> None:
    from lib import profiles
    from lib.evaluation.metrics import Predictions
    from lib.report.results import Experiment

    os.environ["JETS_HOME"] = str(folder)
    n = np.arange(40)
    results = Experiment("02_sparsity", profiles.get("laptop"))
    results.add_run("one", Predictions(n, n % 2.0, (n % 7) / 7), seed=0)
    results.values["zeros"] = 0.9
    results.save()


def _report(folder: Path) -> None:
    from course import tables
    from lib import profiles
    from lib.report import results

    os.environ["JETS_HOME"] = str(folder)
    profile = profiles.get("laptop")
    results.load("02_sparsity", profile), results.load_predictions("02_sparsity", profile)
    tables.numbers(profile)


def _pool(folder: Path) -> None:
    from collider import events
    from collider.particles import Particles

    n = np.arange(1, 31.0)
    particles = Particles(*[n.astype(int) if name == "pdg" else n * 0.1 for name in events.STORED],
                          np.zeros(30, int))
    columns = {name: getattr(particles, name) for name in events.STORED}
    np.savez(folder / "pool.npz", offsets=np.arange(0, 31, 3), **columns)


def _draw(folder: Path) -> None:
    from collider import events

    events.load_pool.cache_clear()
    pool = events.load_pool(folder / "pool.npz")
    pool.draw(3, np.zeros(3), np.random.default_rng(0))


READERS = {
    "packed": Reader({"jets.h5": h5_parts}, _jets, _open),
    "dense": Reader({"dense.h5": h5_parts}, _dense, _open),
    "predictions": Reader({"p.npz": npz_members}, _predictions, _summary),
    "maps npz": Reader({"maps.npz": npz_members}, _maps, _load_maps),
    "maps npy": Reader({"maps.npy": None}, _map_array, _load_array),
    "weights": Reader({"model.safetensors": tensors, "config.json": json_values},
                      lambda folder: _model().save_pretrained(folder), _load_model),
    "checkpoint": Reader({"run-*/last.safetensors": tensors, "run-*/best.safetensors": tensors},
                         _train, _resume),
    "run": Reader({"run-*/run.json": json_values, "run-*/history.json": json_values,
                   "run-*/best.safetensors": tensors, "run-*/predictions-*.npz": npz_members},
                  _train, _use_run),
    "results": Reader({"results/*/02_sparsity.json": json_values,
                       "results/*/02_sparsity.*.npz": npz_members}, _results, _report),
    "pool": Reader({"pool.npz": npz_members}, _pool, _draw),
}


# --- one file, and all of them ------------------------------------------------------------------
def judge(reader: Reader, good: Path, number: int, seed: int) -> str:
    """What a reader does with a damaged copy: accepted, refused, or what it should not."""
    rng = np.random.default_rng([seed, number])
    folder = good.with_name("bad")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    pattern = list(reader.victims)[rng.integers(len(reader.victims))]
    path, special = sorted(folder.glob(pattern))[0], reader.victims[pattern]
    change = special if special and rng.random() < 0.5 else some_bytes
    change(rng, path)
    limit(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(folder)
        return "accepted"
    except ValueError as error:
        named = any(part in str(error) for part in (path.name, path.parent.name, path.stem))
        where = "" if named else _place(error)
        return "refused" if named else f"no name: {type(error).__name__}: {str(error)[:90]} {where}"
    except TimeoutError:
        return f"hang: {change.__name__} {path.name}"
    except MemoryError as error:
        return f"memory: {change.__name__} {path.name} {_place(error)}"
    except Exception as error:
        return f"foreign: {type(error).__name__}: {str(error)[:90]} {_place(error)}"
    finally:
        limit(0)


def limit(seconds: int) -> None:
    """Of the processor, so that a busy machine hangs nobody; of the clock a hundred times that."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(100 * seconds)


def _place(error: BaseException) -> str:
    """The last line of this repository that an exception came through."""
    found, trace = "", error.__traceback__
    while trace:
        path = trace.tb_frame.f_code.co_filename
        if path.startswith(str(ROOT)) and "mutate.py" not in path and ".venv" not in path:
            found = f"{Path(path).relative_to(ROOT)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def work(name: str, numbers: range, seed: int, out: Any) -> None:
    """In a process of its own: one line a file, so that a crash is seen."""
    torch.set_num_threads(1)
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, lambda *_: (_ for _ in ()).throw(TimeoutError))
    with tempfile.TemporaryDirectory() as place:
        good = Path(place) / "good"
        good.mkdir()
        os.environ["JETS_HOME"] = place
        READERS[name].make(good)
        READERS[name].read(shutil.copytree(good, Path(place) / "bad"))  # warm, and indeed good
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (MEGABYTES << 20),) * 2)
        for number in numbers:
            print(judge(READERS[name], good, number, seed), file=out, flush=True)


def apart(name: str, numbers: range, seed: int) -> tuple[int, list[str]]:
    """``work`` in a child that may crash: its exit status, and its lines."""
    inside, outside = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(inside)
            with open(outside, "w") as out:
                work(name, numbers, seed, out)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(outside)
    with open(inside) as answers:
        lines = answers.read().splitlines()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), lines


def tally(n: int, seed: int, only: str = "") -> dict[str, Counter]:
    """What each reader did, ``n`` files over all of them: a table of counts."""
    names = [name for name in READERS if only in name]
    found = {name: Counter() for name in names}
    for place, name in enumerate(names):
        share, first = n // len(names) + (place < n % len(names)), 0
        while first < share:
            status, lines = apart(name, range(first, share), seed)
            found[name].update(lines)
            first += len(lines)
            if status:
                if not lines:
                    raise RuntimeError(f"{name}: no file could be tried, see above")
                found[name][f"crash: exit {status} at {first}"] += 1
                first += 1
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=5000, help="files, over all readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="readers with this in their name")
    options = parser.parse_args()
    wrong = Counter()
    print(f"{'reader':12} {'files':>6} {'accepted':>9} {'refused':>8} {'wrong':>6}")
    for name, counts in tally(options.n, options.seed, options.only).items():
        bad = {what: k for what, k in counts.items() if what not in ("accepted", "refused")}
        print(f"{name:12} {sum(counts.values()):6} {counts['accepted']:9} {counts['refused']:8} "
              f"{sum(bad.values()):6}")
        wrong.update({f"{name}: {what}": k for what, k in bad.items()})
    for what, count in wrong.most_common():
        print(f"{count:5}  {what}")
    print(f"{sum(wrong.values())} of {options.n} answered wrongly")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
