from tests.support.stage import aws_server, stage

__all__ = ["aws_server", "stage"]
