"""The environment that libasound needs before the first audio device is opened, for capture and playback alike.

The PyAV wheel brings a libasound that looks for its configuration and plugins in a folder of the machine it was built
on: ``default`` and ``pulse`` then fail to open, without any hint at the cause. Environment variables point it to the
system's folders (Debian packages ``libasound2-data`` and ``libasound2-plugins``).
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
    """Point ALSA to the system's configuration and plugins, unless the user has set the variables.

    Must run before the first ALSA device is opened, because the library reads its configuration once. May be called
    more than once.
    """
    config = next((path for path in _CONFIG_DIRS if (path / "alsa.conf").is_file()), None)
    if config is not None:
        environ.setdefault("ALSA_CONFIG_DIR", str(config))
    plugins = next((path for path in _plugin_dirs() if path.is_dir()), None)
    if plugins is not None:
        environ.setdefault("ALSA_PLUGIN_DIR", str(plugins))


def _plugin_dirs() -> list[Path]:
    """Return the folders where distributions keep ALSA's plugins, that of this machine's architecture first."""
    triplet = sysconfig.get_config_var("MULTIARCH")
    multiarch = [Path("/usr/lib") / triplet / "alsa-lib"] if triplet else []
    return multiarch + [path / "alsa-lib" for path in _LIBRARY_DIRS]
