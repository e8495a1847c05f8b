"""Jets in Linear Time: the thin module that the notebooks import. Its rooms in a row, each
importing only from those before it: ``data``, ``models``, ``evaluation``, ``training``, ``report``.
"""
