"""Pictures of public corpora, rendered here, by libvips and by Chromium: ``make referee``.

The corpora are the test pictures in source archives of image libraries, pinned by version and hash. Fails when a
picture is not right that ``accepted.txt`` does not list, or when one that is listed is right: the list may only
shrink. Fails as well when a file takes more than its bounds of CPU time or memory. Writes a page to look through,
and the table of docs/images.md.
"""
