"""OpenAI: images, videos, texts and voices, by its own API and by the gateways that support it."""
