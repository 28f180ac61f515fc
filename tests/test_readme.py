"""The README's Python code runs as it stands."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def test_from_python(tmp_path, monkeypatch, capsys):
    section = README.read_text().split("\n## From Python\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, flags=re.S)
    assert blocks
    monkeypatch.chdir(tmp_path)
    # One after the other, as a reader would type them.
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert (tmp_path / "runs" / "results.csv").exists()
    assert "crnn" in capsys.readouterr().out
