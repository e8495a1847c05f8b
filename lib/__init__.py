"""Jets in Linear Time: the thin module that the notebooks import.

Five rooms in a row, each importing only from those before it:
``data``, ``models``, ``training``, ``report``, ``tools``; ``profiles`` imports none of them.
"""
