"""Simulation in shards: the same bytes as in one run, and whatever is wrong with one is named."""

import dataclasses
import json
import shlex
import shutil
from concurrent.futures import Executor, Future
from contextlib import nullcontext

import h5py
import numpy as np
import pytest
from test_simulate import make_chunk

from collider import events, shards
from collider import simulate as simulation
from collider.simulate import Settings, holds, simulate
from course.commands import build_parser, main
from lib.data.images import JetImages
from lib.data.store import Chunk
from lib.files import DataError

JETS, SHARDS = 23, 4  # in chunks of 2: twelve, the last one with a single jet
SETTINGS = dict(seed=3, workers=1, progress=False)


def few(number, settings, size):
    """A chunk of the right size, whose content depends on its number and the settings."""
    jets = len(make_chunk(number, settings, size).indptr) - 1
    rng = np.random.default_rng([settings.seed, number])
    pixels = np.sort(rng.choice(125_000, (jets, 50_000)), axis=1).astype(np.int32)
    rows = [np.unique(row) for row in pixels]
    columns = {name: rng.normal(500, 9, jets).astype(np.float32) for name in ("m", "pT")}
    columns |= {"Y": np.float32(np.arange(jets) % 2),
                "truth/event": 1_000_000 * number + np.arange(jets)}
    counts = np.cumsum([0, *map(len, rows)])
    return Chunk(counts, np.concatenate(rows), rng.integers(1, 255, counts[-1]).astype(np.uint8),
                 columns if settings.labelled else {"truth/event": columns["truth/event"]})


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A simulator without Pythia, in chunks of two jets; its folder."""
    monkeypatch.setattr(simulation, "CHUNK", 2)
    monkeypatch.setattr(simulation, "chunk", few)
    monkeypatch.setattr(events, "pile_up_pool", lambda *_: None)
    return tmp_path


def made(folder, only=range(SHARDS, 0, -1), jets=JETS, **changes):
    """Shards by number, made in an order of their own."""
    return {k: simulate("top_qcd", jets, folder, shard=f"{k}/{SHARDS}", **SETTINGS | changes)
            for k in only}


@pytest.mark.parametrize("changes", [{}, {"labelled": False, "pile_up": 31.0, "pool": "test"}])
def test_shards_in_any_order_merge_into_the_bytes_of_one_run(quick, changes):
    whole = simulate("top_qcd", JETS, quick / "whole.h5", **SETTINGS | changes)
    files = made(quick / "shards", **changes)
    assert len({path.name for path in files.values()}) == SHARDS
    merged = shards.merge(list(files.values()), quick / "merged.h5")
    assert merged.read_bytes() == whole.read_bytes()
    jets, settings = JetImages.open(merged), Settings("top_qcd", JETS, seed=3, **changes)
    assert len(set(jets.event.tolist())) == JETS
    assert holds(merged, settings)
    assert not holds(files[1], settings)  # a shard is not taken for the whole
    assert simulate("top_qcd", JETS, quick, shard="1/1", **SETTINGS | changes) != merged


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-200])


def rotten(path):
    """Damage that shows when the images are read, not before."""
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        place = file["jet/indices"].id.get_chunk_info(0)
    content[place.byte_offset + 99:place.byte_offset + 199] = b"\xff" * 100
    path.write_bytes(content)


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda f: f[3].unlink(), "missing: shard 3/4; make it with"),
    (lambda f: cut_off(f[3]), r"-3-of-4\.h5: cut off .*make it with"),
    (lambda f: f[3].write_text("no HDF5"), r"-3-of-4\.h5: not an HDF5 file.*make it with"),
    (lambda f: rotten(f[3]), r"-3-of-4\.h5: .*damaged.*make it again with"),
], ids=["missing", "cut off", "foreign", "damaged"])
def test_a_shard_at_fault_is_named_with_the_command_that_mends_it(quick, capsys, spoil, said):
    folder, out = quick / "shards", quick / "merged.h5"
    changes = {"pile_up": 31.0, "detector": "varied", "labelled": False}
    files = made(folder, **changes)
    whole = simulate("top_qcd", JETS, quick / "whole.h5", **SETTINGS | changes)
    spoil(files)
    given = [str(path) for path in files.values() if path.exists()]
    with pytest.raises(DataError, match=said) as caught:
        shards.pack([*map(type(quick), given)], out)
    assert not out.exists()
    command = str(caught.value).split("`")[1]
    assert main([*shlex.split(command)[3:], "--workers", "1"]) == 0  # as it was said
    given = sorted(str(path) for path in folder.glob("*.h5"))
    assert main(["pack", *given, "--out", str(out)]) == 0
    assert out.read_bytes() == whole.read_bytes()


def test_shards_of_other_simulations_and_doubled_ones_are_named(quick):
    files, other = made(quick / "a"), made(quick / "b", seed=4)
    again = shutil.copy(files[2], quick / "again.h5")
    whole = simulate("top_qcd", JETS, quick / "whole.h5", **SETTINGS)
    for stranger, said in ((other[2], r"seed4-2-of-4\.h5 is of another sim.*seed 4, not 3"),
                           (again, r"-2-of-4\.h5 and .*again\.h5 are the same shard"),
                           (whole, r"whole\.h5 is no shard")):
        with pytest.raises(DataError, match=rf"{said}.*leave .* out$"):
            shards.merge([*files.values(), stranger], quick / "merged.h5")
    for changes in (dict(jets=22), dict(labelled=False), dict(pile_up=9.0)):
        stranger = made(quick / "c", [2], **changes)[2]
        with pytest.raises(DataError, match=f"{next(iter(changes))} .*missing: shard 2/4"):
            shards.merge([files[1], stranger, files[3], files[4]], quick / "merged.h5")
    with h5py.File(files[2], "a") as file:  # another sample's version
        said = json.loads(file.attrs["provenance"])
        file.attrs["provenance"] = json.dumps(said | {"version": said["version"] - 1})
    with pytest.raises(DataError, match=f"version {said['version'] - 1}, not {said['version']}"):
        shards.merge([*files.values()], quick / "merged.h5")
    assert not (quick / "merged.h5").exists()


def test_one_fault_does_not_hide_another(quick):
    files = made(quick / "a")
    cut_off(files[1])
    with pytest.raises(DataError, match=r"1-of-4\.h5: cut off.*missing: shard 1/4, 3/4; make"):
        shards.merge([files[1], files[2], files[4]], quick / "merged.h5")


@pytest.mark.parametrize(("shard", "said"), [
    ("0/4", "from 1 to N"), ("5/4", "from 1 to N"), ("3", "K/N"), ("1/13", "at most 12"),
    ("-1/4", "K/N"), ("a/b", "K/N")])
def test_a_shard_that_cannot_be_is_refused(quick, shard, said):
    with pytest.raises(DataError, match=said):
        simulate("top_qcd", JETS, quick / "x", shard=shard, **SETTINGS)
    assert not list(quick.iterdir())
    with pytest.raises(DataError, match="unpack"):
        simulate("top_qcd", JETS, quick / "x", shard="1/2", dense=True, **SETTINGS)


def test_pack_overwrites_no_shard(quick, capsys):
    """Without --out the last of `DIR/*.h5` would be the file to write."""
    files = made(quick / "a", [1, 2])
    before = [path.read_bytes() for path in files.values()]
    for given in ([*files.values()], [*files.values()] * 2):
        assert main(["pack", *map(str, given)]) == 2
        assert "--out" in capsys.readouterr().err
    assert [path.read_bytes() for path in files.values()] == before


def test_every_setting_is_an_option_of_the_command_line():
    """Else a shard could not be made again as it was."""
    names = {field.name for field in dataclasses.fields(Settings)}
    assert {"process", "labelled", *shards.OPTIONS} == names
    known = vars(build_parser().parse_args(["simulate", "top_qcd", "--jets", "1", "--out", "x"]))
    assert names <= set(known)
    assert Settings(**{name: known[name] for name in names}) == Settings("top_qcd", 1)


class Eager(Executor):
    """Has every result at once, and counts those that nobody has taken yet."""

    waiting = most = 0

    def submit(self, function, *given):
        future, self.waiting = Future(), self.waiting + 1
        self.most = max(self.most, self.waiting)
        future.set_result(function(*given))
        taken, future.result = future.result, lambda: (self.took(), taken())[1]
        return future

    def took(self):
        self.waiting -= 1


def test_chunks_do_not_pile_up_where_writing_is_slow(quick, monkeypatch):
    """100,000 jets are 400 chunks of some 2 MB: few of them may wait in memory."""
    monkeypatch.setattr(simulation, "chunk", make_chunk)
    monkeypatch.setattr(simulation, "AHEAD", 5)
    executor = Eager()
    monkeypatch.setattr(simulation, "processes", lambda count: nullcontext(executor))
    simulate("top_qcd", 100, quick / "x.h5", workers=2, progress=False)
    assert (executor.waiting, executor.most) == (0, 5)
