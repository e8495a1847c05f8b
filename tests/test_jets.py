"""JetImages: lossless between dense and packed files, in memory, and split."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jetfiles import cms, write

import lib
from lib.data import store
from lib.data.batches import Batches
from lib.data.images import Images, JetImages
from lib.data.store import Chunk, pack, unpack
from lib.data.tokens import Grid, Hits, densify
from lib.files import DataError

quick = settings(max_examples=40, deadline=None,
                 suppress_health_check=[HealthCheck.function_scoped_fixture])


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
                else st.floats(0, 8192, width=32, allow_subnormal=False))
    images = data.draw(hnp.arrays(np.float32, (count, *shape), elements=elements,
                                  fill=st.just(0)))
    jets = JetImages.from_dense(images, encoding, mass=np.arange(1, count + 1),
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


def test_energies_that_are_not_declared_as_such_are_not_guessed(tmp_path):
    images = cms(20)
    images[17] *= 0.37  # found only after a first chunk that looked like cms8
    path = write(tmp_path / "dense.h5", images)
    for read in (JetImages.open, lambda path: pack(path, tmp_path / "packed.h5")):
        with pytest.raises(DataError, match=r"dense\.h5: does not declare.*--encoding gev"):
            read(path)
    jets = JetImages.open(pack(path, tmp_path / "packed.h5", "gev"))
    assert jets.encoding == "gev"
    np.testing.assert_array_equal(jets.dense(slice(None)), np.moveaxis(images, -1, 1))
    with pytest.raises(DataError, match="declares gev, not cms8"):
        pack(tmp_path / "packed.h5", tmp_path / "again.h5", "cms8")


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
    monkeypatch.setattr(store, "HDF5_CHUNK", 1000)
    jets = JetImages.from_dense(np.moveaxis(cms(6), -1, 1), labels=[0, 1] * 3)
    one = jets.save(tmp_path / "one.h5")
    indptr = jets.indptr.numpy()
    pieces = [Chunk(indptr[a:b + 1] - indptr[a], jets.indices[indptr[a]:indptr[b]].numpy(),
                    jets.data[indptr[a]:indptr[b]].numpy(), {"Y": jets.labels[a:b].numpy()})
              for a, b in ((0, 1), (1, 5), (5, 6))]
    many = store.write_packed(tmp_path / "many.h5", pieces, jets.shape, "cms8")
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
    jets = JetImages.from_dense(np.moveaxis(cms(6), -1, 1), labels=[0, 0, 0, 1, 1, 1],
                                mass=np.arange(1, 7), truth={"vertices": np.arange(6)})
    part = jets.subset([5, 2])
    assert torch.equal(part.dense([0, 1]), jets.dense([5, 2]))
    assert part.labels.tolist() == [1, 0]
    assert part.mass.tolist() == [6, 3]
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
    (dict(labels=[1]), "1 rows for 2 images"),
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


def test_a_fingerprint_is_of_what_is_there_now():
    """No hash is kept of something that can be changed: every column counts, at any time."""
    jets = bare([0, 1, 1, 0])
    jets.mass, jets.truth = torch.zeros(4), {"vertices": torch.zeros(4)}
    seen = {jets.fingerprint()}
    for column in (jets.labels, jets.mass, jets.truth["vertices"], jets.indptr):
        column[1] += 1
        seen.add(jets.fingerprint())
    jets.pt = torch.zeros(4)
    assert len(seen | {jets.fingerprint()}) == 6


def test_a_mask_has_one_entry_an_image():
    with pytest.raises(IndexError, match="a mask of 2 for 4 jets"):
        bare([0, 1, 1, 0]).hits(torch.tensor([True, False]))


def test_jets_share_no_memory_with_what_they_were_made_of():
    mass, vertices = np.ones(4, np.float32), np.ones(4)
    jets = JetImages.from_arrays(np.zeros(5), [], [], (8, 125, 125), "cms8", mass=mass,
                                 truth={"vertices": vertices})
    mass[:] = vertices[:] = 7
    assert jets.mass.tolist() == jets.truth["vertices"].tolist() == [1] * 4


class Squares(Images):
    """A toy data set: squares of two sizes on a canvas of its own."""

    shape, grid, encoding, kind = (2, 12, 10), Grid(2, 12, 10, 4, 5), "gev", "square"

    def __init__(self, count):
        self.labels = torch.arange(count) % 2
        self.pictures = torch.zeros(count, *self.shape)
        for number, label in enumerate(self.labels.tolist()):
            self.pictures[number, label, 2:5 + 4 * label, 2:5 + 4 * label] = 1 + number

    def __len__(self):
        return len(self.pictures)

    @property
    def device(self):
        return self.pictures.device

    def columns(self):
        return {"pictures": self.pictures, "labels": self.labels}

    def hits(self, index):
        pictures = self.pictures[self.numbers(index)]
        places = pictures.nonzero(as_tuple=True)
        return Hits(*places, pictures[places], len(pictures))


def test_a_new_data_set_is_one_class():
    """It splits, batches, hashes and tokenises as jets do."""
    squares = Squares(30)
    split = squares.split()
    assert [len(part) for part in split] == [21, 3, 6]
    assert int(squares.labels[split.test].sum()) == 3
    for batch in Batches(squares, split.train, 8, shuffle=True):
        assert torch.equal(densify(batch.tokens), squares.pictures[batch.index])
        assert torch.equal(batch.label, squares.labels[batch.index])
        assert batch.mass is None
    assert squares.fingerprint() == Squares(30).fingerprint() != Squares(31).fingerprint()
    with pytest.raises(IndexError, match=r"square numbers must be 0\.\.\.29"):
        squares.batch([30])
