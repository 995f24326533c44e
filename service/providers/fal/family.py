"""The operations of fal."""

from service.providers import market
from service.providers.operation import family

MODELS = {
    "run": "fal-ai/flux/dev",
    "text_to_image": "fal-ai/flux/dev",
    "image_to_image": "fal-ai/flux-pro/kontext",
    "text_to_video": "fal-ai/kling-video/v2.5-turbo/pro/text-to-video",
    "image_to_video": "fal-ai/kling-video/v2.5-turbo/pro/image-to-video",
    "video_to_video": "fal-ai/wan-vace-14b",
}
"""Models for the examples."""

FAMILY = family("fal", "fal", *market.operations(MODELS))
