"""All defaults of the project, each defined once, with its reason.

The classes are frozen and made of plain values, so that a configuration can be hashed (as a
static argument of ``jax.jit``), compared, and written to JSON and read back without loss.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, get_args

from crnn_jax.errors import UserError
from crnn_jax.registry import module_names

# Modules of crnn_jax.models that are not architectures.
NOT_ARCHITECTURES = ("blocks", "budget")
ARCHITECTURES = module_names("models", without=NOT_ARCHITECTURES)
if TYPE_CHECKING:
    Architecture = str
else:
    Architecture = Literal[ARCHITECTURES]
Rule = Literal["uniform", "sqrt"]
Precision = Literal["float32", "bfloat16"]
MatmulPrecision = Literal["float32", "tensorfloat32", "bfloat16"]
Resident = Literal["auto", "yes", "no"]
ScheduleKind = Literal["constant", "cosine", "wsd"]
Parametrization = Literal["standard", "mup"]
TrackerName = Literal["tensorboard", "trackio", "wandb"]
JamendoSubset = Literal["top50tags", "genre", "instrument", "mood"]

# Choi et al. (2017), section 3: the five sizes that are compared.
PAPER_TARGETS = (100_000, 250_000, 500_000, 1_000_000, 3_000_000)
RULES: tuple[Rule, ...] = ("uniform", "sqrt")
# Frames of the paper's 29.12 s clips, the length for which it specifies the networks' geometry.
PAPER_FRAMES = 1366
# Incremented when the same configuration starts to give different numbers, so that results are not
# mixed. 2: clips of lengths other than the paper's are padded so that every frame counts. 3: the
# order of an epoch's examples is NumPy's permutation.
NUMERICS = 3
# Minimum number of input frames: every architecture has one left after its poolings.
SHORTEST_FRAMES = 96
# Half of the deviation from a target that the paper allows; nearly always attainable.
BUDGET_TOLERANCE = 0.01
# The paper's own tolerance, for small networks whose rounded widths leave a wider gap.
LARGEST_BUDGET_TOLERANCE = 0.02
# A layer of one channel is a bottleneck, not a smaller copy of the network.
SMALLEST_WIDTH = 2

# With fewer positive examples in a split, a tag's scores say little.
FEWEST_POSITIVES = 5
# Between a run's signs of life, in s: often enough to look alive to someone who watches, and rare
# enough for the disk.
HEARTBEAT_SECONDS = 5.0
# Resamples of an interval: the ends of a 95 % interval are then known to about 0.06 of a standard
# deviation.
RESAMPLES = 2000


def check_positive(config: Any, *names: str, or_zero: bool = False, prefix: str = "") -> None:
    """Reject numbers that are not finite or not above 0; None is skipped.

    Parameters
    ----------
    config
        The configuration.
    names
        Fields to check.
    or_zero
        Whether 0 is allowed.
    prefix
        Prefix of a field's name in messages, such as ``mel.``.

    Raises
    ------
    UserError
        If a number is rejected; the message names the field.
    """
    fix = "give 0 or more" if or_zero else "give a number above 0"
    for name in names:
        value = getattr(config, name)
        if value is not None and not (0 < value < float("inf") or (or_zero and value == 0)):
            raise UserError(fix, field=f"{prefix}{name}", value=f"{value:g}")


def check_fraction(name: str, value: float) -> None:
    """Raise a UserError unless a number is above 0 and at most 1."""
    if not 0 < value <= 1:
        raise UserError("give a number above 0, and at most 1", field=name, value=f"{value:g}")


def check_may_be_cut(schedule: str, limit: str) -> None:
    """Raise a UserError if a schedule cannot end earlier, as the field `limit` asks for."""
    if schedule == "cosine":
        raise UserError(
            "cosine reaches 0 at the end of the last epoch, and time may end the run before; "
            f"give wsd, or leave out {limit}",
            field="schedule",
            value=schedule,
        )


@dataclasses.dataclass(frozen=True)
class MelConfig:
    """The log-mel front end; the defaults are those of Choi et al. (2017), section 3.

    Attributes
    ----------
    sample_rate
        In Hz. 12 kHz keeps what matters for tagging and halves the cost of 22.05 kHz.
    n_fft
        Samples per frame (43 ms).
    hop_length
        Samples between the starts of successive frames (21 ms).
    n_mels
        Mel bands, Slaney scale and norm, 0 Hz to half the sample rate.
    clip_seconds
        Length of a clip in s. 29.12 s is 349 440 samples and 1366 frames: the
        preview clips of the Million Song Dataset are a little longer than 29 s.
    mel_exponent
        Exponent applied to the mel *power* spectrogram before conversion to dB. 1 is the usual
        log-mel; the published weights were trained with 2, one squaring too many.
    top_db
        Floor, in dB below the clip's maximum, as in librosa's ``power_to_db``.
    amin
        Smallest power that is distinguished from silence, as in librosa's ``power_to_db``.
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
        """Samples per clip."""
        return round(self.clip_seconds * self.sample_rate)

    @property
    def frames(self) -> int:
        """Frames of a clip's log-mel (frames are centred: one more than whole hops)."""
        return 1 + self.clip_samples // self.hop_length


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which data set to use, where it is, and how it is prepared if it does not exist yet.

    Attributes
    ----------
    dataset
        Name of a builder in ``crnn_jax.data.prepared.BUILDERS``, or the folder of a prepared set.
    data_dir
        Where prepared sets are stored.
    manual_dir
        The collection's own folder (or its CSV file): audio and metadata. Unused by ``synthetic``.
    max_rejected
        Largest accepted fraction of unusable files, such as 0.1 or (on the command line) 10%.
    workers
        Decoding processes; None: one per core.
    n_examples
        Clips in a ``synthetic`` or ``rendered`` set, over all splits.
    music_seed
        Seed of a ``synthetic`` set's music, and of how a ``rendered`` set's is played.
    sound_fonts
        For ``rendered``: sound-fonts of all splits but one, as paths or names in Debian's folder.
        Two that sound different: one of recordings, one of a synthesiser.
    unheard_sound_font
        For ``rendered``: the sound-font of the split ``unheard``.
    clips_per_track
        For ``folder`` and ``jamendo``: clips that are cut out of each file, evenly spread over it;
        if it is shorter, they overlap.
    merge_synonyms
        For ``magnatagatune``: merge synonymous tags before the 50 most frequent are selected.
    jamendo_subset
        For ``jamendo``: use the 50 most frequent tags, or those of one category.
    jamendo_split
        For ``jamendo``: which of the five published splits to use.
    mel
        The stored log-mel.
    """

    dataset: str = "synthetic"
    data_dir: str = "data"
    manual_dir: str | None = None
    max_rejected: float = 0.1
    workers: int | None = None
    n_examples: int = 4000
    music_seed: int = 0
    sound_fonts: tuple[str, ...] = ("FluidR3_GM.sf2", "OPL-3_FM_128M.sf2")
    unheard_sound_font: str = "TimGM6mb.sf2"
    clips_per_track: int = 1
    merge_synonyms: bool = False
    jamendo_subset: JamendoSubset = "top50tags"
    jamendo_split: Literal[0, 1, 2, 3, 4] = 0
    mel: MelConfig = MelConfig()

    def __post_init__(self) -> None:
        check_positive(self, "workers", "n_examples", "clips_per_track")
        check_positive(self, "music_seed", or_zero=True)
        if not 0 <= self.max_rejected <= 1:
            raise UserError(
                "not a fraction; give 0 to 1, or 0% to 100%",
                field="max_rejected",
                value=f"{self.max_rejected:g}",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Options of a network other than its architecture and widths.

    Attributes
    ----------
    dropout_pool
        Dropout rate after each pooling, as in the published CRNN's code.
    dropout_output
        Dropout rate before the output, as in the published CRNN's code.
    input_norm
        Axis of the batch norm on the input: one mean and variance per mel band (``mel``), or one
        per frame (``frames``: as in the published CRNN; fixes the number of frames).
    gru_reset
        Whether the GRU's reset gate is applied to the recurrent product (``after``: as in cuDNN,
        one matrix product per step) or to the state before it (``before``: as in Cho et al. 2014
        and the published CRNN).
    gru_gate
        Activation of the GRU's two gates; ``hard_sigmoid`` is clip(0.2 x + 0.5, 0, 1), as in the
        published CRNN.
    norm_momentum
        Batch norm: weight of the old running statistics in an update. With 0.9 the statistics
        adapt within an epoch of a small set (the usual 0.99 takes several hundred steps), but are
        those of about the last ten batches: with batches of a few clips and thousands of steps,
        0.99 makes them less noisy.
    norm_epsilon
        Batch norm: constant added to the variance. 1e-3 is the value of Keras 1; the published
        scores do not determine it exactly.
    precision
        Dtype of the computation; parameters, batch statistics, loss and metrics stay float32.
    matmul_precision
        Precision of float32 matrix products and convolutions on an accelerator: ``float32``,
        or ``tensorfloat32`` (10 bits of mantissa on Ampere and later GPUs; three bfloat16 passes
        on TPUs), or ``bfloat16`` (one pass on TPUs; same as ``tensorfloat32`` on GPUs). JAX's own
        default is the last one: fast, but not what float32 promises. CPUs always use float32.
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
        Number of outputs; 50 in the paper.
    n_mels
        Mel bands of the input.
    """

    arch: Architecture
    widths: tuple[int, ...]
    n_tags: int = 50
    n_mels: int = 96


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Training options of a cell.

    Attributes
    ----------
    epochs
        Maximum number of passes over the training split.
    batch_size
        Clips per step, over all devices together.
    learning_rate
        Adam's step size; 1e-3 is Adam's own default (Kingma & Ba 2015), which the paper uses. The
        largest one, if there is a schedule.
    optimizer
        ``adamw`` decays kernels towards 0 by `weight_decay` times the learning rate in each step.
    weight_decay
        For ``adamw``; 0.01 is the value of Loshchilov & Hutter's own code.
    schedule
        Learning rate over the run: ``constant`` as in the paper, ``cosine`` to 0 at the end of the
        last epoch, or ``wsd`` (warm-up, stable, decay): constant, then falling to 0.
    warmup_steps
        Steps in which the learning rate rises linearly from 0.
    decay
        For ``wsd``: part of the run, at its end, in which the learning rate falls: of its steps or,
        with `max_train_seconds`, of its time. A fifth does as well as a cosine over the whole run
        (Hägele et al. 2024).
    parametrization
        ``mup`` scales initial values and learning rates with the widths
        (`crnn_jax.train.parametrization`), so that one learning rate may fit networks of all sizes.
    patience
        With a ``constant`` schedule, training ends after this many epochs without a better
        validation AUC; the others go to their end.
    max_train_seconds
        Training ends with the step in which the wall time spent on training steps reaches this
        value, in s (compilation and evaluation are not counted). With ``wsd``, the decay begins
        early enough to end by then.
    max_examples
        Use only this many examples from the start of the training split, for quick tests.
    train_fraction
        Use only this part of the training split, above 0 and at most 1: a random one, which is part
        of every larger one, and the same for all seeds.
    clip_seconds
        Use only the central part of each clip, of this length in s; None: the whole clip.
    train_crop
        Train on a random part of each clip, of this length in s, another one in every step; the
        network's outputs for a clip are then the mean over consecutive parts of it.
    """

    epochs: int = 100
    batch_size: int = 16
    learning_rate: float = 1e-3
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.01
    schedule: ScheduleKind = "constant"
    warmup_steps: int = 0
    decay: float = 0.2
    parametrization: Parametrization = "standard"
    patience: int = 10
    max_train_seconds: float | None = None
    max_examples: int | None = None
    train_fraction: float = 1.0
    clip_seconds: float | None = None
    train_crop: float | None = None

    def __post_init__(self) -> None:
        check_positive(self, "epochs", "batch_size", "learning_rate", "patience")
        check_positive(self, "max_train_seconds", "max_examples", "clip_seconds", "train_crop")
        check_positive(self, "warmup_steps", "weight_decay", or_zero=True)
        if not 0 < self.decay < 1:
            raise UserError("give a number between 0 and 1", field="decay", value=self.decay)
        check_fraction("train_fraction", self.train_fraction)
        if self.max_train_seconds is not None:
            check_may_be_cut(self.schedule, "max_train_seconds")


@dataclasses.dataclass(frozen=True)
class RuntimeConfig:
    """How a run is executed; no number in a result depends on it, beyond rounding.

    Attributes
    ----------
    resident
        Whether the set is kept in memory: on every GPU or TPU if it fills at most half of what is
        free there, otherwise on the host if it fills at most an eighth of what is available
        (``yes``: or all of it). ``no``: every batch is read from the disk.
    read_threads
        Threads that read batches ahead of the training step.
    read_workers
        Processes that read ahead instead, from the disk, for very fast accelerators; 0: threads
        only. Evaluation always uses threads.
    devices
        Devices to compute on, of each process. If not given, all GPUs or TPUs, or one device for
        each core of a CPU that the process may use, as many of them as divide the batch.
    steps_per_dispatch
        Training steps that one program takes before Python sees their losses. If not given, on a
        GPU or TPU as many as take about 25 ms, on a CPU one.
    checkpoint_seconds
        A snapshot is written when the last one is this old, in s: the most that a killed run
        loses. Writing one takes about 0.1 s.
    tracker
        Experiment trackers that follow each run, beside ``metrics.jsonl``. One that fails warns,
        and the run goes on without it.
    tracker_steps
        Steps from one point of a tracker's curves of loss, gradient norm and learning rate to the
        next. The losses of single batches are noisy, and TensorBoard draws at most 1000 points of
        a curve; more would cost short steps time.
    """

    resident: Resident = "auto"
    read_threads: int = 2
    read_workers: int = 0
    devices: int | None = None
    steps_per_dispatch: int | None = None
    checkpoint_seconds: float = 30.0
    tracker: tuple[TrackerName, ...] = ()
    tracker_steps: int = 10

    def __post_init__(self) -> None:
        check_positive(self, "read_threads", "devices", "steps_per_dispatch", "tracker_steps")
        check_positive(self, "read_workers", "checkpoint_seconds", or_zero=True)
        if self.resident == "yes" and self.read_workers:
            raise UserError(
                "they read from the disk, and resident yes keeps the set in memory; leave one out",
                field="read_workers",
                value=self.read_workers,
            )
        for name in (self.tracker,) if isinstance(self.tracker, str) else self.tracker:
            if isinstance(self.tracker, str) or name not in get_args(TrackerName):
                raise UserError(
                    f"give a tuple of {', '.join(get_args(TrackerName))}",
                    field="tracker",
                    value=name,
                )


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """A study: the grid of its cells, and the settings they share.

    Attributes
    ----------
    archs
        Architectures of the grid.
    targets
        Sizes of the grid, in trainable parameters.
    rules
        Width-scaling rules of the grid.
    seeds
        Seeds of the grid.
    learning_rates
        Learning rates of the grid; none: `train`'s. Figures show for each architecture and size the
        one with the best validation AUC.
    trial_epochs
        First train each network for this many epochs with each of the learning rates and the first
        seed, then train the grid with the best of them alone, by validation AUC, per architecture,
        rule, size and part of the data. If not given, the grid has all of them.
    train_fractions
        Parts of the training split, as `train`'s ``train_fraction``; none: `train`'s.
    time_budgets
        Values of ``max_train_seconds``, in s; none: `train`'s. With the schedule ``wsd``, shorter
        budgets branch off the run of the longest one where its decay would begin.
    folds
        Cross-validation: the tracks of all splits are divided into this many parts, each of which
        is the test split of one cell, and the next part its validation split.
    extra_cells
        Cells in addition to the grid, as (arch, target, rule, seed).
    data
        The data set.
    network
        Options of every network.
    train
        Training options of every cell.
    runtime
        How the study is executed.
    """

    # The three that the paper compares in all its experiments.
    archs: tuple[Architecture, ...] = ("conv1d", "conv2d", "crnn")
    targets: tuple[int, ...] = PAPER_TARGETS
    rules: tuple[Rule, ...] = ("uniform",)
    seeds: tuple[int, ...] = (0,)
    learning_rates: tuple[float, ...] = ()
    trial_epochs: int | None = None
    train_fractions: tuple[float, ...] = ()
    time_budgets: tuple[float, ...] = ()
    folds: int | None = None
    extra_cells: tuple[tuple[Architecture, int, Rule, int], ...] = ()
    data: DataConfig = DataConfig()
    network: NetworkOptions = NetworkOptions()
    train: TrainConfig = TrainConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    def __post_init__(self) -> None:
        for name in ("learning_rates", "time_budgets"):
            for value in getattr(self, name):
                if not 0 < value < float("inf"):
                    raise UserError("give numbers above 0", field=name, value=f"{value:g}")
        for fraction in self.train_fractions:
            check_fraction("train_fractions", fraction)
        if self.time_budgets:
            check_may_be_cut(self.train.schedule, "time_budgets")
        if self.folds is not None and self.folds < 3:
            raise UserError(
                "one part is for test, one for validation; give 3 or more",
                field="folds",
                value=self.folds,
            )
        if self.trial_epochs is not None:
            self._check_trial(self.trial_epochs)

    def _check_trial(self, epochs: int) -> None:
        check_positive(self, "trial_epochs")
        fix = None
        if len(set(self.learning_rates)) < 2:
            fix = "it chooses among learning_rates; give two or more of them"
        elif self.folds is not None:
            fix = "a fold's validation clips are tested in another; leave out folds or trial_epochs"
        elif beside := [arch for arch, *_ in self.extra_cells if arch not in self.archs]:
            fix = f"{beside[0]} is in extra_cells and not in archs, so it has no trial; add it"
        if fix is not None:
            raise UserError(fix, field="trial_epochs", value=epochs)


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """What to time, and how often.

    Attributes
    ----------
    arch
        Architecture.
    target
        Trainable parameters.
    rule
        How the widths are scaled.
    batch
        Clips per step.
    clip_seconds
        Length of a clip, in s.
    precision
        Dtype of the computation.
    devices
        Devices to compute on; if not given, as in training.
    rounds
        Turns per candidate.
    turn_seconds
        Length of a turn, in s; a turn has at least one step.
    against
        What to compare with.
    """

    arch: Architecture = "crnn"
    target: int = 100_000
    rule: Rule = "uniform"
    batch: int = 16
    clip_seconds: float = MelConfig.clip_seconds
    precision: Precision = "float32"
    devices: int | None = None
    rounds: int = 5
    turn_seconds: float = 1.0
    against: Literal["torch"] | None = None

    def __post_init__(self) -> None:
        check_positive(self, "batch", "clip_seconds", "devices", "rounds", "turn_seconds")

    @property
    def frames(self) -> int:
        """Frames of a clip's log-mel."""
        return dataclasses.replace(MelConfig(), clip_seconds=self.clip_seconds).frames


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """Where the work is done; no number in a result depends on it.

    Attributes
    ----------
    executor
        Run cells in this process, one after the other, or as tasks of a Ray cluster.
    address
        Address of the Ray cluster; if not given, one is started on this machine.
    resources
        Resources that a Ray task requests, as JSON such as '{"CPU": 2, "GPU": 1}'.
    distributed
        This is one of several processes that train each cell together. Slurm, Open MPI, Kubernetes
        or a TPU pod determines which one; elsewhere the next three flags do. The data set must be
        prepared beforehand.
    coordinator_address
        Host and port of process 0.
    num_processes
        Number of processes.
    process_id
        Index of this process, from 0.
    local_device_ids
        GPUs of its machine that this process uses, from 0. If not given, all visible ones; under
        Slurm and Open MPI only the one with the process's local rank.
    heartbeat_seconds
        The other processes end when one has not been heard from for this long, in s. Short enough
        not to wait long for a dead process, long enough for a busy one.
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
                    "only for one of several processes (give distributed or coordinator_address); "
                    f"for a single process set CUDA_VISIBLE_DEVICES={','.join(map(str, ids))}",
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
