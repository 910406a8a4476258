"""Real fakes for the wire: a target, a control plane, the programs as processes, a clock that is set by hand."""
