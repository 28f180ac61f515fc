"""How many steps are dispatched at once, so that no accelerator waits for Python.

A dispatch costs the host about half a millisecond: reading results, events, the clock. A step that
takes less than a few milliseconds would wait for it.
"""

import statistics

from crnn_jax.train import parallel

# Length of a dispatch of several steps, in s: the host's part is then about a fiftieth, and a
# request to stop waits no longer than a frame of a film.
DISPATCH_S = 0.025
# Steps that take longer are dispatched one by one, in s.
LONG_STEP_S = 0.005
# At most this many batches are on the devices at a time.
MOST_STEPS = 64
# Single steps whose time is measured, after those that are still warming up.
WARM_UP, MEASURED = 3, 8


class Pace:
    """The number of steps per dispatch.

    Parameters
    ----------
    fixed
        The number, at most an epoch's, if it is known beforehand; None: it is chosen by the time of
        the first steps.
    """

    def __init__(self, fixed: int | None = None):
        self._steps, self._fixed = fixed, fixed is not None
        self._seconds: list[float] = []

    def next_steps(self, remaining: int, n_steps: int) -> int:
        """Return the steps of the next dispatch.

        Either 1 or one other number: each is a program that has to be compiled. Of the numbers up
        to that chosen by the time of a step, it is the one with the fewest dispatches in an epoch.

        Parameters
        ----------
        remaining
            Steps that remain of the epoch.
        n_steps
            Steps of a whole epoch.
        """
        if self._steps is None:
            return 1
        count = min(self._steps, n_steps)
        if not self._fixed:
            count = min(range(count, 0, -1), key=lambda k: n_steps // k + n_steps % k)
        return count if count <= remaining else 1

    def observe(self, seconds: float) -> None:
        """Take notice of the wall time of a dispatch, in s."""
        if self._steps is not None:
            return
        self._seconds.append(seconds)
        if len(self._seconds) == WARM_UP + MEASURED:
            step_s = statistics.median(self._seconds[WARM_UP:])
            self._steps = parallel.agree_on(choose_steps(step_s))


def choose_steps(step_s: float) -> int:
    """Return the steps per dispatch for steps that take `step_s` seconds.

    >>> choose_steps(0.0008), choose_steps(0.02)
    (31, 1)
    """
    if step_s > LONG_STEP_S:
        return 1
    return min(MOST_STEPS, round(DISPATCH_S / step_s))
