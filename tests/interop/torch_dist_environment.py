"""Prints the path of a Python that has torch and megatron-core; makes the environment once, under the user's cache.

    python3 torch_dist_environment.py             prints the interpreter
    python3 torch_dist_environment.py --install   the same, and makes it even if that takes gigabytes
    python3 torch_dist_environment.py VERSION     prints a folder for PYTHONPATH that has this megatron-core instead

megatron-core needs Python 3.12. The CUDA libraries that the torch of PyPI links against are taken from an environment beside, if one
has them, which spares gigabytes; else nothing is installed unasked. Exits with 1 and one line if there is no such Python or PyPI cannot be reached.
"""

import fcntl
import glob
import os
import pathlib
import subprocess
import sys

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "trestle"
VENV = CACHE / "megatron" / "venv"
REQUIREMENTS = pathlib.Path(__file__).with_name("torch_dist_requirements.txt")
CHECK = "import sys; assert sys.version_info >= (3, 12); import torch, triton, numpy, psutil, megatron.core.dist_checkpointing"


def works(interpreter, code=CHECK):
    try:
        return subprocess.run([interpreter, "-c", code], capture_output=True).returncode == 0
    except OSError:
        return False


def interpreters():
    yield from ("python3.12", "python3.13", "python3")
    yield from sorted(glob.glob(str(pathlib.Path.home() / ".pyenv/versions/3.1[23]*/bin/python3")))


def make():
    new_enough = "import sys; assert (3, 12) <= sys.version_info < (3, 14)"
    base = next((i for i in interpreters() if works(i, new_enough)), None)
    if base is None:
        sys.exit("no Python 3.12 or 3.13")
    cuda = glob.glob(str(CACHE / "venv/lib/python3*/site-packages/nvidia"))
    if not cuda and "--install" not in sys.argv:
        sys.exit("torch is large and not installed unasked: python3 tests/interop/torch_dist_environment.py --install")
    subprocess.run([base, "-m", "venv", "--clear", VENV], check=True, stdout=sys.stderr)
    install = [VENV / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", REQUIREMENTS]
    if cuda:
        site = next(iter((VENV / "lib").glob("python3*"))) / "site-packages"
        (site / "nvidia").symlink_to(cuda[0])
        install.append("--no-deps")
    if subprocess.run(install, stdout=sys.stderr).returncode:
        sys.exit("pip could not install the packages")


def main():
    VENV.parent.mkdir(parents=True, exist_ok=True)
    with open(VENV.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not works(VENV / "bin/python"):
            make()
            if not works(VENV / "bin/python"):
                sys.exit("torch and megatron-core were installed and cannot be imported")
        versions = [argument for argument in sys.argv[1:] if argument != "--install"]
        print(older(versions[0]) if versions else VENV / "bin/python")


def older(version):
    folder = VENV.parent / version
    if not (folder / "megatron").exists():
        install = [VENV / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        if subprocess.run([*install, "--target", folder, f"megatron-core=={version}"], stdout=sys.stderr).returncode:
            sys.exit(f"pip could not install megatron-core {version}")
    return folder


if __name__ == "__main__":
    main()
