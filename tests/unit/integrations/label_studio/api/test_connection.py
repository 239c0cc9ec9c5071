"""What Label Studio's answers mean."""

import pytest

from prelabel.integrations.label_studio.api.connection import LabelStudioAPI, NotThere
from prelabel.schemas import TransientError


@pytest.fixture
def api(settings):
    made = LabelStudioAPI(settings())
    yield made
    made.close()


@pytest.mark.parametrize(
    "body", [{"detail": "No Project matches the given query."}, '{"status_code": 404, "detail": "Not found."}']
)
def test_what_label_studio_itself_does_not_find_is_not_there(api, body) -> None:
    assert isinstance(api.explain(404, body, "project 3"), NotThere)


@pytest.mark.parametrize(
    "body", ["404 page not found\n", "<html>nginx</html>", "", "[]", None, '{"message": "no Route"}']
)
def test_a_proxy_without_label_studio_behind_it_is_no_deleted_project(api, body) -> None:
    error = api.explain(404, body, "project 3")
    assert isinstance(error, TransientError)
    assert "proxy" in str(error)
