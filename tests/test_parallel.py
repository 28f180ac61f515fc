"""Compiled steps that are kept: what one start has compiled, the next one finds."""

from tests.commands import Commands, finish


def test_the_second_start_compiles_nothing(small_set, tmp_path):
    caches = tmp_path / "caches"
    commands = Commands(small_set.path, caches)
    kept = []
    for out in ("first", "second"):
        code, _, err = finish(commands.start(tmp_path / out))
        assert code == 0, err
        # Whatever is compiled is kept, however short it took.
        kept.append({path.name for path in caches.rglob("*-cache")})
    first, second = kept
    assert first
    assert second == first


def test_entries_that_a_kill_has_cut_are_compiled_again(small_set, tmp_path):
    caches = tmp_path / "caches"
    commands = Commands(small_set.path, caches)
    assert finish(commands.start(tmp_path / "first"))[0] == 0
    entries = sorted(caches.rglob("*-cache"))
    sizes = [entry.stat().st_size for entry in entries]
    assert entries
    for number, entry in enumerate(entries):
        content = entry.read_bytes()
        # Cut anywhere, or with nothing of it on the disk after a power cut.
        entry.write_bytes((content[: number * len(content) // len(entries)], bytes(99))[number % 2])
    code, out, err = finish(commands.start(tmp_path / "second"))
    assert (code, err) == (0, ""), out
    assert sorted(caches.rglob("*-cache")) == entries
    assert all(
        abs(entry.stat().st_size - size) < 0.1 * size
        for entry, size in zip(entries, sizes, strict=True)
    )
