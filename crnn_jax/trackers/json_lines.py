"""A run's history as JSON lines, one per epoch."""

import dataclasses
import json

from etils import epath

from crnn_jax.files import write_file
from crnn_jax.train.events import EpochDone, OnTrainEvent, TrainEvent


def follow(path: epath.Path) -> OnTrainEvent:
    """Keep a file of JSON lines (`crnn_jax.train.progress.EpochRecord`) up to date."""

    def on_event(event: TrainEvent) -> None:
        if isinstance(event, EpochDone):
            lines = (json.dumps(dataclasses.asdict(record)) + "\n" for record in event.history)
            write_file(path, "".join(lines).encode())

    return on_event
