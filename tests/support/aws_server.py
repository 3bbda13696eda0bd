"""SQS and SNS in one process, with latency, faults and request counts: ``python -m tests.support.aws_server``.

Fast enough that it isn't what a benchmark measures. Prints its port, then serves until killed.
``/_control/...`` sets it up (see ``AwsServer``); everything else is the AWS JSON protocol (SQS) or
query protocol (SNS). Signatures are not checked.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import tornado.httpserver
import tornado.netutil
import tornado.web

from tests.support.sns_model import Sns, SnsError
from tests.support.sqs_model import ACCOUNT, Queue, Sqs, SqsError, batch, wire

SNS_NAMESPACE = "http://sns.amazonaws.com/doc/2010-03-31/"
FOREVER_S = 3600.0


@dataclass
class Fault:
    """What to do to the next ``times`` requests of ``action`` (-1: to all) on queues whose name contains ``queue``.

    ``caller``: only to those that are signed with this access key.

    ``kind``: ``error`` answers ``status`` with ``code``; ``hang`` never answers; ``drop`` closes the
    connection; ``lose_reply`` does the work and then closes the connection; ``entries`` fails every entry of
    a batch call with ``code``; ``first_entry`` only the first one.
    """

    action: str
    kind: str = "error"
    queue: str = ""
    times: int = 1
    status: int = 503
    code: str = "ServiceUnavailable"
    caller: str = ""

    def hits(self, action: str, queue: str, caller: str) -> bool:
        if self.times == 0 or self.action not in ("*", action) or self.queue not in queue:
            return False
        if self.caller not in ("", caller):
            return False
        self.times -= 1 if self.times > 0 else 0
        return True


class State:
    """Everything that the handlers share."""

    def __init__(self) -> None:
        self.port = 0
        self.sqs = Sqs()
        self.sns = Sns(self.sqs)
        self.latency_s = 0.0
        self.faults: list[Fault] = []
        self.counts: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.waiters: dict[str, list[asyncio.Future[None]]] = {}
        self.moves: dict[str, dict[str, Any]] = {}  # message move tasks, by handle

    def fault(self, action: str, queue: str, caller: str = "") -> Fault | None:
        return next((fault for fault in self.faults if fault.hits(action, queue, caller)), None)

    def wake(self, queue: str) -> None:
        for waiter in self.waiters.pop(queue, []):
            if not waiter.done():
                waiter.set_result(None)

    def url(self, queue: Queue) -> str:
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}/{queue.name}"


def _snake(action: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", action).lower()


class SqsActions:
    """One method an SQS action: the request's JSON in, the reply's JSON out."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._sqs = state.sqs

    async def call(self, action: str, request: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        handler: Callable[..., Any] | None = getattr(self, _snake(action), None)
        if handler is None:
            raise SqsError("UnsupportedOperation", action)
        if action == "ReceiveMessage":
            reply: dict[str, Any] = await handler(request)
            return reply
        if action.endswith("Batch"):
            result: dict[str, Any] = handler(request, fault)
            return result
        answer: dict[str, Any] = handler(request)
        return answer

    def _queue(self, request: dict[str, Any]) -> Queue:
        return self._sqs.find(request["QueueUrl"])

    def create_queue(self, request: dict[str, Any]) -> dict[str, Any]:
        queue = self._sqs.create(
            request["QueueName"], request.get("Attributes") or {}, request.get("tags") or {}, time.monotonic()
        )
        return {"QueueUrl": self._state.url(queue)}

    def get_queue_url(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"QueueUrl": self._state.url(self._sqs.find(request["QueueName"]))}

    def list_queues(self, request: dict[str, Any]) -> dict[str, Any]:
        prefix = request.get("QueueNamePrefix", "")
        found = [self._state.url(q) for name, q in sorted(self._sqs.queues.items()) if name.startswith(prefix)]
        return {"QueueUrls": found} if found else {}

    def delete_queue(self, request: dict[str, Any]) -> dict[str, Any]:
        queue = self._queue(request)
        self._sqs.remove(queue, time.monotonic())
        self._state.wake(queue.name)
        return {}

    def tag_queue(self, request: dict[str, Any]) -> dict[str, Any]:
        self._queue(request).tags.update(request["Tags"])
        return {}

    def list_queue_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": self._queue(request).tags}

    def purge_queue(self, request: dict[str, Any]) -> dict[str, Any]:
        self._sqs.purge(self._queue(request))
        return {}

    def get_queue_attributes(self, request: dict[str, Any]) -> dict[str, Any]:
        queue = self._queue(request)
        queue.advance(time.monotonic())
        known = {
            "VisibilityTimeout": "30",
            "MessageRetentionPeriod": "345600",
            "QueueArn": queue.arn,
            **queue.attributes,
            **{name: str(value) for name, value in queue.counts().items()},
        }
        names = request.get("AttributeNames") or []
        return {"Attributes": {name: value for name, value in known.items() if "All" in names or name in names}}

    def set_queue_attributes(self, request: dict[str, Any]) -> dict[str, Any]:
        self._queue(request).attributes.update(request["Attributes"])
        return {}

    def send_message(self, request: dict[str, Any]) -> dict[str, Any]:
        queue = self._queue(request)
        sent = self._sqs.send(queue, request, time.monotonic())
        self._state.wake(queue.name)
        return sent

    async def receive_message(self, request: dict[str, Any]) -> dict[str, Any]:
        queue = self._queue(request)
        limit = int(request.get("MaxNumberOfMessages") or 1)
        if not 1 <= limit <= 10:
            raise SqsError("InvalidParameterValue", f"MaxNumberOfMessages {limit}")
        visibility_s = request.get("VisibilityTimeout")
        wait_s = request.get("WaitTimeSeconds")
        if wait_s is None:
            wait_s = queue.attributes.get("ReceiveMessageWaitTimeSeconds", 0)
        deadline = time.monotonic() + float(wait_s or 0)
        while True:
            now = time.monotonic()
            found = self._sqs.receive(queue, limit, visibility_s, now)
            if found or now >= deadline or queue.name not in self._sqs.queues:
                break
            due = queue.next_due()
            until = deadline if due is None else min(deadline, due)
            waiter = asyncio.get_running_loop().create_future()
            self._state.waiters.setdefault(queue.name, []).append(waiter)
            await asyncio.wait([waiter], timeout=max(0.0, until - now) + 0.001)
            waiter.cancel()
        self._state.counts["messages received"] += len(found)
        self._state.counts["empty receives"] += not found
        names = request.get("MessageAttributeNames") or []
        return {"Messages": [wire(message, names) for message in found]} if found else {}

    def delete_message(self, request: dict[str, Any]) -> dict[str, Any]:
        self._sqs.delete(self._queue(request), request["ReceiptHandle"])
        return {}

    def change_message_visibility(self, request: dict[str, Any]) -> dict[str, Any]:
        queue = self._queue(request)
        self._sqs.change_visibility(
            queue, request["ReceiptHandle"], float(request["VisibilityTimeout"]), time.monotonic()
        )
        self._state.wake(queue.name)
        return {}

    def send_message_batch(self, request: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        queue = self._queue(request)
        return self._each(request, fault, lambda entry: self._sqs.send(queue, entry, time.monotonic()))

    def delete_message_batch(self, request: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        queue = self._queue(request)
        return self._each(request, fault, lambda entry: self._sqs.delete(queue, entry["ReceiptHandle"]))

    def change_message_visibility_batch(self, request: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        queue = self._queue(request)

        def change(entry: dict[str, Any]) -> None:
            self._sqs.change_visibility(
                queue, entry["ReceiptHandle"], float(entry["VisibilityTimeout"]), time.monotonic()
            )

        return self._each(request, fault, change)

    def start_message_move_task(self, request: dict[str, Any]) -> dict[str, Any]:
        """It moves when it is looked at, or, at one message a second, not before the test has ended."""
        handle = uuid.uuid4().hex
        self._state.moves[handle] = {**request, "TaskHandle": handle, "Status": "RUNNING"}
        return {"TaskHandle": handle}

    def list_message_move_tasks(self, request: dict[str, Any]) -> dict[str, Any]:
        found = [move for move in self._state.moves.values() if move["SourceArn"] == request["SourceArn"]][::-1]
        for move in found:
            if move["Status"] == "RUNNING" and move.get("MaxNumberOfMessagesPerSecond") != 1:
                source, destination = (
                    self._sqs.find(move[end].split(":")[-1]) for end in ("SourceArn", "DestinationArn")
                )
                move |= {"Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": len(source.ready)}
                destination.ready.extend(source.ready)
                source.ready.clear()
        return {"Results": found[: int(request.get("MaxResults", 1))]}

    def cancel_message_move_task(self, request: dict[str, Any]) -> dict[str, Any]:
        self._state.moves[request["TaskHandle"]]["Status"] = "CANCELLED"
        return {"ApproximateNumberOfMessagesMoved": 0}

    def _each(
        self, request: dict[str, Any], fault: Fault | None, work: Callable[[dict[str, Any]], Any]
    ) -> dict[str, Any]:
        done: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for position, entry in enumerate(batch(request["Entries"])):
            if fault is not None and (fault.kind == "entries" or position == 0):
                sender = fault.status < 500
                failed.append({"Id": entry["Id"], "Code": fault.code, "SenderFault": sender, "Message": "injected"})
                continue
            try:
                done.append({"Id": entry["Id"], **(work(entry) or {})})
            except SqsError as exc:
                failed.append({"Id": entry["Id"], "Code": exc.code, "SenderFault": True, "Message": str(exc)})
        self._state.counts["batch entries"] += len(done)
        self._state.wake(self._queue(request).name)
        return {"Successful": done, **({"Failed": failed} if failed else {})}


class SnsActions:
    """One method an SNS action: the form in, the inside of ``<…Result>`` out."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._sns = state.sns

    def call(self, action: str, form: dict[str, str]) -> str:
        handler: Callable[[dict[str, str]], str] | None = getattr(self, _snake(action), None)
        if handler is None:
            raise SnsError("InvalidAction", action)
        return handler(form)

    def create_topic(self, form: dict[str, str]) -> str:
        return f"<TopicArn>{self._sns.create_topic(form['Name'])}</TopicArn>"

    def delete_topic(self, form: dict[str, str]) -> str:
        self._sns.topics.discard(form["TopicArn"])
        return ""

    def list_topics(self, _form: dict[str, str]) -> str:
        members = "".join(f"<member><TopicArn>{arn}</TopicArn></member>" for arn in sorted(self._sns.topics))
        return f"<Topics>{members}</Topics>"

    def subscribe(self, form: dict[str, str]) -> str:
        keys = {value: name.removesuffix(".key") for name, value in form.items() if name.endswith(".key")}
        attributes = {key: form[f"{prefix}.value"] for key, prefix in keys.items()}
        made = self._sns.subscribe(form["TopicArn"], form["Endpoint"], attributes)
        return f"<SubscriptionArn>{made.arn}</SubscriptionArn>"

    def unsubscribe(self, form: dict[str, str]) -> str:
        self._sns.subscriptions.pop(form["SubscriptionArn"], None)
        return ""

    def set_subscription_attributes(self, form: dict[str, str]) -> str:
        subscription = self._sns.subscriptions.get(form["SubscriptionArn"])
        if subscription is None:
            raise SnsError("NotFound", form["SubscriptionArn"], 404)
        subscription.attributes[form["AttributeName"]] = form["AttributeValue"]
        return ""

    def list_subscriptions(self, _form: dict[str, str]) -> str:
        return self._members(self._sns.subscriptions)

    def list_subscriptions_by_topic(self, form: dict[str, str]) -> str:
        return self._members([found.arn for found in self._sns.of_topic(self._sns.topic(form["TopicArn"]))])

    def publish(self, form: dict[str, str]) -> str:
        for queue in self._sns.publish(form["TopicArn"], form["Message"], time.monotonic()):
            self._state.wake(queue)
        return f"<MessageId>{uuid.uuid4()}</MessageId>"

    def _members(self, arns: Any) -> str:
        rows = (self._sns.subscriptions[arn] for arn in arns)
        members = "".join(
            f"<member><TopicArn>{row.topic_arn}</TopicArn><Protocol>sqs</Protocol><Owner>{ACCOUNT}</Owner>"
            f"<SubscriptionArn>{row.arn}</SubscriptionArn><Endpoint>{row.endpoint}</Endpoint></member>"
            for row in rows
        )
        return f"<Subscriptions>{members}</Subscriptions>"


class AwsHandler(tornado.web.RequestHandler):
    def initialize(self, state: State) -> None:
        self._state = state
        self._gone = asyncio.Event()

    def on_connection_close(self) -> None:
        self._gone.set()

    async def post(self) -> None:
        target = self.request.headers.get("X-Amz-Target")
        if target is None:
            await self._answer_sns({name: values[0] for name, values in parse_qs(self.request.body.decode()).items()})
        else:
            await self._answer_sqs(target.rsplit(".", 1)[-1], json.loads(self.request.body or b"{}"))

    async def _answer_sqs(self, action: str, request: dict[str, Any]) -> None:
        queue = (request.get("QueueUrl") or request.get("QueueName") or "").rsplit("/", 1)[-1]
        self.set_header("Content-Type", "application/x-amz-json-1.0")
        fault = await self._begin(action, queue)
        if fault is not None and fault.kind == "error":
            self._error(fault.status, fault.code, "injected")
        elif fault is None or fault.kind in ("entries", "first_entry", "lose_reply"):
            work = asyncio.ensure_future(SqsActions(self._state).call(action, request, fault))
            gone = asyncio.ensure_future(self._gone.wait())
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if not work.done():
                work.cancel()  # the client hung up during a long poll: it receives nothing
                return
            if fault is not None and fault.kind == "lose_reply":
                work.exception()
                self._hang_up()
                return
            try:
                self.finish(json.dumps(work.result()))
            except SqsError as exc:
                self._error(400, exc.code, str(exc))

    async def _answer_sns(self, form: dict[str, str]) -> None:
        action = form.get("Action", "")
        topic = (form.get("TopicArn") or form.get("Name") or "").rsplit(":", 1)[-1]
        self.set_header("Content-Type", "text/xml")
        fault = await self._begin(action, topic)
        if fault is not None:
            if fault.kind == "error":
                self._sns_error(fault.status, fault.code, "injected")
            return
        try:
            inside = SnsActions(self._state).call(action, form)
        except SnsError as exc:
            self._sns_error(exc.status, exc.code, str(exc))
            return
        self.finish(
            f'<{action}Response xmlns="{SNS_NAMESPACE}"><{action}Result>{inside}</{action}Result>'
            f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{action}Response>"
        )

    async def _begin(self, action: str, name: str) -> Fault | None:
        """Counts, waits the latency, and carries out the faults that need no reply."""
        self._state.counts[f"{action} {name}"] += 1
        self._state.calls[f"{self._caller()} {action} {name}"] += 1
        if self._state.latency_s:
            await asyncio.sleep(self._state.latency_s)
        fault = self._state.fault(action, name, self._caller())
        if fault is None:
            return None
        self._state.counts[f"fault {action} {name}"] += 1
        if fault.kind == "hang":
            await asyncio.wait([asyncio.ensure_future(self._gone.wait())], timeout=FOREVER_S)
        elif fault.kind == "drop":
            self._hang_up()
        return fault

    def _caller(self) -> str:
        """The access key that the request is signed with."""
        found = re.search(r"Credential=([^/]+)/", self.request.headers.get("Authorization", ""))
        return "" if found is None else found[1]

    def _hang_up(self) -> None:
        connection = self.request.connection
        assert connection is not None
        connection.close()  # type: ignore[attr-defined]

    def _error(self, status: int, code: str, text: str) -> None:
        self.set_status(status)
        self.set_header("x-amzn-query-error", f"{code};Sender")
        self.finish(json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": text}))

    def _sns_error(self, status: int, code: str, text: str) -> None:
        self.set_status(status)
        self.finish(
            f'<ErrorResponse xmlns="{SNS_NAMESPACE}"><Error><Type>Sender</Type><Code>{code}</Code>'
            f"<Message>{escape(text)}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
        )


class ControlHandler(tornado.web.RequestHandler):
    """GET ``counts``, ``calls`` and ``depths``; POST ``reset``, ``latency {"s": …}``, ``faults {…}``, ``repair`` and
    ``forget_deletions``."""

    def initialize(self, state: State) -> None:
        self._state = state

    def get(self, what: str) -> None:
        if what in ("counts", "calls"):
            self.finish(json.dumps(getattr(self._state, what)))
        elif what == "depths":
            queues = self._state.sqs.queues
            self.finish(json.dumps({name: self._depth(queue) for name, queue in queues.items()}))
        else:
            raise tornado.web.HTTPError(404)

    def _depth(self, queue: Queue) -> list[int]:
        queue.advance(time.monotonic())
        return list(queue.counts().values())

    def post(self, what: str) -> None:
        body = json.loads(self.request.body or b"{}")
        if what == "reset":
            self._state.counts.clear()
            self._state.calls.clear()
        elif what == "latency":
            self._state.latency_s = float(body["s"])
        elif what == "faults":
            self._state.faults.append(Fault(**body))
        elif what == "repair":
            self._state.faults.clear()
        elif what == "forget_deletions":
            self._state.sqs.deleted.clear()
        else:
            raise tornado.web.HTTPError(404)
        self.finish("{}")


async def serve(port: int = 0) -> None:
    state = State()
    application = tornado.web.Application(
        [
            (r"/_control/(\w+)", ControlHandler, {"state": state}),
            (r"/.*", AwsHandler, {"state": state}),
        ],
        log_function=lambda handler: None,
    )
    server = tornado.httpserver.HTTPServer(application)
    sockets = tornado.netutil.bind_sockets(port, "127.0.0.1")
    state.port = sockets[0].getsockname()[1]
    server.add_sockets(sockets)
    with suppress(OSError):  # a machine without IPv6
        server.add_sockets(tornado.netutil.bind_sockets(state.port, "::1"))
    print(f"http://127.0.0.1:{state.port}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    asyncio.run(serve(urlsplit(sys.argv[1]).port or 0 if len(sys.argv) > 1 else 0))


if __name__ == "__main__":
    main()
