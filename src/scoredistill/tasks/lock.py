"""One process at a time in an output directory.

The file .lock in the directory names the process that uses it, and that process holds a lock of the operating system on
it, which ends with the process however it ends: a file that a killed process left does not stop the next run.
"""

import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

NAME = ".lock"
TRIES, PAUSE = 4, 0.05  # another process may look at the lock just now
WAIT = "wait until it has ended, or give another directory for --out"
BOOT = Path("/proc/sys/kernel/random/boot_id")  # names the running system, which containers of a host share


class Busy(ValueError):
    """Another process uses the directory; the message names it."""


class Elsewhere(Busy):
    """A process of another system was the last to use the directory; nothing here shows that it lives."""


class Lock:
    """The lock of a directory.

    Args:
        folder: the directory, which need not exist yet.
        command: what to call the process in messages of others.
    """

    def __init__(self, folder: Path, command: str = ""):
        self.folder, self.command = folder, command
        self._held: Any = None

    @property
    def file(self) -> Path:
        """The file that names the process."""
        return self.folder / NAME

    def check(self) -> None:
        """Refuse a directory that another process uses; writes nothing.

        Raises:
            Busy: naming the process.
        """
        if self._held is None and self.file.is_file():
            with self._opened("rb") as file:
                self._grab(file)

    def acquire(self) -> None:
        """Take the lock; a process that holds it already keeps it.

        Raises:
            Busy: if another process holds it, naming that process.
            OSError: if the file cannot be written.
        """
        while self._held is None:
            file = self._opened("ab+")
            try:
                self._grab(file)
                if not self._is_current(file):  # its last holder has just removed it
                    file.close()
                    continue
                self._held = file
                file.truncate(0)
                file.write(json.dumps(self._owner()).encode())
                file.flush()
            except BaseException:
                if self._held is None:
                    file.close()
                else:
                    self.release()  # on a full disk, for example, nothing stays
                raise

    def take_over(self) -> None:
        """Take the lock even if a process of another system was the last to hold it.

        Raises:
            Busy: if a process of this system holds it, naming that process.
            OSError: if the file cannot be written.
        """
        try:
            self.acquire()
        except Elsewhere:  # not a lock that is held, whatever its file says
            self.file.unlink(missing_ok=True)
            self.acquire()

    def release(self) -> None:
        """Give the lock back and remove its file; without the lock, do nothing."""
        held, self._held = self._held, None
        if held is None:
            return
        if os.name == "nt":  # open files cannot be removed there
            held.close()
        with suppress(OSError):  # the lock itself ends with the file handle
            self.file.unlink(missing_ok=True)
        with suppress(OSError):  # what a full disk has no room for
            held.close()

    def _opened(self, mode: str) -> Any:
        if self.file.is_symlink():
            raise Busy(f"{self.file} is a symbolic link: remove it, or give another directory for --out")
        return self.file.open(mode)

    def _grab(self, file: Any) -> None:
        """Lock an open file, or raise Busy."""
        for left in reversed(range(TRIES)):
            try:
                known = _lock(file)
                break
            except BlockingIOError:
                if not left:
                    raise Busy(f"{self._said(_read(self.file))}: {WAIT}") from None
                time.sleep(PAUSE)
        owner = _read(self.file)
        if not owner or _same_system(owner):
            if not known and owner and _lives(owner):
                raise Busy(f"{self._said(owner)}: {WAIT}")
            return
        mend = f"if it has ended, delete {self.file} and try again"
        raise Elsewhere(f"{self._said(owner)}, or was when it stopped: {mend}")

    def _said(self, owner: dict[str, Any]) -> str:
        command = f" ({owner['command']})" if owner.get("command") else ""
        who = f"process {owner.get('process', 'unknown')} on {owner.get('host', 'an unknown host')}{command}"
        return f"{self.folder} is in use by {who}"

    def _is_current(self, file: Any) -> bool:
        """Whether the open file is the one in the directory."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.file.stat())
        except FileNotFoundError:
            return False

    def _owner(self) -> dict[str, Any]:
        return {"process": os.getpid(), "host": socket.gethostname(), "system": _system(), "command": self.command}


def _system() -> str:
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""


def _same_system(owner: dict[str, Any]) -> bool:
    """Whether the process ran here, where a lock that it held could be seen."""
    return owner.get("host") == socket.gethostname() or (bool(_system()) and owner.get("system") == _system())


def _read(path: Path) -> dict[str, Any]:
    """What the file says; empty if it is not readable."""
    try:
        owner = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _lives(owner: dict[str, Any]) -> bool:
    """Whether the process of a file runs, other than this one; only where files cannot be locked."""
    process = owner.get("process")
    if not isinstance(process, int) or process in (0, os.getpid()) or os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if sys.platform == "win32":
    import msvcrt

    FAR = 2**30  # a byte behind the content, which others are to read

    def _lock(file: Any) -> bool:
        """Lock an open file for this process.

        Returns:
            Whether the file system has locks.

        Raises:
            BlockingIOError: if another process has locked it.
        """
        try:
            file.seek(FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(str(error)) from error
        finally:
            file.seek(0)
        return True

else:
    import fcntl

    def _lock(file: Any) -> bool:
        """Lock an open file for this process.

        Returns:
            Whether the file system has locks.

        Raises:
            BlockingIOError: if another process has locked it.
        """
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            return False
        return True
