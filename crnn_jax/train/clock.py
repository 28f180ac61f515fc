"""Where a run's wall time goes, measured by one clock."""

import contextlib
import time
from collections.abc import Iterator, Mapping

TRAINING = "train"


class Clock:
    """Wall time in s by activity: training, except for what `pause` names.

    Parameters
    ----------
    spent
        Seconds by activity of earlier parts of the run.

    Examples
    --------
    >>> clock = Clock()
    >>> with clock.pause("evaluation"):
    ...     pass
    >>> sorted(clock.seconds())
    ['evaluation', 'train']
    """

    def __init__(self, spent: Mapping[str, float] | None = None):
        self._spent = dict(spent or {})
        self._activity = TRAINING
        self._since = time.perf_counter()

    @contextlib.contextmanager
    def pause(self, activity: str) -> Iterator[None]:
        """Count the time within the context as `activity`, not as training."""
        outer = self._switch(activity)
        try:
            yield
        finally:
            self._switch(outer)

    def credit(self, part: str, seconds: float) -> None:
        """Add past seconds to `part`, in addition to the activity that they were counted as."""
        self._spent[part] = self._spent.get(part, 0.0) + seconds

    def seconds(self) -> dict[str, float]:
        """Return the seconds so far by activity."""
        self._switch(self._activity)
        return dict(self._spent)

    def __getitem__(self, activity: str) -> float:
        return self.seconds().get(activity, 0.0)

    def _switch(self, activity: str) -> str:
        """Count as `activity` from now on, and return the previous activity."""
        now, before = time.perf_counter(), self._activity
        self._spent[before] = self._spent.get(before, 0.0) + now - self._since
        self._activity, self._since = activity, now
        return before
