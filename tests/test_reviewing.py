"""What people say of a photo: kept for ever, counted before any classifier, and never changed by a machine."""

import html

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from breeds.models import AppendOnlyError, Breed, ClassifierVersion, Prediction, Review, ReviewRefused
from breeds.tasks import classify_photos, sweep
from shelter.intake.uploads import upload_photo
from shelter.models import Animal, Photo
from shelter.pages.animals import FilingForm
from tests.support.factories import a_photo, an_account, an_answered_photo, upload
from tests.support.fakes import FakeClassifier
from tests.support.ml import run_fresh

ENGLISH = {"Accept-Language": "en"}


@pytest.fixture
def photo(anne, classifier):
    """A photo that the classifier takes for a beagle."""
    return an_answered_photo(anne)


def breed(slug: str) -> Breed:
    return Breed.objects.get(slug=slug)


def index_of(photo) -> tuple:
    found = Photo.objects.select_related("breed", "second_breed").get(pk=photo.pk)
    slugs = [b.slug if b else "" for b in (found.breed, found.second_breed)]
    return (found.decision, *slugs, found.group, found.probability, found.source)


def say(photo, by, verdict="correct", slug="basset", **fields):
    fields = {"breed": breed(slug) if slug and verdict in ("correct", "cross") else None} | fields
    return Review.objects.record(photo, by=by, verdict=verdict, **fields).review


def send(client, photo, **data):
    """The form of the photo page, as it was shown at this moment unless `data` says otherwise."""
    newest, standing = photo.newest_answer, photo.reviews.standing().first()
    shown = {"prediction": newest.pk if newest else "", "standing": standing.pk if standing else ""}
    return client.post(reverse("photo_review", args=[photo.pk]), shown | data, headers=ENGLISH, follow=True)


def classify_again(photo):
    photo.enqueue()
    classify_photos()


# -- what counts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "fields", "index"),
    [
        ("correct", {"slug": "basset"}, ("breed", "basset", "", "scenthounds", None, "human")),
        ("not_a_dog", {}, ("not_a_dog", "", "", "", None, "human")),
        ("cannot_tell", {}, ("unsure", "", "", "", None, "human")),
    ],
)
def test_it_lets_the_index_follow_what_a_person_says(photo, anne, verdict, fields, index):
    say(photo, anne, verdict, **fields)
    assert index_of(photo) == index


def test_it_keeps_both_breeds_of_a_cross_and_their_group_where_they_share_it(photo, anne):
    say(photo, anne, "cross", second_breed=breed("beagle"))
    assert index_of(photo) == ("cross", "basset", "beagle", "scenthounds", None, "human")
    say(photo, anne, "cross", second_breed=breed("pug"))
    assert index_of(photo) == ("cross", "basset", "pug", "", None, "human")


def test_it_confirms_what_the_classifier_said(photo, anne):
    say(photo, anne, "confirm", prediction=photo.newest_answer)
    assert index_of(photo) == ("breed", "beagle", "", "scenthounds", None, "human")


def test_it_confirms_a_group_where_the_classifier_dared_no_breed(photo, anne, classifier):
    classifier.answer = FakeClassifier(decision="group", group="terriers", probability=0.8).answer
    classify_again(photo)
    say(photo, anne, "confirm", prediction=photo.newest_answer)
    assert index_of(photo) == ("group", "", "", "terriers", None, "human")


@pytest.mark.parametrize("decision", ["unsure", "not_a_dog"])
def test_it_has_nothing_to_confirm_where_the_classifier_named_nothing(photo, anne, classifier, decision):
    classifier.answer = FakeClassifier(decision=decision).answer
    classify_again(photo)
    with pytest.raises(ReviewRefused) as refused:
        say(photo, anne, "confirm", prediction=photo.newest_answer)
    assert refused.value.code == "nothing_to_confirm"


def test_it_counts_the_newest_review_and_keeps_them_all(photo, anne, bruno):
    say(photo, anne)
    say(photo, bruno, slug="pug")
    assert index_of(photo)[1] == "pug"
    assert [review.by.username for review in photo.reviews.order_by("pk")] == ["anne", "bruno"]


def test_it_keeps_the_classifiers_answer_beside_the_review(photo, anne):
    shown = photo.newest_answer
    review = say(photo, anne, prediction=shown, reason="papers")
    assert (review.prediction, review.reason, review.blind) == (shown, "papers", False)
    assert (photo.newest_answer.label, photo.newest_answer.probability) == ("beagle", 0.9)


def test_it_takes_the_same_words_of_the_same_person_twice_for_one_review(photo, anne, bruno):
    assert say(photo, anne) == say(photo, anne)
    assert say(photo, bruno) != say(photo, anne)
    assert photo.reviews.count() == 3


def test_it_goes_back_to_what_counted_before_when_a_review_is_withdrawn(photo, anne, bruno):
    first, second = say(photo, anne), say(photo, bruno, slug="pug")
    Review.objects.withdraw(second, by=bruno)
    assert index_of(photo)[1] == "basset"
    Review.objects.withdraw(first, by=anne)
    assert index_of(photo) == ("breed", "beagle", "", "scenthounds", 0.9, "model")
    assert photo.reviews.count() == 4


def test_it_withdraws_a_review_once(photo, anne):
    review = say(photo, anne)
    withdrawal = Review.objects.withdraw(review, by=anne)
    for over in (review, withdrawal):
        with pytest.raises(ReviewRefused) as refused:
            Review.objects.withdraw(over, by=anne)
        assert refused.value.code == "already_withdrawn"


def test_it_lets_reviewers_alone_withdraw_what_others_said(photo, anne, bruno, rosa):
    review = say(photo, anne)
    with pytest.raises(ReviewRefused) as refused:
        Review.objects.withdraw(review, by=bruno)
    assert refused.value.code == "not_yours"
    Review.objects.withdraw(review, by=rosa)
    assert index_of(photo)[-1] == "model"


# -- append-only --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda review: Review.objects.filter(pk=review.pk).update(verdict="not_a_dog"),
        lambda review: Review.objects.bulk_update([review], ["verdict"]),
        lambda review: Review.objects.all().delete(),
        lambda review: review.photo.reviews.all().delete(),
        lambda review: review.save(),
        lambda review: Review.objects.get(pk=review.pk).save(update_fields=["verdict"]),
        lambda review: review.delete(),
        lambda review: Review.objects.update_or_create(pk=review.pk, defaults={"verdict": "not_a_dog"}),
        lambda review: Review.objects.bulk_create(
            [review], update_conflicts=True, unique_fields=["id"], update_fields=["verdict"]
        ),
    ],
)
def test_it_refuses_to_change_or_delete_a_review(photo, anne, change):
    review = say(photo, anne)
    review.verdict = "cannot_tell"
    with pytest.raises(AppendOnlyError):
        change(review)
    assert list(Review.objects.values_list("pk", "verdict")) == [(review.pk, "correct")]


@pytest.mark.parametrize(
    "fields",
    [
        {"verdict": "correct"},
        {"verdict": "confirm"},
        {"verdict": "withdraw"},
        {"verdict": "cross", "breed": "pug"},
        {"verdict": "cross", "breed": "pug", "second_breed": "pug"},
        {"verdict": "correct", "breed": "pug", "second_breed": "beagle"},
        {"verdict": "not_a_dog", "breed": "pug"},
        {"verdict": "maybe"},
    ],
)
def test_its_database_refuses_a_review_that_makes_no_sense(photo, anne, fields):
    fields = {name: breed(value) if "breed" in name else value for name, value in fields.items()}
    with pytest.raises(IntegrityError), transaction.atomic():
        Review.objects.create(photo=photo, by=anne, **fields)


def test_it_loses_its_reviews_with_the_photo_alone(photo, anne, chloe, client):
    review = say(photo, anne, prediction=photo.newest_answer)
    Review.objects.withdraw(review, by=anne)
    client.force_login(chloe)
    page = {"action": "delete_selected", "_selected_action": [photo.pk], "post": "yes"}
    client.post(reverse("admin:shelter_photo_changelist"), page)
    assert not Photo.objects.exists()
    assert not Review.objects.exists()


def test_it_is_not_overwritten_by_an_administrator_who_files_the_photo_meanwhile(
    photo, anne, chloe, client, monkeypatch
):
    """The review comes in after the record was read, and before it is written."""
    from shelter.admin import PhotoAdmin

    save = PhotoAdmin.save_model

    def save_after_the_review(self, request, obj, form, change):
        say(photo, anne)
        save(self, request, obj, form, change)

    monkeypatch.setattr(PhotoAdmin, "save_model", save_after_the_review)
    client.force_login(chloe)
    rex = Animal.objects.create(name="Rex")
    inline = {f"predictions-{name}": 0 for name in ("TOTAL_FORMS", "INITIAL_FORMS")}
    client.post(reverse("admin:shelter_photo_change", args=[photo.pk]), {"animal": rex.pk} | inline)
    assert Photo.objects.get(pk=photo.pk).animal == rex
    assert index_of(photo)[1] == "basset"


# -- no machine changes it ----------------------------------------------------------------------------------------

LABELS = {"beagle": "scenthounds", "basset": "scenthounds", "pug": "companion_and_toy"}
people = st.sampled_from(["anne", "bruno"])
labels = st.sampled_from(sorted(LABELS))
operations = st.one_of(
    st.tuples(st.sampled_from(["correct", "confirm", "not_a_dog", "cannot_tell"]), people, labels),
    st.tuples(st.just("cross"), people, st.permutations(sorted(LABELS))),
    st.tuples(st.just("withdraw"), people),
    st.tuples(st.just("classify"), st.sampled_from(["breed", "group", "unsure", "not_a_dog"]), labels),
    st.tuples(st.sampled_from(["fail", "activate", "import", "merge", "sweep", "wish"])),
    st.tuples(st.just("file"), st.sampled_from(["Rex", "Fido", ""])),
)


class Shelter:
    """One photo that machines and people work on, beside what must be said of it by the rules alone."""

    def __init__(self, photo, classifier, people):
        self.photo, self.classifier, self.people = photo, classifier, people
        self.said, self.answered = [], ("breed", "beagle", "", "scenthounds", 0.9, "model")

    @property
    def expected(self):
        return self.said[-1][1] if self.said else self.answered

    def do(self, operation, *details):
        getattr(self, f"do_{operation}", self.do_say)(*((operation, *details) if operation in SAID else details))

    def do_say(self, verdict, who, named):
        prediction = self.photo.newest_answer
        first, second = (named if verdict == "cross" else (named, None))[:2]
        index = {
            "correct": ("breed", first, "", LABELS.get(first), None, "human"),
            "cross": ("cross", first, second, "", None, "human"),
            "confirm": (*self.answered[:4], None, "human"),
            "not_a_dog": ("not_a_dog", "", "", "", None, "human"),
            "cannot_tell": ("unsure", "", "", "", None, "human"),
        }[verdict]
        if verdict == "cross" and LABELS[first] == LABELS[second]:
            index = ("cross", first, second, LABELS[first], None, "human")
        try:
            review = say(
                self.photo, self.people[who], verdict, first, prediction=prediction,
                second_breed=breed(second) if second else None,
            )  # fmt: skip
        except ReviewRefused:
            assert verdict == "confirm"
            assert self.answered[0] not in ("breed", "group")
        else:
            if not self.said or self.said[-1][0] != review:
                self.said.append((review, index))

    def do_withdraw(self, who):
        mine = [entry for entry in self.said if entry[0].by == self.people[who]]
        if mine:
            Review.objects.withdraw(mine[-1][0], by=self.people[who])
            self.said.remove(mine[-1])

    def do_classify(self, decision, label):
        fake = FakeClassifier(label, decision, LABELS[label], 0.6, version=self.classifier.answer.version)
        self.classifier.answer = fake.answer
        classify_again(self.photo)
        named = label if decision == "breed" else ""
        self.answered = (decision, named, "", LABELS[label] if decision in ("breed", "group") else "", 0.6, "model")

    def do_fail(self):
        self.photo.enqueue()
        Prediction.objects.claim(1)[0].fail("undecodable", "Expected a whole photo.")

    def do_activate(self):
        fake = FakeClassifier(version=f"fake-{ClassifierVersion.objects.count() + 1}")
        fake.row().activate()
        self.classifier.answer = fake.answer
        self.do_classify("breed", "beagle")

    def do_import(self):
        upload_photo(upload(), user=None, animal=Animal.objects.create(name="Rex"), priority=0)

    def do_file(self, name):
        form = FilingForm({"photos": [self.photo.pk], "name": name, "out": "" if name else "on"})
        if form.is_valid():  # not where several dogs have the name
            form.file()

    def do_merge(self):
        kept, gone = Animal.objects.create(name="kept"), Animal.objects.create(name="gone")
        Photo.objects.filter(pk=self.photo.pk).update(animal=gone)
        Photo.objects.filter(animal=gone).update(animal=kept)
        gone.delete()

    def do_sweep(self):
        sweep()

    def do_wish(self):
        self.photo.enqueue()
        self.photo.predictions.filter(status="pending").delete()


SAID = {"correct", "confirm", "cross", "not_a_dog", "cannot_tell"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(operations, max_size=12))
def test_no_re_run_activation_import_or_merge_changes_what_a_person_said(photo, classifier, anne, bruno, sequence):
    with transaction.atomic():
        classifier.answer = FakeClassifier().answer
        shelter = Shelter(Photo.objects.get(pk=photo.pk), classifier, {"anne": anne, "bruno": bruno})
        for operation in sequence:
            shelter.do(*operation)
            assert index_of(photo) == shelter.expected
        transaction.set_rollback(True)


# -- the photo's page ---------------------------------------------------------------------------------------------


def test_it_says_is_only_after_a_person_confirmed_and_names_that_person(staff, photo, anne):
    page = staff.get(reverse("photo", args=[photo.pk])).content.decode()
    assert "Ressemble à un beagle" in page
    assert "C’est un" not in page
    send(staff, photo, verdict="confirm")
    page = staff.get(reverse("photo", args=[photo.pk])).content.decode()
    assert "C’est un beagle (confirmé par anne)" in page
    assert "Ressemble à" not in page


def test_it_offers_to_confirm_what_the_classifier_named(staff, photo, classifier):
    address = reverse("photo", args=[photo.pk])
    assert "Yes, it is a beagle" in staff.get(address, headers=ENGLISH).content.decode()
    classifier.answer = FakeClassifier(decision="unsure").answer
    classify_again(photo)
    assert 'value="confirm"' not in staff.get(address, headers=ENGLISH).content.decode()


@pytest.mark.parametrize("text", ["basset", "BASSET", "Bassét", "basset hound"])
def test_it_understands_a_breed_by_any_of_its_names(staff, photo, text):
    send(staff, photo, verdict="correct", breed=text, reason="looks")
    review = photo.reviews.get()
    assert (review.breed.slug, review.reason, review.prediction) == ("basset", "looks", photo.newest_answer)


def test_it_makes_a_cross_of_two_breeds(staff, photo):
    page = send(staff, photo, verdict="correct", breed="basset", second_breed="beagle").content.decode()
    assert "It is a cross of basset hound and beagle (confirmed by anne)" in page
    assert index_of(photo)[:3] == ("cross", "basset", "beagle")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"verdict": "correct"}, "Name the breed."),
        ({"verdict": "correct", "breed": "licorne"}, "Choose a breed of the list. Received: “licorne”."),
        ({"verdict": "correct", "breed": "dingo"}, "Choose a breed of the list."),
        ({"verdict": "correct", "breed": "basset houn"}, "Near: basset hound"),
        ({"verdict": "correct", "breed": "pug", "second_breed": "pug"}, "another breed than the first"),
        ({"verdict": "confirm", "prediction": ""}, "no breed or group here to confirm"),
        ({"verdict": "confirm", "prediction": "999"}, ""),
        ({"verdict": "withdraw"}, ""),
        ({}, ""),
    ],
)
def test_it_says_what_is_wrong_and_keeps_what_was_typed(staff, photo, data, message):
    response = send(staff, photo, **data)
    page = html.unescape(response.content.decode())
    assert response.status_code == 422
    assert message.lower() in page.lower()
    assert f'value="{data["breed"]}"' in page if "breed" in data else True
    assert not photo.reviews.exists()


def test_it_keeps_two_reviews_at_once_and_tells_the_second_person(staff, client, photo, anne, bruno):
    say(photo, bruno, slug="pug")
    page = send(staff, photo, verdict="correct", breed="basset", standing="").content.decode()
    assert "Meanwhile somebody else had answered: “It is a pug (confirmed by bruno)”" in page
    assert index_of(photo)[1] == "basset"
    assert photo.reviews.count() == 2


def test_it_tells_nobody_of_a_review_that_was_on_the_page(staff, photo, bruno):
    say(photo, bruno, slug="pug")
    assert "Meanwhile" not in send(staff, photo, verdict="correct", breed="basset").content.decode()


def test_it_keeps_a_review_of_an_answer_that_is_no_longer_the_newest(staff, photo, classifier):
    shown = photo.newest_answer
    classifier.answer = FakeClassifier("pug", group="companion_and_toy").answer
    classify_again(photo)
    page = send(staff, photo, verdict="confirm", prediction=shown.pk).content.decode()
    assert "Meanwhile the model has looked again: “Looks like a pug (90.0%)”" in page
    assert photo.reviews.get().prediction == shown
    assert index_of(photo)[1] == "beagle"


def test_it_says_so_when_the_photo_was_deleted_meanwhile(staff, photo, anne):
    review = say(photo, anne)
    shown = {"verdict": "correct", "breed": "basset"}
    addresses = reverse("photo_review", args=[photo.pk]), reverse("review_withdraw", args=[review.pk])
    photo.delete_with_files()
    for address in addresses:
        page = staff.post(address, shown, headers=ENGLISH, follow=True)
        assert page.redirect_chain[-1][0] == reverse("photo_list")
        assert "This photo was deleted meanwhile" in page.content.decode()


def test_it_refuses_a_review_of_a_photo_that_is_deleted_while_it_is_written(photo, anne):
    stale = Photo.objects.get(pk=photo.pk)
    photo.delete_with_files()
    with pytest.raises(ReviewRefused) as refused:
        say(stale, anne)
    assert refused.value.code == "photo_deleted"


def test_it_withdraws_on_the_page_and_shows_the_history(staff, photo, anne):
    review = say(photo, anne)
    page = staff.post(reverse("review_withdraw", args=[review.pk]), headers=ENGLISH, follow=True).content.decode()
    assert "withdrawn by anne" in page
    assert "Looks like a beagle" in page


def test_it_shows_no_form_to_who_may_not_review(client, photo, anne):
    client.force_login(User.objects.create_user("visitor"))
    assert 'name="verdict"' not in client.get(reverse("photo", args=[photo.pk])).content.decode()
    assert send(client, photo, verdict="confirm").status_code == 403
    review = say(photo, anne)
    assert client.post(reverse("review_withdraw", args=[review.pk])).status_code == 403


def test_it_renews_the_form_once_the_answer_has_come(staff, anne, classifier):
    photo = upload_photo(upload(), user=anne).photo
    assert 'hx-trigger="answered from:body"' in staff.get(reverse("photo", args=[photo.pk])).content.decode()
    classify_photos()
    assert "answered from:body" not in staff.get(reverse("photo", args=[photo.pk])).content.decode()


def test_it_finds_a_cross_by_either_breed_and_lists_it_in_words(staff, photo, anne):
    say(photo, anne, "cross", second_breed=breed("pug"))
    for text in ("basset", "pug"):
        assert list(staff.get(reverse("photo_list"), {"q": text}).context["page"]) == [photo]
    for slug in ("basset", "pug"):
        shown = staff.get(reverse("photo_list"), {"breed": slug}).context
        facet = next(facet for facet in shown["search"].facets() if facet.name == "breed")
        assert list(shown["page"]) == [photo]
        assert {choice.value: choice.count for choice in facet.choices} == {"basset": 1, "pug": 1}
    page = staff.get(reverse("photo_list"), headers=ENGLISH).content.decode()
    assert "Cross of basset hound and pug, confirmed" in page


# -- roles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "rights", "lacks"),
    [
        ("staff", {"breeds.add_review"}, {"breeds.withdraw_any_review", "shelter.delete_photo"}),
        ("reviewer", {"breeds.add_review", "breeds.withdraw_any_review"}, {"shelter.delete_photo"}),
        ("admin", {"breeds.withdraw_any_review", "shelter.delete_photo", "auth.add_user"}, set()),
    ],
)
def test_it_gives_each_role_its_rights(db, group, rights, lacks):
    user = an_account("somebody", group)
    assert user.has_perms(rights)
    assert not user.get_all_permissions() & lacks


# -- the API ------------------------------------------------------------------------------------------------------


@pytest.fixture
def review(api, photo):
    def call(scopes=("review",), **data):
        return api("post", f"/photos/{photo.pk}/reviews/", data, scopes=scopes)

    return call


def test_it_appends_a_review_by_the_api_and_shows_it_with_the_photo(api, review, photo):
    answer = review(verdict="correct", breed="basset", reason="papers", blind=True, prediction=photo.newest_answer.pk)
    assert answer.status_code == 201
    found = api("get", f"/photos/{photo.pk}/").json()
    assert found["review"] == answer.json()
    assert (found["breed"], found["source"], found["prediction"]["label"]) == ("basset", "human", "beagle")
    said = found["review"]
    assert (said["verdict"], said["by"], said["blind"], said["reason"]) == ("correct", "anne", True, "papers")


def test_it_answers_200_for_the_same_review_again(review):
    first = review(verdict="correct", breed="basset")
    again = review(verdict="correct", breed="basset")
    assert (again.status_code, again.json()) == (200, first.json())


def test_it_shows_no_review_once_it_is_withdrawn(api, review, photo, anne):
    review(verdict="not_a_dog")
    Review.objects.withdraw(photo.reviews.get(), by=anne)
    assert api("get", f"/photos/{photo.pk}/").json()["review"] is None


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "verdict"),
        ({"verdict": "withdraw"}, "verdict"),
        ({"verdict": "correct"}, "breed"),
        ({"verdict": "correct", "breed": "licorne"}, "breed"),
        ({"verdict": "correct", "breed": "dingo"}, "breed"),
        ({"verdict": "correct", "breed": "pug", "second_breed": "basset"}, "second_breed"),
        ({"verdict": "cross", "breed": "pug"}, "second_breed"),
        ({"verdict": "cross", "breed": "pug", "second_breed": "pug"}, "second_breed"),
        ({"verdict": "not_a_dog", "breed": "pug"}, "breed"),
        ({"verdict": "confirm"}, "prediction"),
        ({"verdict": "confirm", "prediction": 999}, "prediction"),
        ({"verdict": "correct", "breed": "pug", "reason": "because"}, "reason"),
    ],
)
def test_it_answers_400_and_names_the_field_that_is_wrong(review, photo, data, field):
    answer = review(**data)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert field in answer.json()["errors"]
    assert not photo.reviews.exists()


def test_it_answers_400_for_a_confirmation_of_what_was_not_shown(review, photo):
    answer = review(verdict="confirm", prediction=photo.newest_answer.pk, blind=True)
    assert "blind" in answer.json()["errors"]


def test_it_answers_400_for_an_answer_about_another_photo(review, photo, anne):
    other = a_photo(anne)
    answer = review(verdict="correct", breed="pug", prediction=other.predictions.get().pk)
    assert (answer.status_code, answer.json()["code"]) == (400, "other_photo")


def test_it_answers_404_for_a_photo_that_is_gone(review, photo):
    photo.delete_with_files()
    answer = review(verdict="not_a_dog")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_it_wants_the_scope_review_and_the_right(api, review, photo, anne):
    assert review(scopes=("read", "upload"), verdict="not_a_dog").status_code == 403
    anne.groups.clear()
    assert review(verdict="not_a_dog").status_code == 403
    assert not photo.reviews.exists()


def test_it_lists_photos_with_their_reviews_in_few_queries(api, anne, classifier, django_assert_max_num_queries):
    for seed in range(8):
        photo = a_photo(anne, seed)
        say(photo, anne, "cross", second_breed=breed("pug"))
    with django_assert_max_num_queries(12):
        listed = api("get", "/photos/").json()["results"]
    assert [photo["review"]["second_breed"] for photo in listed] == ["pug"] * 8


# -- at the same moment -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_keeps_the_reviews_of_many_people_at_the_same_moment(tmp_path):
    """In a process of its own, on a database in a file: the tests' own is one connection's alone."""
    assert run_fresh(MANY_AT_ONCE, tmp_path) == "40 reviews, the index follows the newest: True"


MANY_AT_ONCE = """
import threading
import django; django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from breeds.models import Breed, Review
from shelter.models import Photo

call_command("migrate", verbosity=0)
Breed.objects.seed()
photo = Photo.objects.create(original_name="a", sha256="a", size=1, width=1, height=1, media_type="image/jpeg")
start, slugs = threading.Barrier(4), ["basset", "pug", "beagle", "whippet"]

def review(number):
    by = User.objects.create_user(f"person-{number}")
    start.wait()
    for turn in range(10):
        breed = Breed.objects.get(slug=slugs[(number + turn) % 4])
        Review.objects.record(photo, by=by, verdict="correct", breed=breed)
    connection.close()

threads = [threading.Thread(target=review, args=[number]) for number in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
newest = Review.objects.standing().first()
followed = Photo.objects.get().breed == newest.breed
print(f"{Review.objects.count()} reviews, the index follows the newest: {followed}")
"""
