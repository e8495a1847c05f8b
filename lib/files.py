"""The one way to write a file, all of it under its name or nothing; and to read what others wrote,
believing nothing that a file says of itself before it was checked."""

import contextlib
import errno
import glob
import hashlib
import json
import math
import os
import platform
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.lib import format as npy

JSON_BYTES = 1 << 26  # of a file of JSON at most
DEFLATE = 1032  # nothing becomes smaller by more than this
NPY_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class DataError(ValueError):
    """Data that cannot be used; the message names the file, the cause and the next step."""


def require(good: Any, path: str | Path, message: str) -> None:
    """A DataError that names the file, the cause and the next step, unless all is good."""
    if not good:
        raise DataError(f"{path}: {message}")


@contextlib.contextmanager
def replacing(path: str | Path, room: int = 0) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` when the block ends well. room: bytes
    that will be needed; too little space is an error before the work starts. Raises: DataError when
    the disk is full or ``path`` cannot be written, the latter before the work starts; the temporary
    file is removed on any error."""
    path = Path(path)
    require(path.is_file() or not path.exists(), path,
            "is a folder or a device, not a file; choose another name")
    own = f".{path.name}.{platform.node()}"  # a process is one of its host; a disk may have several
    temporary = path.with_name(f"{own}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        temporary.touch(exist_ok=False)  # not through a link that somebody has put there
        temporary.unlink()
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another place or "
                        "mend this one") from error
    for left in path.parent.glob(f"{glob.escape(own)}.*.part"):  # of a run that was killed
        if not _alive(left.name.split(".")[-2]):
            left.unlink(missing_ok=True)
    full = f"{path}: the disk is full, nothing was left behind; free some space"
    free = shutil.disk_usage(path.parent).free
    if free < room:
        raise DataError(f"{full}: {room / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if is_full(error):
            raise DataError(f"{full} and run again") from error
        raise


@contextlib.contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its place when the block ends well; where other
    files are in ``path``, only those that were made are exchanged, when all are there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    own = f".{path.name}.{platform.node()}."
    for left in path.parent.glob(f"{glob.escape(own)}*.new"):  # of a run that was killed
        if not _alive(left.name.removeprefix(own).split(".")[0]):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(".new", f"{own}{os.getpid()}.", path.parent) as place:
        made = Path(place) / "made"
        made.mkdir()
        yield made
        if path.exists() and {p.name for p in path.iterdir()} - {p.name for p in made.iterdir()}:
            for file in made.iterdir():
                os.replace(file, path / file.name)
        else:
            if path.exists():
                os.replace(path, Path(place) / "before")
            os.replace(made, path)


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk, the quota or the permitted file size is used up."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError):
        return error.errno in codes
    # safetensors has an error of its own, which tells the code only in words.
    return any(f"os error {code})" in str(error) for code in codes)


def _alive(process: str) -> bool:
    return process.isdigit() and psutil.pid_exists(int(process))


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write bytes, all or nothing; returns the path."""
    with replacing(path) as part:
        part.write_bytes(content)
    return Path(path)


def write_text(path: str | Path, content: str) -> Path:
    """Write text in UTF-8, all or nothing; returns the path."""
    return write_bytes(path, content.encode())


def write_json(path: str | Path, content: Any, digits: int | None = None) -> Path:
    """Write mappings, lists, numbers, arrays and tensors as JSON, all or nothing; returns the path.
    digits: significant digits of floats (None: all); with it, what is not finite becomes null."""
    return write_text(path, json.dumps(plain(content, digits), indent=1) + "\n")


def plain(value: Any, digits: int | None = None) -> Any:
    """Mappings, lists, arrays and tensors as JSON holds them; see ``write_json``."""
    if isinstance(value, Mapping):
        return {str(k): plain(v, digits) for k, v in value.items()}
    if hasattr(value, "tolist"):  # arrays, tensors, NumPy's scalars
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(v, digits) for v in value]
    if isinstance(value, float) and digits is not None:
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


@contextlib.contextmanager
def guarded(path: str | Path, todo: str, what: str = "not what its name says") -> Iterator[None]:
    """Whatever a decoder raises in the block becomes a DataError: ``path`` is missing, damaged, or
    ``what``, and ``todo`` about it. A forbidden file or a full memory stays what it is."""
    try:
        yield
    except (DataError, PermissionError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise DataError(f"{error.filename or path}: is missing; {todo}") from error
    except Exception as error:  # there is no end to what decoders raise
        cause = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
        raise DataError(f"{path}: is damaged, or {what} ({cause}); {todo}") from error


def read_json(path: str | Path, todo: str, **keys: type | tuple[type, ...]) -> dict[str, Any]:
    """An object from a file of JSON; ``keys`` are those that it must have, each of a type.
    Raises: DataError, which says ``todo``."""
    with guarded(path, todo, "no JSON of this kind"):
        if (size := os.path.getsize(path)) > JSON_BYTES:
            raise ValueError(f"{size:,} bytes")
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError(f"a {type(found).__name__}, not an object")
        for key, kind in keys.items():
            if not isinstance(found.get(key), kind):
                raise TypeError(f"`{key}` is {type(found.get(key)).__name__}")
        return found


def read_npz(path: str | Path, todo: str, what: str = "no .npz file of numbers",
             ) -> dict[str, np.ndarray]:
    """The arrays of an npz, by name, all of it read and compared with its check sums. Nothing is
    allocated on the word of a header: a member is as long as its shape and type ask for, and no
    longer than so few bytes can become. Raises: DataError, which says ``what`` it may be and
    ``todo``."""
    with guarded(path, todo, what), zipfile.ZipFile(path) as archive:
        members, arrays = archive.infolist(), {}
        if sum(m.file_size for m in members) > DEFLATE * os.path.getsize(path):
            raise ValueError("its members claim more than so few bytes can become")
        for member in members:
            with archive.open(member) as file:
                check_npy(file, member.file_size)
            with archive.open(member) as file:
                arrays[member.filename.removesuffix(".npy")] = npy.read_array(file)
                file.read(1)  # its end, where the check sum is compared
        return arrays


def write_npz(path: str | Path, arrays: Mapping, method: int = zipfile.ZIP_DEFLATED) -> None:
    """Write a compressed npz of arrays by name, all or nothing; ``method``: as zipfile has them."""
    with replacing(path) as part, zipfile.ZipFile(part, "w", method) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                npy.write_array(file, np.asanyarray(array))


def write_tensors(path: str | Path, tensors: Mapping[str, Any], **notes: Any) -> Path:
    """Tensors by name, and notes as JSON, into a safetensors file with a hash of both, all or
    nothing; returns the path."""
    from safetensors.torch import save_file  # brings torch, which is slow

    text = {name: json.dumps(note) for name, note in notes.items()}
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as part:
        save_file(tensors, part, {**text, "hash": tensor_hash(json.dumps(text, sort_keys=True),
                                                              sorted(tensors.items()))})
    return Path(path)


def read_tensors(path: str | Path, todo: str, what: str = "no file of tensors",
                 ) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors and notes of a safetensors file. Raises: DataError where they are not those that
    ``write_tensors`` wrote (a file without a hash is believed)."""
    from safetensors import safe_open

    with guarded(path, todo, what), safe_open(path, "pt") as file:
        text = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        told, notes = text.pop("hash", None), json.dumps(text, sort_keys=True)
        if told not in (None, tensor_hash(notes, sorted(tensors.items()))):
            raise ValueError("its content has changed since it was written")
        return tensors, {name: json.loads(note) for name, note in text.items()}


def tensor_hash(start: str, tensors: Iterable[tuple[str, Any]], size: int = 16) -> str:
    """A hash, of ``size`` bytes, of a text and of tensors with their names, in that order."""
    import torch

    digest = hashlib.blake2b(start.encode(), digest_size=size)
    for name, value in tensors:
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1, 1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_npy(file: Any, size: int) -> None:
    """ValueError where the head of an open .npy file does not say that it has ``size`` bytes."""
    shape, _, dtype = NPY_HEADERS[npy.read_magic(file)](file)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which are never loaded")
    if dtype.kind not in "biufcSU" or not dtype.itemsize:
        raise ValueError(f"it holds {dtype}, no numbers")
    if min(shape, default=0) < 0 or file.tell() + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"an array of {shape} {dtype} in {size:,} bytes")
