"""A network's outputs for a whole split."""

import contextlib
import math
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int, PyTree

from crnn_jax.config import RuntimeConfig, TrainConfig
from crnn_jax.data.batches import Batch, count_frames, evaluation_batches
from crnn_jax.data.prepared import PreparedSet
from crnn_jax.train import parallel


def predict(
    evaluate: Callable,
    variables: PyTree,
    data: PreparedSet,
    split: str,
    config: TrainConfig,
    mesh: Mesh,
    *,
    runtime: RuntimeConfig = RuntimeConfig(),
    between_batches: Callable[[], None] = lambda: None,
) -> tuple[Float[np.ndarray, "examples tags"], Int[np.ndarray, "examples tags"]]:
    """Compute logits and targets of a whole split in stored order, with the short last batch.

    All processes call `between_batches` at the same batches; what it raises is passed on.

    Raises
    ------
    UserError
        If there is no such split.
    """
    process, n_processes = jax.process_index(), jax.process_count()
    rows = config.batch_size // n_processes
    frames = count_frames(data.mel, config.clip_seconds)
    # Placeholder for a process whose rows of the last batch are all past the end: it still takes
    # part, since the others' arrays are gathered with it.
    nothing = Batch(
        log_mel=np.zeros((0, data.mel.n_mels, frames), np.float16),
        tags=np.zeros((0, len(data.tag_names)), np.uint8),
    )
    n_examples = len(data.source(split))
    logits, targets = [], []
    with contextlib.closing(
        evaluation_batches(
            data, split, config, runtime=runtime, process=process, n_processes=n_processes
        )
    ) as reader:
        for number in range(math.ceil(n_examples / config.batch_size)):
            if number % parallel.steps_between_questions() == 0:
                between_batches()
            batch = next(reader, nothing)
            log_mel = parallel.put_batch(mesh, parallel.pad_rows(batch["log_mel"], rows))
            logits.append(parallel.gather(evaluate(variables, log_mel)))
            targets.append(parallel.gather(parallel.pad_rows(batch["tags"], rows)))
    # The padding rows are the last ones.
    return np.concatenate(logits)[:n_examples], np.concatenate(targets)[:n_examples]
