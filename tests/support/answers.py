"""AWS as a test writes it: an answer for each operation, checked by the service's own model.

botocore's Stubber takes answers in one order; what polls and retries asks in no fixed one. Here an operation has
one answer, or several in turn of which the last stays, or a function of the request. A request that no answer was
given for fails the test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.validate import ParamValidator

from pipeline.aws import clients

Answer = Mapping[str, Any] | BaseException | Callable[[dict[str, Any]], Any]


class Refused(Exception):
    """An answer that is an error of the service: its code and HTTP status."""

    def __init__(self, code: str, status: int = 400, message: str = "") -> None:
        super().__init__(code)
        self.code, self.status, self.message = code, status, message or code


@cache
def _session() -> Any:
    """One for all tests: each reads botocore's descriptions of the services anew."""
    return boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="eu-west-1")


class Answers:
    """``calls``: (``service.Operation``, parameters) of every request so far."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._answers: dict[str, list[Answer]] = {}
        self._clients: dict[str, Any] = {}
        monkeypatch.setattr(clients, "_client", lambda service, _timeout, region=None: self.client(service))

    def on(self, operation: str, *answers: Answer) -> None:
        """``operation`` as ``ecs.DescribeTasks``."""
        self._answers[operation] = list(answers)

    def answer(self, operation: str) -> Any:
        """The answer that it has now."""
        return self._answers[operation][0]

    def made(self, operation: str) -> list[dict[str, Any]]:
        """The parameters of its calls."""
        return [parameters for name, parameters in self.calls if name == operation]

    def client(self, service: str) -> Any:
        if service not in self._clients:
            made = _session().client(service, endpoint_url="https://aws.test")
            made.meta.events.register("before-parameter-build", self._asked(service))
            made.meta.events.register("before-call", self._answered(service))
            self._clients[service] = made
        return self._clients[service]

    def _asked(self, service: str) -> Callable[..., None]:
        def note(params: dict[str, Any], model: Any, **_: Any) -> None:
            self.calls.append((f"{service}.{model.name}", dict(params)))

        return note

    def _answered(self, service: str) -> Callable[..., Any]:
        def answer(model: Any, **_: Any) -> tuple[AWSResponse, Any]:
            name = f"{service}.{model.name}"
            given = self._answers.get(name)
            assert given, f"no answer to {name} was given"
            found: Any = given.pop(0) if len(given) > 1 else given[0]
            if callable(found):
                try:
                    found = found(self.made(name)[-1])
                except Refused as exc:
                    found = exc
            if isinstance(found, Refused):
                metadata = {"HTTPStatusCode": found.status}
                error = {"Code": found.code, "Message": found.message}
                return AWSResponse("", found.status, {}, None), {"Error": error, "ResponseMetadata": metadata}
            if isinstance(found, BaseException):
                raise found
            if model.output_shape is not None:
                report = ParamValidator().validate(found, model.output_shape)
                assert not report.has_errors(), f"{name} never answers so: {report.generate_report()}"
            return AWSResponse("", 200, {}, None), {"ResponseMetadata": {"HTTPStatusCode": 200}, **found}

        return answer
