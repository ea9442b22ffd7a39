"""The one exception that a user is meant to read."""

from __future__ import annotations

import errno
import unicodedata

REMEDIES = {  # of what a file system refuses
    errno.EACCES: "make it readable, and writable in results/, or work in a folder of your own",
    errno.EPERM: "make it writable, or work in a folder of your own",
    errno.EROFS: "work in a folder that can be written to",
    errno.EEXIST: "a file is in the place of a folder; move it away",
    errno.ENOTDIR: "a file is in the place of a folder; move it away",
    errno.EISDIR: "a folder is in the place of a file; name the file, or move the folder away",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room on the disk, or ask for a larger quota",
}


class UserError(Exception):
    """Something the user can mend. Its text, shown without a traceback, says what is wrong, where and what to do."""


def message_of(error: UserError | OSError) -> str:
    """The one line that a user reads; the error itself is raised again if it is none that a user can mend."""
    if isinstance(error, UserError):
        return _visible(str(error))
    if error.errno not in REMEDIES:
        raise error
    return _visible(f"{error.filename or 'writing'}: {(error.strerror or '').lower()}; {REMEDIES[error.errno]}")


def _visible(text: str) -> str:
    """The text with its control characters, ends of lines and halves of surrogate pairs written out as escapes."""
    hidden = {character for character in text if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")}
    return text.translate({ord(character): character.encode("unicode_escape").decode() for character in hidden})
