"""An audio file, local or remote, opened to be decoded; and why it cannot be used."""

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
    "missing", "unreadable", "empty file", "not audio", "no samples", "not finite", "silent"
]


class AudioError(Exception):
    """An audio file that cannot be used.

    Attributes
    ----------
    reason
        Why, in one of a few fixed wordings, for counting.
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
    """A sound file whose next read begins where the last one ended.

    Of a seekable file `soundfile` says so after every read, by a seek to where the file already
    is. To the MP3 decoder that is a jump like any other, and it spoils the samples that follow.
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
        What the user calls it.
    local
        The file itself, or the copy of a remote one.
    """

    path: str
    local: str

    @contextlib.contextmanager
    def opened(self) -> Iterator[ForwardSound]:
        """Open it to be decoded from the first sample on."""
        # Raw audio says nothing of its rate, and libsndfile takes names in UTF-8 alone.
        if self.path.lower().endswith(".raw") or not is_utf8(self.path):
            raise AudioError("not audio", f"{self.path!a}: raw audio, or a name that is not UTF-8")
        try:
            # By its name: an MP3 with tags of two kinds is known by its suffix alone.
            sound = ForwardSound(self.local, self.path)
        except soundfile.LibsndfileError as error:
            raise _refusal(self, error) from error
        with sound:
            # What has no header becomes noise if its suffix is .au, .snd, .vox or .gsm.
            if sound.format == "RAW":
                raise _refusal(self)
            yield sound


@contextlib.contextmanager
def fetched(path: str | os.PathLike[str]) -> Iterator[LocalFile]:
    """Have a file on a local disk, for as long as it is read."""
    name = os.fspath(path)
    # libsndfile would end the name there, and open another file.
    if "\0" in name:
        raise AudioError("missing", f"{name!a}: no such file")
    if "://" not in name:
        yield LocalFile(name, name)
        return
    # A suffix that means something is short; others may be longer than a disk takes.
    with tempfile.NamedTemporaryFile(suffix=PurePosixPath(name).suffix[:16]) as copy:
        # Whole, before it is opened: what fails while libsndfile reads looks like the file's end.
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
    """Whether a file's name is text, and not bytes that Python had to escape."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refusal(file: LocalFile, error: soundfile.LibsndfileError | None = None) -> AudioError:
    """Why a file did not open."""
    try:
        status = Path(file.local).stat()
    except OSError:
        return AudioError("missing", f"{file.path}: no such file")
    if error is not None and error.code == 2:  # SF_ERR_SYSTEM
        return AudioError("unreadable", f"{file.path}: the system does not let it be read")
    if stat.S_ISREG(status.st_mode) and not status.st_size:
        return AudioError("empty file", f"{file.path}: no bytes")
    return AudioError("not audio", f"{file.path}: no audio format that libsndfile knows")
