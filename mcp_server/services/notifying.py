"""Alerts told to people and programs: by webhook and by e-mail, each change of state once, in order, until it arrives.

Messages are queued in the transaction that changes the alert (`stores/notifications.py`); a worker sends what is due.
A receiver that fails is asked again after growing pauses, for about two days. A message whose sender died before it
could write down that it was delivered is sent again, under the same id, by which receivers can tell.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any, Final

import structlog
from pydantic import SecretStr

from mcp_server.errors import FailedPreconditionError
from mcp_server.results.monitoring import Notification
from mcp_server.runtime.clock import Clock
from mcp_server.settings import AlertSettings
from mcp_server.stores.notifications import NotificationRow, NotificationStore

if TYPE_CHECKING:
    import smtplib

logger = structlog.get_logger(__name__)

PAUSES_S: Final = (5, 30, 120, 600, 1800, 3600, 10_800, 21_600, 43_200, 86_400)
"""Seconds before the second attempt, the third, and so on; after the last one a message is given up."""
_LONGEST_RETRY_AFTER_S: Final = 3600
_GONE: Final = 410
_SECRET_PREFIX: Final = "whsec_"


class _RefusedForGoodError(Exception):
    """The receiver does not want this or any further message."""


class _LaterError(Exception):
    """The receiver could not take the message now."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Notifier:
    """Sends what is due. Thread-safe, and safe between processes."""

    def __init__(self, store: NotificationStore, settings: AlertSettings, clock: Clock) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._senders: dict[str, Callable[[NotificationRow], None]] = {"webhook": self._post, "email": self._mail}

    @property
    def default_channels(self) -> tuple[str, ...]:
        """Where alerts are told that no rule makes."""
        return self._settings.channels

    def told(self, alert_ids: Sequence[str]) -> dict[str, list[Notification]]:
        """Return what became of the messages of alerts, by alert, the oldest first."""
        return {
            alert_id: [
                Notification(
                    channel=row.channel,
                    state=row.state,
                    status="waiting" if row.ended_at is None else "delivered" if row.delivered else "given_up",
                    attempts=row.attempts,
                    error=None if row.delivered else row.error,
                )
                for row in rows
            ]
            for alert_id, rows in self._store.of_alerts(alert_ids).items()
        }

    def require(self, channels: Iterable[str]) -> None:
        """Refuse a channel that is not set up.

        Raises:
            FailedPreconditionError: names the settings that are missing.
        """
        for channel in channels:
            missing = self._missing(channel)
            if missing:
                raise FailedPreconditionError(
                    f"Channel {channel} is not set up: {' and '.join(missing)} not set.",
                    hint="Set it for the server and its worker, and start them again; channel log needs nothing.",
                )

    def _missing(self, channel: str) -> list[str]:
        settings = self._settings
        needed: dict[str, Mapping[str, object]] = {
            "webhook": {"NBA_MCP_ALERTS__WEBHOOK_URL": settings.webhook_url},
            "email": {
                "NBA_MCP_ALERTS__SMTP_HOST": settings.smtp_host,
                "NBA_MCP_ALERTS__EMAIL_FROM": settings.email_from,
                "NBA_MCP_ALERTS__EMAIL_TO": settings.email_to,
            },
        }
        return [name for name, value in needed.get(channel, {}).items() if not value]

    def deliver_due(self) -> int:
        """Send the messages that are due; return how many arrived.

        Raises:
            UnavailableError: the database does not answer.
        """
        lease = timedelta(seconds=2 * self._settings.timeout_s + 30)
        return sum(self._deliver(row) for row in self._store.take_due(lease))

    def _deliver(self, row: NotificationRow) -> bool:
        try:
            missing = self._missing(row.channel)
            if missing:
                raise _LaterError(f"{' and '.join(missing)} not set")
            self._senders[row.channel](row)
        except _RefusedForGoodError as refusal:
            self._give_up(row, str(refusal))
            return False
        except _LaterError as failure:
            self._later(row, str(failure), failure.after_s)
            return False
        self._store.end(row.notification_id)
        return True

    def _later(self, row: NotificationRow, reason: str, after_s: float) -> None:
        attempt = row.attempts + 1  # the row is as it was before it was taken
        if attempt > len(PAUSES_S):
            self._give_up(row, reason)
            return
        pause_s = max(PAUSES_S[attempt - 1], min(after_s, _LONGEST_RETRY_AFTER_S))
        self._store.postpone(row.notification_id, error=reason, by=timedelta(seconds=pause_s))
        logger.info("notification_waits", alert_id=row.alert_id, channel=row.channel, reason=reason, pause_s=pause_s)

    def _give_up(self, row: NotificationRow, reason: str) -> None:
        self._store.end(row.notification_id, error=reason)
        logger.error("notification_given_up", alert_id=row.alert_id, channel=row.channel, reason=reason)

    # Webhook -------------------------------------------------------------------------------------------------------

    def _post(self, row: NotificationRow) -> None:
        """Send a message as Standard Webhooks has it: https://www.standardwebhooks.com."""
        import httpx2

        assert self._settings.webhook_url is not None
        body = json.dumps(row.document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        headers = {"content-type": "application/json", **self._signed(row.notification_id, body)}
        try:
            answer = httpx2.post(
                self._settings.webhook_url.get_secret_value(),
                content=body,
                headers=headers,
                timeout=self._settings.timeout_s,
                follow_redirects=False,
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as failure:
            raise _LaterError(f"the webhook does not answer ({type(failure).__name__})") from failure
        if answer.status_code == _GONE:
            raise _RefusedForGoodError("the webhook answered 410 Gone")
        if not answer.is_success:
            raise _LaterError(f"the webhook answered {answer.status_code}", _seconds(answer.headers.get("retry-after")))

    def _signed(self, message_id: str, body: bytes) -> dict[str, str]:
        at = str(int(self._clock.now().timestamp()))
        headers = {"webhook-id": message_id, "webhook-timestamp": at}
        if self._settings.webhook_secret is not None:
            digest = hmac.new(
                _key(self._settings.webhook_secret), f"{message_id}.{at}.".encode() + body, hashlib.sha256
            )
            headers["webhook-signature"] = f"v1,{base64.b64encode(digest.digest()).decode()}"
        return headers

    # E-mail --------------------------------------------------------------------------------------------------------

    def _mail(self, row: NotificationRow) -> None:
        import smtplib

        settings, told = self._settings, row.document["data"]
        try:
            message = _letter(row.notification_id, told, settings.email_from, settings.email_to)
            with self._connected() as server:
                if settings.smtp_user:
                    password = settings.smtp_password
                    server.login(settings.smtp_user, "" if password is None else password.get_secret_value())
                server.send_message(message)
        except (OSError, smtplib.SMTPException, ValueError) as failure:
            raise _LaterError(f"the mail server did not take it ({type(failure).__name__})") from failure

    def _connected(self) -> "smtplib.SMTP":
        import smtplib
        import ssl

        settings = self._settings
        if settings.smtp_security == "tls":
            return smtplib.SMTP_SSL(
                settings.smtp_host,
                settings.smtp_port,
                timeout=settings.timeout_s,
                context=ssl.create_default_context(),
            )
        server = smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=settings.timeout_s)
        if settings.smtp_security == "starttls":
            try:
                server.starttls(context=ssl.create_default_context())
            except BaseException:  # why: the connection must not outlive an interrupt either; it is raised again
                server.close()
                raise
        return server


def _letter(message_id: str, told: Mapping[str, Any], sender: str, recipients: Iterable[str]) -> EmailMessage:
    letter = EmailMessage()
    letter["Subject"] = _one_line(f"[{told['severity']}] {told['rule']} on {told['endpoint']}: {told['state']}")
    letter["From"], letter["To"] = sender, ", ".join(recipients)
    letter["Message-ID"] = f"<{message_id}@nba-mcp>"
    value = "" if told["value"] is None else f"Value: {told['value']:.6g}\n"
    letter.set_content(
        f"{told['message']}\n\nState: {told['state']}\nSeverity: {told['severity']}\nEndpoint: {told['endpoint']}\n"
        f"Rule: {told['rule']}\n{value}Fired at: {told['fired_at']}\nAlert: {told['alert_id']}\n\n"
        f"acknowledge_alert(alert_id={told['alert_id']!r}) says that you have seen it.\n"
    )
    return letter


def _one_line(text: str) -> str:
    """Return `text` on one line, short enough for a header."""
    return " ".join(text.split())[:200]


def _key(secret: SecretStr) -> bytes:
    text = secret.get_secret_value()
    if text.startswith(_SECRET_PREFIX):
        try:
            return base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
        except binascii.Error:
            return text.encode()
    return text.encode()


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0
