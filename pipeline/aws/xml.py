"""What XML can't carry, in which S3 lists and deletes and SQS's messages are written."""

from __future__ import annotations

import re

#: A character that no XML 1.0 document, and so no text of a message or of such a request, may have. (By what is in it:
#: the complement takes 7 ms to compile.)
#: https://www.w3.org/TR/xml/#charsets
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
