"""Builds the pages as a site with search: ``python -m tests.docs.site OUT``, or ``make site``.

Zensical, of those who made Material for MkDocs, wants all pages below one folder: they and what they link to are copied
there as they lie in the repository, so every relative link holds on the site as it does on a git host. Strict: a link
or an anchor that leads nowhere fails the build.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.docs.pages import ROOT, all_pages, links

CONFIG = ROOT / "zensical.toml"
#: Zensical's defaults, below the folder of its configuration.
DOCS_DIR, SITE_DIR = "docs", "site"


def build(out: Path) -> None:
    """Writes the site to ``out``, in place of what is there. Prints a wrong link and raises ``CalledProcessError``."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for path in sorted(sources()):
            copy = work / DOCS_DIR / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        shutil.copyfile(CONFIG, work / CONFIG.name)
        subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=work, check=True)
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(work / SITE_DIR, out)


def sources() -> set[Path]:
    """The pages, and the pictures and files of the repository that they link to."""
    found = {ROOT / page for page in all_pages()}
    for page in all_pages():
        for link in links(page):
            parts = urlsplit(link.target)
            path = ((ROOT / page).parent / unquote(parts.path)).resolve()
            if not parts.scheme and path.is_file():
                found.add(path)
    return found


def listed() -> set[str]:
    """The pages that the site's navigation lists."""
    nav = tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]["nav"]
    return {page for section in nav for pages in section.values() for entry in pages for page in entry.values()}


if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve())
