"""Secrets: 256 random bits each, so that a plain SHA-256 is a safe thing to store."""

import hashlib
import hmac
import secrets


def new_secret() -> str:
    """43 characters that a URL can carry."""
    return secrets.token_urlsafe(32)


def fingerprint(secret: str) -> str:
    """What is stored in place of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(secret: str, stored: str) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(fingerprint(secret), stored)
