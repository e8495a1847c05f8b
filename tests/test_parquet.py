"""The public quark and gluon files: parquet, a row group a jet, `X_jets` as nested lists."""

import json
import tracemalloc

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collider import course, shards
from course.commands import main
from lib import profiles
from lib.data.images import JetImages
from lib.files import DataError


def images(labels, gluon, seed=0):
    """Jets (n, 3, 125, 125): twice as many tracks near the axis where the label is `gluon`."""
    rng = np.random.default_rng(seed)
    made = np.zeros((len(labels), 3, 125, 125), np.float32)
    for jet, label in zip(made, labels, strict=True):
        tracks = rng.integers(50, 75, (2, 30 if label == gluon else 12))
        jet[0][tuple(tracks)] = rng.exponential(2, tracks.shape[1]).astype(np.float32)
        jet[1, 50:65, 50:65] = rng.normal(0.1, 0.3, (15, 15))
        jet[2, 60:65, 60:65] = 0.133
        jet[2, 0:5, 0:5] = -0.001
    return made


def public(path, jets, labels, one_group=False, **changes):
    """A file as the public ones are: float64, one row group a jet."""
    count = len(jets)
    columns = {"X_jets": list(map(np.ndarray.tolist, jets)), "pt": np.linspace(70.4, 337.1, count),
               "m0": np.linspace(5, 60, count), "y": np.asarray(labels, float)} | changes
    table = pa.table({name: pa.array(list(map(plain, values)))
                      for name, values in columns.items() if values is not None})
    pq.write_table(table, path, compression="snappy", row_group_size=count if one_group else 1)
    return path


def plain(value):
    return value.tolist() if hasattr(value, "tolist") else value


LABELS = [0, 1] * 10


@pytest.mark.parametrize("gluon", [0, 1])
@pytest.mark.parametrize("one_group", [False, True])
def test_pixels_columns_and_sign_arrive(tmp_path, capsys, gluon, one_group):
    made = images(LABELS, gluon)
    path = public(tmp_path / "a.parquet", made, LABELS, one_group)
    assert main(["pack", str(path), str(tmp_path / "a.h5")]) == 0
    said = capsys.readouterr().out
    assert f"y = {gluon} is the gluon, written as Y = 0" in said
    assert ("labels turned" in said) == (gluon == 1)
    jets = JetImages.open(tmp_path / "a.h5")
    assert (jets.shape, jets.encoding, jets.grid.patches) == ((3, 125, 125), "gev", 625)
    assert np.array_equal(jets.dense(slice(None)).numpy(), made)  # negative noise as well
    is_gluon = np.array(LABELS) == gluon
    assert np.array_equal(jets.labels.numpy(), (~is_gluon).astype(int))
    assert (jets.pt[0], jets.mass[-1]) == (np.float32(70.4), 60)
    parts = jets.split()  # 80/10/10
    assert list(map(len, parts)) == [16, 2, 2]


def test_files_are_judged_one_by_one_and_make_one(tmp_path):
    files = [public(tmp_path / f"{gluon}.parquet", images(LABELS, gluon, seed), LABELS)
             for seed, gluon in enumerate((0, 1))]
    packed = shards.pack([*files, tmp_path / "all.h5"])
    jets = JetImages.open(packed)
    assert jets.labels.tolist() == LABELS + [1 - label for label in LABELS]
    tracks = (jets.dense(slice(None))[:, 0] != 0).sum((1, 2)).numpy()
    assert tracks[jets.labels == 1].max() < tracks[jets.labels == 0].min()
    with h5py.File(packed) as file:
        assert json.loads(file.attrs["provenance"])["files"] == ["0.parquet", "1.parquet"]


def test_a_lone_particles_mass_is_let_through(tmp_path):
    masses = np.linspace(5, 60, len(LABELS))
    masses[:2] = 0, -1e-6
    path = public(tmp_path / "a.parquet", images(LABELS, 1), LABELS, m0=masses)
    assert JetImages.open(shards.pack([path], tmp_path / "a.h5")).mass[:2].tolist() == [
        pytest.approx(1e-3)] * 2


def spoiled(number, channel, value):
    made = images(LABELS, 1)
    made[number, channel, 3, 3] = value
    return dict(jets=made)


@pytest.mark.parametrize(("changes", "said"), [
    (spoiled(7, 1, np.nan), "image 7 holds NaN or infinite pixels; mend"),
    (spoiled(19, 2, np.inf), "image 19 holds NaN or infinite pixels"),
    (spoiled(3, 0, -1), "image 3 holds negative pixels in channel 0"),
    (dict(jets=images(LABELS, 1)[:, :2]), "not nested lists of 3 × 125 × 125"),
    (dict(jets=images(LABELS, 1).transpose(0, 2, 3, 1)), "not nested lists of 3 × 125 × 125"),
    (dict(X_jets=[1.0] * 20), "not nested lists of 3 × 125 × 125"),
    (dict(X_jets=None), r"has no column X_jets \(it has pt, m0, y\); give the public"),
    (dict(m0=None, pt=None), r"has no column m0, pt \(it has X_jets, y\)"),
    (dict(y=[1.0] * 20), "all jets are of one class; give a file with both"),
    (dict(y=[1, 2] * 10), r"the labels `Y` hold \[1\.0, 2\.0\]|the labels `Y` hold \[1, 2\]"),
    (dict(y=[0.0, None] * 10), "`Y` holds something that is not a finite number"),
    (dict(y=[0, 1, 1, 0] * 5), "which is the gluon cannot be told; give a file of more jets"),
    (dict(pt=[-3.0] * 20), "`pT` goes from -3 to -3"),
    (dict(m0=[[1.0]] * 20), "`m` holds something that is not a finite number")])
def test_what_cannot_be_used_is_refused_in_one_line_and_leaves_nothing(tmp_path, changes, said):
    changes = {"jets": images(LABELS, 1), **changes}
    path = public(tmp_path / "bad.parquet", changes.pop("jets"), LABELS, **changes)
    with pytest.raises(DataError, match=rf"bad\.parquet: .*({said})") as error:
        shards.pack([path, tmp_path / "out.h5"])
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.parquet"]


def test_files_that_are_cut_off_damaged_or_empty(tmp_path):
    whole = public(tmp_path / "a.parquet", images(LABELS, 1), LABELS).read_bytes()
    path = tmp_path / "cut.parquet"
    for content in (whole[:len(whole) // 2], whole[:-3], b"PAR1" + bytes(3000),
                    whole[:5000] + b"\xff" * 5000 + whole[10_000:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cut\.parquet: is damaged.*fetch it again"):
            shards.pack([path, tmp_path / "out.h5"])
    with pytest.raises(DataError, match="holds no jets"):
        shards.pack([public(path, images([], 1), []), tmp_path / "out.h5"])
    assert not (tmp_path / "out.h5").exists()
    with pytest.raises(DataError, match="is parquet, not an HDF5 file; python -m lib pack"):
        JetImages.open(path)


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(count):
        labels = [0, 1] * (count // 2)
        path = public(tmp_path / f"{count}.parquet", images(labels, 1), labels)
        tracemalloc.start()
        shards.pack([path, tmp_path / "out.h5"])
        most = tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes()
        tracemalloc.stop()
        return most

    assert peak(128) < 1.3 * peak(64)


def test_the_course_packs_the_public_files_once(tmp_path, monkeypatch):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    profile = profiles.get("smoke", "cms")
    with pytest.raises(DataError, match=r"quark_gluon: holds no public file.*RH1all_jet0"):
        course.course_files(profile, "quark_gluon")
    folder = profile.data_dir / "quark_gluon"
    folder.mkdir(parents=True)
    source = public(folder / "QCDToGGQQ_IMGjet_RH1all_jet0_run0_n40.test.snappy.parquet",
                    images(LABELS, 1), LABELS)
    for _ in range(2):
        data = course.course_jets(profile, "quark_gluon")
        assert (len(data.train), len(data.validation), len(data.test)) == (16, 2, 2)
        source.unlink(missing_ok=True)
