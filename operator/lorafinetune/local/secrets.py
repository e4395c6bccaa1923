"""Secrets of local runs: a directory `DIR/NAME/KEY`, laid out as Kubernetes mounts Secrets."""

from dataclasses import dataclass
from pathlib import Path


class SecretMissingError(Exception):
    """A Secret that the resource names is not there."""


@dataclass(frozen=True)
class Secrets:
    """Reads keys of Secrets from files."""

    directory: Path

    def get(self, name: str, key: str, optional: bool) -> str | None:
        """The value, or None where an optional key is absent. Raises SecretMissingError."""
        path = self.directory / name / key
        if path.is_file():
            return path.read_text().rstrip("\n")
        if optional:
            return None
        raise SecretMissingError(f"Secret {name} has no key {key}: there is no file {path}")
