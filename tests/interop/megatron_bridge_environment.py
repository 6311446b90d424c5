"""Prints the path of a Python and a folder for PYTHONPATH that has megatron-bridge; makes the folder once, beside the environment of
torch_dist_environment.py, which must be there already.

megatron-bridge asks for packages that build kernels for GPUs, so it is installed without what it asks for, and megatron_bridge_peer.py stands in
for them: configuration classes are read, nothing is trained. Exits with 1 and one line if there is no such environment or PyPI cannot be reached.
"""

import fcntl
import subprocess
import sys

from torch_dist_environment import VENV, works

VERSION = "0.3.1"
FOLDER = VENV.parent / f"bridge-{VERSION}"
# What configuration classes import; torch and numpy are the environment's.
PACKAGES = f"""megatron-bridge=={VERSION} megatron-core==0.16.1 omegaconf==2.3.0 hydra-core==1.3.2 antlr4-python3-runtime==4.9.3
transformers==4.57.6 huggingface_hub==0.36.0 tokenizers==0.22.2 safetensors tqdm regex requests urllib3 certifi idna charset_normalizer rich
markdown-it-py mdurl pygments six""".split()


def main():
    if not works(VENV / "bin/python"):
        sys.exit("no Python with torch: python3 tests/interop/torch_dist_environment.py --install")
    with open(VENV.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # The mark is written last, so half an installation is made again.
        mark = FOLDER / "installed"
        if not mark.exists():
            install = [VENV / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
            if subprocess.run([*install, "--upgrade", "--target", FOLDER, *PACKAGES], stdout=sys.stderr).returncode:
                sys.exit(f"pip could not install megatron-bridge {VERSION}")
            mark.touch()
    print(VENV / "bin/python")
    print(FOLDER)


if __name__ == "__main__":
    main()
