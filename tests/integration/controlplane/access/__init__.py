"""The access matrix: every route x verb x role x place, as a table that was written by hand.

`table`: what is expected; `people`: the roles; `world`: what there is to act upon; `actions`: the requests;
`test_matrix`: every cell, on both databases.
"""
