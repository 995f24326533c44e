"""The only list of families, dialects and known hosts. A new provider is registered only here."""

import dataclasses
from collections.abc import Mapping

from service.providers import any_model, elk_task, grok, jimeng, newapi_video, standard_webhooks, vidu, wan
from service.providers.anthropic import batches, messages
from service.providers.anthropic import family as anthropic
from service.providers.anthropic import gateway as anthropic_gateway
from service.providers.dialect import Dialect
from service.providers.fal import family as fal
from service.providers.fal import queue as fal_queue
from service.providers.flux import aggregator as flux_aggregator
from service.providers.flux import family as flux
from service.providers.flux import official as flux_official
from service.providers.hunyuan3d import aggregator as hunyuan3d_aggregator
from service.providers.hunyuan3d import family as hunyuan3d
from service.providers.hunyuan3d import official as hunyuan3d_official
from service.providers.ideogram import aggregator as ideogram_aggregator
from service.providers.ideogram import family as ideogram
from service.providers.ideogram import official as ideogram_official
from service.providers.ideogram import official_v2 as ideogram_official_v2
from service.providers.kie import family as kie
from service.providers.kie import jobs as kie_market
from service.providers.kie import own as kie_own
from service.providers.kling import aggregator as kling_aggregator
from service.providers.kling import family as kling
from service.providers.kling import official as kling_official
from service.providers.kling import official_v2 as kling_official_v2
from service.providers.luma import agents as luma_agents
from service.providers.luma import aggregator as luma_aggregator
from service.providers.luma import family as luma
from service.providers.luma import official as luma_official
from service.providers.midjourney import family as midjourney
from service.providers.midjourney import proxy
from service.providers.minimax import aggregator as minimax_aggregator
from service.providers.minimax import family as minimax
from service.providers.minimax import official as minimax_official
from service.providers.minimax import official_v2 as minimax_official_v2
from service.providers.openai import audio, chat, embeddings, images, models, responses, videos, webhooks
from service.providers.openai import family as openai
from service.providers.operation import Family
from service.providers.pika import aggregator as pika_aggregator
from service.providers.pika import family as pika
from service.providers.pika import official as pika_official
from service.providers.recraft import aggregator as recraft_aggregator
from service.providers.recraft import family as recraft
from service.providers.recraft import official as recraft_official
from service.providers.replicate import aggregator as replicate_aggregator
from service.providers.replicate import cog
from service.providers.replicate import family as replicate
from service.providers.replicate import official as replicate_official
from service.providers.runway import family as runway
from service.providers.runway import gateway, official
from service.providers.seedance import aggregator as seedance_aggregator
from service.providers.seedance import ark
from service.providers.seedance import family as seedance
from service.providers.seedance.family import MODELARK
from service.providers.sora import family as sora
from service.providers.sora import relay, reverse
from service.providers.suno import family as suno
from service.providers.suno import kie_jobs, newapi, newapi_raw, sunoapi
from service.providers.udio import aggregator as udio_aggregator
from service.providers.udio import family as udio
from service.providers.udio import newapi as udio_newapi
from service.providers.veo import aggregator as veo_aggregator
from service.providers.veo import family as veo
from service.providers.veo import gemini, vertex

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        runway.FAMILY,
        midjourney.FAMILY,
        suno.FAMILY,
        udio.FAMILY,
        kling.FAMILY,
        luma.FAMILY,
        veo.FAMILY,
        pika.FAMILY,
        seedance.FAMILY,
        minimax.FAMILY,
        vidu.FAMILY,
        wan.FAMILY,
        jimeng.FAMILY,
        grok.FAMILY,
        openai.FAMILY,
        anthropic.FAMILY,
        sora.FAMILY,
        replicate.FAMILY,
        fal.FAMILY,
        kie.FAMILY,
        flux.FAMILY,
        ideogram.FAMILY,
        recraft.FAMILY,
        hunyuan3d.FAMILY,
        any_model.FAMILY,
    )
}
"""Every family that can be asked for."""

DIALECTS: Mapping[str, Dialect] = {
    dialect.facts.key: dialect
    for dialect in (
        gateway.Aggregator(),
        gateway.AggregatorOfficial(),
        official.Official(),
        proxy.Proxy(),
        newapi.NewApi(),
        newapi_raw.NewApiRaw(),
        sunoapi.SunoApi(),
        kie_jobs.KieJobs(),
        udio_aggregator.Aggregator(),
        udio_aggregator.Aggregator("generate", "/udio/generate"),
        udio_aggregator.Aggregator("flat", "/udio/generate", wrapped=False),
        udio_newapi.NewApi(),
        kling_official.Official(),
        kling_official_v2.OfficialV2(),
        kling_aggregator.Aggregator(),
        luma_official.Official(),
        luma_agents.Agents(),
        luma_aggregator.Aggregator(),
        luma_aggregator.Relay(),
        pika_official.Official(),
        pika_official.Older(),
        pika_aggregator.Aggregator(),
        ark.Ark(),
        ark.Ark("modelark", MODELARK),
        seedance_aggregator.Aggregator(),
        veo_aggregator.Aggregator(),
        veo_aggregator.Chat(),
        vertex.Vertex(),
        gemini.Gemini(),
        minimax_official_v2.OfficialV2(),
        minimax_official.Official(),
        minimax_aggregator.Aggregator(),
        vidu.Official(),
        wan.DashScope(),
        hunyuan3d_official.Official(),
        hunyuan3d_aggregator.Aggregator(),
        jimeng.Visual(),
        grok.Official(),
        images.Images(),
        chat.Chat(),
        responses.Responses(),
        responses.Foreground(),
        embeddings.Embeddings(),
        audio.Audio(),
        models.Models(),
        videos.Videos(),
        webhooks.Webhooks(),
        standard_webhooks.StandardWebhooks(),
        messages.Messages(),
        batches.Batches(),
        anthropic_gateway.Aggregator(),
        reverse.Reverse(),
        relay.Relay(),
        elk_task.ElkTask(),
        replicate_official.Official(),
        replicate_aggregator.Aggregator(),
        cog.Cog(),
        fal_queue.Queue(),
        kie_market.Jobs(),
        kie_own.Own(),
        flux_official.Official(),
        flux_aggregator.Aggregator(),
        ideogram_official.Official(),
        ideogram_official_v2.OfficialV2(),
        ideogram_aggregator.Aggregator(),
        recraft_official.Official(),
        recraft_aggregator.Aggregator(),
        newapi_video.NewApiVideo(),
    )
}
"""Every wire protocol, by family and name."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A host that is known by name. It becomes an upstream when its key is set."""

    name: str
    title: str
    base_url: str
    """The bare host: every dialect adds its own path."""
    key_variable: str
    """The environment variable that holds the key."""
    dialects: tuple[str, ...]
    """Its dialects, best first: the first that has the operation serves it."""
    query_url: str = ""
    """The host that answers for balances, where that is another one."""
    callback_keys_url: str = ""
    """Where it publishes the keys by which it signs callbacks, as a JSON Web Key Set."""
    models_path: str = ""
    """The path of its list of models in OpenAI's form; blank where it has none, or one of its own form."""


def _own(name: str, title: str, base_url: str, key_variable: str, *dialects: str) -> Provider:
    """Return a provider's own API."""
    return Provider(name=name, title=title, base_url=base_url, key_variable=key_variable, dialects=dialects)


_OPENAI_SHAPED = (
    "openai/images",
    "openai/chat",
    "openai/responses-foreground",
    "openai/embeddings",
    "openai/audio",
    "openai/models",
    "openai/videos",
    "anthropic/aggregator",
)
"""The texts, images and voices that every gateway serves in the form of OpenAI and Anthropic."""
PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            name="elkapi",
            title="ElkAPI",
            base_url="https://api.elkapi.com",
            key_variable="ELKAPI_KEY",
            dialects=(
                "runway/aggregator",
                "runway/aggregator-official",
                "midjourney/proxy",
                "suno/newapi",
                "udio/aggregator",
                "udio/newapi",
                "hunyuan3d/aggregator",
                *_OPENAI_SHAPED,
                "sora/reverse",
                "any/elk-task",
                "kling/aggregator",
                "luma/aggregator",
                "veo/aggregator",
                "seedance/aggregator",
                "pika/aggregator",
                "minimax/aggregator",
                "any/newapi-video",
            ),
            query_url="https://query.elkapi.com",
            models_path="/v1/models",
        ),
        Provider(
            name="cometapi",
            title="CometAPI",
            base_url="https://api.cometapi.com",
            key_variable="COMETAPI_KEY",
            dialects=(
                "runway/aggregator",
                "runway/aggregator-official",
                "midjourney/proxy",
                "suno/newapi",
                "udio/aggregator",
                "udio/newapi",
                "hunyuan3d/aggregator",
                "flux/aggregator",
                "ideogram/aggregator",
                "recraft/aggregator",
                "kling/aggregator",
                "luma/aggregator",
                "veo/aggregator",
                "seedance/aggregator",
                "pika/aggregator",
                "minimax/aggregator",
                *_OPENAI_SHAPED,
                "sora/relay",
                "replicate/aggregator",
                "any/newapi-video",
            ),
            query_url="https://query.cometapi.com",
            models_path="/v1/models",
        ),
        _own("runwayml", "Runway", "https://api.dev.runwayml.com", "RUNWAYML_API_SECRET", "runway/official"),
        _own("luma", "Luma (Dream Machine API)", "https://api.lumalabs.ai", "LUMAAI_API_KEY", "luma/official"),
        _own("luma-agents", "Luma (Agents API)", "https://agents.lumalabs.ai", "LUMA_AGENTS_API_KEY", "luma/agents"),
        _own("pika", "Pika", "https://api.dev.pika.art", "PIKA_API_KEY", "pika/official"),
        _own(
            "gemini",
            "Google Gemini API (Veo, legacy)",
            "https://generativelanguage.googleapis.com",
            "GEMINI_API_KEY",
            "veo/gemini",
        ),
        _own(
            "ark",
            "Volcengine Ark (Seedance, Seedream)",
            "https://ark.cn-beijing.volces.com",
            "ARK_API_KEY",
            "seedance/ark",
        ),
        _own(
            "byteplus",
            "BytePlus ModelArk (Seedance, Seedream)",
            "https://ark.ap-southeast.bytepluses.com",
            "BYTEPLUS_ARK_API_KEY",
            "seedance/modelark",
        ),
        _own("bfl", "Black Forest Labs", "https://api.bfl.ai", "BFL_API_KEY", "flux/official"),
        Provider(
            name="ideogram",
            title="Ideogram",
            base_url="https://api.ideogram.ai",
            key_variable="IDEOGRAM_API_KEY",
            callback_keys_url="https://api.ideogram.ai/v1/.well-known/jwks.json",
            dialects=("ideogram/official", "ideogram/official-v2"),
        ),
        Provider(
            name="recraft",
            title="Recraft",
            base_url="https://external.api.recraft.ai",
            key_variable="RECRAFT_API_KEY",
            models_path="/v1/models",
            dialects=("recraft/official",),
        ),
        Provider(
            name="fal",
            title="fal",
            base_url="https://queue.fal.run",
            key_variable="FAL_KEY",
            callback_keys_url="https://rest.fal.ai/.well-known/jwks.json",
            dialects=("fal/queue",),
        ),
        _own("kling", "Kling", "https://api-singapore.klingai.com", "KLING_KEY", "kling/official", "kling/official-v2"),
        _own(
            "minimax", "MiniMax", "https://api.minimax.io", "MINIMAX_API_KEY", "minimax/official-v2", "minimax/official"
        ),
        _own("vidu", "Vidu", "https://api.vidu.com", "VIDU_API_KEY", "vidu/official"),
        _own(
            "dashscope",
            "Alibaba Model Studio",
            "https://dashscope-intl.aliyuncs.com",
            "DASHSCOPE_API_KEY",
            "wan/official",
        ),
        _own(
            "hunyuan3d",
            "Hunyuan3D (Tencent Cloud)",
            "https://ai3d.tencentcloudapi.com",
            "HUNYUAN3D_KEY",
            "hunyuan3d/official",
        ),
        _own("jimeng", "Jimeng (Volcengine)", "https://visual.volcengineapi.com", "JIMENG_KEY", "jimeng/official"),
        _own("xai", "xAI", "https://api.x.ai", "XAI_API_KEY", "grok/official"),
        Provider(
            name="openai",
            title="OpenAI",
            base_url="https://api.openai.com",
            key_variable="OPENAI_API_KEY",
            models_path="/v1/models",
            # Videos ended here on 2026-09-24: the setting `dialects` adds openai/videos for a host that still has them.
            dialects=(
                "openai/images",
                "openai/chat",
                "openai/responses",
                "openai/embeddings",
                "openai/audio",
                "openai/models",
                "openai/webhooks",
            ),
        ),
        Provider(
            name="anthropic",
            title="Anthropic",
            base_url="https://api.anthropic.com",
            key_variable="ANTHROPIC_API_KEY",
            models_path="/v1/models?limit=1000",
            dialects=("anthropic/messages", "anthropic/batches"),
        ),
        _own("replicate", "Replicate", "https://api.replicate.com", "REPLICATE_API_TOKEN", "replicate/official"),
        _own("sunoapi", "SunoAPI", "https://api.sunoapi.org", "SUNOAPI_KEY", "suno/sunoapi"),
        Provider(
            name="kie",
            title="Kie.ai",
            base_url="https://api.kie.ai",
            key_variable="KIE_KEY",
            dialects=("suno/kie-jobs", "suno/sunoapi", "kie/jobs", "kie/own"),
            models_path="/api/v1/models",
        ),
    )
}
"""Gateways first, then the providers' own APIs, then resellers of one family: the default order of a route."""

KINDS: Mapping[str, str] = {provider.base_url: provider.name for provider in PROVIDERS.values()}
"""The names of the known hosts, by their address."""
