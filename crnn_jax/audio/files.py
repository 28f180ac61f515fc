"""Open an audio file, local or remote, for decoding; and report why it cannot be used."""

import contextlib
import dataclasses
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

import soundfile
from etils import epath

Reason = Literal[
    "missing",
    "unreadable",
    "empty file",
    "not audio",
    "no samples",
    "not finite",
    "silent",
    # Of music that is rendered.
    "not a score",
    "no notes",
    "not rendered",
    "time limit",
]


class AudioError(Exception):
    """An audio file that cannot be used.

    Attributes
    ----------
    reason
        The cause, one of a few fixed strings, for counting.
    message
        One line that names the file.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


class ForwardSound(soundfile.SoundFile):
    """A sound file whose reads are always consecutive.

    After every read of a seekable file, `soundfile` seeks to the current position. The MP3 decoder
    treats that like any other seek, which corrupts the samples that follow.
    """

    def __init__(self, local: str, path: str) -> None:
        super().__init__(local)
        self.path = path

    def seekable(self) -> bool:
        return False


@dataclasses.dataclass(frozen=True)
class LocalFile:
    """An audio file on a local disk.

    Attributes
    ----------
    path
        The path as the user gave it.
    local
        Path of the file itself, or of the local copy of a remote file.
    """

    path: str
    local: str

    @contextlib.contextmanager
    def opened(self) -> Iterator[ForwardSound]:
        """Open the file for decoding from the first sample."""
        # Raw audio does not state its rate, and libsndfile only accepts names in UTF-8.
        if self.path.lower().endswith(".raw") or not is_utf8(self.path):
            raise AudioError("not audio", f"{self.path!a}: raw audio, or a name that is not UTF-8")
        try:
            # By its name: an MP3 with two kinds of tags is recognised only by its suffix.
            sound = ForwardSound(self.local, self.path)
        except soundfile.LibsndfileError as error:
            raise _refusal(self, error) from error
        with sound:
            # A file without a header decodes to noise if its suffix is .au, .snd, .vox or .gsm.
            if sound.format == "RAW":
                raise _refusal(self)
            yield sound


@contextlib.contextmanager
def fetched(path: str | os.PathLike[str]) -> Iterator[LocalFile]:
    """Provide a file on a local disk while it is being read."""
    name = os.fspath(path)
    # libsndfile would cut the name at the null byte and open another file.
    if "\0" in name:
        raise AudioError("missing", f"{name!a}: no such file")
    if "://" not in name:
        yield LocalFile(name, name)
        return
    # Meaningful suffixes are short; others may be longer than the file system allows.
    with tempfile.NamedTemporaryFile(suffix=PurePosixPath(name).suffix[:16]) as copy:
        # Copied completely before it is opened: libsndfile reports a failed read as the file's end.
        try:
            with epath.Path(name).open("rb") as remote:
                shutil.copyfileobj(remote, copy)
        except FileNotFoundError as error:
            raise AudioError("missing", f"{name}: no such file") from error
        except (PermissionError, IsADirectoryError) as error:
            raise AudioError("unreadable", f"{name}: {error.strerror or error}") from error
        copy.flush()
        yield LocalFile(name, copy.name)


def is_utf8(name: str) -> bool:
    """Return whether a file's name is text rather than bytes that Python had to escape."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refusal(file: LocalFile, error: soundfile.LibsndfileError | None = None) -> AudioError:
    """Return the error for a file that did not open."""
    try:
        status = Path(file.local).stat()
    except OSError:
        return AudioError("missing", f"{file.path}: no such file")
    if error is not None and error.code == 2:  # SF_ERR_SYSTEM
        return AudioError("unreadable", f"{file.path}: the system does not allow reading it")
    if stat.S_ISREG(status.st_mode) and not status.st_size:
        return AudioError("empty file", f"{file.path}: has no bytes")
    return AudioError("not audio", f"{file.path}: no audio format that libsndfile knows")
