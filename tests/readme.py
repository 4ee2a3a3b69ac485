"Make README.md from nbs/index.ipynb: `python tests/readme.py`."

import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def readme_text() -> str:
    "The text of README.md: the markdown cells of the index notebook and the code cells that are not hidden"
    parts = []
    for cell in json.loads((ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            source = source.replace("](ko.qmd)", "](README.ko.md)")
            # links start from the repository's root, not from nbs/
            parts.append(re.sub(r"\]\((images/|[\w-]+\.ipynb|engine/[\w-]+\.ipynb|[\w-]+\.qmd)", r"](nbs/\1", source))
        elif not source.startswith("#| hide"):
            parts.append(f"```python\n{source}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme_text(), encoding="utf-8")
