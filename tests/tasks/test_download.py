"""Against a server of this machine: whole, broken off, taken up again, wrong, interrupted."""

import gzip
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tasks import data
from tasks.base import MissingData
from tasks.download import Download, fetch, plan

CONTENT = np.random.default_rng(0).bytes(300_000)


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends what the server holds from the asked byte on; may stop early or ignore the range."""

    def do_GET(self):
        server = self.server
        begin = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        server.asked.append((self.path, begin))
        content = server.files.get(self.path[1:])
        if content is None:
            return self.send_error(404)
        begin = begin if server.ranges else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin : server.stop_at])
        self.wfile.flush()
        if server.stop_at is not None and server.hang:
            server.hang.wait(60)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.asked = {"file.bin": CONTENT}, []
        server.ranges, server.stop_at, server.hang = True, None, None
        server.daemon_threads = True
        server.url = f"http://127.0.0.1:{server.server_port}/"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def of(server, name="file.bin", content=CONTENT):
    return Download(server.url + name, len(content), hashlib.sha256(content).hexdigest())


def quiet(line):
    pass


def test_a_file_comes_whole_and_only_once(server, tmp_path):
    said = []
    fetch((of(server),), tmp_path / "new", said.append)
    assert (tmp_path / "new" / "file.bin").read_bytes() == CONTENT
    assert said[0] == "file.bin: 0 of 300,000 bytes"
    assert said[-1] == "file.bin: 300,000 of 300,000 bytes"
    fetch((of(server),), tmp_path / "new", quiet)
    assert server.asked == [("/file.bin", 0)]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.bin"]


def test_a_broken_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.stop_at = 100_000
    with pytest.raises(MissingData) as caught:
        fetch((of(server),), tmp_path, quiet)
    message = str(caught.value)
    assert "100,000 of 300,000 bytes are in" in message and "file.bin.part" in message
    assert "goes on from there" in message and not (tmp_path / "file.bin").exists()
    assert "100,000 there" in plan((of(server),), tmp_path)[0]
    server.stop_at = None
    fetch((of(server),), tmp_path, quiet)
    assert server.asked == [("/file.bin", 0), ("/file.bin", 100_000)]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    server.ranges = False
    fetch((of(server),), tmp_path, quiet)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("sent", [CONTENT[:-1] + b"?", CONTENT + b"more"])
def test_another_file_is_removed(sent, server, tmp_path):
    server.files["file.bin"] = sent
    with pytest.raises(MissingData, match="sent another file, .* it was removed"):
        fetch((of(server),), tmp_path, quiet)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(b"x" * len(CONTENT))
    fetch((of(server),), tmp_path, quiet)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_no_such_file_no_server_no_answer(server, tmp_path, monkeypatch):
    with pytest.raises(MissingData, match="absent.bin: Not Found"):
        fetch((of(server, "absent.bin"),), tmp_path, quiet)
    nowhere = Download("http://127.0.0.1:9/file.bin", 5, "")
    with pytest.raises(MissingData, match="127.0.0.1:9/file.bin: .*refused"):
        fetch((nowhere,), tmp_path, quiet)
    monkeypatch.setattr("tasks.download.TIMEOUT", 0.2)
    server.stop_at, server.hang = 1000, threading.Event()
    with pytest.raises(MissingData, match="timed out; 1,000 of 300,000 bytes"):
        fetch((of(server),), tmp_path, quiet)
    server.hang.set()


def idx(values):
    header = np.array([0x800 + values.ndim, *values.shape], ">u4")
    return gzip.compress(header.tobytes() + values.tobytes())


@pytest.fixture
def mnist(server):
    """Small files under MNIST's names, and what is needed to fetch them."""
    for part, count in (("train", 50), ("t10k", 20)):
        image = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
        server.files[f"{part}-images-idx3-ubyte.gz"] = idx(image)
        server.files[f"{part}-labels-idx1-ubyte.gz"] = idx(np.arange(count, dtype=np.uint8) % 10)
    return tuple(of(server, n, content) for n, content in server.files.items() if "idx" in n)


def test_prepare_says_what_it_fetches_fetches_and_prepares(
    server, mnist, tmp_path, monkeypatch, capsys
):
    from meta_train.cli import main

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setitem(data.FILES, "mnist", data.FILES["mnist"]._replace(downloads=mnist))
    with pytest.raises(MissingData):
        data.load("mnist")
    assert server.asked == []  # only the command goes to the network
    assert main(["data", "prepare", "mnist"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mnist: downloading" and mnist[0].url in lines[1]
    assert lines[1].endswith(f"{mnist[0].size:,} bytes, to fetch")
    assert lines[5] == f"  into {tmp_path / 'downloads' / 'mnist'}"
    assert lines[-1] == f"mnist: {tmp_path / 'mnist' / '1.0.0'}"
    assert len(data.load("mnist")["test"]["label"]) == 20
    assert main(["data", "prepare", "mnist"]) == 0  # is there
    assert len(server.asked) == 4


def test_an_interrupted_command_leaves_what_came(server, mnist, tmp_path):
    server.stop_at, server.hang = 5000, threading.Event()
    # A suite that a shell has put in the background ignores SIGINT, and so would the process.
    script = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from tasks import data
from tasks.download import Download
from meta_train.cli import main
downloads = tuple(Download(*fields) for fields in json.loads(sys.argv[1]))
data.FILES["mnist"] = data.FILES["mnist"]._replace(downloads=downloads)
sys.exit(main(["data", "prepare", "mnist"]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, json.dumps(mnist)],
        env={**os.environ, "TFDS_DATA_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not server.asked and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    server.hang.set()
    assert process.returncode == 130, err
    assert err == "interrupted; the same command goes on from there\n"
    part = tmp_path / "downloads" / "mnist" / "train-images-idx3-ubyte.gz.part"
    assert part.stat().st_size == 5000 and out.startswith("mnist: downloading")


def test_from_takes_the_files_of_one_dataset(tmp_path, capsys):
    from meta_train.cli import main

    assert main(["data", "prepare", "all", "--from", str(tmp_path)]) == 2
    assert "one dataset, not of all" in capsys.readouterr().err
    assert main(["data", "prepare", "mnist", "--from", str(tmp_path)]) == 3
    assert "has neither train-images-idx3-ubyte" in capsys.readouterr().err
    assert main(["data", "prepare", "wine", "--from", str(tmp_path)]) == 2
