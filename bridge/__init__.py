"""The bridge: reads S3 events from the events queue and publishes Celery chains to the tasks queue."""
