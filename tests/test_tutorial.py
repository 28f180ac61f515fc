"""The tutorial's commands run as they stand, and print what the page shows."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
# A command, or what one has printed.
BLOCK = re.compile(r"^```(bash|text)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


# Not the digits of a name, such as those of conv2d-20000-uniform-seed0.
NUMBER = re.compile(r"(?<![\w.-])[+-]?\d[\d,.:]*(?![\w-])")
FRAME = re.compile("[━┏┓┃┡┩│├┤└┘┳╇┼┬┴─]")


def without_numbers(text: str) -> set[str]:
    """The lines of an output without numbers, which differ from run to run, and widths of columns.

    The order of the lines may differ, too: some are sorted by a score.
    """
    text = FRAME.sub(" ", NUMBER.sub("0", text))
    return {" ".join(line.split()) for line in text.splitlines()} - {""}


def test_numbers_and_columns_may_differ():
    shown = without_numbers("│ conv2d │ 10,000 │ 0.020 (-0.166 to 0.212) │\n└───┘\n[1/4] in 4.5 s")
    assert shown == without_numbers("[3/4] in 12 s\n│ conv2d   │   9 │ -0.1 (+2 to 1.0)      │\n")
    assert without_numbers("conv2d-10000 1") != without_numbers("conv2d-20000 1")


# On two cores that have other work, compilation takes minutes.
@pytest.mark.timeout(1200)
def test_a_reader_gets_what_the_page_shows(real_clips, tmp_path):
    music = tmp_path / "music"
    shutil.copytree(real_clips / "audio", music / "audio")
    shutil.copy(real_clips / "tags.csv", music)
    scripts = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    page = TUTORIAL.read_text()
    rows = re.findall(r"^(?:path|audio/[^,]+),.*[^…]$", page, flags=re.MULTILINE)
    assert len(rows) == 3
    assert set(rows) <= set((music / "tags.csv").read_text().splitlines())
    blocks = BLOCK.findall(page)
    # As many as the page had when it was written: the pattern finds them all.
    assert [kind for kind, _ in blocks] == ["bash", "text"] * 9
    printed = ""
    for kind, content in blocks:
        if kind == "bash":
            answer = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", content],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert answer.returncode == 0, content + answer.stderr
            printed = answer.stdout
        else:
            assert without_numbers(content) - without_numbers(printed) == set()
            for name in re.findall(r"^\s*(\S+\.(?:png|svg))$", content, flags=re.MULTILINE):
                assert (tmp_path / name).stat().st_size > 1_000
    assert (tmp_path / "runs" / "mine" / "results.csv").read_text().count("\n") == 5
