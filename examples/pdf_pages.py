"""The first page of every PDF as a picture: a task of your own, in one file (docs/your-own-task.md).

ROUTES=examples.pdf_pages,pipeline.images
"""

from __future__ import annotations

import io

from pipeline.core.errors import PermanentError
from tasks import makes

LONGEST_SIDE = 1024  # pixels


class NotAPdf(PermanentError):
    """Trying again can't help; the failure record tells the person who uploaded it what to do."""

    reason = "not-a-pdf"
    advice = "Check that the file opens in a PDF viewer without a password, and upload it again."


# Raise the recipe when the same PDF would give another picture: audit then finds those that are out of date.
@makes("pages/", match_suffixes=[".pdf"], append_suffix=".png", content_type="image/png", recipe="1")
def first_page(data: bytes) -> bytes:
    """The first page of a PDF as a PNG. Raises ``NotAPdf``."""
    import pypdfium2  # here, since the bridge loads this module too, and draws nothing

    try:
        with pypdfium2.PdfDocument(data) as document:
            page = document[0]
            picture = page.render(scale=LONGEST_SIDE / max(page.get_size())).to_pil()
    except (pypdfium2.PdfiumError, IndexError, ZeroDivisionError) as exc:
        raise NotAPdf(f"Its first page can't be drawn: {exc}") from exc
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


ROUTES = [first_page.route]
