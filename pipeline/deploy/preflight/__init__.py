"""What would make a deployment fail, found before it begins: ``python -m pipeline doctor``."""
