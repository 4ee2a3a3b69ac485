"Answers that learners give: three wrong ones and a right one in another style, for every exercise."

ANSWERS: dict[str, dict] = {
    "app.1": {
        "wrong": [
            """
def safe(text):
    return text.replace("<", "&lt;").replace(">", "&gt;")
""",
            """
def safe(text):
    for letter, written in (("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#x27;"), ("&", "&amp;")):
        text = text.replace(letter, written)
    return text
""",
            """
def safe(text):
    return "".join(letter for letter in text if letter not in "<>&")
""",
        ],
        "other": """
def safe(text):
    from html import escape
    return escape(text)
""",
    },
    "app.2": {
        "wrong": [
            """
def answers(known, new):
    names = ["negative", "typical", "indeterminate", "atypical"]
    best, sure = new[names].idxmax(axis=1), new[names].max(axis=1)
    return [name if top < 0.5 else None for name, top in zip(best, sure)]
""",
            """
def answers(known, new):
    return ["atypical"] * len(new)
""",
            """
def answers(known, new):
    names = ["negative", "typical", "indeterminate", "atypical"]
    return new[names].idxmin(axis=1).tolist()
""",
        ],
        "other": """
def answers(known, new):
    names = ["negative", "typical", "indeterminate", "atypical"]
    right = known[names].idxmax(axis=1) == known["label"]
    sure, best = known[names].max(axis=1), new[names].idxmax(axis=1)
    grid = np.linspace(0, 1.01, 102)
    worth = [(right[sure >= limit] * 5 - 4).sum() for limit in grid]
    return list(best.where(new[names].max(axis=1) >= grid[int(np.argmax(worth))], None))
""",
        "lazy": [
            """
def answers(known, new):
    return [None] * len(new)
""",
            """
def answers(known, new):
    return new[["negative", "typical", "indeterminate", "atypical"]].idxmax(axis=1).tolist()
""",
        ],
        "leaking": {
            "number": """
def answers(known, new):
    order = known.sort_values("number")["label"].tolist()
    return [order[place - 1] for place in new["number"]]
"""
        },
    },
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
def recalibrate(known, new):
    return new
""",
            """
def recalibrate(known, new):
    known = known[~known["learnt"]]
    shares = known["truth"].value_counts().reindex(range(4), fill_value=0).to_numpy() / len(known)
    weighted = new * shares
    return weighted.div(weighted.sum(axis=1), axis=0)
""",
            """
def recalibrate(known, new):
    known = known[~known["learnt"]]
    shares = known["truth"].value_counts().reindex(range(4), fill_value=0).to_numpy() / len(known)
    return new * shares
""",
        ],
        "lazy": [
            """
def recalibrate(known, new):
    known = known[~known["learnt"]]
    shares = known["truth"].value_counts().reindex(range(4), fill_value=0).to_numpy() / len(known)
    return np.tile(shares, (len(new), 1))
""",
        ],
        "leaking": {
            "learnt": """
def recalibrate(known, new):
    from sklearn.linear_model import LogisticRegression
    names = list(new.columns)
    model = LogisticRegression(max_iter=500).fit(np.log(known[names]), known["truth"])
    return model.predict_proba(np.log(new))
""",
        },
        "other": """
def recalibrate(known, new):
    from sklearn.linear_model import LogisticRegression
    known, names = known[~known["learnt"]], list(new.columns)
    model = LogisticRegression(max_iter=500).fit(np.log(known[names]), known["truth"])
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
def threshold(boxes, opacities):
    valid = boxes[boxes["split"] == "valid"]
    return valid.loc[valid["opacity"] != "", "confidence"].min()
""",
            """
def threshold(boxes, opacities):
    return boxes.loc[boxes["split"] == "valid", "confidence"].max()
""",
            """
def threshold(boxes, opacities):
    return (boxes["split"] == "valid").sum()
""",
        ],
        "lazy": [
            """
def threshold(boxes, opacities):
    return 0.3
"""
        ],
        "leaking": {
            "train": """
def threshold(boxes, opacities):
    def f1(least):
        shown = boxes.loc[boxes["confidence"] >= least, "opacity"]
        return 2 * len(set(shown) - {""}) / (len(shown) + sum(opacities.values()))
    return max(np.linspace(0.01, 0.99, 99), key=f1)
""",
        },
        "other": """
def threshold(boxes, opacities):
    valid = boxes[boxes["split"] == "valid"].sort_values("confidence", ascending=False)
    hits = (valid["opacity"] != "") & ~valid["opacity"].duplicated()
    f1 = 2 * hits.cumsum() / (np.arange(1, len(valid) + 1) + opacities["valid"])
    return float(valid["confidence"].iloc[int(np.argmax(f1))])
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
    "ensemble.2": {
        "wrong": [
            """
def weights(tables, truth, seen):
    from covidxr.ensemble import class_score
    scores = {name: class_score(table, truth) for name, table in tables.items() if name not in seen}
    return {name: float(name == max(scores, key=scores.get)) for name in tables}
""",
            """
def weights(tables, truth, seen):
    return dict.fromkeys(tables, 1.0)
""",
            """
def weights(tables, truth, seen):
    return [0.25] * 4
""",
        ],
        "lazy": [
            """
def weights(tables, truth, seen):
    return {name: float(name not in seen) for name in tables}
"""
        ],
        "leaking": {
            "lost": """
def weights(tables, truth, seen):
    from covidxr.ensemble import class_score
    return {name: max(class_score(table, truth) - 0.35, 0) for name, table in tables.items()}
""",
        },
        "other": """
def weights(tables, truth, seen):
    from covidxr.ensemble import class_score
    return {name: 0 if name in seen else max(class_score(table, truth) - 0.35, 0) for name, table in tables.items()}
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
def hottest(known, new):
    together = new["maps"].mean(axis=1)
    return np.array([np.unravel_index(one.argmax(), one.shape) for one in together])
""",
            """
def hottest(known, new):
    return np.array([np.unravel_index(one.argmax(), one.shape) for one in new["maps"][:, 1]])
""",
            """
def hottest(known, new):
    return new["maps"].mean(axis=1).reshape(120, -1).argmax(axis=1)
""",
        ],
        "lazy": [
            """
def hottest(known, new):
    often = known["masks"].mean(axis=0)
    return [np.unravel_index(often.argmax(), often.shape)] * len(new["maps"])
""",
        ],
        "leaking": {
            "patients": """
def hottest(known, new):
    answers = []
    for number, maps in zip(new["patients"], new["maps"]):
        again = np.flatnonzero(known["patients"] == number)
        if len(again):
            answers.append(np.argwhere(known["masks"][again[0]])[2])
        else:
            answers.append(np.unravel_index(maps[0].argmax(), maps[0].shape))
    return np.array(answers)
""",
        },
        "other": """
def hottest(known, new):
    sums = np.log(np.maximum(new["maps"], 1e-9)).sum(axis=1)
    flat = sums.reshape(len(sums), -1).argmax(axis=1)
    return [(int(one) // 16, int(one) % 16) for one in flat]
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
def report(valid, test):
    from sklearn.metrics import roc_auc_score
    return "model 1", roc_auc_score(test["ill"], test["model 1"])
""",
            """
def report(valid, test):
    from sklearn.metrics import roc_auc_score
    models = [name for name in valid.columns if name.startswith("model")]
    areas = {name: roc_auc_score(valid["ill"], valid[name]) for name in models}
    return max(areas, key=areas.get), np.mean(list(areas.values()))
""",
            """
def report(valid, test):
    from sklearn.metrics import roc_auc_score
    return roc_auc_score(test["ill"], test["model 1"])
""",
        ],
        "lazy": [
            """
def report(valid, test):
    from sklearn.metrics import roc_auc_score
    models = [name for name in valid.columns if name.startswith("model")]
    areas = {name: roc_auc_score(valid["ill"], valid[name]) for name in models}
    return max(areas, key=areas.get), max(areas.values())
""",
        ],
        "leaking": {
            "test": """
def report(valid, test):
    from sklearn.metrics import roc_auc_score
    both = pd.concat([valid, test])
    models = [name for name in valid.columns if name.startswith("model")]
    areas = {name: roc_auc_score(both["ill"], both[name]) for name in models}
    return max(areas, key=areas.get), max(areas.values())
""",
        },
        "other": """
def report(valid, test):
    def area(table, name):
        ill, well = table[name][table["ill"] == 1].to_numpy(), table[name][table["ill"] == 0].to_numpy()
        return (ill[:, None] > well).mean()
    best = np.argmax([area(valid, f"model {number}") for number in range(1, 31)])
    return [f"model {best + 1}", area(test, f"model {best + 1}")]
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
    "scale.1": {
        "wrong": [
            """
def speedup(alone, shared, start, cores):
    return cores
""",
            """
def speedup(alone, shared, start, cores):
    return (alone + shared) / (alone + start + shared / cores)
""",
            """
def speedup(alone, shared, start, cores):
    if cores == 1:
        return 1
    return (alone + shared) / (alone + start * cores + shared / cores)
""",
        ],
        "other": """
def speedup(alone, shared, start, cores):
    began = start if cores > 1 else 0
    seconds = sum([alone, began, shared / cores])
    return 1 / (seconds / (alone + shared))
""",
    },
    "scale.2": {
        "wrong": [
            """
def plan(known, new, workers):
    blocks = np.arange(len(new)) * workers // len(new)
    chosen = np.zeros(len(new), int)
    chosen[np.argsort(-new["megapixels"].to_numpy())] = blocks
    return chosen
""",
            """
def plan(known, new, workers):
    slow = known.groupby("syntax")["seconds"].mean().idxmax()
    return [0 if syntax == slow else 1 for syntax in new["syntax"]]
""",
            """
def plan(known, new, workers):
    return list(np.random.permutation(len(new)) % workers)
""",
        ],
        "other": """
def plan(known, new, workers):
    import heapq

    fit = {name: np.polyfit(rows["megapixels"], rows["seconds"], 1) for name, rows in known.groupby("syntax")}
    seconds = [np.polyval(fit[row.syntax], row.megapixels) for row in new.itertuples()]
    heap, answer = [(0.0, worker) for worker in range(workers)], [0] * len(new)
    for row in sorted(range(len(new)), key=lambda row: seconds[row], reverse=True):
        load, worker = heapq.heappop(heap)
        answer[row] = worker
        heapq.heappush(heap, (load + seconds[row], worker))
    return answer
""",
        "lazy": [
            """
def plan(known, new, workers):
    return [0] * len(new)
""",
            """
def plan(known, new, workers):
    return [row % workers for row in range(len(new))]
""",
        ],
        "leaking": {
            "log": """
def plan(known, new, workers):
    load, chosen = np.zeros(workers), np.zeros(len(new), int)
    seconds = np.sort(known["seconds"])[new["log"] * 5 - 1]
    for row in np.argsort(-seconds):
        chosen[row] = np.argmin(load)
        load[chosen[row]] += seconds[row]
    return chosen
"""
        },
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
    readers = ["Ahn", "Bell", "Cruz", "Diaz", "Ekow"]
    return new[min(readers, key=lambda name: (known[name] - known["extent"]).abs().mean())]
""",
            """
def fuse(known, new):
    readers = ["Ahn", "Bell", "Cruz", "Diaz", "Ekow"]
    columns = [np.column_stack([table[readers], np.ones(len(table))]) for table in (known, new)]
    return columns[1] @ np.linalg.lstsq(columns[0], known["extent"], rcond=None)[0]
""",
            """
def fuse(known, new):
    return known[["Ahn", "Bell"]].mean(axis=1)
""",
        ],
        "lazy": [
            """
def fuse(known, new):
    return np.full(len(new), known["extent"].median())
""",
            """
def fuse(known, new):
    readers = ["Ahn", "Bell", "Cruz", "Diaz", "Ekow"]
    return new[readers].mean(axis=1) - (known[readers].mean(axis=1) - known["extent"]).mean()
""",
        ],
        "leaking": {
            "letter": """
def fuse(known, new):
    readers = ["Ahn", "Bell", "Cruz", "Diaz", "Ekow", "place", "letter"]
    columns = [np.column_stack([table[readers], np.ones(len(table))]) for table in (known, new)]
    return columns[1] @ np.linalg.lstsq(columns[0], known["extent"], rcond=None)[0]
""",
        },
        "other": """
def fuse(known, new):
    said, weights = [], []
    for name in ["Ahn", "Bell", "Cruz", "Diaz", "Ekow"]:
        line = np.polyfit(known["place"], known[name] - known["extent"], 1)
        rest = known[name] - known["extent"] - np.polyval(line, known["place"])
        said.append(new[name] - np.polyval(line, new["place"]))
        weights.append(1 / rest.var())
    return np.average(said, axis=0, weights=weights).tolist()
""",
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
def sick_at_c(known, before, after, new):
    from sklearn.linear_model import LogisticRegression
    names = new.columns.drop("site")
    return LogisticRegression(C=100).fit(known[names], known["sick"]).decision_function(new[names])
""",
            """
def sick_at_c(known, before, after, new):
    return new["x1"] + new["x2"]
""",
            """
def sick_at_c(known, before, after, new):
    return new["site"]
""",
        ],
        "lazy": [
            """
def sick_at_c(known, before, after, new):
    from sklearn.linear_model import LogisticRegression
    names = new.columns.drop("site")
    return LogisticRegression().fit(known[names], known["sick"]).decision_function(new[names])
""",
            """
def sick_at_c(known, before, after, new):
    return np.zeros(len(new))
""",
        ],
        "leaking": {
            "lost": """
def sick_at_c(known, before, after, new):
    from sklearn.linear_model import LogisticRegression
    names = new.columns.drop("site")
    return LogisticRegression().fit(known[names], known["site"] == "A").predict_proba(new[names])[:, 1]
""",
        },
        "other": """
def sick_at_c(known, before, after, new):
    from sklearn.linear_model import LogisticRegression
    at_a, names = known[known["site"] == "A"], new.columns.drop("site")
    return LogisticRegression(C=0.1).fit(at_a[names], at_a["sick"]).predict_proba(new[names])[:, 1]
""",
    },
    "stacking.1": {
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
    "stacking.2": {
        "wrong": [
            """
def stacked(known, new):
    return new["one"] + new["two"]
""",
            """
def stacked(known, new):
    return new.median(axis=1)
""",
            """
def stacked(known, new):
    return new
""",
        ],
        "lazy": [
            """
def stacked(known, new):
    return new.mean(axis=1)
""",
            """
def stacked(known, new):
    return [0.5] * len(new)
""",
        ],
        "leaking": {
            "patients": """
def stacked(known, new):
    from sklearn.linear_model import LogisticRegression
    names = list(new.columns)
    return LogisticRegression(C=0.1).fit(known[names], known["ill"]).predict_proba(new[names])[:, 1]
""",
        },
        "other": """
def stacked(known, new):
    folds = known.groupby("patient_id")["fold"].nunique()
    apart = known[known["patient_id"].isin(folds[folds == 1].index)]
    names = list(new.columns)
    reach = apart[apart["ill"] == 1][names].mean() - apart[apart["ill"] == 0][names].mean()
    return (new @ reach.clip(lower=0)).to_numpy()
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
def none_chance(known, new):
    return 1 - new["surest"]
""",
            """
def none_chance(known, new):
    return (new["empty"] * new["surest"]) ** 0.5
""",
            """
def none_chance(known, new):
    return new["empty"] - new["surest"]
""",
        ],
        "lazy": [
            """
def none_chance(known, new):
    return new["empty"]
""",
            """
def none_chance(known, new):
    return np.full(len(new), known["none"].mean())
""",
        ],
        "leaking": {
            "row": """
def none_chance(known, new):
    share = known["none"].mean()
    return new["empty"] / 2 + (new["row"] < share * len(new)) / 2
""",
        },
        "other": """
def none_chance(known, new):
    from sklearn.linear_model import LogisticRegression
    columns = ["empty", "surest"]
    return LogisticRegression().fit(known[columns], known["none"]).predict_proba(new[columns])[:, 1].tolist()
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
    "views.2": {
        "wrong": [
            """
def chances(known, new):
    return new["as it is"]
""",
            """
def chances(known, new):
    return (new["as it is"] + new["mirrored"]) / 2
""",
            """
def chances(known, new):
    return known.drop(columns=["image_id", "ill"]).mean(axis=1)
""",
        ],
        "lazy": [
            """
def chances(known, new):
    return new.drop(columns="image_id").mean(axis=1)
""",
            """
def chances(known, new):
    return np.full(len(new), 0.5)
""",
        ],
        "leaking": {
            "image_id": """
def chances(known, new):
    odd = known["ill"][known["image_id"] % 2 == 1].mean() > 0.5
    return new["as it is"] + (new["image_id"] % 2 == odd)
""",
        },
        "other": """
def chances(known, new):
    from sklearn.linear_model import LogisticRegression
    def logits(table):
        share = table.drop(columns=["image_id", "ill"], errors="ignore")
        return np.log(share / (1 - share))
    return LogisticRegression().fit(logits(known), known["ill"]).predict_proba(logits(new))[:, 1].tolist()
""",
    },
}
