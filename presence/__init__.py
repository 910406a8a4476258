"""Presence: webhooks delivered into a private network over one outbound websocket.

Two programs, one protocol: the *agent* (`presence.agent`) runs inside the network, the
*control plane* (`presence.controlplane`) outside of it. `presence.domain` holds the glossary
and the decisions, `presence.protocol` the wire specification.
"""

__version__ = "0.1.0"
