"""IAM in front of an AWS server: each request is allowed or denied by the template's roles, and recorded.

The emulator's own enforcement knows no resources for SQS and SNS, so it would deny everything that is
scoped to a queue. Who asks is told by the access key, which is called after the role.

As a process (``python -m tests.stack.gate``): prints its address, ends when its standard input does.
``POST /_gate/grants`` sets what each access key may do, ``GET /_gate/calls`` tells what was asked for.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from html import unescape
from typing import Any
from urllib.parse import parse_qs, unquote

from pipeline.local.server import remember_services
from tests.stack.iam import Call, Grant

ACCOUNT = "123456789012"
#: A read of an object with this in its key takes so many seconds, so that its message must be held for long.
SLOW, SLOW_S = "slow", 2.0

#: Operations that IAM knows by another action. Source: the service authorization reference.
_ACTIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}
#: Actions that IAM does not narrow to a resource.
_ANYWHERE = {"sqs:ListQueues", "sns:Unsubscribe", "cloudwatch:GetMetricData"}

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Gate:
    """A WSGI application around the server's own."""

    def __init__(self, server: Application) -> None:
        self._server = server
        self._grants: dict[str, tuple[Grant, ...]] = {}
        self._keys: dict[str, str] = {}  # bucket → the key of KMS that its objects are encrypted with
        self._calls: dict[tuple[str, Call, bool], None] = {}
        self._lock = threading.Lock()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if path.startswith("/_gate/"):
            return self._control(path, body, start_response)
        environ["wsgi.input"] = io.BytesIO(body)
        who = _access_key(environ.get("HTTP_AUTHORIZATION", ""))
        if who not in self._grants:
            return self._server(environ, start_response)  # the person who deploys
        service = _service(environ["HTTP_AUTHORIZATION"])
        for call in [*_calls(service, environ, body), *self._kms(service, environ)]:
            if not self._allowed(who, call):
                return _deny(service, who, call, start_response)
        if service == "s3":
            if SLOW in path and environ["REQUEST_METHOD"] == "GET":
                time.sleep(SLOW_S)
            return self._s3(who, environ, start_response)
        return self._server(environ, start_response)

    def _allowed(self, who: str, call: Call) -> bool:
        allowed = any(grant.allows(call) for grant in self._grants[who])
        with self._lock:
            self._calls[who, call, allowed] = None
        return allowed

    def _kms(self, service: str, environ: Environ) -> list[Call]:
        """What S3 asks of KMS on the caller's behalf, for an object under a key.

        Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html (permissions).
        """
        _, bucket, *rest = unquote(environ["PATH_INFO"]).split("/", 2)
        action = {"GET": "kms:Decrypt", "PUT": "kms:GenerateDataKey"}.get(environ["REQUEST_METHOD"])
        if service != "s3" or bucket not in self._keys or not (rest and rest[0]) or action is None:
            return []
        return [Call(action, self._keys[bucket])]

    def _s3(self, who: str, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """S3 says that an object is missing only to those who may list its bucket; to others it is forbidden."""
        answer: list[Any] = []
        chunks = list(self._server(environ, lambda *given: answer.extend(given)))
        if answer[0].startswith("404") and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            listing = Call("s3:ListBucket", f"arn:aws:s3:::{environ['PATH_INFO'].split('/')[1]}")
            if not self._allowed(who, listing):
                return _deny("s3", who, listing, start_response)
        start_response(*answer)
        return chunks

    def _control(self, path: str, body: bytes, start_response: Callable[..., Any]) -> Iterable[bytes]:
        reply: Any = {}
        if path == "/_gate/grants":
            given = json.loads(body)
            self._grants = {
                who: tuple(Grant(sid, action, tuple(resources)) for sid, action, resources in grants)
                for who, grants in given.items()
            }
        elif path == "/_gate/keys":
            self._keys = json.loads(body)
        else:
            with self._lock:
                reply = [[who, call.action, call.resource, allowed] for who, call, allowed in self._calls]
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(reply).encode()]


def _access_key(authorization: str) -> str:
    found = re.search(r"Credential=([^/]+)/", authorization)
    return found[1] if found else ""


def _service(authorization: str) -> str:
    found = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", authorization)
    return {"monitoring": "cloudwatch"}.get(found[1], found[1]) if found else ""


def _calls(service: str, environ: Environ, body: bytes) -> list[Call]:
    """What IAM would be asked; nothing for what needs no permission."""
    if service == "s3":
        return _deletions(environ, body) if environ["REQUEST_METHOD"] == "POST" else [_s3_call(environ)]
    fields: dict[str, Any]
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        operation, fields = target.rpartition(".")[2], json.loads(body or b"{}")
    else:
        fields = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        operation = fields.get("Action", "")
    action = _ACTIONS.get(f"{service}:{operation}", f"{service}:{operation}")
    if action == "sts:GetCallerIdentity":
        return []
    region = _region(environ["HTTP_AUTHORIZATION"])
    resource = "*"
    if action not in _ANYWHERE and service == "sqs":
        name = (
            fields.get("QueueName") or (fields.get("QueueUrl") or environ["PATH_INFO"]).rstrip("/").rpartition("/")[2]
        )
        resource = f"arn:aws:sqs:{region}:{ACCOUNT}:{name}"
    elif action not in _ANYWHERE and service == "sns":
        resource = fields.get("TopicArn", "")
    elif action not in _ANYWHERE and service == "cloudwatch":
        resource = f"arn:aws:cloudwatch:{region}:{ACCOUNT}:alarm:{fields.get('AlarmName', '')}"
    calls = [Call(action, resource)]
    # Tags and attributes that are given at creation need no other action; see the SQS developer guide.
    if action == "sqs:CreateQueue" and (fields.get("tags") or any(name.startswith("Tag.") for name in fields)):
        calls.append(Call("sqs:TagQueue", resource))
    return calls


def _region(authorization: str) -> str:
    return authorization.split("Credential=")[1].split("/")[2]


def _deletions(environ: Environ, body: bytes) -> list[Call]:
    """DeleteObjects: S3 asks for each key that the body names."""
    bucket = unquote(environ["PATH_INFO"]).strip("/")
    keys = re.findall("<Key>(.*?)</Key>", body.decode(), re.DOTALL)
    return [Call("s3:DeleteObject", f"arn:aws:s3:::{bucket}/{unescape(key)}") for key in keys]


def _s3_call(environ: Environ) -> Call:
    _, bucket, *rest = unquote(environ["PATH_INFO"]).split("/", 2)
    key = rest[0] if rest else ""
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    method = environ["REQUEST_METHOD"]
    if not key:
        action = {"GET": "s3:ListBucket", "HEAD": "s3:ListBucket"}.get(method, f"s3:{method}")
        return Call(action, f"arn:aws:s3:::{bucket}")
    version = "Version" if "versionId" in query else ""
    verb = {"GET": "Get", "HEAD": "Get", "PUT": "Put", "DELETE": "Delete"}.get(method, method)
    return Call(f"s3:{verb}Object{version}", f"arn:aws:s3:::{bucket}/{key}")


def _deny(service: str, who: str, call: Call, start_response: Callable[..., Any]) -> Iterable[bytes]:
    text = f"User: {who} is not authorized to perform: {call.action} on resource: {call.resource}"
    if service == "sqs":
        body = json.dumps({"__type": "com.amazon.coral.service#AccessDeniedException", "message": text})
        headers = [("Content-Type", "application/x-amz-json-1.0")]
    else:
        code = {"s3": "AccessDenied", "sns": "AuthorizationError"}.get(service, "AccessDenied")
        error = f"<Error><Code>{code}</Code><Message>{text}</Message></Error>"
        body = error if service == "s3" else f"<ErrorResponse>{error}<RequestId>0</RequestId></ErrorResponse>"
        headers = [("Content-Type", "application/xml")]
    start_response("403 Forbidden", headers)
    return [body.encode()]


def grants_as_json(grants: dict[str, tuple[Grant, ...]]) -> bytes:
    return json.dumps(
        {who: [list(asdict(grant).values()) for grant in found] for who, found in grants.items()}
    ).encode()


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    remember_services()
    server = make_server("127.0.0.1", 0, Gate(DomainDispatcherApplication(create_backend_app)), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()
    os._exit(0)  # threads that still serve a long poll are not worth waiting for


if __name__ == "__main__":
    main()
