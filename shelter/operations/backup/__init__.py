"""A backup: rows, files and the active classifier in one folder; and the way back, checked by hashes.

Not `dumpdata` and `loaddata`: `loaddata` knows only the tables of today, and reads no backup of an older Flair.

Uploads go on meanwhile. The rows are read in one snapshot. Files never change once they are stored, so the files of
that snapshot can be copied after it. Rows are written as they are, independent of their database: a backup of SQLite
is restored into PostgreSQL, and the other way round.

`manifest.json` is written last and holds the SHA-256 of every other part and of itself: a folder without it, or with
a part that differs, is no backup. Restoring reads every byte of the backup before it writes anything.
"""

from shelter.operations.backup.archive import BadBackup, Summary, back_up
from shelter.operations.backup.restoring import check_backup, read_manifest, restore

__all__ = ["BadBackup", "Summary", "back_up", "check_backup", "read_manifest", "restore"]
