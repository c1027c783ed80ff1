"""The API of what people say of a photo."""

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.response import Response

from breeds.models import Review, ReviewRefused
from shelter.api.idempotency import IDEMPOTENCY_KEY, once
from shelter.api.problems import BoundedJSONParser, Refused, checked
from shelter.api.reviews import NewReviewSerializer, ReviewSerializer


def _check_permission(user) -> None:
    if not user.has_perm("breeds.add_review"):
        raise PermissionDenied("This account may not review photos.")


class ReviewActions:
    """For the view set of photos."""

    @extend_schema(
        request=NewReviewSerializer,
        parameters=[IDEMPOTENCY_KEY],
        responses={
            200: OpenApiResponse(ReviewSerializer, "the same person had just said the same"),
            201: OpenApiResponse(ReviewSerializer, "appended"),
        },
        filters=False,
    )
    @action(
        ["post"], detail=True, scope="review", parser_classes=[BoundedJSONParser, FormParser, MultiPartParser],
        filterset_class=None, pagination_class=None,
    )  # fmt: skip
    @once
    def reviews(self, request, pk):
        """Append what a person says of the photo. The same again of the same person: 200 and the review known."""
        _check_permission(request.user)
        photo = self.get_object()
        given = checked(NewReviewSerializer, request.data)
        try:
            recorded = Review.objects.record(photo, by=request.user, **given)
        except ReviewRefused as error:
            if error.code == "photo_deleted":
                raise NotFound from error
            raise Refused(str(error), error.code) from error
        return Response(ReviewSerializer(recorded.review).data, status=201 if recorded.is_new else 200)

    @extend_schema(
        request=None, responses={204: OpenApiResponse(description="withdrawn, now or before")}, filters=False
    )
    @action(
        ["delete"], detail=True, url_path="reviews/<int:review>", scope="review", filterset_class=None,
        pagination_class=None,
    )  # fmt: skip
    def review(self, request, pk, review):
        """Take back what was said: the review before counts again, or the classifier. The history keeps both.

        One's own; what others said, with the permission to do so. Safe to repeat.
        """
        _check_permission(request.user)
        review = get_object_or_404(Review.objects.select_related("photo", "by"), pk=review, photo=pk)
        if review.verdict == Review.Verdict.WITHDRAW:  # a withdrawal cannot be withdrawn
            raise NotFound
        try:
            Review.objects.withdraw(review, by=request.user)
        except ReviewRefused as error:
            if error.code == "photo_deleted":
                raise NotFound from error
            if error.code == "not_yours":
                raise Refused(str(error), error.code, 403) from error
        return Response(status=204)
