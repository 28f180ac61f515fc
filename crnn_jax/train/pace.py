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
    n_steps
        Steps of an epoch.
    fixed
        The number, at most an epoch's, if it is known beforehand; None: it is chosen by the time of
        the first steps.
    """

    def __init__(self, n_steps: int, fixed: int | None = None):
        self._n_steps = n_steps
        self._steps = None if fixed is None else min(fixed, n_steps)
        self._seconds: list[float] = []

    def next_steps(self, remaining: int) -> int:
        """Return the steps of the next dispatch, of those that remain of the epoch.

        Either 1 or the number chosen: each is a program that has to be compiled.
        """
        return self._steps if self._steps is not None and self._steps <= remaining else 1

    def observe(self, seconds: float) -> None:
        """Take notice of the wall time of a dispatch, in s."""
        if self._steps is not None:
            return
        self._seconds.append(seconds)
        if len(self._seconds) == WARM_UP + MEASURED:
            step_s = statistics.median(self._seconds[WARM_UP:])
            longest = parallel.agree_on(choose_steps(step_s))
            self._steps = fit_epoch(longest, self._n_steps)


def choose_steps(step_s: float) -> int:
    """Return the steps per dispatch for steps that take `step_s` seconds.

    >>> choose_steps(0.0008), choose_steps(0.02)
    (31, 1)
    """
    if step_s > LONG_STEP_S:
        return 1
    return min(MOST_STEPS, round(DISPATCH_S / step_s))


def fit_epoch(longest: int, n_steps: int) -> int:
    """Return the steps per dispatch, at most `longest`, that need the fewest dispatches an epoch.

    What is left of an epoch is taken step by step.

    >>> fit_epoch(25, 100), fit_epoch(25, 30), fit_epoch(31, 20)
    (25, 15, 20)
    """
    return min(
        range(min(longest, n_steps), 0, -1), key=lambda count: n_steps // count + n_steps % count
    )
