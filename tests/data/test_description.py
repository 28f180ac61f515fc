"""What a set's folder says of itself: whole and ours, or refused in one line."""

import copy
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.config import DataConfig
from crnn_jax.data.description import DESCRIPTION, FEATURES, METADATA, REJECTED
from crnn_jax.data.prepared import open_set, prepare
from crnn_jax.errors import UserError
from tests.data.test_builder import MEL

FILES = (DESCRIPTION, FEATURES, METADATA)


@pytest.fixture(scope="module")
def stored(small_set, tmp_path_factory):
    """A set's folder, to be damaged; its record files are links."""
    folder = tmp_path_factory.mktemp("stored") / "set"
    shutil.copytree(small_set.path, folder, copy_function=os.symlink)
    return folder


@pytest.fixture(scope="module")
def originals(small_set):
    return {name: (Path(small_set.path) / name).read_bytes() for name in FILES}


@pytest.fixture
def folder(stored, originals):
    """The folder with its own descriptions."""
    for name, content in originals.items():
        write(stored / name, content)
    return stored


def write(path, content):
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def assert_refused(folder, said="prepare it again"):
    with pytest.raises(UserError, match=said) as error:
        open_set(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_copy_is_the_set(folder, small_set):
    copied = open_set(folder)
    assert copied.name == small_set.name
    assert copied.tag_counts == small_set.tag_counts
    assert len(copied.source("valid")) == small_set.n_examples["valid"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_anywhere(folder, originals, name):
    for length in range(len(originals[name])):
        write(folder / name, originals[name][:length])
        assert_refused(folder, name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"[]",
        b"3",
        b'"text"',
        b"{}",
        b"\xff\xfe",
        b"\0" * 99,
        b"[" * 99_999,
        b'{"a": ' * 99_999,
    ],
    ids=lambda content: repr(content[:8]),
)
def test_a_file_that_is_something_else(folder, name, content):
    write(folder / name, content)
    assert_refused(folder, name)


@pytest.mark.parametrize(
    "name", [FEATURES, METADATA, REJECTED, "synthetic-valid.array_record-00001-of-00002"]
)
def test_a_file_that_is_missing(small_set, tmp_path, name):
    folder = tmp_path / "set"
    shutil.copytree(small_set.path, folder, copy_function=os.symlink)
    (folder / name).unlink()
    assert_refused(folder, f"{name}: missing")


@given(st.sampled_from(FILES), st.data())
@settings(deadline=None, max_examples=300, derandomize=True)
def test_a_file_with_damaged_bytes_is_refused_or_read(stored, originals, name, data):
    for other in FILES:
        write(stored / other, originals[other])
    content = bytearray(originals[name])
    places = st.integers(0, len(content) - 1)
    for place, value in data.draw(st.dictionaries(places, st.integers(0, 255), min_size=1)).items():
        content[place] = value
    write(stored / name, bytes(content))
    try:
        assert sum(open_set(stored).n_examples.values()) > 0
    except UserError as error:
        said = str(error)
        assert "\n" not in said
        assert str(stored) in said


WRONG = [None, True, -1, 1.5, 10**400, "text", [], ["a"], [[]], {}, {"a": 1}, float("nan")]


FITTING = [
    *((("tracks_digest",), None), (("tracks_digest",), "text")),
    *((("tag_names", 0), "text"), (("tag_categories", 3), "text"), (("n_rejected",), 10**400)),
]


def changed(values, path, value):
    """Parsed JSON with another value in one place."""
    values = copy.deepcopy(values)
    *way, last = path
    part = values
    for key in way:
        part = part[key]
    if value is KeyError:
        del part[last]
    else:
        part[last] = value
    return values


PLACES = [
    *(("tag_names",), ("tag_names", 0), ("tag_categories",), ("tag_categories", 3), ("mel",)),
    *(("mel", "sample_rate"), ("mel", "n_mels"), ("mel", "clip_seconds"), ("mel", "unknown")),
    *(("tag_counts",), ("tag_counts", "test"), ("tag_counts", "train", 0), ("tag_counts", "more")),
    *(("n_rejected",), ("tracks_digest",)),
]


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_metadata_of_other_types(folder, originals, path):
    metadata = json.loads(originals[METADATA])
    for value in WRONG:
        write(folder / METADATA, json.dumps(changed(metadata, path, value)).encode())
        if (path, value) in FITTING:
            open_set(folder)
        else:
            assert_refused(folder)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((path, KeyError) for path in PLACES if path[-1] not in ("unknown", "more")),
        (("tag_counts", "train", 0), 49),
        (("mel", "clip_seconds"), 1e300),
        (("mel", "hop_length"), 10**30),
        (("mel", "n_mels"), 97),
    ],
)
def test_metadata_that_does_not_fit(folder, originals, path, value):
    metadata = changed(json.loads(originals[METADATA]), path, value)
    write(folder / METADATA, json.dumps(metadata).encode())
    if path == ("tracks_digest",):
        # Sets of the first version have none.
        assert open_set(folder).tracks_digest is None
    else:
        assert_refused(folder)


# --- what TFDS would do for a set that is not ours ---


@pytest.fixture
def witness(tmp_path, monkeypatch):
    """A file that a module on Python's path writes when it is imported."""
    path = tmp_path / "witness"
    (tmp_path / "payload.py").write_text(f"open({str(path)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop("payload", None)


TEXT = {"pythonClassName": "payload.Text", "text": {}}
LEGACY = {"type": "payload.Text", "content": {}, "proto_cls": ""}
DICT = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
SEQUENCE = "tensorflow_datasets.core.features.sequence_feature.Sequence"


@pytest.mark.parametrize(
    "features",
    [
        TEXT,
        LEGACY,
        {"pythonClassName": DICT, "featuresDict": {"features": {"track_id": TEXT}}},
        {"type": DICT, "content": {"track_id": LEGACY}},
        {"pythonClassName": SEQUENCE, "sequence": {"feature": TEXT, "length": "1"}},
        {"pythonClassName": SEQUENCE, "jsonFeature": {"json": json.dumps({"feature": LEGACY})}},
    ],
)
def test_classes_that_a_set_names_are_not_imported(folder, originals, witness, features):
    for name, content in (
        (FEATURES, features),
        (DESCRIPTION, json.loads(originals[DESCRIPTION]) | {"features": features}),
    ):
        write(folder / name, json.dumps(content).encode())
        assert_refused(folder, name)
        write(folder / name, originals[name])
    stored = json.loads(originals[FEATURES])
    for change in (
        {"track_id": TEXT},
        {"more": TEXT},
        {"more": features},
    ):
        content = copy.deepcopy(stored)
        content["featuresDict"]["features"].update(change)
        write(folder / FEATURES, json.dumps(content).encode())
        assert_refused(folder, FEATURES)
    assert not witness.exists()


def test_features_that_do_not_fit_the_metadata(folder, originals):
    for before, after in (
        ("float16", "float32"),
        ('"96"', '"95"'),
        ("bytes", "zlib"),
        ("31", "30"),
    ):
        assert before.encode() in originals[FEATURES]
        write(folder / FEATURES, originals[FEATURES].replace(before.encode(), after.encode()))
        assert_refused(folder, FEATURES)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((("name",), name) for name in ("../../elsewhere/set", "/etc/x", "", "a b", "a\nb")),
        *((("version",), version) for version in ("", "1", "1.0.*", "../1.0.0", "experimental")),
        *((("configName",), name) for name in ("", 3)),
        *(
            (("fileFormat",), kind)
            for kind in ("", "tfrecord", "parquet", "wds", "array_record/../x")
        ),
        (("alternativeFileFormats",), ["tfrecord"]),
        (("isBlocked",), "no"),
        (("supervisedKeys",), {"tuple": {"items": [{"featureKey": "tags"}]}}),
        (("unknown",), 1),
        (("splits",), []),
        (("splits",), KeyError),
        (("splits", 1), KeyError),
        (("splits", 1, "name"), "train"),
        (("splits", 1, "name"), "../valid"),
        *(
            (("splits", 1, "filepathTemplate"), template)
            for template in (
                *("", "/etc/passwd", "../{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"),
                *("{DATASET.__class__}", "{UNKNOWN}"),
            )
        ),
        (("splits", 1, "numShards"), "2"),
        (("splits", 1, "shardLengths"), []),
        (("splits", 1, "shardLengths"), ["8"]),
        (("splits", 1, "shardLengths"), ["8", "1", "1"]),
        (("splits", 1, "shardLengths"), ["9", "0"]),
        (("splits", 1, "shardLengths"), ["10", "-1"]),
        (("splits", 1, "shardLengths"), ["8", "one"]),
        (("splits", 1, "shardLengths"), ["8", str(2**64)]),
    ],
)
def test_a_description_of_another_set(folder, originals, path, value):
    description = changed(json.loads(originals[DESCRIPTION]), path, value)
    write(folder / DESCRIPTION, json.dumps(description).encode())
    assert_refused(folder)


# --- where it is said ---


@pytest.mark.parametrize("name", FILES)
def test_a_set_that_is_there_already_is_checked(small_set, tmp_path, name):
    """Also by the builder itself, which is TFDS's and reads what is there."""
    place = Path(small_set.path).relative_to(Path(small_set.path).parents[2])
    shutil.copytree(small_set.path, tmp_path / place, copy_function=os.symlink)
    content = (tmp_path / place / name).read_bytes()
    write(tmp_path / place / name, content[: len(content) // 2])
    config = DataConfig(data_dir=str(tmp_path), n_examples=75, mel=MEL)
    with pytest.raises(UserError, match=re.escape(str(tmp_path / place / name))):
        prepare(config)
