"""The wire protocol between agent and control plane, version 1. Sans-I/O; both sides use this package.

**Transport.** A websocket (RFC 6455) that the agent opens to `/agent/v1` with the subprotocol
`presence.v1` and `Authorization: Bearer <presence key>`. No compression. Text frames, each at most
256 KiB of UTF-8. A frame holds one message (a JSON object) or several (an array of objects).

**Messages.** Every message has a `type`. Ids are lower-case UUIDs; times are integers in
milliseconds and *relative* (ages, remaining times), so that a wrong clock on either side breaks nothing.

============== ============= ==========================================================================
type           said by       meaning
============== ============= ==========================================================================
hello          agent         first message: supported versions, instance, run of the program, epoch, credit
welcome        control plane chosen version; canary interval and lease
holding        agent         a page of ids it holds: accepted and not yet acknowledged as reported
stated         agent         all pages were sent
reconciled     control plane they were looked at, and what is no longer the agent's was cancelled
ready          agent         it has cancelled that; from now on it takes fires, and goes on with what it holds
fire           control plane deliver this
accepted       agent         the delivery is in the journal: it will be reported some day
attempted      agent         accepted deliveries whose first attempt was made and that wait for another
busy           agent         not taken; the control plane keeps it and offers it again later
cancel         control plane make no further attempt
report         agent         how the delivery ended; repeated until acknowledged
held           agent         an accepted delivery waits for a person's decision
release        control plane the decision: attempt it again (to abandon it is a cancel)
report_ack     control plane the report is stored; the agent may forget the delivery
canary         control plane proof of life, asked through the same intake as a fire
canary_echo    agent         its answer; renews the instance's lease
paused         agent         local maintenance began or ended
draining       agent         it is stopping: no more fires, please
new_key        control plane the key for the next connections
go_away        control plane reconnect after the given delay
============== ============= ==========================================================================

**Order.**::

    agent                                 control plane
      hello ------------------------------->            awaiting hello
                       <-------------------- welcome    stating
      holding* ---------------------------->
      stated ------------------------------>            stated
                       <-------------------- cancel*
                       <-------------------- reconciled reconciled
      ready ------------------------------->            ready
                       <-------------------- fire, cancel, release, canary, report_ack, new_key
      accepted | attempted | busy | report | held -->
      draining ---------------------------->            draining: no fire; reports still flow
      (either side closes)                              closed

No fire before ready, none after draining, none beyond the credit: the deliveries that the agent was fired, or
stated as `unattempted`, and of which it has said neither `attempted`, `busy`, `held` nor `report`. What waits for a
retry or for a person uses no credit. Holding precedes ready, so the control plane knows what not to send again, and
an agent that was away learns what another instance has meanwhile before it attempts anything more of it.

**Guarantees.** The agent says `accepted` only after its journal has committed; the control plane says
`report_ack` only after its database has. A fire that was not accepted when the session ends is sent
again in a later one, so the agent drops repeats by id (and says `accepted` again). Reports are
repeated in every session until acknowledged, so the control plane drops repeats by id too.

**What is wrong and what follows.** An unknown `type` is ignored and noted once per session: a newer peer
may say more. Unknown fields are ignored. A frame that is no JSON, has duplicate keys, NaN or
infinities, is nested deeper than 8, or a message whose fields have the wrong form: close 1007. A
message that the state does not allow: close 1002. A larger frame: close 1009. But a `fire` whose
id is readable and whose content is not is answered by a report `refused` (reason
`content_invalid`), because closing would bring it back for ever. For the same reason the control
plane counts protocol closes that coincide with unaccepted fires: after the first it sends each of
them alone, after the second it sets the delivery aside as failed (reason `poison`), loudly.

**Versions.** `hello.versions` lists what the agent speaks; `welcome.version` is the highest that both
speak; where there is none the control plane closes with 4426.

**Close codes of our own.** 4401 key revoked, 4408 canary missed, 4409 superseded by a newer session of
the same instance, 4426 no common version.
"""

SUBPROTOCOL = "presence.v1"
AGENT_PATH = "/agent/v1"
VERSIONS = (1,)
MAX_FRAME_BYTES = 256 * 1024
MAX_DEPTH = 8
HOLDING_PAGE = 1000
"""Ids in one `holding`: 1,000 ids of 39 bytes stay far below the frame limit."""
