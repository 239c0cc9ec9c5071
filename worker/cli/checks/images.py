"""Images: fetched and decoded as a worker here would."""

from __future__ import annotations

from collections.abc import Sequence

from ....integrations.client.cutting import item_of
from ....schemas.errors import ItemError, PrelabelError
from ....schemas.items import ImageRef
from ....schemas.settings import Settings
from ..console import needs
from . import Check, Checks
from .label_studio import connected, get, questions_of

_FIX = "PRELABEL_ALLOW_HOSTS for private hosts, PRELABEL_IMAGE_ROOTS for files, AWS_… for s3"


def check_image(settings: Settings, reference: str | None) -> Checks:
    """One image by its reference."""
    if reference is not None:
        yield from _fetch(settings, item_of(reference).images)


def check_project_image(settings: Settings, project: int | None) -> Checks:
    """The images of a project's first task."""
    if project is None or not settings.label_studio_url:
        return
    with connected(settings) as api:
        from ....integrations.label_studio.convert.items import item_from_task
        from ....integrations.label_studio.convert.questions import Unusable

        state = get(api, f"api/projects/{project}/", f"project {project}")
        # resolve_uri: as /predict and webhooks have the addresses, and so the workers.
        page = get(
            api, "api/tasks", f"tasks of project {project}",
            project=project, page=1, page_size=1, fields="all", resolve_uri="false",
        )  # fmt: skip
    questions = questions_of(settings, project, state.get("label_config") or "")
    if isinstance(questions, Unusable):
        return  # said with the project
    if not page.get("tasks"):
        yield Check("image", "warn", f"project {project} has no task to try", "import one")
        return
    task = page["tasks"][0]
    try:
        item = item_from_task(task, questions.config, settings.label_studio_url, s3_direct=settings.s3_direct)
    except ItemError as error:
        yield Check("image", "fail", f"task {task.get('id')}: {error}", "correct the task's data or the label config")
        return
    if item.problem:
        yield Check(
            "image", "warn", f"task {item.id} is pre-labelled in part: {item.problem}", "correct the task's data"
        )
    yield from _fetch(settings, [image for image in item.images if not image.problem])


def _fetch(settings: Settings, images: Sequence[ImageRef]) -> Checks:
    try:
        with needs("worker"):
            from ...decoding.pillow import decode
            from ...fetching.open import make_fetcher
    except PrelabelError:
        yield Check("image", "warn", "what fetches images is not installed here", "run this where a worker runs")
        return
    fetcher = make_fetcher(settings)
    try:
        for image in images:
            try:
                data = fetcher.read(image)
                decoded = decode(data, max_pixels=settings.max_image_pixels)
            except PrelabelError as error:
                yield Check("image", "fail", f"{image.display}: {error}", _FIX)
            else:
                size = f"{decoded.width} x {decoded.height}, {len(data) / 1024:.0f} KiB"
                yield Check("image", "ok", f"{image.display}: {size}")
    finally:
        fetcher.close()
