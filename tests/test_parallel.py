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
