"""Files of DigiOccupancy maps, good and bad, and which cells are read out."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import torch

from hcal.events import estimate_events
from hcal.findings import KINDS, judge
from hcal.maps import LIVE, RUNS, HcalMaps, find, live_cells, load
from hcal.simulation import simulate
from lib.files import DataError
from lib.profiles import ROOT

A, B = RUNS


@pytest.fixture(scope="module")
def maps() -> dict[int, HcalMaps]:
    return {run: simulate(run, 20, seed=1) for run in RUNS}


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint16"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_files_of_any_number_type_are_read(tmp_path, maps, dtype, suffix):
    counts = maps[A].counts[:3].round().numpy().astype(dtype)
    path = tmp_path / f"Run355456_Dataset_iEta_iPhi{suffix}"
    np.save(path, counts) if suffix == ".npy" else np.savez_compressed(path, counts)
    read = load(find(tmp_path, A))
    np.testing.assert_array_equal(read.counts, counts)
    assert read.labels.tolist() == [0, 0, 0]
    assert torch.equal(read.live, LIVE)


def test_a_single_map_and_a_run_never_seen(tmp_path, maps):
    np.save(tmp_path / "map.npy", maps[A].counts[0].numpy())
    read = load(tmp_path / "map.npy")
    assert read.shape == (1, 64, 72)
    assert (len(read), read.labels) == (1, None)
    assert read.batch([0]).label is None
    assert 1400 < float(estimate_events(read)) < 1850


def test_every_published_name_is_found(tmp_path):
    for name in ("Run357479.npz", "Run357479_Dataset.npz", "Run357479.npy",
                 "Run357479_Dataset_iEta_iPhi.npy"):
        (tmp_path / name).touch()
        assert find(tmp_path, B).name == name  # each is preferred to the ones before
    with pytest.raises(DataError, match="no maps of run 355456; put one of Run355456_Dataset"):
        find(tmp_path, A)


def test_of_several_arrays_in_an_npz_the_one_with_maps_is_read(tmp_path, maps):
    counts, path = maps[A].counts[:2].numpy(), tmp_path / "run.npz"
    np.savez(path, live=LIVE.numpy(), labels=np.zeros(2), maps=counts)
    np.testing.assert_array_equal(load(path).counts, counts)
    np.savez(path, first=counts, second=counts)
    with pytest.raises(DataError, match="2 of the arrays first, second"):
        load(path)
    np.savez(path, labels=np.zeros(2), other=np.zeros(3))
    with pytest.raises(DataError, match="none of the arrays labels, other"):
        load(path)


LAYOUTS = {"sections last": (lambda c: np.moveaxis(c, 0, 2), "ieta x iphi x lumi-sections"),
           "a channel first": (lambda c: c[:, None], "without its axes of one entry"),
           "a channel last": (lambda c: c[..., None], "without its axes of one entry"),
           "big-endian": (lambda c: c.astype(">f8"), ""), "int16": (lambda c: c.astype(">i2"), ""),
           "Fortran order": (np.asfortranarray, "")}


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_common_layouts_are_read_and_what_is_assumed_is_said(tmp_path, maps, name, suffix):
    change, said = LAYOUTS[name]
    counts, path = maps[A].counts[:3].round().numpy(), tmp_path / f"maps{suffix}"
    np.save(path, change(counts)) if suffix == ".npy" else np.savez(path, change(counts))
    read = load(path)
    np.testing.assert_array_equal(read.counts, counts)
    assert said in " ".join(read.assumed)
    assert bool(said) == bool(read.assumed)


def test_an_array_is_named_by_its_key_or_has_a_usual_name(tmp_path, maps):
    counts, path = maps[A].counts[:2].numpy(), tmp_path / "both.npz"
    np.savez(path, run355456=counts[0], run357479=counts[1])
    np.testing.assert_array_equal(load(f"{path}:run357479").counts, counts[1:])
    with pytest.raises(DataError, match="none of the arrays run355456, run357479"):
        load(f"{path}:run3")
    np.savez(path, Occupancy=counts, reference=2 * counts)
    read = load(path)
    np.testing.assert_array_equal(read.counts, counts)
    assert "the maps are Occupancy" in read.assumed[0]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("one", [False, True])
def test_masks_fit_their_maps_and_hide_few_cells(tmp_path, maps, last, one):
    counts, path = maps[A].counts[:4].numpy(), tmp_path / "masked.npz"
    mask = np.zeros(counts.shape, bool)
    mask[:, 5, 10] = True
    turn = (lambda array: np.moveaxis(array, 0, -1)) if last else (lambda array: array)
    np.savez(path, data=turn(counts), mask=mask[0] if one else turn(mask))
    read = load(path)
    assert read.declared.nonzero().tolist() == [[5, 10]]
    assert "numpy.ma" in read.assumed[0]
    np.savez(path, data=turn(counts), mask=~mask[0] if one else turn(~mask))
    with pytest.raises(DataError, match="most live cells hold no number"):
        load(path)
    np.savez(path, data=turn(counts), mask=mask[:, :5])
    with pytest.raises(DataError, match="does not fit the maps"):
        load(path)


REAL = ROOT.parent / "shared" / "data" / "hcal_mean_maps.npz"


@pytest.mark.skipif(not REAL.is_file(), reason="the published mean maps are not here")
@pytest.mark.parametrize("run", RUNS)
def test_published_mean_maps_are_read_and_judged(run):
    maps = load(f"{REAL}:run{run}")
    mean = simulate(run, 300, seed=3, low_statistics=False).counts.mean(0)
    ratio = (maps.counts[0] / mean)[LIVE]
    assert 0.95 < float(ratio.median()) < 1.05
    found = judge(maps)
    assert found.live.sum() == 932
    assert (found.kind > 0).sum() <= 10
    assert not (found.kind == KINDS.index("dead")).any()


def _spoilt(counts: np.ndarray, value: float) -> np.ndarray:
    counts = counts.copy()
    counts[1, 3, 4] = value
    return counts


BAD = {
    "ieta and iphi swapped": (lambda c: c.swapaxes(1, 2), "swapped (numpy.swapaxes"),
    "swapped, a single map": (lambda c: c[0].T, "swapped (numpy.swapaxes"),
    "either way": (lambda c: np.moveaxis(c.repeat(22, 0)[:64], 0, 2), "swapped"),
    "another geometry": (lambda c: c[:, :63], "no set of maps"),
    "a table": (lambda c: c.reshape(3, -1), "no set of maps"),
    "no maps": (lambda c: c[:0], "holds no maps"),
    "negative counts": (lambda c: _spoilt(c, -1), "map 1, row 3, column 4 is negative"),
    "NaN": (lambda c: _spoilt(c, np.nan), "map 1, row 3, column 4 is no finite number"),
    "infinity": (lambda c: _spoilt(c, np.inf), "is no finite number"),
    "no counts": (lambda c: _spoilt(c, 1e30), "is no count"),
    "all zero": (lambda c: 0 * c, "not a single count in 3 maps"),
    "complex": (lambda c: c + 0j, "values of type complex128"),
    "text": (lambda c: c.astype(str), "values of type <U"),
    "booleans": (lambda c: c > 0, "values of type bool"),
}


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("name", BAD)
def test_bad_maps_are_refused_in_one_line(tmp_path, maps, name, suffix):
    spoil, why = BAD[name]
    path = tmp_path / f"maps{suffix}"
    array = spoil(maps[A].counts[:3].double().numpy())
    np.save(path, array) if suffix == ".npy" else np.savez(path, array)
    with pytest.raises(DataError, match=re.escape(why)) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_damaged_files_are_refused_in_one_line(tmp_path, maps, suffix):
    path = tmp_path / f"maps{suffix}"
    with pytest.raises(DataError, match="no such file"):
        load(path)
    whole = tmp_path / f"whole{suffix}"
    counts = maps[A].counts[:3].numpy()
    np.save(whole, counts) if suffix == ".npy" else np.savez_compressed(whole, counts)
    objects = tmp_path / f"objects{suffix}"
    array = np.array([{"a": 1}], dtype=object)
    np.save(objects, array) if suffix == ".npy" else np.savez(objects, array)
    data = whole.read_bytes()
    wrong = bytearray(data)
    wrong[len(data) // 3:len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    contents = [b"", b"no array", data[:50], data[:len(data) // 2], pickle.dumps([1, 2])]
    for content in contents + [bytes(wrong)] * (suffix == ".npz"):  # that has a checksum
        path.write_bytes(content)
        with pytest.raises(DataError, match="is damaged, or no") as caught:
            load(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="pickled objects, which are never loaded"):
        load(objects)


def test_fewer_live_cells_are_findings_unless_the_reference_lacks_them(tmp_path, maps):
    counts = maps[A].counts[:4].clone()
    counts[:, 3:5] = 0  # two rings dead
    np.save(tmp_path / "maps.npy", counts.numpy())
    read = load(tmp_path / "maps.npy")
    assert int(read.live.sum()) == 932
    tokens = read.patches(1, 72).batch([0]).tokens
    assert 3 in tokens.position[0].tolist()  # nothing counts there, and the model sees it
    other = read.with_(live=live_cells(counts))
    assert int(other.live.sum()) == 932 - 72
    assert 3 not in other.patches(1, 72).batch([0]).tokens.position[0].tolist()


def test_live_cells_are_robust(maps):
    reference = maps[B].counts[:20].clone()
    reference[:5] = 0  # the detector was off
    reference[7, 20, :] = 3  # spurious counts, once
    reference[:, 30, 30] = 1  # a noisy channel that is none
    reference[9, 3, 4] = 0  # a cell off for a while
    assert torch.equal(live_cells(reference), LIVE)
    assert torch.equal(live_cells(maps[B].counts[:1]), LIVE)
    with pytest.raises(DataError, match="not a single count"):
        live_cells(torch.zeros(2, 64, 72))
