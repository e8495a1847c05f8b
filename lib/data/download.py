"""The public CMS jet images: whole files, or a sample of jets without the rest.

The two files hold 10,000 labelled and 60,000 unlabelled jets, 5 and 30 GB, uncompressed. A
whole file is fetched with the connection allowed to drop at any time; a sample is fetched by
HTTP range requests for the jets wanted (500 kB each) and written as a packed file.
Only the standard library and h5py are used.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lib.data import store
from lib.data.store import Chunk, Header, write_packed
from lib.files import DataError, is_full, replacing

JET_BYTES = 125 * 125 * 8 * 4
PIECE = 1 << 20  # bytes written at once
PAGE = 1 << 16  # bytes fetched at least, when reading the structure of a remote file
SAMPLE_BLOCK = 10  # jets fetched with one request: 5 MB
TIMEOUT = 60  # seconds without an answer before a connection counts as lost


@dataclass(frozen=True)
class Source:
    """A public file: where it is, how many jets and which columns, its length if known."""

    url: str
    jets: int
    columns: tuple[str, ...] = ()
    size: int | None = None  # bytes

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]

    def check_size(self, size: int, where: str) -> None:
        """A file of jets is its pixels and a few kilobytes; DataError for another length."""
        pixels = self.jets * JET_BYTES
        if self.size not in (None, size) or not pixels <= size < 1.01 * pixels + PAGE:
            expected = f"{self.size or pixels:,}" + ("" if self.size else " and a little more")
            raise DataError(f"{where}: has {size:,} bytes, the published file has {expected}; "
                            "it is not that file: remove it, or look for a new address")


SOURCES = {
    "labelled": Source(
        "https://portal.nersc.gov/cfs/m4392/G25/Dataset_Specific_labelled_full_only_for_2i.h5",
        10_000, ("Y", "m", "pT"), 5_000_122_216),
    "unlabelled": Source(
        "https://cernbox.cern.ch/remote.php/dav/public-files/e3pqxcIznqdYyRv/"
        "Dataset_Specific_Unlabelled.h5", 60_000),
}


def download(which: str, folder: str | Path, sample: int | None = None, *,
             sources: Mapping[str, Source] = SOURCES, tries: int = 6,
             sleep: Callable[[float], None] = time.sleep,
             log: Callable[[str], None] = print) -> list[Path]:
    """Fetch ``which`` ("labelled", "unlabelled" or "all") into ``folder``; returns the paths.

    sample: fetch only this many jets of each file, in blocks spread evenly over it, as a
        packed file ``<name>_sample<N>.h5`` that records its origin.
    tries: attempts in a row that bring nothing new before giving up; waits double up to a
        minute and go through ``sleep``. What a whole file has so far stays in ``<name>.part``:
        the same command goes on from there. When complete, ``<name>.json`` records the
        address, the length and the sha256.

    Raises: ValueError for an unknown ``which``; DataError for a server that cannot be reached,
    a file that is not the published one, a full disk, or a sample from a server that ignores
    range requests.
    """
    if which not in (*sources, "all"):
        raise ValueError(f"unknown data {which!r}: use {', '.join(sources)} or all")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = list(sources.values()) if which == "all" else [sources[which]]
    if sample is None:
        return [_whole(source, folder, Remote(source.url, tries, sleep, log), log)
                for source in chosen]
    return [_sample(source, folder, sample, Remote(source.url, tries, sleep, log), log)
            for source in chosen]


# ---------------------------------------------------------------- whole files


def _whole(source: Source, folder: Path, remote: Remote, log: Callable[[str], None]) -> Path:
    target, part = folder / source.name, folder / f"{source.name}.part"
    record, tag = folder / f"{source.name}.json", folder / f"{source.name}.part.json"
    if target.exists():
        source.check_size(target.stat().st_size, str(target))
        _check_structure(source, target)
        log(f"{target}: already here")
    else:
        have = part.stat().st_size if part.exists() else 0
        if have and tag.exists():
            remote.version = json.loads(tag.read_text())["version"]
        missing = (source.size or source.jets * JET_BYTES) - have
        free = shutil.disk_usage(folder).free
        if missing > free:
            raise DataError(f"{target}: {missing / 1e9:.1f} GB are missing and {free / 1e9:.1f} GB "
                            "of the disk are free; free some space and run again")
        log(f"{target}: fetching from {source.url}, {have:,} bytes are here already")
        try:
            _fetch(source, remote, part, tag, have)
        except OSError as error:
            if not is_full(error):
                raise
            raise DataError(f"{target}: the disk is full; free some space and run again, "
                            f"{part.name} keeps what has come") from error
        source.check_size(part.stat().st_size, source.url)
        try:
            _check_structure(source, part)
        except DataError:
            part.unlink()  # complete but wrong: going on from it would never mend it
            raise
        part.replace(target)
        tag.unlink(missing_ok=True)
    if not record.exists():
        with replacing(record) as temporary:
            temporary.write_text(json.dumps({
                "url": source.url, "bytes": target.stat().st_size, "sha256": _sha256(target),
                "version": remote.version, "date": time.strftime("%Y-%m-%d")}, indent=1) + "\n")
    return target


def _fetch(source: Source, remote: Remote, part: Path, tag: Path, have: int) -> None:
    with part.open("r+b" if have else "wb") as file:
        file.seek(have)
        for offset, piece in remote.stream(have, restart=True):
            if remote.size is not None:
                source.check_size(remote.size, source.url)
            if offset != file.tell():
                file.seek(offset)  # back to 0: the server starts over
                file.truncate()
            if offset in (0, have):
                tag.write_text(json.dumps({"version": remote.version}))
            file.write(piece)


def _check_structure(source: Source, path: Path) -> None:
    with store.opened(path) as file:
        header = store.read_header(file, path)
        _check_header(source, header)
        store.in_its_encoding(header, lambda header: next(store.read_chunks(file, header)))


def _check_header(source: Source, header: Header) -> None:
    if header.jets != source.jets or set(source.columns) - set(header.columns):
        wanted = ", ".join(("jet", *source.columns))
        raise DataError(f"{header.path}: holds {header.jets:,} jets and the columns "
                        f"{sorted(header.columns)}; the published file has {source.jets:,} jets "
                        f"and {wanted}: fetch it again, or look for a new address")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------- samples


def _sample(source: Source, folder: Path, jets: int, remote: Remote,
            log: Callable[[str], None]) -> Path:
    if not 1 <= jets <= source.jets:
        raise DataError(f"{source.url}: a sample of {jets} jets is not possible, the file has "
                        f"{source.jets:,}; ask for 1 to {source.jets:,}")
    target = folder / f"{Path(source.name).stem}_sample{jets}.h5"
    if target.exists():
        with store.opened(target) as file:
            header = store.read_header(file, target)
        if header.attributes.get("source") == source.url and header.jets == jets:
            log(f"{target}: already here")
            return target
    log(f"{target}: fetching {jets} jets ({jets * JET_BYTES / 1e6:.0f} MB) from {source.url}")
    rows = _spread(jets, source.jets)
    with h5py.File(remote, "r") as file:
        header = store.read_header(file, source.url)
        _check_header(source, header)
        provenance = {"source": source.url, "bytes": remote.size, "version": remote.version,
                      "rows": rows, "date": time.strftime("%Y-%m-%d")}

        def chunks(header: Header) -> Iterator[Chunk]:
            for start, stop in rows:
                images = np.moveaxis(file["jet"][start:stop], -1, 1)
                chunk = store.checked(store.sparse(images), header, start)
                yield header.with_columns(chunk, start, stop)

        return store.in_its_encoding(header, lambda header: write_packed(
            target, chunks(header), header.shape, header.encoding, provenance))


def _spread(jets: int, total: int) -> list[tuple[int, int]]:
    """Blocks [start, stop) of ``jets`` jets in all, one at the head of each equal stretch."""
    blocks = -(-jets // SAMPLE_BLOCK)
    stretches = [total * number // blocks for number in range(blocks)]
    sizes = [len(part) for part in np.array_split(np.arange(jets), blocks)]
    return [(start, start + size) for start, size in zip(stretches, sizes, strict=True)]


# ---------------------------------------------------------------- HTTP


class Remote(io.RawIOBase):
    """A file behind an address: streamed with retries, or read at random by h5py.

    Reading at random takes whole pages for small reads (the structure of an HDF5 file is many
    small reads) and exactly what was asked for large ones.
    """

    def __init__(self, url: str, tries: int = 6, sleep: Callable[[float], None] = time.sleep,
                 log: Callable[[str], None] = print) -> None:
        self.url, self.tries, self.sleep, self.log = url, tries, sleep, log
        self.size: int | None = None  # bytes, known after the first answer
        self.version: str | None = None  # ETag or date of change, so that parts are not mixed
        self._position, self._pages = 0, {}

    def stream(self, start: int = 0, stop: int | None = None,
               restart: bool = False) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) from ``start`` to ``stop``, going on after a lost connection.

        restart: a server that ignores ranges (or has a newer file) is read from 0 again, and
        the offset says so; otherwise that is a DataError.
        """
        position = furthest = start
        failures = 0
        while stop is None or position < stop:
            try:
                with self._ask(position, stop) as answer:
                    if answer.status != 206 and (position or stop is not None):
                        if not restart:
                            raise DataError(
                                f"{self.url}: the server ignores range requests, so single jets "
                                "cannot be fetched; download the whole file (without --sample)")
                        position = 0
                    elif stop is not None:
                        stop = min(stop, self.size)
                    while piece := answer.read(PIECE):
                        yield position, piece
                        position += len(piece)
                        if position > furthest:
                            furthest, failures = position, 0
                if position == (self.size if stop is None else stop) or self.size is None:
                    return
                cause = "the connection was cut"
            except urllib.error.HTTPError as error:
                if error.code == 416 and restart:  # nothing after this position
                    total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
                    if total == str(position):
                        self.size = position
                        return
                    position = 0
                elif error.code not in (408, 429) and error.code < 500:
                    raise DataError(f"{self.url}: the server answers {error.code} "
                                    f"{error.reason}; look for a new address") from error
                cause = f"the server answers {error.code} {error.reason}"
            except (OSError, http.client.HTTPException) as error:
                cause = str(getattr(error, "reason", error)) or type(error).__name__
            failures += 1
            if failures >= self.tries:
                raise DataError(f"{self.url}: given up after {failures} tries ({cause}); check the "
                                "network and run the same command again")
            wait = min(60, 2**failures)
            self.log(f"{self.url}: {cause}, at {position:,} bytes; trying again in {wait} s")
            self.sleep(wait)

    def _ask(self, position: int, stop: int | None) -> http.client.HTTPResponse:
        request = urllib.request.Request(self.url)
        if position or stop is not None:
            request.add_header("Range", f"bytes={position}-{'' if stop is None else stop - 1}")
            if self.version:
                request.add_header("If-Range", self.version)
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
        if answer.status == 206:
            told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            if not told or int(told[1]) != position:
                raise DataError(f"{self.url}: the server sent another range than asked for; "
                                "download with another tool, into the same folder")
            size = int(told[2])
        else:
            length = answer.headers.get("Content-Length")
            size = None if length is None else int(length)
        self.size = size
        version = answer.headers.get("ETag") or ""
        if not version.startswith('"'):  # a weak tag may not be used for ranges
            version = answer.headers.get("Last-Modified")
        self.version = version
        return answer

    # What h5py asks of a file.

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END and self.size is None:
            self._page(0)
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size or 0}
        self._position = base[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self.size is None:
            self._page(0)
        start = self._position
        stop = min(start + len(view), self.size)
        if stop - start > PAGE:
            for offset, piece in self.stream(start, stop):
                view[offset - start:offset - start + len(piece)] = piece
        else:
            for number in range(start // PAGE, -(-stop // PAGE)):
                page = self._page(number)
                low, high = max(start, number * PAGE), min(stop, (number + 1) * PAGE)
                view[low - start:high - start] = page[low - number * PAGE:high - number * PAGE]
        self._position = max(start, stop)
        return max(0, stop - start)

    def _page(self, number: int) -> bytes:
        if number not in self._pages:
            stop = (number + 1) * PAGE if self.size is None else min((number + 1) * PAGE, self.size)
            self._pages[number] = b"".join(piece for _, piece in
                                           self.stream(number * PAGE, stop))
        return self._pages[number]
