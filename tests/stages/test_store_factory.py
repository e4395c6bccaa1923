"""What opening a store costs: a local run pays for no S3 client."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from lorafinetune_stages.store.factory import open_store
open_store(sys.argv[1], None).write("a", b"content")
sys.exit(", ".join({"boto3", "botocore", "obstore"} & set(sys.modules)) or 0)
"""


def test_a_directory_store_imports_no_s3_client(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, f"file://{tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "a").read_bytes() == b"content"
