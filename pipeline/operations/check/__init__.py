"""``python -m pipeline check``: whether an endpoint gives what the pipeline relies on."""
