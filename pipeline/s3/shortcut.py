"""GET and PUT of plain objects by obstore (Rust), at a tenth of boto3's CPU, where it does what boto3 would do.

boto3 stays the reference. The first request to a bucket goes through it and shows the address, the region and the kind
of signature that boto3 chose; obstore repeats exactly these, with boto3's credentials. Whatever obstore does not answer
with success, boto3 is asked again: only its errors are interpreted. Proxies, certificates of one's own and unusual keys
are left to boto3.

A signal can't interrupt a call into obstore, so the call must be short, and a time limit is late by that at most.
obstore's threads don't survive a fork: a process whose parent used it leaves everything to boto3.
"""

from __future__ import annotations

import io
import logging
import os
import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError

from pipeline.aws.forks import unforked

if TYPE_CHECKING:
    from obstore import Attributes
    from obstore.store import S3Store

logger = logging.getLogger(__name__)

#: Longest that obstore may take for one request, in seconds; then boto3 is asked.
PATIENCE_S = 3.0
#: Larger objects are left to boto3, whose time limit is for each read and not for the whole object.
MAX_BYTES = 32 << 20
#: After a failure, obstore is not used for so many seconds; twice as long each time, until it succeeds again.
FIRST_REST_S, LONGEST_REST_S = 1.0, 300.0
#: Keys that every client writes in a URL in the same way.
PLAIN_KEY = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*\Z")
SIGNATURE = re.compile(r"AWS4-HMAC-SHA256 Credential=(?P<id>[^/]+)/\d{8}/(?P<region>[^/]+)/s3/aws4_request,")
#: Variables that mean the same to both clients, or that are overridden here. obstore reads many more.
UNDERSTOOD = re.compile(
    r"AWS_(?:ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|CREDENTIAL_\w+|CONTAINER_\w+|ROLE_ARN|ROLE_SESSION_NAME"
    r"|WEB_IDENTITY_TOKEN_FILE|(?:DEFAULT_)?PROFILE|CONFIG_FILE|SHARED_CREDENTIALS_FILE|(?:DEFAULT_)?REGION"
    r"|ENDPOINT_URL(?:_\w+)?|USE_DUALSTACK_ENDPOINT|STS_REGIONAL_ENDPOINTS|EXECUTION_ENV|EC2_METADATA_\w+"
    r"|METADATA_SERVICE_\w+|MAX_ATTEMPTS|RETRY_MODE|DEFAULTS_MODE|CA_BUNDLE|PAGER|DEFAULT_OUTPUT)\Z"
)
#: Certificates that only one of the two clients would trust, beside boto3's own setting ``ca_bundle``.
TRUST = frozenset({"REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"})
#: What obstore calls by these names are headers of their own; all other attributes are the object's metadata.
HEADERS = frozenset(
    {"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Storage-Class"}
)

_used_in: list[int] = []  # the process that obstore's threads belong to


def problem(environ: Mapping[str, str] = os.environ) -> str | None:
    """Why this process leaves everything to boto3; None if it need not."""
    if find_spec("obstore") is None:
        return "the package obstore is not installed"
    for name in environ:
        if name.startswith("AWS_") and not UNDERSTOOD.match(name):
            return f"{name} may mean something else to obstore"
    if urllib.request.getproxies().keys() - {"no"}:
        return "there is a proxy"
    return None


@dataclass(frozen=True, slots=True)
class _Route:
    """How boto3 reached a bucket."""

    url: str  # of the bucket, without a slash at its end
    region: str
    user_agent: str
    provider: Any  # boto3's credentials, which renew themselves
    credentials: Any = None  # as ``store`` has them
    store: S3Store | None = None


class Shortcut:
    """For the tasks of one app. Where a method returns None, boto3 is to be asked.

    ``patience_s``: less where a time limit can't be late by so much.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._routes: dict[str, _Route] = {}  # by bucket
        self._pid = os.getpid()  # that they are of
        self._rest_s = FIRST_REST_S
        self._rests_until = 0.0

    def get(self, bucket: str, key: str, *, etag: str | None, size: int | None) -> dict[str, Any] | None:
        """Reads the object if it has this ETag, and this size in bytes if given. Answers as boto3's ``get_object``."""
        if etag is None or (size is not None and size > MAX_BYTES):
            return None
        answer: dict[str, Any] | None = self._try(bucket, key, lambda store: _get(store, key, etag, size))
        return answer

    def put(
        self,
        bucket: str,
        key: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        cache_control: str | None,
        new: bool,
    ) -> str | None:
        """Writes the object, and returns its ETag. ``new``: only if no object exists."""
        if len(data) > MAX_BYTES or not all(value.isascii() and value.isprintable() for value in metadata.values()):
            return None
        attributes: Attributes = {"Content-Type": content_type, **metadata}
        if cache_control is not None:
            attributes["Cache-Control"] = cache_control
        written: str | None = self._try(bucket, key, lambda store: _put(store, key, data, attributes, new))
        return written

    def _own_routes(self) -> dict[str, _Route]:
        if self._pid != os.getpid():  # in a forked child: the parent's credentials may have been locked at the fork
            self._pid, self._routes = os.getpid(), {}
        return self._routes

    def _try(self, bucket: str, key: str, request: Callable[[S3Store], Any]) -> Any:
        routes = self._own_routes()
        route = routes.get(bucket)
        if route is None or not PLAIN_KEY.match(key) or _used_in not in ([], [os.getpid()]):
            return None
        credentials = route.provider.get_frozen_credentials()
        with unforked():
            from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
        try:
            if route.store is None or route.credentials != credentials:
                route = replace(
                    route, store=_opened(route, bucket, credentials, self._patience_s), credentials=credentials
                )
                routes[bucket] = route
            answer = request(route.store)  # type: ignore[arg-type]
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            return None
        except (BaseError, OSError, ValueError) as exc:
            routes.pop(bucket, None)
            self._rests_until = monotonic() + self._rest_s
            self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)
            logger.info("boto3 takes over for s3://%s/%s: obstore says %.200s", bucket, key, exc)
            return None
        self._rest_s = FIRST_REST_S
        return answer

    @contextmanager
    def watching(self, client: Any, bucket: str, key: str) -> Iterator[None]:
        """Around a request by boto3's ``client``: if it succeeds, its route to the bucket is used from then on."""
        routes = self._own_routes()
        if bucket in routes or monotonic() < self._rests_until or not PLAIN_KEY.match(key):
            yield
            return
        sent: list[Any] = []

        # The last to be called: where a stub answers in S3's place, nothing is sent, and this is not called.
        def note(request: Any, **_: Any) -> None:
            sent.append(request)

        client.meta.events.register_last("before-send.s3", note)
        try:
            yield
        finally:
            client.meta.events.unregister("before-send.s3", note)
        with suppress(BotoCoreError):  # of credentials that can't be renewed: the request was answered
            route = _route_of(sent[-1], key) if sent else None
            if route is not None:
                routes[bucket] = route


def _route_of(request: Any, key: str) -> _Route | None:
    """The route of a request that boto3 sent; None if obstore would not take the same."""
    import boto3

    session = boto3.DEFAULT_SESSION
    signature = SIGNATURE.match(_text(request.headers.get("Authorization", "")))
    url = request.url.removesuffix(f"/{key}")
    if session is None or signature is None or url == request.url:
        return None
    if url.startswith("https:") and (os.environ.keys() & TRUST or _has_own_authority(session)):
        return None
    provider = session.get_credentials()
    if provider is None or provider.get_frozen_credentials().access_key != signature["id"]:
        return None
    return _Route(url, signature["region"], _text(request.headers["User-Agent"]), provider)


def _has_own_authority(session: Any) -> bool:
    return session._session.get_config_variable("ca_bundle") is not None


def _text(header: str | bytes) -> str:
    return header.decode("latin-1") if isinstance(header, bytes) else header


def _opened(route: _Route, bucket: str, credentials: Any, patience_s: float) -> S3Store:
    from obstore.store import S3Store

    if credentials.token is None and "AWS_SESSION_TOKEN" in os.environ:
        raise ValueError("obstore would add the environment's token to other credentials")
    _used_in[:] = [os.getpid()]
    timeout = f"{patience_s * 1000:.0f}ms"
    with unforked():
        return S3Store(
            bucket,
            aws_endpoint_url_s3=route.url,  # the name that wins over all variables
            virtual_hosted_style_request=True,  # the endpoint is the bucket's, wherever its name is in it
            region=route.region,
            access_key_id=credentials.access_key,
            secret_access_key=credentials.secret_key,
            **({} if credentials.token is None else {"token": credentials.token}),
            skip_signature=False,
            unsigned_payload=False,
            conditional_put="etag",
            checksum_algorithm="SHA256",  # boto3 sends a checksum with each object, too
            client_options={
                "allow_http": route.url.startswith("http://"),
                "connect_timeout": timeout,
                "timeout": timeout,
                "user_agent": route.user_agent,
            },
            retry_config={"max_retries": 0},
        )


def _get(store: S3Store, key: str, etag: str, expected: int | None) -> dict[str, Any] | None:
    import obstore

    answer = obstore.get(store, key, options={"if_match": f'"{etag}"'})
    meta, attributes = answer.meta, answer.attributes
    size = meta["size"]
    if size > MAX_BYTES or expected not in (None, size) or meta["e_tag"] is None:
        return None
    data = bytes(answer.bytes())
    if len(data) != size:
        return None
    return {
        "ETag": meta["e_tag"],
        "ContentLength": size,
        "LastModified": meta["last_modified"],
        "VersionId": meta["version"],
        "ContentType": attributes.get("Content-Type", ""),
        "Metadata": {name: value for name, value in attributes.items() if name not in HEADERS},
        "Body": io.BytesIO(data),
    }


def _put(store: S3Store, key: str, data: bytes, attributes: Attributes, new: bool) -> str | None:
    import obstore

    mode: Any = "create" if new else "overwrite"
    etag = obstore.put(store, key, data, attributes=attributes, mode=mode, use_multipart=False)["e_tag"]
    return None if etag is None else etag.strip('"')
