"""Flower's own templates, with additions by this layer and the app.

The templates are read from Flower's package, so an upgrade brings its new ones. A few lines are added on reading.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tornado.template import Loader, Template
from tornado.web import HTTPError, RequestHandler

from pipeline.aws.plain_errors import ConfigError
from pipeline.sqs.flower.headers import NONCE

STATIC = Path(__file__).with_name("static")
#: The name of the route that serves the files of ``Templates``, by their names.
FILES = "added-file"
_INLINE_SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)")


class Templates(Loader):
    """Reads Flower's templates from ``root``. Raises ``ConfigError`` if they lack a place for an addition.

    ``files``: style sheets and scripts, which are served under their names. ``tabs``: name of a route → label.
    """

    def __init__(self, root: str, files: Sequence[Path], tabs: Mapping[str, str]) -> None:
        super().__init__(root)
        self.files = {file.name: file for file in files}
        self._additions = {
            "base.html": (
                ("</head>", "".join(map(_style, self._named(".css")))),
                ("{% block extra_scripts %}", "".join(map(_script, self._named(".js")))),
            ),
            "navbar.html": (("</ul>", "".join(_tab(name, label) for name, label in tabs.items())),),
        }
        for name in self._additions:
            self._changed(name, Path(root, name).read_text())

    def _named(self, ending: str) -> list[Path]:
        return [file for name, file in self.files.items() if name.endswith(ending)]

    def _create_template(self, name: str) -> Template:
        text = Path(self.root, name).read_text()
        return Template(self._changed(name, text), name=name, loader=self)

    def _changed(self, name: str, text: str) -> str:
        for place, addition in self._additions.get(name, ()):
            before, found, after = text.partition(place)
            if not found:
                raise ConfigError(f"Flower's {name} has no {place}: install the version that requirements.txt pins")
            text = before + addition + found + after
        return _INLINE_SCRIPT.sub(f'<script nonce="{{{{ request.{NONCE} }}}}"', text)


class AddedFile(RequestHandler):
    """Serves the files of ``Templates``. Like Flower's own static files, they need no password."""

    def initialize(self, files: Mapping[str, Path]) -> None:
        self._files = files

    def get(self, name: str) -> None:
        if name not in self._files:
            raise HTTPError(404)
        kind, _ = mimetypes.guess_type(name)
        self.set_header("Content-Type", f"{kind}; charset=utf-8")
        if self.get_argument("v", None) is not None:
            self.set_header("Cache-Control", "public, max-age=31536000, immutable")
        self.write(self._files[name].read_bytes())


def _address(file: Path) -> str:
    """The file's address, with a digest, so that browsers cache the file until an upgrade changes it."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return f"{{{{ reverse_url('{FILES}', '{file.name}') }}}}?v={digest}"


def _style(file: Path) -> str:
    return f'<link href="{_address(file)}" rel="stylesheet">\n  '


def _script(file: Path) -> str:
    return f'<script src="{_address(file)}"></script>\n    '


def _tab(name: str, label: str) -> str:
    return f"""  <li class="nav-item">
          <a class="nav-link{{% if active_tab == '{name}' %}} active{{% end %}}" data-tab="{name}"
            href="{{{{ reverse_url('{name}') }}}}"
            {{% if active_tab == '{name}' %}}aria-current="page"{{% end %}}>{label}</a>
        </li>
      """
