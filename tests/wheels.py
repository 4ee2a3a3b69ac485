"""Does everything that covidxr requires install from wheels alone? `python tests/wheels.py [--extras all] [--python 3.12]`.

Resolves the package's requirements for Python 3.11 to 3.14 on Linux, macOS (arm64) and Windows, without building anything,
and prints a table. It needs uv and a package index; nothing is installed. The exit code is 1 where one does not resolve.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = {"Linux": "x86_64-manylinux_2_28", "macOS": "aarch64-apple-darwin", "Windows": "x86_64-pc-windows-msvc"}


def requirements(extras: list[str]) -> list[str]:
    "The base requirements and those of some extras, from settings.ini"
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    settings = config["DEFAULT"]
    names = [name.removesuffix("_requirements") for name in settings if name.endswith("_requirements")]
    chosen = [name for name in names if name != "dev"] if "all" in extras else extras
    texts = [settings["requirements"], *(settings[f"{name}_requirements"] for name in chosen)]
    lines = {line.strip() for text in texts for line in text.splitlines()}
    return sorted(line for line in lines if line and not line.startswith("covidxr["))


def resolve(wanted: list[str], python: str, platform: str, resolution: str) -> str:
    "Resolve for one Python and platform from wheels alone: nothing where that works, else what stands in the way"
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "requirements.in"
        listed.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        command = ["uv", "pip", "compile", "--quiet", "--no-header", "--only-binary", ":all:"]
        command += ["--python-version", python, "--python-platform", platform, "--resolution", resolution, str(listed)]
        environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}  # the oldest macOS that torch has a wheel for
        answer = subprocess.run(command, capture_output=True, text=True, env=environment)
    if answer.returncode == 0:
        return ""
    return " ".join(answer.stderr.split())[-300:]


def main() -> int:
    "Print the table"
    given = argparse.ArgumentParser(description="Resolve what covidxr requires, from wheels alone")
    given.add_argument("--extras", nargs="*", default=["all"])
    given.add_argument("--python", nargs="+", default=PYTHONS, choices=PYTHONS)
    given.add_argument("--resolution", default="highest", choices=["highest", "lowest-direct"])
    options = given.parse_args()
    wanted = requirements(options.extras)
    print(f"{len(wanted)} requirements ({options.resolution})\n\n| Python | " + " | ".join(PLATFORMS) + " |")
    print("|---|" + "---|" * len(PLATFORMS))
    faults = {}
    for python in options.python:
        said = {name: resolve(wanted, python, platform, options.resolution) for name, platform in PLATFORMS.items()}
        faults |= {(python, name): fault for name, fault in said.items() if fault}
        print(f"| {python} | " + " | ".join("no" if fault else "yes" for fault in said.values()) + " |", flush=True)
    for (python, name), fault in faults.items():
        print(f"\nPython {python}, {name}: {fault}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
