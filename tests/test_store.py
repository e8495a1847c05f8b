"""Files: a clear error for everything that is wrong, and nothing left half-written."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from jetfiles import LABELLED, cms, write

import lib
from course.contents import inspect
from lib.data import store
from lib.data.images import JetImages
from lib.data.store import Chunk, pack, unpack
from lib.files import DataError

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
    (lambda f: f.attrs.modify("shape", [2**17, 125, 125]), "at most 1024 channels"),
    (lambda f: f.attrs.modify("shape", [8, 125, 2**20]), "16,777,216 pixels"),
    (lambda f: f.attrs.modify("shape", [1, 25, 25]), "image of 625 pixels"),
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
from course.contents import inspect
from lib.data.store import pack, unpack
pack("dense.h5", "packed.h5")
unpack("packed.h5", "back.h5")
assert inspect("back.h5")["nonzero_per_image"] == inspect("packed.h5")["nonzero_per_image"]
print(next(line.split()[1] for line in open("/proc/self/status") if "VmHWM" in line))
""", tmp_path)
    assert int(used) < 250_000  # kB, Python and HDF5 included; torch would add 200,000


def test_a_full_disk_leaves_nothing(tmp_path):
    """A limit on the size of files stands in for the end of the disk; the old file stays."""
    (tmp_path / "packed.h5").write_text("the old one")
    JetImages.from_dense(np.moveaxis(cms(12, density=0.1), -1, 1)).save(tmp_path / "jets.h5")
    script = """
import resource, sys
from lib.data.store import pack, unpack
from lib.files import DataError
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
        store.write_packed(tmp_path / "new.h5", chunks(), (8, 125, 125), "cms8")
    assert set(tmp_path.iterdir()) == before
    killed = tmp_path / f".new.h5.{platform.node()}.999999999.part"  # no process has this number
    elsewhere = tmp_path / ".new.h5.another-host.999999999.part"  # who knows
    killed.write_text("half")
    elsewhere.write_text("half")
    pack(packed, tmp_path / "new.h5")
    assert not killed.exists()
    assert elsewhere.exists()


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


def _swap(name, value):
    def edit(file):
        del file[name]
        if value is None:
            file.create_group(name)
        else:
            file[name] = value
    return edit


def _attribute(name, value):
    return lambda file: file.attrs.__setitem__(name, value)


@pytest.mark.parametrize("edit", [
    _swap("Y", None), _swap("Y", h5py.ExternalLink("gone.h5", "/Y")), _swap("jet/data", None),
    _swap("jet/indptr", None), _swap("jet/data", np.ones((9, 1), np.uint8)),
    _swap("jet/indices", np.ones((9, 1), np.int32)), _attribute("encoding", [1, 2]),
    _attribute("provenance", "[1]"), _attribute("schema", -1),
    _attribute("shape", [8, 2**31, 2**31]),
    lambda file: file.create_group("truth/deeper"),
    lambda file: file.create_dataset("truth/alone", data=3.0),
    lambda file: file.create_dataset("truth/name", data=["top"] * 5),
    lambda file: file.__setitem__("truth/type", np.dtype("f4")),
    _swap("Y", np.dtype("f4")), _swap("jet", np.dtype("f4")), _swap("Y", h5py.SoftLink("/gone")),
    _swap("jet", h5py.ExternalLink("gone.h5", "/jet")), _attribute("provenance", "[" * 9000),
    _swap("m", h5py.Empty("f4")),
])
def test_a_strangely_built_packed_file_is_an_error_that_names_it(tmp_path, edit):
    dense = write(tmp_path / "dense.h5", cms(), **LABELLED)
    path = pack(dense, tmp_path / "strange.h5")
    with h5py.File(path, "a") as file:
        edit(file)
    with pytest.raises(DataError, match=r"strange\.h5"):
        inspect(path)


def _dense(file, **options):
    return file.create_dataset("jet", (40, 125, 125, 8), np.float32, **options)


def _by_parts(file):
    layout = h5py.VirtualLayout((40, 125, 125, 8), np.float32)
    layout[:] = h5py.VirtualSource("moved_away.h5", "jet", (40, 125, 125, 8), np.float32)
    file.create_virtual_dataset("jet", layout)


def _stopped(file):
    _dense(file, chunks=(10, 125, 125, 8), compression="gzip")[:20] = cms(20)


def _elsewhere(file):
    _dense(file, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def _without_filter(file):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((10, 125, 125, 8))
    plist.set_filter(32004, h5py.h5z.FLAG_OPTIONAL, (1,))  # LZ4
    space = h5py.h5s.create_simple((40, 125, 125, 8))
    h5py.h5d.create(file.id, b"jet", h5py.h5t.NATIVE_FLOAT, space, plist)


@pytest.mark.parametrize(("build", "message"), [
    (lambda file: file.__setitem__("jet", h5py.ExternalLink("moved_away.h5", "jet")),
     "is a link to jet in moved_away.h5"),
    (_by_parts, "lies in other files"), (_elsewhere, "lies in other files"),
    (_stopped, "rows that were never written"), (_dense, "rows that were never written"),
    (_without_filter, r"filters \[32004\]; pip install hdf5plugin"),
    (lambda file: _dense(file, chunks=(40, 125, 125, 8), compression="gzip"), "never written"),
])
def test_data_that_are_not_in_the_file_are_missed(build, message, tmp_path):
    with h5py.File(tmp_path / "jets.h5", "w") as file:
        build(file)
    with pytest.raises(DataError, match=rf"jets\.h5: `jet` .*{message}"):
        inspect(tmp_path / "jets.h5")


@pytest.mark.parametrize(("columns", "message"), [
    (dict(m=np.array(LABELLED["m"]) * 1000), r"`m` goes from 9e\+04.*GeV"),
    (dict(m=[100, 0, 1, 1, 1]), "above 0"), (dict(pT=[500, -1, 1, 1, 1]), "above 0"),
    (dict(y=[1, 0, 1, 0, 1]), r"calls `Y` \['y'\]: rename it"),
    (dict(Y=[1, 0, 1, 0, 1], mass=[100] * 5), r"calls `m` \['mass'\]"),
])
def test_columns_of_another_unit_or_name_are_named(columns, message, tmp_path):
    path = write(tmp_path / "dense.h5", cms(), **columns)
    with pytest.raises(DataError, match=rf"dense\.h5: .*{message}"):
        JetImages.open(path)


def test_pixels_that_no_collision_gives_are_refused(tmp_path):
    images = cms()
    images[3, :, :, 2] = 3e38
    path = write(tmp_path / "huge.h5", images)
    with pytest.raises(DataError, match=r"image 3 holds a pixel of 3e\+38"):
        JetImages.open(path)


def test_empty_images_are_counted(tmp_path):
    images = cms(10)
    images[4:] = 0
    path = write(tmp_path / "dense.h5", images)
    assert inspect(path)["empty_images"] == 6
    with pytest.warns(UserWarning, match="6 of 10 images are empty"):
        JetImages.open(path)


def test_a_file_that_is_being_written_is_locked_not_damaged(packed):
    with h5py.File(packed, "a"):
        [said] = python(f"""
from lib.data.store import opening
from lib.files import DataError
try:
    with opening({str(packed)!r}):
        pass
except DataError as error:
    print(error)
""", packed.parent)
    assert "packed.h5: is locked, for another program writes it" in said


def test_a_disk_without_locks_is_read(packed, monkeypatch):
    real = h5py.File

    def opened(path, mode="r", locking=None):
        if locking:
            raise BlockingIOError("unable to lock file, errno = 37, 'No locks available'")
        return real(path, mode, locking=locking)

    monkeypatch.setattr(h5py, "File", opened)
    assert len(JetImages.open(packed)) == 5


@pytest.mark.parametrize(("head", "kind"), [
    (b"PAR1", "parquet"), (b"\x93NUMPY", "a NumPy array"), (b"PK\3\4", "an archive")])
def test_another_format_is_named(head, kind, tmp_path):
    (tmp_path / "a.h5").write_bytes(head + bytes(5000))
    with pytest.raises(DataError, match=f"is {kind}.*not an HDF5 file"):
        JetImages.open(tmp_path / "a.h5")


def test_a_target_that_is_no_file_is_refused_before_the_work(tmp_path):
    dense = write(tmp_path / "dense.h5", cms())
    (tmp_path / "folder.h5").mkdir()
    for target, said in ((tmp_path / "folder.h5", "is a folder or a device"),
                         (Path("/dev/null"), "is a folder or a device"),
                         (dense / "out.h5", "cannot be written")):
        with pytest.raises(DataError, match=said):
            pack(dense, target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dense.h5", "folder.h5"]
