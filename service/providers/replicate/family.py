"""The operations of Replicate, and of servers with its protocol."""

from service.providers import market
from service.providers.operation import family, operation, text

FLUX = "black-forest-labs/flux-schnell"
MODELS = {
    "run": FLUX,
    "text_to_image": FLUX,
    "image_to_image": "black-forest-labs/flux-kontext-pro",
    "text_to_video": "bytedance/seedance-1-pro",
    "image_to_video": "bytedance/seedance-1-pro",
    "video_to_video": "runwayml/gen4-aleph",
}
"""Official models for the examples."""
_TRAINING = {
    "model": text(
        "The version to train from, as `owner/name:version`.", examples=["stability-ai/sdxl:39ed52f2a78e934b"]
    ),
    "destination": text(
        "The model that the training makes a version of, as `owner/name`.", examples=["acme/dove-sdxl"]
    ),
    "input": {
        "type": "object",
        "description": "Input of the training, in the model's own words.",
        "examples": [{"input_images": "https://example.com/doves.zip"}],
    },
}
_FILE = {
    "file": text("The file, as `data:`.", pattern="^data:", examples=["data:image/png;base64,iVBORw0KGgo="]),
}

FAMILY = family(
    "replicate",
    "Replicate",
    *market.operations(
        MODELS,
        takes="model+ deployment input*",
        deployment=text("Deployment to run in place of a model, as `owner/name`."),
    ),
    operation("train", "json", "model* destination* input*", known=_TRAINING, deadline=7200.0),
    operation("upload", "json", "file*", known=_FILE, deadline=900.0),
)
