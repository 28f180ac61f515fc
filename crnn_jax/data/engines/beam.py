"""Make shards on a cluster: the local engine's work as an Apache Beam pipeline."""

import contextlib
import io
from collections.abc import Iterator, Sequence

from etils import epath

from crnn_jax.data.shards import Engine, ShardResult, ShardTask, finished_shard, make_shard
from crnn_jax.errors import UserError


def beam_engine(runner: str, options: Sequence[str] = ()) -> Engine:
    """Make shards with a Beam pipeline, one element per shard.

    The workers write into the data folder, so the data folder and the collection's folder must be
    shared by all workers and this machine. What a worker returns is not used: a shard is finished
    when its result is in the folder. So any runner works, shards of an interrupted run are not
    made again, and a runner may try a shard twice.

    Parameters
    ----------
    runner
        A runner's name, such as ``DirectRunner``, ``PortableRunner``, ``FlinkRunner``,
        ``SparkRunner`` or ``DataflowRunner``.
    options
        Options of the pipeline and its runner, as ``name=value`` or ``name``, without dashes.

    Raises
    ------
    UserError
        If Beam is not installed, does not know the runner, or cannot parse an option's value; if
        the pipeline fails; or if the workers do not write into this data folder.
    """
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError(
            f"needs Apache Beam ({error}); pip install 'crnn_jax[beam]'",
            field="engine",
            value="beam",
        ) from error
    from apache_beam.runners import create_runner

    try:
        chosen = create_runner(runner)
    except (ValueError, ImportError) as error:
        raise UserError(f"{' '.join(str(error).split())}", field="runner", value=runner) from error

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = PipelineOptions([f"--{option}" for option in options])
            # This parses them; only the runner knows which options it has.
            parsed.get_all_options()
    except SystemExit as error:
        words = said.getvalue().strip().rpartition("\n")[2]
        raise UserError(f"{words}", field="runner_options") from error

    def run(tasks: Sequence[ShardTask]) -> Iterator[ShardResult]:
        try:
            with apache_beam.Pipeline(chosen, options=parsed) as pipeline:
                _ = (
                    pipeline
                    | "Shards" >> apache_beam.Create(tasks)
                    # Otherwise a runner may fuse all shards into one process: they have one source.
                    | "Spread" >> apache_beam.Reshuffle()
                    | "Make" >> apache_beam.Map(_make)
                )
        except RuntimeError as error:
            # A runner wraps what its workers raise; the original error is the last line.
            words = str(error).strip().rpartition("\n")[2]
            raise UserError(
                f"{words}; give the same command again to resume", field="runner", value=runner
            ) from error
        for task in tasks:
            result = finished_shard(epath.Path(task.path))
            if result is None:
                raise UserError(
                    f"{task.path} does not exist, though the pipeline has ended; "
                    f"give a --data-dir that all workers share with this machine",
                    field="runner",
                    value=runner,
                )
            yield result

    return run


def _make(task: ShardTask) -> None:
    make_shard(task)
