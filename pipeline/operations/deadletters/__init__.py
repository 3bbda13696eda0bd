"""``python -m pipeline deadletters``: what could not be processed at all, seen, sent again, exported, purged."""
