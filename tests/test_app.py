"""The composition root: what is there when it hands the app over."""

import json
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import json, sys
from pathlib import Path
from mcp_server.app import open_app
from mcp_server.settings import Settings

settings = Settings(data_dir=Path(sys.argv[1]), log_level="error")
app = open_app(settings, roles_by_tool={}, job_kinds=frozenset(), with_worker=False)
modules = [module for name, module in list(sys.modules.items()) if name.split(".")[0] in ("sklearn", "scipy")]
halfway = [module.__name__ for module in modules if getattr(module.__spec__, "_initializing", False)]
app.close()
print(json.dumps({"halfway": halfway, "there": "sklearn.svm" in sys.modules and "scipy.stats" in sys.modules}))
"""


def test_no_call_can_meet_a_library_that_another_thread_is_still_loading(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )

    assert json.loads(done.stdout.splitlines()[-1]) == {"halfway": [], "there": True}
