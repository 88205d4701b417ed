"""Fetches files from the network; only `learned-opt data prepare` does so, never a run."""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tasks.base import MissingData

TIMEOUT = 30.0  # seconds without an answer or a byte
_CHUNK = 1 << 18  # bytes
_STEPS = 10  # lines about the progress of one file


class Download(NamedTuple):
    """A file of the network. size: in bytes. sha256: in hexadecimal."""

    url: str
    size: int
    sha256: str

    @property
    def file(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]


def plan(downloads: tuple[Download, ...], folder: Path) -> list[str]:
    """Lines that say what `fetch` will do."""
    lines = []
    for download in downloads:
        have = _size(folder / download.file)
        part = _size(_part(folder, download))
        state = "is there" if have == download.size else f"{part:,} there" if part else "to fetch"
        lines.append(f"  {download.url}  {download.size:,} bytes, {state}")
    return [*lines, f"  into {folder}"]


def fetch(downloads: tuple[Download, ...], folder: Path, say: Callable[[str], None]) -> Path:
    """Brings every file to `folder`, whole and with the right checksum; returns the folder.

    What has come of a file lies in NAME.part until the file is whole; a later call goes on from
    there. Raises MissingData where the network or the file is not as it should be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for download in downloads:
        path = folder / download.file
        if _size(path) == download.size and _sha256(path) == download.sha256:
            continue
        try:
            _receive(download, _part(folder, download), say)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise _unfinished(download, folder, str(reason)) from error
        _accept(download, folder)
    return folder


def _part(folder: Path, download: Download) -> Path:
    return folder / (download.file + ".part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unfinished(download: Download, folder: Path, reason: str) -> MissingData:
    part = _part(folder, download)
    return MissingData(
        f"{download.url}: {reason}; {_size(part):,} of {download.size:,} bytes are in {part}, "
        "and the same command goes on from there"
    )


def _receive(download: Download, part: Path, say: Callable[[str], None]) -> None:
    """Appends to `part` what it lacks, or all of it where the server sends no part of a file."""
    have = _size(part)
    if have >= download.size:
        return
    headers = {"User-Agent": "learned-opt", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(download.url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        continues = answer.status == http.client.PARTIAL_CONTENT
        have = have if continues else 0
        say(f"{download.file}: {have:,} of {download.size:,} bytes")
        with part.open("ab" if continues else "wb") as file:
            while have <= download.size and (chunk := answer.read1(_CHUNK)):
                file.write(chunk)
                before, have = have, have + len(chunk)
                if before * _STEPS // download.size < have * _STEPS // download.size:
                    say(f"{download.file}: {have:,} of {download.size:,} bytes")


def _accept(download: Download, folder: Path) -> None:
    """Gives a whole file its name; one with other content is removed."""
    part = _part(folder, download)
    size = _size(part)
    if size < download.size:
        raise _unfinished(download, folder, "the connection broke off")
    found = _sha256(part)
    if size > download.size or found != download.sha256:
        part.unlink()
        raise MissingData(
            f"{download.url}: sent another file, {size:,} bytes with SHA-256 {found} instead of "
            f"{download.size:,} bytes with {download.sha256}; it was removed"
        )
    part.replace(folder / download.file)
