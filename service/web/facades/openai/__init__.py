"""OpenAI's API, for its SDKs, Open WebUI, n8n, Dify and LiteLLM: ``OPENAI_BASE_URL=https://…/openai/v1``."""

from typing import Final

from service.web.facades.door import Door
from service.web.facades.openai import audio, catalogue, chat, images, responses, videos
from service.web.facades.openai.errors import error_document

DOOR: Final = Door(
    name="openai",
    prefixes=("/openai", ""),
    routes=(*videos.ROUTES, *images.ROUTES, *audio.ROUTES, *responses.ROUTES, *chat.ROUTES, *catalogue.ROUTES),
    write_error=error_document,
    no_room_status=429,  # as OpenAI answers `insufficient_quota`
)
