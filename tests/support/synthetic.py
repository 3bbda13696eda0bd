"""Many objects with their renditions, as the pipeline would have left them, put into modelled buckets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from pipeline.core.names import failure_key, key_metadata, stored_name
from pipeline.core.provenance import Provenance
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.images.names import ENDINGS, RESIZED_PREFIX, THUMBS_PREFIX, FormatEndings
from pipeline.testing.s3 import EPOCH, S3Model, Version
from tasks.images.recipes import recipes as recipes_of

INPUT, OUTPUT = "in", "out"


class Recipes(NamedTuple):
    """Of the two renditions that there are by default."""

    resized: str
    thumb: str

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        made = recipes_of(settings)
        return cls(made["resized"], made["thumbs"])


SETTINGS = Settings.from_env({"INPUT_BUCKET": INPUT, "OUTPUT_BUCKET": OUTPUT})
RECIPES = Recipes.from_settings(SETTINGS)
NAMES = ("a b", "a+b", "100%", "ünï", "日本", "q?x=1&y", "a", "a.jpg", "a.heic", "a-b")


class Synthetic:
    """``clock`` is the time of the next upload."""

    def __init__(self) -> None:
        self.clock = EPOCH
        self.s3 = S3Model(INPUT, OUTPUT, now=lambda: self.clock)

    def wait(self, **time: float) -> datetime:
        self.clock += timedelta(**time)
        return self.clock

    def upload(self, key: str) -> Version:
        return self.s3.put(INPUT, key, f"{key} at {self.clock}".encode())

    def render(self, key: str, *, recipes: Recipes = RECIPES, settings: Settings = SETTINGS, **made: Any) -> None:
        """Both renditions of what is there now; keywords replace parts of their provenance."""
        source = self.s3.buckets[INPUT].current(key)
        assert source is not None
        ending = FormatEndings(settings.output_format).of(key, "image/jpeg")
        named = Source(INPUT, key, etag=source.etag, version_id=source.version_id)
        big = self.rendition(RESIZED_PREFIX, key, ending, named, recipes.resized, {}, **made)
        self.wait(seconds=1)
        self.rendition(THUMBS_PREFIX, key, ending, named, recipes.thumb, {"made-from": big.etag}, **made)

    def rendition(
        self, prefix: str, key: str, ending: str, named: Source, recipe: str, facts: Mapping[str, str], **made: Any
    ) -> Version:
        provenance = Provenance.of(named, modified="…", recipe=recipe, suffix=ending)
        metadata = provenance.metadata() | {"source-bytes": "1"} | dict(facts) | made
        data = f"{prefix}{key} {metadata}".encode()
        name = stored_name(prefix, key, ending)
        metadata |= key_metadata(name, key)
        return self.s3.put(OUTPUT, name, data, metadata=metadata, content_type="image/jpeg")

    def fail(self, key: str, reason: str = "truncated") -> None:
        source = self.s3.buckets[INPUT].current(key)
        assert source is not None
        made = Provenance.of(Source(INPUT, key, etag=source.etag)).metadata() | {"reason": reason}
        name = failure_key(key)
        self.s3.put(OUTPUT, name, b"{}", metadata=made | key_metadata(name, key))

    def done(self, key: str) -> None:
        """Uploaded and rendered, in a few seconds."""
        self.upload(key)
        self.wait(seconds=2)
        self.render(key)
        self.wait(seconds=2)

    def delete(self, bucket: str, *keys: str) -> None:
        for key in keys:
            self.s3.remove(bucket, key)


def keys(count: int) -> Iterator[str]:
    """Awkward ones, some of which begin like others."""
    for n in range(count):
        ending = (".jpg", ".JPG", ".heic", ".png", ".jpg.jpg", ".tiff")[n % 6]
        yield f"{n % 13}/{NAMES[n % len(NAMES)]}{n // 7}{ending}"


assert {endings[0] for endings in ENDINGS.values()}
