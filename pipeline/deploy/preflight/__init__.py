"""Checks for problems before a deployment: ``python -m pipeline doctor``."""
