"""An estate's policies and settings as a draft for a controller."""

from __future__ import annotations

from pathlib import Path

from ringfence.core.errors import InputError
from ringfence.estate import CONFIG, Estate, read
from ringfence.wire import api


def draft_of(estate: Estate, base: int, note: str = "") -> api.Draft:
    """The estate's policies and settings as they are written."""
    folder = estate.root / "policies"
    files = {str(path.relative_to(folder)): _text(path) for path in estate.policy_files()}
    settings = estate.root / CONFIG
    return api.Draft(files, base, _text(settings) if settings.exists() else "", note)


def _text(path: Path) -> str:
    try:
        return read(path).decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"byte {error.start + 1} of `{path}` is not UTF-8"
        raise InputError("not-utf8", message, help="save the file as UTF-8") from error
