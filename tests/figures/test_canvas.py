"""Figures are written in one piece, and named for what they are."""

import pytest
from etils import epath
from PIL import Image

from crnn_jax.errors import UserError
from crnn_jax.figures.canvas import check_image_path, new_figure, style, write_figure, write_image


@pytest.fixture
def figure():
    with style():
        return new_figure(2.0, 1.5)


def test_an_image_replaces_the_old_one_and_leaves_nothing_else(figure, tmp_path):
    path = epath.Path(tmp_path / "new" / "folder" / "a.png")
    write_image(figure, path)
    path.write_bytes(b"old")
    write_image(figure, path, dpi=50)
    assert [each.name for each in path.parent.iterdir()] == ["a.png"]
    with Image.open(path) as image:
        assert image.size == (100, 75)


def test_a_figure_is_a_png_and_an_svg(figure, tmp_path):
    paths = write_figure(figure, epath.Path(tmp_path), "a")
    assert [path.name for path in paths] == ["a.png", "a.svg"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.png", "a.svg"]
    with Image.open(paths[0]) as image:
        assert image.size == (600, 450)
    assert paths[1].read_text().startswith("<?xml")


def test_a_file_that_cannot_be_written_is_named(figure, tmp_path):
    path = tmp_path / "a.png"
    path.mkdir()
    with pytest.raises(UserError, match="can be written to") as error:
        write_image(figure, epath.Path(path))
    assert str(error.value).startswith(f"{path}: ")
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_is_no_image_names_its_field():
    check_image_path(epath.Path("a.svg"), "figure")
    for name, formats, suffixes in (
        ("a.gif", ("png", "svg"), ".png or .svg"),
        ("png", ("png", "svg"), ".png or .svg"),
        ("a.svg", ("png",), ".png"),
    ):
        with pytest.raises(UserError) as error:
            check_image_path(epath.Path(name), "figure", formats)
        message = f"figure {name}: give a file name that ends in {suffixes}"
        assert str(error.value) == message
        assert error.value.for_command_line() == f"--{message}"
