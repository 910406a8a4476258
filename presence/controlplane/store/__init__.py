"""The control plane's database: engine, tables, one module of queries for each aggregate, migrations.

Queries are functions over an open transaction; the organization is a parameter of every one that a
request causes, so that visibility lives in the query. Times are milliseconds since the Unix epoch (UTC).
"""
