"""Say, in one go, what this machine lacks for `make`, and the command that installs it.

Runs before anything is installed, on whatever Python the machine has: standard library only, and
no syntax that an old Python refuses, so that an old Python is told so in words.
"""

import os
import shutil
import sys
import sysconfig

OLDEST = (3, 10)
NEWEST = (3, 13)  # what the simulations stand on has no releases for newer ones


def has_module(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def main():
    version = "%d.%d" % sys.version_info[:2]
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        sys.stderr.write(
            "poco_ros needs Python %d.%d to %d.%d; %s is Python %s.\nRemedy: install one of them"
            " beside it, with its venv and dev packages, and name it: make PYTHON=python3.12 ...\n"
            % (OLDEST + NEWEST + (sys.executable, version)))
        return 1

    missing = []  # (what for, Debian package)
    if not (has_module("venv") and has_module("ensurepip")):
        missing.append(("a virtual environment (Python's venv)", "python3-venv"))
    header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
    if not os.path.exists(header):
        missing.append(("Python's headers, to build the interfaces (%s)" % header, "python3-dev"))
    if not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
        missing.append(("a C++ compiler, to build the interfaces", "g++"))
    for what, _ in missing:
        sys.stderr.write("missing: %s\n" % what)
    if missing:
        sys.stderr.write("Remedy: sudo apt-get install %s\n"
                         % " ".join(package for _, package in missing))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
