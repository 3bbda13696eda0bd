"""``make referee``: pictures of public corpora, rendered here, and judged by libvips, Chromium and sharp.

The corpora are the test pictures in source archives of image libraries, pinned by version and hash. The run fails when
a picture is wrong that ``accepted.txt`` does not list, or when a listed one is right: the list may only shrink. It also
fails when a file takes more CPU time or memory than it may. It writes a page to look through, and the table of
docs/images.md.
"""
