"""The Million Song Dataset, in the split used in the paper."""

import numpy as np
from etils import epath
from jaxtyping import Bool

from crnn_jax.config import DataConfig
from crnn_jax.data.collection import SPLITS, Collection, Track
from crnn_jax.data.published import PublishedCollection, find_folder, read_text
from crnn_jax.errors import ARRAY_ERRORS, UserError

# In the order of the columns of the split's *_y.npy, with their categories. The paper has genres,
# moods, instruments and eras; a singer is none of these.
TAGS = (
    ("rock", "genre"),
    ("pop", "genre"),
    ("alternative", "genre"),
    ("indie", "genre"),
    ("electronic", "genre"),
    ("female vocalists", "vocal"),
    ("dance", "genre"),
    ("00s", "era"),
    ("alternative rock", "genre"),
    ("jazz", "genre"),
    ("beautiful", "mood"),
    ("metal", "genre"),
    ("chillout", "mood"),
    ("male vocalists", "vocal"),
    ("classic rock", "genre"),
    ("soul", "genre"),
    ("indie rock", "genre"),
    ("Mellow", "mood"),
    ("electronica", "genre"),
    ("80s", "era"),
    ("folk", "genre"),
    ("90s", "era"),
    ("chill", "mood"),
    ("instrumental", "instrument"),
    ("punk", "genre"),
    ("oldies", "era"),
    ("blues", "genre"),
    ("hard rock", "genre"),
    ("ambient", "genre"),
    ("acoustic", "instrument"),
    ("experimental", "genre"),
    ("female vocalist", "vocal"),
    ("guitar", "instrument"),
    ("Hip-Hop", "genre"),
    ("70s", "era"),
    ("party", "mood"),
    ("country", "genre"),
    ("easy listening", "mood"),
    ("sexy", "mood"),
    ("catchy", "mood"),
    ("funk", "genre"),
    ("electro", "genre"),
    ("heavy metal", "genre"),
    ("Progressive rock", "genre"),
    ("60s", "era"),
    ("rnb", "genre"),
    ("indie pop", "genre"),
    ("sad", "mood"),
    ("House", "genre"),
    ("happy", "mood"),
)
SPLIT_FOLDERS = ("MSD_split_for_tagging", "")


class Msd(PublishedCollection):
    """The Million Song Dataset with the 50 most frequent tags of Last.fm.

    T. Bertin-Mahieux, D. P. W. Ellis, B. Whitman, P. Lamere, "The Million Song Dataset" (ISMIR
    2011), http://millionsongdataset.com. The split is that of K. Choi, G. Fazekas, M. Sandler
    (ISMIR 2016; arXiv 1606.00298), https://github.com/keunwoochoi/MSD_split_for_tagging: 201,680
    clips for training, 12,605 for validation, 28,540 for test.

    The audio, previews of 30 s from 7digital (about 100 GB; 64 GB of log-mels), is under copyright
    and not distributed with the set. The tags are those of Last.fm's data set
    (http://millionsongdataset.com/lastfm), for non-commercial research.

    ``--manual-dir`` is the folder of the audio, ``6/0/6010476.clip.mp3``. The split's files
    (``train_x_msd_id.txt``, ``train_x_filename.txt``, ``train_y.npy``; the same for ``valid`` and
    ``test``) are in it or in ``MSD_split_for_tagging``. Some of the previews are empty files.
    """

    name = "msd"

    @classmethod
    def collection(cls, config: DataConfig) -> Collection:
        folder = find_folder(config, SPLIT_FOLDERS, "train_x_msd_id.txt")
        splits = {split: read_split(folder, split) for split in SPLITS}
        tags, categories = zip(*TAGS, strict=True)
        return Collection(tags, categories, splits)

    @classmethod
    def variant(cls, config: DataConfig, collection: Collection) -> str:
        return "top50tags"

    @staticmethod
    def audio_names(source: str) -> tuple[str]:
        return (source,)


def read_split(folder: epath.Path, split: str) -> list[Track]:
    """Read the tracks of a split, in the order of its files.

    Raises
    ------
    UserError
        If one of its three files is missing or not as published, or their numbers of rows differ.
    """
    names_path = folder / f"{split}_x_filename.txt"
    ids = read_text(folder / f"{split}_x_msd_id.txt").split()
    names = read_text(names_path).split()
    targets = read_targets(folder / f"{split}_y.npy")
    if not len(ids) == len(names) == len(targets):
        raise UserError(
            f"{names_path}: {len(names)} rows, but {len(ids)} in {split}_x_msd_id.txt and "
            f"{len(targets)} in {split}_y.npy; download all three again"
        )
    if not names:
        raise UserError(f"{names_path}: no rows; download the split's files again")
    rows, columns = np.nonzero(targets)
    # The tags of row i are columns[begins[i] : begins[i + 1]].
    begins = np.searchsorted(rows, np.arange(len(names) + 1)).tolist()
    tags = columns.tolist()
    return [
        Track(
            track_id,
            # The split lists its author's log-mel files, named like the audio.
            name.removesuffix(".npy") + ".clip.mp3",
            tuple(tags[begins[i] : begins[i + 1]]),
        )
        for i, (track_id, name) in enumerate(zip(ids, names, strict=True))
    ]


def read_targets(path: epath.Path) -> Bool[np.ndarray, "tracks tags"]:
    """Read the tags of a split's tracks.

    Raises
    ------
    UserError
        If the file is missing or not an array with one column per tag of `TAGS`.
    """
    try:
        with path.open("rb") as file:
            # 10 MB at most: a memory map would gain nothing and require a local file.
            targets = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; put the split's files there") from error
    except ARRAY_ERRORS as error:
        raise UserError(f"{path}: not a NumPy array; download it again") from error
    if targets.dtype != bool or targets.shape[1:] != (len(TAGS),):
        raise UserError(
            f"{path}: {targets.dtype} {targets.shape}, not bool (rows, {len(TAGS)}); "
            f"download it again"
        )
    return targets


BUILDER = Msd
