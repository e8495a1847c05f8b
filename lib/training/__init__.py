"""The training room: objectives, the one loop, the cache of runs, and what a result is worth."""
