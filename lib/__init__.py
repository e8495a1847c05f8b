"""Jets in Linear Time: the thin module that the notebooks import. Its rooms in a row, each
importing only from those before it: ``data``, ``models``, ``evaluation``, ``training``, ``report``.
"""

import os

# What oneDNN compiles for a shape of tensors is kept for the next one like it, up to 1,024 times,
# and once more by PyTorch. Batches of jets bring ever new shapes: in bfloat16 that is megabytes a
# shape, gigabytes a training. Read at the first product, so it holds after `import torch` too.
for _name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_name, "128")
