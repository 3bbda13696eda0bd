"""The stack on AWS: ``python -m pipeline deploy`` and ``teardown``."""
