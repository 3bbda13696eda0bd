"""How many words each text has, as JSON: a task of your own, as short as it can be.

ROUTES=examples.word_count,pipeline.images
"""

import json

from tasks import makes


@makes("words/", match_suffixes=[".txt"], replace_suffix=".json", content_type="application/json")
def word_count(text: bytes) -> bytes:
    return json.dumps({"words": len(text.split())}).encode()


ROUTES = [word_count.route]
