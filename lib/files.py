"""The one way to write a file: all of it under its name, or nothing."""

import contextlib
import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class DataError(ValueError):
    """Data that cannot be used; the message names the file, the cause and the next step."""


@contextlib.contextmanager
def replacing(path: str | Path, room: int = 0) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` when the block ends well.

    room: bytes that will be needed; too little space is an error before the work starts.
    Raises: DataError when the disk is full or ``path`` cannot be written, the latter before the
    work starts; the temporary file is removed on any error.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is a folder or a device, not a file; choose another name")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another place or "
                        "mend this one") from error
    for left in path.parent.glob(f".{path.name}.*.part"):  # of a run that was killed
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


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk, the quota or the permitted file size is used up."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError):
        return error.errno in codes
    # safetensors has an error of its own, which tells the code only in words.
    return any(f"os error {code})" in str(error) for code in codes)


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except PermissionError:
        return True
    except (ValueError, ProcessLookupError):
        return False
    return True


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
