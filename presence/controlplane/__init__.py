"""The control plane: webhooks, events and the delivery log behind a REST API, and the agents' websocket.

The way of a delivery::

    POST Events -> services.events --commit--> delivery (queued) --bus--> dispatch --Fire--> gateway -> agent
                                                    ^                                          |
    GET Deliveries <- services.deliveries <- store <+-- services.sessions <-- Accepted, Report-+

The database is the truth; the bus only wakes. What an agent is told (`report_ack`) is said after the commit.
Every change of a delivery's state is one guarded UPDATE (`store.deliveries.change`), so that a late or
repeated message changes nothing. SQLite has one writing connection: transactions are short and in batches.

Two things hold a delivery, visibly, until a person acts or it is too old: an agent does not know whether its
request took effect and the webhook says Hold (`Held`; then `Deliveries/{id}/Resolve` -> `Release` or `Cancel`), or
the target answered 410 and the webhook is paused (then `Webhooks/{id}/Resume`).

Several agents of one presence: a delivery goes to the one with the fewest in flight. An instance owns what it has
accepted for as long as its lease lasts, which each answered canary renews; the time is measured in this process, so
that no jump of the wall clock ends or keeps a lease, and begins anew with it. When a lease has ended and another
instance is ready, that gets the delivery (`TakeOvers` in its log: a duplicate is possible), or it is held where the
webhook says Hold. The old owner, when it is back, is told to cancel it before it may go on. A program that comes
back after another one took its instance's place shares a journal with it: that is a `Conflict` of the presence.

Target hosts take turns, and none may use more of the agents' credit than twice what is left free (`fairness`).

Guarantee: an event that was answered with 201 has its deliveries on disk; each of them is fired until an
agent reports how it ended, or until it is too old and `expired`.
"""
