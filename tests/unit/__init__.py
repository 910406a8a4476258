"""Unit tests; they mirror presence/ one to one."""
