"""The public CMS jet images: whole files, or a sample of jets without the rest.

Both ways use HTTP range requests, so the connection may drop at any time: a whole file (5 and 30
GB) goes on from where it was, a sample is the jets wanted (500 kB each), packed. Versions of a file
are never mixed: every answer must bring the length and the version (ETag, or date) of the first."""

import contextlib
import hashlib
import http.client
import io
import os
import re
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import h5py
import numpy as np
from tqdm import tqdm

from lib.cms import PUBLIC
from lib.data import store
from lib.files import DataError, guarded, read_json, require, write_json

JET_BYTES = 125 * 125 * 8 * 4
PIECE = 1 << 20  # bytes written at once
PAGE = 1 << 16  # bytes fetched at least, when reading the structure of a remote file
SAMPLE_BLOCK = 10  # jets fetched with one request: 5 MB
CHANGED = "has changed on the server while it was being read; run the command again"
TIMEOUT = 60  # seconds without an answer before a connection counts as lost
Log = Callable[[str], None]


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

    def check_size(self, size: int, where: Path | str) -> None:
        """A file of jets is its pixels and a few kilobytes; DataError for another length."""
        pixels = self.jets * JET_BYTES
        require(self.size in (None, size) and pixels <= size < 1.01 * pixels + PAGE, where,
                f"has {size:,} bytes, the published file has {self.size or pixels:,} or a "
                "little more; it is not that file: remove it, or look for a new address")

    def check(self, header: store.Header) -> None:
        """DataError for a file of another number of jets or without these columns."""
        good = header.jets == self.jets and set(self.columns) <= set(header.columns)
        require(good, header.path, f"holds {header.jets:,} jets with {[*header.columns]}, "
                f"the published file {self.jets:,} with {[*self.columns]}: fetch it again, "
                "or look for a new address")

    def check_file(self, path: Path) -> None:
        """DataError for a file on disk that cannot be the published one."""
        self.check_size(path.stat().st_size, path)
        with store.opening(path) as (header, chunks):
            self.check(header)
            next(chunks)


SOURCES = {
    "labelled": Source(f"https://portal.nersc.gov/cfs/m4392/G25/{PUBLIC['labelled']}",
                       10_000, ("Y", "m", "pT"), 5_000_122_216),
    "unlabelled": Source("https://cernbox.cern.ch/remote.php/dav/public-files/e3pqxcIznqdYyRv/"
                         f"{PUBLIC['unlabelled']}", 60_000)}


def download(which: str, folder: str | Path, sample: int | None = None, *,
             sources: Mapping[str, Source] = SOURCES, tries: int = 6,
             sleep: Callable[[float], None] = time.sleep, log: Log = print) -> list[Path]:
    """Fetch ``which`` ("labelled", "unlabelled" or "all") into ``folder``; returns the paths.

    sample: only this many jets of each file, in blocks spread evenly over it, as a packed file
        ``<name>_sample<N>.h5`` that records its origin.
    tries: attempts in a row that bring nothing new before giving up. What a whole file has so far
        stays in ``<name>.part``: the same command goes on from there. When complete,
        ``<name>.json`` records the address, the length and the sha256.

    Raises: ValueError for an unknown ``which``; DataError for a server that cannot be reached or
    ignores range requests, a file that is not the published one, and too small a disk."""
    if which not in (*sources, "all"):
        raise ValueError(f"unknown data {which!r}: use {', '.join(sources)} or all")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fetch = _whole if sample is None else partial(_sample, jets=sample)
    return [fetch(source, Remote(source.url, tries, sleep, log), folder)
            for name, source in sources.items() if which in (name, "all")]


def _whole(source: Source, remote: "Remote", folder: Path) -> Path:
    """The file, fetched or gone on with; nobody else fetches it meanwhile."""
    target, lock = folder / source.name, folder / f".{source.name}.lock"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(filelock.FileLock(lock, timeout=0))
        except filelock.Timeout as error:
            raise DataError(f"{target}: another download of it is under way; wait") from error
        stack.callback(lock.unlink, missing_ok=True)
        return _fetched(source, remote, target)


def _fetched(source: Source, remote: "Remote", target: Path) -> Path:
    part, record, tag = (target.with_name(f"{target.name}{end}")
                         for end in (".part", ".json", ".part.json"))
    again = f"delete it and {target.name}, and fetch them again"
    known = read_json(record, again, sha256=str) if record.exists() else {}
    if target.exists():
        source.check_file(target)
        require(known.get("sha256") in (None, sha256(target)), target, "is not the file that "
                f"{record.name} describes; {again}")
        remote.log(f"{target}: already here")
    else:
        size = remote.identify()
        source.check_size(size, source.url)
        have = _trusted(part, tag, remote.identity)
        missing, free = size - have, shutil.disk_usage(target.parent).free
        require(missing <= free, target, f"{missing / 1e9:.1f} GB are missing and "
                f"{free / 1e9:.1f} GB of the disk are free; free some space and run again")
        remote.log(f"{target}: fetching from {source.url}, {have:,} bytes are here already")
        write_json(tag, remote.identity)
        with part.open("r+b" if have else "w+b") as file, tqdm(
                total=size, initial=have, unit="B", unit_scale=True, desc=target.name,
                disable=not sys.stderr.isatty()) as bar:
            file.seek(max(0, have - PAGE))
            seen = file.read()  # compared with what the server has there now
            for piece in remote.stream(have, size, seen):
                file.write(piece)
                bar.update(len(piece))
        try:
            source.check_file(part)
        except DataError:
            part.unlink()  # complete but wrong: going on from it would never mend it
            raise
        part.replace(target)
        tag.unlink()
        known = {}
    if not known:
        write_json(record, {"url": source.url, "bytes": target.stat().st_size,
                            "sha256": sha256(target), "version": remote.identity.get("version"),
                            "date": time.strftime("%Y-%m-%d")})
    return target


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _trusted(part: Path, tag: Path, identity: dict) -> int:
    """How many bytes of a part can be gone on from: of the same version, and without holes."""
    with contextlib.suppress(DataError, OSError), part.open("rb") as file:
        have = part.stat().st_size
        whole = os.lseek(file.fileno(), 0, os.SEEK_HOLE) == have <= identity["bytes"]
        if whole and identity["version"] and read_json(tag, "") == identity:
            return have
    return 0


def _sample(source: Source, remote: "Remote", folder: Path, jets: int) -> Path:
    require(1 <= jets <= source.jets, source.url, f"a sample of {jets} jets is not possible; "
            f"ask for 1 to {source.jets:,}")
    target = folder / f"{Path(source.name).stem}_sample{jets}.h5"
    if target.exists():
        with store.opening(target) as (header, _):
            if header.attributes.get("source") == source.url and header.jets == jets:
                remote.log(f"{target}: already here")
                return target
    remote.log(f"{target}: {jets * JET_BYTES / 1e6:.0f} MB of {jets} jets from {source.url}")
    blocks = -(-jets // SAMPLE_BLOCK)  # one at the head of each equal stretch of the file
    rows = [(start := source.jets * number // blocks, start + len(part))
            for number, part in enumerate(np.array_split(np.arange(jets), blocks))]
    remote.identify()
    with guarded(source.url, "look for a new address", "not what was published"), h5py.File(
            io.BufferedReader(remote, PAGE), "r") as file:
        header = store.read_header(file, source.url)
        source.check(header)
        chunks = (store.checked(store.sparse(np.moveaxis(file["jet"][a:b], -1, 1)), header, a)
                  for a, b in rows)
        return store.write_packed(target, chunks, header.shape, header.encoding, {
            "source": source.url, **remote.identity, "rows": rows,
            "date": time.strftime("%Y-%m-%d")})


class Remote(io.RawIOBase):
    """A file behind an address: streamed, or read at random by h5py; patient with the network."""

    def __init__(self, url: str, tries: int, sleep: Callable[[float], None], log: Log) -> None:
        self.url, self.tries, self.sleep, self.log = url, tries, sleep, log
        self.identity: dict[str, Any] = {}  # its bytes and version, after the first answer
        self._position = 0

    def identify(self) -> int:
        """The length: asks for one byte, and with it for the length and the version."""
        list(self.stream(0, 1))
        return self.identity["bytes"]

    def stream(self, start: int, stop: int, seen: bytes = b"") -> Iterator[bytes]:
        """The bytes from ``start`` to ``stop`` in pieces, going on after a lost connection. Where
        the server has no strong tag to tell that its file has changed, what was ``seen`` last,
        before ``start``, is fetched again and compared."""
        failures = 0
        while start < stop:
            cause = "the connection was cut"
            if str(self.identity.get("version")).startswith('"'):
                seen = b""
            try:
                with self._ask(start - len(seen), stop) as answer:
                    require(seen.startswith(answer.read(len(seen))), self.url, CHANGED)
                    while piece := answer.read(min(PIECE, stop - start)):
                        yield piece
                        start, failures, seen = start + len(piece), 0, piece[-PAGE:]
            except (OSError, http.client.HTTPException) as error:
                cause = " ".join(str(error).split()) or type(error).__name__
                code = getattr(error, "code", 500)
                if code < 500 and code not in (408, 429):
                    raise DataError(f"{self.url}: {cause}; look for a new address") from error
            if start < stop:
                failures += 1
                require(failures < self.tries, self.url, f"given up after {failures} tries "
                        f"({cause}); check the network and run the same command again")
                wait = min(60, 2**failures)
                self.log(f"{self.url}: {cause}, at {start:,} bytes; trying again in {wait} s")
                self.sleep(wait)

    def _ask(self, start: int, stop: int) -> http.client.HTTPResponse:
        request = urllib.request.Request(self.url, headers={"Range": f"bytes={start}-{stop - 1}"})
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
        told = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.headers.get("Content-Range", ""))
        require(answer.status == 206 and told and int(told[1]) == start, self.url,
                "the server ignores range requests; download the whole file (without "
                "--sample) with another tool, into the same folder")
        length = str(int(told[2]) - int(told[1]) + 1)
        require(answer.headers.get("Content-Length") in (None, length), self.url,
                "its answer is not as long as it says, as a page to sign in would be; open "
                "the address in a browser")
        found = {"bytes": int(told[3]),
                 "version": answer.headers.get("ETag") or answer.headers.get("Last-Modified")}
        require(self.identity in ({}, found), self.url, CHANGED)
        self.identity = found
        return answer

    def readable(self) -> bool:
        return True

    seekable = readable

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self.identity["bytes"])[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self.identity["bytes"])
        found = b"".join(self.stream(self._position, stop))
        memoryview(buffer).cast("B")[:len(found)] = found
        self._position += len(found)
        return len(found)
