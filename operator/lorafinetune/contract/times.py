"""Times as Kubernetes writes them, and as a person says them."""

from datetime import datetime


def rfc3339(moment: datetime) -> str:
    """Kubernetes' form of a time: UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def duration(seconds: int) -> str:
    """A time as a person says it: `1h30m`, `3m7s`, `12s`."""
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}h{minutes}m" if hours else f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
