"""``python -m pipeline deadletters``: shows, redrives, exports and purges messages that could not be processed."""
