"""A connection that breaks at COMMIT. In a file of its own, one of the last to be run (`tests/support/parallel.py`): a
test with transactions of its own empties the database, and so removes the rows that migrations wrote there."""

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections

from shelter.intake.uploads import upload_photo
from shelter.models import Photo
from tests.support.factories import upload


@pytest.mark.django_db(transaction=True)
def test_it_keeps_the_file_of_a_row_whose_commit_nobody_heard_of(anne, monkeypatch, stored_files):
    """The database commits, and the connection breaks before it says so."""
    wrapper = type(connections["default"])
    commit = wrapper._commit

    def commit_and_break(self):
        commit(self)
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(wrapper, "_commit", commit_and_break)
    with pytest.raises(OperationalError):
        upload_photo(upload(), user=anne)
    monkeypatch.setattr(wrapper, "_commit", commit)
    photo = Photo.objects.get()
    assert stored_files() == {photo.image.name}
    assert upload_photo(upload(), user=anne).photo == photo
    assert call_command("fsck", "--hashes", "--grace", "0") is None
