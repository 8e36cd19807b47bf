"""A process for work that its process may not survive: native decoders crash, abort or hang on damaged files.

The worker computes one function call after another. If it dies or no longer makes progress, only that call fails: the
next one starts a new process. Nothing heavy is imported here, so the calling process stays light.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.reduction
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .memory import most_memory, resident
from .parent import end_with_parent
from .progress import steps

LIMITS = ("OPENAVC_PATIENCE", "OPENAVC_MEMORY")  # environment variables
PATIENCE = 60.0  # seconds without a step of decoding or computing, after which a process counts as hanging
_ENOUGH = 2**30  # bytes, which each of many workers may take
_GLANCE = 0.02  # seconds between two looks at the memory, in which a process can take some 50 MB
_PULSE = 1.0  # seconds between two looks at the progress
_ENDING = 5.0  # seconds that a process which was told to stop may take
_FROM_OUTSIDE = ("SIGHUP", "SIGINT", "SIGKILL", "SIGTERM")  # sent by people, or by a system that is out of memory


class WorkerDied(OSError):
    """The process of a call died or hung; the message says how."""


class WorkerKilled(WorkerDied):
    """The process of a call was killed from outside: the call needn't be the reason."""


def patience() -> float:
    """Return how many seconds a call may go without progress: `OPENAVC_PATIENCE`, or 60.

    Raises
    ------
    ValueError
        If the variable isn't a positive number.
    """
    given = os.environ.get("OPENAVC_PATIENCE") or PATIENCE
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"OPENAVC_PATIENCE must be a positive number of seconds such as 60, got {given!r}")
    return seconds


class Worker:
    """Calls functions in a process of its own; use it as a context manager.

    The process is started by the first call, and again by the first call after it died. If it takes more memory than
    it may, it is killed.

    Parameters
    ----------
    setup : callable, optional
        Called in each new process before anything else; picklable.
    workers : int
        How many there are in all; they share the memory, but each may take 1 GiB.

    Raises
    ------
    ValueError
        If `OPENAVC_MEMORY` isn't a size.
    """

    def __init__(self, setup: Callable[[], None] | None = None, workers: int = 1) -> None:
        self._setup = setup
        self._stopped = False
        self._process: Any = None
        self._connection: Any = None
        self._warned: dict = {}  # so that a warning is repeated, or not, as in one process
        self._last_words = -1, ""  # descriptor and name of the file of native code's standard error
        self.share_memory(workers)

    def share_memory(self, workers: int) -> None:
        """Let so many workers in all share the memory, of which each may take 1 GiB."""
        most = most_memory() or 0  # if nobody knows
        self._workers = workers
        self._most_memory = max(most // workers, min(most, _ENOUGH))

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._connection.close()  # the process ends when it has nothing more to receive
            self._process.join(_ENDING)
            self._bury()

    def start(self) -> None:
        """Start the process, which then imports what it needs while the caller does something else."""
        if self._stopped:
            raise WorkerKilled("the process at work on it was stopped")
        if self._process is not None:
            return
        context = multiprocessing.get_context("spawn")  # a fork would inherit locks of threads
        descriptor, name = tempfile.mkstemp(prefix="openavc-")
        self._last_words = descriptor, name
        words: Any = name
        if sys.platform != "win32":  # which keeps open files
            os.unlink(name)
            words = _Inherited(descriptor)
        self._connection, other = context.Pipe()
        process: Any = context.Process(target=_serve, args=(other, words, self._setup), daemon=True)
        process.start()
        other.close()
        self._process = process
        if self._stopped:  # meanwhile
            process.kill()

    def stop(self) -> None:
        """Kill the process, from any thread; a call that waits for it raises WorkerKilled, and no other is taken."""
        self._stopped = True
        if (process := self._process) is not None:
            process.kill()

    def call(
        self, function: Callable, *arguments: Any, limit: float | None = None, warned: list[dict] | None = None
    ) -> Any:
        """Return what `function(*arguments)` returns in the process, or raise what it raises.

        Warnings are given here, unless a list takes them.
        What native code writes to the standard error is dropped; what Python writes is not.

        Parameters
        ----------
        function : callable
        *arguments
            Like the function and its result, they must be picklable.
        limit : float, optional
            Seconds that may pass without progress before the process is killed; any number by default.
        warned : list, optional
            Takes the warnings, for `give_warnings`. Threads other than the first shouldn't give any.

        Raises
        ------
        WorkerDied, WorkerKilled
            If the process died, hung, took too much memory or was killed.
        """
        self._make_ready()
        given: list[dict] = []
        try:
            kind, answer = self._answer((function, arguments), limit, given if warned is None else warned)
        except (EOFError, ConnectionError):
            raise self._ended() from None
        finally:
            give_warnings(given, self._warned)  # only now: a filter may turn them into errors
        if kind == "raised":
            raise answer
        return answer

    def _make_ready(self) -> None:
        """Start the process, or another one if it died since the last call, and wait until it answers."""
        for last_try in (False, True):
            self.start()
            try:
                self._answer((bool, ()), None, [])
                return
            except (EOFError, ConnectionError):
                ended = self._ended()
                if last_try:
                    raise ended from None

    def _answer(self, call: tuple, limit: float | None, warned: list[dict]) -> tuple[str, Any]:
        """Send a call and return ("returned", result) or ("raised", error); raise WorkerDied if it takes too much."""
        self._connection.send(call)
        latest = time.monotonic()
        while True:
            while not self._connection.poll(_GLANCE):
                if limit is not None and time.monotonic() > latest + limit:
                    raise self._given_up(
                        f"it hung: nothing happened for {limit:g} s",
                        "OPENAVC_PATIENCE sets how many seconds to wait",
                    )
                if self._most_memory and (resident(self._process.pid) or 0) > self._most_memory:
                    raise self._given_up(
                        f"it took more than {self._most_memory / 2**30:.3g} GiB of memory",
                        self._memory_advice(),
                    )
            kind, content = self._connection.recv()
            if kind in ("returned", "raised"):
                return kind, content
            if kind == "warned":
                warned.append(content)
            latest = time.monotonic()

    def _memory_advice(self) -> str:
        """Say which setting would allow twice as much memory."""
        twice = 2 * self._most_memory * self._workers
        size = f"{-(-twice // 2**30)}G" if twice >= 2**30 else f"{-(-twice // 2**20)}M"
        shared = f", which {self._workers} processes share," if self._workers > 1 else ""
        return f"OPENAVC_MEMORY={size}{shared} allows twice as much"

    def _given_up(self, why: str, advice: str) -> WorkerDied:
        """Kill the process, and return why."""
        self._bury()
        return WorkerDied(f"{why}, and its process was killed ({advice})")

    def _ended(self) -> WorkerDied:
        """Wait for a process that ends, and return how it did."""
        self._process.join(_ENDING)
        return self._bury()

    def _bury(self) -> WorkerDied:
        """End the process if it lives, and return how it ended."""
        self._process.kill()
        self._process.join()
        self._connection.close()
        code = self._process.exitcode
        descriptor, name = self._last_words
        with os.fdopen(descriptor, errors="replace") as file:
            file.seek(0)
            lines = file.read().strip().splitlines()
        Path(name).unlink(missing_ok=True)
        self._process = None
        if code >= 0:
            return WorkerDied(f"the process at work on it ended, with status {code}")
        cause = signal.Signals(-code).name
        if cause in _FROM_OUTSIDE:
            hint = " (out of memory?)" if cause == "SIGKILL" else ""
            return WorkerKilled(f"the process at work on it was killed by {cause}{hint}")
        return WorkerDied(f"the process at work on it crashed: {': '.join([cause, *lines[-1:]])}")


def give_warnings(warned: list[dict], registry: dict) -> None:
    """Give warnings that a process sent; the registry remembers which, so that they are repeated as in one process."""
    for warning in warned:
        warnings.warn_explicit(**warning, registry=registry)


class _Inherited:
    """An open file that a process which is being started inherits, and there detaches.

    Pickled any earlier, a file would be handed over through a socket in the temporary folder, which a kill leaves.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __reduce__(self) -> tuple:
        return _same, (multiprocessing.reduction.DupFd(self._descriptor),)


def _same(received: Any) -> Any:
    return received


def _serve(connection: Any, last_words: Any, setup: Callable[[], None] | None) -> None:
    """Answer the calls that come through a connection, until it is closed."""
    speaking = threading.Lock()

    def send(kind: str, content: Any = None) -> None:
        with speaking:
            connection.send((kind, content))

    def warn(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        send("warned", {"message": str(message), "category": category, "filename": filename, "lineno": lineno})

    warnings.showwarning = warn
    warnings.simplefilter("always")  # the caller's filters decide
    _divert_native_errors(last_words)
    end_with_parent()
    threading.Thread(target=_pulse, args=(send,), daemon=True).start()
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):
        if setup is not None:
            setup()
        while True:
            function, arguments = connection.recv()
            os.ftruncate(2, 0)  # last words are those of one call
            try:
                answer = "returned", function(*arguments)
            except Exception as error:
                answer = "raised", _picklable(error)
            send(*answer)


def _pulse(send: Callable[[str], None]) -> None:
    """Tell the caller from time to time whether there was progress."""
    before = steps()
    with contextlib.suppress(OSError):  # nobody listens any more
        while True:
            time.sleep(_PULSE)
            now = steps()
            if now != before:
                send("alive")
            before = now


def _picklable(error: Exception) -> Exception:
    """Return the error, or one with its type and message if it can't be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _divert_native_errors(last_words: Any) -> None:
    """Send what native code writes to the standard error to a file; Python's own output still goes where it went."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    if sys.platform == "win32":
        file = os.open(last_words, os.O_WRONLY | os.O_APPEND)
    else:
        import fcntl

        file = last_words.detach()
        fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
    os.dup2(file, 2)
    os.close(file)
