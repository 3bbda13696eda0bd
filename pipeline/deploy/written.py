"""The folders of the output bucket that the workers must be allowed to write for RENDITIONS.

The template itself allows ``resized/``, ``thumbs/`` and ``failed/``. It can't build ARNs from a list of other folders
(the delimiter of ``Fn::Join`` is a literal, and can't contain the bucket's name), so a parameter contains the ARNs.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.core.settings import Settings
from pipeline.images.renditions import declared

#: The parameter for the ARNs.
PARAMETER = "RenditionArns"
#: Folders of renditions that the workers may always write to.
_ALWAYS = frozenset({"resized/", "thumbs/"})
#: The settings that the template's own parameters set.
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
    """The variables that these parameters set in the containers, as far as a check needs them."""
    return {variable: values[name] for name, variable in _SETTINGS.items() if values.get(name)}


def folders(values: Mapping[str, str]) -> list[str]:
    """The folders of all renditions, such as ``medium/``, below OutputPrefix. Raises ``ConfigError``."""
    return [each.folder for each in declared(Settings.from_env(environ(values)))]


def other_folders(values: Mapping[str, str]) -> list[str]:
    """The folders that neither the template nor OwnFolder allows. Raises ``ConfigError``."""
    own = values.get("OwnFolder", "")
    return sorted(each for each in folders(values) if each not in _ALWAYS and not (own and each.startswith(own)))


def arns(values: Mapping[str, str], *, bucket: str, partition: str) -> str:
    """The value of ``RenditionArns``. ``bucket``: the output bucket. Raises ``ConfigError``."""
    root = f"arn:{partition}:s3:::{bucket}/{values.get('OutputPrefix', '')}"
    return ",".join(f"{root}{folder}*" for folder in other_folders(values))
