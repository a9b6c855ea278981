"""What some tests need and a machine may lack: a run that skipped them says so loudly at its end (`conftest.py`)."""

import shutil

NODE = shutil.which("node")
NO_NODE = "JavaScript was not tested: there is no `node`"
NO_OTHER_PYTHON = "other Pythons were not tested"
