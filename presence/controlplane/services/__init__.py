"""The use cases, each in one transaction; what they refuse is a `Refusal`."""
