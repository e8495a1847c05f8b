"""Jets in Linear Time: the thin module that the notebooks import.

Five rooms in a row, each importing only from those before it: ``data``, ``models``,
``evaluation``, ``training``, ``report``. The files beside them import no room.
"""
