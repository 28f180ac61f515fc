"""What a run's page shows: curves of each tag, calibration, and clips that say most."""

import dataclasses
import io
from collections.abc import Iterator

import numpy as np
import scipy.special
from etils import epath
from jaxtyping import Bool, Float

from crnn_jax.data.folds import make_fold
from crnn_jax.data.prepared import PreparedSet, open_set
from crnn_jax.errors import UserError
from crnn_jax.report.contents import Columns, make_columns, name_folder, read_history
from crnn_jax.study import runs
from crnn_jax.study.runs import Predictions
from crnn_jax.study.schema import RunConfig, RunResult
from crnn_jax.train.metrics import CALIBRATION_BINS
from crnn_jax.user_text import printable

# Points of a tag's curve, at most: as many as are seen on a phone's screen.
LONGEST_CURVE = 80
# Clips of each kind.
CLIPS = 4
# Pixels of a log-mel's width, at most.
WIDEST_IMAGE = 480


@dataclasses.dataclass(frozen=True)
class Example:
    """A clip that a network is sure of.

    Attributes
    ----------
    kind
        ``right``: has the tag, with a high score; ``wrong``: a high score without the tag;
        ``missed``: has the tag, with a low score.
    track_id, tag, score
        The clip, the tag and its score from 0 to 1.
    tags
        The tags that the clip has.
    image
        Its log-mel as a PNG.
    """

    kind: str
    track_id: str
    tag: str
    score: float
    tags: tuple[str, ...]
    image: bytes


@dataclasses.dataclass(frozen=True)
class RunContents:
    """Everything that a run's page shows.

    Attributes
    ----------
    name
        The run's folder.
    config, result
        What was trained, and its scores.
    tables
        What the charts draw, by name.
    examples
        Clips that the network is sure of.
    notes
        What could not be shown, and why.
    """

    name: str
    config: RunConfig | None
    result: RunResult
    tables: dict[str, Columns]
    examples: tuple[Example, ...]
    notes: tuple[str, ...]


def is_run(folder: epath.Path) -> bool:
    """Return whether a folder is a run's, and not a study's."""
    return any((folder / name).exists() for name in ("config.json", "result.json"))


def gather_run(run: epath.Path) -> RunContents:
    """Gather what the page of a run shows.

    Raises
    ------
    UserError
        If the run is not finished.
    """
    result = runs.read_result(run)
    config = runs.read_config(run) if (run / "config.json").exists() else None
    if result is None:
        if config is not None and config.imported is not None:
            raise UserError(
                f"{run}: imported weights, of which nothing is recorded; score them with `crnn-jax "
                f"evaluate {run} --dataset DIR`"
            )
        raise UserError(f"{run}: not finished (no result.json); give the sweep's command again")
    notes: list[str] = []
    history = read_history(run)
    if not history:
        notes.append("no metrics.jsonl, so no learning curves")
    predictions = runs.read_predictions(run)
    tables = {
        "tags": _tabulate_tags(result),
        "history": make_columns(
            ("epoch", "seconds", "loss", "auc"),
            ((row["epoch"], row["train_s"], row["loss"], row["valid_auc"]) for row in history),
        ),
    }
    examples: tuple[Example, ...] = ()
    if predictions is None:
        notes.append(
            "no predictions-test.npz, so no curves of the tags, no calibration and no clips; train "
            "again to have them"
        )
        tables |= {"roc": {}, "precision": {}, "calibration": {}}
    else:
        tables |= tabulate_predictions(predictions)
        try:
            data = _open_data(config)
            examples = tuple(find_examples(data, predictions, result))
        except UserError as error:
            notes.append(f"no clips: {error}")
    return RunContents(name_folder(run), config, result, tables, examples, tuple(notes))


def _tabulate_tags(result: RunResult) -> Columns:
    return make_columns(
        ("tag", "category", "rank", "positives", "auc", "ap"),
        (
            (
                *(printable(tag.tag), printable(tag.category), tag.popularity_rank),
                *(tag.n_test_positive, tag.auc, tag.ap),
            )
            for tag in result.per_tag
        ),
    )


def tabulate_predictions(predictions: Predictions) -> dict[str, Columns]:
    """Return the curves of each tag that has both classes, and the calibration of all outputs."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    targets = predictions.targets > 0
    roc, precisions = [], []
    for tag, (of_tag, logits) in enumerate(zip(targets.T, predictions.logits.T, strict=True)):
        if of_tag.all() or not of_tag.any():
            continue
        false_positive, true_positive, _ = roc_curve(of_tag, logits)
        roc += [(tag, *point) for point in _thin(false_positive, true_positive)]
        precision, recall, _ = precision_recall_curve(of_tag, logits)
        precisions += [(tag, *point) for point in _thin(recall[::-1], precision[::-1])]
    return {
        "roc": make_columns(("tag", "x", "y"), roc),
        "precision": make_columns(("tag", "x", "y"), precisions),
        "calibration": _calibrate(predictions.logits, targets),
    }


def _thin(
    x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points"]
) -> Iterator[tuple[float, float]]:
    """Yield points of a curve at about equal distances along it, its ends among them."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    wanted = np.linspace(0, along[-1], LONGEST_CURVE)
    for place in np.unique(np.searchsorted(along, wanted).clip(0, len(x) - 1)):
        yield float(x[place]), float(y[place])


def _calibrate(
    logits: Float[np.ndarray, "clips tags"], targets: Bool[np.ndarray, "clips tags"]
) -> Columns:
    """Return for each range of scores their mean, how many are right, and how many there are."""
    scores = scipy.special.expit(logits.astype(float)).ravel()
    bins = np.minimum((scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    sums = (
        np.bincount(bins, values, minlength=CALIBRATION_BINS)
        for values in (scores, targets.ravel().astype(float))
    )
    predicted, observed = (each[counts > 0] / counts[counts > 0] for each in sums)
    rows = zip(predicted.tolist(), observed.tolist(), counts[counts > 0].tolist(), strict=True)
    return make_columns(("predicted", "observed", "outputs"), rows)


def _open_data(config: RunConfig | None) -> PreparedSet:
    """Open the set that a run was trained on."""
    if config is None or config.data.path is None:
        raise UserError("the run's folder does not say where its data set is")
    data = open_set(config.data.path)
    if config.data.fold is not None and config.data.folds is not None:
        return make_fold(data, config.data.fold, config.data.folds)
    return data


def find_examples(
    data: PreparedSet, predictions: Predictions, result: RunResult
) -> Iterator[Example]:
    """Yield the test clips that a network is most sure of, rightly and wrongly.

    No clip and no tag is shown twice in a kind.

    Raises
    ------
    UserError
        If the set is not the one that was predicted, or cannot be read.
    """
    names = [tag.tag for tag in result.per_tag]
    another = UserError(f"{data.path} is another data set than the run's")
    if data.n_examples["test"] != len(predictions.targets) or list(data.tag_names) != names:
        raise another
    source = data.source("test")
    scores = scipy.special.expit(predictions.logits.astype(float))
    targets = predictions.targets > 0
    kinds = {
        "right": np.where(targets, scores, -1.0),
        "wrong": np.where(targets, -1.0, scores),
        "missed": np.where(targets, 1.0 - scores, -1.0),
    }
    for kind, certainty in kinds.items():
        for clip, tag in _pick(certainty):
            example = source[clip]
            # One of as many clips, made again of other files.
            if not np.array_equal(example["tags"] > 0, targets[clip]):
                raise another
            yield Example(
                kind,
                example["track_id"].decode(errors="backslashreplace"),
                names[tag],
                float(scores[clip, tag]),
                tuple(name for name, has in zip(names, targets[clip], strict=True) if has),
                draw_log_mel(example["log_mel"]),
            )


def _pick(certainty: Float[np.ndarray, "clips tags"]) -> list[tuple[int, int]]:
    """Return clips and tags of the highest certainties; negative ones do not count."""
    left = certainty.copy()
    picked: list[tuple[int, int]] = []
    while len(picked) < CLIPS:
        clip, tag = divmod(int(np.argmax(left)), left.shape[1])
        if left[clip, tag] < 0:
            break
        picked.append((clip, tag))
        left[clip, :] = left[:, tag] = -1.0
    return picked


def draw_log_mel(log_mel: Float[np.ndarray, "mel frames"]) -> bytes:
    """Return a log-mel as a PNG, with low frequencies below, from its lowest level to its highest.

    Frames of a long clip are averaged.
    """
    import matplotlib.image

    n_mels, n_frames = log_mel.shape
    per_column = -(-n_frames // WIDEST_IMAGE)
    whole = log_mel[:, : n_frames // per_column * per_column].astype(np.float32)
    columns = whole.reshape(n_mels, -1, per_column).mean(axis=2)
    file = io.BytesIO()
    matplotlib.image.imsave(file, columns, cmap="magma", origin="lower", format="png")
    return file.getvalue()
