"""``python -m pipeline adopt``: surveys a full bucket, estimates the cost, and enqueues its objects."""
