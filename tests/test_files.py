"""The guarded readers: nothing that a file says of itself is believed before it was checked."""

import contextlib
import io
import json
import os
import pickle
import platform
import resource
import zipfile

import numpy as np
import pytest

from lib.evaluation.metrics import Predictions
from lib.files import DataError, read_json, read_npz, replacing_folder, write_text


def npy(array, shape=None):
    """The bytes of a .npy file, which may claim another shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {
        "descr": array.dtype.str, "fortran_order": False, "shape": shape or array.shape})
    return buffer.getvalue() + array.tobytes()


def archive(path, compression=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def test_an_npz_that_claims_gigabytes_is_refused_before_they_are_allocated(tmp_path):
    one, path = np.ones(9, np.float32), tmp_path / "big.npz"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    archive(path, a=npy(one, (10**9,)))  # says so in its header only
    with pytest.raises(DataError, match=r"big\.npz: is damaged.*fetch it"):
        read_npz(path, "fetch it again")
    archive(path, a=npy(np.zeros(3 * 10**7, np.float32)))  # truly compressed: less than deflate's
    assert read_npz(path, "fetch it again")["a"].shape == (3 * 10**7,)
    text = path.read_bytes().replace((120_000_128).to_bytes(4, "little"), b"\xf0\xff\xff\xff")
    path.write_bytes(text)  # the table of contents says so as well
    with pytest.raises(DataError, match="few bytes"):
        read_npz(path, "fetch it again")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # kB


@pytest.mark.parametrize("content", [
    npy(np.ones(3), (-3,)), npy(np.ones(3), (4,)), npy(np.ones(3)) + b"more", b"", b"\x93NUMPY",
    npy(np.array([None]))[:-8] + pickle.dumps([None]), npy(np.zeros(2, "V3"))])
def test_a_member_that_is_not_as_it_says_is_refused(content, tmp_path):
    with pytest.raises(DataError, match=r"a\.npz: is damaged"):
        read_npz(archive(tmp_path / "a.npz", a=content), "again")


def test_a_changed_byte_in_an_npz_is_noticed(tmp_path):
    path = archive(tmp_path / "a.npz", zipfile.ZIP_STORED, a=npy(np.arange(100)))
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        read_npz(path, "again")


@pytest.mark.parametrize("kept", [[], ["other.txt"]])
@pytest.mark.parametrize("stop", [False, True])
def test_a_folder_is_exchanged_as_a_whole(tmp_path, kept, stop):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("a", "b", *kept):
        (folder / name).write_text("before")
    with pytest.raises(ZeroDivisionError) if stop else contextlib.nullcontext():
        with replacing_folder(folder) as part:
            for name in ("a", "b"):
                assert (folder / name).read_text() == "before"
                (part / name).write_text("after")
            assert 1 / (not stop)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    found = {p.name: p.read_text() for p in folder.iterdir()}
    now = "before" if stop else "after"
    assert found == {"a": now, "b": now, **dict.fromkeys(kept, "before")}


def test_no_link_is_followed(tmp_path):
    mine, part = tmp_path / "mine", tmp_path / f".x.{platform.node()}.{os.getpid()}.part"
    mine.write_text("mine")
    for link in (part, tmp_path / "x"):
        link.symlink_to(mine)
    write_text(tmp_path / "x", "new")
    assert mine.read_text() == "mine"
    assert not (tmp_path / "x").is_symlink()
    assert (tmp_path / "x").read_text() == "new"


@pytest.mark.parametrize("columns", [
    {"score": np.array(["a", "b"])}, {"y": np.zeros((2, 2))}, {"y": np.float32(1)},
    {"index": np.arange(3)}, {"score": np.array([0.5, np.inf])}])
def test_predictions_of_another_kind_are_refused(columns, tmp_path):
    path = tmp_path / "p.npz"
    good = {"index": np.arange(2), "y": np.array([0.0, 1]), "score": np.array([0.1, 0.9])}
    np.savez(path, **good)
    assert len(Predictions.load(path)) == 2
    np.savez(path, **good | columns)
    with pytest.raises(DataError, match=r"p\.npz: .*evaluate again"):
        Predictions.load(path)


@pytest.mark.parametrize("content", [
    b"", b"{", b"[1]", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{}", b'{"runs": {}}', b"{}",
    b'{"runs": ' + b"9" * 5000 + b"}"])
def test_json_of_another_kind_is_refused(content, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json: is damaged.*run again"):
        read_json(path, "run again", runs=list)
    path.write_text(json.dumps({"runs": [1]}))
    assert read_json(path, "run again", runs=list) == {"runs": [1]}
    with pytest.raises(DataError, match=r"none\.json: is missing; run again"):
        read_json(tmp_path / "none.json", "run again")
