"""``make referee``: renders pictures of public corpora, and compares them with those of libvips, Chromium and sharp.

The corpora are the test pictures in source archives of image libraries, pinned by version and hash. The run fails if a
picture is wrong that ``accepted.txt`` does not list, or if a listed one is right, so the list can only shrink. It also
fails if a file takes too much CPU time or memory. It writes a page to look through, and the table of docs/images.md.
"""
