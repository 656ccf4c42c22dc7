# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""The oldest versions that setup.cfg admits, one `name==version` a line; arguments are the names of extras to add."""

import configparser
import re
import sys
from pathlib import Path


def oldest_requirements(setup_cfg: Path, extras: list[str]) -> list[str]:
    """Reads the lower bounds (`>=` or `==`) of install_requires and of the extras; a requirement without one is an error."""
    parser = configparser.ConfigParser()
    parser.read_string(setup_cfg.read_text(encoding="utf-8"))
    lists = [parser["options"]["install_requires"], *(parser["options.extras_require"][extra] for extra in extras)]
    pinned = []
    for requirement in "\n".join(lists).split("\n"):
        if requirement:
            found = re.fullmatch(r"([\w.-]+)[>=]=([\w.]+)(,[<!]=?[\w.]+)*", requirement)
            if not found:
                raise SystemExit(f"error: {setup_cfg}: {requirement!r} has no lower bound of the form name>=version")
            pinned.append(f"{found[1]}=={found[2]}")
    return pinned


if __name__ == "__main__":
    print(*oldest_requirements(Path(__file__).resolve().parents[1] / "setup.cfg", sys.argv[1:]), sep="\n")
