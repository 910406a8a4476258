# Two images: the agent (the default) without the control plane's libraries, and the control plane. Neither needs a
# privilege, a shell, or to write anywhere but into its volume:
#
#   docker build -t presence .
#   docker build -t presence-control-plane --target control-plane .
#   docker run --read-only --cap-drop=all --security-opt no-new-privileges --stop-timeout 30 \
#     -e PRESENCE_CONTROL_PLANE__URL=wss://presence.example.com \
#     -v "$PWD/presence.key:/run/secrets/presence.key:ro" -v presence:/var/lib/presence presence
#
# The key file must be readable by uid 10001, and by no one else. Further settings are variables, or a file:
# -v "$PWD/agent.toml:/etc/presence/agent.toml:ro". config/compose.yaml runs both images, and a target.

FROM python:3.12-slim-bookworm AS build
WORKDIR /src
# The state's directory has its owner in the image: a new volume takes that over.
RUN python3 -m venv /opt/presence && install -d -m 0700 -o 10001 -g 10001 /state
COPY pyproject.toml README.md LICENSE ./
COPY presence presence
# What the control plane gives to agents: presence/controlplane/bundle has links to them.
COPY config/agent.toml config/
COPY systemd/presence.service systemd/
COPY systemd/sysusers.d/presence.conf systemd/sysusers.d/

# pip has done its work then, and is not part of the image.
FROM build AS build-agent
RUN /opt/presence/bin/pip install --no-cache-dir --disable-pip-version-check '.[fast]' \
    && /opt/presence/bin/pip uninstall --yes pip

FROM build AS build-control-plane
RUN /opt/presence/bin/pip install --no-cache-dir --disable-pip-version-check '.[control-plane,fast]' \
    && /opt/presence/bin/pip uninstall --yes pip

FROM python:3.12-slim-bookworm AS runtime
# Fixed numbers, so that a volume's files keep their owner from one version to the next.
COPY --from=build --chown=10001:10001 /state /var/lib/presence
ENV PATH=/opt/presence/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STATE_DIRECTORY=/var/lib/presence
USER 10001:10001
WORKDIR /var/lib/presence
VOLUME /var/lib/presence
STOPSIGNAL SIGTERM
ENTRYPOINT ["presence"]
LABEL org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.12-slim-bookworm"

FROM runtime AS control-plane
LABEL org.opencontainers.image.title="Presence control plane" \
      org.opencontainers.image.description="Takes events, and tells agents to deliver webhooks into their networks."
COPY --from=build-control-plane /opt/presence /opt/presence
# A container's loopback is reached by nobody else. A TLS proxy belongs before this port.
ENV PRESENCE_CP_SERVER__HOST=0.0.0.0
EXPOSE 8480
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s \
    CMD ["/opt/presence/bin/python3", "-c", \
         "import urllib.request as u; u.urlopen('http://127.0.0.1:8480/healthz', timeout=8)"]
CMD ["control-plane", "serve"]

FROM runtime AS agent
LABEL org.opencontainers.image.title="Presence agent" \
      org.opencontainers.image.description="Delivers webhooks into this network over one outbound websocket."
COPY --from=build-agent /opt/presence /opt/presence
# The secret 'presence.key' is found there, like a credential of systemd's.
ENV CREDENTIALS_DIRECTORY=/run/secrets
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["presence", "healthcheck"]
CMD ["run"]
