"""``python -m pipeline adopt``: a bucket that is full already, looked at, priced, and then processed."""
