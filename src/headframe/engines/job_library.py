"""What `import headframe` finds in a job: `headframe.log`, and the whole package where the job has installed it."""

from __future__ import annotations

from pathlib import Path

from headframe import __version__, report

_BEYOND = f"""
from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
__version__ = {__version__!r}
"""


def lay_out(folder: Path) -> Path:
    """Write the library into `folder`, which goes on the path of jobs; everybody may read it."""
    package = folder / "headframe"
    package.mkdir(parents=True, exist_ok=True)
    for place in (folder, package):
        place.chmod(0o755)
    fresh = package / ".new"
    fresh.write_text(Path(report.__file__).read_text("utf-8") + _BEYOND, "utf-8")
    fresh.chmod(0o644)
    fresh.replace(package / "__init__.py")
    return folder
