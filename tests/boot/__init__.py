"""The agent as a service of a booted Debian: the real package under the real systemd, in a container.

`python -m tests.boot` says what it does. The container has no network but its own loopback. There run the agent (from
the Debian package), a control plane (installed with pip, as its unit's head says) and a receiver.
"""
