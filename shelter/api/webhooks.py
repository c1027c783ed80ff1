"""The API of webhooks: addresses that are told when a photo was answered or reviewed."""

import json

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from shelter.api.idempotency import IDEMPOTENCY_KEY, once
from shelter.api.listing import READING, ReadViewSet, reads
from shelter.api.photo_json import PHOTO_EXAMPLE, PhotoSerializer, with_answers
from shelter.api.problems import Refused
from shelter.models import ApiToken, Delivery, Event, Photo, Webhook
from shelter.posting import ForbiddenAddress, check_url

WEBHOOK_EXAMPLE = {
    "id": 2,
    "url": "https://refuge.example/flair",
    "events": ["prediction.done", "review.changed"],
    "created_at": "2026-03-03T09:00:00+01:00",
    "failures": 0,
    "paused_until": None,
    "last_error": "",
    "last_success_at": None,
}
DELIVERY_EXAMPLE = {
    "id": "1f0c2a7e-3d7b-4a44-9a0e-0c1a2b3c4d5e",
    "event": "prediction.done",
    "photo": 41,
    "status": "sent",
    "attempts": 1,
    "due_at": "2026-03-03T09:03:11+01:00",
    "created_at": "2026-03-03T09:02:11+01:00",
    "sent_at": "2026-03-03T09:02:12+01:00",
    "answer_status": 204,
    "error": "",
}
MESSAGE_EXAMPLE = {
    "id": DELIVERY_EXAMPLE["id"],
    "event": "prediction.done",
    "created_at": DELIVERY_EXAMPLE["created_at"],
    "photo": PHOTO_EXAMPLE,
}


@extend_schema_serializer(
    component_name="Webhook",
    examples=[
        OpenApiExample("A webhook", WEBHOOK_EXAMPLE, response_only=True),
        OpenApiExample(
            "Tell me of answers",
            {"url": WEBHOOK_EXAMPLE["url"], "events": WEBHOOK_EXAMPLE["events"]},
            request_only=True,
        ),
    ],
)
class WebhookSerializer(serializers.ModelSerializer):
    """An address, and what it is told.

    An address that does not answer with 2xx gets each message again, later and later, for 38 hours (`failures`,
    `paused_until`, `last_error`). A webhook made with a token is told nothing once that is revoked or expired.
    """

    url = serializers.URLField(max_length=500, help_text="https, of a host in the public internet")
    events = serializers.ListField(child=serializers.ChoiceField(Event.choices), min_length=1, max_length=len(Event))

    class Meta:
        model = Webhook
        fields = ["id", "url", "events", "created_at", "failures", "paused_until", "last_error", "last_success_at"]
        read_only_fields = ["created_at", "failures", "paused_until", "last_error", "last_success_at"]

    def validate_url(self, url: str) -> str:
        try:
            check_url(url)
        except ForbiddenAddress as error:
            raise serializers.ValidationError(str(error), "forbidden_address") from error
        return url

    def validate_events(self, events: list[str]) -> list[str]:
        return sorted(set(events))


@extend_schema_serializer(
    component_name="NewWebhook",
    examples=[
        OpenApiExample(
            "With the secret, which is shown only now",
            WEBHOOK_EXAMPLE | {"secret": "whsec_1V9nVh6yq2b9cA0lZl3mV1nq3Xy2kQm0b7k6m2x0Qq4="},
            response_only=True,
        )
    ],
)
class NewWebhookSerializer(WebhookSerializer):
    """A webhook as the one answer shows it that makes it; an `Idempotency-Key` does not bring the secret back."""

    secret = serializers.CharField(read_only=True, required=False, help_text="verifies the signatures")

    class Meta(WebhookSerializer.Meta):
        fields = [*WebhookSerializer.Meta.fields, "secret"]


@extend_schema_serializer(component_name="Delivery", examples=[OpenApiExample("A sent message", DELIVERY_EXAMPLE)])
class DeliverySerializer(serializers.ModelSerializer):
    """One message and how it fared; `id` is that of the message."""

    id = serializers.UUIDField(source="uuid")
    photo = serializers.PrimaryKeyRelatedField(read_only=True)

    class Meta:
        model = Delivery
        fields = [
            "id", "event", "photo", "status", "attempts", "due_at", "created_at", "sent_at", "answer_status", "error",
        ]  # fmt: skip
        read_only_fields = fields


class MessageSerializer(serializers.Serializer):
    """What is sent. `id` stays the same over all attempts: whoever has seen it may drop the message.

    `photo` is as it is when the message leaves, as `photos/{id}/` shows it.
    """

    id = serializers.UUIDField(source="uuid")
    event = serializers.ChoiceField(Event.choices)
    created_at = serializers.DateTimeField()
    photo = PhotoSerializer()


def message_of(delivery: Delivery) -> dict:
    """What to send at this moment, as JSON types."""
    delivery.photo = with_answers(Photo.objects.filter(pk=delivery.photo_id)).get()
    return json.loads(JSONRenderer().render(MessageSerializer(delivery).data))


@reads(list="One's own webhooks.", retrieve="One of one's own webhooks.")
class WebhookViewSet(ReadViewSet, mixins.DestroyModelMixin):
    scope = "read"  # a webhook is told what its token may read, and nothing else changes by it
    queryset = Webhook.objects.none()
    serializer_class = WebhookSerializer

    def get_queryset(self):
        return Delivery.objects.none() if self.action == "deliveries" else self._own()

    def _own(self):
        user = self.request.user if self.request else None
        return Webhook.objects.filter(user=user) if user and user.is_authenticated else Webhook.objects.none()

    @extend_schema(parameters=[IDEMPOTENCY_KEY], responses={201: NewWebhookSerializer})
    @once
    def create(self, request):
        """Tell an address of one's own when photos were answered or reviewed. `secret` is shown only in this answer.

        Each message is a POST with the headers `webhook-id`, `webhook-timestamp` (seconds) and `webhook-signature`:
        `v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body` under the base64-decoded part of `secret` after
        `whsec_` (Standard Webhooks). Refuse timestamps that are more than five minutes old.
        """
        form = self.get_serializer(data=request.data)
        form.is_valid(raise_exception=True)
        if self._own().count() >= Webhook.MOST:
            raise Refused(f"An account has at most {Webhook.MOST} webhooks.", "too_many_webhooks")
        hook = form.save(user=request.user, token=request.auth if isinstance(request.auth, ApiToken) else None)
        return Response(NewWebhookSerializer(hook).data, status=201)

    @extend_schema(responses={204: None})
    def destroy(self, request, pk):
        """Tell it nothing any more; messages that wait are dropped."""
        return super().destroy(request, pk)

    @extend_schema(parameters=READING, responses={200: DeliverySerializer(many=True)})
    @action(
        detail=True,
        queryset=Delivery.objects.none(),
        filterset_fields=["status", "event"],
        serializer_class=DeliverySerializer,
    )
    def deliveries(self, request, pk):
        """The messages of the last two weeks, the newest first."""
        deliveries = self.filter_queryset(Delivery.objects.filter(webhook=get_object_or_404(self._own(), pk=pk)))
        return self.get_paginated_response(self.get_serializer(self.paginate_queryset(deliveries), many=True).data)
