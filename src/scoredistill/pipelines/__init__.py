"""The tasks with the interface of diffusers' pipelines.

    pipe = MSDPipeline.from_pretrained("emoji")
    image = pipe("a hamburger", generator=torch.Generator().manual_seed(0)).images[0]

    pipe = CSDEditPipeline.from_pretrained("emoji-edit")
    image = pipe("make it night", image=photograph).images[0]

They translate arguments; what they do is that of `scoredistill.tasks`.
"""

from scoredistill.pipelines.editing import CSDEditPipeline, CSDEditVideoPipeline
from scoredistill.pipelines.output import ImagePipelineOutput, VideoPipelineOutput
from scoredistill.pipelines.text_to_image import (
    CSDPipeline,
    MSDPipeline,
    SDIPipeline,
    SDSPipeline,
    TextToImagePipeline,
    VSDPipeline,
)

__all__ = [
    "CSDEditPipeline",
    "CSDEditVideoPipeline",
    "CSDPipeline",
    "ImagePipelineOutput",
    "MSDPipeline",
    "SDIPipeline",
    "SDSPipeline",
    "TextToImagePipeline",
    "VSDPipeline",
    "VideoPipelineOutput",
]
