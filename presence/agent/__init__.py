"""The agent: a small daemon that fires webhooks inside the network.

The flow::

                connect                receive            journal             deliver             report
    control  ------------> link --> intake --accept--> journal --claim--> worker -> target
     plane   <--Accepted----+<---------+                  |  <--settle------+
             <--Report----- link <-- reporter <-unreported-+
             --ReportAck--> link --> reporter --mark_reported--> journal

Stages never call each other; they meet in the journal. Each loops over its own source; events only
wake it, and the journal is the truth. Acknowledge after the commit; forget after the acknowledgement.

- `app`: opens the resources, starts the stages, drains.
- `link`: the connection loop. `opening` makes a connection: `keys` says which key is shown, `route` and `passage` lead
  through a proxy, `trust` says whose certificates are believed (`certificate` reads those that are not); `conversation`
  holds the session on it; `ends` and `failures` say what its end means, `backoff` when the next try is, `vigil` whether
  time has leapt, `link_state` what is told of all this; `identity`: what the link needs of the others. `opening`,
  `ends` and `failures` alone import websockets.
- `intake`: command -> journal -> Accepted.
- `worker`: what the backlog lets start, claimed in the journal. `deliver`: one attempt: prepare, send, decide;
  `attempts`: what is told and counted of each.
- `http`: one request. `pool`: connections, kept and new; `dial`: opens what the egress policy allows; `wire`: one
  connection; with `http` the only importer of aiohttp's client. `names`: resolution, in threads of its own.
  `targets`: the local options of each host.
- `reporter`: settled -> Report -> acknowledged -> marked.
- `journal`: the durable record. `ledger`: its statements, from `journal.sql`; `entries`: its values; `tally`: what it
  counts; `commits`: its writer thread; `outage`: when the disk takes nothing; `journal_file`, `journal_time`: its file
  and its time; `salvage`, `pages`: what is kept of a damaged one. `backlog`: what is pending, in memory: fair
  between hosts, bounded, behind circuits and rates. `batches`: what comes together is taken together.
- `seen`: what was reached while the policy only observed.
- `pause`: local maintenance, kept in the journal. `reload`: settings that are read again at SIGHUP.
- `pulse`: what each stage promises of its progress. `status`: who breaks it, what keeps the agent from being ready, and
  its state as one document; `listing`: what the journal shows to a person. They are asked over HTTP: at the ports of
  `listeners` (`health`) and at the control socket (`control`; `control_path` says where it is). `metrics`: what the
  stages have counted, for Prometheus; `histogram`: how long things took. `supervisor`: systemd, whose watchdog is fed
  by that proof.
- `testfire`: one delivery for the command line, through the same code.
- `checkup`: doctor's checks in their order: `checkup_files`, `checkup_link`, `checkup_journal`, `checkup_targets`, each
  through the same code; `finding`: what one found; `authorities`: who vouches for the control plane. `effective`: the
  settings as they count on this host.
- `enrolment`: a one-time token becomes a key. `inquiry`: one HTTP request, on the link's way.
"""
