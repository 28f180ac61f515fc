"""User-chosen names, such as tags, in a form that can be drawn."""

import functools
from typing import Any

from crnn_jax.user_text import printable

# A longer name would leave no room for the figure.
LONGEST_NAME = 40


def drawable(name: str, longest: int = LONGEST_NAME) -> str:
    """Return a name in one line of at most `longest` characters.

    A box replaces each character that Matplotlib's own font lacks.
    """
    font = _font()
    characters = "".join(
        character if font.get_char_index(ord(character)) else "□" for character in printable(name)
    )
    return characters if len(characters) <= longest else f"{characters[: longest - 1]}…"


@functools.cache
def _font() -> Any:
    # Late: who needs only colours and names of architectures does not need Matplotlib.
    import matplotlib.font_manager

    path = matplotlib.font_manager.findfont("DejaVu Sans")
    return matplotlib.font_manager.get_font(path)
