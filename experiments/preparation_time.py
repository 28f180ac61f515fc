"""How fast audio files become log-mels: one file, compared with librosa; many, on one core and all.

Each file is timed on one core, in turns: decoding alone (which no front end can avoid), librosa's
``load`` + ``melspectrogram`` + ``power_to_db``, and ours. Then `--clips` clips, the files repeated,
are prepared as a user would prepare them, on one core and on all: clips/s, including the start of
the processes and writing, next to the rate at which the same number of processes only decodes.
Expect ours at about 0.85 of librosa's time, and two cores at about 1.75 times one.

    python experiments/preparation_time.py MUSIC/*.mp3
"""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import librosa
import soundfile
import tyro

from crnn_jax.audio.decode import read_clip
from crnn_jax.audio.log_mel import log_mel
from crnn_jax.cli.main import exit_after
from crnn_jax.config import DataConfig, MelConfig
from crnn_jax.data.prepared import prepare

MEL = MelConfig()


@dataclasses.dataclass(frozen=True)
class PreparationTime:
    """Measurement of the time from audio files to log-mels.

    Attributes
    ----------
    files
        Audio files, of 30 s each to compare with the figures in the documentation.
    rounds
        Rounds over the files with each method.
    clips
        Clips to prepare.
    """

    files: tyro.conf.Positional[tuple[str, ...]]
    rounds: int = 5
    clips: int = 600


def decode(path: str) -> None:
    """Only decode a file."""
    soundfile.read(path, dtype="float32")


def ours(path: str) -> None:
    """Compute the log-mel of a file's clip."""
    log_mel(read_clip(path, MEL), MEL)


def librosas(path: str) -> None:
    """Compute the log-mel of a file with librosa."""
    samples, _ = librosa.load(path, sr=MEL.sample_rate)
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=MEL.sample_rate,
        n_fft=MEL.n_fft,
        hop_length=MEL.hop_length,
        n_mels=MEL.n_mels,
    )
    librosa.power_to_db(power)


WAYS: tuple[Callable[[str], None], ...] = (decode, librosas, ours)


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Stay on one core within the context: libraries may have threads of their own."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def time_files(files: Sequence[str], rounds: int) -> dict[str, float]:
    """Return each method's median over rounds of the mean time per file, in s."""
    for way in WAYS:
        way(files[0])  # imports, filters, plans
    seconds: dict[str, list[float]] = {way.__name__: [] for way in WAYS}
    with one_core():
        for _ in range(rounds):
            of_round = dict.fromkeys(seconds, 0.0)
            for file in files:
                for way in WAYS:
                    start = time.perf_counter()
                    way(file)
                    of_round[way.__name__] += time.perf_counter() - start
            for name, total in of_round.items():
                seconds[name].append(total / len(files))
    return {name: statistics.median(values) for name, values in seconds.items()}


def prepare_clips(files: Sequence[str], clips: int, workers: int) -> float:
    """Return the seconds to prepare `clips` clips as a data set of the user's own."""
    with tempfile.TemporaryDirectory() as folder:
        music = Path(folder, "music", "tag")
        music.mkdir(parents=True)
        for number in range(clips):
            file = Path(files[number % len(files)]).resolve()
            (music / f"{number}{file.suffix}").symlink_to(file)
        config = DataConfig(
            "folder", data_dir=folder, manual_dir=os.fspath(music.parent), workers=workers
        )
        start = time.perf_counter()
        prepare(config)
        return time.perf_counter() - start


def decode_clips(files: Sequence[str], clips: int, workers: int) -> float:
    """Return the seconds to only decode `clips` clips, without the start of the processes."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        list(pool.map(decode, [files[0]] * workers * 4))
        start = time.perf_counter()
        list(pool.map(decode, (files[i % len(files)] for i in range(clips)), chunksize=16))
        return time.perf_counter() - start


def main(config: PreparationTime) -> None:
    """Time both and print the results."""
    seconds = time_files(config.files, config.rounds)
    times = ", ".join(f"{name} {1e3 * value:.1f} ms" for name, value in seconds.items())
    ratio = seconds["ours"] / seconds["librosas"]
    print(f"per file, one core: {times}; ours / librosa's {ratio:.2f}")
    cores = len(os.sched_getaffinity(0))
    rates = []
    for workers in sorted({1, cores}):
        rates.append(config.clips / prepare_clips(config.files, config.clips, workers))
        decoding = config.clips / decode_clips(config.files, config.clips, workers)
        print(f"{workers} processes: {rates[-1]:.1f} clips/s; decoding alone {decoding:.1f}")
    print(f"{cores} cores / one: {rates[-1] / rates[0]:.2f}")


if __name__ == "__main__":
    exit_after(lambda: main(tyro.cli(PreparationTime, description=__doc__)))
