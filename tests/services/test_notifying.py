"""Alerts by webhook and e-mail: each change of state arrives once, in order, however receivers behave."""

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from mcp_server.errors import FailedPreconditionError
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.services.notifying import PAUSES_S, Notifier
from mcp_server.settings import AlertSettings
from mcp_server.stores.alerts import AlertStore
from mcp_server.stores.database import Database
from mcp_server.stores.notifications import NotificationStore
from tests.postgres import free_port
from tests.tls_server import make_certificates
from tests.webhook_receiver import Receiver, run_receiver

ANA = Caller("ana", "ml_engineer")
SECRET = "whsec_" + base64.b64encode(b"a secret of the test").decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


@pytest.fixture
def alerts(database: Database, clock: ManualClock) -> AlertStore:
    return AlertStore(database, clock)


@pytest.fixture
def messages(database: Database, clock: ManualClock) -> NotificationStore:
    return NotificationStore(database, clock)


def notifier_for(messages: NotificationStore, clock: ManualClock, **settings: Any) -> Notifier:
    return Notifier(messages, AlertSettings(**{"timeout_s": 2, **settings}), clock)


def by_webhook(messages: NotificationStore, clock: ManualClock, url: str) -> Notifier:
    return notifier_for(messages, clock, webhook_url=url, webhook_secret=SECRET)


def fire(alerts: AlertStore, *channels: str, rule: str = "drifted") -> str:
    row, made = alerts.fire(
        rule=rule, endpoint="live", severity="critical", value=0.5, message="drift of live\nis 0.5", channels=channels
    )
    assert made
    return row.alert_id


def test_every_change_of_state_arrives_once_and_signed(
    alerts: AlertStore, messages: NotificationStore, clock: ManualClock, receiver: Receiver
) -> None:
    notifier = by_webhook(messages, clock, receiver.url)
    alert_id = fire(alerts, "webhook")
    alerts.fire(rule="drifted", endpoint="live", severity="critical", value=1, message="again", channels=["webhook"])
    assert notifier.deliver_due() == 1
    clock.advance(1)
    alerts.acknowledge(alert_id, "on it", ANA, ["webhook"])
    alerts.acknowledge(alert_id, "on it", ANA, ["webhook"])
    clock.advance(1)
    alerts.resolve(alert_id, ["webhook"])
    alerts.resolve(alert_id, ["webhook"])
    assert [notifier.deliver_due() for _ in range(3)] == [1, 1, 0]

    assert receiver.told() == ["alert.firing", "alert.acknowledged", "alert.resolved"]
    headers, body = receiver.got[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(b"a secret of the test", signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert json.loads(body)["data"] == {
        "alert_id": alert_id,
        "rule": "drifted",
        "endpoint": "live",
        "severity": "critical",
        "state": "firing",
        "value": 0.5,
        "message": "drift of live\nis 0.5",
        "fired_at": "2026-01-01T00:00:00+00:00",
    }
    assert [told.status for told in notifier.told([alert_id])[alert_id]] == ["delivered"] * 3


def test_a_receiver_that_fails_is_asked_again_and_the_order_is_kept(
    alerts: AlertStore, messages: NotificationStore, clock: ManualClock, receiver: Receiver
) -> None:
    notifier = by_webhook(messages, clock, receiver.url)
    alert_id = fire(alerts, "webhook")
    receiver.status = 503
    assert notifier.deliver_due() == 0
    clock.advance(1)
    alerts.resolve(alert_id, ["webhook"])
    assert notifier.deliver_due() == 0  # the first waits, and the second for it
    (waiting, _) = notifier.told([alert_id])[alert_id]
    assert (waiting.status, waiting.attempts, waiting.error) == ("waiting", 1, "the webhook answered 503")

    receiver.status = 200
    clock.advance(PAUSES_S[0])
    assert [notifier.deliver_due(), notifier.deliver_due()] == [1, 1]
    assert receiver.told() == ["alert.firing", "alert.firing", "alert.resolved"]
    assert receiver.got[0][0]["webhook-id"] == receiver.got[1][0]["webhook-id"]


def test_a_receiver_says_when_to_come_back(
    alerts: AlertStore, messages: NotificationStore, clock: ManualClock, receiver: Receiver
) -> None:
    notifier = by_webhook(messages, clock, receiver.url)
    fire(alerts, "webhook")
    receiver.status, receiver.headers = 429, {"Retry-After": "300"}
    notifier.deliver_due()
    receiver.status = 200
    clock.advance(299)
    assert notifier.deliver_due() == 0
    clock.advance(1)
    assert notifier.deliver_due() == 1


@pytest.mark.parametrize("status", [301, 400, 404, 500])
def test_no_answer_but_success_counts_as_delivered(
    alerts: AlertStore, messages: NotificationStore, clock: ManualClock, receiver: Receiver, status: int
) -> None:
    receiver.status, receiver.headers = status, {"Location": receiver.url}
    notifier = by_webhook(messages, clock, receiver.url)
    alert_id = fire(alerts, "webhook")
    assert notifier.deliver_due() == 0
    assert notifier.told([alert_id])[alert_id][0].error == f"the webhook answered {status}"
    assert len(receiver.got) == 1


def test_a_receiver_that_is_gone_is_not_asked_again(
    alerts: AlertStore, messages: NotificationStore, clock: ManualClock, receiver: Receiver
) -> None:
    receiver.status = 410
    notifier = by_webhook(messages, clock, receiver.url)
    alert_id = fire(alerts, "webhook")
    notifier.deliver_due()
    clock.advance(10 * sum(PAUSES_S))
    assert notifier.deliver_due() == 0
    assert [told.status for told in notifier.told([alert_id])[alert_id]] == ["given_up"]
    assert len(receiver.got) == 1


def test_a_receiver_that_stays_silent_is_given_up_after_all_pauses(
    alerts: AlertStore, messages: NotificationStore, clock: ManualClock, receiver: Receiver
) -> None:
    notifier = by_webhook(messages, clock, "http://127.0.0.1:1/alerts?token=hidden")
    alert_id = fire(alerts, "webhook")
    for pause in PAUSES_S:
        assert notifier.deliver_due() == 0
        assert notifier.told([alert_id])[alert_id][0].status == "waiting"
        clock.advance(pause)
    notifier.deliver_due()
    (told,) = notifier.told([alert_id])[alert_id]
    assert (told.status, told.attempts) == ("given_up", len(PAUSES_S) + 1)
    assert told.error == "the webhook does not answer (ConnectError)"


def test_of_two_senders_one_sends(
    alerts: AlertStore, messages: NotificationStore, clock: ManualClock, receiver: Receiver
) -> None:
    for number in range(12):
        fire(alerts, "webhook", rule=f"rule-{number}")
    notifiers = [by_webhook(messages, clock, receiver.url) for _ in range(3)]
    senders = [threading.Thread(target=notifier.deliver_due) for notifier in notifiers]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    notifiers[0].deliver_due()
    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert len(ids) == len(set(ids)) == 12


def test_what_a_dead_sender_took_is_sent_by_another(
    alerts: AlertStore, messages: NotificationStore, clock: ManualClock, receiver: Receiver
) -> None:
    fire(alerts, "webhook")
    assert len(messages.take_due(timedelta(seconds=30))) == 1  # and its sender dies
    notifier = by_webhook(messages, clock, receiver.url)
    assert notifier.deliver_due() == 0
    clock.advance(30)
    assert notifier.deliver_due() == 1


class Mailbox(Message):
    """Keeps the mails that arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Any] = []

    def handle_message(self, message: Any) -> None:
        self.mails.append(message)


def test_a_mail_says_what_how_much_since_when_and_what_to_do(
    alerts: AlertStore, messages: NotificationStore, clock: ManualClock
) -> None:
    mailbox = Mailbox()
    server = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        notifier = notifier_for(
            messages,
            clock,
            smtp_host="127.0.0.1",
            smtp_port=server.port,
            smtp_security="none",
            email_from="nba@example.org",
            email_to=("ana@example.org", "ben@example.org"),
        )
        alert_id = fire(alerts, "email", rule="drifted")
        assert notifier.deliver_due() == 1
    finally:
        server.stop()
    assert notifier.deliver_due() == 0
    (mail,) = mailbox.mails
    assert mail["Subject"] == "[critical] drifted on live: firing"
    assert mail["To"] == "ana@example.org, ben@example.org"
    text = mail.get_payload()
    assert "drift of live\nis 0.5" in text.replace("\r\n", "\n")
    assert "Value: 0.5" in text
    assert f"acknowledge_alert(alert_id='{alert_id}')" in text


def test_mail_goes_over_tls_to_a_known_server_only(
    alerts: AlertStore,
    messages: NotificationStore,
    clock: ManualClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ca_file, certificate = make_certificates(tmp_path, ("127.0.0.1",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    mailbox = Mailbox()
    server = Controller(mailbox, hostname="127.0.0.1", port=free_port(), tls_context=context, require_starttls=True)
    server.start()
    try:
        notifier = notifier_for(
            messages,
            clock,
            smtp_host="127.0.0.1",
            smtp_port=server.port,
            email_from="a@example.org",
            email_to=("b@example.org",),
        )
        alert_id = fire(alerts, "email")
        assert notifier.deliver_due() == 0
        assert notifier.told([alert_id])[alert_id][0].error == (
            "the mail server did not take it (SSLCertVerificationError)"
        )
        monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
        clock.advance(PAUSES_S[0])
        assert notifier.deliver_due() == 1
    finally:
        server.stop()
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize(
    ("channel", "settings", "missing"),
    [
        ("webhook", {}, "NBA_MCP_ALERTS__WEBHOOK_URL"),
        ("email", {"smtp_host": "mail"}, "NBA_MCP_ALERTS__EMAIL_FROM and NBA_MCP_ALERTS__EMAIL_TO"),
    ],
)
def test_a_channel_that_is_not_set_up_is_refused_by_the_setting_it_lacks(
    messages: NotificationStore, clock: ManualClock, channel: str, settings: dict[str, Any], missing: str
) -> None:
    notifier = notifier_for(messages, clock, **settings)
    notifier.require(["log"])
    with pytest.raises(FailedPreconditionError, match=missing):
        notifier.require(["log", channel])
