"""``python -m pipeline audit``: is every upload accounted for?"""
