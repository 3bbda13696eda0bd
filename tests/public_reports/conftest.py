from tests.support.stage import aws_server

__all__ = ["aws_server"]
