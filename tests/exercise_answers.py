"Answers that learners give: three wrong ones and a right one in another style, for every exercise."

ANSWERS: dict[str, dict] = {
    "calibrate.1": {
        "wrong": [
            """
def ppv(sensitivity, specificity, prevalence):
    return sensitivity
""",
            """
def ppv(sensitivity, specificity, prevalence):
    return sensitivity / (sensitivity + 1 - specificity)
""",
            """
def ppv(sensitivity, specificity, prevalence):
    right = sensitivity * prevalence
    return right / (right + specificity * (1 - prevalence))
""",
        ],
        "other": """
def ppv(sensitivity, specificity, prevalence):
    odds = prevalence / (1 - prevalence) * sensitivity / (1 - specificity)
    return odds / (1 + odds)
""",
    },
    "calibrate.2": {
        "wrong": [
            """
def limit(strangeness, error):
    return np.quantile(strangeness, 1 - error) if len(strangeness) else np.inf
""",
            """
def limit(strangeness, error):
    rank = int(np.ceil(len(strangeness) * (1 - error)))
    return sorted(strangeness)[rank - 1] if strangeness else np.inf
""",
            """
def limit(strangeness, error):
    rank = int((len(strangeness) + 1) * (1 - error)) + 1
    return sorted(strangeness)[rank - 1] if rank <= len(strangeness) else np.inf
""",
        ],
        "other": """
def limit(strangeness, error):
    known = len(strangeness)
    for place, value in enumerate(sorted(strangeness), 1):
        if (known + 1 - place) / (known + 1) <= error:
            return value
    return np.inf
""",
    },
    "calibrate.3": {
        "wrong": [
            """
def recalibrate(known, new):
    return new
""",
            """
def recalibrate(known, new):
    from covidxr.calibrate import calibrate
    names = list(new.columns)
    labelled = known[names].assign(label=[names[number] for number in known["truth"]])
    return calibrate(new, labelled, classes=names)[names]
""",
            """
def recalibrate(known, new):
    shares = known["truth"].value_counts(normalize=True).reindex(range(4), fill_value=0).to_numpy()
    weighted = new * shares
    return weighted.div(weighted.sum(axis=1), axis=0)
""",
        ],
        "other": """
def recalibrate(known, new):
    from sklearn.linear_model import LogisticRegression
    names = list(new.columns)
    model = LogisticRegression(max_iter=1000).fit(np.log(known[names]), known["truth"])
    return model.predict_proba(np.log(new))
""",
    },
    "classify.1": {
        "wrong": [
            """
def confusion(truth, said, classes):
    p = list(zip(said, truth))
    return [[p.count((a, b)) for b in classes] for a in classes]
""",
            """
def confusion(truth, said, classes):
    names = sorted(set(truth) | set(said))
    p = list(zip(truth, said))
    return [[p.count((a, b)) for b in names] for a in names]
""",
            """
def confusion(truth, said, classes):
    n = max(len(truth), 1)
    p = list(zip(truth, said))
    return [[p.count((a, b)) / n for b in classes] for a in classes]
""",
        ],
        "other": """
def confusion(truth, said, classes):
    t = np.zeros((len(classes), len(classes)), int)
    for a, b in zip(truth, said):
        t[classes.index(a), classes.index(b)] += 1
    return t
""",
    },
    "classify.2": {
        "wrong": [
            """
def choose(history):
    return history["rate"].max(), history["epoch"].max()
""",
            """
def choose(history):
    return 0.001, 1
""",
            """
def choose(history):
    row = history.loc[history["valid_accuracy"].idxmin()]
    return row["rate"], row["epoch"]
""",
        ],
        "lazy": [
            """
def choose(history):
    row = history.loc[history["train_loss"].idxmin()]
    return row["rate"], int(row["epoch"])
""",
        ],
        "leaking": {
            "test": """
def choose(history):
    return history.groupby(["rate", "epoch"])["test_accuracy"].mean().idxmax()
""",
        },
        "other": """
def choose(history):
    best = history.pivot_table("valid_accuracy", "rate", "epoch")
    row, column = np.unravel_index(best.to_numpy().argmax(), best.shape)
    return [best.index[row], best.columns[column]]
""",
    },
    "dataset.1": {
        "wrong": [
            """
import ast
def tidy(rows):
    return [(i, b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"]) for i, t in rows for b in ast.literal_eval(t)]
""",
            """
import ast
def tidy(rows):
    out = []
    for i, t in rows:
        if t:
            b = ast.literal_eval(t)[0]
            out.append((i, b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"]))
    return out
""",
            """
import ast
def tidy(rows):
    return [(i, b["x"], b["y"], b["width"], b["height"]) for i, t in rows if t for b in ast.literal_eval(t)]
""",
        ],
        "other": """
import json
def tidy(rows):
    out = []
    for i, t in rows:
        if t is None:
            continue
        for b in json.loads(t.replace("'", '"')):
            out += [[i, b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"]]]
    return out
""",
    },
    "dataset.2": {
        "wrong": [
            """
def mend(known, new):
    n = new[["n1", "n2", "n3", "n4"]].to_numpy()
    return np.hstack([n[:, :2], n[:, :2] + n[:, 2:]])
""",
            """
def mend(known, new):
    n = new[["n1", "n2", "n3", "n4"]].to_numpy()
    corners = (n[:, 2:] > n[:, :2]).all(axis=1)
    return np.where(corners[:, None], n, np.hstack([n[:, :2], n[:, :2] + n[:, 2:]]))
""",
            """
def mend(known, new):
    numbers = ["n1", "n2", "n3", "n4"]
    weights = np.linalg.lstsq(known[numbers].to_numpy(), known[["x_min", "y_min", "x_max", "y_max"]].to_numpy(), rcond=None)[0]
    return new[numbers].to_numpy() @ weights
""",
        ],
        "lazy": [
            """
def mend(known, new):
    return new[["n1", "n2", "n3", "n4"]]
""",
            """
def mend(known, new):
    return [[100, 100, 250, 250]] * len(new)
""",
        ],
        "leaking": {
            "file": """
def mend(known, new):
    n = new[["n1", "n2", "n3", "n4"]].to_numpy()
    way = new["file"].str.split("_").str[0].to_numpy()[:, None]
    n = np.where(way == "sizes", np.hstack([n[:, :2], n[:, :2] + n[:, 2:]]), n)
    n = np.where(way == "centres", np.hstack([n[:, :2] - n[:, 2:] / 2, n[:, :2] + n[:, 2:] / 2]), n)
    return np.where(way == "swapped", n[:, [1, 0, 3, 2]], n)
""",
        },
        "other": """
def mend(known, new):
    numbers, corners = ["n1", "n2", "n3", "n4"], ["x_min", "y_min", "x_max", "y_max"]
    made = []
    for _, row in new.iterrows():
        seen = known[known["program"] == row["program"]]
        weights = np.linalg.lstsq(seen[numbers].to_numpy(), seen[corners].to_numpy(), rcond=None)[0]
        made.append(row[numbers].to_numpy(float) @ np.round(weights * 2) / 2)
    return pd.DataFrame(made, columns=corners)
""",
    },
    "detect.1": {
        "wrong": [
            """
def yolo(boxes, side):
    return [[a / side, b / side, (c - a) / side, (d - b) / side] for a, b, c, d in boxes]
""",
            """
def yolo(boxes, side):
    return [[(a + c) / 2, (b + d) / 2, c - a, d - b] for a, b, c, d in boxes]
""",
            """
def yolo(boxes, side):
    return [[(a + c) / 2 / side, (b + d) / 2 / side, c / side, d / side] for a, b, c, d in boxes]
""",
        ],
        "other": """
def yolo(boxes, side):
    t = np.asarray(boxes, float).reshape(-1, 4) / side
    return np.hstack([(t[:, :2] + t[:, 2:]) / 2, t[:, 2:] - t[:, :2]])
""",
    },
    "detect.2": {
        "wrong": [
            """
def corners_of(rows, side):
    return [[x * side, y * side, (x + w) * side, (y + h) * side] for x, y, w, h in rows]
""",
            """
def corners_of(rows, side):
    return [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for x, y, w, h in rows]
""",
            """
def corners_of(rows, side):
    return [[(x - w) * side, (y - h) * side, (x + w) * side, (y + h) * side] for x, y, w, h in rows]
""",
        ],
        "other": """
def corners_of(rows, side):
    t = np.asarray(rows, float).reshape(-1, 4) * side
    return np.concatenate([t[:, :2] - t[:, 2:] / 2, t[:, :2] + t[:, 2:] / 2], axis=1)
""",
    },
    "detect.3": {
        "wrong": [
            """
from covidxr.metrics import box_iou
def recall(truth, guesses, confidences, threshold):
    k = [g for g, c in zip(guesses, confidences) if c > threshold]
    if not truth:
        return float("nan")
    return len({int(np.argmax(box_iou([g], truth))) for g in k if box_iou([g], truth).max() > 0.5}) / len(truth)
""",
            """
from covidxr.metrics import box_iou
def recall(truth, guesses, confidences, threshold):
    if not truth:
        return float("nan")
    k = [g for g, c in zip(guesses, confidences) if c >= threshold]
    return sum(box_iou([g], truth).max() > 0.5 for g in k) / len(truth)
""",
            """
from covidxr.metrics import box_iou
def recall(truth, guesses, confidences, threshold):
    if not truth:
        return 0.0
    k = [g for g, c in zip(guesses, confidences) if c >= threshold]
    return len({int(np.argmax(box_iou([g], truth))) for g in k if box_iou([g], truth).max() > 0.5}) / len(truth)
""",
        ],
        "other": """
from covidxr.metrics import box_iou
def recall(truth, guesses, confidences, threshold):
    if len(truth) == 0:
        return np.nan
    n = 0
    for t in truth:
        n += any(c >= threshold and box_iou([g], [t])[0, 0] > 0.5 for g, c in zip(guesses, confidences))
    return n / len(truth)
""",
    },
    "dicom.1": {
        "wrong": [
            """
def window(values, center, width):
    return (values - center) / width + 0.5
""",
            """
def window(values, center, width):
    return np.clip((values - center) / width, 0, 1)
""",
            """
def window(values, center, width):
    return np.clip(values / width, 0, 1)
""",
        ],
        "other": """
def window(values, center, width):
    low, high = center - width / 2, center + width / 2
    out = []
    for value in values:
        out.append(0.0 if value <= low else 1.0 if value >= high else (value - low) / (high - low))
    return out
""",
    },
    "dicom.2": {
        "wrong": [
            """
def restore(stored, inside):
    low, high = np.percentile(stored[inside], [0.5, 99.5])
    return 1 - np.clip((stored - low) / (high - low), 0, 1)
""",
            """
def restore(stored, inside):
    low, high = np.percentile(stored[inside], [0.5, 99.5])
    picture = np.clip((stored - low) / (high - low), 0, 1)
    return 1 - picture if picture[inside].mean() > 0.5 else picture
""",
            """
def restore(stored, inside):
    own = stored[inside]
    picture = np.clip((stored - own.min()) / (own.max() - own.min()), 0, 1)
    return 1 - picture if picture[:12, -8:].mean() > picture[inside].mean() else picture
""",
        ],
        "lazy": [
            """
def restore(stored, inside):
    low, high = np.percentile(stored[inside], [0.5, 99.5])
    return np.clip((stored - low) / (high - low), 0, 1)
""",
            """
def restore(stored, inside):
    return np.full(stored.shape, 0.4)
""",
        ],
        "leaking": {
            "padding": """
def restore(stored, inside):
    low, high = np.percentile(stored, [0.5, 99.5])
    picture = np.clip((stored - low) / (high - low), 0, 1)
    return 1 - picture if picture[:12, -8:].mean() > picture[inside].mean() else picture
""",
        },
        "other": """
def restore(stored, inside):
    values = np.where(inside, stored, np.nan)
    low, high = np.nanquantile(values, [0.005, 0.995])
    picture = np.clip((values - low) / (high - low), 0, 1)
    if np.nanmedian(picture[:8, -10:]) > 0.5:
        picture = 1 - picture
    return np.nan_to_num(picture)
""",
    },
    "eda.1": {
        "wrong": [
            """
def cover(boxes, cells):
    c = np.zeros((cells, cells), int)
    for b in boxes:
        x0, y0, x1, y1 = (int(round(v * cells)) for v in b)
        c[x0:x1, y0:y1] += 1
    return c
""",
            """
def cover(boxes, cells):
    c = np.zeros((cells, cells), int)
    for b in boxes:
        x0, y0, x1, y1 = (int(round(v * cells)) for v in b)
        c[y0:y1, x0:x1] = 1
    return c
""",
            """
def cover(boxes, cells):
    c = np.zeros((cells, cells), int)
    for b in boxes:
        x0, y0, x1, y1 = (int(round(v * cells)) for v in b)
        c[y0:y1 + 1, x0:x1 + 1] += 1
    return c
""",
        ],
        "other": """
def cover(boxes, cells):
    rows = []
    for y in range(cells):
        rows.append([sum(b[0] * cells <= x + 0.5 < b[2] * cells and b[1] * cells <= y + 0.5 < b[3] * cells for b in boxes) for x in range(cells)])
    return rows
""",
    },
    "eda.2": {
        "wrong": [
            """
def choose(table, recorded):
    before = [name for name in recorded if recorded[name] == "before"]
    apart = table.groupby("ill")[before].mean().diff().iloc[-1].abs()
    return apart.nlargest(3).index.tolist()
""",
            """
def choose(table, recorded):
    before = [name for name in recorded if recorded[name] == "before"]
    apart = table.groupby("hospital")[before].mean().diff().iloc[-1].abs()
    return apart.nsmallest(3).index.tolist()
""",
            """
def choose(table, recorded):
    return [name for name in recorded if recorded[name] == "before"][:4]
""",
        ],
        "lazy": [
            """
def choose(table, recorded):
    return [name for name in recorded if recorded[name] == "before"]
""",
        ],
        "leaking": {
            "after": """
def choose(table, recorded):
    correlation = table[list(recorded)].corrwith(table["ill"].astype(float)).abs()
    return correlation.nlargest(3).index.tolist()
""",
        },
        "other": """
def choose(table, recorded):
    names = [name for name in recorded if recorded[name] == "before"]
    inside = table[names] - table.groupby("hospital")[names].transform("mean")
    ill = table["ill"] - table.groupby("hospital")["ill"].transform("mean")
    return [name for name in names if inside[name].corr(ill) > 0.12]
""",
    },
    "ensemble.1": {
        "wrong": [
            """
from covidxr.metrics import box_iou
def keep(boxes, confidences):
    out = []
    order = list(np.argsort(confidences)[::-1])
    for n, p in enumerate(order):
        if all(box_iou([boxes[p]], [boxes[o]])[0, 0] <= 0.5 for o in order[:n]):
            out.append(int(p))
    return out
""",
            """
from covidxr.metrics import box_iou
def keep(boxes, confidences):
    out = []
    for p in range(len(boxes)):
        if all(box_iou([boxes[p]], [boxes[o]])[0, 0] <= 0.5 for o in out):
            out.append(p)
    return out
""",
            """
from covidxr.metrics import box_iou
def keep(boxes, confidences):
    out = []
    for p in np.argsort(confidences)[::-1]:
        if all(box_iou([boxes[p]], [boxes[o]])[0, 0] == 0 for o in out):
            out.append(int(p))
    return out
""",
        ],
        "other": """
from covidxr.metrics import box_iou
def keep(boxes, confidences):
    left = sorted(range(len(boxes)), key=lambda p: -confidences[p])
    out = []
    while left:
        best, *rest = left
        out.append(best)
        left = [p for p in rest if not box_iou([boxes[best]], [boxes[p]])[0, 0] > 0.5]
    return np.array(out, int)
""",
    },
    "ensemble.2": {
        "wrong": [
            """
def fuse(boxes, confidences, models):
    return np.mean(boxes, axis=0), np.mean(confidences) * len(boxes) / models
""",
            """
def fuse(boxes, confidences, models):
    return np.average(boxes, axis=0, weights=confidences), np.mean(confidences)
""",
            """
def fuse(boxes, confidences, models):
    return np.average(boxes, axis=0, weights=confidences), max(confidences) * len(boxes) / models
""",
        ],
        "other": """
def fuse(boxes, confidences, models):
    total = sum(confidences)
    corners = [sum(c * b[k] for b, c in zip(boxes, confidences)) / total for k in range(4)]
    return corners, total / models
""",
    },
    "ensemble.3": {
        "wrong": [
            """
def none_of(empty, boxes, exponent):
    b = dict(boxes)
    return {i: e ** (1 - exponent) * (1 - b.get(i, 0)) ** exponent for i, e in empty.items()}
""",
            """
def none_of(empty, boxes, exponent):
    return {i: e ** exponent * (1 - max((c for n, c in boxes if n == i), default=0)) ** (1 - exponent) for i, e in empty.items()}
""",
            """
def none_of(empty, boxes, exponent):
    return {i: e ** (1 - exponent) * max((c for n, c in boxes if n == i), default=0) ** exponent for i, e in empty.items()}
""",
        ],
        "other": """
def none_of(empty, boxes, exponent):
    s = pd.Series(1.0, index=list(empty))
    for i, c in boxes:
        s[i] = min(s[i], 1 - c)
    return pd.Series(empty) ** (1 - exponent) * s ** exponent
""",
    },
    "explain.1": {
        "wrong": [
            """
def points(heat, mask, reach):
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    return bool(mask[row, column])
""",
            """
def points(heat, mask, reach):
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    rows, columns = np.nonzero(mask)
    return bool((abs(rows - row) + abs(columns - column) <= reach).any())
""",
            """
def points(heat, mask, reach):
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    rows, columns = np.nonzero(mask)
    return bool((np.maximum(abs(rows - row), abs(columns - column)) < reach).any())
""",
        ],
        "other": """
def points(heat, mask, reach):
    y, x = np.argwhere(heat == heat.max())[0]
    return bool(mask[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].any())
""",
    },
    "explain.2": {
        "wrong": [
            """
def lead(looking, blind, draws):
    gain = np.array(looking) - np.array(blind)
    return gain.mean(), *np.percentile(gain, [2.5, 97.5])
""",
            """
def lead(looking, blind, draws):
    gain = np.array(looking) - np.array(blind)
    drawn = [gain[sorted(set(rows))].mean() for rows in draws]
    return gain.mean(), *np.percentile(drawn, [2.5, 97.5])
""",
            """
def lead(looking, blind, draws):
    gain = np.array(looking) - np.array(blind)
    drawn = [gain[rows].mean() for rows in draws]
    return np.mean(drawn), *np.percentile(drawn, [2.5, 97.5])
""",
        ],
        "other": """
def lead(looking, blind, draws):
    def share(hits, rows):
        return sum(hits[row] for row in rows) / len(rows)
    drawn = [share(looking, rows) - share(blind, rows) for rows in draws]
    everyone = range(len(looking))
    low, high = (np.percentile(drawn, end) for end in (2.5, 97.5))
    return [share(looking, everyone) - share(blind, everyone), low, high]
""",
    },
    "explain.3": {
        "wrong": [
            """
def occlusion(picture, weights, side):
    return picture * weights
""",
            """
def occlusion(picture, weights, side):
    part = picture * weights
    means = part.reshape(part.shape[0] // side, side, part.shape[1] // side, side).mean((1, 3))
    return means.repeat(side, 0).repeat(side, 1)
""",
            """
def occlusion(picture, weights, side):
    part = picture * weights
    sums = part.reshape(part.shape[0] // side, side, part.shape[1] // side, side).sum((1, 3))
    return -sums.repeat(side, 0).repeat(side, 1)
""",
        ],
        "other": """
def occlusion(picture, weights, side):
    part = picture * weights
    sums = part.reshape(part.shape[0] // side, side, part.shape[1] // side, side).sum((1, 3))
    return sums.repeat(side, 0).repeat(side, 1)
""",
    },
    "folds.1": {
        "wrong": [
            """
from collections import Counter
def leaks(fold, owner):
    return sorted(p for p, n in Counter(owner.values()).items() if n > 1)
""",
            """
def leaks(fold, owner):
    return sorted(s for s in fold if any(owner[s] == owner[o] and fold[s] != fold[o] for o in fold))
""",
            """
def leaks(fold, owner):
    seen = {}
    out = []
    for s, p in owner.items():
        if p in seen and seen[p] != fold[s]:
            out.append(p)
        seen[p] = fold[s]
    return sorted(out)
""",
        ],
        "other": """
def leaks(fold, owner):
    pairs = {(owner[s], fold[s]) for s in fold}
    people = [p for p, _ in pairs]
    return sorted({p for p in people if people.count(p) > 1})
""",
    },
    "folds.2": {
        "wrong": [
            """
def folds(table):
    return (table["patient_id"].str[1:].astype(int) % 2).tolist()
""",
            """
def folds(table):
    patients = table["patient_id"].unique()
    place = {patient: number * 5 // len(patients) for number, patient in enumerate(patients)}
    return table["patient_id"].map(place)
""",
            """
def folds(table):
    return np.arange(len(table)) * 5 // len(table)
""",
        ],
        "lazy": [
            """
def folds(table):
    return [0] * len(table)
""",
        ],
        "leaking": {
            "patient": """
from sklearn.model_selection import StratifiedKFold


def folds(table):
    answer = np.zeros(len(table), int)
    for number, (_, held_out) in enumerate(StratifiedKFold(5, shuffle=True, random_state=0).split(table, table["ill"])):
        answer[held_out] = number
    return answer
""",
        },
        "other": """
def folds(table):
    ever = table.groupby("patient_id")["ill"].max().sort_values(kind="stable")
    return table["patient_id"].map({patient: number % 5 for number, patient in enumerate(ever.index)}).tolist()
""",
    },
    "metrics.1": {
        "wrong": [
            """
def iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    both = w * h
    e = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / e if e > 0 else 0.0
""",
            """
def iou(a, b):
    w = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    e = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return w * h / e if e > 0 else 0.0
""",
            """
def iou(a, b):
    w = max(0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    h = max(0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    e = (a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1) - w * h
    return w * h / e
""",
        ],
        "other": """
def iou(a, b):
    def cells(box):
        return {(x, y) for x in range(int(box[0]), int(box[2])) for y in range(int(box[1]), int(box[3]))}
    one, two = cells(a), cells(b)
    return len(one & two) / len(one | two) if one | two else 0
""",
    },
    "metrics.2": {
        "wrong": [
            """
def rank(known, new):
    return np.random.default_rng(0).random(len(new))
""",
            """
def rank(known, new):
    return 1 - new["confidence"]
""",
            """
def rank(known, new):
    return np.log(new["area"])
""",
        ],
        "lazy": [
            """
def rank(known, new):
    return new["confidence"]
""",
            """
def rank(known, new):
    return [0.5] * len(new)
""",
        ],
        "leaking": {
            "in_truth": """
def rank(known, new):
    return new["confidence"] + (new["in_truth"] > 0)
""",
        },
        "other": """
def rank(known, new):
    answer = pd.Series(0.0, index=new.index)
    for (version, small), rows in new.groupby(["version", new["area"] < 1000]):
        seen = known[(known["version"] == version) & ((known["area"] < 1000) == small)].sort_values("confidence")
        smooth = seen["hit"].rolling(25, min_periods=1, center=True).mean()
        answer[rows.index] = np.interp(rows["confidence"], seen["confidence"], smooth.cummax())
    return answer.tolist()
""",
    },
    "phantom.1": {
        "wrong": [
            """
def extent(lung, opacity):
    share = opacity.sum() / max(lung.sum(), 1)
    return int(np.ceil(min(share, 1) * 4))
""",
            """
def extent(lung, opacity):
    share = (lung & opacity).mean()
    return int(np.ceil(share * 4))
""",
            """
def extent(lung, opacity):
    share = (lung & opacity).sum() / max(lung.sum(), 1)
    return int(share * 4)
""",
        ],
        "other": """
def extent(lung, opacity):
    inside = [b for a, b in zip(lung.ravel(), opacity.ravel()) if a]
    if not any(inside):
        return 0
    quarters = 4 * sum(inside) / len(inside)
    return 2 if quarters == 1 else int(np.ceil(quarters))
""",
    },
    "phantom.2": {
        "wrong": [
            """
def estimate(known, new):
    return [pixels[lung].mean() for pixels, lung in zip(new["pixels"], new["lung"])]
""",
            """
def estimate(known, new):
    def bright(table):
        return np.array([[pixels.mean(), 1] for pixels in table["pixels"]])
    weights = np.linalg.lstsq(bright(known), known["share"], rcond=None)[0]
    return bright(new) @ weights
""",
            """
def estimate(known, new):
    rng = np.random.default_rng(0)
    return rng.choice(known["share"], len(new))
""",
        ],
        "lazy": [
            """
def estimate(known, new):
    return np.full(len(new), known["share"].mean())
""",
            """
def estimate(known, new):
    return [known["share"].median()] * len(new)
""",
        ],
        "leaking": {
            "seed": """
from covidxr.phantom import simulate


def estimate(known, new):
    shares = []
    for pixels, lung, seed in zip(new["pixels"], new["lung"], new["seed"]):
        healthy = simulate(seed, "negative", 64, marked=False).pixels
        shares.append((pixels[lung].mean() - healthy.mean()) if healthy.shape == pixels.shape else 0.2)
    return shares
""",
        },
        "other": """
from sklearn.linear_model import Ridge


def estimate(known, new):
    def rows(table):
        made = []
        for pixels, lung in zip(table["pixels"], table["lung"]):
            spread = (pixels - np.median(pixels[~lung])) / pixels.std()
            made.append(np.quantile(spread[lung], [0.1, 0.25, 0.5, 0.75, 0.9]))
        return made

    return Ridge(1e-2).fit(rows(known), known["share"]).predict(rows(new))
""",
    },
    "pipeline.1": {
        "wrong": [
            """
def empty(chances, shares):
    return chances["negative"]
""",
            """
def empty(chances, shares):
    return sum(chances[n] * shares[n] for n in chances) / sum(shares.values())
""",
            """
def empty(chances, shares):
    return np.mean([chances[n] * shares[n] for n in chances])
""",
        ],
        "other": """
def empty(chances, shares):
    return (pd.Series(chances) * pd.Series(shares)).sum()
""",
    },
    "pipeline.2": {
        "wrong": [
            """
def revise(chances, shares, none):
    new = {n: c * (shares[n] * none + (1 - shares[n]) * (1 - none)) for n, c in chances.items()}
    return {n: v / sum(new.values()) for n, v in new.items()}
""",
            """
def revise(chances, shares, none):
    b = sum(chances[n] * shares[n] for n in chances)
    new = {n: c * shares[n] * none / b for n, c in chances.items()}
    return {n: v / sum(new.values()) for n, v in new.items()}
""",
            """
def revise(chances, shares, none):
    new = dict(chances)
    new["negative"] = none
    return {n: v / sum(new.values()) for n, v in new.items()}
""",
        ],
        "other": """
def revise(chances, shares, none):
    c, s = pd.Series(chances), pd.Series(shares)
    boxless = c * s / (c * s).sum()
    boxed = c * (1 - s) / (c * (1 - s)).sum()
    return none * boxless + (1 - none) * boxed
""",
    },
    "pipeline.3": {
        "wrong": [
            """
def lead(first, second):
    a, b = np.array(first), np.array(second)
    return {"mean": a.mean() - b.mean(), "low": np.percentile(a, 2.5) - np.percentile(b, 2.5), "high": np.percentile(a, 97.5) - np.percentile(b, 97.5), "probability": (a > b).mean()}
""",
            """
def lead(first, second):
    g = np.array(first) - np.array(second)
    return {"mean": g.mean(), "low": g.min(), "high": g.max(), "probability": (g > 0).mean()}
""",
            """
def lead(first, second):
    g = np.array(first) - np.array(second)
    return {"mean": g.mean(), "low": g.mean() - 1.96 * g.std(), "high": g.mean() + 1.96 * g.std(), "probability": (g > 0).mean()}
""",
        ],
        "other": """
def lead(first, second):
    g = pd.Series(first) - pd.Series(second)
    return pd.Series({"mean": g.mean(), "low": g.quantile(0.025), "high": g.quantile(0.975), "probability": len(g[g > 0]) / len(g)})
""",
    },
    "prepare.1": {
        "wrong": [
            """
def there(box, height, width, scale, left, top):
    a, b, c, d = box
    return [a * scale + left, b * scale + top, c * scale + left, d * scale + top]
""",
            """
def there(box, height, width, scale, left, top):
    a, b, c, d = np.clip(box, 0, [width, height, width, height])
    return [(a + left) * scale, (b + top) * scale, (c + left) * scale, (d + top) * scale]
""",
            """
def there(box, height, width, scale, left, top):
    a, b, c, d = np.clip(box, 0, [width, height, width, height])
    return [a * scale + top, b * scale + left, c * scale + top, d * scale + left]
""",
        ],
        "other": """
def there(box, height, width, scale, left, top):
    def across(x):
        return min(max(x, 0), width) * scale + left
    def down(y):
        return min(max(y, 0), height) * scale + top
    return (across(box[0]), down(box[1]), across(box[2]), down(box[3]))
""",
    },
    "prepare.2": {
        "wrong": [
            """
def copies(pictures, side):
    made = []
    for one in pictures:
        rows, columns = (np.linspace(0, length - 1, side).astype(int) for length in one.shape)
        small = one[rows][:, columns]
        made.append((small - small.min()) / np.ptp(small))
    return np.array(made)
""",
            """
def copies(pictures, side):
    return np.array([np.clip(one[:side, :side] / one.max(), 0, 1) for one in pictures])
""",
            """
def copies(pictures, side):
    import cv2

    small = [cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA) for one in pictures]
    return np.array([one > one.mean() for one in small], float)
""",
        ],
        "lazy": [
            """
def copies(pictures, side):
    import cv2

    small = [cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA) for one in pictures]
    return np.array([(one - one.min()) / (one.max() - one.min()) for one in small])
""",
            """
def copies(pictures, side):
    return np.zeros((len(pictures), side, side))
""",
        ],
        "leaking": {
            "others": """
from covidxr.prepare import fit_square


def copies(pictures, side):
    low, high = min(one.min() for one in pictures), max(one.max() for one in pictures)
    return np.array([fit_square((one - low) / (high - low), side)[0] for one in pictures]) / 255
""",
        },
        "other": """
import cv2


def copies(pictures, side):
    answer = np.zeros((len(pictures), side, side))
    for square, one in zip(answer, pictures):
        scale = side / max(one.shape)
        height, width = (max(1, round(length * scale)) for length in one.shape)
        small = cv2.resize((one - one.mean()) / one.std(), (width, height), interpolation=cv2.INTER_AREA)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = np.clip(0.5 + small / 4, 0, 1)
    return answer
""",
    },
    "severity.1": {
        "wrong": [
            """
def kappa(first, second):
    return np.mean(np.array(first) == np.array(second))
""",
            """
def kappa(first, second):
    a, b = np.array(first), np.array(second)
    return 1 - np.abs(a - b).mean() / np.abs(a[:, None] - b).mean()
""",
            """
def kappa(first, second):
    a, b = np.array(first), np.array(second)
    return 1 - ((a - b) ** 2).mean() / ((a - a.mean()) ** 2).mean()
""",
        ],
        "other": """
def kappa(first, second):
    seen = sum((a - b) ** 2 for a, b in zip(first, second)) / len(first)
    chance = sum((a - b) ** 2 for a in first for b in second) / len(first) / len(second)
    return (chance - seen) / chance
""",
    },
    "severity.2": {
        "wrong": [
            """
def fuse(known, new):
    return new.mean(axis=1)
""",
            """
def fuse(known, new):
    return new.median(axis=1)
""",
            """
def fuse(known, new):
    return new.mean(axis=1) + known["extent"].mean()
""",
        ],
        "other": """
def fuse(known, new):
    errors = known[new.columns].sub(known["extent"], axis=0)
    trust = 1 / errors.var()
    return (new - errors.mean()).mul(trust).sum(axis=1) / trust.sum()
""",
    },
    "severity.3": {
        "wrong": [
            "expected = 12",
            "expected = 6",
            "expected = 12 * np.sqrt(2)",
        ],
        "other": "expected = 12 * np.sqrt(0.5)",
    },
    "shortcuts.1": {
        "wrong": [
            """
def name_auc(a, b, c, d):
    return a * d / ((a + c) * (b + d))
""",
            """
def name_auc(a, b, c, d):
    return (a + d) / (a + b + c + d)
""",
            """
def name_auc(a, b, c, d):
    return (a * d + a * b + c * d) / ((a + c) * (b + d))
""",
        ],
        "other": """
def name_auc(a, b, c, d):
    return 0.5 + (a / (a + c) - b / (b + d)) / 2
""",
    },
    "shortcuts.2": {
        "wrong": [
            """
def balanced(sites, sick):
    return [1 / len(set(sites)) / list(sites).count(one) for one in sites]
""",
            """
def balanced(sites, sick):
    cells = list(zip(sites, sick))
    return [1 / cells.count(cell) for cell in cells]
""",
            """
def balanced(sites, sick):
    cells = list(zip(sites, sick))
    return [1 / (2 * len(set(sites))) / cells.count(cell) for cell in cells]
""",
        ],
        "other": """
def balanced(sites, sick):
    table = pd.DataFrame({"site": sites, "sick": sick})
    size = table.groupby(["site", "sick"])["sick"].transform("size")
    return ((1 / size) / (1 / size).sum()).tolist()
""",
    },
    "shortcuts.3": {
        "wrong": [
            """
from covidxr.shortcuts import only_changed
from covidxr.start import interpret
moved = 0
for seed in range(20):
    a, b = only_changed(seed, {"letter": "R", "word": "PORTABLE"}, appearance="negative", size=128)
    moved += (interpret(b).probabilities["negative"] - interpret(a).probabilities["negative"]) / 20
""",
            """
from covidxr.shortcuts import only_changed
from covidxr.start import interpret
moved = 0
for seed in range(20):
    a, b = only_changed(seed, {"letter": "R", "word": "PORTABLE"}, appearance="negative", size=128)
    moved += abs(interpret(b).probabilities["negative"] - interpret(a).probabilities["negative"])
""",
            """
from covidxr.shortcuts import only_changed
from covidxr.start import interpret
moved = 0
for seed in range(20):
    a, b = only_changed(seed, {"letter": "R", "word": "PORTABLE"}, appearance="negative", size=128)
    moved = max(moved, abs(interpret(b).probabilities["negative"] - interpret(a).probabilities["negative"]))
""",
        ],
        "other": """
from covidxr.phantom import random_pose, simulate
from covidxr.start import interpret
from dataclasses import replace
d = []
for s in range(20):
    pose = random_pose(s)
    other = replace(pose, letter="R", word="PORTABLE")
    a, b = [interpret(simulate(s, "negative", 128, pose=p)).probabilities["negative"] for p in (pose, other)]
    d.append(b - a)
moved = np.abs(d).mean()
""",
    },
    "stacking.1": {
        "wrong": [
            """
def weighted(rows, weights):
    return np.mean(rows, axis=0)
""",
            """
def weighted(rows, weights):
    return (np.array(rows) * np.array(weights)[:, None]).sum(0)
""",
            """
def weighted(rows, weights):
    return (np.array(rows) * np.array(weights)[:, None]).mean(0)
""",
        ],
        "other": """
def weighted(rows, weights):
    return [sum(w * r[k] for r, w in zip(rows, weights)) / sum(weights) for k in range(3)]
""",
    },
    "stacking.2": {
        "wrong": [
            """
def geometric(rows):
    return np.exp(np.log(rows).mean(axis=0))
""",
            """
def geometric(rows):
    return np.mean(rows, axis=0)
""",
            """
def geometric(rows):
    p = np.prod(rows, axis=0)
    return p / p.sum()
""",
        ],
        "other": """
def geometric(rows):
    out = []
    for k in range(3):
        v = 1.0
        for r in rows:
            v *= r[k]
        out.append(v ** (1 / len(rows)))
    return [v / sum(out) for v in out]
""",
    },
    "stacking.3": {
        "wrong": [
            """
def places(rows):
    r = np.argsort(np.argsort(np.array(rows), axis=1), axis=1) + 1
    return ((r - 0.5) / len(rows[0])).mean(0)
""",
            """
def places(rows):
    return (pd.DataFrame(rows).T.rank() / len(rows[0])).mean(axis=1).tolist()
""",
            """
def places(rows):
    return np.mean(rows, axis=0)
""",
        ],
        "other": """
def places(rows):
    n = len(rows[0])
    out = []
    for k in range(n):
        total = 0.0
        for row in rows:
            below = sum(v < row[k] for v in row)
            same = sum(v == row[k] for v in row)
            total += (below + same / 2) / n
        out.append(total / len(rows))
    return out
""",
    },
    "start.1": {
        "wrong": [
            """
def rates(ill, called):
    found = sum(i and c for i, c in zip(ill, called))
    return found / max(sum(called), 1), 0.0
""",
            """
def rates(ill, called):
    found = sum(i and c for i, c in zip(ill, called))
    spared = sum(not i and not c for i, c in zip(ill, called))
    return found / len(ill), spared / len(ill)
""",
            """
def rates(ill, called):
    found = sum(i and c for i, c in zip(ill, called))
    spared = sum(not i and not c for i, c in zip(ill, called))
    return spared / max(len(ill) - sum(ill), 1), found / max(sum(ill), 1)
""",
        ],
        "other": """
def rates(ill, called):
    ill, called = np.array(ill), np.array(called)
    sensitivity = called[ill].mean() if ill.any() else 0
    specificity = (~called[~ill]).mean() if (~ill).any() else 0
    return [sensitivity, specificity]
""",
    },
    "start.2": {
        "wrong": [
            """
def screen(known, new):
    return new["said"] >= 0.5
""",
            """
def screen(known, new):
    return new["said"] < known["said"].mean()
""",
            """
def screen(known, new):
    return new["said"] >= known["said"][known["ill"]].min()
""",
        ],
        "lazy": [
            """
def screen(known, new):
    return [True] * len(new)
""",
            """
def screen(known, new):
    thresholds = np.linspace(0, 1, 101)
    right = [((known["said"] >= one) == known["ill"]).mean() for one in thresholds]
    return new["said"] >= thresholds[np.argmax(right)]
""",
        ],
        "leaking": {
            "number": """
def screen(known, new):
    first = known["number"][known["ill"]].max()
    return (new["said"] > 0.3) & (new["number"] <= first)
"""
        },
        "other": """
def screen(known, new):
    ill, said = known["ill"], known["said"]
    costs = [5 * (said[ill] < one).sum() + (said[~ill] >= one).sum() for one in sorted(said)]
    return (new["said"] >= sorted(said)[int(np.argmin(costs))]).tolist()
""",
    },
    "submission.1": {
        "wrong": [
            """
def read(string):
    w = string.split(" ")
    return [(w[s], *map(float, w[s + 1 : s + 6])) for s in range(0, len(w), 6)]
""",
            """
def read(string):
    w = string.split()
    return [tuple(w[s : s + 6]) for s in range(0, len(w), 6)]
""",
            """
def read(string):
    w = string.split()
    return [(w[0], *map(float, w[1:6]))] if w else []
""",
        ],
        "other": """
def read(string):
    words = iter(string.split())
    out = []
    for label in words:
        out.append([label] + [float(next(words)) for _ in range(5)])
    return out
""",
    },
    "submission.2": {
        "wrong": [
            """
def write(rows):
    return " ".join(f"{l} {c:.6g} " + " ".join(f"{v:.2f}" for v in b) for l, c, *b in rows)
""",
            """
def write(rows):
    return " ".join(f"{l} {c} " + " ".join(str(int(v)) for v in b) for l, c, *b in rows)
""",
            """
def write(rows):
    return "".join(f"{l} {c:.6g} " + " ".join(f"{v:.2f}".rstrip("0").rstrip(".") for v in b) for l, c, *b in rows)
""",
        ],
        "other": """
def write(rows):
    def short(v):
        text = format(v, ".2f")
        while text.endswith("0"):
            text = text[:-1]
        return text[:-1] if text.endswith(".") else text
    words = []
    for row in rows:
        words.append(row[0])
        words.append(format(row[1], ".6g"))
        words.extend(short(v) for v in row[2:])
    return " ".join(words)
""",
    },
    "submission.3": {
        "wrong": [
            """
def ids(images):
    return [f"{s}_study" for _, s in images] + [f"{i}_image" for i, _ in images]
""",
            """
def ids(images):
    return [f"{i}_image" for i, _ in images] + [f"{s}_study" for s in dict.fromkeys(s for _, s in images)]
""",
            """
def ids(images):
    return [f"{s}_study" for s in sorted({s for _, s in images})] + [f"{i}_image" for i, _ in images]
""",
        ],
        "other": """
def ids(images):
    out = []
    for _, s in images:
        if s + "_study" not in out:
            out.append(s + "_study")
    for i, _ in images:
        out.append(i + "_image")
    return tuple(out)
""",
    },
    "transfer.1": {
        "wrong": [
            """
def covered(boxes, cells, stride):
    out = np.zeros((cells * stride, cells * stride))
    for a, b, c, d in boxes:
        out[a:c, b:d] = 1
    return out.reshape(cells, stride, cells, stride).mean((1, 3))
""",
            """
def covered(boxes, cells, stride):
    out = np.zeros((cells * stride, cells * stride))
    for a, b, c, d in boxes:
        out[b:d, a:c] += 1
    return out.reshape(cells, stride, cells, stride).mean((1, 3))
""",
            """
def covered(boxes, cells, stride):
    out = np.zeros((cells * stride, cells * stride))
    for a, b, c, d in boxes:
        out[b:d, a:c] = 1
    return out.reshape(cells, stride, cells, stride).max((1, 3))
""",
        ],
        "other": """
def covered(boxes, cells, stride):
    rows = []
    for down in range(cells):
        row = []
        for across in range(cells):
            pixels = 0
            for y in range(down * stride, (down + 1) * stride):
                for x in range(across * stride, (across + 1) * stride):
                    pixels += any(a <= x < c and b <= y < d for a, b, c, d in boxes)
            row.append(pixels / stride**2)
        rows.append(row)
    return rows
""",
    },
    "transfer.2": {
        "wrong": [
            """
def augment(pictures, labels):
    return np.concatenate([pictures, pictures[:, ::-1]]), np.concatenate([labels, labels])
""",
            """
def augment(pictures, labels):
    moved = [np.roll(pictures, (down, across), axis=(1, 2)) for down in (-2, 0, 2) for across in (-2, 0, 2)]
    return np.concatenate(moved), np.repeat(labels, 9)
""",
            """
def augment(pictures, labels):
    rng = np.random.default_rng(0)
    return np.concatenate([pictures, pictures + rng.normal(0, 1, pictures.shape)]), np.tile(labels, 2)
""",
        ],
        "lazy": [
            """
def augment(pictures, labels):
    return pictures, labels
""",
        ],
        "leaking": {
            "label": """
def augment(pictures, labels):
    moved = [np.roll(pictures, (down, across), axis=(1, 2)) for down in (-2, 0, 2) for across in (-2, 0, 2)]
    return np.concatenate(moved) + 0.1 * np.tile(labels, 9)[:, None, None], np.tile(labels, 9)
""",
        },
        "other": """
def augment(pictures, labels):
    made = []
    for down in range(-2, 3):
        for across in range(-2, 3):
            for factor in (0.85, 1, 1.15):
                made.append(np.roll(pictures, (down, across), axis=(1, 2)) * factor)
    return np.concatenate(made), list(labels) * len(made)
""",
    },
    "views.1": {
        "wrong": [
            """
def whole(boxes, crop, sides):
    return [b for b in boxes if b[0] > 0 and b[1] > 0 and b[2] < sides[0] and b[3] < sides[1]]
""",
            """
def whole(boxes, crop, sides):
    return boxes
""",
            """
def whole(boxes, crop, sides):
    return [b for b in boxes if not (crop[0] > 0 and b[0] / sides[0] < 0.01) and not (crop[1] > 0 and b[1] / sides[1] < 0.01)]
""",
        ],
        "other": """
def whole(boxes, crop, sides):
    boxes = np.array(boxes, float).reshape(-1, 4)
    shares = boxes.reshape(-1, 2, 2) / np.array(sides)
    low = (shares[:, 0] < 0.01) & (np.array(crop[:2]) > 0)
    high = (shares[:, 1] > 0.99) & (np.array(crop[2:]) < 1)
    return boxes[~(low | high).any(axis=1)]
""",
    },
    "views.2": {
        "wrong": [
            """
def from_part(boxes, crop, width, height):
    return [[a + crop[0], b + crop[1], c + crop[0], d + crop[1]] for a, b, c, d in boxes]
""",
            """
def from_part(boxes, crop, width, height):
    return [[a - crop[0] * width, b - crop[1] * height, c - crop[0] * width, d - crop[1] * height] for a, b, c, d in boxes]
""",
            """
def from_part(boxes, crop, width, height):
    return [[a + crop[0] * height, b + crop[1] * width, c + crop[0] * height, d + crop[1] * width] for a, b, c, d in boxes]
""",
        ],
        "other": """
def from_part(boxes, crop, width, height):
    t = np.asarray(boxes, float).reshape(-1, 2, 2)
    return (t + np.array([crop[0] * width, crop[1] * height])).reshape(-1, 4)
""",
    },
    "views.3": {
        "wrong": [
            """
def from_half(boxes, width, height):
    return [[width - (c / 2 + width / 2), b / 2, width - (a / 2 + width / 2), d / 2] for a, b, c, d in boxes]
""",
            """
def from_half(boxes, width, height):
    return [[a / 2 + width / 2, b / 2, c / 2 + width / 2, d / 2] for a, b, c, d in boxes]
""",
            """
def from_half(boxes, width, height):
    return [[(width - c) / 2, b / 2, (width - a) / 2, d / 2] for a, b, c, d in boxes]
""",
        ],
        "other": """
def from_half(boxes, width, height):
    t = np.asarray(boxes, float).reshape(-1, 4) / 2
    return np.column_stack([width - t[:, 2], t[:, 1], width - t[:, 0], t[:, 3]])
""",
    },
}
