"""``python -m pipeline check``: checks that an endpoint behaves as the pipeline needs."""
