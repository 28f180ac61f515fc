"""Every default of the project, once, with its reason.

The classes are frozen and made of plain values, so that a configuration can be hashed (a static
argument of ``jax.jit``), compared, and written to JSON and read back without loss.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from crnn_jax.errors import UserError
from crnn_jax.registry import module_names

# Files of crnn_jax.models that are no architecture.
NOT_ARCHITECTURES = ("blocks", "budget")
ARCHITECTURES = module_names("models", without=NOT_ARCHITECTURES)
if TYPE_CHECKING:
    Architecture = str
else:
    Architecture = Literal[ARCHITECTURES]
Rule = Literal["uniform", "sqrt"]
Precision = Literal["float32", "bfloat16"]
MatmulPrecision = Literal["float32", "tensorfloat32", "bfloat16"]
JamendoSubset = Literal["top50tags", "genre", "instrument", "mood"]

# Choi et al. (2017), section 3: the five sizes that are compared.
PAPER_TARGETS = (100_000, 250_000, 500_000, 1_000_000, 3_000_000)
RULES: tuple[Rule, ...] = ("uniform", "sqrt")
# Of its clips of 29.12 s: the length for which it gives the networks' geometry.
PAPER_FRAMES = 1366
# Raised when the same configuration begins to give other numbers, so that results are not mixed:
# 2 pads clips of other lengths than the paper's so that every frame counts.
NUMERICS = 2
# Fewest frames of an input: every architecture has one left after its poolings.
SHORTEST_FRAMES = 96
# Half of what the paper lets its networks miss a target by: nearly always to be had.
BUDGET_TOLERANCE = 0.01
# The paper's own: where the roundings of a small network leave a gap that is wider than that.
LARGEST_BUDGET_TOLERANCE = 0.02
# A layer of one channel is a bottleneck, not a smaller copy of the network.
SMALLEST_WIDTH = 2


def check_positive(config: Any, *names: str, or_zero: bool = False, prefix: str = "") -> None:
    """Refuse numbers that are not finite or not above 0; None is no number.

    Parameters
    ----------
    config
        The configuration.
    names
        Its fields that are checked.
    or_zero
        Whether 0 is allowed.
    prefix
        What comes before a field's name in messages, such as ``mel.``.

    Raises
    ------
    UserError
        If one is; it names the field.
    """
    fix = "give 0 or more" if or_zero else "give a number above 0"
    for name in names:
        value = getattr(config, name)
        if value is not None and not (0 < value < float("inf") or (or_zero and value == 0)):
            raise UserError(fix, field=f"{prefix}{name}", value=f"{value:g}")


@dataclasses.dataclass(frozen=True)
class MelConfig:
    """The log-mel front end; the defaults are those of Choi et al. (2017), section 3.

    Attributes
    ----------
    sample_rate
        Hz. 12 kHz keeps what matters for tags and halves the work of 22.05 kHz.
    n_fft
        Samples of a frame (43 ms).
    hop_length
        Samples from a frame to the next (21 ms).
    n_mels
        Mel bands, Slaney scale and norm, 0 Hz to half the sample rate.
    clip_seconds
        Length of a clip in s. 29.12 s are 349 440 samples and 1366 frames: the
        preview clips of the Million Song Dataset are a little longer than 29 s.
    mel_exponent
        The mel *power* spectrogram is raised to this before the dB are taken. 1 is the usual
        log-mel; the published weights were trained on 2, a square too many.
    top_db
        Floor, in dB below the clip's maximum, as librosa's ``power_to_db``.
    amin
        Smallest power that is distinguished from silence, as librosa's ``power_to_db``.
    """

    sample_rate: int = 12_000
    n_fft: int = 512
    hop_length: int = 256
    n_mels: int = 96
    clip_seconds: float = 29.12
    mel_exponent: float = 1.0
    top_db: float = 80.0
    amin: float = 1e-10

    def __post_init__(self) -> None:
        names = (field.name for field in dataclasses.fields(self))
        check_positive(self, *names, prefix="mel.")

    @property
    def clip_samples(self) -> int:
        """Samples of a clip."""
        return round(self.clip_seconds * self.sample_rate)

    @property
    def frames(self) -> int:
        """Frames of a clip's log-mel (centred frames: one more than whole hops)."""
        return 1 + self.clip_samples // self.hop_length


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which data set, where it is, and how it is made if it is not there yet.

    Attributes
    ----------
    dataset
        Name of a builder in ``crnn_jax.data.prepared.BUILDERS``, or the folder of a prepared set.
    data_dir
        Where prepared sets are kept.
    manual_dir
        The collection's own folder (or its CSV file): audio and metadata. Not for ``synthetic``.
    max_rejected
        Largest share of unusable files that is put up with, such as 0.1 or (on the command line)
        10%.
    workers
        Processes that decode; None: one a core.
    n_examples
        Clips of the ``synthetic`` set, over all splits.
    music_seed
        Seed of the ``synthetic`` set's music.
    merge_synonyms
        Of ``magnatagatune``: count tags that mean the same as one, before the 50 most frequent
        are taken.
    jamendo_subset
        Tags of ``jamendo``: the 50 most frequent, or those of one category.
    jamendo_split
        Which of the five published splits of ``jamendo``.
    mel
        The log-mel that is stored.
    """

    dataset: str = "synthetic"
    data_dir: str = "data"
    manual_dir: str | None = None
    max_rejected: float = 0.1
    workers: int | None = None
    n_examples: int = 4000
    music_seed: int = 0
    merge_synonyms: bool = False
    jamendo_subset: JamendoSubset = "top50tags"
    jamendo_split: Literal[0, 1, 2, 3, 4] = 0
    mel: MelConfig = MelConfig()

    def __post_init__(self) -> None:
        check_positive(self, "workers", "n_examples")
        check_positive(self, "music_seed", or_zero=True)
        if not 0 <= self.max_rejected <= 1:
            raise UserError(
                "not a share; give 0 to 1, or 0% to 100%",
                field="max_rejected",
                value=f"{self.max_rejected:g}",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """What a network of given widths may have one way or another.

    Attributes
    ----------
    dropout_pool, dropout_output
        Rates after each pooling and before the output, as in the published CRNN's code.
    input_norm
        Axis of the batch norm on the input: one mean and variance per mel band (``mel``), or one
        per frame (``frames``: the published CRNN; it fixes the number of frames).
    gru_reset
        Whether the GRU's reset gate acts on the recurrent product (``after``: cuDNN's, one matrix
        product a step) or on the state before it (``before``: Cho et al. 2014; the published
        CRNN).
    gru_gate
        Activation of the GRU's two gates; ``hard_sigmoid`` is clip(0.2 x + 0.5, 0, 1), as in the
        published CRNN.
    norm_momentum, norm_epsilon
        Batch norm: weight of the old running statistics in an update, and what is added to the
        variance. 0.9 lets the statistics follow within an epoch of a small set (the usual 0.99
        takes several hundred steps); 1e-3 is Keras 1's, whose exact value the published scores do
        not tell.
    precision
        Type of the computation; parameters, batch statistics, loss and metrics stay float32.
    matmul_precision
        How exactly an accelerator multiplies float32 matrices, convolutions among them:
        ``float32``; ``tensorfloat32`` (on GPUs from Ampere on, 10 bits of mantissa; on TPUs three
        passes of bfloat16); or ``bfloat16`` (on TPUs one pass; on GPUs as ``tensorfloat32``). JAX's
        own default is the last one: fast, but not what float32 says. CPUs always take float32.
    """

    dropout_pool: float = 0.1
    dropout_output: float = 0.3
    input_norm: Literal["mel", "frames"] = "mel"
    gru_reset: Literal["after", "before"] = "after"
    gru_gate: Literal["sigmoid", "hard_sigmoid"] = "sigmoid"
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-3
    precision: Precision = "float32"
    matmul_precision: MatmulPrecision = "float32"

    def __post_init__(self) -> None:
        check_positive(self, "norm_epsilon")
        for name in ("dropout_pool", "dropout_output", "norm_momentum"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UserError("give 0 or more, and less than 1", field=name, value=value)


@dataclasses.dataclass(frozen=True)
class ModelConfig(NetworkOptions):
    """One network: an architecture, its integer widths, and its options.

    Attributes
    ----------
    arch
        Name of a file in ``crnn_jax.models``.
    widths
        Output channels of each layer, in the order of the base widths.
    n_tags
        Outputs. 50 in the paper.
    n_mels
        Mel bands of the input.
    """

    arch: Architecture
    widths: tuple[int, ...]
    n_tags: int = 50
    n_mels: int = 96


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How one cell is trained.

    Attributes
    ----------
    epochs
        At most this many passes over the training split.
    batch_size
        Clips of one step, over all devices together.
    learning_rate
        Adam's step size; 1e-3 is Adam's own default (Kingma & Ba 2015), which the paper uses.
    patience
        Training ends after this many epochs without a better validation AUC.
    max_train_seconds
        Training ends with the step during which this much wall time has been spent on training
        steps (compilation and evaluation not counted).
    max_examples
        Use only the first so many examples of the training split, for quick looks.
    clip_seconds
        Use only the centre of each clip, this long, in s; None: the whole clip.
    """

    epochs: int = 100
    batch_size: int = 16
    learning_rate: float = 1e-3
    patience: int = 10
    max_train_seconds: float | None = None
    max_examples: int | None = None
    clip_seconds: float | None = None

    def __post_init__(self) -> None:
        check_positive(self, "epochs", "batch_size", "learning_rate", "patience")
        check_positive(self, "max_train_seconds", "max_examples", "clip_seconds")


@dataclasses.dataclass(frozen=True)
class RuntimeConfig:
    """How a run is carried out: nothing that a number of a result depends on.

    Attributes
    ----------
    read_threads
        Threads that read and decode records ahead of the training step. A second one doubles
        the rate, to about 1,700 clips of 29 s a second; beyond that the interpreter's lock binds.
    read_workers
        Processes that read ahead instead, for very fast accelerators; 0: threads only. Evaluations
        are read by threads.
    checkpoint_seconds
        A snapshot is written when the last one is this old, in s: what a killed run loses at
        most. Writing takes about 0.1 s of that.
    """

    read_threads: int = 2
    read_workers: int = 0
    checkpoint_seconds: float = 30.0

    def __post_init__(self) -> None:
        check_positive(self, "read_threads")
        check_positive(self, "read_workers", "checkpoint_seconds", or_zero=True)


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """A study: the grid of its cells, and what they have in common.

    Attributes
    ----------
    archs
        Architectures of the grid.
    targets
        Sizes of the grid, in trainable parameters.
    rules
        Rules of the grid: how widths are scaled.
    seeds
        Seeds of the grid.
    extra_cells
        Cells beside the grid, as (arch, target, rule, seed).
    data
        What is learned from.
    network
        Options of every network.
    train
        How every cell is trained.
    runtime
        How the study is carried out.
    """

    # The three that the paper compares in all of its experiments.
    archs: tuple[Architecture, ...] = ("conv1d", "conv2d", "crnn")
    targets: tuple[int, ...] = PAPER_TARGETS
    rules: tuple[Rule, ...] = ("uniform",)
    seeds: tuple[int, ...] = (0,)
    extra_cells: tuple[tuple[Architecture, int, Rule, int], ...] = ()
    data: DataConfig = DataConfig()
    network: NetworkOptions = NetworkOptions()
    train: TrainConfig = TrainConfig()
    runtime: RuntimeConfig = RuntimeConfig()


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """What is timed, and how often.

    Attributes
    ----------
    arch
        Architecture.
    target
        Trainable parameters.
    rule
        How the widths are scaled.
    batch
        Clips of a step.
    clip_seconds
        Length of a clip, in s.
    precision
        Type of the computation.
    rounds
        Turns of each candidate.
    turn_seconds
        Length of a turn, in s; it has at least one step.
    against
        What to compare with.
    """

    arch: Architecture = "crnn"
    target: int = 100_000
    rule: Rule = "uniform"
    batch: int = 16
    clip_seconds: float = MelConfig.clip_seconds
    precision: Precision = "float32"
    rounds: int = 5
    turn_seconds: float = 1.0
    against: Literal["torch"] | None = None

    def __post_init__(self) -> None:
        check_positive(self, "batch", "clip_seconds", "rounds", "turn_seconds")


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """Where the work is done: nothing that a number of a result depends on.

    Attributes
    ----------
    executor
        Run cells in this process, one after the other, or as tasks of a Ray cluster.
    address
        Of the Ray cluster; one is started on this machine if not given.
    resources
        JSON: what a Ray task asks for, such as '{"CPU": 2, "GPU": 1}'.
    distributed
        This is one of several processes that train each cell together; Slurm, Open MPI, Kubernetes
        or a TPU pod says which one, else the next three flags. The data set is prepared before.
    coordinator_address
        Host and port of process 0.
    num_processes
        How many processes there are.
    process_id
        Which one this is, from 0.
    local_device_ids
        Which GPUs of its machine this process computes on, from 0. If not given, all that it sees;
        under Slurm and Open MPI only the one with the process's number on its machine.
    heartbeat_seconds
        The others end when one has not been heard of for this long, in s. Short enough that nobody
        waits for a dead process, long enough for a busy one.
    """

    executor: Literal["local", "ray"] = "local"
    address: str | None = None
    resources: str = '{"CPU": 1}'
    distributed: bool = False
    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    local_device_ids: tuple[int, ...] | None = None
    heartbeat_seconds: int = 60

    def __post_init__(self) -> None:
        check_positive(self, "num_processes", "heartbeat_seconds")
        check_positive(self, "process_id", or_zero=True)
        if (ids := self.local_device_ids) is not None:
            listed = " ".join(map(str, ids)) or None
            if not ids or min(ids) < 0 or len(set(ids)) < len(ids):
                raise UserError(
                    "give numbers from 0, each once, such as 0 1",
                    field="local_device_ids",
                    value=listed,
                )
            if not self.several_processes:
                raise UserError(
                    "for one of several processes (distributed, coordinator_address); alone, "
                    f"CUDA_VISIBLE_DEVICES={','.join(map(str, ids))}",
                    field="local_device_ids",
                    value=listed,
                )
        if self.executor == "ray" and self.several_processes:
            raise UserError(
                "trains each cell in one process; leave out distributed, coordinator_address, "
                "num_processes and process_id",
                field="executor",
                value="ray",
            )

    @property
    def several_processes(self) -> bool:
        """Whether this is one of several processes."""
        named = (self.coordinator_address, self.num_processes, self.process_id)
        return self.distributed or named != (None, None, None)
