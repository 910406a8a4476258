"""The names of the agent's settings, for commands that cannot afford to load `settings` (a test compares the two)."""

PREFIX = "PRESENCE_"
FOREIGN = ("PRESENCE_CP_",)
"""How the control plane's variables begin."""

_KEYS = {
    "control_plane": "url key key_file allow_plaintext proxy proxy_credentials_file ca_file ca_directory client_cert"
    " client_key",
    "egress": "default mode allow deny methods dangerously_lift",
    "targets": "",
    "delivery": "max_in_flight per_host rate dns_timeout connect_timeout tls_timeout first_byte_timeout attempt_timeout"
    " max_response_bytes max_header_bytes grace drain_rate",
    "retry": "max_attempts initial maximum deadline",
    "journal": "path retention max_deliveries max_remembered",
    "health": "listen",
    "control": "socket",
    "log": "level format",
    "tracing": "url ratio",
}

SINGLE = frozenset(
    f"{PREFIX}{'__'.join(filter(None, (section, key)))}".upper()
    for section, keys in _KEYS.items()
    for key in keys.split(" ")
)
"""The variables of single settings."""
VARIABLES = SINGLE | {f"{PREFIX}{section}".upper() for section in _KEYS}
"""All of them: a whole section has one, too."""
