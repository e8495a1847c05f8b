"""The bundled model on its two jets, in any Python with NumPy and an ONNX Runtime.

    python checkTiny.py [MODEL.onnx JETS.txt]

The text has of each jet the number of hits, then channel, row, column and value of each, then the
score and the mass that PyTorch gave.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

data = Path(__file__).parent.parent / "data"
model, text = sys.argv[1:] or (data / "tiny.onnx", data / "tiny.txt")
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
words, images, wanted = iter(Path(text).read_text().split()), [], []
for hits in words:
    image = np.zeros((8, 125, 125), np.float32)
    for _ in range(int(hits)):
        channel, row, column = (int(next(words)) for _ in range(3))
        image[channel, row, column] = float(next(words))
    images.append(image)
    wanted.append((float(next(words)), float(next(words))))
worst = 0.0
for batch in ([0], [1], [0, 1], [1, 1, 0, 0, 1, 0, 1]):
    score, mass = session.run(None, {"frame": np.stack([images[jet] for jet in batch])})
    for jet, probability, weight in zip(batch, score[:, 1], mass[:, 0]):
        worst = max(worst, abs(probability - wanted[jet][0]), abs(weight / wanted[jet][1] - 1))
print(f"ONNX Runtime {onnxruntime.__version__}: largest difference {worst:.1e}")
if worst > 1e-4:
    sys.exit("the answers differ")
print(f"{len(images)} jets agree")
