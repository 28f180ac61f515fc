"""Trackers that share one interface: ``init``, ``log`` and ``finish`` of Weights & Biases.

Trackio has the same functions. Both work without a network: Trackio writes into a database of the
user's (``TRACKIO_DIR``), Weights & Biases into the run's folder, for ``wandb sync``.

Neither can take back what it has logged. So ``<run>/<tracker>-logged.jsonl`` says which run of the
tracker's this is and what it has; a resumed run continues it with what it does not have.
"""

import contextlib
import io
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from crnn_jax.config import TrackerName
from crnn_jax.files import append, write_file
from crnn_jax.trackers.subscription import Logged, TrackedRun
from crnn_jax.train.progress import EpochRecord


class CommonApi:
    """See `crnn_jax.trackers.subscription.Tracker`.

    Parameters
    ----------
    name
        The tracker.
    module
        Its package.
    run
        What it follows.
    """

    def __init__(self, name: TrackerName, module: Any, run: TrackedRun):
        self._name, self._module, self._run = name, module, run
        self._path = run.folder / f"{name}-logged.jsonl"

    def begin(self, step: int, history: Sequence[EpochRecord]) -> Logged:
        """Begin the tracker's run, or resume the one that this run has begun."""
        noted = read_notes(self._path)
        resumed = "id" in noted
        if not resumed:
            noted = {"project": self._run.project, "id": uuid.uuid4().hex}
        # As one line: the last of the old ones may be cut short.
        write_file(self._path, _line(noted))
        self._concluded = "concluded" in noted
        with _quiet():
            self._module.init(
                project=noted["project"],
                name=self._run.name,
                config=dict(self._run.settings),
                **self._options(noted["id"], resumed),
            )
        return Logged(step=noted.get("step", 0), epoch=noted.get("epoch", 0))

    def _options(self, run_id: str, resumed: bool) -> dict[str, Any]:
        """Return the options of `init` that are the tracker's own.

        Neither measures the machine, beside a run whose times are measured.
        """
        if self._name == "wandb":
            return {
                "id": run_id,
                "dir": os.fspath(self._run.folder),
                "mode": os.environ.get("WANDB_MODE", "offline"),
                "resume": "allow",
                "settings": {"silent": True, "console": "off", "x_disable_stats": True},
            }
        # Trackio resumes by name: that of a run of another folder is not to be continued.
        resume = "allow" if resumed else "never"
        return {"resume": resume, "embed": False, "auto_log_cpu": False, "auto_log_gpu": False}

    def log(self, step: int, values: Mapping[str, float], epoch: int | None = None) -> None:
        """Log values of a step or of an epoch."""
        self._note({"step": step} if epoch is None else {"epoch": epoch})
        self._module.log(dict(values), step=step)

    def conclude(self, step: int, scores: Mapping[str, float]) -> None:
        """Log the final scores; the hyperparameters are those of the beginning."""
        if not self._concluded:
            self._note({"concluded": True})
            named = {f"final/{name}": value for name, value in scores.items()}
            self._module.log(named, step=step)

    def close(self) -> None:
        """Write what is waiting, and end the tracker's run, for now or for good."""
        with _quiet():
            self._module.finish()

    def _note(self, what: Mapping[str, Any]) -> None:
        """Note what is logged next.

        Before, and not after: a process that is killed in between leaves a gap of one point, not
        the same point twice.
        """
        with Path(self._path).open("ab", buffering=0) as notes:
            append(notes, _line(what))


def read_notes(path: epath.Path) -> dict[str, Any]:
    """Read what is noted: of lines with the same key the last one counts, without a torn one."""
    noted: dict[str, Any] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        # The last line of a process that was killed.
        with contextlib.suppress(json.JSONDecodeError):
            noted |= json.loads(line)
    return noted


def _line(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values) + "\n").encode()


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """Hide what Trackio prints at the begin and end of every run, above the progress bars."""
    return contextlib.redirect_stdout(io.StringIO())
