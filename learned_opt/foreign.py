"""What a file is that should have been weights, from its first bytes."""

_MAGIC = {
    b"PK\x03\x04": "a zip archive (PyTorch and .npz files are)",
    b"\x93NUMPY": "a .npy array",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip file",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself",
}
_PAGES = (b"<!doctype", b"<html", b"<?xml")
HEAD = 24  # bytes that `kind_of_file` needs


def kind_of_file(head: bytes) -> str | None:
    """ "a pickle", "a gzip file" and so on; None for what no such file starts with."""
    if head.lstrip().lower().startswith(_PAGES):
        return "a web page: the address may need a login, or be that of a page about the file"
    if head[8:10] in (b'{"', b"{ "):
        return "a safetensors file"
    return next((what for magic, what in _MAGIC.items() if head.startswith(magic)), None)
