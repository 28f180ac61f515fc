"""Hooks of the documentation site: files beside ``docs/`` that its pages show or link to.

A page links to a figure or a table of ``results/`` by its path in the repository, such as
``../results/demo/results.csv``, so that the link works wherever the repository is read. The site
holds copies of these files, and of no others.
"""

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# The target of a link or an image, up to an anchor or a title.
TARGET = re.compile(r"(?<=\]\()[^)#\s]+")


def _outside(page: str, target: str) -> str | None:
    """Return the path in the repository of a target that is outside of ``docs/``, or None.

    Parameters
    ----------
    page
        The page's path in ``docs/``.
    target
        What it links to, as it is written.
    """
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    is_outside = ":" not in target and not path.startswith(("docs/", "../", "/"))
    return path if is_outside else None


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside of ``docs/`` that pages link to; MkDocs reports those that miss."""
    root = Path(config.config_file_path).parent
    for page in list(files.documentation_pages()):
        for target in TARGET.findall(page.content_string):
            path = _outside(page.src_uri, target)
            if path is None or not (root / path).is_file() or files.get_file_from_path(path):
                continue
            files.append(File.generated(config, path, abs_src_path=os.fspath(root / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point the links at the copies."""
    folder = posixpath.dirname(page.file.src_uri)

    def point(match: re.Match[str]) -> str:
        path = _outside(page.file.src_uri, match[0])
        if path is None or files.get_file_from_path(path) is None:
            return match[0]
        return posixpath.relpath(path, folder or ".")

    return TARGET.sub(point, markdown)
