"""The documentation site builds, asks for nothing on the network, and has every public name."""

import dataclasses
import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import crnn_jax

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)#\s]+)")
# What a browser loads without being asked: by element, the attributes with an address.
LOADED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "object": ("data",),
    "embed": ("src",),
    "audio": ("src",),
    "video": ("src", "poster"),
}
# Addresses that name a page and load nothing.
RELATIONS = {"canonical", "next", "prev"}


@dataclasses.dataclass
class Found(HTMLParser):
    """What a page loads, what it links to, the classes and the names of its elements."""

    page: Path
    loaded: list[str] = dataclasses.field(default_factory=list)
    linked: list[str] = dataclasses.field(default_factory=list)
    classes: set[str] = dataclasses.field(default_factory=set)
    names: set[str] = dataclasses.field(default_factory=set)

    def __post_init__(self):
        super().__init__()
        self.feed(self.page.read_text())

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.classes |= set((values.get("class") or "").split())
        self.names.add(values.get("id"))
        if tag == "a" and values.get("href"):
            self.linked.append(values["href"])
        if values.get("rel") not in RELATIONS:
            self.loaded += [values[name] for name in LOADED.get(tag, ()) if values.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, and its pages."""
    for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            pytest.skip(f"needs {package.split('.')[0]}; `make docs` installs it")
    folder = tmp_path_factory.mktemp("site")
    answer = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder, [Found(page) for page in sorted(folder.rglob("*.html"))]


def local(address: str, start: Path) -> Path:
    """The file that an address names, from a file that names it."""
    assert not re.match(r"[a-z]+:|/", address), f"{start}: {address}"
    return (start.parent / unquote(re.split("[?#]", address)[0])).resolve()


def test_nothing_is_loaded_from_the_network(site):
    folder, pages = site
    assert len(pages) > 15
    for found in pages:
        if found.page.name == "404.html":
            # A server's answer to an address of any depth: its addresses begin with the root.
            assert all(re.match(r"/(?!/)", address) for address in found.loaded)
            continue
        for address in found.loaded:
            assert local(address, found.page).is_file(), f"{found.page}: {address}"
        # For these the theme's script would load a program, and a repository's facts.
        assert not found.classes & {"mermaid", "md-source"}
    for sheet in folder.rglob("*.css"):
        for address in re.findall(r"url\(['\"]?([^'\")]+)", sheet.read_text()):
            if not address.startswith(("data:", "#")):
                assert local(address, sheet).is_file(), f"{sheet}: {address}"
        assert "@import" not in sheet.read_text()


def test_the_sites_own_links_lead_to_files(site):
    _, pages = site
    for found in pages:
        if found.page.name == "404.html":
            continue
        for address in found.linked:
            if not re.match(r"https?://|#|\.$", address):
                assert local(address, found.page).is_file(), f"{found.page}: {address}"


def test_the_site_can_be_searched_from_files(site):
    folder, pages = site
    assert (folder / "search" / "search_index.js").stat().st_size > 10_000
    home = next(found for found in pages if found.page == folder / "index.html")
    assert "javascripts/iframe-worker.js" in home.loaded


def test_the_reference_has_every_public_name(site):
    _, pages = site
    names = set().union(*(found.names for found in pages))
    for home, public in crnn_jax._HOMES.items():
        assert {f"{home}.{name}" for name in public} <= names


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_links_lead_to_files_of_the_repository(page):
    """As whoever reads the pages there, and not in the site, follows them."""
    for address in LINK.findall(page.read_text()):
        if not re.match(r"https?://", address):
            assert (page.parent / address).exists(), address
