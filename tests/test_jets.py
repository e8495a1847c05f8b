"""The store: lossless between dense and packed, a clear error for everything that is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import lib
from lib.data import packing
from lib.data.jets import DataError, JetImages, inspect, pack, unpack
from lib.data.store import Chunk

quick = settings(max_examples=40, deadline=None,
                 suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path, images, **columns):
    """A dense file as the public ones are: contiguous, no attributes, columns (N, 1)."""
    with h5py.File(path, "w") as file:
        file["jet"] = images
        for name, values in columns.items():
            values = np.asarray(values)
            file[name] = values.astype(np.float32)[:, None] if values.ndim == 1 else values
    return path


def cms(count=5, seed=0, density=0.012):
    rng = np.random.default_rng(seed)
    images = rng.integers(1, 256, (count, 125, 125, 8)).astype(np.float32)
    images *= rng.random(images.shape) < density
    return images


LABELLED = dict(Y=[1, 0, 1, 0, 1], m=[136.34013, 90, 180, 100, 110],
                pT=[551.3493, 500, 480, 460, 440])


@pytest.fixture
def dense(tmp_path):
    return write(tmp_path / "dense.h5", cms(), **LABELLED)


@pytest.fixture
def packed(dense, tmp_path):
    return pack(dense, tmp_path / "packed.h5")


# ---------------------------------------------------------------- round trips


def test_dense_to_packed_and_back(dense, packed, tmp_path):
    back = unpack(packed, tmp_path / "back.h5")
    with h5py.File(dense) as first, h5py.File(back) as second:
        assert set(first) == set(second) == {"jet", "Y", "m", "pT"}
        for name in first:
            assert second[name].dtype == np.float32
            assert second[name].shape == first[name].shape
            np.testing.assert_array_equal(second[name][()], first[name][()])
        assert second["jet"].chunks is None, "contiguous, as the public files are"
    again = pack(back, tmp_path / "again.h5")
    assert again.read_bytes() == packed.read_bytes()


def test_both_files_open_as_the_same_jets(dense, packed):
    first, second = JetImages.open(dense), JetImages.open(packed)
    assert first.fingerprint() == second.fingerprint()
    assert first.encoding == second.encoding == "cms8"
    assert first.shape == (8, 125, 125)
    assert first.data.dtype == torch.uint8
    np.testing.assert_array_equal(first.dense(slice(None)), np.moveaxis(cms(), -1, 1))
    assert first.labels.tolist() == [1, 0, 1, 0, 1]
    assert first.labels.dtype == torch.int64
    assert first.mass[0].item() == np.float32(136.34013)
    assert first.pt[0].item() == np.float32(551.3493)


@quick
@given(st.data())
def test_any_sparse_images_survive(tmp_path, data):
    count, shape = data.draw(st.integers(1, 4)), data.draw(st.tuples(*[st.integers(1, 7)] * 3))
    encoding = data.draw(st.sampled_from(["cms8", "gev"]))
    elements = (st.integers(0, 255) if encoding == "cms8"
                else st.floats(0, 2.0**100, width=32, allow_subnormal=False))
    images = data.draw(hnp.arrays(np.float32, (count, *shape), elements=elements,
                                  fill=st.just(0)))
    jets = JetImages.from_dense(images, encoding, mass=np.arange(count),
                                truth={"vertices": np.arange(count)}, attributes={"seed": 3})
    back = JetImages.open(jets.save(tmp_path / "jets.h5"))
    np.testing.assert_array_equal(back.dense(slice(None)), images)
    assert back.fingerprint() == jets.fingerprint()
    assert back.truth["vertices"].tolist() == list(range(count))
    assert back.attributes == {"seed": 3}
    assert back.labels is None
    hits = back.hits(slice(None))
    rebuilt = np.zeros_like(images)
    rebuilt[hits.image, hits.channel, hits.row, hits.column] = hits.value
    np.testing.assert_array_equal(rebuilt, images)


@settings(max_examples=8, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 124), st.integers(0, 124),
                          st.integers(0, 7), st.integers(1, 255)), max_size=30))
def test_any_dense_file_survives(tmp_path, pixels):
    images = np.zeros((3, 125, 125, 8), np.float32)
    for image, row, column, channel, value in pixels:
        images[image, row, column, channel] = value
    path = write(tmp_path / "any.h5", images)
    back = unpack(pack(path, tmp_path / "any_packed.h5"), tmp_path / "back.h5")
    with h5py.File(back) as file:
        np.testing.assert_array_equal(file["jet"][()], images)
        assert set(file) == {"jet"}


def test_foreign_values_are_kept_as_floats(tmp_path):
    images = cms(20)
    images[17] *= 0.37  # found only after a first chunk that looked like cms8
    path = write(tmp_path / "dense.h5", images)
    packed = pack(path, tmp_path / "packed.h5")
    jets = JetImages.open(packed)
    assert jets.encoding == JetImages.open(path).encoding == "gev"
    np.testing.assert_array_equal(jets.dense(slice(None)), np.moveaxis(images, -1, 1))


def test_signed_impact_parameters_and_truth_pass_through_a_dense_file(tmp_path):
    images = np.moveaxis(cms() * np.float32(0.1), -1, 1)
    images[:, 1:3] *= -1
    jets = JetImages.from_dense(images, "gev", truth={"mass": np.arange(5.0)},
                                attributes={"generator": "Pythia", "settings": {"mu": 10}})
    packed = jets.save(tmp_path / "packed.h5")
    back = pack(unpack(packed, tmp_path / "dense.h5"), tmp_path / "again.h5")
    assert back.read_bytes() == packed.read_bytes()
    assert JetImages.open(tmp_path / "dense.h5").fingerprint() == jets.fingerprint()
    assert JetImages.open(back).attributes["settings"] == {"mu": 10}


def test_bytes_do_not_depend_on_how_the_images_arrive(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "HDF5_CHUNK", 1000)
    jets = JetImages.from_dense(cms(6), channels_last=True, labels=[0, 1] * 3)
    one = jets.save(tmp_path / "one.h5")
    indptr = jets.indptr.numpy()
    pieces = [Chunk(indptr[a:b + 1] - indptr[a], jets.indices[indptr[a]:indptr[b]].numpy(),
                    jets.data[indptr[a]:indptr[b]].numpy(), {"Y": jets.labels[a:b].numpy()})
              for a, b in ((0, 1), (1, 5), (5, 6))]
    many = packing.write_packed(tmp_path / "many.h5", pieces, jets.shape, "cms8")
    assert many.read_bytes() == one.read_bytes()


def test_labels_without_mass_work(tmp_path):
    path = write(tmp_path / "dense.h5", cms(), Y=[0, 1, 0, 1, 1])
    jets = JetImages.open(pack(path, tmp_path / "packed.h5"))
    assert jets.labels.tolist() == [0, 1, 0, 1, 1]
    assert jets.mass is None
    assert jets.pt is None
    assert jets.batch([0, 1]).mass is None


def test_an_empty_image_is_an_image(tmp_path):
    images = cms(3)
    images[1] = 0
    jets = JetImages.open(write(tmp_path / "dense.h5", images))
    assert not jets.hits([1]).value.numel()
    assert not jets.dense([1]).any()
    assert jets.hits([1, 1, 0]).image.unique().tolist() == [2]
    assert not jets.batch([1]).tokens.valid.any()
    images[:] = 0
    blank = pack(write(tmp_path / "blank.h5", images), tmp_path / "packed.h5")
    assert len(JetImages.open(blank)) == 3


def test_real_jet(tmp_path):
    source = Path(lib.__file__).parents[2] / "shared" / "data" / "real_jet_3459.npz"
    if not source.exists():
        pytest.skip("the real jet is not on this machine")
    image = np.load(source, allow_pickle=False)["jet"]
    path = write(tmp_path / "dense.h5", image.astype(np.float32))
    packed = pack(path, tmp_path / "packed.h5")
    jets = JetImages.open(packed)
    assert jets.encoding == "cms8"
    np.testing.assert_array_equal(jets.dense([0])[0], np.moveaxis(image[0], -1, 0))
    assert int(jets.batch([0]).tokens.valid.sum()) == 357
    with h5py.File(unpack(packed, tmp_path / "back.h5")) as file:
        np.testing.assert_array_equal(file["jet"][()], image)


# ---------------------------------------------------------------- in memory


def test_hits_follow_the_order_asked_for():
    images = np.moveaxis(cms(6), -1, 1)
    jets = JetImages.from_dense(images)
    index = [4, 0, 4, 2]
    hits = jets.hits(index)
    assert hits.images == 4
    assert (hits.image.diff() >= 0).all()
    for number, image in enumerate(index):
        mine = hits.image == number
        channel, row, column = np.nonzero(images[image])
        assert hits.channel[mine].tolist() == channel.tolist()
        assert hits.row[mine].tolist() == row.tolist()
        assert hits.column[mine].tolist() == column.tolist()
        assert hits.value[mine].tolist() == images[image][channel, row, column].tolist()
    assert len(jets.hits([]).value) == 0
    mask = torch.tensor([False, True, False, False, False, True])
    assert torch.equal(jets.hits(mask).value, jets.hits([1, 5]).value)
    with pytest.raises(IndexError, match=r"0\.\.\.5, got -1\.\.\.6"):
        jets.hits([6, -1])


def test_subset_and_device():
    jets = JetImages.from_dense(cms(6), channels_last=True, labels=[0, 0, 0, 1, 1, 1],
                                mass=np.arange(6), truth={"vertices": np.arange(6)})
    part = jets.subset([5, 2])
    assert torch.equal(part.dense([0, 1]), jets.dense([5, 2]))
    assert part.labels.tolist() == [1, 0]
    assert part.mass.tolist() == [5, 2]
    assert part.truth["vertices"].tolist() == [5, 2]
    assert part.fingerprint() == jets.to("cpu").subset([5, 2]).fingerprint()
    assert part.fingerprint() != jets.fingerprint()
    moved = jets.to("meta")
    assert moved.device.type == moved.mass.device.type == "meta"


def test_arrays_come_in_one_form():
    ordered = JetImages.from_arrays([0, 2, 3], [1, 4, 0], [7, 8, 9], (1, 2, 3), "cms8")
    other = JetImages.from_arrays(torch.tensor([0, 3, 4]), [4, 2, 1, 0], [8, 0, 7, 9], (1, 2, 3),
                                  "cms8")
    assert other.fingerprint() == ordered.fingerprint()
    assert other.grid.height == 2


def test_columns_in_memory_become_float32():
    jets = JetImages.from_arrays([0, 1], [3], [7], (1, 2, 3), "cms8", mass=np.array([0.1]))
    assert jets.mass.dtype == torch.float32


@pytest.mark.parametrize(("change", "message"), [
    (dict(indptr=[0, 2]), "ends at 2, but there are 3"),
    (dict(indptr=[0, 3, 2, 3]), "does not start at 0 and grow"),
    (dict(indices=[1, 4, 6]), "leave the image of 6 pixels"),
    (dict(indices=[1, 1, 0]), "listed twice"),
    (dict(data=[1, 2, 300]), "integers of 0...255"),
    (dict(data=[1, 2, -1]), "integers of 0...255"),
    (dict(data=[1, 2, np.nan], encoding="gev"), "NaN"),
    (dict(labels=[1]), "1 values for 2 images"),
    (dict(labels=[1, 2]), "must be 0"),
    (dict(mass=[1, np.inf]), "not a finite number"),
    (dict(encoding="jpeg"), "use cms8 or gev"),
])
def test_arrays_that_do_not_fit_are_refused(change, message):
    good = dict(indptr=[0, 2, 3], indices=[1, 4, 0], data=[7, 8, 9], shape=(1, 2, 3),
                encoding="cms8")
    with pytest.raises(DataError, match=message):
        JetImages.from_arrays(**(good | change))


# ---------------------------------------------------------------- splits


def bare(labels, count=None):
    count = count or len(labels)
    return JetImages.from_arrays(np.zeros(count + 1), [], [], (8, 125, 125), "cms8", labels)


def test_the_test_part_is_split_a():
    from sklearn.model_selection import train_test_split

    labels = np.random.default_rng(0).permutation(np.repeat([0, 1], [5122, 4878]))
    split = bare(labels).split(seed=42)
    _, expected = train_test_split(np.arange(10_000), test_size=0.2, stratify=labels,
                                   random_state=42)
    np.testing.assert_array_equal(split.test, expected)
    assert [len(part) for part in split] == [7000, 1000, 2000]
    assert sorted(torch.cat(split).tolist()) == list(range(10_000))
    top = [int(labels[part].sum()) for part in split]
    assert top[2] == 976
    assert abs(top[1] - 488) <= 1


@pytest.mark.parametrize("count", [3, 4, 10, 11, 57])
def test_splits_of_few_or_unlabelled_jets(count):
    for jets in (bare(None, count), bare([1] * count)):
        split = jets.split()
        assert sorted(torch.cat(split).tolist()) == list(range(count))
        assert min(map(len, split)) >= 1
    assert torch.equal(bare(None, 57).split(1).test, bare(None, 57).split(1).test)


def test_a_rare_class_is_split_at_random_and_says_so():
    with pytest.warns(UserWarning, match="split at random"):
        split = bare([1] + [0] * 29).split()
    assert sorted(torch.cat(split).tolist()) == list(range(30))
    with pytest.raises(DataError, match="2 jets cannot be split"):
        bare([0, 1]).split()


# ---------------------------------------------------------------- bad input


def test_missing_foreign_and_truncated_files(dense, packed, tmp_path):
    with pytest.raises(DataError, match=r"nothing\.h5: no such file.*python -m lib"):
        JetImages.open(tmp_path / "nothing.h5")
    with pytest.raises(DataError, match="is a folder"):
        JetImages.open(tmp_path)
    text = tmp_path / "text.h5"
    text.write_text("<html>sign in</html>")
    with pytest.raises(DataError, match=r"text\.h5: not an HDF5 file.*again"):
        JetImages.open(text)
    for source in (dense, packed):
        whole = source.read_bytes()
        for part in (0.999, 0.6, 0.1):
            cut = tmp_path / "cut.h5"
            cut.write_bytes(whole[:int(part * len(whole))])
            with pytest.raises(DataError, match=r"cut\.h5: cut off.*again"):
                JetImages.open(cut)
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["X_jets"] = np.zeros(3)
    with pytest.raises(DataError, match=r"other\.h5: holds no `jet` \(it holds X_jets\)"):
        inspect(other)


def test_damaged_compressed_data(packed, tmp_path):
    content = bytearray(packed.read_bytes())
    with h5py.File(packed) as file:
        place = file["jet/indices"].id.get_chunk_info(0)
    content[place.byte_offset:place.byte_offset + place.size] = b"\xff" * place.size
    packed.write_bytes(content)
    with pytest.raises(DataError, match=r"packed\.h5: .*damaged"):
        JetImages.open(packed)


@pytest.mark.parametrize(("images", "message"), [
    (np.zeros((2, 8, 125, 125), np.float32), r"channels first.*moveaxis\(jet, 1, -1\)"),
    (np.zeros((2, 3, 125, 125), np.float32), "channels first"),
    (np.zeros((2, 100, 100, 8), np.float32), r"shape \(2, 100, 100, 8\); expected"),
    (np.zeros((2, 125, 125, 4), np.float32), "expected is"),
    (np.zeros((2, 125 * 125 * 8), np.float32), "expected is"),
    (np.zeros((2, 125, 125, 8), np.uint8), r"is uint8.*astype\('float32'\)"),
    (np.zeros((2, 125, 125, 8), np.float64), "is float64"),
    (np.zeros((0, 125, 125, 8), np.float32), "no images"),
])
def test_dense_files_of_another_kind(tmp_path, images, message):
    path = write(tmp_path / "dense.h5", images)
    for use in (JetImages.open, inspect, lambda path: pack(path, tmp_path / "packed.h5")):
        with pytest.raises(DataError, match=rf"dense\.h5: .*{message}"):
            use(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("value", "attributes", "message"), [
    (np.nan, {}, "image 17 holds NaN"),
    (np.inf, {"encoding": "gev"}, "image 17 holds NaN or infinite"),
    (-3, {}, "image 17 holds negative pixels in channel 3"),
    (-0.5, {"encoding": "gev"}, "negative pixels in channel 3"),
    (0.5, {"encoding": "cms8"}, "declares cms8"),
    (1, {"encoding": "png"}, "its encoding is 'png'"),
])
def test_bad_pixels(tmp_path, value, attributes, message):
    images = cms(18)
    images[17, 60, 60, 3] = value
    path = write(tmp_path / "dense.h5", images)
    with h5py.File(path, "a") as file:
        file.attrs.update(attributes)
    for use in (JetImages.open, lambda path: pack(path, tmp_path / "packed.h5")):
        with pytest.raises(DataError, match=rf"dense\.h5: .*{message}"):
            use(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("columns", "message"), [
    (dict(Y=[0, 1, 0, 1]), r"`Y` has the shape \(4, 1\) for 5 images"),
    (dict(Y=np.zeros((5, 2), np.float32)), r"expected is \(5, 1\)"),
    (dict(Y=[0, 1, 2, 1, 1]), "labels `Y` hold .*must be 0"),
    (dict(Y=[0, 1, np.nan, 1, 1]), "not a finite number"),
    (dict(m=[100, 100, np.nan, 1, 1]), "`m` holds something that is not a finite number"),
    (dict(m=np.full((5, 1), 0.1, np.float64)), "float64 and would lose digits"),
])
def test_bad_columns(tmp_path, columns, message):
    path = write(tmp_path / "dense.h5", cms(), **columns)
    with pytest.raises(DataError, match=rf"dense\.h5: .*{message}"):
        JetImages.open(path)


def change_packed(name, values):
    def change(file):
        del file[name]
        file[name] = values
    return change


@pytest.mark.parametrize(("change", "message"), [
    (lambda f: f.attrs.modify("schema", 2), "schema version 2, this code knows 1; update"),
    (lambda f: f.attrs.pop("schema"), "no attribute `schema`"),
    (lambda f: f.attrs.modify("encoding", "gev"), "jet/data is uint8.*asks for float32"),
    (lambda f: f.attrs.modify("encoding", "mp3"), "encoding is 'mp3'"),
    (lambda f: f.attrs.pop("encoding"), "encoding is None"),
    (lambda f: f.attrs.create("shape", [8, 125]), r"`shape` is \[8, 125\]"),
    (lambda f: f.attrs.modify("shape", [1, 25, 25]), "leave the image of 625 pixels"),
    (lambda f: f.attrs.modify("provenance", "{"), "not JSON"),
    (lambda f: f.pop("jet/indices"), "lacks jet/indices"),
    (change_packed("jet/indptr", np.array([0, 9, 8, 10, 11, 12])), "start at 0 and grow"),
    (change_packed("jet/indptr", np.array([1, 2, 8, 10, 11, 12])), "start at 0 and grow"),
    (change_packed("jet/indptr", np.array([0, 9, 9, 10, 11, 12])), "ends at 12, but there are"),
    (change_packed("jet/data", np.zeros(7, np.uint8)), "7 values"),
    (change_packed("jet/indices", np.zeros(7)), "must be integers"),
    (change_packed("m", np.zeros((4, 1), np.float32)), r"`m` has the shape \(4, 1\)"),
    (lambda f: f.create_dataset("truth/mass", data=np.zeros(2)), "truth/mass has 2 rows"),
])
def test_bad_packed_files(packed, change, message):
    with h5py.File(packed, "a") as file:
        change(file)
    with pytest.raises(DataError, match=rf"packed\.h5: .*{message}"):
        JetImages.open(packed)


def test_messages_are_one_line(tmp_path):
    with pytest.raises(DataError) as caught:
        JetImages.open(write(tmp_path / "dense.h5", np.zeros((2, 8, 125, 125), np.float32)))
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- writing


def python(script, folder):
    """The lines that a script prints in a process of its own, with ``folder`` as its place."""
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True,
                          text=True, env={"PYTHONPATH": str(Path(lib.__file__).parents[1])})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """300 MB of images, most of it a hole in the file, so that it is quick."""
    count = 600
    with h5py.File(tmp_path / "dense.h5", "w") as file:
        jet = file.create_dataset("jet", (count, 125, 125, 8), np.float32)
        for start in (0, 400, count - 20):
            jet[start:start + 20] = cms(20)
    [used] = python("""
from lib.data.packing import inspect, pack, unpack
pack("dense.h5", "packed.h5")
unpack("packed.h5", "back.h5")
assert inspect("back.h5")["nonzero_per_image"] == inspect("packed.h5")["nonzero_per_image"]
print(next(line.split()[1] for line in open("/proc/self/status") if "VmHWM" in line))
""", tmp_path)
    assert int(used) < 250_000  # kB, Python and HDF5 included; torch would add 200,000


def test_a_full_disk_leaves_nothing(tmp_path):
    """A limit on the size of files stands in for the end of the disk; the old file stays."""
    (tmp_path / "packed.h5").write_text("the old one")
    JetImages.from_dense(cms(12, density=0.1), channels_last=True).save(tmp_path / "jets.h5")
    script = """
import resource, sys
from lib.data.packing import DataError, pack, unpack
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for work, name in ((pack, "packed.h5"), (unpack, "dense.h5")):
    try:
        work("jets.h5", name)
    except DataError as error:
        print(error)
"""
    lines = python(script, tmp_path)
    assert lines[0].startswith("packed.h5: the disk is full, nothing was left behind; free some")
    assert lines[1].startswith("dense.h5: the disk is full")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jets.h5", "packed.h5"]
    assert (tmp_path / "packed.h5").read_text() == "the old one"


def test_too_little_room_is_known_beforehand(packed, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match="GB are needed"):
        unpack(packed, tmp_path / "back.h5")
    assert not (tmp_path / "back.h5").exists()


def test_an_interrupted_write_leaves_nothing_and_remains_are_cleared(packed, tmp_path):
    def chunks():
        yield Chunk(np.array([0, 1]), np.array([3]), np.array([1], np.uint8))
        raise KeyboardInterrupt

    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        packing.write_packed(tmp_path / "new.h5", chunks(), (8, 125, 125), "cms8")
    assert set(tmp_path.iterdir()) == before
    killed = tmp_path / ".new.h5.999999999.part"  # no process has this number
    killed.write_text("half")
    pack(packed, tmp_path / "new.h5")
    assert not killed.exists()


def test_images_without_a_dense_format_stay_packed(tmp_path):
    path = JetImages.from_dense(np.ones((2, 1, 64, 72))).save(tmp_path / "maps.h5")
    with pytest.raises(DataError, match=r"maps\.h5: images of \(1, 64, 72\).*keep it packed"):
        unpack(path, tmp_path / "dense.h5")


def test_inspect_counts_what_is_there(dense, packed):
    facts = inspect(packed)
    images = cms()
    assert facts["zeros"] == pytest.approx(float((images == 0).mean()))
    np.testing.assert_allclose(facts["nonzero_per_image"], (images != 0).sum((0, 1, 2)) / 5)
    np.testing.assert_allclose(facts["mean_pixel"], images.mean((0, 1, 2)), rtol=1e-5)
    assert facts["top"] == 3
    assert facts["mass_gev"][0] == 90
    assert facts["smaller_than_dense"] > 50
    json.dumps(facts)
    other = inspect(dense)
    same = set(facts) - {"path", "kind", "bytes", "bytes_per_jet", "smaller_than_dense"}
    assert {key: other[key] for key in same} == {key: facts[key] for key in same}
