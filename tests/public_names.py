"""The names that users are meant to use, as a table: `python tests/public_names.py`.

They stand in `__all__` of the modules that lie at the top of the package, the doors; the twenty names of `import covidxr`
are among them. What a module of the engine room (covidxr/base/, covidxr/boxes/, …) calls public is for other modules, not
for users, and does not count. tests/doors/test_house.py holds the limit.

A name that no user calls is kept out of a door's `__all__` by `#| exporti` in its notebook, or stays out of `_all_`.
"""

import ast
from pathlib import Path

import covidxr

LIMIT = 130
PACKAGE = Path(covidxr.__file__).parent


def _offered(module: Path) -> list[str]:
    "What a module's `__all__` lists; the module is not imported, as some bring PyTorch with them"
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


def public_names() -> dict[str, list[str]]:
    "The names that each door offers, by module"
    doors = [path.stem for path in sorted(PACKAGE.glob("*.py")) if not path.stem.startswith("_")]
    return {door: _offered(PACKAGE / f"{door}.py") for door in doors}


def main() -> None:
    "Print the table"
    print("| module | names | which; those of `import covidxr` in bold |\n|---|---:|---|")
    names = public_names()
    for door, offered in names.items():
        shown = [f"**{name}**" if covidxr._MODULES.get(name) == door else name for name in offered]
        print(f"| {door} | {len(offered)} | {', '.join(shown)} |")
    print(f"| all | {sum(map(len, names.values()))} | {LIMIT} at most |")


if __name__ == "__main__":
    main()
