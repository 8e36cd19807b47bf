"""Regular files told from what has no content of its own: folders, FIFOs, devices and sockets."""

from __future__ import annotations

import os
import stat

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def check_regular(path: str | os.PathLike) -> None:
    """Raise OSError unless `path` is a regular file: a FIFO or a device could keep its reader waiting for ever."""
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind != stat.S_IFREG:
        raise OSError(f"{path} is {_KINDS.get(kind, 'of a special kind')}, not a regular file, and is not read")
