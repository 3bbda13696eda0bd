"""The settings as a Markdown table, for ``python -m pipeline settings`` and the README; a test detects drift."""

from __future__ import annotations

from pipeline.core.errors import ConfigError
from pipeline.core.settings import Settings, as_variable

_BEGINS, _ENDS = "<!-- settings: make settings -->\n", "<!-- end of settings -->\n"


def markdown_table() -> str:
    """The settings as the Markdown table of the README."""
    rows = ["| variable | default | bounds | what it sets |", "|---|---|---|---|"]
    own = Settings.__annotations__  # before what it inherits from the broker layer
    for name, field in sorted(Settings.model_fields.items(), key=lambda item: item[0] not in own):
        limits = {type(item).__name__: item for item in field.metadata}
        low, high = (getattr(limits.get(kind), kind.lower(), "") for kind in ("Ge", "Le"))
        bounds = f"{low} to {high}" if low != "" or high != "" else ""
        default = as_variable(field.default)
        rows.append(f"| `{name.upper()}` | {f'`{default}`' if default else ''} | {bounds} | {field.description} |")
    return "\n".join(rows) + "\n"


def with_table(page: str) -> str:
    """A page with the table between its two marks renewed. Raises ``ConfigError`` when it has none."""
    before, begins, rest = page.partition(_BEGINS)
    _, ends, after = rest.partition(_ENDS)
    if not (begins and ends):
        raise ConfigError(f"the page has no place for the table: put {_BEGINS.strip()} and the end mark into it")
    return before + begins + markdown_table() + ends + after
