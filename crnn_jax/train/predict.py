"""A network's outputs for a whole split."""

import contextlib
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree

from crnn_jax.train import parallel
from crnn_jax.train.feed import Feed


def predict(
    evaluate: Callable,
    variables: PyTree,
    feed: Feed,
    split: str,
    *,
    between_batches: Callable[[], None] = lambda: None,
) -> tuple[Float[np.ndarray, "examples tags"], Int[np.ndarray, "examples tags"]]:
    """Compute logits and targets of a whole split in stored order, with the short last batch.

    They are fetched from the devices once, at the end. All processes call `between_batches` at the
    same batches; what it raises is passed on.

    Raises
    ------
    UserError
        If there is no such split.
    """
    n_examples = len(feed.data.source(split))
    outputs: list[tuple[jax.Array, jax.Array]] = []
    with contextlib.closing(feed.evaluation(split)) as batches:
        for number, batch in enumerate(batches):
            if number % parallel.dispatches_between_questions() == 0:
                between_batches()
            outputs.append((evaluate(variables, batch["log_mel"]), batch["tags"]))
            # The devices compute one batch while the next is read, and never hold more than two.
            jax.block_until_ready(outputs[-2:-1])
    logits, targets = map(np.concatenate, zip(*parallel.gather(outputs), strict=True))
    # The rows that filled up the last batch are the last ones.
    return logits[:n_examples], targets[:n_examples]
