"Supplies the metadata that pyproject.toml declares dynamic, from settings.ini."

import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]


def lines(name: str) -> list[str]:
    "The lines of one setting, without blank ones"
    return [line.strip() for line in settings.get(name, "").splitlines() if line.strip()]


# One version for the package, its metadata and nbdev, which reads it from the package's __init__.py.
init = here / "covidxr" / "__init__.py"
if f'__version__ = "{settings["version"]}"' not in init.read_text(encoding="utf-8"):
    raise SystemExit(f"covidxr/__init__.py and settings.ini differ in the version; set both to {settings['version']}")


class BuildWithLessons(build_py):
    "The package with its lessons inside: `covidxr course` finds them there, where there is no clone"

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a clone has its lessons in nbs/
            return
        target = Path(self.build_lib) / "covidxr" / "lessons"
        texts = [(path, path.relative_to(here)) for path in (here / "i18n").rglob("*.po")]
        pages = [*(here / "nbs").glob("*.ipynb"), *(here / "nbs" / "images").iterdir()]
        for path, name in [*texts, *((path, path.relative_to(here / "nbs")) for path in pages)]:
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


extras = {name.removesuffix("_requirements"): lines(name) for name in settings if name.endswith("_requirements")}
users = sorted(name for name in extras if name != "dev")
extras["all"] = [f"covidxr[{','.join(users)}]"]
extras["dev"] += ["covidxr[all]"]
readme = here / "README.md"

setup(
    version=settings["version"],
    description=settings["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    license=settings["license"],
    author=settings["author"],
    keywords=settings["keywords"].split(", "),
    python_requires=f">={settings['min_python']}",
    install_requires=lines("requirements"),
    extras_require=extras,
    entry_points={
        "console_scripts": lines("console_scripts"),
        "nbdev": ["covidxr=covidxr._modidx:d"],
    },
    packages=find_packages(include=["covidxr", "covidxr.*"]),
    cmdclass={"build_py": BuildWithLessons},
    include_package_data=True,
)
