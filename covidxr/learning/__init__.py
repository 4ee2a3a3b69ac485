"Trains and predicts with PyTorch; this comes with an extra, and says so where that is missing."

from ..base.extras import require

require("train", "torch", "fastai")
