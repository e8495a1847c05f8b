"""Downloads against a local server that drops connections, and one that ignores ranges."""

import contextlib
import gzip
import hashlib
import http.server
import json
import re
import threading

import filelock
import h5py
import numpy as np
import pytest

from course.download import Source, download
from lib.data.images import JetImages
from lib.files import DataError

JETS = 30


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """Bytes of a small file made like the public ones: contiguous, without attributes."""
    path = tmp_path_factory.mktemp("public") / "labelled.h5"
    rng = np.random.default_rng(0)
    images = np.zeros((JETS, 125, 125, 8), np.float32)
    images[rng.random(images.shape) < 0.01] = 1
    images *= rng.integers(1, 256, images.shape)
    with h5py.File(path, "w") as file:
        file["jet"] = images
        file["Y"] = (np.arange(JETS, dtype=np.float32) % 2)[:, None]
        file["m"] = rng.uniform(50, 200, (JETS, 1)).astype(np.float32)
        file["pT"] = rng.uniform(400, 900, (JETS, 1)).astype(np.float32)
    return path.read_bytes(), images


class Server:
    """Serves ``content``; ``cut``: bytes after which a connection is dropped; may misbehave."""

    def __init__(self, content, cut=None, ranges=True, errors=(), mood=None):
        self.mood = mood
        self.content, self.cut, self.ranges = content, cut, ranges
        self.errors, self.asked, self.sent, self.tag = list(errors), [], 0, '"one"'
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/labelled.h5"

    def answer(self, handler):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range") or "")
        self.asked.append(handler.headers.get("Range"))
        if self.errors:
            handler.send_error(self.errors.pop(0))
            return
        if self.mood:
            self.hostile(handler, wanted)
            return
        total, start, stop = len(self.content), 0, len(self.content)
        partial = bool(wanted) and self.ranges
        if partial:
            start, stop = int(wanted[1]), min(total, int(wanted[2] or total - 1) + 1)
        handler.send_response(206 if partial else 200)
        if partial:
            handler.send_header("Content-Range", f"bytes {start}-{stop - 1}/{total}")
        handler.send_header("Content-Length", str(stop - start))
        handler.send_header("ETag", self.tag)
        handler.end_headers()
        if self.cut is not None and stop - start > self.cut:
            stop = start + self.cut
        try:
            handler.wfile.write(self.content[start:stop])
            self.sent += stop - start
        except OSError:
            pass  # the client did not want the rest
        handler.close_connection = True


    def hostile(self, handler, wanted):
        """An answer that is not what it says it is, see ``MOODS``."""
        total = len(self.content)
        start = int(wanted[1]) if wanted else 0
        stop = min(total, int(wanted[2] or total - 1) + 1) if wanted else total
        body, said, length = self.content[start:stop], f"bytes {start}-{stop - 1}/{total}", None
        code, more = 206, {"ETag": '"one"'}
        if self.mood == "another place":
            said = f"bytes {start + 7}-{stop + 6}/{total}"
        elif self.mood == "another place, unsaid":
            body = self.content[start + 7:stop] + b"1234567"
        elif self.mood == "another length each time":
            said = f"bytes {start}-{stop - 1}/{total + len(self.asked)}"
        elif self.mood == "no sense in its numbers":
            said, length = "bytes x-y/z", "many"
        elif self.mood == "negative numbers":
            said, length = f"bytes -5-{stop}/-1", "-1"
        elif self.mood == "more than was asked for":
            body, length = body + b"x" * 100_000, False
        elif self.mood == "half of it, without a length":
            body, length = body[:len(body) // 2], False
        elif self.mood == "a page in its place":
            body = b"<html>sign in</html>"
        elif self.mood == "in circles":
            code, more = 302, {"Location": self.url}
        elif self.mood == "compressed":
            body, more = gzip.compress(body[:2_000_000], 1), {"Content-Encoding": "gzip"}
        handler.send_response(code)
        for name, value in {"Content-Range": said, **more}.items():
            handler.send_header(name, value)
        if length is not False:
            handler.send_header("Content-Length", length or str(len(body)))
        handler.end_headers()
        handler.close_connection = True
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(body)
                if self.mood != "without an end":
                    return


MOODS = ("another place", "another place, unsaid", "another length each time", "without an end",
         "no sense in its numbers", "negative numbers", "more than was asked for", "in circles",
         "half of it, without a length", "a page in its place", "compressed")


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("course.download.TIMEOUT", 2)  # not a minute for each lost answer
    servers = []

    def start(content, **options):
        servers.append(Server(content, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.server.shutdown()
        server.server.server_close()


def fetch(server, folder, sample=None, size=None, tries=4, log=lambda line: None):
    waits = []
    sources = {"labelled": Source(server.url, JETS, ("Y", "m", "pT"), size)}
    try:
        [path] = download("labelled", folder, sample, sources=sources, tries=tries,
                          sleep=waits.append, log=log)
    finally:
        fetch.waits = waits
    return path


def test_whole_file_survives_dropped_connections(public, serve, tmp_path):
    content, _ = public
    server = serve(content, cut=4_000_000)
    path = fetch(server, tmp_path, size=len(content))
    assert path.read_bytes() == content
    assert server.sent == 1 + len(content), "nothing is fetched twice, but for the first byte"
    assert len(server.asked) == 1 + -(-len(content) // 4_000_000)
    assert set(fetch.waits) == {2}, "each attempt brought something, so the wait stays short"
    record = json.loads((tmp_path / "labelled.h5.json").read_text())
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["bytes"] == len(content)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labelled.h5", "labelled.h5.json"]
    asked = len(server.asked)
    assert fetch(server, tmp_path, size=len(content)) == path
    assert len(server.asked) == asked, "a complete file is not fetched again"


def test_a_stopped_download_goes_on_where_it_was(public, serve, tmp_path):
    content, _ = public
    server = serve(content, cut=5_000_000)
    with pytest.raises(DataError, match=r"given up after 1 tries .*same command again"):
        fetch(server, tmp_path, size=len(content), tries=1)
    assert (tmp_path / "labelled.h5.part").stat().st_size == 5_000_000
    assert not (tmp_path / "labelled.h5").exists()
    server.cut = None
    assert fetch(server, tmp_path, size=len(content)).read_bytes() == content
    assert server.asked[-1].startswith("bytes=5000000-")
    assert server.sent == 2 + len(content)


def left(folder, content, size, version='"one"'):
    """What a download that was stopped has left behind."""
    (folder / "labelled.h5.part").write_bytes(content)
    tag = {"bytes": size, "version": version}
    (folder / "labelled.h5.part.json").write_text(json.dumps(tag))


def test_all_bytes_here_but_not_yet_in_place(public, serve, tmp_path):
    content, _ = public
    left(tmp_path, content, len(content))
    server = serve(content)
    assert fetch(server, tmp_path).read_bytes() == content
    assert server.sent == 1


@pytest.mark.parametrize("leave", [
    lambda folder, content: left(folder, content + b"more", len(content)),
    lambda folder, content: left(folder, b"x" * 9_000, len(content) + 1),
    lambda folder, content: left(folder, b"x" * 9_000, len(content), '"zero"'),
    lambda folder, content: (folder / "labelled.h5.part").write_bytes(b"x" * 9_000),
], ids=["too long", "another length", "another version", "of unknown origin"])
def test_a_part_of_something_else_is_thrown_away(public, serve, tmp_path, leave):
    content, _ = public
    leave(tmp_path, content)
    assert fetch(serve(content), tmp_path).read_bytes() == content


def test_a_file_that_changed_on_the_server_is_not_mixed_with_the_old_one(public, serve, tmp_path):
    content, _ = public
    server = serve(b"x" * len(content), cut=5_000_000)

    def publish(line):
        if "trying again" in line:
            server.content, server.tag, server.cut = content, '"two"', None

    with pytest.raises(DataError, match="has changed on the server"):
        fetch(server, tmp_path, log=publish)
    assert fetch(server, tmp_path).read_bytes() == content


@pytest.mark.parametrize("tag", ['W/"one"', ""])
def test_a_change_is_noticed_on_a_server_that_does_not_tell_of_it(public, serve, tmp_path, tag):
    content, _ = public
    server = serve(content[:4_900_000] + b"x" * (len(content) - 4_900_000), cut=5_000_000)
    server.tag = tag

    def publish(line):
        if "trying again" in line:
            server.content, server.cut = content, None

    with pytest.raises(DataError, match="has changed on the server"):
        fetch(server, tmp_path, log=publish)


def test_a_part_with_a_hole_is_thrown_away(public, serve, tmp_path):
    content, _ = public
    left(tmp_path, b"", len(content))
    with (tmp_path / "labelled.h5.part").open("r+b") as file:
        file.truncate(9_000_000)
    assert fetch(serve(content), tmp_path).read_bytes() == content


def test_two_downloads_do_not_meet(public, serve, tmp_path):
    content, _ = public
    with filelock.FileLock(tmp_path / ".labelled.h5.lock"), pytest.raises(
            DataError, match="another download"):
        fetch(serve(content), tmp_path)


def test_a_file_beside_the_record_of_another_is_not_taken_for_it(public, serve, tmp_path):
    content, _ = public
    path = fetch(serve(content), tmp_path)
    changed = bytearray(content)
    changed[-5] ^= 1
    path.write_bytes(changed)
    with pytest.raises(DataError, match=r"not the file that labelled\.h5\.json describes"):
        fetch(serve(content), tmp_path)


@pytest.mark.parametrize("sample", [None, 5])
def test_a_server_without_ranges_is_refused(public, serve, tmp_path, sample):
    content, _ = public
    with pytest.raises(DataError, match=r"ignores range requests.*another tool"):
        fetch(serve(content, ranges=False), tmp_path, sample=sample)
    assert list(tmp_path.iterdir()) == []


def test_server_errors_are_waited_out_but_not_a_wrong_address(public, serve, tmp_path):
    content, _ = public
    assert fetch(serve(content, errors=[503, 429, 500]), tmp_path / "a").exists()
    assert fetch.waits == [2, 4, 8]
    with pytest.raises(DataError, match=r"404.*new address"):
        fetch(serve(content, errors=[404]), tmp_path / "b")
    assert fetch.waits == []


def test_no_server_at_all(public, serve, tmp_path):
    server = serve(b"")
    server.server.server_close()
    with pytest.raises(DataError, match=r"given up after 4 tries \(.*refused.*check the network"):
        fetch(server, tmp_path)


@pytest.mark.parametrize("sample", [None, 5], ids=["whole", "sample"])
@pytest.mark.parametrize("mood", MOODS)
def test_a_hostile_server_is_refused_or_read_rightly(public, serve, tmp_path, mood, sample):
    """One line that says why, and nothing under the file's name; or the file as it is."""
    content, images = public
    path, said = None, ""
    try:
        path = fetch(serve(content, mood=mood), tmp_path, sample=sample, size=len(content))
    except DataError as error:
        said = str(error)
    if path is None:
        assert said
        assert "\n" not in said
        assert not list(tmp_path.glob("*.h5"))
    elif sample is None:
        assert path.read_bytes() == content
    else:
        jets = JetImages.open(path)
        rows = np.concatenate([np.arange(*block) for block in jets.attributes["rows"]])
        np.testing.assert_array_equal(jets.dense(slice(None)).numpy(),
                                      np.moveaxis(images[rows], -1, 1))


def test_another_length_is_refused_before_anything_is_written(public, serve, tmp_path):
    content, _ = public
    with pytest.raises(DataError, match=r"has 15,\d+,\d+ bytes, the published file has 5,000"):
        fetch(serve(content), tmp_path, size=5_000)
    with pytest.raises(DataError, match="has 9 bytes"):
        fetch(serve(b"sign in!\n"), tmp_path)
    assert not (tmp_path / "labelled.h5").exists()


def test_a_complete_file_with_the_wrong_structure_is_refused(public, serve, tmp_path):
    content, _ = public
    with pytest.raises(DataError, match="not an HDF5 file"):
        fetch(serve(b"x" * len(content)), tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".json"] == []


def test_full_disk(public, serve, tmp_path, monkeypatch):
    content, _ = public
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match="free some space"):
        fetch(serve(content), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("jets", [1, 7, 23, JETS])
def test_sample_fetches_only_its_jets(public, serve, tmp_path, jets):
    content, images = public
    server = serve(content, cut=700_000)
    path = fetch(server, tmp_path, sample=jets)
    sample = JetImages.open(path)
    rows = np.concatenate([np.arange(*block) for block in sample.attributes["rows"]])
    assert len(rows) == len(set(rows)) == jets
    np.testing.assert_array_equal(sample.dense(slice(None)).numpy(),
                                  np.moveaxis(images[rows], -1, 1))
    np.testing.assert_array_equal(sample.labels.numpy(), rows % 2)
    assert sample.mass is not None
    assert sample.pt is not None
    assert sample.encoding == "cms8"
    assert sample.attributes["source"] == server.url
    assert server.sent < jets * 500_000 + 500_000
    asked = len(server.asked)
    assert fetch(server, tmp_path, sample=jets) == path
    assert len(server.asked) == asked


def test_sample_spreads_over_the_file(public, serve, tmp_path):
    content, _ = public
    rows = JetImages.open(fetch(serve(content), tmp_path, sample=20)).attributes["rows"]
    assert rows == [[0, 10], [15, 25]]


def test_sample_of_a_lost_server_leaves_nothing(public, serve, tmp_path):
    content, _ = public
    with pytest.raises(DataError, match="given up"):
        fetch(serve(content, errors=[500] * 9), tmp_path, sample=5)
    server = serve(content, cut=0)
    with pytest.raises(DataError, match="given up"):
        fetch(server, tmp_path, sample=5)
    assert list(tmp_path.iterdir()) == []


def test_wrong_requests(public, serve, tmp_path):
    with pytest.raises(ValueError, match="labelled, unlabelled or all"):
        download("everything", tmp_path)
    for jets in (0, JETS + 1):
        with pytest.raises(DataError, match="ask for 1 to 30"):
            fetch(serve(b""), tmp_path, sample=jets)
