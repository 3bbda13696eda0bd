"""Tasks of a user's own that do not keep to what they should: what the conformance kit is for."""

from __future__ import annotations

from typing import Any

from pipeline import app
from pipeline.aws import clients
from pipeline.core.outputs import Output
from pipeline.core.routes import Route
from pipeline.core.source import Source
from tasks import ObjectTask, derive

OUT, OTHER = Output(folder="out/"), Output(folder="other/")


@app.task(name="broken.by_hand", bind=True, base=ObjectTask, shared=False)
def by_hand(self: ObjectTask, source: str | dict[str, Any]) -> dict[str, Any]:
    """Reads and writes by itself, whatever version it is given."""
    known = Source.parse(source)
    s3, bucket = clients.s3(), str(self.app.settings.output_bucket)
    data = s3.get_object(Bucket=known.bucket, Key=known.key)["Body"].read()
    metadata = {"source-bucket": known.bucket, "source-etag": known.etag or "", "recipe": "1"}
    s3.put_object(Bucket=bucket, Key=OUT.name(known.key), Body=data, ContentType=OUT.content_type, Metadata=metadata)
    return {"outcome": "done", "source": known.to_json()}


@app.task(name="broken.forgets", bind=True, base=ObjectTask, shared=False)
def forgets(self: ObjectTask, source: str | dict[str, Any]) -> dict[str, Any]:
    return derive(self, source, OUT, lambda data: data)


ROUTES = [
    Route(name="by hand", match_suffixes=[".hand"], tasks=[by_hand.name], outputs=[OUT]),
    Route(name="forgets", match_suffixes=[".half"], tasks=[forgets.name], outputs=[OTHER]),
]
