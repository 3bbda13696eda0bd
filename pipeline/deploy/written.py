"""Which folders of the output bucket the workers need for what RENDITIONS says.

The template names ``resized/``, ``thumbs/`` and ``failed/`` itself. It can't make ARNs of a list of other folders (the
delimiter of ``Fn::Join`` is a literal, and so can't have the bucket's name in it), so it takes them ready made.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.core.settings import Settings
from pipeline.images.renditions import declared

#: The parameter that has the ARNs.
PARAMETER = "RenditionArns"
#: Folders of renditions that the workers may always write to.
_ALWAYS = frozenset({"resized/", "thumbs/"})
#: The settings that the template's own parameters become.
_SETTINGS = {
    "ResizeBox": "RESIZE_BOX",
    "ThumbBox": "THUMB_BOX",
    "Renditions": "RENDITIONS",
    "SoftTimeLimit": "SOFT_TIME_LIMIT_S",
    "HardTimeLimit": "HARD_TIME_LIMIT_S",
    "Settings": "PIPELINE_SETTINGS",
    "OutputPrefix": "OUTPUT_PREFIX",
}


def environ(values: Mapping[str, str]) -> dict[str, str]:
    """The variables that the containers get by these parameters, as far as a check needs them."""
    return {variable: values[name] for name, variable in _SETTINGS.items() if values.get(name)}


def folders(values: Mapping[str, str]) -> list[str]:
    """Folders of all renditions, below OutputPrefix: ``medium/``. Raises ``ConfigError``."""
    return [each.folder for each in declared(Settings.from_env(environ(values)))]


def other_folders(values: Mapping[str, str]) -> list[str]:
    """Those that neither the template names nor OwnFolder covers. Raises ``ConfigError``."""
    own = values.get("OwnFolder", "")
    return sorted(each for each in folders(values) if each not in _ALWAYS and not (own and each.startswith(own)))


def arns(values: Mapping[str, str], *, bucket: str, partition: str) -> str:
    """The value of ``RenditionArns``. ``bucket``: the output bucket. Raises ``ConfigError``."""
    root = f"arn:{partition}:s3:::{bucket}/{values.get('OutputPrefix', '')}"
    return ",".join(f"{root}{folder}*" for folder in other_folders(values))
