"""What PyAV's own ALSA library needs before the first sound device is opened, capturing and playing alike.

The PyAV wheel brings a libasound that looks for its configuration and its plugins in the folder of whoever built it:
``default`` and ``pulse`` then fail to open, and nothing says why. Its environment variables lead it to the system's
(Debian packages ``libasound2-data`` and ``libasound2-plugins``).
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

_CONFIG_DIRS: Final = (Path("/usr/share/alsa"), Path("/usr/local/share/alsa"))

_LIBRARY_DIRS: Final = (Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib"))


def prepare_environment(environ: MutableMapping[str, str] = os.environ) -> None:
    """Point ALSA at the system's configuration and plugins; what the user has set stands. May be called often.

    Must run before the first ALSA device is opened: the library reads its configuration once.
    """
    config = next((path for path in _CONFIG_DIRS if (path / "alsa.conf").is_file()), None)
    if config is not None:
        environ.setdefault("ALSA_CONFIG_DIR", str(config))
    plugins = next((path for path in _plugin_dirs() if path.is_dir()), None)
    if plugins is not None:
        environ.setdefault("ALSA_PLUGIN_DIR", str(plugins))


def _plugin_dirs() -> list[Path]:
    """Where distributions keep ALSA's plugins; Debian's multiarch folder first, so that the machine's own win."""
    triplet = sysconfig.get_config_var("MULTIARCH")
    first = [Path("/usr/lib") / triplet / "alsa-lib"] if triplet else []
    return first + [path / "alsa-lib" for path in _LIBRARY_DIRS]
