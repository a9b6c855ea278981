"""Generates the messages and stubs of the gRPC API from its `.proto`: `python tests/grpc_code.py`, with uv on the path.

By a compiler of its own, older than the one of the environment: the code it makes works with Protobuf from 6.31 on, and
`pyproject.toml` says so. `test_grpc_code.py` proves that the code is that of the `.proto`.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROTO = "feature_store/serving/grpc/v1/features.proto"
COMPILER = "grpcio-tools==1.76.0"


def generate(into: Path) -> None:
    """Write the code."""
    uv = Path(sys.executable).with_name("uv")
    outputs = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python")]
    command = [uv, "tool", "run", "--quiet", "--from", COMPILER, "python", "-m", "grpc_tools.protoc"]
    subprocess.run([*command, f"-I{ROOT}", *outputs, str(ROOT / PROTO)], check=True)


if __name__ == "__main__":
    generate(ROOT)
