"""Where packages come from on this machine: uv's own settings, or pip's, put into uv's words.

uv does not read pip's settings. When the machine has none for uv but has some for pip (environment or files), they
are translated, so that an administrator who set up a mirror for pip has set it up for jobs too.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

_UV_SAYS_WHERE = (
    "UV_CONFIG_FILE",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_NO_INDEX",
)
_PASSED_ON = (
    *_UV_SAYS_WHERE,
    "UV_CONSTRAINT",
    "UV_EXCLUDE_NEWER",
    "UV_HTTP_TIMEOUT",
    "UV_INDEX_STRATEGY",
    "UV_INSECURE_HOST",
    "UV_KEYRING_PROVIDER",
    "UV_OFFLINE",
    "UV_OVERRIDE",
    "UV_TORCH_BACKEND",
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "all_proxy",
    "https_proxy",
    "http_proxy",
    "no_proxy",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "CC",
    "CXX",
    "CUDA_HOME",
)
_PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}


def settings(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variables that a build gets: where packages come from, proxies, certificates, compilers.

    Nothing else of Headframe's environment goes to a build, because build code is a tenant's. `UV_NO_INDEX` is a
    word of ours: whoever calls uv must turn it into the option.
    """
    chosen = {name: environ[name] for name in _PASSED_ON if environ.get(name)}
    own_file = (
        Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/nonexistent")) / ".config") / "uv/uv.toml"
    )
    if "UV_CONFIG_FILE" not in chosen and own_file.is_file():
        chosen["UV_CONFIG_FILE"] = str(own_file)
    chosen.setdefault("UV_SYSTEM_CERTS", "true")
    if any(name in chosen for name in _UV_SAYS_WHERE) or Path("/etc/uv/uv.toml").is_file():
        return chosen
    translated = _from_pip(environ)
    for name, value in translated.items():
        chosen.setdefault(name, value)
    if "UV_INDEX" in translated:
        # pip takes the best version of all its indexes, uv by default only looks at the first that has the name.
        chosen.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return chosen


def local_paths(environment: Mapping[str, str]) -> list[Path]:
    """Files and folders of this machine that such settings name; a sandboxed build must see them."""
    found: list[Path] = []
    for name in sorted(environment):
        for word in re.split(r"[\s,]+", environment[name]):
            path = word.removeprefix("file://")
            # UV_INDEX knows the form name=url.
            path = path.partition("=file://")[2] or path
            if path.startswith("/") and path != "/" and os.path.exists(path) and name not in ("CC", "CXX"):
                found.append(Path(path))
    # A folder of links or pages points to files beside it, as `simple/` does to `files/`.
    return sorted({path.parent if path.name == "simple" else path for path in found})


def _from_pip(environ: Mapping[str, str]) -> dict[str, str]:
    said: dict[str, str] = {}
    for file in _pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                said.update({key: value for key, value in parser.items(section) if key in _PIP_TO_UV})
    for key in _PIP_TO_UV:
        value = environ.get("PIP_" + key.upper().replace("-", "_"))
        if value:
            said[key] = value
    said = {key: " ".join(value.split()) for key, value in said.items() if value.strip()}
    if "find-links" in said:
        said["find-links"] = ",".join(said["find-links"].split())
    if said.get("no-index", "").lower() in ("0", "false", "no", "off"):
        del said["no-index"]
    return {_PIP_TO_UV[key]: value for key, value in sorted(said.items())}


def _pip_files(environ: Mapping[str, str]) -> list[Path]:
    if environ.get("PIP_CONFIG_FILE") == os.devnull:
        return []
    home = Path(environ.get("HOME", "/nonexistent"))
    system = [Path(part) / "pip/pip.conf" for part in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")]
    own = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf"
    files = [*system, Path("/etc/pip.conf"), home / ".pip/pip.conf", own, Path(sys.prefix) / "pip.conf"]
    if environ.get("PIP_CONFIG_FILE"):
        files.append(Path(environ["PIP_CONFIG_FILE"]))
    return files
