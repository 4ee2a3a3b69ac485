"Weights that were named and are not there: nobody asked to start without them."

import numpy as np
import pandas as pd
import pytest

from covidxr.base.errors import ModelError
from covidxr.base.extras import opencv
from covidxr.base.terms import BOX_COLUMNS

pytest.importorskip("torchvision", reason="the extra train is missing: pip install 'covidxr[train]'")


@pytest.mark.parametrize("model", ["yolo11n", "fcos-test_resnet"])
@pytest.mark.parametrize("ending", ["pt", "safetensors", "PTH"])
def test_a_file_of_weights_that_is_not_there_is_refused_before_any_training(model, ending, tmp_path):
    if model.startswith("yolo"):
        pytest.importorskip("ultralytics", reason="the extra detect is missing: pip install 'covidxr[detect]'")
    from covidxr.detect import train_detector

    rows = []
    for number in range(3):
        file = tmp_path / f"i{number}.png"
        opencv().imwrite(str(file), np.full((64, 64), 40 * number, np.uint8))
        rows.append([f"i{number}", str(file), number == 2])
    images = pd.DataFrame(rows, columns=["image_id", "file", "valid"])
    boxes = pd.DataFrame([["i0", 1.0, 1.0, 20.0, 20.0]], columns=["image_id", *BOX_COLUMNS])
    absent = tmp_path / f"{model}.{ending}"
    with pytest.raises(ModelError, match="no such file; give a file of weights"):
        train_detector(images, boxes, tmp_path / "out", model=model, size=64, epochs=1, weights=absent)
    assert not (tmp_path / "out" / "config.json").exists()
