"""The stages of Folio and everything they need, in rooms that follow the life of the data. Each room's own docstring
says what is in it; `docs/reading-the-code.md` gives an order to read them in, starting with
`graph/stages.py`. Import-linter keeps the order of imports that `docs/decisions/rooms.md` explains.
"""
