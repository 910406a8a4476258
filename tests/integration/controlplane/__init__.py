"""The real control plane on a free port, real websockets, a real SQLite file."""
