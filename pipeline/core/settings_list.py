"""Many settings in one variable: ``PIPELINE_SETTINGS="MAX_PIXELS=50000000; QUALITY=80"``.

CloudFormation can't turn a list parameter into environment variables, so the stack uses this one for settings without
a parameter of their own. An entry wins over the setting's own variable, which may be only a default of the template
or the image. But an entry can't point a process at other buckets, queues or topics than its variables name.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pipeline.core.errors import ConfigError

VARIABLE = "PIPELINE_SETTINGS"
#: The container's health check reads the first from its variable; ECS sets the second.
OF_THE_PLACE = frozenset({"HEALTH_FOLDER", "ECS_AGENT_URI"})
#: What a process works on: an entry may set it, but not to another value than its variable.
WORKED_ON = frozenset(
    {"INPUT_BUCKET", "INPUT_BUCKETS", "OUTPUT_BUCKET", "OUTPUT_PREFIX", "QUEUE_PREFIX", "TOPIC_ARN_PREFIX"}
)


@dataclass(frozen=True, slots=True)
class ListedSetting:
    """One ``NAME=VALUE`` of the list; ``place`` counts from 1."""

    place: int
    text: str
    value: str

    def __str__(self) -> str:
        return f"{VARIABLE}, entry {self.place}, {self.text!r}"


def listed(environ: Mapping[str, str], names: Collection[str]) -> dict[str, ListedSetting]:
    """The entries, by the setting's name. ``names``: all names of settings.

    Raises ``ConfigError`` with a line for each bad entry: not NAME=VALUE, an unknown or forbidden name, a repeated
    name, or one of ``WORKED_ON`` whose variable has another value.
    """
    entries: dict[str, ListedSetting] = {}
    wrong: list[str] = []
    for place, text in enumerate(environ.get(VARIABLE, "").split(";"), start=1):
        name, sign, value = (part.strip() for part in text.partition("="))
        if not text.strip():
            continue
        entry = ListedSetting(place, text.strip(), value)
        problem = _problem(entry, name, bool(sign), environ, names, entries)
        if problem is None:
            entries[name] = entry
        else:
            wrong.append(f"{entry}: {problem}")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return entries


def _problem(
    entry: ListedSetting,
    name: str,
    complete: bool,
    environ: Mapping[str, str],
    names: Collection[str],
    before: Mapping[str, ListedSetting],
) -> str | None:
    if not complete:
        return "write NAME=VALUE, and a semicolon between entries"
    if name in OF_THE_PLACE:
        return f"{name} can only be set as its own variable"
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        return f"there is no setting {name}" + (f"; do you mean {near[0]}?" if near else "")
    if name in before:
        return f"entry {before[name].place} sets {name} too"
    own = environ.get(name)
    if name in WORKED_ON and own and own != entry.value:
        return f"the variable {name} is {own!r}: leave it out here (the stack sets it by a parameter of its own)"
    return None
