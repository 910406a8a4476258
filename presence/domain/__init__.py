"""Values and decisions: no I/O, no clock, no randomness, no logging.

Glossary (one word per thing, from the database column to the log field to the JSON key):

- **control plane**: the service outside of the network. **agent**: the daemon inside of it.
- **presence**: an enrolled agent identity, with a key. **instance**: one running agent of a presence.
- **link**: the agent's connection loop. **connection**: one websocket. **session**: the protocol's
  state over one connection.
- **event**: something happened to a **subject** (a scan execution, an application).
  **webhook**: which events are told to which URI through which presence.
- **fire**: the command to deliver. **delivery**: one webhook for one event; durable; has an id.
- **attempt**: one HTTP request. **outcome**: what an attempt gave. **step**: what to do next.
  **settle**: write outcome and step.
- **report**: what the agent tells of a settled delivery. **acknowledge**: to say that something is kept.
- **journal**: the agent's durable record. **claim**: take a due delivery for an attempt.
  **due**: may be attempted from then on. **backoff**, **jitter**: the growing wait and its random part.
- **lease**: how long an instance owns what it accepted. **dispatch**: queued deliveries to instances.
- **egress policy**: what the agent may reach. **decision**: its answer. **reason**: why.
- **drain**: take nothing new and finish. **grace**: how long that may take.
"""
