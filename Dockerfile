# The agent alone, without the control plane's libraries. Needs no privilege, and no more than this:
#
#   docker build -t presence .
#   docker run --read-only --cap-drop=all --security-opt no-new-privileges \
#     -e PRESENCE_CONTROL_PLANE__URL=wss://presence.example.com \
#     -e PRESENCE_CONTROL_PLANE__KEY_FILE=/run/secrets/presence.key \
#     -v "$PWD/AppScanPresence.key:/run/secrets/presence.key:ro" -v presence:/var/lib/presence presence
#
# The key file must be readable by uid 10001. Stop it with more patience than [delivery] grace: `docker stop -t 30`.

FROM python:3.12-slim-bookworm AS build
WORKDIR /src
RUN python3 -m venv /opt/presence
COPY pyproject.toml README.md LICENSE ./
COPY presence presence
# What the control plane gives to agents: presence/controlplane/bundle has links to them.
COPY config/agent.toml config/
COPY systemd/presence.service systemd/
COPY systemd/sysusers.d/presence.conf systemd/sysusers.d/
# pip has done its work then, and is not part of the agent.
RUN /opt/presence/bin/pip install --no-cache-dir --disable-pip-version-check '.[fast]' \
    && /opt/presence/bin/pip uninstall --yes pip
RUN install -d -m 0700 -o 10001 -g 10001 /state

FROM python:3.12-slim-bookworm
COPY --from=build /opt/presence /opt/presence
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
CMD ["run"]
