"""Which networks are not beaten by another that is both cheaper and better."""

import numpy as np
from jaxtyping import Bool, Float


def pareto_front(
    costs: Float[np.ndarray, "networks"], scores: Float[np.ndarray, "*series networks"]
) -> Bool[np.ndarray, "*series networks"]:
    """Return which networks are on the front, for each series of scores.

    A network is on it unless another costs no more and scores no less, and is better in one of
    both.

    >>> pareto_front(np.array([1.0, 2.0, 3.0]), np.array([0.7, 0.6, 0.8]))
    array([ True, False,  True])
    """
    costs, scores = np.asarray(costs, float), np.asarray(scores, float)
    cheaper, as_cheap = costs[:, None] < costs, costs[:, None] <= costs
    better = scores[..., :, None] > scores[..., None, :]
    as_good = scores[..., :, None] >= scores[..., None, :]
    # Of networks from the first axis over those of the second.
    beats = (as_cheap & better) | (cheaper & as_good)
    return np.logical_not(np.any(beats, axis=-2))
