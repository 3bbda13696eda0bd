"""The settings as a Markdown table, for ``python -m pipeline settings`` and docs/settings.md."""

from __future__ import annotations

from pipeline.core.settings import Settings, as_variable


def markdown_table() -> str:
    """The settings as a Markdown table."""
    rows = ["| variable | default | bounds | what it sets |", "|---|---|---|---|"]
    own = Settings.__annotations__  # before what it inherits from the broker layer
    for name, field in sorted(Settings.model_fields.items(), key=lambda item: item[0] not in own):
        limits = {type(item).__name__: item for item in field.metadata}
        low, high = (getattr(limits.get(kind), kind.lower(), "") for kind in ("Ge", "Le"))
        bounds = f"{low} to {high}" if low != "" or high != "" else ""
        default = as_variable(field.default)
        rows.append(f"| `{name.upper()}` | {f'`{default}`' if default else ''} | {bounds} | {field.description} |")
    return "\n".join(rows) + "\n"
