"""A broker that is a folder, for a machine without Redis: kombu's filesystem transport, made safe to crash.

The original writes a message in place, so that a reader can meet an empty file and die of it, and passes messages
through the system's shared temporary folder. Here a message appears whole, by rename, or not at all.
"""

import os
import uuid
from pathlib import Path
from queue import Empty
from time import time_ns

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads


class Channel(filesystem.Channel):
    @property
    def folder(self) -> Path:
        folder = Path(self.connection.client.transport_options["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def control_folder(self) -> Path:
        return self.folder / "control"

    def _messages(self, queue: str) -> list[Path]:
        return sorted(p for p in self.folder.iterdir() if p.name.partition(".")[2] == f"{queue}.msg")

    def _put(self, queue, payload, **kwargs):
        path = self.folder / f"{time_ns()}-{uuid.uuid4().hex}.{queue}.msg"
        partial = path.with_suffix(".partial")
        try:
            partial.write_text(dumps(payload))
            partial.rename(path)
        except OSError:  # a full disk: what came of it would fill it further
            partial.unlink(missing_ok=True)
            raise

    def _get(self, queue):
        for path in self._messages(queue):
            taken = path.with_suffix(f".taken-by-{os.getpid()}")
            try:
                path.rename(taken)  # of several readers, one succeeds
                text = taken.read_text()
                taken.unlink()
                return loads(text)
            except (FileNotFoundError, ValueError):
                continue
        raise Empty

    def _size(self, queue):
        return len(self._messages(queue))

    def _purge(self, queue):
        messages = self._messages(queue)
        for path in messages:
            path.unlink(missing_ok=True)
        return len(messages)


class Transport(filesystem.Transport):
    Channel = Channel
