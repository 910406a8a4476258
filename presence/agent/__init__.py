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
- `link`: the connection loop; with `failures` (what an end means) the only importer of websockets.
- `intake`: command -> journal -> Accepted.
- `worker`: due deliveries, bounded. `deliver`: one attempt: prepare, send, classify, decide.
- `http`: one request; the only importer of aiohttp's client.
- `reporter`: settled -> Report -> acknowledged -> marked.
- `journal`: the durable record; `commits` its writer thread, `journal_file`, `journal_time`, `journal.sql`
  its file, its time and its statements. `batches`: what comes together is taken together.
- `testfire`: one delivery for the command line, through the same code.
"""
