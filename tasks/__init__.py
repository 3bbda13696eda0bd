"""The Celery tasks, and the image code that they call."""
