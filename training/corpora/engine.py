"""ViZDoom's engine, a process of its own: it ends with the process that plays, and leaves no memory behind.

By itself the engine outlives a player that is killed, and its shared memory stays until the next boot.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

_SCRIPT = "_vizdoom.sh"  # beside the engine's own files in its working folder
# 1 is PR_SET_PDEATHSIG, the signal that a process gets when its parent ends, unless that was before it asked for it.
_GUARD = """import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
_SHARED = Path("/dev/shm")  # Linux alone shows shared memory as files
_PREFIX = "ViZDoom"


def end_with_player(game: Any) -> None:
    """Have the system kill the engine of a DoomGame when this process ends, on Linux; before `game.init()`."""
    if not sys.platform.startswith("linux"):
        return
    import vizdoom

    engine, script = Path(vizdoom.__file__).with_name("vizdoom"), Path(_SCRIPT).resolve()
    started = shlex.join([sys.executable, "-ISc", _GUARD, str(os.getpid()), str(engine)])
    script.write_text(f'#!/bin/sh\nexec {started} "$@"\n')
    script.chmod(0o755)
    if os.access(script, os.X_OK):  # not on a disk from which nothing may be started
        game.set_vizdoom_path(str(script))


def remove_shared_memory() -> None:
    """Remove the shared memory of this user's engines that no process uses any longer."""
    unused = _unused()
    if unused:
        time.sleep(0.2)  # an engine that has just made its memory has mapped it then
        for path in unused & _unused():
            path.unlink(missing_ok=True)  # another process may have removed it


def _unused() -> set[Path]:
    """Return the shared memory of this user's engines that no process has mapped."""
    found = set()
    for path in _SHARED.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_uid == os.getuid():
                found.add(path)
    used = _mapped() if found else set()
    return {path for path in found if str(path) not in used}


def _mapped() -> set[str]:
    """Return the shared memory of engines that processes of this user have mapped."""
    found: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # ended, or another user's
            found.update(line.split()[-1] for line in maps.read_text(errors="replace").splitlines() if _PREFIX in line)
    return found
