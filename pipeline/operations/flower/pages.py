"""The pipeline's pages in Flower: an object, and the letters of a dead-letter queue."""

from __future__ import annotations

from pathlib import Path

from tornado.web import url

from pipeline.core.queue_names import QUEUES
from pipeline.operations.flower.letters_page import LettersView
from pipeline.operations.flower.object_page import ObjectView
from pipeline.operations.flower.parts import LETTERS, OBJECT
from pipeline.sqs.flower.pages import FlowerPages


def pages() -> FlowerPages:
    return FlowerPages(
        routes=(
            url(r"/object", ObjectView, name=OBJECT),
            url(rf"/dead-letters/({'|'.join(QUEUES)})", LettersView, name=LETTERS),
        ),
        tabs={OBJECT: "Object"},
        scripts=(Path(__file__).with_name("objects.js"),),
        dead_letters=LETTERS,
    )
